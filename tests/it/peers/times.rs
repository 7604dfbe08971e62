//! Times: absent where nothing happened, taken where it happened, never negative, never too short.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, channel::Channel};
use httptrace::{
    Client, ClientTrace, Error, Phase, Timeline,
    hooks::{GetConnInfo, GotConnInfo, with_client_trace},
};

use super::{OK, hello, now};
use crate::{
    spans::scene::Scene,
    support::{
        client::{Traced, read},
        dns::FakeResolver,
        frames::{DATA, HEADERS, PREFACE, data, greeting, head},
        gate::Gate,
        origin::Origin,
        script::{
            Step::{AwaitClose, Gate as AtGate, Read, ReadFrame, ReadHead},
            write,
        },
        timeline::ExpectedTimeline,
        within,
    },
};

fn length(timeline: &Timeline, phase: Phase) -> Duration {
    let phases = timeline.phases();
    let found = phases.iter().find(|span| span.phase == phase).unwrap_or_else(|| panic!("no {phase}"));
    found.end - found.start
}

const SET_UP: [&str; 4] = ["get-connection", "dns", "connect", "tls"];

// 1: curl's timers are tiny, not absent, on a reused connection; a browser's are zero; a proxy's are those of the first
// request, again and again.
#[tokio::test]
async fn a_reused_connection_never_shows_a_handshake_of_zero() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let scene = Scene::new(origin.client_builder());
        for _ in 0..3 {
            scene.traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
            scene.traced.log.settled().await;
        }
        let spans = scene.spans(3, 16).await;
        for name in SET_UP {
            assert_eq!(spans.named(name).len(), 1, "{name} belongs to the first request alone\n{spans}");
        }
        for timeline in &scene.traced.timelines(3).await[1..] {
            assert!(timeline.setup.is_empty() && timeline.wait.is_none(), "{alpn}: {timeline:?}");
        }
    }
}

// 2: with an early answer, curl's "sent" can come after its "first byte" and make a negative wait.
#[tokio::test]
async fn an_early_answer_never_makes_a_negative_wait() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
    let http1 = Origin::plain().script([ReadHead, Read(b"5\r\nfirst\r\n".len()), write(refusal), AwaitClose]);
    let http2 = Origin::plain().script([
        Read(PREFACE),
        greeting(),
        ReadFrame(DATA, 1),
        write([head(1, 413, &[], false), data(1, b"no", true)].concat()),
        AwaitClose,
    ]);
    for (origin, http2) in [(http1, false), (http2, true)] {
        let builder = origin.client_builder();
        let traced = Traced::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        let (mut sender, body) = Channel::<Bytes, Error>::new(1);
        sender.send_data(Bytes::from_static(b"first")).await.expect("room");
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let response = within("an answer", traced.client.request(request)).await.expect("a response");
        assert_eq!(read(response).await.expect("a body"), "no");
        traced.log.settled().await.assert_paired();
        let timeline = traced.timeline().await;
        // The kit checks that nothing ends before it starts and that all lies inside of its parent.
        let phases = ["get-connection", "connect", "request-write", "response-read"];
        ExpectedTimeline::new().phases(phases).status(413).response("complete").check(&timeline);
        assert!(timeline.wrote_request.is_none(), "it was never written whole");
        drop(sender);
    }
}

#[tokio::test]
async fn an_answer_that_begins_before_the_upload_ends_is_never_waited_for() {
    let begin = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
    let upload = b"4\r\nlate\r\n0\r\n\r\n".len();
    let http1 = Origin::plain().script([ReadHead, write(begin), Read(upload), write("k"), AwaitClose]);
    let http2 = Origin::plain().script([
        Read(PREFACE),
        greeting(),
        ReadFrame(HEADERS, 1),
        write([head(1, 200, &[], false), data(1, b"o", false)].concat()),
        ReadFrame(DATA, 1),
        write(data(1, b"k", true)),
        AwaitClose,
    ]);
    for (origin, http2) in [(http1, false), (http2, true)] {
        let builder = origin.client_builder();
        let traced = Traced::new(if http2 { builder.http2_prior_knowledge() } else { builder });
        let (mut sender, body) = Channel::<Bytes, Error>::new(1);
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let response = within("an answer", traced.client.request(request)).await.expect("a response");
        sender.send_data(Bytes::from_static(b"late")).await.expect("room");
        drop(sender);
        assert_eq!(read(response).await.expect("a body"), "ok");
        traced.log.settled().await.assert_paired();
        let timeline = traced.timeline().await;
        let phases = ["get-connection", "connect", "request-write", "response-read"];
        ExpectedTimeline::new().phases(phases).status(200).idle_return("pooled").check(&timeline);
        assert!(timeline.final_first_byte < timeline.wrote_request, "the one before the other, and both told");
    }
}

// 4: an older OkHttp's first byte was the moment when somebody began to wait for it; undici's is when the head is parsed.
#[tokio::test]
async fn the_first_byte_is_never_the_start_of_waiting_nor_the_end_of_parsing() {
    for origin in [Origin::plain(), Origin::tls_with_alpn(&["http/1.1"])] {
        let origin =
            origin.script([ReadHead, AtGate("first"), write("H"), AtGate("rest"), write(&OK[1..]), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        let response = tokio::spawn(traced.get(origin.url("/")));
        origin.gate("first").reached().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let before = now();
        origin.gate("first").open();
        traced.log.wait_for("got_first_response_byte", 1).await;
        let after = now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        origin.gate("rest").open();
        read(response.await.expect("no panic").expect("a response")).await.expect("a body");
        let first_byte = traced.timeline().await.first_byte.expect("there was one");
        assert!(before <= first_byte && first_byte <= after);
    }
}

// 7: an OkHttp interceptor of OpenTelemetry showed 69 of 428 ms.
#[tokio::test]
async fn a_duration_is_never_shorter_than_what_the_caller_waited() {
    const PAUSE: Duration = Duration::from_millis(30);
    let origin = Origin::plain().script([
        ReadHead,
        AtGate("head"),
        write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
        AtGate("body"),
        write("ok"),
        AwaitClose,
    ]);
    let gate = Gate::new();
    let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
    let scene = Scene::new(Client::builder().resolver(Arc::new(resolver)));
    let before = now();
    let response = scene.traced.get(origin.url_at("origin.test", "/"));
    let body = tokio::spawn(async move { read(within("a head", response).await?).await });
    let pauses =
        [(gate, "dns_start"), (origin.gate("head"), "wrote_request"), (origin.gate("body"), "got_first_response_byte")];
    for (gate, begun) in pauses {
        gate.reached().await;
        // The phase has begun on this side too: from here on, it lasts as long as the pause.
        scene.traced.log.wait_for(begun, 1).await;
        tokio::time::sleep(PAUSE).await;
        gate.open();
    }
    body.await.expect("no panic").expect("a body");
    let felt = now() - before;
    let spans = scene.spans(1, 7).await;
    let client = spans.only("GET");
    let told = client.end_time.duration_since(client.start_time).expect("no negative length");
    let timeline = scene.traced.timeline().await;
    let duration = timeline.response_end.expect("an end") - timeline.start;
    assert!(duration >= 3 * PAUSE && duration <= felt && told >= duration, "{duration:?} and {told:?} of {felt:?}");
    for phase in [Phase::GetConnection, Phase::Dns, Phase::ResponseWait, Phase::ResponseRead] {
        assert!(length(&timeline, phase) >= PAUSE, "{phase}: {:?}", length(&timeline, phase));
    }
}

/// When a connection was asked for, and when it was in hand.
#[derive(Default)]
struct Asked(OnceLock<Instant>, OnceLock<Instant>);

impl ClientTrace for Asked {
    fn get_conn(&self, info: &GetConnInfo<'_>) {
        let _ = self.0.set(info.at);
    }

    fn got_conn(&self, info: &GotConnInfo<'_>) {
        let _ = self.1.set(info.at);
    }
}

// 8: reactor-netty's pool shows no wait while the event loop has no time, as long as a connection is idle.
#[tokio::test]
async fn a_starved_executor_is_never_shown_as_no_wait() {
    const STARVED: Duration = Duration::from_millis(40);
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.settled().await;
    let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
    let asked = Arc::new(Asked::default());
    with_client_trace(&mut request, Arc::clone(&asked) as Arc<dyn ClientTrace>);
    let response = tokio::spawn(traced.client.request(request));
    // On the only thread: the request is called, a connection is idle, and nobody polls.
    std::thread::sleep(STARVED);
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");
    let (asked, got) = (asked.0.get().expect("asked"), asked.1.get().expect("got"));
    assert!(*got - *asked >= STARVED, "{:?}", *got - *asked);
    let timeline = &traced.timelines(2).await[1];
    ExpectedTimeline::new().outcome("idle").check(timeline);
    assert!(timeline.write_start.expect("it was sent") - timeline.start >= STARVED);
}

// 13: pingora subtracted wall clocks, which are set back now and then.
#[tokio::test]
async fn a_duration_is_never_the_difference_of_wall_clocks() {
    let origin = Origin::tls().serve(hello);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
    let spans = scene.spans(1, 8).await;
    let timeline = scene.traced.timeline().await;
    // Every time of every span is one wall clock reading, plus a monotonic distance; a phase may be moved into a
    // microsecond of its own and be given a length, forwards, which is all that a reader of microseconds needs.
    const MOVED: Duration = Duration::from_nanos(1100);
    let client = spans.only("GET");
    assert_eq!(client.start_time, timeline.anchor.system(timeline.start));
    assert_eq!(client.end_time, timeline.anchor.system(timeline.end.expect("an end")));
    for phase in timeline.phases() {
        let span = spans.only(phase.phase.as_str());
        let times = (timeline.anchor.system(phase.start), timeline.anchor.system(phase.end));
        let moved = (span.start_time.duration_since(times.0), span.end_time.duration_since(times.1));
        assert!(matches!(moved, (Ok(start), Ok(end)) if start <= MOVED && end <= MOVED), "{}: {moved:?}", span.name);
    }
    // And there is one place that could read a wall clock.
    let mut readers = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path).expect("a source").contains("SystemTime::now()") {
                readers.push(path.file_name().expect("a name").to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(readers, ["clock.rs"]);
}
