//! The command and a collector that fails it: requests are unaffected, and one line says what became of the telemetry.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::now;
use crate::support::{
    collector::{Answer, Collector},
    origin::{Origin, Refusing},
};

/// Two requests with these variables: the exit code, stdout, stderr, and how long it took.
async fn httptrace(variables: &[(&str, &str)]) -> (Option<i32>, String, String, Duration) {
    let origin = Origin::plain().serve(async |_: Request<_>| Response::new(Full::new(Bytes::from("hello"))));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
        .env("no_proxy", "*")
        .args(["-n", "2", &origin.url("/").to_string()])
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let start = now();
    let output = command.output().await.expect("the command runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(origin.served(), 2);
    (output.status.code(), text(&output.stdout), text(&output.stderr), now() - start)
}

fn assert_one_warning(stderr: &str, words: &[&str]) {
    let [line] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("one line: {stderr}") };
    assert!(line.starts_with("httptrace: warning: telemetry: 0 spans exported, "), "{line}");
    words.iter().for_each(|word| assert!(line.contains(word), "`{word}` in {line}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_collector_costs_two_seconds_at_most_and_one_warning() {
    for protocol in ["grpc", "http/protobuf"] {
        let down = Refusing::new();
        let endpoint = format!("http://{}", down.addr());
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let (code, stdout, stderr, took) = httptrace(&variables).await;
        assert!(code == Some(0) && stdout.contains("200 OK"), "{stdout}");
        assert_one_warning(&stderr, &["connection refused", &endpoint, "is a collector running there?"]);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_collector_costs_the_deadline_and_one_warning() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = if protocol == "grpc" { Collector::grpc() } else { Collector::http() };
        collector.answer(Answer::Hang);
        let endpoint = collector.endpoint();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ];
        let (code, stdout, stderr, took) = httptrace(&variables).await;
        assert!(code == Some(0) && stdout.contains("200 OK"), "{stdout}");
        assert_one_warning(&stderr, &["no answer within 1.5s", &endpoint]);
        assert!((Duration::from_millis(1500)..Duration::from_millis(3500)).contains(&took), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_stderr() {
    let (code, stdout, stderr, _) = httptrace(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    assert!(code == Some(0) && stdout.contains("200 OK") && !stdout.contains("span "), "{stdout}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("span GET Client trace=")).count(), 2, "{stderr}");
    assert!(!stderr.contains("metric ") && !stderr.contains("warning"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_makes_no_sense_is_one_warning() {
    let collector = Collector::http();
    let endpoint = collector.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "0")];
    let (code, _, stderr, _) = httptrace(&variables).await;
    assert_eq!(code, Some(0));
    let expected = "httptrace: warning: OTEL_BSP_SCHEDULE_DELAY: is no sensible number of milliseconds; 5000 is used\n";
    assert_eq!(stderr, expected);
}
