//! Both lanes tell the same: one client reports each attempt to two providers, of which one makes spans of the SDK and the
//! other none, and what their collectors got is compared, field by field.
//!
//! Beside that: what decides which lane is taken, that the sampler is asked alike, and what becomes of too much.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::Full;
use httptrace::{
    ClientBuilder,
    clock::TimeAnchor,
    otlp::{self, Protocol},
    timeline::{Asked, Report, Reporter, Timeline},
    views::spans::{SpanDetail, Spans},
};
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    trace::{Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{
        Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, SpanData, SpanLimits, SpanProcessor,
    },
};

use super::scene::{Lane, Otlp, hello, remote};
use crate::support::{
    around::Around,
    client::{Traced, read},
    collector::{Answer, Collector},
    origin::{Origin, Refusing},
    script::{
        Step::{Close, Gate as AtGate, ReadHead},
        write,
    },
    within,
};

/// Looks at spans, so that they have to be the SDK's.
#[derive(Debug, Clone, Default)]
pub(super) struct Onlooker(pub(super) Arc<AtomicUsize>);

impl SpanProcessor for Onlooker {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A client that reports to both.
struct Both {
    traced: Traced,
    onlooker: Onlooker,
    sdk: Otlp,
    past: Otlp,
}

impl Both {
    /// `first`: which of the two starts spans live, since only one is asked to. 0 is the SDK.
    fn new(
        first: usize,
        builder: ClientBuilder,
        detail: SpanDetail,
        settings: impl Fn(otlp::Builder) -> otlp::Builder,
    ) -> Self {
        let onlooker = Onlooker::default();
        let (sdk, provider) = Otlp::with(|builder| settings(builder).span_processor(onlooker.clone()));
        let (past, other) = Otlp::with(&settings);
        let mut spans = [provider, other].map(|provider| Spans::new(&provider).with_detail(detail));
        spans.rotate_left(first);
        let [live, after] = spans;
        Self { traced: Traced::new(builder.spans(live).reporter(Arc::new(after))), onlooker, sdk, past }
    }

    /// Calls in this context, and reads what comes.
    async fn send(&self, context: &Context, request: Request<Full<bytes::Bytes>>) {
        let response = {
            let _current = context.clone().attach();
            self.traced.client.request(request)
        };
        if let Ok(response) = within("a response", response).await {
            // Some are cut on purpose.
            let _ = read(response).await;
        }
        self.traced.log.settled().await;
    }

    /// Fails unless both collectors got the same; so many spans.
    #[track_caller]
    fn same(&self, sdk: &[Span], past: &[Span]) {
        assert_eq!(self.onlooker.0.load(Ordering::Relaxed), sdk.len(), "they were the SDK's");
        let (sdk, past) = (plain(sdk), plain(past));
        assert_eq!(sdk.keys().collect::<Vec<_>>(), past.keys().collect::<Vec<_>>());
        for (name, span) in &sdk {
            assert_eq!(span, &past[name], "{name:?}");
        }
    }

    async fn compare(&self, spans: usize) -> Vec<Span> {
        let (sdk, past) = (self.sdk.collector.spans(spans).await, self.past.collector.spans(spans).await);
        self.same(&sdk, &past);
        assert_eq!(sdk.len(), spans, "{:#?}", plain(&sdk).keys());
        past
    }
}

/// The spans by start, name and end, with the name of a parent that is here in place of its id, and no id of their own. A link
/// names the one span that was live, which is the same for both.
fn plain(spans: &[Span]) -> BTreeMap<(u64, String, u64), Span> {
    let name = |id: &[u8]| spans.iter().find(|span| span.span_id == id).map(|span| span.name.clone().into_bytes());
    let all = spans.iter().map(|span| {
        let mut plain = span.clone();
        plain.parent_span_id = name(&span.parent_span_id).unwrap_or_else(|| span.parent_span_id.clone());
        plain.span_id.clear();
        ((span.start_time_unix_nano, span.name.clone(), span.end_time_unix_nano), plain)
    });
    let all: BTreeMap<_, _> = all.collect();
    assert_eq!(all.len(), spans.len(), "two of one name at one time");
    all
}

fn request(method: &str, uri: http::Uri, body: &'static str) -> Request<Full<bytes::Bytes>> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    Request::builder().method(method).uri(uri).header("x-id", "7").body(Full::from(body)).expect("a request")
}

/// A parent with all that a parent can have.
fn parent() -> Context {
    let state: TraceState = "rojo=1,congo=t61".parse().expect("a trace state");
    let (trace, span) = (TraceId::from(0xabc), SpanId::from(0xdef));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, TraceFlags::new(0x03), true, state))
}

#[tokio::test]
async fn requests_of_all_kinds_have_the_same_spans_in_both_lanes() {
    for first in 0..2 {
        for alpn in ["http/1.1", "h2"] {
            let origin = Origin::tls_with_alpn(&[alpn]).serve(async |request: Request<hyper::body::Incoming>| {
                let status = if request.uri().path() == "/" { StatusCode::OK } else { StatusCode::NOT_FOUND };
                Response::builder().status(status).header("x-id", "8").body(Full::from("hello")).expect("a response")
            });
            let id = || [HeaderName::from_static("x-id")];
            let builder = origin.client_builder().capture_request_headers(id()).capture_response_headers(id());
            let both = Both::new(first, builder, SpanDetail::Spans, |otlp| otlp);
            both.send(&parent(), request("GET", origin.url_at("origin.test", "/"), "")).await;
            both.send(&parent(), request("POST", origin.url_at("origin.test", "/"), "four")).await;
            both.send(&parent(), request("BREW", origin.url_at("origin.test", "/none"), "")).await;
            // Eight of a cold one, and twice four.
            let spans = both.compare(16).await;
            let named = |name: &str| spans.iter().find(|span| span.name == name).expect(name);
            assert_eq!((named("GET").trace_state.as_str(), named("GET").flags), ("rojo=1,congo=t61", 0x303));
            assert_eq!((named("tls").trace_state.as_str(), named("tls").flags), ("rojo=1,congo=t61", 0x103));
            assert_eq!((named("POST").links.len(), named("HTTP").links.len()), (1, 1));
        }
    }
}

#[tokio::test]
async fn attempts_that_fail_have_the_same_spans_in_both_lanes() {
    const OK: &str = "HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const CUT: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\nhalf";
    for first in 0..2 {
        // The second is stale for the second request, which is sent again, and cut.
        let origin = Origin::plain().scripts([
            vec![ReadHead, write(OK), ReadHead, Close],
            vec![ReadHead, write(CUT), Close],
            vec![ReadHead, AtGate("never")],
        ]);
        let refusing = Refusing::new();
        let both = Both::new(first, origin.client_builder(), SpanDetail::Spans, |otlp| otlp);
        both.send(&parent(), request("GET", origin.url("/"), "")).await;
        both.send(&parent(), request("GET", origin.url("/"), "")).await;
        both.send(&parent(), request("GET", format!("http://{}/", refusing.addr()).parse().expect("a URL"), "")).await;
        let canceled = tokio::spawn(both.traced.get(origin.url("/")));
        origin.gate("never").reached().await;
        both.traced.log.wait_for("wrote_request", 4).await;
        canceled.abort();
        both.traced.timelines(5).await;
        // GET with five, GET with two, GET with five, GET with two, GET with four. The last one has a trace of its own.
        let spans = async { (both.sdk.collector.spans(23).await, both.past.collector.spans(23).await) };
        let (mut sdk, mut past) = spans.await;
        for span in sdk.iter_mut().chain(&mut past).filter(|span| span.trace_state.is_empty()) {
            span.trace_id.clear();
        }
        both.same(&sdk, &past);
        let resent = |span: &&Span| span.attributes.iter().any(|a| a.key == "http.request.resend_count");
        assert_eq!(past.iter().filter(resent).count(), 1, "it was sent again");
    }
}

#[tokio::test]
async fn limits_leave_the_same_out_in_both_lanes() {
    let limits = |attributes, events, links, of_event| SpanLimits {
        max_attributes_per_span: attributes,
        max_events_per_span: events,
        max_links_per_span: links,
        max_attributes_per_event: of_event,
        ..SpanLimits::default()
    };
    for limits in [limits(3, 1, 0, 0), limits(0, 0, 1, 1), limits(8, 2, 1, 0), limits(1, 1, 1, 1)] {
        let origin = Origin::tls().serve(hello);
        let both = Both::new(0, origin.client_builder(), SpanDetail::Spans, |otlp| otlp.span_limits(limits));
        for _ in 0..2 {
            both.send(&parent(), request("GET", origin.url_at("origin.test", "/"), "")).await;
        }
        let spans = both.compare(12).await;
        assert!(spans.iter().any(|span| span.dropped_attributes_count > 0), "{limits:?}");
    }
}

#[tokio::test]
async fn each_level_of_detail_is_the_same_in_both_lanes() {
    for (detail, spans) in [(SpanDetail::Off, 2), (SpanDetail::Attributes, 2), (SpanDetail::Spans, 12)] {
        let origin = Origin::tls().serve(hello);
        let both = Both::new(1, origin.client_builder(), detail, |otlp| otlp);
        for _ in 0..2 {
            both.send(&parent(), request("GET", origin.url_at("origin.test", "/"), "")).await;
        }
        both.compare(spans).await;
    }
}

/// Keeps what it is asked, and adds to what it samples.
#[derive(Debug, Clone, Default)]
struct Own(Arc<Mutex<Vec<Question>>>);

type Question = (TraceId, String, SpanKind, Vec<KeyValue>, usize);

impl ShouldSample for Own {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        assert!(parent.is_some_and(|parent| !parent.span().span_context().is_sampled()));
        let question = (trace, name.to_owned(), kind.clone(), attributes.to_vec(), links.len());
        self.0.lock().expect("no panic").push(question);
        let texts = Value::Array(Array::String(vec![StringValue::from("a"), StringValue::from("b")]));
        let numbers = Value::Array(Array::I64(vec![1, -1]));
        let attributes = vec![
            KeyValue::new("own.text", "x"),
            KeyValue::new("own.number", -5),
            KeyValue::new("own.real", 0.5),
            KeyValue::new("own.flag", false),
            KeyValue::new("own.texts", texts),
            KeyValue::new("own.numbers", numbers),
        ];
        let trace_state = "own=1".parse().expect("a trace state");
        SamplingResult { decision: SamplingDecision::RecordAndSample, attributes, trace_state }
    }
}

#[tokio::test]
async fn a_sampler_is_asked_the_same_and_heeded_the_same_in_both_lanes() {
    let unsampled = parent().with_remote_span_context(SpanContext::new(
        TraceId::from(0xabc),
        SpanId::from(0xdef),
        TraceFlags::NOT_SAMPLED,
        true,
        TraceState::NONE,
    ));
    for (context, has_parent) in [(Context::new(), false), (unsampled, true)] {
        let asked: [Own; 2] = Default::default();
        let turn = Mutex::new(asked.iter());
        let settings = |otlp: otlp::Builder| {
            let own = turn.lock().expect("no panic").next().expect("two providers").clone();
            otlp.sampler(Sampler::parent_based(own.clone()).with_remote_parent_not_sampled(own))
        };
        let origin = Origin::plain().serve(hello);
        let both = Both::new(0, origin.client_builder(), SpanDetail::Spans, settings);
        both.send(&context, request("GET", origin.url("/"), "")).await;
        let (mut sdk, mut past) = (both.sdk.collector.spans(6).await, both.past.collector.spans(6).await);
        let mut questions = asked.map(|own| own.0.lock().expect("no panic").clone());
        assert_eq!((questions[0].len(), questions[1].len()), (1, 1), "once, and not of children");
        if !has_parent {
            // Each has a trace of its own.
            sdk.iter_mut().chain(&mut past).for_each(|span| span.trace_id.clear());
            questions.iter_mut().for_each(|all| all[0].0 = TraceId::INVALID);
        }
        assert_eq!(questions[0], questions[1]);
        assert_eq!(questions[0][0].3.is_empty(), has_parent, "what is asked with");
        both.same(&sdk, &past);
        let client = past.iter().find(|span| span.name == "GET").expect("a CLIENT span");
        assert_eq!(client.trace_state, "own=1");
        assert_eq!(client.attributes.iter().filter(|attribute| attribute.key.starts_with("own.")).count(), 6);
    }
}

#[tokio::test]
async fn a_part_of_the_traces_is_the_part_that_the_header_says() {
    let own_trace = || Context::new();
    for (ratio, all, none) in [(0.0, false, true), (0.5, false, false), (1.0, true, false)] {
        let origin = Origin::plain().serve(hello);
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let (lane, provider) = Otlp::with(|otlp| otlp.sampler(sampler.clone()));
        let traced = Traced::new(origin.client_builder().tracer_provider(&provider));
        for _ in 0..64 {
            let _current = own_trace().attach();
            let response = traced.get(origin.url("/"));
            drop(_current);
            read(response.await.expect("a response")).await.expect("a body");
        }
        traced.log.settled().await;
        let sent = origin.record().requests;
        let sampled = sent.iter().filter(|request| request.traceparent().is_some_and(|value| value.ends_with("-01")));
        let sampled = sampled.count();
        assert_eq!((sampled == 64, sampled == 0), (all, none), "{sampled} of 64 at {ratio}");
        flush(&provider).await;
        assert_eq!(lane.decoded().iter().filter(|span| span.name == "GET").count(), sampled, "at {ratio}");
    }
}

#[tokio::test]
async fn below_an_unsampled_parent_nothing_is_made_past_the_sdk_either() {
    let origin = Origin::plain().serve(hello);
    let (lane, provider) = Otlp::with(|otlp| otlp);
    let traced = Traced::new(origin.client_builder().tracer_provider(&provider));
    let response = {
        let _current = remote(false).attach();
        traced.get(origin.url("/"))
    };
    read(response.await.expect("a response")).await.expect("a body");
    traced.log.settled().await;
    flush(&provider).await;
    assert_eq!(lane.count(), 0);
}

async fn flush(provider: &SdkTracerProvider) {
    let provider = provider.clone();
    tokio::task::spawn_blocking(move || provider.force_flush()).await.expect("a wait").expect("a flush");
}

#[tokio::test]
async fn a_tracer_of_the_applications_own_makes_its_own_spans() {
    let origin = Origin::plain().serve(hello);
    let (lane, provider) = Otlp::with(|otlp| otlp);
    let traced = Traced::new(origin.client_builder().tracer_provider(&Around(provider)));
    traced.read(origin.url("/")).await.expect("a response");
    let spans = lane.spans(6).await;
    for span in &spans {
        assert!(span.attributes.iter().any(|attribute| attribute.key.as_str() == "added"), "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_place_is_dropped_counted_and_told() {
    let origin = Origin::plain().serve(hello);
    let collector = Collector::http();
    collector.answer(Answer::Hang);
    let guard = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf).metrics(false);
    let guard = guard.set_globals(false).timeout(Duration::from_secs(2)).batch_queue(4).init().expect("telemetry");
    let traced = Traced::new(origin.client_builder().tracer_provider(guard.tracer_provider()));
    let get = async |requests: usize| {
        for _ in 0..requests {
            traced.read(origin.url("/")).await.expect("a response");
            traced.log.settled().await;
        }
    };
    get(1).await;
    collector.exports(1).await;
    assert_eq!(guard.dropped_spans(), 0);
    get(7).await;
    assert_eq!(guard.dropped_spans(), 3 * 4, "four wait");
    collector.answer(Answer::Accept);
    let ended = guard.shutdown_async().await;
    assert_eq!(ended.exported_spans + ended.dropped_spans, 6 + 7 * 4, "{ended}");
    assert!(ended.dropped_spans >= 3 * 4, "{ended}");
    let told: Vec<_> = ended.problems.iter().filter(|line| line.contains("OTEL_BSP_MAX_QUEUE_SIZE")).collect();
    assert_eq!(told.len(), 1, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_waits_at_the_deadline_is_counted() {
    let origin = Origin::plain().serve(hello);
    let collector = Collector::http();
    collector.answer(Answer::Hang);
    let guard = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf).metrics(false);
    let guard =
        guard.set_globals(false).timeout(Duration::from_millis(600)).batch_queue(128).init().expect("telemetry");
    let traced = Traced::new(origin.client_builder().tracer_provider(guard.tracer_provider()));
    // More than are taken from the queue at once: while that hangs, the deadline comes.
    for request in 0..81 {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
        if request == 0 {
            collector.exports(1).await;
        }
    }
    let ended = guard.shutdown_async().await;
    assert_eq!((ended.exported_spans, ended.dropped_spans), (0, 6 + 80 * 4), "{ended}");
}

/// Sees each attempt's record, and keeps none.
#[derive(Debug, Clone, Default)]
struct Weakly(Arc<Mutex<Vec<Weak<Timeline>>>>);

impl Weakly {
    fn alive(&self) -> usize {
        let records = self.0.lock().expect("not poisoned");
        records.iter().filter(|record| record.strong_count() > 0).count()
    }
}

impl Reporter for Weakly {
    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }
}

impl Report for Weakly {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        self.0.lock().expect("not poisoned").push(Arc::downgrade(timeline));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_is_let_go_of_at_the_latest_when_nothing_more_comes() {
    let origin = Origin::plain().serve(hello);
    let collector = Collector::http();
    let guard = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf).metrics(false);
    let guard = guard.set_globals(false).batch_delay(Duration::from_secs(3600)).init().expect("telemetry");
    let records = Weakly::default();
    let builder = origin.client_builder().tracer_provider(guard.tracer_provider());
    let traced = Traced::new(builder.reporter(Arc::new(records.clone())));
    let rounds = 5;
    for _ in 0..rounds {
        for _ in 0..10 {
            traced.read(origin.url("/")).await.expect("a response");
            traced.log.settled().await;
        }
        flush(guard.tracer_provider()).await;
    }
    // Nothing came since: the next look finds the queue empty.
    flush(guard.tracer_provider()).await;
    let gone = async {
        while records.alive() > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the last record", gone).await;
    let ended = guard.shutdown_async().await;
    assert_eq!((ended.exported_spans, ended.dropped_spans), (6 + (10 * rounds - 1) * 4, 0), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_waits_for_what_was_over_before_it_and_after_the_end_there_is_nothing() {
    let origin = Origin::plain().serve(hello);
    let collector = Collector::http();
    let guard = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf).metrics(false);
    let guard = guard.set_globals(false).batch_delay(Duration::from_secs(3600)).init().expect("telemetry");
    let traced = Traced::new(origin.client_builder().tracer_provider(guard.tracer_provider()));
    let get = async || {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
    };
    get().await;
    flush(guard.tracer_provider()).await;
    assert_eq!(collector.spans(6).await.len(), 6);
    get().await;
    let ended = guard.shutdown_async().await;
    assert!(ended.is_complete() && ended.exported_spans == 10, "{ended}");
    get().await;
    let sent: Vec<_> = origin.record().requests.iter().map(|sent| sent.traceparent().is_some()).collect();
    assert_eq!(sent, [true, true, false]);
    assert_eq!(collector.spans(10).await.len(), 10);
}
