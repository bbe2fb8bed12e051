//! Identical requests at once: the first does the work, the others wait for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OnceCell;

/// Work under way, by its key.
///
/// When the one that does the work is cancelled or fails, the next in line does it: a client that
/// goes away takes nobody along, and nobody is told of a failure that was another's.
pub struct Flights<K, V>(Mutex<HashMap<K, Weak<OnceCell<V>>>>);

impl<K: Eq + Hash, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V> Flights<K, V> {
    /// The cell of a key: filled, being filled, or to be filled by the caller. It lives as long as
    /// somebody holds it.
    pub fn join(&self, key: K) -> Arc<OnceCell<V>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = flights.get(&key).and_then(Weak::upgrade) {
            return cell;
        }
        // As many entries live as requests do, so that looking at all of them costs little.
        flights.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::new(OnceCell::new());
        flights.insert(key, Arc::downgrade(&cell));
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn ten_at_once_work_once_and_a_later_one_works_again() {
        let (flights, runs) = (Flights::default(), AtomicUsize::new(0));
        let work = || async {
            let cell = flights.join("rex");
            *cell
                .get_or_init(|| async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    runs.fetch_add(1, Ordering::Relaxed)
                })
                .await
        };
        let answers = futures::future::join_all((0..10).map(|_| work())).await;
        assert_eq!(answers, [0; 10]);
        assert_eq!(work().await, 1);
    }

    #[tokio::test]
    async fn one_that_is_cancelled_leaves_the_work_to_the_next() {
        let flights = Flights::default();
        let cell = flights.join("rex");
        let hung = cell.get_or_init(std::future::pending::<u8>);
        let waits = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            *flights.join("rex").get_or_init(|| async { 7 }).await
        };
        let hung = tokio::time::timeout(Duration::from_millis(50), hung);
        let (hung, answer) = tokio::join!(hung, waits);
        assert!(hung.is_err());
        assert_eq!(answer, 7);
    }
}
