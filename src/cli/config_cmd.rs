//! `cutout config`: the worker's effective configuration, and where each value comes from.

use std::process::ExitCode;

use clap::Args;

use super::{Context, worker};
use crate::config;

/// Takes the worker's flags, so that a command line can be checked before it is deployed.
#[derive(Args)]
pub struct ConfigCmd {
    #[command(flatten)]
    worker: worker::WorkerCmd,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl ConfigCmd {
    pub fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        self.worker.check()?;
        let (Some(command), Some(matches)) = (
            context.command.find_subcommand("config"),
            context.matches.subcommand_matches("config"),
        ) else {
            anyhow::bail!("`config` is not the command that was parsed");
        };
        let settings = config::settings(command, matches, &context.from_file);
        if self.json {
            let object: serde_json::Map<_, _> = settings
                .into_iter()
                .map(|s| {
                    let entry = serde_json::json!({
                        "value": s.value, "origin": s.origin.to_string(), "variable": s.variable,
                    });
                    (s.flag, entry)
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&object)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "{:<24} {:<30} {:<12} value",
            "setting", "variable", "origin"
        );
        for s in settings {
            println!(
                "{:<24} {:<30} {:<12} {}",
                s.flag, s.variable, s.origin, s.value
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}
