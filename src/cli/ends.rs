//! The two ends of the pipeline, made from the configuration: queue and store, local or Google's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AllowedPlace, IngressKind, QueueArgs, WorkerArgs};
use crate::destination::Template;
use crate::error::{Code, Error, Result};
use crate::ingress::dead_letter::Morgue;
use crate::ingress::inbox::Inbox;
use crate::ingress::local::{LocalIngressConfig, LocalQueue};
use crate::ingress::notification::NotificationPolicy;
use crate::ingress::pubsub::{PubSub, PubSubConfig};
use crate::ingress::push::PushIngress;
use crate::ingress::{Egress, Ingress, JobPublisher};
use crate::pipeline::admit::Policy;
use crate::store::Store;
use crate::store::dir::DirStore;
use crate::store::gcs::{GcsConfig, GcsStore, RetryHook};
use crate::telemetry::metrics::Metrics;

/// Uploads are watched for here, relative to the root, and outputs go there.
const INBOX: &str = "inbox";
const OUTBOX: &str = "outbox";
const LOCAL_TEMPLATE: &str = "outbox/{dir}/{stem}.cutout.{ext}";
const CLOUD_TEMPLATE: &str = "{dir}/{stem}.cutout.{ext}";

/// What the worker's configuration says about its ends, checked before anything is connected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rules for jobs; the model's name is filled in later.
    pub policy: Policy,
    /// Rules for upload notifications.
    pub notifications: NotificationPolicy,
    /// Buckets that must answer before the worker starts; empty for a directory store.
    pub buckets: Vec<String>,
}

/// The connected ends.
pub struct Ends {
    /// Photos and outputs.
    pub store: Arc<dyn Store>,
    /// Deliveries.
    pub ingress: Box<dyn Ingress>,
    /// Results and dead letters.
    pub egress: Arc<dyn Egress>,
    /// Watches the inbox for as long as it lives (local only).
    pub inbox: Option<Inbox>,
}

/// Derives the rules from the configuration.
pub fn plan(queue: &QueueArgs, worker: &WorkerArgs, model: &str) -> Result<Plan> {
    let local = queue.ingress == IngressKind::Local;
    let template: Template = match &worker.destination_template {
        Some(template) => template.parse()?,
        None if local => LOCAL_TEMPLATE.parse()?,
        None => CLOUD_TEMPLATE.parse()?,
    };
    let bucket = match (&worker.storage_bucket, local) {
        (_, true) => None,
        (Some(bucket), false) if !bucket.is_empty() => Some(bucket.clone()),
        (_, false) => {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!(
                    "--ingress {} needs --storage-bucket (STORAGE_BUCKET): where outputs go when a job names no destination",
                    queue.ingress.as_str()
                ),
            ));
        }
    };
    let places = |listed: &[String]| -> Result<Option<Vec<AllowedPlace>>> {
        let Some(bucket) = &bucket else {
            return Ok(None);
        };
        let listed: Vec<_> = listed
            .iter()
            .filter(|place| !place.trim().is_empty())
            .collect();
        if listed.is_empty() {
            return Ok(Some(vec![bucket.parse()?]));
        }
        listed
            .into_iter()
            .map(|place| place.parse())
            .collect::<Result<_>>()
            .map(Some)
    };
    let (sources, destinations) = (
        places(&worker.source_buckets)?,
        places(&worker.destination_buckets)?,
    );
    let review = worker.review_place()?;
    if let Some(review) = &review {
        review.place().check("--review-prefix", queue.ingress)?;
    }
    let mut buckets: Vec<String> = sources
        .iter()
        .chain(&destinations)
        .flatten()
        .map(|place| place.bucket.clone())
        .chain(bucket.clone())
        .chain(
            review
                .iter()
                .filter_map(|review| review.place().bucket.clone()),
        )
        .collect();
    buckets.sort_unstable();
    buckets.dedup();
    let prefix = match &worker.upload_prefix {
        Some(prefix) => Some(prefix.clone()),
        None => local.then(|| format!("{INBOX}/")),
    };
    Ok(Plan {
        notifications: NotificationPolicy {
            prefixes: prefix.into_iter().filter(|p| !p.is_empty()).collect(),
            destination: template.clone(),
        },
        policy: Policy {
            sources,
            destinations,
            bucket,
            template,
            uploads: local.then(|| format!("{INBOX}/")),
            overwrite: worker.overwrite,
            model: model.to_owned(),
            others: Vec::new(),
            review,
        },
        buckets,
    })
}

/// Connects the worker's ends and checks that everything it needs is there; every problem found
/// is reported in one error. `pushed` are the deliveries where none are pulled.
pub async fn connect(
    queue: &QueueArgs,
    worker: &WorkerArgs,
    plan: &Plan,
    max_jobs: usize,
    pushed: Option<PushIngress>,
    metrics: &Metrics,
) -> Result<Ends> {
    match queue.ingress {
        IngressKind::Local => local(queue, worker).await,
        IngressKind::PubSub | IngressKind::Push => {
            cloud(queue, worker, plan, max_jobs, pushed, metrics).await
        }
    }
}

async fn local(queue: &QueueArgs, worker: &WorkerArgs) -> Result<Ends> {
    create_folder(&queue.root)?;
    let template = worker.destination_template.as_deref();
    let outputs = literal_folder(template.unwrap_or(LOCAL_TEMPLATE));
    let store = Arc::new(DirStore::open(&queue.root)?.with_outputs_in(outputs));
    create_folder(&store.root().join(OUTBOX))?;
    store.probe(None).await?;
    let jobs = open_queue(store.root()).await?;
    let inbox = Inbox::watch(store.root(), INBOX, jobs.clone()).await?;
    let config = LocalIngressConfig {
        max_attempts: worker.max_attempts,
        lease: worker.lease_extension,
        ..LocalIngressConfig::default()
    };
    Ok(Ends {
        store,
        ingress: Box::new(jobs.ingress(config)?),
        egress: Arc::new(jobs),
        inbox: Some(inbox),
    })
}

/// The folder that all outputs of a template lie in; empty for the root.
fn literal_folder(template: &str) -> &str {
    let literal = template.split('{').next().unwrap_or_default();
    literal.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn queue_file(root: &Path) -> PathBuf {
    root.join(crate::object::RESERVED_DIR).join("queue.sqlite")
}

/// The queue lies in the store's own folder, where no job can name it.
async fn open_queue(root: &Path) -> Result<LocalQueue> {
    create_folder(&root.join(crate::object::RESERVED_DIR))?;
    let file = queue_file(root);
    let opening = tokio::task::spawn_blocking(move || LocalQueue::open(file));
    opening.await.map_err(|error| {
        Error::new(Code::Internal, "the queue could not be opened").caused_by(error)
    })?
}

fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::new(
            Code::ConfigInvalid,
            format!(
                "cannot create {}: choose another --root (CUTOUT_ROOT)",
                folder.display()
            ),
        )
        .caused_by(error)
    })
}

async fn cloud(
    queue: &QueueArgs,
    worker: &WorkerArgs,
    plan: &Plan,
    max_jobs: usize,
    pushed: Option<PushIngress>,
    metrics: &Metrics,
) -> Result<Ends> {
    let counting = metrics.clone();
    let gcs = GcsConfig {
        retried: RetryHook::new(move |op, code| counting.retry(op, code)),
        ..gcs_config(queue)
    };
    let (store, pubsub) = tokio::join!(
        GcsStore::connect(gcs),
        PubSub::connect(PubSubConfig {
            // A worker that is pushed to needs no right to its subscription.
            subscription: pushed.is_none().then(|| worker.subscription.clone()),
            dead_letter_topic: Some(worker.dead_letter_topic.clone()).filter(|t| !t.is_empty()),
            max_outstanding_messages: u32::try_from(max_jobs).unwrap_or(u32::MAX),
            max_lease: worker.max_lease,
            lease_extension: worker.lease_extension,
            ..pubsub_config(queue)?
        }),
    );
    let (store, pubsub) = (Arc::new(store?), pubsub?);
    let (queue_state, buckets) = tokio::join!(
        pubsub.check(),
        futures::future::join_all(plan.buckets.iter().map(|bucket| store.probe(Some(bucket)))),
    );
    let problems: Vec<Error> = std::iter::once(queue_state)
        .chain(buckets)
        .filter_map(Result::err)
        .collect();
    if let Some(error) = together(problems) {
        return Err(error);
    }
    let ingress: Box<dyn Ingress> = match pushed {
        Some(pushed) => Box::new(pushed),
        None => Box::new(pubsub.ingress()?),
    };
    Ok(Ends {
        store,
        ingress,
        egress: Arc::new(pubsub),
        inbox: None,
    })
}

/// One error that tells all problems, with the code of the first.
fn together(problems: Vec<Error>) -> Option<Error> {
    let code = problems.first()?.code();
    let lines: Vec<_> = problems.iter().map(Error::message).collect();
    Some(Error::new(code, lines.join("; ")))
}

fn pubsub_config(queue: &QueueArgs) -> Result<PubSubConfig> {
    let project = queue
        .project
        .clone()
        .filter(|p| !p.is_empty())
        .ok_or_else(|| {
            Error::new(
                Code::ConfigInvalid,
                format!(
                    "--ingress {} needs --project (GOOGLE_CLOUD_PROJECT)",
                    queue.ingress.as_str()
                ),
            )
        })?;
    Ok(PubSubConfig {
        emulator_host: queue
            .pubsub_emulator_host
            .clone()
            .filter(|host| !host.is_empty()),
        project: Some(project),
        results_topic: Some(queue.results_topic.clone()).filter(|topic| !topic.is_empty()),
        ..PubSubConfig::default()
    })
}

fn gcs_config(queue: &QueueArgs) -> GcsConfig {
    GcsConfig {
        emulator_host: queue
            .storage_emulator_host
            .clone()
            .filter(|host| !host.is_empty()),
        ..GcsConfig::default()
    }
}

/// The publishers' side of the configured queue.
pub async fn publisher(queue: &QueueArgs, topic: &str) -> Result<Arc<dyn JobPublisher>> {
    Ok(match queue.ingress {
        IngressKind::Local if !queue.root.is_dir() => {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!(
                    "--root {} does not exist: name the directory that a worker serves",
                    queue.root.display()
                ),
            ));
        }
        IngressKind::Local => Arc::new(open_queue(DirStore::open(&queue.root)?.root()).await?),
        IngressKind::PubSub | IngressKind::Push => {
            let config = PubSubConfig {
                jobs_topic: Some(topic.to_owned()),
                ..pubsub_config(queue)?
            };
            Arc::new(PubSub::connect(config).await?)
        }
    })
}

/// How dead letters are reached where they must be pulled.
pub struct MorgueConfig<'a> {
    /// A subscription to the dead-letter topic.
    pub subscription: &'a str,
    /// Where originals are published again; none for who does not replay.
    pub jobs_topic: Option<&'a str>,
    /// A silence this long is taken for the end.
    pub idle: Duration,
}

/// The dead letters of the configured queue. That they can be reached has been checked: a
/// wrong name must not read as "no dead letters".
pub async fn morgue(queue: &QueueArgs, config: MorgueConfig<'_>) -> Result<Box<dyn Morgue>> {
    match queue.ingress {
        IngressKind::Local => {
            // A queue that is made on the spot would have none either.
            if !queue_file(&queue.root).is_file() {
                return Err(Error::new(
                    Code::ConfigInvalid,
                    format!(
                        "no queue is in --root {}: name the directory that a worker serves",
                        queue.root.display()
                    ),
                ));
            }
            let jobs = open_queue(DirStore::open(&queue.root)?.root()).await?;
            Ok(Box::new(jobs.morgue()))
        }
        IngressKind::PubSub | IngressKind::Push => {
            let pubsub = PubSub::connect(PubSubConfig {
                subscription: Some(config.subscription.to_owned()),
                jobs_topic: config.jobs_topic.map(str::to_owned),
                results_topic: None,
                ..pubsub_config(queue)?
            })
            .await?;
            pubsub.check().await?;
            Ok(Box::new(pubsub.morgue(config.idle)?))
        }
    }
}

/// The configured store alone.
pub async fn store(queue: &QueueArgs) -> Result<Arc<dyn Store>> {
    Ok(match queue.ingress {
        IngressKind::Local => Arc::new(DirStore::open(&queue.root)?),
        IngressKind::PubSub | IngressKind::Push => {
            Arc::new(GcsStore::connect(gcs_config(queue)).await?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::literal_folder;

    #[test]
    fn the_folder_of_all_outputs_ends_where_their_names_begin_to_differ() {
        for (template, folder) in [
            (super::LOCAL_TEMPLATE, "outbox"),
            ("out/cut/{stem}.{ext}", "out/cut"),
            ("out/rex-{stem}.{ext}", "out"),
            ("{dir}/{stem}.cutout.{ext}", ""),
        ] {
            assert_eq!(literal_folder(template), folder, "{template}");
        }
    }
}
