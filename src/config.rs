//! The settings of a client as plain data. Every default stands here, with its reason.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::facts::Wanted;

/// Limits of the pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    /// How long an unused connection is kept. 90 s, as Go's default transport: below the 2 minutes and more after which
    /// load balancers drop silently, above the pauses of an interactive program. `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
    /// What a server announces in `Keep-Alive` is obeyed. Off: it changes which connections are reused, and a server that
    /// announces little for no reason would cost a dial for each request.
    pub(crate) obeys_keep_alive: bool,
    /// Idle connections in all. 256: a few hundred descriptors are no burden, thousands are.
    pub(crate) max_idle: usize,
    /// Idle connections per host. No smaller cap than the pool's: Go's 2 is its best-known trap.
    pub(crate) max_idle_per_host: usize,
    /// Connections per host, dials included. None: HTTP has its own flow control, and a hidden queue is a surprise.
    pub(crate) max_connections_per_host: Option<usize>,
    /// Connections in all, dials included. None, as above; a limit for machines with few descriptors or ports.
    pub(crate) max_connections: Option<usize>,
    /// HTTP/2 connections per host. 1: one is enough for most, and RFC 9113 §9.1 asks for it.
    pub(crate) http2_max_connections_per_host: usize,
    /// A request that dials takes what comes first, its dial or another connection. On, as Go and browsers: it is never
    /// slower, and the dial's connection is not lost.
    pub(crate) late_binding: bool,
    /// The longest wait in the queue. None: the request's own timeout bounds it.
    pub(crate) wait_timeout: Option<Duration>,
    /// Age at which a connection takes no further request. None: it is a knob for those who balance by DNS.
    pub(crate) max_lifetime: Option<Duration>,
    /// An `https` origin may turn out to speak HTTP/2, so its first requests wait for one dial.
    pub(crate) may_share: bool,
    /// Every connection is HTTP/2.
    pub(crate) always_shares: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(90)),
            obeys_keep_alive: false,
            max_idle: 256,
            max_idle_per_host: usize::MAX,
            max_connections_per_host: None,
            max_connections: None,
            http2_max_connections_per_host: 1,
            late_binding: true,
            wait_timeout: None,
            max_lifetime: None,
            may_share: true,
            always_shares: false,
        }
    }
}

/// How a connection is made.
#[derive(Debug, Clone)]
pub(crate) struct DialConfig {
    /// One dial: dns, connect, tunnel and tls. 30 s, Go's dial timeout: longer than any handshake that still succeeds.
    pub(crate) connect_timeout: Duration,
    /// One TLS handshake. 10 s, as Go.
    pub(crate) tls_timeout: Duration,
    /// Addresses tried. 16: more answers are a misconfigured name.
    pub(crate) max_addresses: usize,
    /// The head start of each address before the next one. 250 ms, as RFC 8305 §5 recommends: most handshakes that still
    /// succeed have by then. `None`: the next one only when it has failed.
    pub(crate) racing_delay: Option<Duration>,
    /// Only addresses of this version.
    pub(crate) ip_version: Option<IpVersion>,
    /// TCP_NODELAY. On: a request's last small segment must not wait for an acknowledgement.
    pub(crate) nodelay: bool,
    /// TCP keep-alive probes. 30 s, as Go, so that a dead peer is noticed within the idle timeout.
    pub(crate) keep_alive: Option<Duration>,
    /// The local address to connect from.
    pub(crate) local_address: Option<IpAddr>,
    /// Hosts and ports that are not looked up, in lower case; `*` is every host.
    pub(crate) known: HashMap<(String, u16), Vec<IpAddr>>,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            max_addresses: 16,
            racing_delay: Some(Duration::from_millis(250)),
            ip_version: None,
            nodelay: true,
            keep_alive: Some(Duration::from_secs(30)),
            local_address: None,
            known: HashMap::new(),
        }
    }
}

impl DialConfig {
    /// The addresses that were given for a host, if any. A host's own go before those of every host.
    pub(crate) fn known(&self, host: &str, port: u16) -> Option<&[IpAddr]> {
        if self.known.is_empty() {
            return None;
        }
        let of = |host: String| self.known.get(&(host, port)).map(Vec::as_slice);
        of(host.to_ascii_lowercase()).or_else(|| of("*".to_owned()))
    }

    /// Whether an address is of the version that is wanted, and can be reached from the local address.
    pub(crate) fn may_try(&self, addr: IpAddr) -> bool {
        let ipv4 = addr.to_canonical().is_ipv4();
        let version = self.ip_version.is_none_or(|version| ipv4 == (version == IpVersion::V4));
        version && self.local_address.is_none_or(|local| ipv4 == local.is_ipv4())
    }
}

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What several requests do that need a connection to one origin, while there is none, and while it is not known whether
/// one would be enough (HTTP/2) or each needs its own (HTTP/1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ColdDials {
    /// One dials; the others wait for it. If it turns out to be HTTP/1.1, they dial at once, and this is remembered for
    /// 10 minutes. If it fails, it has failed for all.
    #[default]
    Coalesce,
    /// Each dials, as Go's client does: HTTP/1.1 is a handshake faster, HTTP/2 makes connections that it does not need.
    Parallel,
}

/// How much of an attempt is shown beside its CLIENT span, which always has its own attributes, events, link and error.
///
/// Each attempt of a request decides for itself, when it is over. What is not shown is not made.
#[cfg(feature = "otel")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SpanDetail {
    /// Nothing.
    Off,
    /// Its phases as attributes: `httptrace.<phase>.start` and `.duration`, both in seconds, the start from that of the CLIENT
    /// span. A phase is named as its span, with `_` for `-` (`httptrace.response_wait.duration`). Where there are several of
    /// one name, as with the addresses that were tried, it is the time from the first's start to the last's end. Beside them
    /// what `get-connection`, `request-write` and `response-read` have on their spans, and `httptrace.error.phase` if it
    /// failed.
    Attributes,
    /// Its phases as child spans. The default: the waterfall is what this client is for, and which attempts are worth it is
    /// known by the application alone.
    #[default]
    Spans,
    /// Child spans where one of these is the case, else attributes.
    SpansFor(SpanCases),
}

/// Which attempts have child spans, and which dials that ended without their request: where any of these is the case. None,
/// unless it is said.
#[cfg(feature = "otel")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanCases {
    pub(crate) slower_than: Option<Duration>,
    pub(crate) failed: bool,
    pub(crate) new_connection: bool,
}

#[cfg(feature = "otel")]
impl SpanCases {
    /// It took longer than this: from the call to the last byte of the body, as `http.client.request.duration`.
    #[must_use]
    pub const fn slower_than(mut self, limit: Duration) -> Self {
        self.slower_than = Some(limit);
        self
    }

    /// Its CLIENT span has an `error.type`: it failed, was canceled, or got a status of 400 or above.
    #[must_use]
    pub const fn failed(mut self) -> Self {
        self.failed = true;
        self
    }

    /// It began a dial, whatever came of that. Without this case no request links to a set-up, since what others link to has
    /// to be begun before anybody knows how it will end; `httptrace.connection.id` still joins them. A dial that ended
    /// without its request, and is shown because it was slow or failed, is linked to all the same.
    #[must_use]
    pub const fn new_connection(mut self) -> Self {
        self.new_connection = true;
        self
    }
}

/// How the protocol of a connection is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolChoice {
    /// HTTP/2 where the TLS handshake agrees on it (ALPN), else HTTP/1.1. Plain connections speak HTTP/1.1.
    Alpn,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only over TLS; plain connections speak HTTP/1.1.
    Http2,
    /// HTTP/2 without asking, plain connections too (RFC 9113 §3.3).
    Http2PriorKnowledge,
}

/// How requests are exchanged.
#[derive(Debug, Clone)]
pub(crate) struct ExchangeConfig {
    /// The whole request, retries and response body included. None: only the caller knows how long its work may take.
    pub(crate) timeout: Option<Duration>,
    /// From the request's last byte to its response's head. None: a long answer in the making (a report, a long poll) looks
    /// the same from outside as a dead server.
    pub(crate) response_header_timeout: Option<Duration>,
    /// Between two pieces of a response's body. None: a stream of events may rightly be silent for hours.
    pub(crate) body_idle_timeout: Option<Duration>,
    /// Header fields of a response. 100 is hyper's in-place array on HTTP/1; more costs 16 KiB per response.
    pub(crate) max_headers: usize,
    /// Bytes of a response's head. 256 KiB: the largest seen in the wild fit twice.
    pub(crate) max_head_bytes: usize,
    /// Interim responses to one request. 50: real servers send one or two, and each costs work before any answer.
    pub(crate) max_informational: u16,
    /// How long a body waits for `100 Continue`. 1 s, as Go and curl: a server that says nothing may not know of it.
    pub(crate) expect_continue_timeout: Duration,
    /// HTTP/2 pings: how often, and how long an answer may take. Off: they wake radios and servers.
    pub(crate) http2_keep_alive: Option<Http2KeepAlive>,
    /// Bytes that an HTTP/2 peer may send before an update, per stream and in all. hyper's: 2 MiB and 5 MiB.
    pub(crate) http2_windows: Option<(u32, u32)>,
    /// What is gathered beside the marks. Nothing: it costs system calls, or readings of the clock.
    pub(crate) facts: Wanted,
}

/// Pings on HTTP/2 connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Http2KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Without streams too.
    pub(crate) while_idle: bool,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self {
            timeout: None,
            response_header_timeout: None,
            body_idle_timeout: None,
            max_headers: 100,
            max_head_bytes: 256 * 1024,
            max_informational: 50,
            expect_continue_timeout: Duration::from_secs(1),
            http2_keep_alive: None,
            http2_windows: None,
            facts: Wanted::default(),
        }
    }
}

/// What of an unread response body is read to save its connection: bytes and time.
pub(crate) const DRAIN_BYTES: usize = 256 * 1024;
/// As above.
pub(crate) const DRAIN_TIME: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_are_written_down() {
        let seconds = Duration::from_secs;
        let dial = DialConfig::default();
        assert_eq!((dial.connect_timeout, dial.tls_timeout), (seconds(30), seconds(10)));
        assert_eq!((dial.racing_delay, dial.keep_alive), (Some(Duration::from_millis(250)), Some(seconds(30))));
        let exchange = ExchangeConfig::default();
        assert_eq!(exchange.expect_continue_timeout, seconds(1));
        let none = [exchange.timeout, exchange.response_header_timeout, exchange.body_idle_timeout];
        assert_eq!((none, exchange.http2_keep_alive.is_none()), ([None; 3], true));
        let pool = PoolConfig::default();
        assert_eq!((pool.wait_timeout, pool.max_lifetime), (None, None));
        assert_eq!((pool.max_connections, pool.max_connections_per_host), (None, None));
    }
}
