//! The client as the transport of `opentelemetry-otlp`'s exporters, and of whatever else takes an
//! `opentelemetry_http::HttpClient`: nothing that it carries makes telemetry of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use httptrace::{Client, Error};
use opentelemetry::{
    metrics::MeterProvider,
    trace::{Tracer, TracerProvider},
};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};

use crate::{
    spans::scene::Scene,
    support::{
        client::Traced,
        collector::Collector,
        origin::{Origin, Refusing},
        within,
    },
};

fn span_exporter(client: &Client, collector: &Collector) -> SpanExporter {
    let endpoint = format!("{}/v1/traces", collector.endpoint());
    let builder = SpanExporter::builder().with_http().with_endpoint(endpoint);
    builder.with_http_client(client.clone()).build().expect("an exporter")
}

/// What blocks its thread: a collector and its exporter can't share one.
async fn blocking<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    within(what, tokio::task::spawn_blocking(work)).await.expect("no panic")
}

#[tokio::test]
async fn spans_and_metrics_are_exported_and_exporting_makes_none() {
    let collector = Collector::http();
    // A client that reports: its own providers would hear of every export.
    let memory = InMemoryMetricExporter::default();
    let own_metrics = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(memory.clone()).build()).build();
    let scene = Scene::new(Client::builder().meter_provider(&own_metrics));
    let client = &scene.traced.client;

    let spans = SdkTracerProvider::builder().with_batch_exporter(span_exporter(client, &collector)).build();
    for round in 1..=3 {
        spans.tracer("application").start("work");
        let flushing = spans.clone();
        blocking("a flush", move || flushing.force_flush()).await.expect("a collector that takes it");
        assert_eq!(collector.spans(round).await.len(), round);
    }
    let exporter = MetricExporter::builder().with_http().with_endpoint(format!("{}/v1/metrics", collector.endpoint()));
    let exporter = exporter.with_http_client(client.clone()).build().expect("an exporter");
    let metrics = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter).build()).build();
    metrics.meter("application").u64_counter("work").build().add(1, &[]);
    let flushing = metrics.clone();
    blocking("a flush", move || flushing.force_flush()).await.expect("a collector that takes it");
    collector.metric("work").await;

    let exports = scene.traced.timelines(4).await;
    assert!(exports[1..].iter().all(|export| export.connection.as_ref().is_some_and(|it| it.reused())));
    assert_eq!(scene.exported(), 0, "no span of an export");
    assert!(collector.requests().iter().all(|request| !request.headers.contains_key("traceparent")));
    blocking("a flush", move || own_metrics.force_flush()).await.expect("memory");
    let told = memory.get_finished_metrics().expect("memory");
    let told: Vec<_> = told.iter().flat_map(|it| it.scope_metrics()).flat_map(|it| it.metrics()).collect();
    assert!(told.is_empty(), "no metric of an export: {told:?}");
    blocking("the end", move || (spans.shutdown(), metrics.shutdown())).await.0.expect("an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_export_that_blocks_the_only_thread_of_a_runtime_arrives_all_the_same() {
    let collector = Collector::http();
    let exporter = span_exporter(&Client::builder().telemetry(false).build().expect("settings that fit"), &collector);
    let application = blocking("two exports", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
            // Each ends, and is exported, here and now.
            provider.tracer("application").start("work");
            provider.tracer("application").start("work");
            provider
        })
    });
    let provider = application.await;
    assert_eq!(collector.spans(2).await.len(), 2);
    blocking("the end", move || provider.shutdown()).await.expect("an end");
}

fn post(uri: http::Uri) -> Request<Bytes> {
    Request::post(uri).body(Bytes::from_static(b"message")).expect("a request")
}

async fn sent(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    within("an answer", client.send_bytes(request)).await
}

#[tokio::test]
async fn any_status_is_an_answer_with_its_fields_and_its_body() {
    let origin = Origin::plain().serve(|request| async move {
        let length = request.headers()["content-length"].clone();
        let mut response = Response::new(Full::from("not now"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert("was", length);
        response
    });
    let client = origin.client_builder().build().expect("settings that fit");
    let answer = sent(&client, post(origin.url("/"))).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["was"], "7");
    assert_eq!(answer.body(), "not now");
}

#[tokio::test]
async fn what_fails_says_so_in_the_words_of_both_crates() {
    let refusing = Refusing::new();
    let client = Client::builder().build().expect("settings that fit");
    let to_nobody = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    let error = sent(&client, post(to_nobody)).await.expect_err("nobody there");
    assert!(error.downcast_ref::<Error>().is_some_and(Error::is_connect), "{error:?}");

    let origin = Origin::plain().serve(|_| async { Response::new(Full::from(vec![0; (4 << 20) + 1])) });
    let error = sent(&client, post(origin.url("/"))).await.expect_err("an endless answer");
    assert!(error.is::<ResponseBodyTooLarge>(), "{error:?}");

    let silent = Origin::plain().serve(|_| std::future::pending::<Response<Full<Bytes>>>());
    let hasty = Client::builder().timeout(Duration::from_millis(50)).build().expect("settings that fit");
    let error = sent(&hasty, post(silent.url("/"))).await.expect_err("nobody answers");
    assert!(error.downcast_ref::<Error>().is_some_and(Error::is_timeout), "{error:?}");
}

#[tokio::test]
async fn an_export_that_is_dropped_is_given_up() {
    let silent = Origin::plain().serve(|_| std::future::pending::<Response<Full<Bytes>>>());
    let traced = Traced::new(silent.client_builder());
    let sending = traced.client.send_bytes(post(silent.url("/")));
    let arrived = silent.until("the request", |record| record.requests.len() == 1);
    tokio::select! {
        // It is lost there, which is what is tested.
        answer = sending => panic!("nobody answers: {answer:?}"),
        () = arrived => {}
    }
    let timeline = traced.timeline().await;
    assert_eq!(timeline.error.expect("a cause").error_type(), "canceled");
}
