//! HTTP/2, stream by stream: which request is on which one, what its frames tell, and what a connection learns beside its
//! requests. The first two tests are the canary for a new hyper or h2: they fail when streams are numbered otherwise than by
//! the order of dispatch.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full, channel::Channel};
use httptrace::{
    ClientTrace, Error, Timeline,
    connection::Http2Record,
    hooks::{self, with_client_trace},
};
use tokio::task::JoinSet;

use crate::support::{
    client::{Traced, read},
    gate::Gate,
    streams::{Streams, answer},
    timeline::ExpectedTimeline,
    trace::Hints,
    within,
};

/// What `conn_closed` told.
#[derive(Default)]
struct Closed(Mutex<Vec<(&'static str, &'static str, Http2Record)>>);

impl ClientTrace for Closed {
    fn conn_closed(&self, info: &hooks::ConnClosedInfo<'_>) {
        let http2 = info.http2.cloned().expect("an HTTP/2 connection");
        self.0.lock().expect("no panic under the lock").push((info.reason.as_str(), info.initiator.as_str(), http2));
    }
}

impl Closed {
    /// Once so many connections are closed.
    async fn all(&self, count: usize) -> Vec<(&'static str, &'static str, Http2Record)> {
        within("connections to be closed", async {
            loop {
                let all = self.0.lock().expect("no panic under the lock").clone();
                if all.len() >= count {
                    return all;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

fn stream_in(head: &HeaderMap) -> u32 {
    head["x-stream"].to_str().expect("ASCII").parse().expect("a number")
}

/// Sends so many requests at once, and compares the stream in each record with the one that the origin names.
async fn all_know_their_stream(origin: &Streams, traced: &Traced, count: usize, post: impl Fn(usize) -> Option<Bytes>) {
    let mut requests = JoinSet::new();
    for number in 0..count {
        let uri = origin.url("/");
        let request = match post(number) {
            Some(body) => Request::post(uri).body(Full::new(body)),
            None => Request::get(uri).body(Full::default()),
        };
        let mut request = request.expect("a request");
        request.extensions_mut().insert(httptrace::timeline::Tag(number as u64));
        let response = traced.client.request(request);
        requests.spawn(async move {
            let response = response.await.expect("a response");
            let stream = stream_in(response.headers());
            read(response).await.expect("a body");
            (number as u64, stream)
        });
    }
    let mut named = requests.join_all().await;
    named.sort_unstable();
    let mut told: Vec<_> = traced
        .timelines(count)
        .await
        .iter()
        .map(|timeline| (timeline.request.tag.expect("a mark").0, timeline.stream_id.expect("a stream")))
        .collect();
    told.sort_unstable();
    assert_eq!(told.len(), count);
    let wrong = told.iter().zip(&named).filter(|(told, named)| told != named).count();
    assert_eq!(wrong, 0, "requests with a wrong stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_25_000_requests_at_once_know_their_stream_and_make_one_dial() {
    let origin = Streams::serve(|_, respond| async { answer(respond, 200, "") });
    let traced = Traced::new(origin.client_builder());
    all_know_their_stream(&origin, &traced, 25_000, |_| None).await;
    traced.log.settled().await.assert_paired_over(25_000);
    assert_eq!((origin.accepted(), traced.log.count("connect_start")), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_told_apart_with_uploads_and_given_up_requests_among_them_at_any_limit() {
    for limit in [1, 5, 1000] {
        let mut settings = h2::server::Builder::new();
        // So many that are given up are no attack here.
        settings.max_concurrent_streams(limit).max_pending_accept_reset_streams(1000);
        let origin = Streams::serve_with(settings, |request, respond| async {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            answer(respond, 200, "some bytes");
        });
        let closed = Arc::new(Closed::default());
        let traced = Traced::new(origin.client_builder().client_trace(Arc::clone(&closed) as Arc<dyn ClientTrace>));
        let mut given_up = JoinSet::new();
        for polls in 0..60 {
            // Dropped at any moment of their lives, beside those that count.
            let request =
                Request::post(origin.url("/")).body(Full::new(Bytes::from(vec![1; 40_000]))).expect("a request");
            let mut response = Box::pin(traced.client.request(request));
            given_up.spawn(async move {
                for _ in 0..polls % 6 {
                    if poll_once(&mut response).await.is_some() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        let upload = |number: usize| number.is_multiple_of(3).then(|| Bytes::from(vec![2; number * 100]));
        let mut requests = JoinSet::new();
        for number in 0..300_usize {
            let request = match upload(number) {
                Some(body) => Request::post(origin.url("/")).body(Full::new(body)),
                None => Request::get(origin.url("/")).body(Full::default()),
            };
            let mut request = request.expect("a request");
            request.extensions_mut().insert(httptrace::timeline::Tag(number as u64));
            let response = traced.client.request(request);
            requests.spawn(async move {
                let response = response.await.expect("a response");
                let stream = stream_in(response.headers());
                // Every fourth is not read.
                if number % 4 > 0 {
                    read(response).await.expect("a body");
                }
                (number as u64, stream)
            });
        }
        let named = requests.join_all().await;
        given_up.join_all().await;
        traced.log.settled().await.assert_paired_over(360);
        // What was sent before the origin's limit was known may have been refused, and sent again.
        let mut answered = traced.timelines(360 + traced.log.count("retry")).await;
        answered.retain(|timeline| timeline.status.is_some());
        for (number, stream) in named {
            let timeline = answered.iter().find(|timeline| timeline.request.tag.is_some_and(|tag| tag.0 == number));
            assert_eq!(timeline.expect("its record").stream_id, Some(stream), "request {number}, limit {limit}");
        }
        drop(traced);
        let connections = closed.all(origin.accepted()).await;
        assert!(connections.iter().all(|(_, _, http2)| !http2.disagreed));
    }
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

fn interim(status: u16) -> http::response::Builder {
    Response::builder().status(status)
}

#[tokio::test]
async fn interim_responses_are_told_with_their_fields_and_are_not_the_answer() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |_, mut respond| {
        let gate = held.clone();
        async move {
            for link in ["</a>", "</b>"] {
                respond
                    .send_informational(interim(103).header("link", link).body(()).expect("a head"))
                    .expect("an open stream");
            }
            gate.wait().await;
            answer(respond, 200, "ok");
        }
    });
    let traced = Traced::new(origin.client_builder());
    let hints = Arc::new(Hints::default());
    let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
    with_client_trace(&mut request, Arc::clone(&hints) as Arc<dyn ClientTrace>);
    let response = tokio::spawn(traced.client.request(request));
    traced.log.wait_for("got_1xx_response", 2).await;
    gate.open();
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");
    assert_eq!(hints.lines(), ["103 </a>", "103 </b>"]);
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
    let events: Vec<_> = timeline.events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(events, ["wrote-headers", "first-byte", "informational", "informational", "idle-return"]);
    assert!(timeline.first_byte < timeline.final_first_byte, "the first one is not the answer's");
}

#[tokio::test]
async fn a_body_waits_for_100_continue() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |request, mut respond| {
        let gate = held.clone();
        async move {
            let mut body = request.into_body();
            assert_eq!(body.flow_control().used_capacity(), 0);
            gate.wait().await;
            respond.send_informational(interim(100).body(()).expect("a head")).expect("an open stream");
            assert_eq!(body.data().await.expect("a body").expect("an open stream"), "hello");
            answer(respond, 200, "");
        }
    });
    let traced = Traced::new(origin.client_builder().expect_continue_timeout(Duration::from_secs(3600)));
    let request = Request::post(origin.url("/")).header("expect", "100-continue").body(Full::from("hello"));
    let response = tokio::spawn(traced.client.request(request.expect("a request")));
    traced.log.wait_for("wait_100_continue", 1).await;
    gate.reached().await;
    assert_eq!(traced.log.count("wrote_request"), 0);
    gate.open();
    within("an answer", response).await.expect("no panic").expect("a response");
    traced.log.settled().await.assert_paired();
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
    let events: Vec<_> = timeline.events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(events, ["wrote-headers", "wait-100-continue", "first-byte", "got-100-continue", "idle-return"]);
}

#[tokio::test]
async fn too_many_interim_responses_end_their_request_and_not_its_neighbours() {
    for hooks in [true, false] {
        let origin = Streams::serve(|request, mut respond| async move {
            let count = if request.uri().path() == "/flood" { 51 } else { 50 };
            for _ in 0..count {
                let sent = respond.send_informational(interim(103).body(()).expect("a head"));
                if sent.is_err() {
                    return;
                }
            }
            if count == 50 {
                answer(respond, 200, "");
            } else {
                let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            }
        });
        let builder = origin.client_builder();
        if hooks {
            let traced = Traced::new(builder);
            let error = traced.read(origin.url("/flood")).await.expect_err("one more than fifty");
            assert_eq!(error.error_type(), "too_many_informational");
            traced.read(origin.url("/")).await.expect("fifty");
            traced.log.settled().await.assert_paired_over(2);
        } else {
            let client = builder.telemetry(false).build().expect("settings that fit");
            let error = within("an end", client.get(origin.url("/flood"))).await.expect_err("one more than fifty");
            assert_eq!(error.error_type(), "too_many_informational");
            within("an answer", client.get(origin.url("/"))).await.expect("fifty");
        }
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn time_in_which_a_body_is_blocked_by_flow_control_is_told() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |request, respond| {
        let gate = held.clone();
        async move {
            let mut body = request.into_body();
            let mut received = 0;
            // The window is used up: nothing more can come before it is opened.
            while received < 65_535 {
                received += body.data().await.expect("a body").expect("an open stream").len();
            }
            gate.wait().await;
            body.flow_control().release_capacity(received).expect("what was received");
            while let Some(data) = body.data().await {
                let length = data.expect("an open stream").len();
                body.flow_control().release_capacity(length).expect("what was received");
            }
            answer(respond, 200, "");
        }
    });
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from(vec![0; 100_000]))).expect("a request");
    let response = tokio::spawn(traced.client.request(request));
    gate.reached().await;
    let shut = tokio::time::Instant::now();
    // What is measured is time itself.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let shut = shut.elapsed();
    gate.open();
    within("an answer", response).await.expect("no panic").expect("a response");
    let Timeline { blocked, write_start, wrote_request, .. } = traced.timeline().await;
    let (blocked, write) =
        (blocked.expect("a body on HTTP/2"), wrote_request.expect("an end") - write_start.expect("a start"));
    assert!(blocked >= shut, "{blocked:?} of {shut:?}");
    assert!(blocked <= write, "{blocked:?} of {write:?}");
}

#[tokio::test]
async fn a_body_that_fits_in_the_windows_was_not_blocked() {
    let origin = Streams::serve(|_, respond| async { answer(respond, 200, "") });
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::from("hello")).expect("a request");
    within("an answer", traced.client.request(request)).await.expect("a response");
    assert_eq!(traced.timeline().await.blocked, Some(Duration::ZERO));
    traced.read(origin.url("/")).await.expect("a response");
    assert_eq!(traced.timelines(2).await[1].blocked, None, "no body");
}

#[tokio::test]
async fn an_upload_that_is_refused_early_is_reset_after_the_answer() {
    let (told, reset) = tokio::sync::oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let origin = Streams::serve(move |request, mut respond| {
        let told = Arc::clone(&told);
        async move {
            let mut body = request.into_body();
            let _ = body.data().await;
            let mut stream =
                respond.send_response(interim(413).body(()).expect("a head"), false).expect("an open stream");
            stream.send_data(Bytes::from_static(b"too large"), true).expect("an open stream");
            let rest = body.data().await;
            if let Some(told) = told.lock().expect("no panic under the lock").take() {
                let _ = told.send(rest.map(|rest| rest.map_err(|error| error.reason())));
            }
        }
    });
    let closed = Arc::new(Closed::default());
    let traced = Traced::new(origin.client_builder().client_trace(Arc::clone(&closed) as Arc<dyn ClientTrace>));
    let (mut sender, body) = Channel::<Bytes, Error>::new(1);
    let response = tokio::spawn(traced.client.request(Request::post(origin.url("/")).body(body).expect("a request")));
    sender.send_data(Bytes::from_static(b"the begin")).await.expect("hyper reads it");
    let response = within("an answer", response).await.expect("no panic").expect("a response");
    assert_eq!(read(response).await.expect("all of the answer"), "too large");
    let rest = within("the reset", reset).await.expect("told");
    assert_eq!(rest, Some(Err(Some(h2::Reason::CANCEL))));
    traced.log.settled().await.assert_paired();
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(413).response("complete").idle_return("pooled").check(&timeline);
    assert!(timeline.write_error.expect("an upload that was given up").1.is_canceled());
    drop(traced);
    let (_, _, http2) = closed.all(1).await.remove(0);
    assert_eq!((http2.resets_sent, http2.last_reset_code), (1, Some(8)));
    drop(sender);
}

#[tokio::test]
async fn a_refused_upload_that_the_window_blocks_costs_its_connection_and_hangs_nothing() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |request, respond| {
        let gate = held.clone();
        async move {
            let mut body = request.into_body();
            if !body.is_end_stream() {
                let mut received = 0;
                while received < 65_535 {
                    received += body.data().await.expect("a body").expect("an open stream").len();
                }
                answer(respond, 413, "");
                // The window stays shut, and the stream open.
                gate.wait().await;
            } else {
                answer(respond, 200, "");
            }
        }
    });
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from(vec![0; 200_000]))).expect("a request");
    let response = within("an answer", traced.client.request(request)).await.expect("a response");
    assert_eq!(response.status(), 413);
    traced.log.wait_for("conn_closed", 1).await;
    traced.log.settled().await.assert_paired();
    ExpectedTimeline::new().status(413).idle_return("closed request_unfinished").check(&traced.timeline().await);
    traced.read(origin.url("/")).await.expect("a response on another connection");
    assert_eq!(origin.accepted(), 2);
    gate.open();
}

#[tokio::test]
async fn a_connection_tells_what_passed_beside_its_requests() {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(7).initial_window_size(70_000).max_frame_size(20_000);
    let origin = Streams::serve_with(settings, |request, mut respond| async move {
        match request.uri().path() {
            "/reset" => respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM),
            _ => answer(respond, 200, ""),
        }
    });
    let closed = Arc::new(Closed::default());
    let builder = origin.client_builder().client_trace(Arc::clone(&closed) as Arc<dyn ClientTrace>);
    let interval = Duration::from_millis(5);
    let traced = Traced::new(builder.http2_keep_alive(interval, Duration::from_secs(20), true));
    traced.read(origin.url("/")).await.expect("a response");
    let error = traced.read(origin.url("/reset")).await.expect_err("a reset");
    assert_eq!(error.error_type(), "http2_stream_reset");
    // Long enough for a ping: what is measured is its time.
    tokio::time::sleep(Duration::from_millis(60)).await;
    drop(traced);
    let (reason, initiator, http2) = closed.all(1).await.remove(0);
    assert_eq!((reason, initiator), ("pool_closed", "client"));
    assert_eq!(http2.settings.max_concurrent_streams, Some(7));
    assert_eq!(http2.settings.initial_window_size, Some(70_000));
    assert_eq!(http2.settings.max_frame_size, Some(20_000));
    assert_eq!((http2.resets_received, http2.last_reset_code), (1, Some(11)));
    assert!(http2.pings_answered > 0, "{http2:?}");
    assert!(http2.min_round_trip <= http2.last_round_trip && http2.min_round_trip > Some(Duration::ZERO));
    assert_eq!((http2.goaway, http2.disagreed), (None, false));
}

#[tokio::test]
async fn trailers_are_no_second_head() {
    let origin = Streams::serve(|_, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).expect("an open stream");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        stream.send_trailers(trailers).expect("an open stream");
    });
    let traced = Traced::new(origin.client_builder());
    let response = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
    assert_eq!(timeline.first_byte, timeline.final_first_byte);
}
