//! Deliveries of a subscription. Leases are kept by the official client.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{PubSubConfig, failure};
use crate::error::{Class, Code, Error, Result};
use crate::ingress::{Delivery, Ingress, Lease, Message};

/// How long `close` waits for answers to reach Pub/Sub: within the 10 s that Cloud Run leaves
/// a process after SIGTERM, of which the jobs need most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an exactly-once ack may take to be confirmed. The client would try for 10 minutes,
/// while the worker's place stays taken; the message comes again instead.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that lived this long was a working one: the back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);

/// A consumer of a Pub/Sub subscription.
pub struct PubSubIngress {
    subscription: String,
    deliveries: mpsc::Receiver<Result<Delivery>>,
    stop: CancellationToken,
    pump: JoinHandle<()>,
}

impl PubSubIngress {
    pub(super) fn start(
        subscriber: &Subscriber,
        subscription: &str,
        config: &PubSubConfig,
    ) -> Self {
        // A rendezvous, as far as tokio has one: what waits here keeps its lease, but another
        // worker could have had it.
        let (send, deliveries) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let pump = Pump {
            subscriber: subscriber.clone(),
            subscription: subscription.to_owned(),
            config: config.clone(),
            send,
            stop: stop.clone(),
        };
        Self {
            subscription: subscription.to_owned(),
            deliveries,
            stop,
            pump: tokio::spawn(pump.run()),
        }
    }
}

#[async_trait]
impl Ingress for PubSubIngress {
    fn name(&self) -> &'static str {
        "pubsub"
    }

    async fn next(&mut self) -> Result<Delivery> {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            None => Err(Error::new(
                Code::QueueLost,
                format!("pulling from {} has ended", self.subscription),
            )),
        }
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.stop.cancel();
        self.deliveries.close();
        // What nobody asked for any more is given back as it is dropped.
        while self.deliveries.try_recv().is_ok() {}
        match tokio::time::timeout(CLOSE_TIMEOUT, &mut self.pump).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => {
                Err(Error::new(Code::Internal, "the puller failed at the end").caused_by(e))
            }
            Err(elapsed) => Err(Error::new(
                Code::QueueUnavailable,
                format!(
                    "some answers did not reach {} within {CLOSE_TIMEOUT:?}; their messages come again",
                    self.subscription
                ),
            )
            .caused_by(elapsed)),
        }
    }
}

impl Drop for PubSubIngress {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The task that reads the client's stream. It is a task because `MessageStream::next` is not
/// cancel-safe while the stream is being opened, and `Ingress::next` promises to be.
struct Pump {
    subscriber: Subscriber,
    subscription: String,
    config: PubSubConfig,
    send: mpsc::Sender<Result<Delivery>>,
    stop: CancellationToken,
}

impl Pump {
    async fn run(self) {
        let backoff = || {
            ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_secs(1))
                .with_max_delay(Duration::from_secs(60))
                .without_max_times()
                .build()
        };
        let mut delays = backoff();
        loop {
            let opened = tokio::time::Instant::now();
            let Some(error) = self.stream().await else {
                return;
            };
            let fatal = error.class() == Class::Fatal;
            tracing::warn!(
                subscription = self.subscription,
                code = %error.code(),
                error = error.chain(),
                "the stream from Pub/Sub broke off"
            );
            if self.send.send(Err(error)).await.is_err() || fatal {
                return;
            }
            // Transient errors never get here: the client resumes after those by itself.
            if opened.elapsed() > STEADY {
                delays = backoff();
            }
            let delay = delays.next().unwrap_or_default();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One life of a stream. `None` when pulling shall stop, else why the stream ended.
    async fn stream(&self) -> Option<Error> {
        let mut stream = self
            .subscriber
            .subscribe(&self.subscription)
            .set_max_lease(self.config.max_lease)
            .set_max_lease_extension(self.config.lease_extension)
            .set_max_outstanding_messages(i64::from(self.config.max_outstanding_messages))
            .set_max_outstanding_bytes(
                i64::try_from(self.config.max_outstanding_bytes.as_u64()).unwrap_or(i64::MAX),
            )
            // Waiting for the jobs is the worker's part; when it closes, it has given up on
            // whatever is still unanswered.
            .set_shutdown_behavior(ShutdownBehavior::NackImmediately)
            .build();
        let shutdown = stream.shutdown_token();
        let ended = CancellationToken::new();
        let error = self.forward(&mut stream, &ended).await;
        // Answers from here on would go nowhere without anybody noticing.
        ended.cancel();
        // Dropping the stream drops what it holds undelivered, so that is nacked as well.
        drop(stream);
        shutdown.shutdown().await;
        error
    }

    async fn forward(
        &self,
        stream: &mut MessageStream,
        ended: &CancellationToken,
    ) -> Option<Error> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                next = stream.next() => next,
            };
            let (message, handler) = match next {
                Some(Ok(pair)) => pair,
                Some(Err(error)) => {
                    let error = Arc::new(error);
                    return Some(failure::explain("pull from", &self.subscription, error));
                }
                None => {
                    return Some(Error::new(
                        Code::QueueUnavailable,
                        format!("the stream from {} ended", self.subscription),
                    ));
                }
            };
            let delivery = Delivery {
                message: received(message, handler.delivery_attempt()),
                lease: Box::new(PubSubLease {
                    handler,
                    ended: ended.clone(),
                }),
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                sent = self.send.send(Ok(delivery)) => if sent.is_err() {
                    return None;
                },
            }
        }
    }
}

fn received(message: model::Message, attempt: Option<i32>) -> Message {
    Message {
        id: message.message_id,
        data: message.data,
        attributes: message.attributes.into_iter().collect(),
        ordering_key: message.ordering_key,
        published: message
            .publish_time
            .and_then(|time| jiff::Timestamp::new(time.seconds(), time.nanos()).ok()),
        // Counted only by subscriptions with a dead-letter policy.
        attempt: attempt
            .and_then(|attempt| u32::try_from(attempt).ok())
            .unwrap_or(1),
    }
}

/// A lease that the client extends. Dropped unanswered, the client's handler nacks.
struct PubSubLease {
    handler: Handler,
    /// Set when the stream of this delivery has ended, and its leases with it.
    ended: CancellationToken,
}

impl PubSubLease {
    fn check(&self) -> Result<()> {
        if self.ended.is_cancelled() {
            return Err(Error::new(
                Code::QueueUnavailable,
                "the stream that delivered the message has ended; the message comes again",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Lease for PubSubLease {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.check()?;
        let Handler::ExactlyOnce(handler) = self.handler else {
            // Best effort by nature: a lost ack is a second delivery, which changes nothing.
            self.handler.ack();
            return Ok(());
        };
        let unconfirmed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                Code::QueueUnavailable,
                "Pub/Sub did not confirm the ack; the message may come again",
            )
            .caused_by(cause)
        };
        match tokio::time::timeout(CONFIRM_TIMEOUT, handler.confirmed_ack()).await {
            Ok(confirmed) => confirmed.map_err(|e| unconfirmed(e.into())),
            Err(elapsed) => Err(unconfirmed(elapsed.into())),
        }
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        self.check()?;
        self.handler.nack();
        Ok(())
    }
}
