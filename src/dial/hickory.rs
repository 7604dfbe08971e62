//! A resolver of its own instead of the system's: hickory's, which knows what `getaddrinfo` keeps to itself.
//!
//! ```text
//!   HickoryResolver ─▶ hosts file ─▶ hickory: cache ─▶ Noting (which server answered, and how) ─▶ UDP, TCP
//! ```
//!
//! hickory does not tell whether its cache had an answer. So each lookup runs in a scope of its own, and what is sent to a
//! name server notes itself there: nothing noted, nothing asked.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
pub use hickory_resolver;
use hickory_resolver::{
    ConnectionProvider, Hosts, PoolContext, Resolver, ResolverBuilder,
    config::{ConnectionConfig, LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{
        DnsError, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsExchange, DnsHandle, Protocol},
    },
    proto::{
        op::{DnsRequest, DnsResponse, Query, ResponseCode},
        rr::{IntoName, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};

use super::resolve::{Answer, Answering, Resolve, ResolveError, Resolving};
use crate::{
    clock,
    error::{Error, Kind},
    hooks::DnsFacts,
    phase::Phase,
};

/// A resolver with a cache, that tells of each answer whether it was in the cache, how long it is true, which aliases led to
/// it, and which name server gave it: the [`DnsFacts`] on the `dns` span. Unlike the system's, it can be cancelled.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use httptrace::dial::HickoryResolver;
///
/// # fn example() -> Result<(), httptrace::Error> {
/// let resolver = Arc::new(HickoryResolver::from_system()?);
/// let client = httptrace::Client::builder().resolver(resolver).build()?;
/// # drop(client); Ok(()) }
/// ```
///
/// Cheap to clone; clones share the cache, and so may clients. It belongs to the tokio runtime that uses it first, as
/// connections do. Errors are those of `getaddrinfo`: no such name is `host_not_found`, a name without addresses
/// `no_addresses`; a server that fails, or does not answer, is `try_again`, one that refuses `no_recovery`.
///
/// It is not the system's resolver: it reads the hosts file and the name servers of `resolv.conf`, and knows no other source
/// that `nsswitch.conf` may name, such as mDNS. [`hickory_resolver`] 0.26 is part of this type's API: its next minor version
/// is a breaking release of this crate.
#[derive(Clone)]
pub struct HickoryResolver(Arc<Inner>);

struct Inner {
    resolver: Resolver<Noting>,
    hosts: Hosts,
    /// Hosts that are being looked up, and by how many: they may wait for one another's questions.
    under_way: Mutex<HashMap<Box<str>, usize>>,
}

impl HickoryResolver {
    /// With the system's name servers and search domains: `/etc/resolv.conf`, or the registry on Windows. Read once, now.
    ///
    /// Asks for IPv6 and IPv4 addresses at the same time, which is what a race of addresses needs (RFC 8305 §3).
    ///
    /// # Errors
    ///
    /// `no_recovery` if that configuration can't be read.
    pub fn from_system() -> Result<Self, Error> {
        let (config, mut options) = read_system_conf().map_err(unusable)?;
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        Self::with_config(config, options)
    }

    /// With these name servers, and these options as they are. `preserve_intermediates`, which is on by default, is what lets
    /// aliases be seen.
    ///
    /// # Errors
    ///
    /// `no_recovery` if hickory can't use them.
    pub fn with_config(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, Error> {
        // Looked at here, so that what comes from the file is not taken for the cache's.
        let hosts = match std::mem::replace(&mut options.use_hosts_file, ResolveHosts::Never) {
            ResolveHosts::Always | ResolveHosts::Auto => Hosts::from_system().unwrap_or_default(),
            ResolveHosts::Never => Hosts::default(),
        };
        let builder: ResolverBuilder<Noting> = Resolver::builder_with_config(config, Noting::default());
        let resolver = builder.with_options(options).build().map_err(unusable)?;
        Ok(Self(Arc::new(Inner { resolver, hosts, under_way: Mutex::default() })))
    }

    /// Forgets all answers: the next lookup of each name asks.
    pub fn clear_cache(&self) {
        self.0.resolver.clear_cache();
    }
}

impl fmt::Debug for HickoryResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HickoryResolver").finish_non_exhaustive()
    }
}

impl Resolve for HickoryResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let answer = self.answer(host);
        Box::pin(async { answer.await.map(|answer| answer.addrs) })
    }

    fn answer(&self, host: &str) -> Answering {
        let (inner, host) = (Arc::clone(&self.0), host.to_ascii_lowercase());
        Box::pin(async move { inner.answer(&host).await })
    }
}

impl Inner {
    async fn answer(&self, host: &str) -> Result<Answer, ResolveError> {
        if let Some(addrs) = self.in_hosts(host) {
            return Ok(addrs.into());
        }
        let alone = self.begin(host);
        let asked = Asked::default();
        let found = ASKED.scope(asked.clone(), self.resolver.lookup_ip(host)).await;
        let (asked, alone) = (asked.take(), alone.end());
        let found = found.map_err(failed)?;
        let addrs: Vec<IpAddr> = found.iter().collect();
        if is_local(host) {
            // Known without asking anybody (RFC 6761 §6.3).
            return Ok(addrs.into());
        }
        let facts = facts(found.as_lookup(), asked, alone);
        Ok(Answer::with_facts(addrs, facts))
    }

    fn in_hosts(&self, host: &str) -> Option<Vec<IpAddr>> {
        let name = host.into_name().ok()?;
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let addrs: Vec<IpAddr> = [of(RecordType::AAAA), of(RecordType::A)]
            .iter()
            .flatten()
            .flat_map(Lookup::answers)
            .filter_map(|record| record.data.ip_addr())
            .collect();
        (!addrs.is_empty()).then_some(addrs)
    }

    fn begin(&self, host: &str) -> UnderWay<'_> {
        let mut hosts = lock(&self.under_way);
        let count = hosts.entry(host.into()).or_default();
        *count += 1;
        UnderWay { inner: self, host: host.into(), alone: *count == 1 }
    }
}

/// A lookup that is counted among those of its host.
struct UnderWay<'a> {
    inner: &'a Inner,
    host: Box<str>,
    alone: bool,
}

impl UnderWay<'_> {
    /// Whether it was the only one as it began: then every question that it needed was its own.
    fn end(self) -> bool {
        self.alone
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut hosts = lock(&self.inner.under_way);
        if let Some(count) = hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of a user's runs under it, so it can't be poisoned half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host == "localhost" || host.ends_with(".localhost")
}

fn facts(found: &Lookup, asked: Seen, alone: bool) -> DnsFacts {
    let (server, transport) = asked.answered.unzip();
    let mut facts = DnsFacts {
        // Nothing asked by one who waited for another's question is no hit.
        cache_hit: if asked.questions > 0 { Some(false) } else { alone.then_some(true) },
        ttl: Some(found.valid_until().saturating_duration_since(clock::now())),
        server,
        transport,
        ..DnsFacts::default()
    };
    for record in found.answers() {
        note_alias(record, &mut facts.aliases);
        let kind = record.record_type().into();
        if !facts.record_types.contains(&kind) {
            facts.record_types.push(kind);
        }
    }
    facts
}

fn note_alias(record: &Record, aliases: &mut Vec<String>) {
    if let RData::CNAME(target) = &record.data {
        let text = target.0.to_ascii();
        let text = text.strip_suffix('.').unwrap_or(&text);
        // Both families have the same chain.
        if !aliases.iter().any(|alias| alias.eq_ignore_ascii_case(text)) {
            aliases.push(text.to_ascii_lowercase());
        }
    }
}

fn failed(error: NetError) -> ResolveError {
    let known = match &error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => ResolveError::host_not_found(),
            ResponseCode::ServFail => ResolveError::try_again(),
            ResponseCode::NoError => ResolveError::no_addresses(),
            _ => ResolveError::no_recovery(),
        },
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail))
        | NetError::Busy
        | NetError::Io(_)
        | NetError::NoConnections
        | NetError::QueryCaseMismatch
        | NetError::Timeout
        | NetError::Truncated => ResolveError::try_again(),
        _ => ResolveError::no_recovery(),
    };
    known.because(error)
}

fn unusable(error: NetError) -> Error {
    Error::with(Kind::NoRecovery, Phase::Dns, error)
}

// === who was asked ===

tokio::task_local! {
    /// The lookup that this task is at.
    static ASKED: Asked;
}

/// What a lookup has sent to name servers.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Seen>>);

#[derive(Clone, Copy, Default)]
struct Seen {
    questions: usize,
    answered: Option<(SocketAddr, &'static str)>,
}

impl Asked {
    fn take(&self) -> Seen {
        *lock(&self.0)
    }

    /// Outside of a lookup (a probe of hickory's own) there is nobody to tell.
    fn note(change: impl FnOnce(&mut Seen)) {
        let _ = ASKED.try_with(|asked| change(&mut lock(&asked.0)));
    }
}

/// hickory's connections to name servers, each of which notes that it was asked and that it answered.
#[derive(Clone, Default)]
struct Noting(TokioRuntimeProvider);

impl ConnectionProvider for Noting {
    type Conn = NotingConn;
    type FutureConn = Pin<Box<dyn Future<Output = Result<NotingConn, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        pool: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let connecting = self.0.new_connection(ip, config, pool)?;
        let server = (SocketAddr::new(ip, config.port), name(config.protocol.to_protocol()));
        Ok(Box::pin(async move { connecting.await.map(|conn| NotingConn { conn, server }) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}

#[derive(Clone)]
struct NotingConn {
    conn: DnsExchange<TokioRuntimeProvider>,
    server: (SocketAddr, &'static str),
}

impl DnsHandle for NotingConn {
    type Response = NotingResponse;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> NotingResponse {
        Asked::note(|seen| seen.questions += 1);
        NotingResponse { response: self.conn.send(request), server: self.server }
    }
}

struct NotingResponse {
    response: <DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response,
    server: (SocketAddr, &'static str),
}

impl Stream for NotingResponse {
    type Item = Result<DnsResponse, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.response).poll_next(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            Asked::note(|seen| seen.answered = Some(self.server));
        }
        polled
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp",
        // Features of hickory's that an application may switch on.
        #[allow(unreachable_patterns)]
        other => match other.to_string().as_str() {
            "tls" => "tls",
            "https" => "https",
            "quic" => "quic",
            "http3" => "http3",
            _ => "_OTHER",
        },
    }
}
