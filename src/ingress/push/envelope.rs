//! The envelope that Pub/Sub wraps a message in for a push.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use crate::ingress::Message;

/// What one push carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The message, as a pull would have given it.
    pub message: Message,
    /// The full name of the subscription that it is pushed for.
    pub subscription: String,
}

/// Why a body is no envelope: a sentence for its sender, who has shown a valid token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnEnvelope(String);

/// <https://cloud.google.com/pubsub/docs/push#receive_push>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    message: Option<Wrapped>,
    subscription: Option<String>,
    /// There only where the subscription has a dead-letter policy.
    delivery_attempt: Option<u32>,
}

/// Pub/Sub writes the id and the time twice, in both spellings; serde's `alias` would call that a
/// duplicate field.
#[derive(Deserialize)]
struct Wrapped {
    data: Option<String>,
    attributes: Option<BTreeMap<String, String>>,
    #[serde(rename = "messageId")]
    id: Option<String>,
    #[serde(rename = "message_id")]
    snake_id: Option<String>,
    #[serde(rename = "publishTime")]
    published: Option<String>,
    #[serde(rename = "publish_time")]
    snake_published: Option<String>,
    #[serde(rename = "orderingKey")]
    ordering_key: Option<String>,
}

impl Pushed {
    /// Reads the body of a push, as the subscription's default, wrapped, format has it. What is
    /// in the message is not looked at.
    pub fn parse(body: &[u8]) -> Result<Self, NotAnEnvelope> {
        let wrong = |what: &str| {
            NotAnEnvelope(format!(
                "{what}: this endpoint takes what a Pub/Sub push subscription sends with its payload wrapped"
            ))
        };
        let envelope: Envelope = serde_json::from_slice(body)
            .map_err(|error| wrong(&format!("the body is no push envelope ({error})")))?;
        let message = envelope
            .message
            .ok_or_else(|| wrong("the field \"message\" is missing"))?;
        let subscription = envelope
            .subscription
            .filter(|name| !name.is_empty())
            .ok_or_else(|| wrong("the field \"subscription\" is missing"))?;
        let id = message.id.or(message.snake_id);
        let id = id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| wrong("the field \"message.messageId\" is missing"))?;
        let data = BASE64_STANDARD
            .decode(message.data.unwrap_or_default())
            .map_err(|error| wrong(&format!("\"message.data\" is not base64 ({error})")))?;
        Ok(Self {
            message: Message {
                id,
                data: Bytes::from(data),
                attributes: message.attributes.unwrap_or_default(),
                ordering_key: message.ordering_key.unwrap_or_default(),
                // It only says how long the message has waited, which is no reason to refuse it.
                published: message
                    .published
                    .or(message.snake_published)
                    .and_then(|time| time.parse().ok()),
                attempt: envelope.delivery_attempt.unwrap_or(1).max(1),
            },
            subscription,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(body: &Value) -> Result<Pushed, NotAnEnvelope> {
        Pushed::parse(body.to_string().as_bytes())
    }

    #[test]
    fn an_envelope_is_read_as_pubsub_writes_it_with_both_spellings() {
        let pushed = parse(&json!({
            "deliveryAttempt": 3,
            "subscription": "projects/perkie/subscriptions/cutout-push",
            "message": {
                "data": "e30=", "attributes": { "shop": "perkie" }, "orderingKey": "rex",
                "messageId": "17", "message_id": "17",
                "publishTime": "2026-11-25T03:04:05.678Z", "publish_time": "2026-11-25T03:04:05.678Z",
            },
        }))
        .unwrap();
        assert_eq!(
            pushed.subscription,
            "projects/perkie/subscriptions/cutout-push"
        );
        let expected = Message {
            id: "17".into(),
            data: "{}".into(),
            attributes: [("shop".to_owned(), "perkie".to_owned())].into(),
            ordering_key: "rex".into(),
            published: "2026-11-25T03:04:05.678Z".parse().ok(),
            attempt: 3,
        };
        assert_eq!(pushed.message, expected);
    }

    #[test]
    fn what_is_empty_may_be_left_out_or_null_and_either_spelling_is_enough() {
        for message in [
            json!({ "messageId": "17" }),
            json!({ "message_id": "17", "publish_time": "yesterday", "data": "" }),
            json!({ "messageId": "17", "data": null, "attributes": null, "orderingKey": null }),
        ] {
            let pushed = parse(&json!({ "message": message, "subscription": "s" })).unwrap();
            let expected = Message {
                id: "17".into(),
                attempt: 1,
                ..Message::default()
            };
            assert_eq!(pushed.message, expected, "{message}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused_with_the_field_that_is_wrong() {
        let message = json!({ "messageId": "17" });
        for (body, said) in [
            (json!({ "subscription": "s" }), "\"message\""),
            (json!({ "message": message }), "\"subscription\""),
            (
                json!({ "message": message, "subscription": "" }),
                "\"subscription\"",
            ),
            (json!({ "message": {}, "subscription": "s" }), "messageId"),
            (
                json!({ "message": { "messageId": "17", "data": "?" }, "subscription": "s" }),
                "base64",
            ),
            (
                json!({ "message": { "messageId": 17 }, "subscription": "s" }),
                "string",
            ),
            // A job without its wrapping.
            (json!({ "source": "gs://perkie/rex.jpg" }), "wrapped"),
            (json!([]), "wrapped"),
        ] {
            let error = parse(&body).unwrap_err().to_string();
            assert!(error.contains(said), "{body}: {error}");
        }
        assert!(Pushed::parse(b"").is_err());
        assert!(Pushed::parse(&[0xff; 16]).is_err());
    }
}
