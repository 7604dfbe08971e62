//! Deaths before there is a connection: in the lookup, the connect, the handshake.

use std::{net::Ipv6Addr, sync::Arc};

use httptrace::Client;

use super::{LIMIT, assert_says, limited, over};
use crate::support::{
    client::Traced,
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::{Origin, Refusing},
    pass,
    script::{
        Step::{AwaitClose, Close, Read, ReadHead, Stall},
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

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_dies_in_tls() {
    let (origin, trusted) = (Origin::tls().script([Stall]), Origin::tls().script([Stall]));
    let traced = Traced::new(trusted.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("unknown authority");
    assert_says(&error, "tls", "certificate_untrusted", &["connect", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "tls"]);
    expected.error("tls", "certificate_untrusted").outcome("none").check(&over(&traced).await);
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_dies_in_tls() {
    let origin = Origin::tls().script([Stall]);
    let traced = Traced::new(origin.client_builder().resolver(Arc::new(FakeResolver::new().local("other.test"))));
    let error = traced.read(origin.url_at("other.test", "/")).await.expect_err("another name");
    assert_says(&error, "tls", "certificate_name_mismatch", &["connect", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns", "connect", "tls"]);
    expected.error("tls", "certificate_name_mismatch").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_handshake_dies_in_tls() {
    // It speaks no TLS: it waits for the hello and closes.
    let origin = Origin::plain().script([Read(1), Close]);
    let traced = Traced::new(Client::builder().danger_accept_invalid_certs(true));
    let uri = format!("https://{}/", origin.addr()).parse().expect("a URL");
    let error = traced.read(uri).await.expect_err("no handshake");
    assert_says(&error, "tls", "tls_closed", &["connect", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "tls"]);
    expected.error("tls", "tls_closed").check(&over(&traced).await);
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
