//! How much of an attempt is shown: each level, each case, and what others link to where it is left out.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use httptrace::{
    Client,
    views::spans::{SpanCases, SpanDetail, Spans as Making},
};
use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;

use super::scene::{Scene, hello, names, remote};
use crate::support::{
    client::read,
    dns::FakeResolver,
    gate::Gate,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, ReadHead},
        write,
    },
    spans::ExpectedSpan,
};

const NEVER: Duration = Duration::from_secs(3600);

/// Nobody is as fast.
const ALWAYS: Duration = Duration::ZERO;

const COLD: &str = "\
GET
  get-connection
    dns
    connect
    tls
  request-write
  response-wait
  response-read
";

fn scene(origin: &Origin, detail: SpanDetail) -> Scene {
    Scene::new(origin.client_builder().span_detail(detail))
}

fn only_for(cases: SpanCases) -> SpanDetail {
    SpanDetail::SpansFor(cases)
}

fn any() -> SpanCases {
    SpanCases::default()
}

/// The phases that are attributes, in their order. Each has its start and its length, and no length is negative.
fn phases(span: &SpanData) -> Vec<&str> {
    let of = |suffix: &str| -> Vec<(&str, f64)> {
        let all = span.attributes.iter().filter_map(|attribute| {
            let phase = attribute.key.as_str().strip_prefix("httptrace.")?.strip_suffix(suffix)?;
            let Value::F64(seconds) = attribute.value else { panic!("{attribute:?} is no number of seconds") };
            assert!(seconds >= 0.0, "{attribute:?}");
            Some((phase, seconds))
        });
        all.collect()
    };
    let (starts, durations) = (of(".start"), of(".duration"));
    let started: Vec<_> = starts.iter().map(|(phase, _)| *phase).collect();
    let ended: Vec<_> = durations.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(started, ended);
    assert!(starts.is_sorted_by(|a, b| a.1 <= b.1), "{starts:?}");
    started
}

#[tokio::test]
async fn each_level_shows_a_cold_request_and_a_reused_connection_in_its_way() {
    let set_up = ["get_connection", "dns", "connect", "tls", "request_write", "response_wait", "response_read"];
    for alpn in ["http/1.1", "h2"] {
        for (detail, tree, first, second, links) in [
            (SpanDetail::Off, "GET\n", &[][..], &[][..], 0),
            (SpanDetail::Attributes, "GET\n", &set_up, &set_up[4..], 0),
            (only_for(any()), "GET\n", &set_up, &set_up[4..], 0),
            (only_for(any().failed().slower_than(NEVER)), "GET\n", &set_up, &set_up[4..], 0),
            (only_for(any().failed().slower_than(ALWAYS)), COLD, &[], &[], 0),
            (only_for(any().new_connection()), COLD, &[], &set_up[4..], 1),
            (SpanDetail::Spans, COLD, &[], &[], 1),
        ] {
            let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
            let scene = scene(&origin, detail);
            scene.traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
            let spans = scene.spans(1, tree.lines().count()).await;
            assert_eq!(spans.to_string(), tree, "{detail:?}");
            assert_eq!(phases(spans.only("GET")), first, "{detail:?}");

            scene.traced.log.settled().await;
            scene.traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
            let spans = scene.spans(2, tree.lines().count() + 1).await;
            let [first, reused] = *spans.named("GET") else { panic!("two attempts\n{spans}") };
            assert_eq!(phases(reused), second, "{detail:?}");
            assert_eq!(spans.children(reused).is_empty(), detail == SpanDetail::Off || !second.is_empty(), "{spans}");
            // Whatever is left out, the CLIENT span is what it always is.
            let id = first.attributes.iter().find(|attribute| attribute.key.as_str() == "httptrace.connection.id");
            ExpectedSpan::new()
                .with("httptrace.connection.id", id.expect("the connection").value.clone())
                .with("httptrace.connection.reused", true)
                .with("http.response.status_code", 200)
                .events(["first-byte", "idle-return"])
                .links(links)
                .check(reused);
            if links > 0 {
                assert!(names(&reused.links[0], spans.only("get-connection")), "{:?}", reused.links);
            }
        }
    }
}

#[tokio::test]
async fn phases_that_are_attributes_bring_what_their_spans_have() {
    let origin = Origin::plain().serve(hello);
    let scene = scene(&origin, SpanDetail::Attributes);
    let request = Request::post(origin.url("/")).body(Full::from("four")).expect("a request");
    read(scene.traced.client.request(request).await.expect("a response")).await.expect("a body");
    let spans = scene.spans(1, 1).await;
    ExpectedSpan::new()
        .with("httptrace.wait.cause", "dial")
        .with("http.request.body.size", 4)
        .with("http.response.body.size", 5)
        .with("httptrace.response.outcome", "complete")
        .without("httptrace.error.phase")
        // A step of a dial has its facts on a span only: there may be several.
        .without("httptrace.connect.attempt")
        .check(spans.only("POST"));
}

#[tokio::test]
async fn a_failed_attempt_says_in_attributes_which_phase_died() {
    let refusing = Refusing::new();
    for (detail, phase) in [(SpanDetail::Attributes, Some("connect")), (SpanDetail::Off, None)] {
        let scene = Scene::new(Client::builder().span_detail(detail));
        let url = format!("http://{}/", refusing.addr()).parse().expect("a URL");
        scene.traced.read(url).await.expect_err("nobody listens");
        let spans = scene.spans(1, 1).await;
        assert_eq!(spans.to_string(), "GET\n");
        let client = spans.only("GET");
        assert_eq!(phases(client), if phase.is_some() { vec!["get_connection", "connect"] } else { vec![] });
        let expected = ExpectedSpan::new().error("connection_refused");
        match phase {
            Some(phase) => expected.with("httptrace.error.phase", phase).check(client),
            None => expected.without("httptrace.error.phase").check(client),
        }
    }
}

#[tokio::test]
async fn what_failed_was_canceled_or_was_refused_by_a_status_has_spans() {
    let failed = only_for(any().failed());
    let refusing = Refusing::new();
    let scene_of_none = Scene::new(Client::builder().span_detail(failed));
    let url = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    scene_of_none.traced.read(url).await.expect_err("nobody listens");
    let spans = scene_of_none.spans(1, 3).await;
    assert_eq!(spans.to_string(), "GET\n  get-connection\n    connect\n");
    for name in ["GET", "get-connection", "connect"] {
        ExpectedSpan::new().error("connection_refused").check(spans.only(name));
    }

    let origin = Origin::plain().script([ReadHead, AtGate("never")]);
    let canceled = scene(&origin, failed);
    let request = tokio::spawn(canceled.traced.get(origin.url("/")));
    canceled.traced.log.wait_for("wrote_request", 1).await;
    request.abort();
    let spans = canceled.spans(1, 5).await;
    ExpectedSpan::new().canceled().check(spans.only("response-wait"));

    let origin = Origin::plain().serve(|request: Request<_>| async move {
        let status = if request.uri().path() == "/399" { 399 } else { 400 };
        Response::builder()
            .status(StatusCode::from_u16(status).expect("a status"))
            .body(Full::from("no"))
            .expect("a response")
    });
    let refused = scene(&origin, failed);
    for path in ["/399", "/400"] {
        refused.traced.read(origin.url(path)).await.expect("a response");
        refused.traced.log.settled().await;
    }
    let spans = refused.spans(2, 5).await;
    assert_eq!(spans.to_string(), "GET\nGET\n  request-write\n  response-wait\n  response-read\n");
}

#[tokio::test]
async fn each_attempt_of_a_request_decides_for_itself() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let stale = vec![ReadHead, write(OK), ReadHead, Close];
    for (cases, tree) in [
        (any().failed(), "GET\nGET\n  request-write\n  response-wait\nGET\n"),
        (
            any().new_connection(),
            "GET\n  get-connection\n    connect\n  request-write\n  response-wait\n  response-read\n\
             GET\n\
             GET\n  get-connection\n    connect\n  request-write\n  response-wait\n  response-read\n",
        ),
    ] {
        let origin = Origin::plain().scripts([stale.clone(), vec![ReadHead, write(OK), AwaitClose]]);
        let scene = scene(&origin, only_for(cases));
        scene.traced.read(origin.url("/")).await.expect("the first response");
        scene.traced.log.settled().await;
        scene.traced.read(origin.url("/")).await.expect("the second response");
        let spans = scene.spans(3, tree.lines().count()).await;
        assert_eq!(spans.to_string(), tree);
        let [_, failed, good] = *spans.named("GET") else { panic!("three attempts\n{spans}") };
        ExpectedSpan::new().error("connection_closed").without("http.request.resend_count").check(failed);
        ExpectedSpan::new().with("http.request.resend_count", 1).check(good);
    }
}

#[tokio::test]
async fn a_background_dial_is_shown_and_linked_to_only_where_its_level_has_it() {
    for (detail, shown, all) in [
        (SpanDetail::Off, false, 2),
        (SpanDetail::Attributes, false, 2),
        // The first was canceled.
        (only_for(any().failed().slower_than(NEVER)), false, 5),
        (only_for(any().slower_than(ALWAYS)), true, 12),
        (only_for(any().new_connection()), true, 8),
        (SpanDetail::Spans, true, 12),
    ] {
        let origin = Origin::tls().gate_handshake().serve(hello);
        let scene = scene(&origin, detail);
        let first = tokio::spawn(scene.traced.get(origin.url("/")));
        scene.traced.log.wait_for("tls_handshake_start", 1).await;
        first.abort();
        scene.traced.timelines(1).await;
        // It waits for that dial.
        let second = tokio::spawn(scene.traced.get(origin.url("/")));
        scene.traced.log.wait_for("get_conn", 2).await;
        origin.gate("handshake").open();
        read(second.await.expect("no panic").expect("a response")).await.expect("a body");
        let spans = scene.spans(2, all).await;
        assert_eq!(spans.to_string().lines().count(), all, "{detail:?}\n{spans}");
        let dials = spans.named("background-dial");
        assert_eq!(dials.len(), usize::from(shown), "{detail:?}\n{spans}");
        let [first, second] = *spans.named("GET") else { panic!("two attempts\n{spans}") };
        ExpectedSpan::new().links(usize::from(shown)).check(second);
        if let [dial] = *dials {
            ExpectedSpan::new().under(first).with("httptrace.dial.outcome", "handed_over").check(dial);
            assert_eq!(spans.children(dial).len(), 2, "connect and tls\n{spans}");
            assert!(names(&second.links[0], dial), "{:?}", second.links);
        }
    }
}

#[tokio::test]
async fn a_background_dial_that_failed_is_shown_with_what_fails() {
    // Both requests failed: GET, get-connection and dns of the first; GET and get-connection of the second.
    for (detail, dials, all) in [(only_for(any().failed()), 1, 8), (only_for(any().slower_than(NEVER)), 0, 2)] {
        let gate = Gate::new();
        let refusing = Refusing::new();
        let resolver = FakeResolver::new().local("gone.test").hold("gone.test", &gate);
        let scene = Scene::new(Client::builder().resolver(Arc::new(resolver)).span_detail(detail));
        let url: http::Uri = format!("https://gone.test:{}/", refusing.addr().port()).parse().expect("a URL");
        let first = tokio::spawn(scene.traced.get(url.clone()));
        gate.reached().await;
        first.abort();
        scene.traced.timelines(1).await;
        // It waits for that dial, and fails with it.
        let second = tokio::spawn(scene.traced.get(url));
        scene.traced.log.wait_for("get_conn", 2).await;
        gate.open();
        second.await.expect("no panic").expect_err("nobody listens");
        let spans = scene.spans(2, all).await;
        assert_eq!(spans.named("background-dial").len(), dials, "{detail:?}\n{spans}");
        assert_eq!(spans.to_string().lines().count(), all, "{detail:?}\n{spans}");
    }
}

#[tokio::test]
async fn an_unsampled_parent_has_nothing_at_any_level_and_nobody_links_to_it() {
    for detail in [
        SpanDetail::Off,
        SpanDetail::Attributes,
        SpanDetail::Spans,
        only_for(any().new_connection().slower_than(ALWAYS)),
    ] {
        let origin = Origin::plain().serve(hello);
        let scene = scene(&origin, detail);
        for sampled in [false, true] {
            let response = {
                let _current = remote(sampled).attach();
                scene.traced.get(origin.url("/"))
            };
            read(response.await.expect("a response")).await.expect("a body");
            scene.traced.log.settled().await;
        }
        let spans = scene.spans(2, 1).await;
        let client = spans.only("GET");
        ExpectedSpan::new().with("httptrace.connection.request_number", 2).links(0).check(client);
        assert!(spans.named("get-connection").is_empty(), "{spans}");
        let sent: Vec<_> = origin.record().requests.iter().map(|r| r.traceparent().is_some()).collect();
        assert_eq!(sent, [true, true], "what is shown changes nothing of what is sent");
    }
}

#[tokio::test]
async fn the_clients_choice_wins_over_that_of_its_spans() {
    for (chosen, children) in [(None, 0), (Some(SpanDetail::Spans), 5)] {
        let origin = Origin::plain().serve(hello);
        let mut scene = Scene::new(origin.client_builder());
        let making = Making::new(&scene.provider).with_detail(SpanDetail::Off);
        let mut builder = origin.client_builder().spans(making);
        if let Some(chosen) = chosen {
            builder = builder.span_detail(chosen);
        }
        scene.traced = crate::support::client::Traced::new(builder);
        scene.traced.read(origin.url("/")).await.expect("a response");
        let spans = scene.spans(1, 1 + children).await;
        assert_eq!(spans.to_string().lines().count(), 1 + children, "{spans}");
    }
}
