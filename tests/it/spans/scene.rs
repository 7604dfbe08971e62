//! A client whose spans go to memory, and what the tests of spans do with it.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use httptrace::{
    ClientBuilder,
    otlp::{self, Guard, Protocol},
};
use opentelemetry::{
    Context,
    trace::{Link, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio::sync::watch;

use crate::support::{
    client::Traced,
    collector::Collector,
    spans::{Spans, decoded},
    within,
};

/// A client, and the provider that its spans go to.
pub(crate) type Scene = In<Sdk>;

/// The same, by one of the lanes.
pub(crate) struct In<L> {
    pub(crate) traced: Traced,
    pub(crate) provider: SdkTracerProvider,
    lane: L,
}

/// Which way spans take to a test.
pub(crate) trait Lane: Sized {
    fn new() -> (Self, SdkTracerProvider);

    /// How many arrived.
    fn count(&self) -> usize;

    /// All that arrived, once there are so many.
    async fn spans(&self, at_least: usize) -> Vec<SpanData>;
}

impl<L: Lane> In<L> {
    pub(crate) fn new(builder: ClientBuilder) -> Self {
        let (lane, provider) = L::new();
        let traced = Traced::new(builder.tracer_provider(&provider));
        Self { traced, provider, lane }
    }

    /// A span of the application, open: drop the context and what holds it, and it ends.
    pub(crate) fn application(&self) -> Context {
        let tracer = self.provider.tracer("application");
        Context::new().with_span(tracer.start("application"))
    }

    /// Spans that were ended up to now.
    pub(crate) fn exported(&self) -> usize {
        self.lane.count()
    }

    /// What was exported, once all of these attempts are over and `spans` were ended.
    pub(crate) async fn spans(&self, attempts: usize, spans: usize) -> Spans {
        self.traced.timelines(attempts).await;
        let spans = Spans::new(self.lane.spans(spans).await);
        spans.assert_tree();
        spans
    }
}

/// Spans of the SDK, handed to memory as they end.
pub(crate) struct Sdk(Counting);

impl Lane for Sdk {
    fn new() -> (Self, SdkTracerProvider) {
        let exporter = Counting::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        (Self(exporter), provider)
    }

    fn count(&self) -> usize {
        *self.0.ended.borrow()
    }

    async fn spans(&self, at_least: usize) -> Vec<SpanData> {
        let mut ended = self.0.ended.subscribe();
        within(&format!("{at_least} spans"), ended.wait_for(|ended| *ended >= at_least))
            .await
            .expect("the sender is in self");
        self.0.memory.get_finished_spans().expect("an exporter that was not shut down")
    }
}

/// What `otlp` makes of attempts, as a collector gets it.
pub(crate) struct Otlp {
    pub(crate) collector: Collector,
    guard: Option<Guard>,
}

impl Otlp {
    pub(crate) fn with(settings: impl FnOnce(otlp::Builder) -> otlp::Builder) -> (Self, SdkTracerProvider) {
        let collector = Collector::http();
        let builder = otlp::builder()
            .endpoint(collector.endpoint())
            .protocol(Protocol::HttpProtobuf)
            .metrics(false)
            .set_globals(false)
            .batch_delay(Duration::from_millis(1));
        let guard = settings(builder).init().expect("telemetry");
        let provider = guard.tracer_provider().clone();
        (Self { collector, guard: Some(guard) }, provider)
    }

    /// All that arrived up to now.
    pub(crate) fn decoded(&self) -> Vec<SpanData> {
        decoded(&self.collector.received().spans)
    }
}

impl Lane for Otlp {
    fn new() -> (Self, SdkTracerProvider) {
        Self::with(|builder| builder)
    }

    fn count(&self) -> usize {
        self.decoded().len()
    }

    async fn spans(&self, at_least: usize) -> Vec<SpanData> {
        self.collector.spans(at_least).await;
        self.decoded()
    }
}

impl Drop for Otlp {
    /// The collector may be served by this very thread, which so can't wait for an export.
    fn drop(&mut self) {
        let guard = self.guard.take();
        std::thread::spawn(move || drop(guard));
    }
}

/// Memory that tells how many spans it has, so that nobody has to guess when a task has ended one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counting {
    memory: InMemorySpanExporter,
    ended: watch::Sender<usize>,
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.memory.export(batch).await;
        self.ended.send_modify(|ended| *ended += count);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.memory.shutdown_with_timeout(timeout)
    }
}

/// A parent in another process.
pub(crate) fn remote(sampled: bool) -> Context {
    let flags = TraceFlags::default().with_sampled(sampled);
    let (trace, span) = (TraceId::from(0xabc), SpanId::from(0xdef));
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

/// What a `traceparent` of this span says.
pub(crate) fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
}

/// Whether the link names this span.
pub(crate) fn names(link: &Link, span: &SpanData) -> bool {
    let (there, here) = (&link.span_context, &span.span_context);
    (there.trace_id(), there.span_id()) == (here.trace_id(), here.span_id())
}

pub(crate) async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<bytes::Bytes>> {
    Response::new(Full::from("hello"))
}
