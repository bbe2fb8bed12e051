//! Who is let in.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Worker, cutout, run, told, wait_until};
use crate::site::Site;
use crate::support::Key;

fn refused(worker: &Worker, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    worker.metric("cutout_push_refused_total", &[&label])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_any_way_is_refused_counted_and_nothing_is_read() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&[], "");
    let now = jiff::Timestamp::now().as_second();
    let signed = |change: Value| Some(site.key.sign(&site.claims(&change)));
    let claims = site.claims(&json!({}));
    let other = Key::new("first");
    let unlisted = Key::new("unlisted");
    let shuffled = {
        let (head, signature) = (site.token(), other.sign(&claims));
        let (head, signature) = (head.rsplit_once('.'), signature.rsplit_once('.'));
        format!("{}.{}", head.unwrap().0, signature.unwrap().1)
    };
    let removed = format!(
        "{}.SIGNATURE_REMOVED_BY_GOOGLE",
        site.token().rsplit_once('.').unwrap().0
    );
    #[rustfmt::skip]
    let cases: Vec<(&str, Option<String>)> = vec![
        ("missing", None),
        ("malformed", Some("garbage".into())),
        ("malformed", Some("a.b.c".into())),
        ("malformed", Some("x".repeat(9000))),
        ("malformed", Some(site.key.unsigned(&claims))),
        ("malformed", Some(site.key.sign_with_public_key(&claims))),
        ("malformed", signed(json!({ "exp": null }))),
        ("signature", Some(other.sign(&claims))),
        ("signature", Some(shuffled)),
("signature_removed", Some(removed)),
        ("expired", signed(json!({ "iat": now - 7200, "exp": now - 3600 }))),
        ("expired", signed(json!({ "exp": now - 30 }))),
        ("early", signed(json!({ "nbf": now + 120 }))),
        ("early", signed(json!({ "iat": now + 120 }))),
        ("audience", signed(json!({ "aud": "https://else.example/pubsub/push" }))),
        ("audience", signed(json!({ "aud": null }))),
        ("issuer", signed(json!({ "iss": "https://issuer.example" }))),
        ("issuer", signed(json!({ "iss": null }))),
        ("email", signed(json!({ "email": "else@perkie.iam.gserviceaccount.com" }))),
        ("email", signed(json!({ "email": null }))),
        ("email", signed(json!({ "email_verified": false }))),
        // Google's verifier panics at this one, if it is asked.
        ("email", signed(json!({ "email_verified": null }))),
        ("signature", Some(unlisted.sign(&claims))),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (reason, token) in &cases {
        let before = refused(&worker, reason);
        let body = site.job("rex.jpg").to_string();
        let answer = site.push_as(&worker, token.as_deref(), body).await;
        assert_eq!(answer.said(), (401, "unauthorized"), "{reason}: {token:?}");
        assert_eq!(
            refused(&worker, reason),
            before + 1.0,
            "{reason}: {token:?}"
        );
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "no answer says which check failed");
    assert_eq!(
        worker.metric("cutout_push_refused_total", &[]),
        cases.len() as f64
    );
    assert_eq!(worker.metric("cutout_queue_age_seconds_count", &[]), 0.0);
    let read = site.proxy.seen();
    let read: Vec<_> = read
        .iter()
        .filter(|seen| seen.target.contains("rex"))
        .collect();
    assert!(read.is_empty(), "{read:?}");
    assert!(
        worker
            .logs()
            .iter()
            .any(|line| line["reason"] == "audience" && line["severity"] == "WARNING"),
        "{:#?}",
        worker.logs()
    );

    // Within the allowance for clocks that differ (10 s), and Google's other name.
    for change in [
        json!({ "exp": now - 2 }),
        json!({ "iat": jiff::Timestamp::now().as_second() + 5 }),
        json!({ "nbf": jiff::Timestamp::now().as_second() + 5 }),
        json!({ "iss": "accounts.google.com" }),
    ] {
        let mut change = change;
        if change["exp"].is_number() {
            change["exp"] = json!(jiff::Timestamp::now().as_second() - 2);
        }
        // The look for the unlisted key, last in the list, holds up others for a second.
        let mut answers = Vec::new();
        loop {
            let token = site.key.sign(&site.claims(&change));
            let body = site.job("rex.jpg").to_string();
            answers.push(site.push_as(&worker, Some(&token), body).await.status);
            match answers.last() {
                Some(204) => break,
                Some(503) if answers.len() < 50 => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => panic!("{change}: {answers:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_accepted_once_the_issuer_lists_it_and_the_issuer_is_not_asked_for_each_push()
{
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    let worker = site.worker(&[], "");
    assert_eq!(site.push(&worker, &site.job("rex.jpg")).await.status, 204);

    let next = Key::new("second");
    let push_next = async || {
        let token = next.sign(&site.claims(&json!({})));
        let body = site.job("rex.jpg").to_string();
        site.push_as(&worker, Some(&token), body).await
    };
    assert_eq!(push_next().await.said(), (401, "unauthorized"));
    // Whoever comes with a key that is not listed does not hold up those whose key has proved
    // itself.
    assert_eq!(site.push(&worker, &site.job("rex.jpg")).await.status, 204);

    site.issuer.list(&[&site.key, &next]);
    let mut answers = Vec::new();
    while answers.last() != Some(&204) {
        assert!(answers.len() < 50, "{answers:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        answers.push(push_next().await.status);
    }
    let fine = |status: &u16| [503, 204].contains(status);
    assert!(answers.iter().all(fine), "{answers:?}");
    for _ in 0..3 {
        assert_eq!(push_next().await.status, 204);
    }
    let asked = site.issuer.asked();
    for _ in 0..5 {
        assert_eq!(site.push(&worker, &site.job("rex.jpg")).await.status, 204);
        assert_eq!(push_next().await.status, 204);
    }
    assert_eq!(site.issuer.asked(), asked, "keys are kept");

    // Nor does a crowd of unknown keys make the worker ask for each.
    for number in 0..30 {
        let token = unlisted(&next, number, &site.claims(&json!({})));
        let body = site.job("rex.jpg").to_string();
        let answer = site.push_as(&worker, Some(&token), body).await;
        assert!([401, 503].contains(&answer.status), "{answer:?}");
    }
    assert!(site.issuer.asked() < asked + 15, "{}", site.issuer.asked());
}

fn unlisted(key: &Key, number: u32, claims: &Value) -> String {
    key.sign_as(&format!("unlisted-{number}"), claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_issuer_s_keys_cannot_be_had_pushes_are_to_come_again() {
    let site = Site::start().await;
    site.photo("rex.jpg").await;
    site.issuer.break_down();
    let worker = site.worker(&[], "");
    for _ in 0..2 {
        let answer = site.push(&worker, &site.job("rex.jpg")).await;
        assert_eq!(answer.said(), (503, "keys_unavailable"));
        assert!(answer.retry_after);
    }
    assert_eq!(refused(&worker, "keys_unavailable"), 2.0);
    site.issuer.list(&[&site.key]);
    let job = site.job("rex.jpg");
    let mut answers = Vec::new();
    while answers.last() != Some(&204) {
        assert!(answers.len() < 50, "{answers:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        answers.push(site.push(&worker, &job).await.status);
    }
}

#[test]
fn a_worker_that_would_let_anybody_in_does_not_start() {
    let mut command = cutout();
    command
        .args(["worker", "--ingress", "push"])
        .args(["--push-keys-url", "http://keys.example/certs"])
        .args(["--push-clock-skew", "1h", "--job-timeout", "15m"])
        .args(["--host", "127.0.0.1", "--port", "0"])
        .env("STORAGE_BUCKET", "photos")
        .env("CUTOUT_PUSH_AUDIENCE", "");
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    for wrong in [
        "CUTOUT_PUSH_AUDIENCE",
        "CUTOUT_PUSH_SERVICE_ACCOUNT",
        "--push-keys-url",
        "--push-clock-skew",
        "--job-timeout",
        "project",
    ] {
        assert!(told(&output).contains(wrong), "{wrong}: {}", told(&output));
    }
}

/// What needs no token has none: the side port's other routes stay as they are.
#[test]
fn without_push_there_is_no_such_route() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::local(dir.path(), &[]);
    let status = wait_until("an answer", || {
        Some(worker.get(crate::site::PATH).0).filter(|status| *status != 0)
    });
    assert_eq!(status, 404);
}
