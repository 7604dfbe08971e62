//! Builds the providers out of the settings, and owns the thread on which exports are sent.
//!
//! ```text
//! span ended ─ batch processor (thread) ─┐
//!                                        ├─ Counted ─ OTLP exporter ─ Transport ─ (our runtime's thread) ─ collector
//! metric reader (thread) ────────────────┘
//! ```

use std::{sync::Arc, thread};

use opentelemetry::{
    Context, global,
    propagation::{TextMapCompositePropagator, TextMapPropagator},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::{BaggagePropagator, TraceContextPropagator},
    resource::TelemetryResourceDetector,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter},
};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    InitError, Propagator,
    console::{ConsoleMetrics, ConsoleSpans},
    delivery::{Counted, Delivery, Handed},
    env::{Batch, Settings, Target},
    exporter::{OtlpMetrics, OtlpSpans},
    problem::Complaints,
    transport::Transport,
};
use crate::views::{propagation, semconv};

/// Providers, and what they need to live.
pub(super) struct Pipeline {
    pub(super) tracer_provider: SdkTracerProvider,
    pub(super) meter_provider: SdkMeterProvider,
    pub(super) deliveries: Vec<Arc<Delivery>>,
    pub(super) complaints: Arc<Complaints>,
    /// Whether spans, and whether metrics, are exported anywhere.
    pub(super) spans: bool,
    pub(super) metrics: bool,
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
        let mut this = Self {
            tracer_provider: SdkTracerProvider::default(),
            meter_provider: SdkMeterProvider::default(),
            deliveries: Vec::new(),
            complaints: Arc::default(),
            spans: false,
            metrics: false,
            runtime,
        };
        this.tracer_provider = this.tracers(settings, resource.clone())?;
        this.meter_provider = this.meters(settings, resource)?;
        // A provider that exports nothing makes nothing: no ids either. An ended one is the SDK's only such.
        if !this.spans {
            let _ = this.tracer_provider.shutdown();
        }
        if !this.metrics {
            let _ = this.meter_provider.shutdown();
        }
        Ok(this)
    }

    fn tracers(&mut self, settings: &Settings, resource: Resource) -> Result<SdkTracerProvider, InitError> {
        let mut tracers = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(settings.sampler.clone())
            .with_span_limits(settings.limits);
        for target in settings.collectors.iter().filter_map(|collector| collector.traces.as_ref()) {
            let (transport, delivery) = self.way("spans", target)?;
            let exporter = OtlpSpans { transport, delivery: Arc::clone(&delivery), resource: Default::default() };
            let exporter = Counted { exporter, delivery: Arc::clone(&delivery) };
            tracers = tracers.with_span_processor(Handed { batch: batched(exporter, &settings.batch), delivery });
            self.spans = true;
        }
        if settings.console.traces {
            tracers = tracers.with_span_processor(batched(ConsoleSpans, &settings.batch));
            self.spans = true;
        }
        Ok(tracers.build())
    }

    fn meters(&mut self, settings: &Settings, resource: Resource) -> Result<SdkMeterProvider, InitError> {
        let mut meters = SdkMeterProvider::builder().with_resource(resource);
        for target in settings.collectors.iter().filter_map(|collector| collector.metrics.as_ref()) {
            let (transport, delivery) = self.way("metrics", target)?;
            let counted = Arc::clone(&delivery);
            let exporter = OtlpMetrics { transport, delivery, temporality: settings.temporality };
            let exporter = Counted { exporter, delivery: counted };
            meters =
                meters.with_reader(PeriodicReader::builder(exporter).with_interval(settings.metric_interval).build());
            self.metrics = true;
        }
        if settings.console.metrics {
            let exporter = ConsoleMetrics(settings.temporality);
            meters =
                meters.with_reader(PeriodicReader::builder(exporter).with_interval(settings.metric_interval).build());
            self.metrics = true;
        }
        Ok(meters.build())
    }

    /// One signal's way to one collector, and who counts on it.
    fn way(&mut self, signal: &'static str, target: &Target) -> Result<(Transport, Arc<Delivery>), InitError> {
        let complaints = Arc::clone(&self.complaints);
        let delivery = Delivery::new(signal, (*target.endpoint).clone(), target.protocol, complaints);
        self.deliveries.push(Arc::clone(&delivery));
        let runtime = self.runtime.as_ref().expect("there is a collector, so there is a runtime");
        let transport = Transport::new(target, runtime.handle.clone(), Arc::clone(&delivery));
        Ok((transport.map_err(|error| InitError::new("an exporter's client", error))?, delivery))
    }

    /// Without an SDK the propagators still pass a caller's context on, as the specification wants it.
    pub(super) fn set_globals(&self, settings: &Settings) {
        let propagators = &settings.propagators;
        let (context, baggage) =
            (propagators.contains(&Propagator::TraceContext), propagators.contains(&Propagator::Baggage));
        let all = propagators.iter().map(|propagator| -> Box<dyn TextMapPropagator + Send + Sync> {
            match propagator {
                Propagator::TraceContext => Box::new(TraceContextPropagator::new()),
                Propagator::Baggage => Box::new(BaggagePropagator::new()),
            }
        });
        global::set_text_map_propagator(TextMapCompositePropagator::new(all.collect()));
        propagation::set_global(context, baggage);
        if let Some(methods) = &settings.known_methods {
            semconv::set_known_methods(methods);
        }
        // A signal that is left out here may well be the application's own affair.
        if self.metrics {
            global::set_meter_provider(self.meter_provider.clone());
        }
        if self.spans {
            global::set_tracer_provider(self.tracer_provider.clone());
        }
    }
}

fn batched(exporter: impl SpanExporter + 'static, batch: &Batch) -> BatchSpanProcessor {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(batch.queue)
        .with_max_export_batch_size(batch.size)
        .with_scheduled_delay(batch.delay)
        .build();
    BatchSpanProcessor::builder(exporter).with_batch_config(config).build()
}
