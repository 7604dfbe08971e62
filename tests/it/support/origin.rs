//! An origin on 127.0.0.1: it listens, does TLS if asked to, and gives each connection to a script or to a handler.
//!
//! `Origin::plain()` or `Origin::tls()` begins one, `.script(..)` or `.serve(..)` starts it. What it saw is in
//! `origin.record()`, and `origin.until(..)` waits for it. Dropping it closes everything.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    certificate::Identity,
    gate::Gate,
    record::Record,
    script::{Gates, Step, play},
    serve::{Handler, handler, serve},
    within,
};

/// A running origin.
pub(crate) struct Origin {
    addr: SocketAddr,
    root: Option<CertificateDer<'static>>,
    gates: Arc<Gates>,
    record: watch::Sender<Record>,
    accepting: AbortHandle,
}

impl Origin {
    /// Without TLS.
    pub(crate) fn plain() -> OriginBuilder {
        OriginBuilder { identity: None, gate_handshake: false, http2: false, max_streams: None }
    }

    /// With TLS; speaks what ALPN chooses, HTTP/2 rather than HTTP/1.1.
    pub(crate) fn tls() -> OriginBuilder {
        Self::tls_with_alpn(&["h2", "http/1.1"])
    }

    /// With TLS and this list for ALPN, the most wanted first.
    pub(crate) fn tls_with_alpn(alpn: &[&str]) -> OriginBuilder {
        Self::tls_as(Identity::new(alpn))
    }

    /// With TLS and this certificate.
    pub(crate) fn tls_as(identity: Identity) -> OriginBuilder {
        OriginBuilder { identity: Some(identity), ..Self::plain() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of a path, by address: no lookup.
    pub(crate) fn url(&self, path: &str) -> Uri {
        self.url_at("127.0.0.1", path)
    }

    /// The URL of a path, by a name that the test's resolver knows.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> Uri {
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://{host}:{}{path}", self.addr.port()).parse().expect("a URL")
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.root.is_some()
    }

    /// The authority to trust.
    pub(crate) fn root_certificate(&self) -> CertificateDer<'static> {
        self.root.clone().expect("an origin with TLS")
    }

    /// The gate of this name: `Step::Gate(name)`, or "handshake".
    pub(crate) fn gate(&self, name: &'static str) -> Gate {
        self.gates.get(name)
    }

    /// What it saw so far.
    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Connections that it accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.record.borrow().connections.len()
    }

    /// Requests that it got.
    pub(crate) fn served(&self) -> usize {
        self.record.borrow().requests.len()
    }

    /// Returns once the record is as wanted: `origin.until("a request", |record| record.requests.len() == 1)`.
    pub(crate) async fn until(&self, what: &str, when: impl FnMut(&Record) -> bool) {
        let mut record = self.record.subscribe();
        within(what, record.wait_for(when)).await.expect("the sender is in self");
    }

    /// Returns once the connection of this number (from 1) is closed.
    pub(crate) async fn until_closed(&self, number: usize) {
        self.until("a connection's end", |record| record.connections.get(number - 1).is_some_and(|c| c.closed)).await;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An origin that is not listening yet.
pub(crate) struct OriginBuilder {
    identity: Option<Identity>,
    gate_handshake: bool,
    http2: bool,
    max_streams: Option<u32>,
}

impl OriginBuilder {
    /// Every TLS handshake waits at the gate "handshake".
    pub(crate) fn gate_handshake(self) -> Self {
        Self { gate_handshake: true, ..self }
    }

    /// HTTP/2 without being asked, as clients with prior knowledge expect.
    pub(crate) fn http2(self) -> Self {
        Self { http2: true, ..self }
    }

    /// So many HTTP/2 streams at once and no more.
    pub(crate) fn max_streams(self, max: u32) -> Self {
        Self { max_streams: Some(max), ..self }
    }

    /// Starts it; every connection plays these steps.
    pub(crate) fn script(self, steps: impl IntoIterator<Item = Step>) -> Origin {
        self.scripts([steps.into_iter().collect()])
    }

    /// Starts it; the first connection plays the first script, and so on, and what comes later the last one again.
    pub(crate) fn scripts(self, scripts: impl IntoIterator<Item = Vec<Step>>) -> Origin {
        self.start(Behaviour::Scripts(scripts.into_iter().collect()))
    }

    /// Starts it; every request is answered by this handler.
    pub(crate) fn serve<F, Fut, B>(self, handle: F) -> Origin
    where
        F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.start(Behaviour::Handler(handler(handle)))
    }

    fn start(self, behaviour: Behaviour) -> Origin {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket of our own");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let addr = listener.local_addr().expect("a bound socket");
        let root = self.identity.as_ref().map(|identity| identity.root.clone());
        let gates = Arc::new(Gates::default());
        let record = watch::Sender::default();
        let server = Arc::new(Server { options: self, behaviour, gates: Arc::clone(&gates), record: record.clone() });
        let accepting = tokio::spawn(server.accept(listener)).abort_handle();
        Origin { addr, root, gates, record, accepting }
    }
}

enum Behaviour {
    Scripts(Vec<Vec<Step>>),
    Handler(Handler),
}

struct Server {
    options: OriginBuilder,
    behaviour: Behaviour,
    gates: Arc<Gates>,
    record: watch::Sender<Record>,
}

impl Server {
    /// Owns the connections: when this task is aborted, they end.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let accepted = AtomicUsize::new(0);
        loop {
            let Ok((tcp, _)) = listener.accept().await else { return };
            // What this side writes is to be seen at once, step by step.
            tcp.set_nodelay(true).expect("a connected socket");
            let number = accepted.fetch_add(1, Ordering::Relaxed) + 1;
            self.record.send_modify(|record| record.connections.push(Default::default()));
            connections.spawn(Arc::clone(&self).connection(tcp, number));
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, number: usize) {
        match self.handshake(tcp).await {
            Ok(wire) => self.converse(wire, number).await,
            Err(error) => {
                self.record.send_modify(|record| record.connection(number).handshake_error = Some(error.to_string()));
            }
        }
        self.record.send_modify(|record| record.connection(number).closed = true);
    }

    async fn handshake(&self, tcp: TcpStream) -> std::io::Result<Wire> {
        if self.options.gate_handshake {
            self.gates.get("handshake").wait().await;
        }
        Ok(match &self.options.identity {
            None => Wire::Plain(tcp),
            Some(identity) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
                Wire::Tls(Box::new(acceptor.accept(tcp).await?))
            }
        })
    }

    async fn converse(&self, wire: Wire, number: usize) {
        let alpn = wire.alpn();
        let http2 = self.options.http2 || alpn.as_deref() == Some("h2");
        self.record.send_modify(|record| record.connection(number).alpn = alpn);
        match &self.behaviour {
            Behaviour::Handler(handler) => {
                serve(wire, number, http2, self.options.max_streams, handler, &self.record).await;
            }
            Behaviour::Scripts(scripts) => {
                let steps = scripts.get(number - 1).or(scripts.last()).map_or(&[][..], Vec::as_slice);
                // A client that has gone ends the script; the test sees that in what the script did not read.
                let _ = play(wire, number, steps, &self.gates, &self.record).await;
            }
        }
    }
}

/// One accepted connection, with or without TLS.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A byte stream.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Wire {
    pub(crate) fn io(&mut self) -> &mut dyn Io {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls,
        }
    }

    pub(crate) fn into_io(self) -> Box<dyn Io> {
        match self {
            Self::Plain(tcp) => Box::new(tcp),
            Self::Tls(tls) => tls,
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    fn alpn(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }
}

/// An address where nobody listens, kept from everybody else as long as this lives: connecting is refused.
pub(crate) struct Refusing(socket2::Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        address(&self.0)
    }
}

/// An address where nobody answers as long as this lives. Linux alone drops what a full queue has no room for.
#[cfg(target_os = "linux")]
pub(crate) struct Silent {
    listener: socket2::Socket,
    _queued: [std::net::TcpStream; 2],
}

#[cfg(target_os = "linux")]
impl Silent {
    pub(crate) fn at(addr: SocketAddr) -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&addr.into()).expect("a free port");
        // A queue of length one is full with two connections that nobody accepts.
        listener.listen(1).expect("a bound socket");
        let addr = address(&listener);
        let queued = [0, 1].map(|_| std::net::TcpStream::connect(addr).expect("room for two"));
        Self { listener, _queued: queued }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        address(&self.listener)
    }
}

fn address(socket: &socket2::Socket) -> SocketAddr {
    socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("a bound socket")
}
