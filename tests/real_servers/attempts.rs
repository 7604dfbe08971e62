//! What one line of `--format json` has to say about a request that went well.
//!
//! Every required field is there, nothing is claimed that did not happen, and the phases follow each other. Each
//! message carries the whole line.

use serde_json::Value;

use crate::{Protocol, server::BODY};

pub(crate) fn assert_complete_and_true(attempt: &Value, url: &str, protocol: Protocol) {
    let check = |holds: bool, what: &str| assert!(holds, "{what}\n{attempt}");
    check(attempt["v"] == 1 && attempt["attempt"] == 1 && attempt["hop"] == 0, "version, attempt and hop");
    check(attempt["method"] == "GET" && attempt["url"] == url, "method and url");
    check(attempt["status"] == 200 && attempt["error"].is_null(), "status 200 and no error");
    check(attempt["sampled"] == true, "sampled");
    check(hex(&attempt["trace_id"], 32) && hex(&attempt["span_id"], 16), "ids");
    let nanos = attempt["start_unix_nanos"].as_str().and_then(|n| n.parse::<u64>().ok());
    check(nanos.is_some_and(|n| n > 1_600_000_000_000_000_000), "start_unix_nanos is a decimal string");
    let (version, alpn) = if protocol == Protocol::Http1 { ("HTTP/1.1", "http/1.1") } else { ("HTTP/2", "h2") };
    check(attempt["protocol"].as_str().is_some_and(|p| p.starts_with(version)), "protocol");
    check(attempt["tls"]["alpn"] == alpn, "tls.alpn");
    check(attempt["tls"]["version"] == "1.3" && attempt["tls"]["server_name"] == "localhost", "tls");
    check(attempt["tls"]["cipher"].as_str().is_some_and(|c| c.starts_with("TLS_")), "tls.cipher is IANA's name");
    check(attempt["tls"]["resumed"].is_boolean(), "tls.resumed");
    check(attempt["request_body_bytes"] == 0, "request_body_bytes");
    check(attempt["response_body_bytes"].as_u64() == Some(BODY.len() as u64), "response_body_bytes");
    check(attempt["response_outcome"] == "complete", "response_outcome");
    assert_connection_is_true(attempt, protocol);
    assert_phases_follow_each_other(attempt);
    assert_events_lie_inside(attempt);
    assert_hooks_pair(attempt);
}

fn assert_connection_is_true(attempt: &Value, protocol: Protocol) {
    let check = |holds: bool, what: &str| assert!(holds, "{what}\n{attempt}");
    let connection = &attempt["connection"];
    let outcome = connection["outcome"].as_str().unwrap_or_default();
    check(["new", "idle", "handed_over", "shared"].contains(&outcome), "connection.outcome");
    check(connection["id"].is_u64(), "connection.id");
    let number = connection["request_number"].as_u64().unwrap_or_default();
    check(number >= 1, "connection.request_number counts from 1");
    check(connection["reused"] == (number > 1), "reused: it has carried a request before");
    check(connection["was_idle"] == (outcome == "idle"), "was_idle: it came out of the idle pool");
    check(connection["idle_us"].is_number() == (outcome == "idle"), "idle_us only where it was idle");
    check(connection["age_us"].is_number(), "connection.age_us");
    check(connection["http2_stream_id"].is_u64() == (protocol == Protocol::Http2), "http2_stream_id");
    for end in ["local", "peer"] {
        check(connection[end].as_str().is_some_and(|a| a.parse::<std::net::SocketAddr>().is_ok()), end);
    }
    if outcome == "new" {
        check(number == 1, "a new connection has no past");
        check(connection["age_us"] == 0.0, "a new connection has no age");
        check(attempt["dns"]["host"] == "localhost", "dns.host");
        check(attempt["dns"]["addrs"].as_array().is_some_and(|a| !a.is_empty()), "dns.addrs");
    } else {
        check(attempt["dns"].is_null(), "dns only where this request looked up");
    }
}

fn assert_phases_follow_each_other(attempt: &Value) {
    let check = |holds: bool, what: &str| assert!(holds, "{what}\n{attempt}");
    let duration = attempt["duration_us"].as_f64().expect("duration_us");
    let phases = attempt["phases"].as_array().expect("phases");
    let mut last_start = 0.0;
    for phase in phases {
        let (start, end) = (time(&phase["start_us"]), time(&phase["end_us"]));
        check(start >= last_start, "phases are sorted by their start");
        check(start <= end && end <= duration + ROUNDING, "phases are ended, inside the attempt");
        last_start = start;
    }
    let of = |name: &str| phases.iter().filter(|p| p["name"] == name).collect::<Vec<_>>();
    let is_new = attempt["connection"]["outcome"] == "new";
    // A name may have several addresses; those the server does not listen on fail first.
    let mut story = Vec::new();
    if is_new {
        for name in ["dns", "connect", "tls"] {
            check(!of(name).is_empty(), "a new connection was set up");
            story.push(*of(name).last().unwrap());
        }
        check(of("get-connection").len() == 1, "one get-connection");
        let (wait, first) = (of("get-connection")[0], story[0]);
        check(time(&wait["start_us"]) <= time(&first["start_us"]) + ROUNDING, "set-up lies in get-connection");
        check(time(&story[2]["end_us"]) <= time(&wait["end_us"]) + ROUNDING, "set-up lies in get-connection");
        check(story[1]["local"] == attempt["connection"]["local"], "the connect that won is the connection");
    } else {
        check(["dns", "connect", "tls"].iter().all(|n| of(n).is_empty()), "set-up of another request is not told");
    }
    for name in ["request-write", "response-wait", "response-read"] {
        check(of(name).len() == 1, name);
        story.push(of(name)[0]);
    }
    for phase in &story {
        check(phase["error"].is_null(), "no phase of the story failed");
    }
    for pair in story.windows(2) {
        check(time(&pair[0]["end_us"]) <= time(&pair[1]["start_us"]) + ROUNDING, "one phase after the other");
    }
}

fn assert_events_lie_inside(attempt: &Value) {
    let check = |holds: bool, what: &str| assert!(holds, "{what}\n{attempt}");
    let duration = attempt["duration_us"].as_f64().expect("duration_us");
    let events = attempt["events"].as_array().expect("events");
    for event in events {
        check(time(&event["at_us"]) <= duration + ROUNDING, "events lie inside the attempt");
    }
    for name in ["first-byte", "idle-return"] {
        check(events.iter().filter(|e| e["name"] == name).count() == 1, name);
    }
    let returned = events.iter().find(|e| e["name"] == "idle-return").unwrap();
    let outcome = returned["outcome"].as_str().unwrap_or_default();
    check(["pooled", "handed_over", "shared"].contains(&outcome), "every connection is kept for the next request");
}

fn assert_hooks_pair(attempt: &Value) {
    let check = |holds: bool, what: &str| assert!(holds, "{what}\n{attempt}");
    let hooks = attempt["hooks"].as_array().expect("hooks");
    let count = |name: &str| hooks.iter().filter(|h| h["name"] == name).count();
    check(hooks.first().is_some_and(|h| h["name"] == "get_conn"), "get_conn comes first");
    for name in [
        "get_conn",
        "got_conn",
        "wrote_headers",
        "wrote_request",
        "got_first_response_byte",
        "response_done",
        "put_idle_conn",
    ] {
        check(count(name) == 1, name);
    }
    check(count("get_conn_failed") == 0, "get_conn_failed");
    for (start, done) in
        [("dns_start", "dns_done"), ("connect_start", "connect_done"), ("tls_handshake_start", "tls_handshake_done")]
    {
        // A dial that goes on after its request was served tells the rest of its story to a record that has ended.
        let is_whole = attempt["connection"]["outcome"] == "new";
        check(count(start) == count(done) || (!is_whole && count(start) > count(done)), start);
    }
}

fn time(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a time in microseconds, not {value}"))
}

fn hex(value: &Value, digits: usize) -> bool {
    value.as_str().is_some_and(|text| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Times are printed as fractions of a microsecond; two prints of one moment may differ by this much.
const ROUNDING: f64 = 0.01;

/// The judge is judged: an honest line passes, and each single lie in it is noticed.
#[test]
fn a_line_with_one_lie_is_refused() {
    let (url, honest) = ("https://localhost:8443/file", honest());
    assert_complete_and_true(&honest, url, Protocol::Http1);
    for (field, lie) in [
        ("/status", Value::Null),
        ("/url", "https://localhost:8443/".into()),
        ("/trace_id", "ABCDEF".into()),
        ("/sampled", false.into()),
        ("/protocol", "HTTP/2".into()),
        ("/tls", Value::Null),
        ("/dns", Value::Null),
        ("/response_body_bytes", 0.into()),
        ("/connection/reused", true.into()),
        ("/connection/was_idle", true.into()),
        ("/connection/request_number", 2.into()),
        ("/connection/http2_stream_id", 1.into()),
        ("/phases/1/error", "connection_refused".into()),
        ("/phases/2/end_us", 500.0.into()),
        ("/phases/4/name", "response-read".into()),
        ("/phases/6/end_us", Value::Null),
        ("/phases/6/end_us", 9_000.0.into()),
        ("/events/0/at_us", 9_000.0.into()),
        ("/events/1/outcome", "closed".into()),
        ("/hooks/1/name", "dns_done".into()),
        ("/hooks/12/name", "response_done".into()),
    ] {
        let mut line = honest.clone();
        *line.pointer_mut(field).expect(field) = lie.clone();
        let judged = std::panic::catch_unwind(|| assert_complete_and_true(&line, url, Protocol::Http1));
        assert!(judged.is_err(), "{field} = {lie} went unnoticed");
    }
}

fn honest() -> Value {
    let hooks = "get_conn dns_start dns_done connect_start connect_done tls_handshake_start tls_handshake_done got_conn \
                 wrote_headers wrote_request got_first_response_byte response_done put_idle_conn";
    let hooks: Vec<Value> = hooks.split(' ').map(|name| serde_json::json!({ "name": name, "at_us": 1.0 })).collect();
    let phase = |name: &str, start: f64, end: f64| serde_json::json!({ "name": name, "start_us": start, "end_us": end, "local": "127.0.0.1:50112", "error": null });
    serde_json::json!({
        "v": 1, "request": 1, "attempt": 1, "hop": 0, "method": "GET", "url": "https://localhost:8443/file",
        "start_unix_nanos": "1795367549000000000", "duration_us": 2310.4, "protocol": "HTTP/1.1", "status": 200,
        "error": null, "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "sampled": true,
        "connection": { "id": 1, "outcome": "new", "reused": false, "was_idle": false, "idle_us": null, "age_us": 0.0,
            "request_number": 1, "local": "127.0.0.1:50112", "peer": "127.0.0.1:8443", "http2_stream_id": null },
        "dns": { "host": "localhost", "addrs": ["127.0.0.1"], "coalesced": false },
        "tls": { "version": "1.3", "cipher": "TLS_AES_128_GCM_SHA256", "alpn": "http/1.1", "resumed": false,
            "server_name": "localhost" },
        "phases": [phase("get-connection", 3.1, 1498.0), phase("dns", 4.0, 310.9), phase("connect", 312.5, 390.2),
            phase("tls", 391.0, 1490.0), phase("request-write", 1500.0, 1600.0),
            phase("response-wait", 1600.0, 2100.0), phase("response-read", 2100.0, 2300.0)],
        "events": [{ "name": "first-byte", "at_us": 2100.0 },
            { "name": "idle-return", "at_us": 2308.8, "outcome": "pooled" }],
        "hooks": hooks, "request_body_bytes": 0, "response_body_bytes": BODY.len(), "response_outcome": "complete",
    })
}
