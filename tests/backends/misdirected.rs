//! Telemetry that can't arrive, sent by the command: one warning that names the endpoint and the likely fix, what was
//! lost is told, and the requests go on as if nothing were.

use httptrace::otlp::Protocol;

use crate::{
    command::{self, Run},
    jaeger::Jaeger,
    process::free_port,
    scene::PROTOCOLS,
    support::origin::Origin,
    waterfalls::hello,
};

/// Three requests with their telemetry to this endpoint; what the command said.
async fn warned(variable: &str, endpoint: &str, protocol: Protocol) -> String {
    let origin = Origin::plain().serve(hello);
    let url = origin.url("/").to_string();
    let Run { code, stdout, stderr } =
        command::run_to(&[(variable, endpoint)], protocol, &["--format", "json", "-n", "3", &url]).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((origin.served(), stdout.lines().count()), (3, 3), "{stdout}");
    assert!(stderr.contains(endpoint), "the endpoint is named: {endpoint}\n{stderr}");
    // The root, three requests of four spans, and what set the connection up.
    assert!(stderr.contains("15 dropped"), "what is lost is told\n{stderr}");
    stderr
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn grpc_to_the_port_of_http_is_told_which_protocol_that_port_speaks() {
    let jaeger = Jaeger::start().await;
    let said = warned(ENDPOINT, &jaeger.otlp(Protocol::HttpProtobuf), Protocol::Grpc).await;
    assert!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"), "{said}");
    assert_eq!(jaeger.services().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn http_to_the_port_of_grpc_is_told_which_protocol_that_port_speaks() {
    let jaeger = Jaeger::start().await;
    let said = warned(ENDPOINT, &jaeger.otlp(Protocol::Grpc), Protocol::HttpProtobuf).await;
    assert!(said.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{said}");
    assert_eq!(jaeger.services().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_signals_endpoint_without_its_path_is_told_the_path() {
    let jaeger = Jaeger::start().await;
    let endpoint = jaeger.otlp(Protocol::HttpProtobuf);
    let said = warned("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint, Protocol::HttpProtobuf).await;
    assert!(said.contains("404") && said.contains("/v1/traces"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_port_where_nobody_listens_is_named() {
    for protocol in PROTOCOLS {
        let said = warned(ENDPOINT, &format!("http://127.0.0.1:{}", free_port()), protocol).await;
        assert!(said.contains("connection refused"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_port_that_something_else_has_taken_is_no_collector() {
    let jaeger = Jaeger::start().await;
    // The UI: a web server that knows no OTLP, and answers a POST with its page.
    let said = warned(ENDPOINT, &jaeger.ui(), Protocol::HttpProtobuf).await;
    assert!(said.contains("does not speak OTLP"), "{said}");
    let said = warned(ENDPOINT, &jaeger.ui(), Protocol::Grpc).await;
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_PROTOCOL"),
        "all that can be told is that it does not speak gRPC: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_collector_that_does_not_answer_is_told_so_at_the_deadline() {
    for protocol in PROTOCOLS {
        let jaeger = Jaeger::start().await;
        jaeger.freeze();
        let said = warned(ENDPOINT, &jaeger.otlp(protocol), protocol).await;
        assert!(said.contains("OTEL_EXPORTER_OTLP_TIMEOUT"), "{said}");
        jaeger.thaw();
    }
}
