//! Deaths on an HTTP/2 connection, byte by byte: of one stream, or of all.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, channel::Channel};
use httptrace::BoxError;

use super::{assert_says, over};
use crate::support::{
    client::Traced,
    frames::{DATA, HEADERS, PREFACE, data, frame, goaway, greeting, head, reset},
    origin::Origin,
    script::{
        Step::{self, AwaitClose, Close, Gate as At, Read, ReadFrame},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

fn origin(steps: impl IntoIterator<Item = Step>) -> Origin {
    Origin::plain().script([Read(PREFACE), greeting(), ReadFrame(HEADERS, 1)].into_iter().chain(steps))
}

fn client(origin: &Origin) -> Traced {
    Traced::new(origin.client_builder().http2_prior_knowledge().max_head_bytes(1000))
}

/// Four bytes of a body that has more.
fn half() -> Step {
    write([head(1, 200, &[], false), data(1, b"half", false)].concat())
}

/// Its body breaks off behind four bytes, and of this.
async fn breaks_off(steps: impl IntoIterator<Item = Step>, error_type: &str, yes: &[&str]) {
    let origin = origin([half(), At("half")].into_iter().chain(steps));
    let traced = client(&origin);
    let mut body = within("the head", traced.get(origin.url("/"))).await.expect("a head").into_body();
    body.frame().await.expect("half of it").expect("half of it");
    origin.gate("half").open();
    let error = within("the end", body.frame()).await.expect("no proper end").expect_err("a failure");
    assert_says(&error, "response-read", error_type, yes);
    let timeline = over(&traced).await;
    assert_eq!(timeline.response_body_bytes, 4);
    let expected = ExpectedTimeline::new().error("response-read", error_type).status(200).response("failed");
    expected.check(&timeline);
}

#[tokio::test]
async fn a_stream_that_is_reset_within_the_body_dies_alone() {
    breaks_off([reset(1, 2), AwaitClose], "http2_stream_reset", &[]).await;
}

#[tokio::test]
async fn a_goaway_within_the_body_ends_it() {
    // Above the last stream that the server will finish.
    breaks_off([write(goaway(0, 2)), AwaitClose], "http2_goaway", &[]).await;
}

#[tokio::test]
async fn an_end_behind_a_goaway_that_spared_the_stream_leaves_its_body_incomplete() {
    for code in [0, 2] {
        breaks_off([write(goaway(1, code)), Close], "body_incomplete", &["body"]).await;
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_the_body_without_a_word_leaves_it_incomplete() {
    breaks_off([Close], "body_incomplete", &["body"]).await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_of_a_server_end_the_connection() {
    // DATA belongs to a stream, and 0 is none (RFC 9113 §6.1).
    breaks_off([write(frame(DATA, 0, 0, b"stray")), AwaitClose], "http2_protocol_error", &[]).await;
}

#[tokio::test]
async fn a_goaway_above_an_upload_that_can_not_be_repeated_ends_it() {
    let origin = origin([ReadFrame(DATA, 1), write(goaway(0, 2)), AwaitClose]);
    let traced = client(&origin);
    let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
    let request = Request::post(origin.url("/")).body(body).expect("a request");
    let request = tokio::spawn(traced.client.request(request));
    upload.send_data("all of it".into()).await.expect("it is asked for");
    drop(upload);
    let error = within("the end", request).await.expect("no panic").expect_err("no answer");
    assert_says(&error, "response-wait", "http2_goaway", &[]);
    ExpectedTimeline::new().error("response-wait", "http2_goaway").response("failed").check(&over(&traced).await);
    assert_eq!((traced.log.count("retry"), origin.accepted()), (0, 1));
}

#[tokio::test]
async fn a_head_that_is_too_large_dies_in_response_read() {
    let origin = origin([write(head(1, 200, &[("x-long", &"x".repeat(2000))], true)), AwaitClose]);
    let traced = client(&origin);
    let error = traced.read(origin.url("/")).await.expect_err("too large");
    assert_says(&error, "response-read", "head_too_large", &[]);
    ExpectedTimeline::new().error("response-read", "head_too_large").response("failed").check(&over(&traced).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_only_when_it_is_unpacked_is_a_protocol_error() {
    // `:status: 200`, and 100 times `accept-encoding: gzip, deflate` at one byte each (RFC 7541, appendix A).
    let block = [&[0x88][..], &[0x90; 100]].concat();
    let origin = origin([write(frame(HEADERS, 5, 1, &block)), AwaitClose]);
    let traced = client(&origin);
    let error = traced.read(origin.url("/")).await.expect_err("too large");
    assert_says(&error, "response-read", "http2_protocol_error", &[]);
    ExpectedTimeline::new().error("response-read", "http2_protocol_error").check(&over(&traced).await);
}
