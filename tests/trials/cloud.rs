//! The shadow between Pub/Sub and Cloud Storage.

use crate::harness::{PATIENCE, Worker, file, wait_until};
use crate::home::Site;
use crate::shadow::ended;
use crate::support::{FakeGcs, PubSub, SubscriptionOptions};
use serde_json::Value;

const PHOTOS: &str = "perkie-photos";
const RECORDS: &str = "perkie-shadow";

#[tokio::test(flavor = "multi_thread")]
async fn records_go_into_a_bucket_of_their_own_and_are_announced_for_nothing() {
    let pubsub = PubSub::start().await;
    for topic in ["cutout-jobs", "cutout-results", "cutout-dead-letters"] {
        pubsub.create_topic(topic).await;
        let options = SubscriptionOptions::default();
        pubsub.create_subscription(topic, topic, options).await;
    }
    let gcs = FakeGcs::start_notifying(&pubsub, "cutout-jobs").await;
    for bucket in [PHOTOS, RECORDS] {
        gcs.create_bucket(bucket).await;
    }
    let site = Site::new(0);
    let mut command = site.command(&["worker", "--shadow-model", "dim", "--shadow-share", "100%"]);
    command
        .args(["--shadow-load-within", "1h"])
        .args(["--shadow-prefix", "gs://perkie-shadow/networks"])
        .env("CUTOUT_INGRESS", "pubsub")
        .env("STORAGE_BUCKET", PHOTOS)
        .env("PUBSUB_EMULATOR_HOST", pubsub.host())
        .env("STORAGE_EMULATOR_HOST", gcs.endpoint())
        .env("GOOGLE_CLOUD_PROJECT", pubsub.project());
    let worker = Worker::start(command).ready();
    let photo = std::fs::read(file("samples/coffee.jpg")).unwrap();
    gcs.upload(PHOTOS, "coffee.jpg", "image/jpeg", photo).await;
    let results = pubsub.pull("cutout-results", 1, PATIENCE).await;
    let result = results.first().expect("a result").json();
    assert_eq!(result["status"], "done", "{result:#}");

    ended(&worker, "done", 1);
    let stored = gcs.list(RECORDS, "").await;
    let stored: Vec<_> = stored.keys().collect();
    let named = |end: &str| {
        let found = stored.iter().find(|key| key.ends_with(end));
        found.unwrap_or_else(|| panic!("no {end} in {stored:?}"))
    };
    assert_eq!(stored.len(), 3, "{stored:?}");
    let record = named(".json");
    assert!(record.starts_with("networks/dim-"), "{record}");
    let content = gcs.download(RECORDS, record).await.unwrap();
    let record: Value = serde_json::from_slice(&content).unwrap();
    assert_eq!(record["job_id"], result["job_id"]);
    assert_eq!(record["source"], result["source"]);
    assert_eq!(record["primary"], result["model"]);
    for which in ["primary", "shadow"] {
        let key = named(&format!(".{which}.png"));
        assert_eq!(record["mattes"][which], format!("gs://{RECORDS}/{key}"));
        let matte = gcs.download(RECORDS, key).await.unwrap();
        let matte = image::load_from_memory(&matte).unwrap();
        assert_eq!((matte.width(), matte.height()), (64, 64));
        let described = gcs.describe(RECORDS, key).await.unwrap();
        let marker = described["metadata"]["cutout-job"].as_str().unwrap();
        assert!(marker.starts_with("shadow-"), "{marker}");
    }
    // The cut-out, the record and both mattes.
    wait_until("the skipped announcements", || {
        let own = worker.metric("cutout_notifications_skipped_total", &["own_output"]);
        (own >= 4.0).then_some(())
    });
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
}
