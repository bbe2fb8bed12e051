//! How far mattes move in bf16, and what it gains.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::spread::Spread;
use super::{BenchArgs, Machine};
use crate::cli::{Context, progress_bar, session_config};
use crate::engine::Engine;
use crate::engine::precision::{PrecisionChoice, within_bound};
use crate::engine::provider::{self, ProviderChoice};
use crate::engine::session::SessionConfig;
use crate::engine::tensor::Matte;
use crate::model::manifest::MeasuredError;
use crate::pipeline::matte;

#[derive(Args)]
pub(super) struct PrecisionCmd {
    #[command(flatten)]
    common: BenchArgs,

    /// How often each photo is run in each precision
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Debug, Serialize)]
struct PhotoReport {
    photo: String,
    /// Mean absolute difference of the matte, 0 to 1.
    mean: f64,
    /// Share of values that differ by more than 1/255.
    off: f64,
    /// Largest difference.
    worst: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    photos: Vec<PhotoReport>,
    /// What goes into the manifest as `[bf16]`: over all photos.
    bf16: MeasuredError,
    worst: f64,
    /// Whether `--precision auto` chooses bf16 by it.
    within_bound: bool,
    f32_seconds: Spread,
    bf16_seconds: Spread,
}

impl PrecisionCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let (exact, short) = (
            self.engine(PrecisionChoice::F32).await?,
            self.engine(PrecisionChoice::Bf16).await?,
        );
        let machine = Machine::new(short.info());
        let cutter = crate::cli::cutter(
            exact.clone(),
            &self.common.limits,
            0,
            crate::telemetry::metrics::Metrics::new(),
        );
        let photos = self.common.photos(&cutter)?;
        let bar = progress_bar(context, photos.len() as u64, "photos");
        let (mut exact_took, mut short_took) = (Vec::new(), Vec::new());
        let mut reports = Vec::new();
        for photo in &photos {
            let mut mattes = None;
            for _ in 0..self.rounds {
                let (a, took) = run(&exact, photo).await?;
                exact_took.push(took);
                let (b, took) = run(&short, photo).await?;
                short_took.push(took);
                mattes = Some((a, b));
            }
            let Some((a, b)) = mattes else { continue };
            reports.push(PhotoReport {
                photo: photo.path.display().to_string(),
                ..difference(&a, &b)
            });
            bar.inc(1);
        }
        bar.finish_and_clear();
        let count = reports.len() as f64;
        let bf16 = MeasuredError {
            mean: reports.iter().map(|photo| photo.mean).sum::<f64>() / count,
            off: reports.iter().map(|photo| photo.off).sum::<f64>() / count,
        };
        let report = Report {
            machine,
            worst: reports.iter().map(|photo| photo.worst).fold(0.0, f64::max),
            photos: reports,
            within_bound: within_bound(bf16),
            bf16,
            f32_seconds: Spread::of(exact_took),
            bf16_seconds: Spread::of(short_took),
        };
        self.common.print(&report, print)
    }

    async fn engine(&self, precision: PrecisionChoice) -> anyhow::Result<Engine> {
        let args = &self.common.model;
        let ort_library = match &args.ort_lib {
            Some(file) => file.clone(),
            None => provider::library(ProviderChoice::OpenVino, &args.home.find()?.join("lib")),
        };
        let config = SessionConfig {
            ort_library,
            provider: ProviderChoice::OpenVino,
            precision,
            ..session_config(args).await?
        };
        Ok(Engine::start(config).await?)
    }
}

async fn run(engine: &Engine, photo: &super::Photo) -> anyhow::Result<(Matte, Duration)> {
    let inference = engine.infer(photo.tensor.clone(), Box::new(()), Box::new(()));
    let inference = inference.await?;
    let mut answer = inference.matte;
    matte::finish(&mut answer, &engine.info().manifest.output)?;
    Ok((answer, inference.ran))
}

fn difference(a: &Matte, b: &Matte) -> PhotoReport {
    let count = a.values.len() as f64;
    let (mut sum, mut off, mut worst) = (0.0, 0u64, 0.0f64);
    for (a, b) in a.values.iter().zip(&b.values) {
        let difference = f64::from((a - b).abs());
        sum += difference;
        off += u64::from(difference > 1.0 / 255.0);
        worst = worst.max(difference);
    }
    PhotoReport {
        photo: String::new(),
        mean: sum / count,
        off: off as f64 / count,
        worst,
    }
}

fn print(report: &Report) {
    println!("{}; bf16 against f32", report.machine.line());
    println!(
        "{:<40} {:>12} {:>8} {:>12}",
        "photo", "mean /255", "off", "worst /255"
    );
    let line = |name: &str, mean: f64, off: f64, worst: f64| {
        println!(
            "{name:<40} {:>12.3} {:>7.2}% {:>12.1}",
            mean * 255.0,
            off * 100.0,
            worst * 255.0
        );
    };
    for photo in &report.photos {
        line(&photo.photo, photo.mean, photo.off, photo.worst);
    }
    line("all", report.bf16.mean, report.bf16.off, report.worst);
    println!(
        "a run takes {} s in f32, {} s in bf16: {:.1} times as fast",
        report.f32_seconds.text(1.0, 3),
        report.bf16_seconds.text(1.0, 3),
        report.f32_seconds.median / report.bf16_seconds.median
    );
    println!(
        "for the manifest ({}):\n\n[bf16]\nmean = {:.5}\noff = {:.4}",
        if report.within_bound {
            "within the bound, so --precision auto will choose it"
        } else {
            "beyond the bound, so only who asks for bf16 gets it"
        },
        report.bf16.mean,
        report.bf16.off
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_the_level() {
        let matte = |values: [f32; 4]| Matte {
            width: 2,
            height: 2,
            values: values.into(),
        };
        let found = difference(&matte([0.0, 0.5, 1.0, 1.0]), &matte([0.0, 0.5, 0.9, 0.999]));
        assert!((found.mean - 0.101 / 4.0).abs() < 1e-6);
        assert!((found.worst - 0.1).abs() < 1e-6);
        assert_eq!(found.off, 0.25);
    }
}
