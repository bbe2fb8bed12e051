//! The CPU pool: pixels are worked on here, never on the threads that wait for the network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::Span;

use crate::error::{Code, Error, Result};

/// A bounded number of places for work that keeps a core busy. Cheap to clone.
#[derive(Clone)]
pub struct CpuPool {
    places: Arc<Semaphore>,
}

impl CpuPool {
    /// A pool that works on `places` things at once.
    pub fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.max(1))),
        }
    }

    /// Runs `work` on a thread of its own; returns its answer and how long it waited for a
    /// place. `waiting` is dropped when it has one. A panic in it costs this job (`internal`), not
    /// the worker. What `work` owns lives until it ends, even when nobody awaits it any more, so it
    /// must own its memory share.
    pub async fn run<T: Send + 'static>(
        &self,
        waiting: impl Send,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<(T, Duration)> {
        let asked = Instant::now();
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .expect("the pool's semaphore is never closed");
        let waited = asked.elapsed();
        drop(waiting);
        let span = Span::current();
        let answer = tokio::task::spawn_blocking(move || {
            let _place = place;
            span.in_scope(work)
        })
        .await;
        match answer {
            Ok(answer) => answer.map(|value| (value, waited)),
            Err(error) if error.is_panic() => Err(Error::of_panic(error.into_panic().as_ref())),
            Err(_) => Err(Error::new(Code::Draining, "the worker is shutting down")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_one_job_and_gives_its_place_back() {
        let pool = CpuPool::new(1);
        let error = pool
            .run::<()>((), || panic!("index out of bounds"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(
            error.chain().contains("index out of bounds"),
            "{}",
            error.chain()
        );
        assert!(
            !error.message().contains("index"),
            "the cause is for logs only"
        );
        assert_eq!(pool.run((), || Ok(7)).await.unwrap().0, 7);
    }
}
