//! A dead letter as an operator sees it: why it died, which job it was, and the original.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{ATTEMPT, ERROR_CLASS, ERROR_CODE, ERROR_MESSAGE, MESSAGE_ID, UNKNOWN_CODE};
use crate::error::Code;
use crate::ingress::{Message, OutgoingMessage, notification};
use crate::job::{Job, JobResult};

/// What the attributes that Pub/Sub's own dead-letter policy adds begin with
/// (<https://cloud.google.com/pubsub/docs/handling-failures#track-delivery-attempts>).
const FORWARDED: &str = "CloudPubSubDeadLetterSource";
const FORWARDED_COUNT: &str = "CloudPubSubDeadLetterSourceDeliveryCount";
const FORWARDED_SUBSCRIPTION: &str = "CloudPubSubDeadLetterSourceSubscription";

/// The attributes that [`super::attributes`] adds.
const OURS: [&str; 5] = [ERROR_CODE, ERROR_CLASS, ERROR_MESSAGE, MESSAGE_ID, ATTEMPT];

/// Who declared the message dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A worker, or the local queue, with a reason.
    Worker,
    /// Pub/Sub's own dead-letter policy, after too many deliveries.
    PubSub,
    /// Neither says so: somebody published it here by hand.
    Unknown,
}

impl Origin {
    /// Lower-case name, as listings show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::PubSub => "pubsub",
            Self::Unknown => "unknown",
        }
    }
}

/// A dead letter, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue's id of the letter, by which it is replayed or dropped.
    pub id: String,
    /// When it became one.
    pub time: Option<Timestamp>,
    /// Who said so.
    pub origin: Origin,
    /// Why: a [`Code`]'s string, that of a newer version, or [`UNKNOWN_CODE`].
    pub code: String,
    /// The code's class.
    pub class: String,
    /// The public message of the failure.
    pub message: String,
    /// Deliveries that it had.
    pub attempts: Option<u32>,
    /// The queue's id of the original message, where it is known.
    pub message_id: Option<String>,
    /// The id that results of this job carry, if the message says which job it is.
    pub job_id: Option<String>,
    /// The photo, if the message names one: also of a message that is no valid job otherwise.
    pub source: Option<String>,
    /// The message as it was first published: its data, its own attributes, its ordering key.
    pub original: OutgoingMessage,
}

impl DeadLetter {
    /// Reads a letter. Nothing in it is taken for granted: what cannot be read is `None`.
    pub fn read(letter: Message) -> Self {
        let text = |name: &str| letter.attributes.get(name).cloned();
        let number = |name: &str| text(name).and_then(|number| number.parse().ok());
        let ours = text(ERROR_CODE);
        let (origin, code, class, message, attempts) = match ours {
            Some(code) => (
                Origin::Worker,
                code,
                text(ERROR_CLASS).unwrap_or_default(),
                text(ERROR_MESSAGE).unwrap_or_default(),
                number(ATTEMPT),
            ),
            None if letter.attributes.keys().any(|k| k.starts_with(FORWARDED)) => {
                let attempts = number(FORWARDED_COUNT);
                (
                    Origin::PubSub,
                    Code::AttemptsExhausted.as_str().to_owned(),
                    Code::AttemptsExhausted.class().as_str().to_owned(),
                    gave_up(attempts, text(FORWARDED_SUBSCRIPTION)),
                    attempts,
                )
            }
            None => (
                Origin::Unknown,
                UNKNOWN_CODE.to_owned(),
                String::new(),
                "the message says nothing of why it is here".to_owned(),
                None,
            ),
        };
        let message_id = match origin {
            Origin::Worker => text(MESSAGE_ID),
            // Pub/Sub does not pass the original's id on.
            Origin::PubSub | Origin::Unknown => None,
        };
        let job = notification::job(&letter);
        let job_id = match &job {
            Some(job) => Some(job.id()),
            None => Job::claimed_id(&letter.data).or_else(|| {
                // What the failed result of such a message was published under.
                message_id.as_deref().map(JobResult::id_without_job)
            }),
        };
        let source = match &job {
            Some(job) => Some(job.source.to_string()),
            None => claimed_source(&letter.data),
        };
        Self {
            id: letter.id,
            time: letter.published,
            origin,
            code,
            class,
            message,
            attempts,
            message_id,
            job_id,
            source,
            original: OutgoingMessage {
                data: letter.data,
                attributes: original_attributes(letter.attributes),
                ordering_key: letter.ordering_key,
            },
        }
    }
}

fn gave_up(attempts: Option<u32>, subscription: Option<String>) -> String {
    let times = attempts.map_or_else(|| "too often".to_owned(), |n| format!("{n} times"));
    let from = subscription.map_or_else(String::new, |name| format!(" from {name}"));
    format!(
        "Pub/Sub delivered it {times}{from} without success; see the workers' logs for the failures"
    )
}

/// What is left when the reasons are taken off: what the publisher had given.
fn original_attributes(mut attributes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    attributes.retain(|name, _| !OURS.contains(&name.as_str()) && !name.starts_with(FORWARDED));
    attributes
}

/// The source of a message that is not a valid job, as written.
fn claimed_source(data: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(data).ok()?;
    Some(message.get("source")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::ingress::dead_letter;

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn a_letter_of_ours_gives_the_original_back_as_it_was_published() {
        let original = Message {
            id: "17".into(),
            data: r#"{"job_id":"order-5512","source":"gs://perkie/rex.jpg#9"}"#.into(),
            attributes: owned([("shop", "perkie"), ("cutout-tenant", "eu")]),
            ordering_key: "order-5512".into(),
            published: None,
            attempt: 3,
        };
        let error = Error::new(Code::ImageCorrupt, "the JPEG ends early");
        let letter = DeadLetter::read(Message {
            id: "99".into(),
            attributes: dead_letter::attributes(&original, &error),
            attempt: 1,
            ..original.clone()
        });
        assert_eq!(letter.id, "99");
        assert_eq!(letter.origin, Origin::Worker);
        assert_eq!(
            (&*letter.code, &*letter.class, &*letter.message),
            ("image_corrupt", "permanent", "the JPEG ends early")
        );
        assert_eq!(letter.attempts, Some(3));
        assert_eq!(letter.message_id.as_deref(), Some("17"));
        assert_eq!(letter.job_id.as_deref(), Some("order-5512"));
        assert_eq!(letter.source.as_deref(), Some("gs://perkie/rex.jpg#9"));
        assert_eq!(letter.original.data, original.data);
        assert_eq!(letter.original.attributes, original.attributes);
        assert_eq!(letter.original.ordering_key, "order-5512");
    }

    #[test]
    fn a_letter_that_pubsub_forwarded_counts_as_exhausted_and_loses_its_attributes() {
        let letter = DeadLetter::read(Message {
            data: r#"{"source":"gs://perkie/rex.jpg"}"#.into(),
            attributes: owned([
                ("shop", "perkie"),
                (FORWARDED_COUNT, "5"),
                (FORWARDED_SUBSCRIPTION, "cutout-jobs"),
                ("CloudPubSubDeadLetterSourceSubscriptionProject", "p"),
                (
                    "CloudPubSubDeadLetterSourceTopicPublishTime",
                    "2026-11-25T03:00:00Z",
                ),
            ]),
            ..Message::default()
        });
        assert_eq!(letter.origin, Origin::PubSub);
        assert_eq!(letter.code, "attempts_exhausted");
        assert_eq!(letter.attempts, Some(5));
        assert!(letter.message.contains("5 times from cutout-jobs"));
        assert_eq!(letter.original.attributes, owned([("shop", "perkie")]));
        assert!(letter.job_id.unwrap().starts_with("auto-"));
    }

    #[test]
    fn a_dead_upload_is_found_by_its_object_and_keeps_its_own_attributes() {
        let attributes = owned([
            ("eventType", "OBJECT_FINALIZE"),
            ("payloadFormat", "JSON_API_V1"),
            ("bucketId", "perkie"),
            ("objectId", "uploads/rex.jpg"),
            ("objectGeneration", "17"),
        ]);
        let upload = Message {
            data: "{}".into(),
            attributes: attributes.clone(),
            ..Message::default()
        };
        let error = Error::new(Code::UnsupportedFormat, "not an image");
        let letter = DeadLetter::read(Message {
            attributes: dead_letter::attributes(&upload, &error),
            ..upload
        });
        let source = "gs://perkie/uploads/rex.jpg#17";
        assert_eq!(letter.source.as_deref(), Some(source));
        let job = Job::new(source.parse().unwrap());
        assert_eq!(letter.job_id, Some(job.id()));
        assert_eq!(letter.original.attributes, attributes);
    }

    #[test]
    fn a_message_that_is_no_job_is_read_as_far_as_it_goes() {
        let letter = |data: &'static str| {
            DeadLetter::read(Message {
                data: data.into(),
                attributes: owned([(ERROR_CODE, "from_the_future"), (MESSAGE_ID, "17")]),
                ..Message::default()
            })
        };
        let claimed = letter(r#"{"job_id":"order-1","source":"rex.jpg","version":9}"#);
        assert_eq!(claimed.job_id.as_deref(), Some("order-1"));
        assert_eq!(claimed.source.as_deref(), Some("rex.jpg"));
        assert_eq!(claimed.code, "from_the_future");
        let noise = letter("this is not JSON");
        assert_eq!(noise.job_id.as_deref(), Some("message-17"));
        assert_eq!(noise.source, None);

        let bare = DeadLetter::read(Message::default());
        assert_eq!((bare.origin, &*bare.code), (Origin::Unknown, UNKNOWN_CODE));
        assert_eq!(bare.job_id, None);
    }
}
