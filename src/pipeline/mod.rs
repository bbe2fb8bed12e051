//! The walk of one job: admit, download, decode, infer, compose, encode, write.
//!
//! One async function, [`Pipeline::run`], that reads top to bottom. What bounds it is taken on
//! the way and given back at the end: a share of the download budget, a share of the pixel
//! budget, a place on the CPU, the engine's turn, and the deadline over all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::crash::crash_point;
use crate::error::{Code, Error, Result};
use crate::job::{Job, JobResult, MARKER, ModelUsed, OutputObject, Status, Timings, VERSION};
use crate::object::{ObjectName, ObjectRef};
use crate::store::{NewObject, ObjectMeta, Precondition, Store, Written};
use crate::telemetry::labels::Stage;
use crate::telemetry::metrics::Metrics;
use admit::{Admitted, Policy};
use budget::{Budget, Share};
use cutout::{Charged, Cutter};

pub mod admit;
pub mod budget;
pub mod compose;
pub mod cpu;
pub mod cutout;
pub mod decode;
pub mod effects;
pub mod encode;
pub mod matte;
mod pillow;
pub mod preprocess;

mod resample;
mod vector;

#[cfg(test)]
mod fixtures;

/// Pixels of a written object, so that a duplicate's result can tell them without decoding.
const SIZE_KEY: &str = "cutout-size";

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
    /// Where the time goes.
    pub metrics: Metrics,
}

/// How a delivery of a job came here.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// How long the message was in the queue.
    pub queued: Duration,
    /// Whether a storage notification asked for it rather than a publisher.
    pub notified: bool,
}

impl Pipeline {
    /// Walks one job to its durable output. The result's status is `done` or `duplicate`; every
    /// failure is an error, whose class says what to do with the message. `None` when a
    /// notification turns out to be about an output of ours, which its message did not tell
    /// (without metadata in it, or to a destination that a job named).
    ///
    /// Cancel-safe: dropping the future leaves either nothing or a complete output.
    pub async fn run(&self, job: Job, arrival: Arrival) -> Result<Option<JobResult>> {
        let begun = Instant::now();
        let deadline = begun + self.job_timeout;
        match tokio::time::timeout_at(deadline.into(), self.walk(job, arrival, begun, deadline))
            .await
        {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                Code::DeadlineExceeded,
                format!(
                    "the job took longer than {}; it is tried again",
                    humantime::format_duration(self.job_timeout)
                ),
            )),
        }
    }

    async fn walk(
        &self,
        job: Job,
        arrival: Arrival,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Option<JobResult>> {
        let mut clock = Clock::new(&self.metrics, arrival.queued);
        let admitted = self.policy.admit(job)?;

        // Both ends at once: is the photo there, and is the work perhaps done already?
        let (source, present) = tokio::join!(
            self.store.stat(&admitted.job.source),
            self.present(&admitted.destination),
        );
        let (source, present) = (source?, present?);
        if arrival.notified && source.metadata.contains_key(MARKER) {
            return Ok(None);
        }
        let key = admitted.job.key(source.generation, &self.model().sha256);
        let pinned = ObjectRef {
            name: source.name.clone(),
            generation: Some(source.generation),
        };
        let precondition = match present {
            None => Precondition::Absent,
            Some(present) if wrote(&present, &key) => {
                let output = describe(&present, &admitted);
                return Ok(Some(self.answer(
                    &admitted,
                    pinned,
                    Status::Duplicate,
                    output,
                    clock.stop(begun),
                    arrival,
                )));
            }
            Some(present) if admitted.overwrite => Precondition::Generation(present.generation),
            Some(_) => return Err(occupied(&admitted.destination)),
        };
        clock.lap(Stage::Admit);
        crash_point!("job_admitted");

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
        clock.lap(Stage::Download);
        crash_point!("photo_downloaded");

        let (encoded, spent) = self
            .cutter
            .cut_out(file, background, &admitted.job.output, deadline)
            .await?;
        clock.spent(&spent);
        crash_point!("output_encoded");

        let crc32c = crc32c::crc32c(&encoded.bytes);
        let object = NewObject {
            content_type: encoded.content_type,
            metadata: self.marker(&admitted, &pinned, &key, encoded.width, encoded.height),
            body: encoded.bytes.clone(),
        };
        let written = self
            .store
            .write(&admitted.destination, object, precondition)
            .await?;
        clock.lap(Stage::Upload);
        crash_point!("output_written");
        let (status, output) = match written {
            Written::Created(meta) => {
                self.metrics.bytes_out(meta.size);
                let output = OutputObject {
                    kind: admitted.job.output.effective_kind().to_string(),
                    uri: admitted.destination.clone(),
                    generation: meta.generation,
                    bytes: encoded.bytes.len() as u64,
                    width: Some(encoded.width),
                    height: Some(encoded.height),
                    crc32c: Some(base64_crc32c(crc32c)),
                };
                (Status::Done, output)
            }
            // Somebody was faster: another delivery of this job, or a stranger.
            Written::Conflict => match self.present(&admitted.destination).await? {
                Some(present) if wrote(&present, &key) => {
                    (Status::Duplicate, describe(&present, &admitted))
                }
                Some(_) if !admitted.overwrite => return Err(occupied(&admitted.destination)),
                _ => {
                    return Err(Error::new(
                        Code::OutputRace,
                        format!(
                            "{} changed while the job was worked on; it is tried again",
                            admitted.destination
                        ),
                    ));
                }
            },
        };
        Ok(Some(self.answer(
            &admitted,
            pinned,
            status,
            output,
            clock.stop(begun),
            arrival,
        )))
    }

    /// What the destination holds, if anything.
    async fn present(&self, destination: &ObjectName) -> Result<Option<ObjectMeta>> {
        match self.store.stat(&destination.clone().into()).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.code() == Code::SourceNotFound => Ok(None),
            Err(error) => Err(error),
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

    fn model(&self) -> &crate::model::manifest::Manifest {
        &self.cutter.engine.info().manifest
    }

    /// The metadata by which a later delivery recognises this job's output, and by which upload
    /// notifications of our own outputs are told from a customer's.
    fn marker(
        &self,
        admitted: &Admitted,
        source: &ObjectRef,
        key: &str,
        width: u32,
        height: u32,
    ) -> BTreeMap<String, String> {
        let mut metadata = admitted.job.metadata.clone();
        metadata.extend([
            (MARKER.to_owned(), key.to_owned()),
            (
                "cutout-version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("cutout-model".to_owned(), self.model().name.clone()),
            ("cutout-source".to_owned(), source.to_string()),
            (SIZE_KEY.to_owned(), format!("{width}x{height}")),
        ]);
        metadata
    }

    fn answer(
        &self,
        admitted: &Admitted,
        source: ObjectRef,
        status: Status,
        output: OutputObject,
        timings_ms: Timings,
        arrival: Arrival,
    ) -> JobResult {
        let info = self.cutter.engine.info();
        JobResult {
            version: VERSION,
            job_id: admitted.job.id(),
            status,
            source: Some(source),
            outputs: vec![output],
            model: Some(ModelUsed {
                name: info.manifest.name.clone(),
                sha256: info.manifest.sha256.clone(),
                provider: info.provider.as_str().to_owned(),
                precision: info.precision.as_str().to_owned(),
            }),
            timings_ms,
            attempt: arrival.attempt,
            error: None,
            metadata: admitted.job.metadata.clone(),
        }
    }
}

/// Whether an object is this very job's output.
fn wrote(present: &ObjectMeta, key: &str) -> bool {
    present
        .metadata
        .get(MARKER)
        .is_some_and(|marker| marker == key)
}

fn occupied(destination: &ObjectName) -> Error {
    Error::new(
        Code::DestinationExists,
        format!(
            "{destination} already holds something that this job did not write: choose another destination, delete it, or set `overwrite` to true"
        ),
    )
}

/// A former delivery's output, as the store remembers it.
fn describe(present: &ObjectMeta, admitted: &Admitted) -> OutputObject {
    let size = present
        .metadata
        .get(SIZE_KEY)
        .and_then(|text| text.split_once('x'));
    let side = |text: &str| text.parse::<u32>().ok();
    OutputObject {
        kind: admitted.job.output.effective_kind().to_string(),
        uri: present.name.clone(),
        generation: present.generation,
        bytes: present.size,
        width: size.and_then(|(width, _)| side(width)),
        height: size.and_then(|(_, height)| side(height)),
        crc32c: present.crc32c.map(base64_crc32c),
    }
}

/// Cloud Storage writes CRC-32C as base64 of its big-endian bytes.
fn base64_crc32c(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

/// Takes the time of each stage, for the result and for the metrics at once.
struct Clock<'a> {
    metrics: &'a Metrics,
    last: Instant,
    timings: Timings,
}

impl<'a> Clock<'a> {
    fn new(metrics: &'a Metrics, queued: Duration) -> Self {
        Self {
            metrics,
            last: Instant::now(),
            timings: Timings {
                queued: millis(queued),
                ..Timings::default()
            },
        }
    }

    /// Ends a stage that began where the last one ended.
    fn lap(&mut self, stage: Stage) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        self.metrics.stage(stage, took);
        match stage {
            Stage::Download => self.timings.download = millis(took),
            Stage::Upload => self.timings.upload = millis(took),
            _ => {}
        }
    }

    /// Books the stages between download and upload.
    fn spent(&mut self, spent: &cutout::Spent) {
        for (stage, took, slot) in [
            (Stage::Wait, spent.wait, &mut self.timings.wait),
            (Stage::Decode, spent.decode, &mut self.timings.decode),
            (Stage::Infer, spent.infer, &mut self.timings.infer),
            (Stage::Compose, spent.compose, &mut self.timings.compose),
            (Stage::Encode, spent.encode, &mut self.timings.encode),
        ] {
            self.metrics.stage(stage, took);
            *slot = millis(took);
        }
        self.last = Instant::now();
    }

    fn stop(mut self, begun: Instant) -> Timings {
        self.timings.total = millis(begun.elapsed());
        self.timings
    }
}

/// Whole milliseconds, as results tell time.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
