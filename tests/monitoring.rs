//! What an operator looks at is true: the runbook knows every failure code and every alert, alerts and
//! dashboard ask for what a worker exports, and a real Prometheus that scrapes a real worker answers
//! all of it.

mod harness;
mod support;

#[path = "monitoring/alerts.rs"]
mod alerts;
#[path = "monitoring/answers.rs"]
mod answers;
#[path = "monitoring/dashboard.rs"]
mod dashboard;
#[path = "monitoring/exported.rs"]
mod exported;
#[path = "monitoring/grammar.rs"]
mod grammar;
#[path = "monitoring/prometheus.rs"]
mod prometheus;
#[path = "monitoring/promql.rs"]
mod promql;
#[path = "monitoring/runbook.rs"]
mod runbook;
#[path = "monitoring/scraped.rs"]
mod scraped;
#[path = "monitoring/server.rs"]
mod server;
#[path = "monitoring/terraform.rs"]
mod terraform;

/// A checked-in file's text.
fn read(path: &str) -> String {
    std::fs::read_to_string(harness::file(path)).unwrap()
}
