//! The accelerator behind a handle: one thread owns the session, jobs send tensors and await mattes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::crash::crash_point;
use crate::error::{Code, Error, Result};
use crate::model::manifest::{Layout, Manifest};
use provider::Provider;
use session::{Port, Session, SessionConfig};
use tensor::{Matte, Tensor, TensorData};

pub mod provider;
pub mod session;
pub mod tensor;

/// Requests that may wait for the thread. Every request's tensor is paid for by its job's memory
/// budget and gone when the job is, so this bounds nothing but the channel itself.
const QUEUE: usize = 1024;

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
    /// Version of ONNX Runtime.
    pub runtime: String,
    /// The graph's inputs.
    pub inputs: Vec<Port>,
    /// The graph's outputs.
    pub outputs: Vec<Port>,
    /// Loading the library and the graph.
    pub load: Duration,
    /// The warm-up runs.
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
}

struct Request {
    load: Load,
    sent: Instant,
    reply: oneshot::Sender<Result<Inference>>,
}

/// What a request brings, shared by who waits for the answer and the queue: whoever gives up
/// takes it out of the queue, however long the thread may be busy with others.
#[derive(Clone)]
struct Load(Arc<Mutex<Option<Cargo>>>);

struct Cargo {
    tensor: Tensor,
    waiting: Box<dyn Send>,
    paid: Box<dyn Send>,
}

impl Load {
    fn take(&self) -> Option<Cargo> {
        self.lock().take()
    }

    /// Whether its run has begun.
    fn is_taken(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cargo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Withdraws a request that has not begun when nobody waits for it any more.
struct Withdraw(Load);

impl Drop for Withdraw {
    fn drop(&mut self) {
        drop(self.0.take());
    }
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
}

/// Marks the thread dead however it ends.
struct DeathKnell(Arc<Pulse>);

impl Drop for DeathKnell {
    fn drop(&mut self) {
        self.0.end();
        self.0.alive.store(false, Ordering::Release);
    }
}

/// A handle to the engine thread; cheap to clone. The thread ends when the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    info: Arc<EngineInfo>,
    pulse: Arc<Pulse>,
}

impl Engine {
    /// Starts the thread, loads the network and warms it up; returns when it is ready to serve.
    pub async fn start(config: SessionConfig) -> Result<Self> {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (ready, loaded) = oneshot::channel();
        let pulse = Arc::new(Pulse::new());
        let knell = DeathKnell(pulse.clone());
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let knell = knell;
                match load(&config) {
                    Ok((session, info)) => {
                        if ready.send(Ok(info)).is_ok() {
                            serve(session, inbox, &knell.0);
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|error| {
                Error::new(Code::EngineDead, "cannot start the engine thread").caused_by(error)
            })?;
        let info = loaded.await.map_err(|_| dead())??;
        Ok(Self {
            requests,
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

    /// Runs one image. Dropping the future before the run begins cancels it, and drops all that
    /// it brought at once. `waiting` is dropped when the run begins, `paid` when it has ended:
    /// a run that nobody waits for any more still takes its memory.
    pub async fn infer(
        &self,
        tensor: Tensor,
        waiting: Box<dyn Send>,
        paid: Box<dyn Send>,
    ) -> Result<Inference> {
        let (reply, answer) = oneshot::channel();
        let load = Load(Arc::new(Mutex::new(Some(Cargo {
            tensor,
            waiting,
            paid,
        }))));
        let withdraw = Withdraw(load.clone());
        let request = Request {
            load,
            sent: Instant::now(),
            reply,
        };
        self.requests.send(request).await.map_err(|_| dead())?;
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| dead())?,
            () = self.given_up_in(&withdraw.0) => Err(stuck()),
        }
    }

    /// Waits until the run with this load is given up; for ever if it is another's run that the
    /// thread is stuck in.
    async fn given_up_in(&self, load: &Load) {
        self.pulse.given_up.cancelled().await;
        if !load.is_taken() {
            std::future::pending().await
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
        for (width, height) in warm_up_sizes(&self.info.manifest, self.info.provider) {
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

fn load(config: &SessionConfig) -> Result<(Session, EngineInfo)> {
    let begun = Instant::now();
    let mut session = Session::load(config)?;
    let load = begun.elapsed();
    let begun = Instant::now();
    for (width, height) in warm_up_sizes(&config.manifest, session.provider()) {
        session
            .run(blank(&config.manifest, width, height))
            .map_err(|error| {
                Error::new(
                    Code::ModelInvalid,
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
        runtime: session::runtime_version(&config.ort_library),
        inputs: session.inputs(),
        outputs: session.outputs(),
        load,
        warm_up: begun.elapsed(),
    };
    Ok((session, info))
}

fn serve(mut session: Session, mut inbox: mpsc::Receiver<Request>, pulse: &Pulse) {
    while let Some(request) = inbox.blocking_recv() {
        let Some(cargo) = request.load.take() else {
            continue;
        };
        let waited = request.sent.elapsed();
        drop(cargo.waiting);
        pulse.begin();
        crash_point!("network_running");
        let begun = Instant::now();
        let answer = session.run(cargo.tensor);
        let ran = begun.elapsed();
        pulse.end();
        drop(cargo.paid);
        let poisoned = matches!(&answer, Err(error) if error.code() == Code::EngineDead);
        // The job may have been given up meanwhile; then nobody wants the matte.
        drop(
            request
                .reply
                .send(answer.map(|matte| Inference { matte, waited, ran })),
        );
        if poisoned {
            return;
        }
    }
}

fn warm_up_sizes(manifest: &Manifest, provider: Provider) -> Vec<(u32, u32)> {
    manifest.warm_up_sizes(provider == Provider::Cuda)
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
