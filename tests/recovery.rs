//! What /health says when an end is lost or the network is stuck, and that it recovers without a
//! restart: the built program, with cables to its servers that can be cut.

mod harness;
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::{PATIENCE, Worker, cutout, file, wait_until};
use serde_json::{Value, json};
use support::{FakeGcs, Link, PubSub, SubscriptionOptions};

const BUCKET: &str = "perkie-photos";
const JOBS: &str = "cutout-jobs";
const RESULTS: &str = "cutout-results";
const DEAD: &str = "cutout-dead-letters";

/// An end that is lost must be told within this: a question every 15 s that may take 12 s, and
/// as much again for a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Servers, and the cables between them and the worker.
struct Site {
    pubsub: PubSub,
    gcs: FakeGcs,
    to_pubsub: Link,
    to_gcs: Link,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(SubscriptionOptions::default()).await
    }

    /// The subscription has these options, and quick redeliveries.
    async fn start_with(options: SubscriptionOptions) -> Self {
        let pubsub = PubSub::start().await;
        for topic in [JOBS, RESULTS, DEAD] {
            pubsub.create_topic(topic).await;
        }
        let options = SubscriptionOptions {
            ack_deadline_seconds: Some(10),
            retry: Some((Duration::from_secs(1), Duration::from_secs(5))),
            ..options
        };
        pubsub.create_subscription(JOBS, JOBS, options).await;
        let options = SubscriptionOptions::default();
        pubsub.create_subscription(RESULTS, RESULTS, options).await;
        let gcs = FakeGcs::start().await;
        gcs.create_bucket(BUCKET).await;
        Self {
            to_pubsub: Link::to(pubsub.host()).await,
            to_gcs: Link::to(gcs.host()).await,
            pubsub,
            gcs,
        }
    }

    /// A worker that reaches both servers through the cables, ready and healthy.
    fn worker(&self) -> Worker {
        let mut command = cutout();
        command
            .args(["worker", "--ingress", "pubsub", "--lease-extension", "10s"])
            .env("PUBSUB_EMULATOR_HOST", self.to_pubsub.host())
            .env(
                "STORAGE_EMULATOR_HOST",
                format!("http://{}", self.to_gcs.host()),
            )
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project())
            .env("STORAGE_BUCKET", BUCKET);
        let worker = Worker::start(command).ready();
        healthy(&worker);
        worker
    }

    /// A photo and a job for it.
    async fn publish(&self, name: &str) {
        let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
        let key = format!("{name}.jpg");
        self.gcs.upload(BUCKET, &key, "image/jpeg", photo).await;
        let job = json!({ "job_id": name, "source": format!("gs://{BUCKET}/{key}") });
        self.pubsub.publish(JOBS, job.to_string(), &[]).await;
    }

    /// Waits for this job's result. An outage may have swallowed an ack, so that a job is
    /// answered twice, the second time as a duplicate: both say that its output is there.
    async fn done(&self, name: &str) {
        loop {
            let results = self.pubsub.pull(RESULTS, 1, PATIENCE).await;
            let result = results.first().expect("a result").json();
            assert_ne!(result["status"], "failed", "{result:#}");
            if result["job_id"] == name {
                return;
            }
        }
    }

    /// Publishes jobs until one of them is done. The emulator goes on delivering to streams that
    /// an outage has killed, and what it gave to one of those is away for 10 s, several times in
    /// a row: that a certain job comes through soon would say more of the emulator than of us.
    async fn flows(&self, name: &str) {
        let since = Instant::now();
        let mut number = 0;
        while since.elapsed() < PATIENCE {
            number += 1;
            self.publish(&format!("{name}-{number}")).await;
            let results = self.pubsub.pull(RESULTS, 1, Duration::from_secs(5)).await;
            for result in results.iter().map(support::pubsub::Pulled::json) {
                assert_ne!(result["status"], "failed", "{result:#}");
                if result["job_id"].as_str().unwrap().starts_with(name) {
                    return;
                }
            }
        }
        panic!("none of {number} jobs came through");
    }
}

fn healthy(worker: &Worker) {
    wait_until("a healthy worker", || {
        (worker.get_json("/health")["status"] == "healthy").then_some(())
    });
}

/// Waits until /health says this reason; 200, because a restart would mend nothing.
fn degraded(worker: &Worker, reason: &str) -> Value {
    let since = Instant::now();
    let health = wait_until(reason, || {
        let (status, body) = worker.get("/health");
        assert_eq!(status, 200, "{body}");
        let health: Value = serde_json::from_str(&body).unwrap();
        (health["reason"] == reason).then_some(health)
    });
    assert!(
        since.elapsed() < TOLD_WITHIN,
        "told after {:?}",
        since.elapsed()
    );
    assert_eq!(health["status"], "degraded", "{health:#}");
    assert!(health["detail"].is_string(), "{health:#}");
    health
}

fn component(worker: &Worker, name: &str) -> f64 {
    let label = format!("component=\"{name}\"");
    worker.metric("cutout_component_up", &[&label])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_queue_is_told_and_jobs_flow_again_when_it_is_back() {
    let site = Site::start().await;
    let worker = site.worker();
    for (name, break_it) in [
        ("cut", Link::cut as fn(&Link)),
        ("silent", Link::silence as fn(&Link)),
    ] {
        break_it(&site.to_pubsub);
        let health = degraded(&worker, "queue_unavailable");
        assert_eq!(health["queue_connected"], false, "{health:#}");
        assert_eq!(health["storage_connected"], true, "{health:#}");
        assert_eq!(component(&worker, "queue"), 0.0);
        site.to_pubsub.mend();
        healthy(&worker);
        assert_eq!(component(&worker, "queue"), 1.0);
        // Rather than in the client's back-off, which may last a minute by now.
        wait_until("a new stream", || {
            worker.logged("pulling through a new stream")
        });
        site.flows(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_a_gateway_forgot_are_made_anew() {
    let site = Site::start().await;
    let worker = site.worker();
    site.to_pubsub.strand();
    // TCP would find out after a quarter of an hour; the worker asks, and then connects anew.
    degraded(&worker, "queue_unavailable");
    wait_until("new connections", || {
        worker.logged("connecting to Pub/Sub anew")
    });
    healthy(&worker);
    site.flows("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_is_told_and_the_jobs_of_the_outage_are_done_after_it() {
    let site = Site::start().await;
    let worker = site.worker();
    for (name, break_it) in [
        ("cut", Link::cut as fn(&Link)),
        ("silent", Link::silence as fn(&Link)),
    ] {
        break_it(&site.to_gcs);
        site.publish(name).await;
        let health = degraded(&worker, "storage_unavailable");
        assert_eq!(health["storage_connected"], false, "{health:#}");
        assert_eq!(component(&worker, "storage"), 0.0);
        site.to_gcs.mend();
        healthy(&worker);
        assert_eq!(component(&worker, "storage"), 1.0);
        site.done(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_lost_store_and_use_up_no_attempt() {
    const COUNT: usize = 6;
    let site = Site::start_with(SubscriptionOptions {
        dead_letter: Some((DEAD.to_owned(), 5)),
        ..SubscriptionOptions::default()
    })
    .await;
    let worker = site.worker();
    site.to_gcs.cut();
    degraded(&worker, "storage_unavailable");
    for i in 0..COUNT {
        site.publish(&format!("waiting-{i}")).await;
    }
    // A job that is tried against a dead store is back in the queue after some three seconds.
    tokio::time::sleep(Duration::from_secs(10)).await;
    site.to_gcs.mend();
    // The emulator may deliver a job again that was answered already, which ends as a duplicate.
    let mut done = BTreeMap::new();
    while done.len() < COUNT {
        let results = site.pubsub.pull(RESULTS, 1, PATIENCE).await;
        let result = results.first().expect("a result").json();
        let (id, status) = (&result["job_id"], &result["status"]);
        if status != "duplicate" {
            assert_eq!(status, "done", "{result:#}");
            done.insert(id.to_string(), result["attempt"].clone());
        }
    }
    assert!(done.values().all(|attempt| *attempt == 1), "{done:?}");
    assert!(
        worker
            .logged("the job failed and goes back to the queue")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_bucket_is_named_and_one_made_again_is_used() {
    let site = Site::start().await;
    let worker = site.worker();
    site.gcs.delete_bucket(BUCKET).await;
    let health = degraded(&worker, "storage_unavailable");
    let detail = health["detail"].as_str().unwrap();
    assert!(detail.contains(BUCKET), "{detail}");
    site.gcs.create_bucket(BUCKET).await;
    healthy(&worker);
    site.publish("again").await;
    site.done("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_subscription_is_deleted_ends_and_says_why() {
    let site = Site::start().await;
    let mut worker = site.worker();
    let subscriptions = site.pubsub.subscriptions();
    let delete = subscriptions.delete_subscription();
    let path = site.pubsub.subscription_path(JOBS);
    delete.set_subscription(path).send().await.unwrap();
    let (code, took) = worker.exit();
    assert_eq!(code, Some(1));
    assert!(took < TOLD_WITHIN, "{took:?}");
    let end = worker.logged("the worker ends").expect("the last words");
    assert_eq!(end["code"], "queue_lost", "{end:#}");
}

#[test]
fn a_run_beyond_stuck_after_turns_health_red_and_its_end_turns_it_green() {
    let dir = tempfile::tempdir().unwrap();
    // A run of this network takes around a second: every one is "stuck" after 50 ms, and none for
    // so long that the worker ends.
    let limits = ["--stuck-after", "50ms", "--give-up-after", "1h"];
    let worker = Worker::local(dir.path(), &limits).ready();
    healthy(&worker);
    let photo = dir.path().join("inbox/cat.jpg");
    std::fs::copy(file("samples/cat.jpg"), photo).unwrap();
    let (status, health) = wait_until("a stuck engine", || {
        let (status, body) = worker.get("/health");
        (status != 200).then(|| (status, serde_json::from_str::<Value>(&body).unwrap()))
    });
    assert_eq!(status, 503);
    assert_eq!(health["reason"], "engine_stuck", "{health:#}");
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["endpoints"]["processing_available"], false);
    healthy(&worker);
    wait_until("the cut-out", || {
        dir.path()
            .join("outbox/cat.cutout.png")
            .exists()
            .then_some(())
    });
}
