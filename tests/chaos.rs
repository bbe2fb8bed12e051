//! Many jobs, two workers, and everything that can go wrong with queue, store, network and process,
//! in an order that a seed decides. At the end the invariants are counted.
//!
//! `make soak` runs 2,000 jobs and prints the account; the suite runs a few. A run is repeated by its
//! `CHAOS_SEED`, as far as the machine's own timing lets it. `CHAOS_RESTARTS=0` leaves out the
//! restarts of the queue's emulator, which forgets its messages: what the harness publishes again
//! after one could hide a job that the worker lost. Such a run takes its time after each fault.

mod harness;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::{Worker, file, quick};
use serde_json::{Value, json};
use support::chaos::{Account, GOOD, setting};
use support::{FakeGcs, Fault, Link, Proxy, PubSub, SubscriptionOptions};

const BUCKET: &str = "photos";
const JOBS: &str = "cutout-jobs";
const RESULTS: &str = "cutout-results";
const DEAD: &str = "cutout-dead-letters";

/// What is wrong with a bad job, and the code that it must fail with.
const BAD: &[(&str, &str)] = &[
    ("text", "unsupported_format"),
    ("truncated", "image_corrupt"),
    ("missing", "source_not_found"),
    ("bomb", "image_too_large"),
    ("kind", "invalid_job"),
    ("foreign", "bucket_forbidden"),
];

/// Ends a run that does not come to its end.
const PATIENCE_PER_JOB: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(240);

/// One job of the plan.
struct Planned {
    id: String,
    message: String,
    /// The code of its failure; `None` for a good one.
    fails: Option<&'static str>,
}

/// 5 % of the jobs are bad.
async fn plan(count: usize, random: &mut fastrand::Rng, gcs: &FakeGcs) -> Vec<Planned> {
    let mut jobs = Vec::with_capacity(count);
    for i in 0..count {
        let id = format!("job-{i:05}");
        let fault = (i % 20 == 7).then(|| BAD[random.usize(..BAD.len())]);
        let photo = match fault {
            Some(("text", _)) => Some("tests/fixtures/images/text.jpg"),
            Some(("truncated", _)) => Some("tests/fixtures/images/truncated.jpg"),
            Some(("bomb", _)) => Some("tests/fixtures/images/bomb-30000x30000.png"),
            Some(("missing", _)) => None,
            _ => Some(GOOD[random.usize(..GOOD.len())]),
        };
        let key = format!("in/{id}");
        if let Some(photo) = photo {
            let body = std::fs::read(file(photo)).unwrap();
            gcs.upload(BUCKET, &key, "image/jpeg", body).await;
        }
        let bucket = match fault {
            Some(("foreign", _)) => "somebody-elses",
            _ => BUCKET,
        };
        let kind = match fault {
            Some(("kind", _)) => "hologram",
            _ => ["rgba", "mask", "white"][random.usize(..3)],
        };
        let message = json!({
            "job_id": id,
            "source": format!("gs://{bucket}/{key}"),
            "destination": format!("gs://{BUCKET}/out/{id}.png"),
            "output": { "kind": kind },
        });
        jobs.push(Planned {
            id,
            message: message.to_string(),
            fails: fault.map(|(_, code)| code),
        });
    }
    jobs
}

/// What the collector has seen of each job.
#[derive(Default)]
struct Seen {
    /// Status, or code of failure, and the output's generation, of every result.
    results: BTreeMap<String, Vec<(String, Option<i64>)>>,
    dead: BTreeMap<String, u32>,
    last: Option<Instant>,
}

impl Seen {
    fn answered(&self, job: &Planned) -> bool {
        self.results.contains_key(&job.id)
            && (job.fails.is_none() || self.dead.contains_key(&job.id))
    }

    fn result(&mut self, result: &Value) {
        let id = result["job_id"].as_str().unwrap().to_owned();
        let ended = result["error"]["code"]
            .as_str()
            .or(result["status"].as_str());
        let generation = &result["outputs"][0]["generation"];
        let generation = generation
            .as_i64()
            .or_else(|| generation.as_str()?.parse().ok());
        let entry = (ended.unwrap().to_owned(), generation);
        self.results.entry(id).or_default().push(entry);
        self.last = Some(Instant::now());
    }
}

/// Faults of single HTTP requests to the store, while they are on.
#[derive(Default)]
struct Weather {
    bad: AtomicBool,
    random: Mutex<fastrand::Rng>,
}

impl Weather {
    /// One request in eight meets something.
    fn fault(&self, seen: &support::proxy::Seen, account: &Account) -> Fault {
        let roll = self.random.lock().unwrap().u8(..32);
        if !self.bad.load(Ordering::Relaxed) {
            return Fault::None;
        }
        let media = seen.method == "GET" && seen.target.contains("alt=media");
        let (name, fault) = match roll {
            0 => ("store answers 503", Fault::Status(503)),
            1 => ("store answers 429", Fault::Status(429)),
            2 if seen.method == "POST" => ("upload's answer lost", Fault::AnswerLost),
            3 if media => ("download damaged", Fault::Damaged),
            4 if media => ("download cut short", Fault::CutAfter(900)),
            _ => return Fault::None,
        };
        account.note(name);
        fault
    }
}

/// The servers, and the cables to them.
struct Cloud {
    pubsub: PubSub,
    gcs: FakeGcs,
    to_pubsub: Link,
    to_gcs: Link,
    _weather: Proxy,
}

impl Cloud {
    async fn start(weather: Arc<Weather>, account: Arc<Account>) -> Self {
        let (pubsub, gcs) = (PubSub::start().await, FakeGcs::start().await);
        furnish(&pubsub).await;
        gcs.create_bucket(BUCKET).await;
        let proxy =
            Proxy::start_forgetful(gcs.endpoint(), move |seen| weather.fault(seen, &account)).await;
        Self {
            to_pubsub: Link::to(pubsub.host()).await,
            to_gcs: Link::to(proxy.host()).await,
            pubsub,
            gcs,
            _weather: proxy,
        }
    }

    fn worker(&self) -> Command {
        let mut command = quick();
        command
            .args(["worker", "--ingress", "pubsub", "--lease-extension", "10s"])
            .args(["--drain-timeout", "3s", "--job-timeout", "30s"])
            .env("STORAGE_BUCKET", BUCKET)
            .env("PUBSUB_EMULATOR_HOST", self.to_pubsub.host())
            .env(
                "STORAGE_EMULATOR_HOST",
                format!("http://{}", self.to_gcs.host()),
            )
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project());
        command
    }
}

async fn furnish(pubsub: &PubSub) {
    for topic in [JOBS, RESULTS, DEAD] {
        pubsub.create_topic(topic).await;
    }
    let options = SubscriptionOptions {
        ack_deadline_seconds: Some(10),
        retry: Some((Duration::from_secs(1), Duration::from_secs(3))),
        // The most there are: the faults here are worse than a bad job's, which this is for.
        dead_letter: Some((DEAD.to_owned(), 100)),
        ..SubscriptionOptions::default()
    };
    pubsub.create_subscription(JOBS, JOBS, options).await;
    for topic in [RESULTS, DEAD] {
        let options = SubscriptionOptions::default();
        pubsub.create_subscription(topic, topic, options).await;
    }
}

/// A worker, and what the platform does for it: starting it again when it ends.
struct Slot {
    worker: Option<Worker>,
    ended: u32,
    most_memory: u64,
}

impl Slot {
    fn start(cloud: &Cloud) -> Self {
        Self {
            worker: Some(Worker::start(cloud.worker())),
            ended: 0,
            most_memory: 0,
        }
    }

    fn is_ready(&self) -> bool {
        let worker = self.worker.as_ref();
        worker.is_some_and(|worker| worker.get("/startup").0 == 200)
    }

    fn look(&mut self, cloud: &Cloud) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        self.most_memory = self.most_memory.max(worker.peak_memory());
        if let Some(said) = worker.ended() {
            println!("a worker ended by itself: {said}");
            self.ended += 1;
            self.worker = Some(Worker::start(cloud.worker()));
        }
    }
}

struct Run {
    cloud: Cloud,
    /// Whether the queue's emulator is restarted.
    restarts: bool,
    weather: Arc<Weather>,
    account: Arc<Account>,
    slots: [Slot; 2],
    random: fastrand::Rng,
    jobs: Arc<Vec<Planned>>,
    seen: Arc<Mutex<Seen>>,
}

impl Run {
    /// One fault of the schedule, from its beginning to its end.
    async fn fault(&mut self) {
        let moment = Duration::from_millis(self.random.u64(500..2500));
        let slot = &mut self.slots[self.random.usize(..2)];
        let kind = self.random.u8(..12);
        match kind {
            // Who is killed as soon as it has started works on nothing, and proves nothing.
            0..=3 if !slot.is_ready() => tokio::time::sleep(moment).await,
            0..=2 => {
                self.account.note("kill -9 of a worker");
                if let Some(worker) = slot.worker.take() {
                    worker.kill();
                }
                tokio::time::sleep(moment).await;
                slot.worker = Some(Worker::start(self.cloud.worker()));
            }
            3 => {
                self.account.note("SIGTERM to a worker");
                if let Some(mut worker) = slot.worker.take() {
                    worker.signal("TERM");
                    tokio::task::block_in_place(|| worker.exit());
                }
                slot.worker = Some(Worker::start(self.cloud.worker()));
            }
            5 => {
                self.on(&self.cloud.to_pubsub, "queue silent", moment, Link::silence)
                    .await
            }
            6 => {
                self.on(&self.cloud.to_pubsub, "queue slow", moment, |link| {
                    link.slow(LATE, 50_000)
                })
                .await
            }
            7 => {
                self.on(
                    &self.cloud.to_gcs,
                    "store's connections cut",
                    moment,
                    Link::cut,
                )
                .await
            }
            8 => {
                self.on(&self.cloud.to_gcs, "store silent", moment, Link::silence)
                    .await
            }
            9 => {
                self.on(&self.cloud.to_gcs, "store slow", moment, |link| {
                    link.slow(LATE, 200_000)
                })
                .await
            }
            10 => {
                self.account.note("spell of bad answers from the store");
                self.weather.bad.store(true, Ordering::Relaxed);
                tokio::time::sleep(moment * 2).await;
                self.weather.bad.store(false, Ordering::Relaxed);
            }
            11 if self.restarts => self.restart_queue("restart of the queue's emulator").await,
            _ => {
                let cable = &self.cloud.to_pubsub;
                self.on(cable, "queue's connections cut", moment, Link::cut)
                    .await;
            }
        }
        // Restarts clear the dead streams away; without any, they must not grow in number.
        if !self.restarts && matches!(kind, 0..=6 | 11) {
            tokio::time::sleep(NOTICED).await;
        }
    }

    /// Something is wrong with a cable for a moment.
    async fn on(&self, cable: &Link, name: &'static str, moment: Duration, fault: impl Fn(&Link)) {
        self.account.note(name);
        fault(cable);
        tokio::time::sleep(moment).await;
        cable.mend();
    }

    /// Pub/Sub keeps what it was given, its emulator does not: after a restart, every job that is
    /// not answered yet is published again, as if it had been kept.
    async fn restart_queue(&mut self, why: &'static str) {
        self.account.note(why);
        self.cloud.to_pubsub.cut();
        self.cloud.pubsub.kill();
        let pubsub = PubSub::start().await;
        furnish(&pubsub).await;
        let lost: Vec<_> = {
            let seen = self.seen.lock().unwrap();
            let lost = self.jobs.iter().filter(|job| !seen.answered(job));
            lost.map(|job| job.message.as_str()).collect()
        };
        pubsub.publish_all(JOBS, lost).await;
        self.cloud.to_pubsub.lead_to(pubsub.host());
        self.cloud.pubsub = pubsub;
        self.cloud.to_pubsub.mend();
    }

    /// Takes what was answered off the queue.
    async fn collect(&self) {
        for pulled in self.cloud.pubsub.pull(RESULTS, 500, ONE_LOOK).await {
            self.seen.lock().unwrap().result(&pulled.json());
        }
        for pulled in self.cloud.pubsub.pull(DEAD, 500, ONE_LOOK).await {
            let id = pulled.json()["job_id"].as_str().unwrap().to_owned();
            *self.seen.lock().unwrap().dead.entry(id).or_default() += 1;
        }
    }

    fn unanswered(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        self.jobs.iter().filter(|job| !seen.answered(job)).count()
    }

    /// One line for who watches a long run.
    fn tell(&self, begun: Instant) {
        let (answered, all) = (self.jobs.len() - self.unanswered(), self.jobs.len());
        println!(
            "{:.0?}: {answered} of {all} jobs are answered",
            begun.elapsed()
        );
    }

    async fn look(&mut self) {
        for slot in &mut self.slots {
            slot.look(&self.cloud);
        }
        self.collect().await;
    }
}

/// One lease, and some: after this the emulator has noticed that a stream's client is gone.
const NOTICED: Duration = Duration::from_secs(12);

/// Long enough to ask once.
const ONE_LOOK: Duration = Duration::from_millis(20);

/// The emulator notices that a stream's client is gone when it has a message for it, and then it has
/// given it all that was in the queue, for one lease: after many faults in a row the living get
/// nothing for long. (Its `StreamingPullPusher` takes up to 1,000 messages, whatever the client's flow
/// control, and ends when sending them fails.)
const STANDSTILL: Duration = Duration::from_secs(45);

const LATE: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice_whatever_breaks() {
    let count = usize::try_from(setting("CHAOS_JOBS", 100)).unwrap();
    let seed = setting("CHAOS_SEED", 20_261_125);
    let mut random = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    println!("seed {seed}, {count} jobs");

    let account = Arc::new(Account::default());
    let weather = Arc::new(Weather::default());
    *weather.random.lock().unwrap() = random.fork();
    let cloud = Cloud::start(weather.clone(), account.clone()).await;
    let jobs = Arc::new(plan(count, &mut random, &cloud.gcs).await);
    let mut run = Run {
        slots: [Slot::start(&cloud), Slot::start(&cloud)],
        restarts: setting("CHAOS_RESTARTS", 1) != 0,
        cloud,
        weather,
        account,
        random,
        jobs,
        seen: Arc::default(),
    };

    // 20 % are published twice, some at once and some much later.
    let mut order: Vec<usize> = (0..count).collect();
    order.extend((0..count).filter(|i| i % 5 == 2));
    run.random.shuffle(&mut order);
    let mut published = 0;
    let patience = PATIENCE + PATIENCE_PER_JOB * u32::try_from(count).unwrap();
    let steps = 8;
    for chunk in order.chunks(order.len().div_ceil(count.div_ceil(25).max(steps))) {
        let messages = chunk.iter().map(|&job| run.jobs[job].message.as_str());
        run.cloud.pubsub.publish_all(JOBS, messages).await;
        published += chunk.len();
        run.fault().await;
        run.look().await;
        run.tell(begun);
    }
    let (mut unanswered, mut moved) = (run.unanswered(), Instant::now());
    while unanswered > 0 {
        assert!(
            begun.elapsed() < patience,
            "{unanswered} of {count} jobs are not answered after {:?}",
            begun.elapsed()
        );
        if unanswered > count / 10 {
            run.fault().await;
            run.tell(begun);
        } else if run.restarts && moved.elapsed() > STANDSTILL {
            run.restart_queue("restart of an emulator that stood still")
                .await;
            moved = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        run.look().await;
        if run.unanswered() < unanswered {
            (unanswered, moved) = (run.unanswered(), Instant::now());
        }
    }
    // Deliveries that a fault held up still come: the last lease is out after its extension.
    let mut quiet = Instant::now();
    let mut before = 0;
    while quiet.elapsed() < Duration::from_secs(15) && begun.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(500)).await;
        run.look().await;
        let now = run
            .seen
            .lock()
            .unwrap()
            .results
            .values()
            .map(Vec::len)
            .sum();
        if now != before {
            (quiet, before) = (Instant::now(), now);
        }
    }
    finish(run, published, seed, begun).await;
}

async fn finish(mut run: Run, published: usize, seed: u64, begun: Instant) {
    let (mut ended, mut memory) = (0, 0);
    for slot in &mut run.slots {
        slot.look(&run.cloud);
        (ended, memory) = (ended + slot.ended, memory.max(slot.most_memory));
        if let Some(mut worker) = slot.worker.take() {
            worker.signal("TERM");
            let (code, _) = tokio::task::block_in_place(|| worker.exit());
            assert_eq!(code, Some(0), "the drain: {:#?}", worker.logs().last());
        }
    }
    let left = run
        .cloud
        .pubsub
        .pull(JOBS, 1, Duration::from_secs(15))
        .await;

    let objects = run.cloud.gcs.list(BUCKET, "").await;
    let seen = run.seen.lock().unwrap();
    let mut wrong = Vec::new();
    let (mut results, mut duplicates) = (0, 0);
    for job in run.jobs.iter() {
        let answers = &seen.results[&job.id];
        results += answers.len();
        duplicates += answers
            .iter()
            .filter(|(status, _)| status == "duplicate")
            .count();
        let live = objects.get(&format!("out/{}.png", job.id)).copied();
        match job.fails {
            Some(code) => {
                if answers.iter().any(|(ended, _)| ended != code) || live.is_some() {
                    wrong.push(format!("{} ({code}): {answers:?}, output {live:?}", job.id));
                }
            }
            // One generation, named by every result, is one write.
            None => {
                let fine = |(ended, generation): &(String, Option<i64>)| {
                    (ended == "done" || ended == "duplicate") && *generation == live
                };
                if live.is_none() || !answers.iter().all(fine) {
                    wrong.push(format!("{}: {answers:?}, output {live:?}", job.id));
                }
            }
        }
    }
    let bad: BTreeSet<_> = run
        .jobs
        .iter()
        .filter(|j| j.fails.is_some())
        .map(|j| &j.id)
        .collect();
    let dead: BTreeSet<_> = seen.dead.keys().collect();
    let strange: Vec<_> = objects
        .keys()
        .filter(|key| {
            let name = key.trim_start_matches("in/").trim_start_matches("out/");
            !run.jobs
                .iter()
                .any(|job| name.trim_end_matches(".png") == job.id)
        })
        .collect();

    println!(
        "seed {seed}: {} jobs, {published} messages, {:.0?}",
        run.jobs.len(),
        begun.elapsed()
    );
    run.account.print();
    println!("| invariant | found |\n|---|---|");
    println!(
        "| jobs with a result of their own kind and one generation | {} of {} |",
        run.jobs.len() - wrong.len(),
        run.jobs.len()
    );
    println!("| results, of which duplicates | {results}, {duplicates} |");
    println!(
        "| bad jobs, and jobs among the dead letters | {}, {} |",
        bad.len(),
        dead.len()
    );
    println!(
        "| dead letters that differ from the bad jobs | {} |",
        bad.symmetric_difference(&dead).count()
    );
    println!("| messages left unacked | {} |", left.len());
    println!("| objects that no job asked for | {} |", strange.len());
    println!("| workers that ended by themselves | {ended} |");
    println!("| peak memory of a worker | {} MiB |", memory >> 20);

    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(bad, dead, "dead letters are the bad jobs");
    assert!(left.is_empty(), "left unacked: {left:?}");
    assert!(strange.is_empty(), "{strange:?}");
}
