//! tonic's generated clients: `HealthClient::with_origin(client, uri)`, in place of a `Channel`. Without TLS the client has to
//! know beforehand that the server speaks HTTP/2 (`http2_prior_knowledge`); with it, ALPN says so.

use http::{Uri, uri::PathAndQuery};
use httptrace::{Client, ClientBuilder};
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::{Code, IntoStreamingRequest, Request, Response, Status, Streaming, service::Routes};
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
use tonic_prost::ProstCodec;
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

/// What gRPC puts before each message.
const FRAME: usize = 5;

const LINE: usize = 1 << 10;
/// Twice the window of hyper's server: it has to be opened again and again.
const LINES: usize = 2 << 10;

#[tokio::test]
async fn many_messages_up_are_one_span_that_ends_with_the_one_answer() {
    for (origin, builder, mut read) in both_counting() {
        let scene = Scene::new(builder);
        let mut client = CounterClient::with_origin(scene.traced.client.clone(), origin.url("/"));
        let application = scene.application();
        for _ in 0..2 {
            let exported = scene.exported();
            let (lines, sent) = tokio::sync::mpsc::channel(1);
            let talk = async {
                for number in 1..=LINES {
                    lines.send("x".repeat(LINE)).await.expect("an open stream");
                    if number == LINES / 2 {
                        read.wait_for(|read| *read == number).await.expect("a server");
                        assert_eq!(scene.exported(), exported, "all of it is told at its end");
                    }
                }
                drop(lines);
            };
            let call = client.count(ReceiverStream(sent)).with_context(application.clone());
            let (answer, ()) = within("an answer", async { tokio::join!(call, talk) }).await;
            let answer = answer.expect("a status of 0");
            assert_eq!(answer.get_ref(), &((LINE * LINES) as u64));
            assert_eq!(answer.metadata().get("grpc-status").expect("trailers"), "0");
        }
        application.span().end();

        let spans = scene.spans(2, 11 + usize::from(origin.is_tls())).await;
        let sent = LINES * (FRAME + prost::Message::encoded_len(&"x".repeat(LINE)));
        for (span, write) in attempts(&spans, "POST").into_iter().zip(spans.named("request-write")) {
            ExpectedSpan::new().under(spans.only("application")).with("http.response.status_code", 200).check(span);
            ExpectedSpan::new().under(span).with("http.request.body.size", sent as i64).check(write);
        }
        for read in spans.named("response-read") {
            ExpectedSpan::new().with("httptrace.response.outcome", "complete").check(read);
        }
        assert_eq!(origin.accepted(), 1);
    }
}

#[tokio::test]
async fn a_server_that_has_read_enough_ends_the_messages_up_and_the_connection_is_used_again() {
    for (origin, builder, _) in both_counting() {
        let scene = Scene::new(builder);
        let mut client = CounterClient::with_origin(scene.traced.client.clone(), origin.url("/"));
        let (lines, sent) = tokio::sync::mpsc::channel(1);
        let talk = async {
            for line in ["one", "two", ""] {
                lines.send(line.to_owned()).await.expect("an open stream");
            }
            lines.closed().await;
        };
        let (answer, ()) = within("an answer", async { tokio::join!(client.count(ReceiverStream(sent)), talk) }).await;
        let refused = answer.expect_err("an empty line");
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "an empty line"));
        let answer = within("an answer", client.count(tokio_stream::iter(["three".to_owned()]))).await;
        assert_eq!(answer.expect("a status of 0").into_inner(), 5);

        let spans = scene.spans(2, 9 + usize::from(origin.is_tls())).await;
        let [ended, next] = attempts(&spans, "POST")[..] else { panic!("{spans}") };
        let write = |parent| spans.children(parent).into_iter().find(|it| it.name == "request-write").expect("a span");
        let size = |lines: &[usize]| lines.iter().map(|length| FRAME + length).sum::<usize>() as i64;
        // The server has what it wanted: no error, though the caller had more to say.
        ExpectedSpan::new().with("http.response.status_code", 200).check(ended);
        ExpectedSpan::new().canceled().with("http.request.body.size", size(&[5, 5, 0])).check(write(ended));
        ExpectedSpan::new().with("http.request.body.size", size(&[7])).check(write(next));
        assert_eq!(origin.accepted(), 1);
        scene.traced.log.settled().await.assert_paired_over(2);
    }
}

/// As tonic generates it of `rpc Count(stream google.protobuf.StringValue) returns (google.protobuf.UInt64Value)`, by hand:
/// neither of the two services above streams in this direction alone.
struct CounterClient(tonic::client::Grpc<Client>);

impl CounterClient {
    fn with_origin(client: Client, origin: Uri) -> Self {
        Self(tonic::client::Grpc::with_origin(client, origin))
    }

    async fn count(&mut self, lines: impl IntoStreamingRequest<Message = String>) -> Result<Response<u64>, Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let path = PathAndQuery::from_static("/test.Counter/Count");
        self.0.client_streaming(lines.into_streaming_request(), path, ProstCodec::default()).await
    }
}

/// Its server, which counts the bytes of all lines and does not bear an empty one; and the lines that it has read.
fn serve_counter(origin: OriginBuilder) -> (Origin, watch::Receiver<usize>) {
    let (read, reading) = watch::channel(0);
    let origin = origin.serve(move |request| {
        let read = read.clone();
        let count = tower::service_fn(move |request: Request<Streaming<String>>| {
            let read = read.clone();
            async move {
                let (mut lines, mut bytes) = (request.into_inner(), 0);
                read.send_replace(0);
                while let Some(line) = lines.message().await? {
                    if line.is_empty() {
                        return Err(Status::invalid_argument("an empty line"));
                    }
                    bytes += line.len() as u64;
                    read.send_modify(|read| *read += 1);
                }
                Ok(Response::new(bytes))
            }
        });
        async { tonic::server::Grpc::new(ProstCodec::default()).client_streaming(count, request).await }
    });
    (origin, reading)
}

/// As `both`.
fn both_counting() -> [(Origin, ClientBuilder, watch::Receiver<usize>); 2] {
    let (plain, read) = serve_counter(Origin::plain().http2());
    let builder = plain.client_builder().http2_prior_knowledge();
    let (secure, secure_read) = serve_counter(Origin::tls_with_alpn(&["h2"]));
    let secure_builder = secure.client_builder();
    [(plain, builder, read), (secure, secure_builder, secure_read)]
}

/// `tokio_stream`'s, without its feature.
struct ReceiverStream<T>(tokio::sync::mpsc::Receiver<T>);

impl<T> tokio_stream::Stream for ReceiverStream<T> {
    type Item = T;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
