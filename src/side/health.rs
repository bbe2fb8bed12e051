//! Whether the worker makes progress: what each part reports, and the verdict drawn from it.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// How long an answer about the store is waited for: as long as asking it may take, and some.
const VERDICT_WITHIN: Duration = Duration::from_secs(15);

/// The engine's heartbeat, read at the moment of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Whether the inference thread lives.
    pub alive: bool,
    /// Since when the run that is now under way has been running.
    pub busy_since: Option<Instant>,
}

/// What is known of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueueStatus {
    /// Not connected yet, or connecting again.
    #[default]
    Connecting,
    /// Deliveries can come.
    Connected,
    /// It does not answer at the moment, and what was tried: that may pass.
    Unreachable(String),
    /// Gone for good, and why: the subscription was deleted, the credentials are refused.
    Lost(String),
}

/// What is known of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StorageStatus {
    /// Not asked yet.
    #[default]
    Connecting,
    /// It answered when last asked.
    Connected,
    /// It did not, and what was tried: an outage, a deleted bucket, a revoked role.
    Unreachable(String),
}

impl StorageStatus {
    /// Whether it is known not to answer.
    const fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Why the worker cannot finish jobs although it lives. Nothing that a restart would mend, so
/// /health stays 200 and says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// The queue does not answer.
    QueueUnavailable(String),
    /// The store does not answer.
    StorageUnavailable(String),
    /// Less memory is left than the next photo may need.
    MemoryLow,
}

impl Degraded {
    /// The stable word, `reason` of the answers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::QueueUnavailable(_) => "queue_unavailable",
            Self::StorageUnavailable(_) => "storage_unavailable",
            Self::MemoryLow => "memory_low",
        }
    }

    /// The sentence, `detail` of the answers.
    pub fn detail(&self) -> String {
        match self {
            Self::QueueUnavailable(why) => format!("no jobs come: {why}"),
            Self::StorageUnavailable(why) => {
                format!("no jobs are pulled until the store answers: {why}")
            }
            Self::MemoryLow => {
                "little memory is left; lower --memory-budget or --max-jobs if it stays so".into()
            }
        }
    }
}

/// Why the worker is not live; a stable word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// It is shutting down.
    Draining,
    /// It could not start.
    StartFailed(String),
    /// The inference thread is gone.
    EngineDead,
    /// One run of the network has been going on for this long.
    EngineStuck(Duration),
    /// The queue is gone for good.
    QueueLost(String),
}

impl Unhealthy {
    /// The stable word, `reason` of the answers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::StartFailed(_) => "start_failed",
            Self::EngineDead => "engine_dead",
            Self::EngineStuck(_) => "engine_stuck",
            Self::QueueLost(_) => "queue_lost",
        }
    }

    /// The sentence, `detail` of the answers.
    pub fn detail(&self) -> String {
        match self {
            Self::Draining => "the worker is shutting down and takes no more jobs".into(),
            Self::StartFailed(why) => format!("the worker could not start: {why}"),
            Self::EngineDead => "the inference thread has ended; restart the worker".into(),
            Self::EngineStuck(since) => format!(
                "one run of the network has taken {} s so far; restart the worker if it stays",
                since.as_secs()
            ),
            Self::QueueLost(why) => format!("the queue is gone: {why}"),
        }
    }
}

type PulseProbe = Box<dyn Fn() -> Pulse + Send + Sync>;

/// What the parts of the worker report of themselves.
pub struct Health {
    stuck_after: Duration,
    pulse: RwLock<Option<PulseProbe>>,
    queue: RwLock<QueueStatus>,
    storage: watch::Sender<StorageStatus>,
    storage_suspected: Notify,
}

impl Health {
    /// With a limit for one run of the network, beyond which the engine counts as stuck.
    ///
    /// Twice the deadline of a job is a good one: a run that is merely slow has then lost all
    /// its jobs to their deadlines long ago.
    pub fn new(stuck_after: Duration) -> Self {
        Self {
            stuck_after,
            pulse: RwLock::new(None),
            queue: RwLock::default(),
            storage: watch::Sender::default(),
            storage_suspected: Notify::new(),
        }
    }

    /// How to feel the engine's pulse, from now on. It is called on every probe and must not
    /// wait.
    pub fn watch_engine(&self, pulse: impl Fn() -> Pulse + Send + Sync + 'static) {
        *self.pulse.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(pulse));
    }

    /// What is known of the queue, from who pulls and from who asks it. A queue that is lost
    /// stays so: its worker is about to end, and a late answer must not hide why.
    pub fn set_queue(&self, status: QueueStatus) {
        let mut queue = self.queue.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*queue, QueueStatus::Lost(_)) {
            *queue = status;
        }
    }

    /// The queue's status.
    pub fn queue(&self) -> QueueStatus {
        self.queue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is known of the store, from who asks it.
    pub fn set_storage(&self, status: StorageStatus) {
        self.storage.send_replace(status);
    }

    /// The store's status.
    pub fn storage(&self) -> StorageStatus {
        self.storage.borrow().clone()
    }

    /// Waits until the store is known not to answer (`away`), or is not (any more). Cancel-safe.
    pub async fn storage_turns(&self, away: bool) {
        let mut seen = self.storage.subscribe();
        let turned = |status: &StorageStatus| status.is_away() == away;
        // The other end lives as long as `self`.
        drop(seen.wait_for(turned).await);
    }

    /// Whether the store is away, now that a job got no proper answer from it. Has the store
    /// asked unless that is known: what one object met need not be the whole store. Cancel-safe.
    pub async fn storage_is_away(&self) -> bool {
        let mut seen = self.storage.subscribe();
        if !seen.borrow_and_update().is_away() {
            self.storage_suspected.notify_one();
            drop(tokio::time::timeout(VERDICT_WITHIN, seen.changed()).await);
        }
        seen.borrow().is_away()
    }

    /// Waits until the store is suspected.
    pub async fn storage_is_suspected(&self) {
        self.storage_suspected.notified().await;
    }

    /// What keeps a living worker from finishing jobs, if anything.
    pub fn shortcoming(&self) -> Option<Degraded> {
        const NOT_YET: &str = "the connection is being made";
        match self.queue() {
            QueueStatus::Connecting => return Some(Degraded::QueueUnavailable(NOT_YET.into())),
            QueueStatus::Unreachable(why) => return Some(Degraded::QueueUnavailable(why)),
            QueueStatus::Connected | QueueStatus::Lost(_) => {}
        }
        match self.storage() {
            StorageStatus::Connecting => Some(Degraded::StorageUnavailable(NOT_YET.into())),
            StorageStatus::Unreachable(why) => Some(Degraded::StorageUnavailable(why)),
            StorageStatus::Connected => None,
        }
    }

    /// What is wrong with engine or queue at `now`, if anything. A store that does not answer
    /// is not: jobs are given back and a restart would mend nothing.
    pub fn trouble(&self, now: Instant) -> Option<Unhealthy> {
        if let Some(trouble) = self.engine_trouble(now) {
            return Some(trouble);
        }
        match self.queue() {
            QueueStatus::Lost(why) => Some(Unhealthy::QueueLost(why)),
            QueueStatus::Connecting | QueueStatus::Connected | QueueStatus::Unreachable(_) => None,
        }
    }

    /// Whether an engine is there, alive and not stuck at `now`.
    pub fn engine_works(&self, now: Instant) -> bool {
        let known = self.pulse.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.is_some();
        known && self.engine_trouble(now).is_none()
    }

    fn engine_trouble(&self, now: Instant) -> Option<Unhealthy> {
        let pulse = self
            .pulse
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|probe| probe())?;
        if !pulse.alive {
            return Some(Unhealthy::EngineDead);
        }
        let running = now.saturating_duration_since(pulse.busy_since?);
        (running > self.stuck_after).then_some(Unhealthy::EngineStuck(running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn an_engine_is_stuck_only_after_the_limit_and_no_longer_when_the_run_ends() {
        let health = Health::new(Duration::from_secs(600));
        let start = Instant::now();
        let busy_since = Arc::new(Mutex::new(Some(start)));
        let seen = Arc::clone(&busy_since);
        health.watch_engine(move || Pulse {
            alive: true,
            busy_since: *seen.lock().unwrap(),
        });
        assert_eq!(health.trouble(start + Duration::from_secs(600)), None);
        let late = start + Duration::from_secs(601);
        assert_eq!(
            health.trouble(late),
            Some(Unhealthy::EngineStuck(Duration::from_secs(601)))
        );
        *busy_since.lock().unwrap() = None;
        assert_eq!(health.trouble(late), None);
    }

    #[test]
    fn a_dead_engine_and_a_lost_queue_are_trouble_and_a_silent_store_is_not() {
        let health = Health::new(Duration::from_secs(1));
        let now = Instant::now();
        assert_eq!(health.trouble(now), None, "nothing is known yet");
        health.set_storage(StorageStatus::Unreachable("an outage".into()));
        health.set_queue(QueueStatus::Unreachable("an outage".into()));
        assert_eq!(health.trouble(now), None);
        health.set_queue(QueueStatus::Lost("deleted".into()));
        assert_eq!(health.trouble(now).unwrap().reason(), "queue_lost");
        health.watch_engine(|| Pulse {
            alive: false,
            busy_since: None,
        });
        assert_eq!(health.trouble(now), Some(Unhealthy::EngineDead));
    }

    #[test]
    fn what_is_unreachable_degrades_until_it_answers_and_what_is_lost_stays_lost() {
        let health = Health::new(Duration::from_secs(1));
        let reason = || health.shortcoming().map(|why| why.reason());
        assert_eq!(reason(), Some("queue_unavailable"), "not connected yet");
        health.set_queue(QueueStatus::Connected);
        assert_eq!(reason(), Some("storage_unavailable"), "not connected yet");
        health.set_storage(StorageStatus::Connected);
        assert_eq!(reason(), None);
        health.set_storage(StorageStatus::Unreachable("the bucket is gone".into()));
        let why = health.shortcoming().unwrap();
        assert!(why.detail().contains("the bucket is gone"), "{why:?}");
        health.set_storage(StorageStatus::Connected);
        assert_eq!(reason(), None);

        let now = Instant::now();
        health.set_queue(QueueStatus::Lost("deleted".into()));
        health.set_queue(QueueStatus::Connected);
        assert_eq!(health.trouble(now).unwrap().reason(), "queue_lost");
    }

    #[tokio::test]
    async fn who_waits_for_the_store_goes_on_when_it_answers_and_not_before() {
        let health = Health::new(Duration::from_secs(1));
        // Nothing known is no reason to wait.
        health.storage_turns(false).await;
        health.set_storage(StorageStatus::Unreachable("an outage".into()));
        health.storage_turns(true).await;
        let mut waiting = std::pin::pin!(health.storage_turns(false));
        assert!(futures::poll!(&mut waiting).is_pending());
        health.set_storage(StorageStatus::Unreachable("still".into()));
        assert!(futures::poll!(&mut waiting).is_pending());
        health.set_storage(StorageStatus::Connected);
        waiting.await;
    }

    #[tokio::test]
    async fn a_suspected_store_is_away_by_the_next_answer_and_not_by_the_suspicion() {
        for (answer, away) in [
            (StorageStatus::Connected, false),
            (StorageStatus::Unreachable("full".into()), true),
        ] {
            let health = Health::new(Duration::from_secs(1));
            health.set_storage(StorageStatus::Connected);
            let asked = async {
                health.storage_is_suspected().await;
                health.set_storage(answer);
            };
            let (verdict, ()) = tokio::join!(health.storage_is_away(), asked);
            assert_eq!(verdict, away);
            if away {
                assert!(health.storage_is_away().await, "known without asking");
            }
        }
    }

    #[test]
    fn an_engine_works_once_it_is_known_and_neither_dead_nor_stuck() {
        let health = Health::new(Duration::from_secs(60));
        let start = Instant::now();
        assert!(!health.engine_works(start), "no engine yet");
        health.watch_engine(move || Pulse {
            alive: true,
            busy_since: Some(start),
        });
        assert!(health.engine_works(start));
        assert!(!health.engine_works(start + Duration::from_secs(61)));
    }
}
