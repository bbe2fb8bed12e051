//! `cutout compare`: two networks, or mattes that are there already, side by side on many photos.
//!
//! Each network answers from a process of its own, one at a time and in turns, so that neither its time nor its
//! memory has anything of the other's in it. What is done is kept photo by photo; a killed run goes on where it was.
//! `docs/compare.md` says what the report shows.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use clap::parser::ValueSource;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio_util::task::AbortOnDropHandle;

use super::eval::pairs::Index;
use super::plane::{self, Plane, Reader};
use super::{Context, progress_bar};
use crate::config::{LimitArgs, ModelArgs, cores};
use crate::error::{Code, Error, Result};
use crate::evaluate::agreement::Agreement;
use crate::evaluate::{Pair, Scores};
use crate::pipeline::cpu::CpuPool;
use crate::version;
use arm::{Arm, Network, Trouble};
use photos::Photo;
use pictures::Pictures;
use row::{Compared, Failed, Key, Outcome, Row};
use state::{ArmSettings, Header, Settings, State};
use stats::{EstimateJson, Statistics};

mod arm;
mod photos;
mod pictures;
mod report;
mod row;
pub(super) mod serve;
mod state;
mod stats;
mod wire;

/// What the two are called where there is room for a letter only.
const LETTERS: [&str; 2] = ["A", "B"];

#[derive(Args)]
// The networks are A and B.
#[command(mut_arg("model", |arg| arg.hide(true)))]
pub struct CompareCmd {
    /// A network (a known name, `cutout model list`, or the path of a manifest), or a folder of mattes that are there
    /// already; ./NAME is the folder where a network has the same name
    #[arg(value_name = "A")]
    a: PathBuf,

    /// What it is compared with, likewise
    #[arg(value_name = "B")]
    b: PathBuf,

    /// Photos, or folders of photos; mattes and masks have the same names but for the extension
    #[arg(required = true, value_name = "IMAGES")]
    images: Vec<PathBuf>,

    /// The report, a single file for the browser. What is done is kept beside it, in FILE.jsonl: the same command
    /// goes on from there
    #[arg(long, value_name = "FILE")]
    report: PathBuf,

    /// True masks, to say which of the two is nearer to them
    #[arg(long, value_name = "FOLDER")]
    masks: Option<PathBuf>,

    /// Longest side of the report's pictures, pixels
    #[arg(long, default_value_t = 320, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(64..=1024))]
    thumbnail: u32,

    /// Forget what was done for this report and begin anew
    #[arg(long)]
    restart: bool,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What every photo needs.
struct Bench {
    arms: [Arm; 2],
    /// What messages call them.
    labels: [String; 2],
    masks: Option<Index>,
    reader: Reader,
    thumbnail: u32,
    /// Photos that were compared before.
    done: HashSet<Key>,
}

/// What came of one photo.
enum Ended {
    /// It is in the state already.
    Before(Key),
    Now(Row, Option<Pictures>),
}

impl CompareCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let typed = context
            .matches
            .subcommand_matches("compare")
            .and_then(|matches| matches.value_source("model"));
        anyhow::ensure!(
            typed != Some(ValueSource::CommandLine),
            "the networks are named first, as A and B: leave --model out"
        );
        anyhow::ensure!(
            !self.report.is_dir(),
            "--report {} is a folder: name a file, such as report.html",
            self.report.display()
        );
        let folders = [&self.a, &self.b].map(|arm| self.is_folder(arm));
        let by_stem = self.masks.is_some() || folders.contains(&true);
        let photos = photos::photos(&self.images, by_stem)?;
        let masks = self.masks.as_deref().map(Index::of).transpose()?;
        let settings = super::bench::child::settings(context);
        let arms = [
            self.arm(&self.a, folders[0], &settings).await?,
            self.arm(&self.b, folders[1], &settings).await?,
        ];
        let mut state = State::open(&self.report, self.header(&arms), self.restart)?;
        let bench = Arc::new(Bench {
            labels: [0, 1].map(|i| format!("{} ({})", LETTERS[i], name(&arms[i]))),
            arms,
            masks,
            reader: Reader::new(CpuPool::new(cores()), &self.limits),
            thumbnail: self.thumbnail,
            done: state.done().cloned().collect(),
        });
        let (order, before) = self.compare(context, &bench, photos, &mut state).await?;
        let written = report::write(&self.report, &state, &order)?;
        print!("{}", summary(&state.header().settings, &written.statistics));
        eprintln!("{}", self.told(&written, before));
        if written.failures > 0 {
            eprintln!(
                "{} could not be compared; the report names them, the figures are without them",
                written.failures
            );
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs what is not done yet; the photos in their order, and how many were done before.
    async fn compare(
        &self,
        context: &Context,
        bench: &Arc<Bench>,
        photos: Vec<Photo>,
        state: &mut State,
    ) -> anyhow::Result<(Vec<Key>, usize)> {
        // Beside another one a network would be timed with half of the machine.
        let at_once = match bench.arms.iter().any(|arm| arm.network().is_some()) {
            true => 1,
            false => cores(),
        };
        let bar = progress_bar(context, photos.len() as u64, "compare");
        let (mut order, mut before) = (Vec::with_capacity(photos.len()), 0);
        let mut running = futures::stream::iter(photos.into_iter().enumerate())
            .map(|(turn, photo)| {
                let bench = Arc::clone(bench);
                AbortOnDropHandle::new(tokio::spawn(async move { bench.photo(turn, &photo).await }))
            })
            .buffered(at_once);
        while let Some(ended) = running.next().await {
            let ended = ended.context("a photo's task ended early")?;
            let ended = ended.inspect_err(|_| {
                let state = state.path().display();
                bar.suspend(|| {
                    eprintln!("what is done is kept in {state}; the same command goes on")
                });
            })?;
            match ended {
                Ended::Before(key) => {
                    before += 1;
                    order.push(key);
                }
                Ended::Now(row, pictures) => {
                    if let Outcome::Failed(Failed { code, message }) = &row.outcome {
                        bar.suspend(|| eprintln!("{}: {message} ({code})", row.key.name));
                    }
                    order.push(row.key.clone());
                    state.keep(row, pictures.as_ref())?;
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((order, before))
    }

    /// A folder's path names a folder; a name alone may be a network's that somebody called a folder after.
    fn is_folder(&self, arm: &Path) -> bool {
        let bare = arm.to_str().filter(|text| !text.contains('/'));
        arm.is_dir() && bare.is_none_or(|name| self.network(name).manifest().is_err())
    }

    fn network(&self, name: &str) -> ModelArgs {
        ModelArgs {
            model: Some(name.to_owned()),
            ..self.model.clone()
        }
    }

    async fn arm(
        &self,
        arm: &Path,
        is_folder: bool,
        settings: &[(OsString, OsString)],
    ) -> anyhow::Result<Arm> {
        if is_folder {
            return Ok(Arm::Folder(Index::of(arm)?));
        }
        let mut settings = settings.to_vec();
        settings.push(("CUTOUT_MODEL".into(), arm.into()));
        let network = Network::start(settings, self.limits.job_timeout).await?;
        Ok(Arm::Network(Box::new(network)))
    }

    fn header(&self, arms: &[Arm; 2]) -> Header {
        let [a, b] = [0, 1].map(|i| match &arms[i] {
            Arm::Network(network) => ArmSettings::Network(network.ready.network.clone()),
            Arm::Folder(folder) => ArmSettings::Folder(folder.folder().display().to_string()),
        });
        Header {
            settings: Settings {
                version: version::of_program(),
                a,
                b,
                masks: self.masks.is_some(),
                thumbnail: self.thumbnail,
                max_pixels: self.limits.max_pixels,
                max_file_bytes: self.limits.max_file_bytes.as_u64(),
            },
            begun: jiff::Timestamp::now().to_string(),
            starts: [0, 1].map(|i| Some(arms[i].network()?.ready.start.clone())),
        }
    }

    fn told(&self, written: &report::Written, before: usize) -> String {
        let photos = written.statistics.photos;
        let each = written.bytes / (photos as u64).max(1) / 1000;
        format!(
            "{photos} photos compared, {before} of all before; {} has {:.1} MB, {each} kB a photo",
            self.report.display(),
            written.bytes as f64 / 1e6
        )
    }
}

fn name(arm: &Arm) -> String {
    match arm {
        Arm::Network(network) => network.ready.network.name.clone(),
        Arm::Folder(folder) => folder.folder().display().to_string(),
    }
}

impl Bench {
    /// One photo from its file to its row. `turn` says who is first. The error is one that ends the comparison.
    async fn photo(&self, turn: usize, photo: &Photo) -> Result<Ended> {
        let stem = photo.stem();
        let mut key = Key {
            name: photo.name.clone(),
            photo: None,
            mattes: [None, None],
            mask: None,
        };
        let failed = |key: Key, failed: Failed| {
            let outcome = Outcome::Failed(failed);
            Ok(Ended::Now(Row { key, outcome }, None))
        };
        let file = match self.reader.file(&photo.path).await {
            Ok(file) => file,
            Err(error) => return failed(key, Failed::new(&error)),
        };
        key.photo = Some(self.digest(&file).await?);
        let mut there: [Option<(PathBuf, Bytes)>; 2] = [None, None];
        for (i, arm) in self.arms.iter().enumerate() {
            let Some(path) = arm.file(&stem) else {
                continue;
            };
            match self.named(path).await {
                Ok((path, bytes)) => {
                    key.mattes[i] = Some(self.digest(&bytes).await?);
                    there[i] = Some((path, bytes));
                }
                Err(error) => {
                    // The matte may be there next time.
                    key.photo = None;
                    return failed(key, Failed::of(&self.labels[i], &error));
                }
            }
        }
        let mut mask = None;
        if let Some(masks) = &self.masks {
            match self.named(arm::find(masks, &stem, "mask")).await {
                Ok((path, bytes)) => {
                    key.mask = Some(self.digest(&bytes).await?);
                    mask = Some((path, bytes));
                }
                Err(error) => {
                    key.photo = None;
                    return failed(key, Failed::new(&error));
                }
            }
        }
        if self.done.contains(&key) {
            return Ok(Ended::Before(key));
        }
        match self.compared(turn, photo, file, there, mask).await {
            Ok((compared, pictures)) => {
                let outcome = Outcome::Compared(Box::new(compared));
                Ok(Ended::Now(Row { key, outcome }, Some(pictures)))
            }
            Err(Stopped::Photo(why)) => failed(key, why),
            Err(Stopped::All(error)) => Err(error),
        }
    }

    async fn compared(
        &self,
        turn: usize,
        photo: &Photo,
        file: Bytes,
        there: [Option<(PathBuf, Bytes)>; 2],
        mask: Option<(PathBuf, Bytes)>,
    ) -> Result<(Compared, Pictures), Stopped> {
        let size = self.reader.size(&file)?;
        let mask = match mask {
            Some((path, bytes)) => {
                let mask = self.reader.plane_in(bytes, &path).await?;
                plane::check_sizes(size, &mask, &photo.path)?;
                Some(mask)
            }
            None => None,
        };
        let mut mattes = [None, None];
        let mut runs = [None, None];
        // Whoever is second finds the machine warm, or tired.
        for i in [turn % 2, (turn + 1) % 2] {
            let of_arm = |error: Error| Stopped::Photo(Failed::of(&self.labels[i], &error));
            let plane = match (&self.arms[i], &there[i]) {
                (Arm::Network(network), _) => match network.matte(file.clone()).await {
                    Ok((plane, run)) => {
                        runs[i] = Some(run);
                        plane
                    }
                    Err(Trouble::Photo(error)) => return Err(of_arm(error)),
                    Err(Trouble::All(error)) => return Err(Stopped::All(error)),
                },
                (Arm::Folder(_), Some((path, bytes))) => {
                    let plane = self.reader.plane_in(bytes.clone(), path).await;
                    let plane = plane.map_err(of_arm)?;
                    fits(&plane, size, path).map_err(of_arm)?;
                    plane
                }
                (Arm::Folder(_), None) => unreachable!("its matte was looked up"),
            };
            mattes[i] = Some(plane);
        }
        let [Some(a), Some(b)] = mattes else {
            unreachable!("both had their turn");
        };
        let photo = self.reader.photo(file).await?;
        let side = self.thumbnail;
        let measuring = self.reader.cpu.run((), move || {
            let pair = Pair::new(a.width, a.height, &a.levels, &b.levels)?;
            let agreement = Agreement::of(&pair);
            let scores = |matte: &Plane| {
                let Some(mask) = &mask else { return Ok(None) };
                let pair = Pair::new(mask.width, mask.height, &matte.levels, &mask.levels)?;
                Ok::<_, Error>(Some(Scores::of(&pair)))
            };
            let scores = [scores(&a)?, scores(&b)?];
            let compared = Compared::new(size, &agreement, runs, scores);
            Ok((compared, Pictures::of(photo, [a, b], side)?))
        });
        Ok(measuring.await?.0)
    }

    async fn named(&self, path: Result<PathBuf>) -> Result<(PathBuf, Bytes)> {
        let path = path?;
        let bytes = self.reader.file(&path).await?;
        Ok((path, bytes))
    }

    /// SHA-256, hex.
    async fn digest(&self, file: &Bytes) -> Result<String> {
        let file = file.clone();
        let digest = move || Ok(hex::encode(Sha256::digest(&file)));
        Ok(self.reader.cpu.run((), digest).await?.0)
    }
}

/// Why a photo has no row of its own, or nothing goes on.
enum Stopped {
    Photo(Failed),
    All(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Photo(Failed::new(&error))
    }
}

/// A matte that was there already must be of the photo's size.
fn fits(matte: &Plane, (width, height): (u32, u32), path: &Path) -> Result<()> {
    if (matte.width, matte.height) == (width, height) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidJob,
        format!(
            "{} has {}×{} pixels and the photo {width}×{height}: they must be of one size, once the photo's EXIF \
             orientation is applied",
            path.display(),
            matte.width,
            matte.height
        ),
    ))
}

/// The most important figures, as a table for the terminal.
fn summary(settings: &Settings, statistics: &Statistics) -> String {
    use std::fmt::Write as _;
    let cell = |estimate: EstimateJson, scale: f64, decimals: usize| {
        let number = |value: f64| format!("{:.decimals$}", value * scale);
        match estimate.interval {
            Some((low, high)) => format!(
                "{} ({} to {})",
                number(estimate.value),
                number(low),
                number(high)
            ),
            None => number(estimate.value),
        }
    };
    let [a, b] = [&settings.a, &settings.b].map(ArmSettings::name);
    let mut table = format!(
        "A is {a}, B is {b}\n\n| A and B | mean | median | 95 % are better than |\n|---|---|---|---|\n"
    );
    for named in &statistics.agreement {
        let (title, scale, decimals) = match named.key {
            "difference" => ("mean difference, %", 100.0, 3),
            "changed" => ("pixels on the other side, %", 100.0, 3),
            "iou" => ("IoU", 1.0, 4),
            _ => ("boundary IoU", 1.0, 4),
        };
        let spread = &named.spread;
        let cells = [spread.mean, spread.median, spread.p95].map(|one| cell(one, scale, decimals));
        let _ = writeln!(table, "| {title} | {} |", cells.join(" | "));
    }
    if statistics.times.iter().any(|sides| sides.less.is_some()) {
        table.push_str("\n| time, ms | A | B | B less A | B by A |\n|---|---|---|---|---|\n");
    }
    for sides in &statistics.times {
        let (Some(a), Some(b), Some(less), Some(ratio)) =
            (&sides.a, &sides.b, &sides.less, sides.ratio)
        else {
            continue;
        };
        let title = match sides.key {
            "infer_ms" => "the network alone",
            _ => "from file to matte",
        };
        let _ = writeln!(
            table,
            "| {title} | {} | {} | {} | {} |",
            cell(a.mean, 1.0, 1),
            cell(b.mean, 1.0, 1),
            cell(less.mean, 1.0, 1),
            cell(ratio, 1.0, 3)
        );
    }
    for measured in statistics
        .measures
        .iter()
        .filter(|one| one.key == "mae" || one.key == "s")
    {
        let _ = writeln!(
            table,
            "\n{} next to the true masks: A {}, B {}, B less A {}; A better on {}, B on {} photos",
            measured.title,
            cell(measured.a, 1.0, 4),
            cell(measured.b, 1.0, 4),
            cell(measured.less, 1.0, 4),
            measured.a_wins,
            measured.b_wins
        );
    }
    table
}
