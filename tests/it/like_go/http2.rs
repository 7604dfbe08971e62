//! HTTP/2: what the server says it did not do is done again, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;

use crate::support::{
    client::{Traced, read},
    frames::{DATA, HEADERS, PREFACE, answer, goaway, greeting},
    origin::Origin,
    script::{
        Step::{self, AwaitClose, Close, ReadFrame},
        write,
    },
    streams::{self, Streams},
    within,
};

/// A server's script behind preface and settings.
fn h2(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    [Step::Read(PREFACE), greeting()].into_iter().chain(steps).collect()
}

fn post(uri: Uri) -> Request<Full<Bytes>> {
    Request::post(uri).body(Full::from("body")).expect("a request")
}

/// Go: TestTransportRetryAfterGOAWAYRetry.
#[tokio::test]
async fn a_request_above_a_goaway_is_sent_again_on_another_connection() {
    let away = h2([ReadFrame(DATA, 1), write(goaway(0, 0)), AwaitClose]);
    let origin = Origin::plain().scripts([away, h2([ReadFrame(DATA, 1), answer(1, "ok"), AwaitClose])]);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let response =
        within("a response", traced.client.request(post(origin.url("/")))).await.expect("the second answers");
    assert_eq!(read(response).await.expect("a body"), "ok");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("retry"), ["#2 goaway"]);
    assert_eq!(origin.accepted(), 2);
    let timelines = traced.timelines(2).await;
    assert_eq!(timelines[0].idle_return.and_then(|back| back.reason()).map(|reason| reason.as_str()), Some("goaway"));
    assert_eq!(timelines[1].request.resend_count, 1);
}

/// Go: TestTransportRetryAfterGOAWAYNoRetry.
#[tokio::test]
async fn a_request_that_a_goaway_leaves_open_is_not_sent_again() {
    let origin = Origin::plain().scripts([h2([ReadFrame(HEADERS, 1), write(goaway(1, 2)), Close])]);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let error = traced.read(origin.url("/")).await.expect_err("the server may have done it");
    assert_eq!(error.error_type(), "connection_closed", "what was below the word was left to the connection");
    traced.log.settled().await.assert_paired();
    assert_eq!((traced.log.count("retry"), origin.accepted()), (0, 1));
}

/// Go: TestTransportRetryAfterGOAWAYSecondRequest.
#[tokio::test]
async fn of_two_requests_a_goaway_repeats_the_one_that_is_above_it() {
    let away = h2([ReadFrame(HEADERS, 1), ReadFrame(HEADERS, 3), write(goaway(1, 0)), answer(1, "first"), AwaitClose]);
    let origin = Origin::plain().scripts([away, h2([ReadFrame(HEADERS, 1), answer(1, "second"), AwaitClose])]);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let first = tokio::spawn(traced.get(origin.url("/1")));
    traced.log.wait_for("wrote_request", 1).await;
    let second = within("the second", traced.get(origin.url("/2"))).await.expect("a response");
    assert_eq!(read(second).await.expect("a body"), "second");
    let first = within("the first", first).await.expect("no panic").expect("a response");
    assert_eq!(read(first).await.expect("a body"), "first");
    traced.log.settled().await.assert_paired_over(2);
    assert_eq!(traced.log.details("retry"), ["#2 goaway"]);
    assert_eq!(origin.accepted(), 2);
}

/// Refuses so many streams, then answers.
fn refusing(times: usize) -> (Streams, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let origin = Streams::serve(move |_, mut respond| {
        let refuse = count.fetch_add(1, Ordering::Relaxed) < times;
        async move {
            if refuse {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                streams::answer(respond, 200, "ok");
            }
        }
    });
    (origin, asked)
}

/// Go: TestTransportRetryAfterRefusedStream.
#[tokio::test]
async fn a_refused_stream_is_tried_again_on_the_same_connection() {
    let (origin, asked) = refusing(1);
    let traced = Traced::new(origin.client_builder());
    let response = within("a response", traced.client.request(post(origin.url("/")))).await.expect("a response");
    assert_eq!(read(response).await.expect("a body"), "ok");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("retry"), ["#2 refused_stream"]);
    assert_eq!((asked.load(Ordering::Relaxed), origin.accepted()), (2, 1));
    let told: Vec<_> = traced.timelines(2).await.iter().map(|timeline| timeline.stream_id).collect();
    assert_eq!(told, [Some(1), Some(3)]);
}

/// Go: TestTransportRetryHasLimit. There it gives up within five minutes; here after three more attempts.
#[tokio::test]
async fn a_server_that_refuses_for_ever_is_asked_four_times() {
    let (origin, asked) = refusing(usize::MAX);
    let traced = Traced::new(origin.client_builder());
    let error = traced.read(origin.url("/")).await.expect_err("refused for ever");
    assert_eq!(error.error_type(), "http2_stream_reset");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("retry"), ["#2 refused_stream", "#3 refused_stream", "#4 refused_stream"]);
    assert_eq!((asked.load(Ordering::Relaxed), traced.timelines(4).await.len()), (4, 4));
}
