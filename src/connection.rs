//! The facts of one connection that never change while it lives.
//!
//! A leaf: hooks hand these facts out, records keep them, views show them. They are shared by `Arc`, so that a record
//! costs no copy of them.

use std::{fmt, net::SocketAddr, sync::Arc, time::Instant};

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
    /// The protocol that was negotiated or asked for.
    pub protocol: Protocol,
    /// The TLS session; absent on a plain connection.
    pub tls: Option<TlsInfo>,
    /// When it was ready for use.
    pub ready: Instant,
    /// The span of its set-up, for links; absent where that was not sampled.
    pub setup: Option<TraceRef>,
}

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
