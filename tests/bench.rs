//! `cutout bench`, with a network that takes a millisecond: that every command counts what it says.
//! How fast things are is for people to look at.

mod harness;
mod support;

use std::path::PathBuf;

use harness::{file, quick, run, told};
use serde_json::Value;
use support::{FakeGcs, PubSub, SubscriptionOptions};

fn bench(args: &[&str]) -> Value {
    let mut command = quick();
    command.arg("bench").args(args).arg("--json");
    let output = run(&mut command);
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", told(&output)))
}

fn samples() -> Vec<PathBuf> {
    ["cat.jpg", "coffee.jpg"]
        .map(|name| file("samples").join(name))
        .to_vec()
}

/// A command on the two photos.
fn on_samples(what: &[&str]) -> Value {
    let photos = samples();
    let photos: Vec<_> = photos.iter().map(|photo| photo.to_str().unwrap()).collect();
    bench(&[what, &photos].concat())
}

fn positive(report: &Value, path: &str) -> f64 {
    let value = report.pointer(path).and_then(Value::as_f64);
    let value = value.unwrap_or_else(|| panic!("no number at {path}: {report:#}"));
    assert!(value > 0.0, "{path}: {value}");
    value
}

#[test]
fn stages_tell_each_photo_and_the_machine() {
    let report = on_samples(&["stages", "--rounds", "2"]);
    assert_eq!(report["model"], "brightness");
    assert_eq!(report["provider"], "cpu");
    let photos = report["photos"].as_array().unwrap();
    assert_eq!(photos.len(), 2);
    for (i, photo) in photos.iter().enumerate() {
        for stage in ["bare", "whole", "decode", "infer", "compose", "encode"] {
            positive(&report, &format!("/photos/{i}/{stage}/median"));
        }
        let parts: f64 = ["decode", "infer", "compose", "encode"]
            .iter()
            .map(|stage| photo[stage]["min"].as_f64().unwrap())
            .sum();
        assert!(
            parts <= photo["whole"]["max"].as_f64().unwrap(),
            "{photo:#}"
        );
    }
    positive(&report, "/throughput_ratio");
}

#[test]
fn throughput_is_a_ratio_of_each_round() {
    let report = on_samples(&["throughput", "--rounds", "3", "--concurrency", "2"]);
    assert_eq!(
        (report["photos"].as_u64(), report["rounds"].as_u64()),
        (Some(2), Some(3))
    );
    let (low, mid, high) = (
        positive(&report, "/ratio/min"),
        positive(&report, "/ratio/median"),
        positive(&report, "/ratio/max"),
    );
    assert!(low <= mid && mid <= high);
    positive(&report, "/peak_resident_bytes");
}

#[test]
fn a_sweep_never_takes_more_than_the_budget() {
    let budget = 96 << 20;
    let report = on_samples(&[
        "sweep",
        "--concurrency",
        "1,3,12",
        "--photos",
        "24",
        "--memory-budget",
        "96MiB",
    ]);
    assert_eq!(report["budget_total_bytes"], budget);
    let steps = report["steps"].as_array().unwrap();
    let at_once: Vec<_> = steps
        .iter()
        .map(|step| step["at_once"].as_u64().unwrap())
        .collect();
    assert_eq!(at_once, [1, 3, 12]);
    for step in steps {
        assert_eq!(step["photos"], 24);
        let used = step["budget_used_bytes"].as_u64().unwrap();
        assert!(used > 0 && used <= budget, "{step:#}");
        assert!(
            step["p50_seconds"].as_f64() <= step["p95_seconds"].as_f64(),
            "{step:#}"
        );
    }
}

#[test]
fn a_start_is_the_side_port_then_readiness_then_a_cut_out() {
    let report = on_samples(&["start", "--runs", "2"]);
    let side = positive(&report, "/side_port_seconds/min");
    let ready = positive(&report, "/ready_seconds/min");
    let png = positive(&report, "/first_png_seconds/min");
    assert!(side <= ready && ready <= png, "{report:#}");
    positive(&report, "/remove_seconds/median");
    for phase in [
        "side_port",
        "clients",
        "verify",
        "session",
        "warm_up",
        "total",
    ] {
        positive(&report, &format!("/phases/{phase}/median"));
    }
}

#[test]
fn a_worker_does_what_is_published_to_the_local_queue() {
    let report = on_samples(&["queue", "--rounds", "2"]);
    assert_eq!(report["ingress"], "local");
    positive(&report, "/queue_rate/median");
    positive(&report, "/ratio/median");
    positive(&report, "/worker_peak_resident_bytes");
    for stage in ["download", "decode", "infer", "compose", "encode", "upload"] {
        positive(&report, &format!("/stage_seconds/{stage}"));
    }
}

#[test]
fn a_worker_that_cannot_start_is_told_with_its_reason() {
    let mut command = quick();
    let output = run(command
        .args(["bench", "start", "--runs", "1", "--max-pixels", "0"])
        .arg(file("samples/cat.jpg")));
    assert!(!output.status.success());
    assert!(told(&output).contains("--max-pixels"), "{}", told(&output));
}

#[test]
fn precision_needs_openvino_and_says_so() {
    let mut command = quick();
    let output = run(command
        .args(["bench", "precision"])
        .arg(file("samples/cat.jpg")));
    assert!(!output.status.success());
    assert!(
        told(&output).contains("provider_unavailable"),
        "{}",
        told(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_what_is_published_to_pubsub() {
    let pubsub = PubSub::start().await;
    for topic in ["cutout-jobs", "cutout-results", "cutout-dead-letters"] {
        pubsub.create_topic(topic).await;
    }
    pubsub
        .create_subscription("cutout-jobs", "cutout-jobs", SubscriptionOptions::default())
        .await;
    let gcs = FakeGcs::start().await;
    gcs.create_bucket("bench").await;
    let mut command = quick();
    command
        .env("PUBSUB_EMULATOR_HOST", pubsub.host())
        .env("STORAGE_EMULATOR_HOST", gcs.endpoint())
        .env("GOOGLE_CLOUD_PROJECT", pubsub.project())
        .args(["bench", "queue", "--ingress", "pubsub", "--bucket", "bench"])
        .args(["--rounds", "2", "--json"])
        .args(samples());
    let output = tokio::task::spawn_blocking(move || run(&mut command))
        .await
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ingress"], "pubsub");
    positive(&report, "/queue_rate/median");
    let cut = gcs.list("bench", "bench/").await;
    assert_eq!(
        cut.len(),
        2 + 2 * 2,
        "photos, and a cut-out of each in each round: {cut:?}"
    );
}
