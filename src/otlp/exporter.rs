//! The exporters: what the SDK hands over, encoded as OTLP and sent.
//!
//! The SDK's OTLP exporters read the environment on their own, tell every failure in a log line and keep its cause to
//! themselves. These know nothing but their [`Transport`], and give the rest to [`Delivery`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::{
    tonic::collector::{
        metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
        trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    },
    transform::{common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use prost::Message;

use super::{
    delivery::{Delivery, Places},
    problem::Failure,
    transport::Transport,
};

/// The way of spans to one collector, whoever made them.
#[derive(Debug)]
pub(super) struct OtlpSpans {
    pub(super) transport: Transport,
    pub(super) delivery: Arc<Delivery>,
}

impl OtlpSpans {
    /// Sends an encoded `ExportTraceServiceRequest` of so many spans, and counts what becomes of it.
    pub(super) async fn deliver(&self, message: Vec<u8>, spans: u64) -> OTelSdkResult {
        let send = async {
            let answer = self.transport.send(message).await.map_err(failed)?;
            Ok(match decoded(answer) {
                Ok(ExportTraceServiceResponse { partial_success: Some(partial) }) => {
                    let why = self.transport.quoted(&partial.error_message);
                    self.delivery.rejected(partial.rejected_spans, &why)
                }
                _ => 0,
            })
        };
        self.delivery.attempt(spans, send).await
    }
}

/// Exports the SDK's spans.
#[derive(Debug)]
pub(super) struct SdkSpans {
    pub(super) spans: Arc<OtlpSpans>,
    pub(super) places: Arc<Places>,
    pub(super) resource: ResourceAttributesWithSchema,
}

impl SpanExporter for SdkSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.places.leave(batch.len());
        let spans = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        self.spans.deliver(ExportTraceServiceRequest { resource_spans }.encode_to_vec(), spans).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Exports metrics.
#[derive(Debug)]
pub(super) struct OtlpMetrics {
    pub(super) transport: Transport,
    pub(super) delivery: Arc<Delivery>,
    pub(super) temporality: Temporality,
}

impl PushMetricExporter for OtlpMetrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let message = ExportMetricsServiceRequest::from(metrics).encode_to_vec();
        let send = async {
            let answer = self.transport.send(message).await.map_err(failed)?;
            Ok(match decoded(answer) {
                Ok(ExportMetricsServiceResponse { partial_success: Some(partial) }) => {
                    let why = self.transport.quoted(&partial.error_message);
                    self.delivery.rejected(partial.rejected_data_points, &why)
                }
                _ => 0,
            })
        };
        self.delivery.attempt(1, send).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.temporality
    }
}

fn failed(failure: Failure) -> OTelSdkError {
    OTelSdkError::InternalFailure(failure.seen)
}

fn decoded<M: Message + Default>(answer: Bytes) -> Result<M, prost::DecodeError> {
    M::decode(answer)
}
