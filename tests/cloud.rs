//! Pub/Sub and Cloud Storage, end to end: the built program, Google's emulator, a real GCS server.

mod harness;
mod support;

use std::time::Duration;

use cutout::error::{Code, Error};
use cutout::ingress::{Egress, Ingress, Message, pubsub};
use harness::{PATIENCE, Worker, alpha, cutout, file, likeness, run, told, wait_until};
use serde_json::{Value, json};
use support::{FakeGcs, PubSub, SubscriptionOptions};

const BUCKET: &str = "perkie-photos";
const JOBS: &str = "cutout-jobs";
const RESULTS: &str = "cutout-results";
const DEAD: &str = "cutout-dead-letters";

/// A project as Terraform would leave it, with a bucket that announces its uploads.
struct Cloud {
    pubsub: PubSub,
    gcs: FakeGcs,
}

impl Cloud {
    async fn start() -> Self {
        Self::start_with_attempts(5).await
    }

    /// Jobs become dead letters after this many deliveries.
    async fn start_with_attempts(attempts: i32) -> Self {
        let pubsub = PubSub::start().await;
        for topic in [JOBS, RESULTS, DEAD] {
            pubsub.create_topic(topic).await;
        }
        let retry = Some((Duration::from_secs(1), Duration::from_secs(5)));
        let options = SubscriptionOptions {
            ack_deadline_seconds: Some(10),
            dead_letter: Some((DEAD.to_owned(), attempts)),
            retry,
            ..SubscriptionOptions::default()
        };
        pubsub.create_subscription(JOBS, JOBS, options).await;
        for topic in [RESULTS, DEAD] {
            pubsub
                .create_subscription(topic, topic, SubscriptionOptions::default())
                .await;
        }
        let gcs = FakeGcs::start_notifying(&pubsub, JOBS).await;
        gcs.create_bucket(BUCKET).await;
        Self { pubsub, gcs }
    }

    /// A command with the production names of the environment.
    fn command(&self, name: &str) -> std::process::Command {
        let mut command = cutout();
        command
            .arg(name)
            .env("CUTOUT_INGRESS", "pubsub")
            .env("PUBSUB_EMULATOR_HOST", self.pubsub.host())
            .env("STORAGE_EMULATOR_HOST", self.gcs.endpoint())
            .env("GOOGLE_CLOUD_PROJECT", self.pubsub.project());
        command
    }

    fn worker(&self, args: &[&str]) -> Worker {
        let mut command = self.command("worker");
        command.env("STORAGE_BUCKET", BUCKET).args(args);
        Worker::start(command)
    }

    /// Puts a photo without anybody being told: the emulator announces every upload, so the
    /// announcement is taken off the subscription again.
    async fn upload_quietly(&self, key: &str, from: &str) -> i64 {
        let body = std::fs::read(file(from)).unwrap();
        let generation = self.gcs.upload(BUCKET, key, "image/jpeg", body).await;
        assert_eq!(self.pubsub.pull(JOBS, 1, PATIENCE).await.len(), 1);
        generation
    }

    /// `cutout dlq`, with little patience.
    fn dlq(&self, args: &[&str]) -> std::process::Output {
        let mut command = self.command("dlq");
        run(command.args(args).args(["--wait", "3s"]))
    }

    /// Runs `cutout dlq`, which must find one letter to work on: those that were looked at
    /// before have been given back.
    fn dlq_one(&self, args: &[&str]) {
        let output = self.dlq(args);
        assert!(output.status.success(), "{}", told(&output));
        let said = told(&output);
        assert!(said.contains(": 1 dead letter"), "{said}");
    }

    /// The dead letters as JSON, by job id, as soon as there are so many.
    fn dead(&self, count: usize, args: &[&str]) -> Vec<Value> {
        wait_until(&format!("{count} dead letters"), || {
            let output = self.dlq(&[&["list", "--json"], args].concat());
            assert!(output.status.success(), "{}", told(&output));
            let lines = String::from_utf8(output.stdout).unwrap();
            let mut letters: Vec<Value> = lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            letters.sort_by_key(|letter| letter["job_id"].to_string());
            (letters.len() == count).then_some(letters)
        })
    }

    async fn results(&self, count: usize) -> Vec<Value> {
        let results = self.pubsub.pull(RESULTS, count, PATIENCE).await;
        assert_eq!(results.len(), count, "{results:?}");
        results.iter().map(support::pubsub::Pulled::json).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_job_becomes_a_png_in_the_bucket_a_result_and_moved_metrics() {
    let cloud = Cloud::start().await;
    let generation = cloud
        .upload_quietly("2026/11/cat.jpg", "samples/cat.jpg")
        .await;
    let worker = cloud.worker(&[]).ready();
    let job = json!({
        "version": 1, "job_id": "order-5512-front", "source": format!("gs://{BUCKET}/2026/11/cat.jpg#{generation}"),
        "metadata": { "order": "5512" }, "from_the_future": true,
    });
    cloud.pubsub.publish(JOBS, job.to_string(), &[]).await;

    let [result] = cloud.results(1).await.try_into().unwrap();
    assert_eq!(result["status"], "done", "{result:#}");
    assert_eq!(result["job_id"], "order-5512-front");
    assert_eq!(result["metadata"]["order"], "5512");
    assert_eq!(
        result["source"],
        format!("gs://{BUCKET}/2026/11/cat.jpg#{generation}")
    );
    assert_eq!(result["model"]["name"], "isnet-medium");
    let output = &result["outputs"][0];
    assert_eq!(
        output["uri"],
        format!("gs://{BUCKET}/2026/11/cat.cutout.png")
    );

    let png = cloud
        .gcs
        .download(BUCKET, "2026/11/cat.cutout.png")
        .await
        .expect("the output");
    assert_eq!(output["bytes"], png.len());
    let described = cloud
        .gcs
        .describe(BUCKET, "2026/11/cat.cutout.png")
        .await
        .unwrap();
    assert_eq!(
        output["generation"].to_string(),
        described["generation"].as_str().unwrap()
    );
    assert_eq!(output["crc32c"], described["crc32c"]);
    assert_eq!(described["metadata"]["order"], "5512");
    let (width, height, cut) = alpha(&png);
    assert_eq!(
        (output["width"].as_u64(), output["height"].as_u64()),
        (Some(width.into()), Some(height.into()))
    );
    let reference = image::open(file("tests/fixtures/masks/cat.mask.png"))
        .unwrap()
        .to_luma8();
    let (difference, iou) = likeness(&cut, reference.as_raw());
    assert!(
        difference <= 1.0 && iou >= 0.99,
        "mean difference {difference}/255, IoU {iou}"
    );

    // The bucket announced the output as well; that must be skipped, not cut out again.
    wait_until("the skipped announcement", || {
        (worker.metric("cutout_notifications_skipped_total", &["own_output"]) >= 1.0).then_some(())
    });
    assert_eq!(
        worker.metric(
            "cutout_jobs_total",
            &["outcome=\"done\"", "ingress=\"pubsub\""]
        ),
        1.0
    );
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
    assert_eq!(cloud.gcs.list(BUCKET, "").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_review_goes_into_its_own_bucket_and_is_announced_for_nothing() {
    const REVIEW: &str = "perkie-review";
    let cloud = Cloud::start().await;
    cloud.gcs.create_bucket(REVIEW).await;
    let worker = cloud
        .worker(&[
            "--review-prefix",
            "gs://perkie-review/looks",
            "--review-max-coverage",
            "0",
        ])
        .ready();
    let photo = std::fs::read(file("samples/coffee.jpg")).unwrap();
    let name = "2026/coffee.jpg";
    cloud.gcs.upload(BUCKET, name, "image/jpeg", photo).await;
    let [result] = cloud.results(1).await.try_into().unwrap();
    assert_eq!(result["status"], "done", "{result:#}");
    let quality = &result["quality"];
    assert_eq!(
        (&quality["verdict"], &quality["reasons"]),
        (&json!("review"), &json!(["full"]))
    );
    let copies = cloud.gcs.list(REVIEW, "").await;
    let [copy] = copies.keys().collect::<Vec<_>>().try_into().unwrap();
    assert!(copy.starts_with("looks/2026/coffee.cutout."), "{copy}");
    assert_eq!(quality["copy"], format!("gs://{REVIEW}/{copy}"));
    let output = "2026/coffee.cutout.png";
    assert_eq!(
        cloud.gcs.download(REVIEW, copy).await,
        cloud.gcs.download(BUCKET, output).await
    );
    for (bucket, key) in [(REVIEW, copy.as_str()), (BUCKET, output)] {
        let metadata = &cloud.gcs.describe(bucket, key).await.unwrap()["metadata"];
        assert_eq!(metadata["cutout-verdict"], "review", "{metadata:#}");
        let all = serde_json::from_str::<Value>(metadata["cutout-quality"].as_str().unwrap());
        assert_eq!(all.unwrap(), *quality);
    }
    wait_until("both skipped announcements", || {
        (worker.metric("cutout_notifications_skipped_total", &["own_output"]) >= 2.0).then_some(())
    });
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_bucket_that_is_not_there_is_told_at_start() {
    let cloud = Cloud::start().await;
    let mut worker = cloud.worker(&["--review-prefix", "gs://perkie-typo/looks/"]);
    assert_eq!(worker.exit().0, Some(2));
    let end = wait_until("the last words", || worker.logged("the worker ends"));
    assert!(
        end["error"].as_str().unwrap().contains("perkie-typo"),
        "{end:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_png_and_its_own_announcement_becomes_nothing() {
    let cloud = Cloud::start().await;
    let worker = cloud.worker(&[]).ready();
    let photo = std::fs::read(file("samples/coffee.jpg")).unwrap();
    cloud
        .gcs
        .upload(BUCKET, "uploads/coffee.jpg", "image/jpeg", photo)
        .await;
    cloud
        .gcs
        .upload(BUCKET, "uploads/notes.txt", "text/plain", "no photo")
        .await;
    let [result] = cloud.results(1).await.try_into().unwrap();
    assert_eq!(result["status"], "done", "{result:#}");
    assert!(
        cloud
            .gcs
            .download(BUCKET, "uploads/coffee.cutout.png")
            .await
            .is_some()
    );
    for reason in ["own_output", "not_an_image"] {
        wait_until(reason, || {
            (worker.metric("cutout_notifications_skipped_total", &[reason]) == 1.0).then_some(())
        });
    }
    assert_eq!(cloud.gcs.list(BUCKET, "").await.len(), 3);
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_jobs_fail_with_their_codes_go_to_the_dead_letters_and_stop_nobody() {
    let cloud = Cloud::start().await;
    cloud.upload_quietly("cat.jpg", "samples/cat.jpg").await;
    for (key, from) in [
        ("text.jpg", "tests/fixtures/images/text.jpg"),
        ("truncated.jpg", "tests/fixtures/images/truncated.jpg"),
        ("bomb.png", "tests/fixtures/images/bomb-30000x30000.png"),
    ] {
        cloud.upload_quietly(key, from).await;
    }
    let worker = cloud.worker(&[]).ready();
    let source =
        |key: &str| json!({ "job_id": key, "source": format!("gs://{BUCKET}/{key}") }).to_string();
    let bad = [
        ("text.jpg", "unsupported_format"),
        ("truncated.jpg", "image_corrupt"),
        ("bomb.png", "image_too_large"),
        ("missing.jpg", "source_not_found"),
    ];
    for (key, _) in bad {
        cloud
            .pubsub
            .publish(JOBS, source(key), &[("shop", "perkie")])
            .await;
    }
    let forbidden = json!({ "job_id": "forbidden", "source": "gs://somebody-else/cat.jpg" });
    cloud.pubsub.publish(JOBS, forbidden.to_string(), &[]).await;
    cloud.pubsub.publish(JOBS, "this is not JSON", &[]).await;
    cloud.pubsub.publish(JOBS, source("cat.jpg"), &[]).await;

    let mut codes: Vec<(String, String)> = cloud
        .results(7)
        .await
        .iter()
        .map(|result| {
            let code = result["error"]["code"]
                .as_str()
                .unwrap_or("none")
                .to_owned();
            assert_eq!(
                result["status"],
                if code == "none" { "done" } else { "failed" },
                "{result:#}"
            );
            let id = result["job_id"].as_str().unwrap();
            (
                if id.starts_with("message-") {
                    "not json"
                } else {
                    id
                }
                .to_owned(),
                code,
            )
        })
        .collect();
    codes.sort();
    let mut expected: Vec<(String, String)> = bad
        .into_iter()
        .chain([
            ("forbidden", "bucket_forbidden"),
            ("not json", "invalid_job"),
            ("cat.jpg", "none"),
        ])
        .map(|(id, code)| (id.to_owned(), code.to_owned()))
        .collect();
    expected.sort();
    assert_eq!(codes, expected);

    let dead = cloud.pubsub.pull(DEAD, 6, PATIENCE).await;
    assert_eq!(dead.len(), 6);
    let text = dead
        .iter()
        .find(|m| m.data == source("text.jpg").into_bytes())
        .expect("the original data");
    assert_eq!(text.attributes["shop"], "perkie");
    assert_eq!(text.attributes["cutout-error-code"], "unsupported_format");
    assert_eq!(text.attributes["cutout-error-class"], "permanent");
    // The cat's cutout is announced too, later than its result comes.
    wait_until("the cutout's announcement", || {
        let skipped = worker.metric("cutout_notifications_skipped_total", &["own_output"]);
        (skipped == 1.0).then_some(())
    });
    let left = cloud.pubsub.pull(JOBS, 1, Duration::from_secs(2)).await;
    assert!(left.is_empty(), "all were acked, but for {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_photo_is_cut_out_when_its_dead_letter_is_replayed() {
    let cloud = Cloud::start().await;
    cloud
        .upload_quietly("cat.jpg", "tests/fixtures/images/truncated.jpg")
        .await;
    let _worker = cloud.worker(&[]).ready();
    let job = json!({ "job_id": "order-5512", "source": format!("gs://{BUCKET}/cat.jpg") });
    cloud.pubsub.publish(JOBS, job.to_string(), &[]).await;
    assert_eq!(cloud.results(1).await[0]["status"], "failed");

    let letters = cloud.dead(1, &["--source", &format!("gs://{BUCKET}/")]);
    assert_eq!(letters[0]["code"], "image_corrupt");
    assert_eq!(letters[0]["job_id"], "order-5512");
    // Its announcement becomes a cut-out as well; whichever is first, the other is a duplicate.
    let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
    cloud
        .gcs
        .upload(BUCKET, "cat.jpg", "image/jpeg", photo)
        .await;
    cloud.dlq_one(&["replay", "--job-id", "order-5512"]);
    let results = cloud.results(2).await;
    let replayed = results.iter().find(|r| r["job_id"] == "order-5512");
    assert_ne!(replayed.unwrap()["status"], "failed", "{results:#?}");
    assert!(cloud.gcs.download(BUCKET, "cat.cutout.png").await.is_some());
    cloud.dead(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_both_origins_are_listed_replayed_and_dropped() {
    let cloud = Cloud::start().await;
    let client = pubsub::PubSub::connect(pubsub::PubSubConfig {
        emulator_host: Some(cloud.pubsub.host()),
        project: Some(cloud.pubsub.project().into()),
        subscription: Some(JOBS.into()),
        dead_letter_topic: Some(DEAD.into()),
        ..pubsub::PubSubConfig::default()
    })
    .await
    .unwrap();
    // One dies of too many deliveries, by Pub/Sub's own hand.
    cloud
        .pubsub
        .publish(
            JOBS,
            r#"{"job_id":"a","source":"gs://x/a.jpg"}"#,
            &[("shop", "perkie")],
        )
        .await;
    let mut consumer: Box<dyn Ingress> = Box::new(client.ingress().unwrap());
    for _ in 0..5 {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await;
        delivery.unwrap().unwrap().lease.nack().await.unwrap();
    }
    // Two are a worker's.
    for (id, code) in [("b", Code::ImageCorrupt), ("c", Code::SourceNotFound)] {
        let message = Message {
            id: format!("original-{id}"),
            data: json!({ "job_id": id, "source": format!("gs://x/{id}.jpg") })
                .to_string()
                .into(),
            attributes: [("shop".to_owned(), "perkie".to_owned())].into(),
            ordering_key: id.to_owned(),
            attempt: 2,
            ..Message::default()
        };
        let error = Error::new(code, "it is broken");
        client.dead_letter(&message, &error).await.unwrap();
    }
    let letters = cloud.dead(3, &[]);
    consumer.close().await.unwrap();
    let seen: Vec<_> = letters
        .iter()
        .map(|letter| {
            assert_eq!(
                letter["attributes"],
                json!({ "shop": "perkie" }),
                "{letter:#}"
            );
            let text = |name: &str| letter[name].as_str().unwrap().to_owned();
            (text("job_id"), text("code"), text("origin"))
        })
        .collect();
    let expected = [
        ("a", "attempts_exhausted", "pubsub"),
        ("b", "image_corrupt", "worker"),
        ("c", "source_not_found", "worker"),
    ]
    .map(|(id, code, origin)| (id.to_owned(), code.to_owned(), origin.to_owned()));
    assert_eq!(seen, expected);
    assert_eq!(cloud.dead(3, &[]), letters, "a listing changes nothing");

    // The emulator hands what is replayed to the stream that was closed above, for some leases; a
    // subscription of its own is out of that stream's reach.
    let replays = cloud
        .pubsub
        .create_subscription("replays", JOBS, SubscriptionOptions::default());
    replays.await;
    cloud.dlq_one(&["replay", "--code", "image_corrupt"]);
    let [replayed] = cloud
        .pubsub
        .pull("replays", 1, PATIENCE)
        .await
        .try_into()
        .unwrap();
    assert_eq!(replayed.json()["job_id"], "b");
    assert_eq!(replayed.ordering_key, "b");
    let own = [("shop".to_owned(), "perkie".to_owned())];
    assert_eq!(replayed.attributes, own.into());
    cloud.dlq_one(&["drop", "--yes", "--code", "attempts_exhausted"]);

    // A wrong name is not an empty answer, and costs nothing.
    for (args, missing) in [
        (
            &["list", "--dead-letter-subscription", "nowhere"][..],
            "nowhere",
        ),
        (&["replay", "--all", "--topic", "no-jobs"], "no-jobs"),
    ] {
        let output = cloud.dlq(args);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(missing), "{}", told(&output));
    }
    assert_eq!(cloud.dead(1, &[])[0]["job_id"], "c");
    assert!(
        cloud
            .pubsub
            .pull("replays", 1, Duration::from_secs(1))
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_loses_nothing_and_writes_nothing_twice() {
    const COUNT: usize = 8;
    // The emulator goes on delivering to the dead worker's stream for a while, and each such
    // delivery counts as an attempt.
    let cloud = Cloud::start_with_attempts(100).await;
    for i in 0..COUNT {
        cloud
            .upload_quietly(&format!("cat-{i}.jpg"), "samples/cat.jpg")
            .await;
    }
    let short = ["--lease-extension", "10s"];
    let worker = cloud.worker(&short).ready();
    for i in 0..COUNT {
        let job =
            json!({ "job_id": format!("cat-{i}"), "source": format!("gs://{BUCKET}/cat-{i}.jpg") });
        cloud.pubsub.publish(JOBS, job.to_string(), &[]).await;
    }
    // Killed when the first outputs are there: some results are published, some acks are not.
    loop {
        let written = cloud.gcs.list(BUCKET, "").await.len() - COUNT;
        if written >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.kill();
    let before = cloud.gcs.list(BUCKET, "").await;
    assert!(
        before.len() < 2 * COUNT,
        "the crash came too late to mean anything"
    );

    // The dead worker's leases run out after the client's lease extension.
    let _worker = cloud.worker(&short).ready();
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < COUNT {
        for result in cloud.results(1).await {
            assert_ne!(result["status"], "failed", "{result:#}");
            answered.insert(result["job_id"].as_str().unwrap().to_owned());
        }
    }
    let after = cloud.gcs.list(BUCKET, "").await;
    assert_eq!(after.len(), 2 * COUNT);
    for (key, generation) in before {
        assert_eq!(after[&key], generation, "{key} was written twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_takes_everything_under_a_prefix_and_waits_for_the_results() {
    let cloud = Cloud::start().await;
    for key in ["batch/cat-1.jpg", "batch/cat-2.jpg", "elsewhere/cat-3.jpg"] {
        cloud.upload_quietly(key, "samples/cat.jpg").await;
    }
    let worker = cloud.worker(&[]).ready();
    let mut publish = cloud.command("publish");
    publish.args([
        "--prefix",
        &format!("gs://{BUCKET}/batch/"),
        "--wait",
        "--json",
        "--kind",
        "mask",
    ]);
    let output = tokio::task::spawn_blocking(move || run(&mut publish))
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{:#?}",
        told(&output),
        worker.logs()
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for name in ["cat-1", "cat-2"] {
        let mask = cloud
            .gcs
            .download(BUCKET, &format!("batch/{name}.cutout.png"))
            .await
            .unwrap();
        let mask = image::load_from_memory(&mask).unwrap();
        assert_eq!(mask.color(), image::ColorType::L8);
    }
    assert!(
        cloud
            .gcs
            .download(BUCKET, "elsewhere/cat-3.cutout.png")
            .await
            .is_none()
    );
}

#[test]
fn a_missing_subscription_and_bucket_are_reported_together_and_the_worker_does_not_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cloud = runtime.block_on(async {
        let pubsub = PubSub::start().await;
        let gcs = FakeGcs::start().await;
        Cloud { pubsub, gcs }
    });
    let mut command = cloud.command("worker");
    command
        .env("STORAGE_BUCKET", "no-such-bucket")
        .args(["--host", "127.0.0.1", "--port", "0"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    let last = error.lines().last().unwrap();
    for missing in ["no-such-bucket", JOBS, RESULTS, DEAD] {
        assert!(last.contains(missing), "{missing} is not named in: {last}");
    }
}
