//! The worker's other networks: the arms of an A/B test, and the shadow.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::start_engine_of;
use crate::config::{ExperimentArgs, HomeArgs, IngressKind, ModelArgs, ShadowArgs};
use crate::engine::Engine;
use crate::engine::precision::PrecisionChoice;
use crate::engine::provider::{ProviderChoice, ProviderOptions};
use crate::engine::session::SessionConfig;
use crate::error::{Code, Error, Result};
use crate::experiment::Experiment;
use crate::model::{self, manifest::Manifest};
use crate::pipeline::arms::Arms;
use crate::pipeline::decode::Limits;
use crate::pipeline::presence::Presence;
use crate::shadow::{Loaded, Settings, Shadow};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// What was asked for, checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Trials {
    /// The experiment, with the network of each arm.
    experiment: Option<(Experiment, Vec<Manifest>)>,
    /// The shadow's network.
    shadow: Option<(Manifest, Settings)>,
}

impl Trials {
    /// Rejects what cannot work. `own` is the worker's network.
    ///
    /// Errors: `config_invalid`, and `model_invalid` for a network that is not known here.
    pub fn check(
        experiment: &ExperimentArgs,
        shadow: &ShadowArgs,
        home: &HomeArgs,
        own: &Manifest,
        ingress: IngressKind,
    ) -> Result<Self> {
        let models_dir = home.models_dir().ok();
        let manifest = |name: &str| model::find(name, models_dir.as_deref());
        let arms = match experiment.experiment()? {
            Some(found) => {
                let arms = experiment.arms()?;
                let networks = arms.iter().map(|arm| manifest(&arm.model));
                Some((found, networks.collect::<Result<_>>()?))
            }
            None => None,
        };
        let shadow = match shadow.model() {
            Some(name) => {
                let network = manifest(name)?;
                let settings = shadow.settings(&network, own, ingress)?;
                Some((network, settings))
            }
            None => None,
        };
        Ok(Self {
            experiment: arms,
            shadow,
        })
    }

    /// The arms' networks, by the names that jobs may ask for.
    pub fn names(&self) -> Vec<String> {
        let networks = self.experiment.iter().flat_map(|(_, networks)| networks);
        networks.map(|network| network.name.clone()).collect()
    }

    /// Memory that is the loaded shadow's, bytes: at most a quarter of what there is for photos.
    pub fn reserve(&mut self, loaded: bool, for_photos: u64) -> u64 {
        let Some((_, settings)) = self.shadow.as_mut().filter(|_| loaded) else {
            return 0;
        };
        let memory = &mut settings.limits.memory;
        *memory = (*memory).min(for_photos / 4);
        *memory
    }

    /// Loads the arms' networks, each once. `own` is the worker's; an arm may be it again, as a test of the test.
    pub async fn arms(&self, args: &ModelArgs, own: &Engine) -> Result<Option<Arms>> {
        let Some((experiment, networks)) = &self.experiment else {
            return Ok(None);
        };
        let mut engines = vec![own.clone()];
        let mut of_arms = Vec::with_capacity(networks.len());
        for network in networks {
            let loaded = engines
                .iter()
                .find(|engine| engine.info().manifest.is_treated_as(network));
            let engine = match loaded {
                Some(engine) => engine.clone(),
                None => start_engine_of(args, network.clone(), true).await?.engine,
            };
            engines.push(engine.clone());
            of_arms.push(engine);
        }
        Ok(Some(Arms::new(experiment.clone(), of_arms)))
    }

    /// Loads the shadow's network on its own thread.
    pub async fn shadow(
        &self,
        args: &ModelArgs,
        presence: &Presence,
        limits: Limits,
    ) -> Result<Option<Loaded>> {
        let Some((network, settings)) = &self.shadow else {
            return Ok(None);
        };
        let models_dir = args.home.models_dir()?;
        let verified = network.clone();
        let file = tokio::task::spawn_blocking(move || model::verify(&verified, &models_dir));
        let ended = |error| Error::new(Code::Internal, "cannot load the shadow").caused_by(error);
        let file = file.await.map_err(ended)??;
        // Other providers have threads that the worker's own network shares, and a card has none to spare.
        let session = SessionConfig {
            provider: ProviderChoice::Cpu,
            options: ProviderOptions {
                threads: args.threads(),
                ..ProviderOptions::default()
            },
            precision: PrecisionChoice::Auto,
            max_batch: 1,
            ..args.session(network.clone(), file)?
        };
        Loaded::start(session, settings, presence.clone(), limits).await
    }

    /// Lets the loaded shadow begin. Its bucket is asked for: one that is not there is refused, but one that does
    /// not answer is no reason for jobs to wait.
    pub async fn open(
        self,
        loaded: Option<Loaded>,
        store: &Arc<dyn Store>,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Result<Option<Shadow>> {
        let (Some(loaded), Some((_, settings))) = (loaded, self.shadow) else {
            return Ok(None);
        };
        if let Some(bucket) = &settings.place.bucket {
            match store.probe(Some(bucket)).await {
                Err(error) if error.code() == Code::ConfigInvalid => return Err(error),
                Err(error) => tracing::warn!(
                    code = %error.code(), error = error.chain(),
                    "the place for the shadow's records does not answer"
                ),
                Ok(()) => {}
            }
        }
        Ok(Some(loaded.open(
            settings,
            Arc::clone(store),
            metrics.clone(),
            stop,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        shadow: ShadowArgs,
        #[command(flatten)]
        home: HomeArgs,
    }

    fn check(args: &[&str]) -> Result<Trials> {
        let nowhere = ["probe", "--home", "/nowhere"];
        let probe = Probe::parse_from(nowhere.iter().chain(args));
        let own = model::find("isnet-medium", None).unwrap();
        let (experiment, shadow) = (&probe.experiment, &probe.shadow);
        Trials::check(experiment, shadow, &probe.home, &own, IngressKind::PubSub)
    }

    #[test]
    fn a_shadow_takes_its_memory_from_the_photos_and_at_most_a_quarter_of_it() {
        let place = [
            "--shadow-model",
            "isnet-small",
            "--shadow-prefix",
            "gs://perkie/shadow",
        ];
        let mut trials = check(&place).unwrap();
        assert_eq!(trials.reserve(true, 8 << 30), 256 << 20);
        let mut trials = check(&place).unwrap();
        assert_eq!(trials.reserve(true, 256 << 20), 64 << 20);
        assert_eq!(trials.reserve(false, 8 << 30), 0, "it was not loaded");
        assert_eq!(check(&[]).unwrap().reserve(true, 8 << 30), 0);
    }

    #[test]
    fn jobs_may_name_every_network_that_an_arm_has() {
        let trials = check(&["--ab-experiment", "fur", "--ab-arm", "a=isnet-small:1%"]).unwrap();
        assert_eq!(trials.names(), ["isnet-small"]);
        let error = check(&["--ab-experiment", "fur", "--ab-arm", "a=u3net:1%"]).unwrap_err();
        assert_eq!(error.code(), Code::ModelInvalid);
    }
}
