//! monitoring/alerts.yaml: what each rule says, and that its unit tests let it fire.

use std::collections::BTreeMap;

use crate::read;
use crate::runbook::{RUNBOOK, sections};

pub const ALERTS: &str = "monitoring/alerts.yaml";

/// One alerting rule, as far as the tests ask.
#[derive(Debug, Default)]
pub struct Alert {
    pub name: String,
    pub expr: String,
    severity: String,
    pub annotations: BTreeMap<String, String>,
}

/// Reads the rules. This is no YAML parser: it knows the layout of this one file, in which each
/// key has a line and long expressions are folded. promtool reads the file as Prometheus does.
pub fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let mut in_expr = false;
    for line in read(ALERTS).lines() {
        let text = line.trim();
        if let Some(name) = text.strip_prefix("- alert: ") {
            let name = name.to_owned();
            alerts.push(Alert {
                name,
                ..Alert::default()
            });
            continue;
        }
        let Some(alert) = alerts.last_mut() else {
            continue;
        };
        let depth = line.len() - line.trim_start().len();
        // Keys of a rule stand eight deep; a folded expression ten.
        in_expr &= depth > 8;
        if in_expr {
            alert.expr.push(' ');
            alert.expr.push_str(text);
            continue;
        }
        let Some((key, value)) = text.split_once(": ") else {
            continue;
        };
        let value = value.trim_matches('"').to_owned();
        match (depth, key) {
            (8, "expr") => {
                in_expr = value == ">-";
                alert.expr = if in_expr { String::new() } else { value };
            }
            (10, "severity") => alert.severity = value,
            (10, "summary" | "description" | "runbook") => {
                alert.annotations.insert(key.to_owned(), value);
            }
            _ => {}
        }
    }
    alerts
}

#[test]
fn every_alert_says_what_how_bad_and_leads_to_its_section() {
    let sections = sections();
    let alerts = alerts();
    assert!(alerts.len() >= 14, "only {} alerts", alerts.len());
    for alert in &alerts {
        assert!(
            ["critical", "warning"].contains(&alert.severity.as_str()),
            "{alert:?}"
        );
        for key in ["summary", "description", "runbook"] {
            let said = alert.annotations.get(key).map_or("", String::as_str);
            assert!(said.len() > 15, "{key} of {alert:?}");
        }
        let (path, anchor) = alert.annotations["runbook"].split_once('#').unwrap();
        assert_eq!((path, anchor), (RUNBOOK, &*alert.name.to_lowercase()));
        let found = sections.iter().filter(|section| *section == anchor);
        assert_eq!(found.count(), 1, "{RUNBOOK} needs one section {anchor}");
    }
    for section in sections {
        let known = |alert: &Alert| alert.name.to_lowercase() == section;
        assert!(
            !section.starts_with("cutout") || alerts.iter().any(known),
            "{section} is no alert"
        );
    }
}

#[test]
fn every_alert_is_seen_firing_and_silent_by_its_unit_tests() {
    let tests = read("monitoring/alerts_test.yaml");
    for alert in alerts() {
        let name = format!("alertname: {}\n", alert.name);
        let (fires, silent): (Vec<_>, Vec<_>) = tests
            .split(&name)
            .skip(1)
            .partition(|rest| rest.trim_start().starts_with("exp_alerts:\n"));
        assert!(!fires.is_empty(), "{} never fires", alert.name);
        assert!(!silent.is_empty(), "{} is never silent", alert.name);
    }
}
