//! Every way in which a connection goes back or ends, with its reason: in `put_idle_conn`, in `conn_closed`, and who ended it.
//!
//! Rule 4 of `ClientTrace`: once per attempt that got a connection, out of a closed set, also where Go is silent.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full, channel::Channel};
use httptrace::{ClientBuilder, Error};

use crate::support::{
    client::{Traced, read},
    gate::Gate,
    origin::Origin,
    pass,
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, ReadHead, Reset},
        write,
    },
    streams::{Streams, answer},
    trace::Ends,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// One GET, read to its end, whatever comes; then the connection's end.
async fn one(script: Vec<crate::support::script::Step>, settings: fn(ClientBuilder) -> ClientBuilder) -> Ends {
    let origin = Origin::plain().script(script);
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(settings(origin.client_builder()).client_trace(ends.hooks()));
    let response = within("a head or an error", traced.get(origin.url("/"))).await;
    origin.gate("head").open();
    if let Ok(response) = response {
        let _ = read(response).await;
    }
    traced.log.settled().await.assert_paired();
    traced.log.wait_for("conn_closed", 1).await;
    ends.taken()
}

#[tokio::test]
async fn what_the_peer_does_to_an_http1_connection_is_its_reason() {
    let head = |fields: &str| write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
    let unasked = write(format!("{OK}HTTP/1.1 200 OK\r\n\r\n"));
    let cases = [
        ("connection_close", "server", vec![ReadHead, head("connection: close\r\ncontent-length: 0"), Close]),
        ("http_1_0", "server", vec![ReadHead, write("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"), AwaitClose]),
        ("peer_closed", "server", vec![ReadHead]),
        ("peer_closed", "server", vec![ReadHead, head("content-length: 9"), AtGate("head")]),
        ("io_error", "server", vec![ReadHead, head("content-length: 9"), AtGate("head"), Reset]),
        ("protocol_error", "client", vec![ReadHead, write("nonsense\r\n\r\n"), AwaitClose]),
        ("surplus_bytes", "client", vec![ReadHead, unasked, AwaitClose]),
    ];
    for (reason, by, script) in cases {
        let mut ends = one(script, |builder| builder).await;
        let returned = ends.returned.remove(0);
        // What is behind an answer is seen when the connection is back already, or just before.
        if reason != "surplus_bytes" || returned != "pooled" {
            assert_eq!(returned, format!("closed {reason}"), "{ends:?}");
        }
        assert_eq!(ends.closed, [format!("{reason} by {by}")]);
    }
}

#[tokio::test]
async fn an_asked_for_close_is_a_close_by_the_client() {
    let origin = Origin::plain().script([ReadHead, write(OK), AwaitClose]);
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    let request = Request::get(origin.url("/")).header("connection", "close").body(Empty::<Bytes>::new());
    let response = within("a head", traced.client.request(request.expect("a request"))).await.expect("a response");
    read(response).await.expect("a body");
    traced.log.wait_for("conn_closed", 1).await;
    let ends = ends.taken();
    assert_eq!(ends.returned, ["closed connection_close"]);
    assert_eq!(ends.closed, ["connection_close by client"]);
}

#[tokio::test]
async fn what_the_pool_refuses_says_which_limit() {
    let hello = || vec![ReadHead, write(OK), AwaitClose];
    let keep_none = one(hello(), |builder| builder.pool_max_idle(0)).await;
    assert_eq!(keep_none.returned, ["closed keep_alive_disabled"]);
    assert_eq!(keep_none.closed, ["keep_alive_disabled by client"]);
    let too_old = one(hello(), |builder| builder.max_connection_lifetime(Duration::from_nanos(1))).await;
    assert_eq!(too_old.returned, ["closed lifetime_expired"]);
    assert_eq!(too_old.closed, ["lifetime_expired by client"]);
    let idle = one(hello(), |builder| builder.pool_idle_timeout(Duration::from_millis(5))).await;
    assert_eq!((idle.returned, idle.closed), (vec!["pooled".to_owned()], vec!["idle_timeout by client".to_owned()]));
}

#[tokio::test]
async fn the_pools_limit_of_idle_connections_closes_the_oldest() {
    let hello = |_| async { Response::new(Full::<Bytes>::from("ok")) };
    let (one, two) = (Origin::plain().serve(hello), Origin::plain().serve(hello));
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(one.client_builder().pool_max_idle(1).client_trace(ends.hooks()));
    for origin in [&one, &two] {
        traced.read(origin.url("/")).await.expect("a response");
    }
    one.until_closed(1).await;
    traced.log.wait_for("conn_closed", 1).await;
    let ends = ends.taken();
    assert_eq!(ends.returned, ["pooled", "pooled"]);
    assert_eq!(ends.closed, ["pool_full by client"]);
}

#[tokio::test]
async fn a_request_that_is_given_up_and_a_pool_that_is_closed_are_told_apart() {
    let origin = Origin::plain().script([ReadHead, AtGate("head"), write(OK), AwaitClose]);
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    let response = tokio::spawn(traced.get(origin.url("/")));
    origin.gate("head").reached().await;
    response.abort();
    traced.log.wait_for("conn_closed", 1).await;
    let given_up = ends.taken();
    assert_eq!(
        (given_up.returned, given_up.closed),
        (vec!["closed canceled".into()], vec!["canceled by client".into()])
    );

    origin.gate("head").open();
    let response = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    let ended = tokio::spawn({
        let client = traced.client.clone();
        async move { client.shutdown(Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    read(response).await.expect("a body");
    within("the shutdown", ended).await.expect("no panic");
    let closed = ends.taken();
    assert_eq!(
        (closed.returned, closed.closed),
        (vec!["closed pool_closed".into()], vec!["pool_closed by client".into()])
    );
}

// pool/core.rs, `dialed`: `if self.closed { return self.refuse(..) }` before the owner is served
#[tokio::test]
async fn requests_that_wait_for_a_connection_as_the_client_shuts_down_are_answered() {
    let origin = Origin::plain().script([ReadHead, AtGate("head"), write(OK), AwaitClose]);
    let traced = Traced::new(origin.client_builder().max_connections_per_host(1));
    // One is being answered, two wait for its connection.
    let mut asked: Vec<_> = (0..3).map(|_| tokio::spawn(traced.read_later(origin.url("/")))).collect();
    origin.gate("head").reached().await;
    let ended = tokio::spawn({
        let client = traced.client.clone();
        async move { client.shutdown(Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    // And one comes too late.
    asked.push(tokio::spawn(traced.read_later(origin.url("/"))));
    origin.gate("head").open();
    for answer in asked {
        assert_eq!(within("an answer", answer).await.expect("no panic").expect("a body"), "ok");
    }
    within("the shutdown", ended).await.expect("no panic");
    assert_eq!(origin.accepted(), 4, "none was taken back");
}

#[tokio::test]
async fn an_upgraded_connection_is_its_users_and_says_so() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let origin = Origin::plain().script([ReadHead, write(switch), AwaitClose]);
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    let request = Request::get(origin.url("/")).header("connection", "upgrade").header("upgrade", "echo");
    let response = traced.client.request(request.body(Empty::<Bytes>::new()).expect("a request"));
    let mut response = within("a head", response).await.expect("a response");
    let upgraded = within("the stream", hyper::upgrade::on(&mut response)).await.expect("an upgrade");
    traced.log.settled().await.assert_paired();
    drop(upgraded);
    traced.log.wait_for("conn_closed", 1).await;
    let ends = ends.taken();
    assert_eq!((ends.returned, ends.closed), (vec!["closed upgraded".into()], vec!["upgraded by client".into()]));
}

#[tokio::test]
async fn what_an_application_leaves_unread_and_an_upload_leaves_unsent_are_told_apart() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(600_000));
    let origin =
        Origin::plain().scripts([vec![ReadHead, write(long), AwaitClose], vec![ReadHead, write(OK), AwaitClose]]);
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    drop(within("a head", traced.get(origin.url("/"))).await.expect("a response"));
    traced.log.wait_for("conn_closed", 1).await;
    let unread = ends.taken();
    assert_eq!(
        (unread.returned, unread.closed),
        (vec!["closed body_incomplete".into()], vec!["body_incomplete by client".into()])
    );

    let (sender, body) = Channel::<Bytes, Error>::new(1);
    let response = traced.client.request(Request::post(origin.url("/")).body(body).expect("a request"));
    read(within("a head", response).await.expect("a response")).await.expect("a body");
    traced.log.wait_for("conn_closed", 2).await;
    let unsent = ends.taken();
    let expected = (vec!["closed request_unfinished".into()], vec!["request_unfinished by client".into()]);
    assert_eq!((unsent.returned, unsent.closed), expected);
    drop(sender);
}

/// Go: TestTransportRemovesDeadIdleConnections.
#[tokio::test]
async fn bytes_or_an_end_on_an_idle_connection_end_it_before_the_next_request_is_sent() {
    for tls in [false, true] {
        for (last, reason) in [
            (write("HTTP/1.1 408 Request Timeout\r\n\r\n"), "surplus_bytes by client"),
            (Close, "peer_closed by server"),
        ] {
            let script = vec![ReadHead, write(OK), AtGate("idle"), last, AwaitClose];
            let origin = if tls { Origin::tls_with_alpn(&["http/1.1"]) } else { Origin::plain() };
            let origin = origin.scripts([script, vec![ReadHead, write(OK), AwaitClose]]);
            let ends = Arc::new(Ends::default());
            let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
            traced.read(origin.url("/")).await.expect("a response");
            origin.gate("idle").open();
            traced.log.wait_for("conn_closed", 1).await;
            traced.read(origin.url("/")).await.expect("a response on another connection");
            traced.log.settled().await.assert_paired_over(2);
            let ends = ends.taken();
            assert_eq!(
                (ends.returned, ends.closed),
                (vec!["pooled".into(), "pooled".into()], vec![reason.to_owned()]),
                "{tls}"
            );
            assert_eq!(traced.log.count("retry"), 0, "nothing was sent, so nothing is sent again");
        }
    }
}

#[tokio::test]
async fn http2_streams_go_back_one_by_one_and_the_last_one_pools() {
    let gates = [Gate::new(), Gate::new()];
    let held = gates.clone();
    let origin = Streams::serve(move |request, respond| {
        let gate = held[usize::from(request.uri().path() == "/b")].clone();
        async move {
            gate.wait().await;
            answer(respond, 200, "ok");
        }
    });
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    for (path, gate) in [("/a", &gates[0]), ("/b", &gates[1])] {
        let other = tokio::spawn(traced.read_later(origin.url("/b")));
        gates[1].reached().await;
        if path == "/a" {
            gate.open();
            traced.read(origin.url("/a")).await.expect("a response");
            assert_eq!(ends.taken().returned, ["shared"]);
        } else {
            gate.open();
        }
        if path == "/b" {
            within("the other", other).await.expect("no panic").expect("a response");
        } else {
            other.abort();
            traced.log.wait_for("put_idle_conn", 2).await;
            assert_eq!(ends.taken().returned, ["pooled"], "reset, and the connection lives");
        }
    }
    assert_eq!(ends.taken().returned, ["pooled"]);
    drop(traced);
}

#[tokio::test]
async fn goaway_and_a_connections_death_are_told_once_to_each_stream() {
    for (end, reason, returned) in [
        ("goaway", "goaway by server", ["shared", "shared", "closed goaway"]),
        ("close", "peer_closed by server", ["closed peer_closed"; 3]),
        ("reset", "io_error by server", ["closed io_error"; 3]),
    ] {
        let goaway = end == "goaway";
        let (gate, last) = (Gate::new(), Gate::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let uri: http::Uri = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        let (held, lasts) = (gate.clone(), last.clone());
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            if end == "reset" {
                socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            let mut connection = h2::server::handshake(tcp).await.expect("a preface");
            let mut streams = Vec::new();
            for _ in 0..3 {
                streams.push(connection.accept().await.expect("a stream").expect("a request").1);
            }
            until(&mut connection, &held).await;
            if goaway {
                connection.graceful_shutdown();
                streams.drain(..2).for_each(|stream| answer(stream, 200, ""));
                until(&mut connection, &lasts).await;
                streams.drain(..).for_each(|stream| answer(stream, 200, ""));
                while let Some(Ok(_)) = connection.accept().await {}
            }
        });
        let ends = Arc::new(Ends::default());
        let traced = Traced::new(httptrace::Client::builder().http2_prior_knowledge().client_trace(ends.hooks()));
        let requests: Vec<_> = (0..3).map(|_| tokio::spawn(traced.read_later(uri.clone()))).collect();
        gate.reached().await;
        gate.open();
        if goaway {
            // Those that run may end, one by one.
            traced.log.wait_for("put_idle_conn", 2).await;
            last.open();
        }
        for request in requests {
            assert_eq!(within("an end", request).await.expect("no panic").is_ok(), goaway);
        }
        traced.log.settled().await.assert_paired_over(3);
        traced.log.wait_for("conn_closed", 1).await;
        let ends = ends.taken();
        assert_eq!(
            (&*ends.returned, &*ends.closed),
            (&returned.map(str::to_owned)[..], &[reason.to_owned()][..]),
            "{end}"
        );
        server.abort();
    }
}

#[tokio::test]
async fn after_a_goaway_who_waits_for_a_stream_dials_at_once_and_nothing_is_lost() {
    let (leave, done) = (Gate::new(), Gate::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let uri: http::Uri = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
    let (leaves, answers) = (leave.clone(), done.clone());
    let server = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut first = h2::server::Builder::new();
        let mut first = first.max_concurrent_streams(1).handshake::<_, Bytes>(tcp).await.expect("a preface");
        let warm = first.accept().await.expect("a stream").expect("a request").1;
        answer(warm, 200, "");
        let held = first.accept().await.expect("a stream").expect("a request").1;
        until(&mut first, &leaves).await;
        first.graceful_shutdown();
        let next = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("another connection");
            let mut next = h2::server::handshake(tcp).await.expect("a preface");
            while let Some(Ok((_, respond))) = next.accept().await {
                answer(respond, 200, "");
            }
        });
        until(&mut first, &answers).await;
        answer(held, 200, "");
        while let Some(Ok(_)) = first.accept().await {}
        next.await.expect("no panic");
    });
    let traced = Traced::new(httptrace::Client::builder().http2_prior_knowledge());
    traced.read(uri.clone()).await.expect("a response");
    let held = tokio::spawn(traced.read_later(uri.clone()));
    leave.reached().await;
    let queued: Vec<_> = (0..2).map(|_| tokio::spawn(traced.read_later(uri.clone()))).collect();
    tokio::task::yield_now().await;
    assert_eq!(traced.log.count("connect_start"), 1, "they wait for a stream");
    leave.open();
    for request in queued {
        within("one that waited", request).await.expect("no panic").expect("a response");
    }
    done.open();
    within("the one on the old connection", held).await.expect("no panic").expect("a response");
    traced.log.settled().await.assert_paired_over(4);
    assert_eq!((traced.log.count("connect_start"), traced.log.count("retry")), (2, 0), "{}", traced.log);
    let causes = traced.timelines(4).await.into_iter().filter_map(|timeline| timeline.wait?.cause);
    assert_eq!(causes.map(|cause| cause.as_str()).collect::<Vec<_>>(), ["dial", "http2_streams", "http2_streams"]);
    server.abort();
}

/// Drives an HTTP/2 server's connection until the gate is open.
async fn until(connection: &mut h2::server::Connection<tokio::net::TcpStream, Bytes>, gate: &Gate) {
    let mut gate = std::pin::pin!(gate.wait());
    poll_fn(|cx| {
        let _ = connection.poll_closed(cx);
        gate.as_mut().poll(cx)
    })
    .await;
}

#[test]
fn a_runtime_that_ends_ends_the_streams_that_are_on_its_connections() {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let gate = Gate::new();
    let held = gate.clone();
    let origin = server.block_on(async {
        Streams::serve(move |_, respond| {
            let gate = held.clone();
            async move {
                gate.wait().await;
                answer(respond, 200, "");
            }
        })
    });
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ends = Arc::new(Ends::default());
    let traced = client.block_on(async {
        let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
        tokio::spawn(traced.read_later(origin.url("/")));
        gate.reached().await;
        traced
    });
    drop(client);
    traced.log.assert_paired();
    let ends = ends.taken();
    assert_eq!((ends.returned, ends.closed), (vec!["closed canceled".into()], vec!["canceled by client".into()]));
    server.shutdown_background();
}

#[tokio::test]
async fn an_http2_connection_that_is_too_old_takes_no_new_stream_and_ends_after_its_last() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |request, respond| {
        let gate = held.clone();
        async move {
            if request.uri().path() == "/slow" {
                gate.wait().await;
            }
            answer(respond, 200, "");
        }
    });
    let ends = Arc::new(Ends::default());
    let life = Duration::from_secs(60);
    let traced = Traced::new(origin.client_builder().max_connection_lifetime(life).client_trace(ends.hooks()));
    let slow = tokio::spawn(traced.read_later(origin.url("/slow")));
    gate.reached().await;
    pass(life).await;
    traced.read(origin.url("/")).await.expect("a response on another connection");
    assert_eq!(origin.accepted(), 2);
    gate.open();
    within("the slow one", slow).await.expect("no panic").expect("a response");
    traced.log.wait_for("conn_closed", 1).await;
    let ends = ends.taken();
    assert_eq!(ends.returned.last().map(String::as_str), Some("closed lifetime_expired"), "{ends:?}");
    assert_eq!(ends.closed, ["lifetime_expired by client"]);
}
