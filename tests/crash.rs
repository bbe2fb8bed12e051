//! The worker dies at each named place (`src/crash.rs`), twice where it can, and the job comes again: one output
//! of one generation, at least one result, nothing left in the queue, nothing lost.
//!
//! `cargo nextest run --features failpoints --test crash --no-capture` prints the table of outcomes.

mod harness;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use cutout::crash::POINTS;
use cutout::store::dir::DirStore;
use harness::{PATIENCE, Worker, file, quick, root_with_jobs, run, told, wait_until};
use rusqlite::Connection;
use serde_json::{Value, json};
use support::{FakeGcs, PubSub, SubscriptionOptions};

/// Where a job that can never succeed dies instead of an ordinary one.
const OF_BAD_JOBS: [&str; 2] = ["failure_published", "dead_letter_published"];

/// Places inside the directory store.
const OF_THE_DIRECTORY: [&str; 2] = ["output_staged", "output_described"];

/// Places that a job passes once: when it comes again, its output is there, or the job is not.
const PASSED_ONCE: [&str; 3] = ["effect_written", "output_written", "message_acked"];

/// Places that only a job with an effect comes by.
const OF_EFFECTS: [&str; 2] = ["effect_encoded", "effect_written"];

fn crashes(point: &str) -> u32 {
    if PASSED_ONCE.contains(&point) { 1 } else { 2 }
}

/// The effects of the job that dies at a place.
fn effects(point: &str) -> &'static [&'static str] {
    if OF_EFFECTS.contains(&point) {
        &["popart"]
    } else {
        &[]
    }
}

/// What became of a job after its crashes.
struct Outcome {
    point: &'static str,
    /// How often the worker died.
    deaths: u32,
    /// `status` of each result.
    results: Vec<String>,
    outputs: usize,
    dead_letters: usize,
}

impl Outcome {
    fn check(&self) {
        let point = self.point;
        let bad = OF_BAD_JOBS.contains(&point);
        assert_eq!(self.deaths, crashes(point), "{point}");
        let outputs = if bad { 0 } else { 1 + effects(point).len() };
        assert_eq!(self.outputs, outputs, "{point}");
        assert!(!self.results.is_empty(), "{point}: no result");
        if bad {
            assert!(self.results.iter().all(|s| s == "failed"), "{point}");
            assert!(self.dead_letters >= 1, "{point}: no dead letter");
        } else {
            assert!(!self.results.iter().any(|s| s == "failed"), "{point}");
            assert_eq!(self.dead_letters, 0, "{point}");
        }
    }

    fn print(&self) {
        println!(
            "| {} | {} | {} | {} | {} |",
            self.point,
            self.deaths,
            self.results.join(", "),
            self.outputs,
            self.dead_letters
        );
    }
}

fn print_head() {
    println!("| crash at | deaths | results | outputs | dead letters |");
    println!("|---|---|---|---|---|");
}

/// Runs a worker that is to die at `point`; whether it did.
fn dies(mut command: Command, point: &str) -> bool {
    let mut child = command
        .env("FAILPOINTS", format!("{point}=return"))
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let died = ended(&mut child);
    let _ = child.kill();
    let _ = child.wait();
    died
}

fn ended(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), None, "it ended by itself: {status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn local_worker(root: &Path) -> Command {
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(root);
    command
}

fn files(folder: &Path) -> BTreeMap<String, SystemTime> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().display().to_string();
            (name, entry.metadata().unwrap().modified().unwrap())
        })
        .collect()
}

fn rows(root: &Path, query: &str) -> Vec<String> {
    let queue = Connection::open(root.join(".cutout/queue.sqlite")).unwrap();
    let mut statement = queue.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn waits_for_an_empty_queue(root: &Path) {
    wait_until("an empty queue", || {
        rows(root, "SELECT hex(data) FROM messages")
            .is_empty()
            .then_some(())
    });
}

fn local_outcome(point: &'static str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let bad = OF_BAD_JOBS.contains(&point);
    let photo = if bad {
        "tests/fixtures/images/text.jpg"
    } else {
        "samples/cat.jpg"
    };
    std::fs::create_dir(root.join("photos")).unwrap();
    std::fs::copy(file(photo), root.join("photos/cat.jpg")).unwrap();
    let mut publish = quick();
    publish
        .args(["publish", "--ingress", "local", "--root"])
        .arg(root)
        .arg("photos/cat.jpg");
    for effect in effects(point) {
        publish.args(["--effect", effect]);
    }
    let published = run(&mut publish);
    assert!(published.status.success(), "{}", told(&published));

    let (mut deaths, mut seen) = (0, BTreeMap::new());
    for _ in 0..crashes(point) {
        deaths += u32::from(dies(local_worker(root), point));
        seen.extend(files(&root.join("outbox")));
    }
    let worker = Worker::start(local_worker(root)).ready();
    waits_for_an_empty_queue(root);
    drop(worker);

    let outputs = files(&root.join("outbox"));
    for (name, generation) in &seen {
        assert_eq!(
            outputs.get(name),
            Some(generation),
            "{point}: written twice"
        );
    }
    sweeps_what_the_dead_left(root, point);
    let results = rows(root, "SELECT data FROM results ORDER BY id");
    let results = results
        .iter()
        .map(|json| serde_json::from_str::<Value>(json).unwrap())
        .map(|result| result["status"].as_str().unwrap().to_owned())
        .collect();
    Outcome {
        point,
        deaths,
        results,
        outputs: outputs.len(),
        dead_letters: rows(root, "SELECT attributes FROM dead_letters").len(),
    }
}

/// Leftovers of the killed go when they are old enough to be nobody's.
fn sweeps_what_the_dead_left(root: &Path, point: &str) {
    let staging = root.join(".cutout/tmp");
    let left = files(&staging);
    // Each process leaves one at most: an output's, or that of the probe of the directory.
    assert!(left.len() <= 3, "{point}: {left:?}");
    let old = SystemTime::now() - Duration::from_secs(7200);
    for path in left.keys() {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(old).unwrap();
    }
    DirStore::open(root).unwrap();
    assert!(files(&staging).is_empty(), "{point}");
}

#[test]
fn local_jobs_survive_a_crash_at_every_place() {
    print_head();
    for point in POINTS {
        let outcome = local_outcome(point);
        outcome.print();
        outcome.check();
    }
}

/// A defect met once: on a thread of the pool, while decoding and right before encoding, and in a
/// job's own task.
#[test]
fn a_panic_costs_one_attempt_of_one_job_and_not_the_worker() {
    for point in [
        "photo_decoded",
        "picture_composed",
        "job_admitted",
        "output_encoded",
        "result_published",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("photos")).unwrap();
        let mut command = local_worker(root);
        command.env("FAILPOINTS", format!("{point}=1*panic"));
        let worker = Worker::start(command).ready();
        let mut publish = quick();
        publish
            .args(["publish", "--wait", "--ingress", "local", "--root"])
            .arg(root);
        for i in 0..3 {
            let name = format!("photos/cat-{i}.jpg");
            std::fs::copy(file("samples/cat.jpg"), root.join(&name)).unwrap();
            publish.arg(name);
        }
        let published = run(&mut publish);
        assert!(published.status.success(), "{point}: {}", told(&published));
        assert_eq!(files(&root.join("outbox")).len(), 3, "{point}");
        waits_for_an_empty_queue(root);
        assert_eq!(worker.get("/health").0, 200, "{point}");
        assert_eq!(worker.metric("cutout_jobs_in_flight", &[]), 0.0, "{point}");
        let counted = worker.metric("cutout_jobs_total", &["code=\"internal\""]);
        assert_eq!(counted, 1.0, "{point}: the panic is counted");
    }
}

/// A worker whose engine is lost gives its job back, as an attempt that failed, and ends by
/// itself, for the platform to start another. The next one finishes the job.
fn ends_for_its_engine(failpoints: &str, arguments: &[&str], code: &str, attempts: &[&str]) {
    let dir = root_with_jobs(attempts.len());
    let root = dir.path();
    let mut command = local_worker(root);
    command.args(arguments).env("FAILPOINTS", failpoints);
    let mut worker = Worker::start(command);
    let (exit, _) = worker.exit();
    assert_eq!(exit, Some(1), "{:#?}", worker.logs());
    let end = wait_until("the last words", || worker.logged("the worker ends"));
    assert_eq!(end["code"], code, "{end:#}");
    let job = worker.logged("the worker cannot go on").expect("the job's");
    assert_eq!(job["code"], code, "{job:#}");
    // Not leased, so that nobody waits for a lease to end.
    let left = rows(
        root,
        "SELECT attempt || coalesce(' leased by ' || lease_owner, '') FROM messages ORDER BY 1",
    );
    assert_eq!(left, attempts);
    assert!(files(&root.join("outbox")).is_empty());

    let worker = Worker::start(local_worker(root)).ready();
    waits_for_an_empty_queue(root);
    drop(worker);
    assert_eq!(files(&root.join("outbox")).len(), attempts.len());
    let results = rows(root, "SELECT data FROM results");
    assert_eq!(results.len(), attempts.len(), "{results:#?}");
    for result in results {
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(status(&result), "done", "{result:#}");
    }
}

#[test]
fn a_panic_of_the_inference_thread_ends_the_worker_and_the_next_one_does_the_job() {
    ends_for_its_engine("network_running=panic", &[], "engine_dead", &["1"]);
}

#[test]
fn a_run_that_does_not_end_ends_the_worker_and_the_next_one_does_the_job() {
    ends_for_its_engine(
        "network_running=sleep(3600000)",
        &["--stuck-after", "100ms", "--give-up-after", "1s"],
        "engine_stuck",
        // What waited behind it did not fail.
        &["0", "1"],
    );
}

/// The job that hung the engine is gone with its deadline; there is nobody to say so but the
/// worker.
#[test]
fn a_run_that_nobody_waits_for_any_more_ends_the_worker_too() {
    let dir = root_with_jobs(1);
    let mut command = local_worker(dir.path());
    command
        .args(["--job-timeout", "500ms", "--give-up-after", "5s"])
        .args(["--stuck-after", "1s"])
        .env("FAILPOINTS", "network_running=sleep(3600000)");
    let mut worker = Worker::start(command);
    assert_eq!(worker.exit().0, Some(1), "{:#?}", worker.logs());
    let end = wait_until("the last words", || worker.logged("the worker ends"));
    assert_eq!(end["code"], "engine_stuck", "{end:#}");
    let held = rows(
        dir.path(),
        "SELECT lease_owner FROM messages WHERE lease_owner IS NOT NULL",
    );
    assert!(held.is_empty(), "{held:?}");
}

const BUCKET: &str = "photos";

/// A queue of its own for each place, on servers that all share.
struct Lane<'a> {
    point: &'static str,
    pubsub: &'a PubSub,
    gcs: &'a FakeGcs,
}

impl Lane<'_> {
    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.point)
    }

    async fn prepare(&self) {
        for topic in ["jobs", "results", "dead"] {
            let name = self.name(topic);
            self.pubsub.create_topic(&name).await;
            let options = SubscriptionOptions {
                ack_deadline_seconds: Some(10),
                ..SubscriptionOptions::default()
            };
            self.pubsub.create_subscription(&name, &name, options).await;
        }
        let bad = OF_BAD_JOBS.contains(&self.point);
        let photo = if bad {
            "tests/fixtures/images/text.jpg"
        } else {
            "samples/cat.jpg"
        };
        let key = format!("{}/cat.jpg", self.point);
        let body = std::fs::read(file(photo)).unwrap();
        self.gcs.upload(BUCKET, &key, "image/jpeg", body).await;
        let job = json!({
            "job_id": self.point,
            "source": format!("gs://{BUCKET}/{key}"),
            "effects": effects(self.point),
        });
        let jobs = self.name("jobs");
        self.pubsub.publish(&jobs, job.to_string(), &[]).await;
    }

    fn worker(&self) -> Command {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "pubsub", "--lease-extension", "10s"])
            .args(["--subscription", &self.name("jobs")])
            .args(["--results-topic", &self.name("results")])
            .args(["--dead-letter-topic", &self.name("dead")])
            .env("STORAGE_BUCKET", BUCKET)
            .env("PUBSUB_EMULATOR_HOST", self.pubsub.host())
            .env("STORAGE_EMULATOR_HOST", self.gcs.endpoint())
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project());
        command
    }

    async fn outputs(&self) -> BTreeMap<String, i64> {
        let mut objects = self.gcs.list(BUCKET, &format!("{}/", self.point)).await;
        objects.remove(&format!("{}/cat.jpg", self.point));
        objects
    }

    async fn outcome(&self) -> Outcome {
        self.prepare().await;
        let (mut deaths, mut seen) = (0, BTreeMap::new());
        for _ in 0..crashes(self.point) {
            let (command, point) = (self.worker(), self.point);
            let run = tokio::task::spawn_blocking(move || dies(command, point));
            deaths += u32::from(run.await.unwrap());
            seen.extend(self.outputs().await);
        }
        let _worker = Worker::start(self.worker()).ready();
        // The emulator gives a dead worker's stream the job once more before it notices, and once for each death.
        let answers = self.name("results");
        let results = self.pubsub.pull(&answers, 1, 3 * PATIENCE).await;
        let mut statuses: Vec<_> = results.iter().map(|r| status(&r.json())).collect();
        let bad = OF_BAD_JOBS.contains(&self.point);
        let dead = self.name("dead");
        let mut dead_letters = if bad {
            self.pubsub.pull(&dead, 1, PATIENCE).await.len()
        } else {
            0
        };
        // Whatever else there may be, duplicates above all.
        let rest = Duration::from_secs(2);
        let more = self.pubsub.pull(&answers, 9, rest).await;
        statuses.extend(more.iter().map(|r| status(&r.json())));
        dead_letters += self.pubsub.pull(&dead, 9, rest).await.len();
        let outputs = self.outputs().await;
        for (key, generation) in &seen {
            assert_eq!(
                outputs.get(key),
                Some(generation),
                "{key} was written twice"
            );
        }
        Outcome {
            point: self.point,
            deaths,
            results: statuses,
            outputs: outputs.len(),
            dead_letters,
        }
    }
}

fn status(result: &Value) -> String {
    result["status"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_jobs_survive_a_crash_at_every_place() {
    let pubsub = PubSub::start().await;
    let gcs = FakeGcs::start().await;
    gcs.create_bucket(BUCKET).await;
    let lanes = POINTS
        .iter()
        .filter(|point| !OF_THE_DIRECTORY.contains(point))
        .map(|point| Lane {
            point,
            pubsub: &pubsub,
            gcs: &gcs,
        })
        .collect::<Vec<_>>();
    let outcomes = futures::future::join_all(lanes.iter().map(Lane::outcome)).await;
    print_head();
    for outcome in &outcomes {
        outcome.print();
    }
    for outcome in &outcomes {
        outcome.check();
    }
}

#[test]
fn every_place_is_named_once() {
    let names: BTreeSet<_> = POINTS.iter().collect();
    assert_eq!(names.len(), POINTS.len());
}
