//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use crate::engine::EngineInfo;
use crate::error::Code;
use crate::evaluate::summary::Summary;
use crate::evaluate::{Better, Measure, Scores};
use crate::version::VERSION;

/// One photo's measures.
pub(super) struct Measured {
    pub width: u32,
    pub height: u32,
    pub scores: Scores,
}

/// A photo that could not be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub name: String,
    pub code: Code,
    pub message: String,
}

/// A network, or a folder of mattes.
pub(super) struct Contender {
    pub name: String,
    network: Option<NetworkJson>,
    took: Duration,
    /// By name, so that tables do not depend on who was first.
    photos: BTreeMap<String, Measured>,
    failures: Vec<Failed>,
}

impl Contender {
    fn new(name: String, network: Option<NetworkJson>) -> Self {
        Self {
            name,
            network,
            took: Duration::ZERO,
            photos: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    pub fn network(info: &EngineInfo) -> Self {
        let network = NetworkJson {
            sha256: info.manifest.sha256.clone(),
            provider: info.provider.as_str(),
            precision: info.precision.as_str(),
            runtime: info.runtime.clone(),
        };
        Self::new(info.manifest.name.clone(), Some(network))
    }

    pub fn folder(folder: &Path) -> Self {
        Self::new(folder.display().to_string(), None)
    }

    pub fn add(&mut self, name: String, measured: Measured) {
        self.photos.insert(name, measured);
    }

    /// Names it at once, as the others may take long.
    pub fn fail(&mut self, failed: Failed, bar: &ProgressBar) {
        bar.suspend(|| eprintln!("{}: {} ({})", failed.name, failed.message, failed.code));
        self.failures.push(failed);
    }

    pub fn finish(&mut self, took: Duration) {
        self.took = took;
        self.failures.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn scores(&self) -> Vec<Scores> {
        self.photos
            .values()
            .map(|photo| photo.scores.clone())
            .collect()
    }
}

/// How far a contender is ahead of the first one, on the photos that both were measured on.
struct Difference {
    photos: usize,
    measures: Vec<Option<Summary>>,
}

impl Difference {
    fn of(ours: &Contender, first: &Contender) -> Self {
        let both = || {
            ours.photos
                .keys()
                .filter(|name| first.photos.contains_key(*name))
        };
        let scores = |contender: &Contender| -> Vec<Scores> {
            both()
                .map(|name| contender.photos[name].scores.clone())
                .collect()
        };
        let (ours, theirs) = (scores(ours), scores(first));
        Self {
            photos: ours.len(),
            measures: Measure::ALL
                .map(|measure| Summary::of_difference(&ours, &theirs, measure))
                .into(),
        }
    }
}

/// Everything.
pub(super) struct Report {
    masks: PathBuf,
    pub contenders: Vec<Contender>,
    /// Contender by contender, in the order of measures.
    means: Vec<Vec<Option<Summary>>>,
    /// The same, without the first.
    differences: Vec<Difference>,
}

impl Report {
    pub fn new(masks: &Path) -> Self {
        Self {
            masks: masks.to_owned(),
            contenders: Vec::new(),
            means: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// Once all are measured: means, and differences to the first.
    pub fn compare(&mut self) {
        let means = self.contenders.iter().map(|contender| {
            let scores = contender.scores();
            Measure::ALL
                .map(|measure| Summary::of(&scores, measure))
                .into()
        });
        self.means = means.collect();
        let Some((first, others)) = self.contenders.split_first() else {
            return;
        };
        self.differences = others
            .iter()
            .map(|other| Difference::of(other, first))
            .collect();
    }

    pub fn failures(&self) -> usize {
        self.contenders
            .iter()
            .map(|contender| contender.failures.len())
            .sum()
    }

    /// A row for each measure, a column for each contender and, from the second on, one for what it is ahead of
    /// the first.
    pub fn markdown(&self) -> String {
        let mut table = String::from("| measure |");
        for (i, contender) in self.contenders.iter().enumerate() {
            let _ = write!(table, " {} |", contender.name);
            if i > 0 {
                let _ = write!(table, " less {} |", self.contenders[0].name);
            }
        }
        let columns = (2 * self.contenders.len()).max(1);
        let _ = writeln!(table, "\n|{}", "---|".repeat(columns));
        for (row, measure) in Measure::ALL.into_iter().enumerate() {
            let arrow = match measure.better() {
                Better::Higher => '↑',
                Better::Lower => '↓',
            };
            let _ = write!(table, "| {} {arrow} |", measure.title());
            for (i, means) in self.means.iter().enumerate() {
                let _ = write!(table, " {} |", cell(means[row], false));
                if let Some(difference) = i.checked_sub(1).map(|i| &self.differences[i]) {
                    let _ = write!(table, " {} |", cell(difference.measures[row], true));
                }
            }
            table.push('\n');
        }
        table.push_str("| photos |");
        for (i, contender) in self.contenders.iter().enumerate() {
            let _ = write!(table, " {} |", contender.photos.len());
            if let Some(difference) = i.checked_sub(1).map(|i| &self.differences[i]) {
                let _ = write!(table, " {} |", difference.photos);
            }
        }
        table.push('\n');
        table
    }

    pub fn json(&self) -> impl Serialize + '_ {
        let summaries = |summaries: &[Option<Summary>]| {
            let measures = Measure::ALL.into_iter().zip(summaries);
            measures
                .filter_map(|(measure, summary)| {
                    Some((measure.key(), SummaryJson::from((*summary)?)))
                })
                .collect()
        };
        let contenders = self.contenders.iter().zip(&self.means);
        ReportJson {
            version: VERSION,
            masks: self.masks.display().to_string(),
            contenders: contenders
                .map(|(contender, means)| contender.json(summaries(means)))
                .collect(),
            differences: self
                .contenders
                .iter()
                .skip(1)
                .zip(&self.differences)
                .map(|(contender, difference)| DifferenceJson {
                    name: contender.name.clone(),
                    less: self.contenders[0].name.clone(),
                    photos: difference.photos,
                    measures: summaries(&difference.measures),
                })
                .collect(),
        }
    }
}

/// A mean and its interval.
fn cell(summary: Option<Summary>, signed: bool) -> String {
    let Some(summary) = summary else {
        return "none".to_owned();
    };
    let number = |value: f64| match signed {
        true => format!("{value:+.4}"),
        false => format!("{value:.4}"),
    };
    match summary.interval {
        Some((low, high)) => {
            format!(
                "{} ({} to {})",
                number(summary.mean),
                number(low),
                number(high)
            )
        }
        None => number(summary.mean),
    }
}

impl Contender {
    fn json(&self, means: BTreeMap<&'static str, SummaryJson>) -> ContenderJson {
        ContenderJson {
            name: self.name.clone(),
            network: self.network.clone(),
            seconds: self.took.as_secs_f64(),
            means,
            photos: self
                .photos
                .iter()
                .map(|(name, photo)| PhotoJson {
                    name: name.clone(),
                    width: photo.width,
                    height: photo.height,
                    measures: Measure::ALL
                        .into_iter()
                        .map(|measure| (measure.key(), photo.scores.get(measure)))
                        .collect(),
                })
                .collect(),
            failures: self
                .failures
                .iter()
                .map(|failed| FailedJson {
                    name: failed.name.clone(),
                    code: failed.code.as_str(),
                    message: failed.message.clone(),
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct ReportJson {
    version: &'static str,
    masks: String,
    contenders: Vec<ContenderJson>,
    differences: Vec<DifferenceJson>,
}

#[derive(Serialize)]
struct ContenderJson {
    name: String,
    #[serde(flatten)]
    network: Option<NetworkJson>,
    /// All photos, measuring included.
    seconds: f64,
    means: BTreeMap<&'static str, SummaryJson>,
    photos: Vec<PhotoJson>,
    failures: Vec<FailedJson>,
}

#[derive(Clone, Serialize)]
struct NetworkJson {
    sha256: String,
    provider: &'static str,
    precision: &'static str,
    runtime: String,
}

#[derive(Serialize)]
struct SummaryJson {
    mean: f64,
    /// Both ends of the 95 % interval.
    interval: Option<(f64, f64)>,
}

impl From<Summary> for SummaryJson {
    fn from(summary: Summary) -> Self {
        Self {
            mean: summary.mean,
            interval: summary.interval,
        }
    }
}

#[derive(Serialize)]
struct PhotoJson {
    name: String,
    width: u32,
    height: u32,
    measures: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct FailedJson {
    name: String,
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
struct DifferenceJson {
    name: String,
    less: String,
    photos: usize,
    measures: BTreeMap<&'static str, SummaryJson>,
}
