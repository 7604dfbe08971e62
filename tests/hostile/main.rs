//! Hostile origins: what a server may do to a client, one row each, all before one judge.
//!
//! A [`Case`](case::Case) is data: what the origin does, what the request dies of or gets, whether the connection may carry
//! another. The [`judge`] plays it with each method and looks at everything that must hold whatever the origin does.
//! `README.md` is the table of the corpus, made of the same data. [`limits`] has what a peer controls, on both sides of each
//! limit, [`codes`] the exit codes of the command beside curl's.

mod bodies;
mod case;
mod codes;
mod frames;
mod goaway;
mod heads;
mod judge;
mod limits;
#[expect(dead_code, reason = "levels alone are of interest here")]
#[path = "../it/metrics/reading.rs"]
mod reading;
mod reuse;
mod streams;
#[expect(dead_code, reason = "the kit is made for more than this")]
#[path = "../it/support/mod.rs"]
mod support;
mod table;
mod tcp;
mod tls;

use self::{case::Case, judge::all_hold};

/// The corpus, group by group.
fn corpus() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("TCP", tcp::cases()),
        ("TLS", tls::cases()),
        ("HTTP/1 heads", heads::cases()),
        ("HTTP/1 bodies", bodies::cases()),
        ("HTTP/1 reuse", reuse::cases()),
        ("HTTP/2 connection", frames::cases()),
        ("HTTP/2 GOAWAY", goaway::cases()),
        ("HTTP/2 streams", streams::cases()),
        ("Limits", limits::cases()),
    ]
}

#[tokio::test]
async fn origins_that_break_tcp_harm_nobody() {
    all_hold(tcp::cases()).await;
}

#[tokio::test]
async fn origins_that_break_tls_harm_nobody() {
    all_hold(tls::cases()).await;
}

#[tokio::test]
async fn origins_that_send_bad_heads_harm_nobody() {
    all_hold(heads::cases()).await;
}

#[tokio::test]
async fn origins_that_send_bad_bodies_harm_nobody() {
    all_hold(bodies::cases()).await;
}

#[tokio::test]
async fn origins_that_spoil_a_used_connection_harm_nobody() {
    all_hold(reuse::cases()).await;
}

#[tokio::test]
async fn origins_that_break_an_http2_connection_harm_nobody() {
    all_hold(frames::cases()).await;
}

#[tokio::test]
async fn origins_that_go_away_harm_nobody() {
    all_hold(goaway::cases()).await;
}

#[tokio::test]
async fn what_a_peer_controls_has_limits_with_two_sides() {
    all_hold(limits::cases()).await;
}

#[tokio::test]
async fn origins_that_break_an_http2_stream_harm_nobody() {
    all_hold(streams::cases()).await;
}
