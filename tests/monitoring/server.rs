//! A real Prometheus, and its HTTP API.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::alerts::ALERTS;
use crate::harness::{PATIENCE, file};
use crate::support::{self, process::Server};

/// Tries until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, probe: impl Fn() -> F) {
    within(PATIENCE, what, probe).await;
}

/// Tries until it is so, for at most so long.
pub async fn within<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    probe: impl Fn() -> F,
) {
    let begun = tokio::time::Instant::now();
    while !probe().await {
        assert!(begun.elapsed() < patience, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Seconds between scrapes and between evaluations: what takes minutes in production takes seconds here.
const PACE: &str = "1s";

/// Prometheus with this project's rules, scraping whatever [`Prometheus::scrape`] names.
pub struct Prometheus {
    server: Server,
    http: reqwest::Client,
    targets: std::path::PathBuf,
}

impl Prometheus {
    /// Starts it in an empty folder; `None`, said loudly, where there is no Prometheus.
    pub async fn start(folder: &Path) -> Option<Self> {
        let Some(program) = support::placed_or_on_path("prometheus") else {
            assert!(
                std::env::var_os("CUTOUT_REQUIRE_PROMTOOL").is_none_or(|wanted| wanted != "1"),
                "no Prometheus, and CUTOUT_REQUIRE_PROMTOOL=1"
            );
            return None;
        };
        let targets = folder.join("targets.json");
        std::fs::write(&targets, "[]").unwrap();
        let settings = folder.join("prometheus.json");
        // JSON is YAML.
        let text = json!({
            "global": { "scrape_interval": PACE, "scrape_timeout": PACE, "evaluation_interval": PACE },
            "rule_files": [file(ALERTS)],
            "scrape_configs": [{
                "job_name": "cutout",
                "metrics_path": "/metrics",
                "file_sd_configs": [{ "files": [&targets], "refresh_interval": PACE }],
            }],
        });
        std::fs::write(&settings, text.to_string()).unwrap();
        let server = Server::start(&program, &[], |port| {
            vec![
                format!("--config.file={}", settings.display()),
                format!("--storage.tsdb.path={}", folder.join("data").display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ]
        })
        .await;
        let http = reqwest::Client::new();
        // It answers 503 until its storage is open.
        let ready = format!("http://127.0.0.1:{}/-/ready", server.port);
        until("Prometheus", || async {
            let asked = http.get(&ready).send().await;
            asked.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        Some(Self {
            server,
            http,
            targets,
        })
    }

    /// Lets it scrape this `host:port` from now on.
    pub fn scrape(&self, address: &str) {
        // Renamed into place, so that it is never read half written.
        let new = self.targets.with_extension("new");
        std::fs::write(&new, json!([{ "targets": [address] }]).to_string()).unwrap();
        std::fs::rename(&new, &self.targets).unwrap();
    }

    /// `data` of an answer of the API, or what it says is wrong.
    pub async fn ask(&self, path: &str, parameters: &[(&str, String)]) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.server.port);
        let asked = self.http.get(url).query(parameters).send().await;
        let answer = match asked {
            Ok(answer) => answer.text().await.map_err(|error| error.to_string())?,
            Err(error) => return Err(error.to_string()),
        };
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        if answer["status"] != "success" || answer.get("warnings").is_some() {
            return Err(answer.to_string());
        }
        Ok(answer["data"].take())
    }

    /// The series that answer a query, at this moment.
    pub async fn now(&self, query: &str) -> Result<Vec<Value>, String> {
        let data = self.ask("query", &[("query", query.to_owned())]).await?;
        series(data)
    }

    /// The series that answer a query, over the last `seconds`.
    pub async fn over(&self, query: &str, seconds: u32) -> Result<Vec<Value>, String> {
        let end = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
        let data = self
            .ask(
                "query_range",
                &[
                    ("query", query.to_owned()),
                    ("start", (end - f64::from(seconds)).to_string()),
                    ("end", end.to_string()),
                    ("step", PACE.to_owned()),
                ],
            )
            .await?;
        series(data)
    }

    /// The one number that answers a query; `None` while there is none.
    pub async fn number(&self, query: &str) -> Option<f64> {
        value(self.now(query).await.unwrap().first()?)
    }

    /// All rules as it evaluates them.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.ask("rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }

    /// The state of an alert: `inactive`, `pending` or `firing`.
    pub async fn state(&self, alert: &str) -> String {
        let rules = self.rules().await;
        let rule = rules.iter().find(|rule| rule["name"] == alert);
        let state = rule.and_then(|rule| rule["state"].as_str());
        state.unwrap_or_default().to_owned()
    }
}

fn series(data: Value) -> Result<Vec<Value>, String> {
    match &data["resultType"] {
        Value::String(kind) if kind == "vector" || kind == "matrix" => {
            Ok(data["result"].as_array().cloned().unwrap_or_default())
        }
        _ => Err(format!("neither vector nor matrix: {data}")),
    }
}

/// The last number of a series that is one; what was divided by nothing is none.
pub fn value(series: &Value) -> Option<f64> {
    let number = |sample: &Value| -> Option<f64> {
        let number: f64 = sample[1].as_str()?.parse().ok()?;
        number.is_finite().then_some(number)
    };
    match series.get("values").and_then(Value::as_array) {
        Some(samples) => samples.iter().rev().find_map(number),
        None => number(&series["value"]),
    }
}
