//! What a message asks for: a job, a job made from a storage notification, or nothing.
//! Pure functions of the message; CONTRACT section "Storage notification".

use serde::Deserialize;

use crate::destination::Template;
use crate::error::{Code, Error, Result};
use crate::ingress::Message;
use crate::job::{Job, MARKER};
use crate::object::{Generation, ObjectName, ObjectRef};

/// The attributes of a storage notification
/// (<https://cloud.google.com/storage/docs/pubsub-notifications#attributes>).
pub mod attribute {
    /// What happened to the object.
    pub const EVENT_TYPE: &str = "eventType";
    /// How the data describes the object.
    pub const PAYLOAD_FORMAT: &str = "payloadFormat";
    /// The bucket; absent or empty in a directory store.
    pub const BUCKET_ID: &str = "bucketId";
    /// The object's name in its bucket.
    pub const OBJECT_ID: &str = "objectId";
    /// The object's generation.
    pub const OBJECT_GENERATION: &str = "objectGeneration";
}

/// The event of an upload: the object's content is complete.
pub const OBJECT_FINALIZE: &str = "OBJECT_FINALIZE";
/// The data is the object resource as JSON.
pub const PAYLOAD_JSON: &str = "JSON_API_V1";
/// There is no data.
const PAYLOAD_NONE: &str = "NONE";

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// Work to do.
    Job(Box<Job>),
    /// Nothing to do: ack it and count it.
    Skip(SkipReason),
}

/// Why a notification asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Deleted, archived, metadata changed: not an upload.
    OtherEvent,
    /// The worker wrote the object itself.
    OwnOutput,
    /// A placeholder that consoles and tools create for an empty folder.
    Folder,
    /// Outside the configured prefixes.
    OutsidePrefix,
    /// Nothing in it.
    Empty,
    /// Neither the content type nor the name says that it is an image.
    NotAnImage,
}

impl SkipReason {
    /// Every reason, for exhaustive tests and documentation.
    pub const ALL: &'static [Self] = &[
        Self::OtherEvent,
        Self::OwnOutput,
        Self::Folder,
        Self::OutsidePrefix,
        Self::Empty,
        Self::NotAnImage,
    ];

    /// The stable string: a metric label value and a word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherEvent => "other_event",
            Self::OwnOutput => "own_output",
            Self::Folder => "folder",
            Self::OutsidePrefix => "outside_prefix",
            Self::Empty => "empty",
            Self::NotAnImage => "not_an_image",
        }
    }
}

/// Which notifications become jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationPolicy {
    /// Only objects whose key starts with one of these; empty for all.
    pub prefixes: Vec<String>,
    /// Where outputs go, which is how they are recognised when they come back. Metadata alone
    /// would not do: `payloadFormat=NONE` carries none.
    pub destination: Template,
}

/// Whether the message is a storage notification rather than a job.
pub fn is_notification(message: &Message) -> bool {
    let has = |name| message.attributes.contains_key(name);
    has(attribute::EVENT_TYPE) && has(attribute::PAYLOAD_FORMAT)
}

/// Reads a message as a job or as a storage notification. `invalid_job` when it is neither.
pub fn admit(message: &Message, policy: &NotificationPolicy) -> Result<Admission> {
    if is_notification(message) {
        admit_notification(message, policy)
    } else {
        Job::parse(&message.data).map(|job| Admission::Job(Box::new(job)))
    }
}

/// The part of the object resource
/// (<https://cloud.google.com/storage/docs/json_api/v1/objects#resource>) that decides.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Resource {
    #[serde(deserialize_with = "number_or_text")]
    size: Option<u64>,
    content_type: Option<String>,
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// JSON cannot carry 64-bit integers safely, so Cloud Storage writes them as text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Option::deserialize(d)? {
        None => Ok(None),
        Some(Either::Number(number)) => Ok(Some(number)),
        Some(Either::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

fn admit_notification(message: &Message, policy: &NotificationPolicy) -> Result<Admission> {
    let skip = |reason| Ok(Admission::Skip(reason));
    if attribute(message, attribute::EVENT_TYPE)? != OBJECT_FINALIZE {
        return skip(SkipReason::OtherEvent);
    }
    let key = attribute(message, attribute::OBJECT_ID)?;
    let resource = resource(message)?;
    let marked = resource
        .metadata
        .is_some_and(|metadata| metadata.contains_key(MARKER));
    if marked || policy.destination.may_have_produced(key) {
        return skip(SkipReason::OwnOutput);
    }
    if key.ends_with('/') {
        return skip(SkipReason::Folder);
    }
    let prefixes = &policy.prefixes;
    if !prefixes.is_empty() && !prefixes.iter().any(|prefix| key.starts_with(prefix)) {
        return skip(SkipReason::OutsidePrefix);
    }
    if resource.size == Some(0) {
        return skip(SkipReason::Empty);
    }
    if !is_image(resource.content_type.as_deref(), key) {
        return skip(SkipReason::NotAnImage);
    }

    Ok(Admission::Job(Box::new(Job::new(object(message)?))))
}

/// The job in a message, be it one or a notification, whatever a policy would say about it;
/// `None` when there is none. For what only needs to know which job a message was about.
pub fn job(message: &Message) -> Option<Job> {
    match is_notification(message) {
        true => object(message).map(Job::new).ok(),
        false => Job::parse(&message.data).ok(),
    }
}

/// The object that a notification is about.
fn object(message: &Message) -> Result<ObjectRef> {
    let key = attribute(message, attribute::OBJECT_ID)?;
    let bucket = message.attributes.get(attribute::BUCKET_ID);
    let name = match bucket.filter(|bucket| !bucket.is_empty()) {
        Some(bucket) => ObjectName::in_bucket(bucket, key)?,
        None => ObjectName::local(key)?,
    };
    let generation = attribute(message, attribute::OBJECT_GENERATION)?;
    let generation = generation
        .parse()
        .ok()
        .filter(|&generation| generation >= 0)
        .ok_or_else(|| {
            malformed(format!(
                "the attribute objectGeneration of {name} is {generation:?}, not a whole number"
            ))
        })?;
    Ok(ObjectRef {
        name,
        generation: Some(Generation(generation)),
    })
}

fn attribute<'m>(message: &'m Message, name: &str) -> Result<&'m str> {
    match message.attributes.get(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(malformed(format!("the attribute {name} is missing"))),
    }
}

fn resource(message: &Message) -> Result<Resource> {
    match attribute(message, attribute::PAYLOAD_FORMAT)? {
        PAYLOAD_NONE => Ok(Resource::default()),
        PAYLOAD_JSON => serde_json::from_slice(&message.data)
            .map_err(|e| malformed(format!("its data is not an object resource: {e}"))),
        other => Err(malformed(format!(
            "payloadFormat {other:?} is not known; configure {PAYLOAD_JSON} or {PAYLOAD_NONE}"
        ))),
    }
}

fn malformed(why: String) -> Error {
    Error::new(
        Code::InvalidJob,
        format!("the message has the attributes of a storage notification, but {why}"),
    )
}

/// The extensions that count as images where nothing else tells, with their content types.
/// Formats that this build may not read are among them: an unreadable photo deserves an
/// answer (`unsupported_format`), not silence.
const IMAGE_TYPES: &[(&str, &str)] = &[
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpe", "image/jpeg"),
    ("jfif", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("avif", "image/avif"),
];

/// The image type that a name's extension stands for, if any.
pub fn image_type_of(name: &str) -> Option<&'static str> {
    let extension = name.rsplit('/').next()?.rsplit_once('.')?.1;
    IMAGE_TYPES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(extension))
        .map(|(_, content_type)| *content_type)
}

fn is_image(content_type: Option<&str>, key: &str) -> bool {
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    match content_type.as_str() {
        // What uploaders send that do not know, or do not care.
        "" | "application/octet-stream" | "binary/octet-stream" => image_type_of(key).is_some(),
        known => known.starts_with("image/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::tests::{any_source, any_template};
    use proptest::prelude::*;
    use serde_json::json;

    fn policy() -> NotificationPolicy {
        NotificationPolicy {
            prefixes: Vec::new(),
            destination: "{dir}/{stem}.cutout.{ext}".parse().unwrap(),
        }
    }

    /// A notification as Cloud Storage sends it for an uploaded photo.
    fn upload(key: &str) -> Message {
        Message {
            id: "1".into(),
            data: json!({
                "kind": "storage#object", "name": key, "bucket": "perkie-uploads",
                "generation": "1732412345678901", "contentType": "image/jpeg", "size": "81234",
                "metadata": { "order": "5512" },
            })
            .to_string()
            .into(),
            attributes: [
                (
                    "notificationConfig",
                    "projects/_/buckets/perkie-uploads/notificationConfigs/3",
                ),
                ("eventType", "OBJECT_FINALIZE"),
                ("payloadFormat", "JSON_API_V1"),
                ("bucketId", "perkie-uploads"),
                ("objectId", key),
                ("objectGeneration", "1732412345678901"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            ..Message::default()
        }
    }

    fn with_resource(key: &str, change: serde_json::Value) -> Message {
        let mut message = upload(key);
        let mut resource: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
        for (field, value) in change.as_object().unwrap() {
            resource[field] = value.clone();
        }
        message.data = resource.to_string().into();
        message
    }

    fn reason(message: &Message, policy: &NotificationPolicy) -> Option<SkipReason> {
        match admit(message, policy).unwrap() {
            Admission::Job(_) => None,
            Admission::Skip(reason) => Some(reason),
        }
    }

    #[test]
    fn an_upload_becomes_a_job_with_default_options_pinned_to_its_generation() {
        let Admission::Job(job) = admit(&upload("2026/11/rex.jpg"), &policy()).unwrap() else {
            panic!("skipped");
        };
        let source = "gs://perkie-uploads/2026/11/rex.jpg#1732412345678901";
        assert_eq!(*job, Job::new(source.parse().unwrap()));
    }

    #[test]
    fn an_upload_without_a_bucket_names_a_path_in_the_directory_store() {
        for bucket in [Some(""), None] {
            let mut message = upload("inbox/rex.jpg");
            message.attributes.remove("bucketId");
            if let Some(bucket) = bucket {
                message.attributes.insert("bucketId".into(), bucket.into());
            }
            let Admission::Job(job) = admit(&message, &policy()).unwrap() else {
                panic!("skipped");
            };
            assert_eq!(job.source.to_string(), "inbox/rex.jpg#1732412345678901");
        }
    }

    #[test]
    fn a_message_without_the_attributes_is_a_job_and_an_unreadable_one_is_invalid() {
        let mut message = Message {
            data: r#"{"source":"gs://perkie-uploads/rex.jpg"}"#.into(),
            ..Message::default()
        };
        // A publisher's own attribute of that name does not make it a notification.
        message
            .attributes
            .insert("eventType".into(), "order".into());
        assert!(matches!(admit(&message, &policy()), Ok(Admission::Job(_))));
        message.data = "hello".into();
        assert_eq!(
            admit(&message, &policy()).unwrap_err().code(),
            Code::InvalidJob
        );
    }

    #[test]
    fn everything_that_is_not_an_upload_of_an_image_is_skipped_with_its_reason() {
        for event in [
            "OBJECT_DELETE",
            "OBJECT_ARCHIVE",
            "OBJECT_METADATA_UPDATE",
            "SOMETHING_NEW",
        ] {
            let mut message = upload("rex.jpg");
            message.attributes.insert("eventType".into(), event.into());
            assert_eq!(
                reason(&message, &policy()),
                Some(SkipReason::OtherEvent),
                "{event}"
            );
        }
        let of = |change| with_resource("rex.jpg", change);
        for (message, expected) in [
            (
                of(json!({ "contentType": "text/plain" })),
                SkipReason::NotAnImage,
            ),
            (
                of(json!({ "contentType": "application/pdf" })),
                SkipReason::NotAnImage,
            ),
            (of(json!({ "size": "0" })), SkipReason::Empty),
            (of(json!({ "size": 0 })), SkipReason::Empty),
            (
                of(json!({ "metadata": { "cutout-job": "k" } })),
                SkipReason::OwnOutput,
            ),
            (upload("2026/11/"), SkipReason::Folder),
            (upload("2026/rex.cutout.png"), SkipReason::OwnOutput),
        ] {
            assert_eq!(reason(&message, &policy()), Some(expected));
        }
    }

    #[test]
    fn an_unknown_content_type_is_decided_by_the_extension() {
        for unknown in [json!(null), json!(""), json!("application/octet-stream")] {
            let typed = |key| with_resource(key, json!({ "contentType": unknown }));
            for key in ["rex.JPG", "a.b/rex.heic", "rex.tiff"] {
                assert_eq!(reason(&typed(key), &policy()), None, "{key}");
            }
            for key in ["rex.txt", "rex", "photo.png/rex", ".jpg/x"] {
                assert_eq!(
                    reason(&typed(key), &policy()),
                    Some(SkipReason::NotAnImage),
                    "{key}"
                );
            }
        }
        let upper = with_resource("rex", json!({ "contentType": "Image/JPEG" }));
        assert_eq!(reason(&upper, &policy()), None);
    }

    #[test]
    fn only_the_configured_prefixes_are_listened_to() {
        let policy = NotificationPolicy {
            prefixes: vec!["2026/".into(), "inbox/".into()],
            ..policy()
        };
        assert_eq!(reason(&upload("2026/rex.jpg"), &policy), None);
        assert_eq!(reason(&upload("inbox/rex.jpg"), &policy), None);
        assert_eq!(
            reason(&upload("20261/rex.jpg"), &policy),
            Some(SkipReason::OutsidePrefix)
        );
    }

    #[test]
    fn attributes_alone_are_enough_when_no_payload_was_asked_for() {
        let mut message = upload("rex.jpg");
        message
            .attributes
            .insert("payloadFormat".into(), "NONE".into());
        message.data = Default::default();
        assert_eq!(reason(&message, &policy()), None);
        message
            .attributes
            .insert("objectId".into(), "notes.txt".into());
        assert_eq!(reason(&message, &policy()), Some(SkipReason::NotAnImage));
    }

    #[test]
    fn a_malformed_notification_is_an_invalid_job_that_says_what_is_wrong() {
        let without = |name: &str| {
            let mut message = upload("rex.jpg");
            message.attributes.remove(name);
            message
        };
        let with = |name: &str, value: &str| {
            let mut message = upload("rex.jpg");
            message.attributes.insert(name.into(), value.into());
            message
        };
        let mut garbage = upload("rex.jpg");
        garbage.data = "{".into();
        for (message, said) in [
            (without("objectId"), "objectId"),
            (without("objectGeneration"), "objectGeneration"),
            (with("objectGeneration", "latest"), "objectGeneration"),
            // It would be read back as part of the name.
            (with("objectGeneration", "-17"), "objectGeneration"),
            (with("payloadFormat", "XML"), "XML"),
            (with("bucketId", "No Bucket"), "bucket"),
            (with("objectId", "a\nb.jpg"), "control"),
            (
                with_resource("rex.jpg", json!({ "size": "many" })),
                "object resource",
            ),
            (garbage, "object resource"),
        ] {
            let error = admit(&message, &policy()).expect_err(said);
            assert_eq!(error.code(), Code::InvalidJob, "{said}");
            assert!(error.message().contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn reasons_are_distinct_label_values() {
        let names: std::collections::HashSet<_> = SkipReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(names.len(), SkipReason::ALL.len());
    }

    proptest! {
        #[test]
        fn no_output_ever_comes_back_as_a_job(
            destination in any_template(), source in any_source(),
            ext in "png|webp", payload in "JSON_API_V1|NONE",
        ) {
            let key = destination.render(&source, &ext);
            let mut message = upload(&key);
            message.attributes.insert("payloadFormat".into(), payload);
            let policy = NotificationPolicy { prefixes: Vec::new(), destination };
            prop_assert_eq!(reason(&message, &policy), Some(SkipReason::OwnOutput), "{}", key);
        }

        #[test]
        fn admitting_any_attributes_and_any_data_never_panics(
            event in "OBJECT_FINALIZE|\\PC{0,8}", payload in "JSON_API_V1|NONE|\\PC{0,8}",
            key in "\\PC{0,20}", data in "\\PC{0,40}",
        ) {
            let mut message = upload(&key);
            message.attributes.insert("eventType".into(), event);
            message.attributes.insert("payloadFormat".into(), payload);
            message.data = data.into();
            let _ = admit(&message, &policy());
        }
    }
}
