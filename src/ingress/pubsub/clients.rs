//! The official client's parts, and a new set of them where the old one's connections are dead.
//!
//! The client's gRPC channels have neither HTTP/2 keep-alive nor TCP's (google-cloud-gax-internal
//! 0.7, `make_endpoint`), and no setting for them. A connection that a gateway forgot or a failed
//! route swallowed is then silent until TCP gives up on what was sent, some 15 min on Linux
//! (`tcp_retries2`), while every new call goes the same way. A new set of clients has new
//! connections.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::client::{BasePublisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::retry_policy::RetryableErrors;

use super::publisher::TopicPublisher;
use super::{ADMIN_TIMEOUT, failure};
use crate::error::Result;

/// What a set of clients is made from.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// An emulator's; `None` for Pub/Sub itself.
    pub endpoint: Option<String>,
    pub credentials: Credentials,
    /// Full names.
    pub jobs: Option<String>,
    pub results: Option<String>,
    pub dead_letters: Option<String>,
    /// How long a publication is tried again.
    pub publish_timeout: Duration,
}

/// One set; its parts share no connection with another set's.
pub(super) struct Clients {
    pub subscriber: Subscriber,
    pub topics: TopicAdmin,
    pub subscriptions: SubscriptionAdmin,
    pub jobs: Option<TopicPublisher>,
    pub results: Option<TopicPublisher>,
    pub dead_letters: Option<TopicPublisher>,
}

impl Clients {
    /// Sends nothing: connections are made when they are needed.
    async fn make(recipe: &Recipe) -> Result<Self> {
        // The four builders have no trait in common.
        macro_rules! client {
            ($builder:expr) => {{
                let builder = $builder.with_credentials(recipe.credentials.clone());
                match &recipe.endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint),
                    None => builder,
                }
                .build()
                .await
                .map_err(failure::unbuilt)?
            }};
        }
        let patience = RetryableErrors.with_time_limit(recipe.publish_timeout);
        let base = client!(BasePublisher::builder().with_retry_policy(patience));
        let patience = || RetryableErrors.with_time_limit(ADMIN_TIMEOUT);
        let topics = client!(TopicAdmin::builder().with_retry_policy(patience()));
        let subscriptions = client!(SubscriptionAdmin::builder().with_retry_policy(patience()));
        let subscriber = client!(Subscriber::builder());
        let publisher = |topic: &Option<String>| {
            let topic = topic.clone()?;
            Some(TopicPublisher::new(&base, topic, recipe.publish_timeout))
        };
        Ok(Self {
            subscriber,
            topics,
            subscriptions,
            jobs: publisher(&recipe.jobs),
            results: publisher(&recipe.results),
            dead_letters: publisher(&recipe.dead_letters),
        })
    }
}

/// The present set, which can be replaced.
pub(super) struct Connection {
    recipe: Recipe,
    present: RwLock<Arc<Clients>>,
    /// Held while a set is made, so that many who met the same silence make one.
    making: tokio::sync::Mutex<()>,
}

impl Connection {
    /// Makes the first set.
    ///
    /// Errors: `config_invalid` for an endpoint that is none.
    pub(super) async fn make(recipe: Recipe) -> Result<Self> {
        Ok(Self {
            present: RwLock::new(Arc::new(Clients::make(&recipe).await?)),
            making: tokio::sync::Mutex::default(),
            recipe,
        })
    }

    /// The present set. Whoever holds it keeps it, so that what is under way is not broken off.
    pub(super) fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the set that `failed`, unless somebody did so already.
    pub(super) async fn renew(&self, failed: &Arc<Clients>, why: &str) {
        let _making = self.making.lock().await;
        if !Arc::ptr_eq(failed, &self.clients()) {
            return;
        }
        match Clients::make(&self.recipe).await {
            Ok(clients) => {
                tracing::info!(why, "connecting to Pub/Sub anew");
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(clients);
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot connect to Pub/Sub anew");
            }
        }
    }
}
