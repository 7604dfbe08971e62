//! Which header fields are recorded and shown, and that secrets never are.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use httptrace::{Client, ClientTrace, hooks::ResponseDoneInfo, views::spans::SpanDetail};
use opentelemetry::{Array, StringValue, Value};
use opentelemetry_sdk::trace::SpanData;

use super::scene::{Scene, remote, traceparent};
use crate::support::{
    client::read,
    origin::{Origin, Refusing},
    spans::ExpectedSpan,
};

const X_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn answer(_: Request<hyper::body::Incoming>) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::from("hello"));
    for (name, value) in [("via", "one"), ("via", "two"), ("age", "7"), ("set-cookie", "hidden=1"), ("etag", "unasked")]
    {
        response.headers_mut().append(name, HeaderValue::from_static(value));
    }
    response
}

fn list(values: &[&'static str]) -> Value {
    Value::Array(Array::String(values.iter().map(|value| StringValue::from(*value)).collect()))
}

fn captured(span: &SpanData) -> Vec<&str> {
    let is_field = |key: &&str| key.starts_with("http.request.header") || key.starts_with("http.response.header");
    let mut keys: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).filter(is_field).collect();
    keys.sort_unstable();
    keys
}

fn post(origin: &Origin) -> Request<Full<bytes::Bytes>> {
    let request = Request::post(origin.url("/")).header("X-Request-Id", "abc").header("accept", "unasked");
    request
        .header(header::AUTHORIZATION, "Bearer hidden")
        .header("cookie", "hidden")
        .body(Full::from("four"))
        .expect("ok")
}

/// Hears what fields the end of a response has.
#[derive(Default)]
struct Ends(Mutex<Vec<Option<HeaderMap>>>);

impl ClientTrace for Ends {
    fn response_done(&self, info: &ResponseDoneInfo<'_>) {
        self.0.lock().expect("no panic under the lock").push(info.headers.map(|shown| (**shown).clone()));
    }
}

#[tokio::test]
async fn listed_fields_are_lists_on_the_client_span_and_secrets_are_not_shown() {
    for (origin, prior_knowledge) in
        [(Origin::plain().serve(answer), false), (Origin::plain().http2().serve(answer), true)]
    {
        let builder = origin
            .client_builder()
            .capture_request_headers([X_ID, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE, header::TE])
            .capture_response_headers([header::VIA, header::AGE, header::SET_COOKIE, header::LOCATION]);
        // Fields are not detail: they are shown at every level.
        let builder = builder.span_detail(SpanDetail::Off);
        let scene = Scene::new(if prior_knowledge { builder.http2_prior_knowledge() } else { builder });
        read(scene.traced.client.request(post(&origin)).await.expect("a response")).await.expect("a body");
        let spans = scene.spans(1, 1).await;
        let client = spans.only("POST");
        ExpectedSpan::new()
            .with("http.request.header.x-request-id", list(&["abc"]))
            .with("http.request.header.content-length", list(&["4"]))
            .with("http.request.header.authorization", list(&["REDACTED"]))
            .with("http.request.header.cookie", list(&["REDACTED"]))
            .with("http.response.header.via", list(&["one", "two"]))
            .with("http.response.header.age", list(&["7"]))
            .with("http.response.header.set-cookie", list(&["REDACTED"]))
            .check(client);
        assert_eq!(captured(client).len(), 7, "those that are listed and there: {:?}", captured(client));
        let timeline = scene.traced.timeline().await;
        assert!(timeline.request_headers.is_some() && timeline.response_headers.is_some());
        for text in [format!("{client:?}"), format!("{timeline:?}")] {
            assert!(!text.contains("hidden") && !text.contains("unasked"), "{text}");
        }
        // They are sent all the same.
        assert_eq!(origin.record().requests[0].headers["authorization"], "Bearer hidden");
    }
}

#[tokio::test]
async fn nothing_is_recorded_that_is_not_listed() {
    let origin = Origin::plain().serve(answer);
    let scene = Scene::new(origin.client_builder());
    read(scene.traced.client.request(post(&origin)).await.expect("a response")).await.expect("a body");
    let spans = scene.spans(1, 6).await;
    assert!(captured(spans.only("POST")).is_empty());
    let timeline = scene.traced.timeline().await;
    assert!(timeline.request_headers.is_none() && timeline.response_headers.is_none());
}

#[tokio::test]
async fn fields_are_recorded_without_a_connection_too() {
    let refusing = Refusing::new();
    let scene = Scene::new(Client::builder().capture_request_headers([X_ID, HeaderName::from_static("traceparent")]));
    let request = Request::get(format!("http://{}/", refusing.addr())).header(X_ID, "abc");
    let request = request.body(Full::<bytes::Bytes>::default()).expect("a request");
    let response = {
        let _current = remote(true).attach();
        scene.traced.client.request(request)
    };
    response.await.expect_err("nobody listens");
    let spans = scene.spans(1, 3).await;
    let client = spans.only("GET");
    let told = Value::Array(Array::String(vec![traceparent(&client.span_context).into()]));
    ExpectedSpan::new()
        .error("connection_refused")
        .with("http.request.header.x-request-id", list(&["abc"]))
        .with("http.request.header.traceparent", told)
        .check(client);
}

#[tokio::test]
async fn the_end_of_a_response_tells_its_captured_fields_to_hooks_without_any_record() {
    let origin = Origin::plain().serve(answer);
    for (listed, expected) in [(vec![header::AGE, header::SET_COOKIE], 2), (vec![header::LOCATION], 0), (vec![], 0)] {
        let ends = Arc::new(Ends::default());
        let builder = origin.client_builder().telemetry(false).capture_response_headers(listed);
        let client =
            builder.client_trace(Arc::clone(&ends) as Arc<dyn ClientTrace>).build().expect("settings that fit");
        read(client.get(origin.url("/")).await.expect("a response")).await.expect("a body");
        let ends = ends.0.lock().expect("no panic under the lock");
        let [headers] = &ends[..] else { panic!("one response: {ends:?}") };
        assert_eq!(headers.as_ref().map_or(0, HeaderMap::len), expected, "{headers:?}");
        assert_eq!(headers.is_some(), expected > 0);
        if let Some(headers) = headers {
            assert_eq!(
                (&headers["age"], &headers["set-cookie"]),
                (&"7".parse().unwrap(), &"REDACTED".parse().unwrap())
            );
        }
    }
}
