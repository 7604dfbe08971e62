//! The `httptrace` command and Jaeger: one trace a run, with all that was asked for under one root.

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use httptrace::otlp::Protocol;

use crate::{
    jaeger::{Jaeger, Trace},
    process::folder,
    scene::PROTOCOLS,
    support::origin::{Origin, Refusing},
    waterfalls::hello,
};

/// What a run of the command came to.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command with its telemetry to this Jaeger; its exit code and what it said.
pub(crate) async fn run(jaeger: &Jaeger, protocol: Protocol, args: &[&str]) -> (i32, String) {
    let endpoint = jaeger.otlp(protocol);
    let run = run_to(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)], protocol, args).await;
    (run.code, run.stderr)
}

/// Runs the command with its telemetry to wherever these variables say.
pub(crate) async fn run_to(endpoint: &[(&str, &str)], protocol: Protocol, args: &[&str]) -> Run {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("TRACE")) {
        command.env_remove(name);
    }
    let carried = if protocol == Protocol::Grpc { "grpc" } else { "http/protobuf" };
    command
        .args(args)
        .envs(endpoint.iter().copied())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", carried)
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "4000")
        .env("OTEL_SERVICE_NAME", SERVICE)
        .env("no_proxy", "*")
        // It exports while it sends: what carries the export could show up among what is exported.
        .env("OTEL_BSP_SCHEDULE_DELAY", "5")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "50")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("an end within a minute").expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("an exit code");
    Run { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

pub(crate) const SERVICE: &str = "the-command";

/// The origin's authority as a file.
fn authority(origin: &Origin) -> PathBuf {
    let file = folder("authority").join("ca.pem");
    let text = STANDARD.encode(origin.root_certificate());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
        .unwrap();
    file
}

/// The one trace of a run, once its root, its requests and every span's parent are there. They come in several messages.
async fn only_trace(jaeger: &Jaeger, requests: usize) -> Trace {
    let is_whole = |trace: &Trace| {
        let here = |id: &String| trace.spans.iter().any(|span| span.id == *id);
        !trace.named("httptrace").is_empty()
            && trace.named("GET").len() >= requests
            && trace.spans.iter().filter_map(|span| span.parent.as_ref()).all(here)
    };
    let mut traces = jaeger.until(SERVICE, "a whole trace", |traces| traces.iter().any(is_whole)).await;
    assert_eq!(traces.len(), 1, "one run is one trace");
    assert_eq!(jaeger.services().await, [SERVICE]);
    let trace = traces.remove(0);
    trace.assert_readable("httptrace");
    let root = trace.only("httptrace");
    assert_eq!(root.tag("otel.scope.name"), Some("httptrace-cli"));
    trace
}

/// The picture without addresses of the name that nobody listens on: `localhost` may have an IPv6 one as well.
fn without_lost_addresses(trace: &Trace) -> String {
    trace.to_string().lines().filter(|line| line.trim() != "connect !").map(|line| format!("{line}\n")).collect()
}

/// One cold request and two on its connection.
const THREE: &str = "\
httptrace
  GET
    get-connection
      dns
      connect
      tls
    request-write
    response-wait
    response-read
  GET
    request-write
    response-wait
    response-read
  GET
    request-write
    response-wait
    response-read
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_cold_request_and_reused_ones_are_one_picture() {
    for protocol in PROTOCOLS {
        for version in ["--http1.1", "--http2"] {
            let (jaeger, origin) = (Jaeger::start().await, Origin::tls().serve(hello));
            let (url, ca) = (origin.url_at("localhost", "/").to_string(), authority(&origin));
            let ca = ca.to_str().unwrap();
            let (code, said) = run(&jaeger, protocol, &[version, "--cacert", ca, "-n", "3", &url]).await;
            assert_eq!((code, said.as_str()), (0, ""));
            let trace = only_trace(&jaeger, 3).await;
            assert_eq!(without_lost_addresses(&trace), THREE);
            let set_up = (trace.id.clone(), trace.only("get-connection").id.clone());
            let links: Vec<_> = trace.named("GET").iter().map(|span| span.links.clone()).collect();
            assert_eq!(links, [vec![], vec![set_up.clone()], vec![set_up]]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_run_that_fails_is_red_up_to_its_root() {
    for protocol in PROTOCOLS {
        let (jaeger, refusing) = (Jaeger::start().await, Refusing::new());
        let (code, said) = run(&jaeger, protocol, &[&format!("http://{}/", refusing.addr())]).await;
        assert_eq!(code, 7, "{said}");
        let trace = only_trace(&jaeger, 1).await;
        assert_eq!(trace.to_string(), "httptrace !\n  GET !\n    get-connection !\n      connect !\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_hundred_requests_at_once_are_one_trace_that_reads() {
    for protocol in PROTOCOLS {
        for version in ["--http1.1", "--http2"] {
            let (jaeger, origin) = (Jaeger::start().await, Origin::tls().serve(hello));
            let (url, ca) = (origin.url("/").to_string(), authority(&origin));
            let args = [version, "--cacert", ca.to_str().unwrap(), "-n", "100", "-c", "4", &url];
            let (code, said) = run(&jaeger, protocol, &args).await;
            assert_eq!((code, said.as_str()), (0, ""));
            let trace = only_trace(&jaeger, 100).await;
            let requests = trace.named("GET");
            assert_eq!(requests.len(), 100);
            assert_eq!(trace.spans.iter().filter(|span| span.is_error()).count(), 0);
            let mut opened = 0;
            for request in requests {
                let mut phases: Vec<&str> = trace.children(request).iter().map(|span| span.name.as_str()).collect();
                // Of a request that another one's connection served, while its own dial went on.
                phases.retain(|name| *name != "background-dial");
                let waited = usize::from(phases[0] == "get-connection");
                assert_eq!(phases[waited..], ["request-write", "response-wait", "response-read"], "{trace}");
                let is_new = request.tag("httptrace.connection.outcome") == Some("new");
                assert_eq!(request.links.len(), usize::from(!is_new), "{request:#?}");
                for (there, set_up) in &request.links {
                    let found = trace.spans.iter().find(|span| span.id == *set_up).expect("a link into this trace");
                    assert!(*there == trace.id && ["get-connection", "background-dial"].contains(&&*found.name));
                }
                opened += usize::from(request.tag("httptrace.connection.reused") == Some("false"));
            }
            assert_eq!(opened, origin.record().connections_used(), "first uses, connections that the origin served");
        }
    }
}
