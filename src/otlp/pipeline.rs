//! Builds the providers out of the settings, and owns the thread on which exports are sent.
//!
//! ```text
//! attempt over ─ Way (our runtime's thread) ─┐
//! span ended ─ batch processor (thread) ─────┼─ OTLP exporter ─ Transport ─ (our runtime's thread) ─ collector
//! metric reader (thread) ────────────────────┘
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
    delivery::{Delivery, Handed, Places},
    env::{Batch, Settings, Target},
    exporter::{OtlpMetrics, OtlpSpans, SdkSpans},
    global::Global,
    lane::{Asked, Lane, Way},
    problem::Complaints,
    transport::Transport,
};
use crate::views::{metrics::Metrics, propagation, semconv};

/// Providers, and what they need to live.
pub(super) struct Pipeline {
    pub(super) tracer_provider: SdkTracerProvider,
    pub(super) meter_provider: SdkMeterProvider,
    pub(super) deliveries: Vec<Arc<Delivery>>,
    /// Those of attempts past the SDK, one to each collector.
    pub(super) ways: Vec<Arc<Way>>,
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
    pub(super) fn build(settings: &mut Settings) -> Result<Self, InitError> {
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
            ways: Vec::new(),
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

    fn tracers(&mut self, settings: &mut Settings, resource: Resource) -> Result<SdkTracerProvider, InitError> {
        let mut tracers =
            SdkTracerProvider::builder().with_resource(resource.clone()).with_span_limits(settings.limits);
        // Whoever else looks at spans wants the SDK's.
        let past_the_sdk = !settings.console.traces && settings.processors.is_empty();
        for processor in settings.processors.drain(..) {
            self.spans = true;
            tracers = tracers.with_span_processor(processor);
        }
        for target in settings.collectors.iter().filter_map(|collector| collector.traces.as_ref()) {
            let (transport, delivery) = self.way("spans", target)?;
            let spans = Arc::new(OtlpSpans { transport, delivery: Arc::clone(&delivery) });
            let places = Places::new(settings.batch.queue);
            let exporter =
                SdkSpans { spans: Arc::clone(&spans), places: Arc::clone(&places), resource: Default::default() };
            let way = past_the_sdk.then(|| {
                let runtime = &self.runtime.as_ref().expect("there is a collector, so there is a runtime").handle;
                Way::new(spans, &settings.batch, &resource, settings.limits, runtime)
            });
            self.ways.extend(way.clone());
            let batch = batched(exporter, &settings.batch);
            tracers = tracers.with_span_processor(Handed { batch, places, delivery, way });
            self.spans = true;
        }
        if settings.console.traces {
            tracers = tracers.with_span_processor(batched(ConsoleSpans, &settings.batch));
            self.spans = true;
        }
        let tracers = match self.ways.is_empty() {
            true => tracers.with_sampler(settings.sampler.0.clone()),
            false => tracers.with_sampler(Asked(Lane::new(settings.sampler.clone(), self.ways.clone()))),
        };
        Ok(tracers.build())
    }

    fn meters(&mut self, settings: &Settings, resource: Resource) -> Result<SdkMeterProvider, InitError> {
        let mut meters = SdkMeterProvider::builder().with_resource(resource);
        for target in settings.collectors.iter().filter_map(|collector| collector.metrics.as_ref()) {
            let (transport, delivery) = self.way("metrics", target)?;
            let exporter = OtlpMetrics { transport, delivery, temporality: settings.temporality };
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
            // Clients of the global provider do not see its type; this lets them know it again.
            let _ = Metrics::new(&self.meter_provider);
            global::set_meter_provider(self.meter_provider.clone());
        }
        if self.spans {
            global::set_tracer_provider(Global(self.tracer_provider.clone()));
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
