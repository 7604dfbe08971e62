//! The origins: each does what the path says.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response, Uri};
use rustls::{ServerConfig, pki_types::CertificateDer};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    kit::certificate::Identity,
    load::{At, Way},
};

pub(crate) struct Origins {
    plain: SocketAddr,
    tls: SocketAddr,
    http2: SocketAddr,
    alone: SocketAddr,
    garbage: SocketAddr,
    /// Bound, and nobody listens.
    refusing: socket2::Socket,
    root: CertificateDer<'static>,
}

impl Origins {
    pub(crate) async fn start() -> Self {
        let identity = Identity::new(&["h2", "http/1.1"]);
        let with = |alpn: &str| {
            let mut config = ServerConfig::clone(&identity.config);
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            TlsAcceptor::from(Arc::new(config))
        };
        let (http1, http2) = (with("http/1.1"), with("h2"));
        let alone = http2.clone();
        let refusing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        refusing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self {
            plain: serve(|tcp| async move {
                let _ = converse(tcp).await;
            })
            .await,
            tls: serve(move |tcp| {
                let http1 = http1.clone();
                async move {
                    if let Ok(tls) = http1.accept(tcp).await {
                        let _ = converse(tls).await;
                    }
                }
            })
            .await,
            http2: serve(move |tcp| {
                let http2 = http2.clone();
                async move {
                    if let Ok(tls) = http2.accept(tcp).await {
                        streams(tls).await;
                    }
                }
            })
            .await,
            alone: serve(move |tcp| {
                let alone = alone.clone();
                async move {
                    if let Ok(tls) = alone.accept(tcp).await
                        && let Ok(mut connection) = h2::server::handshake(tls).await
                    {
                        // Gone with the first request, whose connection it is.
                        let _ = connection.accept().await;
                    }
                }
            })
            .await,
            garbage: serve(|mut tcp| async move {
                let _ = tcp.read(&mut [0; 1]).await;
                let _ = tcp.write_all(b"SSH-2.0-nothing to see here\r\n").await;
                let _ = tcp.read(&mut [0; 1024]).await;
            })
            .await,
            refusing,
            root: identity.root,
        }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    pub(crate) fn refusing(&self) -> u16 {
        let addr = self.refusing.local_addr().ok().and_then(|addr| addr.as_socket());
        addr.expect("a bound socket").port()
    }

    pub(crate) fn url(&self, way: &Way) -> Uri {
        let (scheme, host, port) = match way.at {
            At::Plain => ("http", "127.0.0.1", self.plain.port()),
            At::Tls => ("https", "127.0.0.1", self.tls.port()),
            At::Http2 => ("https", "127.0.0.1", self.http2.port()),
            At::Alone => ("https", "127.0.0.1", self.alone.port()),
            // By its name: a lookup has its hooks too.
            At::Refusing => ("http", "origin.test", self.refusing()),
            At::Garbage => ("https", "127.0.0.1", self.garbage.port()),
        };
        format!("{scheme}://{host}:{port}/{}", way.name).parse().expect("a URL")
    }
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    connection: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let listener: TcpListener = socket.listen(1024).expect("a bound socket");
    let addr = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            tokio::spawn(connection(tcp));
        }
    });
    addr
}

/// A stream whose socket can be broken off.
trait Wire: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// HTTP/1.1, request by request, until one ends the connection.
async fn converse(mut wire: impl Wire) -> io::Result<()> {
    let mut unread = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if wire.read_buf(&mut unread).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&unread[..end]).into_owned();
        unread.drain(..end);
        let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        match path {
            "ok" | "ok-tls" => wire.write_all(OK).await?,
            "ok-then-closed" => {
                wire.write_all(OK).await?;
                return wire.shutdown().await;
            }
            "reset" => return SockRef::from(wire.tcp()).set_linger(Some(Duration::ZERO)),
            "close" => return wire.shutdown().await,
            "half-head" => {
                wire.write_all(&OK[..30]).await?;
                return wire.shutdown().await;
            }
            "half-body" => {
                wire.write_all(&OK[..OK.len() - 2]).await?;
                return wire.shutdown().await;
            }
            "malformed" => {
                wire.write_all(b"what is this\r\n\r\n").await?;
                return wire.shutdown().await;
            }
            "refuse-upload" => {
                wire.write_all(b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    .await?;
                return to_the_end(&mut wire).await;
            }
            "flood" => {
                wire.write_all(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(60)).await?;
                return to_the_end(&mut wire).await;
            }
            // `hang`, and what nobody knows.
            _ => return to_the_end(&mut wire).await,
        }
        wire.flush().await?;
    }
}

async fn to_the_end(wire: &mut impl Wire) -> io::Result<()> {
    wire.flush().await?;
    let mut rest = [0; 4096];
    while wire.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn streams(tls: TlsStream<TcpStream>) {
    let Ok(mut connection) = h2::server::handshake(tls).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(stream(request, respond));
    }
}

async fn stream(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
    match request.uri().path() {
        "/ok-http2" => {
            let mut body = respond.send_response(Response::new(()), false).ok()?;
            body.send_data(Bytes::from_static(b"hello"), true).ok()
        }
        "/half-body" => {
            let mut body = respond.send_response(Response::new(()), false).ok()?;
            body.send_data(Bytes::from_static(b"he"), false).ok()?;
            body.send_reset(Reason::INTERNAL_ERROR);
            Some(())
        }
        "/stream-reset" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Some(())
        }
        // `hang`: until the client gives it up.
        _ => std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok().map(|_| ()),
    }
}
