//! The command against servers that people run: nginx, caddy and nghttpd, over TLS, and through proxies (`proxies.rs`).
//!
//! Each test starts the real server on a loopback port and an OTLP receiver beside it, lets `httptrace` send 200
//! requests at `-c 8`, and compares three witnesses: the command's JSON, the spans that the receiver got, and the log
//! that the server wrote. They are ignored by default because they need Debian's servers; `.ci/run full` installs
//! these and runs them.

mod attempts;
mod capture;
mod proxies;
mod receiver;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::{
    receiver::{Otlp, Received},
    server::{Served, Server, Software},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy, nghttpd: .ci/run full"]
async fn nginx_over_http1_agrees_with_the_json_and_the_spans() {
    agree("nginx-h1", Software::Nginx, Protocol::Http1, Otlp::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy, nghttpd: .ci/run full"]
async fn nginx_over_http2_agrees_with_the_json_and_the_spans() {
    agree("nginx-h2", Software::Nginx, Protocol::Http2, Otlp::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy, nghttpd: .ci/run full"]
async fn caddy_over_http1_agrees_with_the_json_and_the_spans() {
    agree("caddy-h1", Software::Caddy, Protocol::Http1, Otlp::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy, nghttpd: .ci/run full"]
async fn caddy_over_http2_agrees_with_the_json_and_the_spans() {
    agree("caddy-h2", Software::Caddy, Protocol::Http2, Otlp::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx, caddy, nghttpd: .ci/run full"]
async fn nghttpd_over_http2_agrees_with_the_json_and_the_spans() {
    agree("nghttpd-h2", Software::Nghttpd, Protocol::Http2, Otlp::Http).await;
}

/// What the command is told to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

async fn agree(name: &str, software: Software, protocol: Protocol, otlp: Otlp) {
    let server = Server::start(name, software).await;
    let received = otlp.listen().await;

    let attempts = httptrace(&server, protocol, &received).await;
    let served = server.stop_and_read_log();
    let received = received.taken();

    assert_eq!(attempts.len(), REQUESTS, "one line per request");
    for attempt in &attempts {
        attempts::assert_complete_and_true(attempt, server.url(), protocol);
    }
    let ordinals: BTreeSet<u64> = attempts.iter().map(|a| a["request"].as_u64().unwrap()).collect();
    assert_eq!(ordinals, (1..=REQUESTS as u64).collect(), "every request has its own ordinal");
    assert_server_saw_the_same(&attempts, &served, protocol);
    assert_receiver_got_the_same(&attempts, &received);
}

/// Runs the command and reads its lines; a run that is not clean ends the test.
async fn httptrace(server: &Server, protocol: Protocol, received: &receiver::Listening) -> Vec<Value> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name == "TRACEPARENT") {
        command.env_remove(name);
    }
    command
        .args(["--format", "json", "-c", "8", "--otlp", "-n"])
        .arg(REQUESTS.to_string())
        .arg(if protocol == Protocol::Http1 { "--http1.1" } else { "--http2" })
        .arg("--cacert")
        .arg(server.certificate())
        .arg(server.url())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", received.protocol())
        .env("no_proxy", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output())
        .await
        .expect("the command ends within two minutes")
        .expect("the command starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    assert_eq!(stderr, "", "a run without failures is silent on stderr");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Joins JSON and server log by `traceparent`: the same requests, on the same connections, in the same places.
fn assert_server_saw_the_same(attempts: &[Value], served: &[Served], protocol: Protocol) {
    let by_traceparent: BTreeMap<&str, &Served> = served.iter().map(|s| (s.traceparent.as_str(), s)).collect();
    assert_eq!(served.len(), REQUESTS, "requests in the server's log");
    assert_eq!(by_traceparent.len(), REQUESTS, "every request carried a traceparent of its own");

    let mut connections: BTreeMap<u64, &str> = BTreeMap::new();
    let mut request_numbers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for attempt in attempts {
        let traceparent =
            format!("00-{}-{}-01", attempt["trace_id"].as_str().unwrap(), attempt["span_id"].as_str().unwrap());
        let Some(served) = by_traceparent.get(traceparent.as_str()) else {
            panic!("the server never saw {traceparent}\n{attempt}");
        };
        let connection = &attempt["connection"];
        let id = connection["id"].as_u64().unwrap();
        let number = connection["request_number"].as_u64().unwrap();
        assert!(request_numbers.entry(id).or_default().insert(number), "two requests with one number\n{attempt}");
        assert_eq!(*connections.entry(id).or_insert(&served.connection), served.connection, "{attempt}\n{served:?}");
        if let Some(port) = served.peer_port {
            let local = connection["local"].as_str().unwrap();
            assert!(local.ends_with(&format!(":{port}")), "{attempt}\n{served:?}");
        }
        if let Some(stream) = served.stream_id {
            assert_eq!(connection["http2_stream_id"].as_u64(), Some(stream), "{attempt}\n{served:?}");
        }
        // Streams of one HTTP/2 connection may be opened in another order than they were granted in.
        if let (Protocol::Http1, Some(ordinal)) = (protocol, served.request_number) {
            assert_eq!(number, ordinal, "{attempt}\n{served:?}");
        }
    }
    for (id, numbers) in &request_numbers {
        assert_eq!(*numbers, (1..=numbers.len() as u64).collect(), "request numbers of connection {id}");
    }
    let theirs: BTreeSet<&str> = served.iter().map(|s| s.connection.as_str()).collect();
    assert_eq!(connections.values().copied().collect::<BTreeSet<_>>(), theirs, "connections");
    assert_eq!(connections.len(), theirs.len(), "one connection id for one connection");
    assert_eq!(fresh(attempts), theirs.len(), "acquisitions with reused=false, connections that the server served");
}

/// The receiver has the CLIENT span of every line, in a tree without holes, and the same count of acquisitions.
fn assert_receiver_got_the_same(attempts: &[Value], received: &Received) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let printed: BTreeSet<(String, String)> =
        attempts.iter().map(|a| (text(&a["trace_id"]), text(&a["span_id"]))).collect();
    let client: BTreeSet<(String, String)> =
        received.spans.iter().filter(|s| s.is_client).map(|s| (s.trace.clone(), s.id.clone())).collect();
    assert_eq!(client, printed, "CLIENT spans at the receiver, lines of JSON");

    let trace_ids = |ids: &BTreeSet<(String, String)>| ids.iter().map(|(trace, _)| trace.clone()).collect();
    let all_traces: BTreeSet<String> = received.spans.iter().map(|s| s.trace.clone()).collect();
    let printed_traces: BTreeSet<String> = trace_ids(&printed);
    assert_eq!(all_traces, printed_traces, "trace ids at the receiver, in the JSON");

    let known: BTreeSet<(&str, &str)> = received.spans.iter().map(|s| (s.trace.as_str(), s.id.as_str())).collect();
    assert_eq!(known.len(), received.spans.len(), "no span arrived twice");
    for span in &received.spans {
        match span.parent.as_deref() {
            Some(parent) => assert!(known.contains(&(span.trace.as_str(), parent)), "an orphan: {span:?}"),
            None => assert_eq!(span.name, "httptrace", "a second root: {span:?}"),
        }
    }
    let fresh = fresh(attempts) as i64;
    assert_eq!(received.fresh_acquisitions, Some(fresh), "acquisitions with reused=false, in metrics and JSON");
    assert_eq!(received.reused_acquisitions, Some(REQUESTS as i64 - fresh), "acquisitions with reused=true");
}

fn fresh(attempts: &[Value]) -> usize {
    attempts.iter().filter(|a| a["connection"]["reused"] == false).count()
}

/// An empty folder for one test's certificates, configuration and logs.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("real-servers").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const REQUESTS: usize = 200;
