//! Several requests to an `https` origin that has no connection yet: one dial, or as many as there are requests.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use httptrace::{Client, dial::ColdDials, hooks::WaitCause};

use super::LIMIT;
use crate::support::{
    client::{Traced, read},
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::Origin,
    pass, within,
};

async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

#[tokio::test]
async fn parallel_cold_requests_dial_at_once_whatever_the_protocol() {
    for alpn in ["h2", "http/1.1"] {
        let origin = Origin::tls_with_alpn(&[alpn]).gate_handshake().serve(hello);
        let traced = Traced::new(origin.client_builder().cold_dials(ColdDials::Parallel));
        let requests = [0; 4].map(|_| tokio::spawn(traced.get(origin.url("/"))));
        // No handshake ends before all have begun.
        traced.log.wait_for("tls_handshake_start", 4).await;
        origin.gate("handshake").open();
        for request in requests {
            read(within("a response", request).await.expect("no panic").expect("a response")).await.expect("a body");
        }
        for timeline in traced.timelines(4).await {
            assert_eq!(timeline.wait.and_then(|wait| wait.cause), Some(WaitCause::Dial), "{alpn}");
        }
        traced.log.settled().await.assert_paired_over(4);
        assert_eq!(origin.accepted(), 4);
    }
}

#[tokio::test]
async fn cold_requests_wait_for_one_dial_and_http1_is_remembered_when_its_connections_are_gone() {
    let origin = Origin::tls_with_alpn(&["http/1.1"]).gate_handshake().serve(hello);
    // No connection is kept: after each response, the pool knows nothing of the host but its protocol.
    let traced = Traced::new(origin.client_builder().pool_max_idle(0));
    let requests = [0; 3].map(|_| tokio::spawn(traced.get(origin.url("/"))));
    traced.log.wait_for("get_conn", 3).await;
    origin.gate("handshake").reached().await;
    assert_eq!(traced.log.count("tls_handshake_start"), 1);
    origin.gate("handshake").open();
    for request in requests {
        read(within("a response", request).await.expect("no panic").expect("a response")).await.expect("a body");
    }
    let causes = traced.timelines(3).await.into_iter().map(|timeline| timeline.wait.and_then(|wait| wait.cause));
    let waited = causes.filter(|cause| *cause == Some(WaitCause::OtherDial)).count();
    assert_eq!(waited, 2);
    traced.log.wait_for("conn_closed", 3).await;
    let requests = [0; 3].map(|_| tokio::spawn(traced.get(origin.url("/"))));
    for request in requests {
        read(within("a response", request).await.expect("no panic").expect("a response")).await.expect("a body");
    }
    for timeline in traced.timelines(6).await.split_off(3) {
        assert_eq!(timeline.wait.and_then(|wait| wait.cause), Some(WaitCause::Dial));
    }
    traced.log.settled().await.assert_paired_over(6);
    assert_eq!(origin.accepted(), 6);
}

#[tokio::test]
async fn a_cold_dial_that_fails_has_failed_for_all_who_waited_for_it() {
    let gate = Gate::new();
    let resolver = FakeResolver::new().fail("gone.test", Failure::HostNotFound).hold("gone.test", &gate);
    for limit in [None, Some(2)] {
        let mut builder = Client::builder().resolver(Arc::new(resolver.clone()));
        if let Some(limit) = limit {
            builder = builder.max_connections_per_host(limit);
        }
        let traced = Traced::new(builder);
        let before = resolver.lookups("gone.test");
        let requests = [0; 3].map(|_| tokio::spawn(traced.get("https://gone.test/".parse().expect("a URL"))));
        traced.log.wait_for("get_conn", 3).await;
        traced.log.wait_for("dns_start", 1).await;
        gate.open();
        for request in requests {
            let error = within("an error", request).await.expect("no panic").expect_err("no such name");
            assert_eq!((error.phase().as_str(), error.error_type()), ("dns", "host_not_found"));
        }
        traced.log.settled().await.assert_paired_over(3);
        assert_eq!((traced.log.count("dns_start"), resolver.lookups("gone.test") - before), (1, 1));
    }
}

#[tokio::test]
async fn another_requests_dial_is_waited_for_no_longer_than_an_own_one() {
    let gate = Gate::new();
    let origin = Origin::tls().serve(hello);
    let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
    let traced = Traced::new(origin.client_builder().resolver(Arc::new(resolver)).connect_timeout(2 * LIMIT));
    let first = tokio::spawn(traced.get(origin.url_at("origin.test", "/first")));
    gate.reached().await;
    pass(LIMIT).await;
    let second = tokio::spawn(traced.get(origin.url_at("origin.test", "/second")));
    traced.log.wait_for("get_conn", 2).await;
    pass(LIMIT).await;
    // The dial had its time. Whoever waited for it gets its error, and does not begin anew.
    for request in [first, second] {
        let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
        assert_eq!((error.phase().as_str(), error.error_type()), ("dns", "timeout"));
    }
    assert_eq!(traced.log.count("dns_start"), 1);
    traced.log.settled().await.assert_paired_over(2);
}
