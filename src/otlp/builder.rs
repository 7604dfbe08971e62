//! What code says about telemetry. All that the environment can say can be said here, and wins; but for the names of the
//! service and of the resource, which are the operator's.

use std::{any::Any, fmt, time::Duration};

use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::Temporality,
    trace::{Sampler, ShouldSample, Span, SpanData, SpanLimits, SpanProcessor},
};

use super::{Guard, InitError, env::Settings, pipeline::Pipeline};

/// Telemetry with some things said in code. What is not said comes from the environment.
pub fn builder() -> Builder {
    Builder { traces: true, metrics: true, set_globals: true, ..Builder::default() }
}

/// How OTLP is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`, port 4317 by default.
    Grpc,
    /// `http/protobuf`, port 4318 by default.
    HttpProtobuf,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// How exports are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// `none`.
    None,
    /// `gzip`: a tenth of the bytes, for some microseconds per span on the exporting thread.
    Gzip,
}

/// Where a signal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exporter {
    /// `otlp`: to a collector.
    Otlp,
    /// `console`: to stderr, a line per span or data point.
    Console,
}

/// What is passed on with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Propagator {
    /// `tracecontext`: `traceparent` and `tracestate`.
    TraceContext,
    /// `baggage`.
    Baggage,
}

/// What is said in code about telemetry.
#[must_use]
#[derive(Default)]
pub struct Builder {
    pub(super) endpoint: Option<String>,
    pub(super) protocol: Option<Protocol>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Option<Duration>,
    pub(super) compression: Option<Compression>,
    pub(super) certificate: Option<Vec<u8>>,
    pub(super) client_identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<KeyValue>,
    pub(super) traces: bool,
    pub(super) traces_exporters: Option<Vec<Exporter>>,
    pub(super) metrics: bool,
    pub(super) metrics_exporters: Option<Vec<Exporter>>,
    /// And whether it may be one that looks at attributes.
    pub(super) sampler: Option<(Box<dyn ShouldSample>, bool)>,
    pub(super) processors: Vec<Processor>,
    pub(super) span_limits: Option<SpanLimits>,
    pub(super) batch_delay: Option<Duration>,
    pub(super) batch_timeout: Option<Duration>,
    pub(super) batch_queue: Option<usize>,
    pub(super) batch_size: Option<usize>,
    pub(super) metric_interval: Option<Duration>,
    pub(super) metric_timeout: Option<Duration>,
    pub(super) temporality: Option<Temporality>,
    pub(super) propagators: Option<Vec<Propagator>>,
    pub(super) known_methods: Option<Vec<String>>,
    pub(super) and_environment: bool,
    pub(super) set_globals: bool,
}

/// Where to, and how.
impl Builder {
    /// The collector, such as `http://localhost:4318`. Wins over the environment's; over HTTP, `/v1/traces` and
    /// `/v1/metrics` are appended.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The protocol. `http/protobuf` if neither this nor the environment says, as the specification recommends.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// A header field of every export, beside those of the environment; it wins over one of the same name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The most time that one export may take with its retries, and the whole of a shutdown. 10 s if neither this nor the
    /// environment says, as the specification has it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How exports are compressed. Not at all by default: a collector is usually near.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The authorities to trust, in PEM. The platform's by default.
    pub fn certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some(pem.into());
        self
    }

    /// The certificate, or chain, and the key with which to identify to the collector, both in PEM. None by default.
    pub fn client_identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client_identity = Some((certificate.into(), key.into()));
        self
    }

    /// With an [`endpoint`](Self::endpoint): export to the environment's as well, if it names one. The environment's
    /// header fields then go to that one only.
    pub fn and_environment(mut self) -> Self {
        self.and_environment = true;
        self
    }
}

/// Who, and what of it.
impl Builder {
    /// The service's name, where the environment names none.
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Attributes of the resource; those of the environment win.
    pub fn resource(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.resource.extend(attributes);
        self
    }

    /// Whether spans are exported. On; the environment can still say `none`.
    pub fn traces(mut self, on: bool) -> Self {
        self.traces = on;
        self
    }

    /// Whether metrics are exported. On; the environment can still say `none`.
    pub fn metrics(mut self, on: bool) -> Self {
        self.metrics = on;
        self
    }

    /// Where spans go. To the collector by default.
    pub fn traces_exporters(mut self, exporters: impl IntoIterator<Item = Exporter>) -> Self {
        self.traces_exporters = Some(exporters.into_iter().collect());
        self
    }

    /// Where metrics go. To the collector by default.
    pub fn metrics_exporters(mut self, exporters: impl IntoIterator<Item = Exporter>) -> Self {
        self.metrics_exporters = Some(exporters.into_iter().collect());
        self
    }

    /// Which traces are recorded: a [`Sampler`], or one of your own. All by default, but where the caller's context says no.
    ///
    /// It is asked once per attempt of a request, for the CLIENT span, whose children follow it; unless there is a
    /// [`span_processor`](Self::span_processor), with which it is asked for each span.
    pub fn sampler(mut self, sampler: impl ShouldSample + 'static) -> Self {
        let of_the_sdk = (&sampler as &dyn Any).downcast_ref::<Sampler>();
        let reads_attributes = of_the_sdk.is_none_or(|sampler| matches!(sampler, Sampler::ParentBased(_)));
        self.sampler = Some((Box::new(sampler), reads_attributes));
        self
    }

    /// Somebody else who is told of every span, those of requests included, and before they are exported. None by default:
    /// then requests become OTLP without becoming spans of the SDK first, which costs a fraction.
    pub fn span_processor(mut self, processor: impl SpanProcessor + 'static) -> Self {
        self.processors.push(Processor(Box::new(processor)));
        self
    }

    /// The most attributes, events and links. 128 of each by default, as the specification has it.
    pub fn span_limits(mut self, limits: SpanLimits) -> Self {
        self.span_limits = Some(limits);
        self
    }

    /// What is passed on with requests. `traceparent`, `tracestate` and `baggage` by default.
    pub fn propagators(mut self, propagators: impl IntoIterator<Item = Propagator>) -> Self {
        self.propagators = Some(propagators.into_iter().collect());
        self
    }

    /// The methods that spans and metrics tell by name; others are `_OTHER`. By default those of RFC 9110, `PATCH` and
    /// `QUERY`. This list takes their place, for the whole process and once; ten at most, since each is a series of its own
    /// in the metrics of every server.
    pub fn known_methods(mut self, methods: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.known_methods = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the providers and the propagators become the process's globals. On.
    pub fn set_globals(mut self, on: bool) -> Self {
        self.set_globals = on;
        self
    }
}

/// When, and how much.
impl Builder {
    /// The time between two exports of spans. 5 s by default, as the specification has it.
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.batch_delay = Some(delay.max(SHORTEST));
        self
    }

    /// The most time that one export of spans may take. 30 s by default; the [`timeout`](Self::timeout) is usually shorter.
    pub fn batch_timeout(mut self, timeout: Duration) -> Self {
        self.batch_timeout = Some(timeout);
        self
    }

    /// Spans that may wait for their export; further ones are dropped, and counted. A request waits in one place with all of
    /// its spans, unless there is a [`span_processor`](Self::span_processor). 2048 by default, as the specification has it,
    /// 2^20 at most: the SDK allocates its places at once. Raise it where more requests may end within moments.
    pub fn batch_queue(mut self, spans: usize) -> Self {
        self.batch_queue = Some(spans.clamp(1, 1 << 20));
        self
    }

    /// Spans in one export. 512 by default, as the specification has it. Raise it where the collector is more than some
    /// milliseconds away.
    pub fn batch_size(mut self, spans: usize) -> Self {
        self.batch_size = Some(spans.max(1));
        self
    }

    /// The time between two exports of metrics. 60 s by default, as the specification has it.
    pub fn metric_interval(mut self, interval: Duration) -> Self {
        self.metric_interval = Some(interval.max(SHORTEST));
        self
    }

    /// The most time that one export of metrics may take. 30 s by default; the [`timeout`](Self::timeout) is usually
    /// shorter.
    pub fn metric_timeout(mut self, timeout: Duration) -> Self {
        self.metric_timeout = Some(timeout);
        self
    }

    /// Whether metrics tell of all the time since their begin or of that since the last export. Since their begin by
    /// default, as Prometheus wants it.
    pub fn temporality(mut self, temporality: Temporality) -> Self {
        self.temporality = Some(temporality);
        self
    }

    /// Sets telemetry up.
    ///
    /// # Errors
    ///
    /// If a thread can't be made, or a certificate or key that code gave can't be used. A collector that can't be reached
    /// is no error here.
    pub fn init(self) -> Result<Guard, InitError> {
        let set_globals = self.set_globals;
        let mut settings = Settings::read(self, &|name| std::env::var(name).ok())?;
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let pipeline = Pipeline::build(&mut settings)?;
        if set_globals {
            pipeline.set_globals(&settings);
        }
        Ok(Guard::new(pipeline, settings))
    }
}

/// A span processor of the application.
#[derive(Debug)]
pub(super) struct Processor(Box<dyn SpanProcessor>);

impl SpanProcessor for Processor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Less would be a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

impl fmt::Debug for Builder {
    /// Without the header fields and the key: they are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("protocol", &self.protocol)
            .field("service_name", &self.service_name)
            .field("traces", &self.traces)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}
