//! Each request's id and trace: in every log line, and in the answer.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

/// The header of a request's id, both ways.
const REQUEST_ID: &str = "x-request-id";

/// Longest id that is taken from a client.
const MAX_ID: usize = 64;

/// Runs the rest in a span of the request's id and trace, and answers with the id.
pub async fn identify(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>();
    let span = tracing::info_span!(
        "request",
        request_id = id,
        route = route.map(MatchedPath::as_str),
        trace_id = tracing::field::Empty,
        span_id = tracing::field::Empty
    );
    if let Some(trace) = Trace::of(request.headers()) {
        span.record("trace_id", trace.trace);
        span.record("span_id", trace.span);
    }
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
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

/// Where a request stands in a trace (<https://www.w3.org/TR/trace-context/#traceparent-header>).
struct Trace<'a> {
    /// 32 hex digits.
    trace: &'a str,
    /// 16 hex digits.
    span: &'a str,
}

impl<'a> Trace<'a> {
    fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut fields = headers.get("traceparent")?.to_str().ok()?.split('-');
        let (version, trace, span) = (fields.next()?, fields.next()?, fields.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                && text.bytes().any(|b| b != b'0')
        };
        let known = version.len() == 2 && version != "ff";
        (known && is_hex(trace, 32) && is_hex(span, 16)).then_some(Self { trace, span })
    }
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

    #[test]
    fn a_trace_is_taken_from_a_valid_traceparent_only() {
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers_of = |value: &str| headers("traceparent", value);
        let known = headers_of(value);
        let trace = Trace::of(&known).unwrap();
        assert_eq!(trace.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.span, "00f067aa0ba902b7");
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f-00f067aa0ba902b7-01",
        ] {
            assert!(Trace::of(&headers_of(wrong)).is_none(), "{wrong}");
        }
    }
}
