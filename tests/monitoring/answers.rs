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

    /// Writes a table in Markdown, and beside it all answers in JSON.
    pub fn write(&self, path: &Path, jobs: u64) {
        let mut table =
            format!("{jobs} jobs\n\n| panel | series | last value of each |\n|---|---|---|\n");
        let mut whole = Vec::new();
        for (question, series) in &self.0 {
            let mut told: Vec<_> = series
                .iter()
                .filter_map(|one| Some((named(&question.legend, &one["metric"]), value(one)?)))
                .collect();
            told.sort_by(|a, b| b.1.total_cmp(&a.1));
            let more = told.len().saturating_sub(TOLD);
            let mut cells: Vec<_> = told
                .iter()
                .take(TOLD)
                .map(|(name, number)| match name.as_str() {
                    "" => short(*number),
                    name => format!("{name} {}", short(*number)),
                })
                .collect();
            if more > 0 {
                cells.push(format!("{more} more"));
            }
            let cells = match cells.is_empty() {
                true => "no data".to_owned(),
                false => cells.join(", "),
            };
            writeln!(table, "| {} | {} | {cells} |", question.place, series.len()).unwrap();
            whole.push(serde_json::json!({
                "panel": question.place,
                "query": question.resolved(),
                "legend": question.legend,
                "series": series,
            }));
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(path, table).unwrap();
        std::fs::write(path.with_extension("json"), Value::from(whole).to_string()).unwrap();
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

/// Three significant digits, as a panel would show.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 1e9 => format!("{:.2}e9", number / 1e9),
        size if size >= 1e6 => format!("{:.2}e6", number / 1e6),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 1.0 || size == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}
