//! A real Prometheus scrapes a real worker: every question of the dashboard is answered, every rule is
//! evaluated, and a fault that was provoked raises its alert.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::answers::Answers;
use crate::dashboard::{Question, dashboard, questions};
use crate::harness::{PATIENCE, Worker, cutout, file, quick};
use crate::scraped::serving;
use crate::server::{Prometheus, until, value, within};
use crate::support::chaos::setting;

/// A real network on a busy machine.
const PER_JOB: Duration = Duration::from_secs(20);

/// The longest gap between scrapes.
const GAP: Duration = Duration::from_secs(20);

/// Panels that may have no data after this run, and why. All others must have some.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("Memory of the card", "the network runs on no card here"),
    (
        "Tried again, by operation and code",
        "nothing had to be tried again",
    ),
    ("Pushes refused, by reason", "nothing is pushed"),
    ("Pushed jobs, by how they ended", "nothing is pushed"),
    ("Shadow and network apart", "there is no shadow"),
    ("Shadows, by what became of them", "there is no shadow"),
    ("Jobs, by arm", "there are no arms"),
    ("Time of a job, p95 by arm", "there are no arms"),
    ("To be looked at, by arm", "there are no arms"),
];

/// A worker with the HTTP API. With `MONITORING_MODEL=isnet-medium` a real network.
fn worker(root: &Path) -> Worker {
    let command = match std::env::var("MONITORING_MODEL") {
        Ok(model) => {
            let mut command = cutout();
            command.env("CUTOUT_MODEL", model);
            command
        }
        Err(_) => quick(),
    };
    serving(command, root)
}

/// One photo in five is cut short, and becomes a dead letter.
fn is_broken(number: &u64) -> bool {
    number.is_multiple_of(5)
}

fn upload(root: &Path, number: u64) {
    let photo = match is_broken(&number) {
        true => "tests/fixtures/images/truncated.jpg",
        false => "samples/cat.jpg",
    };
    std::fs::copy(file(photo), root.join(format!("inbox/{number}.jpg"))).unwrap();
}

/// Sends a photo over HTTP twice, for the cache, and what is no photo. Answers how many requests that
/// were.
async fn use_the_http_api(worker: &Worker) -> usize {
    let photo = std::fs::read(file("samples/cat.jpg")).unwrap();
    let requests = [
        (photo.clone(), 200),
        (photo, 200),
        (b"no photo".to_vec(), 400),
    ];
    let client = reqwest::Client::new();
    for (body, expected) in &requests {
        let asked = client
            .post(worker.url("/remove-background"))
            .body(body.clone());
        assert_eq!(asked.send().await.unwrap().status().as_u16(), *expected);
    }
    requests.len()
}

/// What answers a question of the dashboard; waits for data, unless there may be none. A scrape that a
/// busy machine was late for leaves a gap of a second.
async fn answered_by(prometheus: &Prometheus, question: &Question) -> Vec<Value> {
    let query = question.resolved();
    let place = &question.place;
    let excused = MAY_BE_EMPTY.iter().any(|(panel, _)| panel == place);
    let begun = tokio::time::Instant::now();
    loop {
        let series = match question.instant {
            true => prometheus.now(&query).await,
            false => prometheus.over(&query, 300).await,
        };
        let series = series.unwrap_or_else(|error| panic!("{place}: {error}"));
        if excused || series.iter().any(|one| value(one).is_some()) {
            return series;
        }
        assert!(begun.elapsed() < GAP, "{place}: no data for {query}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_a_worker_and_answers_everything() {
    let dir = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(dir.path()).await else {
        return;
    };
    let jobs = setting("MONITORING_JOBS", 6);

    // Nobody is scraped yet, and that is an alert.
    until("CutoutAbsent", || async {
        prometheus.state("CutoutAbsent").await == "pending"
    })
    .await;

    let root = dir.path().join("root");
    let worker = worker(&root);
    prometheus.scrape(worker.address());
    until("the first scrape", || async {
        prometheus.number("sum(cutout_jobs_total)").await == Some(0.0)
    })
    .await;

    // Some series are there from their first event on, and `rate` wants two scrapes: so the second
    // half comes when the first was scraped.
    let ended = r#"sum(cutout_jobs_total{ingress="local",outcome=~"done|failed"})"#;
    let answered = r#"sum(cutout_http_requests_total{route="/remove-background"})"#;
    let mut requests = 0;
    for half in [0..jobs / 2, jobs / 2..jobs] {
        let so_far = half.end as f64;
        half.for_each(|number| upload(&root, number));
        requests += use_the_http_api(&worker).await;
        let patience = PATIENCE + PER_JOB * jobs as u32;
        within(patience, "jobs and requests in Prometheus", || async {
            prometheus.number(ended).await == Some(so_far)
                && prometheus.number(answered).await == Some(requests as f64)
        })
        .await;
    }
    let broken = (0..jobs).filter(is_broken).count();
    let dead = "sum(cutout_dead_letters_total)";
    assert_eq!(prometheus.number(dead).await, Some(broken as f64));

    // That alert has no `for`, so the rule fires unchanged, and at once.
    until("CutoutDeadLetters", || async {
        prometheus.state("CutoutDeadLetters").await == "firing"
    })
    .await;
    until("somebody", || async {
        prometheus.state("CutoutAbsent").await == "inactive"
    })
    .await;
    for rule in prometheus.rules().await {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert!(rule.get("lastError").is_none(), "{rule}");
        let provoked = rule["name"] == "CutoutDeadLetters";
        assert_eq!(rule["state"] == "firing", provoked, "{rule}");
    }

    let mut answers = Answers::default();
    for question in questions(&dashboard()) {
        let series = answered_by(&prometheus, &question).await;
        answers.keep(&question, series);
    }
    for (panel, _) in MAY_BE_EMPTY {
        assert!(answers.has(panel), "there is no panel {panel}");
    }
    // Both sides of the ratio were scraped at the same times, so what `increase` makes of them cancels.
    let failed = answers.first("Jobs that failed").unwrap();
    let expected = broken as f64 / jobs as f64;
    assert!((failed - expected).abs() < 1e-6, "{failed}, not {expected}");
    assert_eq!(answers.first("Workers ready"), Some(1.0));

    if let Some(path) = std::env::var_os("MONITORING_ANSWERS") {
        answers.write(Path::new(&path), jobs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_refuses_what_is_no_promql() {
    let dir = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(dir.path()).await else {
        return;
    };
    // What the parser in the other tests refuses, Prometheus refuses as well.
    for wrong in [
        "sum by (job (up)",
        "rate(up)",
        "up{job=cutout}",
        "nosuch(up)",
    ] {
        let said = prometheus.now(wrong).await.expect_err(wrong);
        assert!(said.contains("bad_data"), "{said}");
    }
    assert!(prometheus.now("up").await.is_ok());
}
