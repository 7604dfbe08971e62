//! A process with telemetry to a Jaeger of its own: clients whose spans and metrics go there, and what arrived.
//!
//! In comes the protocol of the export; out go the traces as Jaeger has them, once everything was exported.

use std::time::Duration;

use httptrace::{
    ClientBuilder,
    otlp::{self, Guard, Protocol, Shutdown},
};
use opentelemetry::{
    Context,
    trace::{TraceContextExt, Tracer, TracerProvider},
};

use crate::{
    jaeger::{Jaeger, Trace},
    support::{PATIENCE, client::Traced},
};

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

pub(crate) struct Scene {
    pub(crate) jaeger: Jaeger,
    guard: Option<Guard>,
}

impl Scene {
    pub(crate) async fn new(protocol: Protocol) -> Self {
        Self::with_timeout(protocol, PATIENCE).await
    }

    /// So much time for an export, and for the end.
    pub(crate) async fn with_timeout(protocol: Protocol, timeout: Duration) -> Self {
        let jaeger = Jaeger::start().await;
        let builder = otlp::builder().endpoint(jaeger.otlp(protocol)).protocol(protocol).timeout(timeout);
        // Nothing is global here: each test has its own.
        let guard = builder.service_name(SERVICE).set_globals(false).init().expect("telemetry");
        Self { jaeger, guard: Some(guard) }
    }

    pub(crate) fn guard(&self) -> &Guard {
        self.guard.as_ref().expect("telemetry that goes on")
    }

    /// A client that reports here.
    pub(crate) fn client(&self, builder: ClientBuilder) -> Traced {
        let guard = self.guard();
        Traced::new(builder.tracer_provider(guard.tracer_provider()).meter_provider(guard.meter_provider()))
    }

    /// A span of the application, open: drop the context, and it ends.
    pub(crate) fn application(&self) -> Context {
        Context::new().with_span(self.guard().tracer_provider().tracer("application").start("application"))
    }

    /// Exports what is there.
    pub(crate) async fn flush(&self) -> Result<(), String> {
        let (spans, metrics) = (self.guard().tracer_provider().clone(), self.guard().meter_provider().clone());
        let flush = move || spans.force_flush().and(metrics.force_flush());
        tokio::task::spawn_blocking(flush).await.expect("no panic").map_err(|error| error.to_string())
    }

    /// Ends the client and the telemetry; how that went.
    pub(crate) async fn end(&mut self, traced: &Traced) -> Shutdown {
        traced.log.settled().await;
        traced.client.shutdown(PATIENCE).await;
        let guard = self.guard.take().expect("telemetry that goes on");
        tokio::task::spawn_blocking(move || guard.shutdown()).await.expect("no panic")
    }

    /// Ends all of it, and what Jaeger has then: neither less than was exported nor anything else.
    pub(crate) async fn traces(&mut self, traced: &Traced) -> Vec<Trace> {
        let ended = self.end(traced).await;
        assert!(ended.is_complete(), "{ended}");
        let exported = usize::try_from(ended.exported_spans).expect("not so many");
        let traces = self.jaeger.traces_with(SERVICE, exported).await;
        assert_eq!(traces.iter().map(|trace| trace.spans.len()).sum::<usize>(), exported, "nothing arrives twice");
        assert_eq!(self.jaeger.services().await, [SERVICE], "no service but the one under test");
        traces
    }
}

pub(crate) const SERVICE: &str = "waterfalls";
