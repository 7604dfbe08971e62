//! When a request dials, when it does not, and what becomes of a dial that nobody waits for any more.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use httptrace::{Client, ClientBuilder};
use hyper::body::Incoming;

use crate::support::{
    client::{Traced, read},
    dns::FakeResolver,
    gate::Gate,
    origin::Origin,
    within,
};

async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

/// An origin whose name is looked up only once the gate is open.
struct Held {
    origin: Origin,
    resolver: FakeResolver,
    gate: Gate,
}

impl Held {
    fn new() -> Self {
        let gate = Gate::new();
        let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
        Self { origin: Origin::plain().serve(hello), resolver, gate }
    }

    fn client_builder(&self) -> ClientBuilder {
        Client::builder().resolver(Arc::new(self.resolver.clone()))
    }

    fn url(&self) -> Uri {
        self.origin.url_at("origin.test", "/")
    }
}

/// Go: TestTransportPoolConnCannotReuseConnectionInUse.
#[tokio::test]
async fn a_connection_that_is_in_use_is_nobody_elses() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    let first = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    traced.read(origin.url("/")).await.expect("a response");
    assert_eq!((origin.accepted(), traced.log.count("put_idle_conn")), (2, 1), "{}", traced.log);
    read(first).await.expect("a body");
    traced.log.settled().await.assert_paired_over(2);
    for timeline in traced.timelines(2).await {
        assert_eq!(timeline.connection.as_ref().map(|used| used.outcome.as_str()), Some("new"));
    }
}

/// Go: TestTransportMaxConnsPerHost, with a dial in progress; TestTransportMaxConnsPerHostDialCancellation.
#[tokio::test]
async fn a_dial_under_way_counts_and_serves_the_next_when_its_request_gives_up() {
    let held = Held::new();
    let traced = Traced::new(held.client_builder().max_connections_per_host(1));
    let first = tokio::spawn(traced.get(held.url()));
    held.gate.reached().await;
    let second = tokio::spawn(traced.get(held.url()));
    let third = tokio::spawn(traced.get(held.url()));
    traced.log.wait_for("get_conn", 3).await;
    for given_up in [first, second] {
        given_up.abort();
        let _ = given_up.await;
    }
    assert_eq!((traced.log.count("get_conn_failed"), held.resolver.lookups("origin.test")), (2, 1));
    held.gate.open();
    let third = within("a head", third).await.expect("no panic").expect("a response");
    read(third).await.expect("a body");
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!((traced.log.count("connect_start"), held.origin.accepted()), (1, 1), "{}", traced.log);
    assert!(traced.log.details("got_conn")[0].ends_with("outcome=handed_over request_number=1"), "{}", traced.log);
}

/// Go: TestTransportPoolConnCancelRequestWithDisableKeepAlives, TestTransportPoolConnDisableKeepAlives.
#[tokio::test]
async fn where_nothing_is_kept_neither_a_used_nor_an_unused_connection_is() {
    let held = Held::new();
    let traced = Traced::new(held.client_builder().pool_max_idle(0));
    let given_up = tokio::spawn(traced.get(held.url()));
    held.gate.reached().await;
    given_up.abort();
    traced.log.wait_for("get_conn_failed", 1).await;
    held.gate.open();
    traced.log.wait_for("conn_closed", 1).await;
    assert!(traced.log.details("conn_closed")[0].ends_with("keep_alive_disabled"), "{}", traced.log);
    held.origin.until_closed(1).await;
    for number in 1..=2 {
        traced.read(held.url()).await.expect("a response");
        traced.log.wait_for("put_idle_conn", number).await;
    }
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!(traced.log.details("put_idle_conn"), ["closed keep_alive_disabled", "closed keep_alive_disabled"]);
    assert_eq!(held.origin.accepted(), 3);
}
