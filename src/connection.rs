//! The facts of one connection that never change while it lives.
//!
//! A leaf: hooks hand these facts out, records keep them, views show them. They are shared by `Arc`, so that a record
//! costs no copy of them.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

use crate::{facts::KeepAlive, redact::Hidden};

/// One connection, from the moment it was ready for use.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Process-wide number of the connection, from 1.
    pub id: u64,
    /// The address of this end; absent where the transport has none.
    pub local: Option<SocketAddr>,
    /// The address of the other end (a proxy's, if there is one); absent where the transport has none.
    pub peer: Option<SocketAddr>,
    /// The kernel's number for the socket (`SO_COOKIE`), which no other socket has while the machine is up: what bpftrace,
    /// BCC's tools and `ss -e` (as `sk:`, in hexadecimal) know it by. Linux only; absent elsewhere, where the transport is no
    /// socket of this client's own, and where nobody listened when it was made.
    pub socket_cookie: Option<NonZeroU64>,
    /// The protocol that was negotiated or asked for.
    pub protocol: Protocol,
    /// The TLS session with the server; absent on a plain connection. That with a proxy is another one.
    pub tls: Option<Box<TlsInfo>>,
    /// The proxy that it goes through; absent without one.
    pub proxy: Option<Arc<ProxyInfo>>,
    /// When it was ready for use.
    pub ready: Instant,
    /// The span of its set-up, for links; absent where that was not sampled.
    pub setup: Option<TraceRef>,
    /// What of the server's patience is to be said in the first record of this connection.
    pub(crate) keep_alive: OnceLock<Box<KeepAlive>>,
    /// The peer's address as text, once somebody has asked for it.
    #[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "spans alone show it"))]
    pub(crate) peer_text: OnceLock<Arc<str>>,
    /// Requests on it have the absolute form: a proxy of the user's connector passes them on.
    pub(crate) forwards: bool,
    /// A later lookup of its host did not have its address.
    pub(crate) left_dns: AtomicBool,
}

impl ConnectionInfo {
    /// Whether the address at the other end has left DNS: the latest lookup of the host, made for another connection, did
    /// not have it. Then requests that reuse this one go where new ones no longer would: to a server that is being taken
    /// out of service, perhaps. `max_connection_lifetime` bounds for how long.
    ///
    /// It is known only while connections to the host are made, since only they look it up, and only where somebody listens.
    /// A name whose answers rotate has left addresses in this sense all the time.
    #[must_use]
    pub fn address_left_dns(&self) -> bool {
        self.left_dns.load(Ordering::Relaxed)
    }

    /// The server's idle timeout, where it is shorter than this client's and that is said here: once per server, on the
    /// connection on which it was announced, or on the one behind an idle connection that the server closed.
    #[must_use]
    pub fn keep_alive(&self) -> Option<&KeepAlive> {
        self.keep_alive.get().map(|known| &**known)
    }

    /// The whole days from `at` to the end of the server's certificate, where they are few: fewer than 30, which is when those
    /// who renew by hand have to begin, and those who renew by themselves should have. Absent otherwise, and without TLS.
    #[must_use]
    pub fn soon_expired(&self, at: SystemTime) -> Option<i64> {
        let days = self.tls.as_ref()?.leaf.as_ref()?.days_left(at);
        (days < SOON).then_some(days)
    }

    /// The other end's address, without its port. Kept, since all spans of the connection have it.
    #[cfg(feature = "otel")]
    pub(crate) fn peer_text(&self) -> Option<&Arc<str>> {
        let peer = self.peer?;
        Some(self.peer_text.get_or_init(|| peer.ip().to_string().into()))
    }
}

/// A proxy, as the connections through it know it. `Display` and [`text`](Self::text) are its URL without credentials.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProxyInfo {
    /// What is spoken with it.
    pub scheme: ProxyScheme,
    /// Its host, as it was given (IPv6 without brackets).
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// It is not asked for a tunnel, but given each request to pass on (RFC 9112 §3.2.2): plain HTTP through an HTTP proxy.
    pub forwards: bool,
    /// What such requests tell it of who they are.
    pub(crate) authorization: Hidden<Option<HeaderValue>>,
    pub(crate) text: Arc<str>,
}

impl ProxyInfo {
    /// Its URL without credentials: `http://proxy.test:3128`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ProxyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is spoken with a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyScheme {
    /// HTTP (RFC 9110 §7.6 and §9.3.6).
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS5 (RFC 1928); names are looked up here.
    Socks5,
    /// SOCKS5; names are looked up by the proxy.
    Socks5h,
}

impl ProxyScheme {
    /// The scheme of its URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }
}

/// So many days before its end, a certificate is worth a word.
const SOON: i64 = 30;

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
}

/// What a TLS handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The protocol version as the conventions write it: `1.2`, `1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The protocol chosen by ALPN (RFC 7301), such as `h2`; absent if none was.
    pub alpn: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The name sent as SNI (RFC 6066); absent for an IP address.
    pub server_name: Option<Arc<str>>,
    /// The certificates that the server sent, leaf first, DER.
    pub peer_chain: Arc<[Vec<u8>]>,
    /// The leaf's facts; absent if it could not be read.
    pub leaf: Option<LeafCertificate>,
}

/// The facts of a server's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeafCertificate {
    /// The subject (RFC 4514).
    pub subject: String,
    /// The issuer (RFC 4514).
    pub issuer: String,
    /// The end of its validity, seconds since the Unix epoch.
    pub not_after: i64,
}

impl LeafCertificate {
    /// Whole days from `at` to the end of its validity: 0 on its last day, negative once it is over.
    #[must_use]
    pub fn days_left(&self, at: SystemTime) -> i64 {
        let now = match at.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        self.not_after.saturating_sub(now).div_euclid(24 * 60 * 60)
    }
}

/// What passed on an HTTP/2 connection beside its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Record {
    /// What the peer announced.
    pub settings: Http2Settings,
    /// The peer's GOAWAY (RFC 9113 §6.8), the last one; absent if there was none.
    pub goaway: Option<GoAway>,
    /// Streams that the peer reset (RFC 9113 §6.4).
    pub resets_received: u64,
    /// Streams that this end reset: requests that were given up.
    pub resets_sent: u64,
    /// The error code of the last reset, whoever sent it.
    pub last_reset_code: Option<u32>,
    /// Pings that were answered; none are sent unless
    /// [`http2_keep_alive`](crate::ClientBuilder::http2_keep_alive) is on.
    pub pings_answered: u64,
    /// The time between the last ping and its answer; absent without one.
    pub last_round_trip: Option<Duration>,
    /// The shortest of those times.
    pub min_round_trip: Option<Duration>,
    /// The frames did not agree with what was known of the streams, so that no detail per stream was told from then on:
    /// rather absent than wrong. Never seen with the versions of hyper and h2 that this crate is tested with.
    pub disagreed: bool,
}

/// The settings of an HTTP/2 peer (RFC 9113 §6.5.2): each as last announced, absent if it never was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http2Settings {
    /// Bytes of its decoder's table.
    pub header_table_size: Option<u32>,
    /// Streams that it allows at once.
    pub max_concurrent_streams: Option<u32>,
    /// Bytes that a stream may send before its first window update.
    pub initial_window_size: Option<u32>,
    /// Bytes of a frame's payload.
    pub max_frame_size: Option<u32>,
    /// Bytes of a header list.
    pub max_header_list_size: Option<u32>,
    /// Whether it takes extended CONNECT (RFC 8441).
    pub enable_connect_protocol: Option<bool>,
}

/// A peer's word that it takes no further streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoAway {
    /// The last stream that it handles.
    pub last_stream: u32,
    /// Why (RFC 9113 §7); 0 for no error.
    pub error_code: u32,
}

/// The identity of a span: what `traceparent` carries (W3C Trace Context).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceRef {
    /// The trace's 16 bytes, big endian.
    pub trace_id: u128,
    /// The span's 8 bytes, big endian.
    pub span_id: u64,
    /// Whether the span is sampled.
    pub sampled: bool,
}

impl fmt::Debug for TraceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_left_are_whole_and_negative_behind_the_end() {
        let leaf = LeafCertificate { subject: String::new(), issuer: String::new(), not_after: 10 * 86_400 };
        let days = |seconds| leaf.days_left(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!([days(0), days(1), days(9 * 86_400), days(9 * 86_400 + 1)], [10, 9, 1, 0]);
        assert_eq!([days(10 * 86_400), days(10 * 86_400 + 1), days(11 * 86_400)], [0, -1, -1]);
        assert_eq!(leaf.days_left(UNIX_EPOCH - Duration::from_secs(86_400)), 11);
    }
}
