//! Deaths on a connection: before the head, within the body, by the caller's own hand.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use httptrace::Client;
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{LIMIT, assert_says, limited, over};
use crate::support::{
    client::Traced,
    gate::Gate,
    origin::Origin,
    pass,
    script::{
        Step::{AwaitClose, Close, Gate as At, Read, ReadHead, Reset, Stall, WriteBeneath},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

/// Phases of a request by address that got its connection and wrote itself.
const WRITTEN: [&str; 4] = ["get-connection", "connect", "request-write", "response-wait"];
const READING: [&str; 5] = ["get-connection", "connect", "request-write", "response-wait", "response-read"];

const WRITTEN_TLS: [&str; 5] = ["get-connection", "connect", "tls", "request-write", "response-wait"];
const READING_TLS: [&str; 6] = ["get-connection", "connect", "tls", "request-write", "response-wait", "response-read"];

#[tokio::test]
async fn a_connection_closed_before_the_first_byte_dies_in_response_wait() {
    let origin = Origin::plain().script([ReadHead, Close]);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("no answer");
    assert_says(&error, "response-wait", "connection_closed", &[]);
    let expected = ExpectedTimeline::new().phases(WRITTEN).error("response-wait", "connection_closed");
    expected.outcome("new").response("failed").idle_return("closed peer_closed").check(&over(&traced).await);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_connection_reset_before_the_first_byte_dies_in_response_wait() {
    let origin = Origin::plain().script([ReadHead, Reset]);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("no answer");
    assert_says(&error, "response-wait", "connection_reset", &[]);
    let expected = ExpectedTimeline::new().phases(WRITTEN).error("response-wait", "connection_reset");
    expected.response("failed").check(&over(&traced).await);
}

#[tokio::test]
async fn a_connection_reset_within_the_body_dies_in_response_read() {
    let origin = Origin::plain().script([ReadHead, write(HALF), At("half"), Reset]);
    let traced = Traced::new(origin.client_builder());
    let mut body = within("the head", traced.get(origin.url("/"))).await.expect("a head").into_body();
    body.frame().await.expect("half of it").expect("half of it");
    origin.gate("half").open();
    let error = within("the reset", body.frame()).await.expect("not the end").expect_err("a reset");
    assert_says(&error, "response-read", "connection_reset", &[]);
    let expected = ExpectedTimeline::new().phases(READING).error("response-read", "connection_reset").status(200);
    let timeline = over(&traced).await;
    assert_eq!(timeline.response_body_bytes, 4);
    expected.response("failed").check(&timeline);
}

#[tokio::test]
async fn a_connection_is_closed_for_the_reason_that_its_request_died_of() {
    let malformed = vec![ReadHead, write("what is this\r\n\r\n"), AwaitClose];
    for (script, reason) in [(vec![ReadHead, Reset], "closed io_error"), (malformed, "closed protocol_error")] {
        let origin = Origin::plain().script(script);
        let traced = Traced::new(origin.client_builder());
        let error = traced.read(origin.url("/")).await.expect_err("no answer");
        let expected = ExpectedTimeline::new().error(error.phase().as_str(), error.error_type());
        expected.idle_return(reason).check(&over(&traced).await);
    }
}

#[tokio::test]
async fn a_body_shorter_than_its_length_dies_in_response_read() {
    let origin = Origin::plain().script([ReadHead, write(HALF)]);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("four bytes of nine");
    assert_says(&error, "response-read", "body_incomplete", &["body"]);
    let expected = ExpectedTimeline::new().phases(READING).error("response-read", "body_incomplete").status(200);
    expected.response("failed").idle_return("closed peer_closed").check(&over(&traced).await);
}

#[tokio::test]
async fn the_request_timeout_before_the_head_dies_in_response_wait() {
    let origin = Origin::plain().script([ReadHead, At("head"), Stall]);
    let traced = Traced::new(limited());
    let request = tokio::spawn(traced.get(origin.url("/")));
    origin.gate("head").reached().await;
    pass(LIMIT).await;
    let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
    assert_says(&error, "response-wait", "timeout", &["timeout"]);
    let expected = ExpectedTimeline::new().phases(WRITTEN).error("response-wait", "timeout");
    expected.response("failed").idle_return("closed canceled").check(&over(&traced).await);
}

#[tokio::test]
async fn the_request_timeout_within_the_body_dies_in_response_read() {
    let origin = Origin::plain().script([ReadHead, write(HALF), AwaitClose]);
    let traced = Traced::new(limited());
    let mut body = within("the head", traced.get(origin.url("/"))).await.expect("a head").into_body();
    body.frame().await.expect("half of it").expect("half of it");
    pass(LIMIT).await;
    let error = within("the timeout", body.frame()).await.expect("not the end").expect_err("timed out");
    assert_says(&error, "response-read", "timeout", &["timeout"]);
    let expected = ExpectedTimeline::new().phases(READING).error("response-read", "timeout").status(200);
    expected.response("failed").idle_return("closed canceled").check(&over(&traced).await);
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_malformed_response_dies_in_response_read() {
    let origin = Origin::plain().script([ReadHead, write("what is this\r\n\r\n"), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("not HTTP");
    assert_says(&error, "response-read", "malformed_response", &[]);
    let expected = ExpectedTimeline::new().phases(READING).error("response-read", "malformed_response");
    expected.response("failed").no_status().check(&over(&traced).await);
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_request_dropped_before_its_head_is_canceled_in_response_wait() {
    let origin = Origin::plain().script([ReadHead, At("head"), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let request = tokio::spawn(traced.get(origin.url("/")));
    origin.gate("head").reached().await;
    request.abort();
    let expected = ExpectedTimeline::new().phases(WRITTEN).error("response-wait", "canceled");
    expected.response("failed").idle_return("closed canceled").check(&over(&traced).await);
    origin.gate("head").open();
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_body_dropped_with_much_to_come_is_no_error_and_costs_the_connection() {
    let head = write("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n1234");
    let origin = Origin::plain().script([ReadHead, head, AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    drop(within("the head", traced.get(origin.url("/"))).await.expect("a head"));
    let expected = ExpectedTimeline::new().phases(READING).status(200).response("dropped");
    expected.idle_return("closed body_incomplete").check(&over(&traced).await);
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_body_dropped_with_little_to_come_is_no_error_and_keeps_the_connection() {
    let origin = Origin::plain().script([
        ReadHead,
        write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n1234"),
        ReadHead,
        write("HTTP/1.1 204 No Content\r\n\r\n"),
    ]);
    let traced = Traced::new(origin.client_builder());
    drop(within("the head", traced.get(origin.url("/"))).await.expect("a head"));
    let expected = ExpectedTimeline::new().phases(READING).status(200).response("dropped");
    expected.idle_return("pooled").check(&over(&traced).await);
    traced.read(origin.url("/")).await.expect("an answer on the same connection");
    assert_eq!((origin.accepted(), origin.served()), (1, 2));
}

// === on an HTTP/2 connection: the stream dies, the connection lives ===

#[tokio::test]
async fn an_http2_request_dropped_before_its_head_is_canceled_and_its_connection_lives() {
    let gate = Gate::new();
    let origin = Origin::tls().serve({
        let gate = gate.clone();
        move |request| {
            let gate = gate.clone();
            async move {
                if request.uri().path() == "/held" {
                    gate.wait().await;
                }
                Response::new(String::new())
            }
        }
    });
    let traced = Traced::new(origin.client_builder());
    let request = tokio::spawn(traced.get(origin.url("/held")));
    gate.reached().await;
    request.abort();
    let expected = ExpectedTimeline::new().phases(WRITTEN_TLS).error("response-wait", "canceled");
    expected.response("failed").idle_return("pooled").check(&over(&traced).await);
    traced.read(origin.url("/")).await.expect("an answer on the same connection");
    assert_eq!((origin.accepted(), origin.served()), (1, 2));
}

#[tokio::test]
async fn an_http2_body_dropped_early_is_no_error_and_its_connection_lives() {
    let origin = Origin::tls().serve(|_| async { Response::new("x".repeat(1 << 20)) });
    let traced = Traced::new(origin.client_builder());
    drop(within("the head", traced.get(origin.url("/"))).await.expect("a head"));
    let expected = ExpectedTimeline::new().phases(READING_TLS).status(200).response("dropped");
    expected.idle_return("pooled").check(&over(&traced).await);
    let body = traced.read(origin.url("/")).await.expect("an answer on the same connection");
    assert_eq!((body.len(), origin.accepted(), origin.served()), (1 << 20, 1, 2));
}

/// Four bytes of a body of nine.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";

#[tokio::test]
async fn an_http2_connection_that_ends_with_its_stream_does_not_go_back() {
    let origin =
        Origin::plain().script([Read(24), write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), AwaitClose]);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    traced.read(origin.url("/")).await.expect_err("it does not speak HTTP/2");
    let record = over(&traced).await;
    assert_eq!(
        record.idle_return.and_then(|outcome| outcome.reason()).map(|reason| reason.as_str()),
        Some("protocol_error")
    );
    traced.log.settled().await.assert_paired();
}

// === what is rare ===

#[tokio::test]
async fn a_request_that_the_socket_does_not_take_dies_in_request_write() {
    let origin = Origin::plain().script([Stall]);
    let addr = origin.addr();
    let connector = tower::service_fn(move |_: Uri| async move {
        let mut stream = TcpStream::connect(addr).await?;
        // From now on it can be read from, and not written to.
        stream.shutdown().await?;
        Ok::<_, io::Error>(TokioIo::new(stream))
    });
    let traced = Traced::new(Client::builder().connector(connector));
    let error = traced.read("http://a.test/".parse().expect("a URL")).await.expect_err("not sent");
    assert_says(&error, "request-write", "write_failed", &[]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "request-write"]);
    expected.error("request-write", "write_failed").response("failed").check(&over(&traced).await);
}

#[tokio::test]
async fn a_head_that_is_too_large_dies_in_response_read() {
    let head = format!("HTTP/1.1 200 OK\r\nx-long: {}", "x".repeat(20_000));
    let origin = Origin::plain().script([ReadHead, write(head), AwaitClose]);
    let traced = Traced::new(origin.client_builder().max_head_bytes(10_000));
    let error = traced.read(origin.url("/")).await.expect_err("too large");
    assert_says(&error, "response-read", "head_too_large", &[]);
    let expected = ExpectedTimeline::new().phases(READING).error("response-read", "head_too_large").no_status();
    expected.response("failed").idle_return("closed protocol_error").check(&over(&traced).await);
}

#[tokio::test]
async fn one_interim_response_too_many_dies_in_response_wait() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(3);
    let origin = Origin::plain().script([ReadHead, write(interim), AwaitClose]);
    let traced = Traced::new(origin.client_builder().max_informational(2));
    let error = traced.read(origin.url("/")).await.expect_err("too many");
    assert_says(&error, "response-wait", "too_many_informational", &[]);
    let expected = ExpectedTimeline::new().error("response-wait", "too_many_informational").no_status();
    expected.response("failed").idle_return("closed protocol_error").check(&over(&traced).await);
}

#[tokio::test]
async fn a_request_body_that_fails_dies_in_request_write() {
    let origin = Origin::plain().script([ReadHead, Stall]);
    let traced = Traced::new(origin.client_builder());
    let frames = [Ok(Frame::data("a piece".into())), Err(io::Error::other("the disk is gone"))];
    let body = StreamBody::new(tokio_stream::iter::<[Result<Frame<Bytes>, io::Error>; 2]>(frames));
    let request = Request::post(origin.url("/")).body(body).expect("a request");
    let error = within("the failure", traced.client.request(request)).await.expect_err("not sent");
    assert_says(&error, "request-write", "request_body_failed", &["body"]);
    let expected = ExpectedTimeline::new().error("request-write", "request_body_failed").response("failed");
    expected.idle_return("closed canceled").check(&over(&traced).await);
}

#[tokio::test]
async fn a_request_that_can_not_be_sent_is_told_before_anything_is() {
    let traced = Traced::new(Client::builder());
    for uri in ["ftp://a.test/", "/no/host"] {
        let error = traced.read(uri.parse().expect("a URL")).await.expect_err("not a request");
        assert_says(&error, "request", "invalid_request", &["invalid_request"]);
    }
    assert_eq!(traced.log.names(), Vec::<&str>::new());
}

#[tokio::test]
async fn what_has_no_name_of_its_own_says_why() {
    // A record of TLS that nobody encrypted.
    let garbage = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
    let origin = Origin::tls_with_alpn(&["http/1.1"]).script([ReadHead, WriteBeneath(garbage.into()), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("no answer");
    assert_says(&error, "response-wait", "_OTHER", &[]);
    assert!(format!("{error:?}").contains("cannot decrypt"), "{error:?}");
    let expected = ExpectedTimeline::new().phases(WRITTEN_TLS).error("response-wait", "_OTHER");
    expected.response("failed").check(&over(&traced).await);
}

/// Takes the request, and then has this to say.
struct Breaking {
    kind: io::ErrorKind,
    taken: bool,
    waiting: Option<Waker>,
}

impl hyper::rt::Write for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.taken = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Read for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken {
            return Poll::Ready(Err(self.kind.into()));
        }
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[tokio::test]
async fn what_the_system_says_of_a_connection_is_told() {
    for (kind, error_type, yes) in [
        (io::ErrorKind::ConnectionReset, "connection_reset", &[][..]),
        (io::ErrorKind::ConnectionAborted, "connection_reset", &[]),
        (io::ErrorKind::UnexpectedEof, "connection_closed", &[]),
        // A peer that acknowledges nothing any more.
        (io::ErrorKind::TimedOut, "timeout", &["timeout"]),
        (io::ErrorKind::HostUnreachable, "_OTHER", &[]),
    ] {
        let connector = tower::service_fn(move |_: Uri| async move {
            Ok::<_, io::Error>(Breaking { kind, taken: false, waiting: None })
        });
        let traced = Traced::new(Client::builder().connector(connector));
        let error = traced.read("http://a.test/".parse().expect("a URL")).await.expect_err("no answer");
        assert_says(&error, "response-wait", error_type, yes);
        ExpectedTimeline::new().error("response-wait", error_type).response("failed").check(&over(&traced).await);
    }
}
