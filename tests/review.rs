//! What a result says of its matte, and what becomes of one that somebody should look at: by the built
//! program, whose network answers a photo's brightness, so that thresholds decide what is unusual.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Worker, file, quick, root_with_jobs, run, told, wait_until};
use rusqlite::Connection;
use serde_json::Value;

/// Any photo has more subject than nothing.
const EVERYTHING_IS_UNUSUAL: &[&str] = &["--review-max-coverage", "0", "--review-prefix", "looks"];

fn local_worker(root: &Path, args: &[&str]) -> Command {
    let mut command = quick();
    command
        .args(["worker", "--ingress", "local", "--root"])
        .arg(root)
        .args(args);
    command
}

/// The pictures below a folder.
fn pictures(folder: &Path) -> Vec<PathBuf> {
    let mut pictures: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "png"))
        .map(walkdir::DirEntry::into_path)
        .collect();
    pictures.sort_unstable();
    pictures
}

fn queue(root: &Path) -> Connection {
    Connection::open(root.join(".cutout/queue.sqlite")).unwrap()
}

fn results(root: &Path) -> Vec<Value> {
    let queue = queue(root);
    let mut select = queue
        .prepare("SELECT data FROM results ORDER BY id")
        .unwrap();
    let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|json| serde_json::from_str(&json.unwrap()).unwrap())
        .collect()
}

fn waits_for_an_empty_queue(root: &Path) {
    let left = || {
        let count = "SELECT count(*) FROM messages";
        queue(root)
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    wait_until("an empty queue", || (left() == 0).then_some(()));
}

#[test]
fn a_result_has_the_numbers_and_nothing_is_set_aside_when_all_is_well() {
    let dir = root_with_jobs(1);
    let args = [
        "--review-max-coverage",
        "1",
        "--review-max-components",
        "10000",
    ];
    let loose = [
        "--review-max-uncertain",
        "1",
        "--review-max-border",
        "1",
        "--review-max-edge-width",
        "1",
    ];
    let args = [&args[..], &loose, &["--review-prefix", "looks"]].concat();
    let worker = Worker::start(local_worker(dir.path(), &args)).ready();
    waits_for_an_empty_queue(dir.path());
    let [result] = results(dir.path()).try_into().unwrap();
    let quality = &result["quality"];
    assert_eq!(
        (&result["status"], &quality["verdict"]),
        (&"done".into(), &"ok".into())
    );
    assert_eq!(quality["reasons"], serde_json::json!([]));
    let coverage = quality["coverage"].as_f64().unwrap();
    assert!(coverage > 0.0 && coverage < 1.0, "{quality:#}");
    assert!(quality.get("copy").is_none());
    assert!(pictures(&dir.path().join("looks")).is_empty());
    assert_eq!(worker.metric("cutout_matte_coverage_ratio_count", &[]), 1.0);
    assert!((worker.metric("cutout_matte_coverage_ratio_sum", &[]) - coverage).abs() < 1e-9);
    assert_eq!(
        worker.metric("cutout_matte_uncertain_ratio_count", &[]),
        1.0
    );
    assert_eq!(worker.metric("cutout_reviews_total", &[]), 0.0);
}

#[test]
fn an_unusual_one_is_done_all_the_same_and_a_copy_is_set_aside() {
    let dir = root_with_jobs(1);
    let worker = Worker::start(local_worker(dir.path(), EVERYTHING_IS_UNUSUAL)).ready();
    waits_for_an_empty_queue(dir.path());
    let [result] = results(dir.path()).try_into().unwrap();
    let quality = &result["quality"];
    assert_eq!(result["status"], "done");
    assert_eq!(quality["verdict"], "review");
    assert!(
        quality["reasons"]
            .as_array()
            .unwrap()
            .contains(&"full".into()),
        "{quality:#}"
    );
    let copy = dir.path().join(quality["copy"].as_str().unwrap());
    let cutout = dir
        .path()
        .join(result["outputs"][0]["uri"].as_str().unwrap());
    assert_eq!(
        pictures(&dir.path().join("looks")),
        std::slice::from_ref(&copy)
    );
    assert_eq!(
        std::fs::read(&copy).unwrap(),
        std::fs::read(cutout).unwrap()
    );
    assert_eq!(result["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(
        worker.metric("cutout_reviews_total", &["reason=\"full\""]),
        1.0
    );

    // Who lists objects finds the verdict, on the copy and on the cut-out.
    let described = walkdir::WalkDir::new(dir.path().join(".cutout"))
        .into_iter()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter(|text| text.contains("\"cutout-verdict\":\"review\""));
    assert_eq!(described.count(), 2);
}

#[test]
fn a_crash_between_the_copy_and_the_cut_out_leaves_one_of_each() {
    let dir = root_with_jobs(1);
    let mut command = local_worker(dir.path(), EVERYTHING_IS_UNUSUAL);
    command.env("FAILPOINTS", "output_staged=1*off->return");
    let mut dying = Worker::start(command);
    assert_eq!(dying.exit().0, None, "it dies");
    let [copy] = pictures(&dir.path().join("looks")).try_into().unwrap();
    assert!(pictures(&dir.path().join("outbox")).is_empty());
    let written = copy.metadata().unwrap().modified().unwrap();

    let _worker = Worker::start(local_worker(dir.path(), EVERYTHING_IS_UNUSUAL)).ready();
    waits_for_an_empty_queue(dir.path());
    assert_eq!(
        pictures(&dir.path().join("looks")),
        std::slice::from_ref(&copy)
    );
    assert_eq!(
        copy.metadata().unwrap().modified().unwrap(),
        written,
        "written once"
    );
    assert_eq!(pictures(&dir.path().join("outbox")).len(), 1);
    let [result] = results(dir.path()).try_into().unwrap();
    assert_eq!(
        (&result["status"], &result["quality"]["verdict"]),
        (&"done".into(), &"review".into())
    );
}

#[test]
fn a_result_that_was_lost_in_a_crash_is_told_again_with_its_verdict() {
    let dir = root_with_jobs(1);
    let mut command = local_worker(dir.path(), EVERYTHING_IS_UNUSUAL);
    command.env("FAILPOINTS", "output_written=return");
    assert_eq!(Worker::start(command).exit().0, None, "it dies");
    assert!(results(dir.path()).is_empty());

    // Thresholds of its own do not count: the picture was judged when it was made.
    let _worker = Worker::start(local_worker(dir.path(), &[])).ready();
    waits_for_an_empty_queue(dir.path());
    let [result] = results(dir.path()).try_into().unwrap();
    assert_eq!(result["status"], "duplicate");
    let quality = &result["quality"];
    assert_eq!(quality["verdict"], "review", "{result:#}");
    assert!(dir.path().join(quality["copy"].as_str().unwrap()).is_file());
}

#[test]
fn a_copy_that_cannot_be_written_brings_the_job_back_and_fails_nothing() {
    let dir = root_with_jobs(1);
    // A file where the folder should be.
    std::fs::write(dir.path().join("looks"), b"in the way").unwrap();
    let worker = Worker::start(local_worker(dir.path(), EVERYTHING_IS_UNUSUAL)).ready();
    let gone_round = "the job failed and goes back to the queue";
    let entry = wait_until("another attempt", || worker.logged(gone_round));
    assert!(results(dir.path()).is_empty(), "{entry:#}");
    assert!(
        pictures(&dir.path().join("outbox")).is_empty(),
        "no cut-out passes unseen"
    );
    std::fs::remove_file(dir.path().join("looks")).unwrap();
    waits_for_an_empty_queue(dir.path());
    assert_eq!(results(dir.path())[0]["status"], "done");
    assert_eq!(pictures(&dir.path().join("looks")).len(), 1);
}

#[test]
fn a_worker_that_is_told_not_to_judge_tells_the_numbers_alone() {
    let dir = root_with_jobs(1);
    let args = [EVERYTHING_IS_UNUSUAL, &["--review=false"]].concat();
    let worker = Worker::start(local_worker(dir.path(), &args)).ready();
    waits_for_an_empty_queue(dir.path());
    let [result] = results(dir.path()).try_into().unwrap();
    let quality = &result["quality"];
    assert!(quality["coverage"].as_f64().unwrap() > 0.0);
    assert!(quality.get("verdict").is_none(), "{quality:#}");
    assert!(pictures(&dir.path().join("looks")).is_empty());
    assert_eq!(worker.metric("cutout_reviews_total", &[]), 0.0);
    assert_eq!(worker.metric("cutout_matte_coverage_ratio_count", &[]), 1.0);
}

#[test]
fn places_and_thresholds_that_cannot_be_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (
            ["--review-prefix", "gs://perkie/review/"],
            "a folder of the store",
        ),
        (["--review-prefix", "../elsewhere"], "nothing outside"),
        (["--review-max-border", "1.5"], "a number from 0 to 1"),
    ] {
        let output = run(&mut local_worker(dir.path(), &args));
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
    let mut cloud = quick();
    cloud.args([
        "config",
        "--ingress",
        "pubsub",
        "--storage-bucket",
        "perkie",
        "--review-prefix",
        "looks",
    ]);
    let output = run(&mut cloud);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(
        told(&output).contains("gs://bucket/prefix/"),
        "{}",
        told(&output)
    );
}

#[test]
fn remove_says_which_pictures_to_look_at_and_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let remove = |args: &[&str], out: &str| {
        let mut command = quick();
        command
            .arg("remove")
            .arg(file("samples/cat.jpg"))
            .args(args);
        let output = run(command.arg("-o").arg(dir.path().join(out)));
        assert!(output.status.success(), "{}", told(&output));
        assert!(dir.path().join(out).is_file());
        String::from_utf8(output.stderr).unwrap()
    };
    let warned = remove(&["--review-max-coverage", "0"], "a.png");
    assert!(
        warned.contains("a.png: look at it (review: full"),
        "{warned}"
    );
    assert!(!remove(&["--review=false"], "b.png").contains("look at it"));
}
