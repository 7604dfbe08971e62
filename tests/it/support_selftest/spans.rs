//! The expectations of spans: shown something right, which they let pass, and something wrong, which they do not.

use std::time::{Duration, SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::support::spans::{ExpectedSpan, Spans};

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

#[test]
#[should_panic(expected = "late is outside of its span GET")]
fn an_event_outside_of_its_span_is_no_tree() {
    let mut client = span("GET", 1, 0, 0);
    let after = client.end_time + Duration::from_millis(1);
    client.events.events.push(opentelemetry::trace::Event::new("late", after, Vec::new(), 0));
    Spans::new(vec![client]).assert_tree();
}

#[test]
#[should_panic(expected = "status Error: true, expected false")]
fn a_cancellation_has_no_status() {
    let mut client = span("GET", 1, 0, 0);
    client.attributes.push(KeyValue::new("error.type", "canceled"));
    ExpectedSpan::new().canceled().check(&client);
    client.status = Status::error("canceled");
    ExpectedSpan::new().canceled().check(&client);
}

#[test]
#[should_panic(expected = "times error.type: 2, expected 1")]
fn an_attribute_that_was_set_twice_is_seen() {
    let mut client = span("GET", 1, 0, 0);
    client.status = Status::error("");
    client.attributes.extend(["404", "404"].map(|value| KeyValue::new("error.type", value)));
    ExpectedSpan::new().error("404").check(&client);
}
