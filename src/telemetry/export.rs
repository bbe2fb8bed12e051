//! Sending spans: a bounded queue, a thread, and a ledger of what arrived and what was lost.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use super::labels::SpanLoss;
use super::metrics::Metrics;
use super::traces::{Protocol, TraceSettings};
use crate::error::{Code, Error, Result};

/// Spans that wait to be sent, at most. A job has some fifteen, of half a kilobyte each: a minute of
/// a collector's absence at two jobs a second, in a megabyte.
const QUEUE: usize = 2048;

/// Spans in one export, and how long the first of them waits for others.
const BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(1);

/// One line in this time: an absent collector must not fill the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What speaks to the collector.
///
/// Errors: `config_invalid` when it cannot be made.
pub(super) fn exporter(settings: &TraceSettings) -> Result<OtlpExporter> {
    let builder = OtlpExporter::builder();
    let endpoint = settings.endpoint.clone();
    let built = match settings.protocol {
        Protocol::HttpProtobuf => builder
            .with_http()
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(settings.timeout)
            .with_headers(settings.headers.iter().cloned().collect())
            .build(),
        Protocol::Grpc => {
            let secure = endpoint.starts_with("https:");
            let exporter = builder
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(settings.timeout)
                .with_metadata(metadata(&settings.headers));
            if secure {
                let roots = ClientTlsConfig::new().with_enabled_roots();
                exporter.with_tls_config(roots).build()
            } else {
                exporter.build()
            }
        }
    };
    built.map_err(|error| {
        Error::new(
            Code::ConfigInvalid,
            "traces cannot be sent: check --otlp-endpoint and --otlp-protocol, or leave them out",
        )
        .caused_by(error)
    })
}

/// Headers as gRPC has them; the configuration has refused those that are none.
fn metadata(headers: &[(String, String)]) -> MetadataMap {
    let headers: HeaderMap = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        })
        .collect();
    MetadataMap::from_headers(headers)
}

/// The way of a span out of the process: into the queue if there is room, and by a thread to
/// `exporter`. Every span that goes in is in the ledger at the end.
pub(super) fn processor(
    exporter: impl SpanExporter + 'static,
    ledger: &Arc<Ledger>,
) -> impl SpanProcessor + 'static {
    // Said here rather than read from the environment by the library, which does not tell what it read.
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(EVERY)
        .build();
    let exporter = Counted {
        exporter,
        ledger: Arc::clone(ledger),
    };
    Bounded {
        next: BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build(),
        ledger: Arc::clone(ledger),
    }
}

/// What became of the spans: the library drops what does not fit and tells nobody how many.
pub(super) struct Ledger {
    metrics: Metrics,
    /// In the queue, or in an export under way.
    pending: AtomicUsize,
    complaint: Mutex<Complaint>,
}

/// What has not been said yet, and when something was said last.
#[derive(Default)]
struct Complaint {
    said: Option<Instant>,
    unsaid: usize,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            pending: AtomicUsize::new(0),
            complaint: Mutex::default(),
        }
    }

    /// Whether one more may wait.
    fn admit(&self) -> bool {
        let room = |pending| (pending < QUEUE).then_some(pending + 1);
        let admitted = self
            .pending
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok();
        if !admitted {
            self.lost(1, SpanLoss::QueueFull, None);
        }
        admitted
    }

    /// An export is over.
    fn exported(&self, spans: usize, outcome: &OTelSdkResult) {
        let fewer = |pending: usize| Some(pending.saturating_sub(spans));
        let _ = self
            .pending
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        match outcome {
            Ok(()) => self.metrics.spans_exported(spans),
            Err(error) => self.lost(spans, SpanLoss::ExportFailed, Some(error)),
        }
    }

    /// Nothing more is sent.
    pub(super) fn close(&self, failure: Option<OTelSdkError>) {
        let left = self.pending.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.lost(left, SpanLoss::Shutdown, failure.as_ref());
        }
        let complaint = self.complaint();
        if complaint.unsaid > 0 {
            tracing::warn!(spans = complaint.unsaid, "more spans were lost");
        }
    }

    fn lost(&self, spans: usize, loss: SpanLoss, error: Option<&OTelSdkError>) {
        self.metrics.spans_lost(loss, spans);
        let mut complaint = self.complaint();
        complaint.unsaid += spans;
        let quiet = complaint
            .said
            .is_some_and(|at| at.elapsed() < COMPLAIN_EVERY);
        if quiet {
            return;
        }
        complaint.said = Some(Instant::now());
        let spans = std::mem::take(&mut complaint.unsaid);
        drop(complaint);
        tracing::warn!(
            reason = loss.as_str(),
            spans,
            error = error.map(ToString::to_string),
            "spans were lost: traces have holes, jobs go on; further ones are only counted for a minute"
        );
    }

    fn complaint(&self) -> std::sync::MutexGuard<'_, Complaint> {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets spans into the queue while there is room.
#[derive(Debug)]
struct Bounded {
    next: BatchSpanProcessor,
    ledger: Arc<Ledger>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.ledger.admit() {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Enters each export into the ledger.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    ledger: Arc<Ledger>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.ledger.exported(spans, &outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// An exporter that answers an export when it is told to, and says when it has got one.
    #[derive(Debug)]
    struct Gated {
        came: mpsc::Sender<usize>,
        go: Mutex<mpsc::Receiver<()>>,
    }

    impl SpanExporter for Gated {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            // Neither fails but at the test's end.
            let _ = self.came.send(batch.len());
            let _ = self.go.lock().unwrap().recv();
            Ok(())
        }
    }

    /// A provider over a gated exporter: what came, the gate, and what tells of losses.
    struct Setup {
        provider: SdkTracerProvider,
        ledger: Arc<Ledger>,
        metrics: Metrics,
        came: mpsc::Receiver<usize>,
        go: mpsc::Sender<()>,
    }

    impl Setup {
        fn new() -> Self {
            let metrics = Metrics::new();
            let ledger = Arc::new(Ledger::new(metrics.clone()));
            let ((arrived, came), (go, gate)) = (mpsc::channel(), mpsc::channel());
            let exporter = Gated {
                came: arrived,
                go: Mutex::new(gate),
            };
            let provider = SdkTracerProvider::builder()
                .with_span_processor(processor(exporter, &ledger))
                .build();
            Self {
                provider,
                ledger,
                metrics,
                came,
                go,
            }
        }

        fn spans(&self, count: usize) {
            let tracer = self.provider.tracer("test");
            for _ in 0..count {
                tracer.start("span").end();
            }
        }

        fn scraped(&self, series: &str) -> usize {
            let text = self.metrics.render().unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.expect("it is scraped").trim().parse().unwrap()
        }

        fn lost(&self, reason: &str) -> usize {
            self.scraped(&format!("cutout_spans_lost_total{{reason=\"{reason}\"}}"))
        }
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_and_what_waits_is_sent() {
        let setup = Setup::new();
        // A first export hangs; its spans wait too.
        setup.spans(BATCH);
        let first = setup.came.recv().unwrap();
        setup.spans(QUEUE - BATCH + 10);
        assert_eq!(setup.lost("queue_full"), 10);
        setup.spans(1);
        assert_eq!(setup.lost("queue_full"), 11);

        // More often than there can be exports.
        (0..QUEUE).for_each(|_| setup.go.send(()).unwrap());
        setup.provider.shutdown().unwrap();
        setup.ledger.close(None);
        let sent = first + setup.came.try_iter().sum::<usize>();
        assert_eq!(sent, QUEUE);
        assert_eq!(setup.scraped("cutout_spans_exported_total"), QUEUE);
        assert_eq!(setup.lost("shutdown"), 0);
    }

    #[test]
    fn what_the_end_leaves_unsent_is_counted() {
        let setup = Setup::new();
        setup.spans(BATCH);
        setup.came.recv().unwrap();
        setup.spans(7);
        let ended = setup
            .provider
            .shutdown_with_timeout(Duration::from_millis(50));
        assert!(ended.is_err(), "the export that hangs holds the end up");
        setup.ledger.close(ended.err());
        assert_eq!(setup.lost("shutdown"), BATCH + 7);
        assert_eq!(setup.lost("queue_full"), 0);
        // Lets the exporter's thread end.
        setup.go.send(()).unwrap();
    }
}
