//! `cargo run --example tracing`: telemetry from the environment, and the traced client under a `tracing` span. Prints a
//! log line with the trace's id, the `traceparent` that the server received, and what became of the spans.
//!
//! Set `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` to see the trace in a collector. Without one nothing breaks.

use http_body_util::BodyExt;
use httptrace::{Client, otlp};
use opentelemetry::trace::TraceContextExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

#[tracing::instrument(skip(client))]
async fn fetch(client: &Client, uri: http::Uri) -> Result<Vec<u8>, httptrace::Error> {
    let trace_id = tracing::Span::current().context().span().span_context().trace_id();
    tracing::info!(%trace_id, "fetching");
    let response = client.get(uri).await?;
    Ok(response.into_body().collect().await?.to_bytes().to_vec())
}

#[tokio::main]
async fn main() -> Result<(), httptrace::BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?).parse()?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await?;
        // It answers with the trace context that it was sent.
        let head = String::from_utf8_lossy(&head[..read]).into_owned();
        let sent = head.lines().find(|line| line.starts_with("traceparent")).unwrap_or("no traceparent");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{sent}", sent.len());
        stream.write_all(answer.as_bytes()).await
    });

    // First telemetry, then the subscriber with its layer, then the client: it takes the global providers.
    let telemetry = otlp::init()?;
    let log = tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(telemetry.layer()).with(log).init();
    let client = Client::new();

    let body = fetch(&client, uri).await?;
    println!("the server received {}", String::from_utf8_lossy(&body));

    // It blocks, so not on a thread that the runtime needs.
    let told = tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    println!("telemetry: {told}");
    Ok(())
}
