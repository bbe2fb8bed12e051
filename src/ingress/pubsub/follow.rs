//! Results as they are published, through a subscription of our own.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_pubsub::model::{ExpirationPolicy, Subscription};

use super::{PubSub, PubSubIngress, failure};
use crate::error::{Code, Error, Result};
use crate::ingress::{Ingress, ResultStream};
use crate::job::JobResult;

/// The shortest life that Pub/Sub allows: what a killed follower leaves behind is gone a day
/// later.
const EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Results through a temporary subscription.
pub(super) struct Followed {
    pubsub: PubSub,
    subscription: String,
    ingress: PubSubIngress,
}

impl Followed {
    /// Creates the subscription. Results published after this returns are seen.
    pub(super) async fn start(pubsub: &PubSub, topic: &str) -> Result<Self> {
        // In the topic's project, where the identity that follows is known.
        let project = topic.split('/').nth(1).unwrap_or_default();
        // `RandomState` is seeded by the operating system: enough not to meet another follower.
        let random = RandomState::new().hash_one(std::process::id());
        let subscription = format!("projects/{project}/subscriptions/cutout-follow-{random:016x}");
        let mut expiration = ExpirationPolicy::new();
        expiration.ttl = Some(EXPIRATION.try_into().map_err(|e| {
            Error::new(Code::Internal, "a day is not a duration to Pub/Sub").caused_by(e)
        })?);
        pubsub
            .clients()
            .subscriptions
            .create_subscription()
            .with_request(
                Subscription::new()
                    .set_name(&subscription)
                    .set_topic(topic)
                    .set_expiration_policy(expiration),
            )
            .send()
            .await
            .map_err(|error| {
                failure::explain("create a subscription to follow", topic, Arc::new(error))
            })?;
        Ok(Self {
            ingress: pubsub.pull(&subscription),
            subscription,
            pubsub: pubsub.clone(),
        })
    }
}

#[async_trait]
impl ResultStream for Followed {
    async fn next(&mut self) -> Result<JobResult> {
        loop {
            let delivery = self.ingress.next().await?;
            let result = serde_json::from_slice(&delivery.message.data);
            delivery.lease.ack().await?;
            match result {
                Ok(result) => return Ok(result),
                Err(e) => {
                    tracing::warn!(error = %e, "skipped a result that this version cannot read");
                }
            }
        }
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let closed = Box::new(self.ingress).close().await;
        let clients = self.pubsub.clients();
        let deleted = clients
            .subscriptions
            .delete_subscription()
            .set_subscription(&self.subscription)
            .send()
            .await
            .map_err(|error| failure::explain("delete", &self.subscription, Arc::new(error)));
        deleted.and(closed)
    }
}
