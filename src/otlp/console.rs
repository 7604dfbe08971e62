//! The exporters called `console`: spans and metrics as lines on stderr, to look at. stdout belongs to the program.
//!
//! In: what the SDK hands over. Out: a line per span, per metric and per data point of it. The form is for people and may
//! change.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data, number_data_point::Value},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};

/// Writes spans.
#[derive(Debug)]
pub(super) struct ConsoleSpans;

impl SpanExporter for ConsoleSpans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut text = String::new();
        batch.iter().for_each(|span| line(&mut text, span));
        written(&text)
    }
}

fn line(text: &mut String, span: &SpanData) {
    let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
    let (trace, id, parent) = (span.span_context.trace_id(), span.span_context.span_id(), span.parent_span_id);
    let SpanData { name, span_kind, status, attributes, .. } = span;
    let _ = write!(text, "span {name} {span_kind:?} trace={trace} span={id} parent={parent} took={took:?} {status:?}");
    for KeyValue { key, value, .. } in attributes {
        let _ = write!(text, " {key}={value}");
    }
    text.push('\n');
    for event in &span.events.events {
        let at = event.timestamp.duration_since(span.start_time).unwrap_or_default();
        let _ = writeln!(text, "  event {} at={at:?}", event.name);
    }
}

/// Writes metrics.
#[derive(Debug)]
pub(super) struct ConsoleMetrics(pub(super) Temporality);

impl PushMetricExporter for ConsoleMetrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let mut text = String::new();
        let sent = ExportMetricsServiceRequest::from(metrics);
        let scopes = sent.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).for_each(|metric| lines(&mut text, metric));
        written(&text)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        self.0
    }
}

fn lines(text: &mut String, metric: &Metric) {
    let Metric { name, unit, .. } = metric;
    let _ = writeln!(text, "metric {name} ({unit})");
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().for_each(|point| number(text, point)),
        Some(Data::Sum(sum)) => sum.data_points.iter().for_each(|point| number(text, point)),
        Some(Data::Histogram(histogram)) => {
            for point in &histogram.data_points {
                let _ = write!(text, "  count={} sum={}", point.count, point.sum.unwrap_or_default());
                labels(text, &point.attributes);
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            for point in &histogram.data_points {
                let _ = write!(text, "  count={} sum={}", point.count, point.sum.unwrap_or_default());
                labels(text, &point.attributes);
            }
        }
        Some(Data::Summary(_)) | None => {}
    }
}

fn number(text: &mut String, point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint) {
    let _ = match point.value {
        Some(Value::AsDouble(value)) => write!(text, "  {value}"),
        Some(Value::AsInt(value)) => write!(text, "  {value}"),
        None => return,
    };
    labels(text, &point.attributes);
}

fn labels(text: &mut String, attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    for attribute in attributes {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        let _ = write!(text, " {}=", attribute.key);
        let _ = match value {
            Some(Any::StringValue(value)) => write!(text, "{value}"),
            Some(Any::IntValue(value)) => write!(text, "{value}"),
            Some(Any::BoolValue(value)) => write!(text, "{value}"),
            Some(Any::DoubleValue(value)) => write!(text, "{value}"),
            other => write!(text, "{other:?}"),
        };
    }
    text.push('\n');
}

/// In one piece, so that lines of others do not come between.
fn written(text: &str) -> OTelSdkResult {
    // Nobody there to read it is no reason to fail.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}
