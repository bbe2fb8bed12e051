//! What an answer, or the lack of one, from Cloud Storage means for a job.

use std::error::Error as StdError;

use google_cloud_gax::error::CredentialsError;
use google_cloud_storage::error::{ReadError, WriteError};

use crate::error::{Code, Error};

/// The code of an HTTP status that is not a success
/// (<https://cloud.google.com/storage/docs/json_api/v1/status-codes>).
pub(super) fn code_of_status(status: u16) -> Code {
    match status {
        401 => Code::CredentialsRefused,
        403 => Code::StorageForbidden,
        404 => Code::SourceNotFound,
        408 | 429 | 500..=599 => Code::StorageUnavailable,
        // A request that we should not have sent.
        _ => Code::Internal,
    }
}

/// The failure that an HTTP status stands for. `doing` is a verb: read, write, describe.
pub(super) fn of_status(doing: &str, what: &str, status: u16, detail: String) -> Error {
    let code = code_of_status(status);
    Error::new(code, message(doing, what, code, Some(status))).caused_by(detail)
}

/// A request that was not answered at all.
pub(super) fn unanswered(
    doing: &str,
    what: &str,
    cause: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    let code = Code::StorageUnavailable;
    Error::new(code, message(doing, what, code, None)).caused_by(cause)
}

/// Credentials that could not be turned into request headers.
pub(super) fn of_credentials(doing: &str, what: &str, error: CredentialsError) -> Error {
    let code = match error.is_transient() {
        true => Code::StorageUnavailable,
        false => Code::CredentialsRefused,
    };
    Error::new(code, message(doing, what, code, None)).caused_by(error)
}

/// A failure of the official client.
pub(super) fn of_client(doing: &str, what: &str, error: google_cloud_storage::Error) -> Error {
    let code = code(&error);
    Error::new(code, message(doing, what, code, status(&error))).caused_by(error)
}

/// The code of a failure of the official client.
pub(super) fn code(error: &google_cloud_storage::Error) -> Code {
    match status(error) {
        Some(status) => code_of_status(status),
        None => code_without_status(error),
    }
}

/// The bucket does not exist.
pub(super) fn no_bucket(code: Code, bucket: &str) -> Error {
    Error::new(
        code,
        format!("the bucket {bucket:?} does not exist; create it or name another one"),
    )
}

/// The HTTP status behind a failure of the official client, however deep its retry loop
/// wrapped it.
pub(super) fn status(error: &google_cloud_storage::Error) -> Option<u16> {
    causes(error).find_map(|cause| {
        cause
            .downcast_ref::<google_cloud_storage::Error>()?
            .http_status_code()
    })
}

fn code_without_status(error: &google_cloud_storage::Error) -> Code {
    let credentials = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>());
    if let Some(credentials) = credentials {
        return match credentials.is_transient() {
            true => Code::StorageUnavailable,
            false => Code::CredentialsRefused,
        };
    }
    let mismatch = |cause: &(dyn StdError + 'static)| {
        matches!(
            cause.downcast_ref(),
            Some(ReadError::ChecksumMismatch(_) | ReadError::LongRead { .. })
        ) || matches!(
            cause.downcast_ref(),
            Some(WriteError::ChecksumMismatch { .. })
        )
    };
    if causes(error).any(mismatch) {
        return Code::ChecksumMismatch;
    }
    let request_is_wrong = error.is_binding() || error.is_serialization();
    match request_is_wrong {
        true => Code::Internal,
        // Connections refused, reset or silent, answers cut short, retries used up.
        false => Code::StorageUnavailable,
    }
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn message(doing: &str, what: &str, code: Code, status: Option<u16>) -> String {
    let answer = match status {
        Some(status) => format!("Cloud Storage answered {status}"),
        None => "no proper answer from Cloud Storage".to_owned(),
    };
    match code {
        Code::SourceNotFound => format!("cannot {doing} {what}: it does not exist"),
        Code::CredentialsRefused => format!(
            "cannot {doing} {what}: the worker's credentials are refused; check its service account"
        ),
        Code::StorageForbidden => format!(
            "cannot {doing} {what}: the worker's identity is not allowed to; grant it roles/storage.objectUser on the bucket"
        ),
        Code::ChecksumMismatch => {
            format!("cannot {doing} {what}: its bytes do not match its checksum; it is tried again")
        }
        Code::StorageUnavailable => format!("cannot {doing} {what}: {answer}; it is tried again"),
        _ => format!("cannot {doing} {what}: {answer}, which it should not; see the worker's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16) -> google_cloud_storage::Error {
        google_cloud_storage::Error::http(status, Default::default(), Default::default())
    }

    #[test]
    fn every_status_has_the_code_that_the_store_promises() {
        for (status, code) in [
            (401, Code::CredentialsRefused),
            (403, Code::StorageForbidden),
            (404, Code::SourceNotFound),
            (408, Code::StorageUnavailable),
            (429, Code::StorageUnavailable),
            (500, Code::StorageUnavailable),
            (503, Code::StorageUnavailable),
            (400, Code::Internal),
        ] {
            let error = of_client("read", "gs://photos/rex.jpg", http(status));
            assert_eq!(error.code(), code, "{status}");
            assert!(error.message().contains("gs://photos/rex.jpg"), "{error}");
            let of_json = of_status("read", "gs://photos/rex.jpg", status, String::new());
            assert_eq!(of_json.code(), code, "{status}");
        }
    }

    #[test]
    fn a_status_is_found_below_what_a_retry_loop_wrapped_around_it() {
        let wrapped = google_cloud_storage::Error::exhausted(http(412));
        assert_eq!(status(&wrapped), Some(412));
    }

    #[test]
    fn failures_without_an_answer_are_told_apart() {
        use google_cloud_storage::Error as Client;
        let expired = CredentialsError::from_msg(false, "the key was revoked");
        let hiccup = CredentialsError::from_msg(true, "the metadata server is busy");
        let damaged = google_cloud_storage::error::ChecksumMismatch::Crc32c { got: 1, want: 2 };
        for (error, code) in [
            (Client::io("connection reset"), Code::StorageUnavailable),
            (Client::timeout("too slow"), Code::StorageUnavailable),
            (Client::authentication(expired), Code::CredentialsRefused),
            (Client::authentication(hiccup), Code::StorageUnavailable),
            (
                Client::deser(ReadError::ChecksumMismatch(damaged)),
                Code::ChecksumMismatch,
            ),
            (Client::binding("bad name"), Code::Internal),
        ] {
            assert_eq!(of_client("read", "x", error).code(), code);
        }
    }
}
