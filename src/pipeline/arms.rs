//! The networks of an experiment, and which of them works on a job.

use crate::engine::Engine;
use crate::experiment::{ArmUsed, Experiment, Side};
use crate::job::Job;
use crate::object::Generation;

/// An experiment with its loaded networks.
#[derive(Clone)]
pub struct Arms {
    experiment: Experiment,
    engines: Vec<Engine>,
}

/// A network that works on a job, and where that puts it.
pub(super) struct Placed {
    pub engine: Engine,
    /// `None` for a job that is no part of an experiment.
    pub arm: Option<ArmUsed>,
}

impl Placed {
    /// On the worker's own network, and in no experiment.
    pub fn own(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            arm: None,
        }
    }

    /// The job's key on this network.
    pub fn key(&self, job: &Job, generation: Generation) -> String {
        job.key(generation, &self.engine.info().manifest.sha256)
    }
}

impl Arms {
    /// One engine for each arm, in their order.
    pub const fn new(experiment: Experiment, engines: Vec<Engine>) -> Self {
        Self {
            experiment,
            engines,
        }
    }

    /// The arms' engines.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter()
    }

    /// Every arm's name, control's first.
    pub fn names(&self) -> impl Iterator<Item = ArmUsed> {
        self.experiment
            .sides()
            .map(|side| self.experiment.told(side))
    }

    /// Where a job belongs, if it is a part of the experiment.
    pub fn arm(&self, job: &Job) -> Option<ArmUsed> {
        let side = self.experiment.assign(job)?;
        Some(self.experiment.told(side))
    }

    /// The networks that may have worked on a job, the one that shall first.
    pub(super) fn places(&self, job: &Job, own: &Engine) -> Vec<Placed> {
        let Some(assigned) = self.experiment.assign(job) else {
            // One that names its network has that; admission knows that it is here.
            let wanted = job.model.as_deref();
            let named = |engine: &&Engine| Some(&*engine.info().manifest.name) == wanted;
            let engine = std::iter::once(own).chain(&self.engines).find(named);
            return vec![Placed::own(engine.unwrap_or(own))];
        };
        let others = self.experiment.sides().filter(|side| *side != assigned);
        let sides = std::iter::once(assigned).chain(others);
        let place = |side| Placed {
            engine: match side {
                Side::Control => own.clone(),
                Side::Arm(nth) => self.engines[nth].clone(),
            },
            arm: Some(self.experiment.told(side)),
        };
        sides.map(place).collect()
    }
}
