//! What arrives around a job: storage notifications, dead letters, the answer to a pull, pushes.
//!
//! An input is a message as text, so that corpora can be read and dictionaries bite: lines
//! `attribute: value`, an empty line, the data.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cutout::error::{Code, Error};
use cutout::ingress::dead_letter::{self, DeadLetter, Filter, Origin};
use cutout::ingress::notification::{
    Admission, NotificationPolicy, SkipReason, admit, attribute, is_notification, job,
};
use cutout::ingress::push::Pushed;
use cutout::ingress::{Message, pubsub};

use super::names::{RULES, kept_by_rules};
use super::texts::unchanged_by_writing;

fn message(input: &[u8]) -> Message {
    let head = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, data) = match head {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &[][..]),
    };
    let attributes = String::from_utf8_lossy(head)
        .lines()
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Message {
        id: "17".into(),
        data: data.to_vec().into(),
        attributes,
        attempt: 1,
        ..Message::default()
    }
}

/// `notification::admit`: refuses with `invalid_job`, skips, or gives a job that can be written
/// down, and whose output does not come back as a job.
pub fn notification(input: &[u8]) {
    let message = message(input);
    let named = job(&message);
    if let Some(job) = &named {
        unchanged_by_writing(job);
    }
    for rules in &*RULES {
        for prefixes in [vec![], vec!["inbox/".to_owned(), "2026/".to_owned()]] {
            let policy = NotificationPolicy {
                prefixes,
                destination: rules.template.clone(),
            };
            let admitted = match admit(&message, &policy) {
                Err(error) => {
                    assert_eq!(error.code(), Code::InvalidJob, "{error}");
                    continue;
                }
                Ok(Admission::Skip(_)) => continue,
                Ok(Admission::Job(job)) => *job,
            };
            assert_eq!(named.as_ref(), Some(&admitted));
            kept_by_rules(&admitted);
            if !is_notification(&message) {
                continue;
            }
            let Ok(work) = rules.admit(admitted) else {
                continue;
            };
            let upload = upload_of(work.destination.bucket(), work.destination.key());
            let again = admit(&upload, &policy).expect("a notification is read");
            assert_eq!(
                again,
                Admission::Skip(SkipReason::OwnOutput),
                "{} would be cut out again",
                work.destination
            );
        }
    }
}

/// What Cloud Storage tells of a new object when it is configured to tell the least.
fn upload_of(bucket: Option<&str>, key: &str) -> Message {
    let attributes = [
        (attribute::EVENT_TYPE, "OBJECT_FINALIZE"),
        (attribute::PAYLOAD_FORMAT, "NONE"),
        (attribute::BUCKET_ID, bucket.unwrap_or_default()),
        (attribute::OBJECT_ID, key),
        (attribute::OBJECT_GENERATION, "1"),
    ];
    Message {
        attributes: owned(attributes),
        ..Message::default()
    }
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

/// `DeadLetter::read` reads any letter and passes its data on as it is; a message that is made
/// one keeps to Pub/Sub's limits, says why, and gives back what it was made of.
pub fn letter(input: &[u8]) {
    let message = message(input);
    can_be_read(&message);

    let error = Error::new(Code::ImageCorrupt, String::from_utf8_lossy(input));
    let attributes = dead_letter::attributes(&message, &error);
    assert!(attributes.len() <= 100);
    for (name, value) in &attributes {
        assert!(name.len() <= 256 && value.len() <= 1024, "{name:?}");
    }
    let fits = message.attributes.len() <= 95
        && message.attributes.iter().all(|(name, value)| {
            let others = !name.starts_with("cutout-") && !name.starts_with("CloudPubSub");
            others && name.len() <= 256 && value.len() <= 1024
        });
    let read = can_be_read(&Message {
        id: "99".into(),
        attributes,
        ..message.clone()
    });
    assert_eq!(read.origin, Origin::Worker);
    assert_eq!(read.code, error.code().as_str());
    assert_eq!(read.class, error.class().as_str());
    assert_eq!(read.message_id.as_deref(), Some("17"));
    assert!(error.message().starts_with(&read.message));
    assert!(!fits || read.original.attributes == message.attributes);
}

fn can_be_read(letter: &Message) -> DeadLetter {
    let read = DeadLetter::read(letter.clone());
    assert_eq!(read.id, letter.id);
    assert_eq!(read.original.data, letter.data);
    for (name, value) in &read.original.attributes {
        assert_eq!(letter.attributes.get(name), Some(value));
    }
    let filter = Filter {
        codes: [read.code.clone()].into(),
        ..Filter::default()
    };
    assert!(filter.matches(&read, jiff::Timestamp::UNIX_EPOCH));
    read
}

/// `pubsub::pulled_messages`: refuses, or gives messages whose data is what the JSON encodes.
pub fn envelope(input: &[u8]) {
    let Ok(answer) = serde_json::from_slice(input) else {
        return;
    };
    let Ok(messages) = pubsub::pulled_messages(answer) else {
        return;
    };
    for message in messages {
        assert!(message.data.len() <= input.len());
        can_be_read(&message);
    }
}

/// `Pushed::parse`: refuses in a sentence, or gives a message that a worker can answer, no larger
/// than the body, and that is the same when it is written as Pub/Sub writes it.
pub fn push_envelope(input: &[u8]) {
    let pushed = match Pushed::parse(input) {
        Ok(pushed) => pushed,
        Err(error) => {
            assert!(error.to_string().contains("push subscription"), "{error}");
            return;
        }
    };
    let message = &pushed.message;
    assert!(message.data.len() <= input.len());
    assert!(!message.id.is_empty() && !pushed.subscription.is_empty());
    assert!(message.attempt >= 1);
    can_be_read(message);
    let written = serde_json::json!({
        "message": {
            "data": BASE64_STANDARD.encode(&message.data), "attributes": message.attributes,
            "orderingKey": message.ordering_key, "messageId": message.id, "message_id": message.id,
            "publishTime": message.published, "publish_time": message.published,
        },
        "subscription": pushed.subscription, "deliveryAttempt": message.attempt,
    });
    let again = Pushed::parse(written.to_string().as_bytes());
    assert_eq!(again.as_ref(), Ok(&pushed), "{written}");
}
