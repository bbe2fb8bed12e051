use super::*;
use crate::ingress::push::{PushIngress, TokenRules};
use crate::ingress::{Delivery, Ingress};
use axum::body::to_bytes;
use axum::http::HeaderValue;
use futures::FutureExt;
use serde_json::Value;

/// A door with `max_jobs` places, and the ingress behind it.
fn door(max_jobs: usize) -> (Arc<Door>, PushIngress) {
    let config = PushConfig {
        subscription: "projects/perkie/subscriptions/cutout-jobs".into(),
        token: TokenRules {
            audience: "https://cutout.example".into(),
            service_account: "pusher@perkie.iam.gserviceaccount.com".into(),
            keys_url: Some("http://127.0.0.1:1/".into()),
            clock_skew: Duration::from_secs(10),
        },
        max_jobs,
    };
    let side = SideState::new(Duration::from_secs(600));
    side.set_phase(Phase::Ready);
    let (send, deliveries) = mpsc::channel(max_jobs);
    let places = Arc::new(Semaphore::new(max_jobs));
    let door = Door::new(config, places, send, side, Metrics::new());
    let ingress = PushIngress {
        subscription: String::new(),
        deliveries,
    };
    (Arc::new(door), ingress)
}

fn message(id: &str) -> Message {
    Message {
        id: id.into(),
        attempt: 1,
        ..Message::default()
    }
}

/// A push that was let in, and waits.
fn pushed(door: &Arc<Door>, id: &str) -> tokio::task::JoinHandle<Response> {
    let place = door.places.clone().try_acquire_owned().expect("a place");
    let (door, message) = (door.clone(), message(id));
    tokio::spawn(async move { door.deliver(message, place).await })
}

async fn code(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, body["code"].clone())
}

async fn next(ingress: &mut PushIngress) -> Delivery {
    ingress.next().await.unwrap()
}

#[tokio::test]
async fn the_lease_is_the_answer() {
    let (door, mut ingress) = door(1);
    for (verdict, expected) in [
        ("ack", (204, Value::Null)),
        ("nack", (503, "job_failed".into())),
        ("postpone", (503, "storage_unavailable".into())),
        ("release", (503, "draining".into())),
        ("drop", (503, "draining".into())),
    ] {
        let waits = pushed(&door, "17");
        let Delivery { message, lease } = next(&mut ingress).await;
        assert_eq!(message.id, "17");
        assert_eq!(door.places.available_permits(), 0, "its place is taken");
        match verdict {
            "ack" => lease.ack().await.unwrap(),
            "nack" => lease.nack().await.unwrap(),
            "postpone" => lease.postpone().await.unwrap(),
            "release" => lease.release().await.unwrap(),
            _ => drop(lease),
        }
        assert_eq!(code(waits.await.unwrap()).await, expected, "{verdict}");
        assert_eq!(door.places.available_permits(), 1);
    }
}

#[tokio::test]
async fn a_push_that_was_given_up_is_dropped_unless_it_is_in_work() {
    let (door, mut ingress) = door(3);
    let in_work = pushed(&door, "in work");
    let lease = next(&mut ingress).await.lease;
    let waiting = pushed(&door, "waiting");
    tokio::task::yield_now().await;
    for given_up in [in_work, waiting] {
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
    }
    let _patient = pushed(&door, "patient");
    assert_eq!(next(&mut ingress).await.message.id, "patient");
    // The job goes on and keeps its place; only its answer reaches nobody.
    let error = lease.ack().await.unwrap_err();
    assert_eq!(error.code(), crate::error::Code::QueueUnavailable);
    assert!(error.message().contains("deadline"), "{error}");
}

#[tokio::test]
async fn what_nobody_has_taken_when_the_worker_drains_is_answered_at_once() {
    let (door, mut ingress) = door(2);
    let taken = pushed(&door, "taken");
    let lease = next(&mut ingress).await.lease;
    let waiting = pushed(&door, "waiting");
    door.side.set_phase(Phase::Draining);
    assert_eq!(code(waiting.await.unwrap()).await, (503, "draining".into()));
    assert!(ingress.next().now_or_never().is_none(), "it was withdrawn");
    lease.ack().await.unwrap();
    assert_eq!(taken.await.unwrap().status(), 204);
}

#[tokio::test]
async fn after_the_end_of_the_ingress_pushes_are_to_come_again() {
    let (door, ingress) = door(2);
    let waiting = pushed(&door, "waiting");
    tokio::task::yield_now().await;
    Box::new(ingress).close().await.unwrap();
    for response in [waiting, pushed(&door, "late")] {
        assert_eq!(
            code(response.await.unwrap()).await,
            (503, "draining".into())
        );
    }
}

#[tokio::test]
async fn a_worker_that_does_not_work_says_so_before_it_looks_at_anything() {
    let (door, _ingress) = door(1);
    let refused = |door: Arc<Door>| async move {
        let request = Request::post(PATH).body(Body::empty()).unwrap();
        let response = push(State(door), request).await;
        let retry = response.headers().contains_key(header::RETRY_AFTER);
        let (status, code) = code(response).await;
        (status, code.as_str().unwrap().to_owned(), retry)
    };
    let expected = |status, code: &str, retry| (status, code.to_owned(), retry);
    assert_eq!(
        refused(door.clone()).await,
        expected(401, "unauthorized", false)
    );
    let away = StorageStatus::Unreachable("no bucket".into());
    door.side.health.set_storage(away);
    assert_eq!(
        refused(door.clone()).await,
        expected(503, "storage_unavailable", true)
    );
    door.side.set_phase(Phase::Draining);
    assert_eq!(refused(door.clone()).await, expected(503, "draining", true));
    let text = door.metrics.render().unwrap();
    for reason in ["missing", "storage_unavailable", "not_ready"] {
        let sample = format!("cutout_push_refused_total{{reason=\"{reason}\"}} 1");
        assert!(text.contains(&sample), "{reason}: {text}");
    }
}

#[tokio::test]
async fn a_body_that_says_nothing_of_its_length_is_cut_off_at_the_limit() {
    let chunks = |count: usize| {
        let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
        let chunks = (0..count).map(move |_| Ok::<_, std::io::Error>(megabyte.clone()));
        Body::from_stream(futures::stream::iter(chunks))
    };
    let headers = axum::http::HeaderMap::new();
    let read_all = read(&headers, chunks(14)).await;
    assert_eq!(read_all.ok().map(|body| body.len()), Some(14 << 20));
    let refusal = read(&headers, chunks(15)).await.expect_err("refused");
    assert_eq!(refusal.status, StatusCode::PAYLOAD_TOO_LARGE);
    let announced = [(header::CONTENT_LENGTH, HeaderValue::from_static("14680065"))];
    let refusal = read(&announced.into_iter().collect(), chunks(0)).await;
    assert_eq!(refusal.err().map(|r| r.status.as_u16()), Some(413));
}
