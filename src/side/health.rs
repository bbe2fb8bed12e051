//! Whether the worker makes progress: what each part reports, and the verdict drawn from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

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
    /// Gone for good, and why: the subscription was deleted, the credentials are refused.
    Lost(String),
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
    storage_connected: AtomicBool,
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
            storage_connected: AtomicBool::new(false),
        }
    }

    /// How to feel the engine's pulse, from now on. It is called on every probe and must not
    /// wait.
    pub fn watch_engine(&self, pulse: impl Fn() -> Pulse + Send + Sync + 'static) {
        *self.pulse.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(pulse));
    }

    /// What is known of the queue, from its owner.
    pub fn set_queue(&self, status: QueueStatus) {
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// The queue's status.
    pub fn queue(&self) -> QueueStatus {
        self.queue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the store answered when last asked, from its owner.
    pub fn set_storage_connected(&self, connected: bool) {
        self.storage_connected.store(connected, Ordering::Relaxed);
    }

    /// Whether the store answered when last asked.
    pub fn storage_connected(&self) -> bool {
        self.storage_connected.load(Ordering::Relaxed)
    }

    /// What is wrong with engine or queue at `now`, if anything. A store that does not answer
    /// is not: jobs are given back and a restart would mend nothing.
    pub fn trouble(&self, now: Instant) -> Option<Unhealthy> {
        let pulse = self
            .pulse
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|probe| probe());
        if let Some(pulse) = pulse {
            if !pulse.alive {
                return Some(Unhealthy::EngineDead);
            }
            let running = pulse
                .busy_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            if running > self.stuck_after {
                return Some(Unhealthy::EngineStuck(running));
            }
        }
        match self.queue() {
            QueueStatus::Lost(why) => Some(Unhealthy::QueueLost(why)),
            QueueStatus::Connecting | QueueStatus::Connected => None,
        }
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
        health.set_storage_connected(false);
        health.set_queue(QueueStatus::Connecting);
        assert_eq!(health.trouble(now), None);
        health.set_queue(QueueStatus::Lost("deleted".into()));
        assert_eq!(health.trouble(now).unwrap().reason(), "queue_lost");
        health.watch_engine(|| Pulse {
            alive: false,
            busy_since: None,
        });
        assert_eq!(health.trouble(now), Some(Unhealthy::EngineDead));
    }
}
