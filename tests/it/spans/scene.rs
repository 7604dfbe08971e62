//! A client whose spans go to memory, and what the tests of spans do with it.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use httptrace::ClientBuilder;
use opentelemetry::{
    Context,
    trace::{Link, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData, SpanExporter},
};
use tokio::sync::watch;

use crate::support::{client::Traced, spans::Spans, within};

/// A client, and the provider that its spans go to.
pub(crate) struct Scene {
    pub(crate) traced: Traced,
    pub(crate) provider: SdkTracerProvider,
    exporter: Counting,
}

impl Scene {
    pub(crate) fn new(builder: ClientBuilder) -> Self {
        let exporter = Counting::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let traced = Traced::new(builder.tracer_provider(&provider));
        Self { traced, provider, exporter }
    }

    /// A span of the application, open: drop the context and what holds it, and it ends.
    pub(crate) fn application(&self) -> Context {
        let tracer = self.provider.tracer("application");
        Context::new().with_span(tracer.start("application"))
    }

    /// Spans that were ended up to now.
    pub(crate) fn exported(&self) -> usize {
        *self.exporter.ended.borrow()
    }

    /// What was exported, once all of these attempts are over and `spans` were ended.
    pub(crate) async fn spans(&self, attempts: usize, spans: usize) -> Spans {
        self.traced.timelines(attempts).await;
        let mut ended = self.exporter.ended.subscribe();
        within(&format!("{spans} spans"), ended.wait_for(|ended| *ended >= spans))
            .await
            .expect("the sender is in self");
        let spans = Spans::new(self.exporter.memory.get_finished_spans().expect("an exporter that was not shut down"));
        spans.assert_tree();
        spans
    }
}

/// Memory that tells how many spans it has, so that nobody has to guess when a task has ended one.
#[derive(Debug, Clone, Default)]
struct Counting {
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
