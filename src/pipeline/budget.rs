//! A budget in bytes: who takes from it waits until there is enough, in order of arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Code, Error, Result};

/// The semaphore counts in units of this many bytes, because it takes at most 2³² at a time.
const UNIT: u64 = 4096;

/// A number of bytes shared by all jobs. First come, first served: a big photo waits for room
/// while smaller ones behind it wait too, so nobody starves. Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u64,
    waiting: Arc<AtomicU64>,
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
pub struct Share {
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Gives back what goes beyond `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let units = usize::try_from(units_of(bytes)).unwrap_or(usize::MAX);
        let spare = self.permit.num_permits().saturating_sub(units);
        drop(self.permit.split(spare));
    }
}

/// What `bytes` take of the semaphore.
fn units_of(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).max(1)
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        let units = (total / UNIT)
            .min(u32::MAX.into())
            .min(Semaphore::MAX_PERMITS as u64);
        Self {
            units: Arc::new(Semaphore::new(units as usize)),
            total: units * UNIT,
            waiting: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Takes `bytes`, waiting for others to give theirs back. More than the whole budget can
    /// never be had: that is `image_too_large`.
    pub async fn take(&self, bytes: u64) -> Result<Share> {
        let units = units_of(bytes);
        if units * UNIT > self.total {
            return Err(Error::new(
                Code::ImageTooLarge,
                format!(
                    "the photo needs {} MiB while it is worked on, and this worker has {} MiB for photos: make it smaller, or raise --memory-budget",
                    bytes >> 20,
                    self.total >> 20
                ),
            ));
        }
        let _waiting = Waiting::enter(&self.waiting, bytes);
        let units = u32::try_from(units).expect("the total fits 32 bits of units");
        let permit = Arc::clone(&self.units)
            .acquire_many_owned(units)
            .await
            .expect("the budget's semaphore is never closed");
        Ok(Share { permit })
    }

    /// The whole budget, in bytes.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// What is taken at the moment, in bytes; what is kept for the first who waits counts too.
    pub fn used(&self) -> u64 {
        self.total - self.units.available_permits() as u64 * UNIT
    }

    /// What jobs wait for, in bytes.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Counts what a waiter wants for as long as it waits, also when it is cancelled.
struct Waiting<'a> {
    count: &'a AtomicU64,
    bytes: u64,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicU64, bytes: u64) -> Self {
        count.fetch_add(bytes, Ordering::Relaxed);
        Self { count, bytes }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const MIB: u64 = 1 << 20;

    #[tokio::test]
    async fn never_more_than_the_total_is_out_and_everything_comes_back() {
        let budget = Budget::new(8 * MIB);
        let (peak, now) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let jobs = (1..=40).map(|i| {
            let (budget, peak, now) = (budget.clone(), peak.clone(), now.clone());
            tokio::spawn(async move {
                let bytes = (i % 5 + 1) * MIB;
                let share = budget.take(bytes).await.unwrap();
                peak.fetch_max(
                    now.fetch_add(bytes, Ordering::SeqCst) + bytes,
                    Ordering::SeqCst,
                );
                tokio::task::yield_now().await;
                now.fetch_sub(bytes, Ordering::SeqCst);
                drop(share);
            })
        });
        for job in jobs.collect::<Vec<_>>() {
            job.await.unwrap();
        }
        let peak = peak.load(Ordering::SeqCst);
        assert!(peak <= 8 * MIB, "{peak}");
        assert!(peak > 4 * MIB, "jobs should overlap, peak was {peak}");
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn what_is_not_needed_any_more_is_given_back() {
        let budget = Budget::new(8 * MIB);
        let mut share = budget.take(6 * MIB).await.unwrap();
        share.shrink(MIB + 1);
        assert_eq!(budget.used(), MIB + UNIT);
        share.shrink(6 * MIB);
        assert_eq!(budget.used(), MIB + UNIT);
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_refused_at_once() {
        let budget = Budget::new(MIB);
        let error = budget.take(MIB + 1).await.err().expect("too much");
        assert_eq!(error.code(), Code::ImageTooLarge);
    }

    #[tokio::test]
    async fn small_jobs_do_not_overtake_a_big_one_for_ever() {
        let budget = Budget::new(4 * MIB);
        let first = budget.take(2 * MIB).await.unwrap();
        let big = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(4 * MIB).await.map(drop) }
        });
        while budget.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let small = budget.take(MIB);
        assert!(
            timeout(Duration::from_millis(50), small).await.is_err(),
            "a small job passed the big one that was there first"
        );
        drop(first);
        timeout(Duration::from_secs(5), big)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
