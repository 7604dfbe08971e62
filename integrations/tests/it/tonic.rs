//! tonic's generated clients: `HealthClient::with_origin(client, uri)`, in place of a `Channel`. Without TLS the client has to
//! know beforehand that the server speaks HTTP/2 (`http2_prior_knowledge`); with it, ALPN says so.

use httptrace::ClientBuilder;
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use tokio_stream::StreamExt;
use tonic::{Code, Request, service::Routes};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest,
        health_check_response::ServingStatus as Told,
        health_client::HealthClient,
        health_server::{Health, HealthServer},
    },
    server::HealthReporter,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tower::ServiceExt;

use crate::{
    attempts,
    scene::Scene,
    support::{
        origin::{Origin, OriginBuilder},
        spans::ExpectedSpan,
        within,
    },
};

/// tonic's own server side of two services, behind an origin that counts.
fn serve(origin: OriginBuilder, health: HealthServer<impl Health>) -> Origin {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("a description");
    let routes = Routes::new(health).add_service(reflection).prepare();
    origin.serve(move |request| {
        let answer = routes.clone().oneshot(request.map(tonic::body::Body::new));
        async { answer.await.expect("a status at least") }
    })
}

/// An origin without TLS and one with, and the settings of a client for each.
fn both() -> [(Origin, HealthReporter, ClientBuilder); 2] {
    let (reporter, health) = tonic_health::server::health_reporter();
    let plain = serve(Origin::plain().http2(), health);
    let builder = plain.client_builder().http2_prior_knowledge();
    let (secure_reporter, health) = tonic_health::server::health_reporter();
    let secure = serve(Origin::tls_with_alpn(&["h2"]), health);
    let secure_builder = secure.client_builder();
    [(plain, reporter, builder), (secure, secure_reporter, secure_builder)]
}

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn unary_calls_are_spans_on_one_connection_and_a_status_in_the_trailers_arrives() {
    for (origin, _reporter, builder) in both() {
        let scene = Scene::new(builder);
        let mut client = HealthClient::with_origin(scene.traced.client.clone(), origin.url("/"));
        let application = scene.application();
        for _ in 0..2 {
            let told = within("an answer", client.check(check("")).with_context(application.clone())).await;
            assert_eq!(told.expect("a status of 0 in the trailers").into_inner().status(), Told::Serving);
        }
        let unknown = within("an answer", client.check(check("nobody"))).await.expect_err("no such service");
        assert_eq!(unknown.code(), Code::NotFound);
        application.span().end();

        let spans = scene.spans(3, 15).await;
        let [first, second, unknown] = attempts(&spans, "POST")[..] else { panic!("{spans}") };
        for span in [first, second] {
            ExpectedSpan::new()
                .under(spans.only("application"))
                .with("http.response.status_code", 200)
                .with("network.protocol.version", "2")
                .check(span);
        }
        ExpectedSpan::new().root().check(unknown);
        assert_eq!(spans.named("tls").len(), usize::from(origin.is_tls()));
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn the_span_of_a_stream_ends_with_the_stream() {
    for (origin, reporter, builder) in both() {
        let scene = Scene::new(builder);
        reporter.set_service_status("shop", ServingStatus::Serving).await;
        let mut client = HealthClient::with_origin(scene.traced.client.clone(), origin.url("/"));
        let mut watch = within("a stream", client.watch(check("shop"))).await.expect("a stream").into_inner();
        let told = within("a first message", watch.next()).await.expect("a message").expect("a status");
        assert_eq!(told.status(), Told::Serving);
        reporter.set_service_status("shop", ServingStatus::NotServing).await;
        let told = within("a change", watch.next()).await.expect("a message").expect("a status");
        assert_eq!(told.status(), Told::NotServing);
        // Another call meanwhile, on the same connection.
        within("an answer", client.check(check(""))).await.expect("an answer");
        let ended = scene.traced.timelines(1).await;
        assert_eq!(ended.len(), 1, "the stream is still open");
        drop(watch);

        let spans = scene.spans(2, 10).await;
        let [watched, checked] = attempts(&spans, "POST")[..] else { panic!("{spans}") };
        assert!(watched.end_time >= checked.end_time);
        let outcome = |parent, outcome| {
            let read = spans.children(parent).into_iter().find(|span| span.name == "response-read").expect("a span");
            ExpectedSpan::new().with("httptrace.response.outcome", outcome).check(read);
        };
        outcome(watched, "dropped");
        outcome(checked, "complete");
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn both_directions_stream_at_once_and_the_span_ends_with_the_trailers() {
    for (origin, _reporter, builder) in both() {
        let scene = Scene::new(builder);
        let mut client = ServerReflectionClient::with_origin(scene.traced.client.clone(), origin.url("/"));
        let (questions, asked) = tokio::sync::mpsc::channel(1);
        let asked = ReceiverStream(asked);
        let mut answers = within("a stream", client.server_reflection_info(Request::new(asked)))
            .await
            .expect("a stream")
            .into_inner();
        for symbol in ["grpc.health.v1.Health", "grpc.health.v1.Health.Check"] {
            let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
            questions.send(request).await.expect("an open stream");
            let answer = within("an answer", answers.next()).await.expect("a message").expect("no error");
            assert!(answer.message_response.is_some());
        }
        assert_eq!(scene.exported(), 0, "all of it is told at its end");
        drop(questions);
        assert!(within("the end", answers.next()).await.is_none());
        assert!(answers.trailers().await.expect("trailers").is_some(), "with the status in them");
        // No wait for the response: it began before the request ended.
        let spans = scene.spans(1, 5).await;
        let complete = ExpectedSpan::new().with("httptrace.response.outcome", "complete");
        complete.check(spans.only("response-read"));
        assert_eq!(origin.accepted(), 1);
    }
}

/// `tokio_stream`'s, without its feature.
struct ReceiverStream<T>(tokio::sync::mpsc::Receiver<T>);

impl<T> tokio_stream::Stream for ReceiverStream<T> {
    type Item = T;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
