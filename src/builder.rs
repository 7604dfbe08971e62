//! The settings of a client, and the one place where its parts are put together.

mod detail;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Uri, request::Parts};
#[cfg(feature = "otel")]
use opentelemetry::{
    metrics::MeterProvider,
    trace::{Tracer, TracerProvider},
};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

#[cfg(feature = "otel")]
use crate::views::{
    metrics::Metrics,
    spans::{SpanDetail, Spans},
};
use crate::{
    capture::Capture,
    client::{Client, Inner},
    clock::TimeAnchor,
    config::{DialConfig, ExchangeConfig, Http2KeepAlive, PoolConfig, ProtocolChoice},
    dial::{ColdDials, Connector, Dialer, Identity, IpVersion, Lookups, Resolve, SystemResolver, Tls, Trust},
    error::{BoxError, Error},
    hooks::{ClientTrace, Stack},
    pool::Pool,
    redact::Rules,
    timeline::{Report, Reporter, RequestInfo, Timeline},
};

/// Settings for a [`Client`].
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), httptrace::Error> {
/// let client = httptrace::Client::builder()
///     .connect_timeout(Duration::from_secs(5))
///     .timeout(Duration::from_secs(30))
///     .build()?;
/// # drop(client); Ok(()) }
/// ```
#[must_use]
pub struct ClientBuilder {
    pool: PoolConfig,
    dial: DialConfig,
    exchange: ExchangeConfig,
    protocol: ProtocolChoice,
    trust: Trust,
    log_tls_keys: bool,
    identity: Option<Identity>,
    resolver: Arc<dyn Resolve>,
    connector: Option<Connector>,
    cold_dials: ColdDials,
    traces: Vec<Arc<dyn ClientTrace>>,
    reporters: Vec<Arc<dyn Reporter>>,
    redaction: Rules,
    timeline: bool,
    capture: Capture,
    telemetry: bool,
    #[cfg(feature = "otel")]
    spans: Option<Spans>,
    #[cfg(feature = "otel")]
    propagate_to: Option<Vec<String>>,
    #[cfg(feature = "otel")]
    span_detail: Option<SpanDetail>,
    #[cfg(feature = "otel")]
    metrics: Option<Metrics>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            pool: PoolConfig::default(),
            dial: DialConfig::default(),
            exchange: ExchangeConfig::default(),
            protocol: ProtocolChoice::Alpn,
            trust: Trust::Platform,
            log_tls_keys: false,
            identity: None,
            resolver: Arc::new(SystemResolver),
            connector: None,
            cold_dials: ColdDials::default(),
            traces: Vec::new(),
            reporters: Vec::new(),
            redaction: Rules::default(),
            timeline: false,
            capture: Capture::default(),
            telemetry: true,
            #[cfg(feature = "otel")]
            spans: None,
            #[cfg(feature = "otel")]
            propagate_to: None,
            #[cfg(feature = "otel")]
            span_detail: None,
            #[cfg(feature = "otel")]
            metrics: None,
        }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("pool", &self.pool).field("dial", &self.dial).finish_non_exhaustive()
    }
}

/// Who hears of requests.
impl ClientBuilder {
    /// Hooks for every request. A request's own run before them. May be called again; the newer ones run first.
    pub fn client_trace(mut self, trace: Arc<dyn ClientTrace>) -> Self {
        self.traces.insert(0, trace);
        self
    }

    /// Another reporter of finished attempts.
    pub fn reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporters.push(reporter);
        self
    }

    /// Calls `f` with the record of every attempt when it is over, on the task that ended it. It must not block.
    pub fn on_timeline(self, f: impl Fn(&Timeline) + Send + Sync + 'static) -> Self {
        self.reporter(Arc::new(Callback(Arc::new(f))))
    }

    /// Whether every attempt is recorded with the list of its hooks, and found in its response's extensions as a
    /// [`TimelineHandle`](crate::timeline::TimelineHandle). Off: it costs an allocation or two per request.
    pub fn timeline(mut self, timeline: bool) -> Self {
        self.timeline = timeline;
        self
    }

    /// Query keys whose values are secret, beside those that always are (`X-Amz-Signature`, `X-Amz-Credential`,
    /// `X-Amz-Security-Token`, `AWSAccessKeyId`, `Signature`, `sig` and `X-Goog-Signature`, as the semantic conventions
    /// have it): records, and all that is made of them, show `REDACTED` for them. A key is compared by case, as servers
    /// do, and as they decode it. May be called again. Default: none more, since no other name is a secret everywhere.
    pub fn sensitive_query_keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redaction.add(keys.into_iter().map(Into::into));
        self
    }

    /// Whether spans and metrics go to OpenTelemetry. On; off for a client that carries telemetry itself.
    pub fn telemetry(mut self, telemetry: bool) -> Self {
        self.telemetry = telemetry;
        self
    }
}

/// OpenTelemetry.
#[cfg(feature = "otel")]
impl ClientBuilder {
    /// Where spans go. Default: the global provider as it is at `build()`; one that is set later is not seen.
    pub fn tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Tracer<Span: Send + Sync> + Send + Sync + 'static,
    {
        self.spans = Some(Spans::new(provider));
        self
    }

    /// The servers that are told of a trace, and of its baggage, by header fields of a request; what a server is, and what
    /// the others get: [`Spans::propagate_to`]. May be called again, for more servers; none at all tells nobody. Default:
    /// every server, as the conventions want it, since a trace that ends at the first hop explains little. Name yours where
    /// requests leave your own network: the ids say little of you, baggage may say much.
    pub fn propagate_to(mut self, servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.propagate_to.get_or_insert_default().extend(servers.into_iter().map(Into::into));
        self
    }

    /// Spans with settings of their own, such as a propagator.
    pub fn spans(mut self, spans: Spans) -> Self {
        self.spans = Some(spans);
        self
    }

    /// Where metrics go. Default: the global provider as it is at `build()`; one that is set later is not seen. Which
    /// metrics there are: [`views::metrics`](crate::views::metrics).
    pub fn meter_provider<P: MeterProvider + ?Sized + 'static>(mut self, provider: &P) -> Self {
        self.metrics = Some(Metrics::new(provider));
        self
    }
}

/// TLS, names and protocols.
impl ClientBuilder {
    /// A TLS configuration of your own. Its ALPN list wins; if it is empty, it is filled by the choice of protocol.
    pub fn tls_config(mut self, config: ClientConfig) -> Self {
        self.trust = Trust::Own(Arc::new(config));
        self
    }

    /// Trusts these roots and no others. Default: the platform's.
    pub fn root_certificates(mut self, roots: Vec<CertificateDer<'static>>) -> Self {
        self.trust = Trust::Roots(roots);
        self
    }

    /// Whether any certificate is accepted: no protection against an active attacker. For tests and a look at a broken
    /// server.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        match self.trust {
            _ if accept => self.trust = Trust::Nobody,
            Trust::Nobody => self.trust = Trust::Platform,
            Trust::Platform | Trust::Roots(_) | Trust::Own(_) => {}
        }
        self
    }

    /// Whether the secrets of every TLS connection are appended to the file that the environment variable `SSLKEYLOGFILE`
    /// names, as Wireshark reads them. Off: who reads that file reads and forges all that is sent. Without the variable, and
    /// with a configuration of your own (which has a `key_log`), it does nothing.
    pub fn danger_log_tls_keys(mut self, log: bool) -> Self {
        self.log_tls_keys = log;
        self
    }

    /// Looks up names. Default: the system's resolver. Lookups of one name at the same time are one; answers are not kept.
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// The addresses of one host for one port, instead of a lookup: none is made, and no `dns` is told. `*` is every host
    /// that has none of its own. Given again, the last one stands; without addresses the host is looked up again. Default:
    /// none.
    pub fn resolve_to(mut self, host: &str, port: u16, addresses: Vec<IpAddr>) -> Self {
        let place = (host.to_ascii_lowercase(), port);
        if addresses.is_empty() {
            self.dial.known.remove(&place);
        } else {
            self.dial.known.insert(place, addresses);
        }
        self
    }

    /// The certificate that this client shows to a server that asks for one, with the certificates that lead to its
    /// issuer, and its private key. A TLS configuration of your own has its own. Default: none.
    pub fn client_certificate(mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        self.identity = Some((chain, key));
        self
    }

    /// Makes the byte streams itself, instead of lookup and TCP connect: a Unix socket, a tunnel, a pipe in a test. Default:
    /// none.
    ///
    /// It is called once per dial with the origin, `https://example.com:443/`: scheme, host, port and the path `/`. For
    /// `https` the client does TLS on the stream that comes back, so it must be the bare one. Each dial takes a clone of
    /// the connector and waits until that is ready. All of it is bounded by
    /// [`connect_timeout`](Self::connect_timeout).
    ///
    /// - One `connect` is told, without an address; no `dns`. A connection has neither `local` nor `peer`.
    /// - An error is `connect_failed` (or as the [`io::Error`](std::io::Error) inside it says, `connection_refused` for
    ///   one), a panic too; the connector's own error is the source.
    /// - Marks are the moments at which this stream took and gave bytes. If it keeps bytes back until it is flushed, the
    ///   marks can't see that.
    /// - Nothing but the stream's owner can look whether it was closed while idle. The client lets the owner read before a
    ///   connection is used again; what arrives later than that is retried like any stale connection.
    /// - [`resolver`](Self::resolver), [`ip_version`](Self::ip_version), [`racing_delay`](Self::racing_delay),
    ///   [`tcp_nodelay`](Self::tcp_nodelay), [`tcp_keep_alive`](Self::tcp_keep_alive) and
    ///   [`local_address`](Self::local_address) mean nothing then.
    ///
    /// ```
    /// use std::{convert::Infallible, future::{Ready, ready}, task::{Context, Poll}};
    /// use http::Uri;
    /// use hyper_util::rt::TokioIo;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    ///
    /// #[derive(Clone)]
    /// struct InMemory;
    /// impl tower_service::Service<Uri> for InMemory {
    ///     type Response = TokioIo<DuplexStream>;
    ///     type Error = Infallible;
    ///     type Future = Ready<Result<Self::Response, Infallible>>;
    ///
    ///     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
    ///         Poll::Ready(Ok(()))
    ///     }
    ///
    ///     fn call(&mut self, _: Uri) -> Self::Future {
    ///         let (client, mut server) = tokio::io::duplex(4096);
    ///         tokio::spawn(async move {
    ///             server.read(&mut [0; 4096]).await?;
    ///             server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
    ///         });
    ///         ready(Ok(TokioIo::new(client)))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), httptrace::Error> {
    /// let client = httptrace::Client::builder().connector(InMemory).build()?;
    /// let response = client.get(Uri::from_static("http://in.memory/")).await?;
    /// assert_eq!(response.status(), 204);
    /// # Ok(()) }
    /// ```
    pub fn connector<S>(mut self, connector: S) -> Self
    where
        S: tower_service::Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        self.connector = Some(Connector::new(connector));
        self
    }

    /// Connects over this version of IP only, also to hosts that have addresses of both. Default: both.
    pub fn ip_version(mut self, version: IpVersion) -> Self {
        self.dial.ip_version = Some(version);
        self
    }

    /// Speaks HTTP/1.1 only.
    pub fn http1_only(mut self) -> Self {
        self.protocol = ProtocolChoice::Http1;
        self
    }

    /// Offers HTTP/2 only where TLS negotiates, and fails with `tls_protocol_error` where a server does not agree to it; plain
    /// connections still speak HTTP/1.1.
    pub fn http2_only(mut self) -> Self {
        self.protocol = ProtocolChoice::Http2;
        self
    }

    /// Speaks HTTP/2 without asking, on plain connections too (RFC 9113 §3.3).
    pub fn http2_prior_knowledge(mut self) -> Self {
        self.protocol = ProtocolChoice::Http2PriorKnowledge;
        self
    }
}

/// Time.
impl ClientBuilder {
    /// The most that one dial may take: lookup, connects and handshake. Default 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.dial.connect_timeout = timeout;
        self
    }

    /// The head start that each address of a host has before the next one is tried beside it (RFC 8305); when it fails, the
    /// next one follows at once. IPv6 and IPv4 take turns, beginning with the resolver's first answer; the first that
    /// connects is used. `None`: one after the other, each with its share of the connect timeout. Default 250 ms, as the
    /// RFC recommends: most handshakes that succeed have by then, and it is all that a dead address costs.
    pub fn racing_delay(mut self, delay: Option<Duration>) -> Self {
        self.dial.racing_delay = delay;
        self
    }

    /// The most that one TLS handshake may take. Default 10 s.
    pub fn tls_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.dial.tls_timeout = timeout;
        self
    }

    /// How long a request body waits for `100 Continue` where the request has `Expect: 100-continue`, before it is sent
    /// anyway (RFC 9110 §10.1.1). From the moment when the socket took the head. Default 1 s, as Go and curl.
    pub fn expect_continue_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.expect_continue_timeout = timeout;
        self
    }

    /// The most that a response's head may take, from the moment when the socket took the last byte of the request, body
    /// included. Interim responses do not begin it anew; a head that comes before the request is written is in time. Then
    /// the request fails with `timeout` in `response-wait`, or in `response-read` if the head had begun. Each attempt has
    /// its own. Default: none, since a long answer in the making looks the same as a dead server.
    pub fn response_header_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.response_header_timeout = Some(timeout);
        self
    }

    /// The most that a body's reader may wait for its next piece, the first one included. Then the body fails with
    /// `timeout` in `response-read`. It counts only while somebody waits: who reads slowly has no timeout of his own
    /// making. Default: none, since a stream of events may be silent for hours.
    pub fn body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.body_idle_timeout = Some(timeout);
        self
    }

    /// The most that a request may take, from the call to the last byte of the response, retries included. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.exchange.timeout = Some(timeout);
        self
    }
}

/// Connections.
impl ClientBuilder {
    /// How long an unused connection is kept. Default 90 s.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool.idle_timeout = Some(timeout);
        self
    }

    /// The most idle connections in all; when there are more, the least recently used closes. 0: none is kept. Default 256.
    pub fn pool_max_idle(mut self, max: usize) -> Self {
        self.pool.max_idle = max;
        self
    }

    /// The most idle connections per host. 0: none is kept. Default: as many as in all.
    pub fn pool_max_idle_per_host(mut self, max: usize) -> Self {
        self.pool.max_idle_per_host = max;
        self
    }

    /// The most connections per host, those that are being made included. Requests above it wait in their order. At least
    /// 1. Default: no limit.
    pub fn max_connections_per_host(mut self, max: usize) -> Self {
        self.pool.max_connections_per_host = Some(max.max(1));
        self
    }

    /// What several requests to an `https` origin do while there is no connection to it yet. Default
    /// [`ColdDials::Coalesce`]: they wait for one dial, since a connection that speaks HTTP/2 serves them all.
    pub fn cold_dials(mut self, cold_dials: ColdDials) -> Self {
        self.cold_dials = cold_dials;
        self
    }

    /// The most connections in all, those that are being made included. A request above it waits in one line with those of
    /// all hosts; the least recently used idle connection, of whatever host, makes room. A connection in use does so when it
    /// is given back, rather than serve somebody who came later; an HTTP/2 connection takes no more streams then and closes
    /// with its last one. At least 1. Default: no limit.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.pool.max_connections = Some(max.max(1));
        self
    }

    /// The most HTTP/2 connections per host: another one is made when all streams of those that are open are in use. At
    /// least 1. Default 1, as RFC 9113 §9.1 asks.
    pub fn http2_max_connections_per_host(mut self, max: usize) -> Self {
        self.pool.http2_max_connections_per_host = max.max(1);
        self
    }

    /// Whether a request that dials takes what comes first: its dial, or a connection that another request gives back. Its
    /// dial then goes on, and its connection serves others. Off: it waits for its own dial. Default: on, as Go and
    /// browsers; off makes it plain which request used which dial.
    pub fn late_binding(mut self, late: bool) -> Self {
        self.pool.late_binding = late;
        self
    }

    /// The most that a request may wait in the pool's queue: for another's dial, a place under a limit, an HTTP/2 stream.
    /// Its own dial is bounded by the connect timeout. Then it fails with `timeout` in `get-connection`. One limit for all
    /// that an attempt waits for, stale connections included. Default: none.
    pub fn pool_wait_timeout(mut self, timeout: Duration) -> Self {
        self.pool.wait_timeout = Some(timeout);
        self
    }

    /// The age at which a connection takes no further request. Default: none.
    pub fn max_connection_lifetime(mut self, lifetime: Duration) -> Self {
        self.pool.max_lifetime = Some(lifetime);
        self
    }

    /// Pings HTTP/2 connections (RFC 9113 §6.7): one each `interval` without a frame from the peer; without an answer within
    /// `timeout` the connection is dead. `while_idle`: also when no request is on it. Their round trips are in
    /// [`ConnClosedInfo::http2`](crate::hooks::ConnClosedInfo). Default: off, since pings wake radios and servers; then a peer
    /// that is silently gone is noticed by timeouts only.
    pub fn http2_keep_alive(mut self, interval: Duration, timeout: Duration, while_idle: bool) -> Self {
        self.exchange.http2_keep_alive = Some(Http2KeepAlive { interval, timeout, while_idle });
        self
    }

    /// Bytes that an HTTP/2 peer may send before this end has read them: per stream, and on the connection (RFC 9113
    /// §6.9.2). Default: 2 MiB and 5 MiB, hyper's.
    pub fn http2_windows(mut self, stream: u32, connection: u32) -> Self {
        self.exchange.http2_windows = Some((stream, connection));
        self
    }

    /// Whether small segments are sent at once (TCP_NODELAY). Default: on.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.dial.nodelay = nodelay;
        self
    }

    /// The interval of TCP keep-alive probes; `None` for none. Default 30 s.
    pub fn tcp_keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.dial.keep_alive = interval;
        self
    }

    /// The local address to connect from; addresses of the other version of IP are not tried. Default: the system's choice.
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.dial.local_address = Some(address);
        self
    }

    /// The most bytes of a response's head, and of its trailers; more is `head_too_large`. Default 256 KiB: twice the
    /// largest seen in the wild.
    pub fn max_head_bytes(mut self, max: usize) -> Self {
        self.exchange.max_head_bytes = max;
        self
    }

    /// The most interim responses (1xx) to one request; more is `too_many_informational`, whether or not a hook listens.
    /// Default 50: real servers send one or two, and each costs work before any answer.
    pub fn max_informational(mut self, max: u16) -> Self {
        self.exchange.max_informational = max;
        self
    }

    /// The most header fields of a response. Default 100; more costs an allocation of 16 KiB per HTTP/1 response.
    pub fn max_headers(mut self, max: usize) -> Self {
        self.exchange.max_headers = max;
        self
    }
}

impl ClientBuilder {
    /// Makes the client.
    ///
    /// # Errors
    ///
    /// `tls_protocol_error` if the roots or the configuration given for TLS can't be used.
    pub fn build(self) -> Result<Client, Error> {
        let given = !matches!(self.trust, Trust::Platform) || self.identity.is_some();
        let client = self.into_client();
        if given {
            client.check_tls()?;
        }
        Ok(client)
    }

    pub(crate) fn into_client(self) -> Client {
        #[cfg(feature = "otel")]
        let this = self.with_telemetry();
        #[cfg(not(feature = "otel"))]
        let this = self;
        let Self { mut pool, dial, exchange, protocol, trust, log_tls_keys, resolver, .. } = this;
        let Self { connector, cold_dials, identity, .. } = this;
        let Self { traces, reporters, redaction, timeline, capture, .. } = this;
        let tls = Tls::new(trust, protocol, log_tls_keys, identity);
        let coalesce = cold_dials == ColdDials::Coalesce;
        pool.may_share = coalesce && tls.may_speak_http2();
        pool.always_shares = coalesce && protocol == ProtocolChoice::Http2PriorKnowledge;
        let trace = match traces.len() {
            0 | 1 => traces.into_iter().next(),
            _ => Some(Arc::new(Stack::new(traces)) as Arc<dyn ClientTrace>),
        };
        Client::from_inner(Inner {
            wait_timeout: pool.wait_timeout,
            pool: Pool::new(pool),
            dialer: Arc::new(Dialer { config: dial, lookups: Lookups::new(resolver), connector, tls, protocol }),
            exchange,
            trace,
            reporters,
            capture: capture.by(&redaction),
            redaction,
            timeline,
            host: Mutex::new("".into()),
        })
    }
}

#[cfg(feature = "otel")]
impl ClientBuilder {
    /// Spans first: what they inject is what the request carries when the other reporters see it.
    fn with_telemetry(mut self) -> Self {
        if self.telemetry {
            let mut spans = self.spans.take().unwrap_or_else(Spans::global);
            if let Some(servers) = self.propagate_to.take() {
                spans = spans.propagate_to(servers);
            }
            if let Some(detail) = self.span_detail {
                spans = spans.with_detail(detail);
            }
            let metrics = self.metrics.take().unwrap_or_else(Metrics::global);
            self.reporters.insert(0, Arc::new(spans));
            self.reporters.insert(1, Arc::new(metrics));
        }
        self
    }
}

/// Reports to a function.
#[derive(Clone)]
struct Callback(Arc<dyn Fn(&Timeline) + Send + Sync>);

impl Reporter for Callback {
    fn started(&self, _: &mut Parts, _: &Arc<RequestInfo>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }
}

impl Report for Callback {
    fn again(&self, _: &mut Parts, _: &Arc<RequestInfo>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        (self.0)(timeline);
    }
}
