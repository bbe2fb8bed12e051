//! Log lines as Cloud Logging reads them: one JSON object a line, on whatever stream the
//! platform collects.
//!
//! A layer of our own, because `tracing-stackdriver` (0.10, the crate for this) renames every
//! field to camel case, so that a filter on `job_id` finds nothing; keeps the fields of spans
//! in a nested list, so that a line of a job does not carry its `job_id` where a filter would
//! look; and takes trace ids only from OpenTelemetry 0.22.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::version::VERSION;

/// Longest string value, in bytes. A log entry may have 256 KiB; a longer line is cut by the
/// platform and then is no JSON any more.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Keys that Cloud Logging (or this layer) gives a meaning to; a field of that name is kept
/// with an underscore after it.
const RESERVED: &[&str] = &[
    "severity",
    "time",
    "timestamp",
    "timestampSeconds",
    "timestampNanos",
    "message",
    "target",
    "span",
    "httpRequest",
];

/// A [`Layer`] that writes each event as one line of Cloud Logging's structured JSON.
///
/// Fields of the event and of the spans around it stand flat at the top level, the innermost
/// winning. `trace_id` (32 hex digits), `span_id` (16) and `trace_sampled` become Cloud Logging's own
/// fields, `labels.x` and `job_id` become labels, on which logs are indexed.
pub struct CloudJson<W> {
    writer: W,
    project: Option<String>,
}

impl<W> CloudJson<W> {
    /// Writes to `writer`. With `project`, the trace of a line is named the way the console
    /// needs to link it: `projects/PROJECT/traces/ID`.
    pub const fn new(writer: W, project: Option<String>) -> Self {
        Self { writer, project }
    }

    fn trace_name(&self, id: &str) -> String {
        match &self.project {
            Some(project) => format!("projects/{project}/traces/{id}"),
            None => id.to_owned(),
        }
    }
}

impl<S, W> Layer<S> for CloudJson<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Formatted before the span is locked: a value's `Debug` may itself log.
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut new = Fields::default();
        values.record(&mut new);
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            fields.0.extend(new.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let metadata = event.metadata();
        let source = Source::take(metadata, &mut own.0);
        let message = own.0.remove("message").map_or_else(
            || metadata.name().to_owned(),
            |value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            },
        );

        let mut fields = Map::new();
        let mut span_name = None;
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Fields(of_span)) = span.extensions().get::<Fields>() {
                fields.extend(of_span.clone());
            }
            span_name = Some(span.name());
        }
        fields.extend(own.0);

        let line = Entry {
            severity: severity(*metadata.level()),
            time: jiff::Timestamp::now().to_string(),
            message,
            target: source.target,
            span: span_name,
            trace: take_hex(&mut fields, "trace_id", 32).map(|id| self.trace_name(&id)),
            span_id: take_hex(&mut fields, "span_id", 16),
            trace_sampled: take_flag(&mut fields, "trace_sampled"),
            labels: take_labels(&mut fields),
            source_location: source.location,
            fields: escape_reserved(fields),
        };
        // Strings, numbers and maps with string keys always serialise; and where a log line
        // cannot be written there is nowhere left to say so.
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            let _ = self.writer.make_writer_for(metadata).write_all(&bytes);
        }
    }
}

/// The line, in the order a human eye wants it.
#[derive(Serialize)]
struct Entry<'a> {
    severity: &'static str,
    time: String,
    message: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    span: Option<&'a str>,
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(rename = "logging.googleapis.com/labels")]
    labels: BTreeMap<String, String>,
    #[serde(
        rename = "logging.googleapis.com/sourceLocation",
        skip_serializing_if = "Option::is_none"
    )]
    source_location: Option<SourceLocation>,
    #[serde(
        rename = "logging.googleapis.com/trace",
        skip_serializing_if = "Option::is_none"
    )]
    trace: Option<String>,
    #[serde(
        rename = "logging.googleapis.com/spanId",
        skip_serializing_if = "Option::is_none"
    )]
    span_id: Option<String>,
    #[serde(
        rename = "logging.googleapis.com/trace_sampled",
        skip_serializing_if = "Option::is_none"
    )]
    trace_sampled: Option<bool>,
}

#[derive(Serialize)]
struct SourceLocation {
    file: String,
    // A string: the field is an int64, which Google's JSON writes in quotes.
    line: String,
}

/// Where an event was raised.
struct Source {
    target: String,
    location: Option<SourceLocation>,
}

impl Source {
    /// Events bridged from the `log` crate say where they come from in `log.*` fields.
    fn take(metadata: &Metadata<'_>, fields: &mut Map<String, Value>) -> Self {
        let mut text = |key: &str| match fields.remove(key) {
            Some(Value::String(text)) => Some(text),
            Some(number) => Some(number.to_string()),
            None => None,
        };
        let bridged = (text("log.target"), text("log.file"), text("log.line"));
        text("log.module_path");
        let (target, file, line) = match bridged {
            (Some(target), file, line) => (target, file, line),
            _ => (
                metadata.target().to_owned(),
                metadata.file().map(str::to_owned),
                metadata.line().map(|line| line.to_string()),
            ),
        };
        let location = file.map(|file| SourceLocation {
            file,
            line: line.unwrap_or_default(),
        });
        Self { target, location }
    }
}

const fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        // Cloud Logging has nothing below DEBUG.
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// Takes a field out if it is what its name says; anything else stays an ordinary field.
fn take_hex(fields: &mut Map<String, Value>, key: &str, digits: usize) -> Option<String> {
    let text = fields.get(key)?.as_str()?;
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match fields.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Likewise.
fn take_flag(fields: &mut Map<String, Value>, key: &str) -> Option<bool> {
    let flag = fields.get(key)?.as_bool()?;
    fields.remove(key);
    Some(flag)
}

fn take_labels(fields: &mut Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut labels = BTreeMap::from([
        ("service".to_owned(), env!("CARGO_PKG_NAME").to_owned()),
        ("version".to_owned(), VERSION.to_owned()),
    ]);
    if let Some(id) = fields.get("job_id") {
        labels.insert("job_id".to_owned(), text(id));
    }
    fields.retain(|key, value| match key.strip_prefix("labels.") {
        Some(label) => {
            labels.insert(label.to_owned(), text(value));
            false
        }
        None => true,
    });
    labels
}

fn escape_reserved(fields: Map<String, Value>) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(mut key, value)| {
            if RESERVED.contains(&key.as_str()) || key.starts_with("logging.googleapis.com/") {
                key.push('_');
            }
            (key, value)
        })
        .collect()
}

/// The fields of a span or an event, as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn put_text(&mut self, field: &Field, mut text: String) {
        if text.len() > MAX_TEXT_BYTES {
            let whole = text.len();
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            text.push_str(&format!("… ({whole} bytes)"));
        }
        self.put(field, text);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.put_text(field, String::from_utf8_lossy(value).into_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity; as text they are at least seen.
        match serde_json::Number::from_f64(value) {
            Some(number) => self.put(field, number),
            None => self.put_text(field, value.to_string()),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        self.put_text(field, chain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::{Captured, lines_of};
    use proptest::prelude::*;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;

    fn logged(project: Option<&str>, body: impl FnOnce()) -> Vec<Value> {
        let log = Captured::default();
        let layer = CloudJson::new(log.writer(), project.map(str::to_owned));
        with_default(tracing_subscriber::registry().with(layer), body);
        lines_of(&log)
    }

    #[test]
    fn a_line_has_what_cloud_logging_reads() {
        let lines = logged(None, || tracing::warn!(bytes = 12_u64, "slow {}", "upload"));
        let line = &lines[0];
        assert_eq!(line["severity"], "WARNING");
        assert_eq!(line["message"], "slow upload");
        assert_eq!(line["bytes"], 12);
        assert_eq!(line["target"], module_path!());
        line["time"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
        let source = &line["logging.googleapis.com/sourceLocation"];
        assert!(source["file"].as_str().unwrap().ends_with("cloud_json.rs"));
        assert!(source["line"].as_str().unwrap().parse::<u32>().unwrap() > 0);
        let labels = &line["logging.googleapis.com/labels"];
        assert_eq!(labels["service"], "cutout");
        assert_eq!(labels["version"], VERSION);
        assert_eq!(line.get("logging.googleapis.com/trace"), None);
    }

    #[test]
    fn every_level_has_a_severity() {
        let lines = logged(None, || {
            tracing::trace!("x");
            tracing::debug!("x");
            tracing::info!("x");
            tracing::warn!("x");
            tracing::error!("x");
        });
        let severities: Vec<_> = lines.iter().map(|line| &line["severity"]).collect();
        assert_eq!(severities, ["DEBUG", "DEBUG", "INFO", "WARNING", "ERROR"]);
    }

    #[test]
    fn the_fields_of_spans_stand_flat_beside_the_events_own_and_the_inner_wins() {
        let lines = logged(None, || {
            let job = tracing::info_span!(
                "job",
                job_id = "rex",
                attempt = 1,
                outcome = tracing::field::Empty
            );
            let _job = job.enter();
            job.record("outcome", "done");
            tracing::info_span!("stage", stage = "encode", attempt = 2)
                .in_scope(|| tracing::info!(stage = "upload", "moving on"));
        });
        let line = &lines[0];
        assert_eq!(line["job_id"], "rex");
        assert_eq!(line["outcome"], "done");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["stage"], "upload");
        assert_eq!(line["span"], "stage");
        assert_eq!(line["logging.googleapis.com/labels"]["job_id"], "rex");
    }

    #[test]
    fn a_trace_id_links_the_line_to_its_trace_and_anything_else_stays_a_field() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let body = || {
            tracing::info_span!(
                "job",
                trace_id = trace,
                span_id = "00f067aa0ba902b7",
                trace_sampled = true
            )
            .in_scope(|| tracing::info!("x"));
            tracing::info!(trace_id = "<none>", trace_sampled = "yes", "x");
            tracing::info!(trace_id = "4bf92f", "x");
        };
        let lines = logged(Some("perkie"), body);
        assert_eq!(
            lines[0]["logging.googleapis.com/trace"],
            format!("projects/perkie/traces/{trace}")
        );
        assert_eq!(
            lines[0]["logging.googleapis.com/spanId"],
            "00f067aa0ba902b7"
        );
        assert_eq!(lines[0]["logging.googleapis.com/trace_sampled"], true);
        assert_eq!(lines[0].get("trace_id"), None);
        assert_eq!(lines[0].get("trace_sampled"), None);
        assert_eq!(lines[1]["trace_sampled"], "yes");
        assert_eq!(lines[1]["trace_id"], "<none>");
        assert_eq!(lines[2]["trace_id"], "4bf92f");
        assert_eq!(logged(None, body)[0]["logging.googleapis.com/trace"], trace);
    }

    #[test]
    fn a_field_cannot_pose_as_a_part_of_the_entry() {
        let lines = logged(None, || {
            tracing::info_span!("job", message = "not the message").in_scope(|| {
                tracing::info!(severity = "EMERGENCY", time = 3, labels.shop = 7, "x");
            });
        });
        let line = &lines[0];
        assert_eq!(line["severity"], "INFO");
        assert_eq!(line["severity_"], "EMERGENCY");
        assert_eq!(line["time_"], 3);
        assert_eq!(line["message"], "x");
        assert_eq!(line["message_"], "not the message");
        assert_eq!(line["logging.googleapis.com/labels"]["shop"], "7");
    }

    #[test]
    fn every_kind_of_value_is_json() {
        let lines = logged(None, || {
            let error = crate::error::Error::new(crate::error::Code::Internal, "outer")
                .caused_by(std::io::Error::other("inner"));
            tracing::info!(
                flag = true,
                minus = -3,
                nan = f64::NAN,
                half = 0.5,
                huge = u128::MAX,
                raw = b"ab\xff\n\"".as_slice(),
                list = ?["a\n", "b\""],
                error = &error as &dyn std::error::Error,
            );
        });
        let line = &lines[0];
        assert_eq!(line["flag"], true);
        assert_eq!(line["minus"], -3);
        assert_eq!(line["nan"], "NaN");
        assert_eq!(line["half"], 0.5);
        assert_eq!(line["huge"], u128::MAX.to_string());
        assert_eq!(line["raw"], "ab\u{fffd}\n\"");
        assert_eq!(line["error"], "outer: inner");
        assert!(line["message"].as_str().unwrap().starts_with("event "));
    }

    #[test]
    fn an_endless_value_is_cut_so_that_the_line_stays_an_entry() {
        let text = "ä".repeat(200_000);
        let lines = logged(None, || tracing::info!(text, "x"));
        let kept = lines[0]["text"].as_str().unwrap();
        assert!(kept.len() < MAX_TEXT_BYTES + 40);
        assert!(kept.ends_with("ä… (400000 bytes)"));
    }

    proptest! {
        #[test]
        fn one_event_is_one_line_whatever_it_says(text: String, bytes: Vec<u8>, number: f64) {
            let lines = logged(None, || {
                tracing::info_span!("job", job_id = text).in_scope(|| {
                    tracing::info!(raw = bytes.as_slice(), number, "{text}");
                });
            });
            prop_assert_eq!(lines.len(), 1);
            prop_assert_eq!(&lines[0]["message"], &text);
            prop_assert_eq!(&lines[0]["job_id"], &text);
        }
    }
}
