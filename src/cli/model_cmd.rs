//! `cutout model`: which networks there are, how one gets here, and whether it is fit to run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Context;
use crate::config::{HomeArgs, ModelArgs};
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::model::fetch::{self, Expected, Found};
use crate::model::manifest::{InputRange, Layout, Manifest};
use crate::model::origin::{Origin, Published};
use crate::model::registry::{self, Network};

#[derive(Args)]
pub struct ModelCmd {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the known networks, and what brings those that are not here
    List(HomeArgs),
    /// Tell everything about a network
    Info(InfoArgs),
    /// Bring a published network here: download, check, write its manifest
    Fetch(FetchArgs),
    /// Check a network: manifest, checksum, the graph's inputs and outputs, a warm-up run
    Check(Box<ModelArgs>),
}

#[derive(Args)]
struct InfoArgs {
    /// A known name (`cutout model list`), or the path of a manifest
    #[arg(value_name = "NAME")]
    name: String,

    /// For programs
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    home: HomeArgs,
}

#[derive(Args)]
struct FetchArgs {
    /// A known name (`cutout model list`), or the path of a manifest with an [origin]
    #[arg(value_name = "NAME")]
    name: String,

    /// Fetch from here instead: a mirror; the file is checked just the same
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Fetch again what is here already
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    home: HomeArgs,
}

impl ModelCmd {
    pub async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        match &self.action {
            Action::List(home) => list(home),
            Action::Info(args) => info(args)?,
            Action::Fetch(args) => tokio::select! {
                done = fetch(args, context) => done?,
                // Dropping the download removes what has come.
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; nothing was kept"),
            },
            Action::Check(args) => check(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(home: &HomeArgs) {
    // Without a home nothing is here, which is worth a table too.
    let models_dir = home.models_dir().ok();
    let models_dir = models_dir.as_deref();
    println!(
        "{:<24} {:>4} {:<11} {:<6} description",
        "name", "MB", "licence", "state"
    );
    for network in registry::known() {
        let size = network
            .manifest(models_dir)
            .map_or_else(|| "?".to_owned(), |m| (m.bytes / 1_000_000).to_string());
        println!(
            "{:<24} {size:>4} {:<11} {:<6} {}",
            network.name(),
            network.licence(),
            network.state(models_dir).as_str(),
            network.description()
        );
    }
}

fn info(args: &InfoArgs) -> crate::error::Result<()> {
    let network = registry::look_up(&args.name)?;
    let models_dir = args.home.models_dir().ok();
    let models_dir = models_dir.as_deref();
    let state = network.state(models_dir);
    let manifest = network.manifest(models_dir);
    let file = manifest.as_ref().map_or(network.file(), |m| &m.file);
    let path = models_dir.map(|dir| dir.join(file));
    let here = path.as_deref().is_some_and(Path::is_file);
    let (resize, any_size, input, output) = match &manifest {
        Some(m) => (&m.resize, m.any_size, &m.input, &m.output),
        None => network.treatment(),
    };
    if args.json {
        let value = json!({
            "name": network.name(),
            "description": network.description(),
            "licence": network.licence(),
            "provenance": network.provenance(),
            "state": state,
            "file": {
                "path": path.as_deref().unwrap_or(Path::new(file)),
                "here": here,
                "bytes": manifest.as_ref().map(|m| m.bytes),
                "sha256": manifest.as_ref().map(|m| &m.sha256),
            },
            "manifest": manifest.as_ref().map(|m| &m.read_from),
            "origin": network.origin(),
            "resize": resize,
            "any_size": any_size,
            "input": input,
            "output": output,
        });
        println!("{value:#}");
        return Ok(());
    }

    let line = |key: &str, value: &dyn std::fmt::Display| println!("{key:<11} {value}");
    line("name", &network.name());
    line("", &network.description());
    line("licence", &network.licence());
    line("provenance", &network.provenance());
    line("state", &state.as_str());
    let place = match &path {
        Some(path) => path.display().to_string(),
        None => format!("models/{file} of a home directory, of which there is none"),
    };
    line(
        "file",
        &format!("{place}{}", if here { "" } else { " (not there)" }),
    );
    if let Some(manifest) = &manifest {
        line("", &format!("{} bytes", manifest.bytes));
        line("sha256", &manifest.sha256);
        line("manifest", &manifest.read_from);
    }
    if let Some(origin) = network.origin() {
        line("origin", &origin.url());
        line("md5", &origin.md5().unwrap_or("none is published"));
    }
    if let Network::Published(published) = &network
        && state != registry::State::Here
    {
        let dir = models_dir.unwrap_or(Path::new(".cache/models"));
        line("to get it", &published.how_to_get(dir));
    }
    line("resize", resize);
    if let Some(any) = &any_size {
        line(
            "",
            &format!(
                "or any size in multiples of {}: static, {1}x{1}; dynamic, shorter side {2}",
                any.multiple, any.side, any.short
            ),
        );
    }
    let first = "the graph's first".to_owned();
    line(
        "input",
        &format!(
            "{}, {}, filter {}, range {}",
            input.name.as_ref().unwrap_or(&first),
            word(&input.layout),
            word(&input.filter),
            word(&input.range)
        ),
    );
    if input.layout == Layout::NchwF32 {
        let scale = match input.range {
            InputRange::Full => "",
            InputRange::ImageMax => ", after the photo's brightest value was made 255",
        };
        line(
            "",
            &format!("mean {:?}, std {:?}{scale}", input.mean, input.std),
        );
    }
    line(
        "output",
        &format!(
            "{}, {}, min-max {}, resize {}",
            output.name.as_ref().unwrap_or(&first),
            word(&output.activation),
            if output.min_max { "yes" } else { "no" },
            word(&output.resize)
        ),
    );
    Ok(())
}

/// The word that a manifest has for it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

async fn fetch(args: &FetchArgs, context: &Context) -> anyhow::Result<()> {
    let network = registry::look_up(&args.name)?;
    let models_dir = args.home.models_dir()?;
    tokio::fs::create_dir_all(&models_dir)
        .await
        .map_err(|error| anyhow::anyhow!("cannot make {}: {error}", models_dir.display()))?;
    let job = Job {
        args,
        context,
        models_dir,
    };
    match network {
        Network::Runnable(manifest) => job.mirrored(&manifest).await,
        Network::Published(published) => match &published.origin {
            Origin::Onnx { url, md5 } => job.graph(&published, url, md5).await,
            Origin::Checkpoint { url, file, md5 } => {
                job.checkpoint(&published, url, file, md5.as_deref()).await
            }
        },
    }
}

/// One `cutout model fetch`.
struct Job<'a> {
    args: &'a FetchArgs,
    context: &'a Context,
    models_dir: PathBuf,
}

impl Job<'_> {
    /// A graph whose publisher gives an MD5: its manifest is written when it is here.
    async fn graph(&self, published: &Published, url: &str, md5: &str) -> anyhow::Result<()> {
        let target = self.models_dir.join(&published.file);
        let expected = Expected {
            md5: Some(md5.to_owned()),
            ..Expected::default()
        };
        let (found, fetched) = self.bring(url, &target, &expected).await?;
        let manifest = published.completed(found.bytes, found.sha256);
        let dir = self.models_dir.clone();
        // Written again for a file that was here: it may have been put there by hand.
        let (manifest, written) = blocking(move || {
            let written = fetch::write_manifest(&manifest, &dir);
            (manifest, written)
        })
        .await?;
        let written = written?;
        report(fetched, &target, manifest.bytes);
        println!("sha256      {}", manifest.sha256);
        println!("manifest    {}", written.display());
        println!("licence     {}", manifest.licence);
        println!("next        cutout model check --model {}", manifest.name);
        Ok(())
    }

    /// A checkpoint: the exporter makes the graph and the manifest.
    async fn checkpoint(
        &self,
        published: &Published,
        url: &str,
        file: &str,
        md5: Option<&str>,
    ) -> anyhow::Result<()> {
        let target = self.models_dir.join(file);
        let expected = Expected {
            md5: md5.map(str::to_owned),
            ..Expected::default()
        };
        let (found, fetched) = self.bring(url, &target, &expected).await?;
        report(fetched, &target, found.bytes);
        match md5 {
            Some(_) => println!("md5         {} as published", found.md5),
            None => println!(
                "md5         {}; none is published, because the file changes; --force fetches it again",
                found.md5
            ),
        }
        println!(
            "next        {}",
            published.export_command(&target, &self.models_dir)
        );
        Ok(())
    }

    /// A network whose file has no published address of its own.
    async fn mirrored(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let target = self.models_dir.join(&manifest.file);
        let expected = Expected {
            bytes: Some(manifest.bytes),
            md5: None,
            sha256: Some(manifest.sha256.clone()),
        };
        let here = !self.args.force && is_here(&target, &expected).await?.is_some();
        let Some(url) = self.args.url.as_deref().filter(|_| !here) else {
            if here {
                report(false, &target, manifest.bytes);
                return Ok(());
            }
            let manifest = manifest.clone();
            let dir = self.models_dir.clone();
            // It says what is wrong and what brings the file: `make setup` for ISNet.
            blocking(move || crate::model::verify(&manifest, &dir)).await??;
            // Here and right: only --force asked for it.
            return Err(Error::new(
                Code::ModelInvalid,
                format!(
                    "the manifest {} has no [origin] to fetch from again: name a mirror with --url",
                    self.args.name
                ),
            )
            .into());
        };
        let found = self.download(url, &target, &expected).await?;
        report(true, &target, found.bytes);
        Ok(())
    }

    /// The file, from here if it is verified, else from its host or the mirror; and whether it
    /// was fetched.
    async fn bring(
        &self,
        url: &str,
        target: &Path,
        expected: &Expected,
    ) -> anyhow::Result<(Found, bool)> {
        if !self.args.force
            && let Some(found) = is_here(target, expected).await?
        {
            return Ok((found, false));
        }
        let url = self.args.url.as_deref().unwrap_or(url);
        Ok((self.download(url, target, expected).await?, true))
    }

    async fn download(
        &self,
        url: &str,
        target: &Path,
        expected: &Expected,
    ) -> anyhow::Result<Found> {
        eprintln!("fetching {url}");
        let bar = bytes_bar(self.context);
        let found = fetch::fetch(url, target, expected, |received, size| {
            if let Some(size) = size {
                bar.set_length(size);
            }
            bar.set_position(received);
        })
        .await;
        bar.finish_and_clear();
        Ok(found?)
    }
}

/// What the file is, if it is there and as expected.
async fn is_here(path: &Path, expected: &Expected) -> anyhow::Result<Option<Found>> {
    let path = path.to_owned();
    let found = blocking(move || fetch::examine(&path).ok()).await?;
    Ok(found.filter(|found| expected.matches(found)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn report(fetched: bool, target: &Path, bytes: u64) {
    let what = if fetched { "fetched" } else { "here" };
    println!("{what:<11} {} ({bytes} bytes)", target.display());
}

/// Shown only if standard error is a terminal.
fn bytes_bar(context: &Context) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix:>10} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
    )
    .expect("the template is a constant")
    .progress_chars("=> ");
    let bar = ProgressBar::no_length()
        .with_style(style)
        .with_prefix("fetch");
    context.progress.add(bar)
}

async fn check(args: &ModelArgs) -> crate::error::Result<()> {
    let manifest = args.manifest()?;
    println!("model       {} ({})", manifest.name, manifest.licence);
    println!("            {}", manifest.description);
    println!("provenance  {}", manifest.provenance);
    println!("resize      {}", manifest.resize);
    let session = super::session_config(args).await?;
    println!("file        {}", session.model_file.display());
    println!("sha256      {} ok", manifest.sha256);
    println!("library     {}", session.ort_library.display());
    let engine = Engine::start(session).await?;
    let info = engine.info();
    println!("provider    {}", info.provider.as_str());
    println!("precision   {}", info.precision.as_str());
    println!("max batch   {}", info.max_batch);
    for port in &info.inputs {
        println!("input       {} {}", port.name, port.shape);
    }
    for port in &info.outputs {
        println!("output      {} {}", port.name, port.shape);
    }
    println!("load        {:.2} s", info.load.as_secs_f64());
    println!("warm-up     {:.2} s", info.warm_up.as_secs_f64());
    let again = engine.warm_up().await?;
    println!("second run  {:.2} s", again.as_secs_f64());
    println!("ok");
    Ok(())
}
