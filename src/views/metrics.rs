//! Metrics: what many attempts have in common. Recorded once per attempt, when it is over.
//!
//! | metric | kind | from |
//! |---|---|---|
//! | `http.client.request.duration` | histogram, s | the call to the last byte of the body (or drop, or error) |
//! | `httptrace.connection.acquisitions` | counter | each connection had, reused or not, or failed to be had |
//! | `httptrace.connection.reuse_ratio` | gauge | reused among those had, since the last collection by any reader |
//!
//! Attributes are sorted by their keys: the SDK finds a series by them, and sorts what is not. A meter that records
//! nothing is known by its size, and costs nothing.

mod ratio;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use http::request::Parts;
use opentelemetry::{
    Context, KeyValue, StringValue, global,
    metrics::{Counter, Histogram, Meter, MeterProvider},
};

use self::ratio::Ratio;
use super::{
    semconv::{self, *},
    spans::scope,
};
use crate::{
    clock::TimeAnchor,
    timeline::{Report, Reporter, RequestInfo, Timeline},
};

/// Makes metrics of attempts.
#[derive(Clone)]
pub struct Metrics(Option<Arc<Instruments>>);

impl Metrics {
    /// Metrics of this provider.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let meter = provider.meter_with_scope(scope());
        Self((!is_noop(&meter)).then(|| Instruments::new(meter)))
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

    fn started(&self, _: &mut Parts, _: &Arc<RequestInfo>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        // Instruments record in a suppressed scope as well: they have to be asked not to.
        let instruments = self.0.as_ref().filter(|_| !Context::is_current_telemetry_suppressed())?;
        Some(Arc::clone(instruments) as Arc<dyn Report>)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("noop", &self.0.is_none()).finish_non_exhaustive()
    }
}

/// One set of instruments, which is also the report of every attempt: all it needs is in the record.
struct Instruments {
    this: Weak<Self>,
    duration: Histogram<f64>,
    acquisitions: Counter<u64>,
    ratio: Arc<Ratio>,
    /// Keeps the meter, by whose address the provider's ratio is found.
    _meter: Meter,
}

impl Instruments {
    fn new(meter: Meter) -> Arc<Self> {
        let duration = meter
            .f64_histogram(HTTP_CLIENT_REQUEST_DURATION)
            .with_unit("s")
            .with_description("Duration of HTTP client requests, to the last byte of the body.")
            .with_boundaries(SECONDS.to_vec())
            .build();
        let acquisitions = meter
            .u64_counter(CONNECTION_ACQUISITIONS)
            .with_unit("{acquisition}")
            .with_description("Connections that requests asked for.")
            .build();
        let ratio = Ratio::of(&meter, address(&meter));
        Arc::new_cyclic(|this| Self { this: this.clone(), duration, acquisitions, ratio, _meter: meter })
    }

    fn acquired(&self, timeline: &Timeline) {
        let [address, port] = server(&timeline.request);
        if let Some(used) = &timeline.connection {
            self.ratio.acquired(&timeline.request.host, timeline.request.port, used.reused());
            self.acquisitions.add(1, &[KeyValue::new(CONNECTION_REUSED, used.reused()), address, port]);
        } else if let Some(error) = timeline.wait.as_ref().and_then(|wait| wait.error.as_ref()) {
            self.acquisitions.add(1, &[KeyValue::new(ERROR_TYPE, error.error_type()), address, port]);
        }
    }

    fn took(&self, timeline: &Timeline, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let method = KeyValue::new(HTTP_REQUEST_METHOD, request_method(&timeline.request.method));
        let [address, port] = server(&timeline.request);
        let status = timeline.status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16())));
        let version =
            semconv::protocol_version(timeline).map(|version| KeyValue::new(NETWORK_PROTOCOL_VERSION, version));
        let error_type = match (&timeline.error, timeline.status) {
            (Some(error), _) => Some(error.error_type()),
            (None, Some(status)) if status.as_u16() >= 400 => Some(status_text(status)),
            (None, _) => None,
        };
        match (error_type, status, version) {
            (None, Some(status), Some(version)) => {
                self.duration.record(seconds, &[method, status, version, address, port]);
            }
            (error_type, status, version) => {
                let phase = timeline.error.as_ref().map(|error| KeyValue::new(ERROR_PHASE, error.phase().as_str()));
                let error_type = error_type.map(|error_type| KeyValue::new(ERROR_TYPE, error_type));
                let all: Vec<_> = [error_type, Some(method), status, phase, version, Some(address), Some(port)]
                    .into_iter()
                    .flatten()
                    .collect();
                self.duration.record(seconds, &all);
            }
        }
    }
}

impl Report for Instruments {
    fn again(&self, _: &mut Parts, _: &Arc<RequestInfo>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        self.this.upgrade().map(|this| this as Arc<dyn Report>)
    }

    fn finished(&self, timeline: &Timeline) {
        self.acquired(timeline);
        let end = timeline.response_end.or(timeline.end).unwrap_or(timeline.start);
        self.took(timeline, end.saturating_duration_since(timeline.start));
    }
}

fn server(request: &RequestInfo) -> [KeyValue; 2] {
    let address = StringValue::from(Arc::clone(&request.host));
    [KeyValue::new(SERVER_ADDRESS, address), KeyValue::new(SERVER_PORT, i64::from(request.port))]
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
