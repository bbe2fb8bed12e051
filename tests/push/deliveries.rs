//! What becomes of a push.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::Worker;
use crate::site::{BUCKET, DEAD, PATH, Site, until};

fn jobs(worker: &Worker, outcome: &str) -> f64 {
    let outcome = format!("outcome=\"{outcome}\"");
    worker.metric("cutout_jobs_total", &[&outcome, "ingress=\"push\""])
}

async fn in_work(worker: &Worker, count: usize) {
    until("jobs in work", || {
        (worker.metric("cutout_jobs_in_flight", &[]) == count as f64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_answered_when_its_output_and_its_result_are_there() {
    let site = Site::start().await;
    let generation = site.photo("2026/rex.jpg").await;
    let worker = site.worker(&[], "");
    let answer = site.push(&worker, &site.job("2026/rex.jpg")).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));

    let key = "2026/rex.cutout.png";
    let png = site.gcs.download(BUCKET, key).await.expect("the output");
    image::load_from_memory_with_format(&png, image::ImageFormat::Png).unwrap();
    let [result] = site.results(1).await.try_into().unwrap();
    assert_eq!(result["status"], "done", "{result:#}");
    assert_eq!(result["job_id"], "2026/rex.jpg");
    assert_eq!(
        result["source"],
        format!("gs://{BUCKET}/2026/rex.jpg#{generation}")
    );
    assert_eq!(jobs(&worker, "done"), 1.0);
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 1.0);
    let route = format!("route=\"{PATH}\"");
    let counted = worker.metric("cutout_http_requests_total", &[&route, "status=\"204\""]);
    assert_eq!(counted, 1.0);
    assert_eq!(worker.get("/health").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_pushed_again_and_again_is_worked_on_once() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&["--max-jobs", "8"], "");
    let job = site.job("rex.jpg");
    // Side by side, then once more.
    let answers = futures::future::join_all((0..4).map(|_| site.push(&worker, &job))).await;
    let generation = site.gcs.list(BUCKET, "rex.cutout").await;
    let last = site.push(&worker, &job).await;
    for answer in answers.iter().chain([&last]) {
        assert_eq!(answer.status, 204, "{answers:?}");
    }
    assert_eq!(site.gcs.list(BUCKET, "rex.cutout").await, generation);
    assert_eq!(generation.len(), 1);
    let results = site.results(5).await;
    let count = |status: &str| results.iter().filter(|r| r["status"] == status).count();
    assert_eq!((count("done"), count("duplicate")), (1, 4), "{results:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_succeed_is_acknowledged_after_its_dead_letter() {
    let site = Site::start().await;
    let worker = site.worker(&[], "");
    for (envelope, code) in [
        (site.envelope("this is not JSON"), "invalid_job"),
        (site.envelope(""), "invalid_job"),
        (site.job("missing.jpg"), "source_not_found"),
    ] {
        assert_eq!(site.push(&worker, &envelope).await.status, 204, "{code}");
        let [result] = site.results(1).await.try_into().unwrap();
        assert_eq!(result["status"], "failed", "{result:#}");
        assert_eq!(result["error"]["code"], code, "{result:#}");
        let dead = site.pubsub.pull(DEAD, 1, Duration::from_secs(10)).await;
        let attributes = &dead[0].attributes;
        assert_eq!(attributes["cutout-error-code"], code);
        assert_eq!(attributes["shop"], "perkie");
        assert_eq!(
            attributes["cutout-message-id"],
            envelope["message"]["messageId"].as_str().unwrap()
        );
    }
    assert_eq!(jobs(&worker, "failed"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_envelope_is_refused_although_its_token_is_valid() {
    let site = Site::start().await;
    let worker = site.worker(&[], "");
    let mut elsewhere = site.job("rex.jpg");
    elsewhere["subscription"] = json!("projects/cutout-test/subscriptions/other");
    let mut unnamed = site.job("rex.jpg");
    unnamed["message"] = json!({ "data": "e30=" });
    let mut garbled = site.job("rex.jpg");
    garbled["message"]["data"] = json!("not base64!");
    for (body, said) in [
        (String::new(), (400, "invalid_envelope")),
        ("not JSON".into(), (400, "invalid_envelope")),
        (
            json!({ "source": "gs://photos/rex.jpg" }).to_string(),
            (400, "invalid_envelope"),
        ),
        (unnamed.to_string(), (400, "invalid_envelope")),
        (garbled.to_string(), (400, "invalid_envelope")),
        (elsewhere.to_string(), (403, "wrong_subscription")),
    ] {
        let answer = site
            .push_as(&worker, Some(&site.token()), body.clone())
            .await;
        assert_eq!(answer.said(), said, "{body}");
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(told["detail"].as_str().unwrap().len() > 20, "{told}");
    }
    let refused = |reason: &str| worker.metric("cutout_push_refused_total", &[reason]);
    assert_eq!(refused("\"envelope\""), 5.0);
    assert_eq!(refused("\"subscription\""), 1.0);
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 0.0);
    site.no_more_results().await;
}

/// The first line of the answer to a request of which nothing but its head is sent.
async fn answer_to_head(worker: &Worker, headers: &str) -> String {
    let url = worker.url("");
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
    let read = read.expect("an answer before the body").unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_after_the_token_was_checked_and_within_its_limit() {
    let site = Site::start().await;
    let worker = site.worker(&[], "");
    let length = "content-length: 1000000";
    let stranger = answer_to_head(&worker, length).await;
    assert!(stranger.contains(" 401 "), "{stranger}");
    let token = format!("authorization: Bearer {}", site.token());
    let length = format!("content-length: {}\r\n{token}", (14 << 20) + 1);
    let large = answer_to_head(&worker, &length).await;
    assert!(large.contains(" 413 "), "{large}");
    let refused = |reason: &str| worker.metric("cutout_push_refused_total", &[reason]);
    assert_eq!(refused("\"too_large\""), 1.0);

    // The largest message that Pub/Sub takes passes; that it is no job is another matter.
    let largest = site.envelope(&"x".repeat(10_000_000));
    assert_eq!(site.push(&worker, &largest).await.status, 204);
    assert_eq!(jobs(&worker, "failed"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_pushes_at_once_none_is_lost_and_no_more_than_the_places_are_in_work() {
    const PUSHES: usize = 40;
    const PLACES: usize = 4;
    let site = Site::start().await;
    for i in 0..PUSHES {
        site.photo(&format!("rex-{i}.jpg")).await;
    }
    let args = ["--max-jobs", &PLACES.to_string()];
    let worker = site.worker(&args, "photo_decoded=sleep(100)");
    let push = async |i: usize| {
        let job = site.job(&format!("rex-{i}.jpg"));
        let mut full = 0;
        loop {
            let answer = site.push(&worker, &job).await;
            match answer.said() {
                (204, _) => return full,
                (429, "full") => {
                    assert!(answer.retry_after);
                    full += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => panic!("{answer:?}"),
            }
        }
    };
    let pushes = futures::future::join_all((0..PUSHES).map(push));
    let mut most = 0.0;
    let watch = async {
        loop {
            most = worker.metric("cutout_jobs_in_flight", &[]).max(most);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let full: usize = tokio::select! {
        full = pushes => full.into_iter().sum(),
        () = watch => unreachable!(),
    };
    assert!(
        full > 0,
        "forty pushes were too few to fill {PLACES} places"
    );
    assert!(most > 0.0 && most <= PLACES as f64, "{most} in work");
    assert_eq!(jobs(&worker, "done"), PUSHES as f64);
    assert_eq!(worker.metric("cutout_duplicates_total", &[]), 0.0);
    let outputs = site.gcs.list(BUCKET, "").await;
    assert_eq!(outputs.len(), 2 * PUSHES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_pubsub_gave_up_is_finished_and_the_next_one_finds_it_done() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&[], "photo_decoded=1*sleep(2000)");
    let job = site.job("rex.jpg");
    let impatient = tokio::time::timeout(Duration::from_millis(700), site.push(&worker, &job));
    impatient.await.expect_err("the job takes longer");
    until("the job's end", || {
        (jobs(&worker, "done") == 1.0).then_some(())
    })
    .await;
    let generation = site.gcs.list(BUCKET, "rex.cutout").await;
    let begun = Instant::now();
    assert_eq!(site.push(&worker, &job).await.status, 204);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "nothing is computed again"
    );
    assert_eq!(site.gcs.list(BUCKET, "rex.cutout").await, generation);
    assert_eq!(site.results(2).await[1]["status"], "duplicate");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_pushes_are_to_come_again_and_then_succeed() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&["--job-timeout", "2s"], "");
    site.store_away.store(true, Ordering::Relaxed);
    let job = site.job("rex.jpg");
    let answer = site.push(&worker, &job).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after);
    assert_eq!(jobs(&worker, "retried"), 1.0);
    let up = |value: f64| worker.metric("cutout_component_up", &["storage"]) == value;
    until("the outage to be known", || up(0.0).then_some(())).await;
    // Now nothing is tried.
    let answer = site.push(&worker, &job).await;
    assert_eq!(answer.said(), (503, "storage_unavailable"));
    assert!(answer.retry_after);
    assert_eq!(jobs(&worker, "retried"), 1.0);

    site.store_away.store(false, Ordering::Relaxed);
    until("the store's return", || up(1.0).then_some(())).await;
    assert_eq!(site.push(&worker, &job).await.status, 204);
    assert_eq!(site.results(1).await[0]["status"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_answers_what_it_has_refuses_what_comes_and_ends_well() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let mut worker = site.worker(&[], "photo_decoded=sleep(2000)");
    let (job, late) = (site.job("rex.jpg"), site.job("late.jpg"));
    let drain = async {
        in_work(&worker, 1).await;
        worker.signal("TERM");
        until("the drain", || {
            worker.logged("draining: no more jobs are pulled")
        })
        .await;
        site.push(&worker, &late).await
    };
    let (answer, refused) = tokio::join!(site.push(&worker, &job), drain);
    assert_eq!(answer.status, 204);
    assert_eq!(refused.said(), (503, "draining"));
    assert!(refused.retry_after);
    assert_eq!(worker.exit().0, Some(0));
    assert!(site.gcs.download(BUCKET, "rex.cutout.png").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlasts_the_drain_is_given_back_and_the_worker_ends_well() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let args = ["--drain-timeout", "300ms"];
    let mut worker = site.worker(&args, "photo_decoded=sleep(3600000)");
    let job = site.job("rex.jpg");
    let drain = async {
        in_work(&worker, 1).await;
        worker.signal("TERM");
    };
    let (answer, ()) = tokio::join!(site.push(&worker, &job), drain);
    assert_eq!(answer.said(), (503, "draining"));
    assert_eq!(worker.exit().0, Some(0));
    site.no_more_results().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_engine_is_lost_gives_its_push_back_and_ends() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let mut worker = site.worker(&[], "network_running=panic");
    let answer = site.push(&worker, &site.job("rex.jpg")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(worker.exit().0, Some(1));
    // The next one does it.
    let worker = site.worker(&[], "");
    assert_eq!(site.push(&worker, &site.job("rex.jpg")).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_job_goes_on_with_its_publishers_trace() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&[], "");
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut job = site.job("rex.jpg");
    let traceparent = format!("00-{trace}-{span}-01");
    job["message"]["attributes"]["googclient_traceparent"] = json!(traceparent);
    assert_eq!(site.push(&worker, &job).await.status, 204);

    let line = until("the log line", || worker.logged("job done")).await;
    let name = format!("projects/{}/traces/{trace}", site.pubsub.project());
    assert_eq!(line["logging.googleapis.com/trace"], name);
    assert_eq!(line["logging.googleapis.com/spanId"], span);
    let results = site
        .pubsub
        .pull(crate::site::RESULTS, 1, crate::harness::PATIENCE);
    assert_eq!(results.await[0].attributes["traceparent"], traceparent);
}
