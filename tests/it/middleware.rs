//! What goes around the client: each recipe of `examples/middleware/recipes.rs`, over a real connection, with the spans and
//! the reuse that it promises.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::set_header::SetRequestHeaderLayer;
use tracing::{Instrument, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    spans::scene::{Scene, hello, traceparent},
    support::{
        origin::Origin,
        script::{Step::*, write},
        spans::ExpectedSpan,
        within,
    },
};

#[path = "../../examples/middleware/recipes.rs"]
mod recipes;

use self::recipes::Sent;

fn get(uri: Uri) -> Sent {
    Request::get(uri).body(Full::default()).expect("a request")
}

/// The whole body.
async fn read<B>(response: Response<B>) -> Bytes
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    within("a response's body", response.into_body().collect()).await.expect("a body").to_bytes()
}

fn found(path: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
    response
}

#[tokio::test]
async fn each_hop_of_a_redirect_is_a_span_and_counted() {
    let origin = Origin::plain().serve(|request| async move {
        match request.uri().path() {
            "/old" => found("/newer"),
            "/newer" => found("/new"),
            _ => Response::new(Full::from("here")),
        }
    });
    let scene = Scene::new(origin.client_builder());
    let redirects = recipes::redirects(scene.traced.client.clone());
    let application = scene.application();
    let hops = redirects.clone().oneshot(get(origin.url("/old"))).with_context(application.clone());
    assert_eq!(read(within("the last hop", hops).await.expect("a response")).await, "here");
    // The next request counts anew.
    read(redirects.oneshot(get(origin.url("/new"))).await.expect("a response")).await;
    drop(application);
    let spans = scene.spans(4, 19).await;
    let [old, newer, new, next] = spans.named("GET")[..] else { panic!("{spans}") };
    let application = spans.only("application");
    for (span, status) in [(old, 302), (newer, 302), (new, 200)] {
        ExpectedSpan::new().under(application).with("http.response.status_code", status).check(span);
    }
    ExpectedSpan::new().without("http.request.resend_count").with("httptrace.connection.reused", false).check(old);
    for (span, resends) in [(newer, 1), (new, 2)] {
        let reused = ExpectedSpan::new().with("httptrace.connection.reused", true);
        reused.with("http.request.resend_count", resends).check(span);
    }
    ExpectedSpan::new().root().without("http.request.resend_count").check(next);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn each_try_is_a_span_and_counted() {
    let origin = Origin::plain().serve({
        let tries = AtomicUsize::new(0);
        move |_| {
            let mut response = Response::new(Full::<Bytes>::default());
            if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            async { response }
        }
    });
    let scene = Scene::new(origin.client_builder());
    let retried = recipes::retried(scene.traced.client.clone());
    let response = within("the third try", retried.oneshot(get(origin.url("/")))).await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    read(response).await;
    let spans = scene.spans(3, 14).await;
    let [first, second, third] = spans.named("GET")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("503").without("http.request.resend_count").check(first);
    ExpectedSpan::new().error("503").with("http.request.resend_count", 1).check(second);
    let last = ExpectedSpan::new().with("http.request.resend_count", 2).with("http.response.status_code", 200);
    last.with("httptrace.connection.reused", true).check(third);
    assert_eq!(origin.accepted(), 1);
    let told: Vec<_> = origin.record().requests.iter().map(|it| it.headers["traceparent"].clone()).collect();
    assert_eq!(told, [first, second, third].map(|span| traceparent(&span.span_context)), "each try its own");
}

#[tokio::test]
async fn a_request_that_is_not_idempotent_and_one_whose_tries_are_used_up_are_not_retried() {
    for (method, tries) in [(Method::POST, 1), (Method::GET, 3)] {
        let origin = Origin::plain().serve(|_| async {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        });
        let scene = Scene::new(origin.client_builder());
        let mut request = get(origin.url("/"));
        *request.method_mut() = method;
        let response = recipes::retried(scene.traced.client.clone()).oneshot(request);
        let response = within("the last try", response).await.expect("a response");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(origin.served(), tries);
    }
}

#[tokio::test]
async fn a_compressed_answer_is_read_as_text_and_told_as_it_came() {
    let text = "the same again and again ".repeat(100);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    let zipped = Bytes::from(encoder.finish().expect("memory"));
    let size = i64::try_from(zipped.len()).expect("a few");
    let origin = Origin::plain().serve(move |request| {
        let accepts = request.headers()[header::ACCEPT_ENCODING].to_str().is_ok_and(|it| it.contains("gzip"));
        let mut response = Response::new(Full::from(zipped.clone()));
        if accepts {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        async { response }
    });
    let scene = Scene::new(origin.client_builder());
    let decompressed = recipes::decompressed(scene.traced.client.clone());
    for _ in 0..2 {
        let response = decompressed.clone().oneshot(get(origin.url("/"))).await.expect("a response");
        assert_eq!(read(response).await, text);
    }
    let spans = scene.spans(2, 10).await;
    for span in spans.named("response-read") {
        let whole = ExpectedSpan::new().with("httptrace.response.outcome", "complete");
        whole.with("http.response.body.size", size).check(span);
    }
    assert_eq!(origin.accepted(), 1, "the second one reused it");
}

#[tokio::test]
async fn a_limit_from_outside_cancels_the_request_and_the_next_one_is_well() {
    let origin = Origin::plain().serve(|request| async move {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        hello(request).await
    });
    let scene = Scene::new(origin.client_builder());
    let limited = |head| recipes::limited_in_time(scene.traced.client.clone(), head, Duration::from_secs(20));
    let slow = limited(Duration::from_millis(50)).oneshot(get(origin.url("/slow"))).await.expect("the layer's answer");
    assert_eq!(slow.status(), StatusCode::GATEWAY_TIMEOUT);
    let next = limited(Duration::from_secs(20)).oneshot(get(origin.url("/"))).await.expect("a response");
    assert_eq!(read(next).await, "hello");
    let spans = scene.spans(2, 11).await;
    let [slow, next] = spans.named("GET")[..] else { panic!("{spans}") };
    ExpectedSpan::new().canceled().check(slow);
    ExpectedSpan::new().with("http.response.status_code", 200).check(next);
    assert_eq!(origin.accepted(), 2, "what was given up is not reused");
}

#[tokio::test]
async fn a_limit_on_the_body_drops_it_where_it_stands() {
    let half = write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let origin = Origin::plain().script([ReadHead, half, Gate("never")]);
    let scene = Scene::new(origin.client_builder());
    let (head, body) = (Duration::from_secs(20), Duration::from_millis(50));
    let limited = recipes::limited_in_time(scene.traced.client.clone(), head, body);
    let response = limited.oneshot(get(origin.url("/"))).await.expect("a head");
    within("the limit", response.into_body().collect()).await.expect_err("four bytes of nine");
    let spans = scene.spans(1, 6).await;
    let dropped = ExpectedSpan::new().with("httptrace.response.outcome", "dropped");
    dropped.with("http.response.body.size", 4).check(spans.only("response-read"));
}

#[tokio::test]
async fn a_field_that_a_layer_sets_is_sent_and_a_traceparent_of_its_own_is_not() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let named = recipes::with_user_agent(scene.traced.client.clone(), HeaderValue::from_static("shop/1"));
    read(named.oneshot(get(origin.url("/"))).await.expect("a response")).await;
    let stale = HeaderValue::from_static("00-0000000000000000000000000000000a-000000000000000b-01");
    let layer = SetRequestHeaderLayer::overriding(header::HeaderName::from_static("traceparent"), stale);
    let overridden = ServiceBuilder::new().layer(layer).service(scene.traced.client.clone());
    read(overridden.oneshot(get(origin.url("/"))).await.expect("a response")).await;
    let spans = scene.spans(2, 10).await;
    let seen = origin.record().requests;
    assert_eq!(seen[0].headers[header::USER_AGENT], "shop/1");
    for (seen, span) in seen.iter().zip(spans.named("GET")) {
        let told: Vec<_> = seen.headers.get_all("traceparent").iter().collect();
        assert_eq!(told, [&*traceparent(&span.span_context)]);
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn behind_a_queue_a_request_is_still_its_callers() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let buffered = recipes::buffered(scene.traced.client.clone(), 4);
    let application = scene.application();
    for _ in 0..2 {
        let mut queue = buffered.clone();
        let response = {
            let queue = queue.ready().await.expect("room");
            let _current = application.clone().attach();
            tower::Service::call(queue, get(origin.url("/")))
        };
        read(within("a response", response).await.expect("a response")).await;
    }
    drop(application);
    let spans = scene.spans(2, 11).await;
    for span in spans.named("GET") {
        ExpectedSpan::new().under(spans.only("application")).check(span);
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn through_a_queue_a_tracing_span_comes_along_by_itself() {
    use opentelemetry::trace::TracerProvider;

    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let layer = tracing_opentelemetry::layer().with_tracer(scene.provider.tracer("application"));
    let subscriber = tracing_subscriber::registry().with(layer);
    let queue = ServiceBuilder::new().buffer::<Sent>(4).service(scene.traced.client.clone());
    let calling = async {
        let span = tracing::info_span!("application");
        let response = queue.oneshot(get(origin.url("/"))).instrument(span).await.expect("a response");
        read(response).await;
    };
    within("a response", calling.with_subscriber(subscriber)).await;
    let spans = scene.spans(1, 7).await;
    ExpectedSpan::new().under(spans.only("application")).check(spans.only("GET"));
}

#[tokio::test]
async fn a_limit_of_requests_at_once_holds_them_back_and_reuses_the_connection() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let limited = recipes::at_most(scene.traced.client.clone(), 1);
    let one = || async { read(limited.clone().oneshot(get(origin.url("/"))).await.expect("a response")).await };
    within("three", async { tokio::join!(one(), one(), one()) }).await;
    assert!(origin.record().requests.iter().all(|request| request.in_flight == 1));
    let spans = scene.spans(3, 14).await;
    assert_eq!(spans.named("GET").len(), 3, "{spans}");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_limit_on_the_rate_holds_requests_back_that_are_still_their_callers() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let period = Duration::from_millis(40);
    let limited = recipes::at_most_in(scene.traced.client.clone(), 1, period);
    let application = scene.application();
    let one = || {
        let sent = limited.clone().oneshot(get(origin.url("/")));
        let sent = sent.with_context(application.clone());
        async { read(sent.await.expect("a response")).await }
    };
    within("two", async { tokio::join!(one(), one()) }).await;
    application.span().end();
    let spans = scene.spans(2, 11).await;
    let [first, second] = spans.named("GET")[..] else { panic!("{spans}") };
    let apart = second.start_time.duration_since(first.start_time).expect("one after the other");
    assert!(apart >= period / 2, "{apart:?} apart");
    for span in [first, second] {
        ExpectedSpan::new().under(spans.only("application")).check(span);
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn several_servers_share_the_requests_and_each_keeps_its_connection() {
    let go = Arc::new(Semaphore::new(0));
    let origins = [0, 1].map(|_| {
        let go = Arc::clone(&go);
        Origin::plain().serve(move |request| {
            let go = Arc::clone(&go);
            async move {
                go.acquire().await.expect("open").forget();
                hello(request).await
            }
        })
    });
    let scene = Scene::new(origins[0].client_builder());
    let balanced = recipes::balanced(&scene.traced.client, origins.iter().map(|origin| origin.url("/")));
    let application = scene.application();
    let one = || {
        let sent = balanced.clone().oneshot(get(Uri::from_static("/path")));
        let sent = sent.with_context(application.clone());
        async { read(sent.await.expect("a response")).await }
    };
    for round in 1..=2 {
        // Whoever gets the first of them is busy when the second one comes.
        let both = async {
            for origin in &origins {
                origin.until("a request of this round", |record| record.requests.len() == round).await;
            }
            go.add_permits(2);
        };
        within("a round", async { tokio::join!(one(), one(), both) }).await;
    }
    application.span().end();
    let spans = scene.spans(4, 21).await;
    for origin in &origins {
        assert_eq!(origin.accepted(), 1);
        let port = i64::from(origin.addr().port());
        let of_this = |span: &&&opentelemetry_sdk::trace::SpanData| {
            span.attributes.iter().any(|it| it.key.as_str() == "server.port" && it.value == port.into())
        };
        let [first, second] = spans.named("GET").iter().filter(of_this).copied().collect::<Vec<_>>()[..] else {
            panic!("{spans}")
        };
        let under = || ExpectedSpan::new().under(spans.only("application"));
        under().with("httptrace.connection.reused", false).check(first);
        under().with("httptrace.connection.reused", true).check(second);
        assert!(origin.record().requests.iter().all(|request| request.target == "/path"));
    }
}
