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
//! [`init`] reads the environment, [`builder`] takes what code wants to say. Both return a [`Guard`], which flushes when
//! it is told to or dropped. Its [`layer`](Guard::layer) exports the application's own `tracing` spans, among which those
//! of requests nest. Exporting runs on threads of its own, never on the application's runtime, and never traces
//! itself. A malformed value is warned of and its default used: telemetry must not keep a program from starting.
//!
//! | read | meaning |
//! |---|---|
//! | `OTEL_SDK_DISABLED` | `true`: nothing is recorded, exported or set as a global |
//! | `OTEL_EXPORTER_OTLP_[TRACES_\|METRICS_]ENDPOINT`, `PROTOCOL`, `HEADERS`, `TIMEOUT`, `COMPRESSION` | where to, how; `http/protobuf` on port 4318 by default |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who; the name wins, the list is percent-decoded |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | which traces |
//! | `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | when, how much |
//!
//! What is set and not read yet is named in one warning ([`Guard::warnings`]).

mod delivery;
mod env;
mod guard;
mod pipeline;
mod transport;

use std::{fmt, time::Duration};

use opentelemetry::KeyValue;

pub use self::guard::{Guard, Shutdown};
use self::{env::Settings, pipeline::Pipeline};
use crate::error::BoxError;

/// Sets telemetry up as the environment says. A client that was built before does not report to it.
///
/// # Errors
///
/// If a thread or an exporter can't be made. A collector that can't be reached is no error here.
pub fn init() -> Result<Guard, InitError> {
    builder().init()
}

/// Telemetry with some things said in code. What is not said comes from the environment.
pub fn builder() -> Builder {
    Builder {
        endpoint: None,
        protocol: None,
        headers: Vec::new(),
        timeout: None,
        service_name: None,
        resource: Vec::new(),
        traces: true,
        metrics: true,
        and_environment: false,
        set_globals: true,
    }
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

/// What is said in code about telemetry.
#[must_use]
pub struct Builder {
    endpoint: Option<String>,
    protocol: Option<Protocol>,
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
    service_name: Option<String>,
    resource: Vec<KeyValue>,
    traces: bool,
    metrics: bool,
    and_environment: bool,
    set_globals: bool,
}

impl Builder {
    /// The collector, such as `http://localhost:4318`. Wins over the environment's; over HTTP, `/v1/traces` and
    /// `/v1/metrics` are appended.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The protocol. Wins over the environment's.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// A header field of every export, beside those of the environment.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The most time that one export may take, and the whole of a shutdown. Wins over the environment's; 10 s if
    /// neither says, as the specification has it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

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

    /// Whether spans are exported. On.
    pub fn traces(mut self, on: bool) -> Self {
        self.traces = on;
        self
    }

    /// Whether metrics are exported. On.
    pub fn metrics(mut self, on: bool) -> Self {
        self.metrics = on;
        self
    }

    /// With an [`endpoint`](Self::endpoint): export to the environment's as well, if it names one.
    pub fn and_environment(mut self) -> Self {
        self.and_environment = true;
        self
    }

    /// Whether the providers, and W3C Trace Context and Baggage as propagators, become the process's globals. On.
    pub fn set_globals(mut self, on: bool) -> Self {
        self.set_globals = on;
        self
    }

    /// Sets telemetry up.
    ///
    /// # Errors
    ///
    /// If a thread or an exporter can't be made. A collector that can't be reached is no error here.
    pub fn init(self) -> Result<Guard, InitError> {
        let set_globals = self.set_globals;
        let settings = Settings::read(self, &|name| std::env::var(name).ok());
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let pipeline = Pipeline::build(&settings)?;
        if set_globals {
            pipeline.set_globals();
        }
        Ok(Guard::new(pipeline, settings))
    }
}

impl fmt::Debug for Builder {
    /// Without the header fields: they carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("protocol", &self.protocol)
            .field("service_name", &self.service_name)
            .field("traces", &self.traces)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
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
