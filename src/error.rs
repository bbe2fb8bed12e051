//! The only failure vocabulary: every failure has a stable [`Code`], and the code decides its [`Class`].

use std::fmt;

/// What the worker does about a failure (CONTRACT section "Failure classes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying again cannot help: answer `failed`, dead-letter the message, ack it.
    Permanent,
    /// Trying again may help: nack and let the queue back off.
    Retryable,
    /// This process cannot go on: stop pulling, nack what is held, exit non-zero.
    Fatal,
}

impl Class {
    /// Lower-case name, as used in results and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Retryable => "retryable",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares the codes as one table: variant, stable string, class, meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:ident;)+) => {
        /// A stable failure code: a metric label value and the `error.code` of results.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)+ }

        impl Code {
            /// Every code, for exhaustive tests and documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable string; never renamed once released.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The class that decides what happens to the job.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }
        }
    };
}

codes! {
    /// Not JSON, a missing or ill-typed field, or an unknown value of a known field.
    InvalidJob = "invalid_job", Permanent;
    /// The job names a network that this worker has not loaded.
    ModelUnavailable = "model_unavailable", Permanent;
    /// The source object (or the pinned generation of it) does not exist.
    SourceNotFound = "source_not_found", Permanent;
    /// The bucket or prefix is not on the allow-list.
    BucketForbidden = "bucket_forbidden", Permanent;
    /// More bytes than `max_file_bytes`.
    FileTooLarge = "file_too_large", Permanent;
    /// More pixels than allowed, known from the header before decoding.
    ImageTooLarge = "image_too_large", Permanent;
    /// The header is recognised but the pixels cannot be decoded.
    ImageCorrupt = "image_corrupt", Permanent;
    /// Not an image, or a format this build does not read.
    UnsupportedFormat = "unsupported_format", Permanent;
    /// The destination already holds something this job did not write, and `overwrite` is off.
    DestinationExists = "destination_exists", Permanent;
    /// Delivered as often as the local queue allows without success. Pub/Sub's own dead-letter
    /// policy does the same there and says so in its own attributes.
    AttemptsExhausted = "attempts_exhausted", Permanent;
    /// 408, 429, 5xx, connection reset or time-out from the object store, or a bucket that is
    /// gone: workers do not start without their buckets, so that one is the operator's to mend.
    StorageUnavailable = "storage_unavailable", Retryable;
    /// The store refuses this identity (403). Retryable: it is the operator's to mend, and
    /// must not dead-letter a whole backlog while they do.
    StorageForbidden = "storage_forbidden", Retryable;
    /// Bytes received do not match the object's checksum.
    ChecksumMismatch = "checksum_mismatch", Retryable;
    /// The source was replaced or deleted between our look at it and our reading it. Tried again,
    /// as the next look finds the new version, or nothing.
    SourceChanged = "source_changed", Retryable;
    /// Another delivery changed the output between our read and our write.
    OutputRace = "output_race", Retryable;
    /// The job passed its deadline.
    DeadlineExceeded = "deadline_exceeded", Retryable;
    /// The memory budget stayed full for longer than the job may wait.
    OutOfBudget = "out_of_budget", Retryable;
    /// The result or the dead letter could not be published.
    QueueUnavailable = "queue_unavailable", Retryable;
    /// The network's run failed for this input.
    InferenceFailed = "inference_failed", Retryable;
    /// The job was given up because the worker is shutting down.
    Draining = "draining", Retryable;
    /// A defect of ours (a caught panic); another worker, or a newer version, may succeed.
    Internal = "internal", Retryable;
    /// The inference thread is gone or the accelerator's context is poisoned.
    EngineDead = "engine_dead", Fatal;
    /// One run of the network has not ended within `give_up_after`.
    EngineStuck = "engine_stuck", Fatal;
    /// The model file is missing, has the wrong checksum or does not fit its manifest.
    ModelInvalid = "model_invalid", Fatal;
    /// The execution provider asked for cannot be used.
    ProviderUnavailable = "provider_unavailable", Fatal;
    /// The subscription, topic or local queue is gone or cannot be opened.
    QueueLost = "queue_lost", Fatal;
    /// The credentials are refused (401) or cannot be loaded.
    CredentialsRefused = "credentials_refused", Fatal;
    /// The configuration contradicts itself or names something that does not exist.
    ConfigInvalid = "config_invalid", Fatal;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest message of an [`Error`], in bytes of UTF-8: a few sentences and one object name, so
/// that a result always fits a queue's message.
pub const MAX_MESSAGE_BYTES: usize = 2048;

/// A failure: what happened, to which object, what to do; plus the cause, kept for logs only.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error whose message may be shown to the publisher of the job. What is longer than
    /// [`MAX_MESSAGE_BYTES`] is cut: messages quote what publishers send, which may be megabytes.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        Self {
            code,
            message,
            cause: None,
        }
    }

    /// What a caught panic is to the job that it happened to: `internal`, the panic's own words
    /// for the logs.
    pub fn of_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned());
        Self::new(
            Code::Internal,
            "the worker met a defect of its own while working on this photo",
        )
        .caused_by(words)
    }

    /// Attaches the underlying error; it is logged, never published.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same failure for another job that met it; the cause becomes text.
    #[must_use]
    pub fn for_another(&self) -> Self {
        let mut another = Self::new(self.code, self.message.clone());
        if let Some(cause) = &self.cause {
            another.cause = Some(cause.to_string().into());
        }
        another
    }

    /// The stable code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The class, which follows from the code.
    pub const fn class(&self) -> Class {
        self.code.class()
    }

    /// The public message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Message and causes in one line, for logs.
    pub fn chain(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn code_strings_are_distinct_and_snake_case() {
        let names: HashSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{name}"
            );
        }
    }

    #[test]
    fn a_message_that_quotes_megabytes_is_cut_between_characters() {
        let error = Error::new(Code::InvalidJob, "ü".repeat(1 << 20));
        assert!(error.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
        assert!(error.message().ends_with("ü…"));
    }

    #[test]
    fn the_chain_names_every_cause_and_the_message_names_none() {
        let error = Error::new(
            Code::StorageUnavailable,
            "cannot read gs://b/o; it is tried again",
        )
        .caused_by(std::io::Error::other("connection reset"));
        assert_eq!(error.class(), Class::Retryable);
        assert_eq!(error.to_string(), "cannot read gs://b/o; it is tried again");
        assert!(error.chain().ends_with("connection reset"));
    }
}
