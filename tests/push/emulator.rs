//! What Google's emulator pushes: its own envelopes, redeliveries and acknowledgements.

use std::time::Duration;

use serde_json::json;

use crate::harness::Worker;
use crate::site::{BUCKET, JOBS, Relay, Site, until};

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_jobs_of_a_push_subscription_are_cut_out_once_and_outputs_never() {
    let site = Site::start().await;
    let relay = Relay::start(site.token()).await;
    site.pubsub
        .create_push_subscription(JOBS, JOBS, &relay.url)
        .await;
    // Before there is a worker: both are pushed in vain, and again.
    site.photo("uploads/rex.jpg").await;
    let job = json!({ "job_id": "order-5512", "source": format!("gs://{BUCKET}/uploads/rex.jpg"),
        "destination": format!("gs://{BUCKET}/prints/rex.png"), "output": { "kind": "mask" } });
    site.pubsub.publish(JOBS, job.to_string(), &[]).await;
    until("vain pushes", || (relay.passed().len() >= 2).then_some(())).await;
    let worker = site.worker(&[], "");
    relay.lead_to(&worker);

    let results = site.results(2).await;
    for result in &results {
        assert_eq!(result["status"], "done", "{result:#}");
    }
    let ordered = results.iter().find(|r| r["job_id"] == "order-5512");
    assert_eq!(ordered.unwrap()["outputs"][0]["kind"], "mask");
    // Both outputs are announced too.
    until("the skipped announcements", || {
        let skipped = worker.metric("cutout_notifications_skipped_total", &["own_output"]);
        (skipped >= 2.0).then_some(())
    })
    .await;
    assert_eq!(site.gcs.list(BUCKET, "").await.len(), 3);
    // What was acknowledged does not come again.
    let passed = relay.passed().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(relay.passed().len(), passed, "{:#?}", relay.passed());
    let done = worker.metric("cutout_jobs_total", &["ingress=\"push\""]);
    assert_eq!(done, 2.0);
    site.no_more_results().await;
}

/// The emulator sends no token, whatever the subscription says: so it cannot drive a worker by
/// itself, and a worker lets nothing in because it talks to an emulator.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_emulator_pushes_by_itself_has_no_token_and_is_refused() {
    let site = Site::start().await;
    let worker: Worker = site.worker(&[], "");
    let endpoint = worker.url(crate::site::PATH);
    site.pubsub
        .create_push_subscription(JOBS, JOBS, &endpoint)
        .await;
    site.pubsub.publish(JOBS, "{}", &[]).await;
    until("refused pushes", || {
        let refused = worker.metric("cutout_push_refused_total", &["\"missing\""]);
        (refused >= 2.0).then_some(())
    })
    .await;
    assert_eq!(worker.metric("cutout_jobs_total", &[]), 0.0);
}
