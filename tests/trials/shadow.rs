//! The shadow as a worker has it.

use std::collections::BTreeMap;

use crate::harness::{Worker, run, told, wait_until};
use cutout::experiment::bucket;
use serde_json::Value;

use crate::home::Site;

const ALL: &[&str] = &[
    "--shadow-model",
    "dim",
    "--shadow-share",
    "100%",
    "--shadow-load-within",
    "1h",
    "--shadow-prefix",
    "records",
];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [ALL, args].concat()
}

/// Waits until so many have ended so.
pub fn ended(worker: &Worker, outcome: &str, count: usize) {
    let label = format!("outcome=\"{outcome}\"");
    wait_until(outcome, || {
        let found = worker.metric("cutout_shadow_runs_total", &[&label]);
        (found >= count as f64).then_some(())
    });
}

/// Stops the worker; the counts that it leaves with.
fn counts_at_the_end(mut worker: Worker) -> BTreeMap<String, u64> {
    worker.signal("TERM");
    let (code, _) = worker.exit();
    assert_eq!(code, Some(0), "{:#?}", worker.logs());
    let entry = worker.logged("the shadow ends").expect("it says so");
    let counts = entry["counts"].as_str().unwrap().split(", ");
    counts
        .map(|pair| {
            let (name, count) = pair.split_once(' ').unwrap();
            (name.to_owned(), count.parse().unwrap())
        })
        .collect()
}

fn adds_up(counts: &BTreeMap<String, u64>) -> u64 {
    let ended = counts.iter().filter(|(name, _)| *name != "sampled");
    let sum = ended.map(|(_, count)| count).sum();
    assert_eq!(counts["sampled"], sum, "{counts:?}");
    sum
}

fn all_are(results: &[Value], status: &str, count: usize) {
    let found = results.iter().filter(|r| r["status"] == status).count();
    assert_eq!((found, results.len()), (count, count), "{results:#?}");
}

#[test]
fn differences_are_counted_and_stored_and_no_record_of_them_becomes_a_job() {
    let site = Site::new(3);
    // Where every file is announced as an upload.
    let args = [&ALL[..7], &["inbox/records"]].concat();
    let worker = Worker::start(site.worker(&args)).ready();
    all_are(&site.all_done(&worker), "done", 3);
    ended(&worker, "done", 3);
    assert_eq!(worker.metric("cutout_shadow_sampled_total", &[]), 3.0);
    assert_eq!(worker.metric("cutout_shadow_up", &[]), 1.0);
    for measure in ["mean", "disagreeing", "jaccard"] {
        let label = format!("measure=\"{measure}\"");
        let count = worker.metric("cutout_shadow_difference_ratio_count", &[&label]);
        assert_eq!(count, 3.0, "{measure}");
    }
    assert_eq!(worker.metric("cutout_shadow_run_seconds_count", &[]), 3.0);

    let records = site.files("inbox/records", "json");
    assert_eq!(records.len(), 3);
    let results = site.results();
    for path in records {
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let result = results.iter().find(|r| r["job_id"] == record["job_id"]);
        let result = result.expect("a job of this id");
        assert_eq!(record["source"], result["source"]);
        assert_eq!(record["primary"], result["model"]);
        assert_eq!(record["shadow"]["name"], "dim");
        assert_ne!(record["shadow"]["sha256"], record["primary"]["sha256"]);
        // A tenth of the brightness: what is brighter than five ninths is off by more than a half.
        let difference = &record["difference"];
        assert_eq!(
            (&difference["width"], &difference["height"]),
            (&64.into(), &64.into())
        );
        assert!(difference["mean"].as_f64().unwrap() > 0.1, "{record:#}");
        assert!(difference["disagreeing"].as_f64().unwrap() > 0.01);
        assert_eq!(difference["iou"], 0.0);
        let own = site.metadata(result["outputs"][0]["uri"].as_str().unwrap());
        assert_eq!(record["key"], own["cutout-job"]);
        for which in ["primary", "shadow"] {
            let name = record["mattes"][which].as_str().unwrap();
            let matte = image::open(site.root().join(name)).unwrap().to_luma8();
            assert_eq!(matte.dimensions(), (64, 64));
            let brightest = matte.pixels().map(|pixel| pixel.0[0]).max().unwrap();
            assert_eq!(brightest, if which == "primary" { 255 } else { 26 });
            let marker = &site.metadata(name)["cutout-job"];
            assert!(marker.as_str().unwrap().starts_with("shadow-"), "{marker}");
        }
    }
    wait_until("what is announced of the mattes", || {
        let own = worker.metric("cutout_notifications_skipped_total", &["own_output"]);
        (own == 6.0).then_some(())
    });
    assert_eq!(worker.metric("cutout_jobs_total", &["done"]), 3.0);
    let counts = counts_at_the_end(worker);
    assert_eq!((adds_up(&counts), counts["done"]), (3, 3));
}

#[test]
fn a_shadow_that_always_fails_costs_no_job() {
    for failure in ["shadow_run=return", "shadow_run=panic(a defect)"] {
        let site = Site::new(4);
        let mut command = site.worker(ALL);
        command.env("FAILPOINTS", failure);
        let worker = Worker::start(command).ready();
        all_are(&site.all_done(&worker), "done", 4);
        ended(&worker, "failed", 4);
        assert!(
            worker
                .logged("the shadow failed; its job did not")
                .is_some()
        );
        assert_eq!(worker.get("/health").0, 200);
        let counts = counts_at_the_end(worker);
        assert_eq!((adds_up(&counts), counts["failed"]), (4, 4), "{failure}");
        assert!(site.files("records", "json").is_empty());
    }
}

#[test]
fn a_place_that_takes_no_record_costs_no_job() {
    let site = Site::new(3);
    std::fs::write(site.root().join("records"), b"in the way").unwrap();
    let worker = Worker::start(site.worker(ALL)).ready();
    all_are(&site.all_done(&worker), "done", 3);
    ended(&worker, "not_stored", 3);
    assert!(worker.logged("the shadow's record is lost").is_some());
    assert_eq!(worker.get("/health").0, 200);
    let counts = counts_at_the_end(worker);
    assert_eq!((adds_up(&counts), counts["not_stored"]), (3, 3));
}

#[test]
fn a_shadow_that_hangs_holds_up_neither_a_job_nor_the_end() {
    let site = Site::new(10);
    let mut command = site.worker(&with(&["--shadow-max-waiting", "2"]));
    command.env("FAILPOINTS", "shadow_run=pause");
    let worker = Worker::start(command).ready();
    // Whatever the shadow does, it never comes back: no job waits for it, or this would not end.
    all_are(&site.all_done(&worker), "done", 10);
    wait_until("all to be offered", || {
        (worker.metric("cutout_shadow_sampled_total", &[]) == 10.0).then_some(())
    });
    assert_eq!(worker.metric("cutout_shadow_waiting", &[]), 2.0);
    let counts = counts_at_the_end(worker);
    assert_eq!(adds_up(&counts), 10);
    assert_eq!((counts["dropped_full"], counts["dropped_end"]), (8, 2));
}

#[test]
fn a_shadow_that_does_not_load_in_time_holds_up_no_start() {
    let site = Site::new(2);
    let args: Vec<_> = ALL
        .iter()
        .map(|arg| if *arg == "1h" { "1ms" } else { arg })
        .collect();
    // Long after the end; and about then, so that the end has to wait until the runtime is left.
    for load in ["shadow_load=sleep(60000)", "shadow_load=sleep(1000)"] {
        let mut command = site.worker(&args);
        command.env("FAILPOINTS", load);
        let mut worker = Worker::start(command).ready();
        all_are(&site.all_done(&worker), "done", 2);
        let warned = "the shadow was not loaded in time; the worker goes on without one";
        assert!(worker.logged(warned).is_some());
        assert_eq!(worker.metric("cutout_shadow_up", &[]), 0.0);
        assert_eq!(worker.metric("cutout_shadow_sampled_total", &[]), 0.0);
        worker.signal("TERM");
        assert_eq!(worker.exit().0, Some(0), "{load}");
    }
}

#[test]
fn what_can_never_fit_is_left_out_and_counted() {
    let site = Site::new(2);
    let worker = Worker::start(site.worker(&with(&["--shadow-memory", "64KiB"]))).ready();
    all_are(&site.all_done(&worker), "done", 2);
    let counts = counts_at_the_end(worker);
    assert_eq!((adds_up(&counts), counts["dropped_large"]), (2, 2));
}

#[test]
fn the_share_is_chosen_by_the_jobs_keys() {
    let site = Site::new(12);
    let args: Vec<_> = ALL
        .iter()
        .map(|arg| if *arg == "100%" { "50%" } else { arg })
        .collect();
    let worker = Worker::start(site.worker(&args)).ready();
    let results = site.all_done(&worker);
    let expected = results.iter().filter(|result| {
        let output = result["outputs"][0]["uri"].as_str().unwrap();
        let key = &site.metadata(output)["cutout-job"];
        bucket("cutout-shadow", key.as_str().unwrap()) < 5000
    });
    let counts = counts_at_the_end(worker);
    assert_eq!(adds_up(&counts), expected.count() as u64);
}

#[test]
fn the_shadows_threads_have_idle_priority_and_no_other_has() {
    let site = Site::new(3);
    // Also when it is the shadow that decodes first.
    let worker = Worker::start(site.worker(&with(&["--threads", "2"]))).ready();
    all_are(&site.all_done(&worker), "done", 3);
    ended(&worker, "done", 3);
    let tasks = format!("/proc/{}/task", worker.pid());
    let mut of_shadow = 0;
    for task in std::fs::read_dir(tasks).unwrap() {
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        // proc_pid_stat(5): the name in brackets is field 2, the policy field 41.
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let policy = fields.split(' ').nth(41 - 3).unwrap();
        let shadow = name.ends_with("(shadow");
        of_shadow += usize::from(shadow);
        // SCHED_IDLE, SCHED_OTHER
        assert_eq!(policy, if shadow { "5" } else { "0" }, "{stat}");
    }
    assert!(of_shadow >= 2, "its own thread, and the runtime's");
}

#[test]
fn shadows_that_cannot_be_are_refused_at_start() {
    let site = Site::new(0);
    for (args, expected) in [
        (&["--shadow-model", "dim"][..], "needs --shadow-prefix"),
        (
            &[
                "--shadow-model",
                "dim",
                "--shadow-prefix",
                "gs://perkie/records",
            ],
            "a folder of the store",
        ),
        (
            &["--shadow-model", "dim", "--shadow-prefix", "../elsewhere"],
            "nothing outside",
        ),
        (
            &["--shadow-model", "brightness", "--shadow-prefix", "records"],
            "own network",
        ),
        (
            &with(&["--shadow-max-waiting", "0"]),
            "--shadow-max-waiting",
        ),
        (&["--shadow-share", "5"], "not a percentage"),
        (
            &[
                "--shadow-model",
                "dim",
                "--shadow-share",
                "0%",
                "--shadow-prefix",
                "records",
            ],
            "above 0%",
        ),
        (&["--shadow-keep-above", "2"], "a number from 0 to 1"),
    ] {
        let output = run(&mut site.worker(args));
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
    // The graph is another than the manifest says: nothing starts with the wrong file.
    std::fs::write(site.home().join("models/dim.onnx"), b"no graph").unwrap();
    let output = run(&mut site.worker(ALL));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("model_invalid"), "{}", told(&output));
}
