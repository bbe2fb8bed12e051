//! Deliveries that Pub/Sub pushes: a door on the side port's listener, and the ingress behind it.
//!
//! The answer to a push is its acknowledgement, so a request waits for as long as its job takes.
//! Nothing else differs from pulling: the worker takes a [`Delivery`] and answers its lease.
//!
//! A client that gives up is Pub/Sub, when its acknowledgement deadline is over: it pushes the
//! message again. If nobody has taken the delivery by then, it is dropped. A job that is in work
//! goes on: its output is what the next push finds, and answers as a duplicate at once. Were it
//! broken off, a job that takes longer than the deadline would begin anew for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::pubsub::SYSTEM;
use super::{Delivery, Ingress, Lease, Message, Source};
use crate::error::{Code, Error, Result};
use crate::side::state::SideState;
use crate::telemetry::metrics::Metrics;

mod claims;
mod door;
mod envelope;
mod token;

pub use claims::TokenRules;
pub use door::PATH;
pub use envelope::{NotAnEnvelope, Pushed};

/// What is let in, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// The full name of the one subscription that may push here.
    pub subscription: String,
    /// What its tokens must say.
    pub token: TokenRules,
    /// Pushes let in at once: as many as the worker has places for jobs, so that none waits here
    /// which another worker could have had.
    pub max_jobs: usize,
}

/// The routes for the side port, and the ingress that they feed. The routes answer from now on:
/// that the worker is not ready, until it is.
pub fn open(config: PushConfig, side: Arc<SideState>, metrics: Metrics) -> (Router, PushIngress) {
    // Who has a place may send, so the channel is never full.
    let (send, deliveries) = mpsc::channel(config.max_jobs.max(1));
    let places = Arc::new(Semaphore::new(config.max_jobs));
    let ingress = PushIngress {
        subscription: config.subscription.clone(),
        deliveries,
    };
    let door = door::Door::new(config, places, send, side, metrics);
    (door::router(door), ingress)
}

/// The route as the root lists it.
pub const ENDPOINT: &str = "POST /pubsub/push";

/// What becomes of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// Output and result are durable, or the dead letter is.
    Done,
    /// It failed and is to come again.
    Again,
    /// The store is away.
    Postponed,
    /// The worker is shutting down.
    Released,
}

/// A message that was let in, and the request that waits for its answer.
struct Waiting {
    message: Message,
    answer: oneshot::Sender<Reply>,
    /// Whether a worker has it, which the request asks.
    taken: Arc<AtomicBool>,
    place: OwnedSemaphorePermit,
}

/// The pushes that the door lets in.
pub struct PushIngress {
    subscription: String,
    deliveries: mpsc::Receiver<Waiting>,
}

#[async_trait]
impl Ingress for PushIngress {
    fn name(&self) -> &'static str {
        "push"
    }

    fn source(&self) -> Source {
        Source {
            system: SYSTEM,
            subscription: Some(self.subscription.clone()),
        }
    }

    async fn next(&mut self) -> Result<Delivery> {
        while let Some(waiting) = self.deliveries.recv().await {
            if waiting.answer.is_closed() {
                tracing::debug!(
                    message_id = waiting.message.id,
                    "a push was given up before a worker took it"
                );
                continue;
            }
            waiting.taken.store(true, Ordering::Relaxed);
            return Ok(Delivery {
                message: waiting.message,
                lease: Box::new(PushLease {
                    answer: waiting.answer,
                    _place: waiting.place,
                }),
            });
        }
        // The routes live as long as their server, which ends after the worker.
        Err(Error::new(
            Code::QueueLost,
            "the side port's server has ended, so that nothing can be pushed",
        ))
    }

    /// What nobody took is answered 503 as it is dropped. The server waits for the answers that
    /// are under way.
    async fn close(mut self: Box<Self>) -> Result<()> {
        self.deliveries.close();
        while self.deliveries.try_recv().is_ok() {}
        Ok(())
    }
}

/// The right to answer one push. Dropped, it answers 503.
struct PushLease {
    answer: oneshot::Sender<Reply>,
    /// Given back with the answer, though the request may be long gone: the job took it.
    _place: OwnedSemaphorePermit,
}

impl PushLease {
    fn answer(self, reply: Reply) -> Result<()> {
        self.answer.send(reply).map_err(|_reply| {
            Error::new(
                Code::QueueUnavailable,
                "Pub/Sub gave the push up before its answer: is the subscription's acknowledgement deadline shorter than a job?",
            )
        })
    }
}

#[async_trait]
impl Lease for PushLease {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.answer(Reply::Done)
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        self.answer(Reply::Again)
    }

    async fn postpone(self: Box<Self>) -> Result<()> {
        self.answer(Reply::Postponed)
    }

    async fn release(self: Box<Self>) -> Result<()> {
        self.answer(Reply::Released)
    }
}
