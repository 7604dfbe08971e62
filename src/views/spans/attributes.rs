//! Which facts of a record are attributes of which span. Absent is absent: nothing is zero because it is unknown.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};
use opentelemetry::{Array, KeyValue, StringValue, Value};

use super::telling::{Attributes, Fact};
use crate::{
    connection::TlsInfo,
    date::date_time,
    facts::TcpUse,
    hooks::DnsFacts,
    phase::Phase,
    timeline::{EventKind, PhaseSpan, RequestInfo, SetupDetail, Timeline},
    views::semconv::*,
};

/// Room for all attributes that a CLIENT span can get, but for a rare one, so that its list is allocated once. Below 1 KiB,
/// which is as much as malloc has at hand.
const CLIENT_ATTRIBUTES: usize = 18;

/// The CLIENT span's name.
pub(super) fn name(method: &Method) -> &'static str {
    match request_method(method) {
        OTHER => "HTTP",
        method => method,
    }
}

/// What samplers see: the attributes that are known before anything is sent.
pub(super) fn request(info: &RequestInfo, all: &mut impl Attributes) {
    let method = request_method(&info.method);
    all.room(CLIENT_ATTRIBUTES);
    all.set(HTTP_REQUEST_METHOD, Fact::Word(method));
    if method == OTHER {
        all.set(HTTP_REQUEST_METHOD_ORIGINAL, Fact::Text(info.method.as_str()));
    }
    all.set(SERVER_ADDRESS, Fact::Shared(&info.host));
    all.set(SERVER_PORT, Fact::Int(info.port.into()));
    all.set(URL_FULL, Fact::Shared(info.url.as_shared()));
    if info.resend_count > 0 {
        all.set(HTTP_REQUEST_RESEND_COUNT, Fact::Int(info.resend_count.into()));
    }
    if let Some(reason) = info.retry_reason {
        all.set(RETRY_REASON, Fact::Word(reason.as_str()));
    }
}

/// What the CLIENT span learns later.
pub(super) fn response(timeline: &Timeline, span: &mut impl Attributes) {
    if let Some(status) = timeline.status {
        span.set(HTTP_RESPONSE_STATUS_CODE, Fact::Int(status.as_u16().into()));
    }
    if let Some(version) = protocol_version(timeline) {
        span.set(NETWORK_PROTOCOL_VERSION, Fact::Word(version));
    }
    let Some(used) = &timeline.connection else { return };
    if let Some(known) = used.keep_alive() {
        span.room(3);
        span.set(KEEP_ALIVE_SOURCE, Fact::Word(known.source.as_str()));
        span.set(KEEP_ALIVE_SERVER_TIMEOUT, Fact::Float(known.server.as_secs_f64()));
        if let Some(client) = known.client {
            span.set(KEEP_ALIVE_CLIENT_TIMEOUT, Fact::Float(client.as_secs_f64()));
        }
    }
    // A reused connection has no `tls` span to say it.
    if let Some(days) = used.info.soon_expired(timeline.anchor.system(timeline.start)) {
        span.set(TLS_SERVER_DAYS_LEFT, Fact::Int(days));
    }
    if let (Some(peer), Some(text)) = (used.info.peer, used.info.peer_text()) {
        span.set(NETWORK_PEER_ADDRESS, Fact::Shared(text));
        span.set(NETWORK_PEER_PORT, Fact::Int(peer.port().into()));
    }
    span.set(CONNECTION_ID, int(used.info.id));
    span.set(CONNECTION_OUTCOME, Fact::Word(used.outcome.as_str()));
    span.set(CONNECTION_REUSED, Fact::Bool(used.reused()));
    span.set(CONNECTION_WAS_IDLE, Fact::Bool(used.was_idle()));
    if let Some(idle) = used.idle_time {
        span.set(CONNECTION_IDLE_TIME, Fact::Float(idle.as_secs_f64()));
    }
    span.set(CONNECTION_AGE, Fact::Float(used.age.as_secs_f64()));
    span.set(CONNECTION_REQUEST_NUMBER, int(used.request_number));
    if let Some(proxy) = &used.info.proxy {
        span.set(CONNECTION_PROXY, Fact::Shared(&proxy.text));
    }
    if used.address_left_dns {
        span.set(CONNECTION_ADDRESS_LEFT_DNS, Fact::Bool(true));
    }
    if let Some(stream) = timeline.stream_id {
        span.set(HTTP2_STREAM_ID, Fact::Int(stream.into()));
    }
}

/// What was gathered beside the marks, on the CLIENT span.
pub(super) fn gathered(timeline: &Timeline, span: &mut impl Attributes) {
    let Some(facts) = &timeline.facts else { return };
    let seconds = |time: Duration| Fact::Float(time.as_secs_f64());
    span.room(14);
    if let Some(delay) = facts.runtime_delay {
        span.set(RUNTIME_DELAY, seconds(delay));
    }
    if let Some(timing) = &facts.server_timing {
        let metrics = timing.metrics.iter().map(|metric| match metric.duration {
            // As it is written in the field, so that whoever knows that knows this.
            Some(duration) => format!("{};dur={}", metric.name, duration.as_nanos() as f64 / 1e6).into(),
            None => metric.name.clone().into(),
        });
        span.put(KeyValue::new(SERVER_TIMING_METRICS, Value::Array(Array::String(metrics.collect()))));
        let times = [
            (SERVER_TIMING_DURATION, timeline.server_time()),
            (SERVER_TIMING_NETWORK_DURATION, timeline.network_time()),
        ];
        for (key, time) in times {
            if let Some(time) = time {
                span.set(key, seconds(time));
            }
        }
    }
    if let Some(tcp) = &facts.tcp {
        socket(tcp, span);
    }
}

fn socket(tcp: &TcpUse, span: &mut impl Attributes) {
    let last = tcp.last();
    span.set(TCP_RTT, Fact::Float(last.rtt.as_secs_f64()));
    span.set(TCP_RTT_VARIATION, Fact::Float(last.rtt_variation.as_secs_f64()));
    if let Some(retransmits) = tcp.retransmits() {
        span.set(TCP_RETRANSMITS, Fact::Int(retransmits.into()));
    }
    span.set(TCP_CONNECTION_RETRANSMITS, Fact::Int(last.retransmits.into()));
    span.set(TCP_CONGESTION_WINDOW, Fact::Int(last.congestion_window.into()));
    if let Some(rate) = last.delivery_rate {
        span.set(TCP_DELIVERY_RATE, int(rate));
    }
    span.set(TCP_UNACKED, Fact::Int(last.unacked.into()));
    span.set(TCP_UNSENT, Fact::Int(last.unsent_bytes.into()));
    if let Some(unread) = tcp.unread {
        span.set(TCP_UNREAD_TIME, Fact::Float(unread.as_secs_f64()));
    }
}

/// The captured fields of the headers, on the CLIENT span.
pub(super) fn captured(timeline: &Timeline, span: &mut impl Attributes) {
    let both = [(HTTP_REQUEST_HEADER, &timeline.request_headers), (HTTP_RESPONSE_HEADER, &timeline.response_headers)];
    for (prefix, headers) in both.into_iter().filter_map(|(prefix, headers)| Some((prefix, headers.as_ref()?))) {
        for name in headers.keys() {
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned().into();
            let values: Vec<StringValue> = headers.get_all(name).iter().map(text).collect();
            span.put(KeyValue::new(format!("{prefix}{name}"), Value::Array(Array::String(values))));
        }
    }
}

/// The attributes of an event.
pub(super) fn event(kind: EventKind, all: &mut impl Attributes) {
    match kind {
        EventKind::WroteHeaders | EventKind::FirstByte | EventKind::Wait100Continue | EventKind::Got100Continue => {}
        EventKind::Informational(status) => {
            all.room(1);
            all.set(HTTP_RESPONSE_STATUS_CODE, Fact::Int(status.as_u16().into()));
        }
        EventKind::IdleReturn(outcome) => {
            let reason = outcome.reason();
            all.room(1 + usize::from(reason.is_some()));
            all.set(IDLE_RETURN_OUTCOME, Fact::Word(outcome.as_str()));
            if let Some(reason) = reason {
                all.set(IDLE_RETURN_REASON, Fact::Word(reason.as_str()));
            }
        }
    }
}

/// The attributes of a child span.
pub(super) fn phase(timeline: &Timeline, phase: &PhaseSpan<'_>, all: &mut impl Attributes) {
    if let Some(detail) = phase.detail {
        return setup(detail, timeline.anchor.system(phase.end), all);
    }
    match phase.phase {
        Phase::GetConnection => {
            if let Some(cause) = timeline.wait.as_ref().and_then(|wait| wait.cause) {
                all.set(WAIT_CAUSE, Fact::Word(cause.as_str()));
            }
        }
        Phase::RequestWrite => {
            if let Some(bytes) = timeline.request_body_bytes {
                all.set(HTTP_REQUEST_BODY_SIZE, int(bytes));
            }
            if let Some(blocked) = timeline.blocked.filter(|blocked| !blocked.is_zero()) {
                all.set(HTTP2_BLOCKED_TIME, Fact::Float(blocked.as_secs_f64()));
            }
        }
        Phase::ResponseRead => {
            let reading = timeline.facts.as_ref().and_then(|facts| facts.reading);
            all.room(if reading.is_some() { 5 } else { 3 });
            all.set(HTTP_RESPONSE_BODY_SIZE, int(timeline.response_body_bytes));
            if let Some(outcome) = timeline.response_outcome {
                all.set(RESPONSE_OUTCOME, Fact::Word(outcome.as_str()));
            }
            if let Some(reading) = reading {
                let (application, network) = (reading.blocked_by_application, reading.blocked_by_network);
                all.set(RESPONSE_BLOCKED_BY_APPLICATION, Fact::Float(application.as_secs_f64()));
                all.set(RESPONSE_BLOCKED_BY_NETWORK, Fact::Float(network.as_secs_f64()));
            }
        }
        Phase::ResponseWait | Phase::Dns | Phase::Connect | Phase::Tunnel | Phase::Tls | Phase::Request => {}
    }
}

/// The attributes of a step of a dial that ended at `end`, with room for `error.type`.
pub(super) fn setup(detail: &SetupDetail, end: SystemTime, all: &mut impl Attributes) {
    all.room(10);
    match detail {
        SetupDetail::Dns { host, addrs, coalesced, facts } => {
            all.set(DNS_QUESTION_NAME, Fact::Text(host));
            if !addrs.is_empty() {
                all.put(list(DNS_ANSWERS, addrs));
            }
            all.set(DNS_COALESCED, Fact::Bool(*coalesced));
            if let Some(facts) = facts {
                answer(facts, all);
            }
        }
        SetupDetail::Connect { peer, local, socket_cookie, attempt } => {
            if let Some(peer) = peer {
                all.put(KeyValue::new(NETWORK_PEER_ADDRESS, peer.ip().to_string()));
                all.set(NETWORK_PEER_PORT, Fact::Int(peer.port().into()));
                all.set(NETWORK_TYPE, Fact::Word(if peer.is_ipv4() { "ipv4" } else { "ipv6" }));
                all.set(NETWORK_TRANSPORT, Fact::Word("tcp"));
            }
            if let Some(local) = local {
                all.put(KeyValue::new(NETWORK_LOCAL_ADDRESS, local.ip().to_string()));
                all.set(NETWORK_LOCAL_PORT, Fact::Int(local.port().into()));
            }
            if let Some(cookie) = socket_cookie {
                all.set(SOCKET_COOKIE, int(cookie.get()));
            }
            all.set(CONNECT_ATTEMPT, Fact::Int((*attempt).into()));
        }
        SetupDetail::Tunnel { host, port, status } => {
            all.set(SERVER_ADDRESS, Fact::Text(host));
            all.set(SERVER_PORT, Fact::Int((*port).into()));
            if let Some(status) = status {
                all.set(HTTP_RESPONSE_STATUS_CODE, Fact::Int(status.as_u16().into()));
            }
        }
        SetupDetail::Tls { server_name, tls } => {
            if let Some(name) = server_name {
                all.set(SERVER_ADDRESS, Fact::Text(name));
            }
            if let Some(tls) = tls {
                session(tls, end, all);
            }
        }
    }
}

fn answer(facts: &DnsFacts, all: &mut impl Attributes) {
    if let Some(hit) = facts.cache_hit {
        all.set(DNS_CACHE_HIT, Fact::Bool(hit));
    }
    if let Some(ttl) = facts.ttl {
        all.set(DNS_TTL, Fact::Float(ttl.as_secs_f64()));
    }
    if !facts.aliases.is_empty() {
        all.put(list(DNS_ALIASES, &facts.aliases));
    }
    if !facts.record_types.is_empty() {
        all.put(list(DNS_RECORD_TYPES, &facts.record_types));
    }
    if let Some(server) = facts.server {
        all.put(KeyValue::new(DNS_SERVER, server.to_string()));
    }
    if let Some(transport) = facts.transport {
        all.set(DNS_TRANSPORT, Fact::Word(transport));
    }
}

fn list<T: ToString>(name: &'static str, all: &[T]) -> KeyValue {
    let all: Vec<StringValue> = all.iter().map(|one| one.to_string().into()).collect();
    KeyValue::new(name, Value::Array(Array::String(all)))
}

fn session(tls: &TlsInfo, end: SystemTime, all: &mut impl Attributes) {
    all.set(TLS_PROTOCOL_VERSION, Fact::Word(tls.version));
    all.set(TLS_CIPHER, Fact::Text(&tls.cipher));
    if let Some(alpn) = &tls.alpn {
        all.set(TLS_NEXT_PROTOCOL, Fact::Text(alpn));
    }
    all.set(TLS_RESUMED, Fact::Bool(tls.resumed));
    if let Some(leaf) = &tls.leaf {
        all.set(TLS_SERVER_SUBJECT, Fact::Text(&leaf.subject));
        all.set(TLS_SERVER_ISSUER, Fact::Text(&leaf.issuer));
        all.put(KeyValue::new(TLS_SERVER_NOT_AFTER, iso_8601(leaf.not_after)));
        all.set(TLS_SERVER_DAYS_LEFT, Fact::Int(leaf.days_left(end)));
    }
}

fn int(value: u64) -> Fact<'static> {
    Fact::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Seconds since the Unix epoch as `2026-08-20T00:00:00Z`.
fn iso_8601(seconds: i64) -> String {
    format!("{}Z", date_time(seconds))
}

#[cfg(test)]
mod tests {
    use super::iso_8601;

    #[test]
    fn a_date_is_written_as_iso_8601_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_367_549, "2026-11-22T17:12:29Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso_8601(seconds), text);
        }
    }
}
