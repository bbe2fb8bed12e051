//! `cutout dlq` on the local queue: the built program, and what it leaves in the database.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cutout::error::{Code, Error};
use cutout::ingress::local::LocalQueue;
use cutout::ingress::{Egress, Message};
use harness::{Worker, cutout, file, run, told, wait_until};
use serde_json::Value;

fn dlq(root: &Path, args: &[&str]) -> Command {
    let mut command = cutout();
    command
        .arg("dlq")
        .args(args)
        .args(["--ingress", "local", "--root"])
        .arg(root)
        .stdin(Stdio::null());
    command
}

/// Runs to success, and returns what was said on standard output and error.
fn succeed(root: &Path, args: &[&str]) -> (String, String) {
    let output = run(&mut dlq(root, args));
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

fn list(root: &Path, args: &[&str]) -> Vec<Value> {
    let args = [&["list", "--json"], args].concat();
    let (lines, _) = succeed(root, &args);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn queue_file(root: &Path) -> PathBuf {
    root.join(".cutout/queue.sqlite")
}

fn rows(root: &Path, table: &str) -> u32 {
    let queue = rusqlite::Connection::open(queue_file(root)).unwrap();
    let count = format!("SELECT count(*) FROM {table}");
    queue.query_row(&count, [], |row| row.get(0)).unwrap()
}

/// A root whose queue holds dead letters: job id, source, code.
async fn with_letters(letters: &[(&str, &str, Code)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let queue = LocalQueue::open(queue_file(root.path())).unwrap();
    for (number, (job_id, source, code)) in letters.iter().enumerate() {
        let job = serde_json::json!({ "job_id": job_id, "source": source });
        let message = Message {
            id: number.to_string(),
            data: job.to_string().into(),
            attributes: [("shop".to_owned(), "perkie".to_owned())].into(),
            attempt: 2,
            ..Message::default()
        };
        let error = Error::new(*code, format!("{source}: {code}\nsecond line"));
        queue.dead_letter(&message, &error).await.unwrap();
    }
    root
}

const MIXED: &[(&str, &str, Code)] = &[
    ("rex", "2026/rex.jpg", Code::ImageCorrupt),
    ("tom", "2026/tom.jpg", Code::SourceNotFound),
    ("old", "2025/old.jpg", Code::ImageCorrupt),
    ("big", "2026/big.jpg", Code::ImageTooLarge),
];

#[test]
fn a_mended_photo_is_cut_out_when_its_dead_letter_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("photos")).unwrap();
    let photo = root.join("photos/cat.jpg");
    std::fs::copy(file("tests/fixtures/images/truncated.jpg"), &photo).unwrap();
    let worker = Worker::local(root, &[]).ready();
    let mut publish = cutout();
    publish
        .args(["publish", "photos/cat.jpg", "--metadata", "order=5512"])
        .args(["--ingress", "local", "--wait", "--root"])
        .arg(root);
    let output = run(&mut publish);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));

    let letters = wait_until("the dead letter", || {
        Some(list(root, &[])).filter(|letters| !letters.is_empty())
    });
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}");
    };
    assert_eq!(letter["code"], "image_corrupt");
    assert_eq!(letter["class"], "permanent");
    assert_eq!(letter["origin"], "worker");
    assert_eq!(letter["attempts"], 1);
    assert_eq!(letter["source"], "photos/cat.jpg");
    assert!(!letter["message"].as_str().unwrap().is_empty());
    let job_id = letter["job_id"].as_str().unwrap();
    let data: Value = serde_json::from_str(letter["data"].as_str().unwrap()).unwrap();
    assert_eq!(data["metadata"]["order"], "5512");

    std::fs::copy(file("samples/cat.jpg"), &photo).unwrap();
    let (_, said) = succeed(root, &["replay", "--job-id", job_id]);
    assert!(
        said.contains("replayed to the jobs: 1 dead letter"),
        "{said}"
    );
    wait_until("the cut-out", || {
        walkdir::WalkDir::new(root.join("outbox"))
            .into_iter()
            .filter_map(Result::ok)
            .find(|entry| entry.file_name() == "cat.cutout.png")
    });
    assert!(list(root, &[]).is_empty());
    assert_eq!(worker.metric("cutout_dead_letters_total", &[]), 1.0);
}

#[test]
fn a_job_that_fails_too_often_is_counted_and_listed_as_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("inbox")).unwrap();
    std::fs::copy(file("samples/cat.jpg"), root.join("inbox/cat.jpg")).unwrap();
    // Nothing is done within a millisecond, so every attempt fails.
    let args = ["--job-timeout", "1ms", "--max-attempts", "2"];
    let worker = Worker::local(root, &args).ready();
    wait_until("the count", || {
        let exhausted = ["code=\"attempts_exhausted\""];
        (worker.metric("cutout_dead_letters_total", &exhausted) == 1.0).then_some(())
    });
    let letters = list(
        root,
        &["--code", "attempts_exhausted", "--source", "inbox/"],
    );
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["attempts"], 2);
    // An upload has a job too, and its id is that of the failed result.
    assert!(letters[0]["job_id"].as_str().unwrap().starts_with("auto-"));
}

#[tokio::test]
async fn a_listing_tells_what_died_and_changes_nothing() {
    let dir = with_letters(MIXED).await;
    let root = dir.path();
    let (table, said) = succeed(root, &["list"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("TIME"), "{table}");
    let ids: Vec<_> = lines[1..]
        .iter()
        .map(|line| line.split_whitespace().nth(4).unwrap())
        .collect();
    assert_eq!(ids, ["rex", "tom", "old", "big"], "oldest first");
    assert!(!table.contains("second line"), "{table}");
    assert!(
        said.contains("4 dead letters: 2 image_corrupt, 1 image_too_large, 1 source_not_found"),
        "{said}"
    );
    let before = list(root, &[]);
    assert_eq!(before.len(), 4);
    assert_eq!(before[0]["attributes"]["shop"], "perkie");
    assert_eq!(list(root, &[]), before);
    assert_eq!(rows(root, "messages"), 0);

    let codes = ["--code", "image_too_large", "--code", "source_not_found"];
    assert_eq!(list(root, &codes).len(), 2);
    assert_eq!(list(root, &["--source", "2026/", "--limit", "2"]).len(), 2);
    assert_eq!(list(root, &["--newer-than", "1h"]).len(), 4);
    assert_eq!(list(root, &["--older-than", "1h"]).len(), 0);
    let (nothing, said) = succeed(root, &["list", "--job-id", "nobody"]);
    assert!(nothing.is_empty() && said.contains("0 dead letters (of 4 looked at)"));
    let (_, said) = succeed(root, &["list", "--limit", "1"]);
    assert!(said.contains("--limit 1: there may be more"), "{said}");
}

#[tokio::test]
async fn only_what_matches_is_replayed_or_dropped_and_a_dry_run_does_neither() {
    let dir = with_letters(MIXED).await;
    let root = dir.path();
    let corrupt = ["--code", "image_corrupt", "--source", "2026/"];
    for action in ["replay", "drop"] {
        let args = [&[action, "--dry-run"], &corrupt[..]].concat();
        let (table, said) = succeed(root, &args);
        assert!(table.contains("2026/rex.jpg") && !table.contains("old.jpg"));
        assert!(
            said.contains(&format!("would {action} 1 dead letter")),
            "{said}"
        );
    }
    assert_eq!((rows(root, "dead_letters"), rows(root, "messages")), (4, 0));

    succeed(root, &[&["replay"], &corrupt[..]].concat());
    assert_eq!((rows(root, "dead_letters"), rows(root, "messages")), (3, 1));
    let (_, said) = succeed(
        root,
        &["drop", "--yes", "--job-id", "tom", "--job-id", "rex"],
    );
    assert!(said.contains("dropped: 1 dead letter"), "{said}");
    succeed(root, &["drop", "--yes", "--all", "--limit", "1"]);
    let left = list(root, &[]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["job_id"], "big", "the oldest goes first");
    assert_eq!(rows(root, "messages"), 1);
    succeed(root, &["replay", "--all"]);
    assert_eq!((rows(root, "dead_letters"), rows(root, "messages")), (0, 2));
}

#[tokio::test]
async fn nothing_is_replayed_or_dropped_by_accident() {
    let dir = with_letters(MIXED).await;
    let root = dir.path();
    for (args, said) in [
        (&["replay"][..], "--all"),
        (&["replay", "--limit", "1"], "--all"),
        (&["drop", "--yes"], "--all"),
        (&["drop", "--all"], "--yes"),
        (
            &["drop", "--all", "--code", "image_corrupt", "--yes"],
            "--all",
        ),
        (&["replay", "--code", "image_corupt"], "image_corrupt"),
        (
            &["list", "--code", "storage_unavailable"],
            "attempts_exhausted",
        ),
        (&["list", "--limit", "0"], "--limit"),
        (&["list", "--older-than", "3"], "--older-than"),
    ] {
        let output = run(&mut dlq(root, args));
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", told(&output));
        assert!(told(&output).contains(said), "{args:?}: {}", told(&output));
    }
    assert_eq!((rows(root, "dead_letters"), rows(root, "messages")), (4, 0));

    // A wrong root must not read as "nothing is dead", nor get a queue of its own.
    let empty = tempfile::tempdir().unwrap();
    let output = run(&mut dlq(empty.path(), &["list"]));
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(!queue_file(empty.path()).exists());
}

#[tokio::test]
async fn a_replay_that_is_killed_at_any_moment_loses_nothing_and_doubles_nothing() {
    const LETTERS: u32 = 3000;
    let fill = |root: &Path| {
        let mut queue = rusqlite::Connection::open(queue_file(root)).unwrap();
        let transaction = queue.transaction().unwrap();
        transaction.execute("DELETE FROM messages", []).unwrap();
        for _ in 0..LETTERS {
            let insert = "INSERT INTO dead_letters (data, attributes, ordering_key, published)
                          VALUES (x'7b7d', '{}', '', 0)";
            transaction.execute(insert, []).unwrap();
        }
        transaction.commit().unwrap();
    };
    let dir = with_letters(&[]).await;
    let root = dir.path();
    fill(root);
    let begun = Instant::now();
    succeed(root, &["replay", "--all"]);
    let whole = begun.elapsed();
    fill(root);
    for step in 1..=12 {
        let mut replay = dlq(root, &["replay", "--all"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * step / 12 + Duration::from_millis(1));
        drop(replay.kill());
        drop(replay.wait());
        match (rows(root, "dead_letters"), rows(root, "messages")) {
            (LETTERS, 0) => {}
            (0, LETTERS) => fill(root),
            torn => panic!("{torn:?} after {step}/12 of {whole:?}"),
        }
    }
}
