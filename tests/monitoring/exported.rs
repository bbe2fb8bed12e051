//! What a worker exports: its metrics, their labels, and the values that those may take.

use std::collections::{BTreeMap, BTreeSet};

use cutout::config::IngressKind;
use cutout::effect::Effect;
use cutout::error::Code;
use cutout::telemetry::labels::{
    BudgetState, CacheOutcome, Component, Outcome, PushRefusal, RetryOp, Stage, StartPhase,
};
use cutout::telemetry::metrics::Metrics;

/// Labels that Prometheus gives every series it scrapes.
pub const TARGET: [&str; 2] = ["job", "instance"];

/// Everything that can be asked for.
#[derive(Clone, Debug, Default)]
pub struct Exported(BTreeMap<String, Metric>);

/// One metric as `/metrics` describes it.
#[derive(Clone, Debug, Default)]
struct Metric {
    /// `counter`, `gauge` or `histogram`.
    kind: String,
    /// Each label, with the values that were seen.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// One kind of series, as a query names it.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whether it only ever grows, so that `rate` and `increase` mean something.
    pub counts: bool,
    /// Its labels, [`TARGET`] included.
    pub labels: BTreeSet<String>,
    metric: String,
    seen: BTreeMap<String, BTreeSet<String>>,
}

impl Exported {
    /// Reads Prometheus' text format, as far as the worker writes it.
    pub fn parse(text: &str) -> Self {
        let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap();
                metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, pairs) = series
                .split_once('{')
                .map_or((series, ""), |(name, pairs)| {
                    (name, pairs.trim_end_matches('}'))
                });
            let of = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| metrics.get(*base).is_some_and(|m| m.kind == "histogram"))
                .unwrap_or(name)
                .to_owned();
            let metric = metrics.get_mut(&of).expect("a TYPE line comes first");
            for pair in pairs.split("\",").filter(|pair| !pair.is_empty()) {
                let (label, value) = pair.split_once("=\"").unwrap();
                let values = metric.labels.entry(label.to_owned()).or_default();
                values.insert(value.trim_end_matches('"').to_owned());
            }
        }
        Self(metrics)
    }

    /// Adds what no worker on this machine can export: the memory of a card that is not there.
    pub fn with_a_card(mut self) -> Self {
        let metrics = Metrics::new();
        metrics.set_gpu_memory(1, 2);
        let name = "cutout_gpu_memory_bytes";
        let card = Self::parse(&metrics.render().unwrap()).0.remove(name);
        self.0.insert(name.to_owned(), card.unwrap());
        self
    }

    /// Adds what Prometheus itself exports about these alerts.
    pub fn with_alerts<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        let values = |list: &[&str]| list.iter().map(|&value| value.to_owned()).collect();
        let labels = [
            ("alertname", names.map(str::to_owned).collect()),
            ("alertstate", values(&["pending", "firing"])),
            ("severity", values(&["critical", "warning"])),
        ];
        self.0.insert(
            "ALERTS".to_owned(),
            Metric {
                kind: "gauge".to_owned(),
                labels: labels
                    .map(|(label, values)| (label.to_owned(), values))
                    .into(),
            },
        );
        self
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a query asks for by this name; `None` when nothing has it. The bare name of a histogram
    /// is no series.
    pub fn series(&self, name: &str) -> Option<Series> {
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)))
            .and_then(|(base, suffix)| Some((base, self.histogram(base)?, suffix)));
        let (metric, found, counts, bucket) = match part {
            Some((base, found, suffix)) => (base, found, true, suffix == "_bucket"),
            None => {
                let found = self.0.get(name).filter(|found| found.kind != "histogram")?;
                (name, found, found.kind == "counter", false)
            }
        };
        let own = found.labels.keys().map(String::as_str);
        Some(Series {
            counts,
            labels: own
                .filter(|label| bucket || *label != "le")
                .chain(TARGET)
                .map(str::to_owned)
                .collect(),
            metric: metric.to_owned(),
            seen: found.labels.clone(),
        })
    }

    fn histogram(&self, base: &str) -> Option<&Metric> {
        self.0.get(base).filter(|found| found.kind == "histogram")
    }
}

impl Series {
    /// The values that a label of it can have: those of the program's own enumeration where there is
    /// one, else those that were seen. `None`: any.
    pub fn values(&self, label: &str) -> Option<BTreeSet<String>> {
        fn all<T: Copy>(list: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
            list.iter().map(|&value| text(value)).collect()
        }
        let kinds = [IngressKind::Local, IngressKind::PubSub, IngressKind::Push];
        let closed = match (self.metric.as_str(), label) {
            (_, "job" | "instance") => return None,
            (_, "status") => return Some((100..600).map(|status| status.to_string()).collect()),
            ("cutout_jobs_total", "outcome") => all(Outcome::ALL, Outcome::as_str),
            ("cutout_cache_requests_total", "outcome") => {
                all(CacheOutcome::ALL, CacheOutcome::as_str)
            }
            ("cutout_push_refused_total", "reason") => all(PushRefusal::ALL, PushRefusal::as_str),
            (_, "code") => [all(Code::ALL, Code::as_str), vec!["none"]].concat(),
            (_, "component") => all(Component::ALL, Component::as_str),
            (_, "effect") => all(&Effect::ALL, Effect::as_str),
            (_, "ingress") => [all(&kinds, IngressKind::as_str), vec!["http"]].concat(),
            (_, "op") => all(RetryOp::ALL, RetryOp::as_str),
            (_, "phase") => all(StartPhase::ALL, StartPhase::as_str),
            (_, "stage") => all(Stage::ALL, Stage::as_str),
            (_, "state") => all(BudgetState::ALL, BudgetState::as_str),
            _ => return Some(self.seen.get(label).cloned().unwrap_or_default()),
        };
        Some(closed.into_iter().map(str::to_owned).collect())
    }
}
