//! Deaths before there is a connection: in the lookup, the connect, the handshake.

use std::{io, net::Ipv6Addr, sync::Arc};

use httptrace::Client;

use super::{LIMIT, assert_says, limited, over};
use crate::connector::Pipes;
use crate::support::{
    client::Traced,
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::{Origin, Refusing},
    pass,
    script::{
        Step::{AwaitClose, ReadHead, Stall},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

#[tokio::test]
async fn a_name_that_does_not_exist_dies_in_dns() {
    let origin = Origin::plain().script([Stall]);
    for (failure, error_type) in [
        (Failure::HostNotFound, "host_not_found"),
        (Failure::TryAgain, "try_again"),
        (Failure::NoRecovery, "no_recovery"),
        (Failure::NoAddresses, "no_addresses"),
    ] {
        let resolver = FakeResolver::new().fail("gone.test", failure);
        let traced = Traced::new(Client::builder().resolver(Arc::new(resolver.clone())));
        let error = traced.read(origin.url_at("gone.test", "/")).await.expect_err("no such name");
        assert_says(&error, "dns", error_type, &["connect", "dns"]);
        let expected = ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", error_type);
        expected.outcome("none").idle_return("none").response("none").check(&over(&traced).await);
        assert_eq!(resolver.lookups("gone.test"), 1);
    }
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn a_refused_connection_dies_in_connect() {
    let refusing = Refusing::new();
    let traced = Traced::new(Client::builder());
    let uri = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    let error = traced.read(uri).await.expect_err("nobody listens");
    assert_says(&error, "connect", "connection_refused", &["connect"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect"]);
    expected.error("connect", "connection_refused").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn every_address_that_refuses_has_its_own_connect() {
    let refusing = Refusing::new();
    let resolver = FakeResolver::new().answer("two.test", [[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()]);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)));
    let uri = format!("http://two.test:{}/", refusing.addr().port()).parse().expect("a URL");
    let error = traced.read(uri).await.expect_err("nobody listens");
    assert_says(&error, "connect", "connection_refused", &["connect"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns", "connect", "connect"]);
    expected.error("connect", "connection_refused").check(&over(&traced).await);
}

/// What only a network can do, and not a machine alone, is told by a connector in the system's own words.
#[tokio::test]
async fn what_the_system_says_of_a_connect_is_told() {
    for (kind, error_type, yes) in [
        (io::ErrorKind::ConnectionRefused, "connection_refused", &["connect"][..]),
        (io::ErrorKind::ConnectionReset, "connection_reset", &["connect"]),
        (io::ErrorKind::NetworkUnreachable, "network_unreachable", &["connect"]),
        (io::ErrorKind::HostUnreachable, "host_unreachable", &["connect"]),
        (io::ErrorKind::AddrNotAvailable, "address_not_available", &["connect"]),
        (io::ErrorKind::PermissionDenied, "permission_denied", &["connect"]),
        (io::ErrorKind::TimedOut, "timeout", &["connect", "timeout"]),
        (io::ErrorKind::Other, "connect_failed", &["connect"]),
    ] {
        let pipes = Pipes::numbered(move |_| async move { Err(io::Error::from(kind).into()) });
        let traced = Traced::new(Client::builder().connector(pipes));
        let error = traced.read("http://a.test/".parse().expect("a URL")).await.expect_err("no connection");
        assert_says(&error, "connect", error_type, yes);
        let expected = ExpectedTimeline::new().phases(["get-connection", "connect"]).error("connect", error_type);
        expected.outcome("none").idle_return("none").response("none").check(&over(&traced).await);
    }
}

/// Linux makes no connection to a broadcast address, not even to the loopback's own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_network_without_a_way_dies_in_connect() {
    let traced = Traced::new(Client::builder());
    let error = traced.read("http://127.255.255.255:9/".parse().expect("a URL")).await.expect_err("no way");
    assert_says(&error, "connect", "network_unreachable", &["connect"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect"]);
    expected.error("connect", "network_unreachable").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn a_local_address_that_is_not_ours_dies_in_connect() {
    let origin = Origin::plain().script([Stall]);
    // Of the block for examples (RFC 5737): no machine has it.
    let traced = Traced::new(origin.client_builder().local_address([192, 0, 2, 1].into()));
    let error = traced.read(origin.url("/")).await.expect_err("not ours");
    assert_says(&error, "connect", "address_not_available", &["connect"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect"]);
    expected.error("connect", "address_not_available").outcome("none").check(&over(&traced).await);
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn the_connect_timeout_ends_a_lookup_that_does_not_answer() {
    let gate = Gate::new();
    let resolver = FakeResolver::new().local("slow.test").hold("slow.test", &gate);
    let traced = Traced::new(Client::builder().connect_timeout(LIMIT).resolver(Arc::new(resolver)));
    let request = tokio::spawn(traced.get("http://slow.test/".parse().expect("a URL")));
    gate.reached().await;
    pass(LIMIT).await;
    let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
    assert_says(&error, "dns", "timeout", &["connect", "dns", "timeout"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns"]);
    expected.error("dns", "timeout").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn the_handshake_timeout_ends_a_handshake_that_does_not_answer() {
    let origin = Origin::tls().gate_handshake().script([Stall]);
    let traced = Traced::new(origin.client_builder().connect_timeout(2 * LIMIT).tls_handshake_timeout(LIMIT));
    let request = tokio::spawn(traced.get(origin.url("/")));
    traced.log.wait_for("tls_handshake_start", 1).await;
    origin.gate("handshake").reached().await;
    pass(LIMIT).await;
    let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
    assert_says(&error, "tls", "timeout", &["connect", "timeout", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "tls"]);
    expected.error("tls", "timeout").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn the_request_timeout_ends_the_open_phase_of_its_dial_and_the_dial_goes_on() {
    let gate = Gate::new();
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose]);
    let resolver = FakeResolver::new().local("slow.test").hold("slow.test", &gate);
    let traced = Traced::new(limited().connect_timeout(2 * LIMIT).resolver(Arc::new(resolver)));
    let request = tokio::spawn(traced.get(origin.url_at("slow.test", "/")));
    gate.reached().await;
    pass(LIMIT).await;
    let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
    assert_says(&error, "dns", "timeout", &["connect", "dns", "timeout"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns"]);
    expected.error("dns", "timeout").outcome("none").check(&traced.timeline().await);
    // The lookup answers after all, and the dial's connection serves the next request.
    gate.open();
    traced.log.wait_for("connect_done", 1).await;
    traced.log.settled().await.assert_paired();
    traced.read(origin.url_at("slow.test", "/")).await.expect("an answer");
    traced.log.settled().await.assert_paired_over(2);
    let second = traced.timelines(2).await.remove(1);
    ExpectedTimeline::new().outcome("idle").reused(false).status(204).check(&second);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_request_dropped_in_its_dial_is_canceled_there() {
    let gate = Gate::new();
    let resolver = FakeResolver::new().fail("slow.test", Failure::HostNotFound).hold("slow.test", &gate);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)));
    let request = tokio::spawn(traced.get("http://slow.test/".parse().expect("a URL")));
    gate.reached().await;
    request.abort();
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns"]);
    expected.error("dns", "canceled").outcome("none").check(&traced.timeline().await);
    gate.open();
    over(&traced).await;
}
