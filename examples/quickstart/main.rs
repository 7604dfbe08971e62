//! `cargo run --example quickstart`: where did the time of these requests go?
//!
//! No network, no containers: it starts an HTTPS server and an OTLP collector in this process, sends requests with the
//! traced client, exports their spans over OTLP/gRPC, and draws the spans that the collector received. With
//! `OTEL_EXPORTER_OTLP_ENDPOINT` set they go there as well. `--no-collector` shows that the pictures come from there.

mod collector;
mod origin;
mod picture;

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use httptrace::{
    Client,
    otlp::{self, Protocol},
    views::waterfall::{Style, Waterfall},
};

use crate::{collector::Collector, origin::Failure};

// On one thread every run tells the same story: a connection is idle again before the next request asks for it, and the
// second of two HTTP/2 requests is there before the first one's dial is done.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(pictures) => {
            print!("{pictures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<String, Failure> {
    let origin = origin::start().await?;
    let (collector, addr) = Collector::start().await?;
    let endpoint = match std::env::args().any(|argument| argument == "--no-collector") {
        false => format!("http://{addr}"),
        true => format!("http://127.0.0.1:{}", closed_port()?),
    };

    // 1. Telemetry, then the client: it takes the global providers.
    let telemetry = otlp::builder()
        .endpoint(endpoint)
        .protocol(Protocol::Grpc)
        .timeout(Duration::from_secs(5))
        .service_name("quickstart")
        .and_environment()
        .init()?;
    let client = Client::builder().root_certificates(vec![origin.certificate.clone()]).http1_only().build()?;
    let http2 = Client::builder().root_certificates(vec![origin.certificate]).build()?;

    // 2. Requests, as with any other client.
    let at = |path: &str| format!("https://localhost:{}{path}", origin.addr.port()).parse::<Uri>();
    get(&client, at("/")?).await?;
    get(&client, at("/slow")?).await?;
    get(&client, at("/report")?).await?;
    let (one, two) = tokio::join!(get(&http2, at("/")?), get(&http2, at("/missing")?));
    one.and(two)?;
    let refused = get(&client, format!("http://127.0.0.1:{}/", closed_port()?).parse()?).await;
    assert!(refused.is_err_and(|error| error.is_connect()), "nobody listens there");

    // 3. What the collector has is what is drawn.
    client.shutdown(Duration::from_secs(1)).await;
    http2.shutdown(Duration::from_secs(1)).await;
    let told = tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    let spans = collector.spans();
    let pictures = picture::waterfalls(&spans);
    match pictures.len() {
        0 => return Err("the collector received no spans, so there is nothing to draw".into()),
        sent if sent == CAPTIONS.len() => {}
        some => {
            let all = CAPTIONS.len();
            return Err(format!("the collector received {some} of {all} requests; are OTEL_* variables set?").into());
        }
    }
    if !told.is_complete() {
        eprintln!("quickstart: not every collector received everything: {told}");
    }
    Ok(story(&pictures, picture::acquisitions(&collector.metrics()), spans.len()))
}

async fn get(client: &Client, uri: Uri) -> Result<usize, httptrace::Error> {
    let request = Request::get(uri).body(Empty::<Bytes>::new()).expect("a method, a URI and no body");
    let response = client.request(request).await?;
    Ok(response.into_body().collect().await?.to_bytes().len())
}

/// A port that was free a moment ago.
fn closed_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn story(pictures: &[Waterfall], (acquired, reused): (i64, i64), spans: usize) -> String {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = Style::plain(80).color(color);
    let mut story = String::new();
    for (picture, said) in pictures.iter().zip(CAPTIONS) {
        story.push_str(&format!("{said}\n\n{}\n", picture.render(&style)));
    }
    let requests = pictures.len();
    story.push_str(&format!(
        "{spans} spans of {requests} requests came back from the collector. Its metrics say:\n\
         {reused} of {acquired} connections in hand had carried a request before.\n\n\
         Next, in a terminal:  cargo run --features cli -- https://example.com/\n\
         In Jaeger:            docker compose up -d\n\
         \x20                     export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318\n\
         \x20                     cargo run --example quickstart\n\
         \x20                     and open http://localhost:16686\n"
    ));
    story
}

/// What each picture shows, in the order of the requests.
const CAPTIONS: [&str; 6] = [
    "A first request pays for everything: the name, the connection, the handshake.",
    "The next one finds the connection open. What is left is the server's own time.",
    "Here the server answers at once, and its body takes its time.",
    "HTTP/2: two requests at once to a cold origin make one dial, not two ...",
    "... and the other waits for it, then shares the connection.",
    "A failure is told where it happened. Nothing else is claimed.",
];
