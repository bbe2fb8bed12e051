//! What only the local queue can show: processes that die or hang, and a damaged file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Names the queue's file to [`the_other_process`].
const QUEUE: &str = "CUTOUT_TEST_QUEUE";
/// What [`the_other_process`] does: `hold`, `work`, `churn`, or `publish NAME`.
const ROLE: &str = "CUTOUT_TEST_ROLE";
/// Milliseconds of its leases.
const LEASE: &str = "CUTOUT_TEST_LEASE_MS";

fn process(queue: &Path, role: &str, lease: Duration) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "only_local::the_other_process",
            "--ignored",
            "--nocapture",
        ])
        .env(QUEUE, queue)
        .env(ROLE, role)
        .env(LEASE, lease.as_millis().to_string())
        .stderr(Stdio::null());
    command
}

/// Another worker, as a process of its own that can be killed.
struct Other {
    child: Child,
    /// Closed to make a holder answer.
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(queue: &Path, role: &str, lease: Duration) -> Self {
        let mut child = process(queue, role, lease)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            input,
            lines,
        }
    }

    /// The rest of the next line that begins with `word`.
    fn says(&mut self, word: &str) -> Option<String> {
        self.lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix(word).map(|rest| rest.trim().to_owned())
        })
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start"]
async fn the_other_process() {
    let env = |name| std::env::var(name).unwrap();
    let queue = LocalQueue::open(env(QUEUE)).unwrap();
    let role = env(ROLE);
    // The harness has begun a line of its own.
    println!();
    if let Some(name) = role.strip_prefix("publish ") {
        return publish_for_ever(&queue, name).await;
    }
    let config = LocalIngressConfig {
        lease: Duration::from_millis(env(LEASE).parse().unwrap()),
        ..LocalIngressConfig::default()
    };
    if role == "churn" {
        return churn(&queue, config).await;
    }
    let mut consumer: Box<dyn Ingress> = Box::new(queue.ingress(config).unwrap());
    match role.as_str() {
        "hold" => {
            let mut held = Vec::new();
            for _ in 0..3 {
                held.push(next(&mut consumer).await);
            }
            println!("holding");
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            for delivery in held {
                let answer = delivery.lease.ack().await;
                println!(
                    "answered {}",
                    answer.map_or_else(|e| e.code().as_str(), |()| "acked")
                );
            }
        }
        _ => {
            while let Ok(delivery) = tokio::time::timeout(SILENCE * 2, consumer.next()).await {
                let delivery = delivery.unwrap();
                delivery.lease.ack().await.unwrap();
                println!("acked {}", delivery.message.id);
            }
        }
    }
}

/// Publishes numbered messages and tells each that the queue has confirmed.
async fn publish_for_ever(queue: &LocalQueue, name: &str) {
    for number in 0.. {
        let data = format!("{name}-{number}");
        queue.publish(text(&data)).await.unwrap();
        println!("confirmed {data}");
    }
}

/// Takes messages and answers them in every way, and tells before and after.
async fn churn(queue: &LocalQueue, config: LocalIngressConfig) {
    let config = LocalIngressConfig {
        min_backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(20),
        // Killed over a message more often than this run kills anybody, it is still no dead letter.
        max_attempts: 100,
        ..config
    };
    let mut consumer: Box<dyn Ingress> = Box::new(queue.ingress(config).unwrap());
    let mut held = Vec::new();
    loop {
        let delivery = next(&mut consumer).await;
        let data = String::from_utf8(delivery.message.data.to_vec()).unwrap();
        match fastrand::u8(..10) {
            0 => delivery.lease.nack().await.unwrap(),
            1 => delivery.lease.release().await.unwrap(),
            2 => held.push(delivery),
            3 => {
                println!("burying {data}");
                let error = Error::new(Code::ImageCorrupt, "cut short");
                queue.publish_result(&result(&data), None).await.unwrap();
                queue.dead_letter(&delivery.message, &error).await.unwrap();
                println!("buried {data}");
                delivery.lease.ack().await.unwrap();
            }
            _ => {
                println!("acking {data}");
                delivery.lease.ack().await.unwrap();
                println!("acked {data}");
            }
        }
        if held.len() > 3 {
            held.clear();
        }
    }
}

/// What killed processes have written down, by the first word of the line.
#[derive(Default)]
struct Told(BTreeMap<String, BTreeSet<String>>);

impl Told {
    fn read(&mut self, path: &Path) {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            if let Some((word, data)) = line.split_once(' ') {
                let said = self.0.entry(word.to_owned()).or_default();
                said.insert(data.to_owned());
            }
        }
    }

    fn of(&self, word: &str) -> BTreeSet<String> {
        self.0.get(word).cloned().unwrap_or_default()
    }
}

/// How often each message is in a table.
fn contents(queue: &Path, table: &str) -> BTreeMap<String, u32> {
    let connection = rusqlite::Connection::open(queue).unwrap();
    let query = format!("SELECT CAST(data AS TEXT) FROM {table}");
    let mut statement = connection.prepare(&query).unwrap();
    let mut counts = BTreeMap::new();
    for data in statement.query_map([], |row| row.get(0)).unwrap() {
        *counts.entry(data.unwrap()).or_default() += 1;
    }
    counts
}

fn integrity(queue: &Path) -> String {
    let connection = rusqlite::Connection::open(queue).unwrap();
    let check = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    check.unwrap()
}

/// `kill -9` at any moment of publishing, leasing, acking and burying.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_no_confirmed_message_is_lost_and_none_comes_to_be_twice() {
    const ROUNDS: u64 = 8;
    let subject = Subject::local().await;
    let Subject::Local { folder, .. } = &subject else {
        unreachable!("only local");
    };
    let path = path(&subject);
    let mut told = Told::default();
    for round in 0..ROUNDS {
        let mut children = Vec::new();
        let publishers = (0..2).map(|i| format!("publish {round}-{i}"));
        let roles = publishers.chain(["churn", "churn"].map(str::to_owned));
        for (number, role) in roles.enumerate() {
            let lines = folder.path().join(format!("said-{round}-{number}"));
            let mut command = process(&path, &role, Duration::from_secs(600));
            command.stdout(File::create(&lines).unwrap());
            children.push((command.spawn().unwrap(), lines));
        }
        // Killed when they are at work, one after the other, at other moments each time.
        let at_work = |lines: &Path| std::fs::metadata(lines).is_ok_and(|said| said.len() > 100);
        let begun = Instant::now();
        while !children.iter().any(|(_, lines)| at_work(lines)) {
            assert!(begun.elapsed() < PATIENCE, "nobody works");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        fastrand::shuffle(&mut children);
        for (child, lines) in &mut children {
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..250_000))).await;
            child.kill().unwrap();
            child.wait().unwrap();
            told.read(lines);
        }
        assert_eq!(integrity(&path), "ok", "after round {round}");
    }

    let (messages, dead) = (contents(&path, "messages"), contents(&path, "dead_letters"));
    let (confirmed, acking) = (told.of("confirmed"), told.of("acking"));
    let (burying, buried) = (told.of("burying"), told.of("buried"));
    println!(
        "{} confirmed, {} acked, {} buried, {} left",
        confirmed.len(),
        told.of("acked").len(),
        buried.len(),
        messages.len()
    );
    assert!(confirmed.len() > 100, "too few to mean anything");
    for data in &confirmed {
        let somewhere = messages.contains_key(data) || dead.contains_key(data);
        assert!(somewhere || acking.contains(data), "{data} is lost");
    }
    for (data, times) in &messages {
        assert_eq!(*times, 1, "{data} came to be twice");
    }
    for data in told.of("acked") {
        assert!(!messages.contains_key(&data), "{data} came back");
    }
    for data in &buried {
        assert!(dead.contains_key(data), "the dead letter of {data} is lost");
    }
    for data in dead.keys() {
        assert!(burying.contains(data), "{data} was buried by nobody");
    }
    // Nothing of what the dead held stays away.
    let mut consumer = subject.consumer();
    for _ in 0..messages.len() {
        next(&mut consumer).await.lease.ack().await.unwrap();
    }
    assert_eq!(queue(&subject).backlog().await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_a_locked_queue_did_not_take_are_written_when_it_takes_any() {
    let subject = Subject::local().await;
    for data in ["acked", "nacked"] {
        subject.publish(data).await;
    }
    let mut consumer = subject.consumer();
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let stranger = rusqlite::Connection::open(path(&subject)).unwrap();
    stranger.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answers = [first.lease.ack().await, second.lease.nack().await];
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Code::QueueUnavailable);
        assert!(error.message().contains("locked"), "{error}");
    }
    stranger.execute_batch("ROLLBACK").unwrap();
    // Their leases would last ten minutes.
    let again = next(&mut consumer).await;
    assert_eq!(again.message.data, "nacked");
    assert_eq!(again.message.attempt, 2);
    assert_eq!(queue(&subject).backlog().await.unwrap().messages, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_file_is_deleted_or_replaced_is_lost() {
    for replaced in [false, true] {
        let subject = Subject::local().await;
        let path = path(&subject);
        subject.publish("rex").await;
        let mut consumer = subject.consumer();
        next(&mut consumer).await.lease.ack().await.unwrap();
        subject.egress().probe().await.unwrap();
        for ending in ["", "-wal", "-shm"] {
            let mut file = path.clone().into_os_string();
            file.push(ending);
            std::fs::remove_file(file).unwrap();
        }
        let newer = replaced.then(|| LocalQueue::open(&path).unwrap());
        let probed = subject.egress().probe().await.unwrap_err();
        assert_eq!(probed.code(), Code::QueueLost);
        let told = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let error = told.unwrap().err().expect("nothing can come any more");
        assert_eq!(error.code(), Code::QueueLost);
        assert!(error.message().contains("deleted or replaced"), "{error}");
        drop(newer);
    }
}

fn path(subject: &Subject) -> std::path::PathBuf {
    match subject {
        Subject::Local { folder, .. } => folder.path().join("queue.db"),
        Subject::PubSub { .. } => unreachable!("only local"),
    }
}

fn queue(subject: &Subject) -> &LocalQueue {
    match subject {
        Subject::Local { queue, .. } => queue,
        Subject::PubSub { .. } => unreachable!("only local"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_of_a_killed_process_are_free_at_once() {
    let subject = Subject::local().await;
    for data in ["a", "b", "c"] {
        subject.publish(data).await;
    }
    let mut other = Other::start(&path(&subject), "hold", Duration::from_secs(600));
    other.says("holding").unwrap();
    let mut consumer = subject.consumer();
    nothing_within(&mut consumer, SILENCE).await;

    other.signal("-KILL");
    let killed = Instant::now();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.attempt, 2);
        delivery.lease.ack().await.unwrap();
    }
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_loses_its_leases_and_its_late_answers_do_no_harm() {
    let subject = Subject::local().await;
    for data in ["a", "b", "c"] {
        subject.publish(data).await;
    }
    let mut other = Other::start(&path(&subject), "hold", Duration::from_millis(1500));
    other.says("holding").unwrap();
    let mut consumer = subject.consumer();
    // Alive, it extends its leases.
    nothing_within(&mut consumer, Duration::from_secs(4)).await;
    other.signal("-STOP");
    let held = [
        next(&mut consumer).await,
        next(&mut consumer).await,
        next(&mut consumer).await,
    ];
    other.signal("-CONT");
    drop(other.input.take());
    for _ in 0..3 {
        assert_eq!(other.says("answered").as_deref(), Some("queue_unavailable"));
    }
    assert_eq!(queue(&subject).backlog().await.unwrap().messages, 3);
    for delivery in held {
        delivery.lease.ack().await.unwrap();
    }
    assert_eq!(queue(&subject).backlog().await.unwrap().messages, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_share_the_messages_without_duplicates() {
    let subject = Subject::local().await;
    let mut published = Vec::new();
    let mut others: Vec<_> = (0..3)
        .map(|_| Other::start(&path(&subject), "work", Duration::from_secs(600)))
        .collect();
    for number in 0..60 {
        published.push(subject.publish(&number.to_string()).await);
    }
    let mut acked = Vec::new();
    for other in &mut others {
        acked.extend(std::iter::from_fn(|| other.says("acked")));
    }
    published.sort();
    acked.sort();
    assert_eq!(acked, published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_fails_five_times_is_a_dead_letter_with_the_reason() {
    let subject = Subject::local().await;
    let mut results = queue(&subject).follow_results().await.unwrap();
    let id = subject.publish("poison").await;
    let mut consumer = subject.consumer();
    // Given up by a nack, or by worker after worker dying over it.
    for attempt in 1..=5 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.attempt, attempt);
        match attempt {
            1 | 5 => delivery.lease.nack().await.unwrap(),
            _ => drop(delivery),
        }
    }
    nothing_within(&mut consumer, SILENCE).await;
    let (data, attributes, _) = subject.dead_letter().await;
    assert_eq!(data, b"poison");
    assert_eq!(attributes["cutout-error-code"], "attempts_exhausted");
    assert_eq!(attributes["cutout-message-id"], id);
    assert_eq!(attributes["cutout-attempt"], "5");
    // Whoever waits for the job hears of its end.
    let result = results.next().await.unwrap();
    assert_eq!(result.status, cutout::job::Status::Failed);
    assert_eq!(result.error.unwrap().code, "attempts_exhausted");
    assert_eq!(result.job_id, format!("message-{id}"));
    assert_eq!(queue(&subject).backlog().await.unwrap().messages, 0);

    subject.publish("deadly").await;
    for _ in 0..5 {
        drop(next(&mut consumer).await);
    }
    nothing_within(&mut consumer, SILENCE).await;
    assert_eq!(queue(&subject).dead_letters(10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_that_the_queue_buries_is_told_once() {
    let subject = Subject::local().await;
    let told = Arc::new(AtomicUsize::new(0));
    let mut consumer = subject.consumer();
    let count = told.clone();
    consumer.on_burial(Box::new(move |code| {
        assert_eq!(code, Code::AttemptsExhausted);
        count.fetch_add(1, Ordering::SeqCst);
    }));
    // One is nacked to death, over the other worker after worker dies.
    subject.publish("poison").await;
    for attempt in 1..=5 {
        assert_eq!(told.load(Ordering::SeqCst), 0, "before attempt {attempt}");
        next(&mut consumer).await.lease.nack().await.unwrap();
    }
    assert_eq!(told.load(Ordering::SeqCst), 1);
    subject.publish("deadly").await;
    for _ in 0..5 {
        drop(next(&mut consumer).await);
    }
    nothing_within(&mut consumer, SILENCE).await;
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_draining_worker_gives_back_has_not_used_up_an_attempt() {
    let subject = Subject::local().await;
    subject.publish("rex").await;
    let mut consumer = subject.consumer();
    next(&mut consumer).await.lease.nack().await.unwrap();
    // More often than the five attempts that a message has, released or held to the end.
    for _ in 0..4 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message.attempt, 2);
        delivery.lease.release().await.unwrap();
        let held = next(&mut consumer).await;
        assert_eq!(held.message.attempt, 2);
        consumer.close().await.unwrap();
        consumer = subject.consumer();
    }
    assert_eq!(next(&mut consumer).await.message.attempt, 2);
    assert!(queue(&subject).dead_letters(1).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nacked_message_waits_longer_each_time() {
    let mut subject = Subject::local().await;
    if let Subject::Local { config, .. } = &mut subject {
        config.min_backoff = Duration::from_millis(500);
    }
    subject.publish("rex").await;
    let mut consumer = subject.consumer();
    let mut delivery = next(&mut consumer).await;
    for shortest in [500, 1000, 2000].map(Duration::from_millis) {
        delivery.lease.nack().await.unwrap();
        let begun = Instant::now();
        delivery = next(&mut consumer).await;
        let waited = begun.elapsed();
        // The queue counts in milliseconds.
        assert!(waited + Duration::from_millis(5) >= shortest, "{waited:?}");
        assert!(waited < shortest * 3 / 2 + SILENCE, "{waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_message_of_an_ordering_key_waits_for_the_ack_of_the_one_before() {
    let subject = Subject::local().await;
    for data in ["first", "second"] {
        let message = OutgoingMessage {
            ordering_key: "rex".into(),
            ..text(data)
        };
        subject.publisher().publish(message).await.unwrap();
    }
    subject.publish("unordered").await;
    let mut consumer = subject.consumer();
    let first = next(&mut consumer).await;
    assert_eq!(first.message.data, "first");
    let unordered = next(&mut consumer).await;
    assert_eq!(unordered.message.data, "unordered");
    nothing_within(&mut consumer, SILENCE).await;
    first.lease.ack().await.unwrap();
    assert_eq!(next(&mut consumer).await.message.data, "second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_damaged_while_it_is_open_is_lost() {
    let subject = Subject::local().await;
    for _ in 0..200 {
        subject.publish(&"x".repeat(1000)).await;
    }
    // Into the file with everything, then overwrite all but the first page.
    let path = path(&subject);
    let Subject::Local {
        queue,
        config,
        folder,
    } = subject
    else {
        unreachable!("only local");
    };
    drop(queue);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();

    let queue = LocalQueue::open(&path);
    let error = match queue {
        Err(error) => error,
        Ok(queue) => queue.ingress(config).unwrap().next().await.err().unwrap(),
    };
    assert_eq!(error.code(), Code::QueueLost, "{}", error.chain());
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.message().contains("queue.db"), "{error}");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/queue.db");
    let queue = LocalQueue::open(&path).unwrap();
    let id = queue.publish(text("rex")).await.unwrap();
    drop(queue);
    let queue = LocalQueue::open(&path).unwrap();
    let backlog = queue.backlog().await.unwrap();
    assert_eq!(backlog.messages, 1);
    assert!(backlog.oldest.is_some());
    let mut consumer: Box<dyn Ingress> =
        Box::new(queue.ingress(LocalIngressConfig::default()).unwrap());
    assert_eq!(next(&mut consumer).await.message.id, id);
}
