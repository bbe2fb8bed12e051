//! Pulling by single requests, for who looks at a subscription rather than works on it.
//!
//! The official client only streams. A stream that has ended is delivered to by Google's emulator
//! for as long as that lives, so a command that is run twice would find nothing the second time;
//! see `docs/decisions/0008-single-pulls-for-dead-letters.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use google_cloud_gax::error::rpc::{self, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ADMIN_TIMEOUT, failure};
use crate::error::{Code, Error, Result};
use crate::ingress::Message;

const ENDPOINT: &str = "https://pubsub.googleapis.com";

/// Messages per pull; Pub/Sub's own maximum.
const PAGE: u32 = 1000;

/// Ack ids per request: they have some 200 bytes each, a request may have 512 KiB
/// (<https://cloud.google.com/pubsub/quotas#resource_limits>).
const IDS: usize = 1000;

/// Requests about ack ids at once.
const REQUESTS: usize = 8;

/// One attempt: a full page of large messages takes seconds on a slow line.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// A subscription, through Pub/Sub's REST API.
#[derive(Clone, Debug)]
pub(super) struct PullApi {
    http: reqwest::Client,
    /// `ENDPOINT/v1/projects/P/subscriptions/S`.
    url: String,
    subscription: String,
    credentials: Credentials,
}

/// A message with the right to answer it.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) ack_id: String,
    pub(super) message: Message,
}

impl PullApi {
    /// Prepares a client; `endpoint` is an emulator's.
    pub(super) fn new(
        endpoint: Option<&str>,
        subscription: &str,
        credentials: Credentials,
    ) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(ATTEMPT_TIMEOUT)
            .connect_timeout(ADMIN_TIMEOUT)
            .build()
            .map_err(|e| {
                Error::new(Code::Internal, "the HTTP client cannot be set up").caused_by(e)
            })?;
        let endpoint = endpoint.unwrap_or(ENDPOINT).trim_end_matches('/');
        Ok(Self {
            http,
            url: format!("{endpoint}/v1/{subscription}"),
            subscription: subscription.to_owned(),
            credentials,
        })
    }

    /// What is there at this moment, or a part of it; perhaps nothing although there is more.
    pub(super) async fn pull(&self) -> Result<Vec<Pulled>> {
        // Pub/Sub prefers requests that wait, but what arrives for one that was given up
        // meanwhile would be away for a lease.
        let question = json!({ "maxMessages": PAGE, "returnImmediately": true });
        let answer = self.ask("pull from", "pull", &question).await?;
        pulled(answer).map_err(|e| self.garbled(e))
    }

    /// Lets the leases of messages end this much later; at once when that is zero.
    pub(super) async fn extend(&self, ack_ids: &[String], lease: Duration) -> Result<()> {
        let seconds = lease.as_secs();
        self.each(
            "change the leases of messages of",
            "modifyAckDeadline",
            ack_ids,
            |ids| json!({ "ackIds": ids, "ackDeadlineSeconds": seconds }),
        )
        .await
    }

    /// Acknowledges messages; on return Pub/Sub has taken that.
    pub(super) async fn acknowledge(&self, ack_ids: &[String]) -> Result<()> {
        self.each(
            "acknowledge messages of",
            "acknowledge",
            ack_ids,
            |ids| json!({ "ackIds": ids }),
        )
        .await
    }

    async fn each(
        &self,
        doing: &str,
        method: &str,
        ack_ids: &[String],
        question: impl Fn(&[String]) -> Value,
    ) -> Result<()> {
        let questions: Vec<Value> = ack_ids.chunks(IDS).map(question).collect();
        let mut asked = Vec::with_capacity(questions.len());
        for question in &questions {
            asked.push(self.ask(doing, method, question));
        }
        futures::stream::iter(asked)
            .buffer_unordered(REQUESTS)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
    }

    /// Asks until it is answered, or the patience is used up.
    async fn ask(&self, doing: &str, method: &str, question: &Value) -> Result<Value> {
        let backoff = ExponentialBuilder::new()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_total_delay(Some(ADMIN_TIMEOUT));
        (|| self.attempt(doing, method, question))
            .retry(backoff)
            .when(|error: &Error| error.code() == Code::QueueUnavailable)
            .notify(|error: &Error, delay| {
                tracing::debug!(error = %error.chain(), ?delay, "asking Pub/Sub again");
            })
            .await
    }

    async fn attempt(&self, doing: &str, method: &str, question: &Value) -> Result<Value> {
        let failed = |error| failure::explain(doing, &self.subscription, Arc::new(error));
        let unanswered = |e: reqwest::Error| failed(google_cloud_gax::error::Error::io(e));
        let headers = match self.credentials.headers(Default::default()).await {
            Ok(CacheableResource::New { data, .. }) => data,
            // Answered only to those who say what they hold already, which we do not.
            Ok(CacheableResource::NotModified) => Default::default(),
            Err(e) => return Err(failed(google_cloud_gax::error::Error::authentication(e))),
        };
        let url = format!("{}:{method}", self.url);
        let request = self.http.post(url).headers(headers).json(question);
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            return response.json().await.map_err(unanswered);
        }
        let detail = response.text().await.unwrap_or_default();
        let answer = Status::default()
            .set_code(code_of_status(status))
            .set_message(format!("{status}: {detail}"));
        Err(failed(google_cloud_gax::error::Error::service(answer)))
    }

    fn garbled(&self, cause: Unreadable) -> Error {
        Error::new(
            Code::QueueUnavailable,
            format!("what came from {} cannot be read", self.subscription),
        )
        .caused_by(cause)
    }
}

/// <https://cloud.google.com/pubsub/docs/reference/error-codes>
fn code_of_status(status: u16) -> rpc::Code {
    match status {
        400 => rpc::Code::FailedPrecondition,
        401 => rpc::Code::Unauthenticated,
        403 => rpc::Code::PermissionDenied,
        404 => rpc::Code::NotFound,
        429 => rpc::Code::ResourceExhausted,
        _ => rpc::Code::Unavailable,
    }
}

/// Why an answer cannot be read.
type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// The messages in the answer to a pull.
pub(super) fn pulled(answer: Value) -> Result<Vec<Pulled>, Unreadable> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Answer {
        received_messages: Vec<Received>,
    }
    let answer: Answer = serde_json::from_value(answer)?;
    let messages = answer.received_messages.into_iter();
    messages
        .map(|received| Ok(received.into_pulled()?))
        .collect()
}

/// <https://cloud.google.com/pubsub/docs/reference/rest/v1/ReceivedMessage>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    ack_id: String,
    message: PubsubMessage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PubsubMessage {
    message_id: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    ordering_key: String,
    #[serde(default)]
    publish_time: Option<jiff::Timestamp>,
}

impl Received {
    fn into_pulled(self) -> Result<Pulled, base64::DecodeError> {
        let message = self.message;
        Ok(Pulled {
            ack_id: self.ack_id,
            message: Message {
                data: Bytes::from(BASE64_STANDARD.decode(message.data)?),
                id: message.message_id,
                attributes: message.attributes,
                ordering_key: message.ordering_key,
                published: message.publish_time,
                attempt: 1,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_the_rest_api_writes_it() {
        let received: Received = serde_json::from_value(json!({
            "ackId": "a", "deliveryAttempt": 2,
            "message": {
                "data": "e30=", "messageId": "17", "attributes": { "shop": "perkie" },
                "publishTime": "2026-11-25T03:04:05.678Z", "orderingKey": "rex",
            },
        }))
        .unwrap();
        let pulled = received.into_pulled().unwrap();
        assert_eq!(pulled.ack_id, "a");
        let expected = Message {
            id: "17".into(),
            data: "{}".into(),
            attributes: [("shop".to_owned(), "perkie".to_owned())].into(),
            ordering_key: "rex".into(),
            published: "2026-11-25T03:04:05.678Z".parse().ok(),
            attempt: 1,
        };
        assert_eq!(pulled.message, expected);
        // What is empty is left out.
        let bare = json!({ "ackId": "a", "message": { "messageId": "17" } });
        let bare: Received = serde_json::from_value(bare).unwrap();
        assert!(bare.into_pulled().unwrap().message.data.is_empty());
    }
}
