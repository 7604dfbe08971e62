//! Who was waited for: the network, the application, or the runtime.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http_body::Body;
use httptrace::{ClientTrace, ResponseBody, Timeline, facts::Reading, hooks::GotFirstResponseByteInfo, views::waterfall::Waterfall};
use opentelemetry::Value;

use super::scene::Scene;
use crate::support::{
    client::read,
    origin::Origin,
    pass,
    script::{
        Step::{AwaitClose, Gate, ReadHead},
        write,
    },
    within,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
const LONG: Duration = Duration::from_millis(500);
/// What a busy machine may add to what should be nothing.
const LITTLE: Duration = Duration::from_millis(250);
const BLOCKED: Duration = Duration::from_millis(300);

async fn is_pending(body: &mut ResponseBody) -> bool {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx).is_pending())).await
}

async fn reading(scene: &Scene) -> (Timeline, Reading) {
    let timeline = scene.traced.timeline().await;
    let reading = timeline.facts.as_ref().and_then(|facts| facts.reading).expect("a body");
    let spans = scene.spans(1, 6).await;
    let seconds = |key: &str| {
        let found = spans.only("response-read").attributes.iter().find(|attribute| attribute.key.as_str() == key);
        let Some(Value::F64(seconds)) = found.map(|attribute| &attribute.value) else { panic!("{key}: {found:?}") };
        *seconds
    };
    let told = ["application", "network"].map(|who| seconds(&format!("httptrace.response.blocked_by_{who}")));
    let known = [reading.blocked_by_application, reading.blocked_by_network].map(|time| time.as_secs_f64());
    assert_eq!(told, known);
    (timeline, reading)
}

// mutant: `head_given` without `given`; `answered` with its two arms changed over
#[tokio::test]
async fn a_body_that_is_asked_for_and_does_not_come_is_the_networks_time() {
    let origin = Origin::plain().script([ReadHead, write(HEAD), Gate("body"), write("hi"), AwaitClose]);
    let scene = Scene::new(origin.client_builder().poll_times(true));
    let response = within("a head", scene.traced.get(origin.url("/"))).await.expect("a response");
    let mut body = response.into_body();
    within("the origin", origin.gate("body").reached()).await;
    assert!(is_pending(&mut body).await);
    pass(LONG).await;
    origin.gate("body").open();
    read(http::Response::new(body)).await.expect("two bytes");
    let (timeline, reading) = reading(&scene).await;
    assert!(reading.blocked_by_network >= LONG && reading.blocked_by_application < LITTLE, "{reading:?}");
    let facts = Waterfall::from_timeline(&timeline).facts;
    assert!(!facts.iter().any(|fact| fact.contains("for the application")), "{facts:?}");
}

#[tokio::test]
async fn a_body_that_is_here_and_not_asked_for_is_the_applications_time() {
    for http2 in [false, true] {
        let origin = if http2 { Origin::plain().http2() } else { Origin::plain() };
        let origin = origin.serve(|_| async { http::Response::new(http_body_util::Full::<bytes::Bytes>::from("hi")) });
        let builder = origin.client_builder().poll_times(true);
        let scene = Scene::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        let response = within("a head", scene.traced.get(origin.url("/"))).await.expect("a response");
        // The body came with the head, or right behind it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        pass(LONG).await;
        read(response).await.expect("two bytes");
        let (timeline, reading) = reading(&scene).await;
        assert!(reading.blocked_by_application >= LONG && reading.blocked_by_network < LITTLE, "{http2} {reading:?}");
        let facts = Waterfall::from_timeline(&timeline).facts;
        let told = facts.iter().any(|fact| fact.starts_with("body waited 5") && fact.ends_with(" for the application"));
        assert!(told, "{facts:?}");
    }
}

/// Blocks the thread on which the response's future waits for its turn.
struct Blocks;

impl ClientTrace for Blocks {
    fn got_first_response_byte(&self, _: &GotFirstResponseByteInfo) {
        std::thread::sleep(BLOCKED);
    }
}

// mutant: `head_given` adds nothing to `delay`
#[tokio::test]
async fn a_response_that_is_read_and_not_taken_is_the_runtimes_delay() {
    for (blocked, http2) in [(true, false), (true, true), (false, false)] {
        let origin = if http2 { Origin::plain().http2() } else { Origin::plain() };
        let origin = origin.serve(|_| async { http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()) });
        let mut builder = origin.client_builder().poll_times(true);
        if blocked {
            builder = builder.client_trace(Arc::new(Blocks));
        }
        let scene = Scene::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        scene.traced.read(origin.url("/")).await.expect("a response");
        let timeline = scene.traced.timeline().await;
        let delay = timeline.facts.as_ref().and_then(|facts| facts.runtime_delay).expect("a head");
        let spans = scene.spans(1, 6).await;
        let told = Value::F64(delay.as_secs_f64());
        let key = "httptrace.runtime.delay";
        let attributes = &spans.only("GET").attributes;
        assert!(attributes.iter().any(|told_too| told_too.key.as_str() == key && told_too.value == told));
        assert!(if blocked { delay >= BLOCKED } else { delay < LITTLE }, "{blocked} {http2} {delay:?}");
        let facts = Waterfall::from_timeline(&timeline).facts;
        assert!(!blocked || facts.iter().any(|fact| fact.starts_with("runtime ") && fact.ends_with(" late")), "{facts:?}");
    }
}

#[tokio::test]
async fn nothing_is_timed_that_is_not_asked_for() {
    let origin = Origin::plain().script([ReadHead, write(HEAD), write("hi"), AwaitClose]);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url("/")).await.expect("a response");
    assert_eq!(scene.traced.timeline().await.facts, None);
}
