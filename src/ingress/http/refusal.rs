//! Why a request is not answered with a picture: status, stable code, a sentence.

use axum::http::StatusCode;

use crate::error::{Code, Error};
pub use crate::side::answers::{Problem as Refusal, RETRY_AFTER};

impl Refusal {
    /// 422: a field or a parameter that cannot be understood.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
    }

    /// 413: more bytes than a photo may have.
    pub fn too_large(limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::FileTooLarge.as_str(),
            format!("the file has more than {limit} bytes, which is the most that is taken"),
        )
    }

    /// 408: the body did not arrive in time.
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "upload_timeout",
            "the upload came too slowly; send it again",
        )
    }
}

/// How a failure of the pipeline is told to who sent the photo. Only its public message is shown.
impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let status = match error.code() {
            Code::InvalidJob
            | Code::ModelUnavailable
            | Code::ImageCorrupt
            | Code::UnsupportedFormat => StatusCode::BAD_REQUEST,
            Code::FileTooLarge | Code::ImageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::OutOfBudget
            | Code::Draining
            | Code::StorageUnavailable
            | Code::EngineDead
            | Code::EngineStuck => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let refusal = Self::new(status, error.code().as_str(), error.message());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return refusal.retry_after(RETRY_AFTER);
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header;
    use axum::response::IntoResponse;
    use std::time::Duration;

    #[test]
    fn every_failure_of_the_pipeline_has_a_status_of_an_error_and_no_inner_words() {
        for &code in Code::ALL {
            let error = Error::new(code, "said").caused_by("kept for the logs");
            let refusal = Refusal::from(&error);
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
            assert_eq!(refusal.detail(), "said");
            assert_eq!(refusal.code(), code.as_str());
        }
    }

    #[test]
    fn the_time_to_wait_is_whole_seconds_from_one_up() {
        for (after, told) in [
            (0, "1"),
            (200, "1"),
            (1000, "1"),
            (1001, "2"),
            (59_000, "59"),
        ] {
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", "x")
                .retry_after(Duration::from_millis(after))
                .into_response();
            assert_eq!(refusal.headers()[header::RETRY_AFTER], told);
        }
    }
}
