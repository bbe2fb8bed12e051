//! What Prometheus answered, as a table for people.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::dashboard::Question;
use crate::server::value;

/// Series of one answer that are told; the rest is counted.
const TOLD: usize = 4;

/// All answers of one run, in the dashboard's order.
#[derive(Default)]
pub struct Answers(Vec<(Question, Vec<Value>)>);

impl Answers {
    pub fn keep(&mut self, question: &Question, series: Vec<Value>) {
        self.0.push((question.clone(), series));
    }

    /// Whether this was asked at all.
    pub fn has(&self, place: &str) -> bool {
        self.0.iter().any(|(question, _)| question.place == place)
    }

    /// The first number that a panel shows.
    pub fn first(&self, place: &str) -> Option<f64> {
        let (_, series) = self
            .0
            .iter()
            .find(|(question, _)| question.place == place)?;
        series.iter().find_map(value)
    }

    /// Writes a table in Markdown, a line for each panel, and beside it all answers in JSON.
    pub fn write(&self, path: &Path, jobs: u64) {
        let mut table = format!("{jobs} jobs\n\n| panel | answers |\n|---|---|\n");
        let panels = self
            .0
            .chunk_by(|(one, _), (next, _)| one.place == next.place);
        for panel in panels {
            let mut told: Vec<_> = panel
                .iter()
                .flat_map(|(question, series)| series.iter().map(move |one| (question, one)))
                .filter_map(|(question, one)| {
                    let name = named(&question.legend, &one["metric"]);
                    Some((name, value(one)?, question))
                })
                .collect();
            told.sort_by(|a, b| b.1.total_cmp(&a.1));
            let more = told.len().saturating_sub(TOLD);
            let mut cells: Vec<_> = told
                .iter()
                .take(TOLD)
                .map(|(name, number, question)| {
                    let number = in_units(*number, &question.unit);
                    format!("{name} {number}").trim_start().to_owned()
                })
                .collect();
            match more {
                0 if cells.is_empty() => cells.push("no data".to_owned()),
                0 => {}
                more => cells.push(format!("{more} more")),
            }
            let place = &panel[0].0.place;
            writeln!(table, "| {place} | {} |", cells.join(", ")).unwrap();
        }
        let whole = self.0.iter().map(|(question, series)| {
            serde_json::json!({
                "panel": question.place,
                "query": question.resolved(),
                "legend": question.legend,
                "series": series,
            })
        });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(path, table).unwrap();
        let whole: Value = whole.collect();
        std::fs::write(path.with_extension("json"), whole.to_string()).unwrap();
    }
}

/// A series' name as Grafana makes it of a legend.
fn named(legend: &str, labels: &Value) -> String {
    let text = |label: &str| labels[label].as_str().unwrap_or_default().to_owned();
    let Some(labels) = labels.as_object() else {
        return legend.to_owned();
    };
    if legend.is_empty() {
        let pairs = labels.iter().filter(|(label, _)| *label != "__name__");
        return pairs
            .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(" ");
    }
    labels.keys().fold(legend.to_owned(), |name, label| {
        name.replace(&format!("{{{{{label}}}}}"), &text(label))
    })
}

/// A number as its panel shows it.
fn in_units(number: f64, unit: &str) -> String {
    const MIB: f64 = 1048576.0;
    match unit {
        "s" => format!("{} s", short(number)),
        "percentunit" => format!("{} %", short(number * 100.0)),
        "bytes" => format!("{} MiB", short(number / MIB)),
        "binBps" => format!("{} MiB/s", short(number / MIB)),
        "reqps" => format!("{}/s", short(number)),
        unit => match unit.strip_prefix("suffix: ") {
            Some(rate) if rate.starts_with('/') => format!("{}{rate}", short(number)),
            Some(unit) => format!("{} {unit}", short(number)),
            None => short(number),
        },
    }
}

/// Three digits or so.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => format!("{number:.0}"),
        size if size >= 1.0 => format!("{number:.1}"),
        _ => format!("{number:.3}"),
    }
}
