//! The three stories that `ARCHITECTURE.md` walks through the house, told by the real code.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use httptrace::Client;

use crate::support::{
    client::{Traced, read},
    dns::FakeResolver,
    gate::Gate,
    origin::Origin,
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, ReadHead},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

#[tokio::test]
async fn a_cold_https_request() {
    for (origin, protocol) in [
        (Origin::tls_with_alpn(&["http/1.1"]).serve(hello), "http/1.1"),
        (Origin::tls_with_alpn(&["h2", "http/1.1"]).serve(hello), "h2"),
    ] {
        let traced = Traced::new(origin.client_builder());
        let body = traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
        assert_eq!(body, "hello");
        let timeline = traced.timeline().await;
        ExpectedTimeline::new()
            .phases(["get-connection", "dns", "connect", "tls", "request-write", "response-wait", "response-read"])
            .outcome("new")
            .reused(false)
            .status(200)
            .response("complete")
            .idle_return("pooled")
            .check(&timeline);
        let tls = timeline.connection.and_then(|connection| connection.info.tls.clone()).expect("TLS");
        assert_eq!((tls.version, tls.alpn.as_deref(), tls.resumed), ("1.3", Some(protocol), false));
        assert_eq!(tls.server_name.as_deref(), Some("origin.test"));
        assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
        traced.log.settled().await.assert_paired();
        let names = traced.log.names();
        let order = [
            "get_conn",
            "dns_start",
            "dns_done",
            "connect_start",
            "connect_done",
            "tls_handshake_start",
            "tls_handshake_done",
            "got_conn",
            "wrote_headers",
            "wrote_request",
            "got_first_response_byte",
            "response_done",
            "put_idle_conn",
        ];
        let told: Vec<_> = names.into_iter().filter(|name| *name != "wrote_header_field").collect();
        assert_eq!(told, order);
    }
}

#[tokio::test]
async fn a_stale_reuse_that_is_retried() {
    // The first connection answers once, reads the second request, and closes without a word.
    let stale = vec![ReadHead, write(OK), ReadHead, Close];
    let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("the first response");
    traced.log.settled().await;
    traced.read(origin.url("/")).await.expect("the second response, on the second try");
    traced.log.settled().await.assert_paired_over(2);
    let timelines = traced.timelines(3).await;
    ExpectedTimeline::new()
        .phases(["request-write", "response-wait"])
        .outcome("idle")
        .reused(true)
        .error("response-wait", "connection_closed")
        .idle_return("closed peer_closed")
        .check(&timelines[1]);
    ExpectedTimeline::new().outcome("new").reused(false).status(200).idle_return("pooled").check(&timelines[2]);
    assert_eq!((timelines[1].request.attempt, timelines[2].request.attempt), (1, 2));
    assert_eq!((timelines[1].request.resend_count, timelines[2].request.resend_count), (0, 1));
    assert_eq!(traced.log.details("retry"), ["#2 stale_connection"]);
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_stale_reuse_that_may_not_be_retried_fails_once() {
    let stale = vec![ReadHead, write(OK), ReadHead, Close];
    let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("the first response");
    traced.log.settled().await;
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from_static(b"once"))).expect("a request");
    let error = within("an end", traced.client.request(request)).await.expect_err("a POST is not sent twice");
    assert_eq!(error.error_type(), "connection_closed");
    assert_eq!((traced.log.count("retry"), origin.accepted()), (0, 1));
}

/// Go: TestTransportPoolConnConnectionBroken.
#[tokio::test]
async fn an_idle_connection_that_the_peer_closed_is_passed_over_with_nothing_sent() {
    let closes = vec![ReadHead, write(OK), AtGate("close"), Close];
    let origin = Origin::plain().scripts([closes, vec![ReadHead, write(OK), AwaitClose]]);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("the first response");
    traced.log.settled().await;
    origin.gate("close").open();
    traced.log.wait_for("conn_closed", 1).await;
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from_static(b"safe"))).expect("a request");
    let response = within("a response", traced.client.request(request)).await.expect("whatever the method");
    read(response).await.expect("a body");
    assert_eq!(traced.log.count("retry"), 0, "nothing was sent, so nothing was tried twice");
    ExpectedTimeline::new().outcome("new").check(&traced.timelines(2).await[1]);
}

/// Go: TestTransportPoolConnCancelRequestReusesConn.
#[tokio::test]
async fn a_cancelled_request_whose_dial_goes_on_and_serves_another() {
    let gate = Gate::new();
    let origin = Origin::tls().serve(hello);
    let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
    let builder = Client::builder().root_certificates(vec![origin.root_certificate()]);
    let traced = Traced::new(builder.resolver(Arc::new(resolver)));
    let first = tokio::spawn(traced.get(origin.url_at("origin.test", "/first")));
    gate.reached().await;
    first.abort();
    let canceled = traced.timeline().await;
    ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", "canceled").check(&canceled);
    // The second one finds the dial under way and waits for it, instead of making its own.
    let second = tokio::spawn(traced.get(origin.url_at("origin.test", "/second")));
    traced.log.wait_for("get_conn", 2).await;
    gate.open();
    read(second.await.expect("no panic").expect("a response")).await.expect("a body");
    traced.log.settled().await.assert_paired_over(2);
    let second = traced.timelines(2).await.remove(1);
    ExpectedTimeline::new()
        .phases(["get-connection", "request-write", "response-wait", "response-read"])
        .outcome("handed_over")
        .reused(false)
        .check(&second);
    assert_eq!(second.wait.and_then(|wait| wait.cause).map(|cause| cause.as_str()), Some("other_dial"));
    assert_eq!(origin.accepted(), 1, "one dial served both");
    assert_eq!(traced.log.count("connect_start"), 1);
    // The first one's record was finished when it gave up, and stayed as it was.
    let first = traced.timeline().await;
    ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", "canceled").check(&first);
}
