//! `POST /pubsub/push`: who is let in, and what is answered.
//!
//! Checks come in the order of their cost: the worker's state, the token, a place, the body. So
//! nobody without a valid token makes the worker read a body, and bodies in memory are bounded
//! by the places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::envelope::Pushed;
use super::token::Gate;
use super::{PushConfig, Reply, Waiting};
use crate::ingress::Message;
use crate::pipeline::millis;
use crate::side::answers::{Problem, RETRY_AFTER};
use crate::side::health::StorageStatus;
use crate::side::state::{Phase, SideState};
use crate::telemetry::labels::PushRefusal;
use crate::telemetry::metrics::Metrics;

/// The path that the subscription's push endpoint ends with.
pub const PATH: &str = "/pubsub/push";

/// 10 MB of message become 13.4 MB in base64; attributes may be 100 × 1,280 bytes.
/// <https://cloud.google.com/pubsub/quotas#resource_limits>
const MAX_BODY_BYTES: usize = 14 << 20;

/// For the whole body. Pub/Sub sends from the same cloud.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// How often a request whose delivery nobody has taken looks whether anybody will.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// One line a reason in this time: what strangers send must not fill the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What is logged of a refusal, in bytes: strangers choose the words.
const MAX_DETAIL: usize = 300;

/// What the handler works with.
pub(super) struct Door {
    subscription: String,
    gate: Gate,
    places: Arc<Semaphore>,
    send: mpsc::Sender<Waiting>,
    side: Arc<SideState>,
    metrics: Metrics,
    opened: Instant,
    /// By reason: milliseconds after `opened` before which no more is said.
    quiet_until: Vec<AtomicU64>,
}

/// A push that became no delivery.
#[derive(Debug)]
struct Refusal {
    reason: PushRefusal,
    status: StatusCode,
    code: &'static str,
    /// For the sender. Strangers hear nothing that would help them.
    told: String,
    /// For the log.
    detail: String,
}

impl Refusal {
    fn new(reason: PushRefusal, status: u16, code: &'static str, told: impl Into<String>) -> Self {
        let told = told.into();
        Self {
            reason,
            status: StatusCode::from_u16(status).expect("statuses are literals"),
            code,
            detail: told.clone(),
            told,
        }
    }
}

/// The route.
pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route(PATH, post(push))
        .with_state(Arc::new(door))
}

async fn push(State(door): State<Arc<Door>>, request: Request) -> Response {
    match door.let_in(request).await {
        Ok((message, place)) => door.deliver(message, place).await,
        Err(refusal) => door.refuse(refusal),
    }
}

impl Door {
    pub(super) fn new(
        config: PushConfig,
        places: Arc<Semaphore>,
        send: mpsc::Sender<Waiting>,
        side: Arc<SideState>,
        metrics: Metrics,
    ) -> Self {
        Self {
            subscription: config.subscription,
            gate: Gate::new(config.token),
            places,
            send,
            side,
            metrics,
            opened: Instant::now(),
            quiet_until: PushRefusal::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The message of a push that may come in, and a place for it.
    async fn let_in(&self, request: Request) -> Result<(Message, OwnedSemaphorePermit), Refusal> {
        self.is_working()?;
        let (head, body) = request.into_parts();
        let authorization = head.headers.get(header::AUTHORIZATION);
        self.gate.check(authorization).await.map_err(|refused| {
            let mut refusal = match refused.reason {
                PushRefusal::KeysUnavailable => Refusal::new(
                    refused.reason,
                    503,
                    "keys_unavailable",
                    "tokens cannot be checked at the moment",
                ),
                // One answer for all: which check failed is the operator's to know.
                reason => Refusal::new(reason, 401, "unauthorized", "a valid token is needed"),
            };
            refusal.detail = refused.detail;
            refusal
        })?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let told = "as many jobs are in work as this worker takes";
            Refusal::new(PushRefusal::Full, 429, "full", told)
        })?;
        let body = tokio::time::timeout(BODY_WITHIN, read(&head.headers, body))
            .await
            .unwrap_or_else(|_elapsed| {
                let told = format!("the body did not come within {BODY_WITHIN:?}");
                Err(Refusal::new(
                    PushRefusal::TooSlow,
                    408,
                    "body_too_slow",
                    told,
                ))
            })?;
        // Pub/Sub pushes it again, as it does whatever is not acknowledged, until its dead-letter
        // policy takes it. To acknowledge what cannot be read would lose it.
        let pushed = Pushed::parse(&body).map_err(|error| {
            let told = error.to_string();
            Refusal::new(PushRefusal::Envelope, 400, "invalid_envelope", told)
        })?;
        if pushed.subscription != self.subscription {
            let told = format!(
                "this worker takes pushes of {}, not of {}",
                self.subscription, pushed.subscription
            );
            return Err(Refusal::new(
                PushRefusal::Subscription,
                403,
                "wrong_subscription",
                told,
            ));
        }
        Ok((pushed.message, place))
    }

    /// Whether a worker takes deliveries, as far as is known.
    fn is_working(&self) -> Result<(), Refusal> {
        let not_ready = |code, told| Refusal::new(PushRefusal::NotReady, 503, code, told);
        match self.side.phase() {
            Phase::Ready => {}
            Phase::Loading | Phase::Warming => {
                return Err(not_ready("not_ready", "the network is being loaded"));
            }
            Phase::Draining | Phase::Failed(_) => {
                return Err(not_ready("draining", "the worker is shutting down"));
            }
        }
        // A job that begins now can only fail. Pub/Sub counts this answer as an attempt too, but
        // it comes at once, so that the back-off grows.
        if matches!(self.side.health.storage(), StorageStatus::Unreachable(_)) {
            return Err(Refusal::new(
                PushRefusal::StorageUnavailable,
                503,
                "storage_unavailable",
                "the store does not answer",
            ));
        }
        Ok(())
    }

    /// Hands a message to the worker and waits for what becomes of it.
    async fn deliver(&self, message: Message, place: OwnedSemaphorePermit) -> Response {
        let (answer, mut answered) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let waiting = Waiting {
            message,
            answer,
            taken: taken.clone(),
            place,
        };
        if self.send.try_send(waiting).is_err() {
            return draining();
        }
        loop {
            tokio::select! {
                reply = &mut answered => return match reply {
                    Ok(Reply::Done) => StatusCode::NO_CONTENT.into_response(),
                    Ok(Reply::Again) => unavailable("job_failed", "the job failed and may succeed when it is pushed again"),
                    Ok(Reply::Postponed) => unavailable("storage_unavailable", "the store does not answer"),
                    Ok(Reply::Released) | Err(_) => draining(),
                },
                () = tokio::time::sleep(LOOK_AROUND) => {
                    // Taken in the same moment, its job goes on and the next push finds it done.
                    if !taken.load(Ordering::Relaxed) && let Err(refusal) = self.is_working() {
                        return self.refuse(refusal);
                    }
                }
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.metrics.push_refused(refusal.reason);
        self.complain(&refusal);
        let problem = Problem::new(refusal.status, refusal.code, refusal.told);
        match refusal.status {
            StatusCode::UNAUTHORIZED => {
                ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
            }
            // Pub/Sub has a back-off of its own; this is for everybody else.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                problem.retry_after(RETRY_AFTER).into_response()
            }
            _ => problem.into_response(),
        }
    }

    /// Logs a refusal, unless one for the same reason was logged a moment ago.
    fn complain(&self, refusal: &Refusal) {
        let now = millis(self.opened.elapsed());
        let quiet_until = &self.quiet_until[refusal.reason as usize];
        let quiet = quiet_until.load(Ordering::Relaxed);
        let until = now.saturating_add(millis(COMPLAIN_EVERY));
        let mine = now >= quiet
            && quiet_until
                .compare_exchange(quiet, until, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        let end = refusal.detail.floor_char_boundary(MAX_DETAIL);
        let (reason, error) = (refusal.reason.as_str(), &refusal.detail[..end]);
        match refusal.reason {
            // What every busy or starting worker does.
            PushRefusal::Full | PushRefusal::NotReady => {
                tracing::debug!(reason, error, "a push was refused");
            }
            _ if mine => tracing::warn!(
                reason,
                error,
                "a push was refused; further ones for this reason are only counted for a minute"
            ),
            _ => tracing::debug!(reason, error, "a push was refused"),
        }
    }
}

/// Reads a body within its limit.
async fn read(headers: &axum::http::HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let too_large = || {
        let told = format!("the body is larger than {} MiB", MAX_BODY_BYTES >> 20);
        Refusal::new(PushRefusal::TooLarge, 413, "body_too_large", told)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let mut read = BytesMut::with_capacity(announced.unwrap_or(0));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            let told = format!("the body broke off ({error})");
            Refusal::new(PushRefusal::TooSlow, 400, "body_incomplete", told)
        })?;
        if read.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

/// The push is to come again.
fn unavailable(code: &'static str, told: &str) -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, told)
        .retry_after(RETRY_AFTER)
        .into_response()
}

fn draining() -> Response {
    unavailable("draining", "the worker is shutting down")
}

#[cfg(test)]
mod tests;
