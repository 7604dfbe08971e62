//! `cargo run --example middleware`: the layers of tower and tower-http around the client, a recipe each (`recipes.rs`).
//! Prints every attempt that a request took below its layer.

mod recipes;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use httptrace::{BoxError, Client, Timeline};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

use self::recipes::Sent;

/// `/moved` leads to `/`, `/busy` has no time, `/slow` takes its own, and all else has its answer.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match request.uri().path() {
        "/moved" => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert("location", HeaderValue::from_static("/"));
        }
        "/busy" => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        "/slow" => tokio::time::sleep(Duration::from_secs(5)).await,
        _ => *response.body_mut() = Full::from("hello"),
    }
    Ok(response)
}

/// Serves on a free port.
async fn origin() -> Result<Uri, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?).parse()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service_fn(answer)).await });
        }
    });
    Ok(uri)
}

fn line(attempt: &Timeline) -> String {
    let reused = attempt.connection.as_ref().is_some_and(|connection| connection.reused());
    let ended = match (&attempt.error, attempt.status) {
        (Some(error), _) => error.error_type().to_owned(),
        (None, status) => status.map(|status| status.as_u16().to_string()).unwrap_or_default(),
    };
    let path = attempt.request.url.rsplit('/').next().unwrap_or_default();
    let connection = if reused { "reused" } else { "new" };
    format!("  /{path} {ended}, {connection} connection, resend {}", attempt.request.resend_count)
}

/// One request through a recipe, and what is told of so many attempts.
async fn send<S, B>(told: &mut Told, attempts: usize, service: S, to: Uri) -> Result<(), BoxError>
where
    S: Service<Sent, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>>,
{
    let response = service.oneshot(Request::get(to).body(Full::default())?).await.map_err(Into::into)?;
    response.into_body().collect().await.map_err(Into::into)?;
    for _ in 0..attempts {
        println!("{}", told.recv().await.unwrap_or_default());
    }
    Ok(())
}

/// A line for each attempt, when it is over.
type Told = tokio::sync::mpsc::UnboundedReceiver<String>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let here = origin().await?;
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::builder().on_timeline(move |attempt| drop(tell.send(line(attempt)))).build()?;
    let at = |path: &str| format!("{here}{path}").parse::<Uri>();
    let (second, told, name) = (Duration::from_secs(1), &mut { told }, HeaderValue::from_static("shop/1"));
    println!("follow-redirect");
    send(told, 2, recipes::redirects(client.clone()), at("moved")?).await?;
    println!("retry");
    send(told, 3, recipes::retried(client.clone()), at("busy")?).await?;
    println!("decompression");
    send(told, 1, recipes::decompressed(client.clone()), at("")?).await?;
    println!("timeout");
    send(told, 1, recipes::limited_in_time(client.clone(), second / 10, second), at("slow")?).await?;
    println!("set-header");
    send(told, 1, recipes::with_user_agent(client.clone(), name), at("")?).await?;
    println!("buffer");
    send(told, 1, recipes::buffered(client.clone(), 8), at("")?).await?;
    println!("concurrency limit");
    send(told, 1, recipes::at_most(client.clone(), 2), at("")?).await?;
    println!("rate limit");
    send(told, 1, recipes::at_most_in(client.clone(), 2, second), at("")?).await?;
    println!("balance");
    send(told, 1, recipes::balanced(&client, [origin().await?, origin().await?]), "/".parse()?).await
}
