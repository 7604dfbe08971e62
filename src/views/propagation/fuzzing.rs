//! What holds of the fields that tell others of a trace: who reads them finds what was written, and only who is permitted
//! gets them. In: bytes of a fuzzer, or of the kept corpus. Out: a panic where it does not hold.

use std::collections::HashMap;

use opentelemetry::{
    KeyValue, StringValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanId, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use super::*;
use crate::views::script;

struct Sent<'a>(&'a HeaderMap);

impl Extractor for Sent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Ids, then a text: a list of a trace's state, of baggage, of servers.
pub(crate) fn propagation(data: &[u8]) {
    let mut ids = [0; 24];
    let (given, text) = data.split_at(data.len().min(24));
    ids[..given.len()].copy_from_slice(given);
    let text = String::from_utf8_lossy(text);
    identity(&ids, &text);
    baggage(&text);
    permits(&text);
}

fn identity(ids: &[u8; 24], text: &str) {
    let [trace @ .., _, _, _, _, _, _, _, _] = *ids;
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, span @ ..] = *ids;
    let state = text.parse::<TraceState>().unwrap_or_default();
    let flags = TraceFlags::default().with_sampled(ids[0] & 1 == 1);
    let written = SpanContext::new(TraceId::from_bytes(trace), SpanId::from_bytes(span), flags, true, state);
    let mut headers = HeaderMap::new();
    write(&mut headers, &written, &Context::new());
    assert_eq!(headers.contains_key(TRACEPARENT), written.is_valid());
    if written.is_valid() {
        let read = TraceContextPropagator::new().extract(&Sent(&headers));
        let read = read.span().span_context().clone();
        assert_eq!((read.trace_id(), read.span_id()), (written.trace_id(), written.span_id()));
        assert_eq!(read.trace_flags(), written.trace_flags());
        if headers.contains_key(TRACESTATE) {
            assert_eq!(read.trace_state().header(), written.trace_state().header());
        }
    }
}

/// `key=value` in each line.
fn baggage(text: &str) {
    // A `%` is a part of a name as any other (W3C Baggage §3.3.1), but OpenTelemetry for Rust decodes names (0.33).
    let pairs = text.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| !name.contains('%'));
    let pairs = pairs.map(|(key, value)| KeyValue::new(key.to_owned(), StringValue::from(value.to_owned())));
    let parent = Context::new().with_baggage(pairs);
    let mut headers = HeaderMap::new();
    write(&mut headers, &SpanContext::NONE, &parent);
    let Some(sent) = headers.get(BAGGAGE) else {
        return assert!(parent.baggage().is_empty());
    };
    assert!(sent.as_bytes().iter().all(u8::is_ascii_graphic), "{sent:?}");
    let read = BaggagePropagator::new().extract(&Sent(&headers));
    let all = |context: &Context| -> HashMap<String, String> {
        let pairs = context.baggage().iter();
        pairs.map(|(key, (value, _))| (key.as_str().trim().to_owned(), value.as_str().trim().to_owned())).collect()
    };
    assert_eq!(all(&read), all(&parent), "{sent:?}");
}

/// A list of servers, and one that asks.
fn permits(text: &str) {
    let mut words = text.split_whitespace();
    let host = words.next().unwrap_or_default().to_ascii_lowercase();
    let mut info = script::get().info(1);
    (info.host, info.port, info.scheme) = (host.as_str().into(), 8443, "https");
    for word in words {
        if !Permit::new(word).covers(&info) {
            continue;
        }
        // The name is in what was permitted, whole or from a dot on.
        let word = word.to_ascii_lowercase();
        let own = word.contains(&host) || host.match_indices('.').any(|(dot, _)| word.contains(&host[dot..]));
        assert!(own && !host.is_empty(), "{word} covers {host}");
        assert!(!word.starts_with("http://"), "{word} covers https");
    }
}
