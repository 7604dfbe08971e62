//! What panics where telemetry is made: reporters, callbacks, samplers, processors, propagators.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::request::Parts;
use httptrace::{
    Client, ClientBuilder, Timeline,
    clock::TimeAnchor,
    connection::{ConnectionInfo, TraceRef},
    hooks::{CloseReason, IdleReturn},
    otlp,
    timeline::{Asked, ConnectionReport, ConnectionUse, DialRecord, PendingDial, Report, Reporter},
    views::spans::Spans,
};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{Link, SpanKind, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData, SpanExporter, SpanProcessor},
};

use tokio::sync::watch;

use crate::support::{
    PATIENCE,
    client::read,
    collector::Collector,
    origin::Origin,
    script::{
        Step::{Close, ReadHead},
        write,
    },
    trace::Log,
    within,
};

/// Panics where it is told to, and knows where it was called.
#[derive(Debug, Clone)]
struct Wild {
    at: &'static str,
    called: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Wild {
    fn new(at: &'static str) -> Self {
        Self { at, called: Arc::default() }
    }

    fn called(&self, name: &'static str) {
        self.called.lock().expect("no panic under the lock").insert(name);
        assert!(name != self.at, "{name} that panics");
    }

    fn was_called(&self) -> bool {
        self.called.lock().expect("no panic under the lock").contains(self.at)
    }
}

/// One request that is given up while it dials, and three of which two are sent again. All that is asked of
/// the client is as if nothing had panicked.
async fn all_is_well(builder: ClientBuilder, of: &str) {
    let ok = || write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    // Each connection answers once, and breaks with the second request.
    let origin = Origin::plain().script([ReadHead, ok(), ReadHead, Close]);
    let told = watch::Sender::<Vec<Timeline>>::default();
    let (records, log) = (told.clone(), Log::new());
    let client = builder
        .client_trace(log.hooks())
        .on_timeline(move |timeline| records.send_modify(|all| all.push(timeline.clone())))
        .build()
        .expect("settings that fit");
    {
        let mut given_up = std::pin::pin!(client.get(origin.url("/")));
        std::future::poll_fn(|cx| {
            let _ = given_up.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    for _ in 0..3 {
        let response = within(of, client.get(origin.url("/"))).await.unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!(read(response).await.expect("a body"), "hello", "{of}");
    }
    let start = now();
    client.shutdown(PATIENCE).await;
    assert!(now() - start < PATIENCE / 2, "{of}: a place in the pool is lost");
    let mut told = told.subscribe();
    let told = told.wait_for(|all| all.len() >= log.count("get_conn"));
    let told =
        within(&format!("{of}: the others hear of every attempt"), told).await.expect("the client has the sender");
    assert!(told.len() == log.count("get_conn") && told.len() >= 5, "{of}: {}", told.len());
    log.settled().await.assert_paired_over(4);
    assert!(told.iter().all(|timeline| timeline.end.is_some()), "{of}");
}

#[allow(clippy::disallowed_methods, reason = "the shutdown's own deadline is the wall's")]
fn now() -> Instant {
    Instant::now()
}

impl Reporter for Wild {
    fn is_listening(&self) -> bool {
        self.called("is_listening");
        true
    }

    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        self.called("started");
        Some(Arc::new(self.clone()))
    }
}

impl Report for Wild {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        self.called("again");
        Some(Arc::new(self.clone()))
    }

    fn records(&self) -> bool {
        self.called("records");
        true
    }

    fn trace(&self) -> Option<TraceRef> {
        self.called("trace");
        None
    }

    fn setup_started(&self, _: Instant) -> Option<TraceRef> {
        self.called("setup_started");
        None
    }

    fn waiting(&self) {
        self.called("waiting");
    }

    fn waited(&self) {
        self.called("waited");
    }

    fn got_connection(&self, _: &ConnectionUse, _: Duration) {
        self.called("got_connection");
    }

    fn dialed(&self, _: &DialRecord) {
        self.called("dialed");
    }

    fn connection_opened(&self, _: &Arc<ConnectionInfo>) -> Option<Arc<dyn ConnectionReport>> {
        self.called("connection_opened");
        Some(Arc::new(self.clone()))
    }

    fn background_dial(&self, _: &DialRecord) -> Option<PendingDial> {
        self.called("background_dial");
        let this = self.clone();
        Some(PendingDial { trace: None, finish: Box::new(move |_| this.called("finish")) })
    }

    fn finished(&self, _: &Arc<Timeline>) {
        self.called("finished");
    }
}

impl ConnectionReport for Wild {
    fn taken(&self) {
        self.called("taken");
    }

    fn returned(&self, _: IdleReturn) {
        self.called("returned");
    }

    fn closed(&self, _: CloseReason, _: u64) {
        self.called("closed");
    }
}

// mutant: any `contained` of timeline/mod.rs, client/attempt.rs or client/dialing.rs left out
#[tokio::test]
async fn a_reporter_that_panics_in_any_of_its_methods_costs_the_request_nothing() {
    for at in [
        "is_listening",
        "started",
        "again",
        "records",
        "trace",
        "setup_started",
        "waiting",
        "waited",
        "got_connection",
        "dialed",
        "connection_opened",
        "background_dial",
        "finish",
        "finished",
        "taken",
        "returned",
        "closed",
    ] {
        let wild = Wild::new(at);
        // The one that panics is asked first.
        all_is_well(Client::builder().telemetry(false).reporter(Arc::new(wild.clone())), at).await;
        assert!(wild.was_called(), "{at} is not called, and proves nothing");
    }
}

#[tokio::test]
async fn a_callback_that_panics_costs_the_request_nothing() {
    let wild = Wild::new("callback");
    let called = wild.clone();
    all_is_well(Client::builder().telemetry(false).on_timeline(move |_| called.called("callback")), "callback").await;
    assert!(wild.was_called());
}

impl SpanProcessor for Wild {
    fn on_start(&self, _: &mut Span, _: &Context) {
        self.called("on_start");
    }

    fn on_end(&self, _: SpanData) {
        self.called("on_end");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl ShouldSample for Wild {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        self.called("should_sample");
        unreachable!("it panics")
    }
}

impl SpanExporter for Wild {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        self.called("export");
        Ok(())
    }
}

impl TextMapPropagator for Wild {
    fn inject_context(&self, _: &Context, _: &mut dyn Injector) {
        self.called("inject_context");
    }

    fn extract_with_context(&self, context: &Context, _: &dyn Extractor) -> Context {
        context.clone()
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_samplers_exporters_and_propagators_that_panic_cost_the_request_nothing() {
    for at in ["on_start", "on_end", "should_sample"] {
        let (wild, collector) = (Wild::new(at), Collector::http());
        let telemetry = otlp::builder().endpoint(collector.endpoint()).set_globals(false);
        // Both of our lanes: a sampler alone leaves the one past the SDK open.
        let telemetry = match at {
            "should_sample" => telemetry.sampler(wild.clone()),
            _ => telemetry.span_processor(wild.clone()),
        };
        let guard = telemetry.init().expect("telemetry");
        let builder = Client::builder().tracer_provider(guard.tracer_provider());
        all_is_well(builder.meter_provider(guard.meter_provider()), at).await;
        assert!(wild.was_called(), "{at}");
        within("the end of telemetry", guard.shutdown_async()).await;
    }
    // An application's own provider, which exports on the thread that ends a span.
    let wild = Wild::new("export");
    let provider = SdkTracerProvider::builder().with_simple_exporter(wild.clone()).build();
    all_is_well(Client::builder().tracer_provider(&provider), "export").await;
    assert!(wild.was_called());
    let wild = Wild::new("inject_context");
    let provider = SdkTracerProvider::builder().build();
    let spans = Spans::new(&provider).with_propagator(Box::new(wild.clone()));
    all_is_well(Client::builder().spans(spans), "inject_context").await;
    assert!(wild.was_called());
}
