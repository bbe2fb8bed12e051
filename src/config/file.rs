//! The configuration file: its values become the defaults of the arguments that they belong to.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

use super::invalid;
use crate::error::Result;

/// Reads the configuration file that flags or environment name, and makes its values the
/// defaults of the arguments they belong to, so that they pass the same checks as flags.
/// Returns the command and the argument ids that the file set.
pub fn with_file(command: Command, args: &[OsString]) -> Result<(Command, BTreeSet<String>)> {
    let Some(path) = config_path(&command, args) else {
        return Ok((command, BTreeSet::new()));
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        invalid(format!(
            "cannot read the configuration file {}: {error}",
            path.display()
        ))
    })?;
    apply_file(command, &text, &path)
}

fn config_path(command: &Command, args: &[OsString]) -> Option<PathBuf> {
    let matches = command
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(args)
        .ok()?;
    let mut deepest = &matches;
    loop {
        if let Ok(Some(path)) = deepest.try_get_one::<PathBuf>("config") {
            return Some(path.clone());
        }
        deepest = deepest.subcommand()?.1;
    }
}

fn apply_file(command: Command, text: &str, path: &Path) -> Result<(Command, BTreeSet<String>)> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        invalid(format!(
            "{} is not TOML: {}",
            path.display(),
            error.message()
        ))
    })?;
    let mut accepted = BTreeSet::new();
    collect_long_names(&command, &mut accepted);
    let mut values = Vec::new();
    for (key, value) in &table {
        if !accepted.contains(key) {
            let names: Vec<_> = accepted.iter().map(String::as_str).collect();
            return Err(invalid(format!(
                "{}: {key:?} is not a setting; the settings are {}",
                path.display(),
                names.join(", ")
            )));
        }
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => items
                .iter()
                .filter_map(toml::Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
            _ => {
                return Err(invalid(format!(
                    "{}: {key} must be text, a number, true or false, or a list of texts",
                    path.display()
                )));
            }
        };
        values.push((key.replace('-', "_"), text));
    }
    let ids = values.iter().map(|(id, _)| id.clone()).collect();
    Ok((set_defaults(command, &values), ids))
}

/// Settings that a file may not hold: the file's own name, and what only makes sense typed.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_id() != "config"
}

fn collect_long_names(command: &Command, names: &mut BTreeSet<String>) {
    names.extend(
        command
            .get_arguments()
            .filter(|arg| is_setting(arg))
            .filter_map(|arg| arg.get_long().map(str::to_owned)),
    );
    for sub in command.get_subcommands() {
        collect_long_names(sub, names);
    }
}

fn set_defaults(command: Command, values: &[(String, String)]) -> Command {
    let present: BTreeSet<String> = command
        .get_arguments()
        .filter(|arg| is_setting(arg))
        .map(|arg| arg.get_id().to_string())
        .collect();
    let mut command = command;
    for (id, value) in values.iter().filter(|(id, _)| present.contains(id)) {
        command = command.mut_arg(id, |arg| arg.default_value(value.clone()));
    }
    command.mut_subcommands(|sub| set_defaults(sub, values))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{CommonArgs, LimitArgs, Origin, Setting, settings};
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Probe {
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        common: CommonArgs,
    }

    fn parse(file: &str, args: &[&str]) -> Result<(Probe, Vec<Setting>)> {
        use clap::{CommandFactory, FromArgMatches};
        let (mut command, ids) = apply_file(Probe::command(), file, Path::new("test.toml"))?;
        let matches = command
            .clone()
            .try_get_matches_from(std::iter::once("probe").chain(args.iter().copied()))
            .map_err(|error| invalid(error.to_string()))?;
        command.build();
        let settings = settings(&command, &matches, &ids);
        let probe =
            Probe::from_arg_matches(&matches).map_err(|error| invalid(error.to_string()))?;
        Ok((probe, settings))
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "max-pixels = 7\njob-timeout = \"5m\"\n";
        let (probe, settings) = parse(file, &["--max-pixels", "9"]).unwrap();
        assert_eq!(probe.limits.max_pixels, 9);
        assert_eq!(probe.limits.job_timeout, Duration::from_secs(300));
        let origin = |flag: &str| settings.iter().find(|s| s.flag == flag).unwrap().origin;
        assert_eq!(origin("max-pixels"), Origin::Flag);
        assert_eq!(origin("job-timeout"), Origin::File);
        assert_eq!(origin("max-file-bytes"), Origin::Default);
    }

    #[test]
    fn an_unknown_key_and_an_impossible_value_in_the_file_are_errors() {
        let error = parse("max-pixel = 7", &[]).unwrap_err();
        assert!(error.message().contains("max-pixels"), "{error}");
        let error = parse("job-timeout = 300", &[]).unwrap_err();
        assert!(error.message().contains("unit"), "{error}");
        assert!(parse("max-pixels = [1, 2]", &[]).is_err());
    }
}
