//! Where requests wait for the network, and how batches are made of them.
//!
//! Two lanes take batches from here and run them in turn: while one runs, the other fills its
//! buffers. A batch is photos of one size, the longest waiting first. A full one is taken as soon
//! as a lane is free to fill it. One that is not full stays open for others until the network
//! itself is free, and then goes: only if other photos are known to be on their way here does it
//! wait for them, and for no longer than `max_wait`. A lone photo never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::request::Request;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// Photos in one run at most, 1 or more.
    pub max: usize,
    /// How long one that is not full waits for photos on their way.
    pub wait: Duration,
}

/// The desk, shared by jobs and lanes.
pub(super) struct Desk {
    batching: Batching,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: VecDeque<Request>,
    /// Photos that are being prepared.
    coming: usize,
    /// Batches taken by lanes and not run yet.
    claimed: usize,
    /// Whether the network runs.
    running: bool,
    /// No more requests are taken, and none is answered any more.
    closed: bool,
}

impl Desk {
    pub(super) fn new(batching: Batching) -> Arc<Self> {
        Arc::new(Self {
            batching,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Adds a request; gives it back when nobody is left to run it.
    pub(super) fn push(&self, request: Request) -> Result<(), Request> {
        let mut state = self.lock();
        if state.closed {
            return Err(request);
        }
        state.pending.push_back(request);
        self.changed.notify_all();
        Ok(())
    }

    /// A photo is on its way here for as long as the answer lives.
    pub(super) fn announce(self: &Arc<Self>) -> Coming {
        self.lock().coming += 1;
        Coming(Arc::clone(self))
    }

    /// The next batch, of one photo or more; blocks until there is one. `None` when closed.
    pub(super) fn next(&self) -> Option<Vec<Request>> {
        let mut state = self.lock();
        // Since when a batch that is not full could have run.
        let mut open_since = None;
        loop {
            if state.closed {
                return None;
            }
            // Those that nobody waits for any more.
            state.pending.retain(|request| !request.is_withdrawn());
            let size = state.group(self.batching.max);
            let free = state.claimed == 0;
            if size == self.batching.max || (size > 0 && free && state.coming == 0) {
                return Some(state.take(size));
            }
            if size == 0 || !free {
                open_since = None;
                state = self.wait(state);
                continue;
            }
            let since = *open_since.get_or_insert_with(Instant::now);
            let left = self.batching.wait.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Some(state.take(size));
            }
            state = self.wait_for(state, left);
        }
    }

    /// The lane's turn to run what it has taken; blocks while another runs. `None` when closed.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        while state.running && !state.closed {
            state = self.wait(state);
        }
        if state.closed {
            return None;
        }
        state.running = true;
        Some(Turn(self))
    }

    /// Whether nobody waits for the network, nor is about to.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        // The batch that is running is claimed too.
        state.pending.is_empty() && state.coming == 0 && state.claimed <= 1
    }

    /// A batch that was taken will not be run.
    pub(super) fn unclaim(&self) {
        let mut state = self.lock();
        state.claimed = state.claimed.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Nothing is taken or run any more; what waits is dropped, which its jobs notice.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            self.changed.notify_all();
            std::mem::take(&mut state.pending)
        };
        // Outside the lock: with them go guards that may do anything.
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, limit) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

impl State {
    /// How many could run with the one that has waited longest, itself included.
    fn group(&self, max: usize) -> usize {
        let Some(first) = self.pending.front() else {
            return 0;
        };
        let alike = self.pending.iter().filter(|other| other.fits(first));
        alike.take(max).count()
    }

    fn take(&mut self, size: usize) -> Vec<Request> {
        let mut batch: Vec<Request> = Vec::with_capacity(size);
        let mut left = VecDeque::with_capacity(self.pending.len());
        for request in self.pending.drain(..) {
            let fits = batch.first().is_none_or(|first| request.fits(first));
            if fits && batch.len() < size {
                batch.push(request);
            } else {
                left.push_back(request);
            }
        }
        self.pending = left;
        self.claimed += 1;
        batch
    }
}

/// The network's turn; over when dropped.
pub(super) struct Turn<'a>(&'a Desk);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running = false;
        state.claimed = state.claimed.saturating_sub(1);
        self.0.changed.notify_all();
    }
}

/// A photo on its way to the network. A batch may wait for it.
pub struct Coming(Arc<Desk>);

impl Drop for Coming {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.coming = state.coming.saturating_sub(1);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::{self, Waiter};
    use crate::engine::tensor::{Tensor, TensorData};

    fn desk(max: usize, wait: Duration) -> Arc<Desk> {
        Desk::new(Batching { max, wait })
    }

    /// A request for a photo of this width, and who waits for it.
    fn asked(desk: &Desk, width: u32) -> Waiter {
        let tensor = Tensor {
            width,
            height: 1,
            data: TensorData::NhwcU8(vec![0; width as usize * 3]),
        };
        let (request, waiter) = request::new(tensor, Box::new(()), Box::new(()));
        assert!(desk.push(request).is_ok());
        waiter
    }

    fn widths(batch: &[Request]) -> Vec<u32> {
        batch.iter().map(|request| request.size().0).collect()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_batch_is_of_one_size_the_longest_waiting_first() {
        let desk = desk(3, Duration::ZERO);
        let _jobs: Vec<_> = [7, 9, 7, 9, 7, 7].map(|width| asked(&desk, width)).into();
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let batch = desk.next().unwrap();
            taken.push(widths(&batch));
            drop(desk.turn());
        }
        assert_eq!(taken, [vec![7, 7, 7], vec![9, 9], vec![7]]);
    }

    #[test]
    fn one_that_nobody_waits_for_is_left_out() {
        let desk = desk(4, Duration::ZERO);
        let jobs: Vec<_> = (0..3).map(|_| asked(&desk, 5)).collect();
        let mut jobs = jobs.into_iter();
        drop(jobs.next());
        assert_eq!(desk.next().unwrap().len(), 2);
    }

    #[test]
    fn a_lone_photo_does_not_wait_for_anybody() {
        let desk = desk(4, HOUR);
        let _job = asked(&desk, 5);
        assert_eq!(desk.next().unwrap().len(), 1);
    }

    #[test]
    fn one_waits_for_those_on_their_way_until_they_come_or_turn_back() {
        let desk = desk(4, HOUR);
        let (first, second) = (desk.announce(), desk.announce());
        let _job = asked(&desk, 5);
        let batch = std::thread::scope(|scope| {
            let next = scope.spawn(|| desk.next().unwrap());
            let _other = asked(&desk, 5);
            drop(first);
            assert!(!next.is_finished());
            drop(second);
            next.join().unwrap()
        });
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn the_wait_for_those_on_their_way_ends() {
        let desk = desk(4, Duration::from_millis(30));
        let _coming = desk.announce();
        let _job = asked(&desk, 5);
        let begun = Instant::now();
        assert_eq!(desk.next().unwrap().len(), 1);
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn while_the_network_runs_a_full_batch_is_taken_and_an_open_one_waits_for_more() {
        let desk = desk(2, Duration::ZERO);
        let _running = asked(&desk, 5);
        assert_eq!(desk.next().unwrap().len(), 1);
        let turn = desk.turn().unwrap();
        let _one = asked(&desk, 5);
        std::thread::scope(|scope| {
            let next = scope.spawn(|| desk.next().unwrap());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!next.is_finished(), "taken although the network is busy");
            let _two = asked(&desk, 5);
            assert_eq!(next.join().unwrap().len(), 2);
        });
        // The other lane has its batch now; its turn comes when this one ends.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| drop(desk.turn()));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!other.is_finished(), "two runs at once");
            drop(turn);
            other.join().unwrap();
        });
        assert!(desk.is_quiet());
    }

    #[test]
    fn a_closed_desk_takes_nothing_and_drops_what_waits() {
        let desk = desk(2, HOUR);
        let mut job = asked(&desk, 5);
        let coming = desk.announce();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| desk.next().is_none());
            desk.close();
            assert!(next.join().unwrap());
        });
        assert!(desk.turn().is_none());
        drop(coming);
        assert!(job.is_lost());
        let (request, _waiter) = request::new(
            Tensor {
                width: 1,
                height: 1,
                data: TensorData::NhwcU8(vec![0; 3]),
            },
            Box::new(()),
            Box::new(()),
        );
        assert!(desk.push(request).is_err());
    }
}
