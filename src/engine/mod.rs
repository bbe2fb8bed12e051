//! The accelerator behind a handle: one thread owns the session, jobs send tensors and await mattes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Result};
use crate::model::manifest::{Layout, Manifest};
pub use desk::Coming;
use desk::{Batching, Desk};
use lane::Lane;
use precision::Precision;
use provider::Provider;
use runner::Runner;
use session::{Port, Session, SessionConfig};
use tensor::{Matte, Tensor, TensorData};

mod desk;
mod graph;
mod lane;
mod library;
pub mod precision;
pub mod provider;
mod request;
mod runner;
pub mod session;
pub mod solo;
pub mod tensor;

/// How often [`Engine::lost`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the job that the engine was lost with has to fail by itself, before all others are given
/// back: its failure counts as an attempt, theirs does not.
const CULPRIT_FIRST: Duration = Duration::from_secs(1);

/// What is known of a loaded network.
#[derive(Clone, Debug)]
pub struct EngineInfo {
    /// The manifest it was loaded by.
    pub manifest: Manifest,
    /// The device in use.
    pub provider: Provider,
    /// Which card, where it is one.
    pub device_id: i32,
    /// What the network computes in.
    pub precision: Precision,
    /// Photos in one run at most.
    pub max_batch: usize,
    /// Version of ONNX Runtime.
    pub runtime: String,
    /// The graph's inputs.
    pub inputs: Vec<Port>,
    /// The graph's outputs.
    pub outputs: Vec<Port>,
    /// Building the session: the provider's libraries, and the graph.
    pub load: Duration,
    /// The warm-up runs; zero where none was asked for.
    pub warm_up: Duration,
}

/// A matte and what it cost.
#[derive(Debug)]
pub struct Inference {
    /// The network's answer, as the graph gives it.
    pub matte: Matte,
    /// From sending the tensor to the start of the run.
    pub waited: Duration,
    /// The run itself.
    pub ran: Duration,
    /// Photos in the run.
    pub batch: usize,
    /// The same; told to one of them, so that a run is counted once.
    pub run_of: Option<usize>,
}

/// The thread's sign of life, read by /health.
#[derive(Debug)]
pub struct Pulse {
    alive: AtomicBool,
    /// Milliseconds since `epoch` at which the current run began, plus one; 0 when idle.
    busy_since: AtomicU64,
    epoch: Instant,
    /// Cancelled when nobody waits for the current run any more.
    given_up: CancellationToken,
}

impl Pulse {
    fn new() -> Self {
        Self {
            alive: AtomicBool::new(true),
            busy_since: AtomicU64::new(0),
            epoch: Instant::now(),
            given_up: CancellationToken::new(),
        }
    }

    /// Whether the thread still exists.
    pub fn alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// How long the current run has been going on; `None` when idle.
    pub fn busy_for(&self) -> Option<Duration> {
        match self.busy_since.load(Ordering::Acquire) {
            0 => None,
            since => Some(
                self.epoch
                    .elapsed()
                    .saturating_sub(Duration::from_millis(since - 1)),
            ),
        }
    }

    /// Waits until no run is under way, but no longer than `limit`.
    pub async fn idle(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.busy_for().is_some() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn begin(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(now + 1, Ordering::Release);
    }

    fn end(&self) {
        self.busy_since.store(0, Ordering::Release);
    }

    fn die(&self) {
        self.alive.store(false, Ordering::Release);
    }
}

/// Loads the runtime's library, so that [`Engine::start`] finds it loaded; the time that took.
/// Blocks.
pub fn load_library(file: &std::path::Path) -> Result<Duration> {
    let begun = Instant::now();
    library::environment(file)?;
    Ok(begun.elapsed())
}

/// A handle to the engine; cheap to clone. Its threads end when the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    desk: Arc<Desk>,
    _open: Arc<Open>,
    info: Arc<EngineInfo>,
    pulse: Arc<Pulse>,
}

/// Closes the desk when the last handle is gone.
struct Open(Arc<Desk>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Engine {
    /// Starts the threads, loads the network and warms it up if asked to; returns when it is ready to
    /// serve.
    pub async fn start(config: SessionConfig) -> Result<Self> {
        let (ready, loaded) = oneshot::channel();
        let pulse = Arc::new(Pulse::new());
        let sign = pulse.clone();
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || match load(&config) {
                Ok((session, lanes, info)) => {
                    let wait = config.max_wait;
                    let max = info.max_batch;
                    let desk = Desk::new(Batching { max, wait });
                    let runner = Runner::new(session, desk.clone(), sign);
                    if ready.send(Ok((desk, info))).is_ok() {
                        runner.serve(lanes);
                    }
                }
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(|error| {
                Error::new(Code::EngineDead, "cannot start the engine thread").caused_by(error)
            })?;
        let (desk, info) = loaded.await.map_err(|_| dead())??;
        Ok(Self {
            _open: Arc::new(Open(desk.clone())),
            desk,
            info: Arc::new(info),
            pulse,
        })
    }

    /// What is known of the network.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// The thread's sign of life.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// A photo is being prepared for the network, for as long as the answer lives: a batch may
    /// wait for it.
    pub fn announce(&self) -> Coming {
        self.desk.announce()
    }

    /// Runs one image, together with others perhaps. The request is made at once, before the
    /// future is first polled. Dropping the future before the run begins cancels it, and drops all
    /// that it brought at once. `waiting` is dropped when the run begins, `paid` when it has
    /// ended: a run that nobody waits for any more still takes its memory.
    pub fn infer(
        &self,
        tensor: Tensor,
        waiting: Box<dyn Send>,
        paid: Box<dyn Send>,
    ) -> impl Future<Output = Result<Inference>> + Send + use<> {
        let (request, mut waiter) = request::new(tensor, waiting, paid);
        let pushed = self.desk.push(request);
        let pulse = Arc::clone(&self.pulse);
        async move {
            pushed.map_err(|_| dead())?;
            tokio::select! {
                biased;
                answer = waiter.answer() => return answer.map_err(|_| dead())?,
                () = pulse.given_up.cancelled() => (),
            }
            if !waiter.has_begun() {
                // It is another's run that the network is stuck in; the worker ends.
                std::future::pending::<()>().await;
            }
            Err(stuck())
        }
    }

    /// Waits until the engine can run nothing any more: its thread has ended, or one run has been
    /// going on for longer than `give_up_after`, whose job then fails with the same error. The
    /// thread cannot be ended from outside, so the process must be.
    pub async fn lost(&self, give_up_after: Duration) -> Error {
        let every = LOOK_EVERY.min(give_up_after);
        loop {
            tokio::time::sleep(every).await;
            let error = if !self.pulse.alive() {
                dead()
            } else if self.pulse.busy_for().is_some_and(|t| t > give_up_after) {
                self.pulse.given_up.cancel();
                stuck()
            } else {
                continue;
            };
            tokio::time::sleep(CULPRIT_FIRST).await;
            return error;
        }
    }

    /// The warm-up runs once more; what `POST /warmup` does.
    pub async fn warm_up(&self) -> Result<Duration> {
        let begun = Instant::now();
        let on_gpu = self.info.provider.on_gpu();
        for (width, height) in self.info.manifest.warm_up_sizes(on_gpu) {
            let tensor = blank(&self.info.manifest, width, height);
            self.infer(tensor, Box::new(()), Box::new(())).await?;
        }
        Ok(begun.elapsed())
    }
}

fn dead() -> Error {
    Error::new(
        Code::EngineDead,
        "the inference thread has ended; the worker must be restarted",
    )
}

fn stuck() -> Error {
    Error::new(
        Code::EngineStuck,
        "one run of the network does not end; the worker must be restarted",
    )
}

fn load(config: &SessionConfig) -> Result<(Session, Vec<Lane>, EngineInfo)> {
    let environment = library::environment(&config.ort_library)?;
    let begun = Instant::now();
    let mut session = Session::load(config, &environment)?;
    let load = begun.elapsed();
    let begun = Instant::now();
    let on_gpu = session.provider().on_gpu();
    let mut max_batch = session.max_batch(config.max_batch);
    let mut lanes = session.lanes()?;
    let sizes = if config.warm_up {
        config.manifest.warm_up_sizes(on_gpu)
    } else {
        Vec::new()
    };
    let mut try_out = |width, height, batch| {
        let mut photos = vec![blank(&config.manifest, width, height); batch];
        session.try_out(&mut lanes[0], &mut photos)
    };
    for (width, height) in sizes {
        // A card chooses its algorithms by shape, and the batch is part of it.
        if on_gpu
            && max_batch > 1
            && let Err(error) = try_out(width, height, max_batch)
        {
            tracing::warn!(
                error = error.chain(),
                max_batch,
                "the card cannot run so many photos at once; they are run one by one (--max-batch)"
            );
            max_batch = 1;
        }
        try_out(width, height, 1).map_err(|error| {
            let code = if on_gpu {
                Code::ProviderUnavailable
            } else {
                Code::ModelInvalid
            };
            Error::new(
                code,
                format!(
                    "the warm-up of {} at {width}x{height} failed: {}",
                    config.manifest.name,
                    error.chain()
                ),
            )
        })?;
    }
    let info = EngineInfo {
        manifest: config.manifest.clone(),
        provider: session.provider(),
        device_id: config.options.device_id,
        precision: session.precision(),
        max_batch,
        runtime: library::version(&config.ort_library),
        inputs: session.inputs(),
        outputs: session.outputs(),
        load,
        warm_up: begun.elapsed(),
    };
    Ok((session, lanes, info))
}

/// A grey picture in the network's layout.
fn blank(manifest: &Manifest, width: u32, height: u32) -> Tensor {
    let elements = width as usize * height as usize * 3;
    let data = match manifest.input.layout {
        Layout::NchwF32 => TensorData::NchwF32(vec![0.0; elements]),
        Layout::NhwcU8 => TensorData::NhwcU8(vec![128; elements]),
    };
    Tensor {
        width,
        height,
        data,
    }
}
