//! The names of what spans say: OpenTelemetry's where there is one
//! (<https://opentelemetry.io/docs/specs/semconv/>), ours where there is none. Never renamed once
//! released; docs/operations.md has them as a table.

use opentelemetry::KeyValue;

/// The job.
pub const JOB_ID: &str = "cutout.job_id";
/// Which delivery of the message, from 1.
pub const ATTEMPT: &str = "cutout.attempt";
/// Where the delivery came from: `local`, `pubsub`, `push`.
pub const INGRESS: &str = "cutout.ingress";
/// Milliseconds that the message was in the queue.
pub const QUEUED_MS: &str = "cutout.queued_ms";
/// How it ended, as `cutout_jobs_total` has it.
pub const OUTCOME: &str = "cutout.outcome";
/// The failure code.
pub const CODE: &str = "cutout.code";
/// The failure's class.
pub const CLASS: &str = "cutout.class";
/// Bytes that were read or written.
pub const BYTES: &str = "cutout.bytes";
/// The file's format.
pub const FORMAT: &str = "cutout.format";
/// The photo's pixels, width × height.
pub const PIXELS: &str = "cutout.pixels";
/// The network.
pub const MODEL: &str = "cutout.model";
/// The execution provider.
pub const PROVIDER: &str = "cutout.provider";
/// What the network computes in.
pub const PRECISION: &str = "cutout.precision";
/// The experiment that the job is a part of.
pub const EXPERIMENT: &str = "cutout.experiment";
/// Its arm.
pub const ARM: &str = "cutout.arm";
/// Photos in the run.
pub const BATCH_SIZE: &str = "cutout.batch_size";
/// What the picture shows.
pub const KIND: &str = "cutout.kind";
/// The effect.
pub const EFFECT: &str = "cutout.effect";
/// The request's id.
pub const REQUEST_ID: &str = "cutout.request_id";
/// Jobs that were published.
pub const JOBS: &str = "cutout.jobs";

/// A failure's code again, where everybody looks.
pub const ERROR_TYPE: &str = "error.type";
/// Which queue it is.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// What is done with the message, in the system's own word.
pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
/// The same in a word that all systems share.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The topic.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
/// The subscription.
pub const MESSAGING_SUBSCRIPTION: &str = "messaging.destination.subscription.name";
/// The queue's own id of the message.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
/// Bytes of the message's data.
pub const MESSAGING_BODY_SIZE: &str = "messaging.message.body.size";
/// The message's ordering key.
pub const MESSAGING_ORDERING_KEY: &str = "messaging.gcp_pubsub.message.ordering_key";
/// `GET`, `POST`.
pub const HTTP_METHOD: &str = "http.request.method";
/// The route's pattern.
pub const HTTP_ROUTE: &str = "http.route";
/// The answer's status.
pub const HTTP_STATUS: &str = "http.response.status_code";
/// The path that was asked for.
pub const URL_PATH: &str = "url.path";
/// `http`: TLS ends before the worker.
pub const URL_SCHEME: &str = "url.scheme";

/// A number that is never negative; OTLP has signed ones only.
pub fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

/// A word.
pub fn text(key: &'static str, value: impl Into<String>) -> KeyValue {
    KeyValue::new(key, value.into())
}
