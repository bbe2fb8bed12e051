//! A worker process of this same program, set up as this one is. Killed when dropped.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use crate::cli::Context;
use crate::config::{CommonArgs, LimitArgs, ModelArgs};

/// How often a worker is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// How long a worker may take to become ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was typed for this command, as environment of a child: every option has a variable.
pub(in crate::cli) fn settings(context: &Context) -> Vec<(OsString, OsString)> {
    let mut matches = &context.matches;
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    let mut settings = typed::<ModelArgs>(matches);
    settings.extend(typed::<LimitArgs>(matches));
    settings.extend(typed::<CommonArgs>(matches));
    settings
}

pub(super) fn typed<A: Args>(matches: &ArgMatches) -> Vec<(OsString, OsString)> {
    let options = A::augment_args(clap::Command::new("options"));
    options
        .get_arguments()
        .filter_map(|option| {
            let id = option.get_id().as_str();
            let asked = matches.value_source(id) == Some(ValueSource::CommandLine);
            let values: Vec<_> = matches.get_raw(id).filter(|_| asked)?.collect();
            Some((option.get_env()?.to_owned(), values.join(",".as_ref())))
        })
        .collect()
}

/// A running worker.
pub(super) struct Worker {
    child: Child,
    address: String,
    http: reqwest::Client,
    log: tempfile::NamedTempFile,
    /// When it was started.
    pub spawned: Instant,
}

impl Worker {
    /// Starts `cutout worker` with more environment. On the local ingress, `root` is its store.
    pub(super) fn spawn(
        settings: impl IntoIterator<Item = (OsString, OsString)>,
        root: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("worker")
            .envs(settings)
            .env("CUTOUT_HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen()?);
        if let Some(root) = root {
            command
                .env("CUTOUT_INGRESS", "local")
                .env("CUTOUT_ROOT", root);
        }
        let spawned = Instant::now();
        let child = command.spawn().context("cannot start a worker")?;
        Ok(Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder()
                .timeout(Duration::from_secs(2))
                .build()?,
            log,
            spawned,
        })
    }

    /// Waits for the side port's first answer, whatever it says; the time since the start.
    pub(super) async fn answers(&mut self) -> anyhow::Result<Duration> {
        self.ask(|_| true).await
    }

    /// Waits for readiness; the time since the start.
    pub(super) async fn ready(&mut self) -> anyhow::Result<Duration> {
        self.ask(|status| status.is_success()).await
    }

    async fn ask(
        &mut self,
        enough: impl Fn(reqwest::StatusCode) -> bool,
    ) -> anyhow::Result<Duration> {
        let url = format!("{}/startup", self.address);
        loop {
            if let Ok(answer) = self.http.get(&url).send().await
                && enough(answer.status())
            {
                return Ok(self.spawned.elapsed());
            }
            self.still_starts()?;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// An error with the end of its log once the worker has ended.
    pub(super) fn still_lives(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the worker ended ({status}):\n{}", self.last_words()),
        }
    }

    /// Likewise, or when it has not done yet what a start takes a few seconds for.
    pub(super) fn still_starts(&mut self) -> anyhow::Result<()> {
        self.still_lives()?;
        anyhow::ensure!(
            self.spawned.elapsed() < PATIENCE,
            "the worker is not ready yet:\n{}",
            self.last_words()
        );
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// The metrics, as Prometheus reads them.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.address);
        Ok(self.http.get(url).send().await?.text().await?)
    }

    /// The most that it ever had resident, bytes.
    pub(super) fn peak_resident(&self) -> Option<u64> {
        crate::telemetry::process::peak_resident(Some(self.child.id()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The values of a metric, by the value of one of its labels; other labels are summed over.
pub(super) fn by_label(metrics: &str, name: &str, label: &str) -> Vec<(String, f64)> {
    let mut found: Vec<(String, f64)> = Vec::new();
    for line in metrics.lines() {
        let Some((labels, value)) = line
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('{'))
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let Some(of) = labels.split(',').find_map(|pair| {
            pair.strip_prefix(label)?
                .strip_prefix("=\"")?
                .strip_suffix('"')
        }) else {
            continue;
        };
        let value: f64 = value.parse().unwrap_or_default();
        match found.iter_mut().find(|(known, _)| known == of) {
            Some((_, sum)) => *sum += value,
            None => found.push((of.to_owned(), value)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_a_label() {
        let text = "# HELP x y\nseconds_sum{code=\"a\",stage=\"decode\"} 1.5\n\
                    seconds_sum{code=\"b\",stage=\"decode\"} 2\nseconds_sum{code=\"a\",stage=\"infer\"} 4\n\
                    seconds_sum_of_others{stage=\"decode\"} 9\n";
        let found = by_label(text, "seconds_sum", "stage");
        assert_eq!(found, [("decode".into(), 3.5), ("infer".into(), 4.0)]);
        assert_eq!(by_label(text, "seconds_sum", "code").len(), 2);
    }
}
