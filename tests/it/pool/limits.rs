//! Limits: who waits, for what, for how long, and in which order.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::support::{
    client::{Traced, read},
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::Origin,
    script::{
        Step::{ReadHead, Stall},
        write,
    },
    streams::{Streams, answer},
    timeline::ExpectedTimeline,
    within,
};

async fn hello<B>(_: B) -> Response<Full<Bytes>> {
    Response::new(Full::from("ok"))
}

fn cause(timeline: &httptrace::Timeline) -> Option<&'static str> {
    timeline.wait.as_ref().and_then(|wait| wait.cause).map(|cause| cause.as_str())
}

#[tokio::test]
async fn an_idle_connection_of_another_host_makes_room_under_the_pools_limit() {
    let (one, two) = (Origin::plain().serve(hello), Origin::plain().serve(hello));
    let traced = Traced::new(one.client_builder().max_connections(1));
    traced.read(one.url("/")).await.expect("a response");
    traced.read(two.url("/")).await.expect("a response");
    one.until_closed(1).await;
    traced.log.settled().await.assert_paired_over(2);
    let second = traced.timelines(2).await.remove(1);
    assert_eq!(cause(&second), Some("pool_limit"));
    ExpectedTimeline::new()
        .phases(["get-connection", "connect", "request-write", "response-wait", "response-read"])
        .outcome("new")
        .check(&second);
    assert!(traced.log.details("conn_closed")[0].ends_with("pool_full"));
}

#[tokio::test]
async fn waiters_of_all_hosts_stand_in_one_line_for_a_place_in_the_pool() {
    let (one, two) = (Origin::plain().serve(hello), Origin::plain().serve(hello));
    let traced = Traced::new(one.client_builder().max_connections(1));
    let held = within("a head", traced.get(one.url("/"))).await.expect("a response");
    // First one of the other host, then one of the host that has the place.
    let requests = [two.url("/other"), one.url("/again")].map(|url| traced.read_later(url)).into();
    let mut requests = spawned_in_order(requests);
    tokio::task::yield_now().await;
    read(held).await.expect("a body");
    within("the other host's", requests.remove(0)).await.expect("no panic").expect("a response");
    within("the first host's", requests.remove(0)).await.expect("no panic").expect("a response");
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!((one.accepted(), two.accepted()), (2, 1));
    // Neither connection goes on to its own host while another one's request is next.
    let returned = traced.log.details("put_idle_conn");
    assert_eq!(returned, ["closed pool_full", "closed pool_full", "pooled"], "{}", traced.log);
    let told: Vec<_> = traced.timelines(3).await.iter().map(cause).collect();
    assert_eq!(told, [Some("dial"), Some("pool_limit"), Some("pool_limit")]);
}

#[tokio::test]
async fn a_request_that_waited_for_anothers_dial_gets_room_for_its_own() {
    let (idle, cold) = (Origin::plain().serve(hello), Origin::tls_with_alpn(&["http/1.1"]).gate_handshake());
    let cold = cold.serve(hello);
    let traced = Traced::new(cold.client_builder().max_connections(2));
    traced.read(idle.url("/")).await.expect("a response");
    let requests = (0..2).map(|_| traced.get(cold.url("/"))).collect();
    let mut requests = spawned_in_order(requests);
    cold.gate("handshake").reached().await;
    cold.gate("handshake").open();
    // Its dial has shown that it takes one for each of them, and there is no place but the idle one's.
    let held = within("the first", requests.remove(0)).await.expect("no panic").expect("a response");
    let second = within("the second", requests.remove(0)).await.expect("no panic").expect("a response");
    for response in [held, second] {
        read(response).await.expect("a body");
    }
    traced.log.settled().await.assert_paired_over(3);
    let told: Vec<_> = traced.timelines(3).await.iter().map(cause).collect();
    assert_eq!(told, [Some("dial"), Some("dial"), Some("other_dial")]);
    assert!(traced.log.details("conn_closed")[0].ends_with("pool_full"));
}

#[tokio::test]
async fn who_hoped_for_a_connection_that_did_not_come_back_says_what_it_waited_for() {
    let short = write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let origin = Origin::plain().script([ReadHead, short, Stall]);
    let resolver = FakeResolver::new().local("origin.test").fail("origin.test", Failure::HostNotFound);
    let traced = Traced::new(origin.client_builder().resolver(Arc::new(resolver)));
    // A few bytes are left: they are waited for, since the connection is worth more. They never come.
    drop(within("a head", traced.get(origin.url_at("origin.test", "/"))).await.expect("a response"));
    let error = traced.read(origin.url_at("origin.test", "/")).await.expect_err("no such name any more");
    assert_eq!(error.phase().as_str(), "dns");
    traced.log.settled().await.assert_paired_over(2);
    let timelines = traced.timelines(2).await;
    let failed = timelines.iter().find(|timeline| timeline.error.is_some()).expect("the second");
    assert_eq!(cause(failed), Some("dial"), "{}", traced.log);
}

/// Go: TestTransportMaxConnsPerHost.
#[tokio::test]
async fn ten_requests_under_a_limit_of_one_make_one_dial_and_are_served_in_their_order() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().max_connections_per_host(1));
    let requests: Vec<_> = (0..10).map(|number| traced.read_later(origin.url(&format!("/{number}")))).collect();
    for request in spawned_in_order(requests) {
        within("a response", request).await.expect("no panic").expect("a response");
    }
    traced.log.settled().await.assert_paired_over(10);
    assert_eq!((origin.accepted(), traced.log.count("connect_start")), (1, 1));
    let order: Vec<_> = origin.record().requests.iter().map(|request| request.target.clone()).collect();
    assert_eq!(order, (0..10).map(|number| format!("/{number}")).collect::<Vec<_>>());
    let new = traced.log.details("got_conn").iter().filter(|detail| detail.ends_with("request_number=1")).count();
    assert_eq!(new, 1);
}

/// Spawned in their order, on the one thread of the test: they are polled, and so ask the pool, in this order.
fn spawned_in_order<F>(futures: Vec<F>) -> Vec<tokio::task::JoinHandle<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    futures.into_iter().map(tokio::spawn).collect()
}

#[tokio::test]
async fn a_waiter_that_gives_up_does_not_dial_and_leaves_its_turn_to_the_next() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().max_connections_per_host(1));
    let held = within("a head", traced.get(origin.url("/held"))).await.expect("a response");
    let gives_up = tokio::spawn(traced.read_later(origin.url("/gives-up")));
    traced.log.wait_for("get_conn", 2).await;
    tokio::task::yield_now().await;
    let next = tokio::spawn(traced.read_later(origin.url("/next")));
    traced.log.wait_for("get_conn", 3).await;
    gives_up.abort();
    let _ = gives_up.await;
    read(held).await.expect("a body");
    within("the next", next).await.expect("no panic").expect("a response");
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!((origin.accepted(), origin.served()), (1, 2));
    assert_eq!(traced.log.details("get_conn_failed"), ["error=get-connection/canceled"]);
}

#[tokio::test]
async fn a_wait_in_the_queue_ends_at_its_limit_and_says_what_for() {
    let origin = Origin::plain().serve(hello);
    let builder = origin.client_builder().max_connections_per_host(1);
    let traced = Traced::new(builder.pool_wait_timeout(Duration::from_millis(20)));
    let held = within("a head", traced.get(origin.url("/held"))).await.expect("a response");
    let error = traced.read(origin.url("/late")).await.expect_err("no place");
    assert!(error.is_timeout() && !error.is_connect(), "{error}");
    let late = traced.timeline().await;
    ExpectedTimeline::new().phases(["get-connection"]).error("get-connection", "timeout").outcome("none").check(&late);
    assert_eq!(cause(&late), Some("host_limit"));
    read(held).await.expect("a body");
    traced.read(origin.url("/")).await.expect("a response");
}

#[tokio::test]
async fn a_dial_of_its_own_is_no_wait_in_the_queue() {
    let origin = Origin::tls().gate_handshake().serve(hello);
    let traced = Traced::new(origin.client_builder().pool_wait_timeout(Duration::from_millis(1)));
    let response = tokio::spawn(traced.read_later(origin.url("/")));
    origin.gate("handshake").reached().await;
    // Longer than the limit: what is tested is time itself.
    tokio::time::sleep(Duration::from_millis(20)).await;
    origin.gate("handshake").open();
    within("a response", response).await.expect("no panic").expect("a response");
}

/// Go: TestTransportPoolConnHTTP2NoStrictMaxConcurrentRequests.
#[tokio::test]
async fn requests_above_the_streams_of_a_connection_wait_or_get_another_one_if_it_is_allowed() {
    for (connections, told) in [(1, "http2_streams"), (2, "dial")] {
        let gate = Gate::new();
        let held = gate.clone();
        let mut settings = h2::server::Builder::new();
        settings.max_concurrent_streams(1);
        let origin = Streams::serve_with(settings, move |request, respond| {
            let gate = held.clone();
            async move {
                if request.uri().path() == "/held" {
                    gate.wait().await;
                }
                answer(respond, 200, "ok");
            }
        });
        let traced = Traced::new(origin.client_builder().http2_max_connections_per_host(connections));
        // Until its SETTINGS are here, the limit of the peer is not known.
        traced.read(origin.url("/")).await.expect("a response");
        let first = tokio::spawn(traced.read_later(origin.url("/held")));
        gate.reached().await;
        let second = tokio::spawn(traced.read_later(origin.url("/")));
        traced.log.wait_for("get_conn", 3).await;
        if connections == 1 {
            gate.open();
        }
        within("the second", second).await.expect("no panic").expect("a response");
        gate.open();
        within("the first", first).await.expect("no panic").expect("a response");
        traced.log.settled().await.assert_paired_over(3);
        assert_eq!(origin.accepted(), connections);
        let causes: Vec<_> = traced.timelines(3).await.iter().filter_map(cause).collect();
        assert_eq!(causes, ["dial", told], "{connections} connections");
    }
}

/// Go: TestTransportSocketLateBinding.
#[tokio::test]
async fn a_request_takes_the_connection_that_comes_back_before_its_dial_only_with_late_binding() {
    for late in [true, false] {
        let origin = Origin::plain().serve(hello);
        let (gate, resolver) = (Gate::new(), FakeResolver::new().local("origin.test"));
        let builder = origin.client_builder().resolver(Arc::new(resolver.clone()));
        let traced = Traced::new(builder.late_binding(late));
        let url = origin.url_at("origin.test", "/");
        let held = within("a head", traced.get(url.clone())).await.expect("a response");
        let _held = resolver.hold("origin.test", &gate);
        let second = tokio::spawn(traced.read_later(url));
        gate.reached().await;
        // The dial stands still, and the connection comes back.
        read(held).await.expect("a body");
        traced.log.wait_for("put_idle_conn", 1).await;
        if !late {
            tokio::task::yield_now().await;
            assert_eq!(traced.log.count("got_conn"), 1, "it waits for its own\n{}", traced.log);
            gate.open();
        }
        within("the second", second).await.expect("no panic").expect("a response");
        gate.open();
        traced.log.settled().await.assert_paired_over(2);
        let second = traced.timelines(2).await.remove(1);
        let outcome = second.connection.as_ref().expect("a connection").outcome.as_str();
        let expected = if late { ("handed_over", "handed_over") } else { ("new", "pooled") };
        assert_eq!((outcome, &*traced.log.details("put_idle_conn")[0]), expected);
        assert_eq!(cause(&second), Some("dial"));
    }
}
