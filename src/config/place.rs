//! A place of the operator's own that the worker writes to beside the outputs: a bucket with a prefix, or a
//! folder of the directory store.

use std::fmt;

use super::IngressKind;
use crate::error::{Code, Error, Result};
use crate::object::ObjectName;

/// The place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `None` for the directory store.
    pub bucket: Option<String>,
    /// What keys in it start with; empty, or with a slash at its end.
    pub prefix: String,
}

impl Place {
    /// Reads `gs://bucket/prefix/`, or a folder. `flag` is whose it is, for messages; `longest` is the longest
    /// name that must fit in it.
    ///
    /// Errors: `config_invalid`.
    pub fn parse(text: &str, flag: &str, longest: &str) -> Result<Self> {
        let (bucket, prefix) = match text.strip_prefix("gs://") {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (Some(bucket.to_owned()), prefix)
            }
            None => (None, text),
        };
        // A folder, with or without the slash; a bucket may be for this alone.
        let folder = prefix.trim_end_matches('/');
        let place = Self {
            prefix: if folder.is_empty() {
                String::new()
            } else {
                format!("{folder}/")
            },
            bucket,
        };
        if place.bucket.is_none() && place.prefix.is_empty() {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!("{flag} needs a folder, or gs://bucket/prefix/"),
            ));
        }
        // The name's own parser knows what is allowed.
        place
            .named(longest)
            .map_err(|error| Error::new(Code::ConfigInvalid, error.message()))?;
        Ok(place)
    }

    /// An object in it.
    pub fn named(&self, name: &str) -> Result<ObjectName> {
        let key = format!("{}{name}", self.prefix);
        match &self.bucket {
            Some(bucket) => ObjectName::in_bucket(bucket.clone(), key),
            None => ObjectName::local(key),
        }
    }

    /// Refuses a bucket for a directory store, and a folder for Cloud Storage.
    pub fn check(&self, flag: &str, ingress: IngressKind) -> Result<()> {
        let local = ingress == IngressKind::Local;
        if self.bucket.is_none() == local {
            return Ok(());
        }
        let what = if local {
            "a folder of the store"
        } else {
            "gs://bucket/prefix/"
        };
        Err(Error::new(
            Code::ConfigInvalid,
            format!(
                "{flag} {self} does not go with --ingress {}: name {what}",
                ingress.as_str()
            ),
        ))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bucket {
            Some(bucket) => write!(f, "gs://{bucket}/{}", self.prefix),
            None => f.write_str(&self.prefix),
        }
    }
}
