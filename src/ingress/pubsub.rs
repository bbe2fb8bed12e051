//! Pub/Sub through Google's official client: deliveries (`consumer`), results, dead letters and
//! jobs (`publisher`), and results as a publisher follows them (`follow`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytesize::ByteSize;
use google_cloud_auth::credentials::{self, Credentials};
use google_cloud_gax::error::rpc;

use crate::error::{Code, Error, Result};
use crate::ingress::{Egress, JobPublisher, Message, OutgoingMessage, ResultStream, dead_letter};
use crate::job::JobResult;
use crate::telemetry::context::TraceContext;

mod clients;
mod consumer;
mod failure;
mod follow;
mod morgue;
mod publisher;
mod pull;

pub use consumer::PubSubIngress;
pub use morgue::PubSubMorgue;

use clients::{Clients, Connection, Recipe};
use consumer::Pulling;
use publisher::TopicPublisher;

/// The messages in the JSON that Pub/Sub's REST API answers a pull with, as the dead letters'
/// commands read it; public so that it can be fuzzed.
///
/// Errors: `queue_unavailable` for what cannot be read.
pub fn pulled_messages(answer: serde_json::Value) -> Result<Vec<Message>> {
    let pulled = pull::pulled(answer).map_err(|e| {
        Error::new(
            Code::QueueUnavailable,
            "the answer to a pull cannot be read",
        )
        .caused_by(e)
    })?;
    Ok(pulled.into_iter().map(|pulled| pulled.message).collect())
}

/// What OpenTelemetry calls Pub/Sub.
pub const SYSTEM: &str = "gcp_pubsub";

/// How long questions about topics and subscriptions are tried again. They are asked at start,
/// where a wrong host should be reported while somebody is looking, and for /health.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the messages are, and how many of them to hold.
///
/// Topics and subscriptions are named in full (`projects/P/topics/T`) or by their last part,
/// which is then looked for in `project`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubSubConfig {
    /// `host:port` of an emulator, with or without a scheme; spoken to without credentials.
    pub emulator_host: Option<String>,
    /// The project of names that do not name one.
    pub project: Option<String>,
    /// Where a worker pulls from.
    pub subscription: Option<String>,
    /// Where `publish` sends jobs.
    pub jobs_topic: Option<String>,
    /// Where results go; without one they are only logged.
    pub results_topic: Option<String>,
    /// Where messages go that can never succeed; without one they are only logged.
    pub dead_letter_topic: Option<String>,
    /// Messages held at once: as many as the worker has places for jobs, or they wait here
    /// while another worker is idle.
    pub max_outstanding_messages: u32,
    /// Bytes of messages held at once.
    pub max_outstanding_bytes: ByteSize,
    /// The longest that a message is kept; then Pub/Sub delivers it again, whatever its job does.
    pub max_lease: Duration,
    /// How long a message stays with a process that shows no sign of life (10 to 600 s).
    pub lease_extension: Duration,
    /// How long a publication is tried again.
    pub publish_timeout: Duration,
    /// A stream that delivered nothing for this long is opened anew, through a new connection: a
    /// dead connection is as silent as an empty subscription.
    pub idle_renewal: Duration,
}

impl Default for PubSubConfig {
    fn default() -> Self {
        Self {
            emulator_host: None,
            project: None,
            subscription: None,
            jobs_topic: None,
            results_topic: None,
            dead_letter_topic: None,
            max_outstanding_messages: 8,
            max_outstanding_bytes: ByteSize::mib(100),
            max_lease: Duration::from_secs(60 * 60),
            lease_extension: Duration::from_secs(60),
            publish_timeout: Duration::from_secs(30),
            idle_renewal: Duration::from_secs(5 * 60),
        }
    }
}

/// A connection to Pub/Sub. Clones share it.
#[derive(Clone)]
pub struct PubSub {
    inner: Arc<Inner>,
}

struct Inner {
    config: PubSubConfig,
    subscription: Option<String>,
    connection: Arc<Connection>,
    pulling: Arc<Pulling>,
    credentials: Credentials,
}

impl PubSub {
    /// Makes the clients. Nothing is sent yet; see [`check`](Self::check).
    ///
    /// Errors: `config_invalid` for names that cannot be completed, all of them together;
    /// `credentials_refused` when there are no credentials.
    pub async fn connect(config: PubSubConfig) -> Result<Self> {
        let mut problems = Vec::new();
        let mut name = |setting, kind, name: &Option<String>| {
            let name = name.as_deref()?;
            full_name(kind, name, config.project.as_deref())
                .map_err(|why| problems.push(format!("{setting} {name:?} {why}")))
                .ok()
        };
        let subscription = name("the subscription", "subscriptions", &config.subscription);
        let jobs = name("the jobs topic", "topics", &config.jobs_topic);
        let results = name("the results topic", "topics", &config.results_topic);
        let dead_letters = name("the dead-letter topic", "topics", &config.dead_letter_topic);
        if !problems.is_empty() {
            return Err(Error::new(Code::ConfigInvalid, problems.join("; ")));
        }

        let endpoint = config.emulator_host.as_deref().map(emulator_endpoint);
        let credentials = match endpoint {
            Some(_) => credentials::anonymous::Builder::new().build(),
            None => default_credentials()?,
        };
        let connection = Connection::make(Recipe {
            endpoint,
            credentials: credentials.clone(),
            jobs,
            results,
            dead_letters,
            publish_timeout: config.publish_timeout,
        })
        .await?;
        Ok(Self {
            inner: Arc::new(Inner {
                subscription,
                connection: Arc::new(connection),
                pulling: Arc::default(),
                credentials,
                config,
            }),
        })
    }

    fn clients(&self) -> Arc<Clients> {
        self.inner.connection.clients()
    }

    /// Asks for every configured topic and subscription and reports all problems together.
    ///
    /// Errors: `config_invalid` when something is missing or of the wrong kind,
    /// `credentials_refused`, or `queue_unavailable` when Pub/Sub does not answer. An identity
    /// that may use a thing but not look at it (the roles `pubsub.subscriber` and
    /// `pubsub.publisher` are such) is logged, not refused.
    pub async fn check(&self) -> Result<()> {
        let clients = self.clients();
        let topics = [&clients.jobs, &clients.results, &clients.dead_letters];
        let topics = topics.into_iter().flatten().map(|topic| async {
            let name = topic.name();
            let request = clients.topics.get_topic().set_topic(name);
            seen(name, request.send().await).map(drop)
        });
        let (subscription, topics) =
            tokio::join!(self.check_subscription(), futures::future::join_all(topics));
        let problems: Vec<Error> = std::iter::once(subscription)
            .chain(topics)
            .filter_map(Result::err)
            .collect();
        let all_are = |code| problems.iter().all(|problem| problem.code() == code);
        let code = match problems.as_slice() {
            [] => return Ok(()),
            [first, ..] if all_are(first.code()) => first.code(),
            _ => Code::ConfigInvalid,
        };
        let messages: Vec<_> = problems.iter().map(Error::message).collect();
        let error = Error::new(code, messages.join("; "));
        Err(match problems.into_iter().next() {
            Some(first) => error.caused_by(first),
            None => error,
        })
    }

    async fn check_subscription(&self) -> Result<()> {
        let Some(name) = &self.inner.subscription else {
            return Ok(());
        };
        let request = self.clients().subscriptions.get_subscription();
        let Some(subscription) = seen(name, request.set_subscription(name).send().await)? else {
            return Ok(());
        };
        let invalid = |why| Err(Error::new(Code::ConfigInvalid, format!("{name} {why}")));
        if subscription.detached {
            return invalid("is detached from its topic: delete it and create it again");
        }
        if subscription
            .push_config
            .is_some_and(|push| !push.push_endpoint.is_empty())
        {
            return invalid(
                "is a push subscription: remove its push endpoint, or create a pull subscription",
            );
        }
        // Pub/Sub's placeholder for a topic that was deleted under the subscription.
        if subscription.topic == "_deleted-topic_" {
            return invalid("has lost its topic: create the topic and then the subscription again");
        }
        tracing::info!(
            subscription = name,
            topic = subscription.topic,
            exactly_once = subscription.enable_exactly_once_delivery,
            max_delivery_attempts = subscription
                .dead_letter_policy
                .map(|p| p.max_delivery_attempts),
            "pulling from Pub/Sub"
        );
        Ok(())
    }

    /// Starts pulling from the subscription. `config_invalid` when none is configured.
    pub fn ingress(&self) -> Result<PubSubIngress> {
        let name = self.inner.subscription.as_deref();
        let name = name.ok_or_else(|| unset("a subscription to pull from"))?;
        Ok(self.pull(name))
    }

    /// The dead letters of the configured subscription, which must be one to the dead-letter
    /// topic; a silence of `idle` is taken for their end. `config_invalid` when none is
    /// configured.
    pub fn morgue(&self, idle: Duration) -> Result<PubSubMorgue> {
        let inner = &self.inner;
        let name = inner.subscription.as_deref();
        let name = name.ok_or_else(|| unset("a subscription to pull from"))?;
        let endpoint = inner.config.emulator_host.as_deref().map(emulator_endpoint);
        let api = pull::PullApi::new(endpoint.as_deref(), name, inner.credentials.clone())?;
        Ok(PubSubMorgue::new(self.clone(), api, idle))
    }

    /// Publishes to a topic of `clients`, which are replaced when that fails.
    async fn publish_to(
        &self,
        topic: &TopicPublisher,
        message: OutgoingMessage,
        clients: &Arc<Clients>,
    ) -> Result<String> {
        let published = topic.publish(message).await;
        if let Err(error) = &published
            && error.code() == Code::QueueUnavailable
        {
            let connection = &self.inner.connection;
            connection.renew(clients, "a publication failed").await;
        }
        published
    }

    fn pull(&self, subscription: &str) -> PubSubIngress {
        PubSubIngress::start(
            Arc::clone(&self.inner.connection),
            subscription,
            &self.inner.config,
            Arc::clone(&self.inner.pulling),
        )
    }
}

#[async_trait]
impl Egress for PubSub {
    async fn publish_result(&self, result: &JobResult, trace: Option<&TraceContext>) -> Result<()> {
        let clients = self.clients();
        let Some(results) = &clients.results else {
            return Ok(());
        };
        let data = serde_json::to_vec(result).map_err(|e| {
            Error::new(
                Code::Internal,
                format!("the result of {} is not JSON", result.job_id),
            )
            .caused_by(e)
        })?;
        let message = OutgoingMessage {
            data: data.into(),
            attributes: trace.map(TraceContext::attributes).unwrap_or_default(),
            ordering_key: result.job_id.clone(),
        };
        self.publish_to(results, message, &clients).await.map(drop)
    }

    async fn dead_letter(&self, message: &Message, error: &Error) -> Result<()> {
        let clients = self.clients();
        let Some(dead_letters) = &clients.dead_letters else {
            tracing::warn!(
                message_id = message.id,
                code = %error.code(),
                "a message that can never succeed is dropped: no dead-letter topic is configured"
            );
            return Ok(());
        };
        let letter = OutgoingMessage {
            data: message.data.clone(),
            attributes: dead_letter::attributes(message, error),
            ordering_key: message.ordering_key.clone(),
        };
        self.publish_to(dead_letters, letter, &clients)
            .await
            .map(drop)
    }

    /// The client opens a stream that broke again by itself and tells nobody, so the service
    /// is asked over a connection of its own. An identity that may not look at its subscription
    /// got an answer too.
    async fn probe(&self) -> Result<()> {
        let Some(name) = &self.inner.subscription else {
            return Ok(());
        };
        let clients = self.clients();
        let request = clients.subscriptions.get_subscription();
        let answer = request.set_subscription(name).send();
        let failed = match tokio::time::timeout(ADMIN_TIMEOUT, answer).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => match error.status().map(|status| status.code) {
                Some(rpc::Code::PermissionDenied) => None,
                _ => Some(failure::explain("look at", name, Arc::new(error))),
            },
            Err(elapsed) => {
                let what = format!("no answer about {name} within {ADMIN_TIMEOUT:?}");
                Some(Error::new(Code::QueueUnavailable, what).caused_by(elapsed))
            }
        };
        if let Some(error) = failed {
            if error.code() == Code::QueueLost {
                // A stream that was opened before may hang on; a new one is refused, which ends
                // the worker.
                self.inner.pulling.renew();
            } else {
                self.inner.pulling.unanswered();
                let connection = &self.inner.connection;
                connection.renew(&clients, "Pub/Sub does not answer").await;
            }
            return Err(error);
        }
        self.inner.pulling.answered();
        if self.inner.pulling.is_broken() {
            return Err(Error::new(
                Code::QueueUnavailable,
                format!("the stream from {name} broke off and is being opened again"),
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl JobPublisher for PubSub {
    async fn publish(&self, message: OutgoingMessage) -> Result<String> {
        let clients = self.clients();
        let jobs = clients.jobs.as_ref();
        let jobs = jobs.ok_or_else(|| unset("a topic to publish jobs to"))?;
        self.publish_to(jobs, message, &clients).await
    }

    async fn follow_results(&self) -> Result<Box<dyn ResultStream>> {
        let clients = self.clients();
        let results = clients.results.as_ref();
        let results = results.ok_or_else(|| unset("a results topic to follow"))?;
        Ok(Box::new(
            follow::Followed::start(self, results.name()).await?,
        ))
    }
}

/// The answer to a question about a topic or subscription at start; `None` when this identity
/// may not ask.
fn seen<T>(name: &str, answer: google_cloud_gax::Result<T>) -> Result<Option<T>> {
    let error = match answer {
        Ok(found) => return Ok(Some(found)),
        Err(error) => error,
    };
    match error.status().map(|status| status.code) {
        Some(rpc::Code::PermissionDenied) => {
            tracing::warn!(
                name,
                "this identity may not look at its topic or subscription, so nothing is known of it before it is used; roles/pubsub.viewer would help"
            );
            Ok(None)
        }
        Some(rpc::Code::NotFound) => Err(Error::new(
            Code::ConfigInvalid,
            format!("{name} does not exist: create it, or correct the name"),
        )),
        _ => Err(failure::explain("look at", name, Arc::new(error))),
    }
}

fn unset(what: &str) -> Error {
    Error::new(Code::ConfigInvalid, format!("{what} must be configured"))
}

/// A subscription's full name, as Pub/Sub's envelopes have it, from that or from its last part.
///
/// Errors: `config_invalid` for what is no name, or names no project.
pub fn subscription_name(name: &str, project: Option<&str>) -> Result<String> {
    full_name("subscriptions", name, project).map_err(|why| {
        Error::new(
            Code::ConfigInvalid,
            format!("the subscription {name:?} {why}"),
        )
    })
}

/// `projects/P/{kind}/N`, from that or from `N`.
fn full_name(kind: &str, name: &str, project: Option<&str>) -> Result<String, String> {
    let parts: Vec<_> = name.split('/').collect();
    match parts.as_slice() {
        ["projects", project, it, last] if *it == kind && is_id(last) && !project.is_empty() => {
            Ok(name.to_owned())
        }
        [last] if is_id(last) => match project {
            Some(project) if !project.is_empty() => Ok(format!("projects/{project}/{kind}/{last}")),
            _ => Err(format!(
                "names no project: set the project, or write projects/PROJECT/{kind}/{last}"
            )),
        },
        _ => Err(format!(
            "is not a name: write projects/PROJECT/{kind}/NAME or NAME, a letter and then 2 to 254 letters, digits or -_.~+%"
        )),
    }
}

/// <https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>
fn is_id(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.~+%".contains(&b);
    (3..=255).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(legal)
}

fn emulator_endpoint(host: &str) -> String {
    match host.contains("://") {
        true => host.to_owned(),
        false => format!("http://{host}"),
    }
}

fn default_credentials() -> Result<Credentials> {
    credentials::Builder::default().build().map_err(|e| {
        Error::new(
            Code::CredentialsRefused,
            "no Google credentials were found: run on Google Cloud with a service account, or set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
        )
        .caused_by(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_get_the_project_and_full_ones_keep_theirs() {
        let name = |text, project| full_name("topics", text, project);
        assert_eq!(
            name("jobs", Some("perkie")).unwrap(),
            "projects/perkie/topics/jobs"
        );
        let full = "projects/other/topics/jobs";
        assert_eq!(name(full, Some("perkie")).unwrap(), full);
        assert_eq!(name(full, None).unwrap(), full);
        for (text, project) in [
            ("jobs", None),
            ("jobs", Some("")),
            ("projects/perkie/subscriptions/jobs", Some("perkie")),
            ("projects//topics/jobs", None),
            ("topics/jobs", Some("perkie")),
            ("1jobs", Some("perkie")),
            ("my jobs", Some("perkie")),
            ("jo", Some("perkie")),
            ("", Some("perkie")),
        ] {
            assert!(name(text, project).is_err(), "{text:?} in {project:?}");
        }
    }

    #[tokio::test]
    async fn every_unusable_name_is_reported_at_once() {
        let config = PubSubConfig {
            emulator_host: Some("127.0.0.1:1".into()),
            subscription: Some("jobs-worker".into()),
            results_topic: Some("re sults".into()),
            ..PubSubConfig::default()
        };
        let Err(error) = PubSub::connect(config).await else {
            panic!("accepted");
        };
        assert_eq!(error.code(), Code::ConfigInvalid);
        for said in ["jobs-worker", "project", "re sults"] {
            assert!(error.message().contains(said), "{said}: {error}");
        }
    }
}
