//! Which spans there are, under which parent, with which attributes, and what they link to.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use httptrace::Client;
use opentelemetry::{
    Array, StringValue, Value,
    trace::{SpanKind, Status},
};

use super::scene::{Scene, hello, names};
use crate::support::{client::read, dns::FakeResolver, gate::Gate, origin::Origin, spans::ExpectedSpan, within};

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

#[tokio::test]
async fn a_cold_https_request_is_one_tree_with_every_fact_on_its_span() {
    for (alpn, version, stream) in [("http/1.1", "1.1", None), ("h2", "2", Some(1))] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let scene = Scene::new(origin.client_builder());
        let url = origin.url_at("origin.test", "/path?q=1");
        scene.traced.read(url.clone()).await.expect("a response");
        let spans = scene.spans(1, 8).await;
        assert_eq!(spans.to_string(), COLD);
        let client = spans.only("GET");
        let port = i64::from(origin.addr().port());
        let mut expected = ExpectedSpan::new()
            .root()
            .kind(SpanKind::Client)
            .with("http.request.method", "GET")
            .with("server.address", "origin.test")
            .with("server.port", port)
            .with("url.full", url.to_string())
            .with("http.response.status_code", 200)
            .with("network.protocol.version", version)
            .with("network.peer.address", "127.0.0.1")
            .with("network.peer.port", port)
            .with("httptrace.connection.outcome", "new")
            .with("httptrace.connection.reused", false)
            .with("httptrace.connection.was_idle", false)
            .with("httptrace.connection.age", 0.0)
            .with("httptrace.connection.request_number", 1)
            .without("httptrace.connection.idle_time")
            .without("http.request.resend_count")
            .events(["first-byte", "idle-return"])
            .links(0);
        expected = match stream {
            Some(stream) => expected.with("httptrace.http2.stream_id", stream),
            None => expected.without("httptrace.http2.stream_id"),
        };
        expected.check(client);
        assert_eq!(client.status, Status::Unset);
        let scope = &client.instrumentation_scope;
        assert_eq!((scope.name(), scope.version()), ("httptrace", Some(env!("CARGO_PKG_VERSION"))));
        assert_eq!(scope.schema_url(), Some("https://opentelemetry.io/schemas/1.42.0"));
        let outcome = client.events.iter().find(|event| event.name == "idle-return").expect("checked above");
        assert_eq!(outcome.attributes.len(), 1, "no reason: {outcome:?}");
        assert_eq!(outcome.attributes[0].key.as_str(), "httptrace.idle_return.outcome");
        assert_eq!(outcome.attributes[0].value, Value::from("pooled"));

        let own = |name| ExpectedSpan::new().kind(SpanKind::Internal).links(0).under(spans.only(name));
        own("GET").events([]).with("httptrace.wait.cause", "dial").check(spans.only("get-connection"));
        let answers = Value::Array(Array::String(vec![StringValue::from("127.0.0.1")]));
        own("get-connection")
            .with("dns.question.name", "origin.test")
            .with("dns.answers", answers)
            .with("httptrace.dns.coalesced", false)
            .check(spans.only("dns"));
        own("get-connection")
            .with("network.peer.address", "127.0.0.1")
            .with("network.peer.port", port)
            .with("network.type", "ipv4")
            .with("network.transport", "tcp")
            .with("httptrace.connect.attempt", 1)
            .check(spans.only("connect"));
        own("get-connection")
            .with("server.address", "origin.test")
            .with("tls.protocol.version", "1.3")
            .with("tls.next_protocol", alpn)
            .with("tls.resumed", false)
            .check(spans.only("tls"));
        let tls = &spans.only("tls").attributes;
        for key in ["tls.cipher", "tls.server.subject", "tls.server.issuer", "tls.server.not_after"] {
            assert!(tls.iter().any(|attribute| attribute.key.as_str() == key), "{key} in {tls:?}");
        }
        own("GET").events(["wrote-headers"]).without("http.request.body.size").check(spans.only("request-write"));
        own("GET").events([]).check(spans.only("response-wait"));
        own("GET")
            .events([])
            .with("http.response.body.size", 5)
            .with("httptrace.response.outcome", "complete")
            .check(spans.only("response-read"));
    }
}

#[tokio::test]
async fn the_phases_of_an_attempt_lie_inside_of_its_span() {
    let origin = Origin::tls().serve(hello);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
    let spans = scene.spans(1, 8).await;
    for parent in ["GET", "get-connection"].map(|name| spans.only(name)) {
        for child in spans.children(parent) {
            let inside = parent.start_time <= child.start_time && child.end_time <= parent.end_time;
            assert!(inside, "{} in {}", child.name, parent.name);
        }
    }
    let ends = |name| spans.only(name).end_time;
    let starts = |name| spans.only(name).start_time;
    assert!(ends("dns") <= starts("connect") && ends("connect") <= starts("tls"), "one after the other");
    assert_eq!(ends("request-write"), starts("response-wait"));
    assert_eq!(ends("response-wait"), starts("response-read"));
}

#[tokio::test]
async fn a_request_body_has_its_size_on_request_write() {
    let origin = Origin::plain().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::from("four")).expect("a request");
    let response = within("a response", scene.traced.client.request(request)).await.expect("a response");
    read(response).await.expect("a body");
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().with("http.request.method", "POST").root().check(spans.only("POST"));
    ExpectedSpan::new().with("http.request.body.size", 4).check(spans.only("request-write"));
}

#[tokio::test]
async fn a_reused_connection_has_no_set_up_and_links_to_it() {
    for origin in [Origin::tls_with_alpn(&["http/1.1"]).serve(hello), Origin::tls_with_alpn(&["h2"]).serve(hello)] {
        let scene = Scene::new(origin.client_builder());
        for _ in 0..2 {
            scene.traced.read(origin.url("/")).await.expect("a response");
            scene.traced.log.settled().await;
        }
        let spans = scene.spans(2, 11).await;
        let [cold, reused] = *spans.named("GET") else { panic!("two attempts\n{spans}") };
        let children: Vec<_> = spans.children(reused).iter().map(|span| span.name.to_string()).collect();
        assert_eq!(children, ["request-write", "response-wait", "response-read"]);
        ExpectedSpan::new().links(0).check(cold);
        ExpectedSpan::new()
            .with("httptrace.connection.outcome", "idle")
            .with("httptrace.connection.reused", true)
            .with("httptrace.connection.was_idle", true)
            .with("httptrace.connection.request_number", 2)
            .links(1)
            .check(reused);
        assert!(names(&reused.links[0], spans.only("get-connection")), "{:?}", reused.links);
        let idle =
            reused.attributes.iter().find(|attribute| attribute.key.as_str() == "httptrace.connection.idle_time");
        assert!(matches!(idle.map(|idle| &idle.value), Some(Value::F64(seconds)) if *seconds >= 0.0), "{idle:?}");
    }
}

#[tokio::test]
async fn cold_requests_that_share_a_dial_link_to_the_wait_of_the_one_that_made_it() {
    let origin = Origin::tls_with_alpn(&["h2"]).gate_handshake().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let requests: Vec<_> = (0..3).map(|_| tokio::spawn(scene.traced.get(origin.url("/")))).collect();
    scene.traced.log.wait_for("get_conn", 3).await;
    origin.gate("handshake").reached().await;
    origin.gate("handshake").open();
    for request in requests {
        read(request.await.expect("no panic").expect("a response")).await.expect("a body");
    }
    // One dialled: GET, get-connection, connect, tls and three more. Two waited: GET, get-connection and three more.
    let spans = scene.spans(3, 17).await;
    let dialled = spans.named("get-connection").into_iter().find(|wait| !spans.children(wait).is_empty());
    let dialled = dialled.expect("one that has the connect");
    ExpectedSpan::new().with("httptrace.wait.cause", "dial").check(dialled);
    for client in spans.named("GET") {
        if dialled.parent_span_id == client.span_context.span_id() {
            ExpectedSpan::new().with("httptrace.connection.outcome", "new").links(0).check(client);
            continue;
        }
        ExpectedSpan::new()
            .with("httptrace.connection.outcome", "shared")
            .with("httptrace.connection.reused", true)
            .links(1)
            .check(client);
        assert!(names(&client.links[0], dialled), "{:?}", client.links);
        ExpectedSpan::new().with("httptrace.wait.cause", "other_dial").check(spans.children(client)[0]);
    }
}

const STORY: &str = "\
application
  GET
    get-connection
      dns
    background-dial
      dns
      connect
      tls
  GET
    get-connection
    request-write
    response-wait
    response-read
";

#[tokio::test]
async fn a_dial_that_goes_on_without_its_request_is_a_background_dial_that_the_next_one_links_to() {
    let gate = Gate::new();
    let origin = Origin::tls().serve(hello);
    let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
    let builder = Client::builder().root_certificates(vec![origin.root_certificate()]);
    let scene = Scene::new(builder.resolver(Arc::new(resolver)));
    let application = scene.application();
    let get = |path| {
        let _current = application.clone().attach();
        tokio::spawn(scene.traced.get(origin.url_at("origin.test", path)))
    };
    let first = get("/first");
    gate.reached().await;
    first.abort();
    scene.traced.timelines(1).await;
    let second = get("/second");
    scene.traced.log.wait_for("get_conn", 2).await;
    gate.open();
    read(second.await.expect("no panic").expect("a response")).await.expect("a body");
    drop(application);
    let spans = scene.spans(2, 13).await;
    assert_eq!(spans.to_string(), STORY);

    let [first, second] = *spans.named("GET") else { panic!("two attempts\n{spans}") };
    let [first_wait, second_wait] = *spans.named("get-connection") else { panic!("two waits\n{spans}") };
    ExpectedSpan::new().under(spans.only("application")).canceled().links(0).events([]).check(first);
    ExpectedSpan::new().under(first).canceled().with("httptrace.wait.cause", "dial").check(first_wait);
    for canceled in [first, first_wait] {
        assert_eq!(canceled.status, Status::Unset);
    }
    let dial = spans.only("background-dial");
    ExpectedSpan::new()
        .under(first)
        .kind(SpanKind::Internal)
        .with("httptrace.dial.outcome", "handed_over")
        .links(0)
        .check(dial);
    let [given_up, looked_up] = *spans.named("dns") else { panic!("two records of one lookup\n{spans}") };
    let (given_up, looked_up) = if spans.children(dial)[0].span_context == looked_up.span_context {
        (given_up, looked_up)
    } else {
        (looked_up, given_up)
    };
    ExpectedSpan::new().under(first_wait).canceled().without("dns.answers").check(given_up);
    ExpectedSpan::new().under(dial).with("dns.question.name", "origin.test").check(looked_up);
    ExpectedSpan::new().under(dial).check(spans.only("connect"));
    ExpectedSpan::new().under(dial).with("tls.protocol.version", "1.3").check(spans.only("tls"));

    ExpectedSpan::new()
        .under(spans.only("application"))
        .with("httptrace.connection.outcome", "handed_over")
        .with("httptrace.connection.reused", false)
        .with("httptrace.connection.request_number", 1)
        .links(1)
        .check(second);
    ExpectedSpan::new().under(second).with("httptrace.wait.cause", "other_dial").check(second_wait);
    assert!(names(&second.links[0], dial), "{:?}", second.links);
}

#[tokio::test]
async fn a_dial_that_nobody_waits_for_any_more_is_pooled_and_says_so() {
    let origin = Origin::tls().gate_handshake().serve(hello);
    let scene = Scene::new(origin.client_builder());
    let first = tokio::spawn(scene.traced.get(origin.url("/")));
    scene.traced.log.wait_for("tls_handshake_start", 1).await;
    first.abort();
    scene.traced.timelines(1).await;
    origin.gate("handshake").open();
    // GET, get-connection, connect, tls; background-dial, connect, tls.
    let spans = scene.spans(1, 7).await;
    let dial = spans.only("background-dial");
    ExpectedSpan::new().under(spans.only("GET")).with("httptrace.dial.outcome", "pooled").check(dial);
    let wait = spans.only("get-connection");
    let [connect, tls] = *spans.children(wait) else { panic!("{spans}") };
    assert_eq!((connect.name.as_ref(), tls.name.as_ref()), ("connect", "tls"));
    ExpectedSpan::new().check(connect);
    ExpectedSpan::new().canceled().check(tls);
    scene.traced.read(origin.url("/")).await.expect("a response");
    let spans = scene.spans(2, 11).await;
    let [_, second] = *spans.named("GET") else { panic!("two attempts\n{spans}") };
    ExpectedSpan::new()
        .with("httptrace.connection.outcome", "idle")
        .with("httptrace.connection.reused", false)
        .links(1)
        .check(second);
    assert!(names(&second.links[0], spans.only("background-dial")), "{:?}", second.links);
}

#[tokio::test]
async fn a_body_that_the_application_drops_is_no_error() {
    let origin = Origin::plain().serve(|_| async {
        Response::builder().status(StatusCode::OK).body(Full::from(vec![b'x'; 100_000])).expect("a response")
    });
    let scene = Scene::new(origin.client_builder());
    drop(within("a head", scene.traced.get(origin.url("/"))).await.expect("a response"));
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().events(["first-byte", "idle-return"]).check(spans.only("GET"));
    ExpectedSpan::new().with("httptrace.response.outcome", "dropped").check(spans.only("response-read"));
}
