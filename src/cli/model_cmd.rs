//! `cutout model`: which networks there are, and whether one is fit to run here.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::ModelArgs;
use crate::engine::Engine;
use crate::model;

#[derive(Args)]
pub struct ModelCmd {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the known networks
    List,
    /// Check a network: manifest, checksum, the graph's inputs and outputs, a warm-up run
    Check(Box<ModelArgs>),
}

impl ModelCmd {
    pub async fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.action {
            Action::List => list(),
            Action::Check(args) => check(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list() {
    println!("{:<20} {:>8} {:<10} description", "name", "MB", "licence");
    for manifest in model::known() {
        println!(
            "{:<20} {:>8} {:<10} {}",
            manifest.name,
            manifest.bytes / 1_000_000,
            manifest.licence,
            manifest.description
        );
    }
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
