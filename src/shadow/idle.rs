//! The thread that works for the shadow: at the kernel's idle priority, and only while no photo is in work.
//!
//! Whatever is made here has the same priority for ever, so nothing that jobs use may be made here: no thread of
//! the runtime's, none of rayon's common pool, none of another provider's. And no lock that a job could want is held
//! here for longer than the standard library, the allocator or the kernel do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};
use tokio::sync::{mpsc, oneshot};

use super::difference::{Difference, between};
use super::record::{self, Seconds};
use super::waiting::Item;
use crate::crash::fault_point;
use crate::engine::EngineInfo;
use crate::engine::session::SessionConfig;
use crate::engine::solo::{self, Solo};
use crate::engine::tensor::{Matte, Tensor};
use crate::error::{Code, Error, Result};
use crate::pipeline::presence::Presence;
use crate::pipeline::{decode, matte, preprocess};

/// The thread's name, which ONNX Runtime's own threads for it have too.
const NAME: &str = "shadow";

/// What the shadow found.
#[derive(Debug)]
pub struct Found {
    /// Of its matte and the primary's.
    pub difference: Difference,
    /// Where its time went.
    pub seconds: Seconds,
    /// Both mattes as PNG, the primary's first, where they are worth keeping.
    pub kept: Option<(Bytes, Bytes)>,
}

/// How the work on one photo ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With a matte.
    Found(Box<Found>),
    /// A photo came, which has the cores now.
    GaveWay,
    /// The network, or what is before it, failed.
    Failed(Error),
}

/// The thread has nothing to do.
pub(super) struct Ready {
    /// What it had, and how that ended; `None` the first time.
    pub done: Option<(Item, Ended)>,
    /// Where to put what it shall do next.
    pub give: oneshot::Sender<Item>,
}

/// A started thread.
pub(super) struct Idle {
    pub info: EngineInfo,
    pub ready: mpsc::UnboundedReceiver<Ready>,
    /// Whether the network runs.
    pub running: Arc<AtomicBool>,
}

/// What the thread goes by.
pub(super) struct Orders {
    pub session: SessionConfig,
    pub limits: decode::Limits,
    /// Both mattes are kept when more of the pixels disagree.
    pub keep_above: f64,
    pub presence: Presence,
}

impl Idle {
    /// Starts the thread, which loads the network and warms it up; returns when that is done.
    ///
    /// The runtime's library must have been loaded before, by a thread of ordinary priority.
    ///
    /// Errors: `config_invalid` where the system lets no thread have idle priority; as of [`Solo::load`].
    pub async fn start(orders: Orders) -> Result<Self> {
        let (loaded, loading) = oneshot::channel();
        let (tell, ready) = mpsc::unbounded_channel();
        let running = Arc::new(AtomicBool::new(false));
        let sign = Arc::clone(&running);
        std::thread::Builder::new()
            .name(NAME.into())
            .spawn(move || {
                let loading = Loading::begin();
                let started = lower_priority()
                    .and_then(|()| own_pool())
                    .and_then(|pool| Ok((pool, load(&orders.session)?)));
                match started {
                    Ok((_pool, solo)) => {
                        let stop = solo.stop().clone();
                        orders.presence.idle_here(move || stop.now());
                        if loaded.send(Ok(solo.info().clone())).is_ok() {
                            drop(loading);
                            let worker = Worker {
                                solo,
                                orders,
                                running: sign,
                            };
                            worker.work(&tell);
                        }
                    }
                    Err(error) => drop(loaded.send(Err(error))),
                }
            })
            .map_err(|error| {
                Error::new(Code::EngineDead, "cannot start the shadow's thread").caused_by(error)
            })?;
        let info = loading
            .await
            .map_err(|_| Error::new(Code::EngineDead, "the shadow's thread has ended"))??;
        Ok(Self {
            info,
            ready,
            running,
        })
    }
}

/// From now on this thread, and those it makes, run where no other thread of the process wants to.
fn lower_priority() -> Result<()> {
    const IDLE: ThreadSchedulePolicy =
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // It sets the policy, and then the niceness to 0, which a process that was started nice may not, and which
    // decides nothing under this policy. So what counts is what is in force afterwards.
    let asked = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE);
    if thread_schedule_policy().is_ok_and(|policy| policy == IDLE) {
        return Ok(());
    }
    let why = asked.map_or_else(
        |error| error.to_string(),
        |()| "it has no effect".to_owned(),
    );
    Err(Error::new(
        Code::ConfigInvalid,
        "this system gives no thread idle priority (SCHED_IDLE), without which a shadow could slow jobs: leave --shadow-model out",
    )
    .caused_by(why))
}

/// Pixels are otherwise worked on by all threads of the common pool, which are not of idle priority.
fn own_pool() -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread()
        .build()
        .map_err(|error| {
            Error::new(Code::Internal, "the shadow's thread is no pool").caused_by(error)
        })
}

struct Worker {
    solo: Solo,
    orders: Orders,
    running: Arc<AtomicBool>,
}

impl Worker {
    fn work(mut self, tell: &mpsc::UnboundedSender<Ready>) {
        let mut done = None;
        loop {
            let (give, next) = oneshot::channel();
            if tell.send(Ready { done, give }).is_err() {
                return;
            }
            // This executor parks by the kernel alone; the runtime's own would hold a lock.
            let Ok(mut item) = futures::executor::block_on(next) else {
                return;
            };
            let tried = AssertUnwindSafe(|| self.try_one(&mut item));
            let ended = std::panic::catch_unwind(tried)
                .unwrap_or_else(|panic| Err(Error::of_panic(panic.as_ref())))
                .unwrap_or_else(Ended::Failed);
            self.running.store(false, Ordering::SeqCst);
            done = Some((item, ended));
        }
    }

    fn try_one(&mut self, item: &mut Item) -> Result<Ended> {
        let stop = self.solo.stop().clone();
        loop {
            if self.orders.presence.wait_until_quiet().is_err() {
                return Ok(Ended::GaveWay);
            }
            stop.lift();
            // One that came before that has counted itself before, as has the end; one that comes now stops anew.
            let presence = &self.orders.presence;
            if presence.is_quiet() && !presence.has_ended() {
                break;
            }
        }
        let begun = Instant::now();
        let photo = decode::decode(&item.file, &item.header, &self.orders.limits)?;
        if stop.is_set() {
            return Ok(Ended::GaveWay);
        }
        let manifest = &self.solo.info().manifest;
        let tensor = preprocess::to_tensor(&photo, &manifest.input, &manifest.resize)?;
        drop(photo);
        let prepared = begun.elapsed();
        self.running.store(true, Ordering::SeqCst);
        let since = Instant::now();
        let ran = run(&mut self.solo, tensor);
        let infer = since.elapsed();
        self.running.store(false, Ordering::SeqCst);
        let solo::Ran::Matte(mut shadow) = ran? else {
            return Ok(Ended::GaveWay);
        };
        matte::finish(&mut shadow, &self.solo.info().manifest.output)?;
        let difference = between(&item.matte, &shadow);
        Ok(Ended::Found(Box::new(Found {
            kept: self.kept(&difference, &item.matte, &shadow)?,
            difference,
            seconds: Seconds {
                waited: begun.saturating_duration_since(item.offered).as_secs_f64(),
                prepare: prepared.as_secs_f64(),
                infer: infer.as_secs_f64(),
            },
        })))
    }

    fn kept(
        &self,
        difference: &Difference,
        primary: &Matte,
        shadow: &Matte,
    ) -> Result<Option<(Bytes, Bytes)>> {
        if difference.disagreeing <= self.orders.keep_above {
            return Ok(None);
        }
        Ok(Some((record::png(primary)?, record::png(shadow)?)))
    }
}

/// Whether a network is being loaded: the runtime must not meet the end of the process in that either.
static LOADING: AtomicBool = AtomicBool::new(false);

/// Whether the thread is inside the runtime to load the network, although nobody may wait for it any more.
pub fn is_loading() -> bool {
    LOADING.load(Ordering::SeqCst)
}

/// Sets the sign for as long as it lives.
struct Loading;

impl Loading {
    fn begin() -> Self {
        LOADING.store(true, Ordering::SeqCst);
        Self
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        LOADING.store(false, Ordering::SeqCst);
    }
}

fn load(session: &SessionConfig) -> Result<Solo> {
    fault_point!(
        "shadow_load",
        true,
        Error::new(Code::ModelInvalid, "the shadow's network does not load")
    );
    Solo::load(session)
}

fn run(solo: &mut Solo, tensor: Tensor) -> Result<solo::Ran> {
    fault_point!(
        "shadow_run",
        true,
        Error::new(Code::InferenceFailed, "the shadow's run failed")
    );
    solo.run(tensor)
}
