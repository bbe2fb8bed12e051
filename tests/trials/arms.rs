//! The arms of an A/B test as a worker has them.

use std::collections::BTreeMap;

use crate::harness::{Worker, alpha, run, told, wait_until};
use cutout::experiment::{ArmSpec, Experiment, Side, StableKey};
use serde_json::{Value, json};

use crate::home::Site;

const HALF: &[&str] = &["--ab-experiment", "fur", "--ab-arm", "dark=dim:50%"];

/// By the program's own rule, with the arm's share in force.
fn expected(source: &str) -> &'static str {
    let arms: [ArmSpec; 1] = ["dark=dim:50%".parse().unwrap()];
    let experiment = Experiment::new("fur", StableKey::Source, &arms).unwrap();
    match experiment.side(source) {
        Side::Control => "control",
        Side::Arm(_) => "dark",
    }
}

/// Source without its generation, and arm, of results that are all of this status.
fn arms(results: &[Value], status: &str) -> BTreeMap<String, String> {
    let of = |result: &Value| {
        assert_eq!(result["status"], status, "{result:#}");
        assert_eq!(result["experiment"], "fur", "{result:#}");
        let source = result["source"].as_str().unwrap();
        let source = source.split('#').next().unwrap().to_owned();
        (source, result["arm"].as_str().unwrap().to_owned())
    };
    results.iter().map(of).collect()
}

#[test]
fn each_arm_has_its_network_and_says_so_everywhere_and_keeps_its_jobs() {
    let site = Site::new(10);
    let worker = Worker::start(site.worker(HALF)).ready();
    let results = site.all_done(&worker);
    let first = arms(&results, "done");
    assert_eq!(first.len(), 10);
    for (source, arm) in &first {
        assert_eq!(arm, expected(source), "{source}");
    }
    for result in &results {
        let dark = result["arm"] == "dark";
        assert_eq!(
            result["model"]["name"],
            if dark { "dim" } else { "brightness" }
        );
        let name = result["outputs"][0]["uri"].as_str().unwrap();
        let (_, _, mask) = alpha(&std::fs::read(site.root().join(name)).unwrap());
        // The one network's mattes are a tenth of the other's.
        let brightest = *mask.iter().max().unwrap();
        assert!(
            if dark {
                brightest <= 26
            } else {
                brightest > 200
            },
            "{brightest}"
        );
        let metadata = site.metadata(name);
        assert_eq!(metadata["cutout-arm"], result["arm"]);
        assert_eq!(metadata["cutout-experiment"], "fur");
        assert_eq!(metadata["cutout-model"], result["model"]["name"]);
    }
    let counted = |worker: &Worker, arm: &str, outcome: &str| {
        let labels = [format!("arm=\"{arm}\""), format!("outcome=\"{outcome}\"")];
        worker.metric(
            "cutout_arm_jobs_total",
            &labels.each_ref().map(String::as_str),
        )
    };
    let count = |arm: &str| first.values().filter(|found| *found == arm).count() as f64;
    for arm in ["control", "dark"] {
        assert!(count(arm) > 0.0, "both have some");
        assert_eq!(counted(&worker, arm, "done"), count(arm));
        let label = format!("arm=\"{arm}\"");
        assert_eq!(
            worker.metric("cutout_arm_job_seconds_count", &[&label]),
            count(arm)
        );
    }
    let told = worker
        .logs()
        .into_iter()
        .any(|entry| entry["message"] == "job done" && entry["arm"] == "dark");
    assert!(told, "log lines have the arm");

    // The same jobs again are duplicates, each in its arm.
    site.publish_again();
    let again = site.all_done(&worker).split_off(10);
    assert_eq!(arms(&again, "duplicate"), first);
    assert_eq!(counted(&worker, "dark", "duplicate"), count("dark"));
    drop(worker);

    // And so they are for a worker whose arm has shrunk to nothing: what a network began stays its own.
    let none = ["--ab-experiment", "fur", "--ab-arm", "dark=dim:0%"];
    let worker = Worker::start(site.worker(&none)).ready();
    site.publish_again();
    let again = site.all_done(&worker).split_off(20);
    assert_eq!(arms(&again, "duplicate"), first);
}

#[test]
fn a_job_that_names_its_network_or_lacks_the_key_is_in_no_arm() {
    let site = Site::new(2);
    let by_customer = [HALF, &["--ab-key", "metadata.customer"]].concat();
    let worker = Worker::start(site.worker(&by_customer)).ready();
    for result in site.all_done(&worker) {
        assert_eq!(result["model"]["name"], "brightness");
        assert!(result.get("arm").is_none(), "{result:#}");
    }
    let named = site.photos().into_iter().enumerate().map(|(n, name)| {
        json!({
            "source": name, "destination": format!("named/{n}.png"), "model": "dim",
            "metadata": { "customer": "7" },
        })
    });
    site.publish(&named.collect::<Vec<_>>());
    let named = site.all_done(&worker).split_off(2);
    assert_eq!(named.len(), 2);
    for result in named {
        assert_eq!(result["model"]["name"], "dim", "{result:#}");
        assert!(result.get("arm").is_none());
    }
    assert_eq!(worker.metric("cutout_arm_jobs_total", &[]), 0.0);
}

#[test]
fn a_job_that_fails_says_its_arm_too() {
    let site = Site::new(0);
    std::fs::create_dir(site.root().join("photos")).unwrap();
    std::fs::write(site.root().join("photos/broken.jpg"), b"no photo").unwrap();
    site.publish_again();
    let args = ["--ab-experiment", "fur", "--ab-arm", "dark=dim:100%"];
    let worker = Worker::start(site.worker(&args)).ready();
    let [result] = site.all_done(&worker).try_into().unwrap();
    assert_eq!(
        (&result["status"], &result["arm"]),
        (&"failed".into(), &"dark".into())
    );
    wait_until("the count", || {
        let labels = ["arm=\"dark\"", "outcome=\"failed\""];
        (worker.metric("cutout_arm_jobs_total", &labels) == 1.0).then_some(())
    });
}

#[test]
fn arms_that_cannot_be_are_refused_at_start() {
    let site = Site::new(0);
    for (args, expected) in [
        (&["--ab-arm", "dark=dim:50%"][..], "--ab-experiment"),
        (
            &["--ab-experiment", "fur", "--ab-arm", "dark=dim"],
            "not an arm",
        ),
        (
            &["--ab-experiment", "fur", "--ab-arm", "control=dim:1%"],
            "another name",
        ),
        (
            &["--ab-experiment", "fur", "--ab-arm", "a=dim:60%,b=dim:41%"],
            "101%",
        ),
        (&["--ab-key", "customer"], "not a key"),
    ] {
        let output = run(&mut site.worker(args));
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(expected), "{}", told(&output));
    }
    let unknown = ["--ab-experiment", "fur", "--ab-arm", "dark=dimm:50%"];
    let output = run(&mut site.worker(&unknown));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("no model \"dimm\""),
        "{}",
        told(&output)
    );
    // Ready means that every arm is.
    std::fs::remove_file(site.home().join("models/dim.onnx")).unwrap();
    let output = run(&mut site.worker(HALF));
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("dim.onnx"), "{}", told(&output));
}
