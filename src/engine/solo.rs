//! A network that the calling thread runs by itself: no desk, no batches, and it can be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::session::RunOptions;

use super::lane::Lane;
use super::session::{Session, SessionConfig, failed};
use super::tensor::{Matte, Tensor};
use super::{EngineInfo, load};
use crate::error::{Code, Error, Result};

/// A loaded network. Its threads are made by the thread that loads it, and have that one's scheduling policy.
pub struct Solo {
    session: Session,
    lane: Lane,
    stop: Stop,
    info: EngineInfo,
}

/// Stops the run that is under way, and those to come. Cheap to clone; takes no lock.
#[derive(Clone)]
pub struct Stop {
    options: Arc<RunOptions>,
    stopped: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ran {
    /// With the network's answer, as the graph gives it.
    Matte(Matte),
    /// It was stopped.
    Stopped,
}

impl Stop {
    fn new() -> ort::Result<Self> {
        let mut options = RunOptions::new()?;
        // What a run took goes back: the next one may be hours away.
        options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        Ok(Self {
            options: Arc::new(options),
            stopped: Arc::new(AtomicBool::new(false)),
        })
    }

    /// The run under way ends between two of its operators.
    pub fn now(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Err(error) = self.options.terminate() {
            tracing::debug!(%error, "a run cannot be stopped");
        }
    }

    /// Runs may take place again.
    pub fn lift(&self) {
        self.stopped.store(false, Ordering::SeqCst);
        if let Err(error) = self.options.unterminate() {
            tracing::debug!(%error, "runs stay stopped");
        }
    }

    /// Whether runs are stopped.
    pub fn is_set(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

impl Solo {
    /// Loads the network on the CPU and warms it up if asked to. Blocks.
    ///
    /// Errors: as of [`Session::load`]; `config_invalid` for a provider that is not the CPU: others have threads
    /// that are not this thread's.
    pub fn load(config: &SessionConfig) -> Result<Self> {
        let (session, lanes, info) = load(config)?;
        if info.provider != super::provider::Provider::Cpu {
            return Err(Error::new(
                Code::ConfigInvalid,
                "a network that is run alone runs on the CPU's own kernels",
            ));
        }
        let lane = lanes.into_iter().next();
        let lane = lane.ok_or_else(|| Error::new(Code::Internal, "a session without a lane"))?;
        let stop = Stop::new().map_err(|error| {
            Error::new(Code::EngineDead, "ONNX Runtime refuses run options").caused_by(error)
        })?;
        Ok(Self {
            session,
            lane,
            stop,
            info,
        })
    }

    /// What is known of the network.
    pub const fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// What stops its runs.
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs one photo. Blocks for as long as the network takes, or until it is stopped.
    ///
    /// Errors: `inference_failed`.
    pub fn run(&mut self, tensor: Tensor) -> Result<Ran> {
        self.lane.stage(&mut vec![tensor]).map_err(failed)?;
        let answer = self
            .session
            .run_until_stopped(&mut self.lane, &self.stop.options)
            .and_then(|answer| answer.mattes(1));
        match answer {
            Ok(mut mattes) => mattes.pop().map(Ran::Matte).ok_or_else(|| {
                Error::new(Code::InferenceFailed, "the network's run gave no matte")
            }),
            Err(_) if self.stop.is_set() => Ok(Ran::Stopped),
            Err(error) => Err(error),
        }
    }
}
