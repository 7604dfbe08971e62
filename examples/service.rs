//! `cargo run --example service`: a small service with `#[instrument]` functions, its warehouse and a customer, in one
//! process but over real HTTP. One order is one trace: the client's spans nest below the functions that made the calls,
//! the trace goes on where a request arrives, and every log line has its id.
//!
//! Prints the log, the bill, and what became of the spans. Set `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318` to see
//! the trace in a collector. Without one nothing breaks.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use httptrace::{BoxError, Client, otlp};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry::{global, trace::TraceContextExt};
use opentelemetry_http::HeaderExtractor;
use tokio::net::TcpListener;
use tracing::{Instrument, Span, field::Empty, info, info_span, instrument};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// What the service's functions need: one client for all of them, so that they share its connections.
struct Shop {
    client: Client,
    warehouse: String,
}

impl Shop {
    /// Two questions at once, then the order itself, on a connection that one of them has left.
    #[instrument(skip(self))]
    async fn order(self: Arc<Self>, item: String) -> Result<String, BoxError> {
        // A task of its own has no current span, unless it is given one.
        let price = tokio::spawn(Arc::clone(&self).price(item.clone()).in_current_span());
        let stock = tokio::spawn(Arc::clone(&self).stock(item.clone()).in_current_span());
        let (price, stock) = (price.await??, stock.await??);
        info!(stock, "can be had");
        self.reserve(&item).await?;
        Ok(format!("1 {item}: {price}"))
    }

    #[instrument(skip(self))]
    async fn price(self: Arc<Self>, item: String) -> Result<String, BoxError> {
        ask(&self.client, &format!("{}/price/{item}", self.warehouse)).await
    }

    #[instrument(skip(self))]
    async fn stock(self: Arc<Self>, item: String) -> Result<u32, BoxError> {
        Ok(ask(&self.client, &format!("{}/stock/{item}", self.warehouse)).await?.parse()?)
    }

    #[instrument(skip(self))]
    async fn reserve(&self, item: &str) -> Result<(), BoxError> {
        let told = ask(&self.client, &format!("{}/reserve/{item}", self.warehouse)).await?;
        info!(told, "reserved");
        Ok(())
    }
}

/// The client takes the span that is current as its parent, and sends the trace along.
async fn ask(client: &Client, url: &str) -> Result<String, BoxError> {
    let response = client.get(url.parse::<Uri>()?).await?;
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?)
}

/// Goes on with the trace of whoever sent this request.
async fn handle(shop: Arc<Shop>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(request.headers())));
    let span = info_span!("GET /order", otel.kind = "server", trace_id = Empty);
    let _ = span.set_parent(caller); // refused only where nothing is exported
    log_trace_id(&span);
    let item = request.uri().path().trim_start_matches("/order/").to_owned();
    let bill = shop.order(item).instrument(span).await;
    Ok(Response::new(Full::from(bill.unwrap_or_else(|error| format!("no: {error}")))))
}

/// The field of a span is on every log line below it.
fn log_trace_id(span: &Span) {
    span.record("trace_id", tracing::field::display(span.context().span().span_context().trace_id()));
}

#[instrument(skip_all, fields(trace_id = Empty))]
async fn customer(client: Client, shop: String) -> Result<String, BoxError> {
    log_trace_id(&Span::current());
    info!("would like some tea");
    ask(&client, &format!("{shop}/order/tea")).await
}

/// What the warehouse knows about tea. It has no spans of its own.
async fn warehouse(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match request.uri().path() {
        "/price/tea" => "2.40",
        "/stock/tea" => "3",
        _ => "until noon",
    };
    Ok(Response::new(Full::from(answer)))
}

/// Serves on a free port and returns the address.
async fn serve<S, F>(service: S) -> Result<String, BoxError>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(service.clone());
            tokio::spawn(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // First telemetry, then the subscriber with its layer, then the client: it takes the global providers. The layer
    // leaves out what hyper, h2 and the exporters say of themselves; `RUST_LOG` is for the log alone.
    let telemetry = otlp::init()?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_target(false).with_filter(filter);
    tracing_subscriber::registry().with(telemetry.layer()).with(log).init();
    let client = Client::new();

    let shop = Arc::new(Shop { client: client.clone(), warehouse: serve(warehouse).await? });
    let shop = serve(move |request| handle(Arc::clone(&shop), request)).await?;
    println!("the bill: {}", customer(client.clone(), shop).await?);

    // The last spans end when the last connections have come back.
    client.shutdown(Duration::from_secs(1)).await;
    // It blocks, so not on a thread that the runtime needs.
    let told = tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    println!("telemetry: {told}");
    Ok(())
}
