//! What an operator reads at night is true: the runbook knows every failure code and every alert,
//! and the alerts ask for metrics and labels that the worker really exports.

mod harness;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use cutout::error::Code;
use harness::{Worker, file, run, told, wait_until};

const RUNBOOK: &str = "docs/operations.md";
const ALERTS: &str = "monitoring/alerts.yaml";

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// One alerting rule, as far as the tests ask.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expr: String,
    severity: String,
    annotations: BTreeMap<String, String>,
}

/// Reads the rules. This is no YAML parser: it knows the layout of this one file, in which each
/// key has a line and long expressions are folded. promtool reads the file as Prometheus does.
fn alerts() -> Vec<Alert> {
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

/// What GitHub makes of a heading for links.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_' || *c == ' ')
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(markdown: &str) -> Vec<String> {
    markdown
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn the_runbook_lists_every_failure_code_with_its_class_and_no_other() {
    let runbook = read(RUNBOOK);
    let (_, table) = runbook.split_once("## Failure codes").expect("the section");
    let table = table.split("\n## ").next().unwrap();
    // | `code` | class | ... |
    let listed: BTreeSet<(String, String)> = table
        .lines()
        .filter_map(|line| {
            let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (class, what) = rest.split_once(" | ")?;
            assert!(what.len() > 40, "{code} says too little: {what}");
            Some((code.to_owned(), class.to_owned()))
        })
        .collect();
    let known: BTreeSet<_> = Code::ALL
        .iter()
        .map(|code| (code.to_string(), code.class().to_string()))
        .collect();
    assert_eq!(listed, known, "{RUNBOOK} and src/error.rs differ");
}

#[test]
fn every_alert_says_what_how_bad_and_leads_to_its_section() {
    let sections = anchors(&read(RUNBOOK));
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

/// Metric names of an expression, with the labels that are matched in braces or grouped by.
fn wanted(expr: &str) -> (BTreeSet<String>, BTreeSet<(String, String, String)>) {
    let mut names = BTreeSet::new();
    let mut matched = BTreeSet::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = expr;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        rest = &rest[start..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if !name.starts_with("cutout_") && !name.starts_with("process_") {
            continue;
        }
        names.insert(name.to_owned());
        let Some((matchers, _)) = after
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
        else {
            continue;
        };
        for matcher in matchers.split("\",") {
            let (label, values) = matcher.split_once('=').unwrap();
            let label = label.trim_end_matches('!');
            let values = values.trim_start_matches('~').trim_matches('"');
            for value in values.split('|') {
                matched.insert((name.to_owned(), label.to_owned(), value.to_owned()));
            }
        }
    }
    (names, matched)
}

#[test]
fn the_alerts_ask_for_metrics_that_a_running_worker_exports_and_promtool_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Worker::local(dir.path(), &["--http-api", "--rate-limit", "0"]).ready();
    let posted = [
        "/remove-background",
        "/api/v2/process",
        "/api/v2/process-with-effects",
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for route in posted {
        let asked = reqwest::Client::new()
            .post(worker.url(route))
            .body("no photo");
        let status = runtime.block_on(asked.send()).unwrap().status();
        assert_eq!(status.as_u16(), 400, "{route}");
    }
    for (from, name) in [
        ("samples/cat.jpg", "cat.jpg"),
        ("tests/fixtures/images/truncated.jpg", "truncated.jpg"),
    ] {
        std::fs::copy(file(from), dir.path().join("inbox").join(name)).unwrap();
    }
    for outcome in ["done", "failed"] {
        let label = format!("outcome=\"{outcome}\"");
        wait_until(outcome, || {
            let local = "ingress=\"local\"";
            (worker.metric("cutout_jobs_total", &[&label, local]) == 1.0).then_some(())
        });
    }
    let (_, text) = worker.get("/metrics");

    let samples: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let of = |name: &str, sample: &str| {
        sample
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    for alert in alerts() {
        let (names, matched) = wanted(&alert.expr);
        assert!(!names.is_empty(), "{alert:?}");
        for name in names {
            let exported = samples.iter().any(|sample| of(&name, sample));
            assert!(exported, "{} asks for {name}", alert.name);
        }
        for (name, label, value) in matched {
            // A status that nobody was answered with is not there, and needs no promise.
            let value = match label.as_str() {
                "status" => "400".to_owned(),
                _ => value,
            };
            let pair = format!("{label}=\"{value}\"");
            let exported = samples
                .iter()
                .any(|sample| of(&name, sample) && sample.contains(&pair));
            assert!(exported, "{} asks for {name}{{{pair}}}", alert.name);
        }
        // `by (…)` and `on (…)`: Prometheus' own labels, or some metric's.
        for group in alert.expr.split(" (").skip(1) {
            let inside = group.split(')').next().unwrap();
            if inside.contains(['{', '[', '(']) {
                continue;
            }
            for label in inside.split(", ").filter(|label| !label.is_empty()) {
                let exported = text.contains(&format!("{label}=\""));
                let known = ["job", "instance"].contains(&label) || exported;
                assert!(known, "{} groups by {label}", alert.name);
            }
        }
    }

    let Some(promtool) = support::promtool() else {
        return;
    };
    let scraped = dir.path().join("metrics.txt");
    std::fs::write(&scraped, text).unwrap();
    let mut command = std::process::Command::new(promtool);
    command.args(["check", "metrics"]);
    command.stdin(std::fs::File::open(&scraped).unwrap());
    let output = run(&mut command);
    // What is legal but bad style is told on standard error, with exit code 3.
    assert!(output.status.success(), "{}", told(&output));
    assert!(output.stderr.is_empty(), "{}", told(&output));
}
