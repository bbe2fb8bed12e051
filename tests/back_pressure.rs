//! A worker that is full holds no more than it works on: its neighbours get the rest at once.

mod harness;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use harness::{PATIENCE, Worker, file, quick, root_with_jobs, wait_until};
use rusqlite::Connection;
use serde_json::json;
use support::{FakeGcs, PubSub, SubscriptionOptions};

const JOBS: usize = 8;
const HELD: usize = 2;

/// A worker that works on two jobs at once and gets nowhere with them.
fn full(mut command: Command) -> Worker {
    command
        .args(["--max-jobs", &HELD.to_string()])
        .args(["--drain-timeout", "1s"])
        // On the pool's threads: what waits on the runtime's would hold up leases too.
        .env("FAILPOINTS", "photo_decoded=sleep(3600000)");
    Worker::start(command).ready()
}

fn count(root: &Path, query: &str) -> usize {
    let queue = Connection::open(root.join(".cutout/queue.sqlite")).unwrap();
    let count: i64 = queue.query_row(query, [], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

#[test]
fn a_full_worker_leases_no_more_of_the_local_queue_than_it_works_on() {
    let dir = root_with_jobs(JOBS);
    let root = dir.path();
    let worker = || {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "local", "--root"])
            .arg(root);
        command
    };
    let messages = || count(root, "SELECT count(*) FROM messages");
    let leased = "SELECT count(*) FROM messages WHERE lease_owner IS NOT NULL";

    let first = full(worker());
    wait_until("two leases", || (count(root, leased) == HELD).then_some(()));
    let second = Worker::start(worker()).ready();
    wait_until("the second worker's share", || {
        assert!(messages() >= HELD, "a held job was done by somebody else");
        (messages() == HELD).then_some(())
    });
    assert_eq!(count(root, leased), HELD, "the first lost what it works on");
    let local = ["ingress=\"local\""];
    assert_eq!(first.metric("cutout_jobs_in_flight", &local), HELD as f64);
    let done = JOBS - HELD;
    let by_second = second.metric("cutout_jobs_total", &["outcome=\"done\""]);
    assert_eq!(by_second, done as f64);
    first.kill();
    wait_until("an empty queue", || (messages() == 0).then_some(()));
}

/// A worker asks Pub/Sub for no more messages than it works on (`max_outstanding_messages`), but
/// Google's emulator ignores that: it gives all eight to the one stream there is, and a pull of
/// somebody else gets nothing. So what can be shown here is that the surplus is not lost with the
/// worker that sits on it; that others get it at once is Pub/Sub's word.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_worker_was_given_of_a_subscription_goes_to_others_when_it_ends() {
    let (pubsub, gcs) = (PubSub::start().await, FakeGcs::start().await);
    gcs.create_bucket("photos").await;
    for name in ["jobs", "results", "dead"] {
        pubsub.create_topic(name).await;
        let options = SubscriptionOptions {
            ack_deadline_seconds: Some(10),
            ..SubscriptionOptions::default()
        };
        pubsub.create_subscription(name, name, options).await;
    }
    let worker = || {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "pubsub", "--lease-extension", "10s"])
            .args(["--subscription", "jobs", "--results-topic", "results"])
            .args(["--dead-letter-topic", "dead"])
            .env("STORAGE_BUCKET", "photos")
            .env("PUBSUB_EMULATOR_HOST", pubsub.host())
            .env("STORAGE_EMULATOR_HOST", gcs.endpoint())
            .env("GOOGLE_CLOUD_PROJECT", pubsub.project());
        command
    };
    let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
    let mut first = full(worker());
    for i in 0..JOBS {
        let key = format!("cat-{i}.jpg");
        gcs.upload("photos", &key, "image/jpeg", photo.clone())
            .await;
        let job = json!({ "job_id": key, "source": format!("gs://photos/{key}") });
        pubsub.publish("jobs", job.to_string(), &[]).await;
    }
    wait_until("a full worker", || {
        (first.metric("cutout_jobs_in_flight", &[]) == HELD as f64).then_some(())
    });
    let _second = Worker::start(worker()).ready();
    first.signal("TERM");
    assert_eq!(first.exit().0, Some(0));
    let mut done = BTreeSet::new();
    while done.len() < JOBS {
        let results = pubsub.pull("results", 1, PATIENCE).await;
        let result = results.first().expect("a result").json();
        assert_ne!(result["status"], "failed", "{result:#}");
        done.insert(result["job_id"].as_str().unwrap().to_owned());
    }
}
