//! Which hooks fire, how often, in which order, and with what.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use httptrace::{
    Client, ClientTrace, Timeline,
    hooks::{self, client_trace, with_client_trace},
};
use hyper::body::Incoming;

use crate::support::{
    client::{Traced, read},
    dns::{Failure, FakeResolver},
    frames::{DATA, HEADERS, PREFACE, answer, greeting, head},
    origin::Origin,
    script::{
        Step::{AwaitClose, Close, Read, ReadFrame, ReadHead},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

/// Outcome, reused, was idle, number of the request.
fn facts(timeline: &Timeline) -> (&'static str, bool, bool, u64) {
    let used = timeline.connection.as_ref().expect("a connection");
    (used.outcome.as_str(), used.reused(), used.was_idle(), used.request_number)
}

/// A first request, up to its connection; what follows differs.
const COLD: [&str; 8] = [
    "get_conn",
    "dns_start",
    "dns_done",
    "connect_start",
    "connect_done",
    "tls_handshake_start",
    "tls_handshake_done",
    "got_conn",
];

/// Go: TestTransportEventTrace, TestTransportEventTrace_h2, TestTLSHandshakeTrace.
#[tokio::test]
async fn every_event_of_an_upload_that_waits_for_100_fires_once_and_in_its_order() {
    let http1 = Origin::tls_with_alpn(&["http/1.1"]).script([
        ReadHead,
        write("HTTP/1.1 100 Continue\r\n\r\n"),
        Read(4),
        write(OK),
        ReadHead,
        write(OK),
        AwaitClose,
    ]);
    let http2 = Origin::tls_with_alpn(&["h2"]).script([
        Read(PREFACE),
        greeting(),
        ReadFrame(HEADERS, 1),
        write(head(1, 100, &[], false)),
        ReadFrame(DATA, 1),
        answer(1, "ok"),
        ReadFrame(HEADERS, 3),
        answer(3, "ok"),
        AwaitClose,
    ]);
    let fields1 = ["content-length", "expect", "host"];
    let fields2 = [":authority", ":method", ":path", ":scheme", "content-length", "expect"];
    for (origin, fields) in [(http1, &fields1[..]), (http2, &fields2[..])] {
        let traced = Traced::new(origin.client_builder().expect_continue_timeout(Duration::from_secs(3600)));
        let url = origin.url_at("origin.test", "/");
        let request = Request::post(url.clone()).header("expect", "100-continue").body(Full::from("body"));
        let response = within("a response", traced.client.request(request.expect("a request"))).await;
        read(response.expect("a response")).await.expect("a body");
        let log = traced.log.settled().await;
        log.assert_paired();

        let mut told: Vec<_> = log.details("wrote_header_field");
        told.sort_unstable();
        assert_eq!(told, fields, "each field once");
        let rest = [
            "wrote_headers",
            "wait_100_continue",
            "got_first_response_byte",
            "got_1xx_response",
            "got_100_continue",
            "wrote_request",
            "response_done",
            "put_idle_conn",
        ];
        let order: Vec<_> = log.names().into_iter().filter(|name| *name != "wrote_header_field").collect();
        assert_eq!(order, [&COLD[..], &rest].concat(), "{log}");
        let port = origin.addr().port();
        for (hook, detail) in [
            ("get_conn", format!("origin.test:{port}")),
            ("dns_start", "origin.test".to_owned()),
            ("dns_done", "[127.0.0.1] ".to_owned()),
            ("connect_done", String::new()),
            ("tls_handshake_start", "origin.test".to_owned()),
            ("tls_handshake_done", "1.3 ".to_owned()),
            ("got_1xx_response", "100".to_owned()),
            ("wrote_request", "Some(4) ".to_owned()),
            ("response_done", "complete ".to_owned()),
            ("put_idle_conn", "pooled".to_owned()),
        ] {
            assert_eq!(log.details(hook), [detail], "{hook}");
        }
        assert_eq!(facts(&traced.timeline().await), ("new", false, false, 1));

        // The second one asks once, gets once, and has no set-up.
        traced.read(url).await.expect("a response");
        traced.log.settled().await.assert_paired_over(2);
        let second: Vec<_> = traced.log.names().split_off(COLD.len() + fields.len() + rest.len());
        let second: Vec<_> = second.into_iter().filter(|name| *name != "wrote_header_field").collect();
        let reused = [
            "get_conn",
            "got_conn",
            "wrote_headers",
            "wrote_request",
            "got_first_response_byte",
            "response_done",
            "put_idle_conn",
        ];
        assert_eq!(second, reused, "{}", traced.log);
        assert_eq!(facts(&traced.timelines(2).await[1]), ("idle", true, true, 2));
    }
}

/// Go: TestTransportEventTraceTLSVerify.
#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_once_and_nothing_is_sent() {
    let origin = Origin::tls().serve(hello);
    let stranger = Origin::tls().serve(hello);
    let traced = Traced::new(origin.client_builder().root_certificates(vec![stranger.root_certificate()]));
    traced.read(origin.url_at("origin.test", "/")).await.expect_err("signed by somebody else");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.count("tls_handshake_start"), 1);
    assert_eq!(traced.log.details("tls_handshake_done"), [" error=tls/certificate_untrusted"]);
    assert_eq!((traced.log.count("got_conn"), origin.served()), (0, 0));
}

/// Go: TestTransportEventTraceRealDNS.
#[tokio::test]
async fn a_lookup_that_fails_is_told_and_nothing_is_connected_to() {
    let resolver = FakeResolver::new().fail("dns-should-not-resolve.test", Failure::HostNotFound);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)));
    let url = http::Uri::from_static("http://dns-should-not-resolve.test:80/");
    traced.read(url).await.expect_err("no such host");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.names(), ["get_conn", "dns_start", "dns_done", "get_conn_failed"]);
    assert_eq!(traced.log.details("dns_done"), ["[] error=dns/host_not_found"]);
}

/// Go: TestTransportTraceGotConnH2IdleConns, TestTransportGetGotConnHooks_HTTP1, TestTransportGetGotConnHooks_HTTP2.
#[tokio::test]
async fn requests_one_after_the_other_each_ask_once_and_get_once() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let traced = Traced::new(origin.client_builder());
        for asked in 1..=3 {
            traced.read(origin.url("/")).await.expect("a response");
            traced.log.settled().await.assert_paired_over(asked);
            assert_eq!((traced.log.count("get_conn"), traced.log.count("got_conn")), (asked, asked), "{alpn}");
        }
        let told: Vec<_> = traced.timelines(3).await.iter().map(facts).collect();
        assert_eq!(told, [("new", false, false, 1), ("idle", true, true, 2), ("idle", true, true, 3)], "{alpn}");
        assert_eq!(origin.accepted(), 1);
    }
}

/// Go: TestTransportH2c.
#[tokio::test]
async fn cleartext_http2_is_one_new_connection_without_a_handshake() {
    let origin = Origin::plain().http2().serve(hello);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let response = within("a response", traced.get(origin.url("/"))).await.expect("a response");
    assert_eq!(response.version(), http::Version::HTTP_2);
    read(response).await.expect("a body");
    traced.log.settled().await.assert_paired();
    assert_eq!((traced.log.count("got_conn"), traced.log.count("tls_handshake_start")), (1, 0));
    assert_eq!(facts(&traced.timeline().await), ("new", false, false, 1));
}

/// Go: TestTransportRespectRequestWantsClose.
#[tokio::test]
async fn a_close_that_is_asked_for_is_written_once() {
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    for answer in [OK, close] {
        let origin = Origin::plain().script([ReadHead, write(answer), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        for number in 1..=2 {
            let request = Request::get(origin.url("/")).header("connection", "close").body(Empty::<Bytes>::new());
            let response = within("a response", traced.client.request(request.expect("a request"))).await;
            read(response.expect("a response")).await.expect("a body");
            traced.log.wait_for("put_idle_conn", number).await;
        }
        for connection in origin.record().connections {
            let heads = connection.heads.concat().to_ascii_lowercase();
            assert_eq!(heads.matches("connection:").count(), 1, "{heads}");
        }
        assert_eq!(traced.log.details("put_idle_conn"), ["closed connection_close", "closed connection_close"]);
        assert_eq!(origin.accepted(), 2);
    }
}

/// Go: TestServerKeepAlivesEnabled.
#[tokio::test]
async fn a_server_that_keeps_no_connections_gets_a_new_one_each_time() {
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::plain().script([ReadHead, write(close), Close]);
    let traced = Traced::new(origin.client_builder());
    for _ in 0..3 {
        traced.read(origin.url("/")).await.expect("a response");
    }
    for timeline in traced.timelines(3).await {
        assert_eq!(facts(&timeline), ("new", false, false, 1));
        ExpectedTimeline::new().idle_return("closed connection_close").check(&timeline);
    }
    assert_eq!(origin.accepted(), 3);
}

/// Go: TestDontCacheBrokenHTTP2Conn.
#[tokio::test]
async fn a_broken_http2_connection_is_never_used_again() {
    let origin = Origin::tls_with_alpn(&["h2"]).script([Close]);
    let traced = Traced::new(origin.client_builder());
    for number in 1..=5 {
        traced.read(origin.url("/")).await.expect_err("a connection that ends at once");
        traced.log.settled().await.assert_paired_over(number);
    }
    assert_eq!(origin.accepted(), 5);
    for timeline in traced.timelines(5).await {
        assert!(timeline.connection.as_ref().is_none_or(|used| !used.reused()), "{timeline:?}");
    }
}

/// Writes its name down, with the hook's.
struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl ClientTrace for Named {
    fn get_conn(&self, _: &hooks::GetConnInfo<'_>) {
        self.1.lock().expect("no panic under the lock").push(self.0);
    }
}

/// Go: TestWithClientTrace, TestCompose.
#[tokio::test]
async fn newer_hooks_run_before_older_ones_and_all_of_them_run() {
    let told = Arc::<Mutex<Vec<&'static str>>>::default();
    let named = |name| Arc::new(Named(name, Arc::clone(&told))) as Arc<dyn ClientTrace>;
    let origin = Origin::plain().serve(hello);
    let client = origin.client_builder().client_trace(named("client")).build().expect("settings that fit");
    let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
    assert!(client_trace(&request).is_none());
    for name in ["oldest", "older", "newest"] {
        with_client_trace(&mut request, named(name));
        assert!(client_trace(&request).is_some());
    }
    read(within("a response", client.request(request)).await.expect("a response")).await.expect("a body");
    assert_eq!(*told.lock().expect("no panic under the lock"), ["newest", "older", "oldest", "client"]);
}
