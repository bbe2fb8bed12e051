//! The settings in effect and where each comes from, for `cutout config`.

use std::collections::BTreeSet;
use std::fmt;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// One line of `cutout config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Long flag without dashes.
    pub flag: String,
    /// Its environment variable.
    pub variable: String,
    /// The value in effect, as text; empty when unset.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The effective settings of a parsed command, in the order of its help.
pub fn settings(
    command: &Command,
    matches: &ArgMatches,
    from_file: &BTreeSet<String>,
) -> Vec<Setting> {
    command
        .get_arguments()
        .filter_map(|arg| {
            let id = arg.get_id().as_str();
            let flag = arg.get_long()?.to_owned();
            let variable = arg.get_env()?.to_string_lossy().into_owned();
            let value = matches
                .try_get_raw(id)
                .ok()
                .flatten()
                .map(|values| {
                    values
                        .map(|v| v.to_string_lossy())
                        .collect::<Vec<_>>()
                        .join(",")
                })
                .map(|value| match arg.is_hide_env_values_set() {
                    true => without_secrets(&value),
                    false => value,
                })
                .unwrap_or_default();
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                Some(ValueSource::EnvVariable) => Origin::Environment,
                _ if from_file.contains(id) => Origin::File,
                _ => Origin::Default,
            };
            Some(Setting {
                flag,
                variable,
                value,
                origin,
            })
        })
        .collect()
}

/// `NAME=VALUE,…` without the values.
fn without_secrets(pairs: &str) -> String {
    let names = pairs.split(',').map(|pair| {
        let name = pair.split_once('=').map_or("", |(name, _)| name.trim());
        format!("{name}=***")
    });
    names.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_among_the_settings() {
        let shown = without_secrets("authorization=Bearer x, x-key=1=2,garbage");
        assert_eq!(shown, "authorization=***,x-key=***,=***");
    }
}
