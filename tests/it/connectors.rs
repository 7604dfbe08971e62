//! Connectors that others have written: a Unix socket, hyper-util's own, hyper-rustls', and one that speaks of a proxy.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Uri, Version};
use httptrace::Client;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::net::TcpStream;

use crate::{
    spans::scene::{Scene, hello},
    support::{
        client::{Traced, read},
        origin::Origin,
        script::{
            Step::{AwaitClose, ReadHead},
            write,
        },
        spans::ExpectedSpan,
        timeline::ExpectedTimeline,
        within,
    },
};

const ONE_CONNECT: [&str; 5] = ["get-connection", "connect", "request-write", "response-wait", "response-read"];

#[cfg(unix)]
#[tokio::test]
async fn requests_go_to_a_unix_socket_and_reuse_it() {
    use hyper::service::service_fn;
    use tokio::net::{UnixListener, UnixStream};

    let path = std::env::temp_dir().join(format!("httptrace-{}.socket", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a free path");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        drop(listener);
        let service = service_fn(|request| async { Ok::<_, io::Error>(hello(request).await) });
        // The one connection: a second one would find nobody.
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    });
    let to = path.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let path = to.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let traced = Traced::new(Client::builder().connector(connector));
    for _ in 0..2 {
        let body = traced.read("http://socket.test/".parse().expect("a URL")).await.expect("an answer");
        assert_eq!(body, "hello");
        traced.log.settled().await;
    }
    let timelines = traced.timelines(2).await;
    ExpectedTimeline::new().phases(ONE_CONNECT).outcome("new").idle_return("pooled").check(&timelines[0]);
    ExpectedTimeline::new().outcome("idle").reused(true).idle_return("pooled").check(&timelines[1]);
    let gone = traced.client.get("http://other.test/").await.expect_err("nobody accepts any more");
    assert_eq!(gone.phase().as_str(), "connect");
    server.abort();
    let _ = std::fs::remove_file(&path);
}

// mutant: `local` and `peer` of `Said` left out
#[tokio::test]
async fn hyper_utils_connector_tells_its_addresses() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(Client::builder().hyper_connector(HttpConnector::new()));
    for _ in 0..2 {
        scene.traced.read(origin.url("/")).await.expect("an answer");
        scene.traced.log.settled().await;
    }
    assert_eq!(origin.accepted(), 1);
    let timelines = scene.traced.timelines(2).await;
    ExpectedTimeline::new().phases(ONE_CONNECT).outcome("new").check(&timelines[0]);
    let info = &timelines[1].connection.as_ref().expect("a connection").info;
    assert_eq!(info.peer, Some(origin.addr()));
    assert!(info.local.is_some_and(|local| local.ip() == origin.addr().ip()), "{info:?}");
    let spans = scene.spans(2, 10).await;
    let client = ExpectedSpan::new().with("network.peer.address", "127.0.0.1");
    client.with("network.peer.port", i64::from(origin.addr().port())).check(spans.named("GET")[0]);
    // It does no TLS, and so refuses what would go in the clear.
    let refused = scene.traced.client.get("https://127.0.0.1:1/").await.expect_err("no TLS");
    assert_eq!((refused.error_type(), refused.phase().as_str()), ("connect_failed", "connect"));
}

/// hyper-rustls' connector, which trusts this origin and offers both protocols.
fn rustls_for(origin: &Origin) -> HttpsConnector<HttpConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(origin.root_certificate()).expect("a root");
    let config = ClientConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_all_versions().build()
}

// mutants: `http2` of `Said` taken for false; `does_tls` taken for false
#[tokio::test]
async fn hyper_rustls_does_the_tls_and_its_alpn_decides() {
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let traced = Traced::new(Client::builder().hyper_connector(rustls_for(&origin)));
        for _ in 0..2 {
            let response = within("an answer", traced.get(origin.url("/"))).await.expect("an answer");
            assert_eq!(response.version(), version);
            assert_eq!(read(response).await.expect("a body"), "hello");
            traced.log.settled().await;
        }
        assert_eq!(origin.accepted(), 1, "{alpn}");
        let timelines = traced.timelines(2).await;
        ExpectedTimeline::new().phases(ONE_CONNECT).outcome("new").check(&timelines[0]);
        ExpectedTimeline::new().outcome("idle").reused(true).check(&timelines[1]);
        let info = &timelines[0].connection.as_ref().expect("a connection").info;
        assert_eq!((info.peer, info.tls.is_none()), (Some(origin.addr()), true));
        traced.log.assert_paired_over(2);
    }
}

#[tokio::test]
async fn http2_only_refuses_what_a_connector_did_not_agree_on() {
    let origin = Origin::tls_with_alpn(&["http/1.1"]).serve(hello);
    let traced = Traced::new(Client::builder().hyper_connector(rustls_for(&origin)).http2_only());
    let error = traced.read(origin.url("/")).await.expect_err("HTTP/1.1 alone");
    assert_eq!(error.error_type(), "tls_protocol_error");
    assert_eq!(origin.served(), 0);
    traced.log.settled().await.assert_paired();
}

/// A connection to a proxy that passes requests on.
struct ToProxy(TokioIo<TcpStream>);

impl Connection for ToProxy {
    fn connected(&self) -> Connected {
        Connected::new().proxy(true)
    }
}

impl Read for ToProxy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for ToProxy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn to_proxy(proxy: SocketAddr) -> impl Future<Output = io::Result<ToProxy>> + Send {
    async move { TcpStream::connect(proxy).await.map(|stream| ToProxy(TokioIo::new(stream))) }
}

#[tokio::test]
async fn a_proxy_at_the_other_end_gets_the_whole_target_without_credentials() {
    let proxy = Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose]);
    let addr = proxy.addr();
    let traced = Traced::new(Client::builder().hyper_connector(tower::service_fn(move |_: Uri| to_proxy(addr))));
    let url = "http://user:planted@far.test:8080/path?query".parse().expect("a URL");
    traced.read(url).await.expect("an answer");
    assert_eq!(proxy.record().requests[0].target, "http://far.test:8080/path?query");
}
