//! Which facts of a record are attributes of which span. Absent is absent: nothing is zero because it is unknown.

use std::sync::Arc;

use http::HeaderValue;
use opentelemetry::{Array, KeyValue, StringValue, Value, trace::Span};

use crate::{
    connection::TlsInfo,
    date::date_time,
    phase::Phase,
    timeline::{EventKind, PhaseSpan, RequestInfo, SetupDetail, Timeline},
    views::semconv::*,
};

/// Room for all attributes that a CLIENT span can get, but for a rare one, so that its list is allocated once. Below 1 KiB,
/// which is as much as malloc has at hand.
const CLIENT_ATTRIBUTES: usize = 18;

/// What samplers see: the attributes that are known before anything is sent.
pub(super) fn request(info: &RequestInfo) -> Vec<KeyValue> {
    let method = request_method(&info.method);
    let mut all = Vec::with_capacity(CLIENT_ATTRIBUTES);
    all.push(KeyValue::new(HTTP_REQUEST_METHOD, method));
    if method == OTHER {
        all.push(KeyValue::new(HTTP_REQUEST_METHOD_ORIGINAL, info.method.as_str().to_owned()));
    }
    all.push(KeyValue::new(SERVER_ADDRESS, StringValue::from(info.host.clone())));
    all.push(KeyValue::new(SERVER_PORT, i64::from(info.port)));
    all.push(KeyValue::new(URL_FULL, StringValue::from(info.url.clone().into_shared())));
    if info.resend_count > 0 {
        all.push(KeyValue::new(HTTP_REQUEST_RESEND_COUNT, i64::from(info.resend_count)));
    }
    all.extend(info.retry_reason.map(|reason| KeyValue::new(RETRY_REASON, reason.as_str())));
    all
}

/// What the CLIENT span learns later.
pub(super) fn response(timeline: &Timeline, span: &mut impl Span) {
    let mut set = |key: &'static str, value: Value| span.set_attribute(KeyValue::new(key, value));
    if let Some(status) = timeline.status {
        set(HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()).into());
    }
    if let Some(version) = protocol_version(timeline) {
        set(NETWORK_PROTOCOL_VERSION, version.into());
    }
    let Some(used) = &timeline.connection else { return };
    if let (Some(peer), Some(text)) = (used.info.peer, used.info.peer_text()) {
        set(NETWORK_PEER_ADDRESS, Value::String(Arc::clone(text).into()));
        set(NETWORK_PEER_PORT, i64::from(peer.port()).into());
    }
    set(CONNECTION_ID, int(used.info.id));
    set(CONNECTION_OUTCOME, used.outcome.as_str().into());
    set(CONNECTION_REUSED, used.reused().into());
    set(CONNECTION_WAS_IDLE, used.was_idle().into());
    if let Some(idle) = used.idle_time {
        set(CONNECTION_IDLE_TIME, idle.as_secs_f64().into());
    }
    set(CONNECTION_AGE, used.age.as_secs_f64().into());
    set(CONNECTION_REQUEST_NUMBER, int(used.request_number));
    if let Some(stream) = timeline.stream_id {
        set(HTTP2_STREAM_ID, i64::from(stream).into());
    }
}

/// The captured fields of the headers, on the CLIENT span.
pub(super) fn captured(timeline: &Timeline, span: &mut impl Span) {
    let both = [(HTTP_REQUEST_HEADER, &timeline.request_headers), (HTTP_RESPONSE_HEADER, &timeline.response_headers)];
    for (prefix, headers) in both.into_iter().filter_map(|(prefix, headers)| Some((prefix, headers.as_ref()?))) {
        for name in headers.keys() {
            let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned().into();
            let values: Vec<StringValue> = headers.get_all(name).iter().map(text).collect();
            span.set_attribute(KeyValue::new(format!("{prefix}{name}"), Value::Array(Array::String(values))));
        }
    }
}

/// The attributes of an event of the CLIENT span; `None` for one that belongs elsewhere.
pub(super) fn event(kind: EventKind) -> Option<Vec<KeyValue>> {
    match kind {
        EventKind::WroteHeaders => None,
        EventKind::FirstByte | EventKind::Wait100Continue | EventKind::Got100Continue => Some(Vec::new()),
        EventKind::Informational(status) => {
            Some(vec![KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()))])
        }
        EventKind::IdleReturn(outcome) => {
            let mut all = vec![KeyValue::new(IDLE_RETURN_OUTCOME, outcome.as_str())];
            all.extend(outcome.reason().map(|reason| KeyValue::new(IDLE_RETURN_REASON, reason.as_str())));
            Some(all)
        }
    }
}

/// The attributes of a child span, with room for `error.type`.
pub(super) fn phase(timeline: &Timeline, phase: &PhaseSpan<'_>) -> Vec<KeyValue> {
    if let Some(detail) = phase.detail {
        return setup(detail);
    }
    let mut all = Vec::new();
    match phase.phase {
        Phase::GetConnection => {
            let cause = timeline.wait.as_ref().and_then(|wait| wait.cause);
            all.extend(cause.map(|cause| KeyValue::new(WAIT_CAUSE, cause.as_str())));
        }
        Phase::RequestWrite => {
            all.extend(timeline.request_body_bytes.map(|bytes| KeyValue::new(HTTP_REQUEST_BODY_SIZE, int(bytes))));
            let blocked = timeline.blocked.filter(|blocked| !blocked.is_zero());
            all.extend(blocked.map(|blocked| KeyValue::new(HTTP2_BLOCKED_TIME, blocked.as_secs_f64())));
        }
        Phase::ResponseRead => {
            all.reserve_exact(3);
            all.push(KeyValue::new(HTTP_RESPONSE_BODY_SIZE, int(timeline.response_body_bytes)));
            let outcome = timeline.response_outcome;
            all.extend(outcome.map(|outcome| KeyValue::new(RESPONSE_OUTCOME, outcome.as_str())));
        }
        Phase::ResponseWait | Phase::Dns | Phase::Connect | Phase::Tunnel | Phase::Tls | Phase::Request => {}
    }
    all
}

/// The attributes of a step of a dial.
pub(super) fn setup(detail: &SetupDetail) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(8);
    match detail {
        SetupDetail::Dns { host, addrs, coalesced } => {
            all.push(KeyValue::new(DNS_QUESTION_NAME, host.clone()));
            if !addrs.is_empty() {
                let answers: Vec<StringValue> = addrs.iter().map(|addr| addr.to_string().into()).collect();
                all.push(KeyValue::new(DNS_ANSWERS, Value::Array(Array::String(answers))));
            }
            all.push(KeyValue::new(DNS_COALESCED, *coalesced));
        }
        SetupDetail::Connect { peer, attempt, .. } => {
            if let Some(peer) = peer {
                all.push(KeyValue::new(NETWORK_PEER_ADDRESS, peer.ip().to_string()));
                all.push(KeyValue::new(NETWORK_PEER_PORT, i64::from(peer.port())));
                all.push(KeyValue::new(NETWORK_TYPE, if peer.is_ipv4() { "ipv4" } else { "ipv6" }));
                all.push(KeyValue::new(NETWORK_TRANSPORT, "tcp"));
            }
            all.push(KeyValue::new(CONNECT_ATTEMPT, i64::from(*attempt)));
        }
        SetupDetail::Tunnel { host, port, status } => {
            all.push(KeyValue::new(SERVER_ADDRESS, host.clone()));
            all.push(KeyValue::new(SERVER_PORT, i64::from(*port)));
            all.extend(status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()))));
        }
        SetupDetail::Tls { server_name, tls } => {
            all.extend(server_name.as_ref().map(|name| KeyValue::new(SERVER_ADDRESS, name.clone())));
            if let Some(tls) = tls {
                session(tls, &mut all);
            }
        }
    }
    all
}

fn session(tls: &TlsInfo, all: &mut Vec<KeyValue>) {
    all.push(KeyValue::new(TLS_PROTOCOL_VERSION, tls.version));
    all.push(KeyValue::new(TLS_CIPHER, tls.cipher.clone()));
    all.extend(tls.alpn.as_ref().map(|alpn| KeyValue::new(TLS_NEXT_PROTOCOL, alpn.clone())));
    all.push(KeyValue::new(TLS_RESUMED, tls.resumed));
    if let Some(leaf) = &tls.leaf {
        all.push(KeyValue::new(TLS_SERVER_SUBJECT, leaf.subject.clone()));
        all.push(KeyValue::new(TLS_SERVER_ISSUER, leaf.issuer.clone()));
        all.push(KeyValue::new(TLS_SERVER_NOT_AFTER, iso_8601(leaf.not_after)));
    }
}

fn int(value: u64) -> Value {
    Value::I64(i64::try_from(value).unwrap_or(i64::MAX))
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
