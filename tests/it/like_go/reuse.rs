//! Which connection carries the next request, and which request is sent again.

use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{Empty, Full, channel::Channel};
use httptrace::{
    ClientTrace, Error,
    hooks::{self, with_client_trace},
};
use hyper::body::Incoming;

use crate::support::{
    client::{Traced, read},
    gate::Gate,
    origin::Origin,
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, ReadHead},
        write,
    },
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

/// Holds the thread in `put_idle_conn` until the test lets it go.
struct Holds {
    entered: Gate,
    go: Mutex<mpsc::Receiver<()>>,
}

impl ClientTrace for Holds {
    fn put_idle_conn(&self, _: &hooks::PutIdleConnInfo) {
        tokio::task::block_in_place(|| {
            self.entered.open();
            let _ = self.go.lock().expect("no panic under the lock").recv();
        });
    }
}

/// Go: TestCancelRequestWhenSharingConnection.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn giving_up_a_request_does_not_touch_the_one_that_had_its_connection_before() {
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder());
    let (go, wait) = mpsc::channel();
    let holds = Arc::new(Holds { entered: Gate::new(), go: Mutex::new(wait) });
    let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
    with_client_trace(&mut request, Arc::clone(&holds) as Arc<dyn ClientTrace>);
    let response = traced.client.request(request);
    let first = tokio::spawn(async move { read(within("a head", response).await?).await });
    // The pool has the connection, and the hook that tells so is still running.
    within("the hook", holds.entered.wait()).await;
    let second = tokio::spawn(traced.get(origin.url("/")));
    traced.log.wait_for("got_conn", 2).await;
    second.abort();
    let second = within("its end", second).await;
    go.send(()).expect("the hook waits");
    assert_eq!(within("the first", first).await.expect("no panic").expect("a response"), "hello");
    drop(second);
    traced.log.settled().await.assert_paired_over(2);
    assert_eq!((traced.log.count("put_idle_conn"), traced.log.count("connect_start")), (2, 1), "{}", traced.log);
}

/// Go: TestTransportIgnores408.
#[tokio::test]
async fn a_408_that_nobody_asked_for_is_no_answer() {
    let timed_out = "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let idle = vec![ReadHead, write(OK), AtGate("idle"), write(timed_out), AtGate("end"), Close];
    let origin = Origin::plain().scripts([idle, vec![ReadHead, write(OK), AwaitClose]]);
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect("a response");
    traced.log.settled().await;
    origin.gate("idle").open();
    traced.log.wait_for("conn_closed", 1).await;
    assert!(traced.log.details("conn_closed")[0].ends_with("surplus_bytes"), "{}", traced.log);
    origin.gate("end").open();
    // Even a request that may not be sent twice is safe: nothing of it went to the dead connection.
    let request = Request::post(origin.url("/")).body(Full::<Bytes>::from("once")).expect("a request");
    let response = within("a response", traced.client.request(request)).await.expect("a response");
    assert_eq!(response.status(), 200);
    read(response).await.expect("a body");
    assert_eq!((traced.log.count("retry"), origin.accepted()), (0, 2));
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    Nothing,
    Whole,
    Stream,
}

/// Go: TestRetryRequestsOnError, TestTransportRequestReplayable. Those of which no byte was sent are in `stories.rs`.
#[tokio::test]
async fn a_request_on_a_stale_connection_is_sent_again_if_that_does_no_harm_and_can_be_done() {
    use Carries::*;
    let cases = [
        (Method::GET, false, Nothing, true),
        (Method::OPTIONS, false, Nothing, true),
        (Method::TRACE, false, Nothing, true),
        (Method::GET, false, Whole, true),
        (Method::GET, false, Stream, false),
        (Method::POST, false, Nothing, false),
        (Method::POST, false, Whole, false),
        (Method::POST, true, Whole, true),
        (Method::POST, true, Stream, false),
        (Method::PUT, false, Whole, false),
        (Method::DELETE, false, Nothing, false),
        (Method::DELETE, true, Nothing, true),
    ];
    for (method, key, carries, again) in cases {
        let name = format!("{method}, idempotency-key {key}, {carries:?}");
        let stale = vec![ReadHead, write(OK), ReadHead, Close];
        let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
        let traced = Traced::new(origin.client_builder());
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
        let mut request = Request::builder().method(method).uri(origin.url("/"));
        if key {
            request = request.header("idempotency-key", "1");
        }
        let response = match carries {
            Nothing => traced.client.request(request.body(Empty::<Bytes>::new()).expect("a request")),
            Carries::Whole => traced.client.request(request.body(Full::<Bytes>::from("body")).expect("a request")),
            Stream => {
                let (mut sender, body) = Channel::<Bytes, Error>::new(1);
                sender.send_data(Bytes::from_static(b"body")).await.expect("room");
                traced.client.request(request.body(body).expect("a request"))
            }
        };
        match within(&name, response).await {
            Ok(response) => {
                assert!(again, "{name}");
                assert_eq!(read(response).await.expect("a body"), "ok");
            }
            Err(error) => assert_eq!((again, error.error_type()), (false, "connection_closed"), "{name}"),
        }
        traced.log.settled().await.assert_paired_over(2);
        assert_eq!(
            (traced.log.count("retry"), origin.accepted()),
            (usize::from(again), 1 + usize::from(again)),
            "{name}"
        );
        if carries == Carries::Whole && again {
            drop(traced);
            origin.until_closed(2).await;
            let received = origin.record().connections[1].received.clone();
            assert!(received.ends_with(b"\r\n\r\nbody"), "{name}: the whole body, from its beginning");
        }
    }
}

/// Go: TestTransportResponseBodyDrainReadAndClose, TestTransportResponseBodyDropsTrailers.
#[tokio::test]
async fn what_is_left_of_a_body_decides_whether_its_connection_is_used_again() {
    let length = |size: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
    let chunked = |size: usize, end: &str| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        format!("{head}{size:x}\r\n{}\r\n{end}", "x".repeat(size))
    };
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this".to_owned();
    let (small, big) = (100_000, 1_000_000);
    let cases = [
        ("a little, read", length(small), true, true),
        ("much, read", length(big), true, true),
        ("a little, dropped", length(small), false, true),
        ("much, dropped", length(big), false, false),
        ("a little in chunks, read", chunked(small, "0\r\n\r\n"), true, true),
        ("a little in chunks, dropped", chunked(small, "0\r\n\r\n"), false, true),
        ("much in chunks, dropped", chunked(big, "0\r\n\r\n"), false, false),
        ("trailers, read", chunked(10, "0\r\nx-sum: 1\r\n\r\n"), true, true),
        ("trailers, dropped", chunked(10, "0\r\nx-sum: 1\r\n\r\n"), false, true),
        ("cut short, read", cut.clone(), true, false),
        ("cut short, dropped", cut, false, false),
    ];
    for (name, answer, reads, reused) in cases {
        let end = if name.starts_with("cut") { Close } else { ReadHead };
        let first = vec![ReadHead, write(answer), end, write(OK), AwaitClose];
        let origin = Origin::plain().scripts([first, vec![ReadHead, write(OK), AwaitClose]]);
        let traced = Traced::new(origin.client_builder());
        let response = within(name, traced.get(origin.url("/"))).await.expect("a response");
        if reads {
            assert_eq!(read(response).await.is_ok(), reused, "{name}");
        } else {
            drop(response);
        }
        traced.log.settled().await;
        let told = traced.log.details("put_idle_conn").remove(0);
        assert_eq!(told == "pooled", reused, "{name}: {told}");
        traced.read(origin.url("/")).await.expect("a response");
        assert_eq!(origin.accepted(), if reused { 1 } else { 2 }, "{name}");
        traced.log.settled().await.assert_paired_over(2);
    }
}
