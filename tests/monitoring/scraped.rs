//! Alerts, dashboard and pages against what a running worker exports, and deliberate mistakes in copies.

use cutout::ingress::http::PHOTO_ROUTES;
use serde_json::{Value, json};

use crate::alerts::alerts;
use crate::dashboard::{dashboard, faults};
use crate::exported::Exported;
use crate::harness::{Worker, file, quick, root, run, told, wait_until};
use crate::promql;
use crate::runbook::sections;
use crate::support;

/// Starts this program as a local worker with the HTTP API.
pub fn serving(mut command: std::process::Command, root: &std::path::Path) -> Worker {
    command
        .args([
            "worker",
            "--ingress",
            "local",
            "--http-api",
            "--rate-limit",
            "0",
            "--root",
        ])
        .arg(root);
    Worker::start(command).ready()
}

/// Starts a worker with everything on, and lets every kind of thing happen to it once. Answers it with
/// its `/metrics` of then.
pub fn busy_worker(root: &std::path::Path) -> (Worker, String) {
    let mut command = quick();
    for (variable, value) in [
        ("CUTOUT_AB_EXPERIMENT", "fur"),
        ("CUTOUT_AB_ARM", "bytes=brightness-u8:10%"),
    ] {
        command.env(variable, value);
    }
    let worker = serving(command, root);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for route in PHOTO_ROUTES {
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
        std::fs::copy(file(from), root.join("inbox").join(name)).unwrap();
    }
    for outcome in ["done", "failed"] {
        let label = format!("outcome=\"{outcome}\"");
        wait_until(outcome, || {
            let local = "ingress=\"local\"";
            (worker.metric("cutout_jobs_total", &[&label, local]) == 1.0).then_some(())
        });
    }
    let (_, text) = worker.get("/metrics");
    (worker, text)
}

/// Everything that alerts and dashboard may ask for.
fn askable(text: &str) -> Exported {
    let names: Vec<_> = alerts().into_iter().map(|alert| alert.name).collect();
    Exported::parse(text)
        .with_a_card()
        .with_alerts(names.iter().map(String::as_str))
}

/// A change of the dashboard, and what must be said of it.
type Mistake = (fn(&mut Value), &'static str);

/// Deliberate mistakes. The first panel after the first row is `Workers ready`.
const MISTAKES: &[Mistake] = &[
    (
        |d| {
            d["panels"][1]["targets"][0]["expr"] =
                json!("sum(cutout_component_upp{job=~\"$job\",instance=~\"$instance\"})")
        },
        "Workers ready: nothing exports cutout_component_upp",
    ),
    (
        |d| {
            d["panels"][1]["targets"][0]["expr"] = json!(
                "sum(cutout_component_up{job=~\"$job\",instance=~\"$instance\",part=\"worker\"})"
            )
        },
        "Workers ready: cutout_component_up has no label part",
    ),
    (
        |d| {
            d["panels"][1]["targets"][0]["expr"] = json!(
                "sum(cutout_component_up{job=~\"$job\",instance=~\"$instance\",component=\"wroker\"})"
            )
        },
        "Workers ready: cutout_component_up has no component=\"wroker\"",
    ),
    (
        |d| d["panels"][1]["targets"][0]["expr"] = json!("sum(cutout_component_up{job=~\"$job\"}"),
        "Workers ready: no PromQL",
    ),
    (
        |d| {
            d["panels"][1]["targets"][0]["expr"] =
                json!("sum(cutout_component_up{component=\"worker\"})")
        },
        "Workers ready: cutout_component_up is not of what was chosen",
    ),
    (
        |d| d["panels"][1]["targets"][0]["legendFormat"] = json!("{{instance}}"),
        "Workers ready: the answer has no instance for its legend",
    ),
    (
        |d| d["panels"][1]["description"] = json!("Workers."),
        "Workers ready: what does it tell",
    ),
    (
        |d| d["panels"][1]["fieldConfig"]["defaults"]["unit"] = json!(""),
        "Workers ready: it has no unit",
    ),
    (
        |d| d["panels"][1]["targets"] = json!([]),
        "Workers ready: its queries need names",
    ),
    (
        |d| d["panels"][7]["targets"][0]["legendFormat"] = json!(""),
        "Parts of the workers: its series need names",
    ),
    (
        |d| d["panels"][1]["id"] = d["panels"][2]["id"].clone(),
        "its id is another's",
    ),
    (
        |d| d["panels"][2]["gridPos"]["x"] = json!(3),
        "Jobs that failed: it lies on another",
    ),
    (
        |d| d["panels"][6]["gridPos"]["w"] = json!(5),
        "Restarts: it is not on the grid",
    ),
    (
        |d| d["panels"][1]["datasource"]["uid"] = json!("P1809F7CD0C75ACF3"),
        "it does not ask the chosen data source",
    ),
    (
        |d| d["panels"][1]["targets"][0]["datasource"] = json!(null),
        "it does not ask the chosen data source",
    ),
    (
        |d| d["title"] = json!("cutout $cluster"),
        "there is no variable cluster",
    ),
    (
        |d| d["panels"][1]["links"][0]["url"] = json!("${runbook:raw}#cutoutgone"),
        "docs/operations.md has no ${runbook:raw}#cutoutgone",
    ),
    (
        |d| d["panels"][1]["links"] = json!([]),
        "no panel leads to CutoutAbsent",
    ),
    (
        |d| {
            d["annotations"]["list"][0]["expr"] =
                json!("process_started{job=~\"$job\",instance=~\"$instance\"}")
        },
        "marker Starts of workers: nothing exports process_started",
    ),
    (
        |d| {
            d["templating"]["list"][1]["query"]["query"] =
                json!("label_values(cutout_build_info, deployment)")
        },
        "variable job: the answer has no deployment",
    ),
];

#[test]
fn alerts_and_dashboard_ask_for_what_a_running_worker_exports() {
    let dir = tempfile::tempdir().unwrap();
    let (_worker, text) = busy_worker(dir.path());
    let exported = askable(&text);

    for alert in alerts() {
        let labels = promql::labels(&alert.expr, &exported)
            .unwrap_or_else(|fault| panic!("{}: {fault}", alert.name));
        for said in alert.annotations["description"].split("$labels.").skip(1) {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let label = said.split(|c| !word(c)).next().unwrap();
            assert!(
                labels.contains(label),
                "{} has no {label} to tell",
                alert.name
            );
        }
    }

    let names: Vec<_> = alerts().into_iter().map(|alert| alert.name).collect();
    let found = |dashboard: &Value| faults(dashboard, &exported, &sections(), &names);
    assert_eq!(found(&dashboard()), Vec::<String>::new());
    for (mistake, said) in MISTAKES {
        let mut copy = dashboard();
        mistake(&mut copy);
        assert_ne!(copy, dashboard(), "{said}: the mistake changes nothing");
        let faults = found(&copy);
        assert!(
            faults.iter().any(|f| f.contains(said)),
            "{said}: {faults:?}"
        );
    }

    every_page_names_what_is_exported(&exported);
    promtool_accepts(&text, dir.path());
}

/// Documentation, deployment files and rules name no metric that is not there.
fn every_page_names_what_is_exported(exported: &Exported) {
    let known = |name: &str| {
        // `cutout_` alone is the prefix, and a name may be told without its last part.
        exported.names().any(|metric| metric == name) || exported.series(name).is_some()
    };
    let mut seen = 0;
    for folder in ["docs", "deploy", "terraform", "monitoring", "README.md"] {
        for entry in walkdir::WalkDir::new(root().join(folder)) {
            let path = entry.unwrap().into_path();
            let kind = path.extension().and_then(|kind| kind.to_str());
            if !matches!(kind, Some("md" | "yaml" | "tf" | "py" | "json")) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("cutout_") {
                let before = text[..at].chars().next_back();
                let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                let name: String = text[at..].chars().take_while(|&c| word(c)).collect();
                if before.is_some_and(|c| word(c) || "/\"-.".contains(c)) || name == "cutout_" {
                    continue;
                }
                seen += 1;
                assert!(known(&name), "{} names {name}", path.display());
            }
        }
    }
    assert!(seen > 100, "only {seen} names were looked at");
}

/// Prometheus' own opinion of names, help and units.
fn promtool_accepts(text: &str, dir: &std::path::Path) {
    let Some(promtool) = support::placed_or_on_path("promtool") else {
        return;
    };
    let scraped = dir.join("metrics.txt");
    std::fs::write(&scraped, text).unwrap();
    let mut command = std::process::Command::new(promtool);
    command.args(["check", "metrics"]);
    command.stdin(std::fs::File::open(&scraped).unwrap());
    let output = run(&mut command);
    // What is legal but bad style is told on standard error, with exit code 3.
    assert!(output.status.success(), "{}", told(&output));
    assert!(output.stderr.is_empty(), "{}", told(&output));
}
