//! `Server-Timing`: the server's own account of its time, beside what the wire shows.

use std::time::Duration;

use httptrace::{Timeline, views::waterfall::Waterfall};
use opentelemetry::{Array, StringValue, Value};

use super::scene::Scene;
use crate::support::{
    origin::Origin,
    script::{
        Step::{AwaitClose, ReadHead},
        write,
    },
    spans::ExpectedSpan,
};

/// The record of one request, and its CLIENT span compared.
async fn asked(answer: impl Into<String>, wanted: bool, expected: ExpectedSpan) -> Timeline {
    let origin = Origin::plain().script([ReadHead, write(answer.into()), AwaitClose]);
    let scene = Scene::new(origin.client_builder().server_timing(wanted));
    scene.traced.read(origin.url("/")).await.expect("a response");
    let spans = scene.spans(1, 6).await;
    expected.check(spans.only("GET"));
    scene.traced.timeline().await
}

fn answer(timing: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{timing}\r\nhi")
}

fn list(values: &[&'static str]) -> Value {
    Value::Array(Array::String(values.iter().map(|value| StringValue::from(*value)).collect()))
}

// mutant: `total` as the sum; `network_time` without the subtraction
#[tokio::test]
async fn what_the_server_took_is_told_from_what_the_network_took() {
    let answer = answer("server-timing: db;dur=0.004;desc=secret, app;dur=0.003\r\nServer-Timing: miss\r\n");
    let expected = ExpectedSpan::new()
        .with("httptrace.server_timing.metrics", list(&["db;dur=0.004", "app;dur=0.003", "miss"]))
        .with("httptrace.server_timing.duration", 0.000_004);
    let timeline = asked(answer, true, expected).await;
    let server = Duration::from_micros(4);
    assert_eq!(timeline.server_time(), Some(server));
    let wait = timeline.final_first_byte.zip(timeline.wrote_request).map(|(first, wrote)| first - wrote);
    assert_eq!(timeline.network_time(), wait.map(|wait| wait - server));
    assert!(!format!("{timeline:?}").contains("secret"), "a description that nobody asked for");
    let chart = Waterfall::from_timeline(&timeline);
    let row = chart.rows.iter().find(|row| row.name == "response-wait").expect("a wait");
    assert_eq!(row.note, "server 4.00 µs");
    assert!(chart.facts.iter().any(|fact| fact.starts_with("server 4.00 µs, network ")), "{:?}", chart.facts);
}

#[tokio::test]
async fn a_server_that_says_more_than_was_waited_leaves_nothing_for_the_network() {
    let expected = ExpectedSpan::new()
        .with("httptrace.server_timing.duration", 60.0)
        .without("httptrace.server_timing.network_duration");
    let timeline = asked(answer("server-timing: total;dur=60000\r\n"), true, expected).await;
    assert_eq!((timeline.server_time(), timeline.network_time()), (Some(Duration::from_secs(60)), None));
}

#[tokio::test]
async fn trailers_are_joined_to_the_header() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nserver-timing: a;dur=1\r\n\r\n\
                  2\r\nhi\r\n0\r\nserver-timing: b;dur=2\r\n\r\n";
    let expected = ExpectedSpan::new().with("httptrace.server_timing.metrics", list(&["a;dur=1", "b;dur=2"]));
    let timeline = asked(answer, true, expected).await;
    assert_eq!(timeline.server_time(), Some(Duration::from_millis(2)));
}

#[tokio::test]
async fn nothing_is_read_that_is_not_wanted() {
    let expected = ExpectedSpan::new().without("httptrace.server_timing.metrics");
    let timeline = asked(answer("server-timing: db;dur=1\r\n"), false, expected).await;
    assert_eq!((timeline.phases().len(), timeline.facts), (5, None));
}
