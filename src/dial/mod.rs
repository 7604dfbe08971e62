//! The dialer: from an origin to a byte stream that is ready for HTTP.
//!
//! `lookups` (of `resolve`, shared) → `connect` (the addresses in a `race`) → `tls`; a user's `connector` takes the place of
//! the first two. Where there is a `proxy`, they lead to it, and a `tunnel` from there to the target. Each step calls its pair of hooks, and all end within one deadline. The dialer knows nothing of pools,
//! requests or spans.

mod connect;
mod connector;
mod contained;
mod departed;
#[cfg(feature = "hickory-dns")]
mod hickory;
mod lookups;
mod no_proxy;
mod proxy;
mod race;
mod resolve;
mod tls;
mod tunnel;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use tokio_rustls::client::TlsStream;

pub(crate) use self::connector::Connector;
use self::connector::Said;
#[cfg(feature = "hickory-dns")]
pub use self::hickory::{HickoryResolver, hickory_resolver};
use self::tunnel::Reached;
pub(crate) use self::{
    departed::{Departed, Watched},
    lookups::Lookups,
    proxy::Routes,
    tls::{Identity, Tls, Trust},
};
pub use self::{
    proxy::Proxy,
    resolve::{Answer, Answering, Resolve, ResolveError, Resolving, SystemResolver},
};
use crate::{
    clock,
    config::{DialConfig, ProtocolChoice},
    connection::{Protocol, ProxyInfo, TlsInfo},
    error::{Error, Kind, Why},
    hooks::emit::Hooks,
    phase::Phase,
    transport::{Socket, Transport},
};
pub use crate::{
    config::{ColdDials, IpVersion},
    error::ProxyRefusal,
};

/// Makes connections.
pub(crate) struct Dialer {
    pub(crate) config: DialConfig,
    pub(crate) lookups: Lookups,
    pub(crate) departed: Departed,
    /// A user's own way to a byte stream: then there is no lookup and no TCP.
    pub(crate) connector: Option<Connector>,
    pub(crate) tls: Tls,
    pub(crate) protocol: ProtocolChoice,
    /// Proxies on the way.
    pub(crate) routes: Routes,
}

/// Where to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// Nothing but HTTP/1.1 is offered: the origin has refused HTTP/2.
    pub(crate) http1_only: bool,
}

impl Target {
    fn place(&self) -> Place<'_> {
        Place { scheme: if self.https { "https" } else { "http" }, host: &self.host, port: self.port }
    }
}

/// Where a byte stream leads: to the target, or to a proxy.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    scheme: &'static str,
    host: &'a Arc<str>,
    port: u16,
}

/// How far a dial has come: for the request that gives up meanwhile, and has to say where.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    fn enter(&self, phase: Phase) {
        let step = match phase {
            Phase::Dns => 1,
            Phase::Connect => 2,
            Phase::Tls => 3,
            Phase::Tunnel => 4,
            _ => 0,
        };
        self.0.store(step, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            1 => Phase::Dns,
            2 => Phase::Connect,
            3 => Phase::Tls,
            4 => Phase::Tunnel,
            _ => Phase::GetConnection,
        }
    }
}

/// A connection without a protocol yet.
pub(crate) struct Dialed {
    pub(crate) transport: Transport,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) protocol: Protocol,
    pub(crate) proxy: Option<Arc<ProxyInfo>>,
    /// The host whose lookup led to the address; absent for an address that was given.
    pub(crate) looked_up: Option<Arc<str>>,
    /// A connector's proxy is at the other end, and passes requests on.
    pub(crate) forwards: bool,
}

/// Addresses to try, and the host whose lookup they come from.
type Found = (Vec<SocketAddr>, Option<Arc<str>>);

impl Dialer {
    /// One dial, from the lookup to the end of the handshake.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes what is open; each open step is told as `canceled`.
    pub(crate) async fn dial(&self, target: &Target, hooks: &Hooks, progress: &Progress) -> Result<Dialed, Error> {
        let deadline = clock::now() + self.config.connect_timeout;
        // Who does the TLS of a server makes the whole way to it, proxies included.
        if let Some(connector) = self.connector.as_ref().filter(|connector| connector.does_tls) {
            progress.enter(Phase::Connect);
            let (socket, said) = connector.connect(target.place(), deadline, hooks).await?;
            return self.made(target, socket, said);
        }
        if target.https {
            self.tls.prepare();
        }
        let reached = match self.routes.to(target) {
            None => {
                let (socket, looked_up) = self.connected(target.place(), deadline, hooks, progress).await?;
                Reached::directly(socket, looked_up)
            }
            Some(route) => Box::pin(self.through(route, target, deadline, hooks, progress)).await?,
        };
        let Reached { socket, local, peer, proxy, looked_up } = reached;
        if !target.https {
            let protocol = match self.protocol {
                ProtocolChoice::Http2PriorKnowledge => Protocol::Http2,
                ProtocolChoice::Alpn | ProtocolChoice::Http1 | ProtocolChoice::Http2 => Protocol::Http1,
            };
            let transport = Transport::Plain(socket);
            return Ok(Dialed { transport, local, peer, tls: None, protocol, proxy, looked_up, forwards: false });
        }
        progress.enter(Phase::Tls);
        let (stream, tls) = self.secured(&self.tls, target.http1_only, socket, &target.host, deadline, hooks).await?;
        let protocol = match (self.protocol, tls.alpn.as_deref()) {
            (ProtocolChoice::Http2PriorKnowledge, _) | (_, Some("h2")) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let transport = Transport::Tls(Box::new(stream));
        Ok(Dialed { transport, local, peer, tls: Some(tls), protocol, proxy, looked_up, forwards: false })
    }

    /// A byte stream to a place, by the user's connector if there is one, and the host whose lookup led there.
    async fn connected(
        &self,
        place: Place<'_>,
        deadline: Instant,
        hooks: &Hooks,
        progress: &Progress,
    ) -> Result<(Socket, Option<Arc<str>>), Error> {
        if let Some(connector) = &self.connector {
            progress.enter(Phase::Connect);
            let (socket, _) = connector.connect(place, deadline, hooks).await?;
            return Ok((socket, None));
        }
        progress.enter(Phase::Dns);
        let (addrs, looked_up) = self.addresses(place, deadline, hooks).await?;
        progress.enter(Phase::Connect);
        Ok((connect::first_of(&addrs, &self.config, deadline, hooks).await?, looked_up))
    }

    /// TLS on it, with who is called `host`; nothing but HTTP/1.1 is offered, if so.
    async fn secured(
        &self,
        tls: &Tls,
        http1_only: bool,
        socket: Socket,
        host: &str,
        deadline: Instant,
        hooks: &Hooks,
    ) -> Result<(TlsStream<Socket>, TlsInfo), Error> {
        let config = tokio::time::timeout_at(deadline.into(), tls.config());
        let mut config = config.await.map_err(|_| Error::timeout(Phase::Tls))??;
        if http1_only {
            Arc::make_mut(&mut config).alpn_protocols = vec![tls::HTTP1.to_vec()];
        }
        tls.handshake(config, socket, host, deadline, self.config.tls_timeout, hooks).await
    }

    /// A stream that is ready for HTTP: its connector has done TLS where there was any, and knows what ALPN chose.
    fn made(&self, target: &Target, socket: Socket, said: Said) -> Result<Dialed, Error> {
        let protocol = match self.protocol {
            ProtocolChoice::Http2PriorKnowledge => Protocol::Http2,
            ProtocolChoice::Alpn | ProtocolChoice::Http1 | ProtocolChoice::Http2 if said.http2 => Protocol::Http2,
            ProtocolChoice::Http2 if target.https => {
                return Err(Error::with(Kind::TlsProtocolError, Phase::Tls, Why::new(tls::NO_HTTP2)));
            }
            ProtocolChoice::Alpn | ProtocolChoice::Http1 | ProtocolChoice::Http2 => Protocol::Http1,
        };
        let Said { local, peer, forwards, http2: _ } = said;
        // A tunnel is no longer the proxy's business.
        let forwards = forwards && !target.https;
        let transport = Transport::Plain(socket);
        Ok(Dialed { transport, local, peer, tls: None, protocol, proxy: None, looked_up: None, forwards })
    }

    /// The addresses in the order in which to try them. An address has no lookup, and so no hooks; nor has a host whose
    /// addresses were given.
    async fn addresses(&self, place: Place<'_>, deadline: Instant, hooks: &Hooks) -> Result<Found, Error> {
        let literal = place.host.parse::<IpAddr>().ok();
        let known = self.config.known(place.host, place.port);
        if let Some(addrs) = known.or(literal.as_ref().map(std::slice::from_ref)) {
            let order = race::interleaved(addrs.iter().copied().filter(|addr| self.config.may_try(*addr)));
            if order.is_empty() {
                return Err(Error::new(Kind::NoAddresses, Phase::GetConnection));
            }
            let addrs = order.into_iter().map(|addr| SocketAddr::new(addr, place.port));
            return Ok((addrs.take(self.config.max_addresses).collect(), None));
        }
        let guard = hooks.dns(place.host);
        let lookup = tokio::time::timeout_at(deadline.into(), self.lookups.lookup(place.host)).await;
        let (at, result, coalesced) = match lookup {
            Ok((answer, coalesced)) => (Some(answer.at), answer.result, coalesced),
            Err(_) => (hooks.now(), Err(Error::timeout(Phase::Dns)), false),
        };
        let order = result.as_ref().map(|answer| {
            self.departed.answered(place.host, &answer.addrs);
            let usable = answer.addrs.iter().copied().filter(|addr| self.config.may_try(*addr));
            race::interleaved(usable)
        });
        if order.as_ref().is_ok_and(Vec::is_empty) {
            let error = Error::new(Kind::NoAddresses, Phase::Dns);
            guard.done(at, Err(&error), coalesced);
            return Err(error);
        }
        let told = result.as_ref().map(|answer| (answer.addrs.as_slice(), answer.facts.as_ref()));
        guard.done(at, told, coalesced);
        let addrs = order.map_err(Error::clone)?.into_iter().map(|addr| SocketAddr::new(addr, place.port));
        Ok((addrs.take(self.config.max_addresses).collect(), Some(Arc::clone(place.host))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when the configuration of TLS is there, and no sooner.
    struct AfterTls(Tls);

    impl Resolve for AfterTls {
        fn resolve(&self, _: &str) -> resolve::Resolving {
            let tls = self.0.clone();
            Box::pin(async move {
                while !tls.is_prepared() {
                    tokio::task::yield_now().await;
                }
                Err(ResolveError::host_not_found())
            })
        }
    }

    // mutant: `prepare` left out of `dial`
    #[tokio::test]
    async fn the_platforms_roots_are_read_beside_the_lookup() {
        let tls = Tls::new(tls::Trust::Platform, ProtocolChoice::Alpn, false, None);
        let config = DialConfig { connect_timeout: std::time::Duration::from_secs(20), ..DialConfig::default() };
        let lookups = Lookups::new(Arc::new(AfterTls(tls.clone())));
        let protocol = ProtocolChoice::Alpn;
        let (departed, routes) = (Departed::default(), Routes::default());
        let dialer = Dialer { config, lookups, departed, connector: None, tls, protocol, routes };
        let target = Target { https: true, host: "origin.test".into(), port: 443, http1_only: false };
        let dialed = dialer.dial(&target, &Hooks::new(None, None), &Progress::default()).await;
        assert_eq!(dialed.err().map(|error| error.kind()), Some(Kind::HostNotFound));
    }
}
