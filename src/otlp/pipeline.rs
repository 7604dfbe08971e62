//! Builds the providers out of the settings, and owns the thread on which exports are sent.
//!
//! ```text
//! span ended ─ batch processor (thread) ─┐
//!                                        ├─ Counted ─ OTLP exporter ─ gRPC │ Transport ─ (our runtime's thread) ─ collector
//! metric reader (thread) ────────────────┘
//! ```

use std::{collections::HashMap, sync::Arc, thread};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::{Context, global, propagation::TextMapCompositePropagator};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::{metadata::MetadataMap, transport::ClientTlsConfig},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::{BaggagePropagator, TraceContextPropagator},
    resource::TelemetryResourceDetector,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    InitError, Protocol,
    delivery::{Counted, Delivery, Handed},
    env::{Batch, Settings, Target},
    transport::Transport,
};
use crate::redact;

/// Providers, and what they need to live.
pub(super) struct Pipeline {
    pub(super) tracer_provider: SdkTracerProvider,
    pub(super) meter_provider: SdkMeterProvider,
    pub(super) deliveries: Vec<Arc<Delivery>>,
    pub(super) runtime: Option<Runtime>,
}

/// A runtime on a thread of its own. The application's may be the thread that waits for a flush.
pub(super) struct Runtime {
    handle: Handle,
    /// Its drop ends the thread.
    _stop: oneshot::Sender<()>,
}

impl Runtime {
    fn spawn() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("httptrace-otlp".to_owned()).spawn(move || {
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            // Either way: the sender is gone.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }
}

impl Pipeline {
    pub(super) fn build(settings: &Settings) -> Result<Self, InitError> {
        let runtime = match settings.collectors.is_empty() {
            true => None,
            false => Some(Runtime::spawn().map_err(|error| InitError::new("its thread", error))?),
        };
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(settings.resource.clone())
            .build();
        let mut deliveries = Vec::new();
        let mut tracers = SdkTracerProvider::builder().with_resource(resource.clone());
        let mut meters = SdkMeterProvider::builder().with_resource(resource);
        for (collector, runtime) in settings.collectors.iter().zip(runtime.iter().cycle()) {
            let _entered = runtime.handle.enter();
            if let Some(target) = &collector.traces {
                let exporter = span_exporter(target, runtime)?;
                let delivery = Delivery::new("spans", shown(target));
                tracers = tracers.with_span_processor(batched(exporter, &delivery, &settings.batch));
                deliveries.push(delivery);
            }
            if let Some(target) = &collector.metrics {
                let exporter = metric_exporter(target, runtime)?;
                let delivery = Delivery::new("metrics", shown(target));
                let exporter = Counted { exporter, delivery: Arc::clone(&delivery) };
                let reader = PeriodicReader::builder(exporter).with_interval(settings.metric_interval).build();
                meters = meters.with_reader(reader);
                deliveries.push(delivery);
            }
        }
        let this = Self { tracer_provider: tracers.build(), meter_provider: meters.build(), deliveries, runtime };
        // A provider that exports nothing makes nothing: no ids either. An ended one is the SDK's only such.
        if !this.exports("spans") {
            let _ = this.tracer_provider.shutdown();
        }
        if !this.exports("metrics") {
            let _ = this.meter_provider.shutdown();
        }
        Ok(this)
    }

    /// Without an SDK the propagators still pass a caller's context on, as the specification wants it.
    pub(super) fn set_globals(&self) {
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));
        // A signal that is left out here may well be the application's own affair.
        if self.exports("metrics") {
            global::set_meter_provider(self.meter_provider.clone());
        }
        if self.exports("spans") {
            global::set_tracer_provider(self.tracer_provider.clone());
        }
    }

    pub(super) fn exports(&self, signal: &str) -> bool {
        self.deliveries.iter().any(|delivery| delivery.signal() == signal)
    }
}

fn batched(exporter: SpanExporter, delivery: &Arc<Delivery>, batch: &Batch) -> Handed {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(batch.queue)
        .with_max_export_batch_size(batch.size)
        .with_scheduled_delay(batch.delay)
        .build();
    let exporter = Counted { exporter, delivery: Arc::clone(delivery) };
    let batch = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    Handed { batch, delivery: Arc::clone(delivery) }
}

fn span_exporter(target: &Target, runtime: &Runtime) -> Result<SpanExporter, InitError> {
    match target.protocol {
        Protocol::Grpc => grpc(SpanExporter::builder().with_tonic(), target).build(),
        Protocol::HttpProtobuf => http(SpanExporter::builder().with_http(), target, runtime)?.build(),
    }
    .map_err(not_made)
}

fn metric_exporter(target: &Target, runtime: &Runtime) -> Result<MetricExporter, InitError> {
    match target.protocol {
        Protocol::Grpc => grpc(MetricExporter::builder().with_tonic(), target).build(),
        Protocol::HttpProtobuf => http(MetricExporter::builder().with_http(), target, runtime)?.build(),
    }
    .map_err(not_made)
}

fn not_made(error: ExporterBuildError) -> InitError {
    InitError::new("an exporter", error)
}

fn grpc<B: WithExportConfig + WithTonicConfig>(builder: B, target: &Target) -> B {
    let builder = builder
        .with_endpoint(&target.endpoint)
        .with_timeout(target.timeout)
        .with_metadata(MetadataMap::from_headers(headers(target)));
    // Of itself the exporter would trust no root at all.
    match target.endpoint.starts_with("http://") {
        true => builder,
        false => builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
    }
}

fn http<B: WithExportConfig + WithHttpConfig>(builder: B, target: &Target, runtime: &Runtime) -> Result<B, InitError> {
    let transport = Transport::new(runtime.handle.clone(), target.timeout)
        .map_err(|error| InitError::new("an exporter's client", error))?;
    let headers: HashMap<_, _> = target.headers.iter().cloned().collect();
    Ok(builder
        .with_endpoint(&target.endpoint)
        .with_timeout(target.timeout)
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_headers(headers)
        .with_http_client(transport))
}

fn headers(target: &Target) -> HeaderMap {
    let fields = target.headers.iter();
    fields
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)))
        .collect()
}

/// The collector as warnings name it.
fn shown(target: &Target) -> String {
    target.endpoint.parse::<Uri>().map_or_else(|_| "the collector".to_owned(), |uri| redact::url(&uri).to_string())
}
