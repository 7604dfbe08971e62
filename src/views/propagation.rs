//! Writes a span's identity into a request: `traceparent` and `tracestate` (W3C Trace Context), `baggage` (W3C Baggage).
//!
//! Written by hand, because the propagator of the SDK costs four allocations and ten times the instructions for the
//! same 55 bytes. A propagator that the application sets takes over.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    baggage::{Baggage, BaggageExt},
    propagation::{Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// What clients pass on whose application sets no propagator: all, unless telemetry was set up to say less.
static CARRIED: AtomicU8 = AtomicU8::new(TRACE_CONTEXT | BAGGAGE_FIELD);
const TRACE_CONTEXT: u8 = 1;
const BAGGAGE_FIELD: u8 = 2;

/// Says for the whole process what is passed on.
#[cfg(feature = "otlp")]
pub(crate) fn set_global(trace_context: bool, baggage: bool) {
    CARRIED.store(u8::from(trace_context) * TRACE_CONTEXT + u8::from(baggage) * BAGGAGE_FIELD, Relaxed);
}

/// Writes `span` and the baggage of `parent`. A `traceparent` that was there is replaced, and its `tracestate` with it.
pub(super) fn inject(
    headers: &mut HeaderMap,
    span: &SpanContext,
    parent: &Context,
    propagator: Option<&(dyn TextMapPropagator + Send + Sync)>,
) {
    if let Some(propagator) = propagator {
        let context = parent.with_remote_span_context(span.clone());
        propagator.inject_context(&context, &mut Fields(headers));
        return;
    }
    let carried = CARRIED.load(Relaxed);
    if carried & TRACE_CONTEXT != 0
        && span.is_valid()
        && let Ok(value) = HeaderValue::from_bytes(&traceparent(span))
    {
        // The removal first: it costs nothing in an empty map.
        match HeaderValue::try_from(span.trace_state().header()) {
            Ok(state) if !state.is_empty() => drop(headers.insert(TRACESTATE, state)),
            _ => drop(headers.remove(TRACESTATE)),
        }
        headers.insert(TRACEPARENT, value);
    }
    let baggage = parent.baggage();
    if carried & BAGGAGE_FIELD != 0
        && !baggage.is_empty()
        && let Ok(value) = HeaderValue::try_from(encoded(baggage))
    {
        headers.insert(BAGGAGE, value);
    }
}

/// `00-<trace id>-<span id>-<flags>`, of the flags only `sampled`.
fn traceparent(span: &SpanContext) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    hex(&span.trace_id().to_bytes(), &mut text[3..35]);
    hex(&span.span_id().to_bytes(), &mut text[36..52]);
    text[54] = b'0' + u8::from(span.is_sampled());
    text
}

fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// `key=value;metadata,…`; values are percent-encoded (W3C Baggage §3.3.1).
fn encoded(baggage: &Baggage) -> String {
    let mut text = String::new();
    for (key, (value, metadata)) in baggage {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(key.as_str().trim());
        text.push('=');
        for byte in value.as_str().trim().bytes() {
            match byte {
                b'%' | b'"' | b',' | b';' | b'\\' => escape(byte, &mut text),
                b'!'..=b'~' => text.push(char::from(byte)),
                _ => escape(byte, &mut text),
            }
        }
        let metadata = metadata.as_str().trim();
        if !metadata.is_empty() {
            text.push(';');
            text.push_str(metadata);
        }
    }
    text
}

fn escape(byte: u8, text: &mut String) {
    let mut digits = [0; 2];
    hex(&[byte], &mut digits);
    text.push('%');
    text.extend(digits.map(|digit| char::from(digit.to_ascii_uppercase())));
}

/// Lets a propagator write header fields. What is no valid field is left out.
struct Fields<'a>(&'a mut HeaderMap);

impl Injector for Fields<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        KeyValue,
        trace::{SpanId, TraceFlags, TraceId, TraceState},
    };

    use super::*;

    fn span(sampled: bool, state: &str) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(sampled);
        let (trace, span) =
            (TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c), SpanId::from(0xb7ad_6b71_6920_3331));
        SpanContext::new(trace, span, flags, false, state.parse::<TraceState>().unwrap())
    }

    #[test]
    fn the_identity_is_written_as_the_standard_shows_it() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static("a"));
        headers.append(TRACEPARENT, HeaderValue::from_static("b"));
        headers.insert(TRACESTATE, HeaderValue::from_static("stale=1"));
        inject(&mut headers, &span(true, ""), &Context::new(), None);
        let all: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
        assert_eq!(all, ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
        assert!(headers.get(TRACESTATE).is_none() && headers.get(BAGGAGE).is_none());
        inject(&mut headers, &span(false, "rojo=1,congo=2"), &Context::new(), None);
        assert_eq!(headers[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        assert_eq!(headers[TRACESTATE], "rojo=1,congo=2");
    }

    #[test]
    fn baggage_is_percent_encoded_once() {
        let mut headers = HeaderMap::new();
        let parent = Context::new().with_baggage([KeyValue::new("user", "Zoë, 100%")]);
        inject(&mut headers, &SpanContext::NONE, &parent, None);
        assert_eq!(headers[BAGGAGE], "user=Zo%C3%AB%2C%20100%25");
        assert!(headers.get(TRACEPARENT).is_none());
    }
}
