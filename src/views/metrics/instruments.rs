//! The instruments that are recorded into: their names, units and bucket edges.

use std::sync::Arc;

use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::servers::Servers;
use crate::views::semconv::*;

/// One set of instruments, and the state of the servers behind the others.
pub(super) struct Instruments {
    pub(super) duration: Histogram<f64>,
    pub(super) first_byte: Histogram<f64>,
    pub(super) request_size: Histogram<u64>,
    pub(super) response_size: Histogram<u64>,
    pub(super) queue: Histogram<f64>,
    pub(super) acquisitions: Counter<u64>,
    pub(super) dns: Histogram<f64>,
    pub(super) connect: Histogram<f64>,
    pub(super) tls: Histogram<f64>,
    pub(super) connection_duration: Histogram<f64>,
    pub(super) connection_requests: Histogram<u64>,
    pub(super) idle: Histogram<f64>,
    pub(super) servers: Arc<Servers>,
    /// Keeps the meter, by whose address the provider's servers are found.
    _meter: Meter,
}

impl Instruments {
    pub(super) fn new(meter: Meter, servers: Arc<Servers>) -> Self {
        let seconds = |name, description, edges: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
            histogram.with_boundaries(edges.to_vec()).build()
        };
        let counts = |name, unit, description, edges: &[f64]| {
            let histogram = meter.u64_histogram(name).with_unit(unit).with_description(description);
            histogram.with_boundaries(edges.to_vec()).build()
        };
        // Those of the conventions' metrics are the conventions' own: a Prometheus that gets one name from two programs
        // takes offence at two descriptions.
        let first_byte = "From the call to the first byte of the final response.";
        let lived = "The duration of the successfully established outbound HTTP connections.";
        let lookup = "Measures the time taken to perform a DNS lookup.";
        let waited = "Time that requests waited for a connection, zero waits included.";
        let served = "Requests that a connection served, told when it was closed.";
        Self {
            duration: seconds(HTTP_CLIENT_REQUEST_DURATION, "Duration of HTTP client requests.", &SECONDS),
            first_byte: seconds(REQUEST_TIME_TO_FIRST_BYTE, first_byte, &SECONDS),
            request_size: counts(HTTP_CLIENT_REQUEST_BODY_SIZE, "By", "Size of HTTP client request bodies.", &BYTES),
            response_size: counts(HTTP_CLIENT_RESPONSE_BODY_SIZE, "By", "Size of HTTP client response bodies.", &BYTES),
            queue: seconds(REQUEST_QUEUE_DURATION, waited, &SECONDS),
            acquisitions: meter
                .u64_counter(CONNECTION_ACQUISITIONS)
                .with_unit("{acquisition}")
                .with_description("Connections that requests got, or failed to get.")
                .build(),
            dns: seconds(DNS_LOOKUP_DURATION, lookup, &SECONDS),
            connect: seconds(CONNECT_DURATION, "Duration of connects, one for each address tried.", &SECONDS),
            tls: seconds(TLS_HANDSHAKE_DURATION, "Duration of TLS handshakes.", &SECONDS),
            connection_duration: seconds(HTTP_CLIENT_CONNECTION_DURATION, lived, &LONG_SECONDS),
            connection_requests: counts(CONNECTION_REQUESTS, "{request}", served, &REQUESTS),
            idle: seconds(CONNECTION_IDLE_DURATION, "Duration of a connection's idle times.", &LONG_SECONDS),
            servers,
            _meter: meter,
        }
    }
}
