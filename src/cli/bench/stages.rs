//! Each photo by stage, next to a bare run of the network.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::spread::Spread;
use super::{BenchArgs, Machine, Passes, Photo, bare, cut, cut_all};
use crate::cli::{Context, progress_bar};
use crate::telemetry::labels::Stage;
use crate::telemetry::process;
use crate::telemetry::spent::Spent;

#[derive(Args)]
pub(super) struct StagesCmd {
    #[command(flatten)]
    common: BenchArgs,

    #[command(flatten)]
    passes: Passes,
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
    #[serde(flatten)]
    machine: Machine,
    threads: usize,
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

/// A photo and what was measured with it.
struct Measured {
    photo: Photo,
    bare: Vec<Duration>,
    whole: Vec<Duration>,
    spent: Vec<Spent>,
}

impl StagesCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let cutter = self.common.cutter().await?;
        let at_once = self.passes.at_once(&self.common.limits);
        let output = self.passes.output();
        let mut photos: Vec<Measured> = self
            .common
            .photos(&cutter)?
            .into_iter()
            .map(|photo| Measured {
                photo,
                bare: Vec::new(),
                whole: Vec::new(),
                spent: Vec::new(),
            })
            .collect();
        let passes = 3 * u64::from(self.passes.rounds) * photos.len() as u64;
        let bar = progress_bar(context, passes, "bench");
        let (mut bare_time, mut pipeline_time) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..self.passes.rounds {
            let begun = Instant::now();
            for one in &mut photos {
                one.bare
                    .push(bare(&cutter.engine, &one.photo.tensor).await?);
                bar.inc(1);
            }
            bare_time += begun.elapsed();

            for one in &mut photos {
                let begun = Instant::now();
                let spent = cut(&cutter, one.photo.file.clone(), &output).await?;
                one.whole.push(begun.elapsed());
                one.spent.push(spent);
                bar.inc(1);
            }

            let begun = Instant::now();
            let files = photos.iter().map(|one| one.photo.file.clone());
            cut_all(&cutter, files, at_once, &output).await?;
            bar.inc(photos.len() as u64);
            pipeline_time += begun.elapsed();
        }
        bar.finish_and_clear();
        let runs = f64::from(self.passes.rounds) * photos.len() as f64;
        let (bare_rate, pipeline_rate) = (
            runs / bare_time.as_secs_f64(),
            runs / pipeline_time.as_secs_f64(),
        );
        let info = cutter.engine.info();
        let report = Report {
            machine: Machine::new(info),
            threads: self.common.model.threads(),
            rounds: self.passes.rounds,
            concurrency: at_once,
            load_seconds: info.load.as_secs_f64(),
            warm_up_seconds: info.warm_up.as_secs_f64(),
            photos: photos.into_iter().map(report).collect(),
            bare_rate,
            pipeline_rate,
            throughput_ratio: pipeline_rate / bare_rate,
            peak_resident_bytes: process::peak_resident(None).unwrap_or_default(),
        };
        self.common.print(&report, print)
    }
}

fn report(photo: Measured) -> PhotoReport {
    let stage = |stage| Spread::of(photo.spent.iter().map(|spent| spent.of(stage)));
    let (bare, whole) = (
        Spread::of(photo.bare.iter().copied()),
        Spread::of(photo.whole.iter().copied()),
    );
    PhotoReport {
        photo: photo.photo.path.display().to_string(),
        width: photo.photo.size.0,
        height: photo.photo.size.1,
        bare,
        whole,
        decode: stage(Stage::Decode),
        infer: stage(Stage::Infer),
        compose: stage(Stage::Compose),
        encode: stage(Stage::Encode),
        wait: stage(Stage::Wait),
        ratio: whole.median / bare.median,
    }
}

fn print(report: &Report) {
    println!(
        "{}, {} threads: loaded in {:.2} s, warmed up in {:.2} s; {} rounds, medians in ms",
        report.machine.line(),
        report.threads,
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
