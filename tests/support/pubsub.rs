//! Google's Pub/Sub emulator, and helpers that speak to it without the code under test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::model::{DeadLetterPolicy, PushConfig, RetryPolicy, Subscription};
use serde_json::{Value, json};

use super::process::{Server, binary};

/// A running emulator; it dies when this is dropped.
pub struct PubSub {
    server: Server,
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    http: reqwest::Client,
}

/// What a subscription is created with; the default is Pub/Sub's own.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionOptions {
    /// Seconds until an unanswered message is delivered again (Pub/Sub: 10 to 600).
    pub ack_deadline_seconds: Option<i32>,
    /// The dead-letter topic's short name, and the attempts before a message goes there.
    pub dead_letter: Option<(String, i32)>,
    /// The shortest and the longest wait before a redelivery.
    pub retry: Option<(Duration, Duration)>,
    /// Deliver messages of one ordering key in order.
    pub ordering: bool,
    /// Exactly-once delivery.
    pub exactly_once: bool,
}

/// A message that a helper pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub data: Vec<u8>,
    pub attributes: BTreeMap<String, String>,
    pub ordering_key: String,
}

impl Pulled {
    /// The data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.data).unwrap()
    }
}

impl PubSub {
    /// Starts an empty emulator.
    pub async fn start() -> Self {
        let program = binary("CUTOUT_TEST_PUBSUB_EMULATOR", "pubsub-emulator");
        // A short-lived JVM: the fast compiler and the small collector start a third sooner.
        let java = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx512m".to_owned();
        let server = Server::start(&program, &[("JAVA_OPTS", java)], |port| {
            vec!["--host=127.0.0.1".into(), format!("--port={port}")]
        })
        .await;
        let endpoint = format!("http://127.0.0.1:{}", server.port);
        let credentials = anonymous::Builder::new().build();
        let topics = TopicAdmin::builder()
            .with_endpoint(&endpoint)
            .with_credentials(credentials.clone());
        let subscriptions = SubscriptionAdmin::builder()
            .with_endpoint(&endpoint)
            .with_credentials(credentials);
        Self {
            topics: topics.build().await.unwrap(),
            subscriptions: subscriptions.build().await.unwrap(),
            http: reqwest::Client::new(),
            server,
        }
    }

    /// `127.0.0.1:PORT`, the value of `PUBSUB_EMULATOR_HOST`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// The project in which the helpers create everything.
    pub fn project(&self) -> &str {
        "cutout-test"
    }

    /// Kills the emulator, as an outage would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// The official client for topics.
    pub fn topics(&self) -> &TopicAdmin {
        &self.topics
    }

    /// The official client for subscriptions.
    pub fn subscriptions(&self) -> &SubscriptionAdmin {
        &self.subscriptions
    }

    /// `projects/PROJECT/topics/TOPIC`.
    pub fn topic_path(&self, topic: &str) -> String {
        format!("projects/{}/topics/{topic}", self.project())
    }

    /// `projects/PROJECT/subscriptions/SUBSCRIPTION`.
    pub fn subscription_path(&self, subscription: &str) -> String {
        format!("projects/{}/subscriptions/{subscription}", self.project())
    }

    /// Creates a topic and returns its full name.
    pub async fn create_topic(&self, topic: &str) -> String {
        let path = self.topic_path(topic);
        let request = self.topics.create_topic().set_name(&path);
        request.send().await.unwrap();
        path
    }

    /// Creates a subscription to a topic of this project and returns its full name.
    pub async fn create_subscription(
        &self,
        subscription: &str,
        topic: &str,
        options: SubscriptionOptions,
    ) -> String {
        let path = self.subscription_path(subscription);
        let mut wanted = Subscription::new()
            .set_name(&path)
            .set_topic(self.topic_path(topic))
            .set_enable_message_ordering(options.ordering)
            .set_enable_exactly_once_delivery(options.exactly_once);
        if let Some(seconds) = options.ack_deadline_seconds {
            wanted = wanted.set_ack_deadline_seconds(seconds);
        }
        if let Some((topic, attempts)) = options.dead_letter {
            let policy = DeadLetterPolicy::new()
                .set_dead_letter_topic(self.topic_path(&topic))
                .set_max_delivery_attempts(attempts);
            wanted = wanted.set_dead_letter_policy(policy);
        }
        if let Some((shortest, longest)) = options.retry {
            let mut policy = RetryPolicy::new();
            policy.minimum_backoff = Some(shortest.try_into().unwrap());
            policy.maximum_backoff = Some(longest.try_into().unwrap());
            wanted = wanted.set_retry_policy(policy);
        }
        let request = self.subscriptions.create_subscription();
        request.with_request(wanted).send().await.unwrap();
        path
    }

    /// Creates a subscription whose messages are pushed to `endpoint`, a second after a failure
    /// at the earliest.
    pub async fn create_push_subscription(&self, subscription: &str, topic: &str, endpoint: &str) {
        let mut policy = RetryPolicy::new();
        policy.minimum_backoff = Some(Duration::from_secs(1).try_into().unwrap());
        policy.maximum_backoff = Some(Duration::from_secs(2).try_into().unwrap());
        let wanted = Subscription::new()
            .set_name(self.subscription_path(subscription))
            .set_topic(self.topic_path(topic))
            .set_ack_deadline_seconds(60)
            .set_push_config(PushConfig::new().set_push_endpoint(endpoint))
            .set_retry_policy(policy);
        let request = self.subscriptions.create_subscription();
        request.with_request(wanted).send().await.unwrap();
    }

    /// Publishes a message and returns its id.
    pub async fn publish(
        &self,
        topic: &str,
        data: impl AsRef<[u8]>,
        attributes: &[(&str, &str)],
    ) -> String {
        let attributes: BTreeMap<_, _> = attributes.iter().copied().collect();
        let message = json!({ "data": BASE64_STANDARD.encode(data), "attributes": attributes });
        let ids = self.publish_messages(topic, &[message]).await;
        ids.into_iter().next().unwrap()
    }

    /// Publishes many messages with as few requests as Pub/Sub allows (1,000 a request).
    pub async fn publish_all(&self, topic: &str, data: impl IntoIterator<Item = &str>) {
        let message = |data: &str| json!({ "data": BASE64_STANDARD.encode(data) });
        let messages: Vec<_> = data.into_iter().map(message).collect();
        for messages in messages.chunks(1000) {
            self.publish_messages(topic, messages).await;
        }
    }

    async fn publish_messages(&self, topic: &str, messages: &[Value]) -> Vec<String> {
        let path = format!("{}:publish", self.topic_path(topic));
        let answer = self.post(&path, json!({ "messages": messages })).await;
        let ids = answer["messageIds"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Pulls and acknowledges until `count` messages have come or `limit` is over, and returns
    /// what has come.
    pub async fn pull(&self, subscription: &str, count: usize, limit: Duration) -> Vec<Pulled> {
        let path = self.subscription_path(subscription);
        let started = Instant::now();
        let mut pulled = Vec::new();
        while pulled.len() < count && started.elapsed() < limit {
            let question =
                json!({ "maxMessages": count - pulled.len(), "returnImmediately": true });
            let answer = self.post(&format!("{path}:pull"), question).await;
            let received = answer["receivedMessages"].as_array().cloned();
            let received = received.unwrap_or_default();
            if received.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let ids: Vec<_> = received.iter().map(|m| m["ackId"].clone()).collect();
            self.post(&format!("{path}:acknowledge"), json!({ "ackIds": ids }))
                .await;
            pulled.extend(received.iter().map(|m| pulled_from(&m["message"])));
        }
        pulled
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}/v1/{path}", self.host());
        let response = self.http.post(url).json(&body).send().await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }
}

fn pulled_from(message: &Value) -> Pulled {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = message["attributes"].as_object().cloned();
    Pulled {
        data: BASE64_STANDARD.decode(text(&message["data"])).unwrap(),
        attributes: attributes
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        ordering_key: text(&message["orderingKey"]),
    }
}
