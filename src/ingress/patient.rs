//! A queue that waits for its store: while the store takes no outputs, nothing is delivered, and the
//! jobs that met the outage have not used up an attempt.
//!
//! The embedded queue counts attempts itself, and a full disk would use them all up within half a
//! minute: the whole backlog would end as dead letters of an outage that was no job's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{BurialHook, Delivery, Ingress, Lease};
use crate::error::Result;
use crate::store::Store;

/// How often a store that is out is asked: soon enough that nobody waits for the worker after
/// having made room, seldom enough that asking costs nothing.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// An ingress that asks the store before it believes that a job failed.
pub struct Patient {
    inner: Box<dyn Ingress>,
    surroundings: Arc<Surroundings>,
}

/// What the ingress and its leases share.
struct Surroundings {
    store: Arc<dyn Store>,
    /// Whether the store was found out of service and has not answered since.
    out: AtomicBool,
}

impl Patient {
    /// Wraps the deliveries of `inner`, whose jobs write to `store`. The store must be one
    /// without buckets: of many buckets, one that is closed says little about the others.
    pub fn new(inner: Box<dyn Ingress>, store: Arc<dyn Store>) -> Self {
        Self {
            inner,
            surroundings: Arc::new(Surroundings {
                store,
                out: AtomicBool::new(false),
            }),
        }
    }
}

#[async_trait]
impl Ingress for Patient {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn on_burial(&mut self, told: BurialHook) {
        self.inner.on_burial(told);
    }

    async fn next(&mut self) -> Result<Delivery> {
        loop {
            self.surroundings.back_again().await;
            let Delivery { message, lease } = self.inner.next().await?;
            // Jobs may have met an outage while this one was waited for.
            if self.surroundings.out.load(Ordering::Relaxed) {
                lease.release().await?;
                continue;
            }
            let lease = Box::new(PatientLease {
                inner: lease,
                surroundings: Arc::clone(&self.surroundings),
            });
            return Ok(Delivery { message, lease });
        }
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.inner.close().await
    }
}

impl Surroundings {
    /// Waits until the store takes outputs again, if it did not when last asked.
    async fn back_again(&self) {
        while self.out.load(Ordering::Relaxed) {
            if self.store.probe(None).await.is_ok() {
                tracing::info!("the store takes outputs again; jobs are taken again");
                self.out.store(false, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Whether a failure is the store's.
    async fn is_out(&self) -> bool {
        let Err(error) = self.store.probe(None).await else {
            return false;
        };
        if !self.out.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                code = %error.code(),
                error = error.chain(),
                "the store takes no outputs: no jobs are taken until it does, and those that met this have not used up an attempt"
            );
        }
        true
    }
}

struct PatientLease {
    inner: Box<dyn Lease>,
    surroundings: Arc<Surroundings>,
}

#[async_trait]
impl Lease for PatientLease {
    async fn ack(self: Box<Self>) -> Result<()> {
        self.inner.ack().await
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        if self.surroundings.is_out().await {
            return self.inner.postpone().await;
        }
        self.inner.nack().await
    }

    async fn postpone(self: Box<Self>) -> Result<()> {
        self.inner.postpone().await
    }

    async fn release(self: Box<Self>) -> Result<()> {
        self.inner.release().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::local::{LocalIngressConfig, LocalQueue};
    use crate::ingress::{JobPublisher, OutgoingMessage};
    use crate::store::dir::DirStore;

    #[tokio::test]
    async fn an_outage_of_the_store_uses_up_no_attempt_and_holds_the_others_back() {
        let folder = tempfile::tempdir().unwrap();
        let queue = LocalQueue::open(folder.path().join("queue.db")).unwrap();
        for _ in 0..2 {
            queue.publish(OutgoingMessage::default()).await.unwrap();
        }
        let root = folder.path().join("root");
        let store = Arc::new(DirStore::open(&root).unwrap());
        let config = LocalIngressConfig {
            min_backoff: Duration::from_millis(10),
            max_attempts: 2,
            ..LocalIngressConfig::default()
        };
        let inner = Box::new(queue.ingress(config).unwrap());
        let mut ingress = Patient::new(inner, store);
        let delivery = ingress.next().await.unwrap();

        // A file in the way stops root too.
        std::fs::write(root.join(".cutout"), "in the way").unwrap();
        delivery.lease.nack().await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(500), ingress.next());
        assert!(silence.await.is_err(), "delivered during the outage");

        std::fs::remove_file(root.join(".cutout")).unwrap();
        for _ in 0..2 {
            let delivery = ingress.next().await.unwrap();
            assert_eq!(delivery.message.attempt, 1);
            delivery.lease.ack().await.unwrap();
        }
        // With the store in service a failure is the job's own.
        queue.publish(OutgoingMessage::default()).await.unwrap();
        for attempt in 1..=2 {
            let delivery = ingress.next().await.unwrap();
            assert_eq!(delivery.message.attempt, attempt);
            delivery.lease.nack().await.unwrap();
        }
        assert_eq!(queue.dead_letters(9).await.unwrap().len(), 1);
    }
}
