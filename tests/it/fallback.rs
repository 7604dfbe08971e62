//! Servers that speak HTTP/2 and want a request over HTTP/1.1 all the same (HTTP_1_1_REQUIRED, RFC 9113 §7): those that ask
//! for a client's certificate in the middle of a connection, or for NTLM.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{Full, channel::Channel};
use httptrace::{BoxError, Client};

use crate::support::{
    client::{Traced, read},
    frames::{DATA, HEADERS, PREFACE, data, goaway, greeting, head, reset},
    origin::Origin,
    script::{
        Step::{self, AwaitClose, Close, Gate as At, Read, ReadFrame, ReadHead},
        write,
    },
    within,
};

/// HTTP_1_1_REQUIRED.
const CODE: u32 = 13;

/// Speaks HTTP/2 where it may, and does this; its later connections answer in HTTP/1.1, and hold each answer at "answer".
fn origin(steps: impl IntoIterator<Item = Step>) -> Origin {
    let http2 = [Read(PREFACE), greeting()].into_iter().chain(steps).collect();
    let ok = || [ReadHead, At("answer"), write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")];
    let http1 = ok().into_iter().chain(ok()).chain([AwaitClose]).collect();
    Origin::tls_with_alpn(&["h2", "http/1.1"]).scripts([http2, http1])
}

fn answering(steps: impl IntoIterator<Item = Step>) -> Origin {
    let origin = origin(steps);
    origin.gate("answer").open();
    origin
}

/// What was agreed on with each connection.
fn protocols(origin: &Origin) -> Vec<String> {
    origin.record().connections.iter().map(|connection| connection.alpn.clone().unwrap_or_default()).collect()
}

fn request(origin: &Origin, method: Method) -> Request<Full<Bytes>> {
    let body = if method == Method::POST { "body" } else { "" };
    Request::builder().method(method).uri(origin.url("/")).body(Full::from(body)).expect("a request")
}

#[tokio::test]
async fn what_is_refused_over_http2_is_sent_once_more_over_http1() {
    let by_reset = || vec![ReadFrame(HEADERS, 1), reset(1, CODE), AwaitClose];
    let by_goaway = || vec![ReadFrame(HEADERS, 1), write(goaway(0, CODE)), AwaitClose];
    for (method, steps) in [
        (Method::GET, by_reset()),
        (Method::GET, by_goaway()),
        // The server has not done it, so that it may be any method.
        (Method::POST, by_reset()),
        (Method::POST, by_goaway()),
        // It may have begun what is not above its last stream.
        (Method::GET, vec![ReadFrame(HEADERS, 1), write(goaway(1, CODE)), Close]),
    ] {
        let origin = answering(steps);
        let traced = Traced::new(origin.client_builder());
        let response = within("an answer", traced.client.request(request(&origin, method))).await.expect("an answer");
        assert_eq!(read(response).await.expect("a body"), "ok");
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("retry"), ["#2 http_1_1_required"]);
        assert_eq!(protocols(&origin), ["h2", "http/1.1"]);
        let told: Vec<_> = traced
            .timelines(2)
            .await
            .iter()
            .map(|timeline| (timeline.request.resend_count, timeline.request.retry_reason.map(|why| why.as_str())))
            .collect();
        assert_eq!(told, [(0, None), (1, Some("http_1_1_required"))]);
        origin.until_closed(1).await;
    }
}

#[tokio::test]
async fn an_origin_that_refused_http2_is_not_offered_it_again() {
    let both = [ReadFrame(HEADERS, 1), ReadFrame(HEADERS, 3), reset(1, CODE), reset(3, CODE), AwaitClose];
    let origin = origin(both);
    let traced = Traced::new(origin.client_builder());
    let both = ["/1", "/2"].map(|path| tokio::spawn(traced.get(origin.url(path))));
    origin.until("two connections in HTTP/1.1", |record| record.requests.len() >= 2).await;
    origin.gate("answer").open();
    for one in both {
        let response = within("both answers", one).await.expect("no panic").expect("an answer");
        assert_eq!(read(response).await.expect("a body"), "ok");
    }
    assert_eq!(protocols(&origin), ["h2", "http/1.1", "http/1.1"]);
    assert_eq!(traced.read(origin.url("/3")).await.expect("an answer"), "ok");
    assert_eq!(origin.accepted(), 3, "their connections are used again");
}

#[tokio::test]
async fn streams_beside_the_refused_one_go_on_and_no_new_one_joins_them() {
    let origin = answering([
        ReadFrame(HEADERS, 1),
        write(head(1, 200, &[], false)),
        ReadFrame(HEADERS, 3),
        reset(3, CODE),
        At("beside"),
        write(data(1, b"beside", true)),
        AwaitClose,
    ]);
    let traced = Traced::new(origin.client_builder());
    let beside = within("its head", traced.get(origin.url("/beside"))).await.expect("a head");
    assert_eq!(traced.read(origin.url("/refused")).await.expect("an answer in HTTP/1.1"), "ok");
    assert_eq!(traced.read(origin.url("/next")).await.expect("an answer in HTTP/1.1"), "ok");
    assert_eq!(protocols(&origin), ["h2", "http/1.1"]);
    origin.gate("beside").open();
    assert_eq!(read(beside).await.expect("all of it"), "beside");
    origin.until_closed(1).await;
    traced.log.wait_for("conn_closed", 1).await;
    assert!(traced.log.details("conn_closed")[0].contains("goaway"), "{}", traced.log);
}

#[tokio::test]
async fn a_refused_body_that_can_not_be_repeated_fails_and_the_next_request_is_sent_over_http1() {
    let origin = answering([ReadFrame(DATA, 1), reset(1, CODE), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    sender.send_data(Bytes::from_static(b"part")).await.expect("somebody reads");
    let upload = Request::put(origin.url("/")).body(body).expect("a request");
    let error = within("its end", traced.client.request(upload)).await.expect_err("refused");
    assert_eq!((error.phase().as_str(), error.error_type()), ("request-write", "http2_stream_reset"));
    assert_eq!(traced.log.count("retry"), 0);
    assert_eq!(traced.read(origin.url("/")).await.expect("an answer"), "ok");
    assert_eq!(protocols(&origin), ["h2", "http/1.1"]);
}

#[tokio::test]
async fn what_the_server_may_have_done_is_not_sent_twice() {
    let begun = vec![ReadFrame(DATA, 1), write(goaway(1, CODE)), Close];
    let hinted = vec![ReadFrame(DATA, 1), write(head(1, 103, &[], false)), reset(1, CODE), AwaitClose];
    for (steps, error_type) in [(begun, "connection_closed"), (hinted, "http2_stream_reset")] {
        let origin = answering(steps);
        let traced = Traced::new(origin.client_builder());
        let result = within("its end", traced.client.request(request(&origin, Method::POST))).await;
        assert_eq!(result.expect_err("no answer").error_type(), error_type);
        traced.log.settled().await.assert_paired();
        assert_eq!((traced.log.count("retry"), origin.accepted()), (0, 1));
    }
}

/// Refused, and told so: it asks once, on one connection.
async fn fails(origin: &Origin, client: Client) {
    let response = within("its end", client.request(request(origin, Method::GET))).await;
    assert_eq!(response.expect_err("refused").error_type(), "http2_stream_reset");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn who_may_speak_http2_only_is_told_of_the_refusal() {
    let refusing = || [ReadFrame(HEADERS, 1), reset(1, CODE), AwaitClose];
    let origin = answering(refusing());
    fails(&origin, origin.client_builder().http2_only().build().expect("a client")).await;
    let origin = answering(refusing());
    fails(&origin, origin.client_builder().http2_prior_knowledge().build().expect("a client")).await;
    // Without TLS nobody can agree on another protocol.
    let plain = [Read(PREFACE), greeting()].into_iter().chain(refusing());
    let origin = Origin::plain().script(plain);
    fails(&origin, origin.client_builder().http2_prior_knowledge().build().expect("a client")).await;
}

#[tokio::test]
async fn an_own_list_of_protocols_is_kept_to() {
    for (list, falls_back) in [(&["h2"][..], false), (&["h2", "http/1.1"], true)] {
        let origin = answering([ReadFrame(HEADERS, 1), reset(1, CODE), AwaitClose]);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(origin.root_certificate()).expect("a root");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = list.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client = origin.client_builder().tls_config(config).build().expect("a client");
        let result = within("its end", client.get(origin.url("/"))).await;
        assert_eq!(result.is_ok(), falls_back, "{list:?}: {:?}", result.err());
        if let Ok(response) = result {
            assert_eq!(read(response).await.expect("a body"), "ok");
        }
    }
}
