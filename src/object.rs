//! Names of stored objects: `gs://bucket/key` in Cloud Storage, a relative path in a directory store.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// Longest key that Cloud Storage accepts, in bytes of UTF-8
/// (<https://cloud.google.com/storage/docs/objects#naming>).
const MAX_KEY_BYTES: usize = 1024;

/// The directory store keeps its own state under this name; no job may reach into it.
pub const RESERVED_DIR: &str = ".cutout";

/// The version of an object's content: Cloud Storage's generation, or, in a directory store,
/// the file's modification time in nanoseconds since 1970.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object's place. `bucket` is `None` in a directory store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    bucket: Option<String>,
    key: String,
}

impl ObjectName {
    /// An object in a Cloud Storage bucket.
    pub fn in_bucket(bucket: impl Into<String>, key: impl Into<String>) -> Result<Self, Error> {
        let (bucket, key) = (bucket.into(), key.into());
        check_bucket(&bucket)?;
        check_key(&key)?;
        Ok(Self {
            bucket: Some(bucket),
            key,
        })
    }

    /// An object in the directory store: a relative path with `/` between components.
    pub fn local(path: impl Into<String>) -> Result<Self, Error> {
        let key = path.into();
        check_key(&key)?;
        if key.starts_with('/') || key.contains('\\') {
            return Err(invalid(format!(
                "{key:?} is not a relative path: name the photo relative to the store's root, with forward slashes"
            )));
        }
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(format!(
                "{key:?} has an empty, `.` or `..` component: nothing outside the store's root can be named"
            )));
        }
        if key.split('/').next() == Some(RESERVED_DIR) {
            return Err(invalid(format!(
                "{key:?} lies in {RESERVED_DIR}/, which the store keeps for itself"
            )));
        }
        Ok(Self { bucket: None, key })
    }

    /// The bucket, or `None` in a directory store.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// The object's name inside its bucket, or the path relative to the store's root.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same bucket (or directory store), another key.
    pub fn sibling(&self, key: impl Into<String>) -> Result<Self, Error> {
        match &self.bucket {
            Some(bucket) => Self::in_bucket(bucket.clone(), key),
            None => Self::local(key),
        }
    }

    /// The part before the last `/`, without it; empty at the top.
    pub fn dir(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    /// The last component without its last extension: `rex` of `2026/rex.jpg`.
    pub fn stem(&self) -> &str {
        let file = self.key.rsplit('/').next().unwrap_or(&self.key);
        match file.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            _ => file,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bucket {
            Some(bucket) => write!(f, "gs://{bucket}/{}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

impl FromStr for ObjectName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("gs://") {
            let Some((bucket, key)) = rest.split_once('/') else {
                return Err(invalid(format!(
                    "{text:?} names a bucket but no object: write gs://bucket/object"
                )));
            };
            return Self::in_bucket(bucket, key);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(invalid(format!(
                "{text:?}: the scheme {scheme:?} is not known; write gs://bucket/object, or a path relative to the store's root"
            )));
        }
        Self::local(text)
    }
}

/// An object, optionally pinned to one generation: `gs://bucket/object#1732412345678901`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Where it is.
    pub name: ObjectName,
    /// Which version; `None` means the live one.
    pub generation: Option<Generation>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            Some(generation) => write!(f, "{}#{generation}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for ObjectRef {
    type Err = Error;

    /// A `#` is a legal character of object names, so only a trailing `#digits` is a generation.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((name, digits)) = text.rsplit_once('#')
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
        {
            let generation = digits
                .parse()
                .map_err(|_| invalid(format!("{text:?}: the generation does not fit 64 bits")))?;
            return Ok(Self {
                name: name.parse()?,
                generation: Some(Generation(generation)),
            });
        }
        Ok(Self {
            name: text.parse()?,
            generation: None,
        })
    }
}

impl From<ObjectName> for ObjectRef {
    fn from(name: ObjectName) -> Self {
        Self {
            name,
            generation: None,
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidJob, message)
}

/// Cloud Storage's rules (<https://cloud.google.com/storage/docs/buckets#naming>), as far as
/// they keep a name from being read as something else in a URL.
fn check_bucket(bucket: &str) -> Result<(), Error> {
    let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    if (3..=222).contains(&bucket.len()) && bucket.bytes().all(legal) {
        return Ok(());
    }
    Err(invalid(format!(
        "{bucket:?} is not a bucket name: 3 to 222 of a-z 0-9 - _ ."
    )))
}

fn check_key(key: &str) -> Result<(), Error> {
    let why = if key.is_empty() {
        "is empty"
    } else if key.len() > MAX_KEY_BYTES {
        "is longer than 1024 bytes"
    } else if key.chars().any(char::is_control) {
        "has control characters"
    } else if matches!(key, "." | "..") || key.starts_with(".well-known/acme-challenge/") {
        "is reserved"
    } else {
        return Ok(());
    };
    Err(invalid(format!("the object name {key:?} {why}")))
}

/// (De)serialises a value as the text that `Display` and `FromStr` speak.
macro_rules! as_text {
    ($($name:ident: $description:literal),+) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    )+};
}

as_text!(
    ObjectName: "gs://bucket/object, or a path relative to the store's root",
    ObjectRef: "gs://bucket/object or a path relative to the store's root, optionally followed by #generation"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generation_is_split_off_only_when_it_is_a_number() {
        let pinned: ObjectRef = "gs://perkie/a/b.jpg#17".parse().unwrap();
        assert_eq!(pinned.generation, Some(Generation(17)));
        assert_eq!(pinned.name.key(), "a/b.jpg");
        let hash: ObjectRef = "gs://perkie/photo#1a.jpg".parse().unwrap();
        assert_eq!(hash.generation, None);
        assert_eq!(hash.name.key(), "photo#1a.jpg");
    }

    #[test]
    fn nothing_outside_the_root_can_be_named() {
        for path in [
            "../x.jpg",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "./a",
            "a/.",
            "..",
            "",
            "a\\b",
            ".cutout/meta/x",
            "file:///etc/passwd",
            "http://host/x",
            "a\0b",
            "a\nb",
        ] {
            let error = path.parse::<ObjectRef>().expect_err(path);
            assert_eq!(error.code(), Code::InvalidJob, "{path}");
        }
    }

    #[test]
    fn bucket_names_cannot_smuggle_a_path_or_a_host() {
        for uri in [
            "gs://a/b",
            "gs:///x",
            "gs://bucket",
            "gs://Bu cket/x",
            "gs://a%2fb/x",
            "gs://a@b.c/x",
        ] {
            assert!(uri.parse::<ObjectRef>().is_err(), "{uri}");
        }
    }

    #[test]
    fn stem_and_dir_follow_the_last_slash_and_the_last_dot() {
        let name: ObjectName = "gs://perkie/2026/11/rex.photo.jpg".parse().unwrap();
        assert_eq!((name.dir(), name.stem()), ("2026/11", "rex.photo"));
        let hidden: ObjectName = ".hidden".parse().unwrap();
        assert_eq!((hidden.dir(), hidden.stem()), ("", ".hidden"));
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics_and_what_parses_prints_back(text in "\\PC{0,80}") {
            if let Ok(object) = text.parse::<ObjectRef>() {
                let again: ObjectRef = object.to_string().parse().unwrap();
                prop_assert_eq!(object, again);
            }
        }
    }
}
