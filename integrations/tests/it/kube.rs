//! kube: its own layers, and the client below them, where hyper-util's would be. `Config` brings the layers (where the API
//! server is, who one is); its certificates go to `ClientBuilder::root_certificates` and `client_certificate`.
//!
//! kube calls its transport on a task of its own, which takes the caller's `tracing` span along: so under `#[instrument]`
//! the spans are where they belong.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Channel, Full, combinators::UnsyncBoxBody};
use httptrace::BoxError;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Config,
    api::{AttachParams, ListParams, WatchEvent, WatchParams},
    client::ConfigExt,
};
use opentelemetry::trace::TracerProvider;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tower::ServiceBuilder;
use tracing::{Instrument, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    attempts,
    scene::Scene,
    support::{origin::Origin, spans::ExpectedSpan, within},
};

/// What a program does instead of `kube::Client::try_from(config)`.
fn client(config: Config, client: httptrace::Client) -> kube::Client {
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().expect("credentials that can be read"))
        .map_err(BoxError::from)
        .service(client);
    kube::Client::new(service, config.default_namespace)
}

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "resourceVersion": "2"}})
}

fn whole(value: &Value) -> Response<Body> {
    Response::new(Full::from(value.to_string()).boxed_unsync())
}

/// An API server that knows of one pod; `more` is sent to its watchers.
fn api_server(more: tokio::sync::watch::Receiver<Option<Value>>) -> Origin {
    Origin::plain().serve(move |request| {
        let mut more = more.clone();
        async move {
            if request.uri().path().ends_with("/exec") {
                return shell(request);
            }
            if !request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [pod("tea")]});
                return whole(&list);
            }
            let (mut sender, body) = Channel::<Bytes>::new(1);
            tokio::spawn(async move {
                while more.changed().await.is_ok() {
                    let Some(event) = more.borrow_and_update().clone() else { return };
                    sender.send_data(format!("{event}\n").into()).await.expect("a watcher");
                }
            });
            Response::new(body.boxed_unsync())
        }
    })
}

/// Says hello over a WebSocket, on the channel of stdout (1), and closes it.
fn shell(request: http::Request<hyper::body::Incoming>) -> Response<Body> {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64"));
    fields.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io"));
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.expect("an upgrade"));
        stream.write_all(b"\x82\x06\x01hello\x88\x00").await.expect("a client");
        // The client says goodbye as well, and waits for the server to hang up.
        let _goodbye = stream.read(&mut [0; 16]).await;
    });
    response
}

#[tokio::test]
async fn pods_are_listed_and_watched_on_reused_connections_and_a_watch_ends_with_its_stream() {
    let (events, told) = tokio::sync::watch::channel(None);
    let origin = api_server(told);
    let scene = Scene::new(origin.client_builder());
    let pods: Api<Pod> = Api::default_namespaced(client(Config::new(origin.url("")), scene.traced.client.clone()));
    let layer = tracing_opentelemetry::layer().with_tracer(scene.provider.tracer("application"));
    let subscriber = tracing_subscriber::registry().with(layer);
    let work = async {
        for _ in 0..2 {
            let list = pods.list(&ListParams::default()).await.expect("a list");
            assert_eq!(list.items[0].metadata.name.as_deref(), Some("tea"));
        }
        let mut watch = Box::pin(pods.watch(&WatchParams::default(), "1").await.expect("a stream"));
        for name in ["milk", "sugar"] {
            events.send_replace(Some(json!({"type": "ADDED", "object": pod(name)})));
            match watch.next().await.expect("an event").expect("no error") {
                WatchEvent::Added(pod) => assert_eq!(pod.metadata.name.as_deref(), Some(name)),
                other => panic!("{other:?}"),
            }
        }
        // The watch has a connection to itself while it lasts.
        assert_eq!(scene.traced.timelines(2).await.len(), 2, "the watch is open");
        events.send_replace(None);
        assert!(watch.next().await.is_none());
    };
    let work = async { work.instrument(tracing::info_span!("work")).await };
    within("the work", work.with_subscriber(subscriber)).await;

    let spans = scene.spans(3, 15).await;
    let [first, second, watch] = attempts(&spans, "GET")[..] else { panic!("{spans}") };
    for span in [first, second, watch] {
        ExpectedSpan::new().under(spans.only("work")).with("http.response.status_code", 200).check(span);
    }
    let read = spans.children(watch).into_iter().find(|span| span.name == "response-read").expect("a span");
    ExpectedSpan::new().with("httptrace.response.outcome", "complete").check(read);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_command_in_a_pod_talks_over_the_upgraded_connection() {
    let (_events, told) = tokio::sync::watch::channel(None);
    let origin = api_server(told);
    let scene = Scene::new(origin.client_builder());
    let pods: Api<Pod> = Api::default_namespaced(client(Config::new(origin.url("")), scene.traced.client.clone()));
    let only_stdout = AttachParams::default().stderr(false);
    let running = within("an upgrade", pods.exec("tea", ["hello"], &only_stdout)).await;
    let mut running = running.expect("an upgrade");
    let mut said = String::new();
    let mut stdout = running.stdout().expect("asked for");
    within("its words", stdout.read_to_string(&mut said)).await.expect("text");
    assert_eq!(said, "hello");
    let spans = scene.spans(1, 5).await;
    ExpectedSpan::new().with("http.response.status_code", 101).check(spans.only("GET"));
}

#[tokio::test]
async fn an_api_server_that_is_not_there_is_told_by_the_clients_own_error() {
    let refusing = crate::support::origin::Refusing::new();
    let to: Uri = format!("http://{}", refusing.addr()).parse().expect("a URL");
    let scene = Scene::new(httptrace::Client::builder());
    let pods: Api<Pod> = Api::default_namespaced(client(Config::new(to), scene.traced.client.clone()));
    let error = within("an error", pods.list(&ListParams::default())).await.expect_err("nobody there");
    let kube::Error::Service(error) = error else { panic!("{error:?}") };
    assert!(error.downcast_ref::<httptrace::Error>().is_some_and(httptrace::Error::is_connect), "{error:?}");
    let spans = scene.spans(1, 3).await;
    ExpectedSpan::new().error("connection_refused").check(spans.only("GET"));
}
