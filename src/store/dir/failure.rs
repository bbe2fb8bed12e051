//! What a file-system error means for a job.

use std::io::{self, ErrorKind};

use crate::error::{Code, Error};

/// A failed read of the object called `name`.
pub(super) fn reading(name: &str, error: io::Error) -> Error {
    let (code, advice) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
            return missing(name).caused_by(error);
        }
        ErrorKind::PermissionDenied => (
            Code::StorageForbidden,
            "the worker's user may not read it; mend its permissions",
        ),
        _ => (Code::StorageUnavailable, "it is tried again"),
    };
    Error::new(code, format!("cannot read {name}: {advice}")).caused_by(error)
}

/// A failed write of the object called `name` (or of the store's own state on the way to it).
pub(super) fn writing(name: &str, error: io::Error) -> Error {
    let (code, advice) = match error.kind() {
        ErrorKind::InvalidFilename => (
            Code::InvalidJob,
            "a component of it is longer than the file system allows; choose a shorter destination",
        ),
        ErrorKind::NotADirectory => (
            Code::DestinationExists,
            "a part of its path is a file; choose another destination",
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            Code::StorageUnavailable,
            "no space is left; free some, it is tried again",
        ),
        ErrorKind::ReadOnlyFilesystem => (
            Code::StorageForbidden,
            "the file system is read-only; mount it for writing, it is tried again",
        ),
        ErrorKind::PermissionDenied => (
            Code::StorageForbidden,
            "the directory is not writable by the worker's user; mend its permissions, it is tried again",
        ),
        _ => (Code::StorageUnavailable, "it is tried again"),
    };
    Error::new(code, format!("cannot write {name}: {advice}")).caused_by(error)
}

/// There is no such object.
pub(super) fn missing(name: &str) -> Error {
    Error::new(
        Code::SourceNotFound,
        format!("{name} does not exist in the store's directory"),
    )
}

/// The object is a link to, or lies behind a link to, something that is not the store's.
pub(super) fn outside(name: &str) -> Error {
    Error::new(
        Code::BucketForbidden,
        format!("{name} leads outside of the store's directory; it is not touched"),
    )
}

/// A `gs://` name reached a directory store.
pub(super) fn not_a_bucket_store(name: &str) -> Error {
    Error::new(
        Code::BucketForbidden,
        format!(
            "{name}: this worker's store is a directory; name objects by a path relative to its root"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn a_full_disk_and_a_read_only_directory_are_tried_again_and_say_what_to_do() {
        for (kind, code, words) in [
            (ErrorKind::StorageFull, Code::StorageUnavailable, "no space"),
            (
                ErrorKind::QuotaExceeded,
                Code::StorageUnavailable,
                "no space",
            ),
            (
                ErrorKind::ReadOnlyFilesystem,
                Code::StorageForbidden,
                "read-only",
            ),
            (
                ErrorKind::PermissionDenied,
                Code::StorageForbidden,
                "not writable",
            ),
            (ErrorKind::Other, Code::StorageUnavailable, "tried again"),
        ] {
            let error = writing("a.png", kind.into());
            assert_eq!(error.code(), code, "{kind}");
            assert_eq!(error.class(), Class::Retryable, "{kind}");
            assert!(error.message().contains(words), "{error}");
            assert!(error.message().contains("a.png"), "{error}");
        }
    }

    #[test]
    fn a_path_that_can_never_work_is_permanent() {
        for kind in [ErrorKind::InvalidFilename, ErrorKind::NotADirectory] {
            assert_eq!(writing("a", kind.into()).class(), Class::Permanent);
            assert_eq!(reading("a", kind.into()).code(), Code::SourceNotFound);
        }
    }
}
