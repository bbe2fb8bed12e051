//! Photos a second: a bare loop of the network against the whole pipeline, in turns.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::spread::Spread;
use super::{BenchArgs, Machine, Passes, bare, cut_all};
use crate::cli::{Context, progress_bar};
use crate::telemetry::process;

#[derive(Args)]
pub(super) struct ThroughputCmd {
    #[command(flatten)]
    common: BenchArgs,

    #[command(flatten)]
    passes: Passes,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    photos: usize,
    megapixels: f64,
    concurrency: usize,
    rounds: u32,
    /// Photos a second of the bare loop, over the rounds.
    bare_rate: Spread,
    /// Photos a second through the pipeline, from file to file.
    pipeline_rate: Spread,
    /// Of each round: the pipeline's rate over the bare loop's.
    ratio: Spread,
    /// Core seconds a photo. On a CPU both use the same cores: 1 is their ratio's upper bound.
    bare_core_seconds: Spread,
    pipeline_core_seconds: Spread,
    peak_resident_bytes: Option<u64>,
}

/// A pass over all photos.
struct Pass {
    rate: f64,
    core_seconds: f64,
}

impl Pass {
    fn new(photos: usize, took: Duration, core: Option<Duration>) -> Self {
        Self {
            rate: photos as f64 / took.as_secs_f64(),
            core_seconds: core.unwrap_or_default().as_secs_f64() / photos as f64,
        }
    }
}

impl ThroughputCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let cutter = self.common.cutter().await?;
        let at_once = self.passes.at_once(&self.common.limits);
        let output = self.passes.output();
        let photos = self.common.photos(&cutter)?;
        let bar = progress_bar(context, 2 * u64::from(self.passes.rounds), "rounds");
        let (mut bares, mut wholes) = (Vec::new(), Vec::new());
        for _ in 0..self.passes.rounds {
            let (begun, core) = (Instant::now(), process::core_time());
            for photo in &photos {
                bare(&cutter.engine, &photo.tensor).await?;
            }
            bares.push(Pass::new(photos.len(), begun.elapsed(), since(core)));
            bar.inc(1);
            let (begun, core) = (Instant::now(), process::core_time());
            let files = photos.iter().map(|photo| photo.file.clone());
            cut_all(&cutter, files, at_once, &output).await?;
            wholes.push(Pass::new(photos.len(), begun.elapsed(), since(core)));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let of = |passes: &[Pass], what: fn(&Pass) -> f64| {
            Spread::of_numbers(passes.iter().map(what).collect::<Vec<_>>())
        };
        let ratios = bares
            .iter()
            .zip(&wholes)
            .map(|(bare, whole)| whole.rate / bare.rate);
        let pixels = photos
            .iter()
            .map(|photo| f64::from(photo.size.0) * f64::from(photo.size.1));
        let report = Report {
            machine: Machine::new(cutter.engine.info()),
            photos: photos.len(),
            megapixels: pixels.sum::<f64>() / 1e6,
            concurrency: at_once,
            rounds: self.passes.rounds,
            ratio: Spread::of_numbers(ratios),
            bare_rate: of(&bares, |pass| pass.rate),
            pipeline_rate: of(&wholes, |pass| pass.rate),
            bare_core_seconds: of(&bares, |pass| pass.core_seconds),
            pipeline_core_seconds: of(&wholes, |pass| pass.core_seconds),
            peak_resident_bytes: process::peak_resident(None),
        };
        self.common.print(&report, print)
    }
}

fn since(core: Option<Duration>) -> Option<Duration> {
    process::core_time()?.checked_sub(core?)
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    println!(
        "{} photos, {:.0} megapixels, {} at once, {} rounds: median (min–max)",
        report.photos, report.megapixels, report.concurrency, report.rounds
    );
    println!("{:<12} {:>24} {:>24}", "", "photos/s", "core s/photo");
    for (name, rate, core) in [
        ("bare loop", report.bare_rate, report.bare_core_seconds),
        (
            "pipeline",
            report.pipeline_rate,
            report.pipeline_core_seconds,
        ),
    ] {
        println!(
            "{name:<12} {:>24} {:>24}",
            rate.text(1.0, 3),
            core.text(1.0, 3)
        );
    }
    println!(
        "ratio {}; peak memory {} MiB",
        report.ratio.text(1.0, 3),
        report.peak_resident_bytes.unwrap_or_default() >> 20
    );
}
