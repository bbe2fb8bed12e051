//! `cutout worker`: configuration → side port → ends and model at once → work → drain.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ends::{self, Ends};
use super::trials::Trials;
use super::{Context, door, photo_bytes, photo_limits, start_engine, traces, watch};
use crate::config::{
    ExperimentArgs, HttpArgs, LimitArgs, ModelArgs, PushArgs, QueueArgs, ReviewArgs, ShadowArgs,
    TraceArgs, WorkerArgs,
};
use crate::engine::{Engine, EngineInfo};
use crate::error::{Code, Error, Result};
use crate::ingress::http::cache::Cache;
use crate::ingress::http::{Api, Service};
use crate::ingress::notification::SkipReason;
use crate::ingress::push::{self, PushIngress};
use crate::model::manifest::Resize;
use crate::pipeline::Pipeline;
use crate::pipeline::arms::Arms;
use crate::pipeline::budget::Budget;
use crate::pipeline::cutout::Cutter;
use crate::pipeline::presence::Presence;
use crate::shadow::Loaded;
use crate::shadow::idle::is_loading;
use crate::side::health::{Pulse, QueueStatus, StorageStatus};
use crate::side::state::{ModelInfo, Phase, SideState};
use crate::side::{routes, server};
use crate::store::Store;
use crate::telemetry::labels::StartPhase;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::process;
use crate::telemetry::traces::Traces;
use crate::worker::Worker;

/// Shown under `cutout worker --help`.
pub const NOTES: &str = "\
Credentials come from GOOGLE_APPLICATION_CREDENTIALS or the metadata server, as for every Google client; \
emulators need none. Settings may also stand in a TOML file (--config), keyed by the long flag names; \
flags beat environment beat file. `cutout config` prints what is in effect and why.";

/// How long the end waits for the network's run that is under way: one on a CPU takes less, and
/// together with the default drain it stays within Cloud Run's 10 s.
const ENGINE_PATIENCE: Duration = Duration::from_millis(1800);

/// How long it waits for the shadow's, which has been told to stop: one operator of the network.
const SHADOW_PATIENCE: Duration = Duration::from_millis(500);

/// How long the end of a worker that is stuck may take. The network's run may hold locks that the
/// libraries want at the end of the process; a driver that hangs holds up even that.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// Signals this close together are one wish: `timeout` and terminals signal a process and its
/// group.
const ONE_WISH: Duration = Duration::from_millis(500);

/// The worker's flags.
#[derive(Args, Clone, Debug)]
pub struct WorkerCmd {
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    push: PushArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    review: ReviewArgs,
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    shadow: ShadowArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

impl WorkerCmd {
    /// Rejects a configuration that cannot work, before a socket is bound.
    pub fn check(&self) -> Result<Checked> {
        let manifest = self.model.manifest()?;
        let mut plan = ends::plan(&self.queue, &self.worker, &manifest.name)?;
        let (home, ingress) = (&self.model.home, self.queue.ingress);
        let trials = Trials::check(&self.experiment, &self.shadow, home, &manifest, ingress)?;
        plan.policy.others = trials.names();
        let (limits, worker) = (&self.limits, &self.worker);
        let wrong: Vec<_> = [
            (limits.max_pixels == 0, "--max-pixels must be above zero"),
            (limits.max_file_bytes.as_u64() == 0, "--max-file-bytes must be above zero"),
            (limits.job_timeout.is_zero(), "--job-timeout must be above zero"),
            (worker.stuck_after.is_zero(), "--stuck-after must be above zero"),
            (
                worker.give_up_after() <= worker.stuck_after,
                "--give-up-after must be longer than --stuck-after",
            ),
            (
                self.http.http_max_requests == 0,
                "--http-max-requests must be above zero",
            ),
            (self.http.upload_pause.is_zero(), "--upload-pause must be above zero"),
            (worker.max_attempts == 0, "--max-attempts must be at least 1"),
            (
                worker.max_lease < limits.job_timeout,
                "--max-lease is shorter than --job-timeout: jobs would be delivered again while in work",
            ),
            (
                !(Duration::from_secs(10)..=Duration::from_secs(600)).contains(&worker.lease_extension),
                "--lease-extension must be 10s to 10m, as Pub/Sub has it",
            ),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, what)| what.to_owned())
        .chain(door::problems(&self.queue, worker, &self.push, limits))
        .chain(self.traces.problems())
        .collect();
        if !wrong.is_empty() {
            return Err(Error::new(Code::ConfigInvalid, wrong.join("; ")));
        }
        Ok(Checked { plan, trials })
    }

    /// The configured project.
    pub fn project(&self) -> Option<String> {
        self.queue
            .project
            .clone()
            .filter(|project| !project.is_empty())
    }

    pub async fn run(&self, _context: &Context) -> anyhow::Result<ExitCode> {
        let configuring = Instant::now();
        let before = process::age().unwrap_or_default();
        let begun = configuring.checked_sub(before).unwrap_or(configuring);
        let checked = self.check()?;
        let metrics = Metrics::new();
        let traces = traces(&self.traces, &metrics, self.project())?;
        let reasons: Vec<_> = SkipReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        metrics.declare_skip_reasons(&reasons);
        metrics.startup(StartPhase::Process, before);
        metrics.startup(StartPhase::Config, configuring.elapsed());

        let side = SideState::new(self.worker.stuck_after);
        let listener = server::bind(&self.worker.host.to_string(), self.worker.port).await?;
        metrics.startup(StartPhase::SidePort, begun.elapsed());
        tracing::info!(address = %listener.local_addr()?, "the side port answers");
        let side_done = CancellationToken::new();
        let shutdown = Shutdown::default();
        let api = self.http.http_api.then(|| {
            let (requests, give_up) = (shutdown.requests.clone(), shutdown.give_up.clone());
            Api::new(
                self.http.settings(),
                side.clone(),
                metrics.clone(),
                traces.clone(),
                requests,
                give_up,
            )
        });
        let mut more = api.as_ref().map(Api::routes).unwrap_or_default();
        let door = door::config(&self.queue, &self.worker, &self.push, &self.limits)?;
        let pushed = door.map(|door| {
            let (routes, ingress) = push::open(door, side.clone(), metrics.clone());
            more.routes = std::mem::take(&mut more.routes).merge(routes);
            more.endpoints.push(push::ENDPOINT.to_owned());
            ingress
        });
        let routes = routes::router(side.clone(), metrics.clone(), more);
        let serving = tokio::spawn(server::serve(listener, routes, side_done.clone()));

        let stop = stop_on_signal();
        let ended = self
            .work(
                checked,
                pushed,
                side.clone(),
                metrics,
                traces,
                api,
                stop,
                shutdown,
                begun,
            )
            .await;
        if let Err(error) = &ended {
            tracing::error!(code = %error.code(), class = %error.class(), error = error.chain(), "the worker ends");
            side.set_phase(Phase::Failed(error.message().to_owned()));
        } else {
            tracing::info!("drained; the worker ends");
        }
        side_done.cancel();
        // Answers under way are bounded by the server itself.
        drop(serving.await);
        match ended {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything between the side port's first and last answer.
    #[expect(
        clippy::too_many_arguments,
        reason = "what the worker is made of, each once"
    )]
    async fn work(
        &self,
        checked: Checked,
        pushed: Option<PushIngress>,
        side: Arc<SideState>,
        metrics: Metrics,
        traces: Traces,
        api: Option<Arc<Api>>,
        stop: CancellationToken,
        shutdown: Shutdown,
        // When the process was started.
        begun: Instant,
    ) -> Result<()> {
        let Checked { plan, mut trials } = checked;
        let presence = Presence::default();
        // Clients connect while the model loads.
        let connecting = async {
            let connecting = Instant::now();
            let max_jobs = self.limits.max_jobs();
            let (queue, worker) = (&self.queue, &self.worker);
            let ends = ends::connect(queue, worker, &plan, max_jobs, pushed, &metrics).await;
            metrics.startup(StartPhase::Clients, connecting.elapsed());
            ends
        };
        let loading = async {
            let started = start_engine(&self.model, true).await?;
            metrics.startup(StartPhase::Verify, started.verified);
            metrics.startup(StartPhase::Library, started.library);
            // By then the runtime's library is loaded, which no thread of idle priority should do.
            let limits = photo_limits(&self.limits);
            let (arms, shadow) = tokio::join!(
                trials.arms(&self.model, &started.engine),
                trials.shadow(&self.model, &presence, limits)
            );
            let networks = Networks {
                own: started.engine,
                arms: arms?,
                shadow: shadow?,
            };
            introduce(&networks, &side, &metrics);
            Ok(networks)
        };
        let starting = async { tokio::join!(connecting, loading) };
        let (ends, networks) = tokio::select! {
            started = starting => started,
            // Nothing was pulled yet, so there is nothing to drain.
            () = stop.cancelled() => return Ok(()),
        };
        let (
            Ends {
                store,
                ingress,
                egress,
                inbox,
            },
            networks,
        ) = both(ends, networks)?;
        side.health.set_storage(StorageStatus::Connected);
        side.health.set_queue(QueueStatus::Connected);
        metrics.declare_ingress(ingress.name());

        let Networks { own, arms, shadow } = networks;
        let memory = self.memory(&mut trials, shadow.is_some());
        let shadow = trials.open(shadow, &store, &metrics, &stop).await?;
        let pipeline = Pipeline {
            arms,
            shadow: shadow.clone(),
            ..self.pipeline(store.clone(), own, presence, memory, &plan, metrics.clone())
        };
        let engines = pipeline.engines();
        let mut budgets = vec![pipeline.downloads.clone(), pipeline.cutter.memory.clone()];
        if let Some(api) = &api {
            let service = self.service(&pipeline, memory, &plan);
            budgets.extend([service.uploads.clone(), service.answers.clone()]);
            api.open(service);
        }
        let _watching = watch::start(
            &pipeline,
            budgets,
            &side,
            store,
            egress.clone(),
            plan.buckets,
        );
        metrics.startup(StartPhase::Total, begun.elapsed());
        tracing::info!(
            seconds = begun.elapsed().as_secs_f64(),
            breakdown = metrics.start_breakdown(),
            "ready; phases overlap"
        );
        side.set_phase(Phase::Ready);
        let worker = Worker {
            pipeline,
            egress,
            notifications: plan.notifications,
            max_jobs: self.limits.max_jobs(),
            give_up_after: self.worker.give_up_after(),
            drain_timeout: self.worker.drain_timeout,
            requests: shutdown.requests,
            give_up: shutdown.give_up,
            side,
            metrics,
            traces: traces.clone(),
        };
        let ended = worker.run(ingress, stop).await;
        // ONNX Runtime's own threads must not meet the end of the process inside a run, but one
        // that is stuck is not waited for.
        let stuck = matches!(&ended, Err(error) if error.code() == Code::EngineStuck);
        let patience = if stuck {
            Duration::ZERO
        } else {
            ENGINE_PATIENCE
        };
        // At once, so that all together take no longer than any.
        let idle =
            futures::future::join_all(engines.iter().map(|engine| engine.pulse().idle(patience)));
        let overshadowed = async {
            match &shadow {
                Some(shadow) => shadow.finish(patience.min(SHADOW_PATIENCE)).await,
                None => false,
            }
        };
        // One that came too late for the start may still be loading.
        let late = async {
            let deadline = Instant::now() + patience;
            while is_loading() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (_, shadow_runs, (), ()) = tokio::join!(idle, overshadowed, late, traces.finish());
        let busy = |engine: &Engine| engine.pulse().busy_for().is_some();
        if shadow_runs || is_loading() || engines.iter().any(busy) {
            end_at_last();
        }
        if let Some(inbox) = inbox {
            inbox.close().await;
        }
        ended
    }

    /// The HTTP API's side of the pipeline: the same cores, network and memory.
    fn service(&self, pipeline: &Pipeline, memory: Memory, plan: &ends::Plan) -> Service {
        let ttl = self.http.cache_ttl;
        let cache = (!ttl.is_zero()).then(|| {
            let (store, bucket) = (pipeline.store.clone(), plan.policy.bucket.clone());
            // A PNG is at most a little larger than its pixels.
            let max_bytes = self.limits.max_pixels.saturating_mul(5);
            Cache::new(store, bucket, ttl, max_bytes)
        });
        Service {
            cutter: pipeline.cutter.clone(),
            uploads: Budget::new(memory.uploads),
            answers: Budget::new(memory.answers),
            cache,
            max_file_bytes: pipeline.max_file_bytes,
            timeout: pipeline.job_timeout,
        }
    }

    /// Asked when the network is loaded, as what it takes is known then.
    fn memory(&self, trials: &mut Trials, shadow: bool) -> Memory {
        let total = photo_bytes(&self.limits);
        let shadow = trials.reserve(shadow, total);
        let total = total - shadow;
        let largest = self.limits.max_file_bytes.as_u64();
        let memory = split(total, largest, self.http.http_api);
        tracing::info!(
            downloads_mib = memory.downloads >> 20,
            uploads_mib = memory.uploads >> 20,
            answers_mib = memory.answers >> 20,
            pixels_mib = memory.pixels >> 20,
            shadow_mib = shadow >> 20,
            max_jobs = self.limits.max_jobs(),
            "memory for photos"
        );
        memory
    }

    fn pipeline(
        &self,
        store: Arc<dyn Store>,
        engine: Engine,
        presence: Presence,
        memory: Memory,
        plan: &ends::Plan,
        metrics: Metrics,
    ) -> Pipeline {
        Pipeline {
            store,
            cutter: Cutter {
                review: self.review.bounds(),
                presence,
                ..super::cutter(engine, &self.limits, memory.pixels, metrics.clone())
            },
            downloads: Budget::new(memory.downloads),
            policy: plan.policy.clone(),
            max_file_bytes: self.limits.max_file_bytes.as_u64(),
            job_timeout: self.limits.job_timeout,
            arms: None,
            shadow: None,
            metrics,
        }
    }
}

/// A configuration that can work.
pub struct Checked {
    plan: ends::Plan,
    trials: Trials,
}

/// What was loaded.
struct Networks {
    own: Engine,
    arms: Option<Arms>,
    shadow: Option<Loaded>,
}

impl Networks {
    /// Those that jobs wait for.
    fn engines(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.own).chain(self.arms.iter().flat_map(Arms::engines))
    }
}

/// What ends with the worker beside the queue's jobs.
#[derive(Clone, Default)]
struct Shutdown {
    /// Requests of the HTTP API under way: a drain waits for them too.
    requests: TaskTracker,
    /// Cancelled when the drain waits no longer.
    give_up: CancellationToken,
}

/// The memory for photos, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    /// Files that the queue's jobs download.
    downloads: u64,
    /// Files that are sent over HTTP: apart, as clients decide how long they take, and the queue's jobs
    /// must not wait for them.
    uploads: u64,
    /// Finished pictures on their way to HTTP clients, likewise.
    answers: u64,
    /// Pixels in work, whoever sent them.
    pixels: u64,
}

/// Divides the budget. Compressed files are small next to their pixels, so an eighth is plenty, but
/// the largest file must fit.
fn split(total: u64, largest_file: u64, http: bool) -> Memory {
    let downloads = (total / 8).max(largest_file).min(total / 2);
    let (uploads, answers) = if http {
        let uploads = (total / 8).max(largest_file).min(total / 6);
        (uploads, (total / 6).min(2 << 30))
    } else {
        (0, 0)
    };
    let downloads = if http {
        downloads.min(total / 3)
    } else {
        downloads
    };
    Memory {
        downloads,
        uploads,
        answers,
        pixels: total - downloads - uploads - answers,
    }
}

/// Both, or one error that tells what is wrong with either.
fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(a), Err(b)) => Err(Error::new(
            a.code(),
            format!("{}; {}", a.chain(), b.chain()),
        )),
    }
}

/// Tells side port and metrics about the loaded networks.
fn introduce(networks: &Networks, side: &Arc<SideState>, metrics: &Metrics) {
    let info = networks.own.info();
    metrics.model_loaded(info.load);
    metrics.startup(StartPhase::Session, info.load);
    metrics.startup(StartPhase::WarmUp, info.warm_up);
    metrics.set_runtime(&info.runtime);
    for arm in networks.arms.iter().flat_map(Arms::names) {
        metrics.arms().declare(&arm.arm);
    }
    side.set_model(model_info(info));
    let engines: Vec<_> = networks.engines().cloned().collect();
    let pulses: Vec<_> = engines.iter().map(|e| Arc::clone(e.pulse())).collect();
    // All must live, and the longest run is the one that may be stuck.
    side.health.watch_engine(move || Pulse {
        alive: pulses.iter().all(|pulse| pulse.alive()),
        busy_since: pulses
            .iter()
            .filter_map(|pulse| pulse.busy_for())
            .max()
            .and_then(|busy| Instant::now().checked_sub(busy)),
    });
    side.set_warm_up(Arc::new(move || {
        let engines = engines.clone();
        Box::pin(async move {
            let mut took = Duration::ZERO;
            for engine in &engines {
                took += engine.warm_up().await?;
            }
            Ok(took)
        })
    }));
}

fn model_info(info: &EngineInfo) -> ModelInfo {
    ModelInfo {
        name: info.manifest.name.clone(),
        sha256: info.manifest.sha256.clone(),
        provider: info.provider.as_str().to_owned(),
        precision: info.precision.as_str().to_owned(),
        input_size: match info.manifest.resize {
            Resize::Static { width, height } => format!("{width}x{height}"),
            Resize::Dynamic { short, .. } => format!("shorter side {short}"),
        },
        load: info.load,
        warm_up: info.warm_up,
    }
}

/// Ends the process without its destructors, unless it has ended by then.
fn end_at_last() {
    let told = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(LAST_RESORT);
        tracing::error!("the process does not end by itself: aborting");
        std::process::abort()
    });
    if let Err(error) = told {
        tracing::error!(%error, "no thread is left to end the process: aborting");
        std::process::abort();
    }
}

/// Cancelled by the first SIGTERM or SIGINT; the second ends the process at once.
fn stop_on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let token = stop.clone();
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("signals cannot be caught: stopping will not drain");
        return stop;
    };
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if let Some(first) = first {
                if first.elapsed() < ONE_WISH {
                    continue;
                }
                tracing::warn!(signal = name, "a second signal: ending at once");
                // What shells report for a process that a signal ended.
                std::process::exit(if name == "SIGTERM" { 143 } else { 130 });
            }
            first = Some(Instant::now());
            tracing::info!(signal = name, "stopping");
            token.cancel();
        }
    });
    stop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn the_largest_file_fits_the_download_budget_unless_that_leaves_nothing_for_pixels() {
        let queue = |total| {
            let memory = split(total, 50 << 20, false);
            assert_eq!((memory.uploads, memory.answers), (0, 0));
            (memory.downloads, memory.pixels)
        };
        assert_eq!(queue(8 << 30), (1 << 30, 7 << 30));
        assert_eq!(queue(256 << 20), (50 << 20, 206 << 20));
        assert_eq!(queue(64 << 20), (32 << 20, 32 << 20));
        for total in [64 << 20, 256 << 20, 8 << 30] {
            let memory = split(total, 50 << 20, true);
            assert!(memory.pixels >= total / 3, "{memory:?}");
            assert!(memory.uploads > 0 && memory.answers > 0, "{memory:?}");
            let sum = memory.downloads + memory.uploads + memory.answers + memory.pixels;
            assert_eq!(sum, total, "{memory:?}");
        }
        // The example of docs/operations.md.
        let memory = split(3584 << 20, 50 << 20, true);
        let parts = [memory.downloads, memory.uploads, memory.answers];
        assert_eq!(parts.map(|bytes| bytes >> 20), [448, 448, 597]);
        assert_eq!((memory.pixels + (1 << 19)) >> 20, 2091);
        assert_eq!(queue(3584 << 20), (448 << 20, 3136 << 20));
    }

    #[test]
    fn two_failures_at_start_are_told_together() {
        let fail = |what: &str| Error::new(Code::ModelInvalid, what);
        let error = both::<(), ()>(Err(fail("no model")), Err(fail("no bucket"))).unwrap_err();
        assert!(error.message().contains("no model") && error.message().contains("no bucket"));
        assert_eq!(error.class(), Class::Fatal);
    }
}
