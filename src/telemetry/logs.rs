//! Where log lines go and which of them: Cloud Logging's JSON for machines, plain lines for
//! people.
//!
//! Everything goes to stderr. Cloud Run and Kubernetes collect both streams alike, and stdout
//! stays free for what a command is asked to print, so `cutout publish … > results.jsonl`
//! holds results only. Lines are written by the thread that logs, each in one call: what was
//! logged before a crash has been written, which no background writer can promise.

use std::io::{self, IsTerminal};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use super::cloud_json::CloudJson;
use super::progress::{AboveBars, ProgressSlot};
use crate::error::{Code, Error, Result};

/// The form of log lines.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// One JSON object a line, in Cloud Logging's structured form.
    Json,
    /// Short lines for a person.
    Pretty,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`, in any case; Python's
    /// `WARNING` and `CRITICAL` too) or directives as `tracing-subscriber`'s `EnvFilter` takes
    /// them: `info,cutout::store=debug`.
    pub filter: String,
    /// The form of the lines.
    pub format: LogFormat,
    /// Google Cloud project, which makes the traces of JSON lines clickable.
    pub project: Option<String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Auto,
            project: None,
        }
    }
}

/// The running log. Lines are not buffered, so there is nothing to flush when it goes.
#[derive(Clone, Debug)]
pub struct Logs {
    slot: ProgressSlot,
}

impl Logs {
    /// From now on log lines appear above these progress bars.
    pub fn print_above(&self, bars: &MultiProgress) {
        self.slot.set(bars);
    }

    /// From now on log lines are written as they are.
    pub fn bars_are_gone(&self) {
        self.slot.clear();
    }
}

/// Starts logging for the whole process, panics included.
///
/// # Errors
/// `config_invalid` for a filter that cannot be understood, or when something else logs already.
pub fn init(config: &LogConfig) -> Result<Logs> {
    let filter = filter(&config.filter)?;
    let slot = ProgressSlot::default();
    let on_terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !on_terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let writer = AboveBars::new(io::stderr, slot.clone());
    let layer = if json {
        CloudJson::new(writer, config.project.clone()).boxed()
    } else {
        pretty(writer, on_terminal)
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|error| {
            Error::new(Code::ConfigInvalid, "logging was already started").caused_by(error)
        })?;
    if json {
        log_panics();
    }
    Ok(Logs { slot })
}

/// Reports panics as log entries: the standard report has several lines, which a collector
/// would take for as many entries without a severity.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(no message)");
        let location = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
            .then(|| backtrace.to_string());
        tracing::error!(
            location,
            backtrace,
            thread = std::thread::current().name(),
            "panic: {message}"
        );
    }));
}

/// Lines for a person.
fn pretty<W>(writer: W, on_terminal: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .compact()
        .with_target(false)
        .with_writer(writer);
    // On a terminal the layer itself honours NO_COLOR; asking for colour would override it.
    if on_terminal {
        layer.boxed()
    } else {
        layer.with_ansi(false).boxed()
    }
}

/// What is logged: the events that `text` asks for, and always the spans around them. Spans
/// carry `job_id`, and the one error of a quiet day must still say whose it is.
fn filter(text: &str) -> Result<impl Filter<Registry> + Send + Sync + use<>> {
    let spans = filter_fn(|metadata| {
        metadata.is_span()
            && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
            && *metadata.level() <= tracing::Level::INFO
    })
    .with_max_level_hint(LevelFilter::INFO);
    Ok(parse_directives(text)?.or(spans))
}

/// Checks `LOG_LEVEL` without starting anything, so that a configuration can be refused whole.
///
/// # Errors
/// `config_invalid`, naming what is accepted.
pub fn check_filter(text: &str) -> Result<()> {
    parse_directives(text).map(drop)
}

/// Understands `LOG_LEVEL`.
///
/// A bare level is meant for this program: below `info`, libraries stay at `info`, since the
/// HTTP/2 and gRPC layers log every frame; ONNX Runtime reports its arenas at `info`; OpenTelemetry
/// complains of every export that fails, which `telemetry::export` does once a minute.
fn parse_directives(text: &str) -> Result<EnvFilter> {
    let text = text.trim();
    let directives = match level(text) {
        Some(LevelFilter::INFO) => "info,ort=warn,opentelemetry=off".to_owned(),
        Some(level @ (LevelFilter::DEBUG | LevelFilter::TRACE)) => {
            format!("info,ort=warn,opentelemetry=off,cutout={level}")
        }
        Some(level) => format!("{level},opentelemetry=off"),
        None => {
            // `EnvFilter` reads a misspelt level as the name of a module, and would log nothing.
            let strange = text
                .split(',')
                .filter(|_| !text.contains('['))
                .find(|part| !part.contains('=') && level(part.trim()).is_none());
            if let Some(part) = strange {
                return Err(not_a_filter(part));
            }
            text.to_owned()
        }
    };
    EnvFilter::try_new(directives).map_err(|error| not_a_filter(text).caused_by(error))
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "critical" | "fatal" | "error" => LevelFilter::ERROR,
        "warning" | "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

fn not_a_filter(text: &str) -> Error {
    Error::new(
        Code::ConfigInvalid,
        format!(
            "LOG_LEVEL {text:?} is not a log level: use error, warn, info, debug, trace or off, \
             or directives such as info,cutout::store=debug"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::{Captured, lines_of};
    use tracing::subscriber::with_default;

    fn log_at(level: &str) -> Vec<serde_json::Value> {
        let log = Captured::default();
        let layer = CloudJson::new(log.writer(), None).with_filter(filter(level).unwrap());
        with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("job", job_id = "rex").in_scope(|| {
                tracing::trace!("ours, trace");
                tracing::debug!("ours, debug");
                tracing::info!("ours, info");
                tracing::warn!("ours, warn");
                tracing::error!("ours, error");
                tracing::debug!(target: "h2::codec", "theirs, debug");
                tracing::info!(target: "h2::codec", "theirs, info");
                tracing::info!(target: "ort::logging", "arena, info");
                tracing::error!(target: "opentelemetry-otlp", "every export");
                tracing::error!(target: "opentelemetry_sdk", "every batch");
            });
        });
        lines_of(&log)
    }

    fn messages(lines: &[serde_json::Value]) -> Vec<&str> {
        lines
            .iter()
            .map(|line| line["message"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_level_means_the_same_in_every_spelling() {
        for name in ["warn", "WARN", "Warning", " WARNING "] {
            assert_eq!(messages(&log_at(name)), ["ours, warn", "ours, error"]);
        }
        for name in ["error", "CRITICAL", "fatal"] {
            assert_eq!(messages(&log_at(name)), ["ours, error"]);
        }
        assert!(log_at("off").is_empty());
    }

    #[test]
    fn debugging_this_program_does_not_drown_it_in_its_libraries() {
        assert_eq!(
            messages(&log_at("debug")),
            [
                "ours, debug",
                "ours, info",
                "ours, warn",
                "ours, error",
                "theirs, info"
            ]
        );
        assert!(messages(&log_at("info,h2=debug")).contains(&"theirs, debug"));
    }

    #[test]
    fn an_error_names_its_job_even_when_only_errors_are_logged() {
        assert_eq!(log_at("error")[0]["job_id"], "rex");
    }

    #[test]
    fn a_misspelt_level_is_refused_and_the_message_names_the_right_ones() {
        for text in [
            "verbose",
            "",
            "2",
            "info,loud",
            "cutout=shout",
            "cutout[job",
        ] {
            let error = check_filter(text).expect_err(text);
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.message().contains("info, debug"), "{error}");
        }
        check_filter("warn,cutout::store[job{job_id=rex}]=trace").unwrap();
    }

    #[test]
    fn plain_lines_carry_no_escape_codes_when_nobody_reads_them_on_a_terminal() {
        let log = Captured::default();
        let layer = pretty(log.writer(), false);
        with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("job", job_id = "rex").in_scope(|| tracing::info!("done"));
        });
        let text = log.text();
        assert!(text.contains("INFO") && text.contains("done") && text.contains("rex"));
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    /// What the next test runs in a process of its own: `init` is for a whole process.
    #[test]
    #[ignore = "runs as the child of another test"]
    fn child_that_logs_and_panics() {
        let config = LogConfig {
            filter: "warn".into(),
            project: Some("perkie".into()),
            ..LogConfig::default()
        };
        let logs = init(&config).unwrap();
        logs.print_above(&MultiProgress::new());
        tracing::info!("not this");
        tracing::warn!("this");
        log::warn!(target: "some_library", "through the log crate");
        let panicked = std::thread::Builder::new()
            .name("engine".into())
            .spawn(|| panic!("two\nlines"))
            .unwrap();
        panicked.join().unwrap_err();
        assert_eq!(init(&config).unwrap_err().code(), Code::ConfigInvalid);
    }

    #[test]
    fn a_process_without_a_terminal_logs_json_to_stderr_panics_included() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("telemetry::logs::tests::child_that_logs_and_panics")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let lines: Vec<serde_json::Value> = str::from_utf8(&child.stderr)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        assert_eq!(
            messages(&lines),
            ["this", "through the log crate", "panic: two\nlines"]
        );
        let bridged = &lines[1];
        assert_eq!(bridged["target"], "some_library");
        let source = &bridged["logging.googleapis.com/sourceLocation"];
        assert!(source["file"].as_str().unwrap().ends_with("logs.rs"));
        assert_eq!(bridged.get("log.target"), None);
        let panic = &lines[2];
        assert_eq!(panic["severity"], "ERROR");
        assert_eq!(panic["thread"], "engine");
        assert!(panic["location"].as_str().unwrap().contains("logs.rs:"));
    }
}
