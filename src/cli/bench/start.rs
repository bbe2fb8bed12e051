//! Fresh workers: from exec to the side port, readiness and the first cut-out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::BenchArgs;
use super::child::{self, Worker};
use super::spread::Spread;
use crate::cli::{Context, progress_bar};

/// How often the cut-out is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(1);

#[derive(Args)]
pub(super) struct StartCmd {
    #[command(flatten)]
    common: BenchArgs,

    /// Fresh processes of each kind
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    cpu: String,
    cores: usize,
    photo: PathBuf,
    runs: u32,
    /// Seconds from exec of a worker to the side port's first answer.
    side_port_seconds: Spread,
    /// … to readiness.
    ready_seconds: Spread,
    /// … to the durable cut-out of a photo that waited in the inbox.
    first_png_seconds: Spread,
    /// Seconds from exec of `cutout remove` to its end.
    remove_seconds: Spread,
    /// The worker's own account; phases overlap.
    phases: BTreeMap<String, Spread>,
}

#[derive(Default)]
struct Samples {
    side_port: Vec<Duration>,
    ready: Vec<Duration>,
    first_png: Vec<Duration>,
    remove: Vec<Duration>,
    phases: BTreeMap<String, Vec<f64>>,
}

impl StartCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let photos = crate::cli::remove::photos(&self.common.inputs)?;
        let photo = photos
            .into_iter()
            .next()
            .context("no photo among the inputs")?;
        let settings = child::settings(context);
        let bar = progress_bar(context, u64::from(self.runs), "starts");
        let mut samples = Samples::default();
        for _ in 0..self.runs {
            worker(&photo, &settings, &mut samples).await?;
            samples.remove.push(remove(&photo, &settings)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let report = Report {
            cpu: super::cpu_model(),
            cores: crate::config::cores(),
            photo,
            runs: self.runs,
            side_port_seconds: Spread::of(samples.side_port),
            ready_seconds: Spread::of(samples.ready),
            first_png_seconds: Spread::of(samples.first_png),
            remove_seconds: Spread::of(samples.remove),
            phases: samples
                .phases
                .into_iter()
                .map(|(phase, seconds)| (phase, Spread::of_numbers(seconds)))
                .collect(),
        };
        self.common.print(&report, print)
    }
}

type Settings = [(std::ffi::OsString, std::ffi::OsString)];

async fn worker(photo: &Path, settings: &Settings, samples: &mut Samples) -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let inbox = root.path().join("inbox");
    std::fs::create_dir(&inbox)?;
    let name = photo.file_name().context("the photo has no name")?;
    std::fs::copy(photo, inbox.join(name))?;
    let stem = Path::new(name).with_extension("cutout.png");
    let png = root.path().join("outbox").join(stem);
    let mut worker = Worker::spawn(settings.to_vec(), Some(root.path()))?;
    samples.side_port.push(worker.answers().await?);
    samples.ready.push(worker.ready().await?);
    // An output appears whole: it is linked into its place.
    while !png.exists() {
        worker.still_starts()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    samples.first_png.push(worker.spawned.elapsed());
    let metrics = worker.metrics().await?;
    for (phase, seconds) in child::by_label(&metrics, "cutout_startup_seconds", "phase") {
        samples.phases.entry(phase).or_default().push(seconds);
    }
    Ok(())
}

fn remove(photo: &Path, settings: &Settings) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir()?;
    let begun = Instant::now();
    let status = Command::new(std::env::current_exe()?)
        .arg("remove")
        .arg(photo)
        .arg("-o")
        .arg(dir.path().join("out.png"))
        .envs(settings.iter().cloned())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let took = begun.elapsed();
    anyhow::ensure!(
        status.success(),
        "`cutout remove {}` failed",
        photo.display()
    );
    Ok(took)
}

fn print(report: &Report) {
    println!(
        "{} fresh processes, {} cores of {}, {}: milliseconds since exec, median (min–max)",
        report.runs,
        report.cores,
        report.cpu,
        report.photo.display()
    );
    for (what, spread) in [
        ("side port answers", report.side_port_seconds),
        ("ready", report.ready_seconds),
        ("first cut-out durable", report.first_png_seconds),
        ("`cutout remove` ends", report.remove_seconds),
    ] {
        println!("{what:<24} {:>24}", spread.text(1e3, 0));
    }
    println!("the worker's own account (phases overlap):");
    for (phase, spread) in &report.phases {
        println!("  {phase:<22} {:>24}", spread.text(1e3, 0));
    }
}
