//! Where jobs come from and where answers go: one set of traits, Pub/Sub and a local queue behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Code, Error, Result};
use crate::job::JobResult;
use crate::telemetry::context::TraceContext;

pub mod dead_letter;
pub mod http;
pub mod inbox;
pub mod local;
pub mod notification;
pub mod pubsub;
pub mod push;

/// A message as the queue holds it, before anybody looked inside.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    /// The queue's own id.
    pub id: String,
    /// The payload: a job's JSON, or a storage notification's object resource.
    pub data: Bytes,
    /// Attributes (storage notifications say here what they are).
    pub attributes: BTreeMap<String, String>,
    /// Empty when the publisher gave none.
    pub ordering_key: String,
    /// When the publisher sent it.
    pub published: Option<jiff::Timestamp>,
    /// Which delivery this is, from 1; 1 also where the queue does not count.
    pub attempt: u32,
}

/// The right to answer one delivery. The queue keeps extending it while it exists;
/// dropping it unanswered gives the message back.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Done with the message: never deliver it again.
    async fn ack(self: Box<Self>) -> Result<()>;

    /// Tried and failed: deliver it again, after the queue's own back-off. Counts as an attempt.
    async fn nack(self: Box<Self>) -> Result<()>;

    /// Tried and failed, for a reason that every job would meet now (the store is away): deliver
    /// it again after a back-off, and do not count this delivery as an attempt, where the queue
    /// can take one back.
    async fn postpone(self: Box<Self>) -> Result<()> {
        self.nack().await
    }

    /// Not tried to the end, for a reason that is not the job's (the worker is draining):
    /// deliver it again at once, and do not count this delivery as an attempt.
    ///
    /// A queue that counts deliveries on its server (Pub/Sub) cannot take one back; there this
    /// is a nack.
    async fn release(self: Box<Self>) -> Result<()> {
        self.nack().await
    }
}

/// One delivery of one message.
pub struct Delivery {
    /// What was delivered.
    pub message: Message,
    /// The right to answer it.
    pub lease: Box<dyn Lease>,
}

/// What deliveries come from, in the words of OpenTelemetry's messaging conventions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The kind of queue: `gcp_pubsub`, or one of our own.
    pub system: &'static str,
    /// The subscription's full name, where there are subscriptions.
    pub subscription: Option<String>,
}

impl Source {
    /// Its short name, for people.
    pub fn name(&self) -> &str {
        let name = self.subscription.as_deref().unwrap_or(self.system);
        name.rsplit('/').next().unwrap_or(name)
    }
}

/// Told of every message that a queue itself moved to the dead letters, after that is durable.
pub type BurialHook = Box<dyn Fn(Code) + Send + Sync>;

/// A source of deliveries.
#[async_trait]
pub trait Ingress: Send {
    /// `local`, `pubsub` or `push`: a metric label and a word in logs.
    fn name(&self) -> &'static str;

    /// What the deliveries come from, as spans name it.
    fn source(&self) -> Source;

    /// From now on `told` hears of the messages that this consumer moves to the dead letters by
    /// itself, because they were delivered too often. The first hook given stays.
    ///
    /// A queue whose server does that (Pub/Sub) never calls it: no worker sees such a burial.
    fn on_burial(&mut self, told: BurialHook) {
        drop(told);
    }

    /// The next delivery. Waits while there is none; cancel-safe. A fatal error ends the
    /// ingress; any other may be followed by further deliveries.
    async fn next(&mut self) -> Result<Delivery>;

    /// Stops pulling and waits until every answer given so far has reached the queue.
    /// Leases still held are given back.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// Where results and dead letters go.
#[async_trait]
pub trait Egress: Send + Sync {
    /// Publishes a result; durable when this returns. `trace` goes with it, where the queue's
    /// results have attributes, so that who reads it can go on with the trace.
    async fn publish_result(&self, result: &JobResult, trace: Option<&TraceContext>) -> Result<()>;

    /// Sends a message that can never succeed to the dead letters, with the reason in its
    /// attributes (`cutout-error-code`, `cutout-error-class`, `cutout-error-message`,
    /// `cutout-message-id`, `cutout-attempt`); durable when this returns.
    async fn dead_letter(&self, message: &Message, error: &Error) -> Result<()>;

    /// Asks whether the queue is there and deliveries can come, for /health. An idle queue and
    /// a broken connection look alike to who waits for a delivery.
    ///
    /// Errors: `queue_unavailable` while it does not answer, `queue_lost` when it is gone.
    async fn probe(&self) -> Result<()>;
}

/// The publishers' side: what `cutout publish` speaks.
#[async_trait]
pub trait JobPublisher: Send + Sync {
    /// Publishes a message and returns the queue's id of it; durable when this returns.
    async fn publish(&self, message: OutgoingMessage) -> Result<String>;

    /// Results published from now on.
    async fn follow_results(&self) -> Result<Box<dyn ResultStream>>;
}

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The payload.
    pub data: Bytes,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Empty for none.
    pub ordering_key: String,
}

/// A stream of results.
#[async_trait]
pub trait ResultStream: Send {
    /// The next result; waits while there is none. Results that cannot be parsed (of a newer
    /// version, say) are skipped with a warning.
    async fn next(&mut self) -> Result<JobResult>;

    /// Gives back what following took (a temporary subscription, say).
    async fn close(self: Box<Self>) -> Result<()>;
}
