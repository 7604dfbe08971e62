//! What Go's tests of its transport's pool ask for, by what they promise. Those that stand elsewhere (`pool/limits.rs`,
//! `pool/outcomes.rs`, `rules.rs`) have the same note.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use httptrace::Timeline;

use crate::support::{
    client::{Traced, read},
    dns::FakeResolver,
    gate::Gate,
    origin::Origin,
    pass, within,
};

async fn hello<B>(_: B) -> Response<Full<Bytes>> {
    Response::new(Full::from("ok"))
}

fn used(timeline: &Timeline) -> (&'static str, u64) {
    let used = timeline.connection.as_ref().expect("a connection");
    (used.outcome.as_str(), used.request_number)
}

/// Go: TestTransportPoolConnConnectionBecomesAvailableDuringDial.
#[tokio::test]
async fn a_dial_that_was_overtaken_serves_the_next_request() {
    let origin = Origin::plain().serve(hello);
    let (gate, resolver) = (Gate::new(), FakeResolver::new().local("origin.test"));
    let builder = origin.client_builder().resolver(Arc::new(resolver.clone()));
    let traced = Traced::new(builder.max_connections_per_host(2));
    let url = origin.url_at("origin.test", "/");
    let first = within("a head", traced.get(url.clone())).await.expect("a response");
    let _held = resolver.hold("origin.test", &gate);
    let second = tokio::spawn(traced.get(url.clone()));
    gate.reached().await;
    read(first).await.expect("a body");
    // It stays in use, so that the third has nothing but the dial.
    let second = within("the second", second).await.expect("no panic").expect("a response");
    let third = tokio::spawn(traced.read_later(url));
    tokio::task::yield_now().await;
    gate.open();
    within("the third", third).await.expect("no panic").expect("a response");
    read(second).await.expect("a body");
    traced.log.settled().await.assert_paired_over(3);
    let outcomes: Vec<_> = traced.timelines(3).await.iter().map(used).collect();
    let expected = [("new", 1), ("handed_over", 1), ("handed_over", 2)];
    assert_eq!(outcomes, expected, "{}", traced.log);
    assert_eq!(origin.accepted(), 2);
}

/// Go: TestTransportMaxIdleConns.
#[tokio::test]
async fn the_fifth_host_closes_the_idle_connection_of_the_first() {
    let origins: Vec<_> = (0..5).map(|_| Origin::plain().serve(hello)).collect();
    let traced = Traced::new(origins[0].client_builder().pool_max_idle(4));
    for origin in &origins {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
    }
    origins[0].until_closed(1).await;
    // From the second to the last, and the first again, which closes the second's.
    for origin in origins[1..].iter().chain([&origins[0]]) {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
    }
    origins[1].until_closed(1).await;
    traced.log.assert_paired_over(10);
    let accepted: Vec<_> = origins.iter().map(Origin::accepted).collect();
    assert_eq!(accepted, [2, 1, 1, 1, 1]);
}

/// Go: TestTransportCloseIdleConnsThenReturn.
#[tokio::test]
async fn connections_that_come_back_after_the_idle_ones_were_closed_are_kept() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    let held = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    for _ in 0..2 {
        traced.client.close_idle_connections();
    }
    read(held).await.expect("a body");
    traced.log.settled().await;
    assert_eq!(traced.log.details("put_idle_conn"), ["pooled"]);
    traced.read(origin.url("/")).await.expect("a response");
    assert_eq!(origin.accepted(), 1);
    traced.log.settled().await;
    traced.client.close_idle_connections();
    origin.until_closed(1).await;
}

/// Go: TestTransportIdleConnRacesRequest.
#[tokio::test]
async fn a_request_at_the_moment_of_the_idle_timeout_gets_a_connection_that_lives() {
    let timeout = Duration::from_secs(60);
    for http2 in [false, true] {
        let origin = if http2 { Origin::plain().http2() } else { Origin::plain() }.serve(hello);
        let builder = origin.client_builder().pool_idle_timeout(timeout);
        let traced = Traced::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
        pass(timeout).await;
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await.assert_paired_over(2);
        assert_eq!(traced.log.count("retry"), 0, "HTTP/2: {http2}");
    }
}
