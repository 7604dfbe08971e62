//! Ten failures, each told three ways by the command: as JSON, as spans at a collector, and as an exit code. All three tell
//! the same story: the same type, the same phase, the same ids. The chart for a person shows it where it happened.

mod cases;
mod curl;

use std::{collections::BTreeSet, process::Stdio};

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, status::StatusCode},
};
use serde_json::Value;

use self::cases::Case;
use crate::support::{collector::Collector, within};

/// What the command said, and how it ended.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The command, with this environment and no other telemetry.
async fn httptrace(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        let of_proxies = told.to_ascii_lowercase().ends_with("_proxy");
        if told.starts_with("OTEL_")
            || of_proxies
            || ["TRACEPARENT", "TRACESTATE", "NO_COLOR", "COLUMNS"].contains(&&*told)
        {
            command.env_remove(&name);
        }
    }
    // Where nobody answers for names, that is soon known.
    command.env("RES_OPTIONS", "timeout:1 attempts:1");
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the command", command.output()).await.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Makes it fail, and compares what is told.
async fn told(case: Case) {
    let collector = Collector::http();
    let endpoint = collector.endpoint();
    let otlp = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    let args: Vec<&str> = ["--format", "json"].into_iter().chain(case.args.iter().map(String::as_str)).collect();
    let ran = httptrace(&args, &otlp).await;
    assert_eq!(ran.stdout.lines().count(), 1, "one attempt: {}{}", ran.stdout, ran.stderr);
    let line: Value = serde_json::from_str(&ran.stdout).expect("JSON");

    let (error_type, phase) = (text(&line["error"]["type"]), text(&line["error"]["phase"]));
    assert!(case.types.contains(&error_type), "{line}");
    assert_eq!((phase, ran.code), (case.phase, case.code), "{line}");
    let message = text(&line["error"]["message"]);
    assert!(message.starts_with(&format!("{phase}: ")), "{message}");
    assert!(ran.stderr.starts_with(&format!("httptrace: ({}) {message}", case.code)), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains("://"), "no URL: {}", ran.stderr);

    let phases: BTreeSet<(String, Option<String>)> = array(&line["phases"])
        .map(|it| (text(&it["name"]).to_owned(), it["error"].as_str().map(str::to_owned)))
        .collect();
    assert_dead(&phases, phase, error_type);
    let spans = collector.spans(phases.len() + 2).await;
    assert_spans(&spans, &line, &phases, error_type);
    assert_metric(&collector, error_type, phase).await;

    let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
    let chart = httptrace(&args, &[]).await;
    assert_eq!(chart.code, case.code);
    // A long name is cut at the chart's edge.
    let begin = &error_type[..error_type.len().min(16)];
    let shown = |line: &str| line.trim_start().starts_with(phase) && line.contains(&format!("✗ {begin}"));
    assert!(chart.stdout.lines().any(shown), "the phase that died: {}", chart.stdout);
    assert!(chart.stdout.contains(message), "in words: {}", chart.stdout);
}

/// The error is on the phase that died, on what is around it, and on nothing else.
fn assert_dead(phases: &BTreeSet<(String, Option<String>)>, dead: &str, error_type: &str) {
    let setup = ["dns", "connect", "tls"].contains(&dead);
    for (name, error) in phases {
        let died = name == dead || (setup && name == "get-connection");
        assert_eq!(error.as_deref(), died.then_some(error_type), "{name} of {phases:?}");
    }
    assert!(phases.iter().any(|(name, _)| name == dead), "{dead} of {phases:?}");
}

fn assert_spans(spans: &[Span], line: &Value, phases: &BTreeSet<(String, Option<String>)>, error_type: &str) {
    let failed = |span: &Span| {
        let error = attribute(&span.attributes, "error.type").map(str::to_owned);
        let status = span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
        assert_eq!(error.is_some(), status, "type and status of {}", span.name);
        error
    };
    let client = spans.iter().find(|span| hex(&span.span_id) == text(&line["span_id"])).expect("the attempt's span");
    let root = spans.iter().find(|span| span.name == "httptrace").expect("the command's span");
    assert_eq!((client.name.as_str(), &client.parent_span_id), ("GET", &root.span_id));
    for span in [root, client] {
        assert_eq!(failed(span).as_deref(), Some(error_type), "{}", span.name);
    }
    assert!(spans.iter().all(|span| hex(&span.trace_id) == text(&line["trace_id"])), "one trace");
    let others = spans.iter().filter(|span| ![root, client].contains(span));
    let told: BTreeSet<_> = others.map(|span| (span.name.clone(), failed(span))).collect();
    assert_eq!(told, *phases, "the spans and the JSON");
    assert_eq!(spans.len(), array(&line["phases"]).count() + 2);
}

/// The attempt's duration carries type and phase too.
async fn assert_metric(collector: &Collector, error_type: &str, phase: &str) {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let metric = collector.metric("http.client.request.duration").await;
    let Some(Data::Histogram(histogram)) = metric.data else { panic!("a histogram") };
    let [point] = histogram.data_points.as_slice() else { panic!("one point") };
    let of = |name| attribute(&point.attributes, name);
    assert_eq!((of("error.type"), of("httptrace.error.phase")), (Some(error_type), Some(phase)));
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("text: {value}"))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array").iter()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_name_that_is_not_found() {
    told(cases::name_not_found()).await;
}

#[tokio::test]
async fn a_connection_that_is_refused() {
    told(cases::refused()).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_that_is_silent() {
    told(cases::silent_syn()).await;
}

#[tokio::test]
async fn a_certificate_that_has_expired() {
    told(cases::expired_certificate()).await;
}

#[tokio::test]
async fn a_certificate_for_another_host_name() {
    told(cases::wrong_host_name()).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_before_a_byte() {
    told(cases::closed_before_a_byte()).await;
}

#[tokio::test]
async fn a_reset_within_the_body() {
    told(cases::reset_within_the_body()).await;
}

#[tokio::test]
async fn a_body_that_is_shorter_than_its_length() {
    told(cases::body_shorter_than_its_length()).await;
}

#[tokio::test]
async fn a_head_that_drips_past_the_timeout() {
    told(cases::header_drip()).await;
}

#[tokio::test]
async fn a_goaway_in_the_middle_of_a_stream() {
    told(cases::goaway_mid_stream()).await;
}
