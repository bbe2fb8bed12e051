//! The dead letters of a Pub/Sub subscription, for the operator.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::publisher::TopicPublisher;
use super::pull::{PullApi, Pulled};
use super::{PubSub, unset};
use crate::error::{Code, Error, Result};
use crate::ingress::dead_letter::{DeadLetter, Morgue, Outcome};

/// Letters in work at once: enough for the client to batch, few enough to stop soon.
const IN_FLIGHT: usize = 64;

/// Letters acknowledged by one request when they are only dropped.
const BATCH: usize = 500;

/// How long letters stay away when this process is killed; extended three times within it.
const LEASE: Duration = Duration::from_secs(30);

/// Between pulls that brought nothing new.
const POLL: Duration = Duration::from_millis(250);

/// Pub/Sub has no way to look without taking: letters are pulled and held under their leases
/// until the end. Given back any earlier, they would come again to this very reader.
pub struct PubSubMorgue {
    pubsub: PubSub,
    api: PullApi,
    /// A silence this long is taken for the end.
    idle: Duration,
    /// Since when nothing new came.
    quiet_since: Option<Instant>,
    held: Held,
    ready: VecDeque<DeadLetter>,
    /// A pull under way. It outlives a cancelled `next`, so that what it finds is not away
    /// until its lease ends.
    pulling: Option<JoinHandle<Result<Vec<Pulled>>>>,
    keeper: AbortOnDropHandle<()>,
}

/// Ack ids by message id, the newest last. Delivery is at least once, and a copy that was
/// answered otherwise than its twin would undo that answer.
type Held = Arc<Mutex<HashMap<String, Vec<String>>>>;

impl PubSubMorgue {
    pub(super) fn new(pubsub: PubSub, api: PullApi, idle: Duration) -> Self {
        let held = Held::default();
        Self {
            pubsub,
            keeper: AbortOnDropHandle::new(tokio::spawn(keep(api.clone(), held.clone()))),
            api,
            idle,
            quiet_since: None,
            held,
            ready: VecDeque::new(),
            pulling: None,
        }
    }

    /// Takes note of what was pulled; says whether anything was new.
    fn receive(&mut self, pulled: Vec<Pulled>) -> bool {
        let mut held = lock(&self.held);
        let mut new = false;
        for Pulled { ack_id, message } in pulled {
            let ack_ids = held.entry(message.id.clone()).or_default();
            ack_ids.push(ack_id);
            if ack_ids.len() == 1 {
                new = true;
                self.ready.push_back(DeadLetter::read(message));
            }
        }
        new
    }
}

/// Pulls, and makes the leases ours: the subscription's own may be as short as 10 s.
async fn pull(api: PullApi) -> Result<Vec<Pulled>> {
    let pulled = api.pull().await?;
    let ack_ids: Vec<_> = pulled.iter().map(|pulled| pulled.ack_id.clone()).collect();
    api.extend(&ack_ids, LEASE).await?;
    Ok(pulled)
}

/// Extends the leases of what is held.
async fn keep(api: PullApi, held: Held) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        let ack_ids: Vec<_> = lock(&held).values().flatten().cloned().collect();
        if let Err(error) = api.extend(&ack_ids, LEASE).await {
            tracing::warn!(
                error = error.chain(),
                "could not keep the dead letters; some may be seen by others meanwhile"
            );
        }
    }
}

/// Acknowledges letters, of which `ack_ids` are the copies.
async fn acknowledge(api: &PullApi, letters: Vec<Vec<String>>) -> Result<()> {
    let (mut newest, mut older) = (Vec::new(), Vec::new());
    for mut ack_ids in letters {
        newest.extend(ack_ids.pop());
        older.append(&mut ack_ids);
    }
    api.acknowledge(&newest).await?;
    // Of a subscription with exactly-once delivery only the newest ack id counts.
    if let Err(error) = api.acknowledge(&older).await {
        tracing::debug!(error = error.chain(), "older copies were not acknowledged");
    }
    Ok(())
}

/// What letters that are replayed at once share.
struct Replay<'a> {
    api: &'a PullApi,
    topic: &'a TopicPublisher,
    held: &'a Held,
    count: AtomicUsize,
    failure: Mutex<Option<Error>>,
    done: &'a (dyn Fn() + Send + Sync),
}

impl Replay<'_> {
    /// Letters of one ordering key, one after the other. The first failure of anybody lets what
    /// is under way end and begins nothing new.
    async fn chain(&self, letters: Vec<DeadLetter>) {
        for letter in letters {
            if lock(&self.failure).is_some() {
                return;
            }
            match self.one(letter).await {
                Ok(true) => {
                    self.count.fetch_add(1, Ordering::Relaxed);
                    (self.done)();
                }
                Ok(false) => {}
                Err(error) => {
                    lock(&self.failure).get_or_insert(error);
                    return;
                }
            }
        }
    }

    /// First the publication, then the ack: what crashes in between is published again, not
    /// lost. `false` for a letter that is not held, which was replayed before.
    async fn one(&self, letter: DeadLetter) -> Result<bool> {
        let ack_ids = lock(self.held).get(&letter.id).cloned();
        let Some(ack_ids) = ack_ids else {
            return Ok(false);
        };
        self.topic.publish(letter.original).await?;
        acknowledge(self.api, vec![ack_ids]).await?;
        lock(self.held).remove(&letter.id);
        Ok(true)
    }
}

/// Letters of one ordering key together, in the order given; the others each alone.
fn chains(letters: Vec<DeadLetter>) -> Vec<Vec<DeadLetter>> {
    let mut chains: Vec<Vec<DeadLetter>> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for letter in letters {
        let key = letter.original.ordering_key.clone();
        let own = chains.len();
        let chain = match key.is_empty() {
            true => own,
            false => *by_key.entry(key).or_insert(own),
        };
        match chains.get_mut(chain) {
            Some(chain) => chain.push(letter),
            None => chains.push(vec![letter]),
        }
    }
    chains
}

#[async_trait]
impl Morgue for PubSubMorgue {
    async fn next(&mut self) -> Result<Option<DeadLetter>> {
        loop {
            if let Some(letter) = self.ready.pop_front() {
                return Ok(Some(letter));
            }
            let since = *self.quiet_since.get_or_insert_with(Instant::now);
            let pulling = self
                .pulling
                .get_or_insert_with(|| tokio::spawn(pull(self.api.clone())));
            let pulled = pulling.await;
            self.pulling = None;
            let pulled =
                pulled.map_err(|e| Error::new(Code::Internal, "a pull failed").caused_by(e))?;
            if self.receive(pulled?) {
                self.quiet_since = None;
            } else if since.elapsed() >= self.idle {
                return Ok(None);
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    async fn replay(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        let clients = self.pubsub.clients();
        let Some(topic) = &clients.jobs else {
            return Outcome {
                done: 0,
                failure: Some(unset("a topic to publish jobs to")),
            };
        };
        let replay = Replay {
            api: &self.api,
            topic,
            held: &self.held,
            count: AtomicUsize::new(0),
            failure: Mutex::new(None),
            done,
        };
        let mut work = Vec::new();
        for chain in chains(letters) {
            work.push(replay.chain(chain));
        }
        futures::stream::iter(work)
            .buffer_unordered(IN_FLIGHT)
            .collect::<()>()
            .await;
        Outcome {
            done: replay.count.load(Ordering::Relaxed),
            failure: lock(&replay.failure).take(),
        }
    }

    async fn discard(
        &mut self,
        letters: Vec<DeadLetter>,
        done: &(dyn Fn() + Send + Sync),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for batch in letters.chunks(BATCH) {
            let ack_ids: Vec<_> = {
                let held = lock(&self.held);
                let ids = batch.iter().map(|letter| held.get(&letter.id).cloned());
                ids.flatten().collect()
            };
            let count = ack_ids.len();
            if let Err(error) = acknowledge(&self.api, ack_ids).await {
                outcome.failure = Some(error);
                break;
            }
            for letter in batch {
                lock(&self.held).remove(&letter.id);
            }
            (0..count).for_each(|_| done());
            outcome.done += count;
        }
        outcome
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        drop(self.keeper);
        let mut ack_ids: Vec<String> = lock(&self.held).drain().flat_map(|(_, ids)| ids).collect();
        if let Some(pulling) = self.pulling.take()
            && let Ok(Ok(pulled)) = pulling.await
        {
            ack_ids.extend(pulled.into_iter().map(|pulled| pulled.ack_id));
        }
        self.api.extend(&ack_ids, Duration::ZERO).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is one call on a map or an option; a panic cannot leave it half
    // done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::Message;

    #[test]
    fn letters_of_one_ordering_key_stay_in_their_order_and_the_others_go_alone() {
        let letter = |id: &str, key: &str| {
            DeadLetter::read(Message {
                id: id.into(),
                ordering_key: key.into(),
                ..Message::default()
            })
        };
        let letters = [("1", "a"), ("2", ""), ("3", "b"), ("4", "a"), ("5", "")];
        let chains = chains(letters.map(|(id, key)| letter(id, key)).into());
        let ids: Vec<Vec<_>> = chains
            .iter()
            .map(|chain| chain.iter().map(|letter| letter.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec!["1", "4"], vec!["2"], vec!["3"], vec!["5"]]);
    }
}
