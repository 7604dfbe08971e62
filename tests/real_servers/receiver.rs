//! An OTLP receiver that keeps what it gets: over gRPC with tonic, over HTTP/protobuf with hyper.
//!
//! Traces and metrics come in; out go flat [`ReceivedSpan`]s and the last total of acquisitions.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value,
    metrics::v1::{NumberDataPoint, metric, number_data_point},
    trace::v1::span::SpanKind,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Which form of OTLP the receiver speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Otlp {
    Grpc,
    Http,
}

#[derive(Debug)]
pub(crate) struct ReceivedSpan {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) is_client: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<ReceivedSpan>,
    /// The counter with `httptrace.connection.reused=false`; absent until it arrives.
    pub(crate) fresh_acquisitions: Option<i64>,
    /// The counter with `httptrace.connection.reused=true`; absent until it arrives.
    pub(crate) reused_acquisitions: Option<i64>,
}

/// A receiver at work.
pub(crate) struct Listening {
    otlp: Otlp,
    address: SocketAddr,
    received: Shared,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Received>>);

impl Otlp {
    pub(crate) async fn listen(self) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Shared::default();
        match self {
            Otlp::Grpc => tokio::spawn(serve_grpc(listener, received.clone())),
            Otlp::Http => tokio::spawn(serve_http(listener, received.clone())),
        };
        Listening { otlp: self, address, received }
    }
}

impl Listening {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The value of `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.otlp {
            Otlp::Grpc => "grpc",
            Otlp::Http => "http/protobuf",
        }
    }

    pub(crate) fn taken(&self) -> Received {
        std::mem::take(&mut *self.received.0.lock().unwrap())
    }
}

impl Shared {
    fn traces(&self, request: ExportTraceServiceRequest) {
        let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
        self.0.lock().unwrap().spans.extend(spans.map(|span| ReceivedSpan {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
            is_client: span.kind == SpanKind::Client as i32,
            name: span.name,
        }));
    }

    /// Counters are cumulative, so that the last export has the total.
    fn metrics(&self, request: ExportMetricsServiceRequest) {
        let metrics = request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics);
        for metric in metrics.filter(|m| m.name == "httptrace.connection.acquisitions") {
            let Some(metric::Data::Sum(sum)) = metric.data else { panic!("acquisitions are a counter") };
            let total = |reused| {
                let values: Vec<i64> =
                    sum.data_points.iter().filter(|p| is_reused(p) == Some(reused)).map(value).collect();
                (!values.is_empty()).then(|| values.iter().sum())
            };
            let mut received = self.0.lock().unwrap();
            received.fresh_acquisitions = total(false);
            received.reused_acquisitions = total(true);
        }
    }
}

fn is_reused(point: &NumberDataPoint) -> Option<bool> {
    let attribute = point.attributes.iter().find(|a| a.key == "httptrace.connection.reused")?;
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::BoolValue(reused) => Some(*reused),
        _ => None,
    }
}

fn value(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => value,
        ref other => panic!("a whole number of acquisitions, not {other:?}"),
    }
}

async fn serve_grpc(listener: TcpListener, received: Shared) {
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(received.clone()))
        .add_service(MetricsServiceServer::new(received))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
        .unwrap();
}

#[tonic::async_trait]
impl TraceService for Shared {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.traces(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Shared {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        self.metrics(request.into_inner());
        Ok(tonic::Response::new(Default::default()))
    }
}

async fn serve_http(listener: TcpListener, received: Shared) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let received = received.clone();
        let service = service_fn(move |request| answer(received.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(received: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("the exporter sends its whole body").to_bytes();
    match path.as_str() {
        "/v1/traces" => received.traces(ExportTraceServiceRequest::decode(body).expect("OTLP traces")),
        "/v1/metrics" => received.metrics(ExportMetricsServiceRequest::decode(body).expect("OTLP metrics")),
        other => panic!("OTLP does not know {other}"),
    }
    let response = Response::builder().header("content-type", "application/x-protobuf").body(Full::default());
    Ok(response.expect("a fixed head is valid"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
