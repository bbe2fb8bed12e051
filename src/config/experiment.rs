//! Other networks on shares of the jobs: an A/B test.

use clap::Args;

use crate::error::{Code, Error, Result};
use crate::experiment::{ArmSpec, Experiment, StableKey};

/// Which networks work on which jobs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "A/B test")]
pub struct ExperimentArgs {
    /// The experiment's name: in results, and what the jobs are spread by; another name spreads them anew
    #[arg(long, env = "CUTOUT_AB_EXPERIMENT", value_name = "NAME")]
    pub ab_experiment: Option<String>,

    /// Another network for a share of the jobs, such as big=isnet-medium:10%; repeated or comma-separated,
    /// in an order that stays. The worker's own network (control) has the rest
    #[arg(
        long,
        env = "CUTOUT_AB_ARM",
        value_delimiter = ',',
        value_name = "NAME=MODEL:PERCENT"
    )]
    pub ab_arm: Vec<String>,

    /// What always gets the same network: source (a photo), job_id, or metadata.NAME (such as a customer)
    #[arg(
        long,
        env = "CUTOUT_AB_KEY",
        default_value = "source",
        value_name = "KEY"
    )]
    pub ab_key: StableKey,
}

impl ExperimentArgs {
    /// The arms as they are written. Text until here, as an empty variable stands for none, like everywhere.
    ///
    /// Errors: `config_invalid`.
    pub fn arms(&self) -> Result<Vec<ArmSpec>> {
        let given = self.ab_arm.iter().filter(|arm| !arm.trim().is_empty());
        given
            .map(|arm| arm.parse())
            .collect::<Result<_, String>>()
            .map_err(|what| Error::new(Code::ConfigInvalid, format!("--ab-arm: {what}")))
    }

    /// The experiment, if there is one.
    ///
    /// Errors: `config_invalid` for arms without a name over them, and as [`Self::arms`] and [`Experiment::new`].
    pub fn experiment(&self) -> Result<Option<Experiment>> {
        let arms = self.arms()?;
        let name = self.ab_experiment.as_deref().map(str::trim);
        let name = name.filter(|name| !name.is_empty());
        match (name, arms.is_empty()) {
            (_, true) => Ok(None),
            (None, false) => Err(Error::new(
                Code::ConfigInvalid,
                "arms (--ab-arm) need --ab-experiment (CUTOUT_AB_EXPERIMENT): jobs are spread by its name, and results tell it",
            )),
            (Some(name), false) => Experiment::new(name, self.ab_key.clone(), &arms).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(arms: &[&str]) -> ExperimentArgs {
        ExperimentArgs {
            ab_experiment: Some("fur".to_owned()),
            ab_arm: arms.iter().map(|&arm| arm.to_owned()).collect(),
            ab_key: StableKey::Source,
        }
    }

    #[test]
    fn an_empty_arm_is_none_and_a_wrong_one_says_how_to_write_it() {
        assert!(args(&[]).experiment().unwrap().is_none());
        assert!(args(&["", " "]).experiment().unwrap().is_none());
        assert_eq!(args(&["big=isnet-medium:5%", ""]).arms().unwrap().len(), 1);
        let error = args(&["isnet-medium"]).experiment().unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains("NAME=MODEL:PERCENT"), "{error:?}");
    }
}
