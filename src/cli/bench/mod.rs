//! `cutout bench`: where the time goes, next to a bare run of the same network.
//!
//! Everything that is compared is measured in one process on one machine, the contenders in turns, so
//! that ratios survive a noisy machine. Every command prints a table, or JSON.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use crate::config::{LimitArgs, ModelArgs, cores};
use crate::engine::tensor::Tensor;
use crate::engine::{Engine, EngineInfo};
use crate::job::Output;
use crate::pipeline::cutout::{Charged, Cutter, Order};
use crate::pipeline::{decode, preprocess};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spent::Spent;
use crate::version::VERSION;

pub(super) mod child;
mod precision;
mod queue;
mod spread;
mod stages;
mod start;
mod sweep;
mod throughput;

#[derive(Args)]
pub struct BenchCmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Each photo through a bare run of the network, alone through the whole pipeline, and by stage
    Stages(stages::StagesCmd),
    /// Photos a second: a bare loop of the network against the whole pipeline, in turns
    Throughput(throughput::ThroughputCmd),
    /// Throughput, latency and memory by the number of photos at once
    Sweep(sweep::SweepCmd),
    /// Fresh workers: from exec to the side port, readiness and the first cut-out
    Start(start::StartCmd),
    /// From the queue to the durable cut-out, by a worker process, against a bare loop of the network
    Queue(queue::QueueCmd),
    /// How far mattes move in bf16, and what it gains; what `--precision auto` goes by
    Precision(precision::PrecisionCmd),
}

impl BenchCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        tokio::select! {
            ended = self.measure(context) => ended,
            // What was started and made is dropped, and so ended and removed.
            () = asked_to_stop() => Err(anyhow::anyhow!("interrupted")),
        }
    }

    async fn measure(&self, context: &Context) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Stages(cmd) => cmd.run(context).await,
            What::Throughput(cmd) => cmd.run(context).await,
            What::Sweep(cmd) => cmd.run(context).await,
            What::Start(cmd) => cmd.run(context).await,
            What::Queue(cmd) => cmd.run(context).await,
            What::Precision(cmd) => cmd.run(context).await,
        }
    }
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = tokio::signal::ctrl_c() => (),
            }
        }
        Err(_) => std::future::pending().await,
    }
}

/// What all of them ask for.
#[derive(Args, Clone)]
struct BenchArgs {
    /// Photos, or folders of photos
    #[arg(default_value = "samples", value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// How often, and how many at once.
#[derive(Args, Clone)]
struct Passes {
    /// How often all photos go through each pass
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Photos at once in the pass that measures throughput; 0 means as the worker does
    #[arg(long, default_value_t = 0, value_name = "N")]
    concurrency: usize,

    /// Leave the photo's own colours in the subject's edge
    #[arg(long)]
    no_decontaminate: bool,

    /// Let alpha follow the photo's own edges
    #[arg(long)]
    refine: bool,
}

impl Passes {
    fn output(&self) -> Output {
        Output {
            decontaminate: !self.no_decontaminate,
            refine: self.refine,
            ..Output::default()
        }
    }

    fn at_once(&self, limits: &LimitArgs) -> usize {
        match self.concurrency {
            0 => limits.max_jobs(),
            n => n,
        }
    }
}

/// The machine and what ran on it.
#[derive(Debug, Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    version: &'static str,
    model: String,
    provider: &'static str,
    precision: &'static str,
    runtime: String,
}

impl Machine {
    fn new(info: &EngineInfo) -> Self {
        Self {
            cpu: cpu_model(),
            cores: cores(),
            version: VERSION,
            model: info.manifest.name.clone(),
            provider: info.provider.as_str(),
            precision: info.precision.as_str(),
            runtime: info.runtime.clone(),
        }
    }

    /// For the first line of a table.
    fn line(&self) -> String {
        format!(
            "{} on {} in {} (ONNX Runtime {}), {} cores of {}",
            self.model, self.provider, self.precision, self.runtime, self.cores, self.cpu
        )
    }
}

fn cpu_model() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    name.and_then(|rest| rest.split_once(':')).map_or_else(
        || "an unknown CPU".to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// A photo in memory, as file and as the network's input.
struct Photo {
    path: PathBuf,
    file: Bytes,
    tensor: Tensor,
    size: (u32, u32),
}

impl BenchArgs {
    /// The pipeline without queue and store, as the worker has it.
    async fn cutter(&self) -> anyhow::Result<Cutter> {
        let engine = super::start_engine(&self.model, true).await?.engine;
        let memory = super::photo_bytes(&self.limits);
        Ok(super::cutter(engine, &self.limits, memory, Metrics::new()))
    }

    fn photos(&self, cutter: &Cutter) -> anyhow::Result<Vec<Photo>> {
        let manifest = &cutter.engine.info().manifest;
        let files = super::remove::photos(&self.inputs)?;
        anyhow::ensure!(!files.is_empty(), "no photos among the inputs");
        files
            .into_iter()
            .map(|path| {
                let file = Bytes::from(
                    std::fs::read(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?,
                );
                let header = decode::sniff(&file, &cutter.limits)?;
                let photo = decode::decode(&file, &header, &cutter.limits)?;
                let tensor = preprocess::to_tensor(&photo, &manifest.input, &manifest.resize)?;
                Ok(Photo {
                    size: (photo.width, photo.height),
                    path,
                    file,
                    tensor,
                })
            })
            .collect()
    }

    fn print<T: Serialize>(&self, report: &T, table: impl FnOnce(&T)) -> anyhow::Result<ExitCode> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(report)?);
        } else {
            table(report);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A bare run of the network; how long it took.
async fn bare(engine: &Engine, tensor: &Tensor) -> crate::error::Result<Duration> {
    // Another is always about to come in a loop, so nothing is given back in between. Where batches
    // are made, this one would be waited for.
    let _next = (engine.info().max_batch == 1).then(|| engine.announce());
    let inference = engine.infer(tensor.clone(), Box::new(()), Box::new(()));
    Ok(inference.await?.ran)
}

/// From a file's bytes to a finished file's bytes.
async fn cut(cutter: &Cutter, file: Bytes, output: &Output) -> crate::error::Result<Spent> {
    let file = Charged {
        bytes: file,
        paid: None,
    };
    let deadline = Instant::now() + Duration::from_secs(3600);
    let (_, spent) = cutter.cut_out(Order::new(file, output, deadline)).await?;
    Ok(spent)
}

/// All photos through the pipeline, `at_once`; how long each took.
async fn cut_all(
    cutter: &Cutter,
    files: impl IntoIterator<Item = Bytes>,
    at_once: usize,
    output: &Output,
) -> anyhow::Result<Vec<Duration>> {
    use futures::StreamExt;
    let mut running = futures::stream::iter(files)
        .map(|file| {
            let (cutter, output) = (cutter.clone(), output.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                cut(&cutter, file, &output).await.map(|_| begun.elapsed())
            })
        })
        .buffer_unordered(at_once);
    let mut took = Vec::new();
    while let Some(one) = running.next().await {
        took.push(one??);
    }
    Ok(took)
}
