//! The metrics registry: every metric of the program, its name, help and labels in one table.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::labels::{
    BudgetState, CacheOutcome, Component, Outcome, PushRefusal, RetryOp, SpanLoss, Stage,
    StartPhase,
};
use crate::effect::Effect;
use crate::error::{Class, Code, Error, Result};
use crate::job::{Quality, Reason};
use crate::version;

mod trials;

pub use trials::{ArmMetrics, ShadowMetrics};

/// 10 ms to 300 s: a stage of a small photo takes tens of milliseconds, a job may take five
/// minutes by its deadline. About two buckets an octave of what people look at (p50 to p99 of
/// jobs, 0.1 s to 10 s), few elsewhere: each costs one series per label.
const SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Batches are small: at 1024² a GPU is busy with four.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Shares of a picture that are subject: tenths, and the ends, where things go wrong.
const COVERAGE: &[f64] = &[
    0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0,
];

/// Shares of a picture that are neither subject nor background: a percent or two with most photos.
const UNCERTAIN: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
];

/// The code label of a job that did not fail.
const NO_CODE: &str = "none";

/// Every metric of the program. A clone is cheap and counts into the same registry.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    jobs: IntCounterVec,
    job_seconds: Histogram,
    stage_seconds: HistogramVec,
    queue_age_seconds: Histogram,
    jobs_in_flight: IntGaugeVec,
    stage_queue_depth: IntGaugeVec,
    batch_size: Histogram,
    matte_coverage_ratio: Histogram,
    matte_uncertain_ratio: Histogram,
    reviews: IntCounterVec,
    inference_seconds: HistogramVec,
    model_load_seconds: Gauge,
    startup_seconds: GaugeVec,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    memory_budget_bytes: IntGaugeVec,
    gpu_memory_bytes: IntGaugeVec,
    retries: IntCounterVec,
    dead_letters: IntCounterVec,
    duplicates: IntCounter,
    notifications_skipped: IntCounterVec,
    cache_requests: IntCounterVec,
    effects_failed: IntCounterVec,
    push_refused: IntCounterVec,
    http_requests: IntCounterVec,
    http_request_seconds: HistogramVec,
    spans_exported: IntCounter,
    spans_lost: IntCounterVec,
    build_info: IntGaugeVec,
    component_up: IntGaugeVec,
    shadow: ShadowMetrics,
    arms: ArmMetrics,
}

/// The state of the memory budget, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetReading {
    /// Taken by jobs.
    pub used: u64,
    /// The whole budget.
    pub total: u64,
    /// Asked for by jobs that wait.
    pub waiting: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Which network ran, and how: bounded by what the process has loaded.
#[derive(Clone, Copy, Debug)]
pub struct NetworkLabels<'a> {
    /// The manifest's name.
    pub model: &'a str,
    /// The execution provider's name.
    pub provider: &'a str,
    /// What it computes in.
    pub precision: &'a str,
}

impl Metrics {
    /// A fresh registry. What has few labels is there from the first scrape, at 0, so that
    /// `rate()` sees the first increment.
    pub fn new() -> Self {
        let new = Builder(Registry::new());
        let inner = Inner {
            jobs: new.counters(
                "jobs_total",
                "Deliveries of jobs, by how they ended.",
                &["outcome", "code", "ingress"],
            ),
            job_seconds: new.histogram(
                "job_seconds",
                "Time of a finished job, from the delivery of its message to the answer.",
                SECONDS,
            ),
            stage_seconds: new.histograms(
                "stage_seconds",
                "Time of one stage of a job.",
                SECONDS,
                &["stage"],
            ),
            queue_age_seconds: new.histogram(
                "queue_age_seconds",
                "Age of messages when they were pulled, since their publication.",
                SECONDS,
            ),
            jobs_in_flight: new.gauges(
                "jobs_in_flight",
                "Jobs between delivery and answer.",
                &["ingress"],
            ),
            stage_queue_depth: new.gauges(
                "stage_queue_depth",
                "Jobs that wait for a stage.",
                &["stage"],
            ),
            batch_size: new.histogram("batch_size", "Photos in one run of the network.", BATCH),
            matte_coverage_ratio: new.histogram(
                "matte_coverage_ratio",
                "Share of a photo that the network took for the subject.",
                COVERAGE,
            ),
            matte_uncertain_ratio: new.histogram(
                "matte_uncertain_ratio",
                "Share of a photo that the network took for neither subject nor background.",
                UNCERTAIN,
            ),
            reviews: new.counters(
                "reviews_total",
                "Mattes that somebody should look at, by each reason that they have.",
                &["reason"],
            ),
            inference_seconds: new.histograms(
                "inference_seconds",
                "Time of one run of the network, whatever its batch.",
                SECONDS,
                &["model", "provider", "precision"],
            ),
            model_load_seconds: new.register(Gauge::with_opts(opts(
                "model_load_seconds",
                "Time it took to build the network's session, without warm-up.",
            ))),
            startup_seconds: new.register(GaugeVec::new(
                opts(
                    "startup_seconds",
                    "Time to readiness, by phase; phases overlap.",
                ),
                &["phase"],
            )),
            bytes_in: new.counter("bytes_in_total", "Bytes read from the store."),
            bytes_out: new.counter("bytes_out_total", "Bytes written to the store."),
            memory_budget_bytes: new.gauges(
                "memory_budget_bytes",
                "Memory for decoded photos: used by jobs, waited for, and in total.",
                &["state"],
            ),
            gpu_memory_bytes: new.gauges(
                "gpu_memory_bytes",
                "Memory of the card, where the network runs on one: used by all, and in total.",
                &["state"],
            ),
            retries: new.counters(
                "retries_total",
                "Attempts that failed and were made again.",
                &["op", "code"],
            ),
            dead_letters: new.counters(
                "dead_letters_total",
                "Messages sent to the dead letters by this worker or its local queue.",
                &["code"],
            ),
            duplicates: new.counter(
                "duplicates_total",
                "Deliveries whose output a former delivery had already written.",
            ),
            notifications_skipped: new.counters(
                "notifications_skipped_total",
                "Storage notifications that are no job.",
                &["reason"],
            ),
            cache_requests: new.counters(
                "cache_requests_total",
                "Photos of the HTTP API, by what the cache of cut-outs did for them.",
                &["outcome"],
            ),
            effects_failed: new.counters(
                "effects_failed_total",
                "Effects that were left out of an answer of the HTTP API.",
                &["effect"],
            ),
            push_refused: new.counters(
                "push_refused_total",
                "Pushes of Pub/Sub, or of somebody who poses as it, that became no delivery.",
                &["reason"],
            ),
            http_requests: new.counters(
                "http_requests_total",
                "HTTP requests answered.",
                &["route", "status"],
            ),
            http_request_seconds: new.histograms(
                "http_request_seconds",
                "Time from an HTTP request's head to its response's head.",
                SECONDS,
                &["route"],
            ),
            spans_exported: new.counter(
                "spans_exported_total",
                "Spans that the collector of traces took.",
            ),
            spans_lost: new.counters(
                "spans_lost_total",
                "Spans that did not reach the collector of traces.",
                &["reason"],
            ),
            build_info: new.gauges(
                "build_info",
                "Always 1; what is running stands in the labels.",
                &["version", "commit", "ort"],
            ),
            component_up: new.gauges(
                "component_up",
                "Whether a part of the worker does its work (1) or not (0), as /health says.",
                &["component"],
            ),
            shadow: ShadowMetrics::new(&new),
            arms: ArmMetrics::new(&new),
            registry: new.0,
        };
        #[cfg(target_os = "linux")]
        register(
            &inner.registry,
            prometheus::process_collector::ProcessCollector::for_self(),
        );
        let metrics = Self(Arc::new(inner));
        metrics.start_at_zero();
        metrics
    }

    fn start_at_zero(&self) {
        let inner = &self.0;
        for stage in Stage::ALL {
            inner.stage_seconds.with_label_values(&[stage.as_str()]);
            inner.stage_queue_depth.with_label_values(&[stage.as_str()]);
        }
        for phase in StartPhase::ALL {
            inner.startup_seconds.with_label_values(&[phase.as_str()]);
        }
        for component in Component::ALL {
            inner.component_up.with_label_values(&[component.as_str()]);
        }
        for reason in PushRefusal::ALL {
            inner.push_refused.with_label_values(&[reason.as_str()]);
        }
        for loss in SpanLoss::ALL {
            inner.spans_lost.with_label_values(&[loss.as_str()]);
        }
        for state in BudgetState::ALL {
            inner
                .memory_budget_bytes
                .with_label_values(&[state.as_str()]);
        }
        for outcome in CacheOutcome::ALL {
            inner.cache_requests.with_label_values(&[outcome.as_str()]);
        }
        for reason in Reason::ALL {
            inner.reviews.with_label_values(&[reason.as_str()]);
        }
        for effect in Effect::ALL {
            inner.effects_failed.with_label_values(&[effect.as_str()]);
        }
        for code in Code::ALL {
            match code.class() {
                Class::Permanent => {
                    inner.dead_letters.with_label_values(&[code.as_str()]);
                }
                Class::Retryable => {
                    inner
                        .retries
                        .with_label_values(&[RetryOp::Job.as_str(), code.as_str()]);
                }
                Class::Fatal => {}
            }
        }
        self.set_runtime("unknown");
    }

    /// Lets an ingress be scraped from the start: how its jobs may end, and how many are in
    /// flight. `name` is [`crate::ingress::Ingress::name`].
    pub fn declare_ingress(&self, name: &'static str) {
        self.0.jobs_in_flight.with_label_values(&[name]);
        let ended = |outcome: Outcome, code| {
            self.0
                .jobs
                .with_label_values(&[outcome.as_str(), code, name]);
        };
        ended(Outcome::Done, NO_CODE);
        ended(Outcome::Duplicate, NO_CODE);
        for code in Code::ALL {
            match code.class() {
                Class::Permanent => ended(Outcome::Failed, code.as_str()),
                Class::Retryable => ended(Outcome::Retried, code.as_str()),
                // The process ends with it: nobody scrapes what comes after.
                Class::Fatal => {}
            }
        }
    }

    /// Lets a route of photos be scraped from the start, with the answers that alerts count.
    pub fn declare_photo_route(&self, route: &'static str) {
        for status in ["200", "500", "504"] {
            self.0.http_requests.with_label_values(&[route, status]);
        }
        self.0.http_request_seconds.with_label_values(&[route]);
    }

    /// A delivery was answered: `code` says why when it failed, `elapsed` runs from the
    /// delivery. Duplicates are counted here too; time is kept of finished jobs only, since a
    /// delivery that was given back says nothing of how long a photo takes.
    pub fn job_finished(
        &self,
        outcome: Outcome,
        code: Option<Code>,
        ingress: &'static str,
        elapsed: Duration,
    ) {
        let code = code.map_or(NO_CODE, Code::as_str);
        self.0
            .jobs
            .with_label_values(&[outcome.as_str(), code, ingress])
            .inc();
        if outcome.is_final() {
            self.0.job_seconds.observe(elapsed.as_secs_f64());
        }
        if outcome == Outcome::Duplicate {
            self.0.duplicates.inc();
        }
    }

    /// A job has been through a stage.
    pub fn stage(&self, stage: Stage, elapsed: Duration) {
        self.0
            .stage_seconds
            .with_label_values(&[stage.as_str()])
            .observe(elapsed.as_secs_f64());
    }

    /// A message was pulled this long after its publication.
    pub fn queue_age(&self, age: Duration) {
        self.0.queue_age_seconds.observe(age.as_secs_f64());
    }

    /// A job of this ingress is in flight for as long as the answer lives.
    #[must_use]
    pub fn in_flight_guard(&self, ingress: &'static str) -> GaugeGuard {
        GaugeGuard::new(self.0.jobs_in_flight.with_label_values(&[ingress]))
    }

    /// A job waits for a stage for as long as the answer lives.
    #[must_use]
    pub fn waiting_guard(&self, stage: Stage) -> GaugeGuard {
        GaugeGuard::new(
            self.0
                .stage_queue_depth
                .with_label_values(&[stage.as_str()]),
        )
    }

    /// The network ran once, for `batch` photos.
    pub fn inference(&self, network: NetworkLabels, batch: usize, elapsed: Duration) {
        let labels = [network.model, network.provider, network.precision];
        self.0.batch_size.observe(batch as f64);
        self.0
            .inference_seconds
            .with_label_values(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// A matte was made, and judged where it is to be.
    pub fn matte(&self, quality: &Quality) {
        self.0.matte_coverage_ratio.observe(quality.coverage);
        self.0.matte_uncertain_ratio.observe(quality.uncertain);
        for reason in &quality.reasons {
            self.0.reviews.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// What is counted of the shadow.
    pub fn shadow(&self) -> &ShadowMetrics {
        &self.0.shadow
    }

    /// What is counted of an experiment's arms.
    pub fn arms(&self) -> &ArmMetrics {
        &self.0.arms
    }

    /// The network's session was built.
    pub fn model_loaded(&self, elapsed: Duration) {
        self.0.model_load_seconds.set(elapsed.as_secs_f64());
    }

    /// A phase of the start is over.
    pub fn startup(&self, phase: StartPhase, elapsed: Duration) {
        self.0
            .startup_seconds
            .with_label_values(&[phase.as_str()])
            .set(elapsed.as_secs_f64());
    }

    /// The phases of the start, `config 0.001 s, …`, for people.
    pub fn start_breakdown(&self) -> String {
        let phases = StartPhase::ALL.iter().map(|phase| {
            let gauge = self.0.startup_seconds.with_label_values(&[phase.as_str()]);
            format!("{} {:.3} s", phase.as_str(), gauge.get())
        });
        phases.collect::<Vec<_>>().join(", ")
    }

    /// Bytes were read from the store.
    pub fn bytes_in(&self, bytes: u64) {
        self.0.bytes_in.inc_by(bytes);
    }

    /// Bytes were written to the store.
    pub fn bytes_out(&self, bytes: u64) {
        self.0.bytes_out.inc_by(bytes);
    }

    /// The memory budget changed.
    pub fn set_budget(&self, reading: BudgetReading) {
        for state in BudgetState::ALL {
            let bytes = match state {
                BudgetState::Used => reading.used,
                BudgetState::Total => reading.total,
                BudgetState::Waiting => reading.waiting,
            };
            self.0
                .memory_budget_bytes
                .with_label_values(&[state.as_str()])
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// The card's memory, bytes. There is no series where the network runs on none.
    pub fn set_gpu_memory(&self, used: u64, total: u64) {
        for (state, bytes) in [(BudgetState::Used, used), (BudgetState::Total, total)] {
            self.0
                .gpu_memory_bytes
                .with_label_values(&[state.as_str()])
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Whether a part of the worker does its work.
    pub fn set_component(&self, component: Component, up: bool) {
        self.0
            .component_up
            .with_label_values(&[component.as_str()])
            .set(i64::from(up));
    }

    /// An attempt failed with `code` and will be made again.
    pub fn retry(&self, op: RetryOp, code: Code) {
        self.0
            .retries
            .with_label_values(&[op.as_str(), code.as_str()])
            .inc();
    }

    /// A message went to the dead letters.
    pub fn dead_letter(&self, code: Code) {
        self.0
            .dead_letters
            .with_label_values(&[code.as_str()])
            .inc();
    }

    /// Lets the skips of notifications be scraped from the start.
    pub fn declare_skip_reasons(&self, reasons: &[&'static str]) {
        for reason in reasons {
            self.0.notifications_skipped.with_label_values(&[reason]);
        }
    }

    /// A storage notification was no job. `reason` is the stable name of the skip.
    pub fn notification_skipped(&self, reason: &'static str) {
        self.0
            .notifications_skipped
            .with_label_values(&[reason])
            .inc();
    }

    /// Counts a photo by what the cache did for it.
    pub fn cache(&self, outcome: CacheOutcome) {
        let labels = [outcome.as_str()];
        self.0.cache_requests.with_label_values(&labels).inc();
    }

    /// Counts an effect that an answer had to leave out.
    pub fn effect_failed(&self, effect: Effect) {
        let labels = [effect.as_str()];
        self.0.effects_failed.with_label_values(&labels).inc();
    }

    /// A push became no delivery.
    pub fn push_refused(&self, reason: PushRefusal) {
        self.0
            .push_refused
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// An HTTP request was answered. `route` is a route's pattern, never the path asked for.
    pub fn http_request(&self, route: &str, status: u16, elapsed: Duration) {
        self.0
            .http_requests
            .with_label_values(&[route, &status.to_string()])
            .inc();
        self.0
            .http_request_seconds
            .with_label_values(&[route])
            .observe(elapsed.as_secs_f64());
    }

    /// The collector of traces took so many spans.
    pub fn spans_exported(&self, spans: usize) {
        self.0.spans_exported.inc_by(spans as u64);
    }

    /// So many spans did not reach it.
    pub fn spans_lost(&self, loss: SpanLoss, spans: usize) {
        self.0
            .spans_lost
            .with_label_values(&[loss.as_str()])
            .inc_by(spans as u64);
    }

    /// The version of ONNX Runtime, once its library is loaded.
    pub fn set_runtime(&self, ort: &str) {
        self.0.build_info.reset();
        self.0
            .build_info
            .with_label_values(&[version::VERSION, version::COMMIT, ort])
            .set(1);
    }

    /// All metrics as Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// `internal` when the encoder refuses a metric: a scrape must fail then, not come out short.
    pub fn render(&self) -> Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.0.registry.gather())
            .map_err(|error| {
                Error::new(Code::Internal, "the metrics cannot be written").caused_by(error)
            })
    }
}

/// One more in a gauge for as long as it lives.
pub struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics and registers them.
struct Builder(Registry);

impl Builder {
    fn register<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("names and labels are literals that Prometheus accepts");
        register(&self.0, metric.clone());
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(Histogram::with_opts(HistogramOpts {
            common_opts: opts(name, help),
            buckets: buckets.to_vec(),
        }))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(
            HistogramOpts {
                common_opts: opts(name, help),
                buckets: buckets.to_vec(),
            },
            labels,
        ))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("cutout")
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry
        .register(Box::new(collector))
        .expect("each metric of the table has a name of its own");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// The metrics as a scraper sees them.
    struct Scrape {
        types: BTreeMap<String, String>,
        help: BTreeMap<String, String>,
        samples: BTreeMap<String, f64>,
    }

    fn scrape(metrics: &Metrics) -> Scrape {
        let mut scrape = Scrape {
            types: BTreeMap::new(),
            help: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        for line in metrics.render().unwrap().lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                scrape.types.insert(name.into(), kind.into());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                scrape.help.insert(name.into(), help.into());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                scrape.samples.insert(series.into(), value.parse().unwrap());
            }
        }
        scrape
    }

    /// A registry in which everything has happened once.
    fn busy() -> Metrics {
        let metrics = Metrics::new();
        let second = Duration::from_secs(1);
        metrics.declare_ingress("pubsub");
        metrics.declare_skip_reasons(&["own_output"]);
        metrics.job_finished(Outcome::Failed, Some(Code::ImageCorrupt), "local", second);
        metrics.stage(Stage::Decode, second);
        metrics.queue_age(second);
        let network = NetworkLabels {
            model: "isnet",
            provider: "cpu",
            precision: "graph",
        };
        metrics.set_gpu_memory(1, 2);
        metrics.inference(network, 2, second);
        metrics.model_loaded(second);
        metrics.startup(StartPhase::Total, second);
        metrics.bytes_in(3);
        metrics.bytes_out(4);
        metrics.retry(RetryOp::StoreRead, Code::StorageUnavailable);
        metrics.dead_letter(Code::ImageCorrupt);
        metrics.notification_skipped("own_output");
        metrics.http_request("/health", 200, second);
        metrics.set_runtime("1.26.0");
        metrics.arms().declare("control");
        metrics
    }

    #[test]
    fn every_metric_of_the_contract_is_scraped() {
        let names: BTreeSet<_> = scrape(&busy())
            .types
            .into_keys()
            .filter_map(|name| name.strip_prefix("cutout_").map(str::to_owned))
            .collect();
        let contract = "jobs_total job_seconds stage_seconds queue_age_seconds jobs_in_flight \
            stage_queue_depth batch_size inference_seconds model_load_seconds startup_seconds \
            bytes_in_total bytes_out_total memory_budget_bytes retries_total dead_letters_total \
            duplicates_total notifications_skipped_total push_refused_total http_requests_total \
            http_request_seconds build_info component_up gpu_memory_bytes cache_requests_total \
            effects_failed_total spans_exported_total spans_lost_total matte_coverage_ratio \
             matte_uncertain_ratio reviews_total shadow_sampled_total shadow_runs_total \
             shadow_difference_ratio shadow_run_seconds shadow_interruptions_total shadow_waiting \
             shadow_waiting_bytes shadow_up arm_jobs_total arm_job_seconds arm_reviews_total";
        let expected: BTreeSet<_> = contract.split_whitespace().map(str::to_owned).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn names_follow_prometheus_rules() {
        let scrape = scrape(&busy());
        for (name, kind) in &scrape.types {
            let help = scrape.help.get(name).map_or("", String::as_str);
            assert!(help.len() > 10, "{name} has no help");
            assert_eq!(
                name.ends_with("_total"),
                kind == "counter",
                "{name} is a {kind}"
            );
            for unit in ["_ms", "millis", "minutes", "_kb", "_mb", "percent"] {
                assert!(!name.contains(unit), "{name} is not in base units");
            }
            let ours = name.starts_with("cutout_");
            assert!(ours || name.starts_with("process_"), "{name}");
        }
        let labels = [
            "arm",
            "code",
            "commit",
            "component",
            "effect",
            "ingress",
            "le",
            "measure",
            "model",
            "op",
            "ort",
            "outcome",
            "phase",
            "precision",
            "provider",
            "reason",
            "route",
            "stage",
            "state",
            "status",
            "version",
        ];
        for series in scrape.samples.keys() {
            let Some((_, pairs)) = series.split_once('{') else {
                continue;
            };
            for pair in pairs.trim_end_matches('}').split("\",") {
                let (label, _) = pair.split_once('=').unwrap();
                assert!(labels.contains(&label), "{series}: new label {label}");
            }
        }
    }

    #[test]
    fn what_has_not_happened_yet_is_scraped_as_zero() {
        let metrics = Metrics::new();
        metrics.declare_ingress("pubsub");
        metrics.declare_skip_reasons(&["own_output"]);
        metrics.declare_photo_route("/remove-background");
        let scrape = scrape(&metrics);
        for series in [
            r#"cutout_jobs_total{code="none",ingress="pubsub",outcome="done"}"#,
            r#"cutout_jobs_total{code="image_corrupt",ingress="pubsub",outcome="failed"}"#,
            r#"cutout_jobs_total{code="out_of_budget",ingress="pubsub",outcome="retried"}"#,
            r#"cutout_stage_seconds_count{stage="infer"}"#,
            r#"cutout_stage_queue_depth{stage="infer"}"#,
            r#"cutout_http_requests_total{route="/remove-background",status="500"}"#,
            r#"cutout_dead_letters_total{code="image_corrupt"}"#,
            r#"cutout_retries_total{code="storage_unavailable",op="job"}"#,
            r#"cutout_notifications_skipped_total{reason="own_output"}"#,
            r#"cutout_push_refused_total{reason="signature"}"#,
            r#"cutout_memory_budget_bytes{state="waiting"}"#,
            r#"cutout_startup_seconds{phase="total"}"#,
            r#"cutout_jobs_in_flight{ingress="pubsub"}"#,
            "cutout_duplicates_total",
            "cutout_bytes_in_total",
            "cutout_job_seconds_count",
        ] {
            assert_eq!(scrape.samples.get(series), Some(&0.0), "{series}");
        }
    }

    #[test]
    fn guards_count_what_lives() {
        let metrics = Metrics::new();
        let first = metrics.in_flight_guard("local");
        let second = metrics.clone().in_flight_guard("local");
        let photo = metrics.in_flight_guard("http");
        let waiting = metrics.waiting_guard(Stage::Infer);
        let depth = r#"cutout_stage_queue_depth{stage="infer"}"#;
        let of_queue = r#"cutout_jobs_in_flight{ingress="local"}"#;
        let of_http = r#"cutout_jobs_in_flight{ingress="http"}"#;
        assert_eq!(scrape(&metrics).samples[of_queue], 2.0);
        assert_eq!(scrape(&metrics).samples[of_http], 1.0);
        assert_eq!(scrape(&metrics).samples[depth], 1.0);
        drop((first, second, waiting));
        assert_eq!(scrape(&metrics).samples[of_queue], 0.0);
        assert_eq!(scrape(&metrics).samples[of_http], 1.0);
        drop(photo);
        assert_eq!(scrape(&metrics).samples[depth], 0.0);
    }

    #[test]
    fn a_delivery_that_is_given_back_does_not_count_as_a_finished_job() {
        let metrics = Metrics::new();
        let error = Error::new(Code::OutOfBudget, "full");
        let second = Duration::from_secs(1);
        metrics.job_finished(Outcome::from(&error), Some(error.code()), "pubsub", second);
        metrics.job_finished(Outcome::Duplicate, None, "pubsub", second);
        let samples = scrape(&metrics).samples;
        assert_eq!(
            samples[r#"cutout_jobs_total{code="out_of_budget",ingress="pubsub",outcome="retried"}"#],
            1.0
        );
        assert_eq!(samples["cutout_job_seconds_count"], 1.0);
        assert_eq!(samples["cutout_duplicates_total"], 1.0);
    }

    #[test]
    fn there_is_one_build_info_and_it_names_the_runtime() {
        let text = busy().render().unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("cutout_build_info{"))
            .collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(r#"ort="1.26.0""#), "{lines:?}");
        assert!(lines[0].contains(version::VERSION), "{lines:?}");
    }
}
