//! The walk of one job: admit, download, decode, infer, compose, encode, write.
//!
//! One async function, [`Pipeline::run`], that reads top to bottom. What bounds it is taken on
//! the way and given back at the end: a share of the download budget, a share of the pixel
//! budget, a place on the CPU, the engine's turn, and the deadline over all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::try_join_all;

use crate::crash::crash_point;
use crate::effect::EffectParams;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::experiment::ArmUsed;
use crate::job::{Job, JobResult, MARKER, OutputObject, Status, Timings, VERSION};
use crate::object::ObjectRef;
use crate::shadow::{self, Candidate, JobSeen, Shadow};
use crate::store::{ObjectMeta, Store};
use crate::telemetry::attribute::{self, number};
use crate::telemetry::labels::Stage;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spent::Spent;
use crate::telemetry::traces::Spans;
use admit::{Admitted, Policy};
use arms::{Arms, Placed};
use budget::{Budget, Share};
use cutout::{Charged, Cutter, Order};
pub(crate) use outputs::QUALITY_KEY;
use outputs::{Standing, Target, Writing, all_ours, begun_under, recorded_quality};

pub mod admit;
pub mod arms;
pub mod budget;
pub mod components;
pub mod compose;
pub mod cpu;
pub mod cutout;
pub mod decode;
pub mod effects;
pub mod encode;
pub mod foreground;
pub mod matte;
mod outputs;
mod pillow;
pub mod preprocess;
pub mod presence;
pub mod quality;
pub mod refine;

mod resample;
mod vector;

#[cfg(test)]
mod fixtures;

/// What turns jobs into written objects.
pub struct Pipeline {
    /// Where photos come from and outputs go.
    pub store: Arc<dyn Store>,
    /// What turns photos into cut-outs.
    pub cutter: Cutter,
    /// Memory for files as they were downloaded.
    pub downloads: Budget,
    /// What jobs may touch.
    pub policy: Policy,
    /// Largest photo file, bytes.
    pub max_file_bytes: u64,
    /// Time one job may take.
    pub job_timeout: Duration,
    /// Other networks that work on shares of the jobs.
    pub arms: Option<Arms>,
    /// Another network that works along when there is nothing to do.
    pub shadow: Option<Shadow>,
    /// Where the time goes.
    pub metrics: Metrics,
}

/// A job that has been walked to its durable output.
pub struct Walked {
    /// Its answer.
    pub result: JobResult,
    /// The photo for the shadow, to be offered when the answer is out.
    pub shadow: Option<Chosen>,
}

/// A photo for the shadow, and of which job it was.
pub struct Chosen {
    candidate: Candidate,
    job: JobSeen,
}

impl Chosen {
    /// Offers it: nobody waits for the job any more.
    pub fn offer(self) {
        self.candidate.offer(self.job);
    }
}

impl From<JobResult> for Walked {
    fn from(result: JobResult) -> Self {
        Self {
            result,
            shadow: None,
        }
    }
}

/// How a delivery of a job came here.
#[derive(Clone)]
pub struct Arrival {
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// How long the message was in the queue.
    pub queued: Duration,
    /// Whether a storage notification asked for it rather than a publisher.
    pub notified: bool,
    /// The span that the stages become children of.
    pub spans: Spans,
}

impl Pipeline {
    /// Walks one job to its durable output. The result's status is `done` or `duplicate`; every
    /// failure is an error, whose class says what to do with the message. `None` when a
    /// notification turns out to be about an output of ours, which its message did not tell
    /// (without metadata in it, or to a destination that a job named).
    ///
    /// Cancel-safe: dropping the future leaves either nothing or a complete output.
    pub async fn run(&self, job: Job, arrival: Arrival) -> Result<Option<Walked>> {
        let begun = Instant::now();
        let deadline = begun + self.job_timeout;
        let mut spent = Spent::new(arrival.spans.clone());
        let walk = self.walk(job, &arrival, begun, deadline, &mut spent);
        let answer = tokio::time::timeout_at(deadline.into(), walk)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::new(
                    Code::DeadlineExceeded,
                    format!(
                        "the job took longer than {}; it is tried again",
                        humantime::format_duration(self.job_timeout)
                    ),
                ))
            });
        if let Err(error) = &answer {
            spent.fail(error);
        }
        spent.book(&self.metrics);
        answer
    }

    async fn walk(
        &self,
        job: Job,
        arrival: &Arrival,
        begun: Instant,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Option<Walked>> {
        spent.begin(Stage::Admit);
        let admitted = self.policy.admit(job)?;

        // Both ends at once: is the photo there, and is the work perhaps done already?
        let targets = Target::of(&admitted);
        let (source, present) = tokio::join!(
            self.store.stat(&admitted.job.source),
            try_join_all(targets.iter().map(|target| self.present(&target.name))),
        );
        let (source, present) = (source?, present?);
        if arrival.notified && source.metadata.contains_key(MARKER) {
            return Ok(None);
        }
        let keyed = self.places(&admitted.job).into_iter().map(|placed| {
            let key = placed.key(&admitted.job, source.generation);
            (placed, key)
        });
        // Sticky beyond a change of percentages: what one network began, it finishes.
        let mut keyed: Vec<_> = keyed.collect();
        let begun_by = keyed
            .iter()
            .position(|(_, key)| begun_under(&targets, &present, key));
        let (placed, key) = keyed.swap_remove(begun_by.unwrap_or(0));
        let other_keys: Vec<_> = keyed.into_iter().map(|(_, key)| key).collect();
        let pinned = ObjectRef {
            name: source.name.clone(),
            generation: Some(source.generation),
        };
        let recorded = recorded_quality(&present);
        let standings = targets
            .iter()
            .zip(present)
            .map(|(target, present)| target.standing(present, &key, admitted.overwrite))
            .collect::<Result<Vec<_>>>()?;
        spent.end(Vec::new);
        if let Some(outputs) = all_ours(&standings) {
            let timings = timings(spent, arrival, begun);
            let status = Status::Duplicate;
            let answer = answer(
                &admitted, &placed, pinned, status, outputs, timings, arrival,
            );
            return Ok(Some(Walked::from(JobResult {
                quality: recorded,
                ..answer
            })));
        }
        crash_point!("job_admitted");

        spent.begin(Stage::Download);
        let backdrop = match &admitted.background {
            Some(object) => Some((object, self.store.stat(object).await?)),
            None => None,
        };
        // Paid for at once: a job that held the photo's share while it waited for its
        // background's would wait for ever together with others that do the same.
        let bytes = source.size + backdrop.as_ref().map_or(0, |(_, meta)| meta.size);
        self.check_size(&pinned, source.size)?;
        if let Some((object, meta)) = &backdrop {
            self.check_size(object, meta.size)?;
        }
        let paid = Arc::new(self.pay(bytes, deadline).await?);
        let file = self.download(&admitted.job.source, &source, &paid).await?;
        let background = match &backdrop {
            Some((object, meta)) => Some(self.download(object, meta, &paid).await?),
            None => None,
        };
        drop(paid);
        spent.end(|| vec![number(attribute::BYTES, bytes)]);
        crash_point!("photo_downloaded");

        let effects: Vec<_> = admitted.effects.iter().map(|(effect, _)| *effect).collect();
        let output = &admitted.job.output;
        let candidate = self
            .shadow
            .as_ref()
            .and_then(|shadow| shadow.consider(&key, &file.bytes, &placed.engine));
        let order = Order {
            background,
            effects: &effects,
            keep_matte: candidate.as_ref().is_some_and(Candidate::wants_matte),
            ..Order::new(file, output, deadline)
        };
        let cutter = Cutter {
            engine: placed.engine.clone(),
            ..self.cutter.clone()
        };
        let mut cut = cutter.cut(order, spent).await?;
        let candidate = candidate.map(|candidate| candidate.with_matte(cut.take_matte()));

        // Where the cut-out is there and an effect is not, what was said of it then holds.
        let quality = match standings.last() {
            Some(Standing::Ours(_)) => recorded,
            _ => cut
                .quality()
                .map(|found| admitted.with_copy(found.clone(), &key)),
        };
        let writing = Writing {
            admitted: &admitted,
            source: &pinned,
            key: &key,
            other_keys: &other_keys,
            placed: &placed,
            quality: quality.as_ref(),
        };
        let (main, effects) = targets.split_last().expect("every job has its cut-out");
        let (main_standing, standings) = standings.split_last().expect("as many as targets");
        let params = EffectParams::default();
        let mut outputs = Vec::with_capacity(targets.len());
        let mut status = Status::Duplicate;
        for (target, standing) in effects.iter().zip(standings) {
            let (Standing::Free(precondition), Some(effect)) = (standing, target.effect) else {
                outputs.extend(standing.ours());
                continue;
            };
            let encoded = cutter
                .effect(&mut cut, effect, &params, output, spent)
                .await?;
            let written = self
                .write(target, encoded, *precondition, &writing, spent)
                .await?;
            crash_point!("effect_written");
            status = written.or(status);
            outputs.push(written.output);
        }
        // The cut-out comes last: who finds it finds its effects too.
        if let Standing::Free(precondition) = main_standing {
            let encoded = cutter.encode(cut, output, spent).await?;
            crash_point!("output_encoded");
            self.set_aside(&encoded, &writing, spent).await?;
            let written = self
                .write(main, encoded, *precondition, &writing, spent)
                .await?;
            crash_point!("output_written");
            status = written.or(status);
            outputs.insert(0, written.output);
        } else {
            outputs.splice(0..0, main_standing.ours());
        }
        let timings = timings(spent, arrival, begun);
        let chosen = candidate.map(|candidate| Chosen {
            candidate,
            job: JobSeen {
                job_id: admitted.job.id(),
                key,
                source: pinned.clone(),
                arm: placed.arm.clone(),
                primary: shadow::model_used(placed.engine.info()),
            },
        });
        let answer = answer(
            &admitted, &placed, pinned, status, outputs, timings, arrival,
        );
        Ok(Some(Walked {
            result: JobResult { quality, ..answer },
            shadow: chosen,
        }))
    }

    /// Where a job belongs in the experiment, if there is one and it is a part of it.
    pub fn arm(&self, job: &Job) -> Option<ArmUsed> {
        self.arms.as_ref()?.arm(job)
    }

    /// Every engine, the worker's own first.
    pub fn engines(&self) -> Vec<Engine> {
        let arms = self.arms.iter().flat_map(Arms::engines);
        std::iter::once(&self.cutter.engine)
            .chain(arms)
            .cloned()
            .collect()
    }

    /// The networks that may have worked on a job, the one that shall first.
    fn places(&self, job: &Job) -> Vec<Placed> {
        let own = &self.cutter.engine;
        match &self.arms {
            Some(arms) => arms.places(job, own),
            None => vec![Placed::own(own)],
        }
    }

    fn check_size(&self, object: &ObjectRef, bytes: u64) -> Result<()> {
        if bytes <= self.max_file_bytes {
            return Ok(());
        }
        Err(Error::new(
            Code::FileTooLarge,
            format!(
                "{object} has {bytes} bytes, more than the {} that a photo may have",
                self.max_file_bytes
            ),
        ))
    }

    /// Takes memory for files from the download budget.
    async fn pay(&self, bytes: u64, deadline: Instant) -> Result<Share> {
        let _waiting = self.metrics.waiting_guard(Stage::Download);
        tokio::time::timeout_at(deadline.into(), self.downloads.take(bytes))
            .await
            .map_err(|_| {
                Error::new(
                    Code::OutOfBudget,
                    "no memory for the download became free before the job's deadline; it is tried again",
                )
            })?
    }

    /// Reads the version that `meta` describes into memory that has been paid for. `named` is the
    /// object as the job names it, with a generation or without.
    async fn download(
        &self,
        named: &ObjectRef,
        meta: &ObjectMeta,
        paid: &Arc<Share>,
    ) -> Result<Charged> {
        let object = ObjectRef {
            name: meta.name.clone(),
            generation: Some(meta.generation),
        };
        let mut open = match self.store.open(&object).await {
            // It was there a moment ago, and the job does not insist on that version.
            Err(gone) if gone.code() == Code::SourceNotFound && named.generation.is_none() => {
                return Err(Error::new(
                    Code::SourceChanged,
                    format!(
                        "{named} was replaced or deleted before it was read; it is tried again"
                    ),
                )
                .caused_by(gone));
            }
            opened => opened?,
        };
        let mut content = BytesMut::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        while let Some(chunk) = open.body.next().await {
            let chunk: Bytes = chunk?;
            let so_far = (content.len() + chunk.len()) as u64;
            // A directory store's versions are told by size and time, which a writer may outrun.
            if so_far > meta.size {
                return Err(Error::new(
                    Code::SourceChanged,
                    format!("{object} grew while it was read; it is tried again"),
                ));
            }
            content.extend_from_slice(&chunk);
        }
        self.metrics.bytes_in(content.len() as u64);
        Ok(Charged {
            bytes: content.freeze(),
            paid: Some(paid.clone()),
        })
    }
}

fn answer(
    admitted: &Admitted,
    placed: &Placed,
    source: ObjectRef,
    status: Status,
    outputs: Vec<OutputObject>,
    timings_ms: Timings,
    arrival: &Arrival,
) -> JobResult {
    JobResult {
        version: VERSION,
        job_id: admitted.job.id(),
        status,
        source: Some(source),
        outputs,
        model: Some(shadow::model_used(placed.engine.info())),
        experiment: placed.arm.as_ref().map(|arm| arm.experiment.to_string()),
        arm: placed.arm.as_ref().map(|arm| arm.arm.to_string()),
        quality: None,
        timings_ms,
        attempt: arrival.attempt,
        error: None,
        metadata: admitted.job.metadata.clone(),
    }
}

/// The account as results tell it.
fn timings(spent: &Spent, arrival: &Arrival, begun: Instant) -> Timings {
    let of = |stage| millis(spent.of(stage));
    Timings {
        queued: millis(arrival.queued),
        download: of(Stage::Download),
        wait: of(Stage::Wait),
        decode: of(Stage::Decode),
        infer: of(Stage::Infer),
        compose: of(Stage::Compose),
        effects: of(Stage::Effects),
        encode: of(Stage::Encode),
        upload: of(Stage::Upload),
        total: millis(begun.elapsed()),
    }
}

/// Whole milliseconds, as results tell time.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
