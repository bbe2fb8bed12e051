//! How a job ended, as it is published (CONTRACT section 3).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Job, Quality, VERSION};
use crate::error::Error;
use crate::object::{Generation, ObjectName, ObjectRef};

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The outputs were written by this delivery.
    Done,
    /// A former delivery had already written the same outputs.
    Duplicate,
    /// The job can never succeed.
    Failed,
}

impl Status {
    /// The JSON word; also a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
        }
    }
}

/// The answer to a job, published before the ack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// Message format; 1.
    pub version: u32,
    /// The job's id, given or derived. For a message that could not be parsed: `message-` and
    /// the queue's id of it.
    pub job_id: String,
    /// How it ended.
    pub status: Status,
    /// The photo with its generation; absent when the message could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// What was written.
    #[serde(default)]
    pub outputs: Vec<OutputObject>,
    /// The network that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUsed>,
    /// The experiment that the job is a part of; absent for one that is part of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// Its arm: `control` for the worker's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// How sure the network was, and whether somebody should look at the picture; absent when nothing
    /// was cut out, and for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Where the time went.
    #[serde(default)]
    pub timings_ms: Timings,
    /// Which delivery this was, from 1.
    pub attempt: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// Copied from the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl JobResult {
    /// The `job_id` of the answer to a message that does not say which job it is.
    pub fn id_without_job(message_id: &str) -> String {
        format!("message-{message_id}")
    }

    /// The answer to a message that can never succeed. `job` is `None` when it is not a valid
    /// job; then its `job_id`, where it has one, still tells whose it is.
    pub fn failed(
        message_id: &str,
        data: &[u8],
        job: Option<&Job>,
        error: &Error,
        attempt: u32,
        timings_ms: Timings,
    ) -> Self {
        Self {
            version: VERSION,
            job_id: job
                .map(Job::id)
                .or_else(|| Job::claimed_id(data))
                .unwrap_or_else(|| Self::id_without_job(message_id)),
            status: Status::Failed,
            source: job.map(|job| job.source.clone()),
            outputs: Vec::new(),
            model: None,
            experiment: None,
            arm: None,
            quality: None,
            timings_ms,
            attempt,
            error: Some(ErrorBody::from(error)),
            metadata: job.map(|job| job.metadata.clone()).unwrap_or_default(),
        }
    }
}

/// One written object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputObject {
    /// The output's kind: `rgba`, `mask`, …
    pub kind: String,
    /// Where it is.
    pub uri: ObjectName,
    /// Its generation.
    pub generation: Generation,
    /// Its size in bytes.
    pub bytes: u64,
    /// Pixels; absent for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels; absent for a duplicate whose object does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// CRC-32C of the content, base64 of the big-endian bytes, as Cloud Storage writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<String>,
}

/// The network that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelUsed {
    /// The manifest's name.
    pub name: String,
    /// SHA-256 of the weights file, hex.
    pub sha256: String,
    /// Execution provider: `cpu`, `openvino`, `cuda`, `tensorrt`.
    pub provider: String,
    /// What the network computed in: `graph` (the types it is written in), `f32`, `bf16`.
    #[serde(default = "as_the_graph")]
    pub precision: String,
}

/// What results from before the field said.
fn as_the_graph() -> String {
    "graph".to_owned()
}

/// Milliseconds spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Timings {
    /// From publication to the worker.
    pub queued: u64,
    /// Reading the photo from the store.
    pub download: u64,
    /// Decoding and preparing the network's input.
    pub decode: u64,
    /// Waiting: for memory, for the engine, for a CPU slot.
    pub wait: u64,
    /// The network.
    pub infer: u64,
    /// Matte to full size, composition.
    pub compose: u64,
    /// Effects.
    pub effects: u64,
    /// Encoding.
    pub encode: u64,
    /// Writing to the store.
    pub upload: u64,
    /// From the worker's hands on the message to the durable output.
    pub total: u64,
}

/// A failure as it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable code.
    pub code: String,
    /// `permanent`, `retryable` or `fatal`.
    pub class: String,
    /// What happened, to which object, what to do.
    pub message: String,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().as_str().into(),
            class: error.class().as_str().into(),
            message: error.message().into(),
        }
    }
}
