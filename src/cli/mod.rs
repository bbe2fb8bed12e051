//! The command line: one file for each command. The only place that knows every module.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::config::{self, CommonArgs, LimitArgs, ModelArgs, TraceArgs, cores};
use crate::effect::Effect;
use crate::engine::Engine;
use crate::engine::session::SessionConfig;
use crate::error::{Code, Error};
use crate::job::{
    ColourProfile, Depth, Fit, Format, KeepMetadata, Kind, Output, Padding, Shadow, Size, Threshold,
};
use crate::model::{self, manifest::Manifest};
use crate::pipeline::budget::Budget;
use crate::pipeline::cpu::CpuPool;
use crate::pipeline::cutout::Cutter;
use crate::pipeline::decode::Limits;
use crate::pipeline::presence::Presence;
use crate::side::memory::MemoryReading;
use crate::telemetry::logs::{self, LogConfig};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::version;

mod bench;
mod compare;
mod config_cmd;
mod dlq;
mod door;
mod ends;
mod eval;
mod health_cmd;
mod model_cmd;
mod plane;
mod publish;
mod remove;
mod trials;
mod watch;
mod worker;

/// Removes the background from product and pet photos at shop scale.
#[derive(Parser)]
#[command(name = "cutout", version = version::of_program(), max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Pull jobs, cut out, write PNGs, publish results
    #[command(after_help = worker::NOTES)]
    Worker(Box<worker::WorkerCmd>),
    /// Publish jobs, and wait for their results if asked to
    Publish(Box<publish::PublishCmd>),
    /// List, replay and drop dead letters
    Dlq(dlq::DlqCmd),
    /// Cut out photos here and now, without any queue
    Remove(Box<remove::RemoveCmd>),
    /// List, describe, fetch and check networks
    Model(model_cmd::ModelCmd),
    /// Print the worker's effective configuration and where each value comes from
    Config(Box<config_cmd::ConfigCmd>),
    /// Ask a worker on this machine how it is, for a container's health check
    Health(health_cmd::HealthCmd),
    /// Measure how good networks or mattes are, next to true masks
    Eval(Box<eval::EvalCmd>),
    /// Put two networks, or folders of mattes, side by side in a report for the browser
    Compare(Box<compare::CompareCmd>),
    /// One network of a comparison, in a process of its own: photos in on standard input, mattes out
    #[command(hide = true)]
    CompareArm(Box<compare::serve::ServeCmd>),
    /// Measure: where the time of a photo goes, next to a bare run of the network
    Bench(Box<bench::BenchCmd>),
}

impl Cli {
    /// The project whose traces JSON log lines point to.
    fn project(&self) -> Option<String> {
        match &self.command {
            Cmd::Worker(cmd) => cmd.project(),
            _ => None,
        }
    }
}

/// What a command gets besides its own arguments.
struct Context {
    /// The command line as clap knows it, for `cutout config`.
    command: Command,
    /// What was typed, likewise.
    matches: ArgMatches,
    /// Argument ids that the configuration file set.
    from_file: BTreeSet<String>,
    /// Progress bars, which log lines make room for.
    progress: MultiProgress,
}

/// Parses the command line and runs the command. Exit codes: 0 done, 1 something failed (said
/// on standard error), 2 wrong usage or configuration.
pub fn run(args: Vec<OsString>) -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = crate::crash::arm();
    let (mut command, from_file) = match config::with_file(Cli::command(), &args) {
        Ok(pair) => pair,
        Err(error) => return complain(&error),
    };
    command.build();
    let matches = match command.clone().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let context = Context {
        command,
        matches,
        from_file,
        progress: MultiProgress::new(),
    };
    let logs = LogConfig {
        filter: cli.common.log_level.clone(),
        format: cli.common.log_format,
        project: cli.project(),
    };
    match logs::init(&logs) {
        Ok(logs) => logs.print_above(&context.progress),
        Err(error) => return complain(&error),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return complain(
                &Error::new(Code::ConfigInvalid, "cannot start threads").caused_by(error),
            );
        }
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Cmd::Worker(cmd) => cmd.run(&context).await,
            Cmd::Publish(cmd) => cmd.run(&context).await,
            Cmd::Dlq(cmd) => cmd.run(&context).await,
            Cmd::Remove(cmd) => cmd.run(&context).await,
            Cmd::Model(cmd) => cmd.run(&context).await,
            Cmd::Config(cmd) => cmd.run(&context),
            Cmd::Health(cmd) => cmd.run().await,
            Cmd::Eval(cmd) => cmd.run(&context).await,
            Cmd::Compare(cmd) => cmd.run(&context).await,
            Cmd::CompareArm(cmd) => cmd.run().await,
            Cmd::Bench(cmd) => cmd.run(&context).await,
        }
    });
    // Threads that still work on pixels nobody waits for must not hold up the exit.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => match error.downcast::<Error>() {
            Ok(error) => complain(&error),
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn complain(error: &Error) -> ExitCode {
    eprintln!("error: {} ({})", error.chain(), error.code());
    match error.code() {
        Code::ConfigInvalid | Code::InvalidJob => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// An engine, and what went before it.
struct Started {
    engine: Engine,
    /// Reading the network's file and comparing its digest.
    verified: std::time::Duration,
    /// Loading the runtime's library.
    library: std::time::Duration,
}

/// Starts the engine once the network's file is verified, while the runtime's library loads:
/// nothing parses a file that is not the right one.
async fn start_engine(args: &ModelArgs, warm_up: bool) -> crate::error::Result<Started> {
    start_engine_of(args, args.manifest()?, warm_up).await
}

/// The same for another network than the arguments name.
async fn start_engine_of(
    args: &ModelArgs,
    manifest: Manifest,
    warm_up: bool,
) -> crate::error::Result<Started> {
    let models_dir = args.home.models_dir()?;
    let session = SessionConfig {
        warm_up,
        ..args.session(manifest.clone(), models_dir.join(&manifest.file))?
    };
    let file = session.ort_library.clone();
    let (verified, library) = tokio::join!(
        tokio::task::spawn_blocking(move || {
            let begun = std::time::Instant::now();
            model::verify(&manifest, &models_dir).map(|_| begun.elapsed())
        }),
        tokio::task::spawn_blocking(move || crate::engine::load_library(&file)),
    );
    let ended = |error| Error::new(Code::Internal, "cannot load the model").caused_by(error);
    let (verified, library) = (verified.map_err(ended)??, library.map_err(ended)??);
    Ok(Started {
        engine: Engine::start(session).await?,
        verified,
        library,
    })
}

/// What a session is made from, its file verified.
async fn session_config(args: &ModelArgs) -> crate::error::Result<SessionConfig> {
    let manifest = args.manifest()?;
    let models_dir = args.home.models_dir()?;
    let (manifest, file) = tokio::task::spawn_blocking(move || {
        model::verify(&manifest, &models_dir).map(|file| (manifest, file))
    })
    .await
    .map_err(|error| Error::new(Code::Internal, "cannot verify the model").caused_by(error))??;
    args.session(manifest, file)
}

/// Spans, where the configuration wants some. `project` is where Google's collectors file them.
fn traces(
    args: &TraceArgs,
    metrics: &Metrics,
    project: Option<String>,
) -> crate::error::Result<Traces> {
    const PROJECT: &str = "gcp.project_id";
    let Some(mut settings) = args.settings()? else {
        return Ok(Traces::default());
    };
    let named = settings.attributes.iter().any(|(name, _)| name == PROJECT);
    if let (Some(project), false) = (project, named) {
        settings.attributes.push((PROJECT.to_owned(), project));
    }
    Traces::start(&settings, metrics.clone())
}

/// Memory for photos, now that the network is loaded and its own share is known.
fn photo_bytes(args: &LimitArgs) -> u64 {
    match MemoryReading::take() {
        Some(memory) => args.memory_budget.resolve(memory.limit, memory.resident),
        None => args.memory_budget.resolve(0, 0),
    }
}

/// What a photo may be.
fn photo_limits(limits: &LimitArgs) -> Limits {
    Limits {
        max_pixels: limits.max_pixels,
        ..Limits::default()
    }
}

/// Everything that turns photos into cut-outs, on all cores.
fn cutter(engine: Engine, limits: &LimitArgs, memory: u64, metrics: Metrics) -> Cutter {
    Cutter {
        engine,
        memory: Budget::new(memory),
        cpu: CpuPool::new(cores()),
        limits: photo_limits(limits),
        review: None,
        presence: Presence::default(),
        metrics,
    }
}

/// A bar that says how far, how fast and how long still.
fn progress_bar(context: &Context, length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>10} [{bar:40}] {pos}/{len} {per_sec} {elapsed_precise}, {eta} left {wide_msg}",
    )
    .expect("the template is a constant")
    .progress_chars("=> ");
    context
        .progress
        .add(ProgressBar::new(length).with_style(style).with_prefix(what))
}

/// What the output looks like: the job's `output`, as flags.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// rgba, mask, white, green, color:#rrggbb, blur, overlay, or image:OBJECT
    #[arg(long, default_value = "rgba", value_name = "KIND")]
    kind: Kind,

    /// png or webp (lossless)
    #[arg(long, default_value = "png", value_name = "FORMAT", value_parser = format)]
    format: Format,

    /// Longest side in pixels, or a box WxH to fit into
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// Let --size enlarge too
    #[arg(long)]
    upscale: bool,

    /// Crop to the subject
    #[arg(long)]
    crop: bool,

    /// Room around a cropped subject: pixels, or percent of its longer side
    #[arg(long, default_value = "0", value_name = "PADDING")]
    padding: Padding,

    /// Dots per inch, written into the file
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    dpi: u32,

    /// Make the mask hard: above this it is the subject, 0 to 1
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    threshold: Option<Threshold>,

    /// Keep the background and remove the subject
    #[arg(long)]
    reverse: bool,

    /// How a background picture is brought to the photo's size: stretch, or cover (aspect kept)
    #[arg(long, default_value = "stretch", value_name = "FIT")]
    background_fit: Fit,

    /// Leave the photo's own colours in the subject's edge, with the old background mixed in
    #[arg(long)]
    no_decontaminate: bool,

    /// Let alpha follow the photo's own edges where the network's matte is unsure and much smaller than the
    /// photo
    #[arg(long)]
    refine: bool,

    /// Colours of the file: srgb, or source for the photo's own RGB profile; tagged either way
    #[arg(long, default_value = "srgb", value_name = "PROFILE")]
    profile: ColourProfile,

    /// Bits of a sample: 8, or source for 16 where the photo has more than 8 (png; rgba, mask or a plain colour)
    #[arg(long, default_value = "8", value_name = "BITS")]
    depth: Depth,

    /// What of the photo's EXIF to keep: none, copyright, exif (without the location), or
    /// exif_with_location
    #[arg(long, default_value = "none", value_name = "WHAT")]
    keep_metadata: KeepMetadata,

    /// A shadow under the subject: soft, or what differs from it, as in
    /// --shadow=x=1%,y=2%,blur=4%,opacity=0.4,color=#000000 (pixels, or percent of the subject's longer
    /// side); --crop with --padding leaves room for it
    #[arg(long, value_name = "SHADOW", num_args = 0..=1, default_missing_value = "soft", require_equals = true)]
    shadow: Option<Shadow>,
}

/// Looks of the cut-out beside the cut-out itself: the job's `effects`, as a flag.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
struct EffectArgs {
    /// Effects to write beside the cut-out, as {stem}.{effect}.png (or .webp): color, enhancedblackwhite,
    /// popart, dithering, retro8bit; comma-separated or repeated
    #[arg(long = "effect", value_name = "EFFECT", value_delimiter = ',')]
    effects: Vec<Effect>,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "png" => Ok(Format::Png),
        "webp" => Ok(Format::Webp),
        _ => Err(format!("{text:?} is not a format: use png or webp")),
    }
}

impl OutputArgs {
    fn output(&self) -> Output {
        Output {
            format: self.format,
            kind: self.kind.clone(),
            background: None,
            size: self.size,
            upscale: self.upscale,
            crop: self.crop,
            padding: self.padding,
            dpi: self.dpi,
            threshold: self.threshold,
            reverse: self.reverse,
            background_fit: self.background_fit,
            decontaminate: !self.no_decontaminate,
            refine: self.refine,
            profile: self.profile,
            depth: self.depth,
            keep_metadata: self.keep_metadata,
            shadow: self.shadow,
        }
    }
}
