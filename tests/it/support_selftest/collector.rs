//! The collector keeps what it gets, and answers as it is told.

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    collector::{Answer, Collector},
    within,
};

#[tokio::test]
async fn the_collector_keeps_what_comes_over_grpc_and_refuses_when_told() {
    let collector = Collector::grpc();
    let mut traces = TraceServiceClient::connect(collector.endpoint()).await.expect("it listens");
    traces.export(some_spans()).await.expect("accepted");
    let mut metrics = MetricsServiceClient::connect(collector.endpoint()).await.expect("it listens");
    metrics.export(some_metrics()).await.expect("accepted");
    assert_eq!(collector.spans(1).await[0].name, "a span");
    assert_eq!(collector.metric("a.metric").await.unit, "s");
    collector.answer(Answer::Status(14));
    let refused = traces.export(some_spans()).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    collector.answer(Answer::Hang);
    let hung = tokio::spawn(async move { traces.export(some_spans()).await });
    collector.exports(4).await;
    assert!(!hung.is_finished());
    hung.abort();
    assert_eq!(collector.spans(1).await.len(), 1);
    assert_eq!((collector.received().spans.len(), collector.received().metrics.len()), (1, 1));
}

#[tokio::test]
async fn the_collector_keeps_what_comes_over_http_and_refuses_when_told() {
    let collector = Collector::http();
    let post = |path: &str, body: Vec<u8>| {
        let addr = collector.endpoint().trim_start_matches("http://").to_owned();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        async move {
            let mut tcp = TcpStream::connect(addr).await.expect("it listens");
            tcp.write_all(&[head.into_bytes(), body].concat()).await.expect("it reads");
            let mut answer = String::new();
            within("an answer", tcp.read_to_string(&mut answer)).await.expect("closed politely");
            answer.lines().next().expect("a status line").to_owned()
        }
    };
    assert_eq!(post("/v1/traces", some_spans().encode_to_vec()).await, "HTTP/1.1 200 OK");
    assert_eq!(post("/v1/metrics", some_metrics().encode_to_vec()).await, "HTTP/1.1 200 OK");
    assert_eq!(post("/v1/traces", b"\xff".to_vec()).await, "HTTP/1.1 400 Bad Request");
    assert_eq!(post("/v1/logs", Vec::new()).await, "HTTP/1.1 404 Not Found");
    collector.answer(Answer::Status(503));
    assert_eq!(post("/v1/traces", some_spans().encode_to_vec()).await, "HTTP/1.1 503 Service Unavailable");
    collector.answer(Answer::Accept);
    assert_eq!(collector.spans(1).await.len(), 1);
    assert_eq!(collector.metric("a.metric").await.name, "a.metric");
}

fn some_spans() -> ExportTraceServiceRequest {
    let spans = vec![Span { name: "a span".to_owned(), ..Span::default() }];
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn some_metrics() -> ExportMetricsServiceRequest {
    let metrics = vec![Metric { name: "a.metric".to_owned(), unit: "s".to_owned(), ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }],
    }
}
