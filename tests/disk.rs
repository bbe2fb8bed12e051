//! Local mode on a disk that fills up, and in directories that may not be written or read: jobs wait,
//! none is lost, and everybody is told why.

mod harness;
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::{Worker, alpha, file, quick, run, told, wait_until};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use support::disk::{SmallDisk, powerless, with_own_mounts};

const MIB: u64 = 1 << 20;

/// Longer than the two attempts of these workers' jobs could last.
const LONGER_THAN_THE_ATTEMPTS: Duration = Duration::from_secs(8);

fn worker(root: &Path) -> Command {
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--max-attempts", "2"])
        .arg("--root")
        .arg(root);
    command
}

fn publish(root: &Path, args: &[&str]) -> Output {
    let mut command = quick();
    command
        .args(["publish", "--ingress", "local", "--root"])
        .arg(root)
        .args(args);
    run(&mut command)
}

/// Puts photos where no inbox sees them, and names them.
fn photos(root: &Path, count: usize) -> Vec<String> {
    fs::create_dir_all(root.join("photos")).unwrap();
    let names: Vec<_> = (0..count)
        .map(|i| format!("photos/coffee-{i}.jpg"))
        .collect();
    for name in &names {
        // Its cut-out takes 520 KiB.
        fs::copy(file("samples/coffee.jpg"), root.join(name)).unwrap();
    }
    names
}

fn publish_all(root: &Path, names: &[String]) {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let published = publish(root, &names);
    assert!(published.status.success(), "{}", told(&published));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

fn rows(root: &Path, query: &str) -> Vec<String> {
    let path = root.join(".cutout/queue.sqlite");
    let queue = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    queue.busy_timeout(harness::PATIENCE).unwrap();
    let mut statement = queue.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn left(root: &Path) -> Vec<String> {
    rows(root, "SELECT hex(data) FROM messages")
}

/// Code of failure, or status, of every result.
fn results(root: &Path) -> Vec<String> {
    let results = rows(root, "SELECT data FROM results ORDER BY id");
    let ended = results.iter().map(|result| {
        let result: Value = serde_json::from_str(result).unwrap();
        let ended = result["error"]["code"].as_str();
        ended.or(result["status"].as_str()).unwrap().to_owned()
    });
    ended.collect()
}

fn all_done(root: &Path, count: usize) {
    wait_until("an empty queue", || left(root).is_empty().then_some(()));
    assert_eq!(results(root), vec!["done"; count]);
    assert!(rows(root, "SELECT hex(data) FROM dead_letters").is_empty());
    let outputs = files(&root.join("outbox"));
    assert_eq!(outputs.len(), count);
    for output in outputs {
        alpha(&fs::read(output).unwrap());
    }
    assert!(files(&root.join(".cutout/tmp")).is_empty());
    let checked = rows(root, "PRAGMA integrity_check");
    assert_eq!(checked, ["ok"]);
}

/// Waits until /health says that the store is out; the sentence about it.
fn degraded(worker: &Worker) -> String {
    wait_until("/health to tell the outage", || {
        let (status, _) = worker.get("/health");
        assert_eq!(status, 200, "a restart would mend nothing");
        let health = worker.get_json("/health");
        (health["reason"] == "storage_unavailable").then(|| {
            assert_eq!(health["status"], "degraded");
            health["detail"].as_str().unwrap().to_owned()
        })
    })
}

fn healthy(worker: &Worker) {
    wait_until("/health to tell the end of it", || {
        (worker.get_json("/health")["status"] == "healthy").then_some(())
    });
}

#[test]
fn a_disk_that_fills_up_holds_the_jobs_back_and_loses_none() {
    with_own_mounts(
        "a_disk_that_fills_up_holds_the_jobs_back_and_loses_none",
        || {
            let disk = SmallDisk::mount(64 * MIB);
            let root = disk.path();
            let names = photos(root, 6);
            let mut one_at_a_time = worker(root);
            one_at_a_time.args(["--max-jobs", "1"]);
            let worker = Worker::start(one_at_a_time).ready();
            // Room for the queue's own small writes, and not for an output.
            worker.signal("STOP");
            publish_all(root, &names);
            disk.leave(384 << 10);
            worker.signal("CONT");

            let why = degraded(&worker);
            assert!(why.contains("no space is left"), "{why}");
            let full = Instant::now();
            let tried = ["op=\"job\"", "code=\"storage_unavailable\""];
            while full.elapsed() < LONGER_THAN_THE_ATTEMPTS {
                assert!(files(&root.join("outbox")).is_empty(), "written by half");
                std::thread::sleep(Duration::from_millis(200));
            }
            assert!(worker.metric("cutout_retries_total", &tried) >= 1.0);
            assert_eq!(left(root).len(), 6, "acked without an output");
            assert_eq!(worker.metric("cutout_component_up", &["storage"]), 0.0);

            disk.make_room();
            all_done(root, 6);
            healthy(&worker);
        },
    );
}

#[test]
fn a_queue_without_a_byte_of_room_refuses_publishers_and_recovers() {
    with_own_mounts(
        "a_queue_without_a_byte_of_room_refuses_publishers_and_recovers",
        || {
            let disk = SmallDisk::mount(64 * MIB);
            let root = disk.path();
            let names = photos(root, 4);
            let worker = Worker::start(worker(root)).ready();
            worker.signal("STOP");
            publish_all(root, &names[..3]);
            disk.leave(0);
            // Each takes some of the room that the log has left in itself.
            let refused = wait_until("a publisher that is refused", || {
                let published = publish(root, &[&names[3], "--metadata", &"x=y".repeat(300)]);
                (!published.status.success()).then_some(published)
            });
            let said = told(&refused);
            assert!(said.contains("is full: make room"), "{said}");
            worker.signal("CONT");
            degraded(&worker);
            std::thread::sleep(LONGER_THAN_THE_ATTEMPTS);
            disk.make_room();
            wait_until("an empty queue", || left(root).is_empty().then_some(()));
            healthy(&worker);
            assert!(files(&root.join("outbox")).len() >= 3);
            assert!(results(root).iter().all(|ended| ended != "failed"));
            assert!(rows(root, "SELECT hex(data) FROM dead_letters").is_empty());
            assert_eq!(rows(root, "PRAGMA integrity_check"), ["ok"]);
        },
    );
}

#[test]
fn a_worker_does_not_start_on_a_full_or_read_only_disk_and_says_why() {
    with_own_mounts(
        "a_worker_does_not_start_on_a_full_or_read_only_disk_and_says_why",
        || {
            let disk = SmallDisk::mount(16 * MIB);
            let refused = |code: &str, words: &str| {
                let mut refused = Worker::start(worker(disk.path()));
                let (exit, _) = refused.exit();
                assert_ne!(exit, Some(0));
                let end = wait_until("the reason", || refused.logged("the worker ends"));
                assert_eq!(end["code"], code, "{end}");
                assert!(end["error"].as_str().unwrap().contains(words), "{end}");
            };
            disk.turn_read_only();
            refused("config_invalid", "cannot create");
            disk.turn_writable();
            drop(Worker::start(worker(disk.path())).ready());
            disk.turn_read_only();
            refused("storage_forbidden", "the file system is read-only");
            disk.turn_writable();
            disk.leave(0);
            refused("storage_unavailable", "no space is left");
            disk.make_room();
            drop(Worker::start(worker(disk.path())).ready());
        },
    );
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_outbox_that_turns_read_only_holds_the_jobs_back_until_it_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let names = photos(root, 4);
    let Some(command) = powerless(&worker(root)) else {
        return;
    };
    let worker = Worker::start(command).ready();
    set_mode(&root.join("outbox"), 0o555);
    publish_all(root, &names);
    let why = degraded(&worker);
    assert!(
        why.contains("outbox") && why.contains("not writable"),
        "{why}"
    );
    std::thread::sleep(LONGER_THAN_THE_ATTEMPTS);
    assert_eq!(left(root).len(), 4);
    let tried = ["op=\"job\"", "code=\"storage_forbidden\""];
    assert!(worker.metric("cutout_retries_total", &tried) >= 1.0);

    set_mode(&root.join("outbox"), 0o755);
    all_done(root, 4);
    healthy(&worker);
    // Nor does it matter that the folder goes altogether.
    fs::rename(root.join("outbox"), root.join("archive")).unwrap();
    let again = publish(root, &[&names[0], "--wait"]);
    assert!(again.status.success(), "{}", told(&again));
    assert_eq!(files(&root.join("outbox")).len(), 1);
}

#[test]
fn a_job_whose_own_destination_may_not_be_written_holds_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let names = photos(root, 2);
    fs::create_dir(root.join("protected")).unwrap();
    set_mode(&root.join("protected"), 0o555);
    let Some(command) = powerless(&worker(root)) else {
        return;
    };
    let worker = Worker::start(command).ready();
    let destination = ["--destination", "protected/cat.png", "--wait", "--json"];
    let failed = publish(root, &[&[names[0].as_str()], &destination[..]].concat());
    assert!(!failed.status.success());
    assert!(
        told(&failed).contains("attempts_exhausted"),
        "{}",
        told(&failed)
    );
    healthy(&worker);
    let neighbour = publish(root, &[&names[1], "--wait"]);
    assert!(neighbour.status.success(), "{}", told(&neighbour));
    set_mode(&root.join("protected"), 0o755);
}

#[test]
fn a_photo_that_may_not_be_read_is_a_dead_letter_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let Some(command) = powerless(&worker(root)) else {
        return;
    };
    let worker = Worker::start(command).ready();
    let staged = root.join("secret.jpg");
    fs::copy(file("samples/cat.jpg"), &staged).unwrap();
    set_mode(&staged, 0o000);
    fs::rename(&staged, root.join("inbox/secret.jpg")).unwrap();
    fs::copy(file("samples/cat.jpg"), root.join("inbox/cat.jpg")).unwrap();
    wait_until("the neighbour's output", || {
        root.join("outbox/cat.cutout.png").exists().then_some(())
    });
    let letter = wait_until("the dead letter", || {
        rows(root, "SELECT attributes FROM dead_letters").pop()
    });
    assert!(letter.contains("attempts_exhausted"), "{letter}");
    let refused = ["op=\"job\"", "code=\"storage_forbidden\""];
    assert_eq!(worker.metric("cutout_retries_total", &refused), 2.0);
    healthy(&worker);

    set_mode(&root.join("inbox/secret.jpg"), 0o644);
    let mut replay = quick();
    replay.args(["dlq", "replay", "--all", "--ingress", "local", "--root"]);
    let replayed = run(replay.arg(root));
    assert!(replayed.status.success(), "{}", told(&replayed));
    wait_until("its output", || {
        root.join("outbox/secret.cutout.png").exists().then_some(())
    });
}

#[test]
fn a_worker_whose_whole_root_is_deleted_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("shop");
    let mut worker = Worker::start(worker(&root)).ready();
    fs::remove_dir_all(&root).unwrap();
    let (code, _) = worker.exit();
    assert_eq!(code, Some(1));
    let end = worker.logged("the worker ends").expect("the last words");
    assert_eq!(end["code"], "queue_lost", "{end:#}");
}
