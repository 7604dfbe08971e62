//! Writes a span's identity into a request: `traceparent` and `tracestate` (W3C Trace Context), `baggage` (W3C Baggage).
//!
//! Written by hand, because the propagator of the SDK costs four allocations and ten times the instructions for the
//! same 55 bytes. A propagator that the application sets takes over. Where only some servers may be told, the others get
//! nothing of it, and lose what was there.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use opentelemetry::{
    Context,
    baggage::{Baggage, BaggageExt},
    propagation::{Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TraceState},
};

use crate::timeline::{Asked, RequestInfo};

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

/// What is written, and for whom.
#[derive(Clone, Default)]
pub(crate) struct Propagation {
    /// The application's own.
    propagator: Option<Arc<dyn TextMapPropagator + Send + Sync>>,
    /// Who may be told. `None`: everybody.
    to: Option<Arc<[Permit]>>,
}

impl Propagation {
    pub(super) fn by(&mut self, propagator: Box<dyn TextMapPropagator + Send + Sync>) {
        self.propagator = Some(propagator.into());
    }

    /// Permits these servers, beside those that were permitted before, and no others.
    pub(super) fn to(&mut self, servers: impl IntoIterator<Item = String>) {
        let before = self.to.take().unwrap_or_default();
        self.to = Some(before.iter().cloned().chain(servers.into_iter().map(|server| Permit::new(&server))).collect());
    }

    pub(super) fn is_limited(&self) -> bool {
        self.to.is_some()
    }

    /// Writes `span` and the baggage of `parent`. A `traceparent` that was there is replaced, and its `tracestate` with it.
    pub(super) fn inject(&self, request: &mut Parts, asked: &Asked<'_>, span: &SpanContext, parent: &Context) {
        let permitted = |permits: &[Permit]| permits.iter().any(|permit| permit.covers(asked.info(request)));
        let permitted = self.to.as_deref().is_none_or(permitted);
        let headers = &mut request.headers;
        if !permitted {
            return self.withhold(headers);
        }
        if let Some(propagator) = &self.propagator {
            let context = parent.with_remote_span_context(span.clone());
            return propagator.inject_context(&context, &mut Fields(headers));
        }
        write(headers, span, parent);
    }

    /// Also what the application, or a middleware, had put there.
    fn withhold(&self, headers: &mut HeaderMap) {
        for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
            headers.remove(name);
        }
        for name in self.propagator.iter().flat_map(|propagator| propagator.fields()) {
            headers.remove(name);
        }
    }
}

/// A server, or several, that may be told.
#[derive(Clone)]
struct Permit {
    scheme: Option<&'static str>,
    /// In lower case and without brackets; with a dot in front: that host and all below it.
    host: String,
    port: Option<u16>,
}

impl Permit {
    /// `example.com`, `.example.com`, `example.com:8443`, `https://example.com`. What is none of these covers nothing.
    fn new(server: &str) -> Self {
        let server = server.trim().to_ascii_lowercase();
        let (scheme, rest) = match server.split_once("://") {
            Some(("http", rest)) => (Some(("http", 80)), rest),
            Some(("https", rest)) => (Some(("https", 443)), rest),
            _ => (None, &*server),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An IPv6 address has colons of its own, and a port only behind brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
            _ => (rest, None),
        };
        let host = if port.is_none() { rest } else { host };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self {
            scheme: scheme.map(|(name, _)| name),
            host: host.to_owned(),
            port: port.or(scheme.map(|(_, default)| default)),
        }
    }

    fn covers(&self, info: &RequestInfo) -> bool {
        let host = match self.host.strip_prefix('.') {
            Some(name) => *info.host == *name || info.host.ends_with(&self.host),
            None => *info.host == *self.host,
        };
        // A host without a name ends every name.
        let named = !self.host.trim_matches('.').is_empty();
        named
            && host
            && self.port.is_none_or(|port| port == info.port)
            && self.scheme.is_none_or(|scheme| scheme == info.scheme)
    }
}

fn write(headers: &mut HeaderMap, span: &SpanContext, parent: &Context) {
    let carried = CARRIED.load(Relaxed);
    if carried & TRACE_CONTEXT != 0
        && span.is_valid()
        && let Ok(value) = HeaderValue::from_bytes(&traceparent(span))
    {
        // The removal first: it costs nothing in an empty map.
        match state_of(span) {
            Some(state) => drop(headers.insert(TRACESTATE, state)),
            None => drop(headers.remove(TRACESTATE)),
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

/// Most traces have none.
fn state_of(span: &SpanContext) -> Option<HeaderValue> {
    if *span.trace_state() == TraceState::NONE {
        return None;
    }
    let state = HeaderValue::try_from(span.trace_state().header()).ok()?;
    // What is not ASCII its readers would take for no state at all (W3C Trace Context §3.3.1.3.2).
    (!state.is_empty() && state.to_str().is_ok()).then_some(state)
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
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair.copy_from_slice(&DIGITS[usize::from(*byte)]);
    }
}

/// The two digits of every byte.
const DIGITS: [[u8; 2]; 256] = {
    let (mut digits, mut byte) = ([[0; 2]; 256], 0);
    while byte < 256 {
        digits[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    digits
};

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
                // `=` may stand in a value, but OpenTelemetry for Rust reads no further (opentelemetry_sdk 0.33).
                b'%' | b'"' | b',' | b';' | b'\\' | b'=' => escape(byte, &mut text),
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

#[cfg(all(any(test, fuzzing), feature = "otlp"))]
pub(crate) mod fuzzing;

#[cfg(test)]
mod tests {
    use opentelemetry::{
        KeyValue,
        trace::{SpanId, TraceFlags, TraceId, TraceState},
    };

    use super::*;
    use crate::views::script;

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
        write(&mut headers, &span(true, ""), &Context::new());
        let all: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
        assert_eq!(all, ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
        assert!(headers.get(TRACESTATE).is_none() && headers.get(BAGGAGE).is_none());
        write(&mut headers, &span(false, "rojo=1,congo=2"), &Context::new());
        assert_eq!(headers[TRACEPARENT], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        assert_eq!(headers[TRACESTATE], "rojo=1,congo=2");
        write(&mut headers, &span(false, "rojo=ä"), &Context::new());
        assert!(headers.get(TRACESTATE).is_none());
    }

    #[test]
    fn a_server_is_permitted_by_its_name_its_port_and_its_scheme() {
        let told = |server: &str, scheme: &'static str, host: &str, port: u16| {
            let mut info = script::get().info(1);
            (info.scheme, info.host, info.port) = (scheme, host.into(), port);
            Permit::new(server).covers(&info)
        };
        for server in [
            "example.com",
            " EXAMPLE.com ",
            ".example.com",
            ".com",
            "example.com:443",
            "https://example.com",
            "https://example.com/",
            "https://example.com:443",
            "https://.example.com",
        ] {
            assert!(told(server, "https", "example.com", 443), "{server}");
        }
        for server in [
            "example.org",
            "xexample.com",
            "ample.com",
            "www.example.com",
            ".www.example.com",
            "example.com:8443",
            "example.com:",
            "example.com:x",
            "example.com:443x",
            "http://example.com",
            "http://example.com:443",
            "ftp://example.com",
            "example.com.",
            "example.com/a",
            "",
            ".",
            "*",
            ":443",
            "https://",
        ] {
            assert!(!told(server, "https", "example.com", 443), "{server}");
        }
        assert!(told(".example.com", "http", "a.b.example.com", 80));
        assert!(!told(".example.com", "http", "badexample.com", 80));
        assert!(!told("example.com", "http", "a.example.com", 80));
        for server in ["::1", "[::1]", "[::1]:80", "http://[::1]", "http://[::1]:80/"] {
            assert!(told(server, "http", "::1", 80), "{server}");
        }
        for server in ["[::1]:81", "::1:80", "https://[::1]", "::2"] {
            assert!(!told(server, "http", "::1", 80), "{server}");
        }
    }

    #[test]
    fn baggage_is_percent_encoded_once() {
        let mut headers = HeaderMap::new();
        let parent = Context::new().with_baggage([KeyValue::new("user", "Zoë, 100%=")]);
        write(&mut headers, &SpanContext::NONE, &parent);
        assert_eq!(headers[BAGGAGE], "user=Zo%C3%AB%2C%20100%25%3D");
        assert!(headers.get(TRACEPARENT).is_none());
    }
}
