//! What the side port tells, kept up to date by the rest of the program.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::health::{Health, Unhealthy};
use crate::error::Result;

/// Where the worker is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The model is being loaded.
    Loading,
    /// The first runs of the network are under way.
    Warming,
    /// Jobs are worked on.
    Ready,
    /// No more jobs are taken.
    Draining,
    /// It could not start, and why.
    Failed(String),
}

impl Phase {
    /// Lower-case name, `state` of the answers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed(_) => "failed",
        }
    }

    /// Phases are passed in this order and never back.
    const fn rank(&self) -> u8 {
        match self {
            Self::Loading => 0,
            Self::Warming => 1,
            Self::Ready => 2,
            Self::Draining => 3,
            Self::Failed(_) => 4,
        }
    }
}

/// The loaded network.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// The manifest's name.
    pub name: String,
    /// SHA-256 of the weights file, hex.
    pub sha256: String,
    /// Execution provider: `cpu`, `openvino`, `cuda`, `tensorrt`.
    pub provider: String,
    /// What the network computes in: `graph`, `f32`, `bf16`.
    pub precision: String,
    /// The input's size as a person reads it: `1024x1024`, or `shorter side 1280`.
    pub input_size: String,
    /// Time to build the session.
    pub load: Duration,
    /// Time of the first runs; zero until they are done.
    pub warm_up: Duration,
}

/// Runs the network once more over nothing in particular and answers how long that took.
pub type WarmUp = Arc<dyn Fn() -> BoxFuture<'static, Result<Duration>> + Send + Sync>;

/// What the side port tells. Shared by all; each part writes what it owns.
pub struct SideState {
    /// What engine, queue and store report.
    pub health: Health,
    started: Instant,
    phase: RwLock<Phase>,
    model: RwLock<Option<ModelInfo>>,
    warm_up: OnceLock<WarmUp>,
    /// Bytes of the card in use; 0 where none is known.
    gpu_used: AtomicU64,
    /// Held while a warm-up that was asked for runs, so that a second adds no load.
    pub(super) warming: tokio::sync::Mutex<()>,
}

impl SideState {
    /// A worker that has just started. `stuck_after` as in [`Health::new`].
    pub fn new(stuck_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            health: Health::new(stuck_after),
            started: Instant::now(),
            phase: RwLock::new(Phase::Loading),
            model: RwLock::new(None),
            warm_up: OnceLock::new(),
            gpu_used: AtomicU64::new(0),
            warming: tokio::sync::Mutex::new(()),
        })
    }

    /// Moves on to `phase`, and says whether it did: a phase that has been passed already is
    /// ignored, so that a warm-up which ends during the drain does not call the worker ready.
    ///
    /// Readiness is logged here (`Model loaded`, which operators filter on).
    pub fn set_phase(&self, phase: Phase) -> bool {
        {
            let mut now = self.phase.write().unwrap_or_else(PoisonError::into_inner);
            if phase.rank() <= now.rank() {
                return false;
            }
            now.clone_from(&phase);
        }
        match (&phase, self.model()) {
            (Phase::Ready, Some(model)) => tracing::info!(
                model = model.name,
                sha256 = model.sha256,
                provider = model.provider,
                precision = model.precision,
                input_size = model.input_size,
                load_seconds = model.load.as_secs_f64(),
                warm_up_seconds = model.warm_up.as_secs_f64(),
                startup_seconds = self.uptime().as_secs_f64(),
                "Model loaded"
            ),
            _ => tracing::debug!(phase = phase.as_str(), "the worker entered a phase"),
        }
        true
    }

    /// What is in use of the card's memory, bytes.
    pub fn set_gpu_used(&self, bytes: u64) {
        self.gpu_used.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of the card in use, where the network runs on one that tells.
    pub fn gpu_used(&self) -> Option<u64> {
        Some(self.gpu_used.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Where the worker is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The network, once it is loaded; again when it is warm.
    pub fn set_model(&self, model: ModelInfo) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Some(model);
    }

    /// The network, if it is loaded.
    pub fn model(&self) -> Option<ModelInfo> {
        self.model
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How to warm up on request. The first one given stays.
    pub fn set_warm_up(&self, warm_up: WarmUp) {
        let _ = self.warm_up.set(warm_up);
    }

    pub(super) fn warm_up(&self) -> Option<&WarmUp> {
        self.warm_up.get()
    }

    /// Time since the state was made, which `main` does first.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Why the worker is not live at `now`; `None` while it is, and while it starts.
    pub fn unhealthy(&self, now: Instant) -> Option<Unhealthy> {
        // First, as it may be why the worker ends.
        self.health.trouble(now).or_else(|| match self.phase() {
            Phase::Failed(why) => Some(Unhealthy::StartFailed(why)),
            Phase::Draining => Some(Unhealthy::Draining),
            Phase::Loading | Phase::Warming | Phase::Ready => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side::health::Pulse;
    use crate::telemetry::cloud_json::CloudJson;
    use crate::telemetry::testing::{Captured, lines_of};
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn readiness_is_logged_once_in_the_words_that_operators_filter_on() {
        let log = Captured::default();
        let logger = tracing_subscriber::registry().with(CloudJson::new(log.writer(), None));
        tracing::subscriber::with_default(logger, || {
            let state = SideState::new(Duration::from_secs(600));
            state.set_model(ModelInfo {
                name: "isnet".into(),
                sha256: "b6e8".into(),
                provider: "cpu".into(),
                precision: "graph".into(),
                input_size: "1024x1024".into(),
                load: Duration::from_millis(380),
                warm_up: Duration::from_millis(1100),
            });
            state.set_phase(Phase::Warming);
            state.set_phase(Phase::Ready);
            state.set_phase(Phase::Ready);
        });
        let lines = lines_of(&log);
        let ready: Vec<_> = lines
            .iter()
            .filter(|line| line["message"] == "Model loaded")
            .collect();
        assert_eq!(ready.len(), 1, "{lines:?}");
        assert_eq!(ready[0]["severity"], "INFO");
        assert_eq!(ready[0]["model"], "isnet");
        assert_eq!(ready[0]["load_seconds"], 0.38);
        assert_eq!(ready[0]["warm_up_seconds"], 1.1);
    }

    #[test]
    fn a_worker_that_ends_for_its_engine_says_so_and_not_that_it_drains() {
        let state = SideState::new(Duration::from_secs(600));
        state.health.watch_engine(|| Pulse {
            alive: false,
            busy_since: None,
        });
        for phase in [
            Phase::Ready,
            Phase::Draining,
            Phase::Failed("the inference thread has ended".into()),
        ] {
            assert!(state.set_phase(phase));
            assert_eq!(state.unhealthy(Instant::now()), Some(Unhealthy::EngineDead));
        }
    }

    #[test]
    fn a_warm_up_that_ends_during_the_drain_does_not_call_the_worker_ready() {
        let state = SideState::new(Duration::from_secs(600));
        assert!(state.set_phase(Phase::Warming));
        assert!(state.set_phase(Phase::Draining));
        assert!(!state.set_phase(Phase::Ready));
        assert_eq!(state.phase(), Phase::Draining);
        assert!(state.set_phase(Phase::Failed("lost".into())));
    }
}
