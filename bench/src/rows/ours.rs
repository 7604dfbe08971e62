//! httptrace in the states that it can be in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use httptrace::{
    Client, ClientBuilder, ClientTrace,
    hooks::{GotConnInfo, GotFirstResponseByteInfo, WroteRequestInfo},
    otlp,
};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use super::{get, length};
use crate::{Bench, BoxError, Fetch, Meter, workload::Protocol};

struct Httptrace {
    client: Client,
    uri: Uri,
    /// The caller's context.
    context: Option<Context>,
}

impl Fetch for Httptrace {
    async fn fetch(&self) -> Result<usize, BoxError> {
        let request = get(&self.uri);
        let response = match &self.context {
            None => self.client.request(request),
            Some(context) => {
                let _current = context.clone().attach();
                self.client.request(request)
            }
        };
        length(response.await?).await
    }
}

pub(super) fn builder(bench: &Bench) -> Result<ClientBuilder, BoxError> {
    // As many as the other clients keep.
    let builder = Client::builder().tls_config(bench.origin().tls()?).max_headers(100);
    Ok(match bench.workload().protocol {
        Protocol::Http1 => builder,
        Protocol::Http1Tls => builder.http1_only(),
        Protocol::Http2 => builder.http2_prior_knowledge(),
    })
}

fn drive(
    bench: &Bench,
    builder: ClientBuilder,
    context: Option<Context>,
    meter: &mut impl Meter,
) -> Result<(), BoxError> {
    let client = builder.build()?;
    bench.drive(&Httptrace { client: client.clone(), uri: bench.uri()?, context }, meter)?;
    bench.runtime().block_on(client.shutdown(Duration::from_secs(5)));
    Ok(())
}

pub(super) fn nothing_installed(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    drive(bench, builder(bench)?, None, meter)
}

/// What hooks are used for most: is it reused, when was it written, when did the answer come?
#[derive(Default)]
struct Counting(AtomicUsize);

impl ClientTrace for Counting {
    fn got_conn(&self, _: &GotConnInfo<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn wrote_request(&self, _: &WroteRequestInfo<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn got_first_response_byte(&self, _: &GotFirstResponseByteInfo) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn hooks(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    let counting = Arc::new(Counting::default());
    drive(bench, builder(bench)?.client_trace(counting.clone()), None, meter)?;
    at_least(3 * bench.workload().requests, counting.0.load(Ordering::Relaxed), "hooks")
}

pub(super) fn unsampled_parent(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    let provider = SdkTracerProvider::builder().build();
    let parent = SpanContext::new(
        TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
        SpanId::from(0xb7ad_6b71_6920_3331),
        TraceFlags::NOT_SAMPLED,
        true,
        TraceState::NONE,
    );
    let context = Context::new().with_remote_span_context(parent);
    drive(bench, builder(bench)?.tracer_provider(&provider), Some(context), meter)
}

pub(super) fn unsampled(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
    drive(bench, builder(bench)?.tracer_provider(&provider), None, meter)
}

/// The pipeline as users get it, to a sink in the origin's process. `bench/run` gives its queue room for every span: a full
/// queue would drop, and dropping is cheaper than keeping.
pub(super) fn sampled(bench: &Bench, metrics: bool, meter: &mut impl Meter) -> Result<(), BoxError> {
    let guard = otlp::builder()
        .endpoint(bench.origin().collector())
        .protocol(otlp::Protocol::HttpProtobuf)
        .metrics(metrics)
        .set_globals(false)
        .init()?;
    let mut builder = builder(bench)?.tracer_provider(guard.tracer_provider());
    if metrics {
        builder = builder.meter_provider(guard.meter_provider());
    }
    drive(bench, builder, None, meter)?;
    let ended = guard.shutdown();
    if !ended.is_complete() {
        return Err(format!("the export was not whole: {ended}").into());
    }
    at_least(4 * bench.workload().requests, ended.exported_spans as usize, "spans")
}

/// A row that did less than its name says would look cheap.
pub(super) fn at_least(expected: usize, counted: usize, what: &str) -> Result<(), BoxError> {
    if counted < expected { Err(format!("{counted} {what} instead of {expected}").into()) } else { Ok(()) }
}
