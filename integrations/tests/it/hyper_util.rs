//! hyper-util's legacy client and this one, by the same calls: what is built changes, and nothing that is done with it.
//!
//! But for two things: `capture_connection` captures nothing, and what a connector says of itself (`Connected::extra`) does
//! not come with the response. What they are used for is in the `Timeline`: the addresses, and whether it was reused.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Legacy, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::ServiceExt;

use crate::{
    scene::Scene,
    support::{
        origin::{Origin, Refusing},
        within,
    },
};

/// What a program does with its client. A macro, since the two have no trait in common that names these.
macro_rules! work {
    ($client:expr, $origin:expr) => {{
        let (client, origin) = (&$client, &$origin);
        let response = client.get(origin.url("/a")).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/a");
        let request = Request::post(origin.url("/b")).body(Full::<Bytes>::from("tea")).expect("a request");
        let response = client.request(request).await.expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/b tea");
        let request = Request::get(origin.url("/c")).body(Full::<Bytes>::default()).expect("a request");
        let response = client.clone().oneshot(request).await.expect("a response");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "/c");

        let refusing = Refusing::new();
        let nobody: Uri = format!("http://{}/", refusing.addr()).parse().expect("a URL");
        assert!(client.get(nobody).await.expect_err("nobody there").is_connect());
    }};
}

fn origin() -> Origin {
    Origin::plain().serve(|request| async move {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let said = format!("{path} {}", String::from_utf8_lossy(&body));
        http::Response::new(Full::<Bytes>::from(said.trim_end().to_owned()))
    })
}

#[tokio::test]
async fn the_same_calls_do_the_same_and_make_spans() {
    let before = origin();
    let legacy: Legacy<HttpConnector, Full<Bytes>> = Legacy::builder(TokioExecutor::new()).build_http();
    within("the work", async { work!(legacy, before) }).await;

    let after = origin();
    let scene = Scene::new(after.client_builder());
    within("the work", async { work!(scene.traced.client, after) }).await;
    assert_eq!((before.accepted(), after.accepted()), (1, 1));
    let spans = scene.spans(4, 17).await;
    assert_eq!((spans.named("GET").len(), spans.named("POST").len()), (3, 1), "{spans}");
}
