//! A record as a waterfall: what of an attempt is said in words, and where.

use std::time::{Duration, Instant};

use super::{
    Mark, Row, Waterfall, failure,
    text::{bytes, duration},
};
use crate::{
    connection::{Protocol, TlsInfo},
    facts::{KeepAlive, KeepAliveSource},
    hooks::{ConnOutcome, DnsFacts, IdleReturn, ResponseOutcome, WaitCause},
    phase::Phase,
    timeline::{ConnectionUse, EventKind, PhaseSpan, SetupDetail, Timeline},
};

impl Waterfall {
    /// The chart of a finished attempt. Its times count from the attempt's start.
    #[must_use]
    pub fn from_timeline(timeline: &Timeline) -> Self {
        let since = |at: Instant| nanos(timeline.start, at);
        let end = timeline.end.or(timeline.response_end).map_or(0, since);
        let request = &timeline.request;
        let mut chart = Self::new(format!("{} {}", request.method, request.url), 0, end);
        chart.facts = facts(timeline);
        chart.failure = timeline.error.as_ref().map(ToString::to_string);
        chart.hints = failure::hints(timeline);
        chart.rows = timeline.phases().iter().map(|phase| row(timeline, phase)).collect();
        chart.marks = timeline
            .events
            .iter()
            // It ends a part of `request-write`, and so says little beside that bar.
            .filter(|event| event.kind != EventKind::WroteHeaders)
            .map(|event| Mark { name: event.kind.name().to_owned(), at: since(event.at), note: mark_note(event.kind) })
            .collect();
        chart
    }
}

pub(super) fn nanos(start: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

/// What the second line says.
fn facts(timeline: &Timeline) -> Vec<String> {
    let mut facts = Vec::new();
    facts.extend(timeline.status.map(|status| match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }));
    if let Some(connection) = &timeline.connection {
        facts.push(protocol(timeline, connection).to_owned());
        if timeline.setup.is_empty() {
            facts.extend(connection.info.tls.as_ref().map(|tls| format!("TLS {}", tls.version)));
        }
        facts.push(origin(connection));
        facts.extend(connection.info.proxy.as_ref().map(|proxy| format!("through {proxy}")));
        facts.extend(expiry(timeline, connection));
        facts.extend(connection.keep_alive().map(patience));
    }
    if timeline.connection.as_ref().is_some_and(|used| used.address_left_dns) {
        facts.push("to an address that has left DNS".to_owned());
    }
    gathered(timeline, &mut facts);
    facts.extend(timeline.stream_id.map(|stream| format!("stream {stream}")));
    if timeline.request.attempt > 1 {
        facts.push(format!("attempt {}", timeline.request.attempt));
    }
    facts.extend(timeline.trace.map(|trace| {
        let left_out = if trace.sampled { "" } else { " (not sampled)" };
        format!("trace {:032x}{left_out}", trace.trace_id)
    }));
    facts
}

pub(super) fn protocol(timeline: &Timeline, connection: &ConnectionUse) -> &'static str {
    match (timeline.version, connection.info.protocol) {
        (Some(http::Version::HTTP_10), _) => "HTTP/1.0",
        (_, Protocol::Http1) => "HTTP/1.1",
        (_, Protocol::Http2) => "HTTP/2",
    }
}

/// Where the connection came from.
fn origin(connection: &ConnectionUse) -> String {
    let id = connection.info.id;
    let nth = match connection.request_number {
        1 => "unused so far".to_owned(),
        number => format!("request {number} on it"),
    };
    match connection.outcome {
        ConnOutcome::New => format!("new connection #{id}"),
        ConnOutcome::Idle => {
            let idle = connection.idle_time.unwrap_or_default();
            let idle = duration(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX));
            format!("{} connection #{id}, {nth}, idle {idle}", if connection.reused() { "reused" } else { "pooled" })
        }
        ConnOutcome::HandedOver => format!("connection #{id} handed over, {nth}"),
        ConnOutcome::Shared => format!("shared connection #{id}, {nth}"),
    }
}

/// That the server waits for less time than this client, and which setting is about it.
pub(super) fn patience(known: &KeepAlive) -> String {
    let server = match known.source {
        KeepAliveSource::Announced => "server keeps idle connections for",
        KeepAliveSource::Closed => "server closed an idle connection after",
    };
    let client = known.client.map_or_else(|| "not set".to_owned(), shown);
    format!("{server} {} (pool_idle_timeout: {client})", shown(known.server))
}

/// What was gathered beside the marks, where it says something.
fn gathered(timeline: &Timeline, facts: &mut Vec<String>) {
    let Some(gathered) = &timeline.facts else { return };
    let worth = |time: Duration| (time >= WORTH).then(|| shown(time));
    if let (Some(server), Some(network)) = (timeline.server_time(), timeline.network_time()) {
        facts.push(format!("server {}, network {}", shown(server), shown(network)));
    }
    if let Some(tcp) = &gathered.tcp {
        facts.extend(worth(tcp.last().rtt).map(|rtt| format!("round trip {rtt}")));
        facts.extend(match tcp.retransmits().unwrap_or(0) {
            0 => None,
            1 => Some("1 segment sent again".to_owned()),
            more => Some(format!("{more} segments sent again")),
        });
        facts.extend(tcp.unread.map(|unread| format!("unread in the kernel for {}", shown(unread))));
    }
    if let Some(reading) = gathered.reading {
        facts.extend(
            worth(reading.blocked_by_application).map(|time| format!("body waited {time} for the application")),
        );
    }
    facts.extend(gathered.runtime_delay.and_then(worth).map(|time| format!("runtime {time} late")));
}

/// Below this, a fact is no reason for anything that one sees in a chart.
const WORTH: Duration = Duration::from_millis(1);

fn shown(time: Duration) -> String {
    duration(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).trim_start().to_owned()
}

/// How long the server's certificate is still valid, where somebody should see to it.
fn expiry(timeline: &Timeline, connection: &ConnectionUse) -> Option<String> {
    let days = connection.info.soon_expired(timeline.anchor.system(timeline.start))?;
    let counted = |days: i64| format!("{days} day{}", if days == 1 { "" } else { "s" });
    Some(match days {
        0 => "certificate expires within a day".to_owned(),
        1.. => format!("certificate expires in {}", counted(days)),
        ..0 => format!("certificate expired {} ago", counted(-days)),
    })
}

fn row(timeline: &Timeline, phase: &PhaseSpan<'_>) -> Row {
    Row {
        name: phase.phase.as_str().to_owned(),
        depth: usize::from(phase.parent != Phase::Request),
        start: nanos(timeline.start, phase.start),
        end: nanos(timeline.start, phase.end),
        error: phase.error.map(|error| if error.phase() == phase.phase { error.error_type() } else { "" }.to_owned()),
        note: phase.detail.map_or_else(|| note(timeline, phase.phase), setup_note),
    }
}

fn note(timeline: &Timeline, phase: Phase) -> String {
    match phase {
        Phase::GetConnection => timeline.wait.as_ref().and_then(|wait| wait.cause).map_or("", cause).to_owned(),
        Phase::RequestWrite => sent(timeline),
        Phase::ResponseWait => {
            timeline.server_time().map_or_else(String::new, |time| format!("server {}", shown(time)))
        }
        Phase::ResponseRead => {
            let read = format!("{} of body", bytes(timeline.response_body_bytes));
            match timeline.response_outcome {
                Some(ResponseOutcome::Dropped) => format!("{read}, dropped"),
                Some(ResponseOutcome::Complete | ResponseOutcome::Failed) | None => read,
            }
        }
        Phase::Dns | Phase::Connect | Phase::Tunnel | Phase::Tls | Phase::Request => String::new(),
    }
}

fn sent(timeline: &Timeline) -> String {
    let Some(sent) = timeline.request_body_bytes else { return String::new() };
    let body = format!("{} of body", bytes(sent));
    match timeline.blocked.filter(|blocked| !blocked.is_zero()) {
        Some(blocked) => {
            let blocked = duration(u64::try_from(blocked.as_nanos()).unwrap_or(u64::MAX));
            format!("{body}, blocked {}", blocked.trim_start())
        }
        None => body,
    }
}

pub(super) fn cause(cause: WaitCause) -> &'static str {
    match cause {
        WaitCause::Dial => "own dial",
        WaitCause::OtherDial => "another request's dial",
        WaitCause::HostLimit => "connection limit of the host",
        WaitCause::PoolLimit => "connection limit of the pool",
        WaitCause::Http2Streams => "no free HTTP/2 stream",
    }
}

fn setup_note(detail: &SetupDetail) -> String {
    match detail {
        SetupDetail::Dns { host, addrs, coalesced, facts } => {
            let mut note = host.clone();
            for alias in facts.iter().flat_map(|facts| &facts.aliases) {
                note.push_str(" > ");
                note.push_str(alias);
            }
            for (i, addr) in addrs.iter().enumerate() {
                note.push_str(if i == 0 { " = " } else { ", " });
                note.push_str(&addr.to_string());
            }
            if *coalesced {
                note.push_str(" (shared lookup)");
            }
            if let Some(facts) = facts {
                note.push_str(&answer_note(facts));
            }
            note
        }
        SetupDetail::Connect { peer, .. } => peer.map_or_else(String::new, |peer| peer.to_string()),
        SetupDetail::Tunnel { host, port, status } => match status {
            Some(status) => format!("{host}:{port} {}", status.as_u16()),
            None => format!("{host}:{port}"),
        },
        SetupDetail::Tls { server_name, tls } => match (tls, server_name) {
            (Some(tls), _) => session(tls),
            (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        },
    }
}

fn answer_note(facts: &DnsFacts) -> String {
    let mut notes = Vec::new();
    if facts.cache_hit == Some(true) {
        notes.push("cached".to_owned());
    }
    if let Some(server) = facts.server {
        // UDP is what everybody expects.
        let by =
            facts.transport.filter(|transport| *transport != "udp").map_or_else(String::new, |by| format!(" by {by}"));
        notes.push(format!("from {server}{by}"));
    }
    if let Some(ttl) = facts.ttl {
        let ttl = duration(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
        notes.push(format!("true for {}", ttl.trim_start()));
    }
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

fn session(tls: &TlsInfo) -> String {
    let alpn = tls.alpn.as_ref().map_or_else(String::new, |alpn| format!(", {alpn}"));
    format!("TLS {}{alpn}{}", tls.version, if tls.resumed { ", resumed" } else { "" })
}

fn mark_note(kind: EventKind) -> String {
    match kind {
        EventKind::Informational(status) => status.as_u16().to_string(),
        EventKind::IdleReturn(IdleReturn::Closed(reason)) => format!("closed: {}", reason.as_str()),
        EventKind::IdleReturn(outcome) => outcome.as_str().to_owned(),
        EventKind::WroteHeaders | EventKind::FirstByte | EventKind::Wait100Continue | EventKind::Got100Continue => {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lookup_says_what_is_known_of_its_answer() {
        let (addrs, host) = (vec!["10.0.0.7".parse().expect("an address")], "www.test".to_owned());
        let note = |facts: Option<DnsFacts>| {
            let (host, addrs, facts) = (host.clone(), addrs.clone(), facts.map(Box::new));
            setup_note(&SetupDetail::Dns { host, addrs, coalesced: false, facts })
        };
        let ttl = Some(Duration::from_secs(37));
        let asked = DnsFacts {
            cache_hit: Some(false),
            ttl,
            aliases: vec!["edge.test".to_owned(), "pop.test".to_owned()],
            server: "10.0.0.53:53".parse().ok(),
            transport: Some("tcp"),
            ..DnsFacts::default()
        };
        assert_eq!(
            note(Some(asked.clone())),
            "www.test > edge.test > pop.test = 10.0.0.7 (from 10.0.0.53:53 by tcp, true for 37.0 s)"
        );
        let by_udp = DnsFacts { transport: Some("udp"), aliases: Vec::new(), ttl: None, ..asked };
        assert_eq!(note(Some(by_udp)), "www.test = 10.0.0.7 (from 10.0.0.53:53)");
        let cached = DnsFacts { cache_hit: Some(true), ttl, ..DnsFacts::default() };
        assert_eq!(note(Some(cached)), "www.test = 10.0.0.7 (cached, true for 37.0 s)");
        for nothing in [None, Some(DnsFacts::default())] {
            assert_eq!(note(nothing), "www.test = 10.0.0.7");
        }
    }
}
