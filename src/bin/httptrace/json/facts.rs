//! What was gathered beside the marks, as fields of an attempt's line: `tcp`, `server_timing`, `response_blocked`,
//! `runtime_delay_us`, `keep_alive`. Each is missing where it is not known.

use std::time::Duration;

use httptrace::{
    Timeline,
    facts::{Reading, ServerMetric, TcpInfo},
};
use serde::Serialize;

use super::micros;

#[derive(Serialize)]
pub(super) struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timing: Option<ServerTiming<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_blocked: Option<Blocked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_delay_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<Patience>,
}

/// The server's idle timeout, where it is shorter than the command's.
#[derive(Serialize)]
struct Patience {
    source: &'static str,
    server_us: f64,
    client_us: Option<f64>,
}

#[derive(Serialize)]
struct Tcp {
    checkout: Look,
    done: Option<Look>,
    /// Segments sent again between the two.
    retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_us: Option<f64>,
}

/// One look at the socket.
#[derive(Serialize)]
struct Look {
    rtt_us: f64,
    rtt_variation_us: f64,
    min_rtt_us: Option<f64>,
    retransmits: u32,
    congestion_window: u32,
    segment_bytes: u32,
    unacked: u32,
    unsent_bytes: u32,
    sent_bytes: u64,
    retransmitted_bytes: u64,
    received_bytes: u64,
    delivery_rate: Option<u64>,
    busy_us: f64,
    limited_by_peer_us: f64,
    limited_by_buffer_us: f64,
}

#[derive(Serialize)]
struct ServerTiming<'a> {
    metrics: Vec<Metric<'a>>,
    #[serde(skip_serializing_if = "super::is_zero")]
    dropped: u32,
    total_us: Option<f64>,
    /// The rest of `response-wait`.
    network_us: Option<f64>,
}

#[derive(Serialize)]
struct Metric<'a> {
    name: &'a str,
    duration_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

#[derive(Serialize)]
struct Blocked {
    application_us: f64,
    network_us: f64,
}

impl<'a> Facts<'a> {
    pub(super) fn of(timeline: &'a Timeline) -> Self {
        let facts = timeline.facts.as_deref();
        let tcp = facts.and_then(|facts| facts.tcp.as_ref());
        let timing = facts.and_then(|facts| facts.server_timing.as_ref());
        Self {
            tcp: tcp.map(|tcp| Tcp {
                checkout: Look::from(&tcp.checkout),
                done: tcp.done.as_ref().map(Look::from),
                retransmits: tcp.retransmits(),
                unread_us: tcp.unread.map(micros),
            }),
            server_timing: timing.map(|timing| ServerTiming {
                metrics: timing.metrics.iter().map(Metric::from).collect(),
                dropped: timing.dropped,
                total_us: timing.total().map(micros),
                network_us: timeline.network_time().map(micros),
            }),
            response_blocked: facts.and_then(|facts| facts.reading).map(Blocked::from),
            runtime_delay_us: facts.and_then(|facts| facts.runtime_delay).map(micros),
            keep_alive: timeline.connection.as_ref().and_then(|used| used.keep_alive()).map(|known| Patience {
                source: known.source.as_str(),
                server_us: micros(known.server),
                client_us: known.client.map(micros),
            }),
        }
    }
}

impl From<&TcpInfo> for Look {
    fn from(info: &TcpInfo) -> Self {
        let us = |time: Duration| micros(time);
        Self {
            rtt_us: us(info.rtt),
            rtt_variation_us: us(info.rtt_variation),
            min_rtt_us: info.min_rtt.map(us),
            retransmits: info.retransmits,
            congestion_window: info.congestion_window,
            segment_bytes: info.segment_size,
            unacked: info.unacked,
            unsent_bytes: info.unsent_bytes,
            sent_bytes: info.bytes_sent,
            retransmitted_bytes: info.bytes_retransmitted,
            received_bytes: info.bytes_received,
            delivery_rate: info.delivery_rate,
            busy_us: us(info.busy),
            limited_by_peer_us: us(info.limited_by_peer),
            limited_by_buffer_us: us(info.limited_by_buffer),
        }
    }
}

impl<'a> From<&'a ServerMetric> for Metric<'a> {
    fn from(metric: &'a ServerMetric) -> Self {
        let description = metric.description.as_deref();
        Self { name: &metric.name, duration_us: metric.duration.map(micros), description }
    }
}

impl From<Reading> for Blocked {
    fn from(reading: Reading) -> Self {
        Self { application_us: micros(reading.blocked_by_application), network_us: micros(reading.blocked_by_network) }
    }
}
