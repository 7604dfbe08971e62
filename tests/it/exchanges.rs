//! What any client must do, on both protocols: bodies both ways, framing, heads without bodies, upgrades, many at once.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, channel::Channel};
use httptrace::Resends;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    client::{Traced, read},
    origin::{Origin, OriginBuilder},
    script::{
        Step::{AwaitClose, Gate as AtGate, Read, ReadHead},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

/// Each kind of origin, with a client for it.
fn both(build: impl Fn(OriginBuilder) -> Origin) -> Vec<(Origin, Traced)> {
    let plain = build(Origin::plain());
    let http2 = build(Origin::plain().http2());
    let tls = build(Origin::tls_with_alpn(&["h2"]).http2());
    let clients = [
        Traced::new(plain.client_builder()),
        Traced::new(http2.client_builder().http2_prior_knowledge()),
        Traced::new(tls.client_builder()),
    ];
    [plain, http2, tls].into_iter().zip(clients).collect()
}

async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let length = request.headers().get("content-length").cloned();
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let mut response = Response::new(Full::new(body));
    if let Some(length) = length {
        response.headers_mut().insert("x-content-length", length);
    }
    response
}

#[tokio::test]
async fn a_body_goes_there_and_back_and_is_counted() {
    for (origin, traced) in both(|origin| origin.serve(echo)) {
        for size in [1, 100_000, 3_000_000] {
            let sent = Bytes::from(vec![b'x'; size]);
            let request = Request::post(origin.url("/")).body(Full::new(sent.clone())).expect("a request");
            let response = within("an echo", traced.client.request(request)).await.expect("a response");
            assert_eq!(response.headers()["x-content-length"], size.to_string().as_str());
            assert_eq!(read(response).await.expect("a body"), sent);
        }
        traced.log.settled().await.assert_paired_over(3);
        for (timeline, size) in traced.timelines(3).await.iter().zip([1_u64, 100_000, 3_000_000]) {
            ExpectedTimeline::new().response("complete").idle_return("pooled").check(timeline);
            assert_eq!((timeline.request_body_bytes, timeline.response_body_bytes), (Some(size), size));
        }
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_streamed() {
    for (origin, traced) in both(|origin| origin.serve(echo)) {
        let (mut parts, body) = Channel::<Bytes>::new(1);
        let request = Request::put(origin.url("/")).body(body).expect("a request");
        let response = tokio::spawn(traced.client.request(request));
        for part in ["one ", "two ", "three"] {
            parts.send_data(Bytes::from(part)).await.expect("somebody reads");
        }
        drop(parts);
        let response = within("an echo", response).await.expect("no panic").expect("a response");
        assert!(!response.headers().contains_key("x-content-length"));
        assert_eq!(read(response).await.expect("a body"), "one two three");
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.timeline().await.request_body_bytes, Some(13));
    }
}

#[tokio::test]
async fn trailers_pass_through() {
    async fn with_trailers(
        _: Request<Incoming>,
    ) -> Response<impl http_body::Body<Data = Bytes, Error = std::convert::Infallible>> {
        let (mut parts, body) = Channel::new(2);
        tokio::spawn(async move {
            let _ = parts.send_data(Bytes::from_static(b"body")).await;
            let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("4"))]);
            let _ = parts.send_trailers(trailers).await;
        });
        let mut response = Response::new(body);
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        response
    }
    for (origin, traced) in both(|origin| origin.serve(with_trailers)) {
        let request = Request::get(origin.url("/")).header("te", "trailers").body(Full::<Bytes>::default());
        let response = within("a head", traced.client.request(request.expect("a request"))).await.expect("a response");
        let collected = within("a body", response.into_body().collect()).await.expect("a body");
        assert_eq!(
            collected.trailers().and_then(|trailers| trailers.get("x-sum")).map(HeaderValue::as_bytes),
            Some(&b"4"[..])
        );
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("put_idle_conn"), ["pooled"]);
    }
}

#[tokio::test]
async fn a_failing_request_body_fails_the_request_and_says_so() {
    for (origin, traced) in both(|origin| origin.serve(echo)) {
        let parts = [Ok(Frame::data(Bytes::from_static(b"half"))), Err("the disk is gone")];
        let mut parts = parts.into_iter();
        let body = StreamBody::new(stream_of(move || parts.next()));
        let request = Request::post(origin.url("/")).body(body).expect("a request");
        let error = match within("an end", traced.client.request(request)).await {
            Err(error) => error,
            Ok(response) => read(response).await.expect_err("half a request has no answer"),
        };
        assert_eq!((error.error_type(), error.phase().as_str()), ("request_body_failed", "request-write"));
        assert!(error.is_body());
        traced.log.settled().await.assert_paired();
    }
}

/// A stream out of a closure.
fn stream_of<T>(next: impl FnMut() -> Option<T> + Unpin) -> impl tokio_stream::Stream<Item = T> {
    tokio_stream::iter(std::iter::from_fn(next))
}

#[tokio::test]
async fn heads_without_bodies_end_at_once() {
    async fn bare(request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from_static(b"12345")));
        if request.uri().path() == "/204" {
            *response.body_mut() = Full::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        response
    }
    for (origin, traced) in both(|origin| origin.serve(bare)) {
        for (method, path) in [(Method::HEAD, "/"), (Method::GET, "/204")] {
            let request = Request::builder().method(method).uri(origin.url(path)).body(Full::<Bytes>::default());
            let response =
                within("a head", traced.client.request(request.expect("a request"))).await.expect("a response");
            assert!(http_body::Body::is_end_stream(response.body()), "{path} {:?}", response.version());
            drop(response);
            traced.log.settled().await;
        }
        traced.log.assert_paired_over(2);
        for timeline in traced.timelines(2).await {
            ExpectedTimeline::new().response("complete").idle_return("pooled").check(&timeline);
            assert_eq!(timeline.response_body_bytes, 0);
        }
    }
}

#[tokio::test]
async fn a_request_that_asks_for_the_close_gets_it() {
    let origin = Origin::plain().serve(echo);
    let traced = Traced::new(origin.client_builder());
    let request = Request::get(origin.url("/")).header("connection", "close").body(Full::<Bytes>::default());
    let response = within("a head", traced.client.request(request.expect("a request"))).await.expect("a response");
    read(response).await.expect("a body");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("put_idle_conn"), ["closed connection_close"]);
}

#[tokio::test]
async fn an_upgraded_connection_belongs_to_the_application() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let origin = Origin::plain().script([ReadHead, write(switch), Read(4), write("pong"), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let request = Request::get(origin.url("/")).header("connection", "upgrade").header("upgrade", "echo");
    let response = within("a head", traced.client.request(request.body(Full::<Bytes>::default()).expect("a request")));
    let response = response.await.expect("a response");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = within("the upgrade", hyper::upgrade::on(response)).await.expect("an upgraded connection");
    let mut io = hyper_util::rt::TokioIo::new(upgraded);
    io.write_all(b"ping").await.expect("it is open");
    let mut answer = [0; 4];
    within("the answer", io.read_exact(&mut answer)).await.expect("it is open");
    assert_eq!(&answer, b"pong");
    traced.log.settled().await.assert_paired();
    assert_eq!(traced.log.details("put_idle_conn"), ["closed upgraded"]);
}

#[tokio::test]
async fn dropping_the_last_client_lets_a_running_body_finish() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
    let origin = Origin::plain().script([ReadHead, write(answer), AtGate("rest"), write("half"), AwaitClose]);
    let Traced { client, log, .. } = Traced::new(origin.client_builder());
    let response = within("a head", client.get(origin.url("/"))).await.expect("a response");
    drop(client);
    origin.gate("rest").open();
    assert_eq!(read(response).await.expect("the whole body"), "halfhalf");
    log.settled().await.assert_paired();
    assert_eq!(log.details("put_idle_conn"), ["closed pool_closed"]);
    origin.until_closed(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_are_all_told_apart() {
    for (origin, traced) in both(|origin| origin.serve(echo)) {
        let requests: Vec<_> = (0..200)
            .map(|number: u32| {
                let body = Full::new(Bytes::from(number.to_string()));
                let request = Request::post(origin.url("/")).body(body).expect("a request");
                tokio::spawn(traced.client.request(request))
            })
            .collect();
        for (number, request) in requests.into_iter().enumerate() {
            let response = within("an echo", request).await.expect("no panic").expect("a response");
            assert_eq!(read(response).await.expect("a body"), number.to_string());
        }
        traced.log.settled().await.assert_paired_over(200);
        let timelines = traced.timelines(200).await;
        let opened = timelines.iter().filter(|one| one.connection.as_ref().is_some_and(|used| !used.reused())).count();
        assert_eq!(opened, origin.record().connections_used(), "not reused = connections that carried a request");
        for timeline in &timelines {
            ExpectedTimeline::new().status(200).response("complete").check(timeline);
        }
    }
}

#[tokio::test]
async fn hops_that_share_a_counter_are_numbered_together() {
    let origin = Origin::plain().serve(echo);
    let traced = Traced::new(origin.client_builder());
    let resends = Resends::default();
    for _ in 0..3 {
        let mut request = Request::get(origin.url("/")).body(Full::<Bytes>::default()).expect("a request");
        request.extensions_mut().insert(resends.clone());
        read(within("a head", traced.client.request(request)).await.expect("a response")).await.expect("a body");
    }
    let told: Vec<_> = traced.timelines(3).await.iter().map(|timeline| timeline.request.resend_count).collect();
    assert_eq!(told, [0, 1, 2]);
}

#[tokio::test]
async fn url_credentials_are_sent_and_never_shown() {
    let origin = Origin::plain().serve(echo);
    let traced = Traced::new(origin.client_builder());
    let uri = format!("http://us%65r:p%40ss@{}/?sig=planted", origin.addr()).parse().expect("a URI");
    traced.read(uri).await.expect("a response");
    let seen = origin.record().requests[0].headers["authorization"].clone();
    assert_eq!(seen, "Basic dXNlcjpwQHNz");
    let timeline = traced.timeline().await;
    let shown = format!("{timeline:?}");
    for secret in ["p%40ss", "p@ss", "planted", "dXNlcjpwQHNz"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert_eq!(*timeline.request.url, *format!("http://REDACTED:REDACTED@{}/?sig=REDACTED", origin.addr()));
}

/// Go: TestTransportIdleConnTimeout.
#[tokio::test]
async fn an_idle_connection_closes_when_its_time_is_over() {
    for (origin, limit, reason) in [
        (Origin::plain().serve(echo), "idle", "idle_timeout"),
        (Origin::plain().serve(echo), "life", "lifetime_expired"),
    ] {
        let soon = std::time::Duration::from_millis(30);
        let builder = origin.client_builder();
        let traced = Traced::new(match limit {
            "idle" => builder.pool_idle_timeout(soon),
            _ => builder.max_connection_lifetime(soon),
        });
        traced.read(origin.url("/")).await.expect("a response");
        // Nobody asks for it again: its own timer ends it.
        traced.log.wait_for("conn_closed", 1).await;
        let told = traced.log.details("conn_closed").remove(0);
        assert!(told.ends_with(reason), "{told}");
        origin.until_closed(1).await;
    }
}

#[tokio::test]
async fn close_idle_connections_closes_what_is_idle_and_nothing_else() {
    let origin = Origin::plain().serve(echo);
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from(vec![0; 3_000_000]))).expect("a request");
    let running = within("a head", traced.client.request(request)).await.expect("a response");
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.wait_for("put_idle_conn", 1).await;
    traced.client.close_idle_connections();
    traced.log.wait_for("conn_closed", 1).await;
    assert_eq!(read(running).await.expect("the running one goes on").len(), 3_000_000);
    traced.log.settled().await.assert_paired_over(2);
    assert!(traced.log.details("conn_closed")[0].ends_with("pool_closed"));
}
