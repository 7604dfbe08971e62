//! An OTLP collector in this process: gRPC (tonic) or HTTP with protobuf (hyper). It keeps what it gets and can be told to
//! answer with an error or not at all.

use std::{io::Read, sync::Arc};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    metrics::v1::{Metric, ResourceMetrics},
    trace::v1::{ResourceSpans, Span},
};
use prost::Message;
use tokio::sync::watch;
use tonic::{Code, codec::CompressionEncoding, service::Routes};
use tower::ServiceExt;

use super::{
    certificate::Identity,
    origin::{Origin, OriginBuilder},
    record::SeenRequest,
    within,
};

/// A running collector. For one that is down, take the address of `origin::Refusing`.
pub(crate) struct Collector {
    state: State,
    origin: Origin,
}

/// How it answers an export.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Answer {
    #[default]
    Accept,
    /// Never.
    Hang,
    /// As it is told next: not before.
    Hold,
    /// With this gRPC code, for instance 14 for unavailable, or this HTTP status. What was sent is not kept.
    Status(u16),
    /// Takes all but so many spans of each export.
    AllBut(i64),
}

/// What it got, with the resource and scope around it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) spans: Vec<ResourceSpans>,
    pub(crate) metrics: Vec<ResourceMetrics>,
    /// Exports that were asked for, refused ones included.
    pub(crate) exports: usize,
}

impl Collector {
    /// Over gRPC, uncompressed or with gzip.
    pub(crate) fn grpc() -> Self {
        Self::grpc_on(Origin::plain().http2())
    }

    /// Over HTTP with protobuf, uncompressed or with gzip: `/v1/traces` and `/v1/metrics`.
    pub(crate) fn http() -> Self {
        Self::http_on(Origin::plain())
    }

    /// Over gRPC, with TLS.
    pub(crate) fn grpc_tls(identity: Identity) -> Self {
        Self::grpc_on(Origin::tls_as(identity))
    }

    /// Over HTTP, with TLS.
    pub(crate) fn http_tls(identity: Identity) -> Self {
        Self::http_on(Origin::tls_as(identity))
    }

    fn grpc_on(origin: OriginBuilder) -> Self {
        let state = State::default();
        let traces = TraceServiceServer::new(state.clone()).accept_compressed(CompressionEncoding::Gzip);
        let metrics = MetricsServiceServer::new(state.clone()).accept_compressed(CompressionEncoding::Gzip);
        let routes = Routes::new(traces).add_service(metrics);
        let origin = origin.serve(move |request: Request<Incoming>| {
            let answer = routes.clone().oneshot(request.map(tonic::body::Body::new));
            async move {
                let (head, body) = answer.await.expect("it never fails").into_parts();
                let body = body.collect().await.expect("an answer in memory");
                let trailers = body.trailers().cloned().map(Ok);
                Response::from_parts(head, Full::new(body.to_bytes()).with_trailers(std::future::ready(trailers)))
            }
        });
        Self { state, origin }
    }

    fn http_on(origin: OriginBuilder) -> Self {
        let state = State::default();
        let served = state.clone();
        let origin = origin.serve(move |request| served.clone().over_http(request));
        Self { state, origin }
    }

    /// The endpoint, without a path.
    pub(crate) fn endpoint(&self) -> String {
        self.origin.url("/").to_string().trim_end_matches('/').to_owned()
    }

    /// The requests that it got, with their header fields.
    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.origin.record().requests
    }

    /// How it answers from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        self.state.answer.send_replace(answer);
    }

    pub(crate) fn received(&self) -> Received {
        self.state.received.borrow().clone()
    }

    /// Every span that it got, once there are so many.
    pub(crate) async fn spans(&self, at_least: usize) -> Vec<Span> {
        let spans = |received: &Received| -> Vec<Span> {
            let scopes = received.spans.iter().flat_map(|resource| &resource.scope_spans);
            scopes.flat_map(|scope| &scope.spans).cloned().collect()
        };
        self.until("spans to arrive", |received| spans(received).len() >= at_least).await;
        spans(&self.received())
    }

    /// The last state of the metric of this name, once there is one.
    pub(crate) async fn metric(&self, name: &str) -> Metric {
        let metric = |received: &Received| -> Option<Metric> {
            let scopes = received.metrics.iter().flat_map(|resource| &resource.scope_metrics);
            scopes.flat_map(|scope| &scope.metrics).rfind(|metric| metric.name == name).cloned()
        };
        self.until("a metric to arrive", |received| metric(received).is_some()).await;
        metric(&self.received()).expect("it just arrived")
    }

    /// Returns once it was asked for so many exports.
    pub(crate) async fn exports(&self, at_least: usize) {
        self.until("an export", |received| received.exports >= at_least).await;
    }

    async fn until(&self, what: &str, when: impl FnMut(&Received) -> bool) {
        let mut received = self.state.received.subscribe();
        within(what, received.wait_for(when)).await.expect("the sender is in self");
    }
}

/// What the services share.
#[derive(Clone, Default)]
struct State {
    received: Arc<watch::Sender<Received>>,
    answer: Arc<watch::Sender<Answer>>,
}

impl State {
    /// Answers as told: hangs, refuses with a status, or lets `keep` have what was sent. Returns how much it refuses.
    async fn export(&self, keep: impl FnOnce(&mut Received)) -> Result<i64, u16> {
        // First, so that who sees the export can change the answer to the next one.
        let mut answer = *self.answer.borrow();
        self.received.send_modify(|received| received.exports += 1);
        if let Answer::Hold = answer {
            let told = |answer: &Answer| !matches!(answer, Answer::Hold);
            answer = *self.answer.subscribe().wait_for(told).await.expect("the sender is in self");
        }
        match answer {
            Answer::Hang | Answer::Hold => std::future::pending().await,
            Answer::Status(status) => Err(status),
            Answer::Accept => {
                self.received.send_modify(keep);
                Ok(0)
            }
            Answer::AllBut(refused) => Ok(refused),
        }
    }

    async fn over_http(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let zipped = request.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
        let mut body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        if zipped {
            let mut plain = Vec::new();
            if GzDecoder::new(&*body).read_to_end(&mut plain).is_err() {
                return status(400);
            }
            body = plain.into();
        }
        let (result, answer) = match &*path {
            "/v1/traces" => {
                let Ok(sent) = ExportTraceServiceRequest::decode(body) else { return status(400) };
                let result = self.export(|received| received.spans.extend(sent.resource_spans)).await;
                (result, taken(result.unwrap_or_default()).encode_to_vec())
            }
            "/v1/metrics" => {
                let Ok(sent) = ExportMetricsServiceRequest::decode(body) else { return status(400) };
                let result = self.export(|received| received.metrics.extend(sent.resource_metrics)).await;
                (result, ExportMetricsServiceResponse::default().encode_to_vec())
            }
            _ => return status(404),
        };
        match result {
            Err(code) => status(code),
            Ok(_) => {
                let mut response = Response::new(Bytes::from(answer).into());
                let protobuf = HeaderValue::from_static("application/x-protobuf");
                response.headers_mut().insert(header::CONTENT_TYPE, protobuf);
                response
            }
        }
    }
}

/// The answer to spans of which so many are refused.
fn taken(refused: i64) -> ExportTraceServiceResponse {
    let partial = ExportTracePartialSuccess { rejected_spans: refused, error_message: "too old".to_owned() };
    ExportTraceServiceResponse { partial_success: (refused > 0).then_some(partial) }
}

fn status(code: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::from_u16(code).expect("an HTTP status");
    response
}

fn refusal(code: u16) -> tonic::Status {
    tonic::Status::new(Code::from_i32(code.into()), "as the test says")
}

#[tonic::async_trait]
impl TraceService for State {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let sent = request.into_inner().resource_spans;
        let refused = self.export(|received| received.spans.extend(sent)).await.map_err(refusal)?;
        Ok(tonic::Response::new(taken(refused)))
    }
}

#[tonic::async_trait]
impl MetricsService for State {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let sent = request.into_inner().resource_metrics;
        self.export(|received| received.metrics.extend(sent)).await.map_err(refusal)?;
        Ok(tonic::Response::new(Default::default()))
    }
}
