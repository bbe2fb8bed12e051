//! Dead letters: what they say about their death (here, within Pub/Sub's limits on attributes),
//! how that is read (`letter`), which of them an operator means (`filter`), and the traits of the
//! places where they lie (`morgue`).

use std::collections::BTreeMap;

use crate::error::Error;
use crate::ingress::Message;

mod filter;
mod letter;
mod morgue;

pub use filter::{Filter, UNKNOWN_CODE, known_codes};
pub use letter::{DeadLetter, Origin};
pub use morgue::{Morgue, Outcome};

/// The stable error code.
pub const ERROR_CODE: &str = "cutout-error-code";
/// `permanent`, `retryable` or `fatal`.
pub const ERROR_CLASS: &str = "cutout-error-class";
/// The public message.
pub const ERROR_MESSAGE: &str = "cutout-error-message";
/// The queue's id of the original message.
pub const MESSAGE_ID: &str = "cutout-message-id";
/// Which delivery was the last.
pub const ATTEMPT: &str = "cutout-attempt";

/// Pub/Sub refuses longer values, more attributes and longer keys
/// (<https://cloud.google.com/pubsub/quotas#resource_limits>).
const MAX_VALUE_BYTES: usize = 1024;
const MAX_ATTRIBUTES: usize = 100;
const MAX_KEY_BYTES: usize = 256;

/// The original attributes together with the reason. Of an original that is already at the
/// limit the last attributes give way: a dead letter that cannot be published would be lost.
pub fn attributes(message: &Message, error: &Error) -> BTreeMap<String, String> {
    let reason = [
        (ERROR_CODE, error.code().as_str().to_owned()),
        (ERROR_CLASS, error.class().as_str().to_owned()),
        (ERROR_MESSAGE, error.message().to_owned()),
        (MESSAGE_ID, message.id.clone()),
        (ATTEMPT, message.attempt.to_string()),
    ];
    let room = MAX_ATTRIBUTES - reason.len();
    let mut attributes: BTreeMap<String, String> = message
        .attributes
        .iter()
        .filter(|(key, value)| {
            let ours = reason.iter().any(|(name, _)| name == key);
            let fits = key.len() <= MAX_KEY_BYTES && value.len() <= MAX_VALUE_BYTES;
            !ours && fits
        })
        .take(room)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (name, mut value) in reason {
        value.truncate(value.floor_char_boundary(MAX_VALUE_BYTES));
        attributes.insert(name.to_owned(), value);
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn the_reason_joins_the_original_attributes_and_replaces_an_older_one() {
        let message = Message {
            id: "17".into(),
            attempt: 3,
            attributes: [("order", "5512"), (ERROR_CODE, "image_corrupt")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..Message::default()
        };
        let all = attributes(&message, &Error::new(Code::SourceNotFound, "gone"));
        let expected = [
            ("order", "5512"),
            (ERROR_CODE, "source_not_found"),
            (ERROR_CLASS, "permanent"),
            (ERROR_MESSAGE, "gone"),
            (MESSAGE_ID, "17"),
            (ATTEMPT, "3"),
        ];
        assert_eq!(
            all,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
    }

    #[test]
    fn a_dead_letter_stays_within_the_queues_limits() {
        let message = Message {
            attributes: (0..100)
                .map(|n| (format!("key-{n:03}"), "v".into()))
                .chain([("k".repeat(300), "v".into())])
                .collect(),
            ..Message::default()
        };
        // Three bytes a character, so that the limit falls inside of one.
        let error = Error::new(Code::InvalidJob, "€".repeat(1000));
        let all = attributes(&message, &error);
        assert_eq!(all.len(), MAX_ATTRIBUTES);
        assert_eq!(all[ERROR_MESSAGE].len(), 1023);
        assert!(all.iter().all(|(k, v)| k.len() <= 256 && v.len() <= 1024));
    }
}
