//! A second network that works on a share of the photos when nobody waits for the worker.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::place::Place;
use super::{IngressKind, size};
use crate::error::{Code, Error, Result};
use crate::experiment::Percent;
use crate::model::manifest::Manifest;
use crate::shadow::record;
use crate::shadow::{Limits, Settings};

/// Which network, on how many jobs, and what it may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Shadow")]
pub struct ShadowArgs {
    /// Another network to run on a share of the jobs while the worker has nothing to do, to compare its mattes:
    /// a known name or the path of a manifest; always on ONNX Runtime's CPU kernels
    #[arg(long, env = "CUTOUT_SHADOW_MODEL", value_name = "NAME")]
    pub shadow_model: Option<String>,

    /// Share of the jobs, chosen by their keys
    #[arg(
        long,
        env = "CUTOUT_SHADOW_SHARE",
        default_value = "5%",
        value_name = "PERCENT"
    )]
    pub shadow_share: Percent,

    /// Where records of the differences go: gs://bucket/prefix/; local: a folder of the store
    #[arg(long, env = "CUTOUT_SHADOW_PREFIX", value_name = "PLACE")]
    pub shadow_prefix: Option<String>,

    /// Keep both mattes beside the record when more of the pixels differ by more than a half: a share, 0 to 1
    #[arg(long, env = "CUTOUT_SHADOW_KEEP_ABOVE", default_value_t = 0.01, value_name = "SHARE", value_parser = super::review::share)]
    pub shadow_keep_above: f64,

    /// Photos that may wait for the shadow; more are left out, and counted
    #[arg(
        long,
        env = "CUTOUT_SHADOW_MAX_WAITING",
        default_value_t = 16,
        value_name = "N"
    )]
    pub shadow_max_waiting: usize,

    /// Memory for photos that wait for the shadow and the one it works on, at most a quarter of --memory-budget;
    /// what does not fit is left out, and counted
    #[arg(long, env = "CUTOUT_SHADOW_MEMORY", default_value = "256MiB", value_name = "SIZE", value_parser = size)]
    pub shadow_memory: ByteSize,

    /// How long the start waits for the shadow's network, which loads at idle priority; after that the worker
    /// starts without a shadow
    #[arg(long, env = "CUTOUT_SHADOW_LOAD_WITHIN", default_value = "60s", value_name = "DURATION", value_parser = super::duration)]
    pub shadow_load_within: Duration,
}

impl ShadowArgs {
    /// The name of the shadow's network, if there is to be one.
    pub fn model(&self) -> Option<&str> {
        let model = self.shadow_model.as_deref().map(str::trim);
        model.filter(|model| !model.is_empty())
    }

    /// Everything but the network.
    ///
    /// Errors: `config_invalid`, all that is wrong in one.
    pub fn settings(
        &self,
        shadow: &Manifest,
        own: &Manifest,
        ingress: IngressKind,
    ) -> Result<Settings> {
        const FLAG: &str = "--shadow-prefix";
        let folder = record::folder(shadow);
        let place = match self.shadow_prefix.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => {
                let place = Place::parse(text, FLAG, &record::longest(&folder));
                place.and_then(|place| place.check(FLAG, ingress).map(|()| place))
            }
            _ => Err(Error::new(
                Code::ConfigInvalid,
                "--shadow-model needs --shadow-prefix (CUTOUT_SHADOW_PREFIX): where the differences are stored",
            )),
        };
        let same = shadow.is_treated_as(own);
        let wrong = [
            place.as_ref().err().map(|error| error.message().to_owned()),
            (self.shadow_share.buckets() == 0)
                .then(|| "--shadow-share must be above 0%: leave --shadow-model out instead".into()),
            (self.shadow_max_waiting == 0)
                .then(|| "--shadow-max-waiting must be above zero".into()),
            (self.shadow_memory.as_u64() == 0)
                .then(|| "--shadow-memory must be above zero".into()),
            same.then(|| {
                format!(
                    "--shadow-model {} is the worker's own network: it would be compared with itself",
                    shadow.name
                )
            }),
        ];
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        match place {
            Ok(place) if wrong.is_empty() => Ok(Settings {
                share: self.shadow_share,
                place,
                folder,
                keep_above: self.shadow_keep_above,
                load_within: self.shadow_load_within,
                limits: Limits {
                    waiting: self.shadow_max_waiting,
                    memory: self.shadow_memory.as_u64(),
                },
            }),
            _ => Err(Error::new(Code::ConfigInvalid, wrong.join("; "))),
        }
    }
}
