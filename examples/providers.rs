//! `cargo run --example providers`: OpenTelemetry providers of the application's own, here with the exporters of
//! `opentelemetry-otlp`, handed to the client. Prints the status, and how the providers ended.
//!
//! For a program that has its telemetry set up already. One that has none is better off with `httptrace::otlp::init()`,
//! which also reads the whole environment, counts what is delivered, and says what is wrong where a collector can't be
//! reached: here spans that nobody took are only a line in the SDK's log.

use std::time::Duration;

use http_body_util::BodyExt;
use httptrace::Client;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), httptrace::BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let _ = stream.read(&mut [0; 4096]).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n").await
    });

    // They read `OTEL_EXPORTER_OTLP_ENDPOINT` themselves; without it, gRPC goes to port 4317.
    let resource = Resource::builder().with_service_name("providers").build();
    let spans = SpanExporter::builder().with_tonic().build()?;
    let tracers = SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
    let metrics = MetricExporter::builder().with_tonic().build()?;
    let meters = SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(metrics).build();

    // Or make them the global ones, before the client is built.
    let client = Client::builder().tracer_provider(&tracers).meter_provider(&meters).build()?;
    let response = client.get(url).await?;
    println!("{}", response.status());
    response.into_body().collect().await?;

    // A request's spans end when its connection is back in the pool, or closed: after this all are.
    client.shutdown(Duration::from_secs(1)).await;
    let (spans, metrics) = tokio::task::spawn_blocking(move || (tracers.shutdown(), meters.shutdown())).await?;
    for (what, ended) in [("spans", spans), ("metrics", metrics)] {
        match ended {
            Ok(()) => println!("{what}: shut down"),
            Err(error) => println!("{what}: {error}"),
        }
    }
    Ok(())
}
