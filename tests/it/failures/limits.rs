//! Deaths by a limit of the client's own: the head of a response that is late, a body that stops, a place in the queue that
//! never comes. Time is let pass, not waited for.

use std::{
    fmt::Debug,
    pin::{Pin, pin},
    task::{Context, Waker},
};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, channel::Channel};
use httptrace::{BoxError, Client};

use super::{LIMIT, assert_says, over};
use crate::{
    connector::Pipes,
    support::{
        client::{Traced, read},
        gate::Gate,
        origin::Origin,
        pass,
        script::{
            Step::{Gate as At, ReadHead, Stall},
            write,
        },
        timeline::ExpectedTimeline,
        within,
    },
};

/// Polls once, in vain.
fn pending(future: Pin<&mut impl Future<Output: Debug>>) {
    let polled = future.poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "{polled:?}");
}

/// Four bytes of a body of nine.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";

#[tokio::test]
async fn the_head_of_a_response_has_its_time_from_the_requests_last_byte_on() {
    for http2 in [false, true] {
        // The server reads nothing and says nothing.
        let origin = Origin::plain().script([Stall]);
        let builder = origin.client_builder().response_header_timeout(LIMIT);
        let traced = Traced::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let request = tokio::spawn(traced.client.request(request));
        traced.log.wait_for("wrote_headers", 1).await;
        // As long as the request is not written, there is nothing to be answered.
        pass(2 * LIMIT).await;
        upload.send_data("all of it".into()).await.expect("it is asked for");
        drop(upload);
        traced.log.wait_for("wrote_request", 1).await;
        assert!(!request.is_finished());
        pass(LIMIT).await;
        let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
        assert_says(&error, "response-wait", "timeout", &["timeout"]);
        let expected = ExpectedTimeline::new().error("response-wait", "timeout").response("failed");
        let returned = if http2 { "pooled" } else { "closed canceled" };
        expected
            .phases(["get-connection", "connect", "request-write", "response-wait"])
            .idle_return(returned)
            .check(&over(&traced).await);
    }
}

#[tokio::test]
async fn the_head_is_waited_for_where_nobody_listens_too() {
    for http2 in [false, true] {
        let origin = Origin::plain().script([At("connected"), Stall]);
        let builder =
            origin.client_builder().response_header_timeout(LIMIT).connect_timeout(100 * LIMIT).telemetry(false);
        let client = if http2 { builder.http2_prior_knowledge() } else { builder }.build().expect("settings that fit");
        let request = tokio::spawn(client.get(origin.url("/")));
        origin.gate("connected").reached().await;
        // Nobody is told when the request is written: a bit of the limit passes, and another, until it has run out.
        for _ in 0..100 {
            pass(LIMIT / 20).await;
            tokio::task::yield_now().await;
        }
        let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
        assert_says(&error, "response-wait", "timeout", &["timeout"]);
    }
}

#[tokio::test]
async fn interim_responses_and_a_dripping_head_win_no_time() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let dripping = format!("{early}HTTP/1.1 200 OK\r\nx-");
    for (sent, phase) in [(early, "response-wait"), (&*dripping, "response-read")] {
        let origin = Origin::plain().script([ReadHead, At("head"), write(sent.to_owned()), Stall]);
        let traced = Traced::new(origin.client_builder().response_header_timeout(2 * LIMIT));
        let request = tokio::spawn(traced.get(origin.url("/")));
        origin.gate("head").reached().await;
        traced.log.wait_for("wrote_request", 1).await;
        pass(LIMIT).await;
        origin.gate("head").open();
        traced.log.wait_for("got_1xx_response", 1).await;
        assert!(!request.is_finished());
        pass(LIMIT).await;
        let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
        assert_says(&error, phase, "timeout", &["timeout"]);
        let expected = ExpectedTimeline::new().error(phase, "timeout").response("failed");
        expected.no_status().idle_return("closed canceled").check(&over(&traced).await);
    }
}

#[tokio::test]
async fn a_head_in_time_takes_the_limit_off_the_body() {
    let origin = Origin::plain().script([ReadHead, write(HALF), At("rest"), write("-rest")]);
    let traced = Traced::new(origin.client_builder().response_header_timeout(LIMIT));
    let response = within("the head", traced.get(origin.url("/"))).await.expect("a head");
    origin.gate("rest").reached().await;
    pass(2 * LIMIT).await;
    origin.gate("rest").open();
    assert_eq!(read(response).await.expect("all of it"), "half-rest");
}

#[tokio::test]
async fn a_request_that_is_dropped_while_its_head_is_late_is_canceled() {
    let origin = Origin::plain().script([ReadHead, Stall]);
    let traced = Traced::new(origin.client_builder().response_header_timeout(LIMIT));
    let request = tokio::spawn(traced.get(origin.url("/")));
    traced.log.wait_for("wrote_request", 1).await;
    request.abort();
    let expected = ExpectedTimeline::new().error("response-wait", "canceled").idle_return("closed canceled");
    expected.check(&over(&traced).await);
}

#[tokio::test]
async fn each_piece_of_a_body_has_its_time_and_the_last_wait_dies_in_response_read() {
    let origin = Origin::plain().script([ReadHead, write(HALF), At("more"), write("-mo"), Stall]);
    let traced = Traced::new(origin.client_builder().body_idle_timeout(LIMIT * 3 / 2));
    let mut body = within("the head", traced.get(origin.url("/"))).await.expect("a head").into_body();
    body.frame().await.expect("half of it").expect("half of it");
    origin.gate("more").reached().await;
    pending(pin!(body.frame()));
    pass(LIMIT).await;
    pending(pin!(body.frame()));
    origin.gate("more").open();
    within("a piece", body.frame()).await.expect("a piece").expect("a piece");
    pending(pin!(body.frame()));
    pass(LIMIT).await;
    pending(pin!(body.frame()));
    pass(LIMIT).await;
    let error = within("the timeout", body.frame()).await.expect("not the end").expect_err("timed out");
    assert_says(&error, "response-read", "timeout", &["timeout"]);
    let timeline = over(&traced).await;
    assert_eq!(timeline.response_body_bytes, 7);
    let expected = ExpectedTimeline::new().error("response-read", "timeout").status(200).response("failed");
    expected.idle_return("closed canceled").check(&timeline);
}

#[tokio::test]
async fn a_body_that_nobody_reads_has_no_idle_timeout() {
    let origin = Origin::plain().script([ReadHead, write(HALF), At("rest"), write("-rest")]);
    let traced = Traced::new(origin.client_builder().body_idle_timeout(LIMIT));
    let response = within("the head", traced.get(origin.url("/"))).await.expect("a head");
    origin.gate("rest").reached().await;
    pass(2 * LIMIT).await;
    origin.gate("rest").open();
    assert_eq!(read(response).await.expect("all of it"), "half-rest");
    over(&traced).await;
}

#[tokio::test]
async fn one_limit_holds_for_all_waits_in_the_queue_stale_connections_included() {
    let (first, second) = (Gate::new(), Gate::new());
    let gates = [first.clone(), second.clone()];
    let pipes = Pipes::numbered(move |number| {
        let gate = gates[number].clone();
        async move {
            gate.wait().await;
            // A server that is gone as soon as it was reached.
            Ok(tokio::io::duplex(64).0)
        }
    });
    let builder = Client::builder().connector(pipes).max_connections_per_host(1).connect_timeout(100 * LIMIT);
    let traced = Traced::new(builder.pool_wait_timeout(2 * LIMIT));
    let [dials, waits, next] = ["/dials", "/waits", "/next"].map(|path| {
        let uri = Uri::try_from(format!("http://no.such.name{path}")).expect("a URL");
        tokio::spawn(traced.get(uri))
    });
    first.reached().await;
    traced.log.wait_for("get_conn", 3).await;
    pass(LIMIT).await;
    // Its dial goes on, for the next in the queue; that one finds the connection stale, and is the last of the queue now.
    dials.abort();
    first.open();
    second.reached().await;
    assert!(!waits.is_finished() && !next.is_finished());
    pass(LIMIT).await;
    let error = within("the limit", waits).await.expect("no panic").expect_err("timed out");
    assert_says(&error, "get-connection", "timeout", &["timeout"]);
    // It dials itself by now.
    assert!(!next.is_finished());
    next.abort();
}
