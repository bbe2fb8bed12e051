//! `cutout dlq`: looks at the dead letters, replays them, drops them.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{Context, ends, progress_bar};
use crate::config::{IngressKind, QueueArgs};
use crate::error::{Code, Error, Result};
use crate::ingress::OutgoingMessage;
use crate::ingress::dead_letter::{DeadLetter, Filter, Morgue, known_codes};

mod listing;

/// Shown under the help of each of the commands.
pub const NOTES: &str = "\
Exit codes: 0 done, 1 something failed, 2 wrong usage. \
Pub/Sub has no way to look without taking: letters are pulled, held, and given back at the end. \
While one command runs, another sees few of them or none. docs/dead-letters.md tells the rest.";

#[derive(Args)]
pub struct DlqCmd {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show dead letters, oldest first; changes nothing
    #[command(after_help = NOTES)]
    List(Box<ListCmd>),
    /// Publish the originals of dead letters to the jobs again, and remove the letters
    #[command(after_help = NOTES)]
    Replay(Box<ReplayCmd>),
    /// Remove dead letters for good
    #[command(after_help = NOTES)]
    Drop(Box<DropCmd>),
}

#[derive(Args)]
struct ListCmd {
    /// Print JSON, one object on a line, with the original message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
struct ReplayCmd {
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    which: WhichArgs,

    /// pubsub: the topic that jobs are published to
    #[arg(
        long,
        env = "CUTOUT_JOBS_TOPIC",
        default_value = "cutout-jobs",
        value_name = "TOPIC",
        help_heading = "Queue and store"
    )]
    topic: String,

    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
struct DropCmd {
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    act: ActArgs,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What commands that change something have.
#[derive(Args)]
struct ActArgs {
    /// Every dead letter; needed when no filter says which
    #[arg(long, conflicts_with_all = ["code", "job_id", "source", "older_than", "newer_than"])]
    all: bool,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Which dead letters.
#[derive(Args)]
#[command(next_help_heading = "Which dead letters (all conditions must hold)")]
struct WhichArgs {
    /// With this code; may be repeated, then any of them
    #[arg(long, value_name = "CODE", value_parser = PossibleValuesParser::new(known_codes()))]
    code: Vec<String>,

    /// Of this job; may be repeated, then any of them
    #[arg(long, value_name = "ID")]
    job_id: Vec<String>,

    /// Whose photo's name starts with this: gs://bucket/prefix, or a path below --root
    #[arg(long, value_name = "PREFIX")]
    source: Option<String>,

    /// Dead for at least this long: 90s, 2h, 3d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,

    /// Dead for less than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,

    /// At most this many: locally the oldest, from Pub/Sub those that come first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Where the dead letters are.
#[derive(Args)]
#[command(next_help_heading = "Queue and store")]
struct PlaceArgs {
    /// pubsub: a subscription to the dead-letter topic
    #[arg(
        long,
        env = "CUTOUT_DEAD_LETTER_SUBSCRIPTION",
        default_value = "cutout-dead-letters",
        value_name = "SUBSCRIPTION"
    )]
    dead_letter_subscription: String,

    /// pubsub: no more dead letters are expected when none came for this long
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    wait: Duration,

    /// Stop looking for dead letters after this long in any case
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    queue: QueueArgs,
}

impl DlqCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        match &self.action {
            Action::List(cmd) => cmd.run(context).await,
            Action::Replay(cmd) => cmd.run(context).await,
            Action::Drop(cmd) => cmd.run(context).await,
        }
    }
}

impl ListCmd {
    async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut morgue = self.place.open(None).await?;
        let found = gather(context, &mut *morgue, &self.which, &self.place, self.json).await;
        // The letters go back before they are printed: a pager may hold the output for hours.
        give_back(morgue).await;
        let found = found??;
        match self.json {
            true => print_json(&found.letters)?,
            false => print_table(&found.letters)?,
        }
        eprintln!("{}", found.told());
        Ok(ExitCode::SUCCESS)
    }
}

impl ReplayCmd {
    async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        self.act.check(&self.which)?;
        let mut morgue = self.place.open(Some(&self.topic)).await?;
        let found = gather(context, &mut *morgue, &self.which, &self.place, true).await;
        let found = match found {
            Ok(Ok(found)) if !self.act.dry_run => found,
            found => return show_instead(morgue, found, "replay").await,
        };
        let ingress = self.place.queue.ingress;
        let to = match ingress {
            IngressKind::Local => "the jobs",
            IngressKind::PubSub | IngressKind::Push => &self.topic,
        };
        let past = format!("replayed to {to}");
        work_on(context, morgue, found, ingress, Deed::Replay, &past).await
    }
}

impl DropCmd {
    async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        self.act.check(&self.which)?;
        let ask = !self.yes && !self.act.dry_run;
        let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
        if ask && !somebody {
            return Err(usage(
                "nobody is there to confirm the drop: say --yes, or --dry-run to see what it would drop",
            )
            .into());
        }
        let mut morgue = self.place.open(None).await?;
        let found = gather(context, &mut *morgue, &self.which, &self.place, false).await;
        let found = match found {
            Ok(Ok(found)) if !self.act.dry_run => found,
            found => return show_instead(morgue, found, "drop").await,
        };
        if ask && !found.letters.is_empty() {
            eprintln!("{}", found.told());
            let confirmed = unless_interrupted(confirm(found.letters.len())).await;
            if !matches!(confirmed, Ok(true)) {
                give_back(morgue).await;
                confirmed?;
                anyhow::bail!("not confirmed; nothing was dropped");
            }
        }
        let ingress = self.place.queue.ingress;
        work_on(context, morgue, found, ingress, Deed::Drop, "dropped").await
    }
}

impl ActArgs {
    /// Nothing is replayed or dropped by leaving something out. A limit says how many, not which.
    fn check(&self, which: &WhichArgs) -> Result<()> {
        if !self.all && which.filter().is_empty() {
            return Err(usage(
                "say which dead letters: --code, --job-id, --source, --older-than, --newer-than, or --all",
            ));
        }
        Ok(())
    }
}

impl WhichArgs {
    fn filter(&self) -> Filter {
        Filter {
            codes: self.code.iter().cloned().collect(),
            job_ids: self.job_id.iter().cloned().collect(),
            source: self.source.clone(),
            older_than: self.older_than,
            newer_than: self.newer_than,
        }
    }
}

impl PlaceArgs {
    async fn open(&self, jobs_topic: Option<&str>) -> Result<Box<dyn Morgue>> {
        let config = ends::MorgueConfig {
            subscription: &self.dead_letter_subscription,
            jobs_topic,
            idle: self.wait,
        };
        ends::morgue(&self.queue, config).await
    }
}

/// What a look at the dead letters found.
struct Found {
    /// Those that match, oldest first.
    letters: Vec<DeadLetter>,
    /// All that were looked at.
    seen: usize,
    /// Why there may be more, if the look ended early.
    cut: Option<String>,
}

impl Found {
    fn told(&self) -> String {
        let mut text = listing::counts(&self.letters);
        if self.seen > self.letters.len() {
            text.push_str(&format!(" (of {} looked at)", self.seen));
        }
        if let Some(cut) = &self.cut {
            text.push_str(&format!("; {cut}: there may be more"));
        }
        text
    }
}

/// Looks through the dead letters for those that match. The outer error is an interruption: the
/// letters that were taken have to be given back then as well.
async fn gather(
    context: &Context,
    morgue: &mut dyn Morgue,
    which: &WhichArgs,
    place: &PlaceArgs,
    keep_original: bool,
) -> anyhow::Result<Result<Found>> {
    unless_interrupted(look_through(context, morgue, which, place, keep_original)).await
}

async fn look_through(
    context: &Context,
    morgue: &mut dyn Morgue,
    which: &WhichArgs,
    place: &PlaceArgs,
    keep_original: bool,
) -> Result<Found> {
    let filter = which.filter();
    let limit = which.limit.map(|n| n as usize);
    let bar = look_bar(context);
    let deadline = tokio::time::Instant::now() + place.timeout;
    let mut found = Found {
        letters: Vec::new(),
        seen: 0,
        cut: None,
    };
    loop {
        if limit.is_some_and(|limit| found.letters.len() >= limit) {
            found.cut = Some(format!("stopped at --limit {}", found.letters.len()));
            break;
        }
        let mut letter = match tokio::time::timeout_at(deadline, morgue.next()).await {
            Ok(next) => match next? {
                Some(letter) => letter,
                None => break,
            },
            Err(_) => {
                let limit = humantime::format_duration(place.timeout);
                found.cut = Some(format!("stopped after --timeout {limit}"));
                break;
            }
        };
        found.seen += 1;
        bar.inc(1);
        if filter.matches(&letter, Timestamp::now()) {
            if !keep_original {
                letter.original = OutgoingMessage::default();
            }
            found.letters.push(letter);
        }
    }
    bar.finish_and_clear();
    // Pub/Sub delivers in any order.
    found.letters.sort_by_key(|letter| letter.time);
    Ok(found)
}

/// A bar for a look whose length nobody knows.
fn look_bar(context: &Context) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix:>10} {spinner} {pos} looked at, {elapsed_precise}")
            .expect("the template is a constant");
    let bar = ProgressBar::no_length().with_style(style);
    let bar = context.progress.add(bar.with_prefix("dlq"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// For a dry run, or after a look that failed: gives the letters back and says what it saw.
async fn show_instead(
    morgue: Box<dyn Morgue>,
    found: anyhow::Result<Result<Found>>,
    what: &str,
) -> anyhow::Result<ExitCode> {
    give_back(morgue).await;
    let found = found??;
    print_table(&found.letters)?;
    eprintln!("would {what} {}", found.told());
    Ok(ExitCode::SUCCESS)
}

/// What is done with letters that were found.
enum Deed {
    Replay,
    Drop,
}

/// Does it, closes, and tells what was done: also of a part, after an interruption or a failure.
async fn work_on(
    context: &Context,
    mut morgue: Box<dyn Morgue>,
    found: Found,
    ingress: IngressKind,
    deed: Deed,
    past: &str,
) -> anyhow::Result<ExitCode> {
    let (count, told) = (found.letters.len(), found.told());
    let what = match deed {
        Deed::Replay => "replay",
        Deed::Drop => "drop",
    };
    let bar = progress_bar(context, count as u64, what);
    let done = AtomicUsize::new(0);
    let tick = || {
        done.fetch_add(1, Ordering::Relaxed);
        bar.inc(1);
    };
    let work = match deed {
        Deed::Replay => morgue.replay(found.letters, &tick),
        Deed::Drop => morgue.discard(found.letters, &tick),
    };
    let outcome = match ingress {
        // One short transaction: interrupted, nobody could tell whether it took effect.
        IngressKind::Local => Ok(work.await),
        IngressKind::PubSub | IngressKind::Push => unless_interrupted(work).await,
    };
    bar.finish_and_clear();
    let closed = morgue.close().await;
    let failure = match outcome {
        Ok(outcome) => outcome.failure.map(anyhow::Error::from),
        Err(interrupted) => Some(interrupted),
    };
    let done = done.into_inner();
    match (done == count, &failure) {
        (true, _) => eprintln!("{past}: {told}"),
        (false, None) => eprintln!("{past}: {done} of {told}; somebody else took the others"),
        (false, Some(_)) => eprintln!("{past}: only {done} of {told}"),
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    closed?;
    Ok(ExitCode::SUCCESS)
}

/// Puts back what was only looked at. A failure costs the others the time of a lease.
async fn give_back(morgue: Box<dyn Morgue>) {
    if let Err(error) = morgue.close().await {
        tracing::warn!(
            error = error.chain(),
            "not every dead letter was given back; those come again when their leases end"
        );
    }
}

async fn unless_interrupted<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => Ok(done),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    }
}

async fn confirm(count: usize) -> bool {
    let asking = tokio::task::spawn_blocking(move || {
        eprint!("drop {} for good? [y/N] ", listing::number(count));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let answer = answer.trim().to_ascii_lowercase();
        read.is_ok() && ["y", "yes"].contains(&answer.as_str())
    });
    asking.await.unwrap_or(false)
}

fn print_table(letters: &[DeadLetter]) -> io::Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    print(listing::table(letters).as_bytes())
}

fn print_json(letters: &[DeadLetter]) -> anyhow::Result<()> {
    let mut lines = String::new();
    for letter in letters {
        lines.push_str(&listing::json(letter)?);
        lines.push('\n');
    }
    Ok(print(lines.as_bytes())?)
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

fn usage(message: &str) -> Error {
    Error::new(Code::ConfigInvalid, message)
}
