//! `cutout remove`: cuts out photos here and now, without any queue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use tokio_util::task::AbortOnDropHandle;
use walkdir::WalkDir;

use super::{Context, EffectArgs, OutputArgs, progress_bar};
use crate::config::{LimitArgs, ModelArgs, ReviewArgs};
use crate::effect::{Effect, EffectParams};
use crate::error::{Code, Error, Result};
use crate::job::{Format, Kind, Output, Quality};
use crate::object::ObjectName;
use crate::pipeline::cutout::{Charged, Cutter, Order};
use crate::pipeline::encode::Encoded;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spent::Spent;

/// File names that are taken for photos when a folder is given; a file named on the command
/// line is always taken. What a file really is, its content decides.
const PHOTO_EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif",
];

/// Longest side of a contact sheet's tiles, pixels: five fit a page of a document.
const SHEET_TILE: u32 = 400;

#[derive(Args)]
pub struct RemoveCmd {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// Output folder; or, for a single photo, a file name that ends in .png or .webp
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// A picture to put behind the subject
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    background: Option<PathBuf>,

    /// A picture of all effects side by side, to choose from; for a single photo
    #[arg(long, value_name = "FILE")]
    contact_sheet: Option<PathBuf>,

    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    look: OutputArgs,
    #[command(flatten)]
    effects: EffectArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    review: ReviewArgs,
}

/// One photo and where its cut-out goes.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    from: PathBuf,
    to: PathBuf,
}

impl RemoveCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut output = self.look.output();
        anyhow::ensure!(
            !matches!(output.kind, Kind::Image(_)),
            "--kind image: names an object of a store; here, use --background FILE"
        );
        let effects = Effect::distinct(&self.effects.effects);
        let tasks = plan(&self.inputs, &self.output, &output)?;
        refuse_collisions(&tasks, &effects, output.format)?;
        anyhow::ensure!(
            self.contact_sheet.is_none() || tasks.len() == 1,
            "--contact-sheet is for a single photo, and there are {}",
            tasks.len()
        );
        let background = match &self.background {
            Some(path) => {
                // The name is not looked at again: the file is here already.
                output.kind = Kind::Image(ObjectName::local("background")?.into());
                let file = std::fs::read(path)
                    .with_context(|| format!("cannot read the background {}", path.display()))?;
                Some(Bytes::from(file))
            }
            None => None,
        };
        output.check()?;
        // A photo alone is its own warm-up. With more of them, what the network takes has to be known
        // before they share the rest of the memory.
        let warm_up = tasks.len() > 1;
        let engine = super::start_engine(&self.model, warm_up).await?.engine;
        let memory = super::photo_bytes(&self.limits);
        let cutter = Cutter {
            review: self.review.bounds(),
            ..super::cutter(engine, &self.limits, memory, Metrics::new())
        };
        let bar = progress_bar(context, tasks.len() as u64, "cut out");
        let begun = Instant::now();
        let mut failures = 0_usize;
        let total = tasks.len();
        let mut done = futures::stream::iter(tasks)
            .map(|task| {
                let (cutter, output, background) =
                    (cutter.clone(), output.clone(), background.clone());
                let rules = Rules {
                    output,
                    effects: effects.clone(),
                    contact_sheet: self.contact_sheet.clone(),
                    overwrite: self.overwrite,
                    largest: self.limits.max_file_bytes.as_u64(),
                    patience: self.limits.job_timeout,
                };
                let work = tokio::spawn(async move {
                    let answer = cut(&cutter, &task, &rules, background).await;
                    (task, answer)
                });
                AbortOnDropHandle::new(work)
            })
            .buffer_unordered(self.limits.max_jobs());
        while let Some(ended) = done.next().await {
            let (task, answer) = ended.context("a photo's task ended early")?;
            bar.inc(1);
            match answer {
                Ok(quality) => {
                    tracing::debug!(from = %task.from.display(), to = %task.to.display(), "cut out");
                    if let Some(quality) = quality.filter(Quality::needs_review) {
                        bar.suspend(|| warn(&task, &quality));
                    }
                }
                Err(error) => {
                    failures += 1;
                    bar.suspend(|| {
                        eprintln!(
                            "{}: {} ({})",
                            task.from.display(),
                            error.chain(),
                            error.code()
                        )
                    });
                }
            }
        }
        bar.finish_and_clear();
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "{} of {total} cut out into {} in {seconds:.1} s",
            total - failures,
            self.output.display()
        );
        Ok(if failures == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// What holds for every photo.
struct Rules {
    output: Output,
    effects: Vec<Effect>,
    contact_sheet: Option<PathBuf>,
    overwrite: bool,
    /// Bytes.
    largest: u64,
    patience: Duration,
}

/// The picture is there; whether it can be used, somebody should see.
fn warn(task: &Task, quality: &Quality) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    eprintln!(
        "{}: look at it ({quality}): subject {} in {} parts, uncertain {}, border {}, edge {} wide",
        task.to.display(),
        percent(quality.coverage),
        quality.components,
        percent(quality.uncertain),
        percent(quality.border),
        percent(quality.edge_width),
    );
}

async fn cut(
    cutter: &Cutter,
    task: &Task,
    rules: &Rules,
    background: Option<Bytes>,
) -> Result<Option<Quality>> {
    let targets: Vec<_> = rules
        .effects
        .iter()
        .map(|effect| (*effect, task.beside(*effect, rules.output.format)))
        .collect();
    let sheet = rules.contact_sheet.as_ref();
    for to in targets
        .iter()
        .map(|(_, to)| to)
        .chain([&task.to])
        .chain(sheet)
    {
        if !rules.overwrite && tokio::fs::try_exists(to).await.unwrap_or(false) {
            return Err(Error::new(
                Code::DestinationExists,
                format!("{} exists: delete it or use --overwrite", to.display()),
            ));
        }
    }
    let unreadable = |error: std::io::Error| {
        Error::new(Code::SourceNotFound, "cannot read the photo").caused_by(error)
    };
    let size = tokio::fs::metadata(&task.from)
        .await
        .map_err(unreadable)?
        .len();
    if size > rules.largest {
        let largest = rules.largest;
        return Err(Error::new(
            Code::FileTooLarge,
            format!("the file has {size} bytes, more than {largest} (--max-file-bytes)"),
        ));
    }
    let bytes = tokio::fs::read(&task.from).await.map_err(unreadable)?;
    let free = |bytes: Bytes| Charged { bytes, paid: None };
    let deadline = Instant::now() + rules.patience;
    // A contact sheet starts from the cut-out as effects do.
    let effects = match (rules.effects.as_slice(), sheet) {
        ([], Some(_)) => &Effect::ALL,
        (effects, _) => effects,
    };
    let order = Order {
        background: background.map(free),
        effects,
        ..Order::new(free(bytes.into()), &rules.output, deadline)
    };
    let mut spent = Spent::default();
    let mut cut = cutter.cut(order, &mut spent).await?;
    let params = EffectParams::default();
    for (effect, to) in targets {
        let encoded = cutter
            .effect(&mut cut, effect, &params, &rules.output, &mut spent)
            .await?;
        write(to, encoded, rules.overwrite).await?;
    }
    if let Some(to) = sheet {
        let encoded = cutter.contact_sheet(&cut, SHEET_TILE).await?;
        write(to.clone(), encoded, rules.overwrite).await?;
    }
    let quality = cut.quality().cloned();
    let encoded = cutter.encode(cut, &rules.output, &mut spent).await?;
    write(task.to.clone(), encoded, rules.overwrite).await?;
    Ok(quality)
}

async fn write(to: PathBuf, encoded: Encoded, overwrite: bool) -> Result<()> {
    tokio::task::spawn_blocking(move || write_whole(&to, &encoded.bytes, overwrite))
        .await
        .map_err(|error| {
            Error::new(Code::Internal, "the file could not be written").caused_by(error)
        })?
}

impl Task {
    /// Where an effect of the cut-out goes.
    fn beside(&self, effect: Effect, format: Format) -> PathBuf {
        self.to
            .with_extension(format!("{effect}.{}", format.extension()))
    }
}

/// Writes a file that is either whole or not there.
fn write_whole(to: &Path, bytes: &[u8], overwrite: bool) -> Result<()> {
    use std::io::Write;
    let unwritable = |error: std::io::Error| {
        Error::new(
            Code::StorageUnavailable,
            format!("cannot write {}", to.display()),
        )
        .caused_by(error)
    };
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    // A temporary file is private by default; a cut-out is as public as the umask allows.
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(unwritable)?;
    file.write_all(bytes).map_err(unwritable)?;
    let kept = if overwrite {
        file.persist(to)
    } else {
        file.persist_noclobber(to)
    };
    kept.map(drop).map_err(|error| unwritable(error.error))
}

/// Which photo goes where, by the names of the outputs.
fn plan(inputs: &[PathBuf], out: &Path, output: &Output) -> anyhow::Result<Vec<Task>> {
    let extension = output.format.extension();
    let names_a_file = out.extension().is_some_and(|e| e == "png" || e == "webp") && !out.is_dir();
    if names_a_file {
        let [input] = inputs else {
            anyhow::bail!(
                "-o {} names a file, but there are several photos: name a folder",
                out.display()
            );
        };
        anyhow::ensure!(
            !input.is_dir(),
            "-o {} names a file, but {} is a folder: name a folder",
            out.display(),
            input.display()
        );
        anyhow::ensure!(
            out.extension().is_some_and(|e| e == extension),
            "-o {} does not end in .{extension}, the format that is written (--format)",
            out.display()
        );
        return Ok(vec![Task {
            from: input.clone(),
            to: out.to_owned(),
        }]);
    }
    let other_image = out
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(is_photo_extension);
    anyhow::ensure!(
        !other_image || out.is_dir(),
        "-o {}: only .png and .webp are written; name such a file, or a folder",
        out.display()
    );
    let mut tasks = Vec::new();
    let mut add = |from: PathBuf, relative: &Path| {
        let to = out.join(relative).with_extension(extension);
        tasks.push(Task { from, to });
    };
    for input in inputs {
        if !input.is_dir() {
            let name = input
                .file_name()
                .with_context(|| format!("{} is not a file", input.display()))?;
            add(input.clone(), Path::new(name));
            continue;
        }
        for photo in photos_below(input, Some(out))? {
            let relative = photo.strip_prefix(input)?.to_owned();
            add(photo, &relative);
        }
    }
    anyhow::ensure!(
        !tasks.is_empty(),
        "no photos found ({})",
        PHOTO_EXTENSIONS.join(", ")
    );
    tasks.sort_by(|a, b| a.to.cmp(&b.to));
    Ok(tasks)
}

/// Refuses what would write one file twice, as the first would be lost, or in place of a photo.
fn refuse_collisions(tasks: &[Task], effects: &[Effect], format: Format) -> anyhow::Result<()> {
    let photos = tasks
        .iter()
        .map(|task| std::path::absolute(&task.from))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let mut written = BTreeMap::new();
    for task in tasks {
        let beside = effects.iter().map(|effect| task.beside(*effect, format));
        for to in beside.chain([task.to.clone()]) {
            let to = std::path::absolute(to)?;
            anyhow::ensure!(
                !photos.contains(&to),
                "{} would be written in place of a photo: choose another output folder",
                to.display()
            );
            if let Some(other) = written.insert(to.clone(), &task.from) {
                anyhow::bail!(
                    "{} and {} would both become {}: give them to separate runs",
                    other.display(),
                    task.from.display(),
                    to.display()
                );
            }
        }
    }
    Ok(())
}

/// The photos that are named, and those below the folders that are named.
pub fn photos(inputs: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut photos = Vec::new();
    for input in inputs {
        if input.is_dir() {
            photos.extend(photos_below(input, None)?);
        } else {
            photos.push(input.clone());
        }
    }
    anyhow::ensure!(
        !photos.is_empty(),
        "no photos found ({})",
        PHOTO_EXTENSIONS.join(", ")
    );
    Ok(photos)
}

fn is_photo_extension(extension: &str) -> bool {
    PHOTO_EXTENSIONS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(extension))
}

/// The photos in a folder, by name. `out` may lie inside it: its files are outputs, not photos.
fn photos_below(folder: &Path, out: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    let out = out.map(std::path::absolute).transpose()?;
    let is_output = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && std::path::absolute(entry.path()).ok() == out && out.is_some()
    };
    let mut photos = Vec::new();
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
    for entry in walk.into_iter().filter_entry(|entry| !is_output(entry)) {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let named_so = entry
            .path()
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(is_photo_extension);
        if entry.file_type().is_file() && named_so {
            photos.push(entry.into_path());
        }
    }
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    #[test]
    fn folders_keep_their_structure_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "in/a.jpg",
            "in/sub/B.JPEG",
            "in/notes.txt",
            "in/out/old.png",
        ] {
            touch(&dir.path().join(name));
        }
        let out = dir.path().join("in/out");
        let tasks = plan(&[dir.path().join("in")], &out, &Output::default()).unwrap();
        let to: Vec<_> = tasks
            .iter()
            .map(|t| t.to.strip_prefix(&out).unwrap().to_owned())
            .collect();
        assert_eq!(to, [Path::new("a.png"), Path::new("sub/B.png")]);
    }

    #[test]
    fn two_photos_for_one_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "a.png"] {
            touch(&dir.path().join(name));
        }
        let inputs = [dir.path().join("a.jpg"), dir.path().join("a.png")];
        let error = refused(&inputs, "out", &[]);
        assert!(error.contains("both"), "{error}");
    }

    #[test]
    fn an_effect_and_another_photos_cut_out_for_one_file_are_refused() {
        let inputs = ["a.jpg", "a.popart.jpg"].map(PathBuf::from);
        let error = refused(&inputs, "out", &[Effect::PopArt]);
        assert!(error.contains("both"), "{error}");
        let tasks = plan(&inputs, Path::new("out"), &Output::default()).unwrap();
        refuse_collisions(&tasks, &[Effect::Color], Format::Png).unwrap();
    }

    #[test]
    fn a_photo_is_never_replaced() {
        let own = [PathBuf::from("photos/a.png")];
        let anothers = ["photos/a.jpg", "photos/a.png", "b.jpg"].map(PathBuf::from);
        let by_an_effect = ["photos/a.jpg", "photos/a.popart.png"].map(PathBuf::from);
        for (inputs, effects) in [
            (&own[..], &[][..]),
            (&anothers[..], &[]),
            (&by_an_effect[..], &[Effect::PopArt]),
        ] {
            let error = refused(inputs, "photos", effects);
            assert!(error.contains("in place of a photo"), "{error}");
        }
    }

    fn refused(inputs: &[PathBuf], out: &str, effects: &[Effect]) -> String {
        let tasks = plan(inputs, Path::new(out), &Output::default()).unwrap();
        refuse_collisions(&tasks, effects, Format::Png)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_file_name_as_output_takes_one_photo_of_its_own_format() {
        let one = [PathBuf::from("a.jpg")];
        let tasks = plan(&one, Path::new("b.png"), &Output::default()).unwrap();
        assert_eq!(tasks[0].to, Path::new("b.png"));
        assert!(plan(&one, Path::new("b.webp"), &Output::default()).is_err());
        let error = plan(&one, Path::new("b.jpg"), &Output::default()).unwrap_err();
        assert!(error.to_string().contains(".png"), "{error}");
        let two = [PathBuf::from("a.jpg"), PathBuf::from("c.jpg")];
        assert!(plan(&two, Path::new("b.png"), &Output::default()).is_err());
    }
}
