//! What others do to the buckets while a job is in work: photos that are replaced or deleted, and
//! destinations that are taken, each between the worker's look and its next step.
//!
//! The subscription delivers in order and exactly once, as far as Google's emulator does.

mod harness;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use harness::{PATIENCE, Worker, file, quick};
use serde_json::{Value, json};
use support::proxy::Seen;
use support::{FakeGcs, Fault, Proxy, PubSub, SubscriptionOptions};

const UPLOADS: &str = "uploads";
const PRINTS: &str = "prints";
/// Exists, and no job may touch it.
const SECRETS: &str = "secrets";
const JOBS: &str = "cutout-jobs";
const RESULTS: &str = "cutout-results";
const DEAD: &str = "cutout-dead-letters";

type Act = Box<dyn FnOnce(Arc<FakeGcs>) -> BoxFuture<'static, ()> + Send>;

/// What somebody does when the worker first asks for this.
struct Deed {
    method: &'static str,
    /// Part of path and query.
    target: String,
    does: Act,
}

struct Site {
    pubsub: PubSub,
    gcs: Arc<FakeGcs>,
    deeds: Arc<Mutex<Vec<Deed>>>,
    proxy: Proxy,
}

impl Site {
    async fn start() -> Self {
        let pubsub = PubSub::start().await;
        for topic in [JOBS, RESULTS, DEAD] {
            pubsub.create_topic(topic).await;
        }
        let options = SubscriptionOptions {
            ack_deadline_seconds: Some(10),
            retry: Some((Duration::from_secs(1), Duration::from_secs(3))),
            dead_letter: Some((DEAD.to_owned(), 20)),
            ordering: true,
            exactly_once: true,
        };
        pubsub.create_subscription(JOBS, JOBS, options).await;
        for topic in [RESULTS, DEAD] {
            let options = SubscriptionOptions::default();
            pubsub.create_subscription(topic, topic, options).await;
        }
        let gcs = Arc::new(FakeGcs::start().await);
        for bucket in [UPLOADS, PRINTS, SECRETS] {
            gcs.create_bucket(bucket).await;
        }
        let deeds = Arc::<Mutex<Vec<Deed>>>::default();
        let (planned, server) = (deeds.clone(), gcs.clone());
        let proxy = Proxy::start_doing(gcs.endpoint(), move |seen| {
            let due = {
                let mut planned = planned.lock().unwrap();
                let due = planned.iter().position(|deed| {
                    seen.method == deed.method && seen.target.contains(deed.target.as_str())
                });
                due.map(|due| planned.remove(due))
            };
            let server = server.clone();
            async move {
                if let Some(due) = due {
                    (due.does)(server).await;
                }
                Fault::None
            }
            .boxed()
        })
        .await;
        Self {
            pubsub,
            gcs,
            deeds,
            proxy,
        }
    }

    fn worker(&self) -> Worker {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "pubsub", "--lease-extension", "10s"])
            .args(["--source-buckets", "uploads,prints/in/"])
            .env("STORAGE_BUCKET", PRINTS)
            .env("PUBSUB_EMULATOR_HOST", self.pubsub.host())
            .env("STORAGE_EMULATOR_HOST", self.proxy.host())
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project());
        Worker::start(command).ready()
    }

    async fn photo(&self, key: &str) -> i64 {
        let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
        self.gcs.upload(UPLOADS, key, "image/jpeg", photo).await
    }

    /// When the worker reads this photo, before it gets anything.
    fn when_read(&self, key: &str, does: Act) {
        self.deeds.lock().unwrap().push(Deed {
            method: "GET",
            target: format!("{key}?alt=media"),
            does,
        });
    }

    /// Results by job, once every one of `jobs` has one.
    async fn results(&self, jobs: &[&str]) -> BTreeMap<String, Value> {
        let wanted: BTreeSet<_> = jobs.iter().map(|&job| job.to_owned()).collect();
        let mut found = BTreeMap::new();
        while !wanted.iter().all(|job| found.contains_key(job)) {
            let pulled = self.pubsub.pull(RESULTS, 1, PATIENCE).await;
            let result = pulled.first().expect("a result").json();
            let id = result["job_id"].as_str().unwrap().to_owned();
            found.entry(id).or_insert(result);
        }
        found
    }
}

fn deleted(key: &'static str) -> Act {
    Box::new(move |gcs| async move { gcs.delete(UPLOADS, key).await }.boxed())
}

fn replaced(key: &'static str) -> Act {
    let other = std::fs::read(file("samples/coffee.jpg")).unwrap();
    Box::new(move |gcs| {
        async move {
            gcs.upload(UPLOADS, key, "image/jpeg", other).await;
        }
        .boxed()
    })
}

fn taken(key: &'static str) -> Act {
    Box::new(move |gcs| {
        async move {
            gcs.upload(PRINTS, key, "text/plain", "a stranger's").await;
        }
        .boxed()
    })
}

fn code(result: &Value) -> &str {
    result["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_change_and_destinations_are_taken_while_jobs_are_in_work() {
    let site = Site::start().await;
    let worker = site.worker();
    let mut generations = BTreeMap::new();
    let jobs = ["deleted", "replaced", "pinned", "taken", "overwritten"];
    for job in jobs {
        let key = format!("{job}.jpg");
        generations.insert(job, site.photo(&key).await);
    }
    site.when_read("deleted.jpg", deleted("deleted.jpg"));
    site.when_read("replaced.jpg", replaced("replaced.jpg"));
    site.when_read("pinned.jpg", replaced("pinned.jpg"));
    site.when_read("taken.jpg", taken("taken.cutout.png"));
    site.when_read("overwritten.jpg", taken("overwritten.cutout.png"));
    for job in jobs {
        let pinned = match job {
            "pinned" => format!("#{}", generations[job]),
            _ => String::new(),
        };
        let message = json!({
            "job_id": job,
            "source": format!("gs://{UPLOADS}/{job}.jpg{pinned}"),
            "overwrite": job == "overwritten",
        });
        site.pubsub.publish(JOBS, message.to_string(), &[]).await;
    }

    let results = site.results(&jobs).await;
    // Whether it was replaced or deleted is seen at the next attempt.
    assert_eq!(code(&results["deleted"]), "source_not_found");
    assert_eq!(code(&results["pinned"]), "source_not_found");
    let retried = |code: &str| {
        let labels = [&*format!("code=\"{code}\""), "op=\"job\""];
        worker.metric("cutout_retries_total", &labels)
    };
    assert_eq!(retried("source_changed"), 2.0);

    let fresh = &results["replaced"];
    assert_eq!(fresh["status"], "done", "{fresh:#}");
    let source = fresh["source"].as_str().unwrap();
    let old = format!("gs://{UPLOADS}/replaced.jpg#{}", generations["replaced"]);
    assert_ne!(source, old, "the photo that is there now");

    assert_eq!(code(&results["taken"]), "destination_exists");
    let stranger = site.gcs.download(PRINTS, "taken.cutout.png").await;
    assert_eq!(stranger.unwrap(), b"a stranger's");

    // Told to overwrite, it writes over what its second attempt saw, and not blindly.
    let overwritten = &results["overwritten"];
    assert_eq!(overwritten["status"], "done", "{overwritten:#}");
    assert_eq!(retried("output_race"), 1.0);
    let print = site.gcs.download(PRINTS, "overwritten.cutout.png").await;
    assert!(print.unwrap().starts_with(b"\x89PNG"));

    let dead = site.pubsub.pull(DEAD, 3, PATIENCE).await;
    let mut dead: Vec<_> = dead
        .iter()
        .map(|letter| letter.json()["job_id"].as_str().unwrap().to_owned())
        .collect();
    dead.sort();
    assert_eq!(dead, ["deleted", "pinned", "taken"]);
    assert!(site.deeds.lock().unwrap().is_empty(), "every deed was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_of_any_kind_reaches_a_place_off_the_lists() {
    let site = Site::start().await;
    let _worker = site.worker();
    site.photo("rex.jpg").await;
    let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
    for (bucket, key) in [(SECRETS, "rex.jpg"), (PRINTS, "out/rex.jpg")] {
        let photo = photo.clone();
        site.gcs.upload(bucket, key, "image/jpeg", photo).await;
    }
    let before = site.gcs.list(SECRETS, "").await;

    let source = format!("gs://{UPLOADS}/rex.jpg");
    for (job, message) in [
        (
            "source",
            json!({ "source": format!("gs://{SECRETS}/rex.jpg") }),
        ),
        (
            "prefix",
            json!({ "source": format!("gs://{PRINTS}/out/rex.jpg") }),
        ),
        (
            "destination",
            json!({ "source": source, "destination": format!("gs://{SECRETS}/x.png") }),
        ),
        (
            "background",
            json!({ "source": source, "output": { "kind": format!("image:gs://{SECRETS}/rex.jpg") } }),
        ),
    ] {
        let mut message = message;
        message["job_id"] = job.into();
        site.pubsub.publish(JOBS, message.to_string(), &[]).await;
    }
    // An announcement says what it likes about its bucket, too.
    let attributes = [
        ("eventType", "OBJECT_FINALIZE"),
        ("payloadFormat", "JSON_API_V1"),
        ("bucketId", SECRETS),
        ("objectId", "rex.jpg"),
        ("objectGeneration", "1"),
    ];
    let resource = json!({
        "name": "rex.jpg", "bucket": SECRETS, "contentType": "image/jpeg", "size": "1234", "generation": "1",
    });
    site.pubsub
        .publish(JOBS, resource.to_string(), &attributes)
        .await;

    let dead = site.pubsub.pull(DEAD, 5, PATIENCE).await;
    assert_eq!(dead.len(), 5);
    for letter in dead {
        let why = &letter.attributes["cutout-error-code"];
        assert_eq!(why, "bucket_forbidden", "{:?}", letter.attributes);
    }
    let asked = site.proxy.seen();
    let reaches = |seen: &Seen| seen.target.contains(&format!("/b/{SECRETS}/"));
    assert!(!asked.iter().any(reaches), "nobody even asked");
    assert_eq!(site.gcs.list(SECRETS, "").await, before);
    assert!(site.gcs.list(PRINTS, "").await.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_output_of_a_job_is_written_once_over_what_was_there_by_deliveries_at_the_same_time() {
    let site = Site::start().await;
    let _worker = site.worker();
    site.photo("rex.jpg").await;
    let outputs = ["rex.cutout.png", "rex.popart.png", "rex.dithering.png"];
    for key in outputs {
        site.gcs
            .upload(PRINTS, key, "text/plain", "a stranger's")
            .await;
    }
    let message = json!({
        "job_id": "rex",
        "source": format!("gs://{UPLOADS}/rex.jpg"),
        "effects": ["popart", "dithering"],
        "overwrite": true,
    });
    for _ in 0..3 {
        site.pubsub.publish(JOBS, message.to_string(), &[]).await;
    }

    let results = site.pubsub.pull(RESULTS, 3, PATIENCE).await;
    let told: Vec<_> = results.iter().map(|result| result.json()).collect();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter().any(|result| result["status"] == "done"),
        "{told:#?}"
    );
    let written = |result: &Value| -> BTreeMap<String, Value> {
        let outputs = result["outputs"].as_array().expect("outputs");
        let named = |output: &Value| (output["uri"].to_string(), output["generation"].clone());
        outputs.iter().map(named).collect()
    };
    for result in &told {
        assert_eq!(written(result), written(&told[0]), "{told:#?}");
    }
    for key in outputs {
        let object = site.gcs.download(PRINTS, key).await.unwrap();
        assert!(object.starts_with(b"\x89PNG"), "{key}");
    }
}
