//! Deliveries of a subscription. Leases are kept by the official client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model;
use google_cloud_pubsub::subscriber::handler::Handler;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clients::Connection;
use super::{PubSubConfig, failure};
use crate::error::{Class, Code, Error, Result};
use crate::ingress::pubsub::SYSTEM;
use crate::ingress::{Delivery, Ingress, Lease, Message, Source};

/// How long `close` waits for answers to reach Pub/Sub: within the 10 s that Cloud Run leaves
/// a process after SIGTERM, of which the jobs need most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an exactly-once ack may take to be confirmed. The client would try for 10 minutes,
/// while the worker's place stays taken; the message comes again instead.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that lived this long was a working one: the back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);

/// A stream that met no error for this long after it was opened counts as whole for /health:
/// what is refused is refused within a second or two.
const WHOLE: Duration = Duration::from_secs(10);

/// So many streams are waited for at the end, the present one included.
const STREAMS: usize = 16;

/// What the puller and who asks Pub/Sub for /health tell each other.
#[derive(Debug, Default)]
pub(super) struct Pulling {
    /// Whether the last stream broke off and none has proved itself since.
    broken: AtomicBool,
    /// Whether Pub/Sub gave no answer when last asked.
    unanswered: AtomicBool,
    /// Told when the stream should be opened anew: when Pub/Sub answers again, because the
    /// client backs off for up to a minute after an outage, which would be a minute without
    /// jobs while all is well; and when the subscription turns out to be gone.
    stale: Notify,
}

impl Pulling {
    /// Whether the last stream broke off and none has proved itself since.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Pub/Sub did not answer.
    pub(super) fn unanswered(&self) {
        self.unanswered.store(true, Ordering::Relaxed);
    }

    /// Pub/Sub answered.
    pub(super) fn answered(&self) {
        if self.unanswered.swap(false, Ordering::Relaxed) {
            self.renew();
        }
    }

    /// The stream cannot be trusted any more.
    pub(super) fn renew(&self) {
        self.stale.notify_one();
    }
}

/// A consumer of a Pub/Sub subscription.
pub struct PubSubIngress {
    subscription: String,
    deliveries: mpsc::Receiver<Result<Delivery>>,
    stop: CancellationToken,
    pump: JoinHandle<()>,
}

impl PubSubIngress {
    pub(super) fn start(
        connection: Arc<Connection>,
        subscription: &str,
        config: &PubSubConfig,
        pulling: Arc<Pulling>,
    ) -> Self {
        // A rendezvous, as far as tokio has one: what waits here keeps its lease, but another
        // worker could have had it.
        let (send, deliveries) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let pump = Pump {
            connection,
            subscription: subscription.to_owned(),
            config: config.clone(),
            send,
            stop: stop.clone(),
            held: Held::default(),
            delivered: 0,
            pulling,
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

    fn source(&self) -> Source {
        Source {
            system: SYSTEM,
            subscription: Some(self.subscription.clone()),
        }
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

/// Deliveries that nobody has answered yet, with the right to answer them.
type Held = Arc<Mutex<HashMap<u64, Handler>>>;

/// The task that reads the client's stream. It is a task because `MessageStream::next` is not
/// cancel-safe while the stream is being opened, and `Ingress::next` promises to be.
struct Pump {
    connection: Arc<Connection>,
    subscription: String,
    config: PubSubConfig,
    send: mpsc::Sender<Result<Delivery>>,
    stop: CancellationToken,
    held: Held,
    delivered: u64,
    pulling: Arc<Pulling>,
}

/// Why a stream is not read any further.
enum End {
    /// Pulling shall stop.
    Stopped,
    /// It broke off.
    Broke(Error),
    /// It may be waiting in a back-off, or on a connection that an outage has killed.
    Stale,
    /// It delivered nothing for long, as a dead connection would.
    Idle,
}

impl Pump {
    /// Pulls until it is stopped or pulling is impossible, then gives back what is held.
    async fn run(mut self) {
        let mut streams = Vec::new();
        self.pull(&mut streams).await;
        // No delivery can be handed over any more; what waits in the channel goes back too.
        drop(self.send);
        // Each handler nacks as it is dropped.
        lock(&self.held).clear();
        futures::future::join_all(streams.iter().map(ShutdownToken::shutdown)).await;
    }

    async fn pull(&mut self, streams: &mut Vec<ShutdownToken>) {
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
            let clients = self.connection.clients();
            let mut stream = self.open(&clients.subscriber);
            // The answers to what older ones delivered are long on their way.
            if streams.len() == STREAMS {
                streams.remove(0);
            }
            streams.push(stream.shutdown_token());
            let error = match self.forward(&mut stream).await {
                End::Stopped => return,
                End::Broke(error) => error,
                End::Stale => {
                    tracing::info!(
                        subscription = self.subscription,
                        "pulling through a new stream"
                    );
                    continue;
                }
                End::Idle => {
                    self.connection
                        .renew(&clients, "no delivery for long")
                        .await;
                    continue;
                }
            };
            self.pulling.broken.store(true, Ordering::Relaxed);
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

    fn open(&self, subscriber: &Subscriber) -> MessageStream {
        let bytes = self.config.max_outstanding_bytes.as_u64();
        subscriber
            .subscribe(&self.subscription)
            .set_max_lease(self.config.max_lease)
            .set_max_lease_extension(self.config.lease_extension)
            .set_max_outstanding_messages(i64::from(self.config.max_outstanding_messages))
            .set_max_outstanding_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
            // The other behaviour nacks everything as soon as the stream ends. This way the
            // jobs of a stream that broke can still be acked, and whose time is over is our
            // decision (see `run`).
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build()
    }

    /// Hands over what the stream delivers, until its end.
    async fn forward(&mut self, stream: &mut MessageStream) -> End {
        let mut proved = std::pin::pin!(tokio::time::sleep(WHOLE));
        loop {
            let mut next = std::pin::pin!(stream.next());
            let mut idle = std::pin::pin!(tokio::time::sleep(self.config.idle_renewal));
            let next = loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return End::Stopped,
                    next = &mut next => break next,
                    // After what has arrived, so that nothing delivered is dropped here.
                    () = self.pulling.stale.notified() => return End::Stale,
                    () = &mut idle => return End::Idle,
                    () = &mut proved, if self.pulling.broken.load(Ordering::Relaxed) => {
                        self.pulling.broken.store(false, Ordering::Relaxed);
                    }
                }
            };
            if matches!(next, Some(Ok(_))) {
                self.pulling.broken.store(false, Ordering::Relaxed);
            }
            let (message, handler) = match next {
                Some(Ok(pair)) => pair,
                Some(Err(error)) => {
                    let error = Arc::new(error);
                    return End::Broke(failure::explain("pull from", &self.subscription, error));
                }
                None => {
                    return End::Broke(Error::new(
                        Code::QueueUnavailable,
                        format!("the stream from {} ended", self.subscription),
                    ));
                }
            };
            let message = received(message, handler.delivery_attempt());
            self.delivered += 1;
            lock(&self.held).insert(self.delivered, handler);
            let lease = Box::new(PubSubLease {
                number: self.delivered,
                held: Arc::clone(&self.held),
            });
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return End::Stopped,
                sent = self.send.send(Ok(Delivery { message, lease })) => if sent.is_err() {
                    return End::Stopped;
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

/// A lease that the client extends until it is answered.
struct PubSubLease {
    number: u64,
    held: Held,
}

impl PubSubLease {
    fn handler(&self) -> Result<Handler> {
        lock(&self.held).remove(&self.number).ok_or_else(|| {
            Error::new(
                Code::QueueUnavailable,
                "pulling has ended and the message was given back before this answer; it comes again",
            )
        })
    }
}

impl Drop for PubSubLease {
    fn drop(&mut self) {
        // The handler, if nobody took it to answer, nacks as it is dropped.
        let handler = lock(&self.held).remove(&self.number);
        drop(handler);
    }
}

#[async_trait]
impl Lease for PubSubLease {
    async fn ack(self: Box<Self>) -> Result<()> {
        let handler = match self.handler()? {
            Handler::ExactlyOnce(handler) => handler,
            handler => {
                // Best effort by nature: a lost ack is a second delivery, which changes nothing.
                handler.ack();
                return Ok(());
            }
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
        self.handler()?.nack();
        Ok(())
    }
}

fn lock(held: &Held) -> std::sync::MutexGuard<'_, HashMap<u64, Handler>> {
    // Every critical section is one call on the map; a panic cannot leave it half done.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
