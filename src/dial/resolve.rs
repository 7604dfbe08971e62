//! Names to addresses: the [`Resolve`] trait, and the system's resolver.

use std::{fmt, future::Future, io, net::IpAddr, pin::Pin};

use crate::{
    error::{BoxError, Kind},
    hooks::DnsFacts,
};

/// A lookup under way.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send>>;

/// An answer under way, with what is known of it.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, ResolveError>> + Send>>;

/// The addresses of a host, and what else the resolver knows of them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Answer {
    /// The addresses, the most wanted first.
    pub addrs: Vec<IpAddr>,
    /// What is shown on the `dns` span beside them; absent if nothing is known.
    pub facts: Option<DnsFacts>,
}

impl Answer {
    /// The addresses, with what is known of them.
    #[must_use]
    pub fn with_facts(addrs: Vec<IpAddr>, facts: DnsFacts) -> Self {
        Self { addrs, facts: Some(facts) }
    }
}

impl From<Vec<IpAddr>> for Answer {
    fn from(addrs: Vec<IpAddr>) -> Self {
        Self { addrs, facts: None }
    }
}

/// Looks up the addresses of a host.
///
/// ```
/// use httptrace::dial::{Resolve, Resolving};
///
/// struct Pinned;
/// impl Resolve for Pinned {
///     fn resolve(&self, _host: &str) -> Resolving {
///         Box::pin(async { Ok(vec![[127, 0, 0, 1].into()]) })
///     }
/// }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, the most wanted first; the client tries IPv6 and IPv4 by turns, beginning with the first
    /// one's. Never called for an IP address. A lookup that is dropped is given up.
    ///
    /// `host` is as the URL has it, and that is ASCII: `http::Uri` takes international names in their `xn--` form only (RFC
    /// 5890). Requests that ask for one host at the same time, in whatever case, share one call; what it answers is not
    /// kept. It runs in a task of its own.
    ///
    /// # Errors
    ///
    /// A [`ResolveError`] of the kind that fits; no addresses at all is an error too.
    fn resolve(&self, host: &str) -> Resolving;

    /// The same, for a resolver that knows more than addresses: whether its cache had them, how long they are true. This is
    /// what the client calls; unless implemented, it calls [`resolve`](Self::resolve) and knows nothing.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    fn answer(&self, host: &str) -> Answering {
        let resolving = self.resolve(host);
        Box::pin(async { resolving.await.map(Answer::from) })
    }
}

/// Why a lookup failed, as `getaddrinfo` tells it.
#[derive(Debug)]
pub struct ResolveError {
    kind: Kind,
    source: Option<BoxError>,
}

impl ResolveError {
    /// There is no such name (`EAI_NONAME`).
    #[must_use]
    pub fn host_not_found() -> Self {
        Self { kind: Kind::HostNotFound, source: None }
    }

    /// The name server did not answer in time (`EAI_AGAIN`).
    #[must_use]
    pub fn try_again() -> Self {
        Self { kind: Kind::TryAgain, source: None }
    }

    /// The lookup failed for good (`EAI_FAIL`).
    #[must_use]
    pub fn no_recovery() -> Self {
        Self { kind: Kind::NoRecovery, source: None }
    }

    /// The name exists and has no addresses.
    #[must_use]
    pub fn no_addresses() -> Self {
        Self { kind: Kind::NoAddresses, source: None }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())
    }
}

impl std::error::Error for ResolveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// The system's resolver, `getaddrinfo`, on a thread of tokio's blocking pool. It can't be cancelled: a lookup that is
/// given up goes on there, and nobody hears of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let lookup = tokio::task::spawn_blocking(move || lookup(&host)).await;
            lookup.unwrap_or_else(|ended| Err(ResolveError::no_recovery().because(ended)))
        })
    }
}

fn lookup(host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    // Through a crate that keeps the EAI code: std's error does not tell "not found" from "try again".
    let hints = dns_lookup::AddrInfoHints {
        socktype: dns_lookup::SockType::Stream.into(),
        ..dns_lookup::AddrInfoHints::default()
    };
    let answers = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|error| {
        let found = match error.kind() {
            dns_lookup::LookupErrorKind::Again => ResolveError::try_again(),
            dns_lookup::LookupErrorKind::NoName | dns_lookup::LookupErrorKind::NoData => ResolveError::host_not_found(),
            _ => ResolveError::no_recovery(),
        };
        found.because(io::Error::from(error))
    })?;
    let mut addrs = Vec::new();
    for answer in answers.flatten() {
        let addr = answer.sockaddr.ip();
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    if addrs.is_empty() { Err(ResolveError::no_addresses()) } else { Ok(addrs) }
}
