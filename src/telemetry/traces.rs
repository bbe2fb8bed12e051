//! Traces: spans made by hand with the times that the stages were measured with anyway, and sent by
//! OTLP from a thread of their own.
//!
//! Not a layer of `tracing`: a stage's time is known when it is over, on another task than it was
//! spent on, and a layer cannot be told when a span began; it would also see the spans of Google's
//! clients, and cost every span of the log its work while traces are off (docs/decisions/0015).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan};

use super::attribute::{CLASS, CODE, ERROR_TYPE};
use super::context::TraceContext;
use super::export::{Ledger, exporter, processor};
use super::metrics::Metrics;
use crate::error::{Error, Result};
use crate::version::VERSION;

/// How long the end of a process waits for the last spans. It runs beside the wait for the engine's
/// last run, and has the same share of Cloud Run's 10 s.
const LAST_SPANS: Duration = Duration::from_millis(1800);

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1.
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// Which traces are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The share of traces that begin here.
    pub ratio: f64,
    /// Whether a publisher's or client's own decision comes first.
    pub follow_parent: bool,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            ratio: 1.0,
            follow_parent: true,
        }
    }
}

/// Where traces go and under which name.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// Where exports are sent: the whole address, path included.
    pub endpoint: String,
    /// How.
    pub protocol: Protocol,
    /// Sent with each; they may be secret.
    pub headers: Vec<(String, String)>,
    /// For one export, further tries included.
    pub timeout: Duration,
    /// The service that traces are filed under.
    pub service_name: String,
    /// More attributes of the process.
    pub attributes: Vec<(String, String)>,
    /// Which traces are made.
    pub sampling: Sampling,
}

/// Without what the headers say.
impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("service_name", &self.service_name)
            .field("attributes", &self.attributes)
            .field("sampling", &self.sampling)
            .finish()
    }
}

/// Makes spans and sends them; or, where no traces are wanted, neither. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Running>>);

struct Running {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    ledger: Arc<Ledger>,
}

/// The span over a delivery, a request or a publication, as it begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Low in cardinality: what is done, where.
    pub name: String,
    /// Whose side of what.
    pub kind: SpanKind,
    /// The publisher's or client's span; without one a trace begins here.
    pub parent: Option<TraceContext>,
    /// What is known of it already.
    pub attributes: Vec<KeyValue>,
}

impl Traces {
    /// Starts sending. Must be called inside a tokio runtime, which gRPC needs.
    ///
    /// Errors: `config_invalid` when the exporter cannot be made, with what is wrong.
    pub fn start(settings: &TraceSettings, metrics: Metrics) -> Result<Self> {
        let ledger = Arc::new(Ledger::new(metrics));
        let exporter = exporter(settings)?;
        let own = [
            ("service.name", settings.service_name.as_str()),
            ("service.version", VERSION),
        ];
        let given = settings.attributes.iter();
        let attributes = given
            .map(|(name, value)| (name.as_str(), value.as_str()))
            // The last of a name stays.
            .chain(own)
            .map(|(name, value)| KeyValue::new(name.to_owned(), value.to_owned()));
        // From nothing, so that the settings alone decide and no library reads the environment.
        let resource = Resource::builder_empty()
            .with_detector(Box::new(
                opentelemetry_sdk::resource::TelemetryResourceDetector,
            ))
            .with_attributes(attributes)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(settings.sampling))
            .with_resource(resource)
            .with_span_processor(processor(exporter, &ledger))
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        tracing::info!(?settings, "traces are sent by OTLP");
        Ok(Self(Some(Arc::new(Running {
            provider,
            tracer,
            ledger,
        }))))
    }

    /// Whether spans are made at all.
    pub const fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span that stages become children of. Nothing is asked of `beginning` while traces
    /// are off.
    pub fn begin(&self, beginning: impl FnOnce() -> Beginning) -> Spans {
        let Some(running) = &self.0 else {
            return Spans::default();
        };
        let Beginning {
            name,
            kind,
            parent,
            attributes,
        } = beginning();
        let (since, wall) = (Instant::now(), SystemTime::now());
        let span = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(wall)
            .with_attributes(attributes);
        let parent = parent.map_or_else(Context::new, |parent| under(parent.span()));
        let span = running.tracer.build_with_context(span, &parent);
        Spans(Some(Arc::new(Open {
            context: span.span_context().clone(),
            tracer: running.tracer.clone(),
            since,
            wall,
            span: Mutex::new(Some(span)),
        })))
    }

    /// Sends what is left, within a time that fits into a drain, and tells what was lost.
    pub async fn finish(&self) {
        let Some(running) = self.0.clone() else {
            return;
        };
        // The library blocks while it waits for its thread.
        let sending = tokio::task::spawn_blocking(move || {
            let sent = running.provider.shutdown_with_timeout(LAST_SPANS);
            running.ledger.close(sent.err());
        });
        // The library keeps the time itself, unless no thread is left for it.
        let patience = LAST_SPANS + Duration::from_millis(200);
        if tokio::time::timeout(patience, sending).await.is_err() {
            tracing::warn!("the last spans were not sent in time");
        }
    }
}

fn sampler(sampling: Sampling) -> Sampler {
    let root = if sampling.ratio >= 1.0 {
        Sampler::AlwaysOn
    } else if sampling.ratio > 0.0 {
        Sampler::TraceIdRatioBased(sampling.ratio)
    } else {
        Sampler::AlwaysOff
    };
    if sampling.follow_parent {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

fn under(parent: &SpanContext) -> Context {
    Context::new().with_remote_span_context(parent.clone())
}

/// The span over one delivery, request or publication, which its stages become children of; or
/// nothing, where traces are off. Cheap to clone. It ends by [`end`](Self::end), or as what it is
/// when the last clone is dropped.
#[derive(Clone, Default)]
pub struct Spans(Option<Arc<Open>>);

struct Open {
    context: SpanContext,
    tracer: SdkTracer,
    /// One moment on both clocks: times are taken on the one that never jumps, so that children
    /// lie inside of their parent whatever the wall's clock does meanwhile.
    since: Instant,
    wall: SystemTime,
    span: Mutex<Option<SdkSpan>>,
}

impl Open {
    fn wall(&self, moment: Instant) -> SystemTime {
        self.wall + moment.saturating_duration_since(self.since)
    }

    fn span(&self) -> std::sync::MutexGuard<'_, Option<SdkSpan>> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spans {
    /// By which others refer to the span; `None` where traces are off.
    pub fn context(&self) -> Option<TraceContext> {
        TraceContext::of(&self.0.as_ref()?.context)
    }

    /// Adds what has become known, if anybody will see it.
    pub fn set(&self, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(open) = self.kept()
            && let Some(span) = open.span().as_mut()
        {
            span.set_attributes(attributes());
        }
    }

    /// Marks it as failed.
    pub fn fail(&self, error: &Error) {
        if let Some(open) = self.kept()
            && let Some(span) = open.span().as_mut()
        {
            fail(span, error);
        }
    }

    /// A child that is over.
    pub fn child(
        &self,
        name: &'static str,
        kind: SpanKind,
        begun: Instant,
        ended: Instant,
        failure: Option<&Error>,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let Some(open) = self.kept() else { return };
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(open.wall(begun))
            .with_attributes(attributes());
        let mut span = open
            .tracer
            .build_with_context(builder, &under(&open.context));
        if let Some(error) = failure {
            fail(&mut span, error);
        }
        span.end_with_timestamp(open.wall(ended));
    }

    /// Ends it.
    pub fn end(&self) {
        if let Some(open) = &self.0 {
            open.end();
        }
    }

    /// The span, if it is going to be sent.
    fn kept(&self) -> Option<&Open> {
        self.0.as_deref().filter(|open| open.context.is_sampled())
    }
}

impl Open {
    fn end(&self) {
        if let Some(mut span) = self.span().take() {
            span.end_with_timestamp(self.wall(Instant::now()));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end();
    }
}

/// The code is what people search for; the message is the public one.
fn fail(span: &mut SdkSpan, error: &Error) {
    span.set_attribute(KeyValue::new(ERROR_TYPE, error.code().as_str()));
    span.set_attribute(KeyValue::new(CODE, error.code().as_str()));
    span.set_attribute(KeyValue::new(CLASS, error.class().as_str()));
    span.set_status(Status::error(error.message().to_owned()));
}
