//! `cutout publish`: publishes jobs, and follows their results if asked to.

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt;
use opentelemetry::trace::SpanKind;

use super::{Context, EffectArgs, OutputArgs, ends, progress_bar, traces};
use crate::config::{CallerArgs, IngressKind, QueueArgs, TraceArgs};
use crate::error::{Class, Error};
use crate::ingress::{JobPublisher, OutgoingMessage, ResultStream, local, pubsub};
use crate::job::{Job, JobResult, Status};
use crate::object::{ObjectName, ObjectRef};
use crate::store::Store;
use crate::telemetry::attribute::{self, number, text};
use crate::telemetry::context::TraceContext;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{Beginning, Traces};

/// Messages that may be on their way at once: enough for the client to batch.
const IN_FLIGHT: usize = 256;

#[derive(Args)]
pub struct PublishCmd {
    /// Photos: gs://bucket/object[#generation]; with --ingress local, files below --root
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,

    /// A file with one job on each line: a source, or a job's JSON; - reads standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Every object whose name starts with this: gs://bucket/prefix; with --ingress local, a prefix of paths below --root
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,

    /// The topic that workers' subscription belongs to (pubsub)
    #[arg(
        long,
        env = "CUTOUT_JOBS_TOPIC",
        default_value = "cutout-jobs",
        value_name = "TOPIC"
    )]
    topic: String,

    /// Where the cut-out goes; only with a single source
    #[arg(long, value_name = "OBJECT")]
    destination: Option<ObjectName>,

    /// Replace what the destination holds
    #[arg(long)]
    overwrite: bool,

    /// The network that the job asks for
    #[arg(long = "job-model", value_name = "NAME")]
    model: Option<String>,

    /// Copied into the result and the output's metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,

    /// Wait for the results; exit with 1 if any job failed
    #[arg(long)]
    wait: bool,

    /// Give up waiting after this long without a result
    #[arg(long, default_value = "300s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Print results as JSON, one on a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    look: OutputArgs,
    #[command(flatten)]
    effects: EffectArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    caller: CallerArgs,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))
}

impl PublishCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let jobs = self.jobs().await?;
        anyhow::ensure!(
            !jobs.is_empty(),
            "nothing to publish: name sources, or use --file or --prefix"
        );
        anyhow::ensure!(
            self.destination.is_none() || jobs.len() == 1,
            "--destination is for a single job, and there are {}",
            jobs.len()
        );
        let project = self.queue.project.clone().filter(|p| !p.is_empty());
        let traces = traces(&self.traces, &Metrics::new(), project)?;
        let publisher = ends::publisher(&self.queue, &self.topic).await?;
        // Followed from before the first job is published, so that no result is missed.
        let results = if self.wait {
            Some(publisher.follow_results().await?)
        } else {
            None
        };
        let mut waiting = HashSet::with_capacity(jobs.len());
        for job in &jobs {
            waiting.insert(job.id());
        }
        let published = self
            .publish_traced(context, &jobs, publisher, &traces)
            .await;
        traces.finish().await;
        published?;
        let Some(mut results) = results else {
            return Ok(ExitCode::SUCCESS);
        };
        let waited = tokio::select! {
            waited = self.wait_for(context, &mut *results, waiting) => waited,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the jobs go on without us")),
        };
        results.close().await?;
        let failed = waited?;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Publishes under a span of its own where traces are on, which the jobs' spans become children
    /// of; else under the caller's, if it told one.
    async fn publish_traced(
        &self,
        context: &Context,
        jobs: &[Job],
        publisher: Arc<dyn JobPublisher>,
        traces: &Traces,
    ) -> anyhow::Result<()> {
        let caller = self.caller.context();
        let spans = traces.begin(|| self.beginning(jobs.len(), caller.clone()));
        let trace = spans.context().or(caller);
        if let Some(trace) = &trace {
            tracing::info!(trace_id = trace.trace_id(), "the jobs belong to a trace");
        }
        let attributes = trace.map(|trace| trace.attributes()).unwrap_or_default();
        let published = self.publish(context, jobs, publisher, &attributes).await;
        if let Some(error) = published
            .as_ref()
            .err()
            .and_then(|error| error.downcast_ref::<Error>())
        {
            spans.fail(error);
        }
        published
    }

    /// The span over a publication, after OpenTelemetry's conventions for messaging.
    fn beginning(&self, jobs: usize, parent: Option<TraceContext>) -> Beginning {
        let (system, destination) = match self.queue.ingress {
            IngressKind::Local => (local::SYSTEM, local::SYSTEM),
            IngressKind::PubSub | IngressKind::Push => (pubsub::SYSTEM, self.topic.as_str()),
        };
        let short = destination.rsplit('/').next().unwrap_or(destination);
        Beginning {
            name: format!("send {short}"),
            kind: SpanKind::Producer,
            parent,
            attributes: vec![
                text(attribute::MESSAGING_SYSTEM, system),
                text(attribute::MESSAGING_OPERATION_NAME, "send"),
                text(attribute::MESSAGING_OPERATION_TYPE, "send"),
                text(attribute::MESSAGING_DESTINATION, destination),
                number(attribute::JOBS, jobs as u64),
            ],
        }
    }

    async fn publish(
        &self,
        context: &Context,
        jobs: &[Job],
        publisher: Arc<dyn JobPublisher>,
        attributes: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let bar = progress_bar(context, jobs.len() as u64, "publish");
        let mut sent = futures::stream::iter(jobs)
            .map(|job| {
                let publisher = publisher.clone();
                async move {
                    let message = OutgoingMessage {
                        data: serde_json::to_vec(job)?.into(),
                        attributes: attributes.clone(),
                        ordering_key: String::new(),
                    };
                    let id = publisher.publish(message).await?;
                    anyhow::Ok((job, id))
                }
            })
            .buffer_unordered(IN_FLIGHT);
        let mut count = 0;
        while let Some(published) = sent.next().await {
            // Who publishes all of them again does no harm: what is done is a duplicate.
            let (job, message_id) = published
                .with_context(|| format!("{count} of {} jobs were published", jobs.len()))?;
            count += 1;
            tracing::debug!(job_id = job.id(), message_id, source = %job.source, "published");
            bar.inc(1);
        }
        bar.finish_and_clear();
        eprintln!("published {count} jobs");
        Ok(())
    }

    /// Follows results until every job has one; returns how many failed.
    async fn wait_for(
        &self,
        context: &Context,
        results: &mut dyn ResultStream,
        mut waiting: HashSet<String>,
    ) -> anyhow::Result<usize> {
        let bar = progress_bar(context, waiting.len() as u64, "results");
        let (mut done, mut duplicates, mut failed) = (0, 0, 0);
        let mut patience = Instant::now() + self.timeout;
        while !waiting.is_empty() {
            let result = match tokio::time::timeout_at(patience.into(), results.next()).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) if error.class() == Class::Retryable => {
                    tracing::warn!(
                        error = error.chain(),
                        "the results did not come; trying again"
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => anyhow::bail!(
                    "no result for {} in {}: is a worker running? Jobs without one yet: {}",
                    waiting.len(),
                    humantime::format_duration(self.timeout),
                    waiting
                        .iter()
                        .take(5)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            // Others publish results too, and one job may have several.
            if !waiting.remove(&result.job_id) {
                continue;
            }
            patience = Instant::now() + self.timeout;
            match result.status {
                Status::Done => done += 1,
                Status::Duplicate => duplicates += 1,
                Status::Failed => failed += 1,
            }
            bar.inc(1);
            let line = if self.json {
                serde_json::to_string(&result)?
            } else {
                one_line(&result)
            };
            bar.suspend(|| println!("{line}"));
        }
        bar.finish_and_clear();
        eprintln!("{done} done, {duplicates} duplicates, {failed} failed");
        Ok(failed)
    }

    /// The jobs of all three kinds of input, in their order.
    async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for source in &self.sources {
            jobs.push(self.job(self.source(source)?)?);
        }
        if let Some(path) = &self.file {
            jobs.extend(self.jobs_in_file(path)?);
        }
        if let Some(prefix) = &self.prefix {
            jobs.extend(self.jobs_under_prefix(prefix).await?);
        }
        Ok(jobs)
    }

    fn job(&self, source: ObjectRef) -> anyhow::Result<Job> {
        let job = Job {
            destination: self.destination.clone(),
            overwrite: self.overwrite.then_some(true),
            output: self.look.output(),
            effects: self.effects.effects.clone(),
            model: self.model.clone(),
            metadata: self.metadata.iter().cloned().collect(),
            ..Job::new(source)
        };
        // What a worker would refuse is refused here, while somebody is looking.
        Ok(Job::parse(&serde_json::to_vec(&job)?)?)
    }

    fn source(&self, text: &str) -> anyhow::Result<ObjectRef> {
        if self.queue.ingress == IngressKind::Local
            && let Some(relative) = below_root(Path::new(text), &self.queue.root)
        {
            return Ok(relative.parse()?);
        }
        Ok(text.parse()?)
    }

    fn jobs_in_file(&self, path: &Path) -> anyhow::Result<Vec<Job>> {
        let input: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            let file = std::fs::File::open(path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            Box::new(std::io::BufReader::new(file))
        };
        let mut jobs = Vec::new();
        for (number, line) in input.lines().enumerate() {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let job = if line.starts_with('{') {
                Job::parse(line.as_bytes()).map_err(anyhow::Error::from)
            } else {
                self.source(line).and_then(|source| self.job(source))
            };
            jobs.push(job.with_context(|| format!("{} line {}", path.display(), number + 1))?);
        }
        Ok(jobs)
    }

    async fn jobs_under_prefix(&self, prefix: &str) -> anyhow::Result<Vec<Job>> {
        let store: Arc<dyn Store> = ends::store(&self.queue).await?;
        let (bucket, prefix) = match prefix.strip_prefix("gs://") {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (Some(bucket), prefix)
            }
            None if self.queue.ingress != IngressKind::Local => {
                anyhow::bail!("--prefix {prefix}: write gs://bucket/prefix")
            }
            None => (None, prefix),
        };
        let found = store.list(bucket, prefix).await?;
        let mut jobs = Vec::new();
        for object in found {
            // Outputs of former runs, folder placeholders and other things are not photos.
            let photo = object.size > 0
                && !object.metadata.contains_key(crate::job::MARKER)
                && (object.content_type.starts_with("image/")
                    || crate::ingress::notification::image_type_of(object.name.key()).is_some());
            if photo {
                jobs.push(self.job(ObjectRef {
                    name: object.name,
                    generation: Some(object.generation),
                })?);
            }
        }
        Ok(jobs)
    }
}

/// A file's path relative to the store's root, if it lies below it.
fn below_root(path: &Path, root: &Path) -> Option<String> {
    let (path, root) = (path.canonicalize().ok()?, root.canonicalize().ok()?);
    Some(path.strip_prefix(root).ok()?.to_str()?.to_owned())
}

fn one_line(result: &JobResult) -> String {
    match &result.error {
        Some(error) => format!(
            "failed     {} {}: {}",
            result.job_id, error.code, error.message
        ),
        None => {
            let outputs: Vec<_> = result.outputs.iter().map(|o| o.uri.to_string()).collect();
            format!(
                "{:<10} {} {} in {} ms",
                result.status.as_str(),
                result.job_id,
                outputs.join(" "),
                result.timings_ms.total
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_a_key_and_a_value() {
        assert_eq!(key_value("order=5=5"), Ok(("order".into(), "5=5".into())));
        assert!(key_value("order").is_err());
        assert!(key_value("=5").is_err());
    }

    #[test]
    fn a_file_below_the_root_becomes_a_relative_source() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inbox")).unwrap();
        std::fs::write(dir.path().join("inbox/a.jpg"), b"").unwrap();
        assert_eq!(
            below_root(&dir.path().join("inbox/a.jpg"), dir.path()).as_deref(),
            Some("inbox/a.jpg")
        );
        assert_eq!(below_root(Path::new("/etc/hostname"), dir.path()), None);
        assert_eq!(
            below_root(&dir.path().join("inbox/none.jpg"), dir.path()),
            None
        );
    }
}
