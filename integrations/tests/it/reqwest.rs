//! reqwest's requests and responses by the traced client, and its middleware around it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use httptrace_integrations::reqwest::{Traced, execute};
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use reqwest_middleware::{ClientBuilder, Middleware, Next};

use crate::{
    attempts,
    scene::Scene,
    support::{origin::Origin, spans::ExpectedSpan, within},
};

/// Says back what it was told; `/silent` says nothing.
fn echo() -> Origin {
    Origin::plain().serve(|request| async move {
        if request.uri().path() == "/silent" {
            std::future::pending::<()>().await;
        }
        let was = request.headers().get("was").cloned().unwrap_or(HeaderValue::from_static("nothing"));
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let mut response = Response::new(Full::<Bytes>::from(body));
        response.headers_mut().insert("was", was);
        response
    })
}

#[tokio::test]
async fn a_request_of_reqwests_builder_is_sent_and_the_answer_is_reqwests() {
    let origin = echo();
    let scene = Scene::new(origin.client_builder());
    // Still good for building requests.
    let builder = reqwest::Client::new();
    let url = origin.url("/a").to_string();
    for body in ["green", "black"] {
        let request = builder.post(&url).header("was", "asked").body(body).build().expect("a request");
        let response = within("an answer", execute(&scene.traced.client, request)).await.expect("an answer");
        assert_eq!((response.url().as_str(), response.status()), (&*url, StatusCode::OK));
        assert_eq!(response.headers()["was"], "asked");
        assert_eq!(response.text().await.expect("text"), body);
    }
    let spans = scene.spans(2, 10).await;
    for span in attempts(&spans, "POST") {
        ExpectedSpan::new().with("http.response.status_code", 200).check(span);
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn the_timeout_of_a_request_holds() {
    let origin = echo();
    let scene = Scene::new(origin.client_builder());
    let request = reqwest::Client::new().get(origin.url("/silent").to_string()).timeout(Duration::from_millis(50));
    let request = request.build().expect("a request");
    let error = within("a timeout", execute(&scene.traced.client, request)).await.expect_err("nobody answers");
    assert!(error.downcast_ref::<httptrace::Error>().is_some_and(httptrace::Error::is_timeout), "{error:?}");
}

/// Stands for all that a program has there: it sees the request before, and the response after.
struct Counting(Arc<AtomicUsize>);

#[async_trait]
impl Middleware for Counting {
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        request.headers_mut().insert("was", HeaderValue::from_static("counted"));
        let response = next.run(request, extensions).await?;
        self.0.fetch_add(usize::from(response.status().is_success()), Ordering::Relaxed);
        Ok(response)
    }
}

#[tokio::test]
async fn as_the_last_middleware_it_sends_below_all_others_and_below_the_callers_span() {
    let origin = echo();
    let scene = Scene::new(origin.client_builder());
    let counted = Arc::new(AtomicUsize::new(0));
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(Counting(Arc::clone(&counted)))
        .with(Traced(scene.traced.client.clone()))
        .build();
    let application = scene.application();
    let work = async {
        for _ in 0..2 {
            let response = client.get(origin.url("/").to_string()).send().await.expect("an answer");
            assert_eq!(response.headers()["was"], "counted");
            response.bytes().await.expect("a body");
        }
    };
    within("the work", work.with_context(application.clone())).await;
    application.span().end();
    assert_eq!(counted.load(Ordering::Relaxed), 2);
    let spans = scene.spans(2, 11).await;
    for span in attempts(&spans, "GET") {
        ExpectedSpan::new().under(spans.only("application")).check(span);
    }
    assert_eq!(origin.accepted(), 1, "and none of reqwest's own");
}

#[tokio::test]
async fn a_failure_below_middleware_is_the_clients_own_error() {
    let refusing = crate::support::origin::Refusing::new();
    let traced = httptrace::Client::builder().build().expect("settings that fit");
    let client = ClientBuilder::new(reqwest::Client::new()).with(Traced(traced)).build();
    let sent = client.get(format!("http://{}/", refusing.addr())).send();
    let error = within("an error", sent).await.expect_err("nobody there");
    let reqwest_middleware::Error::Middleware(error) = error else { panic!("{error:?}") };
    assert!(error.downcast_ref::<httptrace::Error>().is_some_and(httptrace::Error::is_connect), "{error:?}");
}
