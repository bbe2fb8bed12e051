//! From the queue to the durable cut-out, by a worker process, against a bare loop of the network.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use serde::Serialize;

use super::child::{self, Worker};
use super::spread::Spread;
use super::{BenchArgs, Machine, Photo, bare};
use crate::cli::{Context, ends, progress_bar};
use crate::config::{IngressKind, QueueArgs};
use crate::ingress::{JobPublisher, OutgoingMessage};
use crate::job::{Job, Status};
use crate::object::{ObjectName, ObjectRef};
use crate::store::{NewObject, Precondition, Store};

/// Longest time without a result.
const PATIENCE: Duration = Duration::from_secs(120);

/// Uploads and messages on their way at once.
const IN_FLIGHT: usize = 32;

#[derive(Args)]
pub(super) struct QueueCmd {
    #[command(flatten)]
    common: BenchArgs,

    /// How often all photos go through each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Where jobs go: local (a directory of its own, removed at the end) or pubsub (with Cloud Storage; topics,
    /// subscription and bucket must be there)
    #[arg(long, default_value = "local", value_name = "KIND")]
    ingress: IngressKind,

    /// pubsub: the project
    #[arg(long, env = "GOOGLE_CLOUD_PROJECT", value_name = "PROJECT")]
    project: Option<String>,

    /// pubsub: the topic for jobs; the worker's subscription must be one of its (CUTOUT_SUBSCRIPTION)
    #[arg(
        long,
        env = "CUTOUT_JOBS_TOPIC",
        default_value = "cutout-jobs",
        value_name = "TOPIC"
    )]
    topic: String,

    /// pubsub: the bucket for photos and cut-outs, below bench/
    #[arg(long, env = "STORAGE_BUCKET", value_name = "BUCKET")]
    bucket: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    ingress: &'static str,
    photos: usize,
    rounds: u32,
    /// Photos a second of the bare loop, in this process.
    bare_rate: Spread,
    /// Photos a second from the first message to the last result, by the worker.
    queue_rate: Spread,
    /// Of each round: the queue's rate over the bare loop's.
    ratio: Spread,
    worker_peak_resident_bytes: Option<u64>,
    /// Seconds of all photos together by stage, as the worker counts them.
    stage_seconds: BTreeMap<String, f64>,
}

impl QueueCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        // The worker would need a token for every job.
        anyhow::ensure!(
            self.ingress != IngressKind::Push,
            "--ingress push cannot be measured: use pubsub"
        );
        let root = tempfile::tempdir()?;
        let queue = self.queue(root.path())?;
        let cutter = self.common.cutter().await?;
        let photos = self.common.photos(&cutter)?;
        let mut settings = child::settings(context);
        let local = self.ingress == IngressKind::Local;
        if !local {
            let bucket = self
                .bucket
                .clone()
                .context("--ingress pubsub needs --bucket")?;
            settings.push(("CUTOUT_INGRESS".into(), "pubsub".into()));
            settings.push(("STORAGE_BUCKET".into(), bucket.into()));
            if let Some(project) = &self.project {
                settings.push(("GOOGLE_CLOUD_PROJECT".into(), project.into()));
            }
        }
        let run = Run {
            store: ends::store(&queue).await?,
            publisher: ends::publisher(&queue, &self.topic).await?,
            names: Names {
                bucket: (!local).then(|| self.bucket.clone()).flatten(),
                // Outputs of one run are no duplicates of another's.
                run: format!(
                    "{}-{}",
                    std::process::id(),
                    jiff::Timestamp::now().as_second()
                ),
            },
        };
        run.upload(&photos).await?;
        let mut worker = Worker::spawn(settings, local.then(|| root.path()))?;
        worker.ready().await?;

        let bar = progress_bar(context, 2 * u64::from(self.rounds), "rounds");
        let (mut bares, mut queues) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let begun = Instant::now();
            for photo in &photos {
                bare(&cutter.engine, &photo.tensor).await?;
            }
            bares.push(photos.len() as f64 / begun.elapsed().as_secs_f64());
            bar.inc(1);
            let took = run.round(round, &photos).await?;
            queues.push(photos.len() as f64 / took.as_secs_f64());
            worker.still_lives()?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let metrics = worker.metrics().await?;
        let ratios = queues.iter().zip(&bares).map(|(queue, bare)| queue / bare);
        let report = Report {
            machine: Machine::new(cutter.engine.info()),
            ingress: if local { "local" } else { "pubsub" },
            photos: photos.len(),
            rounds: self.rounds,
            ratio: Spread::of_numbers(ratios),
            bare_rate: Spread::of_numbers(bares.clone()),
            queue_rate: Spread::of_numbers(queues.clone()),
            worker_peak_resident_bytes: worker.peak_resident(),
            stage_seconds: child::by_label(&metrics, "cutout_stage_seconds_sum", "stage")
                .into_iter()
                .collect(),
        };
        self.common.print(&report, print)
    }

    fn queue(&self, root: &std::path::Path) -> anyhow::Result<QueueArgs> {
        // Defaults and environment are those of the worker and of `cutout publish`.
        let command = <QueueArgs as Args>::augment_args(clap::Command::new("queue"));
        let kind = self.ingress.as_str().into();
        let mut words = vec!["queue".into(), "--ingress".into(), kind];
        words.extend(["--root".into(), root.as_os_str().to_owned()]);
        if let Some(project) = &self.project {
            words.extend(["--project".into(), project.into()]);
        }
        let matches = command.try_get_matches_from(words)?;
        Ok(<QueueArgs as clap::FromArgMatches>::from_arg_matches(
            &matches,
        )?)
    }
}

struct Names {
    bucket: Option<String>,
    run: String,
}

impl Names {
    fn object(&self, key: &str) -> crate::error::Result<ObjectName> {
        match &self.bucket {
            Some(bucket) => format!("gs://{bucket}/bench/{}/{key}", self.run).parse(),
            None => format!("bench/{key}").parse(),
        }
    }

    fn source(&self, number: usize, photo: &Photo) -> crate::error::Result<ObjectName> {
        let extension = photo.path.extension().unwrap_or_default().to_string_lossy();
        self.object(&format!("photo-{number:04}.{extension}"))
    }
}

struct Run {
    store: Arc<dyn Store>,
    publisher: Arc<dyn JobPublisher>,
    names: Names,
}

impl Run {
    async fn upload(&self, photos: &[Photo]) -> anyhow::Result<()> {
        let mut uploads = futures::stream::iter(photos.iter().enumerate())
            .map(|(number, photo)| async move {
                let object = NewObject {
                    body: photo.file.clone(),
                    content_type: "application/octet-stream",
                    metadata: BTreeMap::new(),
                };
                let name = self.names.source(number, photo)?;
                self.store.write(&name, object, Precondition::Absent).await
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some(uploaded) = uploads.next().await {
            uploaded?;
        }
        Ok(())
    }

    /// All photos through the queue; the time from the first message to the last result.
    async fn round(&self, round: u32, photos: &[Photo]) -> anyhow::Result<Duration> {
        let mut results = self.publisher.follow_results().await?;
        let jobs: Vec<Job> = photos
            .iter()
            .enumerate()
            .map(|(number, photo)| {
                let mut job = Job::new(ObjectRef {
                    name: self.names.source(number, photo)?,
                    generation: None,
                });
                job.destination = Some(self.names.object(&format!("cut/{round}-{number:04}.png"))?);
                Ok(job)
            })
            .collect::<crate::error::Result<_>>()?;
        let mut waiting: HashSet<String> = jobs.iter().map(Job::id).collect();
        anyhow::ensure!(waiting.len() == jobs.len(), "two jobs have one id");
        let begun = Instant::now();
        let mut sent = futures::stream::iter(&jobs)
            .map(|job| async move {
                let message = OutgoingMessage {
                    data: serde_json::to_vec(job)?.into(),
                    attributes: BTreeMap::new(),
                    ordering_key: String::new(),
                };
                anyhow::Ok(self.publisher.publish(message).await?)
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some(published) = sent.next().await {
            published?;
        }
        while !waiting.is_empty() {
            let result = tokio::time::timeout(PATIENCE, results.next())
                .await
                .with_context(|| format!("no result for {} photos", waiting.len()))??;
            if !waiting.remove(&result.job_id) {
                continue;
            }
            anyhow::ensure!(
                result.status == Status::Done,
                "{} ended as {}: {:?}",
                result.job_id,
                result.status.as_str(),
                result.error
            );
        }
        let took = begun.elapsed();
        results.close().await?;
        Ok(took)
    }
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    println!(
        "{} photos through the {} queue, {} rounds, in turns with the bare loop: photos/s, median (min–max)",
        report.photos, report.ingress, report.rounds
    );
    println!("{:<16} {:>24}", "bare loop", report.bare_rate.text(1.0, 3));
    println!(
        "{:<16} {:>24}",
        "queue to PNG",
        report.queue_rate.text(1.0, 3)
    );
    println!("{:<16} {:>24}", "ratio", report.ratio.text(1.0, 3));
    println!(
        "the worker's peak memory: {} MiB; its seconds by stage, all photos together:",
        report.worker_peak_resident_bytes.unwrap_or_default() >> 20
    );
    for (stage, seconds) in &report.stage_seconds {
        println!("  {stage:<14} {seconds:>10.2}");
    }
}
