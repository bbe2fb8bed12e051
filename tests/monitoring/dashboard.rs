//! monitoring/dashboard.json: what it asks, and what is wrong with it.
//!
//! Grafana's own schema is held to it by scripts/tests/test_dashboard.py; here is what no schema knows.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::exported::{Exported, TARGET};
use crate::promql;
use crate::read;
use crate::runbook::RUNBOOK;

pub const DASHBOARD: &str = "monitoring/dashboard.json";

/// Columns of Grafana's grid.
const WIDTH: u64 = 24;

/// What Grafana itself puts into queries, and what stands there in the tests.
pub const BUILT_IN: [(&str, &str); 2] = [("$__rate_interval", "2m"), ("$__range", "10m")];

/// One query, with what is around it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The panel's title, or what else asks.
    pub place: String,
    /// PromQL with the variables of the dashboard and of Grafana in it.
    pub expr: String,
    /// How its series are named, `{{label}}` being a label's value.
    pub legend: String,
    /// What its numbers are, as Grafana names it (`s`, `bytes`, …).
    pub unit: String,
    /// Asked for one moment, rather than for a range of time.
    pub instant: bool,
}

impl Question {
    /// The query as Grafana sends it when everything is chosen.
    pub fn resolved(&self) -> String {
        let chosen = [("$job", ".+"), ("$instance", ".+"), ("$quantile", "0.95")];
        BUILT_IN
            .iter()
            .chain(&chosen)
            .fold(self.expr.clone(), |expr, (variable, value)| {
                expr.replace(variable, value)
            })
    }
}

pub fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Rows and panels, those inside folded rows included.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = list(dashboard, "/panels").iter();
    top.flat_map(|panel| std::iter::once(panel).chain(list(panel, "/panels")))
        .collect()
}

fn is_row(panel: &&Value) -> bool {
    panel["type"] == "row"
}

/// Every query of panels, markers and variables.
pub fn questions(dashboard: &Value) -> Vec<Question> {
    let of_panels = panels(dashboard).into_iter().flat_map(|panel| {
        list(panel, "/targets").iter().map(|target| Question {
            place: text(panel, "/title").to_owned(),
            expr: text(target, "/expr").to_owned(),
            legend: text(target, "/legendFormat").to_owned(),
            unit: text(panel, "/fieldConfig/defaults/unit").to_owned(),
            instant: target["instant"] == true,
        })
    });
    let of_markers = list(dashboard, "/annotations/list").iter();
    let of_markers = of_markers.map(|marker| Question {
        place: format!("marker {}", text(marker, "/name")),
        expr: text(marker, "/expr").to_owned(),
        legend: [text(marker, "/titleFormat"), text(marker, "/textFormat")].join(" "),
        unit: String::new(),
        instant: false,
    });
    // label_values(SELECTOR, LABEL)
    let of_variables = list(dashboard, "/templating/list").iter();
    let of_variables = of_variables.filter_map(|variable| {
        let asked = text(variable, "/query/query").strip_prefix("label_values(")?;
        let (selector, label) = asked.strip_suffix(')')?.rsplit_once(", ")?;
        Some(Question {
            place: format!("variable {}", text(variable, "/name")),
            expr: selector.to_owned(),
            legend: format!("{{{{{label}}}}}"),
            unit: String::new(),
            instant: true,
        })
    });
    of_panels.chain(of_markers).chain(of_variables).collect()
}

/// Everything that is wrong with a dashboard. `sections` are the runbook's, `alerts` the names that
/// must lead to theirs.
pub fn faults(
    dashboard: &Value,
    exported: &Exported,
    sections: &[String],
    alerts: &[String],
) -> Vec<String> {
    let mut faults = Vec::new();
    for question in questions(dashboard) {
        faults.extend(asked_in_vain(&question, exported));
    }
    faults.extend(unclear(dashboard));
    faults.extend(misplaced(dashboard));
    faults.extend(from_elsewhere(dashboard));
    faults.extend(undefined(dashboard));
    faults.extend(leading_nowhere(dashboard, sections, alerts));
    faults
}

/// Queries that can have no answer, or do not heed what was chosen above.
fn asked_in_vain(question: &Question, exported: &Exported) -> Vec<String> {
    let place = &question.place;
    let labels = match promql::labels(&question.resolved(), exported) {
        Ok(labels) => labels,
        Err(fault) => return vec![format!("{place}: {fault}")],
    };
    let mut faults = Vec::new();
    for named in question.legend.split("{{").skip(1) {
        let label = named.split("}}").next().unwrap();
        let alerts = question.expr.contains("ALERTS");
        if !labels.contains(label) && !alerts {
            faults.push(format!("{place}: the answer has no {label} for its legend"));
        }
    }
    let chooses = place.starts_with("variable ");
    for (name, matched) in promql::selectors(&question.resolved()) {
        let heeded = TARGET.iter().all(|label| matched.contains(*label));
        if !heeded && !chooses && name != "ALERTS" {
            faults.push(format!("{place}: {name} is not of what was chosen"));
        }
    }
    faults
}

/// Panels that do not say what they tell and what to do.
fn unclear(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for panel in panels(dashboard).iter().filter(|panel| !is_row(panel)) {
        let title = text(panel, "/title");
        let (tells, to_do) = text(panel, "/description")
            .split_once(" **Do:** ")
            .unwrap_or_default();
        if tells.len() < 20 || to_do.len() < 7 {
            faults.push(format!("{title}: what does it tell, what is to be done?"));
        }
        if text(panel, "/fieldConfig/defaults/unit").is_empty() {
            faults.push(format!("{title}: it has no unit"));
        }
        let targets = list(panel, "/targets");
        let ids: BTreeSet<_> = targets
            .iter()
            .map(|target| text(target, "/refId"))
            .collect();
        if targets.is_empty() || ids.len() < targets.len() {
            faults.push(format!("{title}: its queries need names of their own"));
        }
        let drawn = ["timeseries", "state-timeline", "bargauge"].contains(&text(panel, "/type"));
        if drawn
            && targets
                .iter()
                .any(|target| text(target, "/legendFormat").is_empty())
        {
            faults.push(format!("{title}: its series need names"));
        }
    }
    faults
}

/// Panels that share an id or a place, or stand outside the grid.
fn misplaced(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in panels(dashboard) {
        if !panel["id"].as_u64().is_some_and(|id| ids.insert(id)) {
            faults.push(format!("{}: its id is another's", text(panel, "/title")));
        }
    }
    // Panels of a folded row have the grid to themselves.
    let folded = list(dashboard, "/panels").iter();
    let folded = folded.map(|row| list(row, "/panels"));
    for grid in std::iter::once(list(dashboard, "/panels")).chain(folded) {
        let mut taken = BTreeSet::new();
        for panel in grid {
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap_or(u64::MAX / 4);
            let (x, y, w, h) = (side("x"), side("y"), side("w"), side("h"));
            let title = text(panel, "/title");
            if w == 0 || h == 0 || h > 100 || x.saturating_add(w) > WIDTH {
                faults.push(format!("{title}: it is not on the grid"));
                continue;
            }
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            // Every cell is taken, also after one that was not free.
            let double = cells.filter(|cell| !taken.insert(*cell)).count();
            if double > 0 {
                faults.push(format!("{title}: it lies on another"));
            }
        }
    }
    faults
}

/// Whatever asks another data source than the one that was chosen.
fn from_elsewhere(dashboard: &Value) -> Vec<String> {
    let asks = panels(dashboard)
        .into_iter()
        .filter(|panel| !is_row(panel))
        .flat_map(|panel| std::iter::once(panel).chain(list(panel, "/targets")));
    let variables = list(dashboard, "/templating/list").iter();
    let variables = variables.filter(|variable| variable["type"] == "query");
    asks.chain(list(dashboard, "/annotations/list"))
        .chain(variables)
        .filter(|asking| {
            text(asking, "/datasource/uid") != "${datasource}"
                || text(asking, "/datasource/type") != "prometheus"
        })
        .map(|asking| format!("it does not ask the chosen data source: {asking}"))
        .collect()
}

/// Variables that are used and not there.
fn undefined(dashboard: &Value) -> Vec<String> {
    let variables = list(dashboard, "/templating/list").iter();
    let known: Vec<_> = variables.map(|variable| text(variable, "/name")).collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let whole = dashboard.to_string();
    let mut faults = Vec::new();
    for rest in whole.split('$').skip(1) {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let name = rest.split(|c| !word(c)).next().unwrap();
        let built_in = BUILT_IN.iter().any(|(variable, _)| variable[1..] == *name);
        if !known.contains(&name) && !built_in && name != "__all" {
            faults.push(format!("there is no variable {name}"));
        }
    }
    faults
}

/// Links to sections that are not there, and alerts that no panel leads to.
fn leading_nowhere(dashboard: &Value, sections: &[String], alerts: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut led_to = BTreeSet::new();
    for panel in panels(dashboard) {
        for link in list(panel, "/links") {
            let url = text(link, "/url");
            match url.strip_prefix("${runbook:raw}#") {
                Some(anchor) if sections.iter().any(|section| section == anchor) => {
                    led_to.insert(anchor.to_owned());
                }
                _ => faults.push(format!("{}: {RUNBOOK} has no {url}", text(panel, "/title"))),
            }
        }
    }
    for alert in alerts {
        if !led_to.contains(&alert.to_lowercase()) {
            faults.push(format!("no panel leads to {alert}"));
        }
    }
    faults
}
