//! The tree that is drawn of an attempt, read from an in-memory exporter.

use opentelemetry::{
    KeyValue, Value,
    trace::{SpanId, Status, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};

use super::*;
use crate::{
    error::{Error, Kind},
    hooks::*,
    phase::Phase,
    redact::Hidden,
    timeline::{DialOutcome, DialRecorder},
    views::script::{self, Attempt},
};

struct Exported {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
    spans: Spans,
}

fn exported(sampler: Sampler) -> Exported {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(exporter.clone()).build();
    let spans = Spans::new(&provider);
    Exported { provider, exporter, spans }
}

impl Exported {
    fn send(&self) -> Attempt {
        script::get().send(&[&self.spans])
    }

    fn all(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// The only span of this name.
    fn span(&self, name: &str) -> SpanData {
        let mut all: Vec<_> = self.all().into_iter().filter(|span| span.name == name).collect();
        assert_eq!(all.len(), 1, "one {name} of {:#?}", self.names());
        all.remove(0)
    }

    fn names(&self) -> Vec<String> {
        self.all().into_iter().map(|span| span.name.into_owned()).collect()
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    let mut found = span.attributes.iter().filter(|attribute| attribute.key.as_str() == key);
    let value = found.next().map(|attribute| attribute.value.clone());
    assert!(found.next().is_none(), "{key} once on {}", span.name);
    value
}

fn text(span: &SpanData, key: &str) -> String {
    attribute(span, key).map(|value| value.as_str().into_owned()).unwrap_or_default()
}

fn events(span: &SpanData) -> Vec<&str> {
    span.events.iter().map(|event| &*event.name).collect()
}

/// With so much detail.
fn detailed(detail: SpanDetail) -> Exported {
    let all = exported(Sampler::AlwaysOn);
    Exported { spans: all.spans.with_detail(detail), ..all }
}

fn cold(attempt: &Attempt) {
    attempt.get_conn().dials();
    attempt.dns(None).connect(1, None).tls().got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(200);
}

#[test]
fn a_cold_request_is_one_tree_without_gaps() {
    let exported = exported(Sampler::AlwaysOn);
    cold(&exported.send());
    let client = exported.span("GET");
    let wait = exported.span("get-connection");
    for child in ["get-connection", "request-write", "response-wait", "response-read"] {
        assert_eq!(exported.span(child).parent_span_id, client.span_context.span_id(), "{child}");
    }
    for step in ["dns", "connect", "tls"] {
        assert_eq!(exported.span(step).parent_span_id, wait.span_context.span_id(), "{step}");
    }
    assert_eq!(exported.all().len(), 8);
    for span in exported.all() {
        assert_eq!(span.status, Status::Unset);
        assert_eq!(span.span_context.trace_id(), client.span_context.trace_id());
        assert!(span.start_time >= client.start_time && span.end_time <= client.end_time && span.links.is_empty());
        assert_eq!(span.span_kind, if span.name == "GET" { SpanKind::Client } else { SpanKind::Internal });
    }
    let (write, read) = (exported.span("request-write"), exported.span("response-read"));
    assert_eq!(write.end_time, exported.span("response-wait").start_time);
    assert_eq!(read.start_time, exported.span("response-wait").end_time);
    assert_eq!(client.end_time.duration_since(client.start_time).unwrap().as_millis(), 32);
}

// mutants: src/views/spans/tree.rs: SHORTEST of 0 · src/views/spans.rs: `last` left out of the end
#[test]
fn a_span_of_one_moment_has_a_length_and_lies_in_its_parent() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None).writes();
    // One read of the socket brought all of it, and the connection was ready as it ended.
    let (at, recorder) = (attempt.at(30), attempt.recorder());
    recorder.got_first_response_byte(&GotFirstResponseByteInfo { at });
    recorder.response_done(&ResponseDoneInfo {
        at,
        outcome: ResponseOutcome::Complete,
        status: Some(http::StatusCode::OK),
        version: None,
        headers: None,
        first_byte: Some(at),
        body_bytes: 5,
        stream_id: None,
        detail_lost: false,
        facts: None,
        error: None,
    });
    recorder.put_idle_conn(&PutIdleConnInfo { at, outcome: IdleReturn::Pooled });
    let (client, read) = (exported.span("GET"), exported.span("response-read"));
    assert!(read.end_time > read.start_time && read.end_time <= client.end_time, "{read:#?}\n{client:#?}");
}

// mutants: src/views/spans/tree.rs: `set_apart` leaves the starts · leaves the wait's end
#[test]
fn siblings_of_one_moment_start_in_microseconds_of_their_own_and_in_their_order() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().dials();
    let (at, recorder) = (attempt.at(1), attempt.recorder());
    recorder.dns_start(&DnsStartInfo { at, host: "example.com" });
    recorder.dns_done(&DnsDoneInfo { at, addrs: &[], error: None, coalesced: false, facts: None });
    for attempt in 1..=3 {
        recorder.connect_start(&ConnectStartInfo { at, addr: None, attempt });
        recorder.connect_done(&ConnectDoneInfo {
            at,
            addr: None,
            attempt,
            local: None,
            socket_cookie: None,
            error: None,
        });
    }
    recorder.get_conn_failed(&GetConnFailedInfo { at, error: &Error::timeout(Phase::Connect), wait: None });
    recorder.response_done(&ResponseDoneInfo {
        at,
        outcome: ResponseOutcome::Failed,
        status: None,
        version: None,
        headers: None,
        first_byte: None,
        body_bytes: 0,
        stream_id: None,
        detail_lost: false,
        facts: None,
        error: None,
    });
    let micros = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let wait = exported.span("get-connection");
    let mut steps: Vec<_> =
        exported.all().into_iter().filter(|s| s.parent_span_id == wait.span_context.span_id()).collect();
    steps.sort_by_key(|step| step.start_time);
    let shown: Vec<String> = steps.iter().map(|s| format!("{}{}", s.name, text(s, semconv::CONNECT_ATTEMPT))).collect();
    assert_eq!(shown, ["dns", "connect1", "connect2", "connect3"]);
    let starts: Vec<u128> = steps.iter().map(|step| micros(step.start_time)).collect();
    let first = starts[0];
    assert_eq!(starts, [first, first + 1, first + 2, first + 3], "no further than needed");
    assert_eq!(steps[0].start_time, wait.start_time + std::time::Duration::from_millis(1), "the first is where it was");
    let client = exported.span("GET");
    assert!(steps.iter().all(|step| step.end_time > step.start_time && step.end_time <= wait.end_time));
    assert!(wait.end_time <= client.end_time, "{wait:#?}\n{client:#?}");
}

#[test]
fn every_span_has_its_own_attributes_and_events() {
    let exported = exported(Sampler::AlwaysOn);
    cold(&exported.send());
    let mut client: Vec<_> =
        exported.span("GET").attributes.iter().map(|a| format!("{}={}", a.key, a.value.as_str())).collect();
    client.sort();
    assert_eq!(
        client,
        [
            "http.request.method=GET",
            "http.response.status_code=200",
            "httptrace.connection.age=0",
            "httptrace.connection.id=7",
            "httptrace.connection.outcome=new",
            "httptrace.connection.request_number=1",
            "httptrace.connection.reused=false",
            "httptrace.connection.was_idle=false",
            "network.peer.address=127.0.0.1",
            "network.peer.port=8443",
            "network.protocol.version=1.1",
            "server.address=example.com",
            "server.port=443",
            "url.full=https://example.com/a",
        ]
    );
    assert_eq!(events(&exported.span("GET")), ["first-byte", "idle-return"]);
    assert_eq!(events(&exported.span("request-write")), ["wrote-headers"]);
    let returned = exported.span("GET").events.events[1].clone();
    assert_eq!(returned.attributes, [KeyValue::new(semconv::IDLE_RETURN_OUTCOME, "pooled")]);
    assert_eq!(text(&exported.span("get-connection"), semconv::WAIT_CAUSE), "dial");
    assert_eq!(text(&exported.span("dns"), semconv::DNS_QUESTION_NAME), "example.com");
    assert_eq!(text(&exported.span("dns"), semconv::DNS_ANSWERS), "[\"127.0.0.1\"]");
    assert_eq!(text(&exported.span("connect"), semconv::NETWORK_TYPE), "ipv4");
    assert_eq!(text(&exported.span("tls"), semconv::TLS_SERVER_NOT_AFTER), "1970-01-01T00:00:00Z");
    assert_eq!(text(&exported.span("request-write"), semconv::HTTP_REQUEST_BODY_SIZE), "3");
    assert_eq!(text(&exported.span("response-read"), semconv::RESPONSE_OUTCOME), "complete");
}

#[test]
fn a_reused_connection_has_no_setup_but_a_link_to_it() {
    let exported = exported(Sampler::AlwaysOn);
    let setup = TraceRef { trace_id: 5, span_id: 6, sampled: true };
    exported.send().get_conn().got_conn(ConnOutcome::Idle, None, Some(setup)).completes(200);
    assert_eq!(exported.names(), ["request-write", "response-wait", "response-read", "GET"]);
    let client = exported.span("GET");
    assert_eq!(trace_ref(&client.links.links[0].span_context), setup);
    assert_eq!(attribute(&client, semconv::CONNECTION_IDLE_TIME), Some(Value::F64(1.5)));
    assert_eq!(attribute(&client, semconv::CONNECTION_REUSED), Some(Value::Bool(true)));
    exported.exporter.reset();
    let unsampled = TraceRef { sampled: false, ..setup };
    exported.send().get_conn().got_conn(ConnOutcome::Shared, None, Some(unsampled)).completes(200);
    assert!(exported.span("GET").links.is_empty());
}

#[test]
fn the_live_wait_is_the_span_that_others_link_to() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    let trace = attempt.get_conn().dials();
    attempt.got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(204);
    assert_eq!(trace, Some(trace_ref(&exported.span("get-connection").span_context)));
}

#[test]
fn an_error_is_on_the_phase_that_died_and_above_each_once() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().dials();
    let refused = Error::new(Kind::ConnectionRefused, Phase::Connect);
    attempt.dns(None).connect(1, Some(&refused)).no_conn(&refused, Some(WaitCause::Dial));
    for name in ["connect", "get-connection", "GET"] {
        let span = exported.span(name);
        assert_eq!(text(&span, semconv::ERROR_TYPE), "connection_refused", "{name}");
        assert_eq!(span.status, Status::error("connect: connection refused"), "{name}");
    }
    assert_eq!(exported.span("dns").status, Status::Unset);
    assert_eq!(text(&exported.span("dns"), semconv::ERROR_TYPE), "");
    assert_eq!(exported.all().len(), 4);
}

#[test]
fn a_try_that_was_followed_by_success_marks_only_its_own_span() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    let refused = Error::new(Kind::ConnectionRefused, Phase::Connect);
    attempt.get_conn().dns(None).connect(1, Some(&refused)).connect(2, None);
    attempt.got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(200);
    let failed: Vec<_> = exported.all().into_iter().filter(|span| span.status != Status::Unset).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(attribute(&failed[0], semconv::CONNECT_ATTEMPT), Some(Value::I64(1)));
    assert_eq!(text(&exported.span("GET"), semconv::ERROR_TYPE), "");
}

#[test]
fn a_canceled_request_has_a_type_and_no_status() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None).writes();
    let canceled = Error::canceled(Phase::ResponseWait);
    attempt.responds(None, ResponseOutcome::Failed, Some(&canceled)).returns(IdleReturn::Closed(CloseReason::Canceled));
    for name in ["response-wait", "GET"] {
        assert_eq!(text(&exported.span(name), semconv::ERROR_TYPE), "canceled");
        assert_eq!(exported.span(name).status, Status::Unset);
    }
    let returned = &exported.span("GET").events.events[0].attributes;
    assert!(returned.contains(&KeyValue::new(semconv::IDLE_RETURN_REASON, "canceled")));
}

#[test]
fn a_status_code_is_an_error_of_the_client_span_alone() {
    let exported = exported(Sampler::AlwaysOn);
    exported.send().get_conn().got_conn(ConnOutcome::Idle, None, None).completes(404);
    let client = exported.span("GET");
    assert_eq!(text(&client, semconv::ERROR_TYPE), "404");
    assert_eq!(client.status, Status::error(""));
    assert_eq!(exported.all().iter().filter(|span| span.status != Status::Unset).count(), 1);
}

#[test]
fn a_failed_exchange_wins_over_its_status_code() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    let cut = Error::new(Kind::BodyIncomplete, Phase::ResponseRead);
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None).writes();
    attempt.responds(Some(500), ResponseOutcome::Failed, Some(&cut)).returns(IdleReturn::Closed(CloseReason::IoError));
    for name in ["response-read", "GET"] {
        assert_eq!(text(&exported.span(name), semconv::ERROR_TYPE), "body_incomplete");
    }
}

#[test]
fn a_body_dropped_by_the_application_is_no_error() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None).writes();
    let closed = IdleReturn::Closed(CloseReason::BodyIncomplete);
    attempt.responds(Some(200), ResponseOutcome::Dropped, None).returns(closed);
    assert!(exported.all().iter().all(|span| span.status == Status::Unset));
    assert_eq!(text(&exported.span("response-read"), semconv::RESPONSE_OUTCOME), "dropped");
}

#[test]
fn traceparent_carries_the_client_spans_own_ids() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    cold(&attempt);
    let client = exported.span("GET").span_context;
    let expected = format!("00-{}-{}-01", client.trace_id(), client.span_id());
    assert_eq!(attempt.headers["traceparent"], *expected);
    assert_eq!(attempt.reports[0].trace(), Some(trace_ref(&client)));
}

#[test]
fn a_retry_is_a_sibling_under_the_same_parent() {
    let exported = exported(Sampler::AlwaysOn);
    let caller = exported.provider.tracer("app").start("caller");
    let (trace, parent) = (caller.span_context().trace_id(), caller.span_context().span_id());
    let first = {
        let _guard = Context::current_with_span(caller).attach();
        exported.send()
    };
    assert_eq!(exported.names(), ["caller"], "the attempt does not keep its caller's span open");
    exported.exporter.reset();
    let stale = Error::new(Kind::ConnectionClosed, Phase::ResponseWait);
    first.get_conn().got_conn(ConnOutcome::Idle, None, None).writes();
    first.responds(None, ResponseOutcome::Failed, Some(&stale)).returns(IdleReturn::Closed(CloseReason::PeerClosed));
    let second = first.again();
    assert_ne!(first.headers["traceparent"], second.headers["traceparent"]);
    cold(&second);
    let clients: Vec<_> = exported.all().into_iter().filter(|span| span.name == "GET").collect();
    assert_eq!(clients.len(), 2);
    for client in &clients {
        assert_eq!((client.span_context.trace_id(), client.parent_span_id), (trace, parent));
    }
    assert_eq!(attribute(&clients[0], semconv::HTTP_REQUEST_RESEND_COUNT), None);
    assert_eq!(attribute(&clients[1], semconv::HTTP_REQUEST_RESEND_COUNT), Some(Value::I64(1)));
}

#[test]
fn an_unsampled_attempt_builds_nothing_but_its_traceparent() {
    let exported = exported(Sampler::AlwaysOff);
    let attempt = exported.send();
    assert!(attempt.headers["traceparent"].to_str().unwrap().ends_with("-00"));
    let trace = attempt.reports[0].trace().unwrap();
    assert!(!trace.sampled && !attempt.reports[0].records());
    assert_eq!(attempt.get_conn().dials(), None);
    let second = attempt.again();
    assert_ne!(second.headers["traceparent"], attempt.headers["traceparent"]);
    cold(&second);
    assert!(exported.all().is_empty());
}

#[test]
fn a_dial_that_ends_without_its_request_tells_its_own_story() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    let dial = DialRecorder::new(&attempt.info);
    let info = crate::hooks::DnsStartInfo { at: attempt.at(1), host: "example.com" };
    crate::hooks::ClientTrace::dns_start(&dial, &info);
    attempt.get_conn().dials();
    attempt.got_conn(ConnOutcome::Idle, Some(WaitCause::Dial), None).completes(200);
    let record = dial.record(attempt.at(50), None).unwrap();
    let pending = attempt.reports[0].background_dial(&record).unwrap();
    (pending.finish)(DialOutcome::Pooled);
    let (client, dial) = (exported.span("GET"), exported.span("background-dial"));
    assert_eq!(pending.trace, Some(trace_ref(&dial.span_context)));
    assert_eq!(dial.parent_span_id, client.span_context.span_id());
    assert_eq!(exported.span("dns").parent_span_id, dial.span_context.span_id());
    assert_eq!(text(&dial, semconv::DIAL_OUTCOME), "pooled");
    assert_eq!(dial.end_time.duration_since(client.start_time).unwrap().as_millis(), 50);
}

#[test]
fn without_an_exporter_only_a_valid_parent_is_passed_on() {
    let provider = opentelemetry::trace::noop::NoopTracerProvider::new();
    let spans = Spans::new(&provider);
    let alone = script::get().send(&[&spans]);
    assert!(alone.reports.is_empty() && alone.headers.is_empty() && !spans.is_listening());
    let parent = SpanContext::new(TraceId::from(1), SpanId::from(2), TraceFlags::SAMPLED, true, TraceState::NONE);
    let _guard = Context::new().with_remote_span_context(parent).attach();
    assert!(spans.is_listening());
    let below = script::get().send(&[&spans]);
    assert!(below.reports.is_empty());
    assert_eq!(below.headers["traceparent"], "00-00000000000000000000000000000001-0000000000000002-01");
}

#[test]
fn a_suppressed_scope_is_left_alone() {
    let exported = exported(Sampler::AlwaysOn);
    let _guard = Context::enter_telemetry_suppressed_scope();
    let attempt = exported.send();
    assert!(attempt.reports.is_empty() && attempt.headers.is_empty() && !exported.spans.is_listening());
    drop(_guard);
    assert!(exported.spans.is_listening());
}

#[test]
fn two_connects_are_two_spans_with_their_own_facts_in_whatever_order_they_begin_and_end() {
    let addrs: [std::net::SocketAddr; 2] = ["192.0.2.1:8443".parse().unwrap(), "[2001:db8::1]:8443".parse().unwrap()];
    // Each address twice: the first time it begins, the second time it ends.
    for order in [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]] {
        let exported = exported(Sampler::AlwaysOn);
        let attempt = exported.send();
        attempt.get_conn().dials();
        let mut times = [[0; 2]; 2];
        let mut begun = [false; 2];
        for (ms, which) in (1..).zip(order) {
            let (at, addr, number) = (attempt.at(ms), addrs[which], u32::try_from(which + 1).unwrap());
            if begun[which] {
                let error = (which == 1).then(|| Error::canceled(Phase::Connect));
                let info = ConnectDoneInfo {
                    at,
                    addr: Some(addr),
                    attempt: number,
                    local: None,
                    socket_cookie: None,
                    error: error.as_ref(),
                };
                attempt.recorder().connect_done(&info);
            } else {
                attempt.recorder().connect_start(&ConnectStartInfo { at, addr: Some(addr), attempt: number });
            }
            times[which][usize::from(begun[which])] = ms;
            begun[which] = true;
        }
        attempt.got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(200);
        let wait = exported.span("get-connection").span_context.span_id();
        let connects: Vec<_> = exported.all().into_iter().filter(|span| span.name == "connect").collect();
        assert_eq!(connects.len(), 2, "{order:?}");
        for (which, addr) in addrs.iter().enumerate() {
            let number = Value::from(i64::try_from(which + 1).unwrap());
            let own: Vec<_> = connects
                .iter()
                .filter(|span| attribute(span, semconv::CONNECT_ATTEMPT) == Some(number.clone()))
                .collect();
            let [span] = own[..] else { panic!("{order:?}: one of each") };
            assert_eq!(text(span, semconv::NETWORK_PEER_ADDRESS), addr.ip().to_string());
            assert_eq!(text(span, semconv::NETWORK_TYPE), if addr.is_ipv4() { "ipv4" } else { "ipv6" });
            assert_eq!(span.parent_span_id, wait);
            assert_eq!(text(span, semconv::ERROR_TYPE), if which == 1 { "canceled" } else { "" });
            let anchor = exported.span("GET").start_time;
            let told = [span.start_time, span.end_time].map(|time| time.duration_since(anchor).unwrap().as_millis());
            assert_eq!(told, times[which].map(u128::from), "{order:?}");
        }
    }
}

#[test]
fn an_end_without_a_start_makes_no_span_and_harms_nothing() {
    let exported = exported(Sampler::AlwaysOn);
    let attempt = exported.send();
    attempt.get_conn().dials();
    let (at, hooks) = (attempt.at(1), attempt.recorder());
    hooks.dns_done(&DnsDoneInfo { at, addrs: &[], error: None, coalesced: false, facts: None });
    let addr = Some("192.0.2.1:8443".parse().unwrap());
    hooks.connect_done(&ConnectDoneInfo { at, addr, attempt: 1, local: None, socket_cookie: None, error: None });
    hooks.tls_handshake_done(&TlsHandshakeDoneInfo { at, tls: None, error: None });
    hooks.tunnel_done(&TunnelDoneInfo { at, status: None, error: None });
    attempt.dns(None).connect(1, None).tls().got_conn(ConnOutcome::New, Some(WaitCause::Dial), None);
    // Nor do interim responses and waits with nothing open.
    hooks.got_100_continue(&Got100ContinueInfo { at });
    hooks.wait_100_continue(&Wait100ContinueInfo { at });
    let headers = http::HeaderMap::new();
    let status = http::StatusCode::EARLY_HINTS;
    hooks.got_1xx_response(&Got1xxResponseInfo { at, status, headers: Hidden::new(&headers) });
    attempt.completes(200);
    assert_eq!(exported.all().len(), 8, "{:?}", exported.names());
}

#[test]
fn an_unknown_method_is_named_http() {
    let exported = exported(Sampler::AlwaysOn);
    let mut ask = script::get();
    ask.method = http::Method::from_bytes(b"BREW").unwrap();
    let attempt = ask.send(&[&exported.spans]);
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None).completes(200);
    let client = exported.span("HTTP");
    assert_eq!(text(&client, semconv::HTTP_REQUEST_METHOD), "_OTHER");
    assert_eq!(text(&client, semconv::HTTP_REQUEST_METHOD_ORIGINAL), "BREW");
}

#[test]
fn the_scope_names_this_crate_its_version_and_the_schema() {
    let scope = scope();
    assert_eq!((scope.name(), scope.version()), ("httptrace", Some(env!("CARGO_PKG_VERSION"))));
    assert_eq!(scope.schema_url(), Some("https://opentelemetry.io/schemas/1.42.0"));
}

#[test]
fn a_propagator_that_is_set_takes_over() {
    #[derive(Debug)]
    struct Own;
    impl TextMapPropagator for Own {
        fn inject_context(&self, context: &Context, injector: &mut dyn opentelemetry::propagation::Injector) {
            injector.set("x-span", context.span().span_context().span_id().to_string());
        }
        fn extract_with_context(&self, context: &Context, _: &dyn opentelemetry::propagation::Extractor) -> Context {
            context.clone()
        }
        fn fields(&self) -> opentelemetry::propagation::text_map_propagator::FieldIter<'_> {
            opentelemetry::propagation::text_map_propagator::FieldIter::new(&[])
        }
    }
    let exported = exported(Sampler::AlwaysOn);
    let spans = exported.spans.clone().with_propagator(Box::new(Own));
    let attempt = script::get().send(&[&spans]);
    cold(&attempt);
    assert_eq!(attempt.headers.len(), 1);
    assert_eq!(attempt.headers["x-span"], *exported.span("GET").span_context.span_id().to_string());
}

// mutants: src/views/spans/detail.rs: `end` of the first of a name · the start from the Unix epoch · no `parent` asked
#[test]
fn phases_are_attributes_in_seconds_from_the_start_of_the_attempt() {
    let exported = detailed(SpanDetail::Attributes);
    let attempt = exported.send();
    attempt.get_conn();
    assert_eq!(attempt.dials(), None, "nobody can link to what is not shown");
    attempt.dns(None).connect(1, Some(&Error::canceled(Phase::Connect)));
    // One more address, later, and longer.
    let (recorder, addr) = (attempt.recorder(), None);
    recorder.connect_start(&ConnectStartInfo { at: attempt.at(4), addr, attempt: 2 });
    recorder.connect_done(&ConnectDoneInfo {
        at: attempt.at(5),
        addr,
        attempt: 2,
        local: None,
        socket_cookie: None,
        error: None,
    });
    attempt.tls().got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(200);
    assert_eq!(exported.names(), ["GET"]);
    let client = exported.span("GET");
    for (phase, start, duration) in [
        ("get_connection", 0, 7),
        ("dns", 1, 1),
        ("connect", 3, 2),
        ("tls", 5, 1),
        ("request_write", 8, 2),
        ("response_wait", 10, 10),
        ("response_read", 20, 10),
    ] {
        let ms = |what: &str| match attribute(&client, &format!("httptrace.{phase}.{what}")) {
            Some(Value::F64(seconds)) => (seconds * 1e3).round() as u64,
            other => panic!("{phase} {what}: {other:?}"),
        };
        assert_eq!((ms("start"), ms("duration")), (start, duration), "{phase}");
    }
    assert_eq!(text(&client, semconv::WAIT_CAUSE), "dial");
    assert_eq!(text(&client, semconv::RESPONSE_OUTCOME), "complete");
    assert_eq!((attribute(&client, semconv::DNS_QUESTION_NAME), attribute(&client, semconv::TLS_CIPHER)), (None, None));
    assert_eq!(
        client.end_time.duration_since(client.start_time).unwrap().as_millis(),
        32,
        "to the connection's return"
    );
}

// mutants: src/views/spans/detail.rs: `>=` for `>` · `end` for `response_end`
#[test]
fn slow_is_what_takes_longer_than_the_limit_to_its_last_byte() {
    let ms = std::time::Duration::from_millis;
    for (limit, children) in [(29, 3), (30, 0), (31, 0), (32, 0)] {
        let exported = detailed(SpanDetail::SpansFor(SpanCases::default().slower_than(ms(limit))));
        exported.send().get_conn().got_conn(ConnOutcome::Idle, None, None).completes(200);
        assert_eq!(exported.all().len(), 1 + children, "{limit} ms of 30");
    }
}

// mutants: src/views/spans/detail.rs: `dialled` not asked
#[test]
fn an_attempt_that_dialled_has_spans_though_it_got_another_connection() {
    let exported = detailed(SpanDetail::SpansFor(SpanCases::default().new_connection()));
    let attempt = exported.send();
    let trace = attempt.get_conn().dials();
    attempt.got_conn(ConnOutcome::Idle, Some(WaitCause::Dial), None).completes(200);
    assert_eq!(trace, Some(trace_ref(&exported.span("get-connection").span_context)));
    assert_eq!(exported.all().len(), 5);
    exported.exporter.reset();
    exported.send().get_conn().got_conn(ConnOutcome::HandedOver, Some(WaitCause::OtherDial), None).completes(200);
    assert_eq!(exported.names(), ["GET"], "it waited for another's dial");
}
