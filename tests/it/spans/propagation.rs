//! Whose child a request's span is, and what the origin hears of it.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Empty;
use httptrace::views::spans::Spans;
use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{SpanId, TraceContextExt, TraceId, TracerProvider},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Instrument, instrument::WithSubscriber};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

use super::scene::{Scene, hello, remote, traceparent};
use crate::support::{
    client::{Traced, read},
    origin::Origin,
    spans::ExpectedSpan,
};

#[tokio::test]
async fn the_origin_is_told_the_client_span_in_place_of_what_was_there() {
    for (origin, prior_knowledge) in
        [(Origin::plain().serve(hello), false), (Origin::plain().http2().serve(hello), true)]
    {
        let builder = origin.client_builder();
        let scene = Scene::new(if prior_knowledge { builder.http2_prior_knowledge() } else { builder });
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = origin.url("/");
        request.headers_mut().insert("traceparent", HeaderValue::from_static("mine"));
        request.headers_mut().insert("tracestate", HeaderValue::from_static("old=1"));
        let baggage = remote(true).with_baggage([KeyValue::new("user", "zoë")]);
        let response = {
            let _current = baggage.attach();
            scene.traced.client.request(request)
        };
        read(response.await.expect("a response")).await.expect("a body");
        let spans = scene.spans(1, 6).await;
        let client = spans.only("GET");
        assert!(client.parent_span_is_remote);
        assert_eq!(client.parent_span_id, SpanId::from(0xdef));
        assert_eq!(client.span_context.trace_id(), TraceId::from(0xabc));
        let headers = &origin.record().requests[0].headers;
        let sent: Vec<_> = headers.get_all("traceparent").iter().collect();
        assert_eq!(sent, [&*traceparent(&client.span_context)]);
        assert!(headers.get("tracestate").is_none(), "another trace's");
        assert_eq!(headers["baggage"], "user=zo%C3%AB");
    }
}

#[tokio::test]
async fn an_unsampled_parent_has_no_spans_made_but_is_passed_on() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    for context in [remote(false), remote(true)] {
        let response = {
            let _current = context.attach();
            scene.traced.get(origin.url("/"))
        };
        read(response.await.expect("a response")).await.expect("a body");
        scene.traced.log.settled().await;
    }
    // Only the second one's, and no link to a set-up that was not recorded.
    let spans = scene.spans(2, 4).await;
    let sampled = spans.only("GET");
    ExpectedSpan::new().with("httptrace.connection.reused", true).links(0).check(sampled);
    assert_eq!(spans.to_string(), "GET\n  request-write\n  response-wait\n  response-read\n");
    let sent = origin.record().requests;
    let unsampled = sent[0].traceparent().expect("passed on");
    let fields: Vec<_> = unsampled.split('-').collect();
    assert_eq!((fields[1], fields[3]), (&*TraceId::from(0xabc).to_string(), "00"), "{unsampled}");
    assert_eq!(sent[1].traceparent(), Some(&*traceparent(&sampled.span_context)));
}

#[tokio::test]
async fn without_a_provider_a_parent_is_passed_on_and_nothing_else_is_sent() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("a response");
    traced.read(origin.url("/")).await.expect("a response");
    let parent = remote(true);
    let response = {
        let _current = parent.clone().attach();
        traced.get(origin.url("/"))
    };
    read(response.await.expect("a response")).await.expect("a body");
    let sent = origin.record().requests;
    for request in &sent[..2] {
        for name in ["traceparent", "tracestate", "baggage"] {
            assert!(request.headers.get(name).is_none(), "{name}: {:?}", request.headers);
        }
    }
    assert_eq!(sent[2].traceparent(), Some(&*traceparent(parent.span().span_context())));
}

#[tokio::test]
async fn only_the_servers_that_were_named_are_told_of_the_trace() {
    let (told, other) = (Origin::plain().serve(hello), Origin::plain().serve(hello));
    let named = || told.client_builder().propagate_to([told.addr().to_string()]);
    let context = remote(true).with_baggage([KeyValue::new("user", "planted")]);
    let own: Box<dyn TextMapPropagator + Send + Sync> = Box::new(Own);
    let provider = SdkTracerProvider::builder().build();
    let clients = [
        (Scene::new(named()).traced, "traceparent"),
        // Without a provider what the caller has is passed on, or not.
        (Traced::new(named()), "traceparent"),
        (Traced::new(named().spans(Spans::new(&provider).with_propagator(own))), "x-own"),
    ];
    for (traced, field) in &clients {
        for origin in [&told, &other] {
            // Once in a trace, and once out of it: what the application puts there itself is held to the same.
            for context in [context.clone(), Context::new()] {
                let mut request = Request::new(Empty::new());
                *request.uri_mut() = origin.url("/");
                for name in ["traceparent", "tracestate", "baggage", "x-own"] {
                    request.headers_mut().insert(name, HeaderValue::from_static("planted=1"));
                }
                let response = {
                    let _current = context.attach();
                    traced.client.request(request)
                };
                read(response.await.expect("a response")).await.expect("a body");
            }
        }
        let sent = told.record().requests;
        assert!(sent[sent.len() - 2].headers[*field] != "planted=1", "{:?}", sent.last());
    }
    assert_eq!(told.record().requests.len(), 6);
    for (i, request) in other.record().requests.iter().enumerate() {
        for name in ["traceparent", "tracestate", "baggage"] {
            assert!(request.headers.get(name).is_none(), "{i}: {name}: {:?}", request.headers);
        }
        // Only the propagator's owner knows it for trace context.
        assert_eq!(request.headers.contains_key("x-own"), i < 4, "{i}");
    }
    // Nor where nobody listens to the request.
    let silent = named().build().expect("settings that fit");
    for _ in 0..2 {
        let request = Request::get(other.url("/")).header("traceparent", "planted").body(Empty::<Bytes>::new());
        read(silent.request(request.expect("a request")).await.expect("a response")).await.expect("a body");
    }
    assert!(other.record().requests[6..].iter().all(|request| request.traceparent().is_none()));
    // Nobody is told, and the spans are made all the same.
    let scene = Scene::new(other.client_builder().propagate_to([""; 0]));
    scene.traced.read(other.url("/")).await.expect("a response");
    assert!(other.record().requests[8].traceparent().is_none());
    assert_eq!(scene.spans(1, 6).await.named("GET").len(), 1);
}

/// A propagator with a field of its own.
#[derive(Debug)]
struct Own;

impl TextMapPropagator for Own {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        injector.set("x-own", context.span().span_context().span_id().to_string());
    }

    fn extract_with_context(&self, context: &Context, _: &dyn Extractor) -> Context {
        context.clone()
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: LazyLock<[String; 1]> = LazyLock::new(|| ["x-own".to_owned()]);
        FieldIter::new(&*FIELDS)
    }
}

#[tokio::test]
async fn the_parent_is_the_tracing_span_that_the_request_was_called_in() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let layer = tracing_opentelemetry::layer().with_tracer(scene.provider.tracer("application"));
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO));
    async {
        // Polled in the span, and called in it but polled outside.
        let inside = tracing::info_span!("inside");
        scene.traced.read(origin.url("/")).instrument(inside).await.expect("a response");
        let called = tracing::info_span!("called").in_scope(|| scene.traced.get(origin.url("/")));
        read(called.await.expect("a response")).await.expect("a body");
    }
    .with_subscriber(subscriber)
    .await;
    // GET with five, GET with three, and the two spans of the application.
    let spans = scene.spans(2, 12).await;
    let requests = spans.named("GET");
    for (request, parent) in requests.iter().zip(["inside", "called"]) {
        ExpectedSpan::new().under(spans.only(parent)).check(request);
    }
    assert_eq!(spans.roots().len(), 2, "{spans}");
}
