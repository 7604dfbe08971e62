//! `--format har`: one HTTP Archive 1.2 for all attempts, as the network panels of browsers read it.
//!
//! In: the record and the hooks of each attempt, and the header of each request's response. Out: one JSON document. Each
//! attempt is an entry. Times are milliseconds; a step that did not happen is -1. Bodies and cookies are not stored.
//!
//! Written as JSON, and held against the published schema by the tests: the types of the `har` crate have no room for
//! fields of one's own (`_error`, `_phases`), and leave out what the schema wants where it is unknown.

use std::{collections::HashMap, time::Instant};

use http::{HeaderMap, Version};
use httptrace::{Phase, Timeline, connection::Protocol, hooks::ConnOutcome};
use serde_json::{Value, json};

use crate::{calls::Calls, date::date_time, redact::Rules};

/// The document.
pub(crate) struct Archive(Value);

impl Archive {
    /// `received`: the response's header by the number of its request.
    pub(crate) fn new(attempts: &[(Box<Timeline>, Calls)], received: &HashMap<u64, HeaderMap>) -> Self {
        let mut attempts: Vec<_> = attempts.iter().collect();
        attempts.sort_by_key(|(timeline, _)| timeline.start);
        let entries: Vec<Value> = attempts
            .into_iter()
            .map(|(timeline, calls)| {
                // Only an attempt that nothing was tried after has handed out its response.
                let header = timeline.request.tag.and_then(|tag| received.get(&tag.0));
                entry(timeline, calls, header.filter(|_| timeline.status.is_some()))
            })
            .collect();
        Self(json!({"log": {
            "version": "1.2",
            "creator": {"name": "httptrace", "version": env!("CARGO_PKG_VERSION")},
            "entries": entries,
        }}))
    }

    /// Its text, with a newline.
    pub(crate) fn render(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

fn entry(timeline: &Timeline, calls: &Calls, received: Option<&HeaderMap>) -> Value {
    let timings = Timings::of(timeline);
    let phases: Vec<Value> = timeline
        .phases()
        .iter()
        .map(|phase| {
            json!({
                "name": phase.phase.as_str(),
                "start": millis(nanos(timeline.start, phase.start)),
                "end": millis(nanos(timeline.start, phase.end)),
                "error": phase.error.map(httptrace::Error::error_type),
            })
        })
        .collect();
    let mut entry = json!({
        "startedDateTime": iso8601(timeline.anchor.unix_nanos(timeline.start)),
        "time": millis(timings.total),
        "request": request(timeline, calls),
        "response": response(timeline, received),
        "cache": {},
        "timings": timings.json(),
        "_resendCount": timeline.request.resend_count,
        "_phases": phases,
    });
    if let Some(used) = &timeline.connection {
        entry["connection"] = used.info.id.to_string().into();
        entry["_outcome"] = used.outcome.as_str().into();
        if let Some(proxy) = &used.info.proxy {
            // The address is the proxy's then, and the server's is not known.
            entry["_proxy"] = proxy.to_string().into();
        } else if let Some(peer) = used.info.peer {
            entry["serverIPAddress"] = peer.ip().to_string().into();
        }
    }
    if let Some(trace) = timeline.trace {
        entry["_traceId"] = format!("{:032x}", trace.trace_id).into();
    }
    if let Some(error) = &timeline.error {
        entry["_error"] = json!({
            "type": error.error_type(),
            "phase": error.phase().as_str(),
            "message": error.to_string(),
        });
    }
    entry
}

fn request(timeline: &Timeline, calls: &Calls) -> Value {
    let request = &timeline.request;
    let sent: Vec<Value> = calls.sent.iter().map(|(name, value)| pair(name, value)).collect();
    // As it stands in the URL, which shows no secrets.
    let query = request.url.split_once('?').map_or("", |(_, query)| query);
    let query: Vec<Value> = query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| pair(name, value))
        .collect();
    json!({
        "method": request.method.as_str(),
        "url": &*request.url,
        "httpVersion": version(timeline),
        "cookies": [],
        "headers": sent,
        "queryString": query,
        "headersSize": -1,
        "bodySize": timeline.request_body_bytes.unwrap_or(0),
    })
}

/// Without a head, it is what browsers write for a request that failed: status 0.
fn response(timeline: &Timeline, received: Option<&HeaderMap>) -> Value {
    let status = timeline.status;
    let shown = |name: &str, value: &http::HeaderValue| Rules::default().field(name, value.as_bytes());
    let field = |name: &str| received.and_then(|header| header.get(name)).map(|value| shown(name, value));
    let fields: Vec<Value> =
        received.into_iter().flatten().map(|(name, value)| pair(name.as_str(), &shown(name.as_str(), value))).collect();
    json!({
        "status": status.map_or(0, |status| status.as_u16()),
        "statusText": status.and_then(|status| status.canonical_reason()).unwrap_or_default(),
        "httpVersion": status.map_or("", |_| version(timeline)),
        "cookies": [],
        "headers": fields,
        "content": {"size": timeline.response_body_bytes, "mimeType": field("content-type").unwrap_or_default()},
        "redirectURL": field("location").unwrap_or_default(),
        "headersSize": -1,
        "bodySize": status.map_or(-1, |_| i64::try_from(timeline.response_body_bytes).unwrap_or(i64::MAX)),
    })
}

fn pair(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// As the response says; without one, as its connection was made; empty if there was none.
fn version(timeline: &Timeline) -> &'static str {
    match (timeline.version, timeline.connection.as_ref().map(|connection| connection.info.protocol)) {
        (Some(Version::HTTP_10), _) => "HTTP/1.0",
        (_, Some(Protocol::Http1)) => "HTTP/1.1",
        (_, Some(Protocol::Http2)) => "HTTP/2",
        (_, None) => "",
    }
}

/// Nanoseconds of the parts. They don't overlap, but for `ssl`, which is a part of `connect`.
struct Timings {
    total: u64,
    dns: Option<u64>,
    connect: Option<u64>,
    ssl: Option<u64>,
    send: u64,
    wait: u64,
    receive: u64,
}

impl Timings {
    fn of(timeline: &Timeline) -> Self {
        let since = |at: Instant| nanos(timeline.start, at);
        let end = timeline.response_end.or(timeline.end).unwrap_or(timeline.start);
        // A dial that went on without its request is none of its time.
        let dialed = timeline.connection.as_ref().is_none_or(|used| used.outcome == ConnOutcome::New);
        let until = timeline.wait.as_ref().and_then(|wait| wait.end).unwrap_or(end).min(end);
        let hull = |which: &[Phase]| {
            let steps = || timeline.setup.iter().filter(|step| dialed && which.contains(&step.phase()));
            let from = steps().map(|step| step.start).min()?.min(until);
            Some((from, steps().map(|step| step.end.unwrap_or(until).min(until)).max()?.max(from)))
        };
        let length = |(from, to): (Instant, Instant)| nanos(from, to);
        let dns = hull(&[Phase::Dns]);
        let ssl = hull(&[Phase::Tls]);
        // Where addresses are tried before all are known, the lookup counts until the first of them.
        let connect = hull(&[Phase::Connect, Phase::Tunnel, Phase::Tls]);
        let dns = dns.map(|(from, to)| (from, connect.map_or(to, |(first, _)| to.min(first)).max(from)));
        let first = timeline.final_first_byte.map(|at| at.min(end));
        let given_up = timeline.write_error.as_ref().map(|(at, _)| *at);
        let written = timeline.wrote_request.or(given_up).unwrap_or(end).min(first.unwrap_or(end));
        let started = timeline.write_start.map(|at| at.min(written));
        Self {
            total: since(end),
            dns: dns.map(length),
            connect: connect.map(length),
            ssl: ssl.map(length),
            send: started.map_or(0, |started| nanos(started, written)),
            wait: started.map_or(0, |_| nanos(written, first.unwrap_or(end))),
            receive: first.map_or(0, |first| nanos(first, end)),
        }
    }

    fn json(&self) -> Value {
        let parts = [self.dns.unwrap_or(0), self.connect.unwrap_or(0), self.send, self.wait, self.receive];
        // What is left is waiting: for a connection, for its turn.
        let blocked = self.total.saturating_sub(parts.iter().sum());
        let happened = |part: Option<u64>| part.map_or(-1.0, millis);
        json!({
            "blocked": millis(blocked),
            "dns": happened(self.dns),
            "connect": happened(self.connect),
            "ssl": happened(self.ssl),
            "send": millis(self.send),
            "wait": millis(self.wait),
            "receive": millis(self.receive),
        })
    }
}

fn nanos(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1_000_000.0
}

/// `2026-11-23T00:14:13.250Z`.
fn iso8601(unix_nanos: u64) -> String {
    let seconds = i64::try_from(unix_nanos / 1_000_000_000).unwrap_or(i64::MAX);
    format!("{}.{:03}Z", date_time(seconds), unix_nanos / 1_000_000 % 1_000)
}

#[cfg(test)]
mod tests {
    use super::iso8601;

    #[test]
    fn moments_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_795_392_853, "2026-11-23T00:14:13.007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.007Z"),
        ] {
            assert_eq!(iso8601(seconds * 1_000_000_000 + 7_999_999), text);
        }
    }
}
