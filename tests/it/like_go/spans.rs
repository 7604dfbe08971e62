//! What Go's OpenTelemetry instrumentations test of their spans and metrics (otelhttptrace, otelhttp).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use opentelemetry::{Value, trace::Status};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};

use crate::{
    spans::{
        metrics::{metric, provider, value},
        scene::Scene,
    },
    support::{
        client::{Traced, read},
        origin::Origin,
        script::{
            Step::{AwaitClose, Close, Gate as AtGate, Read, ReadHead},
            write,
        },
        spans::ExpectedSpan,
        within,
    },
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Go: TestHTTPRequestWithClientTrace (otelhttptrace).
#[tokio::test]
async fn every_span_has_exactly_the_attributes_that_are_promised() {
    let origin = Origin::tls_with_alpn(&["http/1.1"]).script([ReadHead, Read(4), write(OK), AwaitClose]);
    let scene = Scene::new(origin.client_builder());
    let request = Request::post(origin.url_at("origin.test", "/")).body(Full::<Bytes>::from("body"));
    let response = within("a response", scene.traced.client.request(request.expect("a request"))).await;
    read(response.expect("a response")).await.expect("a body");
    let spans = scene.spans(1, 8).await;
    let promised = BTreeMap::from([
        (
            "POST",
            "http.request.method http.response.status_code httptrace.connection.age httptrace.connection.id \
             httptrace.connection.outcome httptrace.connection.request_number httptrace.connection.reused \
             httptrace.connection.was_idle network.peer.address network.peer.port network.protocol.version \
             server.address server.port url.full",
        ),
        ("get-connection", "httptrace.wait.cause"),
        ("dns", "dns.answers dns.question.name httptrace.dns.coalesced"),
        (
            "connect",
            "httptrace.connect.attempt{cookie} network.local.address network.local.port network.peer.address network.peer.port \
             network.transport network.type",
        ),
        (
            "tls",
            "httptrace.tls.server.days_left server.address tls.cipher tls.next_protocol tls.protocol.version tls.resumed tls.server.issuer \
             tls.server.not_after tls.server.subject",
        ),
        ("request-write", "http.request.body.size"),
        ("response-wait", ""),
        ("response-read", "http.response.body.size httptrace.response.outcome"),
    ]);
    for (name, promised) in promised {
        let cookie = if cfg!(target_os = "linux") { " httptrace.connection.socket_cookie" } else { "" };
        let promised = promised.replace("{cookie}", cookie);
        let mut keys: Vec<_> =
            spans.only(name).attributes.iter().map(|attribute| attribute.key.as_str().to_owned()).collect();
        keys.sort();
        assert_eq!(keys.join(" "), promised, "{name}");
    }
}

/// Go: TestHTTPRequestWithExpect100Continue (otelhttptrace).
#[tokio::test]
async fn a_wait_for_100_is_told_on_the_client_span_in_its_order() {
    let origin = Origin::plain().script([
        ReadHead,
        write("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
        Read(4),
        write(OK),
        AwaitClose,
    ]);
    let scene = Scene::new(origin.client_builder().expect_continue_timeout(Duration::from_secs(3600)));
    let request = Request::post(origin.url("/")).header("expect", "100-continue").body(Full::<Bytes>::from("body"));
    let response = within("a response", scene.traced.client.request(request.expect("a request"))).await;
    read(response.expect("a response")).await.expect("a body");
    let spans = scene.spans(1, 6).await;
    let events = ["wait-100-continue", "first-byte", "informational", "got-100-continue", "idle-return"];
    ExpectedSpan::new().events(events).check(spans.only("POST"));
    let hint = spans.only("POST").events.iter().find(|event| event.name == "informational").expect("checked above");
    assert_eq!(value(hint.attributes.iter(), "http.response.status_code"), Some(Value::from(103)));
}

/// Go: TestWithRedactedHeaders, TestWithoutHeaders, TestWithInsecureHeaders, TestSubSpansHeaderAttributes (otelhttptrace).
#[tokio::test]
async fn no_header_field_is_on_any_span() {
    let answer = "HTTP/1.1 200 OK\r\nset-cookie: planted-1\r\nx-other: planted-2\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::plain().script([ReadHead, write(answer), AwaitClose]);
    let scene = Scene::new(origin.client_builder());
    let mut request = Request::get(origin.url("/")).body(Full::<Bytes>::default()).expect("a request");
    for (name, secret) in [("authorization", "planted-3"), ("cookie", "planted-4"), ("x-mine", "planted-5")] {
        request.headers_mut().insert(name, secret.parse().expect("a value"));
    }
    let response = within("a response", scene.traced.client.request(request)).await.expect("a response");
    assert_eq!(response.headers()["set-cookie"], "planted-1");
    read(response).await.expect("a body");
    let sent = origin.record().connections[0].heads.concat();
    assert!((3..=5).all(|number| sent.contains(&format!("planted-{number}"))), "{sent}");
    let spans = scene.spans(1, 6).await;
    for name in ["GET", "get-connection", "connect", "request-write", "response-wait", "response-read"] {
        let span = format!("{:?}", spans.only(name));
        assert!(!span.contains("planted"), "{span}");
    }
}

/// Go: TestTransportBasics and the tests of its wrapped body, Read, EOF, ReadError, Close (otelhttp).
#[tokio::test]
async fn a_client_span_is_open_until_its_body_is_read_dropped_or_broken() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
    for (ending, last, outcome) in
        [("read", write("half"), "complete"), ("dropped", AwaitClose, "dropped"), ("cut", Close, "failed")]
    {
        let origin = Origin::plain().script([ReadHead, write(half), AtGate("rest"), last, AwaitClose]);
        let scene = Scene::new(origin.client_builder());
        let response = within("a head", scene.traced.get(origin.url("/"))).await.expect("a response");
        let mut body = response.into_body();
        let frame = within("half of it", body.frame()).await.expect("not the end").expect("half of it");
        assert_eq!(frame.into_data().expect("data"), "half");
        assert_eq!(scene.exported(), 0, "{ending}: it is not over");
        origin.gate("rest").open();
        if ending == "dropped" {
            drop(body);
        } else {
            assert_eq!(within(ending, body.collect()).await.is_ok(), ending == "read");
        }
        let spans = scene.spans(1, 6).await;
        let read = ExpectedSpan::new().with("httptrace.response.outcome", outcome);
        if ending == "cut" {
            read.error("body_incomplete").check(spans.only("response-read"));
            ExpectedSpan::new().error("body_incomplete").check(spans.only("GET"));
        } else {
            read.check(spans.only("response-read"));
            assert_eq!(spans.only("GET").status, Status::Unset);
        }
    }
}

/// Go: TestTransportMetrics, three cases; TestTransportErrorTypeMetricAttribute (otelhttp).
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_measured_once_whether_its_body_is_read_or_dropped_and_a_bad_status_is_its_error() {
    async fn by_path(request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(vec![b'x'; 100]));
        if request.uri().path() == "/broken" {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    }
    for (path, reads, error) in [("/", true, None), ("/", false, None), ("/broken", true, Some("500"))] {
        let (provider, exporter) = provider();
        let origin = Origin::plain().serve(by_path);
        let traced = Traced::new(origin.client_builder().meter_provider(&provider));
        let response = within("a head", traced.get(origin.url(path))).await.expect("a response");
        if reads {
            assert_eq!(read(response).await.expect("a body").len(), 100);
        } else {
            drop(response);
        }
        traced.timelines(1).await;
        traced.log.settled().await;
        provider.force_flush().expect("a collection");
        metric(&exporter, "http.client.request.duration", |metric| {
            let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else { panic!("a histogram") };
            let points: Vec<_> = histogram.data_points().collect();
            let [point] = points[..] else { panic!("one request: {points:?}") };
            assert_eq!(point.count(), 1);
            assert_eq!(value(point.attributes(), "error.type"), error.map(Value::from));
        });
        metric(&exporter, "httptrace.connection.acquisitions", |metric| {
            let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else { panic!("a counter") };
            assert_eq!(sum.data_points().map(|point| point.value()).sum::<u64>(), 1);
        });
    }
}
