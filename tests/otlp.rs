//! A process whose telemetry is global, with the guard's layer under every span and event at TRACE: what is exported is
//! the application's and the requests', and never the exporting.

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "the kit is shared with the other test binary")]
mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use httptrace::{
    Client,
    otlp::{self, Protocol},
};
use opentelemetry::{
    Context, KeyValue, global,
    trace::{Link, SpanKind, TraceId},
};
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};
use tracing::Instrument;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use self::support::{around::Around, collector::Collector, origin::Origin};

/// Keeps the names of what it is asked for, and samples it.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl ShouldSample for Asked {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        self.0.lock().expect("no panic").push(name.to_owned());
        Sampler::AlwaysOn.should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_children_of_tracing_spans_and_exports_are_not_traced() {
    let collector = Collector::grpc();
    // Built too early: it took the global providers that there were then, which are none.
    let early = Client::new();
    let asked = Asked::default();
    let builder = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::Grpc).sampler(asked.clone());
    let guard = builder.init().expect("telemetry");
    tracing_subscriber::registry().with(guard.layer()).init();
    let origin = Origin::plain().serve(async |request: Request<_>| {
        let parent =
            request.headers().get("traceparent").map_or(Bytes::new(), |value| Bytes::from(value.as_bytes().to_vec()));
        Response::new(Full::new(parent))
    });
    let client = Client::new();
    let work = tracing::info_span!("work");
    let sent = async {
        let response = client.get(origin.url("/")).await.expect("a response");
        response.into_body().collect().await.expect("a body").to_bytes()
    };
    let seen = sent.instrument(work.clone()).await;
    drop(work);
    let response = early.get(origin.url("/")).await.expect("a response");
    let seen_early = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(seen_early, "", "it has no span, so no trace to go on with");
    drop((client, early));
    assert_eq!(*asked.0.lock().expect("no panic"), ["work", "GET"], "the global provider's requests go past the SDK");
    // Each flush is an export, and each export would be traced if it were not kept out.
    for _ in 0..3 {
        let provider = guard.tracer_provider().clone();
        tokio::task::spawn_blocking(move || provider.force_flush()).await.expect("a wait").expect("a flush");
    }
    let ended = tokio::task::spawn_blocking(move || guard.shutdown()).await.expect("an end");
    assert!(ended.is_complete(), "{ended}");
    let spans = collector.spans(ended.exported_spans as usize).await;
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "one {name} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0]
    };
    let (work, client) = (named("work"), named("GET"));
    assert_eq!(client.parent_span_id, work.span_id);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(seen, format!("00-{}-{}-01", hex(&client.trace_id), hex(&client.span_id)));
    let own = ["work", "GET", "get-connection", "connect", "request-write", "response-wait", "response-read"];
    assert_eq!(spans.len(), own.len());
    own.iter().for_each(|name| assert!(!named(name).trace_id.is_empty()));
    let Some(metric::Data::Sum(sum)) = collector.metric("httptrace.connection.acquisitions").await.data else {
        panic!("a counter")
    };
    let values = sum.data_points.iter().map(|point| point.value);
    assert_eq!(
        values.collect::<Vec<_>>(),
        [Some(number_data_point::Value::AsInt(1))],
        "the early client's is not seen"
    );

    // What an application puts around a provider and makes the global sees every span.
    let collector = Collector::http();
    let builder = otlp::builder().endpoint(collector.endpoint()).protocol(Protocol::HttpProtobuf).metrics(false);
    let guard = builder.set_globals(false).init().expect("telemetry");
    global::set_tracer_provider(Around(guard.tracer_provider().clone()));
    let response = Client::new().get(origin.url("/")).await.expect("a response");
    response.into_body().collect().await.expect("a body");
    let ended = guard.shutdown_async().await;
    let spans = collector.spans(ended.exported_spans as usize).await;
    assert!(
        spans.len() >= 5 && spans.iter().all(|span| span.attributes.iter().any(|all| all.key == "added")),
        "{spans:?}"
    );
}
