//! The tracing that users of other clients have, set up as its documentation says: one span a request, every request
//! sampled, exported over OTLP to the sink that ours goes to.

use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_otlp_0_32::WithExportConfig as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use reqwest_middleware::ClientWithMiddleware;
use tower::{Layer, ServiceExt};
use tower_otel::trace::{Http, HttpLayer};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    get, length,
    plain::{self, Connector, Legacy, legacy},
};
use crate::{Bench, BoxError, Fetch, Meter};

struct ReqwestTracing {
    client: ClientWithMiddleware,
    url: String,
}

impl Fetch for ReqwestTracing {
    async fn fetch(&self) -> Result<usize, BoxError> {
        plain::read(self.client.get(&self.url).send().await?).await
    }
}

pub(super) fn reqwest_tracing(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    use opentelemetry_0_32::trace::TracerProvider as _;

    crypto();
    let exporter = opentelemetry_otlp_0_32::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", bench.origin().collector()))
        .build()?;
    let provider = opentelemetry_sdk_0_32::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    opentelemetry_0_32::global::set_text_map_propagator(
        opentelemetry_sdk_0_32::propagation::TraceContextPropagator::new(),
    );
    let layer = tracing_opentelemetry_0_33::layer().with_tracer(provider.tracer("bench"));
    tracing_subscriber::registry().with(info(layer)).try_init()?;
    let client = reqwest_middleware::ClientBuilder::new(plain::reqwest(bench)?)
        .with(reqwest_tracing::TracingMiddleware::default())
        .build();
    bench.drive(&ReqwestTracing { client, url: bench.origin().url(bench.workload()) }, meter)?;
    Ok(provider.shutdown()?)
}

enum Traced {
    Plain(Http<Client<hyper_util::client::legacy::connect::HttpConnector, Empty<Bytes>>>),
    Tls(Http<Client<Connector, Empty<Bytes>>>),
}

struct TowerOtel {
    client: Traced,
    uri: Uri,
}

impl Fetch for TowerOtel {
    async fn fetch(&self) -> Result<usize, BoxError> {
        length(match &self.client {
            Traced::Plain(client) => client.clone().oneshot(get(&self.uri)).await?,
            Traced::Tls(client) => client.clone().oneshot(get(&self.uri)).await?,
        })
        .await
    }
}

pub(super) fn tower_otel(bench: &Bench, meter: &mut impl Meter) -> Result<(), BoxError> {
    crypto();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", bench.origin().collector()))
        .build()?;
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bench"));
    tracing_subscriber::registry().with(info(layer)).try_init()?;
    let traced = HttpLayer::client(tracing::Level::INFO);
    let client = match legacy(bench)? {
        Legacy::Plain(client) => Traced::Plain(traced.layer(client)),
        Legacy::Tls(client) => Traced::Tls(traced.layer(client)),
    };
    bench.drive(&TowerOtel { client, uri: bench.uri()? }, meter)?;
    Ok(provider.shutdown()?)
}

/// The exporters' own client asks for it, also over plain HTTP.
fn crypto() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What users export: their own spans of level INFO, not what hyper and h2 say at TRACE.
fn info<L, S>(layer: L) -> impl tracing_subscriber::Layer<S>
where
    L: tracing_subscriber::Layer<S>,
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    layer.with_filter(tracing_subscriber::filter::LevelFilter::INFO)
}
