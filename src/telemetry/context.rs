//! Where work stands in somebody's trace, as W3C Trace Context writes it
//! (<https://www.w3.org/TR/trace-context/>): the one parser, for headers, attributes of messages and
//! the environment.
//!
//! A parser of our own, because the SDK's propagator (0.33) takes ids of any length and numbers with
//! a sign. What is no context is left out, never an error: a job must not fail over a label.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The field that names trace, span and flags.
const TRACEPARENT: &str = "traceparent";
/// The field that tracing systems keep what is theirs in.
const TRACESTATE: &str = "tracestate";

/// What Google's client libraries of Pub/Sub put before both fields when they trace a publication
/// (`googclientPrefix` in `pubsub/trace.go` of google-cloud-go, `OpenTelemetryContextSetter` of
/// python-pubsub; the other languages have the same).
const GOOGLE: &str = "googclient_";

/// What a trace's state may have at most to be handed on, bytes: the least that everybody must take
/// (<https://www.w3.org/TR/trace-context/#tracestate-limits>).
const MAX_STATE: usize = 512;

/// One span of somebody's, by which others refer to it.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceContext(SpanContext);

impl TraceContext {
    /// Reads both fields; `None` when the first is no context. What is wrong with the second costs
    /// only the second.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut fields = traceparent.split('-');
        let mut hex = |digits| {
            fields
                .next()
                .filter(|text| text.len() == digits && text.bytes().all(is_hex))
        };
        let (version, trace) = (hex(2)?, hex(32)?);
        let (span, flags) = (hex(16)?, hex(2)?);
        // Later versions may say more at the end; this one may not, and ff is none.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let state = tracestate
            .filter(|text| text.len() <= MAX_STATE)
            .and_then(|text| text.parse::<TraceState>().ok());
        let context = SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(span).ok()?,
            TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
            true,
            state.unwrap_or_default(),
        );
        Self::of(&context)
    }

    /// That of a span; `None` for one that is no span.
    pub fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self(context.clone()))
    }

    /// Reads a request's headers.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self::parse(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// Reads a message's attributes: what the publisher's client library said, which stands nearer
    /// to the publication, or what the publisher said itself.
    pub fn of_attributes(attributes: &BTreeMap<String, String>) -> Option<Self> {
        let read = |prefix: &str| {
            let text = |name| attributes.get(&format!("{prefix}{name}"));
            let state = text(TRACESTATE).map(String::as_str);
            Self::parse(text(TRACEPARENT)?, state)
        };
        read(GOOGLE).or_else(|| read(""))
    }

    /// The attributes by which a message hands it on.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let parent = format!(
            "00-{}-{}-{:02x}",
            self.trace_id(),
            self.span_id(),
            self.0.trace_flags()
        );
        let state = self.0.trace_state().header();
        let mut attributes = BTreeMap::from([(TRACEPARENT.to_owned(), parent)]);
        if !state.is_empty() {
            attributes.insert(TRACESTATE.to_owned(), state);
        }
        attributes
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// 16 hex digits.
    pub fn span_id(&self) -> String {
        self.0.span_id().to_string()
    }

    /// Whether whoever began the trace keeps it.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// As the SDK has it.
    pub const fn span(&self) -> &SpanContext {
        &self.0
    }

    /// Puts the lines that are logged inside of `span` into the trace. The span needs the fields
    /// `trace_id`, `span_id` and `trace_sampled`.
    pub fn record(&self, span: &tracing::Span) {
        span.record("trace_id", self.trace_id());
        span.record("span_id", self.span_id());
        span.record("trace_sampled", self.is_sampled());
    }
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn owned<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn a_context_is_taken_apart_and_handed_on_as_it_came() {
        let context = TraceContext::parse(PARENT, Some("shop=a1,other=b")).unwrap();
        assert_eq!(context.trace_id(), TRACE);
        assert_eq!(context.span_id(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        let expected = owned([("traceparent", PARENT), ("tracestate", "shop=a1,other=b")]);
        assert_eq!(context.attributes(), expected);
    }

    #[test]
    fn flags_of_later_times_are_left_out_and_later_versions_are_read_as_this_one() {
        let flags = |flags: &str| {
            let text = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
            TraceContext::parse(&text, None).unwrap()
        };
        assert!(!flags("00").is_sampled());
        assert!(!flags("02").is_sampled());
        assert!(flags("03").is_sampled());
        assert!(flags("03").attributes()["traceparent"].ends_with("-01"));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes");
        assert_eq!(TraceContext::parse(&later, None).unwrap().trace_id(), TRACE);
    }

    #[test]
    fn what_is_no_context_is_none_and_a_wrong_state_costs_only_itself() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong, None), None, "{wrong}");
        }
        for state in ["no pair", &format!("a={}", "b".repeat(MAX_STATE))] {
            let context = TraceContext::parse(PARENT, Some(state)).unwrap();
            assert_eq!(context.attributes(), owned([("traceparent", PARENT)]));
        }
    }

    #[test]
    fn the_client_librarys_word_comes_before_the_publishers_own() {
        let of = TraceContext::of_attributes;
        let nearer = PARENT.replace("00f067aa0ba902b7", "1111111111111111");
        let span = |attributes| of(&attributes).map(|context| context.span_id());
        let plain = owned([("traceparent", PARENT), ("shop", "perkie")]);
        assert_eq!(span(plain).unwrap(), "00f067aa0ba902b7");
        let both = owned([("traceparent", PARENT), ("googclient_traceparent", &nearer)]);
        assert_eq!(span(both).unwrap(), "1111111111111111");
        let broken = owned([("traceparent", PARENT), ("googclient_traceparent", "00")]);
        assert_eq!(span(broken).unwrap(), "00f067aa0ba902b7");
        assert_eq!(span(owned([("tracestate", "a=b")])), None);
    }

    #[test]
    fn headers_are_read_alike() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::of_headers(&headers), None);
        headers.insert("traceparent", PARENT.parse().unwrap());
        headers.insert("tracestate", "a=b".parse().unwrap());
        let context = TraceContext::of_headers(&headers).unwrap();
        assert_eq!(context.attributes()["tracestate"], "a=b");
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic(parent in "\\PC*", state in "\\PC*") {
            let _ = TraceContext::parse(&parent, Some(&state));
        }

        #[test]
        fn what_it_writes_it_reads(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
            let context = TraceContext::parse(&text, None).unwrap();
            prop_assert_eq!(&context.attributes()["traceparent"], &text);
        }
    }
}
