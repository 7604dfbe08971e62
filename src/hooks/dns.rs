//! What a resolver may know of its answer, beside the addresses.

use std::{net::SocketAddr, time::Duration};

/// What a resolver knows of an answer; each is absent where it does not.
///
/// The system's resolver knows none of it, the `HickoryResolver` of feature `hickory-dns` all. A resolver of your own fills in
/// what it has:
///
/// ```
/// use std::time::Duration;
///
/// let mut facts = httptrace::hooks::DnsFacts::default();
/// (facts.cache_hit, facts.ttl) = (Some(true), Some(Duration::from_secs(37)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsFacts {
    /// Whether the answer came out of the resolver's cache, and no server was asked.
    pub cache_hit: Option<bool>,
    /// How long the answer is true, from now on: what is left of the shortest time to live among its records (RFC 1035
    /// §3.2.1).
    pub ttl: Option<Duration>,
    /// The names that the host is an alias of (CNAME, RFC 1034 §3.6.2), in the order of the chain, without trailing dots.
    pub aliases: Vec<String>,
    /// The types of the records, each once, in the answer's order: `CNAME`, `A`, `AAAA`.
    pub record_types: Vec<&'static str>,
    /// The name server that answered; absent if none was asked. Of several, the last one.
    pub server: Option<SocketAddr>,
    /// How it was asked: `udp`, `tcp`, `tls`, `https`, `quic`, `http3`.
    pub transport: Option<&'static str>,
}
