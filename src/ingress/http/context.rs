//! Each request's id and trace: in every log line, and in the answer.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::trace::SpanKind;
use tracing::Instrument;

use super::PHOTO_ROUTES;
use crate::telemetry::attribute::{self, number, text};
use crate::telemetry::context::TraceContext;
use crate::telemetry::traces::{Beginning, Spans, Traces};

/// The header of a request's id, both ways.
const REQUEST_ID: &str = "x-request-id";

/// Longest id that is taken from a client.
const MAX_ID: usize = 64;

/// Runs the rest in a span of the request's id and trace, and answers with the id.
pub async fn identify(State(traces): State<Traces>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>();
    let span = tracing::info_span!(
        "request",
        request_id = id,
        route = route.map(MatchedPath::as_str),
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty,
        trace_sampled = tracing::field::Empty
    );
    let spans = begin(&traces, &request, route.map(MatchedPath::as_str), &id);
    let parent = || TraceContext::of_headers(request.headers());
    if let Some(trace) = spans.context().or_else(parent) {
        trace.record(&span);
    }
    request.extensions_mut().insert(spans.clone());
    let mut response = next.run(request).instrument(span).await;
    spans.set(|| {
        let status = response.status().as_u16().into();
        vec![number(attribute::HTTP_STATUS, status)]
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The span over a request that brings a photo. What is asked about the worker itself has none:
/// probes and scrapes would bury the rest.
fn begin(traces: &Traces, request: &Request, route: Option<&str>, id: &str) -> Spans {
    let Some(route) = route.filter(|route| PHOTO_ROUTES.contains(route)) else {
        return Spans::default();
    };
    traces.begin(|| Beginning {
        name: format!("{} {route}", request.method()),
        kind: SpanKind::Server,
        parent: TraceContext::of_headers(request.headers()),
        attributes: vec![
            text(attribute::HTTP_METHOD, request.method().as_str()),
            text(attribute::HTTP_ROUTE, route),
            text(attribute::URL_PATH, request.uri().path()),
            text(attribute::URL_SCHEME, "http"),
            text(attribute::REQUEST_ID, id),
        ],
    })
}

/// The client's own id if it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_id(id))
        .map_or_else(new_id, ToOwned::to_owned)
}

/// Whether a client's text may stand in headers, logs and file names.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// 32 hex digits that are no secret.
pub fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            name.parse::<axum::http::HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )])
    }

    #[test]
    fn a_clients_id_is_kept_if_it_is_one_and_else_replaced() {
        assert_eq!(
            request_id(&headers(REQUEST_ID, "order-5512.front")),
            "order-5512.front"
        );
        for wrong in ["", "a b", "<script>", &"x".repeat(MAX_ID + 1), "a/../b"] {
            let id = request_id(&headers(REQUEST_ID, wrong));
            assert_eq!(id.len(), 32, "{wrong}");
            assert!(is_id(&id));
        }
        assert_ne!(new_id(), new_id());
    }
}
