//! Whole trees as Jaeger's API gives them: what a request that goes well looks like, alone and beside others.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use httptrace::{Client, Resends, ResponseFuture, dial::IpVersion};
use tower::Layer;
use tower::{Service, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;

use crate::{
    jaeger::{JaegerSpan, Trace},
    scene::{PROTOCOLS, Scene},
    support::{
        client::read,
        dns::FakeResolver,
        gate::Gate,
        origin::Origin,
        script::{
            Step::{AwaitClose, Close, ReadHead},
            write,
        },
    },
};

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

const REUSED: &str = "\
GET
  request-write
  response-wait
  response-read
";

pub(crate) async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

/// Every row begins where the one above it began, or later.
#[track_caller]
fn assert_in_time_order(trace: &Trace) {
    let rows = trace.rows();
    assert_eq!(rows.len(), trace.spans.len(), "{trace}");
    for pair in rows.windows(2) {
        assert!(pair[0].start <= pair[1].start, "{} is shown above {}\n{trace}", pair[0].name, pair[1].name);
    }
}

/// The library's own name and version, on every span.
#[track_caller]
fn assert_scope(trace: &Trace) {
    for span in trace.spans.iter().filter(|span| span.name != "application") {
        assert_eq!(span.tag("otel.scope.name"), Some("httptrace"), "{span:#?}");
        assert_eq!(span.tag("otel.scope.version"), Some(env!("CARGO_PKG_VERSION")), "{span:#?}");
        let kind = if span.name == "GET" { "client" } else { "internal" };
        assert_eq!(span.tag("span.kind").unwrap_or("internal"), kind, "{span:#?}");
    }
}

// mutants: src/views/spans.rs: no `add_link` · `get-connection` not live (a link to nowhere) · `finished` sets no events
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_cold_request_shows_its_set_up_and_a_reused_one_links_to_it() {
    for protocol in PROTOCOLS {
        for alpn in ["http/1.1", "h2"] {
            let mut scene = Scene::new(protocol).await;
            let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
            let trusted = Client::builder().root_certificates(vec![origin.root_certificate()]);
            // By the system's resolver, of whose answers one is listened on.
            let traced = scene.client(trusted.ip_version(IpVersion::V4));
            for _ in 0..2 {
                traced.read(origin.url_at("localhost", "/")).await.expect("a response");
                traced.log.settled().await;
            }
            let traces = scene.traces(&traced).await;
            let [cold, reused] = &traces[..] else { panic!("two traces, not {}", traces.len()) };
            assert_eq!((cold.to_string(), reused.to_string()), (COLD.to_owned(), REUSED.to_owned()));
            for trace in [cold, reused] {
                trace.assert_readable("GET");
                assert_in_time_order(trace);
                assert_scope(trace);
                assert_one_after_the_other(trace);
                assert_eq!(trace.only("GET").event_names(), ["first-byte", "idle-return"], "{trace}");
                assert_eq!(trace.only("request-write").event_names(), ["wrote-headers"]);
            }
            assert_cold(cold, &origin, alpn);
            assert_reused(reused, cold);
            let set_up = scene.jaeger.trace(&cold.id).await.expect("a link that can be followed");
            assert_eq!(set_up.to_string(), COLD);
        }
    }
}

#[track_caller]
fn assert_cold(cold: &Trace, origin: &Origin, alpn: &str) {
    let port = origin.addr().port().to_string();
    let client = cold.only("GET");
    assert!(client.links.is_empty(), "{client:#?}");
    for (name, value) in [
        ("url.full", &*format!("https://localhost:{port}/")),
        ("server.address", "localhost"),
        ("server.port", &port),
        ("http.response.status_code", "200"),
        ("httptrace.connection.outcome", "new"),
        ("httptrace.connection.reused", "false"),
    ] {
        assert_eq!(client.tag(name), Some(value), "{name} {client:#?}");
    }
    assert_eq!(cold.only("get-connection").tag("httptrace.wait.cause"), Some("dial"));
    assert_eq!(cold.only("dns").tag("dns.question.name"), Some("localhost"));
    assert_eq!(cold.only("connect").tag("network.peer.address"), Some("127.0.0.1"));
    let tls = cold.only("tls");
    assert_eq!((tls.tag("tls.protocol.version"), tls.tag("tls.next_protocol")), (Some("1.3"), Some(alpn)));
    let returned = &client.events[1].fields;
    assert_eq!(returned.get("httptrace.idle_return.outcome").map(String::as_str), Some("pooled"), "{returned:?}");
}

#[track_caller]
fn assert_reused(reused: &Trace, cold: &Trace) {
    let client = reused.only("GET");
    assert_eq!(client.links, [(cold.id.clone(), cold.only("get-connection").id.clone())]);
    for (name, value) in [
        ("httptrace.connection.outcome", "idle"),
        ("httptrace.connection.reused", "true"),
        ("httptrace.connection.was_idle", "true"),
        ("httptrace.connection.request_number", "2"),
    ] {
        assert_eq!(client.tag(name), Some(value), "{name} {client:#?}");
    }
    assert_eq!(client.tag("httptrace.connection.id"), cold.only("GET").tag("httptrace.connection.id"));
}

/// The three parts of an exchange leave no gap and do not overlap; the first byte is where the wait ends. But for what
/// is cut off a time, and for what sets two starts apart.
#[track_caller]
fn assert_one_after_the_other(trace: &Trace) {
    let [write, wait, read] = ["request-write", "response-wait", "response-read"].map(|name| trace.only(name));
    for (before, after) in [(write, wait), (wait, read)] {
        assert!(before.end().abs_diff(after.start) <= 2, "{before:#?}\n{after:#?}");
    }
    assert!(trace.only("GET").events[0].at.abs_diff(read.start) <= 1, "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_retry_is_a_sibling_of_the_try_that_failed() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let stale = vec![ReadHead, write(OK), ReadHead, Close];
        let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
        let traced = scene.client(origin.client_builder());
        let application = scene.application();
        for _ in 0..2 {
            let response = {
                let _current = application.clone().attach();
                traced.get(origin.url("/"))
            };
            read(response.await.expect("a response")).await.expect("a body");
            traced.log.settled().await;
        }
        drop(application);
        let traces = scene.traces(&traced).await;
        let [trace] = &traces[..] else { panic!("one trace, not {}", traces.len()) };
        trace.assert_readable("application");
        assert_in_time_order(trace);
        assert_eq!(trace.to_string(), RETRIED);
        let [first, failed, good] = *trace.named("GET") else { panic!("{trace}") };
        let set_ups = trace.named("get-connection");
        assert_eq!(failed.links, [(trace.id.clone(), set_ups[0].id.clone())], "to the set-up by the first");
        assert!(first.links.is_empty() && good.links.is_empty(), "{trace}");
        assert_eq!(resends(&[first, failed, good]), [None, None, Some("1")]);
        assert_eq!(good.tag("httptrace.retry.reason"), Some("stale_connection"));
        assert_eq!(failed.tag("error.type"), Some("connection_closed"));
    }
}

const RETRIED: &str = "\
application
  GET
    get-connection
      connect
    request-write
    response-wait
    response-read
  GET !
    request-write
    response-wait !
  GET
    get-connection
      connect
    request-write
    response-wait
    response-read
";

fn resends<'a>(spans: &[&'a JaegerSpan]) -> Vec<Option<&'a str>> {
    spans.iter().map(|span| span.tag("http.request.resend_count")).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn hops_of_a_redirect_are_siblings_under_the_callers_span() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let origin = Origin::plain().serve(async |request: Request<hyper::body::Incoming>| {
            let next = match request.uri().path() {
                "/a" => "/b",
                "/b" => "/c",
                _ => return Response::new(Full::new(Bytes::from_static(b"here"))),
            };
            let moved = Response::builder().status(StatusCode::FOUND).header("location", next);
            moved.body(Full::default()).expect("a response")
        });
        let traced = scene.client(origin.client_builder());
        let application = scene.application();
        let resends = Resends::default();
        let (client, settled) = (traced.client.clone(), traced.log.clone());
        let transport = service_fn(move |mut request: Request<Empty<Bytes>>| {
            request.extensions_mut().insert(resends.clone());
            let _current = application.clone().attach();
            let response: ResponseFuture = client.request(request);
            let settled = settled.clone();
            async move {
                let response = response.await?;
                // The hop's connection comes back before the next hop asks for one.
                let (head, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                settled.settled().await;
                Ok::<_, httptrace::Error>(Response::from_parts(head, Full::new(body)))
            }
        });
        let mut following = FollowRedirectLayer::new().layer(transport);
        let request = Request::get(origin.url("/a")).body(Empty::new()).expect("a request");
        let response = following.ready().await.expect("always").call(request).await.expect("a response");
        assert_eq!(response.status(), 200);
        drop(following);
        let traces = scene.traces(&traced).await;
        let [trace] = &traces[..] else { panic!("one trace, not {}", traces.len()) };
        trace.assert_readable("application");
        assert_in_time_order(trace);
        assert_eq!(trace.to_string(), FOLLOWED);
        let hops = trace.named("GET");
        assert_eq!(self::resends(&hops), [None, Some("1"), Some("2")]);
        let statuses: Vec<_> = hops.iter().map(|hop| hop.tag("http.response.status_code").unwrap_or("-")).collect();
        assert_eq!(statuses, ["302", "302", "200"]);
        let set_up = (trace.id.clone(), trace.only("get-connection").id.clone());
        assert_eq!((&hops[1].links, &hops[2].links), (&vec![set_up.clone()], &vec![set_up]));
    }
}

const FOLLOWED: &str = "\
application
  GET
    get-connection
      connect
    request-write
    response-wait
    response-read
  GET
    request-write
    response-wait
    response-read
  GET
    request-write
    response-wait
    response-read
";

// On one thread: who has said that it asks for a connection has been told to wait when the test goes on.
#[tokio::test]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_dial_that_went_on_is_a_background_dial_that_its_user_links_to() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let gate = Gate::new();
        let origin = Origin::tls().serve(hello);
        let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
        let builder = Client::builder().root_certificates(vec![origin.root_certificate()]);
        let traced = scene.client(builder.resolver(std::sync::Arc::new(resolver)));
        let application = scene.application();
        let get = || {
            let _current = application.clone().attach();
            tokio::spawn(traced.get(origin.url_at("origin.test", "/")))
        };
        let first = get();
        gate.reached().await;
        first.abort();
        traced.timelines(1).await;
        let second = get();
        traced.log.wait_for("get_conn", 2).await;
        gate.open();
        read(second.await.expect("no panic").expect("a response")).await.expect("a body");
        drop(application);
        let traces = scene.traces(&traced).await;
        let [trace] = &traces[..] else { panic!("one trace, not {}", traces.len()) };
        trace.assert_readable("application");
        assert_eq!(trace.to_string(), WENT_ON);
        let [given_up, served] = *trace.named("GET") else { panic!("{trace}") };
        assert_eq!(given_up.tag("error.type"), Some("canceled"));
        assert_eq!(trace.only("background-dial").tag("httptrace.dial.outcome"), Some("handed_over"));
        assert_eq!(served.links, [(trace.id.clone(), trace.only("background-dial").id.clone())]);
    }
}

/// Nothing is red: who gives up has not failed.
const WENT_ON: &str = "\
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
