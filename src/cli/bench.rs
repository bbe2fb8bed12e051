//! `cutout bench`: where the time of a photo goes, next to a bare run of the same network.
//!
//! Everything is measured in one process on one session, the passes interleaved (bare, one at a
//! time, many at a time, bare, …), so that ratios survive a noisy machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use serde::Serialize;

use super::{Context, progress_bar};
use crate::config::{LimitArgs, ModelArgs, cores};
use crate::engine::tensor::Tensor;
use crate::job::Output;
use crate::pipeline::cutout::{Charged, Cutter, Spent};
use crate::pipeline::decode::{self};
use crate::pipeline::preprocess;
use crate::telemetry::metrics::Metrics;

#[derive(Args)]
pub struct BenchCmd {
    /// Photos, or folders of photos
    #[arg(default_value = "samples", value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// How often each photo goes through each pass
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Photos at once in the pass that measures throughput; 0 means as the worker does
    #[arg(long, default_value_t = 0, value_name = "N")]
    concurrency: usize,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Seconds: the median and the extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(samples: impl IntoIterator<Item = Duration>) -> Self {
        let mut seconds: Vec<f64> = samples.into_iter().map(|d| d.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        match seconds.as_slice() {
            [] => Self::default(),
            all => Self {
                median: all[all.len() / 2],
                min: all[0],
                max: all[all.len() - 1],
            },
        }
    }
}

/// One photo's figures, seconds.
#[derive(Debug, Serialize)]
struct PhotoReport {
    photo: String,
    width: u32,
    height: u32,
    /// A bare `session.run` with a prepared tensor.
    bare: Spread,
    /// From the file's bytes to the finished file's bytes, alone.
    whole: Spread,
    decode: Spread,
    infer: Spread,
    compose: Spread,
    encode: Spread,
    wait: Spread,
    /// `whole` over `bare`, medians.
    ratio: f64,
}

/// All figures of one run.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    provider: String,
    threads: usize,
    cores: usize,
    rounds: u32,
    concurrency: usize,
    load_seconds: f64,
    warm_up_seconds: f64,
    photos: Vec<PhotoReport>,
    /// Photos a second of the bare loop.
    bare_rate: f64,
    /// Photos a second through the whole pipeline, `concurrency` at once.
    pipeline_rate: f64,
    /// `pipeline_rate` over `bare_rate`.
    throughput_ratio: f64,
    peak_resident_bytes: u64,
}

struct Photo {
    path: PathBuf,
    file: Bytes,
    tensor: Tensor,
    size: (u32, u32),
    bare: Vec<Duration>,
    whole: Vec<Duration>,
    spent: Vec<Spent>,
}

impl BenchCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let session = super::session_config(&self.model).await?;
        let threads = session.options.threads;
        let engine = crate::engine::Engine::start(session).await?;
        let memory = super::photo_bytes(&self.limits);
        let cutter = super::cutter(engine, &self.limits, memory, Metrics::new());
        let concurrency = match self.concurrency {
            0 => self.limits.max_jobs(),
            n => n,
        };
        let mut photos = self.load(&cutter)?;
        let passes = 3 * u64::from(self.rounds) * photos.len() as u64;
        let bar = progress_bar(context, passes, "bench");
        let (mut bare_time, mut pipeline_time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..self.rounds {
            let begun = Instant::now();
            for photo in &mut photos {
                photo.bare.push(
                    cutter
                        .engine
                        .infer(photo.tensor.clone(), Box::new(()), Box::new(()))
                        .await?
                        .ran,
                );
                bar.inc(1);
            }
            bare_time += begun.elapsed();

            for photo in &mut photos {
                let begun = Instant::now();
                let spent = cut(&cutter, photo.file.clone()).await?;
                photo.whole.push(begun.elapsed());
                photo.spent.push(spent);
                bar.inc(1);
            }

            let begun = Instant::now();
            let mut many = futures::stream::iter(photos.iter().map(|p| p.file.clone()))
                .map(|file| {
                    let cutter = cutter.clone();
                    tokio::spawn(async move { cut(&cutter, file).await })
                })
                .buffer_unordered(concurrency);
            while let Some(answer) = many.next().await {
                answer??;
                bar.inc(1);
            }
            pipeline_time += begun.elapsed();
        }
        bar.finish_and_clear();
        let runs = f64::from(self.rounds) * photos.len() as f64;
        let (bare_rate, pipeline_rate) = (
            runs / bare_time.as_secs_f64(),
            runs / pipeline_time.as_secs_f64(),
        );
        let info = cutter.engine.info();
        let report = Report {
            model: info.manifest.name.clone(),
            provider: info.provider.as_str().to_owned(),
            threads,
            cores: cores(),
            rounds: self.rounds,
            concurrency,
            load_seconds: info.load.as_secs_f64(),
            warm_up_seconds: info.warm_up.as_secs_f64(),
            photos: photos.into_iter().map(report).collect(),
            bare_rate,
            pipeline_rate,
            throughput_ratio: pipeline_rate / bare_rate,
            peak_resident_bytes: peak_resident(),
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn load(&self, cutter: &Cutter) -> anyhow::Result<Vec<Photo>> {
        let manifest = &cutter.engine.info().manifest;
        let files = super::remove::photos(&self.inputs)?;
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
                    bare: Vec::new(),
                    whole: Vec::new(),
                    spent: Vec::new(),
                })
            })
            .collect()
    }
}

async fn cut(cutter: &Cutter, file: Bytes) -> crate::error::Result<Spent> {
    let file = Charged {
        bytes: file,
        paid: None,
    };
    let deadline = Instant::now() + Duration::from_secs(3600);
    let (_, spent) = cutter
        .cut_out(file, None, &Output::default(), deadline)
        .await?;
    Ok(spent)
}

/// The most bytes that were ever resident (`VmHWM`); 0 on systems that do not tell.
fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

fn report(photo: Photo) -> PhotoReport {
    let stage = |of: fn(&Spent) -> Duration| Spread::of(photo.spent.iter().map(of));
    let (bare, whole) = (
        Spread::of(photo.bare.iter().copied()),
        Spread::of(photo.whole.iter().copied()),
    );
    PhotoReport {
        photo: photo.path.display().to_string(),
        width: photo.size.0,
        height: photo.size.1,
        bare,
        whole,
        decode: stage(|s| s.decode),
        infer: stage(|s| s.infer),
        compose: stage(|s| s.compose),
        encode: stage(|s| s.encode),
        wait: stage(|s| s.wait),
        ratio: whole.median / bare.median,
    }
}

fn print(report: &Report) {
    println!(
        "{} on {} ({} threads, {} cores): loaded in {:.2} s, warmed up in {:.2} s; {} rounds, medians in ms",
        report.model,
        report.provider,
        report.threads,
        report.cores,
        report.load_seconds,
        report.warm_up_seconds,
        report.rounds
    );
    println!(
        "{:<32} {:>11} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>6} {:>6}",
        "photo", "pixels", "bare", "whole", "decode", "infer", "compose", "encode", "wait", "ratio"
    );
    for p in &report.photos {
        let ms = |spread: Spread| spread.median * 1e3;
        println!(
            "{:<32} {:>11} {:>7.0} {:>7.0} {:>7.1} {:>7.0} {:>8.1} {:>7.1} {:>6.1} {:>6.3}",
            p.photo,
            format!("{}x{}", p.width, p.height),
            ms(p.bare),
            ms(p.whole),
            ms(p.decode),
            ms(p.infer),
            ms(p.compose),
            ms(p.encode),
            ms(p.wait),
            p.ratio
        );
    }
    println!(
        "throughput: bare loop {:.3}/s, pipeline with {} at once {:.3}/s: ratio {:.3}; peak memory {} MiB",
        report.bare_rate,
        report.concurrency,
        report.pipeline_rate,
        report.throughput_ratio,
        report.peak_resident_bytes >> 20
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_nothing_is_zero_and_of_three_has_its_middle() {
        assert_eq!(Spread::of([]), Spread::default());
        let spread = Spread::of([3, 1, 2].map(Duration::from_secs));
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
    }
}
