//! Telemetry over real OTLP: what arrives, and how long the end takes when nothing can arrive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use httptrace::{
    Client,
    otlp::{self, Guard, Protocol, Shutdown},
};
use opentelemetry::{
    KeyValue,
    metrics::MeterProvider,
    trace::{Span, Tracer, TracerProvider},
};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt};

use crate::support::{
    PATIENCE,
    collector::{Answer, Collector},
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, ReadHead},
        write,
    },
};

mod application;
mod command;
mod environment;
mod problems;

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

fn collector(protocol: Protocol) -> Collector {
    match protocol {
        Protocol::Grpc => Collector::grpc(),
        _ => Collector::http(),
    }
}

fn builder(endpoint: String, protocol: Protocol) -> otlp::Builder {
    otlp::builder().endpoint(endpoint).protocol(protocol).service_name("tests").set_globals(false)
}

/// So many spans and one measurement.
fn emit(guard: &Guard, spans: usize) {
    let tracer = guard.tracer_provider().tracer("tests");
    (0..spans).for_each(|_| tracer.start("work").end());
    guard.meter_provider().meter("tests").u64_counter("work").build().add(1, &[]);
}

/// Ends it on a thread of its own, so that a test that hangs fails; and how long that took.
fn end(guard: Guard) -> (Shutdown, Duration) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let start = now();
        let _ = done.send((guard.shutdown(), now() - start));
    });
    ended.recv_timeout(PATIENCE).expect("a shutdown that comes to its end")
}

#[allow(clippy::disallowed_methods, reason = "the wall's time is what is tested")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_of_a_request_arrive_by_either_protocol() {
    for protocol in PROTOCOLS {
        let collector = collector(protocol);
        let resource = [KeyValue::new("deployment.environment.name", "test")];
        let guard = builder(collector.endpoint(), protocol).resource(resource).init().expect("telemetry");
        let origin = Origin::plain().serve(async |_: Request<_>| Response::new(Full::new(Bytes::from("hello"))));
        let client = Client::builder()
            .tracer_provider(guard.tracer_provider())
            .meter_provider(guard.meter_provider())
            .build()
            .expect("a client");
        for _ in 0..2 {
            let response = client.get(origin.url("/")).await.expect("a response");
            response.into_body().collect().await.expect("a body");
        }
        client.shutdown(PATIENCE).await;
        let (ended, _) = tokio::task::spawn_blocking(|| end(guard)).await.expect("an end");
        assert!(ended.is_complete(), "{ended}");
        let spans = collector.spans(ended.exported_spans as usize).await;
        assert_eq!(spans.len() as u64, ended.exported_spans);
        assert_eq!(spans.iter().filter(|span| span.name == "GET").count(), 2, "exports are not traced");
        assert!(spans.iter().any(|span| span.name == "connect"));
        for metric in
            ["http.client.request.duration", "httptrace.connection.acquisitions", "httptrace.connection.reuse_ratio"]
        {
            collector.metric(metric).await;
        }
        let received = collector.received();
        let resource = received.spans[0].resource.clone().expect("a resource");
        let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        for key in ["service.name", "service.instance.id", "deployment.environment.name", "telemetry.sdk.name"] {
            assert!(keys.contains(&key), "{key} in {keys:?}");
        }
        let scope = &received.spans[0].scope_spans[0];
        assert_eq!(scope.schema_url, "https://opentelemetry.io/schemas/1.42.0");
        assert_eq!(scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("httptrace"));
    }
}

// mutant: `await_returns` left out of the guard's `flush`
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_connection_is_on_its_way_back_is_waited_for() {
    let collector = Collector::http();
    let guard = builder(collector.endpoint(), Protocol::HttpProtobuf).init().expect("telemetry");
    // The rest of a dropped body is waited for before the connection is given up.
    let origin =
        Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n12"), AwaitClose]);
    let client = Client::builder().tracer_provider(guard.tracer_provider()).build().expect("a client");
    drop(client.get(origin.url("/")).await.expect("a head"));
    let ended = guard.shutdown_async().await;
    assert_eq!((ended.exported_spans, ended.dropped_spans), (6, 0), "{ended}");
}

#[test]
fn a_collector_that_is_down_ends_the_retries_at_once_and_all_is_counted() {
    for protocol in PROTOCOLS {
        let down = Refusing::new();
        let took = (0..3).map(|_| {
            let guard = builder(format!("http://{}", down.addr()), protocol).init().expect("telemetry");
            emit(&guard, 2000); // four batches
            let (ended, took) = end(guard);
            assert_eq!((ended.exported_spans, ended.dropped_spans), (0, 2000), "{protocol:?}");
            assert!(!ended.metrics_delivered && !ended.timed_out, "{protocol:?}: {ended}");
            took
        });
        // One batch with its retries takes 0.7 s and more.
        let least = took.min().expect("three");
        assert!(least < Duration::from_millis(650), "{protocol:?}: {least:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_collector_is_asked_again() {
    for (protocol, status) in [(Protocol::Grpc, 14), (Protocol::HttpProtobuf, 429), (Protocol::HttpProtobuf, 503)] {
        let collector = collector(protocol);
        collector.answer(Answer::Status(status));
        let guard = builder(collector.endpoint(), protocol).metrics(false).init().expect("telemetry");
        emit(&guard, 3);
        let provider = guard.tracer_provider().clone();
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush());
        collector.exports(1).await;
        collector.answer(Answer::Accept);
        flushed.await.expect("an end").expect("a flush");
        assert_eq!(collector.received().exports, 2, "{protocol:?}");
        let ended = guard.shutdown_async().await;
        assert!(ended.is_complete() && ended.problems.is_empty(), "{protocol:?}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_costs_the_deadline() {
    for protocol in PROTOCOLS {
        let collector = collector(protocol);
        collector.answer(Answer::Hang);
        let guard = builder(collector.endpoint(), protocol).timeout(Duration::from_millis(600)).init();
        let guard = guard.expect("telemetry");
        emit(&guard, 3);
        let (ended, took) = tokio::task::spawn_blocking(|| end(guard)).await.expect("an end");
        assert!(took < Duration::from_millis(1500), "{protocol:?}: {took:?}");
        assert_eq!((ended.exported_spans, ended.dropped_spans), (0, 3), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_current_thread_runtime_does_not_hang_in_its_own_flush() {
    for protocol in PROTOCOLS {
        let collector = collector(protocol);
        let endpoint = collector.endpoint();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let ended = runtime.block_on(async {
                let guard = builder(endpoint, protocol).init().expect("telemetry");
                emit(&guard, 1);
                guard.tracer_provider().force_flush().expect("a flush");
                guard.meter_provider().force_flush().expect("a flush");
                emit(&guard, 1);
                guard.shutdown()
            });
            let _ = done.send(ended);
        });
        let ended = tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE)).await.expect("a wait");
        let ended = ended.expect("no hang");
        assert!(ended.is_complete() && ended.exported_spans == 2, "{protocol:?}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_guard_flushes() {
    for protocol in PROTOCOLS {
        let collector = collector(protocol);
        let endpoint = collector.endpoint();
        let dropped = tokio::task::spawn_blocking(move || {
            let guard = builder(endpoint, protocol).init().expect("telemetry");
            emit(&guard, 1);
        });
        dropped.await.expect("an end");
        assert_eq!(collector.received().spans.len(), 1, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_loses_its_batch_and_is_counted() {
    let collector = Collector::http();
    collector.answer(Answer::Status(400));
    let guard = builder(collector.endpoint(), Protocol::HttpProtobuf).init().expect("telemetry");
    emit(&guard, 5);
    let ended = tokio::task::spawn_blocking(move || {
        let _ = guard.tracer_provider().force_flush();
        let lost = guard.dropped_spans();
        (lost, guard.shutdown(), guard.shutdown())
    });
    let (lost, first, second) = ended.await.expect("an end");
    assert_eq!((lost, first.dropped_spans, first.metrics_delivered), (5, 5, false));
    assert_eq!(first, second, "a second end is told what the first did");
}

#[tokio::test]
async fn the_async_end_leaves_the_runtime_free() {
    for protocol in PROTOCOLS {
        let collector = collector(protocol);
        let guard = builder(collector.endpoint(), protocol).init().expect("telemetry");
        emit(&guard, 3);
        // On one thread, which serves the collector too: an end that blocked it would wait for itself.
        let (first, second) = tokio::join!(guard.shutdown_async(), guard.shutdown_async());
        assert!(first.is_complete() && first.exported_spans == 3, "{protocol:?}: {first}");
        assert_eq!(first, second);
        assert_eq!(guard.shutdown(), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_not_awaited_any_more_goes_on_and_does_not_hold_up_a_drop() {
    let collector = Collector::http();
    collector.answer(Answer::Hang);
    let guard = builder(collector.endpoint(), Protocol::HttpProtobuf).init().expect("telemetry");
    emit(&guard, 3);
    let given_up = {
        let mut ending = std::pin::pin!(guard.shutdown_async());
        let hanging = collector.exports(2);
        tokio::select! { _ = &mut ending => false, () = hanging => true }
    };
    assert!(given_up, "the collector hangs");
    let start = now();
    drop(guard);
    assert!(now() - start < Duration::from_secs(5), "a drop waits for nobody else's end");
}

#[test]
fn a_signal_that_is_left_out_makes_nothing() {
    let guard = builder("http://127.0.0.1:9".to_owned(), Protocol::HttpProtobuf).traces(false).metrics(false).init();
    let guard = guard.expect("telemetry");
    assert!(!guard.tracer_provider().tracer("tests").start("work").span_context().is_valid());
    let (ended, _) = end(guard);
    assert!(ended.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_leaves_the_plumbing_out_and_can_be_filtered_once_more() {
    let collector = Collector::http();
    let guard = builder(collector.endpoint(), Protocol::HttpProtobuf).init().expect("telemetry");
    let subscriber = tracing_subscriber::registry().with(guard.layer().with_filter(LevelFilter::INFO));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("kept").in_scope(|| tracing::warn_span!("kept, too").in_scope(|| {}));
        tracing::debug_span!("below the level").in_scope(|| {});
        tracing::info_span!(target: "h2::client", "plumbing").in_scope(|| {});
    });
    let (ended, _) = tokio::task::spawn_blocking(|| end(guard)).await.expect("an end");
    assert!(ended.is_complete(), "{ended}");
    let names: Vec<_> = collector.spans(2).await.into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["kept, too", "kept"]);
}

#[test]
fn a_layer_that_exports_nothing_hides_nothing_from_the_others() {
    struct Lines(Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let guard = builder("http://127.0.0.1:9".to_owned(), Protocol::HttpProtobuf).traces(false).metrics(false).init();
    let (guard, lines) = (guard.expect("telemetry"), Arc::new(AtomicUsize::new(0)));
    let registry = tracing_subscriber::registry;
    let log = || Lines(Arc::clone(&lines));
    tracing::subscriber::with_default(registry().with(guard.layer()).with(log()), || tracing::info!("seen"));
    let filtered = guard.layer().with_filter(LevelFilter::INFO);
    tracing::subscriber::with_default(registry().with(filtered).with(log()), || tracing::debug!("seen"));
    tracing::subscriber::with_default(registry().with(log()).with(guard.layer()), || tracing::info!("seen"));
    assert_eq!(lines.load(Ordering::Relaxed), 3);
}
