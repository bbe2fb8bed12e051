//! A receiver of OTLP, over HTTP and gRPC: decodes what comes with OpenTelemetry's own types and
//! keeps it. It can be told to fail, or to say nothing, as collectors do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as ProtoSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// What it does with an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    #[default]
    Well,
    /// Answers 500.
    Broken,
    /// Does not answer.
    Silent,
}

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    /// Hex digits.
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    /// Nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
    /// The message of an error's status; `None` where the status is no error.
    pub failure: Option<String>,
    /// Values as text.
    pub attributes: BTreeMap<String, String>,
    /// The process's attributes.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// An attribute, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether it lies in the other's time.
    pub fn within(&self, other: &Self) -> bool {
        self.start <= self.end && other.start <= self.start && self.end <= other.end
    }
}

#[derive(Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Span>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    mood: Arc<Mutex<Mood>>,
}

/// A running receiver; it ends when this is dropped.
pub struct Collector {
    kept: Kept,
    http: SocketAddr,
    grpc: SocketAddr,
    _serving: [AbortOnDropHandle<()>; 2],
}

impl Collector {
    /// Starts one on free ports, on the test's runtime.
    pub async fn start() -> Self {
        let kept = Kept::default();
        let (http, grpc) = (listener().await, listener().await);
        let (http_address, grpc_address) = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/traces", post(over_http))
            .with_state(kept.clone());
        let by_http = async move { axum::serve(http, router).await.unwrap() };
        let service = tonic::service::Routes::new(TraceServiceServer::new(kept.clone()));
        let service = service.prepare().into_axum_router();
        let by_grpc = async move { axum_h2(grpc, service).await };
        Self {
            kept,
            http: http_address,
            grpc: grpc_address,
            _serving: [
                AbortOnDropHandle::new(tokio::spawn(by_http)),
                AbortOnDropHandle::new(tokio::spawn(by_grpc)),
            ],
        }
    }

    /// The value of `OTEL_EXPORTER_OTLP_ENDPOINT` for OTLP over HTTP.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The same for gRPC.
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// From now on it does so with every export.
    pub fn is(&self, mood: Mood) {
        *self.kept.mood.lock().unwrap() = mood;
    }

    /// What has arrived.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }

    /// The headers of every export.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.kept.headers.lock().unwrap().clone()
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Serves HTTP/2 without TLS, as gRPC speaks it.
async fn axum_h2(listener: TcpListener, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let executor = hyper_util::rt::TokioExecutor::new();
            let served = hyper::server::conn::http2::Builder::new(executor)
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            drop(served.await);
        });
    }
}

impl Kept {
    async fn mood(&self) -> Mood {
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Silent {
            // Longer than anybody waits; an abort ends it with the test.
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        mood
    }

    fn keep(&self, headers: HeaderMap, request: ExportTraceServiceRequest) {
        self.headers.lock().unwrap().push(headers);
        let mut spans = self.spans.lock().unwrap();
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|r| r.attributes).unwrap_or_default();
            let process = texts(attributes);
            for scope in resource.scope_spans {
                spans.extend(scope.spans.into_iter().map(|span| read(span, &process)));
            }
        }
    }
}

async fn over_http(State(kept): State<Kept>, headers: HeaderMap, body: Bytes) -> Response {
    if kept.mood().await == Mood::Broken {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    kept.keep(headers, ExportTraceServiceRequest::decode(body).unwrap());
    ExportTraceServiceResponse::default()
        .encode_to_vec()
        .into_response()
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        if self.mood().await == Mood::Broken {
            return Err(tonic::Status::internal("broken"));
        }
        let (metadata, _, request) = request.into_parts();
        self.keep(metadata.into_headers(), request);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(span: ProtoSpan, resource: &BTreeMap<String, String>) -> Span {
    let kind = span.kind();
    let failure = span
        .status
        .filter(|status| status.code() == SpanStatus::Error)
        .map(|status| status.message);
    Span {
        name: span.name,
        kind,
        trace: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        failure,
        attributes: texts(span.attributes),
        resource: resource.clone(),
    }
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => panic!("{other:?} is sent by nobody"),
    };
    pairs
        .into_iter()
        .map(|pair| (pair.key, text(pair.value)))
        .collect()
}
