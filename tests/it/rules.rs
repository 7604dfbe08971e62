//! The rules of `ClientTrace`, one test or more for each, named after it.
//!
//! Beside each rule stand changes of `src` that make a test of it fail: file, function, change → failing test. Each was
//! tried; where other rules' tests fail too, only this rule's are named.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Channel, Full};
use httptrace::{
    Client, ClientTrace, Timeline,
    clock::TimeAnchor,
    hooks::{self, GotConnInfo, PutIdleConnInfo},
    timeline::{Asked, DialOutcome, DialRecord, PendingDial, Report, Reporter},
};
use tokio::sync::watch;

use crate::support::{
    client::{Traced, read},
    dns::FakeResolver,
    gate::Gate,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, Gate as AtGate, Read, ReadHead, Reset},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"hello")))
}

/// Polls a future so often, then drops it.
async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        let result = future.as_mut().poll(cx).map(Some);
        if polls == times && result.is_pending() {
            return Poll::Ready(None);
        }
        result
    })
    .await
}

// Rule 1: every start has exactly one done, also on error, timeout, cancel and drop.
// hooks/emit.rs, `Drop for Tls`: no `self.pay(…)` → a_runtime_that_ends_…
// hooks/emit.rs, `Drop for Dns`: no `self.pay(…)` → a_runtime_that_ends_…
// hooks/emit.rs, `Drop for GetConn`: no `self.pay(…)` → all three.
// hooks/emit.rs, `Owed::pay`: `self.0.clone()` for `self.0.take()`, so that the drop pays again → all three.

#[tokio::test]
async fn rule_1_a_request_dropped_after_any_poll_ends_all_that_it_began() {
    for origin in [Origin::plain().serve(hello), Origin::tls().serve(hello), Origin::tls().http2().serve(hello)] {
        for polls in 0..24 {
            let traced = Traced::new(origin.client_builder());
            let whole = async {
                let response = traced.get(origin.url("/")).await?;
                read(response).await
            };
            let ended = polled(polls, whole).await;
            drop(ended);
            if polls > 0 {
                traced.log.wait_for("get_conn", 1).await;
                traced.log.settled().await.assert_paired();
                within("the attempt's end", traced.timeline()).await;
            }
        }
    }
}

#[tokio::test]
async fn rule_1_a_lookup_that_is_given_up_is_told_when_it_ends() {
    let gate = Gate::new();
    let origin = Origin::plain().serve(hello);
    let resolver = FakeResolver::new().local("slow.test").hold("slow.test", &gate);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)));
    let uri = format!("http://slow.test:{}/", origin.addr().port()).parse().expect("a URI");
    let request = tokio::spawn(traced.get(uri));
    gate.reached().await;
    request.abort();
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", "canceled").check(&timeline);
    assert_eq!(traced.log.count("dns_done"), 0, "the dial goes on\n{}", traced.log);
    gate.open();
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.count("connect_done"), 1);
}

#[test]
fn rule_1_a_runtime_that_ends_ends_all_that_was_begun() {
    let origin_runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for (step, done) in [("dns_start", "dns_done"), ("tls_handshake_start", "tls_handshake_done")] {
        let origin = origin_runtime.block_on(async { Origin::tls().gate_handshake().serve(hello) });
        let resolver = FakeResolver::new().local("origin.test");
        let resolver = if step == "dns_start" { resolver.hold("origin.test", &Gate::new()) } else { resolver };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let traced = runtime.block_on(async {
            let traced = Traced::new(origin.client_builder().resolver(Arc::new(resolver)));
            tokio::spawn(traced.get(origin.url_at("origin.test", "/")));
            traced.log.wait_for(step, 1).await;
            traced
        });
        drop(runtime);
        traced.log.assert_paired();
        assert_eq!(traced.log.count(done), 1);
    }
    origin_runtime.shutdown_background();
}

// Rule 2: per attempt one get_conn, then exactly one of got_conn and get_conn_failed; HTTP/2 included.
// pool/core.rs, `may_dial`: `false` for `host.dialing > 0`, so that nobody waits for another's dial → eight_cold_…
// hooks/emit.rs, `GetConn::got`: `self.owed.0.clone()` for `.take()`, so that its drop tells a failure → eight_cold_…

/// Go: TestTransportPoolConnHTTP2Startup, where each dials and the first dial serves all.
#[tokio::test]
async fn rule_2_eight_cold_http2_requests_ask_once_each_and_make_one_dial() {
    let origin = Origin::tls().http2().serve(hello);
    let traced = Traced::new(origin.client_builder());
    let requests: Vec<_> = (0..8).map(|_| tokio::spawn(traced.get(origin.url("/")))).collect();
    for request in requests {
        read(request.await.expect("no panic").expect("a response")).await.expect("a body");
    }
    traced.log.settled().await.assert_paired_over(8);
    for (hook, count) in [("get_conn", 8), ("got_conn", 8), ("get_conn_failed", 0), ("connect_start", 1)] {
        assert_eq!(traced.log.count(hook), count, "{hook}\n{}", traced.log);
    }
    let outcomes = traced.log.details("got_conn");
    assert_eq!(outcomes.iter().filter(|got| got.contains("outcome=new")).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|got| got.contains("outcome=shared")).count(), 7, "{outcomes:?}");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn rule_2_a_request_that_gets_no_connection_is_told_once() {
    let refusing = Refusing::new();
    let traced = Traced::new(Client::builder());
    let uri = format!("http://{}/", refusing.addr()).parse().expect("a URI");
    traced.read(uri).await.expect_err("nobody listens");
    traced.log.settled().await.assert_paired();
    assert_eq!((traced.log.count("got_conn"), traced.log.count("get_conn_failed")), (0, 1));
}

// Rule 3: a hook fires when its event happens.
// exchange/marks.rs, `body_over`: with `self.wrote_request(self.hooks.now())`, the moment of handing over →
// wrote_request_waits_until_…, an_http2_connection_is_back_…
// exchange/sensor.rs, `flushed`: no `exchange.is_body_over()` → a_flush_in_the_middle_of_a_body_…
// exchange/sensor.rs, `passed_in`: no `exchange.read(at)` for HTTP/1, but in exchange/mod.rs, `send`, before
// `exchange.head_read()` → the_first_byte_is_told_…
// exchange/marks.rs, `side_over`: no `marks.request_over` → an_http2_connection_is_back_…

#[tokio::test]
async fn rule_3_wrote_request_waits_until_the_socket_took_the_last_byte() {
    const LENGTH: usize = 16 << 20;
    for origin in [Origin::plain(), Origin::tls_with_alpn(&["http/1.1"])] {
        let origin = origin.script([ReadHead, AtGate("body"), Read(LENGTH), write(OK), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        let body = Full::new(Bytes::from(vec![b'x'; LENGTH]));
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let response = tokio::spawn(traced.client.request(request));
        traced.log.wait_for("wrote_headers", 1).await;
        within("the head at the origin", origin.gate("body").reached()).await;
        // No socket buffers take sixteen megabytes that nobody reads.
        assert_eq!(traced.log.count("wrote_request"), 0, "{}", traced.log);
        origin.gate("body").open();
        read(response.await.expect("no panic").expect("a response")).await.expect("a body");
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("wrote_request"), [format!("Some({LENGTH}) ")]);
    }
}

#[tokio::test]
async fn rule_3_a_flush_in_the_middle_of_a_body_is_not_its_end() {
    for origin in [Origin::plain(), Origin::tls_with_alpn(&["http/1.1"])] {
        let first = b"3\r\none\r\n".len();
        let rest = b"3\r\ntwo\r\n0\r\n\r\n".len();
        let origin = origin.script([ReadHead, Read(first), AtGate("middle"), Read(rest), write(OK), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        let (mut frames, body) = Channel::<Bytes>::new(2);
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let response = tokio::spawn(traced.client.request(request));
        within("room", frames.send_data(Bytes::from_static(b"one"))).await.expect("a reader");
        within("the first frame at the origin", origin.gate("middle").reached()).await;
        traced.log.wait_for("wrote_headers", 1).await;
        assert_eq!(traced.log.count("wrote_request"), 0, "half of the body was not even made\n{}", traced.log);
        origin.gate("middle").open();
        within("room", frames.send_data(Bytes::from_static(b"two"))).await.expect("a reader");
        drop(frames);
        read(response.await.expect("no panic").expect("a response")).await.expect("a body");
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("wrote_request"), ["Some(6) "]);
    }
}

#[tokio::test]
async fn rule_3_the_first_byte_is_told_before_the_head_is_whole() {
    let origin = Origin::plain().script([ReadHead, write("H"), AtGate("rest"), write(&OK[1..]), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let response = tokio::spawn(traced.get(origin.url("/")));
    traced.log.wait_for("got_first_response_byte", 1).await;
    assert_eq!(traced.log.count("response_done"), 0);
    origin.gate("rest").open();
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");
    let timeline = traced.timeline().await;
    ExpectedTimeline::new()
        .phases(["get-connection", "connect", "request-write", "response-wait", "response-read"])
        .idle_return("pooled")
        .check(&timeline);
}

#[tokio::test]
async fn rule_3_an_http2_connection_is_back_only_when_its_stream_is_free() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::plain().http2().serve(move |request: Request<hyper::body::Incoming>| {
        let held = held.clone();
        async move {
            // The answer is complete while the request's body is still to be read.
            let response = Response::new(Full::new(Bytes::from_static(b"early")));
            tokio::spawn(async move {
                held.wait().await;
                let _ = request.into_body().collect().await;
            });
            response
        }
    });
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let body = Full::new(Bytes::from(vec![0; 4 << 20]));
    let request = Request::post(origin.url("/")).body(body).expect("a request");
    let response = within("the early answer", traced.client.request(request)).await.expect("a response");
    read(response).await.expect("a body");
    traced.log.wait_for("response_done", 1).await;
    assert_eq!(traced.log.count("put_idle_conn"), 0, "the upload still holds the stream\n{}", traced.log);
    gate.open();
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("put_idle_conn"), ["pooled"]);
}

// Rule 4: put_idle_conn once per attempt that got a connection, with its outcome.
// exchange/body.rs, `must_close`: no `CloseReason::Http10` branch → every_return_tells_its_outcome
// exchange/driver.rs, `poll_drain`: `usize::MAX - DRAIN_BYTES` for the limit → every_return_tells_its_outcome
// exchange/body.rs, `Ending::dropped`: `After::Close(BodyIncomplete)` for `After::Drain` → a_little_that_was_left_…
// pool/core.rs: `PoolFull` for `HostPoolFull` → limits_of_the_pool_are_told

#[tokio::test]
async fn rule_4_every_return_tells_its_outcome() {
    let big = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(1_000_000));
    let cases = [
        ("pooled", vec![ReadHead, write(OK), AwaitClose]),
        (
            "closed connection_close",
            vec![ReadHead, write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")],
        ),
        ("closed http_1_0", vec![ReadHead, write("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"), AwaitClose]),
        ("closed body_incomplete", vec![ReadHead, write(big), AwaitClose]),
        ("closed peer_closed", vec![ReadHead]),
        (
            "closed io_error",
            vec![ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), AtGate("head"), Reset],
        ),
        ("closed protocol_error", vec![ReadHead, write("nonsense\r\n\r\n"), AwaitClose]),
    ];
    for (outcome, script) in cases {
        let origin = Origin::plain().script(script);
        let traced = Traced::new(origin.client_builder());
        let response = within(outcome, traced.get(origin.url("/"))).await;
        origin.gate("head").open();
        match response {
            // Dropped unread: what is left decides.
            Ok(response) if outcome == "closed body_incomplete" => drop(response),
            Ok(response) => drop(read(response).await),
            Err(_) => {}
        }
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("put_idle_conn"), [outcome], "{}", traced.log);
    }
}

#[tokio::test]
async fn rule_4_a_little_that_was_left_unread_does_not_cost_the_connection() {
    let origin = Origin::plain().serve(|_| async { Response::new(Full::new(Bytes::from(vec![0; 100_000]))) });
    let traced = Traced::new(origin.client_builder());
    for _ in 0..2 {
        drop(within("a head", traced.get(origin.url("/"))).await.expect("a response"));
        traced.log.settled().await;
    }
    assert_eq!(traced.log.details("put_idle_conn"), ["pooled", "pooled"], "{}", traced.log);
    assert_eq!(origin.accepted(), 1);
    ExpectedTimeline::new().response("dropped").check(&traced.timeline().await);
}

/// Go: TestTransportPoolConnClosesConnsPastMaxIdleConnsPerHost.
#[tokio::test]
async fn rule_4_limits_of_the_pool_are_told() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().pool_max_idle(0));
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.settled().await;
    assert_eq!(traced.log.details("put_idle_conn"), ["closed keep_alive_disabled"]);

    let traced = Traced::new(origin.client_builder().pool_max_idle_per_host(1));
    let (one, two) = (traced.get(origin.url("/")), traced.get(origin.url("/")));
    let (one, two) = tokio::join!(one, two);
    read(one.expect("a response")).await.expect("a body");
    read(two.expect("a response")).await.expect("a body");
    traced.log.settled().await;
    assert_eq!(traced.log.details("put_idle_conn"), ["pooled", "closed host_pool_full"], "{}", traced.log);
}

#[tokio::test]
async fn rule_4_a_connection_goes_straight_to_who_waits_for_it() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().max_connections_per_host(1));
    let first = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    let second = tokio::spawn(traced.get(origin.url("/")));
    traced.log.wait_for("get_conn", 2).await;
    tokio::task::yield_now().await;
    read(first).await.expect("a body");
    read(second.await.expect("no panic").expect("a response")).await.expect("a body");
    traced.log.settled().await.assert_paired_over(2);
    assert_eq!(traced.log.details("put_idle_conn"), ["handed_over", "pooled"]);
    let second = traced.timelines(2).await.remove(1);
    ExpectedTimeline::new().outcome("handed_over").reused(true).check(&second);
    assert_eq!(second.wait.and_then(|wait| wait.cause).map(|cause| cause.as_str()), Some("host_limit"));
}

// Rule 5: a dial that lost its race is told, and never touches a record that it does not belong to.
// timeline/recorder.rs, `setup_hook`: `fold(timeline)` whether or not there is a connection → this test.
// timeline/recorder.rs, `got_conn`: no `timeline.setup.clear()` → this test.

#[tokio::test]
async fn rule_5_a_dial_that_was_overtaken_is_paired_but_not_in_the_record() {
    let origin = Origin::plain().serve(hello);
    let (gate, resolver) = (Gate::new(), FakeResolver::new().local("origin.test"));
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver.clone())));
    let url = origin.url_at("origin.test", "/");
    let first = within("a head", traced.get(url.clone())).await.expect("a response");
    let resolver = resolver.hold("origin.test", &gate);
    let second = tokio::spawn(traced.get(url));
    gate.reached().await;
    // The first one's connection comes back while the second one's dial is still at its lookup.
    read(first).await.expect("a body");
    let second = within("a head", second).await.expect("no panic").expect("a response");
    gate.open();
    traced.log.wait_for("connect_done", 2).await;
    read(second).await.expect("a body");
    traced.log.settled().await.assert_paired_over(2);
    assert_eq!((resolver.lookups("origin.test"), traced.log.count("dns_done")), (2, 2));
    ExpectedTimeline::new()
        .phases(["get-connection", "request-write", "response-wait", "response-read"])
        .outcome("handed_over")
        .reused(true)
        .check(&traced.timelines(2).await[1]);
}

// Rule 6: hooks observe.
// hooks/fanout.rs, `contained`: `hook()` without `catch_unwind` → both.
// client.rs, `Call::exchange`: one more header field where `exchange.is_watched()` → the_bytes_and_the_reuse_…

/// Uses the client from inside its hooks, and panics in all of the others.
struct Wild(std::sync::OnceLock<Client>);

impl ClientTrace for Wild {
    fn got_conn(&self, _: &GotConnInfo<'_>) {
        self.0.get().expect("set before the first request").close_idle_connections();
    }

    fn put_idle_conn(&self, _: &PutIdleConnInfo) {
        let client = self.0.get().expect("set before the first request").clone();
        drop(client.get(http::Uri::from_static("http://nowhere.invalid/")));
    }

    fn wrote_headers(&self, _: &hooks::WroteHeadersInfo) {
        panic!("a hook that panics");
    }

    fn response_done(&self, _: &hooks::ResponseDoneInfo<'_>) {
        panic!("a hook that panics");
    }
}

#[tokio::test]
async fn rule_6_the_bytes_and_the_reuse_are_the_same_with_any_hooks() {
    let mut seen = Vec::new();
    for trace in [None, Some(Arc::new(()) as Arc<dyn ClientTrace>), Some(Arc::new(Panics))] {
        let origin = Origin::plain().serve(hello);
        let mut builder = origin.client_builder();
        if let Some(trace) = trace {
            builder = builder.client_trace(trace);
        }
        let client = builder.telemetry(false).build().expect("settings that fit");
        for path in ["/one", "/two"] {
            let request = Request::post(origin.url(path)).header("x-mine", "1").header("host", "fixed");
            let request = request.body(Full::new(Bytes::from_static(b"body"))).expect("a request");
            let response = within("a response", client.request(request)).await.expect("a response");
            read(response).await.expect("a body");
        }
        let requests: Vec<_> =
            origin.record().requests.iter().map(|seen| (seen.connection, seen.headers.clone())).collect();
        seen.push((requests, origin.accepted()));
    }
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
    assert_eq!(seen[0].1, 1);
}

struct Panics;

impl ClientTrace for Panics {
    fn get_conn(&self, _: &hooks::GetConnInfo<'_>) {
        panic!("a hook that panics");
    }

    fn wrote_request(&self, _: &hooks::WroteRequestInfo<'_>) {
        panic!("a hook that panics");
    }

    fn put_idle_conn(&self, _: &PutIdleConnInfo) {
        panic!("a hook that panics");
    }
}

#[tokio::test]
async fn rule_6_a_hook_may_use_its_own_client() {
    let origin = Origin::plain().serve(hello);
    let wild = Arc::new(Wild(std::sync::OnceLock::new()));
    let client =
        origin.client_builder().client_trace(Arc::clone(&wild) as Arc<dyn ClientTrace>).build().expect("a client");
    wild.0.set(client.clone()).expect("set once");
    for _ in 0..3 {
        let response = within("no deadlock", client.get(origin.url("/"))).await.expect("a response");
        read(response).await.expect("a body");
    }
}

// Rule 7: absent is absent.
// timeline/recorder.rs, `got_conn`: `_ => {}` for `(wait, _) => *wait = None` → a_reused_connection_has_no_set_up
// dial/mod.rs, `addresses`: no branch for what parses as an `IpAddr` → an_address_has_no_lookup

/// Go: TestTransportPoolConnReusePriorConnection.
#[tokio::test]
async fn rule_7_a_reused_connection_has_no_set_up() {
    let origin = Origin::tls().serve(hello);
    let traced = Traced::new(origin.client_builder());
    for _ in 0..2 {
        traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
        traced.log.settled().await;
    }
    let timelines = traced.timelines(2).await;
    ExpectedTimeline::new()
        .phases(["get-connection", "dns", "connect", "tls", "request-write", "response-wait", "response-read"])
        .outcome("new")
        .reused(false)
        .check(&timelines[0]);
    ExpectedTimeline::new()
        .phases(["request-write", "response-wait", "response-read"])
        .outcome("idle")
        .reused(true)
        .check(&timelines[1]);
    for hook in ["dns_start", "connect_start", "tls_handshake_start"] {
        assert_eq!(traced.log.count(hook), 1, "{hook}");
    }
    assert!(timelines[1].connection.as_ref().is_some_and(|connection| connection.info.tls.is_some()));
}

#[tokio::test]
async fn rule_7_an_address_has_no_lookup() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("a response");
    assert_eq!(traced.log.count("dns_start"), 0);
    let phases = ["get-connection", "connect", "request-write", "response-wait", "response-read"];
    ExpectedTimeline::new().phases(phases).check(&traced.timeline().await);
}

// Rule 8: reused means that the connection has carried a request before.
// timeline/mod.rs, `ConnectionUse::reused`: `self.outcome != ConnOutcome::New` → the_first_use_of_…
// timeline/mod.rs, `ConnectionUse::was_idle`: `self.request_number > 1` → the_first_use_of_…
// pool/core.rs: a slot begins with `uses: 1` → both.

fn facts(timeline: &Timeline) -> (&'static str, bool, bool, u64) {
    let used = timeline.connection.as_ref().expect("a connection");
    (used.outcome.as_str(), used.reused(), used.was_idle(), used.request_number)
}

/// Tells when a dial without its request has come to its end, and to which.
#[derive(Clone, Default)]
struct Dials(watch::Sender<Option<DialOutcome>>);

impl Reporter for Dials {
    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }
}

impl Report for Dials {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        None
    }

    fn background_dial(&self, _: &DialRecord) -> Option<PendingDial> {
        let told = self.0.clone();
        Some(PendingDial { trace: None, finish: Box::new(move |outcome| _ = told.send_replace(Some(outcome))) })
    }

    fn finished(&self, _: &Arc<Timeline>) {}
}

#[tokio::test]
async fn rule_8_the_first_use_of_a_connection_that_another_dialled_is_no_reuse() {
    for alpn in ["http/1.1", "h2"] {
        for waits in [true, false] {
            let (gate, dials) = (Gate::new(), Dials::default());
            let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
            let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &gate);
            let builder = origin.client_builder().resolver(Arc::new(resolver)).reporter(Arc::new(dials.clone()));
            let traced = Traced::new(builder);
            let url = origin.url_at("origin.test", "/");
            let given_up = tokio::spawn(traced.get(url.clone()));
            gate.reached().await;
            given_up.abort();
            traced.log.wait_for("get_conn_failed", 1).await;
            // The next request either waits for the dial, or comes when its connection is in the pool.
            let next = if waits {
                let next = tokio::spawn(traced.get(url.clone()));
                traced.log.wait_for("get_conn", 2).await;
                gate.open();
                next.await.expect("no panic")
            } else {
                gate.open();
                let mut pooled = dials.0.subscribe();
                within("the dial's end", pooled.wait_for(|outcome| *outcome == Some(DialOutcome::Pooled)))
                    .await
                    .expect("open");
                within("a head", traced.get(url.clone())).await
            };
            read(next.expect("a response")).await.expect("a body");
            traced.log.settled().await;
            traced.read(url).await.expect("a response");
            let timelines = traced.timelines(3).await;
            let outcome = if waits { "handed_over" } else { "idle" };
            assert_eq!(facts(&timelines[1]), (outcome, false, !waits, 1), "{alpn}");
            assert_eq!(facts(&timelines[2]), ("idle", true, true, 2), "{alpn}");
            assert_eq!(origin.accepted(), 1);
        }
    }
}

#[tokio::test]
async fn rule_8_outcomes_of_http1_and_http2() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    for _ in 0..2 {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
    }
    let told: Vec<_> = traced.timelines(2).await.iter().map(facts).collect();
    assert_eq!(told, [("new", false, false, 1), ("idle", true, true, 2)]);

    let origin = Origin::plain().http2().serve(hello);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let first = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    traced.read(origin.url("/")).await.expect("a response");
    read(first).await.expect("a body");
    traced.log.settled().await;
    traced.read(origin.url("/")).await.expect("a response");
    let mut told: Vec<_> = traced.timelines(3).await.iter().map(facts).collect();
    told.sort_by_key(|(_, _, _, number)| *number);
    assert_eq!((told[0], told[2]), (("new", false, false, 1), ("idle", true, true, 3)));
    assert!(matches!(told[1], ("shared" | "idle", true, _, 2)), "{:?}", told[1]);
}
