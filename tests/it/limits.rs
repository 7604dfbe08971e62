//! Limits that are nobody else's subject, just within and just beyond: `tests/README.md` has the table of all.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use httptrace::Error;

use crate::support::{
    client::Traced,
    dns::FakeResolver,
    frames::{HEADERS, PREFACE, answer, data, greeting, greeting_with, head},
    gate::Gate,
    origin::{Origin, Refusing},
    pass,
    script::{
        Step::{self, AwaitClose, Close, Gate as At, Read, ReadFrame, ReadHead},
        write,
    },
    streams::{self, Streams},
    trace::Ends,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn as_much_of_a_dropped_body_is_read_as_the_limit_says() {
    for (bytes, returned) in [(256 << 10, "pooled"), ((256 << 10) + 1, "closed body_incomplete")] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
        // All of it is on its way before it is dropped: it is not the time that decides.
        let steps = [ReadHead, write(head), write("x".repeat(bytes)), At("all"), AwaitClose];
        let origin = Origin::plain().script(steps);
        let traced = Traced::new(origin.client_builder());
        let response = within("a head", traced.get(origin.url("/"))).await.expect("a response");
        within("all of it", origin.gate("all").reached()).await;
        drop(response);
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("put_idle_conn"), [returned], "{bytes} bytes");
    }
}

/// A body of so many bytes on each of these streams, in frames as large as they may be.
fn bodies(streams: &[(u32, usize)]) -> Step {
    let mut bytes = Vec::new();
    for (stream, length) in streams {
        bytes.extend(head(*stream, 200, &[], false));
        let mut left = *length;
        while left > 0 {
            let piece = left.min(16_384);
            left -= piece;
            bytes.extend(data(*stream, &vec![b'x'; piece], left == 0));
        }
    }
    write(bytes)
}

#[tokio::test]
async fn what_lies_unread_is_bounded_by_the_windows() {
    let streams = |each: usize, second: usize| vec![(1, each), (3, second)];
    for (sent, fails) in [
        (vec![(1, 100_000)], false),
        (vec![(1, 100_001)], true),
        // Each within its own window, and all of them within the connection's or not.
        (streams(75_000, 75_000), false),
        (streams(75_000, 75_001), true),
    ] {
        let asked = sent.iter().map(|(stream, _)| ReadFrame(HEADERS, *stream));
        let script = [Read(PREFACE), greeting()].into_iter().chain(asked);
        let origin = Origin::plain().script(script.chain([bodies(&sent), At("sent"), AwaitClose]));
        let builder = origin.client_builder().http2_prior_knowledge().http2_windows(100_000, 150_000);
        let traced = Traced::new(builder);
        let requests = sent.iter().map(|_| tokio::spawn(traced.get(origin.url("/")))).collect::<Vec<_>>();
        // Nobody reads until all of it is here.
        within("all of it", origin.gate("sent").reached()).await;
        let mut heads = Vec::new();
        for request in requests {
            heads.push(within("a head", request).await.expect("no panic"));
        }
        let mut failed = false;
        for response in heads {
            failed |= match response {
                Ok(response) => within("a body", response.into_body().collect()).await.is_err(),
                Err(_) => true,
            };
        }
        assert_eq!(failed, fails, "{sent:?}");
    }
}

#[tokio::test]
async fn a_hundred_streams_are_opened_before_the_settings_say_how_many_there_may_be() {
    let more = greeting_with(&[(3, 101)]);
    let steps = [Read(PREFACE), ReadFrame(HEADERS, 199), At("hundred"), more, ReadFrame(HEADERS, 201), AwaitClose];
    let origin = Origin::plain().script(steps);
    let traced = Traced::new(origin.client_builder().http2_prior_knowledge());
    let requests: Vec<_> = (0..101).map(|_| tokio::spawn(traced.get(origin.url("/")))).collect();
    within("a hundred", origin.gate("hundred").reached()).await;
    assert_eq!((traced.log.count("get_conn"), traced.log.count("got_conn")), (101, 100));
    origin.gate("hundred").open();
    within("one more", traced.log.wait_for("got_conn", 101)).await;
    requests.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_http2_connection_of_a_pool_that_was_closed_is_not_kept() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Streams::serve(move |_, respond| {
        let gate = held.clone();
        async move {
            gate.wait().await;
            streams::answer(respond, 200, "ok");
        }
    });
    let ends = Arc::new(Ends::default());
    let traced = Traced::new(origin.client_builder().client_trace(ends.hooks()));
    let request = tokio::spawn(traced.read_later(origin.url("/")));
    within("the request", gate.reached()).await;
    let client = traced.client.clone();
    let shutdown = tokio::spawn(async move { client.shutdown(Duration::from_secs(600)).await });
    tokio::task::yield_now().await;
    gate.open();
    assert_eq!(within("the response", request).await.expect("no panic").expect("a body"), "ok");
    within("the shutdown", shutdown).await.expect("no panic");
    let ends = ends.taken();
    assert_eq!(ends.returned, ["closed pool_closed"], "{ends:?}");
}

#[tokio::test]
async fn of_the_addresses_that_are_given_no_more_than_sixteen_are_tried() {
    let refusing = Refusing::new();
    for (given, tried) in [(16, 16), (17, 16)] {
        let addrs = (1..=given).map(|last| IpAddr::from([127, 0, 0, last])).collect();
        let port = refusing.addr().port();
        let traced = Traced::new(httptrace::Client::builder().resolve_to("many.test", port, addrs));
        let uri = format!("http://many.test:{port}/").parse().expect("a URL");
        traced.read(uri).await.expect_err("nobody listens");
        assert_eq!(traced.log.count("connect_start"), tried, "{given} addresses");
    }
}

/// An HTTP/2 connection of one stream at once, which ends with its second request.
fn stale(name: &'static str) -> Vec<Step> {
    let first = [Read(PREFACE), greeting_with(&[(3, 1)]), ReadFrame(HEADERS, 1), At(name), answer(1, "ok")];
    first.into_iter().chain([ReadFrame(HEADERS, 3), Close]).collect()
}

#[tokio::test]
async fn a_stale_connection_is_followed_by_a_new_one_even_where_another_is_idle_and_by_no_third_try() {
    let next = |end: Vec<Step>| [Read(PREFACE), greeting(), ReadFrame(HEADERS, 1)].into_iter().chain(end).collect();
    for (third, answered) in [(vec![answer(1, "third"), AwaitClose], true), (vec![Close], false)] {
        let origin = Origin::plain().scripts([stale("one"), stale("two"), next(third)]);
        let builder = origin.client_builder().http2_prior_knowledge().http2_max_connections_per_host(2);
        let traced = Traced::new(builder);
        let one = tokio::spawn(traced.read_later(origin.url("/one")));
        within("the first", origin.gate("one").reached()).await;
        let two = tokio::spawn(traced.read_later(origin.url("/two")));
        within("the second", origin.gate("two").reached()).await;
        for (gate, request) in [("one", one), ("two", two)] {
            origin.gate(gate).open();
            assert_eq!(within("an answer", request).await.expect("no panic").expect("a body"), "ok");
        }
        match traced.read(origin.url("/third")).await {
            Ok(body) => assert!(answered && body == "third", "{body:?}"),
            Err(error) => assert!(!answered && error.error_type() == "connection_closed", "{error}"),
        }
        traced.log.settled().await.assert_paired_over(3);
        assert_eq!((traced.log.details("retry"), origin.accepted()), (vec!["#2 stale_connection".to_owned()], 3));
    }
}

#[tokio::test]
async fn a_request_that_meets_two_stale_connections_is_sent_twice_at_most() {
    // One connection at once: what follows a stale one is what others have used meanwhile, and may be as stale.
    let first = vec![ReadHead, write(OK), ReadHead, At("stale"), Close];
    let origin =
        Origin::plain().scripts([first, vec![ReadHead, write(OK), ReadHead, Close], vec![ReadHead, write(OK)]]);
    let traced = Traced::new(origin.client_builder().max_connections_per_host(1));
    assert_eq!(traced.read(origin.url("/one")).await.expect("an answer"), "ok");
    let twice = tokio::spawn(traced.read_later(origin.url("/twice")));
    within("the second", origin.gate("stale").reached()).await;
    let between = tokio::spawn(traced.read_later(origin.url("/between")));
    traced.log.wait_for("get_conn", 3).await;
    origin.gate("stale").open();
    assert_eq!(within("an answer", between).await.expect("no panic").expect("a body"), "ok");
    let error = within("an end", twice).await.expect("no panic").expect_err("both were stale");
    assert_eq!(error.error_type(), "connection_closed");
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!((traced.log.details("retry"), origin.accepted()), (vec!["#2 stale_connection".to_owned()], 2));
}

/// From the beginning of an attempt to its connection.
fn waited(timeline: &httptrace::Timeline) -> Duration {
    let wait = timeline.wait.as_ref().and_then(|wait| Some(wait.end? - wait.start));
    timeline.write_start.map_or(wait.unwrap_or_default(), |start| start - timeline.start)
}

#[tokio::test]
async fn refusals_are_followed_by_pauses_that_end_with_the_request() {
    let refusing = || Streams::serve(|_, mut respond| async move { respond.send_reset(h2::Reason::REFUSED_STREAM) });
    let origin = refusing();
    let traced = Traced::new(origin.client_builder());
    traced.read(origin.url("/")).await.expect_err("refused for ever");
    let pauses: Vec<_> = traced.timelines(4).await.iter().map(waited).collect();
    let at_least = [0, 0, 50, 100].map(Duration::from_millis);
    assert!(pauses.iter().zip(at_least).all(|(pause, least)| *pause >= least), "{pauses:?}");
    // 120 ms are over within the third pause, which is of 100 ms behind 50 ms at least.
    let origin = refusing();
    let traced = Traced::new(origin.client_builder().timeout(Duration::from_millis(120)));
    let error = traced.read(origin.url("/")).await.expect_err("too late");
    assert_eq!(error.error_type(), "timeout");
    traced.log.settled().await.assert_paired();
}

type Running = tokio::task::JoinHandle<Result<Bytes, Error>>;

/// A request is held for so long, and then let go: it ends well, or it had ended in this phase before.
async fn held_for(time: Duration, held: &Gate, request: Running, ends: Option<&str>) {
    within("where it is held", held.reached()).await;
    pass(time).await;
    if ends.is_none() {
        held.open();
    }
    let error = within("its end", request).await.expect("no panic").err();
    held.open();
    let told = error.as_ref().map(|error| (error.phase().as_str(), error.error_type()));
    assert_eq!(told, ends.map(|phase| (phase, "timeout")), "after {time:?}");
}

#[tokio::test]
async fn a_lookup_and_a_handshake_have_their_time_by_default_and_no_more() {
    for (seconds, ends) in [(29, None), (30, Some("dns"))] {
        let (origin, gate) = (Origin::plain().script([ReadHead, write(OK), AwaitClose]), Gate::new());
        let resolver = FakeResolver::new().local("slow.test").hold("slow.test", &gate);
        let traced = Traced::new(origin.client_builder().resolver(Arc::new(resolver)));
        let request = tokio::spawn(traced.read_later(origin.url_at("slow.test", "/")));
        held_for(Duration::from_secs(seconds), &gate, request, ends).await;
    }
    for (seconds, ends) in [(9, None), (10, Some("tls"))] {
        let origin = Origin::tls_with_alpn(&["http/1.1"]).gate_handshake().script([ReadHead, write(OK), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        let request = tokio::spawn(traced.read_later(origin.url("/")));
        let gate = origin.gate("handshake");
        held_for(Duration::from_secs(seconds), &gate, request, ends).await;
    }
}

#[tokio::test]
async fn a_request_has_the_time_that_it_is_given_and_no_more() {
    for (seconds, ends) in [(9, None), (10, Some("response-wait"))] {
        let origin = Origin::plain().script([ReadHead, At("head"), write(OK), AwaitClose]);
        let traced = Traced::new(origin.client_builder().timeout(Duration::from_secs(10)));
        let request = tokio::spawn(traced.read_later(origin.url("/")));
        let gate = origin.gate("head");
        held_for(Duration::from_secs(seconds), &gate, request, ends).await;
    }
}

#[tokio::test]
async fn a_wait_in_the_queue_has_its_time_and_no_more() {
    for (seconds, ends) in [(9, None), (10, Some("get-connection"))] {
        let origin = Origin::plain().script([ReadHead, At("head"), write(OK), ReadHead, write(OK), AwaitClose]);
        let wait = Duration::from_secs(10);
        let builder = origin.client_builder().max_connections_per_host(1).pool_wait_timeout(wait);
        let traced = Traced::new(builder);
        let first = tokio::spawn(traced.read_later(origin.url("/")));
        within("the first", origin.gate("head").reached()).await;
        let second = tokio::spawn(traced.read_later(origin.url("/")));
        tokio::task::yield_now().await;
        let gate = origin.gate("head");
        held_for(Duration::from_secs(seconds), &gate, second, ends).await;
        within("the first", first).await.expect("no panic").expect("a body");
    }
}

#[tokio::test]
async fn a_body_waits_a_second_for_100_continue_by_default_and_no_longer() {
    let origin = Origin::plain().script([ReadHead, Read(4), write(OK), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).header("expect", "100-continue").body(Full::new(Bytes::from("body")));
    let request = tokio::spawn(traced.client.request(request.expect("a request")));
    traced.log.wait_for("wait_100_continue", 1).await;
    pass(Duration::from_millis(900)).await;
    tokio::task::yield_now().await;
    assert_eq!(traced.log.count("wrote_request"), 0, "just within");
    pass(Duration::from_millis(100)).await;
    let written = tokio::time::timeout(Duration::from_secs(5), traced.log.wait_for("wrote_request", 1)).await;
    assert!(written.is_ok(), "just beyond");
    within("an answer", request).await.expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_retry_passes_over_what_is_idle() {
    // Two connections that end with their second request, and a third one that does not.
    let stale = || vec![ReadHead, At("both"), write(OK), ReadHead, Close];
    let origin = Origin::plain().scripts([stale(), stale(), vec![ReadHead, write(OK), AwaitClose]]);
    let traced = Traced::new(origin.client_builder());
    let both = [0, 1].map(|_| tokio::spawn(traced.read_later(origin.url("/"))));
    origin.until("both requests", |record| record.requests.len() == 2).await;
    origin.gate("both").open();
    for one in both {
        within("an answer", one).await.expect("no panic").expect("a body");
    }
    traced.log.wait_for("put_idle_conn", 2).await;
    assert_eq!(traced.read(origin.url("/")).await.expect("an answer"), "ok");
    traced.log.settled().await.assert_paired_over(3);
    assert_eq!((traced.log.details("retry"), origin.accepted()), (vec!["#2 stale_connection".to_owned()], 3));
}
