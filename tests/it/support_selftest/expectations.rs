//! The expectations: each is shown something right, which it lets pass, and something wrong, which it does not.

use std::time::{Duration, Instant, SystemTime};

use http::{Request, Response};
use httptrace::Timeline;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::support::{
    client::{Traced, read},
    origin::{Origin, Refusing},
    spans::{ExpectedSpan, Spans},
    timeline::{ExpectedTimeline, Row, phase_faults, unmarked},
    trace::Log,
};

// === the log ===

fn log_of(calls: &[&'static str]) -> Log {
    let log = Log::new();
    let at = moment();
    for call in calls {
        let (name, pair) = call.split_once(' ').unwrap_or((call, ""));
        log.add(name, pair.to_owned(), String::new(), at);
    }
    log
}

fn moment() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A request with two addresses, the first of which fails.
const WHOLE: [&str; 13] = [
    "get_conn",
    "dns_start",
    "dns_done",
    "connect_start ::1 #1",
    "connect_start 127.0.0.1 #2",
    "connect_done ::1 #1",
    "connect_done 127.0.0.1 #2",
    "tls_handshake_start",
    "tls_handshake_done",
    "got_conn",
    "wrote_headers",
    "response_done",
    "put_idle_conn",
];

#[tokio::test]
async fn a_whole_log_pairs_and_is_settled() {
    let log = log_of(&WHOLE);
    log.settled().await.assert_paired();
    log_of(&["get_conn", "get_conn_failed"]).assert_paired();
    let retried = ["got_conn", "response_done", "put_idle_conn", "retry", "get_conn", "get_conn_failed"];
    log_of(&[&["get_conn"], &retried[..]].concat()).assert_paired();
    log_of(&[WHOLE, WHOLE].concat()).assert_paired_over(2);
}

#[test]
fn a_log_without_any_one_of_its_calls_does_not_pair() {
    for missing in WHOLE.iter().filter(|call| **call != "wrote_headers") {
        let calls: Vec<_> = WHOLE.iter().filter(|call| *call != missing).copied().collect();
        assert!(!log_of(&calls).faults(1).is_empty(), "{missing} is not missed");
    }
}

#[test]
fn a_log_with_any_one_of_its_calls_twice_does_not_pair() {
    for (index, twice) in WHOLE.iter().enumerate() {
        let mut calls = WHOLE.to_vec();
        calls.insert(index, twice);
        assert!(!log_of(&calls).faults(1).is_empty(), "{twice} may come twice");
    }
}

#[test]
#[should_panic(expected = "dns_start without dns_done")]
fn a_lookup_without_end_is_named() {
    log_of(&["get_conn", "dns_start", "get_conn_failed"]).assert_paired();
}

#[test]
#[should_panic(expected = "connect_done b #2 without connect_start")]
fn a_connect_that_never_began_is_named() {
    log_of(&["get_conn", "connect_start a #1", "connect_done b #2", "get_conn_failed"]).assert_paired();
}

#[test]
#[should_panic(expected = "2 get_conn in 1 attempts")]
fn a_second_attempt_without_a_retry_is_named() {
    log_of(&["get_conn", "get_conn_failed", "get_conn", "get_conn_failed"]).assert_paired();
}

#[tokio::test]
async fn the_log_wakes_who_waits_for_a_hook() {
    let log = Log::new();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait_for("get_conn", 2).await.count("get_conn") }
    });
    log.add("get_conn", String::new(), String::new(), moment());
    log.add("got_conn", String::new(), "id=1".to_owned(), moment());
    assert!(!waiting.is_finished());
    log.add("get_conn", String::new(), String::new(), moment());
    assert_eq!(waiting.await.expect("no panic"), 2);
    assert_eq!(log.names(), ["get_conn", "got_conn", "get_conn"]);
    assert_eq!(log.details("got_conn"), ["id=1"]);
    assert!(log.to_string().contains("got_conn  id=1"), "{log}");
}

// === the record ===

fn row(name: &'static str, parent: &'static str, start: u64, end: u64, origin: Instant) -> Row {
    let at = |millis| origin + Duration::from_millis(millis);
    Row { name, parent, start: at(start), end: at(end), error: None }
}

#[test]
fn phases_that_lie_in_their_parents_have_no_faults() {
    let zero = moment();
    let rows = [
        row("get-connection", "request", 0, 5, zero),
        row("dns", "get-connection", 1, 2, zero),
        row("request-write", "request", 5, 9, zero),
    ];
    assert!(phase_faults(&rows, zero, zero + Duration::from_millis(9)).is_empty());
}

#[test]
fn phases_that_can_not_be_are_named() {
    let zero = moment();
    let end = zero + Duration::from_millis(9);
    let wait = row("get-connection", "request", 0, 5, zero);
    let faults = |row| phase_faults(&[wait.clone(), row], zero, end).join();
    assert_eq!(faults(row("dns", "get-connection", 1, 6, zero)), "dns is not inside its parent get-connection");
    assert_eq!(faults(row("dns", "tunnel", 1, 2, zero)), "dns has no parent tunnel");
    assert_eq!(faults(row("tls", "get-connection", 3, 2, zero)), "tls ends before it starts");
    assert_eq!(faults(row("response-read", "request", 8, 10, zero)), "response-read is not inside its parent request");
    let unsorted = phase_faults(&[row("request-write", "request", 5, 9, zero), wait.clone()], zero, end);
    assert_eq!(unsorted.join(), "the phases are not sorted by their start");
}

#[test]
fn an_error_has_to_be_on_the_phase_and_on_its_parents() {
    let zero = moment();
    let mut rows = [row("get-connection", "request", 0, 5, zero), row("connect", "get-connection", 1, 5, zero)];
    rows[1].error = Some("connection_refused".to_owned());
    let faults = unmarked(&rows, "connect", "connection_refused").join();
    assert_eq!(faults, "get-connection carries None, expected \"connection_refused\"");
    rows[0].error = Some("connection_refused".to_owned());
    assert!(unmarked(&rows, "connect", "connection_refused").is_empty());
    assert_eq!(unmarked(&rows, "tls", "timeout").join(), "it died in tls, which is not there");
    assert!(unmarked(&rows, "request", "timeout").is_empty());
}

trait Join {
    fn join(&self) -> String;
}

impl Join for Vec<String> {
    fn join(&self) -> String {
        self.as_slice().join("; ")
    }
}

/// The record of one good request to a plain origin.
async fn good() -> Timeline {
    let origin = Origin::plain().serve(|_: Request<_>| async { Response::new("hello".to_owned()) });
    let traced = Traced::new(origin.client_builder());
    let response = traced.get(origin.url_at("origin.test", "/")).await.expect("an answer");
    assert_eq!(read(response).await.expect("a body"), "hello");
    traced.timeline().await
}

const GOOD: [&str; 6] = ["get-connection", "dns", "connect", "request-write", "response-wait", "response-read"];

#[tokio::test]
async fn a_good_record_is_as_expected() {
    let expected = ExpectedTimeline::new().phases(GOOD).outcome("new").reused(false).status(200);
    expected.response("complete").idle_return("pooled").check(&good().await);
}

#[tokio::test]
async fn a_failed_record_is_as_expected() {
    let refusing = Refusing::new();
    let traced = Traced::new(httptrace::Client::builder());
    let uri = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    traced.get(uri).await.expect_err("nobody listens");
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect"]).outcome("none").idle_return("none");
    expected.error("connect", "connection_refused").check(&traced.timeline().await);
}

#[tokio::test]
#[should_panic(expected = "phases: [\"get-connection\", \"dns\", \"connect\", \"request-write\"")]
async fn other_phases_are_not_as_expected() {
    ExpectedTimeline::new().phases(["request-write"]).check(&good().await);
}

#[tokio::test]
#[should_panic(expected = "outcome: new, expected idle\n  reused: false, expected true\n  idle_return: pooled")]
async fn all_differences_are_told_at_once() {
    ExpectedTimeline::new().outcome("idle").reused(true).idle_return("none").check(&good().await);
}

#[tokio::test]
#[should_panic(expected = "error: None, expected Some((\"dns\", \"timeout\"))")]
async fn an_error_that_did_not_happen_is_not_as_expected() {
    ExpectedTimeline::new().error("dns", "timeout").check(&good().await);
}

#[tokio::test]
#[should_panic(expected = "the record has no end")]
async fn a_record_that_has_not_ended_is_never_as_expected() {
    let mut timeline = good().await;
    timeline.end = None;
    ExpectedTimeline::new().check(&timeline);
}

#[tokio::test]
#[should_panic(expected = "first-byte lies outside of the record")]
async fn an_event_before_the_start_is_never_as_expected() {
    let mut timeline = good().await;
    let before = timeline.start - Duration::from_millis(1);
    let first = timeline.events.iter_mut().find(|event| event.kind.name() == "first-byte").expect("a first byte");
    first.at = before;
    ExpectedTimeline::new().check(&timeline);
}

// === the spans ===

fn span(name: &'static str, id: u64, parent: u64, start: u64) -> SpanData {
    let context =
        |id| SpanContext::new(TraceId::from(1), SpanId::from(id), TraceFlags::SAMPLED, false, TraceState::default());
    SpanData {
        span_context: context(id),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: SystemTime::UNIX_EPOCH + Duration::from_millis(start),
        end_time: SystemTime::UNIX_EPOCH + Duration::from_millis(100),
        attributes: vec![KeyValue::new("server.port", 80)],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

#[test]
fn spans_are_a_tree_by_parent_and_start() {
    let spans =
        Spans::new(vec![span("dns", 3, 2, 2), span("read", 4, 1, 9), span("wait", 2, 1, 1), span("GET", 1, 0, 0)]);
    spans.assert_tree();
    assert_eq!(spans.to_string(), "GET\n  wait\n    dns\n  read\n");
    assert_eq!(spans.children(spans.only("GET")).len(), 2);
    assert_eq!(spans.named("none").len(), 0);
}

#[test]
#[should_panic(expected = "dns is an orphan")]
fn an_orphan_is_no_tree() {
    Spans::new(vec![span("GET", 1, 0, 0), span("dns", 3, 2, 2)]).assert_tree();
}

#[test]
#[should_panic(expected = "GET was ended twice")]
fn a_span_that_ended_twice_is_no_tree() {
    Spans::new(vec![span("GET", 1, 0, 0), span("GET", 1, 0, 0)]).assert_tree();
}

#[test]
#[should_panic(expected = "dns begins before its parent GET")]
fn a_child_before_its_parent_is_no_tree() {
    Spans::new(vec![span("GET", 1, 0, 5), span("dns", 3, 1, 2)]).assert_tree();
}

#[test]
#[should_panic(expected = "2 spans named GET, expected one")]
fn only_one_means_one() {
    Spans::new(vec![span("GET", 1, 0, 5), span("GET", 2, 0, 6)]).only("GET");
}

#[test]
fn a_span_is_as_expected() {
    let parent = span("GET", 1, 0, 0);
    let expected = ExpectedSpan::new().kind(SpanKind::Internal).under(&parent).with("server.port", 80);
    expected.without("server.address").events([]).links(0).check(&span("dns", 2, 1, 1));
    let mut failed = span("GET", 1, 0, 0);
    failed.status = Status::error("");
    failed.attributes.push(KeyValue::new("error.type", "timeout"));
    ExpectedSpan::new().root().error("timeout").check(&failed);
}

#[test]
#[should_panic(expected = "server.port: Some(I64(80)), expected Some(I64(443))")]
fn another_value_is_not_as_expected() {
    ExpectedSpan::new().with("server.port", 443).check(&span("GET", 1, 0, 0));
}

#[test]
#[should_panic(expected = "server.port: Some(I64(80)), expected None")]
fn an_unwanted_attribute_is_not_as_expected() {
    ExpectedSpan::new().without("server.port").check(&span("GET", 1, 0, 0));
}

#[test]
#[should_panic(expected = "status Error: true, expected false")]
fn a_status_that_was_not_expected_is_told() {
    let mut failed = span("GET", 1, 0, 0);
    failed.status = Status::error("");
    ExpectedSpan::new().check(&failed);
}

#[test]
#[should_panic(expected = "kind: Internal, expected Client\n  parent: 0000000000000000, expected 0000000000000001")]
fn kind_and_parent_are_compared() {
    ExpectedSpan::new().kind(SpanKind::Client).under(&span("GET", 1, 0, 0)).check(&span("dns", 2, 0, 1));
}

#[test]
#[should_panic(expected = "events: [], expected [\"first-byte\"]\n  links: 0, expected 1")]
fn events_and_links_are_compared() {
    ExpectedSpan::new().events(["first-byte"]).links(1).check(&span("GET", 1, 0, 0));
}
