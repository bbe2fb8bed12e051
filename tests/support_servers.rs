//! The tests' own servers: what the other tests rely on.

mod support;

use std::time::Duration;

use support::{FakeGcs, PubSub, SubscriptionOptions};

#[tokio::test]
async fn what_is_published_is_pulled_once() {
    let pubsub = PubSub::start().await;
    pubsub.create_topic("jobs").await;
    let options = SubscriptionOptions {
        ack_deadline_seconds: Some(10),
        retry: Some((Duration::from_secs(1), Duration::from_secs(10))),
        ordering: true,
        ..SubscriptionOptions::default()
    };
    pubsub.create_subscription("jobs", "jobs", options).await;
    pubsub.publish("jobs", r#"{"a":1}"#, &[("k", "v")]).await;
    let pulled = pubsub.pull("jobs", 2, Duration::from_secs(2)).await;
    assert_eq!(pulled.len(), 1);
    assert_eq!(pulled[0].json()["a"], 1);
    assert_eq!(pulled[0].attributes["k"], "v");
}

#[tokio::test]
async fn an_upload_is_notified() {
    let pubsub = PubSub::start().await;
    pubsub.create_topic("jobs").await;
    let dead_letter = Some(("dead".to_owned(), 5));
    pubsub.create_topic("dead").await;
    let options = SubscriptionOptions {
        dead_letter,
        exactly_once: true,
        ..SubscriptionOptions::default()
    };
    pubsub.create_subscription("jobs", "jobs", options).await;
    let gcs = FakeGcs::start_notifying(&pubsub, "jobs").await;
    gcs.create_bucket("photos").await;
    let generation = gcs.upload("photos", "in/rex.jpg", "image/jpeg", "x").await;
    let pulled = pubsub.pull("jobs", 1, Duration::from_secs(10)).await;
    let attributes = &pulled[0].attributes;
    assert_eq!(attributes["eventType"], "OBJECT_FINALIZE");
    assert_eq!(attributes["objectId"], "in/rex.jpg");
    assert_eq!(attributes["payloadFormat"], "JSON_API_V1");
    assert_eq!(gcs.list("photos", "in/").await["in/rex.jpg"], generation);
    assert_eq!(pulled[0].json()["contentType"], "image/jpeg");
}

#[tokio::test]
async fn a_killed_server_answers_no_more() {
    let mut gcs = FakeGcs::start().await;
    gcs.create_bucket("photos").await;
    let url = gcs.endpoint();
    gcs.kill();
    assert!(reqwest::get(url).await.is_err());
}
