//! Publishing to one topic, durably.

use std::time::Duration;

use google_cloud_pubsub::client::{BasePublisher, Publisher};
use google_cloud_pubsub::model;

use super::failure;
use crate::error::{Code, Error, Result};
use crate::ingress::OutgoingMessage;

/// The client gives up by itself after the configured time; this much later we stop believing
/// that it will.
const GRACE: Duration = Duration::from_secs(5);

/// A topic to publish to.
pub(super) struct TopicPublisher {
    name: String,
    base: BasePublisher,
    /// Batches messages without an ordering key.
    unordered: Publisher,
    timeout: Duration,
}

impl TopicPublisher {
    pub(super) fn new(base: &BasePublisher, name: String, timeout: Duration) -> Self {
        Self {
            unordered: base.publisher(&name).build(),
            base: base.clone(),
            name,
            timeout,
        }
    }

    /// The topic's full name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Publishes and returns the message's id; durable when this returns.
    ///
    /// Errors: those of [`failure::explain`].
    pub(super) async fn publish(&self, message: OutgoingMessage) -> Result<String> {
        // The client keeps a task for every ordering key that a publisher ever saw, and a key
        // whose publication failed stays paused. Our keys are job ids, each used once or
        // twice: a publisher of its own for such a message costs two tasks that end with it.
        let publisher = if message.ordering_key.is_empty() {
            self.unordered.clone()
        } else {
            self.base
                .publisher(&self.name)
                .set_message_count_threshold(1_u32)
                .build()
        };
        let message = model::Message::new()
            .set_data(message.data)
            .set_attributes(message.attributes)
            .set_ordering_key(message.ordering_key);
        match tokio::time::timeout(self.timeout + GRACE, publisher.publish(message)).await {
            Ok(published) => published.map_err(|e| failure::unpublished(&self.name, e)),
            Err(elapsed) => Err(Error::new(
                Code::QueueUnavailable,
                format!(
                    "cannot publish to {}: no answer; it is tried again",
                    self.name
                ),
            )
            .caused_by(elapsed)),
        }
    }
}
