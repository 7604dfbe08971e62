//! `--format json`: one attempt, one object, one line. Fields may be added, never renamed.
//!
//! In: a [`Timeline`]. Out: a line. Times are microseconds from the attempt's start; what did not happen is `null` or
//! missing.

mod facts;

use std::time::Instant;

use http::Version;
use httptrace::{
    Timeline,
    connection::Protocol,
    timeline::{EventKind, PhaseSpan, SetupDetail},
};
use serde::Serialize;

use self::facts::Facts;
use crate::{date::date_time, mark::Mark};

/// The line of an attempt, with its newline.
pub(crate) fn line(timeline: &Timeline) -> String {
    // Plain structs with string keys: there is nothing that JSON could not say.
    let mut line = serde_json::to_string(&Attempt::from(timeline)).expect("an attempt is always JSON");
    line.push('\n');
    line
}

#[derive(Serialize)]
struct Attempt<'a> {
    v: u32,
    request: u64,
    attempt: u32,
    hop: u32,
    method: &'a str,
    url: &'a str,
    start_unix_nanos: String,
    duration_us: f64,
    protocol: Option<&'static str>,
    status: Option<u16>,
    error: Option<Error>,
    trace_id: Option<String>,
    span_id: Option<String>,
    sampled: Option<bool>,
    /// Why the attempt before was given up for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_reason: Option<&'static str>,
    connection: Option<Connection>,
    dns: Option<Dns<'a>>,
    tls: Option<Tls<'a>>,
    phases: Vec<PhaseEntry>,
    events: Vec<EventEntry>,
    hooks: Vec<HookEntry>,
    request_body_bytes: u64,
    /// HTTP/2: how long flow control kept the request's body back.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_blocked_us: Option<f64>,
    response_body_bytes: u64,
    #[serde(flatten)]
    facts: Facts<'a>,
    response_outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "is_zero")]
    dropped_events: u32,
}

#[derive(Serialize)]
struct Error {
    r#type: &'static str,
    phase: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Connection {
    id: u64,
    outcome: &'static str,
    reused: bool,
    was_idle: bool,
    idle_us: Option<f64>,
    age_us: f64,
    request_number: u64,
    local: Option<String>,
    peer: Option<String>,
    /// The proxy that it goes through, whose address `peer` is then.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    /// The kernel's number for the socket: what its own tools know it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_cookie: Option<u64>,
    http2_stream_id: Option<u32>,
    /// The latest lookup of the host did not have its address.
    #[serde(skip_serializing_if = "is_false")]
    address_left_dns: bool,
}

#[derive(Serialize)]
struct Dns<'a> {
    host: &'a str,
    addrs: Vec<String>,
    coalesced: bool,
    /// This and what follows: where the resolver knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_hit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_us: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    record_types: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
}

#[derive(Serialize)]
struct Tls<'a> {
    version: &'static str,
    cipher: &'a str,
    alpn: Option<&'a str>,
    resumed: bool,
    server_name: Option<&'a str>,
    /// The end of the certificate's validity, and the whole days to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<i64>,
}

#[derive(Serialize)]
struct PhaseEntry {
    name: &'static str,
    start_us: f64,
    end_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    error: Option<&'static str>,
}

#[derive(Serialize)]
struct EventEntry {
    name: &'static str,
    at_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

#[derive(Serialize)]
struct HookEntry {
    name: &'static str,
    at_us: f64,
}

impl<'a> From<&'a Timeline> for Attempt<'a> {
    fn from(timeline: &'a Timeline) -> Self {
        let us = |at: Instant| micros(at.saturating_duration_since(timeline.start));
        let request = &*timeline.request;
        let mark = Mark::of(timeline);
        Self {
            v: 1,
            request: mark.request,
            attempt: request.attempt,
            hop: mark.hop,
            method: request.method.as_str(),
            url: &request.url,
            start_unix_nanos: timeline.anchor.unix_nanos(timeline.start).to_string(),
            duration_us: timeline.end.or(timeline.response_end).map_or(0.0, us),
            protocol: protocol(timeline),
            status: timeline.status.map(|status| status.as_u16()),
            error: timeline.error.as_ref().map(|error| Error {
                r#type: error.error_type(),
                phase: error.phase().as_str(),
                message: error.to_string(),
            }),
            trace_id: timeline.trace.map(|trace| format!("{:032x}", trace.trace_id)),
            span_id: timeline.trace.map(|trace| format!("{:016x}", trace.span_id)),
            sampled: timeline.trace.map(|trace| trace.sampled),
            retry_reason: timeline.request.retry_reason.map(httptrace::hooks::RetryReason::as_str),
            connection: connection(timeline),
            dns: dns(timeline),
            tls: tls(timeline),
            phases: timeline.phases().iter().map(|phase| phase_entry(phase, us)).collect(),
            events: timeline.events.iter().map(|event| event_entry(event.kind, us(event.at))).collect(),
            hooks: timeline.hooks.iter().map(|hook| HookEntry { name: hook.name, at_us: us(hook.at) }).collect(),
            request_body_bytes: timeline.request_body_bytes.unwrap_or(0),
            request_blocked_us: timeline.blocked.map(micros),
            response_body_bytes: timeline.response_body_bytes,
            facts: Facts::of(timeline),
            response_outcome: timeline.response_outcome.map(|outcome| outcome.as_str()),
            dropped_events: timeline.dropped_events,
        }
    }
}

/// As the response says; without one, as its connection was made.
fn protocol(timeline: &Timeline) -> Option<&'static str> {
    match (timeline.version, timeline.connection.as_ref().map(|connection| connection.info.protocol)) {
        (Some(Version::HTTP_10), _) => Some("HTTP/1.0"),
        (_, Some(Protocol::Http1)) => Some("HTTP/1.1"),
        (_, Some(Protocol::Http2)) => Some("HTTP/2"),
        (_, None) => None,
    }
}

fn connection(timeline: &Timeline) -> Option<Connection> {
    let used = timeline.connection.as_ref()?;
    Some(Connection {
        id: used.info.id,
        outcome: used.outcome.as_str(),
        reused: used.reused(),
        was_idle: used.was_idle(),
        idle_us: used.idle_time.map(micros),
        age_us: micros(used.age),
        request_number: used.request_number,
        local: used.info.local.map(|addr| addr.to_string()),
        peer: used.info.peer.map(|addr| addr.to_string()),
        proxy: used.info.proxy.as_ref().map(ToString::to_string),
        socket_cookie: used.info.socket_cookie.map(std::num::NonZeroU64::get),
        http2_stream_id: timeline.stream_id,
        address_left_dns: used.address_left_dns,
    })
}

/// The lookup of the server, else of its proxy.
fn dns(timeline: &Timeline) -> Option<Dns<'_>> {
    let mut lookups = timeline.setup.iter().filter_map(|step| match &step.detail {
        SetupDetail::Dns { host, addrs, coalesced, facts, .. } => {
            let facts = facts.as_deref();
            Some(Dns {
                host,
                addrs: addrs.iter().map(ToString::to_string).collect(),
                coalesced: *coalesced,
                cache_hit: facts.and_then(|facts| facts.cache_hit),
                ttl_us: facts.and_then(|facts| facts.ttl).map(micros),
                aliases: facts.map_or(&[], |facts| &facts.aliases),
                record_types: facts.map_or(&[], |facts| &facts.record_types),
                server: facts.and_then(|facts| facts.server).map(|server| server.to_string()),
                transport: facts.and_then(|facts| facts.transport),
            })
        }
        _ => None,
    });
    let first = lookups.next()?;
    let is_servers = |dns: &Dns<'_>| dns.host.eq_ignore_ascii_case(&timeline.request.host);
    if is_servers(&first) { Some(first) } else { lookups.find(is_servers).or(Some(first)) }
}

fn tls(timeline: &Timeline) -> Option<Tls<'_>> {
    let tls = timeline.connection.as_ref()?.info.tls.as_ref()?;
    Some(Tls {
        version: tls.version,
        cipher: &tls.cipher,
        alpn: tls.alpn.as_deref(),
        resumed: tls.resumed,
        server_name: tls.server_name.as_deref(),
        not_after: tls.leaf.as_ref().map(|leaf| format!("{}Z", date_time(leaf.not_after))),
        days_left: tls.leaf.as_ref().map(|leaf| leaf.days_left(timeline.anchor.system(timeline.start))),
    })
}

fn phase_entry(phase: &PhaseSpan<'_>, us: impl Fn(Instant) -> f64) -> PhaseEntry {
    let (local, peer) = match phase.detail {
        Some(SetupDetail::Connect { local, peer, .. }) => {
            (local.map(|addr| addr.to_string()), peer.map(|addr| addr.to_string()))
        }
        _ => (None, None),
    };
    PhaseEntry {
        name: phase.phase.as_str(),
        start_us: us(phase.start),
        end_us: us(phase.end),
        local,
        peer,
        error: phase.error.map(httptrace::Error::error_type),
    }
}

fn event_entry(kind: EventKind, at_us: f64) -> EventEntry {
    let mut entry = EventEntry { name: kind.name(), at_us, outcome: None, reason: None, status: None };
    match kind {
        EventKind::IdleReturn(outcome) => {
            entry.outcome = Some(outcome.as_str());
            entry.reason = outcome.reason().map(|reason| reason.as_str());
        }
        EventKind::Informational(status) => entry.status = Some(status.as_u16()),
        _ => {}
    }
    entry
}

fn micros(duration: std::time::Duration) -> f64 {
    duration.as_nanos() as f64 / 1_000.0
}

fn is_false(said: &bool) -> bool {
    !said
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
