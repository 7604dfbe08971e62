//! hyper-util's legacy client and this one, by the same calls: what is built changes, and nothing that is done with it.
//!
//! But for two things: `capture_connection` captures nothing, and what a connector says of itself (`Connected::extra`) does
//! not come with the response. What they are used for is in the `Timeline`: the addresses, and whether it was reused.
//!
//! A connector may stay (`hyper_connector`): here hyper-tls', with the TLS of the system's OpenSSL. hyper-rustls' is one of
//! the crate's own tests (`tests/it/connectors.rs`).

use std::{
    error::Error as _,
    future::{Ready, ready},
    io, iter,
    net::SocketAddr,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use httptrace::Client;
use hyper_tls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client as Legacy,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use native_tls::{Certificate, TlsConnector};
use tower::{ServiceExt, service_fn, util::ServiceFn};

use crate::{
    attempts,
    scene::Scene,
    support::{
        origin::{Origin, OriginBuilder, Refusing},
        spans::ExpectedSpan,
        within,
    },
};

/// What a program does with its client. A macro, since the two have no trait in common that names these.
macro_rules! work {
    ($client:expr, $url:expr) => {{
        let (client, url) = (&$client, $url);
        let response = client.get(url("/a")).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/a");
        let request = Request::post(url("/b")).body(Full::<Bytes>::from("tea")).expect("a request");
        let response = client.request(request).await.expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/b tea");
        let request = Request::get(url("/c")).body(Full::<Bytes>::default()).expect("a request");
        let response = client.clone().oneshot(request).await.expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/c");

        let refusing = Refusing::new();
        let nobody: Uri = format!("http://{}/", refusing.addr()).parse().expect("a URL");
        assert!(client.get(nobody).await.expect_err("nobody there").is_connect());
    }};
}

fn serve(origin: OriginBuilder) -> Origin {
    origin.serve(|request| async move {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let said = format!("{path} {}", String::from_utf8_lossy(&body));
        http::Response::new(Full::<Bytes>::from(said.trim_end().to_owned()))
    })
}

#[tokio::test]
async fn the_same_calls_do_the_same_and_make_spans() {
    let before = serve(Origin::plain());
    let legacy: Legacy<HttpConnector, Full<Bytes>> = Legacy::builder(TokioExecutor::new()).build_http();
    within("the work", async { work!(legacy, |path| before.url(path)) }).await;

    let after = serve(Origin::plain());
    let scene = Scene::new(after.client_builder());
    within("the work", async { work!(scene.traced.client, |path| after.url(path)) }).await;
    assert_eq!((before.accepted(), after.accepted()), (1, 1));
    let spans = scene.spans(4, 17).await;
    assert_eq!((spans.named("GET").len(), spans.named("POST").len()), (3, 1), "{spans}");
}

/// Every name is this machine's.
type Local = ServiceFn<fn(Name) -> Ready<io::Result<iter::Once<SocketAddr>>>>;

/// hyper-tls' connector, which trusts this origin's authority and no other, and offers this by ALPN.
fn hyper_tls_for(origin: &Origin, alpn: &[&str]) -> HttpsConnector<HttpConnector<Local>> {
    let root = Certificate::from_der(&origin.root_certificate()).expect("a certificate");
    let mut tls = TlsConnector::builder();
    // Whatever the machine trusts is no matter of the test.
    tls.disable_built_in_roots(true).add_root_certificate(root).request_alpns(alpn);
    let local: Local = service_fn(|_| ready(Ok(iter::once(SocketAddr::from(([127, 0, 0, 1], 0))))));
    let mut http = HttpConnector::new_with_resolver(local);
    http.enforce_http(false);
    HttpsConnector::from((http, tls.build().expect("settings that fit").into()))
}

#[tokio::test]
async fn hyper_tls_stays_below_and_what_its_alpn_chose_is_spoken() {
    for (offered, chosen, version) in
        [(&["h2", "http/1.1"][..], Some("h2"), "2"), (&["http/1.1"], Some("http/1.1"), "1.1"), (&[], None, "1.1")]
    {
        let before = serve(Origin::tls());
        let legacy = Legacy::builder(TokioExecutor::new()).build(hyper_tls_for(&before, offered));
        within("the work", async { work!(legacy, |path| before.url_at("origin.test", path)) }).await;

        let after = serve(Origin::tls());
        let scene = Scene::new(Client::builder().hyper_connector(hyper_tls_for(&after, offered)));
        within("the work", async { work!(scene.traced.client, |path| after.url_at("origin.test", path)) }).await;
        for origin in [&before, &after] {
            let connections = origin.record().connections;
            let alpn: Vec<_> = connections.iter().map(|connection| connection.alpn.as_deref()).collect();
            assert_eq!(alpn, [chosen], "one connection for all of it");
        }

        let spans = scene.spans(4, 17).await;
        // Of the lookup and the handshake, which there were, nothing is told: they are in the `connect`.
        let count = ["connect", "dns", "tls"].map(|name| spans.named(name).len());
        assert_eq!(count, [2, 0, 0], "with that of the refused one\n{spans}");
        for timeline in &scene.traced.timelines(4).await[..3] {
            let info = &timeline.connection.as_ref().expect("a connection").info;
            assert_eq!((info.peer, info.tls.is_none()), (Some(after.addr()), true));
        }
        let [first, third, _] = attempts(&spans, "GET")[..] else { panic!("{spans}") };
        for (span, path) in [(first, "/a"), (spans.only("POST"), "/b"), (third, "/c")] {
            ExpectedSpan::new()
                .with("url.full", after.url_at("origin.test", path).to_string())
                .with("server.address", "origin.test")
                .with("server.port", i64::from(after.addr().port()))
                .with("network.protocol.version", version)
                .with("network.peer.address", "127.0.0.1")
                .with("network.peer.port", i64::from(after.addr().port()))
                .check(span);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_hyper_tls_refuses_fails_the_connect_and_leaves_nothing_open() {
    let other = serve(Origin::tls());
    // OpenSSL's words, of which 1.1 began the second with a capital.
    for (trusted, host, reason) in [(false, "origin.test", "issuer"), (true, "another.test", "ostname mismatch")] {
        let origin = serve(Origin::tls());
        let connector = hyper_tls_for(if trusted { &origin } else { &other }, &["h2", "http/1.1"]);
        let scene = Scene::new(Client::builder().hyper_connector(connector));
        let error = within("an end", scene.traced.get(origin.url_at(host, "/"))).await.expect_err("no trust");
        assert_eq!((error.error_type(), error.phase().as_str()), ("connect_failed", "connect"));
        assert!(error.is_connect());
        let told = error.source().expect("the connector's own error").to_string();
        assert!(told.contains("certificate verify failed") && told.contains(reason), "{told}");

        origin.until_closed(1).await;
        let record = origin.record();
        assert!(record.connections[0].handshake_error.is_some(), "{record:?}");
        assert_eq!((origin.accepted(), origin.served()), (1, 0));
        let spans = scene.spans(1, 3).await;
        for name in ["GET", "connect"] {
            ExpectedSpan::new().error("connect_failed").check(spans.only(name));
        }
        scene.traced.log.settled().await.assert_paired();
    }
}
