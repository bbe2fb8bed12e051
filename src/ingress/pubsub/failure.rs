//! What an error of the Pub/Sub client means, and what to do about it.

use std::sync::Arc;

use google_cloud_gax::error::rpc;
use google_cloud_pubsub::error::PublishError;

use crate::error::{Code, Error};

/// An error of a call about a topic or subscription. `doing` is a verb: "pull from".
pub(super) fn explain(
    doing: &str,
    resource: &str,
    error: Arc<google_cloud_gax::error::Error>,
) -> Error {
    let refused = error.is_authentication() && !error.is_transient_and_before_rpc();
    let (code, message) = match error.status().map(|status| status.code) {
        Some(rpc::Code::NotFound) => (
            Code::QueueLost,
            format!("cannot {doing} {resource}: it does not exist (any more); create it again"),
        ),
        // A pull from a detached or push subscription, for example.
        Some(rpc::Code::FailedPrecondition) => (
            Code::QueueLost,
            format!("cannot {doing} {resource}: its present state does not allow it"),
        ),
        Some(rpc::Code::PermissionDenied) => (
            Code::CredentialsRefused,
            format!(
                "cannot {doing} {resource}: this identity may not; grant it roles/pubsub.subscriber on subscriptions it pulls from and roles/pubsub.publisher on topics it publishes to"
            ),
        ),
        Some(rpc::Code::Unauthenticated) => (
            Code::CredentialsRefused,
            format!("cannot {doing} {resource}: the credentials are not accepted"),
        ),
        _ if refused => (
            Code::CredentialsRefused,
            format!("cannot {doing} {resource}: the credentials cannot be used"),
        ),
        _ => (
            Code::QueueUnavailable,
            format!("cannot {doing} {resource} at the moment; it is tried again"),
        ),
    };
    Error::new(code, message).caused_by(error)
}

/// An error of a publication.
pub(super) fn unpublished(topic: &str, error: PublishError) -> Error {
    match error {
        PublishError::Rpc(error) => explain("publish to", topic, error),
        other => Error::new(
            Code::QueueUnavailable,
            format!("cannot publish to {topic} at the moment; it is tried again"),
        )
        .caused_by(other),
    }
}

/// A client that could not be made.
pub(super) fn unbuilt(error: google_cloud_gax::client_builder::Error) -> Error {
    let (code, message) = if error.is_default_credentials() {
        (
            Code::CredentialsRefused,
            "the Google credentials cannot be loaded",
        )
    } else {
        (
            Code::ConfigInvalid,
            "the connection to Pub/Sub cannot be set up; check the emulator's host, if one is set",
        )
    };
    Error::new(code, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use google_cloud_gax::error::Error as GaxError;
    use google_cloud_gax::error::rpc::Status;

    #[test]
    fn what_cannot_mend_itself_is_fatal_and_the_rest_is_tried_again() {
        for (code, expected) in [
            (rpc::Code::NotFound, Code::QueueLost),
            (rpc::Code::FailedPrecondition, Code::QueueLost),
            (rpc::Code::PermissionDenied, Code::CredentialsRefused),
            (rpc::Code::Unauthenticated, Code::CredentialsRefused),
            (rpc::Code::Unavailable, Code::QueueUnavailable),
            (rpc::Code::DeadlineExceeded, Code::QueueUnavailable),
            (rpc::Code::ResourceExhausted, Code::QueueUnavailable),
            (rpc::Code::Unknown, Code::QueueUnavailable),
        ] {
            let error = GaxError::service(Status::default().set_code(code));
            let error = explain("pull from", "projects/p/subscriptions/s", Arc::new(error));
            assert_eq!(error.code(), expected, "{code:?}");
            assert_eq!(
                error.class() == Class::Fatal,
                expected != Code::QueueUnavailable
            );
            assert!(error.message().contains("projects/p/subscriptions/s"));
        }
    }
}
