//! Which facts of a record are attributes of which span. Absent is absent: nothing is zero because it is unknown.

use http::HeaderValue;
use opentelemetry::{Array, KeyValue, StringValue, Value};

use super::telling::{Attributes, Fact};
use crate::{
    connection::TlsInfo,
    date::date_time,
    hooks::DnsFacts,
    phase::Phase,
    timeline::{EventKind, PhaseSpan, RequestInfo, SetupDetail, Timeline},
    views::semconv::*,
};

/// Room for all attributes that a CLIENT span can get, but for a rare one, so that its list is allocated once. Below 1 KiB,
/// which is as much as malloc has at hand.
const CLIENT_ATTRIBUTES: usize = 18;

/// The CLIENT span's name.
pub(super) fn name(info: &RequestInfo) -> &'static str {
    match request_method(&info.method) {
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
    if used.address_left_dns {
        span.set(CONNECTION_ADDRESS_LEFT_DNS, Fact::Bool(true));
    }
    if let Some(stream) = timeline.stream_id {
        span.set(HTTP2_STREAM_ID, Fact::Int(stream.into()));
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
        return setup(detail, all);
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
            all.room(3);
            all.set(HTTP_RESPONSE_BODY_SIZE, int(timeline.response_body_bytes));
            if let Some(outcome) = timeline.response_outcome {
                all.set(RESPONSE_OUTCOME, Fact::Word(outcome.as_str()));
            }
        }
        Phase::ResponseWait | Phase::Dns | Phase::Connect | Phase::Tunnel | Phase::Tls | Phase::Request => {}
    }
}

/// The attributes of a step of a dial, with room for `error.type`.
pub(super) fn setup(detail: &SetupDetail, all: &mut impl Attributes) {
    all.room(8);
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
        SetupDetail::Connect { peer, attempt, .. } => {
            if let Some(peer) = peer {
                all.put(KeyValue::new(NETWORK_PEER_ADDRESS, peer.ip().to_string()));
                all.set(NETWORK_PEER_PORT, Fact::Int(peer.port().into()));
                all.set(NETWORK_TYPE, Fact::Word(if peer.is_ipv4() { "ipv4" } else { "ipv6" }));
                all.set(NETWORK_TRANSPORT, Fact::Word("tcp"));
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
                session(tls, all);
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

fn session(tls: &TlsInfo, all: &mut impl Attributes) {
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
