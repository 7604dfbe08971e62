//! The origins, the gate and the resolver, asked by plain sockets and by hyper's own client.

use std::{io::ErrorKind, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use httptrace::dial::Resolve;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, Close, Gate as At, Read, ReadHead, Reset, Stall},
        write,
    },
    within,
};

#[tokio::test]
async fn a_gate_holds_until_it_is_opened_and_then_stays_open() {
    let gate = Gate::new();
    let held = tokio::spawn({
        let gate = gate.clone();
        async move { gate.wait().await }
    });
    gate.reached().await;
    assert!(!held.is_finished());
    gate.open();
    held.await.expect("let go");
    gate.wait().await;
}

#[tokio::test]
async fn a_script_is_played_step_by_step_and_what_it_read_is_recorded() {
    let origin = Origin::plain().script([ReadHead, write("one"), At("middle"), Read(4), write("two")]);
    let mut tcp = TcpStream::connect(origin.addr()).await.expect("it listens");
    tcp.write_all(b"PUT /a HTTP/1.1\r\nTraceparent: 00-1-2-03\r\n\r\nbo").await.expect("it reads");
    let mut answer = [0; 3];
    tcp.read_exact(&mut answer).await.expect("the first write");
    origin.gate("middle").reached().await;
    assert_eq!(&answer, b"one");
    origin.gate("middle").open();
    tcp.write_all(b"dy").await.expect("it reads");
    let mut rest = String::new();
    tcp.read_to_string(&mut rest).await.expect("closed politely");
    assert_eq!(rest, "two");
    drop(tcp);
    origin.until_closed(1).await;
    let mut record = origin.record();
    assert_eq!((origin.accepted(), origin.served(), record.connections_used()), (1, 1, 1));
    assert_eq!(record.connection(1).heads, ["PUT /a HTTP/1.1\r\nTraceparent: 00-1-2-03\r\n\r\n"]);
    assert!(record.connection(1).received.ends_with(b"\r\n\r\nbody"));
    let request = &record.requests[0];
    assert_eq!((&*request.method, &*request.target, request.connection), ("PUT", "/a", 1));
    assert_eq!(request.traceparent(), Some("00-1-2-03"));
}

#[tokio::test]
async fn each_connection_plays_its_own_script_and_the_last_one_is_for_all_others() {
    let origin = Origin::plain().scripts([vec![write("first"), Close, write("never")], vec![write("other")]]);
    for expected in ["first", "other", "other"] {
        assert_eq!(all_of(&origin).await.expect("closed politely"), expected);
    }
    assert_eq!(origin.accepted(), 3);
    assert_eq!(origin.record().connections_used(), 0);
}

#[tokio::test]
async fn reset_breaks_the_connection_off() {
    let origin = Origin::plain().script([At("connected"), Reset]);
    let mut tcp = TcpStream::connect(origin.addr()).await.expect("it listens");
    origin.gate("connected").open();
    let error = within("the reset", tcp.read(&mut [0])).await.expect_err("no end, a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stall_keeps_the_connection_open_until_the_origin_is_dropped() {
    let origin = Origin::plain().script([write("x"), Stall]);
    let mut tcp = TcpStream::connect(origin.addr()).await.expect("it listens");
    tcp.read_exact(&mut [0]).await.expect("the write");
    assert_eq!(tcp.try_read(&mut [0]).expect_err("nothing more").kind(), ErrorKind::WouldBlock);
    drop(origin);
    assert_eq!(within("the end", tcp.read(&mut [0])).await.expect("closed"), 0);
}

#[tokio::test]
async fn await_close_returns_when_the_client_has_gone() {
    let origin = Origin::plain().script([AwaitClose, At("gone")]);
    drop(TcpStream::connect(origin.addr()).await.expect("it listens"));
    origin.gate("gone").reached().await;
}

#[tokio::test]
async fn a_tls_origin_speaks_what_alpn_chooses() {
    let origin = Origin::tls().serve(|request| async move { Response::new(format!("{:?}", request.version())) });
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let tls = handshake(&origin, "origin.test", alpn).await.expect("a leaf for this name");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        assert_eq!(get(&origin, TokioIo::new(tls), version).await, format!("{version:?}"));
    }
    let record = origin.record();
    let alpn: Vec<_> = record.connections.iter().map(|connection| connection.alpn.as_deref()).collect();
    assert_eq!(alpn, [Some("h2"), Some("http/1.1")]);
    assert_eq!(record.connections_used(), 2);
}

#[tokio::test]
async fn a_tls_origin_is_not_trusted_by_chance_and_not_for_another_name() {
    let (origin, other) = (Origin::tls().script([Stall]), Origin::tls().script([Stall]));
    let mismatch = handshake(&origin, "other.test", "h2").await.expect_err("another name");
    assert!(mismatch.to_string().contains("not valid for name"), "{mismatch}");
    let roots = other.root_certificate();
    let unknown = handshake_with(&origin, "origin.test", "h2", roots).await.expect_err("another authority");
    assert!(unknown.to_string().contains("UnknownIssuer") || unknown.to_string().contains("BadSignature"), "{unknown}");
    origin.until_closed(1).await;
    origin.until_closed(2).await;
    assert!(origin.record().connections.iter().all(|connection| connection.handshake_error.is_some()));
}

#[tokio::test]
async fn a_held_handshake_waits_for_the_test() {
    let origin = Origin::tls_with_alpn(&["http/1.1"]).gate_handshake().script([write("hello")]);
    let (handshake, ()) = tokio::join!(handshake(&origin, "localhost", "http/1.1"), async {
        origin.gate("handshake").reached().await;
        origin.gate("handshake").open();
    });
    let mut text = String::new();
    handshake.expect("let go").read_to_string(&mut text).await.expect("closed politely");
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn an_http2_origin_counts_the_streams_at_work() {
    let (both, served) = (Gate::new(), Gate::new());
    let origin = Origin::plain().http2().max_streams(7).serve({
        let (both, served) = (both.clone(), served.clone());
        move |request| {
            let (both, served) = (both.clone(), served.clone());
            async move {
                if request.uri().path() == "/1" {
                    both.wait().await
                } else {
                    served.open()
                }
                Response::new(String::new())
            }
        }
    });
    let tcp = TokioIo::new(TcpStream::connect(origin.addr()).await.expect("it listens"));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), tcp).await.expect("HTTP/2");
    tokio::spawn(connection);
    let send = |path| {
        let request = Request::get(origin.url(path)).body(Empty::<Bytes>::new()).expect("a request");
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request).await.expect("an answer") })
    };
    let first = send("/1");
    both.reached().await;
    let second = send("/2");
    served.wait().await;
    both.open();
    let _ = (first.await.expect("no panic"), second.await.expect("no panic"));
    let mut record = origin.record();
    let seen: Vec<_> = record.requests.iter().map(|request| (request.connection, request.in_flight)).collect();
    assert_eq!(seen, [(1, 1), (1, 2)]);
    assert_eq!(record.connection(1).in_flight, 0);
}

#[tokio::test]
async fn nobody_listens_where_connections_are_to_be_refused() {
    let refusing = Refusing::new();
    let error = TcpStream::connect(refusing.addr()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_resolver_answers_in_turn_counts_and_waits_at_its_gate() {
    let gate = Gate::new();
    let resolver = FakeResolver::new()
        .fail("a.test", Failure::TryAgain)
        .local("a.test")
        .fail("b.test", Failure::NoRecovery)
        .fail("c.test", Failure::NoAddresses)
        .local("d.test")
        .hold("d.test", &gate);
    let error = |name: &'static str| {
        let lookup = resolver.resolve(name);
        async move { lookup.await.expect_err("a failure").to_string() }
    };
    assert_eq!(error("a.test").await, "try_again");
    assert_eq!(resolver.resolve("a.test").await.expect("its second answer").len(), 1);
    assert_eq!(resolver.resolve("a.test").await.expect("the last one again").len(), 1);
    assert_eq!((resolver.lookups("a.test"), resolver.lookups("never.test")), (3, 0));
    assert_eq!(error("b.test").await, "no_recovery");
    assert_eq!(error("c.test").await, "no_addresses");
    assert_eq!(error("unknown.test").await, "host_not_found");
    let held = tokio::spawn(resolver.resolve("d.test"));
    gate.reached().await;
    assert!(!held.is_finished());
    gate.open();
    assert!(held.await.expect("no panic").is_ok());
}

async fn all_of(origin: &Origin) -> std::io::Result<String> {
    let mut text = String::new();
    TcpStream::connect(origin.addr()).await?.read_to_string(&mut text).await?;
    Ok(text)
}

async fn handshake(origin: &Origin, name: &'static str, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
    handshake_with(origin, name, alpn, origin.root_certificate()).await
}

async fn handshake_with(
    origin: &Origin,
    name: &'static str,
    alpn: &str,
    root: rustls::pki_types::CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider's own versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let tcp = TcpStream::connect(origin.addr()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).expect("a name"), tcp).await
}

async fn get(origin: &Origin, io: TokioIo<TlsStream<TcpStream>>, version: Version) -> String {
    let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let body = response.expect("an answer").into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}
