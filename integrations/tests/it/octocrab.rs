//! octocrab: `with_service(client)`, and its own layers around it. Its retries are a feature of the client that it would make
//! itself; `examples/middleware/recipes.rs` has some for this one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::Full;
use octocrab::{
    AuthState, Octocrab, OctocrabBuilder,
    service::middleware::{base_uri::BaseUriLayer, extra_headers::ExtraHeadersLayer},
};
use serde_json::Value;

use crate::{
    attempts,
    scene::Scene,
    support::{origin::Origin, spans::ExpectedSpan, within},
};

/// What a program does instead of `Octocrab::builder().personal_token(…).build()`.
fn github(client: httptrace::Client, at: Uri) -> Octocrab {
    let agent = (header::USER_AGENT, HeaderValue::from_static("shop"));
    let token = (header::AUTHORIZATION, HeaderValue::from_static("Bearer token"));
    let built = OctocrabBuilder::new_empty()
        .with_service(client)
        .with_layer(&BaseUriLayer::new(at))
        .with_layer(&ExtraHeadersLayer::new(Arc::new(vec![agent, token])))
        .with_auth(AuthState::None)
        .build();
    match built {
        Ok(github) => github,
        Err(never) => match never {},
    }
}

#[tokio::test]
async fn calls_are_spans_on_one_connection_and_githubs_own_errors_arrive() {
    let origin = Origin::plain().serve(|request| async move {
        let known = request.headers()[header::AUTHORIZATION] == "Bearer token" && request.uri().path() == "/rate_limit";
        let (status, text) = match known {
            true => (StatusCode::OK, r#"{"rate":{"limit":5000}}"#),
            false => (StatusCode::NOT_FOUND, r#"{"message":"Not Found","documentation_url":"/"}"#),
        };
        let mut response = Response::new(Full::<Bytes>::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    });
    let scene = Scene::new(origin.client_builder());
    let github = github(scene.traced.client.clone(), origin.url("/"));
    for _ in 0..2 {
        let told: Value = within("an answer", github.get("/rate_limit", None::<&()>)).await.expect("an answer");
        assert_eq!(told["rate"]["limit"], 5000);
    }
    let error = within("an answer", github.get::<Value, _, ()>("/nothing", None)).await.expect_err("nothing there");
    assert!(matches!(error, octocrab::Error::GitHub { .. }), "{error:?}");

    let spans = scene.spans(3, 14).await;
    let [.., unknown] = attempts(&spans, "GET")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("404").with("httptrace.connection.reused", true).check(unknown);
    assert_eq!(origin.accepted(), 1);
}
