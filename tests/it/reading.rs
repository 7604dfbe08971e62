//! The short way in: a URL as text, the process's own client, a body as bytes, text or JSON, and errors that say what helps.

use std::{
    error::Error as _,
    pin::pin,
    string::FromUtf8Error,
    task::{Context, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use httptrace::{Error, LimitedResponse, ResponseExt, Timeline};
use serde_json::Value;

use crate::support::{
    certificate::Identity,
    client::Traced,
    origin::Origin,
    script::{Step::*, write},
    timeline::ExpectedTimeline,
    within,
};

fn answering(body: impl Into<Bytes>) -> Origin {
    let body = body.into();
    Origin::plain().serve(move |_| {
        let body = body.clone();
        async { Response::new(Full::new(body)) }
    })
}

/// These pieces, chunked, and a trailer.
fn pieces(pieces: &'static [&'static str]) -> Origin {
    Origin::plain().serve(move |_| async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "yes".parse().expect("a value"));
        let frames = pieces.iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let frames = frames.chain([Frame::trailers(trailers)]).map(Ok::<_, std::io::Error>);
        Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed())
    })
}

/// A response of which at most `limit` bytes are to be read.
async fn limited(traced: &Traced, origin: &Origin, limit: usize) -> LimitedResponse {
    within("a head", traced.client.get(origin.url("/"))).await.expect("an answer").limit(limit)
}

fn causes(error: &Error) -> String {
    let mut all = format!("{error} {error:?} {:?}", error.help());
    let mut next = error.source();
    while let Some(cause) = next {
        all.push_str(&format!(" {cause}"));
        next = cause.source();
    }
    all
}

#[tokio::test]
async fn a_url_is_text_or_a_uri() {
    let origin = answering("hello");
    let traced = Traced::new(origin.client_builder());
    let uri: Uri = origin.url("/");
    let text = uri.to_string();
    let (client, reads) = (&traced.client, async |response: httptrace::ResponseFuture| {
        let response = within("an answer", response).await.expect("an answer");
        assert_eq!(response.text().await.expect("a body"), "hello");
    });
    reads(client.get(text.as_str())).await;
    reads(client.get(&text)).await;
    reads(client.get(text)).await;
    reads(client.get(&uri)).await;
    reads(client.get(uri)).await;
    assert_eq!(origin.served(), 5);
}

// mutants: the words of `unreadable` and of `PoolKey::from_uri` without their second halves
#[tokio::test]
async fn what_is_no_url_is_told_with_what_it_lacks_and_without_itself() {
    let client = httptrace::Client::new();
    for (url, help) in [
        ("planted.test", "begin it with https"),
        ("planted.test:8080", "begin it with https"),
        ("/planted", "begin it with https"),
        ("", "from the scheme on"),
        ("http://planted.test/a b", "percent-encoded"),
        ("http://plänted.test/", "xn--"),
        ("http://user:planted@ho st/", "percent-encoded"),
        ("http://planted.test:99999/", "from 1 to 65535"),
        ("ftp://planted.test/", "neither http nor https"),
    ] {
        let error = client.get(url).await.expect_err(url);
        assert_eq!(error.error_type(), "invalid_request", "{url}");
        assert!(error.help().is_some_and(|told| told.contains(help)), "{url}: {:?}", error.help());
        assert!(format!("{error:?}").contains(help), "{url}: {error:?}");
        let told = causes(&error);
        assert!(!told.contains("planted") && !told.contains("plänted"), "{told}");
    }
}

#[tokio::test]
async fn pieces_become_one_and_trailers_are_left_out() {
    for (sent, whole) in
        [(&["ab", "c", "defg"][..], "abcdefg"), (&["one"], "one"), (&[], ""), (&["", "a", "", "b"], "ab")]
    {
        let origin = pieces(sent);
        let traced = Traced::new(origin.client_builder());
        let response = within("a head", traced.client.get(origin.url("/"))).await.expect("an answer");
        assert_eq!(response.bytes().await.expect("a body"), whole);
        ExpectedTimeline::new().idle_return("pooled").check(&traced.timeline().await);
    }
}

fn outcome(timeline: &Timeline) -> (Option<&'static str>, u64) {
    (timeline.response_outcome.map(httptrace::hooks::ResponseOutcome::as_str), timeline.response_body_bytes)
}

// mutants: the two comparisons with the limit, one by one left out, and each off by one
#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_not_one_byte_further() {
    let origins = [("declared", answering("0123456789")), ("chunked", pieces(&["0123", "4567", "89"]))];
    for (form, origin) in origins {
        for limit in [10, 11, usize::MAX] {
            let traced = Traced::new(origin.client_builder());
            let body = limited(&traced, &origin, limit).await.bytes().await.expect("it fits");
            assert_eq!(body, "0123456789", "{form}");
        }
        for limit in [0, 9] {
            let traced = Traced::new(origin.client_builder());
            let error = limited(&traced, &origin, limit).await.bytes().await.expect_err("a byte too many");
            assert_eq!((error.error_type(), error.phase().as_str()), ("body_incomplete", "response-read"));
            assert!(error.is_body());
            assert_eq!(error.to_string(), "response-read: the response body is larger than allowed");
            let why = error.source().expect("a cause").to_string();
            assert_eq!(why, format!("it has more than {limit} bytes: raise `limit`, or read it piece by piece"));
            // To the server, the application has dropped the rest.
            let timeline = traced.timeline().await;
            let (outcome, read) = outcome(&timeline);
            assert!(timeline.error.is_none() && read <= 10, "{timeline:?}");
            match form {
                // Nothing was read: the length says it.
                "declared" => assert_eq!((outcome, read), (Some("dropped"), 0)),
                _ => assert!(matches!(outcome, Some("dropped" | "complete")), "{outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn without_a_word_the_limit_is_sixteen_mebibytes() {
    assert_eq!(httptrace::DEFAULT_BODY_LIMIT, 16 * 1024 * 1024);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", httptrace::DEFAULT_BODY_LIMIT + 1);
    let origin = Origin::plain().script([ReadHead, write(head), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let response = within("a head", traced.client.get(origin.url("/"))).await.expect("an answer");
    let error = within("a refusal", response.text()).await.expect_err("a byte too many");
    assert_eq!(error.error_type(), "body_incomplete");
}

#[tokio::test]
async fn text_is_utf_8_and_what_is_not_is_given_back_whole() {
    let origin = answering("grüße");
    let traced = Traced::new(origin.client_builder());
    assert_eq!(limited(&traced, &origin, 100).await.text().await.expect("text"), "grüße");
    let latin = Bytes::from_static(b"gr\xfc\xdfe");
    let origin = answering(latin.clone());
    let traced = Traced::new(origin.client_builder());
    let error = limited(&traced, &origin, 100).await.text().await.expect_err("Latin 1");
    assert_eq!((error.error_type(), error.is_body()), ("malformed_response", true));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<FromUtf8Error>()).expect("its cause");
    assert_eq!(cause.as_bytes(), latin);
    assert!(error.help().is_some_and(|help| help.contains("ResponseExt::bytes")), "{:?}", error.help());
    // The exchange was without fault.
    let timeline = traced.timeline().await;
    assert_eq!((outcome(&timeline), timeline.error.is_none()), ((Some("complete"), 5), true));
}

#[tokio::test]
async fn json_becomes_a_value_and_what_is_not_is_told_by_its_place_alone() {
    let origin = answering(r#"{"answer": 42}"#);
    let traced = Traced::new(origin.client_builder());
    let response = within("a head", traced.client.get(origin.url("/"))).await.expect("an answer");
    assert_eq!(response.json::<Value>().await.expect("JSON")["answer"], 42);
    let origin = answering("{\n\"token\": \"planted\"}");
    let traced = Traced::new(origin.client_builder());
    let error = limited(&traced, &origin, 100).await.json::<Vec<u8>>().await.expect_err("no list");
    assert_eq!((error.error_type(), error.is_body()), ("malformed_response", true));
    assert!(error.source().is_some_and(|cause| cause.is::<serde_json::Error>()));
    let error = limited(&traced, &origin, 100).await.json::<std::collections::HashMap<String, u8>>().await;
    let shown = format!("{:?}", error.expect_err("no number"));
    assert!(shown.contains("Data error at line 2 column 18") && !shown.contains("planted"), "{shown}");
}

#[tokio::test]
async fn a_body_that_breaks_off_fails_as_the_exchange_did() {
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")]);
    let traced = Traced::new(origin.client_builder());
    let error = limited(&traced, &origin, 100).await.text().await.expect_err("four bytes of nine");
    assert_eq!(error.to_string(), "response-read: the response body ended too early");
    ExpectedTimeline::new().error("response-read", "body_incomplete").check(&traced.timeline().await);
}

#[tokio::test]
async fn a_reading_that_is_dropped_drops_the_body() {
    let origin =
        Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), AwaitClose]);
    let traced = Traced::new(origin.client_builder());
    let response = limited(&traced, &origin, 100).await;
    {
        let mut reading = pin!(response.bytes());
        while traced.log.count("got_first_response_byte") == 0 {
            tokio::task::yield_now().await;
        }
        assert!(std::future::Future::poll(reading.as_mut(), &mut Context::from_waker(Waker::noop())).is_pending());
    }
    ExpectedTimeline::new().idle_return("closed body_incomplete").check(&traced.timeline().await);
    traced.log.settled().await.assert_paired();
}

/// All in one test: there is one such client in the process.
#[test]
fn the_processs_client_shares_its_connections_and_survives_the_runtimes_that_made_them() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let origin = server.block_on(async { answering("hello") });
    let url = origin.url("/").to_string();
    let get = async || {
        let response = within("an answer", httptrace::get(&url)).await.expect("an answer");
        assert_eq!(within("a body", response.text()).await.expect("a body"), "hello");
        // The connection is back once its own task has run.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    };
    let (first, second) = (runtime(), runtime());
    first.block_on(async {
        get().await;
        get().await;
    });
    assert_eq!((origin.accepted(), origin.served()), (1, 2));
    // Beside it: the first one's connections are not driven now, so it has to be dropped first.
    drop(first);
    second.block_on(get());
    assert_eq!((origin.accepted(), origin.served()), (2, 3));
    // Without a runtime it can't even begin, as the docs say.
    let mut outside = httptrace::get("http://127.0.0.1:1/");
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = std::future::Future::poll(std::pin::Pin::new(&mut outside), &mut Context::from_waker(Waker::noop()));
    }));
    assert!(polled.is_err());
}

#[tokio::test]
async fn an_error_names_the_option_that_has_to_do_with_it() {
    let identity = Identity::new(&["http/1.1"]);
    let origin = Origin::tls_as(identity).script([Stall]);
    let error = Traced::new(httptrace::Client::builder().root_certificates(vec![Identity::new(&[]).root]))
        .read(origin.url("/"))
        .await
        .expect_err("another authority");
    assert_eq!(error.error_type(), "certificate_untrusted");
    let help = error.help().expect("help");
    assert!(help.contains("`root_certificates`"), "{help}");
    assert!(format!("{error:?}").contains(help), "{error:?}");
    // HTTP/1.1 to a port that speaks HTTP/2 alone, and the reverse.
    let origin = Origin::plain().http2().serve(|_| async { Response::new(Full::<Bytes>::default()) });
    let error = Traced::new(origin.client_builder()).read(origin.url("/")).await.expect_err("HTTP/2 alone");
    assert!(error.help().is_some_and(|help| help.contains("`http2_prior_knowledge`")), "{error:?}");
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let origin = Origin::plain().script([Read(24), write(answer), Close]);
    let builder = origin.client_builder().http2_prior_knowledge();
    let error = Traced::new(builder).read(origin.url("/")).await.expect_err("HTTP/1.1 alone");
    assert!(error.help().is_some_and(|help| help.contains("`http2_prior_knowledge`")), "{error:?}");
}
