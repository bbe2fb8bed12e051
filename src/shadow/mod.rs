//! A second network that works on a share of the photos while nobody waits for the worker, so that its mattes can be
//! compared with those that customers got.
//!
//! Nothing here is ever waited for by a job: a photo is offered when its job has been answered, taken if
//! there is room, worked on by a thread of idle priority ([`idle`]), stopped when a photo comes, and
//! counted, whatever became of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Place;
use crate::engine::session::SessionConfig;
use crate::engine::tensor::Matte;
use crate::engine::{Engine, EngineInfo};
use crate::error::{Code, Error, Result};
use crate::experiment::{Percent, bucket};
use crate::job::ModelUsed;
use crate::model::manifest::Manifest;
use crate::pipeline::decode::{self, Header};
use crate::pipeline::preprocess;
use crate::pipeline::presence::Presence;
use crate::store::Store;
use crate::telemetry::labels::ShadowOutcome;
use crate::telemetry::metrics::Metrics;
use idle::{Ended, Found, Idle, Orders, Ready};
use waiting::{Hold, Item, Ticket, Waiting};

pub mod difference;
pub mod idle;
pub mod record;
mod waiting;

pub use waiting::JobSeen;

/// Spreads jobs independently of any experiment.
const SALT: &str = "cutout-shadow";

/// A photo that has been interrupted so often is left out: each try takes cores for nothing.
const TRIES: u32 = 5;

/// Time that the objects of one photo have to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(30);

/// How often the end looks whether the network still runs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Photos, the one that is worked on included.
    pub waiting: usize,
    /// Bytes for their files and mattes, and for the pixels of the one that is worked on.
    pub memory: u64,
}

/// Everything but the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many of the jobs.
    pub share: Percent,
    /// Where records go.
    pub place: Place,
    /// The folder in it.
    pub folder: String,
    /// Mattes are kept when more of the pixels disagree, 0 to 1.
    pub keep_above: f64,
    /// How long the start waits for the network.
    pub load_within: Duration,
    /// How much may wait.
    pub limits: Limits,
}

/// The shadow. Cheap to clone.
#[derive(Clone)]
pub struct Shadow(Arc<Inner>);

struct Inner {
    settings: Settings,
    info: EngineInfo,
    used: ModelUsed,
    waiting: Waiting,
    presence: Presence,
    limits: decode::Limits,
    metrics: Metrics,
    store: Arc<dyn Store>,
    running: Arc<AtomicBool>,
    end: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// A loaded shadow that nobody has handed a photo to yet.
pub struct Loaded {
    idle: Idle,
    presence: Presence,
    limits: decode::Limits,
}

/// A photo that was chosen while its job was in work.
pub struct Candidate {
    shadow: Shadow,
    /// Or why there is no place for it: then nothing of it is kept.
    photo: Result<Placed, ShadowOutcome>,
    /// The primary's, finished.
    matte: Option<Arc<Matte>>,
}

/// A photo that has a place, which pays for it.
struct Placed {
    hold: Hold,
    file: Bytes,
    header: Header,
}

impl Loaded {
    /// Starts the thread and loads the network; its memory is taken when this returns. The runtime's
    /// library must have been loaded before ([`crate::engine::load_library`]). `None` when that takes too long, as it
    /// may where the cores are busy: jobs must not wait for it.
    ///
    /// Errors: as of [`Engine::start`], and `config_invalid` where there is no idle priority.
    pub async fn start(
        session: SessionConfig,
        settings: &Settings,
        presence: Presence,
        limits: decode::Limits,
    ) -> Result<Option<Self>> {
        let orders = Orders {
            session,
            limits,
            keep_above: settings.keep_above,
            presence: presence.clone(),
        };
        // A thread whose answer comes too late ends by itself, and gives its memory back.
        match tokio::time::timeout(settings.load_within, Idle::start(orders)).await {
            Ok(started) => Ok(Some(Self {
                idle: started?,
                presence,
                limits,
            })),
            Err(_elapsed) => {
                tracing::warn!(
                    within = %humantime::format_duration(settings.load_within),
                    "the shadow was not loaded in time; the worker goes on without one"
                );
                Ok(None)
            }
        }
    }

    /// Begins to take photos, until `stop`.
    pub fn open(
        self,
        settings: Settings,
        store: Arc<dyn Store>,
        metrics: Metrics,
        stop: &CancellationToken,
    ) -> Shadow {
        let Idle {
            info,
            ready,
            running,
        } = self.idle;
        let shadow = Shadow(Arc::new(Inner {
            waiting: Waiting::new(settings.limits, metrics.clone()),
            used: model_used(&info),
            settings,
            info,
            presence: self.presence,
            limits: self.limits,
            metrics,
            store,
            running,
            end: stop.child_token(),
            keeper: Mutex::default(),
        }));
        tracing::info!(
            model = shadow.0.info.manifest.name,
            sha256 = shadow.0.info.manifest.sha256,
            share = %shadow.0.settings.share,
            records = %shadow.0.settings.place,
            load_seconds = shadow.0.info.load.as_secs_f64(),
            warm_up_seconds = shadow.0.info.warm_up.as_secs_f64(),
            "a shadow works along"
        );
        shadow.0.metrics.shadow().loaded();
        let keeping = tokio::spawn(shadow.clone().keep(ready));
        *shadow.keeper() = Some(keeping);
        shadow
    }
}

/// What results say of a network.
pub fn model_used(info: &EngineInfo) -> ModelUsed {
    ModelUsed {
        name: info.manifest.name.clone(),
        sha256: info.manifest.sha256.clone(),
        provider: info.provider.as_str().to_owned(),
        precision: info.precision.as_str().to_owned(),
    }
}

impl Shadow {
    /// Chooses a job by its key, so that every delivery of it is chosen or none, and takes a place for its photo if
    /// there is one. `primary` is the network that the job itself goes to.
    pub fn consider(&self, key: &str, file: &Bytes, primary: &Engine) -> Option<Candidate> {
        let inner = &self.0;
        let (shadow, primary) = (&inner.info.manifest, &primary.info().manifest);
        if bucket(SALT, key) >= inner.settings.share.buckets() || shadow.is_treated_as(primary) {
            return None;
        }
        // What cannot be read fails as a job.
        let header = decode::sniff(file, &inner.limits).ok()?;
        let (bytes, working) = footprint(file, &header, primary, shadow);
        let hold = inner.waiting.hold(bytes, working);
        Some(Candidate {
            shadow: self.clone(),
            photo: hold.map(|hold| Placed {
                hold,
                file: file.clone(),
                header,
            }),
            matte: None,
        })
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        let keeper = &self.0.keeper;
        keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands photos to the thread and settles what comes back, until the end.
    async fn keep(self, mut ready: tokio::sync::mpsc::UnboundedReceiver<Ready>) {
        let inner = &self.0;
        let stop = &inner.end;
        // The one that is out, so that it is counted even if it never comes back.
        let mut out: Option<Arc<Ticket>> = None;
        loop {
            let told = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                told = ready.recv() => told,
            };
            let Some(Ready { done, give }) = told else {
                tracing::error!("the shadow's thread has ended; there are no more shadows");
                break;
            };
            out = None;
            if let Some((item, ended)) = done {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = self.settle(item, ended) => {}
                }
            }
            let item = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                item = inner.waiting.next() => item,
            };
            out = Some(Arc::clone(&item.ticket));
            if let Err(item) = give.send(item) {
                // The thread's end is told next.
                item.ticket.end(ShadowOutcome::Failed);
            }
        }
        self.close();
        if let Some(ticket) = out {
            ticket.end(ShadowOutcome::DroppedEnd);
        }
    }

    async fn settle(&self, mut item: Item, ended: Ended) {
        let metrics = self.0.metrics.shadow();
        let outcome = match ended {
            Ended::Found(found) => {
                metrics.found(&found.difference, found.seconds.infer);
                self.store(&item, &found).await
            }
            Ended::GaveWay => {
                metrics.gave_way();
                item.interruptions += 1;
                if item.interruptions < TRIES {
                    return self.0.waiting.put(item, true);
                }
                ShadowOutcome::Interrupted
            }
            Ended::Failed(error) => {
                tracing::warn!(
                    job_id = item.job.job_id, code = %error.code(), error = error.chain(),
                    "the shadow failed; its job did not"
                );
                ShadowOutcome::Failed
            }
        };
        item.ticket.end(outcome);
    }

    async fn store(&self, item: &Item, found: &Found) -> ShadowOutcome {
        let inner = &self.0;
        let about = record::About {
            job_id: &item.job.job_id,
            key: &item.job.key,
            source: &item.job.source,
            arm: item.job.arm.as_ref(),
            primary: &item.job.primary,
            shadow: &inner.used,
        };
        let (place, folder) = (&inner.settings.place, &inner.settings.folder);
        let writing = async {
            for (name, object) in record::objects(place, folder, &about, found, item.interruptions)?
            {
                // One that is there already is a former delivery's, and says the same.
                let absent = crate::store::Precondition::Absent;
                inner.store.write(&name, object, absent).await?;
            }
            Ok(())
        };
        let written = tokio::time::timeout(WRITE_WITHIN, writing).await;
        let written = written.unwrap_or_else(|_elapsed| {
            Err(Error::new(
                Code::StorageUnavailable,
                format!("the shadow's record was not written within {WRITE_WITHIN:?}"),
            ))
        });
        match written {
            Ok(()) => {
                tracing::debug!(
                    job_id = item.job.job_id,
                    mean = found.difference.mean,
                    disagreeing = found.difference.disagreeing,
                    iou = found.difference.iou,
                    "the shadow is done"
                );
                ShadowOutcome::Done
            }
            Err(error) => {
                tracing::warn!(
                    job_id = item.job.job_id, code = %error.code(), error = error.chain(),
                    "the shadow's record is lost"
                );
                ShadowOutcome::NotStored
            }
        }
    }

    fn close(&self) {
        self.0.metrics.shadow().gone();
        self.0.waiting.close();
        self.0.presence.end();
    }

    /// Ends it: what waits is left out, what runs is stopped, and waited for no longer than `patience`. Says
    /// whether the network still runs.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.0.end.cancel();
        let keeper = self.keeper().take();
        if let Some(Err(error)) = futures::future::OptionFuture::from(keeper).await {
            tracing::warn!(%error, "the shadow's books were left open");
        }
        let deadline = Instant::now() + patience;
        while self.0.running.load(Ordering::SeqCst) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::info!(counts = %self.0.metrics.shadow().summary(), "the shadow ends");
        self.0.running.load(Ordering::SeqCst)
    }
}

/// Bytes of a photo while it waits (its file and the primary's matte), and while it is worked on (its pixels, the
/// shadow's tensor and matte, and both mattes as files).
fn footprint(file: &Bytes, header: &Header, primary: &Manifest, shadow: &Manifest) -> (u64, u64) {
    let (width, height) = header.upright_size();
    let matte = |manifest: &Manifest| {
        let (width, height) = preprocess::target_size(width, height, &manifest.resize);
        u64::from(width) * u64::from(height) * 4
    };
    let waiting = file.len() as u64 + matte(primary);
    let working = header.decode_bytes() + shadow.tensor_bytes() + matte(primary) + matte(shadow);
    (waiting, working)
}

impl Candidate {
    /// Whether the matte is wanted: whether there is a place for the photo.
    pub const fn wants_matte(&self) -> bool {
        self.photo.is_ok()
    }

    /// The same with the matte that the job was answered with, finished.
    #[must_use]
    pub fn with_matte(self, matte: Option<Arc<Matte>>) -> Self {
        Self { matte, ..self }
    }

    /// Offers the photo, now that its job has been answered.
    pub fn offer(self, job: JobSeen) {
        let Self {
            shadow,
            photo,
            matte,
        } = self;
        let metrics = shadow.0.metrics.clone();
        let Placed { hold, file, header } = match photo {
            Ok(placed) => placed,
            Err(why) => return Ticket::new(metrics, None).end(why),
        };
        let ticket = Ticket::new(metrics, Some(hold));
        let Some(matte) = matte else {
            return ticket.end(ShadowOutcome::Failed);
        };
        let item = Item {
            ticket,
            job,
            matte,
            file,
            header,
            offered: Instant::now(),
            interruptions: 0,
        };
        shadow.0.waiting.put(item, false);
    }
}
