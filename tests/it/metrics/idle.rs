//! How idle times end: with a request, with the pool's patience, or with the connection.

use std::time::Duration;

use httptrace::ClientBuilder;

use super::reading::{Meters, total};
use crate::{
    spans::scene::hello,
    support::{client::Traced, origin::Origin},
};

const IDLE: &str = "httptrace.connection.idle.duration";

/// The idle times that ended this way.
fn ended(meters: &Meters, outcome: &str) -> f64 {
    total(&meters.first(), IDLE, Some(("httptrace.idle.outcome", outcome)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_time_ends_as_expired_closed_or_reused() {
    type Set = fn(ClientBuilder) -> ClientBuilder;
    let soon = Duration::from_millis(30);
    let idle: Set = |builder| builder.pool_idle_timeout(Duration::from_millis(30));
    // Long enough for the request to be over before it.
    let life: Set = |builder| builder.max_connection_lifetime(Duration::from_millis(500));
    for (origin, reason, limit) in [
        (Origin::plain().serve(hello), "idle_timeout", idle),
        (Origin::tls_with_alpn(&["h2"]).serve(hello), "idle_timeout", idle),
        (Origin::plain().serve(hello), "lifetime_expired", life),
    ] {
        let meters = Meters::new(1);
        let traced = Traced::new(limit(origin.client_builder().meter_provider(&meters.provider)));
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.wait_for("conn_closed", 1).await;
        assert_eq!(["expired", "closed", "reused"].map(|outcome| ended(&meters, outcome)), [1.0, 0.0, 0.0], "{reason}");
        let collection = meters.first();
        let closed = Some(("httptrace.connection.close_reason", reason));
        assert_eq!(total(&collection, "httptrace.connection.requests", closed), 1.0, "{reason}");
        let idle: f64 = collection[IDLE].points.iter().map(|point| point.sum).sum();
        assert!(reason != "idle_timeout" || idle >= soon.as_secs_f64(), "{idle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_the_server_closes_was_closed_and_not_expired() {
    let meters = Meters::new(1);
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.settled().await;
    drop(origin);
    traced.log.wait_for("conn_closed", 1).await;
    assert_eq!(["expired", "closed", "reused"].map(|outcome| ended(&meters, outcome)), [0.0, 1.0, 0.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_never_idle_has_no_idle_time() {
    let meters = Meters::new(1);
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider).pool_max_idle(0));
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.wait_for("conn_closed", 1).await;
    let collection = meters.first();
    assert_eq!(total(&collection, IDLE, None), 0.0);
    assert_eq!(total(&collection, "http.client.connection.duration", None), 1.0);
}
