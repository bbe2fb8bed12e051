//! `cutout eval`: how good networks, or mattes that are there already, are next to true masks.
//!
//! A network goes the way that jobs go, from the photo's file to the matte at its full size; what is
//! measured is what would be written. `docs/evaluation.md` says what the measures mean.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use clap::parser::ValueSource;
use futures::StreamExt;
use indicatif::ProgressBar;
use tokio_util::task::AbortOnDropHandle;

use super::plane::{self, Plane, Reader};
use super::{Context, progress_bar};
use crate::config::{LimitArgs, ModelArgs, cores};
use crate::error::{Error, Result};
use crate::evaluate::{Pair, Scores};
use crate::pipeline::cpu::CpuPool;
use crate::pipeline::cutout::Cutter;
use crate::telemetry::metrics::Metrics;
use pairs::Case;
use report::{Contender, Failed, Measured, Report};

pub(super) mod pairs;
mod report;

#[derive(Args)]
// Several networks are compared with each other; everywhere else there is one.
#[command(mut_arg("model", |arg| arg.action(clap::ArgAction::Append).help(
    "A network: a known name (`cutout model list`) or the path of a manifest; repeat it to compare several [default: isnet-medium]"
)))]
pub struct EvalCmd {
    /// Photos and their true masks, which have the same names but for the extension; with --predictions the
    /// masks alone
    #[arg(required = true, num_args = 1..=2, value_name = "FOLDER")]
    folders: Vec<PathBuf>,

    /// Mattes that are there already, to be measured instead of a network's; repeat it to compare several
    #[arg(long, value_name = "FOLDER")]
    predictions: Vec<PathBuf>,

    /// Write everything, each photo's values included, as JSON; `-` for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What is measured, one after the other.
enum Source {
    /// A network; started when its turn comes, so that one at a time is in memory.
    Network(Box<ModelArgs>),
    Folder(PathBuf),
}

/// Where the mattes of one contender come from.
#[derive(Clone)]
enum Mattes {
    Network(Cutter),
    Files,
}

impl EvalCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let sources = self.sources(context)?;
        let (images, masks) = match self.folders.as_slice() {
            [masks] if !self.predictions.is_empty() => (None, masks),
            [images, masks] if self.predictions.is_empty() => (Some(images), masks),
            [_, _, ..] => {
                anyhow::bail!("--predictions takes the place of the photos: name the masks alone")
            }
            _ => anyhow::bail!(
                "name two folders, the photos and their masks; or --predictions and the masks"
            ),
        };
        let masks = pairs::Index::of(masks)?;
        let mut report = Report::new(masks.folder());
        let mut bar = None;
        for source in &sources {
            let matched = match (source, images) {
                (Source::Folder(folder), _) => masks.predictions(&pairs::Index::of(folder)?),
                (Source::Network(_), Some(images)) => masks.photos(&pairs::Index::of(images)?),
                (Source::Network(_), None) => anyhow::bail!("a network needs photos"),
            };
            let total = matched.cases.len() * sources.len();
            let bar = bar.get_or_insert_with(|| progress_bar(context, total as u64, "measure"));
            let contender = self.contender(source, matched, bar).await?;
            report.contenders.push(contender);
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        report.compare();
        self.tell(&report)
    }

    fn sources(&self, context: &Context) -> anyhow::Result<Vec<Source>> {
        let matches = context.matches.subcommand_matches("eval");
        let typed = |id| {
            matches.and_then(|matches| matches.value_source(id)) == Some(ValueSource::CommandLine)
        };
        if !self.predictions.is_empty() {
            anyhow::ensure!(
                !typed("model"),
                "--predictions measures mattes that are there already, without a network: leave --model out"
            );
            return Ok(self
                .predictions
                .iter()
                .cloned()
                .map(Source::Folder)
                .collect());
        }
        let names: Vec<String> = matches
            .and_then(|matches| matches.get_many::<String>("model"))
            .map(|names| names.cloned().collect())
            .unwrap_or_default();
        let network = |model: Option<String>| {
            let args = ModelArgs {
                model,
                ..self.model.clone()
            };
            Source::Network(Box::new(args))
        };
        if names.is_empty() {
            return Ok(vec![network(None)]);
        }
        Ok(names.into_iter().map(|name| network(Some(name))).collect())
    }

    async fn contender(
        &self,
        source: &Source,
        matched: pairs::Matched,
        bar: &ProgressBar,
    ) -> anyhow::Result<Contender> {
        let (mut contender, mattes, cpu) = match source {
            Source::Network(args) => {
                let engine = super::start_engine(args, true).await?.engine;
                let contender = Contender::network(engine.info());
                let memory = super::photo_bytes(&self.limits);
                let cutter = super::cutter(engine, &self.limits, memory, Metrics::new());
                let cpu = cutter.cpu.clone();
                (contender, Mattes::Network(cutter), cpu)
            }
            Source::Folder(folder) => {
                let contender = Contender::folder(folder);
                (contender, Mattes::Files, CpuPool::new(cores()))
            }
        };
        bar.set_message(contender.name.clone());
        for missing in matched.missing {
            contender.fail(missing, bar);
        }
        if matched.unused > 0 {
            bar.suspend(|| {
                eprintln!(
                    "{} of the masks belong to no photo and are left out",
                    matched.unused
                )
            });
        }
        let reader = Arc::new(Reader::new(cpu, &self.limits));
        let begun = Instant::now();
        let mut measured = futures::stream::iter(matched.cases)
            .map(|case| {
                let (mattes, reader) = (mattes.clone(), Arc::clone(&reader));
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let answer = measure(&mattes, &reader, &case).await;
                    (case.name, answer)
                }))
            })
            .buffer_unordered(self.limits.max_jobs());
        while let Some(ended) = measured.next().await {
            let (name, answer) = ended.context("a photo's task ended early")?;
            bar.inc(1);
            match answer {
                Ok(measured) => contender.add(name, measured),
                Err(error) => contender.fail(Failed::new(name, &error), bar),
            }
        }
        contender.finish(begun.elapsed());
        Ok(contender)
    }

    fn tell(&self, report: &Report) -> anyhow::Result<ExitCode> {
        let json = || serde_json::to_string_pretty(&report.json()).map(|json| json + "\n");
        match &self.json {
            Some(file) if file.as_os_str() == "-" => print!("{}", json()?),
            Some(file) => {
                std::fs::write(file, json()?)
                    .with_context(|| format!("cannot write {}", file.display()))?;
                print!("{}", report.markdown());
            }
            None => print!("{}", report.markdown()),
        }
        let failures = report.failures();
        if failures > 0 {
            eprintln!("{failures} could not be measured; the means are without them");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One photo: its matte next to its mask.
async fn measure(mattes: &Mattes, reader: &Reader, case: &Case) -> Result<Measured> {
    let mask = reader.plane(&case.mask).await?;
    let matte = match mattes {
        Mattes::Files => reader.plane(&case.input).await?,
        Mattes::Network(cutter) => reader.matte(cutter, &case.input, &mask).await?,
    };
    plane::check_size(&matte, &mask, &case.input)?;
    let measured = reader.cpu.run((), move || {
        let Plane { width, height, .. } = mask;
        let pair = Pair::new(width, height, &matte.levels, &mask.levels)?;
        Ok(Measured {
            width,
            height,
            scores: Scores::of(&pair),
        })
    });
    Ok(measured.await?.0)
}

impl Failed {
    fn new(name: String, error: &Error) -> Self {
        Self {
            name,
            code: error.code(),
            message: error.chain().to_string(),
        }
    }
}
