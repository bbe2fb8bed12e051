//! The dead letters of a Pub/Sub subscription, for the operator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;

use super::publisher::TopicPublisher;
use super::{PubSub, PubSubIngress, unset};
use crate::error::{Class, Error, Result};
use crate::ingress::dead_letter::{DeadLetter, Morgue, Outcome};
use crate::ingress::{Ingress, Lease};

/// Letters in work at once: enough for the client to batch, few enough to stop soon.
const IN_FLIGHT: usize = 64;

/// Pub/Sub has no way to look without taking: letters are pulled and held under their leases
/// until the end. Given back any earlier, they would come again to this very reader.
pub struct PubSubMorgue {
    pubsub: PubSub,
    ingress: Box<PubSubIngress>,
    /// A silence this long is taken for the end.
    idle: Duration,
    /// By message id. Delivery is at least once, and a copy that was answered otherwise than
    /// its twin would undo that answer.
    held: HashMap<String, Leases>,
    /// Why nothing came, if the last that was heard of the subscription was an error.
    broken: Option<Error>,
}

/// The leases on one message, the newest last.
type Leases = Vec<Box<dyn Lease>>;

impl PubSubMorgue {
    pub(super) fn new(pubsub: PubSub, ingress: PubSubIngress, idle: Duration) -> Self {
        Self {
            pubsub,
            ingress: Box::new(ingress),
            idle,
            held: HashMap::new(),
            broken: None,
        }
    }

    /// Publishes the letters' originals, where there is a topic, and acks each when that is
    /// durable. The first failure lets what is under way end and begins nothing new.
    async fn settle(
        &mut self,
        letters: Vec<DeadLetter>,
        topic: Option<&TopicPublisher>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        let mut chains: Vec<Vec<(DeadLetter, Leases)>> = Vec::new();
        let mut by_key: HashMap<String, usize> = HashMap::new();
        for letter in letters {
            // Not held means settled before.
            let Some(leases) = self.held.remove(&letter.id) else {
                continue;
            };
            let key = &letter.original.ordering_key;
            let chain = match by_key.get(key) {
                Some(chain) => *chain,
                None => {
                    chains.push(Vec::new());
                    if !key.is_empty() {
                        by_key.insert(key.clone(), chains.len() - 1);
                    }
                    chains.len() - 1
                }
            };
            chains[chain].push((letter, leases));
        }
        let progress = Progress {
            count: AtomicUsize::new(0),
            failure: Mutex::new(None),
            done,
        };
        let mut work = Vec::with_capacity(chains.len());
        for chain in chains {
            work.push(settle_chain(chain, topic, &progress));
        }
        futures::stream::iter(work)
            .buffer_unordered(IN_FLIGHT)
            .collect::<()>()
            .await;
        Outcome {
            done: progress.count.into_inner(),
            failure: lock(&progress.failure).take(),
        }
    }
}

/// What chains of letters that are settled at once share.
struct Progress<'a> {
    count: AtomicUsize,
    failure: Mutex<Option<Error>>,
    done: &'a (dyn Fn() + Send + Sync),
}

/// Letters of one ordering key, one after the other; ends at the first failure of any chain.
async fn settle_chain(
    chain: Vec<(DeadLetter, Leases)>,
    topic: Option<&TopicPublisher>,
    progress: &Progress<'_>,
) {
    for (letter, leases) in chain {
        if lock(&progress.failure).is_some() {
            return;
        }
        match settle_one(letter, leases, topic).await {
            Ok(()) => {
                progress.count.fetch_add(1, Ordering::Relaxed);
                (progress.done)();
            }
            Err(error) => {
                lock(&progress.failure).get_or_insert(error);
                return;
            }
        }
    }
}

/// First the publication, then the ack: what crashes in between is published again, not lost.
async fn settle_one(
    letter: DeadLetter,
    mut leases: Leases,
    topic: Option<&TopicPublisher>,
) -> Result<()> {
    if let Some(topic) = topic {
        topic.publish(letter.original).await?;
    }
    let acked = match leases.pop() {
        Some(newest) => newest.ack().await,
        None => Ok(()),
    };
    for older in leases {
        // Of a subscription with exactly-once delivery only the newest lease counts.
        drop(older.ack().await);
    }
    acked
}

#[async_trait]
impl Morgue for PubSubMorgue {
    async fn next(&mut self) -> Result<Option<DeadLetter>> {
        // Counted from the call on: copies of what came before are no sign of more.
        let patience = tokio::time::Instant::now() + self.idle;
        loop {
            match tokio::time::timeout_at(patience, self.ingress.next()).await {
                Ok(Ok(delivery)) => {
                    self.broken = None;
                    let message = delivery.message;
                    let leases = self.held.entry(message.id.clone()).or_default();
                    leases.push(delivery.lease);
                    if leases.len() == 1 {
                        return Ok(Some(DeadLetter::read(message)));
                    }
                }
                // The ingress goes on by itself; the silence after this decides.
                Ok(Err(error)) if error.class() == Class::Retryable => self.broken = Some(error),
                Ok(Err(error)) => return Err(error),
                // An empty answer from a broken connection would be a lie.
                Err(_) => return self.broken.take().map_or(Ok(None), Err),
            }
        }
    }

    async fn replay(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        let pubsub = self.pubsub.clone();
        match &pubsub.inner.jobs {
            Some(jobs) => self.settle(letters, Some(jobs), done).await,
            None => Outcome {
                done: 0,
                failure: Some(unset("a topic to publish jobs to")),
            },
        }
    }

    async fn discard(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        self.settle(letters, None, done).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        // Closing gives back what is still held, after pulling has ended.
        self.ingress.close().await
    }
}

fn lock(failure: &Mutex<Option<Error>>) -> std::sync::MutexGuard<'_, Option<Error>> {
    // Every critical section is one call; a panic cannot leave it half done.
    failure.lock().unwrap_or_else(PoisonError::into_inner)
}
