//! The expectations of a record: shown something right, which they let pass, and something wrong, which they do not.

use std::time::{Duration, Instant};

use http::{Request, Response};
use httptrace::Timeline;

use super::moment;
use crate::support::{
    client::{Traced, read},
    origin::{Origin, Refusing},
    timeline::{ExpectedTimeline, Row, phase_faults, unmarked},
};

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
    assert_eq!(faults, "get-connection carries [None], expected \"connection_refused\"");
    rows[0].error = Some("connection_refused".to_owned());
    assert!(unmarked(&rows, "connect", "connection_refused").is_empty());
    // Of several connects, one.
    let other = Row { error: Some("timeout".to_owned()), ..rows[1].clone() };
    let several = [rows[0].clone(), rows[1].clone(), other];
    assert!(unmarked(&several, "connect", "connection_refused").is_empty());
    let faults = unmarked(&several[..2], "connect", "timeout");
    assert!(faults[0].starts_with("connect carries [Some(\"connection_refused\")]"), "{faults:?}");
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
