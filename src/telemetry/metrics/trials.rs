//! What is counted of other networks: the shadow's, and the arms' of an experiment.

use std::fmt;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::{Builder, SECONDS, opts};
use crate::shadow::difference::Difference;
use crate::telemetry::labels::{DifferenceMeasure, Outcome, ShadowOutcome};

/// Networks that are much the same are a thousandth apart; a photo that one of them gets wrong, a tenth.
const DIFFERENCE: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// The shadow's.
pub struct ShadowMetrics {
    up: IntGauge,
    sampled: IntCounter,
    ended: IntCounterVec,
    difference: HistogramVec,
    run_seconds: Histogram,
    interruptions: IntCounter,
    waiting: IntGauge,
    waiting_bytes: IntGauge,
}

impl ShadowMetrics {
    pub(super) fn new(new: &Builder) -> Self {
        let gauge = |name, help| new.register(IntGauge::with_opts(opts(name, help)));
        let metrics = Self {
            up: gauge(
                "shadow_up",
                "Whether a shadow is loaded and takes photos (1) or not (0).",
            ),
            sampled: new.counter(
                "shadow_sampled_total",
                "Jobs that were chosen for the shadow.",
            ),
            ended: new.counters(
                "shadow_runs_total",
                "Jobs that were chosen for the shadow, by how that ended.",
                &["outcome"],
            ),
            difference: new.histograms(
                "shadow_difference_ratio",
                "How far the shadow's matte and the job's own are apart, 0 to 1.",
                DIFFERENCE,
                &["measure"],
            ),
            run_seconds: new.histogram(
                "shadow_run_seconds",
                "Time of one run of the shadow's network that came through.",
                SECONDS,
            ),
            interruptions: new.counter(
                "shadow_interruptions_total",
                "Times that the shadow had begun and gave way to a photo.",
            ),
            waiting: gauge(
                "shadow_waiting",
                "Photos that wait for the shadow, with the one that it works on.",
            ),
            waiting_bytes: gauge(
                "shadow_waiting_bytes",
                "Memory of the files and mattes that wait for the shadow.",
            ),
        };
        for outcome in ShadowOutcome::ALL {
            metrics.ended.with_label_values(&[outcome.as_str()]);
        }
        for measure in DifferenceMeasure::ALL {
            metrics.difference.with_label_values(&[measure.as_str()]);
        }
        metrics
    }

    /// The shadow takes photos.
    pub fn loaded(&self) {
        self.up.set(1);
    }

    /// It does not any more.
    pub fn gone(&self) {
        self.up.set(0);
    }

    /// A job was chosen.
    pub fn sampled(&self) {
        self.sampled.inc();
    }

    /// That ended.
    pub fn ended(&self, outcome: ShadowOutcome) {
        self.ended.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Two mattes were compared; the run took so many seconds.
    pub fn found(&self, difference: &Difference, seconds: f64) {
        for measure in DifferenceMeasure::ALL {
            let value = match measure {
                DifferenceMeasure::Mean => difference.mean,
                DifferenceMeasure::Disagreeing => difference.disagreeing,
                DifferenceMeasure::Jaccard => 1.0 - difference.iou,
            };
            self.difference
                .with_label_values(&[measure.as_str()])
                .observe(value);
        }
        self.run_seconds.observe(seconds);
    }

    /// It had begun, and a photo came.
    pub fn gave_way(&self) {
        self.interruptions.inc();
    }

    /// So many wait, with so many bytes.
    pub fn set_waiting(&self, photos: usize, bytes: u64) {
        self.waiting.set(i64::try_from(photos).unwrap_or(i64::MAX));
        self.waiting_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The counts so far.
    pub fn summary(&self) -> Summary {
        let count = |outcome: &ShadowOutcome| {
            let counter = self.ended.with_label_values(&[outcome.as_str()]);
            (*outcome, counter.get())
        };
        Summary {
            sampled: self.sampled.get(),
            ended: ShadowOutcome::ALL.iter().map(count).collect(),
        }
    }
}

/// The shadow's counts, for the log and for tests.
pub struct Summary {
    /// Jobs that were chosen.
    pub sampled: u64,
    ended: Vec<(ShadowOutcome, u64)>,
}

impl Summary {
    /// How many of them ended so.
    pub fn of(&self, outcome: ShadowOutcome) -> u64 {
        let found = self.ended.iter().find(|(one, _)| *one == outcome);
        found.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sampled {}", self.sampled)?;
        for (outcome, count) in &self.ended {
            write!(f, ", {} {count}", outcome.as_str())?;
        }
        Ok(())
    }
}

/// The arms'. Their names are the configuration's, so there are no more series than it has arms.
pub struct ArmMetrics {
    jobs: IntCounterVec,
    job_seconds: HistogramVec,
    reviews: IntCounterVec,
}

impl ArmMetrics {
    pub(super) fn new(new: &Builder) -> Self {
        Self {
            jobs: new.counters(
                "arm_jobs_total",
                "Deliveries of jobs of an experiment, by arm and by how they ended.",
                &["arm", "outcome"],
            ),
            job_seconds: new.histograms(
                "arm_job_seconds",
                "Time of a finished job of an experiment, from the delivery of its message to the answer.",
                SECONDS,
                &["arm"],
            ),
            reviews: new.counters(
                "arm_reviews_total",
                "Jobs of an experiment that were done and whose mattes somebody should look at.",
                &["arm"],
            ),
        }
    }

    /// Lets an arm be scraped from the start.
    pub fn declare(&self, arm: &str) {
        for outcome in Outcome::ALL {
            self.jobs.with_label_values(&[arm, outcome.as_str()]);
        }
        self.job_seconds.with_label_values(&[arm]);
        self.reviews.with_label_values(&[arm]);
    }

    /// A delivery of a job of this arm was answered.
    pub fn finished(&self, arm: &str, outcome: Outcome, elapsed: Duration) {
        self.jobs.with_label_values(&[arm, outcome.as_str()]).inc();
        if outcome.is_final() {
            let seconds = self.job_seconds.with_label_values(&[arm]);
            seconds.observe(elapsed.as_secs_f64());
        }
    }

    /// Somebody should look at its picture.
    pub fn review(&self, arm: &str) {
        self.reviews.with_label_values(&[arm]).inc();
    }
}
