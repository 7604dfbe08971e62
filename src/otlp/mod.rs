//! Telemetry out of the process: tracer and meter providers that export over OTLP, from the `OTEL_*` environment.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let telemetry = httptrace::otlp::init()?;
//! let client = httptrace::Client::new(); // after init(): it takes the global providers
//! // … requests …
//! telemetry.shutdown();
//! # Ok(()) }
//! ```
//!
//! Clients come after `init()`: each takes the global providers when it is built, and does not see those that are set
//! later.
//!
//! [`init`] reads the environment, [`builder()`] takes what code wants to say. Both return a [`Guard`], which flushes when
//! it is told to or dropped. Its [`layer`](Guard::layer) exports the application's own `tracing` spans, among which those
//! of requests nest. A request's spans are made of its record on the exporting thread, without the SDK, which costs a
//! fraction; [`Builder::span_processor`] brings the SDK's back. Exporting runs on threads of its own, never on the
//! application's runtime, and never traces itself. A malformed value is warned of and its default used: telemetry must not keep a program from starting.
//!
//! # The environment
//!
//! What code says wins over it; of two forms, `OTEL_EXPORTER_OTLP_TRACES_…` or `…_METRICS_…` wins over the general one.
//! An empty variable is an unset one. Times are in milliseconds.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `OTEL_SDK_DISABLED` | `true`: nothing is recorded, exported or set as a global, but for the propagators | `false` |
//! | `OTEL_SERVICE_NAME` | `service.name`; wins over the list below | `unknown_service:<program>` |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `key=value,…`, percent-encoded | |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `otlp`, `console` (written to stderr), both, or `none` | `otlp` |
//! | `OTEL_PROPAGATORS` | `tracecontext`, `baggage`, both, or `none`; also what clients send | `tracecontext,baggage` |
//! | `OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS` | `GET,BREW,…`: the methods that are told by name, ten at most; others are `_OTHER` | RFC 9110's, `PATCH`, `QUERY` |
//! | `OTEL_TRACES_SAMPLER` | `always_on`, `always_off`, `traceidratio`, each also with `parentbased_` before it | `parentbased_always_on` |
//! | `OTEL_TRACES_SAMPLER_ARG` | the ratio, from 0 to 1 | 1 |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | the collector; over HTTP a base, to which `/v1/traces` and `/v1/metrics` are added | `http://localhost:4318`, gRPC: 4317 |
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` | one signal's, used as it is | |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL`, `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL` | `http/protobuf` or `grpc` | `http/protobuf` |
//! | `OTEL_EXPORTER_OTLP_INSECURE`, `OTEL_EXPORTER_OTLP_TRACES_INSECURE`, `OTEL_EXPORTER_OTLP_METRICS_INSECURE` | gRPC, for an endpoint without a scheme: no TLS | `false` |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TRACES_HEADERS`, `OTEL_EXPORTER_OTLP_METRICS_HEADERS` | `name=value,…`, percent-encoded | |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT` | the most that one export may take, with its retries, and a shutdown | 10000 |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION`, `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION`, `OTEL_EXPORTER_OTLP_METRICS_COMPRESSION` | `gzip` or `none` | `none` |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE`, `OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE` | a PEM file: the authorities to trust, instead of the platform's | |
//! | `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE` | a PEM file: who calls | |
//! | `OTEL_EXPORTER_OTLP_CLIENT_KEY`, `OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY`, `OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY` | a PEM file: the key to it | |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta`, `lowmemory` | `cumulative` |
//! | `OTEL_METRIC_EXPORT_INTERVAL` | between two exports of metrics | 60000 |
//! | `OTEL_METRIC_EXPORT_TIMEOUT` | the most that one of them may take | 30000 |
//! | `OTEL_BSP_SCHEDULE_DELAY` | between two exports of spans | 5000 |
//! | `OTEL_BSP_EXPORT_TIMEOUT` | the most that one of them may take | 30000 |
//! | `OTEL_BSP_MAX_QUEUE_SIZE` | spans that may wait; further ones are dropped, and counted; a request takes one place with all of its spans | 2048 |
//! | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | spans in one export | 512 |
//! | `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`, `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT` | attributes of each | `OTEL_ATTRIBUTE_COUNT_LIMIT`, else 128 |
//! | `OTEL_SPAN_EVENT_COUNT_LIMIT`, `OTEL_SPAN_LINK_COUNT_LIMIT` | events and links of a span | 128 |
//!
//! A value that makes no sense is named in one warning ([`Guard::warnings`]), and the default used. So is what the SDK
//! can't follow: `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`,
//! `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`, `OTEL_METRICS_EXEMPLAR_FILTER`, `OTEL_CONFIG_FILE`.
//!
//! # When the collector can't be reached
//!
//! Requests are not affected. Each kind of problem is told once while it lasts, as a `tracing` event of level WARN and in
//! [`Shutdown::problems`], with the endpoint and the likely fix. What is lost is counted. The SDK tells of every failed
//! batch on its own, as events of the target `opentelemetry_sdk`: `opentelemetry_sdk=off` in an `EnvFilter` leaves the one
//! line that helps.

mod builder;
mod console;
mod delivery;
mod encode;
mod env;
mod exporter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    pub(crate) use super::{encode::fuzzing::encode, env::fuzzing::environment, transport::fuzzing::answers};
}
mod global;
mod guard;
mod identity;
mod lane;
mod pipeline;
mod port;
mod problem;
mod transport;

use std::fmt;

use self::builder::Processor;

pub use self::{
    builder::{Builder, Compression, Exporter, Propagator, Protocol, builder},
    guard::{Guard, Shutdown},
};
use crate::error::BoxError;

/// Sets telemetry up as the environment says. A client that was built before does not report to it.
///
/// # Errors
///
/// If a thread or an exporter can't be made. A collector that can't be reached is no error here.
pub fn init() -> Result<Guard, InitError> {
    builder().init()
}

/// Why telemetry could not be set up.
#[derive(Debug)]
pub struct InitError {
    what: &'static str,
    source: BoxError,
}

impl InitError {
    fn new(what: &'static str, source: impl Into<BoxError>) -> Self {
        Self { what, source: source.into() }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "telemetry: {} could not be made", self.what)
    }
}

impl std::error::Error for InitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
