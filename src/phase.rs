//! The phases of a request, in the order in which they happen.
//!
//! A phase is named as its span is (`get-connection`, `dns`, …). Errors, hooks and records all use these names, so this
//! file is a leaf: it imports nothing of the crate.

/// A part of a request's life: where its time went, or where it died.
///
/// The names are the span names of the project; [`Phase::Request`] stands for the request as a whole, for what belongs
/// to no single part (a malformed URL, a whole-request timeout between two parts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting until a connection is in hand.
    GetConnection,
    /// The lookup of the host's addresses.
    Dns,
    /// One TCP connect to one address.
    Connect,
    /// The exchange with a proxy.
    Tunnel,
    /// The TLS handshake.
    Tls,
    /// From the request's hand-over to its last byte accepted by the socket.
    RequestWrite,
    /// From the last request byte to the first byte of the final response.
    ResponseWait,
    /// From the first byte of the final response to its last.
    ResponseRead,
    /// The request as a whole.
    Request,
}

impl Phase {
    /// The span name of this phase; `request` for the whole.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetConnection => "get-connection",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tunnel => "tunnel",
            Self::Tls => "tls",
            Self::RequestWrite => "request-write",
            Self::ResponseWait => "response-wait",
            Self::ResponseRead => "response-read",
            Self::Request => "request",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
