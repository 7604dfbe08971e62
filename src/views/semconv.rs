//! Every name that leaves the process: attributes, spans, events, metrics, bucket edges.
//!
//! The names are those of the OpenTelemetry semantic conventions 1.42 where these have one, else our own under
//! `httptrace.`. They are written here and not taken from a crate, because the conventions' crate hides the unstable
//! ones behind a feature and renames them. The names of phases and of moments are beside their types:
//! [`Phase::as_str`](crate::Phase::as_str) and [`EventKind::name`](crate::timeline::EventKind::name).

use std::sync::OnceLock;

use http::{Method, StatusCode, Version};

use crate::{connection::Protocol, phase::Phase, timeline::Timeline};

/// The instrumentation scope's name.
pub const SCOPE: &str = "httptrace";
/// The instrumentation scope's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The schema that the names follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $text;)+
    };
}

// HTTP client span, docs/http/http-spans.md.
names! {
    /// The method, out of the known ones, or `_OTHER`.
    HTTP_REQUEST_METHOD = "http.request.method";
    /// The method as it was sent, where it is not a known one.
    HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original";
    /// How often the request was sent before; absent for the first time.
    HTTP_REQUEST_RESEND_COUNT = "http.request.resend_count";
    /// Bytes of the request's body.
    HTTP_REQUEST_BODY_SIZE = "http.request.body.size";
    /// Bytes of the response's body.
    HTTP_RESPONSE_BODY_SIZE = "http.response.body.size";
    /// The response's status.
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// Before the name of a captured field of the request's header: a list of its values.
    HTTP_REQUEST_HEADER = "http.request.header.";
    /// Before the name of a captured field of the response's header: a list of its values.
    HTTP_RESPONSE_HEADER = "http.response.header.";
    /// The URL without its secrets.
    URL_FULL = "url.full";
    /// The host asked for, without brackets; on `tls` the name sent as SNI.
    SERVER_ADDRESS = "server.address";
    /// Its port, the scheme's default filled in.
    SERVER_PORT = "server.port";
    /// Why something failed: out of a closed set, or a status code.
    ERROR_TYPE = "error.type";
    /// `1.0`, `1.1` or `2`.
    NETWORK_PROTOCOL_VERSION = "network.protocol.version";
    /// The address of the socket's other end.
    NETWORK_PEER_ADDRESS = "network.peer.address";
    /// Its port.
    NETWORK_PEER_PORT = "network.peer.port";
}

// Children: docs/registry/attributes/{dns,network,tls}.md.
names! {
    /// The address of this end of the socket.
    NETWORK_LOCAL_ADDRESS = "network.local.address";
    /// Its port.
    NETWORK_LOCAL_PORT = "network.local.port";
    /// `ipv4` or `ipv6`.
    NETWORK_TYPE = "network.type";
    /// `tcp`.
    NETWORK_TRANSPORT = "network.transport";
    /// The name looked up.
    DNS_QUESTION_NAME = "dns.question.name";
    /// The addresses found.
    DNS_ANSWERS = "dns.answers";
    /// `1.2`, `1.3`.
    TLS_PROTOCOL_VERSION = "tls.protocol.version";
    /// The cipher suite's IANA name.
    TLS_CIPHER = "tls.cipher";
    /// The protocol chosen by ALPN.
    TLS_NEXT_PROTOCOL = "tls.next_protocol";
    /// Whether an earlier session was resumed.
    TLS_RESUMED = "tls.resumed";
    /// The certificate's subject (RFC 4514).
    TLS_SERVER_SUBJECT = "tls.server.subject";
    /// The certificate's issuer (RFC 4514).
    TLS_SERVER_ISSUER = "tls.server.issuer";
    /// The end of the certificate's validity (ISO 8601, UTC).
    TLS_SERVER_NOT_AFTER = "tls.server.not_after";
}

// Our own.
names! {
    /// The connection's number in this process.
    CONNECTION_ID = "httptrace.connection.id";
    /// Where the connection came from.
    CONNECTION_OUTCOME = "httptrace.connection.outcome";
    /// Whether it has carried a request before.
    CONNECTION_REUSED = "httptrace.connection.reused";
    /// Whether it came out of the idle pool.
    CONNECTION_WAS_IDLE = "httptrace.connection.was_idle";
    /// How long it was idle, in seconds.
    CONNECTION_IDLE_TIME = "httptrace.connection.idle_time";
    /// From ready for use to in hand, in seconds.
    CONNECTION_AGE = "httptrace.connection.age";
    /// The URL of the proxy that it goes through, without credentials.
    CONNECTION_PROXY = "httptrace.connection.proxy";
    /// The kernel's number for the socket (`SO_COOKIE`, Linux).
    SOCKET_COOKIE = "httptrace.connection.socket_cookie";
    /// Whole days that the server's certificate is still valid for.
    TLS_SERVER_DAYS_LEFT = "httptrace.tls.server.days_left";
    /// Which request on it this is, from 1.
    CONNECTION_REQUEST_NUMBER = "httptrace.connection.request_number";
    /// `true` where the latest lookup of the host did not have the connection's address; absent otherwise.
    CONNECTION_ADDRESS_LEFT_DNS = "httptrace.connection.address_left_dns";
    /// Whether the answer came out of the resolver's cache; this and the next ones absent where the resolver does not know.
    DNS_CACHE_HIT = "httptrace.dns.cache_hit";
    /// How long the answer is true, in seconds.
    DNS_TTL = "httptrace.dns.ttl";
    /// The names that the host is an alias of, in the order of the chain.
    DNS_ALIASES = "httptrace.dns.aliases";
    /// The types of the answer's records: `CNAME`, `A`, `AAAA`.
    DNS_RECORD_TYPES = "httptrace.dns.record_types";
    /// The name server that answered, address and port.
    DNS_SERVER = "httptrace.dns.server";
    /// How it was asked: `udp`, `tcp`, ….
    DNS_TRANSPORT = "httptrace.dns.transport";
    /// Why the attempt before was given up for this one.
    RETRY_REASON = "httptrace.retry.reason";
    /// The HTTP/2 stream.
    HTTP2_STREAM_ID = "httptrace.http2.stream_id";
    /// `httptrace.http2.blocked_time`: seconds in which flow control kept the body of the request back.
    HTTP2_BLOCKED_TIME = "httptrace.http2.blocked_time";
    /// What the request waited for.
    WAIT_CAUSE = "httptrace.wait.cause";
    /// Whether the answer was shared with another lookup.
    DNS_COALESCED = "httptrace.dns.coalesced";
    /// Which address of the dial it is, from 1.
    CONNECT_ATTEMPT = "httptrace.connect.attempt";
    /// What became of a dial that went on without its request.
    DIAL_OUTCOME = "httptrace.dial.outcome";
    /// Seconds in which the body was here and the application had not asked for it.
    RESPONSE_BLOCKED_BY_APPLICATION = "httptrace.response.blocked_by_application";
    /// Seconds in which the application had asked for the body and nothing was here.
    RESPONSE_BLOCKED_BY_NETWORK = "httptrace.response.blocked_by_network";
    /// Seconds in which the response lay ready while the runtime ran nobody who could take it.
    RUNTIME_DELAY = "httptrace.runtime.delay";
    /// The server's own account of its time: names, with `;dur=` and milliseconds where there is a duration.
    SERVER_TIMING_METRICS = "httptrace.server_timing.metrics";
    /// Seconds that the server says it took: its `total`, or its longest metric.
    SERVER_TIMING_DURATION = "httptrace.server_timing.duration";
    /// Seconds of `response-wait` without those.
    SERVER_TIMING_NETWORK_DURATION = "httptrace.server_timing.network_duration";
    /// The connection's smoothed round-trip time, in seconds.
    TCP_RTT = "httptrace.tcp.rtt";
    /// Its mean deviation, in seconds.
    TCP_RTT_VARIATION = "httptrace.tcp.rtt_variation";
    /// Segments sent again while the request was under way.
    TCP_RETRANSMITS = "httptrace.tcp.retransmits";
    /// Segments sent again since the connection was made.
    TCP_CONNECTION_RETRANSMITS = "httptrace.tcp.connection_retransmits";
    /// The congestion window, in segments.
    TCP_CONGESTION_WINDOW = "httptrace.tcp.congestion_window";
    /// The latest rate at which the peer took bytes, in bytes per second.
    TCP_DELIVERY_RATE = "httptrace.tcp.delivery_rate";
    /// Segments that are not acknowledged.
    TCP_UNACKED = "httptrace.tcp.unacked";
    /// Bytes that are written and not sent.
    TCP_UNSENT = "httptrace.tcp.unsent";
    /// Seconds for which the last bytes of the response lay in the kernel.
    TCP_UNREAD_TIME = "httptrace.tcp.unread_time";
    /// How a server's idle timeout is known that is shorter than this client's: `announced`, or `closed`.
    KEEP_ALIVE_SOURCE = "httptrace.keep_alive.source";
    /// That timeout, in seconds.
    KEEP_ALIVE_SERVER_TIMEOUT = "httptrace.keep_alive.server_timeout";
    /// This client's, in seconds.
    KEEP_ALIVE_CLIENT_TIMEOUT = "httptrace.keep_alive.client_timeout";
    /// How the response ended.
    RESPONSE_OUTCOME = "httptrace.response.outcome";
    /// What became of the connection.
    IDLE_RETURN_OUTCOME = "httptrace.idle_return.outcome";
    /// Why it was closed.
    IDLE_RETURN_REASON = "httptrace.idle_return.reason";
    /// The phase that died, on metrics and where a span has no children: a span name, or `request`.
    ERROR_PHASE = "httptrace.error.phase";
    /// The span of a dial that ended without its request.
    BACKGROUND_DIAL = "background-dial";
}

// Metrics, docs/http/http-metrics.md, docs/dns/dns-metrics.md and our own.
names! {
    /// How long an attempt took, to the last byte of its body.
    HTTP_CLIENT_REQUEST_DURATION = "http.client.request.duration";
    /// Connections asked for.
    CONNECTION_ACQUISITIONS = "httptrace.connection.acquisitions";
    /// Reused connections among those that were had, since the last collection.
    CONNECTION_REUSE_RATIO = "httptrace.connection.reuse_ratio";
}

names! {
    /// Attempts under way.
    HTTP_CLIENT_ACTIVE_REQUESTS = "http.client.active_requests";
    /// Connections that are open, by state.
    HTTP_CLIENT_OPEN_CONNECTIONS = "http.client.open_connections";
    /// How long a connection was open.
    HTTP_CLIENT_CONNECTION_DURATION = "http.client.connection.duration";
    /// Bytes of the bodies of requests.
    HTTP_CLIENT_REQUEST_BODY_SIZE = "http.client.request.body.size";
    /// Bytes of the bodies of responses.
    HTTP_CLIENT_RESPONSE_BODY_SIZE = "http.client.response.body.size";
    /// How long a lookup took.
    DNS_LOOKUP_DURATION = "dns.lookup.duration";
    /// Requests that a connection served.
    CONNECTION_REQUESTS = "httptrace.connection.requests";
    /// How long a connection was idle.
    CONNECTION_IDLE_DURATION = "httptrace.connection.idle.duration";
    /// How long a request waited for a connection.
    REQUEST_QUEUE_DURATION = "httptrace.request.queue.duration";
    /// Requests that wait for a connection.
    REQUEST_PENDING = "httptrace.request.pending";
    /// How long a connect took.
    CONNECT_DURATION = "httptrace.connect.duration";
    /// How long a TLS handshake took.
    TLS_HANDSHAKE_DURATION = "httptrace.tls.handshake.duration";
    /// From the call to the first byte of the final response.
    REQUEST_TIME_TO_FIRST_BYTE = "httptrace.request.time_to_first_byte";
    /// `active` or `idle`.
    HTTP_CONNECTION_STATE = "http.connection.state";
    /// Why a connection was closed.
    CONNECTION_CLOSE_REASON = "httptrace.connection.close_reason";
    /// How an idle time ended: `reused`, `expired`, `closed`.
    IDLE_OUTCOME = "httptrace.idle.outcome";
    /// The SDK's label of the series that stands for all beyond its limit.
    OVERFLOW = "otel.metric.overflow";
}

/// A phase where it has no span: its start, from the attempt's, and its length, both in seconds.
#[must_use]
pub const fn phase_attributes(phase: Phase) -> [&'static str; 2] {
    macro_rules! both {
        ($name:literal) => {
            [concat!("httptrace.", $name, ".start"), concat!("httptrace.", $name, ".duration")]
        };
    }
    match phase {
        Phase::GetConnection => both!("get_connection"),
        Phase::Dns => both!("dns"),
        Phase::Connect => both!("connect"),
        Phase::Tunnel => both!("tunnel"),
        Phase::Tls => both!("tls"),
        Phase::RequestWrite => both!("request_write"),
        Phase::ResponseWait => both!("response_wait"),
        Phase::ResponseRead => both!("response_read"),
        Phase::Request => both!("request"),
    }
}

/// The conventions' bucket edges for what a request waits for, in seconds.
pub const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The conventions' bucket edges for what a connection lives through, in seconds.
pub const LONG_SECONDS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Bucket edges for sizes: powers of four from 256 B to 1 GiB.
pub const BYTES: [f64; 12] = [
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Bucket edges for the requests of a connection.
pub const REQUESTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0];

/// What stands for a value outside a known set.
pub const OTHER: &str = "_OTHER";

/// The values of `http.request.method`: RFC 9110's methods, `PATCH`, `QUERY`, and what stands for all others.
pub const METHODS: [&str; 11] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "PATCH", "TRACE", "QUERY", OTHER];

/// What takes the place of [`METHODS`] in this process.
static KNOWN: OnceLock<[&str; METHODS.len()]> = OnceLock::new();

/// The methods that are known by name: [`METHODS`], unless telemetry was set up with others. The last is [`OTHER`]; a place
/// without a method is empty.
#[must_use]
pub fn methods() -> &'static [&'static str; METHODS.len()] {
    KNOWN.get().unwrap_or(&METHODS)
}

/// So many methods can be known by name: each is a series of its own in the metrics of every server.
#[cfg(feature = "otlp")]
pub(crate) const MOST_METHODS: usize = METHODS.len() - 1;

/// Replaces the known methods for the whole process, once.
#[cfg(feature = "otlp")]
pub(crate) fn set_known_methods(methods: &[String]) {
    KNOWN.get_or_init(|| {
        let mut known = [""; METHODS.len()];
        known[MOST_METHODS] = OTHER;
        for (place, method) in known[..MOST_METHODS].iter_mut().zip(methods) {
            *place = method.clone().leak();
        }
        known
    });
}

/// The place of a method in [`methods()`].
#[must_use]
pub fn method_index(method: &Method) -> usize {
    methods().iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

/// The value of `http.request.method`.
#[must_use]
pub fn request_method(method: &Method) -> &'static str {
    methods()[method_index(method)]
}

/// The value of `network.protocol.version`: the response's; without a response, what the connection was made for.
#[must_use]
pub fn protocol_version(timeline: &Timeline) -> Option<&'static str> {
    match timeline.version {
        Some(Version::HTTP_09) => Some("0.9"),
        Some(Version::HTTP_10) => Some("1.0"),
        Some(Version::HTTP_11) => Some("1.1"),
        Some(Version::HTTP_2) => Some("2"),
        Some(Version::HTTP_3) => Some("3"),
        _ => timeline.connection.as_ref().map(|used| version(used.info.protocol)),
    }
}

/// The value of `network.protocol.version` for a connection.
#[must_use]
pub const fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 => "2",
    }
}

/// A status code as text that lives for ever, for `error.type`.
#[must_use]
pub fn status_text(status: StatusCode) -> &'static str {
    let digits = &DIGITS[usize::from(status.as_u16()) % DIGITS.len()];
    std::str::from_utf8(digits).unwrap_or(OTHER)
}

/// Three digits for each number below 1000.
static DIGITS: [[u8; 3]; 1000] = {
    let mut table = [[b'0'; 3]; 1000];
    let mut number = 0;
    while number < table.len() {
        table[number] = [b'0' + (number / 100) as u8, b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_by_its_case() {
        for (given, known) in [("GET", "GET"), ("QUERY", "QUERY"), ("get", OTHER), ("BREW", OTHER)] {
            assert_eq!(request_method(&Method::from_bytes(given.as_bytes()).unwrap()), known);
        }
    }

    #[test]
    fn every_status_has_its_text() {
        for code in 100..1000 {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(status_text(status), status.as_str());
        }
    }
}
