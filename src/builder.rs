//! The settings of a client, and the one place where its parts are put together.

mod detail;
mod facts;
mod limits;
mod pooling;
mod proxying;
mod reaching;
mod telling;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

#[cfg(feature = "otel")]
use crate::views::{
    metrics::Metrics,
    spans::{SpanDetail, Spans},
};
use crate::{
    capture::Capture,
    client::{Client, Inner, KeepAlives},
    config::{DialConfig, ExchangeConfig, PoolConfig, ProtocolChoice},
    dial::{
        ColdDials, Connector, Departed, Dialer, Identity, Lookups, Proxy, Resolve, Routes, SystemResolver, Tls, Trust,
    },
    error::Error,
    hooks::{ClientTrace, Stack},
    pool::Pool,
    redact::Rules,
    timeline::Reporter,
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
    proxies: Vec<Proxy>,
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
            proxies: Vec::new(),
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

impl ClientBuilder {
    /// Makes the client.
    ///
    /// # Errors
    ///
    /// `tls_protocol_error` if the roots or the configuration given for TLS, with servers or with proxies, can't be used.
    pub fn build(self) -> Result<Client, Error> {
        let given = !matches!(self.trust, Trust::Platform) || self.identity.is_some();
        let client = self.into_client();
        if given {
            client.check_tls()?;
        }
        client.check_proxies()?;
        Ok(client)
    }

    pub(crate) fn into_client(self) -> Client {
        #[cfg(feature = "otel")]
        let this = self.with_telemetry();
        #[cfg(not(feature = "otel"))]
        let this = self;
        let Self { mut pool, dial, exchange, protocol, trust, log_tls_keys, resolver, .. } = this;
        let Self { connector, proxies, cold_dials, identity, .. } = this;
        let Self { traces, reporters, redaction, timeline, capture, .. } = this;
        let routes = Routes::new(proxies, log_tls_keys);
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
            keep_alives: Arc::new(KeepAlives::new(pool.idle_timeout, pool.obeys_keep_alive, trace.clone())),
            pool: Pool::new(pool),
            dialer: Arc::new(Dialer {
                config: dial,
                lookups: Lookups::new(resolver),
                departed: Departed::default(),
                connector,
                tls,
                protocol,
                routes,
            }),
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
