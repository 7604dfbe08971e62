//! An OTLP/gRPC collector inside this process: it keeps what it receives, and passes it on if there is a real one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

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
    metrics::v1::Metric,
    trace::v1::Span,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// All that was received.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<(Vec<ExportTraceServiceRequest>, Vec<ExportMetricsServiceRequest>)>>);

impl Collector {
    /// Starts it on a free port.
    pub(crate) async fn start() -> Result<(Self, SocketAddr), crate::origin::Failure> {
        let this = Self::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        let addr = incoming.local_addr()?;
        let server = Server::builder()
            .add_service(TraceServiceServer::new(this.clone()))
            .add_service(MetricsServiceServer::new(this.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        Ok((this, addr))
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.received().0.clone();
        let scopes =
            received.into_iter().flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let received = self.received().1.clone();
        let resources = received.into_iter().flat_map(|request| request.resource_metrics);
        resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics).collect()
    }

    pub(crate) fn received(
        &self,
    ) -> std::sync::MutexGuard<'_, (Vec<ExportTraceServiceRequest>, Vec<ExportMetricsServiceRequest>)> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received().0.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.received().1.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
