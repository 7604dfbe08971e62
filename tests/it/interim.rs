//! Interim responses on HTTP/1.1, the wait for one, and the answer that comes before the upload has ended. HTTP/2: in
//! `streams.rs`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{Full, channel::Channel};
use httptrace::{ClientTrace, Error, Timeline, with_client_trace};

use crate::support::{
    client::{Traced, read},
    gate::Gate,
    origin::Origin,
    script::{
        Step::{AwaitClose, Close, Gate as AtGate, Read, ReadHead},
        write,
    },
    timeline::ExpectedTimeline,
    trace::Hints,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn expecting(uri: Uri) -> Request<Full<Bytes>> {
    Request::post(uri).header("expect", "100-continue").body(Full::from("hello")).expect("a request")
}

fn event_names(timeline: &Timeline) -> Vec<&'static str> {
    timeline.events.iter().map(|event| event.kind.name()).collect()
}

#[tokio::test]
async fn a_body_waits_for_100_continue_and_the_wait_is_told_in_its_order() {
    let origin = Origin::plain().script([
        ReadHead,
        AtGate("head"),
        write("HTTP/1.1 100 Continue\r\n\r\n"),
        Read(5),
        write(OK),
        AwaitClose,
    ]);
    let traced = Traced::new(origin.client_builder().expect_continue_timeout(Duration::from_secs(3600)));
    let response = tokio::spawn(traced.client.request(expecting(origin.url("/"))));
    traced.log.wait_for("wait_100_continue", 1).await;
    origin.gate("head").reached().await;
    // Told to wait, and nothing of the body is on its way: the record has the head alone.
    assert_eq!(origin.record().connections[0].received, origin.record().connections[0].heads[0].as_bytes());
    assert_eq!(traced.log.count("wrote_request"), 0);
    origin.gate("head").open();
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");

    let log = traced.log.settled().await;
    log.assert_paired();
    let order: Vec<_> = log.names().into_iter().filter(|name| *name != "wrote_header_field").collect();
    let begin = order.iter().position(|name| *name == "wrote_headers").expect("a head");
    assert_eq!(
        order[begin..],
        [
            "wrote_headers",
            "wait_100_continue",
            "got_first_response_byte",
            "got_1xx_response",
            "got_100_continue",
            "wrote_request",
            "response_done",
            "put_idle_conn"
        ]
    );
    let timeline = traced.timeline().await;
    let phases = ["get-connection", "connect", "request-write", "response-wait", "response-read"];
    ExpectedTimeline::new().phases(phases).status(200).idle_return("pooled").check(&timeline);
    let events = ["wrote-headers", "wait-100-continue", "first-byte", "got-100-continue", "idle-return"];
    assert_eq!(event_names(&timeline), events);
    assert!(timeline.first_byte < timeline.wrote_request && timeline.wrote_request <= timeline.final_first_byte);
}

#[tokio::test]
async fn a_server_that_says_nothing_gets_the_body_when_the_time_is_over() {
    let origin = Origin::plain().script([ReadHead, Read(5), write(OK), AwaitClose]);
    let traced = Traced::new(origin.client_builder().expect_continue_timeout(Duration::from_millis(30)));
    let response = within("an answer", traced.client.request(expecting(origin.url("/")))).await.expect("a response");
    read(response).await.expect("a body");
    let timeline = traced.timeline().await;
    let (head, all) = (timeline.wrote_headers.expect("a head"), timeline.wrote_request.expect("all of it"));
    assert!(all - head >= Duration::from_millis(30), "{:?}", all - head);
    assert_eq!((traced.log.count("wait_100_continue"), traced.log.count("got_100_continue")), (1, 0));
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
}

#[tokio::test]
async fn without_hooks_a_body_waits_as_well() {
    let origin = Origin::plain().script([
        ReadHead,
        AtGate("head"),
        write("HTTP/1.1 100 Continue\r\n\r\n"),
        Read(5),
        write(OK),
        Close,
    ]);
    let builder = origin.client_builder().telemetry(false).expect_continue_timeout(Duration::from_secs(3600));
    let client = builder.build().expect("settings that fit");
    let response = tokio::spawn(client.request(expecting(origin.url("/"))));
    origin.gate("head").reached().await;
    assert_eq!(origin.record().connections[0].received, origin.record().connections[0].heads[0].as_bytes());
    origin.gate("head").open();
    let response = within("an answer", response).await.expect("no panic").expect("a response");
    assert_eq!(read(response).await.expect("a body"), "ok");
}

#[tokio::test]
async fn an_expectation_that_is_refused_sends_no_body_and_delivers_the_answer() {
    let refusal = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno";
    let origin = Origin::plain().script([ReadHead, write(refusal), AwaitClose]);
    let traced = Traced::new(origin.client_builder().expect_continue_timeout(Duration::from_secs(3600)));
    let response = within("an answer", traced.client.request(expecting(origin.url("/")))).await.expect("a response");
    assert_eq!(response.status(), 417);
    assert_eq!(read(response).await.expect("a body"), "no");
    origin.until_closed(1).await;
    let connection = &origin.record().connections[0];
    assert_eq!(connection.received, connection.heads[0].as_bytes(), "nothing but the head");
    traced.log.settled().await.assert_paired();
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(417).response("complete").idle_return("closed request_unfinished").check(&timeline);
    let write_error = timeline.write_error.expect("an upload that was given up").1;
    assert!(write_error.is_canceled(), "{write_error}");
}

#[tokio::test]
async fn an_upload_that_is_refused_early_is_left_pending_and_never_looks_whole() {
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\n";
    for (length, name) in [(None, "chunked"), (Some("1000"), "with a length")] {
        let origin = Origin::plain().script([ReadHead, write(refusal), AtGate("rest"), write("too large"), AwaitClose]);
        let traced = Traced::new(origin.client_builder());
        let (mut sender, body) = Channel::<Bytes, Error>::new(1);
        let mut request = Request::post(origin.url("/")).body(body).expect("a request");
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().expect("a number"));
        }
        let response = tokio::spawn(traced.client.request(request));
        sender.send_data(Bytes::from_static(b"the begin")).await.expect("hyper reads it");
        let response = within("an answer", response).await.expect("no panic").expect("a response");
        // What comes now is not wanted any more; neither is the end.
        drop(sender);
        origin.gate("rest").open();
        assert_eq!(read(response).await.expect("all of the answer"), "too large", "{name}");
        origin.until_closed(1).await;
        let received = origin.record().connections.remove(0).received;
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(!received.ends_with("0\r\n\r\n"), "{name}: a cut upload that looks whole: {received}");
        traced.log.settled().await.assert_paired();
        let timeline = traced.timeline().await;
        ExpectedTimeline::new()
            .status(413)
            .response("complete")
            .idle_return("closed request_unfinished")
            .check(&timeline);
    }
}

#[tokio::test]
async fn an_upload_goes_on_behind_an_answer_that_does_not_refuse_it() {
    let origin = Origin::plain().script([ReadHead, write(OK), Read(5), ReadHead, write(OK), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let (mut sender, body) = Channel::<Bytes, Error>::new(1);
    let request = Request::post(origin.url("/")).header("content-length", "5").body(body).expect("a request");
    let response = within("an answer", traced.client.request(request)).await.expect("a response");
    sender.send_data(Bytes::from_static(b"hello")).await.expect("hyper reads it");
    drop(sender);
    read(response).await.expect("a body");
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
    assert!(timeline.write_error.is_none());
    traced.read(origin.url("/")).await.expect("a second one on the same connection");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn an_upload_that_never_ends_costs_its_connection_and_not_the_answer() {
    let origin = Origin::plain().script([ReadHead, write(OK), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let (sender, body) = Channel::<Bytes, Error>::new(1);
    let request = Request::post(origin.url("/")).header("content-length", "5").body(body).expect("a request");
    let response = within("an answer", traced.client.request(request)).await.expect("a response");
    assert_eq!(read(response).await.expect("a body"), "ok");
    origin.until_closed(1).await;
    traced.log.settled().await.assert_paired();
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).response("complete").idle_return("closed request_unfinished").check(&timeline);
    drop(sender);
}

#[tokio::test]
async fn a_server_that_reads_nothing_can_not_keep_a_connection_that_is_over() {
    // The whole body is at hyper, which can't write it: the connection ends all the same.
    let gate = Gate::new();
    let origin = Origin::plain().script([ReadHead, write(OK), AtGate("never"), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let request = Request::post(origin.url("/")).body(Full::new(Bytes::from(vec![0; 30_000_000]))).expect("a request");
    let response = within("an answer", traced.client.request(request)).await.expect("a response");
    assert_eq!(read(response).await.expect("a body"), "ok");
    traced.log.wait_for("conn_closed", 1).await;
    traced.log.settled().await.assert_paired();
    gate.open();
    ExpectedTimeline::new().status(200).idle_return("closed request_unfinished").check(&traced.timeline().await);
}

#[tokio::test]
async fn interim_responses_are_told_in_their_order_with_their_fields() {
    let origin = Origin::plain().script([
        ReadHead,
        write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n"),
        AtGate("half"),
        write("link: </b>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"),
        AtGate("final"),
        write(OK),
        AwaitClose,
    ]);
    let traced = Traced::new(origin.client_builder());
    let hints = Arc::new(Hints::default());
    let mut request = Request::get(origin.url("/")).body(Full::<Bytes>::default()).expect("a request");
    with_client_trace(&mut request, Arc::clone(&hints) as Arc<dyn ClientTrace>);
    let response = tokio::spawn(traced.client.request(request));
    traced.log.wait_for("got_first_response_byte", 1).await;
    assert_eq!(traced.log.count("got_1xx_response"), 0, "its head is not whole");
    origin.gate("half").open();
    traced.log.wait_for("got_1xx_response", 2).await;
    origin.gate("final").open();
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");
    assert_eq!(hints.lines(), ["103 </a> </b>", "102 "]);
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
    let informational =
        timeline.events.iter().filter(|event| event.kind.name() == "informational").map(|event| event.at);
    let informational: Vec<_> = informational.collect();
    assert_eq!(informational.len(), 2);
    assert!(
        timeline.first_byte < timeline.final_first_byte
            && informational[1] <= timeline.final_first_byte.expect("a head")
    );
}

#[tokio::test]
async fn fifty_interim_responses_are_taken_and_one_more_is_too_many_whoever_listens() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
    for hooks in [true, false] {
        for (count, enough) in [(50, true), (51, false)] {
            let origin = Origin::plain().script([ReadHead, write(interim.repeat(count) + OK), AwaitClose]);
            let builder = origin.client_builder();
            if !hooks {
                let client = builder.telemetry(false).build().expect("settings that fit");
                let result = within("an answer", client.get(origin.url("/"))).await;
                assert_eq!(result.map_err(|error| error.error_type()).is_ok(), enough);
                continue;
            }
            let traced = Traced::new(builder);
            let result = traced.read(origin.url("/")).await;
            traced.log.settled().await.assert_paired();
            let timeline = traced.timeline().await;
            assert_eq!(traced.log.count("got_1xx_response"), 50);
            if enough {
                ExpectedTimeline::new().status(200).idle_return("pooled").check(&timeline);
            } else {
                let error = result.expect_err("one more");
                assert_eq!(error.error_type(), "too_many_informational");
                let expected = ExpectedTimeline::new().error("response-wait", "too_many_informational");
                expected.idle_return("closed protocol_error").check(&timeline);
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_runs_to_the_connections_end_ends_there() {
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\n\r\nall"), AtGate("end"), Close]);
    let traced = Traced::new(origin.client_builder());
    let response = within("a head", traced.get(origin.url("/"))).await.expect("a response");
    origin.gate("end").reached().await;
    let before = tokio::time::Instant::now().into_std();
    origin.gate("end").open();
    assert_eq!(read(response).await.expect("a body"), "all");
    let timeline = traced.timeline().await;
    assert!(timeline.response_end.expect("an end") >= before, "not the moment of the last byte, but of the end");
    ExpectedTimeline::new().response("complete").idle_return("closed peer_closed").check(&timeline);
}
