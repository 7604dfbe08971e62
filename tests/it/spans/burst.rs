//! A burst: 400 requests at once, each on a connection of its own, while the collector does not answer. None of them fails for
//! it, what waits is bounded, and what finds no place is counted and told.
//!
//! What takes a place decides what a burst loses. Past the SDK that is a request with its six spans: 400 are far from the 2048
//! that there are by default. Of the SDK's spans each takes one: 2400 are more.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use httptrace::otlp::{self, Guard, Protocol, Shutdown};
use hyper::body::Incoming;
use tokio::task::{JoinHandle, JoinSet};

use super::lanes::Onlooker;
use crate::support::{
    PATIENCE,
    client::Traced,
    collector::{Answer, Collector},
    gate::Gate,
    origin::Origin,
    within,
};

const REQUESTS: usize = 400;
/// Connections at once. Each request has its own all the same; but so many sockets at once would be the test's own burst, on
/// the origin's backlog and on the process's files.
const CONNECTIONS: usize = 50;
/// Of a request that dials: GET, get-connection, connect, request-write, response-wait and response-read.
const SPANS: u64 = 6;

/// A client whose collector holds an export back: the first request's. So whatever comes now has to wait.
struct Held {
    origin: Origin,
    gate: Gate,
    collector: Collector,
    guard: Guard,
    traced: Traced,
    flushing: JoinHandle<()>,
}

impl Held {
    /// With the queue's and the batch's defaults, but for what `settings` say.
    async fn with(settings: impl FnOnce(otlp::Builder) -> otlp::Builder) -> Self {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::plain().serve(move |request: Request<Incoming>| {
            let held = held.clone();
            async move {
                if request.uri().path() != "/first" {
                    held.wait().await;
                }
                let mut response = Response::new(Full::<Bytes>::from("hello"));
                // So the next one dials.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                response
            }
        });
        let collector = Collector::http();
        collector.answer(Answer::Hold);
        let builder = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf);
        // It is to end when the test says so, and not before.
        let builder = builder.metrics(false).set_globals(false).timeout(PATIENCE);
        let guard = settings(builder).init().expect("telemetry");
        let builder = origin.client_builder().max_connections_per_host(CONNECTIONS);
        let traced = Traced::new(builder.tracer_provider(guard.tracer_provider()));
        traced.read(origin.url("/first")).await.expect("a response");
        traced.log.settled().await;
        let provider = guard.tracer_provider().clone();
        // What it says is not asked: it may well lose its patience with the collector before the test does.
        let flushing = tokio::task::spawn_blocking(move || drop(provider.force_flush()));
        collector.exports(1).await;
        Self { origin, gate, collector, guard, traced, flushing }
    }

    /// All begin before the first of them ends. Returns once they are over, and so are their records.
    async fn burst(&self) {
        let mut requests = JoinSet::new();
        for _ in 0..REQUESTS {
            requests.spawn(self.traced.read_later(self.origin.url("/")));
        }
        self.traced.log.wait_for("get_conn", 1 + REQUESTS).await;
        self.origin.until("all connections", |record| record.requests.len() == 1 + CONNECTIONS).await;
        self.gate.open();
        for response in within("the burst to end", requests.join_all()).await {
            assert_eq!(response.expect("a response"), "hello");
        }
        self.traced.log.settled().await.assert_paired_over(1 + REQUESTS);
        assert_eq!(self.origin.accepted(), 1 + REQUESTS, "each dialled");
        assert_eq!(self.collector.received().exports, 1, "all of it waits");
    }

    /// Lets the collector answer. Returns what is said of the end, and how many spans of each trace arrived.
    async fn end(self) -> (Shutdown, Vec<usize>) {
        self.collector.answer(Answer::Accept);
        let ended = within("the end", self.guard.shutdown_async()).await;
        within("the flush", self.flushing).await.expect("no panic");
        let mut traces = BTreeMap::<_, usize>::new();
        for span in self.collector.spans(0).await {
            *traces.entry(span.trace_id).or_default() += 1;
        }
        assert_eq!(traces.values().sum::<usize>() as u64, ended.exported_spans, "{ended}");
        (ended, traces.into_values().collect())
    }
}

/// What a user is told to do about it, and so often.
#[track_caller]
fn assert_told_once(ended: &Shutdown, what: &str) {
    assert_eq!(ended.problems.len(), 1, "{ended}");
    let told = &ended.problems[0];
    assert!(told.contains(what) && told.contains("raise OTEL_BSP_MAX_QUEUE_SIZE"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_400_requests_has_room_in_the_default_queue() {
    let held = Held::with(|otlp| otlp).await;
    held.burst().await;
    assert_eq!(held.guard.dropped_spans(), 0);
    let (ended, traces) = held.end().await;
    assert!(ended.is_complete() && ended.problems.is_empty(), "{ended}");
    assert_eq!(traces, [SPANS as usize; 1 + REQUESTS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_is_larger_than_the_queue_loses_what_is_beyond_it_and_no_part_of_a_request() {
    let held = Held::with(|otlp| otlp.batch_queue(100)).await;
    held.burst().await;
    // Exactly: so no more than a hundred ever waited, and no fewer.
    assert_eq!(held.guard.dropped_spans(), 300 * SPANS);
    let (ended, traces) = held.end().await;
    assert_eq!((ended.exported_spans, ended.dropped_spans), ((1 + 100) * SPANS, 300 * SPANS), "{ended}");
    assert_eq!(traces, [SPANS as usize; 1 + 100]);
    assert_told_once(&ended, "100 records wait already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_400_requests_overflows_the_default_queue_of_the_sdks_spans() {
    let onlooker = Onlooker::default();
    let held = Held::with(|otlp| otlp.span_processor(onlooker.clone())).await;
    held.burst().await;
    let made = onlooker.0.load(Ordering::Relaxed) as u64;
    assert_eq!(made, (1 + 400) * SPANS);
    // The first request's are on their way; of the others, as many wait as there are places.
    assert_eq!(held.guard.dropped_spans(), 400 * SPANS - 2048);
    let (ended, _) = held.end().await;
    assert_eq!((ended.exported_spans, ended.dropped_spans), (SPANS + 2048, made - SPANS - 2048), "{ended}");
    assert_told_once(&ended, "2048 spans wait already");
}
