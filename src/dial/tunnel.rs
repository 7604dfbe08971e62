//! Through a proxy: a byte stream to it, its own TLS if it speaks that, and the tunnel if one is needed.
//!
//! In: a [`Route`] and a target. Out: a stream on which the target's own TLS can begin, or HTTP, and what is known of it.
//! What is spoken is not ours: hyper says CONNECT and reads the answer, tokio-socks does SOCKS5. Ours are the marks, the
//! limits, and the names of what goes wrong.

use std::{
    io::Cursor,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::{client::conn::http1, ext::on_informational};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncReadExt, sync::Notify};
use tokio_socks::{TargetAddr, tcp::Socks5Stream};

use super::{
    Dialer, Place, Progress, Target,
    proxy::{Asked, Names, Route},
};
use crate::{
    connection::ProxyInfo,
    error::{Error, Kind, ProxyRefusal, Why},
    hooks::emit::Hooks,
    phase::Phase,
    transport::Socket,
};

/// A byte stream, and where it leads.
pub(super) struct Reached {
    pub(super) socket: Socket,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) proxy: Option<Arc<ProxyInfo>>,
    /// The host whose lookup led to the address; absent for an address that was given, and for a proxy's.
    pub(super) looked_up: Option<Arc<str>>,
}

impl Reached {
    pub(super) fn directly(socket: Socket, looked_up: Option<Arc<str>>) -> Self {
        Self { local: socket.local(), peer: socket.peer(), socket, proxy: None, looked_up }
    }
}

impl Dialer {
    /// # Cancel safety
    ///
    /// As [`dial`](Self::dial).
    pub(super) async fn through(
        &self,
        route: &Route,
        target: &Target,
        deadline: Instant,
        hooks: &Hooks,
        progress: &Progress,
    ) -> Result<Reached, Error> {
        let asked = route.asked(target, self.protocol);
        // A name that nobody knows is worth no connection.
        let known = match asked {
            Asked::Socks { names: Names::Here, .. } => {
                progress.enter(Phase::Dns);
                self.addresses(target.place(), deadline, hooks).await?.0.first().copied()
            }
            Asked::Socks { names: Names::There, .. } | Asked::Connect(_) | Asked::Nothing => None,
        };
        let socket = self.to_proxy(route, deadline, hooks, progress).await.map_err(Error::at_proxy)?;
        let (local, peer) = (socket.local(), socket.peer());
        let proxy = Some(Arc::clone(route.info(target, self.protocol)));
        let socket = match asked {
            Asked::Nothing => socket,
            Asked::Connect(authorization) => {
                let connect = connect(socket, target, authorization);
                tunnel(route, connect, deadline, hooks, progress).await?
            }
            Asked::Socks { credentials, .. } => {
                let socks = async { (None, socks(socket, target, known, credentials).await) };
                tunnel(route, socks, deadline, hooks, progress).await?
            }
        };
        Ok(Reached { socket, local, peer, proxy, looked_up: None })
    }

    /// A stream to the proxy itself, inside of its TLS if it speaks that.
    async fn to_proxy(
        &self,
        route: &Route,
        deadline: Instant,
        hooks: &Hooks,
        progress: &Progress,
    ) -> Result<Socket, Error> {
        if let Some(tls) = &route.tls {
            tls.prepare();
        }
        let place = Place { scheme: route.scheme().as_str(), host: route.host(), port: route.port() };
        let (socket, _) = self.connected(place, deadline, hooks, progress).await?;
        let Some(tls) = &route.tls else { return Ok(socket) };
        progress.enter(Phase::Tls);
        let (stream, _) = self.secured(tls, false, socket, route.host(), deadline, hooks).await?;
        Ok(Socket::to_proxy(stream))
    }
}

/// What a proxy said to the end: the status if it was an answer to CONNECT, and the stream through it.
type Answer = (Option<StatusCode>, Result<Socket, Error>);

/// Asks for the tunnel, between its hooks and within the dial's time.
async fn tunnel(
    route: &Route,
    asking: impl Future<Output = Answer>,
    deadline: Instant,
    hooks: &Hooks,
    progress: &Progress,
) -> Result<Socket, Error> {
    progress.enter(Phase::Tunnel);
    let guard = hooks.tunnel(route.host(), route.port());
    let answer = tokio::time::timeout_at(deadline.into(), asking).await;
    let at = hooks.now();
    let (status, result) = answer.unwrap_or_else(|_| (None, Err(Error::timeout(Phase::Tunnel))));
    guard.done(at, status, result.as_ref().err());
    result
}

fn failed(kind: Kind, why: impl Into<crate::error::BoxError>) -> Error {
    Error::with(kind, Phase::Tunnel, why)
}

// === CONNECT (RFC 9110 §9.3.6) ===

async fn connect(socket: Socket, target: &Target, authorization: Option<&HeaderValue>) -> Answer {
    let broken = |error: hyper::Error| (None, Err(failed(Kind::ProxyProtocolError, error)));
    let interim = Arc::new(Interim::default());
    let request = match request(target, authorization, &interim) {
        Ok(request) => request,
        Err(error) => return (None, Err(error)),
    };
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = match handshake {
        Ok(ready) => ready,
        Err(error) => return broken(error),
    };
    // It moves the bytes, and gives the stream back when the answer has made a tunnel of it.
    let mut moving = pin!(connection.without_shutdown());
    let mut moved = None;
    let mut answer = pin!(sender.send_request(request));
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer,
            ended = &mut moving, if moved.is_none() => moved = Some(ended),
            () = interim.too_many.notified() => {
                return (None, Err(failed(Kind::ProxyProtocolError, Why::new("it sends interim responses without end"))));
            }
        }
    };
    let status = match answer {
        Ok(answer) => answer.status(),
        Err(error) => return broken(error),
    };
    if !status.is_success() {
        let kind = match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Kind::ProxyAuthRequired,
            _ => Kind::ProxyRefused,
        };
        return (Some(status), Err(failed(kind, ProxyRefusal::Status(status))));
    }
    let ended = match moved {
        Some(ended) => ended,
        None => moving.await,
    };
    let result = match ended {
        Ok(parts) => Ok(with_unread(parts.io.into_inner(), parts.read_buf)),
        Err(error) => Err(failed(Kind::ProxyProtocolError, error)),
    };
    (Some(status), result)
}

/// Interim responses so far, and the word that they are too many.
#[derive(Default)]
struct Interim {
    count: AtomicU16,
    too_many: Notify,
}

fn request(
    target: &Target,
    authorization: Option<&HeaderValue>,
    interim: &Arc<Interim>,
) -> Result<Request<Empty<Bytes>>, Error> {
    let Target { host, port, .. } = target;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let unsendable = |error: http::Error| Error::with(Kind::InvalidRequest, Phase::Request, error);
    let host = HeaderValue::try_from(&authority).map_err(|error| unsendable(error.into()))?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::try_from(authority).map_err(|error| unsendable(error.into()))?;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HOST, host);
    if let Some(authorization) = authorization {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    let interim = Arc::clone(interim);
    on_informational(&mut request, move |_| {
        if interim.count.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
            interim.too_many.notify_one();
        }
    });
    Ok(request)
}

/// What came right behind the answer is the target's first word: HTTP/2 may speak first. TLS may not, and dies of it.
fn with_unread(socket: Socket, unread: Bytes) -> Socket {
    if unread.is_empty() {
        return socket;
    }
    let (read, write) = tokio::io::split(socket);
    Socket::own(Box::new(tokio::io::join(Cursor::new(unread).chain(read), write)))
}

/// The largest head of an answer to CONNECT: it has nothing to say that is longer. The least that hyper takes is 8 KiB.
const MAX_HEAD: usize = 64 * 1024;
/// The most interim responses before that answer.
const MAX_INTERIM: u16 = 50;

// === SOCKS5 (RFC 1928, RFC 1929) ===

/// `known`: the target's address, where names are looked up here.
async fn socks(
    socket: Socket,
    target: &Target,
    known: Option<SocketAddr>,
    credentials: Option<(&str, &str)>,
) -> Result<Socket, Error> {
    let known = known.or_else(|| Some(SocketAddr::new(target.host.parse().ok()?, target.port)));
    let to = known.map_or_else(|| TargetAddr::Domain((&*target.host).into(), target.port), TargetAddr::Ip);
    let tunnel = match credentials {
        Some((user, password)) => Socks5Stream::connect_with_password_and_socket(socket, to, user, password).await,
        None => Socks5Stream::connect_with_socket(socket, to).await,
    };
    tunnel.map(Socks5Stream::into_inner).map_err(refusal)
}

fn refusal(error: tokio_socks::Error) -> Error {
    use tokio_socks::Error as Socks;
    let refused = |reply| failed(Kind::ProxyRefused, ProxyRefusal::SocksReply(reply));
    match error {
        Socks::NoAcceptableAuthMethods | Socks::AuthorizationRequired => {
            failed(Kind::ProxyAuthRequired, ProxyRefusal::SocksMethods)
        }
        Socks::PasswordAuthFailure(_) => failed(Kind::ProxyAuthRequired, ProxyRefusal::SocksCredentials),
        Socks::GeneralSocksServerFailure => refused(1),
        Socks::ConnectionNotAllowedByRuleset => refused(2),
        Socks::NetworkUnreachable => refused(3),
        Socks::HostUnreachable => refused(4),
        Socks::ConnectionRefused => refused(5),
        Socks::TtlExpired => refused(6),
        Socks::CommandNotSupported => refused(7),
        Socks::AddressTypeNotSupported => refused(8),
        Socks::Io(error) => failed(Kind::ProxyProtocolError, error),
        // Its words may quote what the proxy sent.
        _ => failed(Kind::ProxyProtocolError, Why::new("what it says is not SOCKS5")),
    }
}
