//! Which spans a failure marks, and with what.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use httptrace::Client;
use opentelemetry::trace::Status;

use super::scene::{Scene, hello};
use crate::support::{
    client::read,
    dns::FakeResolver,
    gate::Gate,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, ReadHead},
        write,
    },
    spans::ExpectedSpan,
};

#[tokio::test]
async fn a_refused_connect_marks_its_span_and_all_above_it() {
    let refusing = Refusing::new();
    let scene = Scene::new(Client::builder());
    let url = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    scene.traced.read(url).await.expect_err("nobody listens");
    let spans = scene.spans(1, 3).await;
    assert_eq!(spans.to_string(), "GET\n  get-connection\n    connect\n");
    for name in ["GET", "get-connection", "connect"] {
        ExpectedSpan::new().error("connection_refused").events([]).links(0).check(spans.only(name));
    }
    ExpectedSpan::new()
        .error("connection_refused")
        .without("httptrace.connection.id")
        .without("http.response.status_code")
        .without("network.peer.address")
        .check(spans.only("GET"));
}

#[tokio::test]
async fn a_failed_try_that_another_one_made_good_marks_only_itself() {
    let origin = Origin::plain().serve(hello);
    let addrs = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let resolver = FakeResolver::new().answer("two.test", addrs);
    let scene = Scene::new(Client::builder().resolver(Arc::new(resolver)));
    scene.traced.read(origin.url_at("two.test", "/")).await.expect("the second address");
    let spans = scene.spans(1, 8).await;
    let [lost, won] = *spans.named("connect") else { panic!("two tries\n{spans}") };
    assert!(matches!(lost.status, Status::Error { .. }), "{lost:?}");
    ExpectedSpan::new().with("httptrace.connect.attempt", 2).with("network.type", "ipv4").check(won);
    for name in ["GET", "get-connection", "dns"] {
        ExpectedSpan::new().check(spans.only(name));
    }
}

#[tokio::test]
async fn a_canceled_request_says_so_and_is_nobodys_fault() {
    let origin = Origin::plain().script([ReadHead, AtGate("never")]);
    let scene = Scene::new(origin.client_builder());
    let request = tokio::spawn(scene.traced.get(origin.url("/")));
    origin.gate("never").reached().await;
    scene.traced.log.wait_for("wrote_request", 1).await;
    request.abort();
    let spans = scene.spans(1, 5).await;
    assert_eq!(spans.to_string(), "GET\n  get-connection\n    connect\n  request-write\n  response-wait\n");
    for name in ["GET", "response-wait"] {
        ExpectedSpan::new().canceled().check(spans.only(name));
        assert_eq!(spans.only(name).status, Status::Unset);
    }
    for name in ["get-connection", "connect", "request-write"] {
        ExpectedSpan::new().check(spans.only(name));
    }
    ExpectedSpan::new().canceled().events(["idle-return"]).check(spans.only("GET"));
}

#[tokio::test]
async fn a_background_dial_that_fails_marks_its_own_spans() {
    let gate = Gate::new();
    let refusing = Refusing::new();
    let resolver = FakeResolver::new().local("gone.test").hold("gone.test", &gate);
    let scene = Scene::new(Client::builder().resolver(Arc::new(resolver)));
    let url = format!("http://gone.test:{}/", refusing.addr().port()).parse().expect("a URL");
    let request = tokio::spawn(scene.traced.get(url));
    gate.reached().await;
    request.abort();
    scene.traced.timelines(1).await;
    gate.open();
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().canceled().check(spans.only("GET"));
    let dial = spans.only("background-dial");
    ExpectedSpan::new()
        .under(spans.only("GET"))
        .error("connection_refused")
        .with("httptrace.dial.outcome", "failed")
        .check(dial);
    ExpectedSpan::new().under(dial).error("connection_refused").check(spans.only("connect"));
}

#[tokio::test]
async fn a_status_of_400_or_above_marks_the_client_span_alone() {
    let origin = Origin::plain().serve(|_: Request<_>| async {
        Response::builder().status(StatusCode::NOT_FOUND).body(Full::from("none")).expect("a response")
    });
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url("/")).await.expect("a response");
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().error("404").with("http.response.status_code", 404).check(spans.only("GET"));
    for name in ["get-connection", "connect", "request-write", "response-wait", "response-read"] {
        ExpectedSpan::new().check(spans.only(name));
    }
}

#[tokio::test]
async fn an_exchange_that_fails_after_its_status_shows_the_failure() {
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\nhalf"), Close]);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url("/")).await.expect_err("four bytes of nine");
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().error("body_incomplete").with("http.response.status_code", 503).check(spans.only("GET"));
    ExpectedSpan::new()
        .error("body_incomplete")
        .with("httptrace.response.outcome", "failed")
        .with("http.response.body.size", 4)
        .check(spans.only("response-read"));
    ExpectedSpan::new().check(spans.only("response-wait"));
}

#[tokio::test]
async fn a_retry_is_a_sibling_and_only_the_first_try_failed() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let stale = vec![ReadHead, write(OK), ReadHead, Close];
    let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url("/")).await.expect("the first response");
    scene.traced.log.settled().await;
    let application = scene.application();
    let response = {
        let _current = application.clone().attach();
        scene.traced.get(origin.url("/"))
    };
    read(response.await.expect("on the second try")).await.expect("a body");
    drop(application);
    // GET with five; application; GET with request-write and response-wait; GET with five.
    let spans = scene.spans(3, 16).await;
    let tries = spans.children(spans.only("application"));
    let [failed, good] = *tries else { panic!("two siblings\n{spans}") };
    let first = ExpectedSpan::new().error("connection_closed").without("http.request.resend_count");
    first.without("httptrace.retry.reason").links(1).check(failed);
    let second = ExpectedSpan::new().with("http.request.resend_count", 1).with("http.response.status_code", 200);
    second.with("httptrace.retry.reason", "stale_connection").check(good);
    // Each attempt carried the identity of its own span.
    let sent = origin.record().requests;
    for (request, span) in sent[1..].iter().zip([failed, good]) {
        assert_eq!(request.traceparent(), Some(&*super::scene::traceparent(&span.span_context)));
    }
}
