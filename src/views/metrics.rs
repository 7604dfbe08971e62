//! Metrics: what many attempts, dials and connections have in common.
//!
//! | metric | kind, unit | what it tells | attributes |
//! |---|---|---|---|
//! | `http.client.request.duration` | histogram, s | How slow are requests? The call to the last byte of the body (or drop, or error) | A, and `httptrace.error.phase` on failures: in which phase did it die? |
//! | `httptrace.request.time_to_first_byte` | histogram, s | How slow are servers to answer? The call to the first byte of the final response | as above |
//! | `http.client.request.body.size` | histogram, By | How much is sent? Bodies of at least one byte | A |
//! | `http.client.response.body.size` | histogram, By | How much is received? Bodies of at least one byte | A |
//! | `http.client.active_requests` | up-down, {request} | How many attempts are under way? Until their connection is back | S, `http.request.method` |
//! | `httptrace.request.pending` | up-down, {request} | How many wait for a connection? A sign of limits that are too small | S |
//! | `httptrace.request.queue.duration` | histogram, s | How long do they wait for one? Their own dial included, zero waits and failed ones too | S |
//! | `httptrace.connection.acquisitions` | counter, {acquisition} | Are connections reused? Each one had, or failed to be had | S, `httptrace.connection.reused` or `error.type` |
//! | `httptrace.connection.reuse_ratio` | gauge, 1 | Are they reused now? The same at a glance: reused among those had, since the last collection by any reader | S |
//! | `httptrace.connection.idle.duration` | histogram, s | Is the idle timeout right? Each idle time, and how it ended | S, `httptrace.idle.outcome`: `reused`, `expired` (idle timeout or lifetime), `closed` |
//! | `httptrace.connection.requests` | histogram, {request} | What did a connection bring? Requests that got a response's head, told at its close | S, `httptrace.connection.close_reason` |
//! | `http.client.connection.duration` | histogram, s | How long do connections live? From ready for use to closed | S, `network.protocol.version` |
//! | `http.client.open_connections` | up-down, {connection} | How many are open? | S, `http.connection.state`: `active`, `idle`; `network.protocol.version` |
//! | `dns.lookup.duration` | histogram, s | Is the resolver slow? One for each dial that looked a name up, shared lookups too | `dns.question.name`, `error.type` |
//! | `httptrace.connect.duration` | histogram, s | Is the network slow? One for each address tried, losers (`canceled`) too | S, `error.type`, `network.type` |
//! | `httptrace.tls.handshake.duration` | histogram, s | Are handshakes slow, or not resumed? | S, `error.type`, `tls.protocol.version`, `tls.resumed` |
//!
//! S: `server.address`, `server.port`. A: S, `http.request.method`, `http.response.status_code`,
//! `network.protocol.version`, `error.type`; what is not known is absent.
//!
//! Label sets are bounded: no path, id or peer address is an attribute, hosts are in lower case, and a method that is not
//! one of the known is `_OTHER`. Of the metrics that go up and down and of the ratio, 500 servers have series of their own
//! at a time; more are told together, as `otel.metric.overflow`. In histograms and counters the SDK does the same
//! beyond 2000 series.
//!
//! All are on; drop some with the SDK's views. Steps of a dial are counted once, by the dial's own record, also where its
//! request went on without it. A connection and a dial belong to the provider of the request that began them. What a
//! request waited for and got is counted when it gets it, all else of a request at its end.
//!
//! # Set the provider first
//!
//! The global provider is asked for its meter when the client is built. **One that is set later is not seen** by that
//! client, neither here nor for spans: OpenTelemetry tells nobody of a new one, and to ask for every request would cost
//! those who have none. So `otlp::init()` (or `global::set_meter_provider`) comes before `Client::new()`, also where the
//! client is a `static`: let it be a `LazyLock` that is first used after.
//!
//! # For whoever changes this
//!
//! Attributes are sorted by their keys: the SDK finds a series by them, and sorts what is not. A meter that records
//! nothing is known by its size, and costs nothing.

mod connections;
mod instruments;
mod series;
mod servers;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::request::Parts;
use opentelemetry::{
    Context, KeyValue, global,
    metrics::{Meter, MeterProvider},
};

use self::{
    connections::Connection,
    instruments::Instruments,
    series::{Kind, Took},
    servers::{Server, Servers},
};
use super::{
    semconv::{self, *},
    spans::scope,
};
use crate::{
    clock::TimeAnchor,
    connection::ConnectionInfo,
    timeline::{
        Asked, ConnectionReport, ConnectionUse, DialRecord, Report, Reporter, RequestInfo, SetupDetail, Timeline, Wait,
    },
};

/// Makes metrics of attempts.
#[derive(Clone)]
pub struct Metrics(Option<Arc<Instruments>>);

impl Metrics {
    /// Metrics of this provider.
    #[must_use]
    pub fn new<P: MeterProvider + ?Sized + 'static>(provider: &P) -> Self {
        let meter = provider.meter_with_scope(scope());
        Self((!is_noop(&meter)).then(|| {
            let servers = Servers::of(&meter, address(&meter), series::binds(provider));
            Arc::new(Instruments::new(meter, servers))
        }))
    }

    /// Metrics of the global provider as it is now: one that is set later is not seen.
    #[must_use]
    pub fn global() -> Self {
        Self::new(&*global::meter_provider())
    }
}

impl Reporter for Metrics {
    fn is_listening(&self) -> bool {
        self.0.is_some() && !Context::is_current_telemetry_suppressed()
    }

    fn started(&self, request: &mut Parts, asked: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        // Instruments record in a suppressed scope as well: they have to be asked not to.
        let instruments = self.0.as_ref().filter(|_| !Context::is_current_telemetry_suppressed())?;
        Some(Attempt::start(instruments, asked.info(request)))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("noop", &self.0.is_none()).finish_non_exhaustive()
    }
}

/// One attempt, which counts as under way from its start to its end.
struct Attempt {
    instruments: Arc<Instruments>,
    server: Arc<Server>,
    method: usize,
    over: AtomicBool,
}

impl Attempt {
    fn start(instruments: &Arc<Instruments>, info: &RequestInfo) -> Arc<dyn Report> {
        let server = instruments.servers.get(&info.host, info.port);
        let method = method_index(&info.method);
        server.active[method].add(1);
        Arc::new(Self { instruments: Arc::clone(instruments), server, method, over: AtomicBool::new(false) })
    }

    fn end(&self) {
        if !self.over.swap(true, Ordering::Relaxed) {
            self.server.active[self.method].add(-1);
        }
    }

    /// Labels of the server with others, which are sorted before `server.address`.
    fn labels<const N: usize>(&self, before: [Option<KeyValue>; N]) -> Vec<KeyValue> {
        before.into_iter().flatten().chain(self.server.labels.iter().cloned()).collect()
    }

    /// No connection was had.
    fn not_acquired(&self, wait: &Wait) {
        if let Some(error) = &wait.error {
            let labels = self.labels([Some(KeyValue::new(ERROR_TYPE, error.error_type()))]);
            self.instruments.acquisitions.add(1, &labels);
        }
        let waited = wait.end.map_or(Duration::ZERO, |end| end.saturating_duration_since(wait.start));
        self.instruments.queue.record(waited.as_secs_f64(), &self.server.labels);
    }

    /// Duration, first byte and sizes have one set of labels, which is made once.
    fn took(&self, timeline: &Timeline) {
        let end = timeline.response_end.or(timeline.end).unwrap_or(timeline.start);
        let since = |at: Instant| at.saturating_duration_since(timeline.start).as_secs_f64();
        let took = Took {
            seconds: since(end),
            first_byte: timeline.final_first_byte.map(since),
            request_bytes: timeline.request_body_bytes.filter(|bytes| *bytes > 0),
            response_bytes: Some(timeline.response_body_bytes).filter(|bytes| *bytes > 0),
        };
        let error_type = match (&timeline.error, timeline.status) {
            (Some(error), _) => Some(error.error_type()),
            (None, Some(status)) if status.as_u16() >= 400 => Some(status_text(status)),
            (None, _) => None,
        };
        let version = semconv::protocol_version(timeline);
        match (error_type, timeline.status, version, &self.server.kept) {
            (None, Some(status), Some(version), Some(kept)) => {
                kept.answers(Kind { method: self.method, status, version }).record(&self.instruments, &took);
            }
            _ => self.took_otherwise(timeline, error_type, version, &took),
        }
    }

    /// What is rare has its labels made for it.
    fn took_otherwise(
        &self,
        timeline: &Timeline,
        error_type: Option<&'static str>,
        version: Option<&'static str>,
        took: &Took,
    ) {
        let Instruments { duration, first_byte, request_size, response_size, .. } = &*self.instruments;
        let method = KeyValue::new(HTTP_REQUEST_METHOD, methods()[self.method]);
        let status = timeline.status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())));
        let version = version.map(|version| KeyValue::new(NETWORK_PROTOCOL_VERSION, version));
        let phase = timeline.error.as_ref().map(|error| KeyValue::new(ERROR_PHASE, error.phase().as_str()));
        let error_type = error_type.map(|error_type| KeyValue::new(ERROR_TYPE, error_type));
        let labels = self.labels([error_type, Some(method), status, phase, version]);
        duration.record(took.seconds, &labels);
        if let Some(seconds) = took.first_byte {
            first_byte.record(seconds, &labels);
        }
        // The conventions' own sizes do not know the phase.
        let labels: Vec<_> = labels.into_iter().filter(|label| label.key.as_str() != ERROR_PHASE).collect();
        if let Some(bytes) = took.request_bytes {
            request_size.record(bytes, &labels);
        }
        if let Some(bytes) = took.response_bytes {
            response_size.record(bytes, &labels);
        }
    }
}

impl Report for Attempt {
    fn again(&self, request: &mut Parts, asked: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Self::start(&self.instruments, asked.info(request)))
    }

    fn waiting(&self) {
        self.server.pending.add(1);
    }

    fn waited(&self) {
        self.server.pending.add(-1);
    }

    fn dialed(&self, dial: &DialRecord) {
        for step in &dial.setup {
            let took = step.end.unwrap_or(dial.end).saturating_duration_since(step.start).as_secs_f64();
            let error = step.error.as_ref().map(|error| KeyValue::new(ERROR_TYPE, error.error_type()));
            match &step.detail {
                SetupDetail::Dns { host, .. } => {
                    let name = KeyValue::new(DNS_QUESTION_NAME, host.to_ascii_lowercase());
                    self.instruments.dns.record(took, &[Some(name), error].into_iter().flatten().collect::<Vec<_>>());
                }
                SetupDetail::Connect { peer, .. } => {
                    let family = peer.map(|peer| if peer.is_ipv4() { "ipv4" } else { "ipv6" });
                    let family = family.map(|family| KeyValue::new(NETWORK_TYPE, family));
                    self.instruments.connect.record(took, &self.labels([error, family]));
                }
                SetupDetail::Tls { tls, .. } => {
                    let mut labels = self.labels([error]);
                    if let Some(tls) = tls {
                        labels.push(KeyValue::new(TLS_PROTOCOL_VERSION, tls.version));
                        labels.push(KeyValue::new(TLS_RESUMED, tls.resumed));
                    }
                    self.instruments.tls.record(took, &labels);
                }
                SetupDetail::Tunnel { .. } => {}
            }
        }
    }

    fn connection_opened(&self, connection: &Arc<ConnectionInfo>) -> Option<Arc<dyn ConnectionReport>> {
        let (instruments, server) = (Arc::clone(&self.instruments), Arc::clone(&self.server));
        Some(Arc::new(Connection::opened(instruments, server, Arc::clone(connection))))
    }

    fn got_connection(&self, used: &ConnectionUse, waited: Duration) {
        self.server.acquired(used.reused());
        let idle = used.idle_time.map(|time| time.as_secs_f64());
        let instruments = &self.instruments;
        if let Some(kept) = &self.server.kept {
            kept.acquired(instruments, used.reused());
            if let Some(seconds) = idle {
                kept.idle(instruments, seconds);
            }
            kept.queued(instruments, waited.as_secs_f64());
            return;
        }
        let reused = self.labels([Some(KeyValue::new(CONNECTION_REUSED, used.reused()))]);
        instruments.acquisitions.add(1, &reused);
        if let Some(seconds) = idle {
            instruments.idle.record(seconds, &self.labels([Some(KeyValue::new(IDLE_OUTCOME, "reused"))]));
        }
        instruments.queue.record(waited.as_secs_f64(), &self.server.labels);
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        self.end();
        if let (None, Some(wait)) = (&timeline.connection, &timeline.wait) {
            self.not_acquired(wait);
        }
        self.took(timeline);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end();
    }
}

/// A provider without readers of any kind hands out meters without any state (the API's and the SDK's no-op alike).
fn is_noop(meter: &Meter) -> bool {
    size_of_val(meter.u64_counter(CONNECTION_ACQUISITIONS).instrument_provider) == 0
}

/// The provider's identity: it gives the same meter for the same scope.
fn address(meter: &Meter) -> usize {
    std::ptr::from_ref(meter.u64_counter(CONNECTION_ACQUISITIONS).instrument_provider).addr()
}

#[cfg(test)]
mod tests;
