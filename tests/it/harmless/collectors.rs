//! Collectors that are not there, slow, full, broken, or something else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use httptrace::{
    Client,
    otlp::{self, Protocol, Shutdown},
};
use opentelemetry::trace::{Span, Tracer, TracerProvider};

use super::hello;
use crate::support::{
    PATIENCE,
    client::read,
    collector::{Answer, Collector},
    origin::{Origin, Refusing},
    script::Step::{AwaitClose, Read, Reset, Stall},
    within,
};

/// What stays alive as long as the collector is asked, and where it is.
struct Bad {
    name: &'static str,
    endpoint: String,
    protocol: Protocol,
    /// What is said of it.
    words: &'static str,
    _kept: Box<dyn std::any::Any>,
}

fn bad(name: &'static str, protocol: Protocol, endpoint: String, words: &'static str, kept: impl std::any::Any) -> Bad {
    Bad { name, endpoint, protocol, words, _kept: Box::new(kept) }
}

fn all() -> Vec<Bad> {
    let mut all = Vec::new();
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let down = Refusing::new();
        all.push(bad("refuses", protocol, format!("http://{}", down.addr()), "connection refused", down));
        let hangs = if protocol == Protocol::Grpc { Collector::grpc() } else { Collector::http() };
        hangs.answer(Answer::Hang);
        all.push(bad("hangs", protocol, hangs.endpoint(), "no answer within", hangs));
        let resets = Origin::plain().script([Read(1), Reset]);
        all.push(bad("resets", protocol, format!("http://{}", resets.addr()), "OTEL_EXPORTER_OTLP_PROTOCOL", resets));
        let deaf = Origin::plain().script([Stall]);
        all.push(bad("does not read", protocol, format!("http://{}", deaf.addr()), "no answer within", deaf));
        let tls = Origin::tls().serve(hello);
        all.push(bad("wants TLS", protocol, format!("http://{}", tls.addr()), "", tls));
        let plain = Origin::plain().serve(hello);
        all.push(bad("has no TLS", protocol, format!("https://{}", plain.addr()), "", plain));
    }
    for (name, status, words) in
        [("429", 429, "overloaded"), ("503", 503, "overloaded"), ("400", 400, "HTTP status 400")]
    {
        let busy =
            Origin::plain().serve(move |_: Request<hyper::body::Incoming>| std::future::ready(answer(status, "1")));
        all.push(bad(name, Protocol::HttpProtobuf, format!("http://{}", busy.addr()), words, busy));
    }
    let partial = Collector::http();
    partial.answer(Answer::AllBut(1_000_000));
    all.push(bad("takes nothing", Protocol::HttpProtobuf, partial.endpoint(), "items refused", partial));
    let says = Origin::plain().script([Read(1), AwaitClose]);
    all.push(bad("says nothing", Protocol::HttpProtobuf, format!("http://{}", says.addr()), "no answer within", says));
    all
}

fn answer(status: u16, retry_after: &str) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header("retry-after", retry_after);
    answer.body(Full::default()).expect("an answer")
}

#[allow(clippy::disallowed_methods, reason = "what a caller waits is the wall's time")]
fn now() -> Instant {
    Instant::now()
}

const REQUESTS: usize = 60;

/// What the caller waits for each of some requests, sorted.
async fn waits(client: &Client, url: &Uri) -> Vec<Duration> {
    let mut waits = Vec::new();
    for _ in 0..REQUESTS {
        let start = now();
        let response = within("a head", client.get(url.clone())).await.expect("the origin is well");
        assert_eq!(read(response).await.expect("a body"), "hello");
        waits.push(now() - start);
    }
    waits.sort_unstable();
    waits
}

/// Requests in front of that collector, and what became of their spans.
async fn asked(bad: &Bad) -> (Vec<Duration>, u64, Shutdown) {
    let guard = otlp::builder()
        .endpoint(bad.endpoint.clone())
        .protocol(bad.protocol)
        .set_globals(false)
        // So short and so small that it runs over, and that every export fails many times meanwhile.
        .timeout(Duration::from_millis(300))
        .batch_delay(Duration::from_millis(5))
        .batch_queue(8)
        .metric_interval(Duration::from_millis(20));
    let guard = guard.init().expect("telemetry");
    let origin = Origin::plain().serve(hello);
    let made = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&made);
    let client = Client::builder()
        .tracer_provider(guard.tracer_provider())
        .meter_provider(guard.meter_provider())
        .on_timeline(move |timeline| {
            counted.fetch_add(1 + timeline.phases().len() as u64, SeqCst);
        })
        .build()
        .expect("a client");
    let waits = waits(&client, &origin.url("/")).await;
    assert_eq!(origin.accepted(), 1, "{}: the connection is kept", bad.name);
    client.shutdown(PATIENCE).await;
    let ended = guard.shutdown_async().await;
    (waits, made.load(SeqCst), ended)
}

// mutant: `Way::take` waits for a place instead of counting the record → the collectors that hang
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_collector_does_requests_are_as_fast_as_without_and_what_is_lost_is_counted() {
    let origin = Origin::plain().serve(hello);
    for bad in all() {
        let plain = Client::builder().telemetry(false).build().expect("a client");
        let without = waits(&plain, &origin.url("/")).await;
        let (with, made, ended) = asked(&bad).await;
        println!(
            "{:<14} {:?}: median {:?}, without {:?}",
            bad.name,
            bad.protocol,
            with[REQUESTS / 2],
            without[REQUESTS / 2]
        );
        // An export takes 300 ms where it fails slowly; what it costs the machine is no wait of a request.
        let most = without[REQUESTS * 3 / 4] + Duration::from_millis(30);
        assert!(with[REQUESTS / 2] < most, "{}: {with:?}, without {without:?}", bad.name);
        assert_eq!((ended.exported_spans, ended.dropped_spans), (0, made), "{}: {ended}", bad.name);
        let lines = &ended.problems;
        assert!(lines.iter().any(|line| line.contains(bad.words)), "{}: {lines:?}", bad.name);
        // Of each kind, one line: the collector's, and that of a queue which ran over.
        assert!(lines.len() <= 3, "{}: {lines:?}", bad.name);
    }
}

// mutant: `failure.retry_after = None` in `Route::attempt`
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_says_when_to_come_back_is_asked_then_and_not_before() {
    for status in [429, 503] {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let times = Arc::clone(&asked);
        let collector = Origin::plain().serve(move |_: Request<hyper::body::Incoming>| {
            let mut times = times.lock().expect("no panic under the lock");
            times.push(now());
            let answer = if times.len() == 1 { answer(status, "1") } else { answer(200, "0") };
            std::future::ready(answer)
        });
        let guard = otlp::builder().endpoint(format!("http://{}", collector.addr())).set_globals(false).metrics(false);
        let guard = guard.init().expect("telemetry");
        guard.tracer_provider().tracer("tests").start("work").end();
        let provider = guard.tracer_provider().clone();
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush()).await.expect("an end");
        flushed.expect("taken the second time");
        let ended = guard.shutdown_async().await;
        assert!(ended.is_complete() && ended.problems.is_empty(), "{ended}");
        let times = asked.lock().expect("no panic under the lock").clone();
        let [first, second] = *times else { panic!("asked {} times", times.len()) };
        assert!(second - first >= Duration::from_secs(1), "{:?}", second - first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_wait_for_an_hour_costs_no_more_than_the_timeout() {
    let collector = Origin::plain().serve(async |_: Request<_>| answer(503, "3600"));
    let guard = otlp::builder().endpoint(format!("http://{}", collector.addr())).set_globals(false);
    let guard = guard.timeout(Duration::from_millis(400)).init().expect("telemetry");
    guard.tracer_provider().tracer("tests").start("work").end();
    let start = now();
    let ended = within("an end", guard.shutdown_async()).await;
    assert!(now() - start < Duration::from_secs(5), "{:?}", now() - start);
    assert_eq!((ended.exported_spans, ended.dropped_spans), (0, 1), "{ended}");
}
