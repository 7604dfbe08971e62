//! Why an export failed, in words that lead to the cure.
//!
//! In: what the client said, what the collector answered, and the first bytes that the port spoke. Out: a [`Failure`],
//! told as one line that names the endpoint and the likely fix. Telling is done once per kind and collector while it
//! lasts ([`Complaints`]); nothing in a line is secret.

use std::{
    collections::HashSet,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Uri;

use super::Protocol;
use crate::{
    error::{Error, Kind, find},
    phase::Phase,
    redact::Rules,
};

/// What is wrong. One of each kind is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Problem {
    Refused,
    NoSuchHost,
    Unreachable,
    NoAnswer,
    Closed,
    SpeaksGrpc,
    SpeaksHttp1,
    WantsTls,
    HasNoTls,
    Certificate,
    ClientCertificate,
    NotACollector,
    WrongPath,
    Unauthorized,
    TooLarge,
    MediaType,
    Overloaded,
    Rejected,
    Stopped,
    QueueFull,
}

/// One failed attempt.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) problem: Problem,
    /// What was seen, such as a status.
    pub(super) seen: String,
    /// The collector's wish.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(problem: Problem, seen: impl Into<String>) -> Self {
        Self { problem, seen: seen.into(), retry_after: None }
    }

    /// Whether it may be over soon.
    pub(super) fn may_pass(&self) -> bool {
        use Problem::{Closed, NoAnswer, NoSuchHost, Overloaded, Refused, Unreachable};
        matches!(self.problem, Refused | NoSuchHost | Unreachable | NoAnswer | Closed | Overloaded)
    }

    /// Whether nobody is there, so that asking again at the end of a program is in vain.
    pub(super) fn is_absence(&self) -> bool {
        !self.may_pass() || matches!(self.problem, Problem::Refused | Problem::NoSuchHost | Problem::Unreachable)
    }

    /// Nothing came in the time that there was.
    pub(super) fn silence(time: Duration) -> Self {
        Self::new(Problem::NoAnswer, format!("no answer within {time:?}"))
    }

    /// An HTTP status that is no success.
    pub(super) fn status(status: u16, body: &[u8]) -> Self {
        let says_https = String::from_utf8_lossy(&body[..body.len().min(1024)]).contains("HTTPS");
        let problem = match status {
            400 | 497 if says_https => Problem::WantsTls,
            300..=399 => Problem::NotACollector,
            401 | 403 | 407 => Problem::Unauthorized,
            404 | 405 | 410 => Problem::WrongPath,
            413 => Problem::TooLarge,
            415 => Problem::MediaType,
            429 | 502..=504 => Problem::Overloaded,
            _ => Problem::Rejected,
        };
        Self::new(problem, format!("HTTP status {status}"))
    }

    /// A gRPC status that is not OK.
    pub(super) fn grpc(code: u32, message: &str) -> Self {
        let (problem, name) = match code {
            1 => (Problem::Overloaded, "CANCELLED"),
            4 => (Problem::Overloaded, "DEADLINE_EXCEEDED"),
            7 => (Problem::Unauthorized, "PERMISSION_DENIED"),
            // Servers say it of a message above their limit; of their load they say UNAVAILABLE.
            8 if message.contains("larger") => (Problem::TooLarge, "RESOURCE_EXHAUSTED"),
            8 => (Problem::Overloaded, "RESOURCE_EXHAUSTED"),
            10 => (Problem::Overloaded, "ABORTED"),
            11 if message.contains("too large") => (Problem::TooLarge, "OUT_OF_RANGE"),
            11 => (Problem::Overloaded, "OUT_OF_RANGE"),
            12 => (Problem::WrongPath, "UNIMPLEMENTED"),
            14 => (Problem::Overloaded, "UNAVAILABLE"),
            15 => (Problem::Overloaded, "DATA_LOSS"),
            16 => (Problem::Unauthorized, "UNAUTHENTICATED"),
            _ => (Problem::Rejected, ""),
        };
        Self::new(problem, format!("gRPC status {code} {name}").trim_end())
    }

    /// No answer at all: out of the client's error and of what was heard from the port before.
    pub(super) fn no_answer(error: &Error, heard: &[u8], protocol: Protocol, tls: bool) -> Self {
        if let Some(problem) = spoken(heard, protocol, tls) {
            return Self::new(problem, seen(error));
        }
        let problem = match error.kind() {
            Kind::ConnectionRefused => Problem::Refused,
            Kind::HostNotFound | Kind::TryAgain | Kind::NoRecovery | Kind::NoAddresses => Problem::NoSuchHost,
            Kind::Timeout => Problem::NoAnswer,
            Kind::CertificateUntrusted
            | Kind::CertificateExpired
            | Kind::CertificateNameMismatch
            | Kind::CertificateRevoked
            | Kind::CertificateInvalid => Problem::Certificate,
            _ if asks_for_certificate(error) => Problem::ClientCertificate,
            Kind::TlsClosed | Kind::TlsProtocolError => Problem::HasNoTls,
            Kind::ConnectionClosed | Kind::ConnectionReset | Kind::WriteFailed | Kind::Http2GoAway | Kind::Other => {
                Problem::Closed
            }
            _ if error.phase() == Phase::Tls => Problem::HasNoTls,
            _ if error.is_connect() => Problem::Unreachable,
            _ => Problem::NotACollector,
        };
        Self::new(problem, seen(error))
    }

    /// The line for the user.
    pub(super) fn told(&self, endpoint: &Uri, protocol: Protocol) -> String {
        let port = endpoint.port_u16().unwrap_or(if endpoint.scheme_str() == Some("https") { 443 } else { 80 });
        let Self { seen, .. } = self;
        format!("{}: {seen}: {}", Rules::default().url(endpoint), Fix { problem: self.problem, protocol, port })
    }
}

/// What the other end says: its first line or so, and nothing of it if it repeats what was to stay between the two.
pub(super) fn quoted(words: &str, secrets: &[String]) -> String {
    if secrets.iter().any(|secret| words.contains(&**secret)) {
        return "it repeats a credential, so its words are not shown".to_owned();
    }
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut quoted: String = words.chars().take(MOST_WORDS).map(visible).collect();
    if words.chars().nth(MOST_WORDS).is_some() {
        quoted.push('…');
    }
    quoted
}

/// Characters that are quoted of another's words: enough for a reason, too few to fill a log with.
const MOST_WORDS: usize = 300;
/// Lines that are kept of what was told: a collector that fails in turns may tell for ever.
const MOST_LINES: usize = 64;

/// What the first bytes of a port say of it, where they are not what the protocol begins with.
fn spoken(heard: &[u8], protocol: Protocol, tls: bool) -> Option<Problem> {
    let is_tls = matches!(heard, [20..=23, 3, ..]);
    // A frame header: 3 bytes of length, SETTINGS or GOAWAY, no flags, then the stream 0.
    let is_http2 = matches!(heard, [0, _, _, 4 | 7, 0, 0, ..]);
    let is_http1 = heard.starts_with(b"HTTP/");
    match (protocol, tls) {
        _ if heard.is_empty() => None,
        (_, true) => (!is_tls).then_some(Problem::HasNoTls),
        _ if is_tls => Some(Problem::WantsTls),
        (Protocol::HttpProtobuf, false) if is_http2 => Some(Problem::SpeaksGrpc),
        (Protocol::Grpc, false) if is_http1 => Some(Problem::SpeaksHttp1),
        (Protocol::HttpProtobuf, false) => (!is_http1).then_some(Problem::NotACollector),
        (Protocol::Grpc, false) => (!is_http2).then_some(Problem::NotACollector),
    }
}

fn asks_for_certificate(error: &Error) -> bool {
    use rustls::AlertDescription::{AccessDenied, BadCertificate, CertificateRequired, HandshakeFailure, UnknownCA};
    matches!(
        find::<rustls::Error>(error),
        Some(rustls::Error::AlertReceived(
            AccessDenied | BadCertificate | CertificateRequired | HandshakeFailure | UnknownCA
        ))
    )
}

fn seen(error: &Error) -> String {
    // "connect: connection refused" without the phase: the line has colons enough.
    let text = error.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, what)| what.to_owned())
}

/// The likely fix.
struct Fix {
    problem: Problem,
    protocol: Protocol,
    port: u16,
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, protocol, port } = *self;
        let spoken = protocol.name();
        match problem {
            Problem::Refused => write!(f, "is a collector running there? OTEL_EXPORTER_OTLP_ENDPOINT says where it is"),
            Problem::NoSuchHost | Problem::Unreachable => write!(f, "check the host in OTEL_EXPORTER_OTLP_ENDPOINT"),
            Problem::NoAnswer => write!(
                f,
                "the collector is down or slow, or port {port} does not speak {spoken}; OTEL_EXPORTER_OTLP_TIMEOUT is the \
                 time it is given"
            ),
            Problem::Closed => write!(
                f,
                "does port {port} speak {spoken}? Check OTEL_EXPORTER_OTLP_PROTOCOL (grpc is usually port 4317, \
                 http/protobuf 4318) and whether it wants https://"
            ),
            Problem::SpeaksGrpc => write!(
                f,
                "port {port} speaks gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use the port of http/protobuf \
                 (usually 4318)"
            ),
            Problem::SpeaksHttp1 => write!(
                f,
                "port {port} speaks http/protobuf: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or use the port of \
                 gRPC (usually 4317)"
            ),
            Problem::WantsTls => write!(f, "port {port} wants TLS: use https:// in the endpoint"),
            Problem::HasNoTls => write!(f, "port {port} does not speak TLS as expected: use http:// for a plain port"),
            Problem::Certificate => {
                write!(f, "OTEL_EXPORTER_OTLP_CERTIFICATE names the file of the authority to trust")
            }
            Problem::ClientCertificate => write!(
                f,
                "the collector may want a client certificate: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
                 OTEL_EXPORTER_OTLP_CLIENT_KEY"
            ),
            Problem::NotACollector => {
                write!(f, "what listens on port {port} does not speak OTLP over {spoken}: is the port right?")
            }
            Problem::WrongPath if protocol == Protocol::Grpc => {
                write!(
                    f,
                    "the server has no such OTLP service: is port {port} a collector's, with this signal enabled?"
                )
            }
            Problem::WrongPath => write!(
                f,
                "wrong path: OTEL_EXPORTER_OTLP_ENDPOINT is a base to which /v1/traces and /v1/metrics are added, a \
                 signal's own endpoint is used as it is"
            ),
            Problem::Unauthorized => write!(f, "check the credentials in OTEL_EXPORTER_OTLP_HEADERS"),
            Problem::TooLarge => write!(
                f,
                "the batch is too large for the collector: lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE or set \
                 OTEL_EXPORTER_OTLP_COMPRESSION=gzip"
            ),
            Problem::MediaType => {
                write!(f, "the collector does not take protobuf or its compression: check that it speaks {spoken}")
            }
            Problem::Overloaded => write!(f, "the collector is overloaded or not ready"),
            Problem::Rejected => write!(f, "the collector's own log says why"),
            Problem::QueueFull => write!(
                f,
                "spans end faster than they are taken: raise OTEL_BSP_MAX_QUEUE_SIZE, or lower OTEL_BSP_SCHEDULE_DELAY"
            ),
            Problem::Stopped => write!(f, "telemetry has been shut down"),
        }
    }
}

/// What was told, for all signals together.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    /// Collector, kind, and the signal that met it first.
    open: HashSet<(String, Problem)>,
    by: Vec<(&'static str, String, Problem)>,
}

impl Complaints {
    /// Tells a failure, unless this kind is told of this collector already.
    pub(super) fn raise(&self, signal: &'static str, endpoint: &Uri, protocol: Protocol, failure: &Failure) {
        let collector = endpoint.authority().map_or_else(String::new, |authority| authority.host().to_owned());
        let collector = format!("{collector}:{}", endpoint.port_u16().unwrap_or_default());
        let line = failure.told(endpoint, protocol);
        let new = {
            let mut told = self.told();
            let new = told.open.insert((collector.clone(), failure.problem));
            if new {
                told.by.push((signal, collector, failure.problem));
                if told.lines.len() < MOST_LINES && !told.lines.contains(&line) {
                    told.lines.push(line.clone());
                }
            }
            new
        };
        if new {
            tracing::warn!("{signal} can't be exported: {line}");
        }
    }

    /// An export of this signal was taken: what it met is over, and would be told again.
    pub(super) fn over(&self, signal: &'static str) {
        let mut told = self.told();
        let Told { open, by, .. } = &mut *told;
        by.retain(|(of, collector, problem)| {
            if *of == signal {
                open.remove(&(collector.clone(), *problem));
            }
            *of != signal
        });
    }

    /// All that was told.
    pub(super) fn lines(&self) -> Vec<String> {
        self.told().lines.clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
