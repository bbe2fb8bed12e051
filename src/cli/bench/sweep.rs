//! Throughput, latency and memory by the number of photos at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::spread::percentile;
use super::{BenchArgs, Machine, cut_all};
use crate::cli::{Context, progress_bar};
use crate::job::Output;
use crate::pipeline::budget::Budget;
use crate::telemetry::process;

/// How often the budget is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

#[derive(Args)]
pub(super) struct SweepCmd {
    #[command(flatten)]
    common: BenchArgs,

    /// Photos at once, one step each
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,2,4,8,16,50",
        value_name = "N,…",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    concurrency: Vec<u16>,

    /// Photos in each step, the inputs again and again; 0 means twice the number at once, 20 at least
    #[arg(long, default_value_t = 0, value_name = "N")]
    photos: usize,
}

#[derive(Debug, Serialize)]
struct Step {
    at_once: usize,
    photos: usize,
    photos_per_second: f64,
    p50_seconds: f64,
    p95_seconds: f64,
    /// The most that was resident during the step; of the whole run where the system does not
    /// let a peak be forgotten.
    peak_resident_bytes: Option<u64>,
    /// The most that jobs held of the budget, looked at every 2 ms.
    budget_used_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    budget_total_bytes: u64,
    /// Whether each step's peak is its own.
    peaks_by_step: bool,
    steps: Vec<Step>,
}

impl SweepCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let cutter = self.common.cutter().await?;
        let photos = self.common.photos(&cutter)?;
        let bar = progress_bar(context, self.concurrency.len() as u64, "steps");
        let mut steps = Vec::new();
        let mut peaks_by_step = true;
        for at_once in self.concurrency.iter().map(|n| usize::from(*n)) {
            let count = match self.photos {
                0 => (2 * at_once).max(20),
                n => n,
            };
            peaks_by_step &= process::forget_peak();
            let watched = Watched::start(&cutter.memory);
            let begun = Instant::now();
            let files = photos.iter().cycle().take(count);
            let files = files.map(|photo| photo.file.clone());
            let took = cut_all(&cutter, files, at_once, &Output::default()).await?;
            steps.push(Step {
                at_once,
                photos: count,
                photos_per_second: count as f64 / begun.elapsed().as_secs_f64(),
                p50_seconds: percentile(&took, 0.5),
                p95_seconds: percentile(&took, 0.95),
                peak_resident_bytes: process::peak_resident(None),
                budget_used_bytes: watched.most(),
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        let report = Report {
            machine: Machine::new(cutter.engine.info()),
            budget_total_bytes: cutter.memory.total(),
            peaks_by_step,
            steps,
        };
        self.common.print(&report, print)
    }
}

/// Keeps the most that was ever taken of a budget.
struct Watched {
    most: Arc<AtomicU64>,
    watching: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn start(budget: &Budget) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let (seen, budget) = (Arc::clone(&most), budget.clone());
        let watching = tokio::spawn(async move {
            loop {
                seen.fetch_max(budget.used(), Ordering::Relaxed);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { most, watching }
    }

    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn print(report: &Report) {
    println!("{}", report.machine.line());
    println!(
        "budget for photos: {} MiB{}",
        report.budget_total_bytes >> 20,
        if report.peaks_by_step {
            ""
        } else {
            "; peaks are those of the run so far"
        }
    );
    println!(
        "{:>8} {:>7} {:>9} {:>8} {:>8} {:>10} {:>11}",
        "at once", "photos", "photos/s", "p50 s", "p95 s", "peak MiB", "budget MiB"
    );
    for step in &report.steps {
        println!(
            "{:>8} {:>7} {:>9.3} {:>8.2} {:>8.2} {:>10} {:>11}",
            step.at_once,
            step.photos,
            step.photos_per_second,
            step.p50_seconds,
            step.p95_seconds,
            step.peak_resident_bytes.unwrap_or_default() >> 20,
            step.budget_used_bytes >> 20
        );
    }
}
