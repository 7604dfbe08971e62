//! A proxy on 127.0.0.1 that does its work: it passes requests on, makes tunnels by CONNECT or SOCKS5, asks for credentials
//! if it is told to, and writes down what it was asked. Names are this machine's. For a proxy that misbehaves, an origin
//! plays a script.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::PROXY_AUTHORIZATION};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use httptrace::dial::Proxy;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::support::{certificate::Identity, origin::Io, within};

/// What is spoken with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Https,
    Socks,
}

/// User and password that it wants.
pub(crate) const USER: (&str, &str) = ("joe", "s3cret:pass");
/// As a URL has them.
pub(crate) const USERINFO: &str = "joe:s3cret%3Apass@";

/// A running proxy; it ends with this.
pub(crate) struct RelayingProxy {
    speaks: Speaks,
    addr: SocketAddr,
    root: Option<CertificateDer<'static>>,
    seen: watch::Sender<Seen>,
    accepting: AbortHandle,
    /// Its tunnels end with it.
    _alive: watch::Sender<()>,
}

/// What it saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Connections that it accepted.
    pub(crate) accepted: usize,
    /// What it was asked for: `CONNECT host:port`, `GET http://host:port/`, `SOCKS host:port`.
    pub(crate) asked: Vec<String>,
    /// The header fields of what was asked in HTTP.
    pub(crate) headers: Vec<HeaderMap>,
}

impl RelayingProxy {
    pub(crate) fn new(speaks: Speaks) -> Self {
        Self::start(speaks, false)
    }

    /// Wants [`USER`].
    pub(crate) fn with_credentials(speaks: Speaks) -> Self {
        Self::start(speaks, true)
    }

    fn start(speaks: Speaks, guarded: bool) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket of our own");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let addr = listener.local_addr().expect("a bound socket");
        let identity = (speaks == Speaks::Https).then(|| Identity::new(&["http/1.1"]));
        let root = identity.as_ref().map(|identity| identity.root.clone());
        let seen = watch::Sender::<Seen>::default();
        let (alive, until) = watch::channel(());
        let work = Arc::new(Work { speaks, guarded, identity, seen: seen.clone(), until });
        let accepting = tokio::spawn(work.accept(listener)).abort_handle();
        Self { speaks, addr, root, seen, accepting, _alive: alive }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, with this scheme, and these credentials before its host.
    pub(crate) fn url(&self, scheme: &str, userinfo: &str) -> String {
        // A certificate is for a name; the resolver knows this one, as does the proxy.
        let host = if self.speaks == Speaks::Https { "localhost" } else { "127.0.0.1" };
        format!("{scheme}://{userinfo}{host}:{}", self.addr.port())
    }

    /// For a client, which trusts it.
    pub(crate) fn client_side(&self, scheme: &str, userinfo: &str) -> Proxy {
        let proxy = Proxy::all(&self.url(scheme, userinfo)).expect("a URL");
        match &self.root {
            Some(root) => proxy.root_certificates(vec![root.clone()]),
            None => proxy,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for RelayingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Work {
    speaks: Speaks,
    guarded: bool,
    identity: Option<Identity>,
    seen: watch::Sender<Seen>,
    /// Ends when the proxy does.
    until: watch::Receiver<()>,
}

impl Work {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((tcp, _)) = listener.accept().await else { return };
            tcp.set_nodelay(true).expect("a connected socket");
            self.seen.send_modify(|seen| seen.accepted += 1);
            let this = Arc::clone(&self);
            connections.spawn(async move {
                // How it ends is the client's affair.
                let _ = this.serve(tcp).await;
            });
        }
    }

    async fn serve(self: Arc<Self>, tcp: TcpStream) -> io::Result<()> {
        let io: Box<dyn Io> = match &self.identity {
            None => Box::new(tcp),
            Some(identity) => Box::new(TlsAcceptor::from(Arc::clone(&identity.config)).accept(tcp).await?),
        };
        if self.speaks == Speaks::Socks {
            return self.socks(io).await;
        }
        let service = service_fn(move |request| {
            let this = Arc::clone(&self);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
        connection.with_upgrades().await.map_err(io::Error::other)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
        self.seen.send_modify(|seen| {
            seen.asked.push(format!("{} {}", request.method(), request.uri()));
            seen.headers.push(request.headers().clone());
        });
        let only = |status| {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *response.status_mut() = status;
            response
        };
        // joe:s3cret:pass
        let wanted = "Basic am9lOnMzY3JldDpwYXNz";
        if self.guarded && request.headers().get(PROXY_AUTHORIZATION).is_none_or(|value| value != wanted) {
            return only(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        }
        let port = request.uri().port_u16().unwrap_or(80);
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
            return only(StatusCode::BAD_GATEWAY);
        };
        server.set_nodelay(true).expect("a connected socket");
        if request.method() == Method::CONNECT {
            let mut until = self.until.clone();
            tokio::spawn(async move {
                let Ok(client) = hyper::upgrade::on(request).await else { return };
                let mut client = TokioIo::new(client);
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = until.changed() => {}
                }
            });
            return only(StatusCode::OK);
        }
        pass_on(request, server)
            .await
            .map_or_else(|_| only(StatusCode::BAD_GATEWAY), |answer| answer.map(BodyExt::boxed))
    }

    /// RFC 1928, as much of it as a test needs.
    async fn socks(&self, mut client: Box<dyn Io>) -> io::Result<()> {
        let [_, methods] = read(&mut client).await?;
        let mut offered = vec![0; methods.into()];
        client.read_exact(&mut offered).await?;
        let method = if self.guarded { 2 } else { 0 };
        if !offered.contains(&method) {
            return client.write_all(&[5, 0xff]).await;
        }
        client.write_all(&[5, method]).await?;
        if self.guarded {
            let [_, length] = read(&mut client).await?;
            let user = text(&mut client, length).await?;
            let [length] = read(&mut client).await?;
            let password = text(&mut client, length).await?;
            let wrong = (user.as_str(), password.as_str()) != USER;
            client.write_all(&[1, wrong.into()]).await?;
            if wrong {
                return Ok(());
            }
        }
        let [_, _, _, kind] = read(&mut client).await?;
        let host = match kind {
            1 => Ipv4Addr::from(read::<4>(&mut client).await?).to_string(),
            3 => {
                let [length] = read(&mut client).await?;
                text(&mut client, length).await?
            }
            other => panic!("an address of kind {other}"),
        };
        let port = u16::from_be_bytes(read(&mut client).await?);
        self.seen.send_modify(|seen| seen.asked.push(format!("SOCKS {host}:{port}")));
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        let reply = if server.is_ok() { 0 } else { 5 };
        client.write_all(&[5, reply, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
        copy_bidirectional(&mut client, &mut server?).await.map(drop)
    }
}

async fn pass_on(mut request: Request<Incoming>, server: TcpStream) -> hyper::Result<Response<Incoming>> {
    let path = request.uri().path_and_query().expect("an absolute form").clone();
    *request.uri_mut() = path.into();
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn read<const N: usize>(client: &mut Box<dyn Io>) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn text(client: &mut Box<dyn Io>, length: u8) -> io::Result<String> {
    let mut bytes = vec![0; length.into()];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).expect("text"))
}

/// Returns once it was asked for so much.
pub(crate) async fn until_asked(proxy: &RelayingProxy, count: usize) -> Seen {
    let mut seen = proxy.seen.subscribe();
    within("the proxy to be asked", seen.wait_for(|seen| seen.asked.len() >= count)).await.expect("it lives").clone()
}
