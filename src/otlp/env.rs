//! The `OTEL_*` environment and what code said, made into plain settings. Pure: variables come through a function.
//!
//! An empty variable is an unset one. A malformed value is warned of and its default used. No warning repeats a value
//! that may be a secret (endpoints, header fields).

mod resource;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use percent_encoding::percent_decode_str;

use self::resource::{instance_id, resource_attributes, unknown_service};
use super::{Builder, Protocol};

/// Reads one variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All that the pipeline is built from.
#[derive(Debug)]
pub(super) struct Settings {
    /// None: telemetry is disabled.
    pub(super) collectors: Vec<Collector>,
    /// Sorted so that the later of two attributes with one key wins.
    pub(super) resource: Vec<KeyValue>,
    pub(super) batch: Batch,
    pub(super) metric_interval: Duration,
    pub(super) shutdown: Duration,
    pub(super) warnings: Vec<String>,
}

/// Where the signals go; absent: this one does not go anywhere.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: String,
    pub(super) protocol: Protocol,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
}

/// The batch span processor's sizes (the specification's defaults).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) delay: Duration,
    pub(super) queue: usize,
    pub(super) size: usize,
}

#[derive(Clone, Copy)]
struct Signal {
    name: &'static str,
    path: &'static str,
}

const TRACES: Signal = Signal { name: "TRACES", path: "v1/traces" };
const METRICS: Signal = Signal { name: "METRICS", path: "v1/metrics" };

/// Variables of the specification that have no effect here yet, with the values that say what is done anyway.
const UNREAD: [(&str, &[&str]); 21] = [
    ("OTEL_TRACES_EXPORTER", &["otlp"]),
    ("OTEL_METRICS_EXPORTER", &["otlp"]),
    ("OTEL_PROPAGATORS", &["tracecontext,baggage", "baggage,tracecontext"]),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &[]),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", &[]),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", &[]),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", &[]),
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", &["explicit_bucket_histogram"]),
    ("OTEL_METRIC_EXPORT_TIMEOUT", &[]),
    ("OTEL_METRICS_EXEMPLAR_FILTER", &[]),
    ("OTEL_BSP_EXPORT_TIMEOUT", &[]),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", &[]),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", &[]),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", &["128"]),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", &["128"]),
    ("OTEL_CONFIG_FILE", &[]),
];

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_METRIC_INTERVAL: Duration = Duration::from_secs(60);

impl Settings {
    pub(super) fn read(code: Builder, lookup: Lookup<'_>) -> Self {
        let mut env = Env { lookup, warnings: Vec::new() };
        let disabled = env.disabled();
        let collectors = if disabled { Vec::new() } else { env.collectors(&code) };
        let timeout = code.timeout.unwrap_or_else(|| env.millis("OTEL_EXPORTER_OTLP_TIMEOUT", DEFAULT_TIMEOUT));
        let batch = Batch {
            delay: env.millis("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5)),
            queue: env.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048),
            size: env.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        };
        let metric_interval = env.millis("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_METRIC_INTERVAL);
        let resource = env.resource(code.service_name, code.resource);
        env.check_sampler();
        env.check_unread();
        let warnings = env.warnings;
        Self { collectors, resource, batch, metric_interval, shutdown: timeout, warnings }
    }
}

struct Env<'a> {
    lookup: Lookup<'a>,
    warnings: Vec<String>,
}

impl Env<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn warn(&mut self, name: &str, problem: impl std::fmt::Display) {
        self.warnings.push(format!("{name}: {problem}"));
    }

    /// The signal's own form of a variable, else the general one; its name and its value.
    fn of_signal(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name), format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn disabled(&mut self) -> bool {
        let name = "OTEL_SDK_DISABLED";
        match self.get(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            Some("true") => true,
            None | Some("false") => false,
            Some(_) => {
                self.warn(name, "is neither true nor false; taken as false");
                false
            }
        }
    }

    fn collectors(&mut self, code: &Builder) -> Vec<Collector> {
        let mut all = vec![self.collector(code, true)];
        let names_one = ["", "TRACES_", "METRICS_"]
            .into_iter()
            .any(|signal| self.get(&format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")).is_some());
        if code.and_environment && code.endpoint.is_some() && names_one {
            let Builder { timeout, traces, metrics, .. } = *code;
            let environment = Builder { timeout, traces, metrics, ..super::builder() };
            all.push(self.collector(&environment, false));
        }
        all
    }

    fn collector(&mut self, code: &Builder, headers: bool) -> Collector {
        let mut target = |on: bool, signal| on.then(|| self.target(code, signal, headers));
        Collector { traces: target(code.traces, TRACES), metrics: target(code.metrics, METRICS) }
    }

    fn target(&mut self, code: &Builder, signal: Signal, check_headers: bool) -> Target {
        let protocol = code.protocol.unwrap_or_else(|| self.protocol(signal));
        let endpoint = self.endpoint(code.endpoint.as_deref(), signal, protocol);
        let timeout = code.timeout.unwrap_or_else(|| match self.of_signal(signal, "TIMEOUT") {
            Some((name, _)) => self.millis(&name, DEFAULT_TIMEOUT),
            None => DEFAULT_TIMEOUT,
        });
        if check_headers {
            self.check_headers(signal);
        }
        Target { endpoint, protocol, headers: code.headers.clone(), timeout }
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let Some((name, value)) = self.of_signal(signal, "PROTOCOL") else { return Protocol::HttpProtobuf };
        match value.to_ascii_lowercase().as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            _ => {
                self.warn(
                    &name,
                    format_args!("`{value}` is not supported (grpc, http/protobuf); http/protobuf is used"),
                );
                Protocol::HttpProtobuf
            }
        }
    }

    /// Over HTTP a general endpoint is a base, a signal's own is used as it is; gRPC has no paths.
    fn endpoint(&mut self, code: Option<&str>, signal: Signal, protocol: Protocol) -> String {
        let own_name = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name);
        let (name, value) = match code {
            Some(value) => ("the endpoint".to_owned(), Some(value.to_owned())),
            None => match self.of_signal(signal, "ENDPOINT") {
                Some((name, value)) => (name, Some(value)),
                None => (String::new(), None),
            },
        };
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        let value = match value {
            Some(value) if is_endpoint(&value, protocol) => value,
            Some(_) => {
                self.warn(&name, format_args!("is not an http or https URL; {default} is used"));
                return based(default, signal, protocol);
            }
            None => return based(default, signal, protocol),
        };
        if name == own_name { value } else { based(&value, signal, protocol) }
    }

    /// The exporter reads and decodes them; here only what it would leave out is said.
    fn check_headers(&mut self, signal: Signal) {
        let Some((name, value)) = self.of_signal(signal, "HEADERS") else { return };
        let malformed = value.split(',').map(str::trim).filter(|pair| !pair.is_empty()).any(|pair| {
            let Some((key, value)) = pair.split_once('=') else { return true };
            let decoded = percent_decode_str(value.trim()).decode_utf8();
            HeaderName::try_from(key.trim()).is_err()
                || decoded.map_or(true, |value| HeaderValue::try_from(&*value).is_err())
        });
        if malformed {
            self.warn(&name, "has a malformed field, which is not sent (expected: name=value,name=value)");
        }
    }

    fn millis(&mut self, name: &str, default: Duration) -> Duration {
        match self.get(name).map(|value| value.parse::<u64>()) {
            None => default,
            Some(Ok(millis)) if millis > 0 => Duration::from_millis(millis),
            Some(_) => {
                self.warn(name, format_args!("is no positive number of milliseconds; {} is used", default.as_millis()));
                default
            }
        }
    }

    fn count(&mut self, name: &str, default: usize) -> usize {
        match self.get(name).map(|value| value.parse::<usize>()) {
            None => default,
            Some(Ok(count)) if count > 0 => count,
            Some(_) => {
                self.warn(name, format_args!("is no positive number; {default} is used"));
                default
            }
        }
    }

    fn resource(&mut self, service_name: Option<String>, code: Vec<KeyValue>) -> Vec<KeyValue> {
        let name = service_name.unwrap_or_else(unknown_service);
        let mut all = vec![KeyValue::new("service.name", name), KeyValue::new("service.instance.id", instance_id())];
        all.extend(code);
        let variable = "OTEL_RESOURCE_ATTRIBUTES";
        if let Some(value) = self.get(variable) {
            match resource_attributes(&value) {
                Some(attributes) => all.extend(attributes),
                None => self.warn(variable, "is malformed and not used (expected: key=value,key=value)"),
            }
        }
        all.extend(self.get("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name)));
        all
    }

    fn check_sampler(&mut self) {
        let (name, arg) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        match self.get(name).as_deref() {
            None | Some("always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off") => {}
            Some("traceidratio" | "parentbased_traceidratio") => {
                let ratio = self.get(arg).and_then(|value| value.parse::<f64>().ok());
                if !ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)) {
                    self.warn(arg, "is no number from 0 to 1; 1 is used");
                }
            }
            Some(_) => self.warn(name, "names no sampler of this SDK; parentbased_always_on is used"),
        }
    }

    fn check_unread(&mut self) {
        let compression = ["", "TRACES_", "METRICS_"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}COMPRESSION"));
        let unread = UNREAD.map(|(name, same)| (name.to_owned(), same));
        let set: Vec<String> = unread
            .into_iter()
            .chain(compression.map(|name| (name, &["gzip", "none"][..])))
            .filter(|(name, same)| self.get(name).is_some_and(|value| !same.contains(&value.as_str())))
            .map(|(name, _)| name)
            .collect();
        if !set.is_empty() {
            self.warnings.push(format!("set, but without effect in this version: {}", set.join(", ")));
        }
    }
}

fn based(base: &str, signal: Signal, protocol: Protocol) -> String {
    match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => format!("{}/{}", base.trim_end_matches('/'), signal.path),
    }
}

/// gRPC takes `host:port` as well.
fn is_endpoint(value: &str, protocol: Protocol) -> bool {
    value.parse::<Uri>().is_ok_and(|uri| match uri.scheme_str() {
        Some("http" | "https") => uri.host().is_some_and(|host| !host.is_empty()),
        Some(_) => false,
        None => protocol == Protocol::Grpc && uri.port().is_some(),
    })
}

#[cfg(test)]
mod tests;
