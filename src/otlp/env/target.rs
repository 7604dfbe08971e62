//! Where one signal goes, and how. The signal's own form of a variable wins over the general one.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;

use super::{
    super::{Builder, Compression, InitError, Protocol, builder, identity::Identity},
    values::Env,
};
use crate::redact::Hidden;

pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of one batch and of one round of metrics; the exporter's own limit is usually shorter.
const DEFAULT_EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the signals go; absent: this one does not go anywhere.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) traces: Option<Target>,
    pub(crate) metrics: Option<Target>,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As it is told. Over HTTP it is requested as it is.
    pub(crate) endpoint: Hidden<Uri>,
    /// The path of a gRPC request.
    pub(crate) service: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) headers: Hidden<HeaderMap>,
    /// The most that one export may take.
    pub(crate) timeout: Duration,
    /// The most that the end may take.
    pub(crate) patience: Duration,
    pub(crate) gzip: bool,
    /// Where neither authority nor client certificate is given: the client's own.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

#[derive(Clone, Copy)]
struct Signal {
    name: &'static str,
    path: &'static str,
    service: &'static str,
    /// The limit that is not the exporter's.
    timeout: &'static str,
}

const TRACES: Signal = Signal {
    name: "TRACES",
    path: "v1/traces",
    service: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    timeout: "OTEL_BSP_EXPORT_TIMEOUT",
};
const METRICS: Signal = Signal {
    name: "METRICS",
    path: "v1/metrics",
    service: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    timeout: "OTEL_METRIC_EXPORT_TIMEOUT",
};

impl Env<'_> {
    /// The name of the signal's own form of a variable if that is set, else of the general one.
    fn of_signal(&self, signal: Signal, what: &str) -> String {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name);
        if self.get(&own).is_some() { own } else { format!("OTEL_EXPORTER_OTLP_{what}") }
    }

    pub(super) fn collectors(&mut self, code: &Builder, on: (bool, bool)) -> Result<Vec<Collector>, InitError> {
        if on == (false, false) {
            return Ok(Vec::new());
        }
        let both = code.and_environment && code.endpoint.is_some() && self.names_one();
        let mut all = vec![self.collector(code, on, !both)?];
        if both {
            let environment = Builder { timeout: code.timeout, ..builder() };
            all.push(self.collector(&environment, on, true)?);
        }
        Ok(all)
    }

    fn names_one(&self) -> bool {
        let names = ["", "TRACES_", "METRICS_"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT"));
        names.iter().any(|name| self.get(name).is_some())
    }

    /// `fields`: whether the environment's header fields go there. They may be the credentials of its collector.
    fn collector(&mut self, code: &Builder, on: (bool, bool), fields: bool) -> Result<Collector, InitError> {
        let traces = on.0.then(|| self.target(code, TRACES, code.batch_timeout, fields)).transpose()?;
        let metrics = on.1.then(|| self.target(code, METRICS, code.metric_timeout, fields)).transpose()?;
        Ok(Collector { traces, metrics })
    }

    fn target(
        &mut self,
        code: &Builder,
        signal: Signal,
        limit: Option<Duration>,
        fields: bool,
    ) -> Result<Target, InitError> {
        let protocol = match code.protocol {
            Some(protocol) => protocol,
            None => {
                let known = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::HttpProtobuf)];
                self.word(&self.of_signal(signal, "PROTOCOL"), &known, Protocol::HttpProtobuf)
            }
        };
        let patience = code.timeout.unwrap_or_else(|| self.millis(&self.of_signal(signal, "TIMEOUT"), DEFAULT_TIMEOUT));
        let limit = limit.unwrap_or_else(|| self.millis(signal.timeout, DEFAULT_EXPORT_TIMEOUT));
        let compression = match code.compression {
            Some(compression) => compression,
            None => {
                let known = [("gzip", Compression::Gzip), ("none", Compression::None)];
                self.word(&self.of_signal(signal, "COMPRESSION"), &known, Compression::None)
            }
        };
        let mut headers = if fields { self.headers(&self.of_signal(signal, "HEADERS")) } else { HeaderMap::new() };
        for (name, value) in &code.headers {
            match field(name, value) {
                Some((name, value)) => drop(headers.insert(name, value)),
                None => self.warn("a header field", "is malformed and not sent"),
            }
        }
        Ok(Target {
            endpoint: Hidden::new(self.endpoint(code.endpoint.as_deref(), signal, protocol)),
            service: signal.service,
            protocol,
            headers: Hidden::new(headers),
            timeout: patience.min(limit),
            patience,
            gzip: compression == Compression::Gzip,
            tls: self.identity(code, signal)?.config()?,
        })
    }

    /// Over HTTP a general endpoint is a base, a signal's own is used as it is; gRPC has no paths.
    fn endpoint(&mut self, code: Option<&str>, signal: Signal, protocol: Protocol) -> Uri {
        let variable = self.of_signal(signal, "ENDPOINT");
        let (name, value) = match code {
            Some(value) => ("the endpoint", Some(value.to_owned())),
            None => (variable.as_str(), self.get(&variable)),
        };
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        let insecure = self.of_signal(signal, "INSECURE");
        let is_base = protocol == Protocol::HttpProtobuf && !name.ends_with(&format!("{}_ENDPOINT", signal.name));
        let based =
            |base: &str| if is_base { format!("{}/{}", base.trim_end_matches('/'), signal.path) } else { base.into() };
        let given = match value {
            // gRPC takes `host:port` as well.
            Some(value) if protocol == Protocol::Grpc && !value.contains("://") => {
                let scheme = if self.boolean(&insecure, false) { "http" } else { "https" };
                Some(format!("{scheme}://{value}"))
            }
            value => value,
        };
        let parsed = given.as_deref().map(|given| based(given).parse::<Uri>().ok().filter(is_endpoint));
        if let Some(Some(endpoint)) = parsed {
            return endpoint;
        }
        if given.is_some() {
            self.warn(name, format_args!("is not an http or https URL; {default} is used"));
        }
        let path = if protocol == Protocol::HttpProtobuf { signal.path } else { "" };
        format!("{default}/{path}").parse().expect("the default is a URL")
    }

    /// A list of `name=value`, percent-encoded.
    fn headers(&mut self, name: &str) -> HeaderMap {
        let list = self.get(name).unwrap_or_default();
        let pairs = list.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
        let fields: Vec<_> = pairs
            .map(|pair| pair.split_once('=').and_then(|(name, value)| field(&decoded(name)?, &decoded(value)?)))
            .collect();
        if fields.contains(&None) {
            self.warn(name, "has a malformed field, which is not sent (expected: name=value,name=value)");
        }
        fields.into_iter().flatten().collect()
    }

    /// Whom to trust and who this is.
    fn identity(&mut self, code: &Builder, signal: Signal) -> Result<Identity, InitError> {
        let mut identity = Identity::default();
        if let Some(pem) = &code.certificate {
            identity.trust(pem).map_err(|why| InitError::new("trust in the given certificate", why))?;
        } else if let Some((name, pem)) = self.file(signal, "CERTIFICATE")
            && let Err(why) = identity.trust(&pem)
        {
            self.warn(&name, format_args!("{why}; the platform's authorities are trusted"));
        }
        if let Some((certificate, key)) = &code.client_identity {
            identity.be(certificate, key).map_err(|why| InitError::new("the client's identity", why))?;
        } else {
            match (self.file(signal, "CLIENT_CERTIFICATE"), self.file(signal, "CLIENT_KEY")) {
                (None, None) => {}
                (Some((name, certificate)), Some((_, key))) => {
                    if let Err(why) = identity.be(&certificate, &key) {
                        self.warn(&name, format_args!("{why}; no client certificate is used"));
                    }
                }
                _ => self.warn(
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
                    "only one of them can be read; no client certificate is used",
                ),
            }
        }
        Ok(identity)
    }

    /// The file that a variable names.
    fn file(&mut self, signal: Signal, what: &str) -> Option<(String, Vec<u8>)> {
        let name = self.of_signal(signal, what);
        match std::fs::read(self.get(&name)?) {
            Ok(content) => Some((name, content)),
            Err(error) => {
                self.warn(&name, format_args!("the file can't be read ({error}); it is not used"));
                None
            }
        }
    }
}

fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name.trim()).ok()?, value))
}

fn is_endpoint(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}
