//! Photos that wait for the shadow, within a number of them and of bytes. Nobody ever waits for room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;

use super::Limits;
use crate::engine::tensor::Matte;
use crate::experiment::ArmUsed;
use crate::job::ModelUsed;
use crate::object::ObjectRef;
use crate::pipeline::decode::Header;
use crate::telemetry::labels::ShadowOutcome;
use crate::telemetry::metrics::Metrics;

/// One photo for the shadow.
pub(super) struct Item {
    pub ticket: Arc<Ticket>,
    pub job: JobSeen,
    /// The primary's, finished.
    pub matte: Arc<Matte>,
    /// As it was downloaded.
    pub file: Bytes,
    pub header: Header,
    pub offered: Instant,
    pub interruptions: u32,
}

/// Of which job the photo was.
pub struct JobSeen {
    /// Given or derived.
    pub job_id: String,
    /// The job's key.
    pub key: String,
    /// With its generation.
    pub source: ObjectRef,
    /// Where it belongs in an experiment.
    pub arm: Option<ArmUsed>,
    /// The network that the customer's cut-out is of.
    pub primary: ModelUsed,
}

/// A place among those that wait, with memory; given back when dropped.
pub(super) struct Hold {
    waiting: Waiting,
    bytes: u64,
    working: u64,
}

/// One sampled photo's entry in the books: it ends in exactly one way.
pub(super) struct Ticket {
    metrics: Metrics,
    ended: Mutex<bool>,
    _hold: Option<Hold>,
}

impl Ticket {
    pub fn new(metrics: Metrics, hold: Option<Hold>) -> Arc<Self> {
        metrics.shadow().sampled();
        Arc::new(Self {
            metrics,
            ended: Mutex::new(false),
            _hold: hold,
        })
    }

    /// Enters how it ended; only the first time counts.
    pub fn end(&self, outcome: ShadowOutcome) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *ended, true) {
            self.metrics.shadow().ended(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(ShadowOutcome::DroppedEnd);
    }
}

/// Those that wait. Cheap to clone.
#[derive(Clone)]
pub(super) struct Waiting(Arc<Inner>);

struct Inner {
    limits: Limits,
    state: Mutex<State>,
    more: Notify,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// Bytes of all holds.
    held: u64,
    /// What each needs while it is worked on; one is at a time.
    working: Vec<u64>,
    closed: bool,
}

impl Waiting {
    pub fn new(limits: Limits, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            limits,
            state: Mutex::default(),
            more: Notify::new(),
            metrics,
        }))
    }

    /// Takes a place with `bytes` for as long as the photo waits, and `working` while it is worked on; or says at
    /// once why there is none.
    pub fn hold(&self, bytes: u64, working: u64) -> Result<Hold, ShadowOutcome> {
        let limits = &self.0.limits;
        if bytes.saturating_add(working) > limits.memory {
            return Err(ShadowOutcome::DroppedLarge);
        }
        let mut state = self.lock();
        let most = state.working.iter().copied().max().unwrap_or(0);
        if state.closed
            || state.working.len() >= limits.waiting
            || state.held + bytes + most.max(working) > limits.memory
        {
            return Err(match state.closed {
                true => ShadowOutcome::DroppedEnd,
                false => ShadowOutcome::DroppedFull,
            });
        }
        state.held += bytes;
        state.working.push(working);
        self.tell(&state);
        Ok(Hold {
            waiting: self.clone(),
            bytes,
            working,
        })
    }

    /// Adds a photo; `first` for one that had its turn before.
    pub fn put(&self, item: Item, first: bool) {
        let refused = {
            let mut state = self.lock();
            if state.closed {
                Some(item)
            } else {
                if first {
                    state.items.push_front(item);
                } else {
                    state.items.push_back(item);
                }
                None
            }
        };
        // Outside the lock: what it holds is given back under it.
        drop(refused);
        self.0.more.notify_one();
    }

    /// The next photo; waits while there is none. Cancel-safe.
    pub async fn next(&self) -> Item {
        loop {
            let item = self.lock().items.pop_front();
            if let Some(item) = item {
                return item;
            }
            self.0.more.notified().await;
        }
    }

    /// Nothing is taken any more, and what waits is left out.
    pub fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.items)
        };
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &State) {
        let metrics = self.0.metrics.shadow();
        metrics.set_waiting(state.working.len(), state.held);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.waiting.lock();
        state.held = state.held.saturating_sub(self.bytes);
        if let Some(at) = state.working.iter().position(|one| *one == self.working) {
            state.working.swap_remove(at);
        }
        self.waiting.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(waiting: usize, memory: u64) -> Waiting {
        Waiting::new(Limits { waiting, memory }, Metrics::new())
    }

    #[test]
    fn there_is_room_for_so_many_and_for_the_largest_that_is_worked_on() {
        let places = waiting(3, 100);
        let first = places.hold(10, 50).unwrap();
        let second = places.hold(20, 40).unwrap();
        // 30 wait, 50 are worked with: 20 are left.
        let full = |bytes, working| places.hold(bytes, working).err();
        assert_eq!(full(21, 0), Some(ShadowOutcome::DroppedFull));
        assert_eq!(full(1, 70), Some(ShadowOutcome::DroppedFull));
        assert_eq!(full(50, 51), Some(ShadowOutcome::DroppedLarge));
        let third = places.hold(20, 0).unwrap();
        assert_eq!(
            full(0, 0),
            Some(ShadowOutcome::DroppedFull),
            "three are enough"
        );
        drop(first);
        assert!(places.hold(20, 40).is_ok());
        drop((second, third));
        assert!(places.hold(50, 50).is_ok());
        places.close();
        assert_eq!(full(1, 1), Some(ShadowOutcome::DroppedEnd));
    }

    #[test]
    fn a_ticket_ends_once_and_in_any_case() {
        let metrics = Metrics::new();
        let ticket = Ticket::new(metrics.clone(), None);
        ticket.end(ShadowOutcome::Done);
        ticket.end(ShadowOutcome::Failed);
        drop(ticket);
        drop(Ticket::new(metrics.clone(), None));
        let summary = metrics.shadow().summary();
        assert_eq!(
            (
                summary.sampled,
                summary.of(ShadowOutcome::Done),
                summary.of(ShadowOutcome::DroppedEnd)
            ),
            (2, 1, 1)
        );
        assert_eq!(summary.of(ShadowOutcome::Failed), 0);
    }
}
