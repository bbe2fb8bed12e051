//! The values that metric labels may take. Enums, so that no label can grow without bound and
//! every spelling stands in one place.

use crate::error::{Class, Error};
use crate::job::Status;

/// Declares a label as one table: variant, value, meaning.
macro_rules! label {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value; never renamed once released.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
        }
    };
}

label! {
    /// A part of a job's walk.
    Stage {
        /// Parsing, and looking for an output that is already there.
        Admit = "admit",
        /// Reading the photo from the store.
        Download = "download",
        /// Decoding and preparing the network's input.
        Decode = "decode",
        /// Waiting: for memory, for the engine, for a CPU slot.
        Wait = "wait",
        /// The network.
        Infer = "infer",
        /// Matte to full size, composition.
        Compose = "compose",
        /// Effects on the cut-out.
        Effects = "effects",
        /// Encoding.
        Encode = "encode",
        /// Writing to the store.
        Upload = "upload",
        /// Publishing the result.
        Publish = "publish",
    }
}

label! {
    /// How one delivery of a job ended.
    Outcome {
        /// Outputs were written.
        Done = "done",
        /// A former delivery had written them.
        Duplicate = "duplicate",
        /// It can never succeed.
        Failed = "failed",
        /// Given back to the queue, to be tried again.
        Retried = "retried",
        /// Given back because this process cannot go on.
        Aborted = "aborted",
    }
}

impl Outcome {
    /// Whether the job is over, rather than this delivery of it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Duplicate | Self::Failed)
    }
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        match status {
            Status::Done => Self::Done,
            Status::Duplicate => Self::Duplicate,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<&Error> for Outcome {
    fn from(error: &Error) -> Self {
        match error.class() {
            Class::Permanent => Self::Failed,
            Class::Retryable => Self::Retried,
            Class::Fatal => Self::Aborted,
        }
    }
}

label! {
    /// What was tried again.
    RetryOp {
        /// A whole job, by giving its message back.
        Job = "job",
        /// Pulling deliveries.
        Pull = "pull",
        /// Describing an object.
        StoreStat = "store_stat",
        /// Reading an object.
        StoreRead = "store_read",
        /// Writing an object.
        StoreWrite = "store_write",
        /// Listing objects.
        StoreList = "store_list",
        /// Publishing a result.
        PublishResult = "publish_result",
        /// Sending a message to the dead letters.
        DeadLetter = "dead_letter",
        /// Answering a delivery (ack or nack).
        Answer = "answer",
    }
}

label! {
    /// What the HTTP API's cache did for a photo.
    CacheOutcome {
        /// The cut-out was there.
        Hit = "hit",
        /// It was not, or too old.
        Miss = "miss",
        /// Another request was making it.
        Shared = "shared",
        /// The store could not be asked.
        Failed = "failed",
        /// The cut-out could not be written to the store.
        NotKept = "not_kept",
    }
}

label! {
    /// A part of the way to readiness.
    StartPhase {
        /// Exec to `main`.
        Process = "process",
        /// Reading and checking the configuration.
        Config = "config",
        /// Everything from exec to the side port's first answer.
        SidePort = "side_port",
        /// Connecting the clients of store and queue.
        Clients = "clients",
        /// Loading the runtime's shared library.
        Library = "library",
        /// Reading the network's file and comparing its digest.
        Verify = "verify",
        /// Building the session.
        Session = "session",
        /// The first runs.
        WarmUp = "warm_up",
        /// Everything, from exec to readiness. Phases overlap, so it is not their sum.
        Total = "total",
    }
}

label! {
    /// A part of the worker whose state /health tells.
    Component {
        /// The worker as a whole: 1 from readiness to the drain.
        Worker = "worker",
        /// The inference thread: 1 while it lives and no run is stuck.
        Engine = "engine",
        /// The queue: 1 while deliveries can come.
        Queue = "queue",
        /// The store: 1 while it answers.
        Storage = "storage",
    }
}

label! {
    /// Whose bytes of the memory budget.
    BudgetState {
        /// Taken by jobs.
        Used = "used",
        /// The whole budget.
        Total = "total",
        /// Asked for by jobs that wait.
        Waiting = "waiting",
    }
}

label! {
    /// Why a span did not arrive.
    SpanLoss {
        /// As many wait to be sent as may.
        QueueFull = "queue_full",
        /// The collector did not take it, or not in time.
        ExportFailed = "export_failed",
        /// The process ended before it was sent.
        Shutdown = "shutdown",
    }
}

label! {
    /// Why a push from Pub/Sub was not let in, or let in and not worked on.
    PushRefusal {
        /// No bearer token.
        Missing = "missing",
        /// Something that is no token as Google issues them.
        Malformed = "malformed",
        /// Not signed by the issuer: another's signature, or a key that the issuer does not list.
        Signature = "signature",
        /// Cloud Run took the signature away, having checked it itself.
        SignatureRemoved = "signature_removed",
        /// The token's time is over.
        Expired = "expired",
        /// The token's time has not come.
        Early = "early",
        /// A token for somebody else.
        Audience = "audience",
        /// A token of somebody else.
        Issuer = "issuer",
        /// A token about another service account, or one whose address is not verified.
        Email = "email",
        /// The issuer's keys could not be fetched, so nobody can be let in who uses a new one.
        KeysUnavailable = "keys_unavailable",
        /// The worker is starting or draining.
        NotReady = "not_ready",
        /// The store does not answer.
        StorageUnavailable = "storage_unavailable",
        /// As many jobs are in work as may be.
        Full = "full",
        /// The body is larger than a message can be.
        TooLarge = "too_large",
        /// The body did not come in time, or broke off.
        TooSlow = "too_slow",
        /// The body is no push envelope.
        Envelope = "envelope",
        /// The envelope names another subscription.
        Subscription = "subscription",
    }
}

label! {
    /// What became of a job that was chosen for the shadow.
    ShadowOutcome {
        /// Both mattes were compared, and the record is stored.
        Done = "done",
        /// They were compared, and the record could not be stored.
        NotStored = "not_stored",
        /// The shadow's network failed, or what is before it.
        Failed = "failed",
        /// It gave way to photos too often.
        Interrupted = "interrupted",
        /// As many wait as may, or as many bytes.
        DroppedFull = "dropped_full",
        /// It could never fit the shadow's memory.
        DroppedLarge = "dropped_large",
        /// The worker ended before.
        DroppedEnd = "dropped_end",
    }
}

label! {
    /// How the difference of two mattes is measured; 0 is none.
    DifferenceMeasure {
        /// Mean absolute difference.
        Mean = "mean",
        /// Share of the pixels that differ by more than a half.
        Disagreeing = "disagreeing",
        /// 1 less the intersection over union.
        Jaccard = "jaccard",
    }
}
