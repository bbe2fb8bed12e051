//! Traces, end to end: the built program sends to a receiver that decodes what comes with
//! OpenTelemetry's own types.

#[path = "traces/collector.rs"]
mod collector;
mod harness;
mod support;

use std::path::Path;
use std::process::Command;

use collector::{Collector, Mood, Span};
use harness::{PATIENCE, Worker, file, quick, root_with_jobs, run, told, wait_until};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use support::{FakeGcs, PubSub, SubscriptionOptions};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const CAT: &str = "samples/cat.jpg";

/// The trace that all publishers here are in.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Every stage of a job with an effect but the waits, which need not be there.
const STAGES: [&str; 9] = [
    "admit", "download", "decode", "infer", "compose", "effects", "encode", "upload", "publish",
];

/// A command of a local root, with the network that takes a millisecond.
fn local(name: &str, root: &Path) -> Command {
    let mut command = quick();
    command
        .args([name, "--ingress", "local", "--root"])
        .arg(root);
    command
}

fn sending_to(mut command: Command, endpoint: &str) -> Command {
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command
}

/// A root with a photo, not published yet.
fn root_with(from: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    std::fs::copy(file(from), dir.path().join("photos/rex.jpg")).unwrap();
    dir
}

/// Publishes the root's photo inside of the trace.
fn publish(root: &Path, flags: &str) {
    let mut command = local("publish", root);
    command
        .args(["photos/rex.jpg", "--effect", "popart"])
        .env("TRACEPARENT", traceparent(flags));
    let published = run(&mut command);
    assert!(published.status.success(), "{}", told(&published));
}

/// The first log entry of this message, as soon as it is there.
fn logged(worker: &Worker, message: &str) -> Value {
    wait_until(message, || worker.logged(message))
}

/// Waits until so many spans over deliveries or requests are there; all spans. Children are sent
/// before, as they end before.
fn arrived(collector: &Collector, over: usize) -> Vec<Span> {
    let is_over = |span: &&Span| matches!(span.kind, SpanKind::Consumer | SpanKind::Server);
    wait_until(&format!("{over} spans over others"), || {
        let spans = collector.spans();
        (spans.iter().filter(is_over).count() == over).then_some(spans)
    })
}

fn only(spans: &[Span], kind: SpanKind) -> &Span {
    let of_kind = |span: &&Span| span.kind == kind && span.name != "publish";
    let mut found = spans.iter().filter(of_kind);
    let span = found.next().expect("one is there");
    assert!(found.next().is_none(), "{spans:#?}");
    span
}

/// Every one of these stages is a child of `over`, in its time; nothing else is.
fn assert_stages(spans: &[Span], over: &Span, stages: &[&str]) {
    let children: Vec<_> = spans.iter().filter(|s| s.parent == over.id).collect();
    for stage in stages {
        let found = children.iter().any(|child| child.name == *stage);
        assert!(found, "no {stage} among {children:#?}");
    }
    for child in children {
        assert!(
            child.name == "wait" || stages.contains(&&*child.name),
            "{child:?}"
        );
        assert_eq!(child.trace, over.trace);
        assert!(child.within(over), "{child:?} is not within {over:?}");
        assert_eq!(child.failure, None);
    }
}

/// The lines of a job are linked to its span.
fn assert_linked(line: &Value, span: &Span) {
    assert_eq!(line["logging.googleapis.com/trace"], span.trace);
    assert_eq!(line["logging.googleapis.com/spanId"], span.id);
    assert_eq!(line["logging.googleapis.com/trace_sampled"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_of_pubsub_goes_on_with_its_publishers_trace_and_hands_it_on() {
    let collector = Collector::start().await;
    let (pubsub, gcs) = (PubSub::start().await, FakeGcs::start().await);
    for topic in ["jobs", "results"] {
        pubsub.create_topic(topic).await;
        let options = SubscriptionOptions::default();
        pubsub.create_subscription(topic, topic, options).await;
    }
    gcs.create_bucket("photos").await;
    let photo = std::fs::read(file(CAT)).unwrap();
    gcs.upload("photos", "cat.jpg", "image/jpeg", photo).await;
    let mut command = sending_to(quick(), &collector.http());
    command
        .args(["worker", "--ingress", "pubsub", "--subscription", "jobs"])
        .args(["--results-topic", "results", "--dead-letter-topic", ""])
        .env("STORAGE_BUCKET", "photos")
        .env("PUBSUB_EMULATOR_HOST", pubsub.host())
        .env("STORAGE_EMULATOR_HOST", gcs.endpoint())
        .env("GOOGLE_CLOUD_PROJECT", pubsub.project())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=photos%20and%20more")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        );
    let worker = Worker::start(command).ready();

    let job = json!({ "job_id": "rex", "source": "gs://photos/cat.jpg", "effects": ["popart"] });
    // As Google's client libraries of the publisher write it; the other is further away.
    let nearer = traceparent("01");
    let further = nearer.replace(PARENT, "1111111111111111");
    let attributes = [
        ("googclient_traceparent", &*nearer),
        ("googclient_tracestate", "shop=a1"),
        ("traceparent", &*further),
    ];
    let id = pubsub.publish("jobs", job.to_string(), &attributes).await;

    let spans = arrived(&collector, 1);
    let over = only(&spans, SpanKind::Consumer);
    assert_eq!((&*over.trace, &*over.parent), (TRACE, PARENT));
    assert_eq!(over.name, "process jobs");
    for (name, value) in [
        ("messaging.system", "gcp_pubsub"),
        ("messaging.operation.type", "process"),
        ("messaging.message.id", &id),
        (
            "messaging.destination.subscription.name",
            "projects/cutout-test/subscriptions/jobs",
        ),
        ("cutout.job_id", "rex"),
        ("cutout.attempt", "1"),
        ("cutout.outcome", "done"),
    ] {
        assert_eq!(over.get(name), value, "{name}");
    }
    assert_eq!(over.failure, None);
    assert_stages(&spans, over, &STAGES);
    let stage = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(stage("decode").get("cutout.format"), "JPEG");
    let picture = image::image_dimensions(file(CAT)).unwrap();
    let pixels = u64::from(picture.0) * u64::from(picture.1);
    assert_eq!(stage("decode").get("cutout.pixels"), pixels.to_string());
    assert_eq!(stage("infer").get("cutout.model"), "brightness");
    assert_eq!(stage("infer").get("cutout.batch_size"), "1");
    assert_eq!(stage("effects").get("cutout.effect"), "popart");
    let bytes = std::fs::metadata(file(CAT)).unwrap().len();
    assert_eq!(stage("download").get("cutout.bytes"), bytes.to_string());
    assert_eq!(over.resource["service.name"], "cutout");
    assert_eq!(over.resource["deployment.environment.name"], "test");
    assert_eq!(over.resource["gcp.project_id"], "cutout-test");
    assert_eq!(collector.headers()[0]["x-team"], "photos and more");

    let line = logged(&worker, "job done");
    let name = format!("projects/cutout-test/traces/{TRACE}");
    assert_eq!(line["logging.googleapis.com/trace"], name);
    assert_eq!(line["logging.googleapis.com/spanId"], over.id);

    let results = pubsub.pull("results", 1, PATIENCE).await;
    let handed_on = format!("00-{TRACE}-{}-01", over.id);
    assert_eq!(results[0].attributes["traceparent"], handed_on);
    assert_eq!(results[0].attributes["tracestate"], "shop=a1");

    // What is exported is counted, and nothing else happened.
    wait_until("the metric", || {
        let sent = worker.metric("cutout_spans_exported_total", &[]);
        (sent == collector.spans().len() as f64).then_some(())
    });
    assert_eq!(worker.metric("cutout_spans_lost_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_trace_goes_from_a_shell_through_publish_to_the_last_stage_of_a_local_job_by_grpc() {
    let collector = Collector::start().await;
    let dir = root_with(CAT);
    let mut command = sending_to(local("publish", dir.path()), &collector.http());
    command
        .args(["photos/rex.jpg", "--effect", "popart"])
        .env("TRACEPARENT", traceparent("01"));
    let published = run(&mut command);
    assert!(published.status.success(), "{}", told(&published));
    let sent = collector.spans();
    let send = only(&sent, SpanKind::Producer);
    assert_eq!((&*send.trace, &*send.parent), (TRACE, PARENT));
    assert_eq!(send.name, "send cutout.local");
    assert_eq!(send.get("cutout.jobs"), "1");

    let mut command = sending_to(local("worker", dir.path()), &collector.grpc());
    command
        .args(["--otlp-protocol", "grpc"])
        .env("OTEL_SERVICE_NAME", "the-worker")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=photos");
    let worker = Worker::start(command).ready();
    let spans = arrived(&collector, 1);
    let over = only(&spans, SpanKind::Consumer);
    assert_eq!((&*over.trace, &*over.parent), (TRACE, &*send.id));
    assert_eq!(over.get("messaging.system"), "cutout.local");
    assert_eq!(over.resource["service.name"], "the-worker");
    assert_stages(&spans, over, &STAGES);
    assert_linked(&logged(&worker, "job done"), over);
    assert_eq!(collector.headers().last().unwrap()["x-team"], "photos");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_photo_over_http_has_a_servers_span_with_route_status_and_stages_and_probes_have_none() {
    let collector = Collector::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = sending_to(local("worker", dir.path()), &collector.http());
    command.args(["--http-api", "--rate-limit", "0"]);
    let worker = Worker::start(command).ready();
    let send = async |path: &str, photo: Vec<u8>, flags: &str| {
        let request = reqwest::Client::new().post(worker.url(path));
        let request = request.header("content-type", "image/jpeg");
        let request = request.header("traceparent", traceparent(flags));
        let answer = request.body(photo).send().await.unwrap();
        answer.status().as_u16()
    };
    let photo = std::fs::read(file(CAT)).unwrap();
    assert_eq!(
        send("/api/v2/process?effect=popart", photo, "01").await,
        200
    );

    let spans = arrived(&collector, 1);
    let over = only(&spans, SpanKind::Server);
    assert_eq!((&*over.trace, &*over.parent), (TRACE, PARENT));
    assert_eq!(over.name, "POST /api/v2/process");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v2/process"),
        ("http.response.status_code", "200"),
        ("cutout.outcome", "done"),
    ] {
        assert_eq!(over.get(name), value, "{name}");
    }
    assert_stages(
        &spans,
        over,
        &["decode", "infer", "compose", "effects", "encode"],
    );
    assert_linked(&logged(&worker, "photo answered"), over);

    // The client's own fault is no failure of the server's span, but of the stage that met it.
    let broken = std::fs::read(file("tests/fixtures/images/truncated.jpg")).unwrap();
    assert_eq!(send("/remove-background", broken, "01").await, 400);
    let spans = arrived(&collector, 2);
    let over = |span: &&Span| span.name == "POST /remove-background";
    let over = spans.iter().find(over).unwrap();
    assert_eq!(over.get("http.response.status_code"), "400");
    assert_eq!(over.get("cutout.code"), "image_corrupt");
    assert_eq!(over.failure, None);
    let stage = spans.iter().find(|span| span.parent == over.id).unwrap();
    assert_eq!((&*stage.name, stage.failure.is_some()), ("decode", true));
    // The harness has asked /startup many times.
    let asked = |span: &Span| span.name.contains("GET");
    assert!(!spans.iter().any(asked), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_that_fails_says_why_in_its_span_and_its_stage_and_its_dead_letter_keeps_the_trace() {
    let collector = Collector::start().await;
    let dir = root_with("tests/fixtures/images/truncated.jpg");
    publish(dir.path(), "01");
    let command = sending_to(local("worker", dir.path()), &collector.http());
    let worker = Worker::start(command).ready();
    let spans = arrived(&collector, 1);
    let over = only(&spans, SpanKind::Consumer);
    assert_eq!(over.trace, TRACE);
    for name in ["cutout.code", "error.type"] {
        assert_eq!(over.get(name), "image_corrupt");
    }
    assert_eq!(over.get("cutout.class"), "permanent");
    assert_eq!(over.get("cutout.outcome"), "failed");
    let said = over
        .failure
        .as_ref()
        .expect("the span's status is an error");
    let stage = spans.iter().find(|span| span.name == "decode").unwrap();
    assert_eq!(stage.failure.as_ref(), Some(said));
    assert_eq!(stage.get("cutout.code"), "image_corrupt");
    assert_linked(&logged(&worker, "job failed"), over);

    let mut command = quick();
    command.args(["dlq", "list", "--json", "--ingress", "local", "--root"]);
    let listed = run(command.arg(dir.path()));
    assert!(listed.status.success(), "{}", told(&listed));
    let letter: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(letter["attributes"]["traceparent"], traceparent("01"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_delivery_of_a_message_has_a_span_in_the_same_trace() {
    let collector = Collector::start().await;
    let dir = root_with(CAT);
    publish(dir.path(), "01");
    let mut command = sending_to(local("worker", dir.path()), &collector.http());
    command.env("FAILPOINTS", "photo_decoded=1*panic(broken)");
    let _worker = Worker::start(command).ready();
    let spans = arrived(&collector, 2);
    let mut deliveries: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Consumer)
        .collect();
    deliveries.sort_by_key(|span| span.start);
    let told = |span: &Span| {
        let get = |name: &str| span.get(name).to_owned();
        (
            get("cutout.attempt"),
            get("cutout.outcome"),
            get("cutout.code"),
        )
    };
    let expected = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(told(deliveries[0]), expected("1", "retried", "internal"));
    assert_eq!(told(deliveries[1]), expected("2", "done", ""));
    for delivery in deliveries {
        assert_eq!((&*delivery.trace, &*delivery.parent), (TRACE, PARENT));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_collector_that_is_gone_broken_or_silent_costs_spans_and_nothing_else() {
    const JOBS: usize = 4;
    let collector = Collector::start().await;
    let gone = "http://127.0.0.1:9".to_owned();
    for (endpoint, mood, protocol) in [
        (gone.clone(), Mood::Well, "http/protobuf"),
        (gone, Mood::Well, "grpc"),
        (collector.http(), Mood::Broken, "http/protobuf"),
        (collector.grpc(), Mood::Broken, "grpc"),
        (collector.http(), Mood::Silent, "http/protobuf"),
        (collector.grpc(), Mood::Silent, "grpc"),
    ] {
        let what = format!("{mood:?} {endpoint} {protocol}");
        collector.is(mood);
        let dir = root_with_jobs(JOBS);
        let mut command = sending_to(local("worker", dir.path()), &endpoint);
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let mut worker = Worker::start(command).ready();
        wait_until(&format!("the jobs: {what}"), || {
            let done = worker.metric("cutout_jobs_total", &["outcome=\"done\""]);
            (done == JOBS as f64).then_some(())
        });
        if mood == Mood::Broken {
            let reason = ["reason=\"export_failed\""];
            wait_until(&format!("the metric: {what}"), || {
                (worker.metric("cutout_spans_lost_total", &reason) > 0.0).then_some(())
            });
        }
        // A silent collector never answers: who waited for it would not end.
        worker.signal("TERM");
        assert_eq!(worker.exit().0, Some(0), "{what}: {:#?}", worker.logs());
        assert!(
            worker.logged("drained; the worker ends").is_some(),
            "{what}"
        );
        let lost = |entry: &&Value| {
            let message = entry["message"].as_str().unwrap_or_default();
            message.starts_with("spans were lost")
        };
        let logs = worker.logs();
        let complaints: Vec<_> = logs.iter().filter(lost).collect();
        assert_eq!(complaints.len(), 1, "{what}: {complaints:#?}");
        assert!(complaints[0]["spans"].as_u64().unwrap() > 0);
        let theirs = |entry: &&Value| entry["target"].to_string().contains("opentelemetry");
        assert_eq!(logs.iter().find(theirs), None, "{what}");
    }
    assert!(collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_publisher_does_not_keep_is_not_sent_but_its_lines_are_still_linked() {
    let collector = Collector::start().await;
    let dir = root_with(CAT);
    publish(dir.path(), "00");
    let command = sending_to(local("worker", dir.path()), &collector.http());
    let mut worker = Worker::start(command).ready();
    let line = logged(&worker, "job done");
    assert_eq!(line["logging.googleapis.com/trace"], TRACE);
    assert_eq!(line["logging.googleapis.com/trace_sampled"], false);
    assert_ne!(line["logging.googleapis.com/spanId"], PARENT);
    // The end sends what is left, so that nothing can come later.
    worker.signal("TERM");
    assert_eq!(worker.exit().0, Some(0));
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
}

#[test]
fn without_a_collector_the_lines_of_a_job_point_to_its_publishers_span() {
    let dir = root_with(CAT);
    publish(dir.path(), "01");
    let worker = Worker::start(local("worker", dir.path())).ready();
    let line = logged(&worker, "job done");
    assert_eq!(line["logging.googleapis.com/trace"], TRACE);
    assert_eq!(line["logging.googleapis.com/spanId"], PARENT);
    assert_eq!(line["logging.googleapis.com/trace_sampled"], true);

    // What is no context is nobody's, and no reason to fail.
    let mut command = local("publish", dir.path());
    command
        .args([
            "photos/rex.jpg",
            "--wait",
            "--destination",
            "outbox/other.png",
        ])
        .env("TRACEPARENT", "00-what-else-01");
    let published = run(&mut command);
    assert!(published.status.success(), "{}", told(&published));
    let done = |entry: &&Value| entry["message"] == "job done";
    let logs = worker.logs();
    let second = logs.iter().filter(done).nth(1).unwrap();
    assert_eq!(second.get("logging.googleapis.com/trace"), None);
}

#[test]
fn wrong_settings_are_refused_together_and_secrets_are_not_printed() {
    let config = |variables: &[(&str, &str)]| {
        let mut command = quick();
        command.arg("config").envs(variables.iter().copied());
        run(&mut command)
    };
    let address = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
    let wrong = config(&[
        address,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("CUTOUT_MAX_PIXELS", "0"),
    ]);
    assert_eq!(wrong.status.code(), Some(2), "{}", told(&wrong));
    let said = told(&wrong);
    for what in [
        "http/protobuf or grpc",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "--max-pixels",
        "config_invalid",
    ] {
        assert!(said.contains(what), "{what} is not in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");

    let right = config(&[
        address,
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hunter2",
        ),
    ]);
    let printed = told(&right);
    assert!(right.status.success(), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
    let line = |setting: &str| {
        let found = printed.lines().find(|line| line.starts_with(setting));
        found.unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(
        line("otlp-endpoint"),
        [
            "otlp-endpoint",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "environment",
            "http://localhost:4318"
        ]
    );
    assert_eq!(line("otlp-headers").last(), Some(&"authorization=***"));
}
