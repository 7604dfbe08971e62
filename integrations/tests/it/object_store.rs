//! object_store's S3 over the client, by `httptrace_integrations::object_store::Traced`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use httptrace::Client;
use httptrace_integrations::object_store::Traced;
use object_store::{
    ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpConnector, HttpErrorKind},
    path::Path,
};
use opentelemetry_sdk::trace::SpanData;
use tokio_stream::StreamExt;

use crate::{
    attempts,
    scene::Scene,
    store::Store,
    support::{
        origin::{Origin, Refusing},
        script::{Step::*, write},
        spans::ExpectedSpan,
        within,
    },
};

fn s3(client: Client, endpoint: String) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_http_connector(Traced(client))
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_bucket_name("bucket")
        .with_access_key_id("id")
        .with_secret_access_key("key")
        .build()
        .expect("settings that fit")
}

#[tokio::test]
async fn objects_are_put_read_and_listed_on_one_connection() {
    let store = Store::default();
    let origin = Origin::plain().serve(move |request| store.clone().answer(request));
    let scene = Scene::new(origin.client_builder());
    let s3 = s3(scene.traced.client.clone(), format!("http://{}", origin.addr()));
    let work = async {
        let parts = PutPayload::from_iter([Bytes::from_static(b"green "), Bytes::from_static(b"tea")]);
        s3.put(&Path::from("tea"), parts).await.expect("room");
        let mut upload = s3.put_multipart(&Path::from("milk")).await.expect("an upload");
        upload.put_part("half and ".into()).await.expect("room");
        upload.put_part("half".into()).await.expect("room");
        upload.complete().await.expect("an object");
        for (key, content) in [("tea", "green tea"), ("milk", "half and half")] {
            let object = s3.get(&Path::from(key)).await.expect("an object");
            assert_eq!(object.bytes().await.expect("its bytes"), content);
        }
        let listed: Vec<_> = s3.list(None).map(|it| it.expect("an object").location.to_string()).collect().await;
        assert_eq!(listed, ["milk", "tea"]);
        s3.get(&Path::from("coffee")).await.expect_err("no such object");
    };
    within("the work", work).await;

    let spans = scene.spans(9, 38).await;
    assert_eq!((spans.named("PUT").len(), spans.named("POST").len()), (3, 2), "{spans}");
    let [.., unknown] = spans.named("GET")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("404").check(unknown);
    let size = |span: &SpanData| {
        let mut attributes = span.attributes.iter();
        attributes.find(|it| it.key.as_str() == "http.request.body.size").map(|it| it.value.to_string())
    };
    let sizes: Vec<_> = spans.named("request-write").into_iter().filter_map(size).collect();
    assert_eq!(sizes[..3], ["9", "9", "4"], "{spans}");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn what_the_store_tries_again_is_an_attempt_of_its_own() {
    let failures = AtomicUsize::new(1);
    let store = Store::default();
    let origin = Origin::plain().serve(move |request| {
        let failed = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let store = store.clone();
        async move {
            let mut response = store.answer(request).await;
            if failed {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    });
    let scene = Scene::new(origin.client_builder());
    let s3 = s3(scene.traced.client.clone(), format!("http://{}", origin.addr()));
    within("room", s3.put(&Path::from("tea"), "green tea".into())).await.expect("the second time");
    let spans = scene.spans(2, 10).await;
    let [first, second] = attempts(&spans, "PUT")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("503").check(first);
    ExpectedSpan::new().with("http.response.status_code", 200).check(second);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn each_failure_has_the_kind_that_decides_over_another_try() {
    let answer = |text: &'static str| Origin::plain().script([ReadHead, write(text), Close]);
    let refusing = Refusing::new();
    let silent = Origin::plain().serve(|_| std::future::pending::<Response<Full<Bytes>>>());
    let hasty = Client::builder().response_header_timeout(std::time::Duration::from_millis(50));
    for (address, builder, kind) in
        [(refusing.addr(), Client::builder(), HttpErrorKind::Connect), (silent.addr(), hasty, HttpErrorKind::Timeout)]
    {
        let error = failure(builder.build().expect("settings that fit"), &format!("http://{address}/")).await;
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    for (said, kind) in [
        ("", HttpErrorKind::Interrupted),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", HttpErrorKind::Interrupted),
        ("HTTP/1.1 hello\r\n\r\n", HttpErrorKind::Decode),
    ] {
        let origin = answer(said);
        let client = origin.client_builder().build().expect("settings that fit");
        let error = failure(client, &origin.url("/").to_string()).await;
        assert_eq!(error.kind(), kind, "{said}: {error:?}");
    }
}

/// Of the head or of the body.
async fn failure(client: Client, url: &str) -> object_store::client::HttpError {
    let client = Traced(client).connect(&ClientOptions::new()).expect("a client");
    let request = http::Request::get(url).body(object_store::client::HttpRequestBody::empty()).expect("a request");
    match within("a head", client.execute(request)).await {
        Err(error) => error,
        Ok(response) => within("a body", response.into_body().collect()).await.expect_err("a body that fails"),
    }
}

#[test]
fn a_store_is_one_to_all_who_share_it() {
    fn shared<T: ObjectStore>(store: T) -> Arc<dyn ObjectStore> {
        Arc::new(store)
    }
    let client = Client::builder().telemetry(false).build().expect("settings that fit");
    drop(shared(s3(client, "http://127.0.0.1:1".to_owned())));
}
