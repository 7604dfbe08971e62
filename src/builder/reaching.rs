//! Options for how a server is reached: names and addresses, sockets, TLS, protocols.
//!
//! In: what replaces or narrows a step of the dial. Out: the settings that [`super`] gives to the dialer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::Uri;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::ClientBuilder;
use crate::{
    config::ProtocolChoice,
    dial::{Connector, IpVersion, Resolve, Trust},
    error::BoxError,
};

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
        self.trust.accept_invalid(accept);
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

    /// Connects by a connector that was written for hyper-util's client: `HttpConnector`, or hyper-rustls', hyper-tls' or
    /// hyper-openssl's `HttpsConnector` around it. Default: none.
    ///
    /// As [`connector`](Self::connector), but for `https` the stream that comes back has to be encrypted already: TLS is the
    /// connector's, and none of this client's settings for it count. What its stream's
    /// [`Connection::connected`](hyper_util::client::legacy::connect::Connection::connected) says is honoured: HTTP/2 if
    /// ALPN chose it, the absolute form of targets if a proxy passes plain requests on, addresses if they are `HttpInfo`.
    /// Other extras are not looked at.
    ///
    /// - All that the connector does is one `connect`: there is neither `dns` nor `tls`, and nothing is known of the session.
    ///   A certificate that it refuses is a `connect_failed`, and its own error, the source, says why.
    /// - [`http2_only`](Self::http2_only) refuses a connection that did not agree to HTTP/2. [`http1_only`](Self::http1_only)
    ///   has no say: have the connector offer no HTTP/2.
    /// - A connector that returns a bare stream for `https` sends the request in the clear. `HttpConnector` alone refuses.
    ///
    /// ```
    /// use hyper_util::client::legacy::connect::HttpConnector;
    ///
    /// # fn main() -> Result<(), httptrace::Error> {
    /// let client = httptrace::Client::builder().hyper_connector(HttpConnector::new()).build()?;
    /// # drop(client); Ok(()) }
    /// ```
    #[cfg(feature = "hyper-connector")]
    pub fn hyper_connector<S>(mut self, connector: S) -> Self
    where
        S: tower_service::Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: hyper::rt::Read
            + hyper::rt::Write
            + hyper_util::client::legacy::connect::Connection
            + Send
            + Unpin
            + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        self.connector = Some(Connector::of_hyper(connector));
        self
    }

    /// Connects over this version of IP only, also to hosts that have addresses of both. Default: both.
    pub fn ip_version(mut self, version: IpVersion) -> Self {
        self.dial.ip_version = Some(version);
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

/// Sockets.
impl ClientBuilder {
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
}
