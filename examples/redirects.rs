//! `cargo run --example redirects`: a transport that traces each hop of a redirect, over HTTP/1.1 and HTTP/2, and says
//! whether the hop's connection was reused.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use httptrace::{Client, ClientTrace, ResponseFuture, hooks::GotConnInfo, with_client_trace};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower::{Service, ServiceExt};
use tower_http::follow_redirect::FollowRedirect;

/// Sits below the redirects, so that every hop passes through it.
#[derive(Clone)]
struct Transport(Client);

/// Knows which hop its connection was for.
struct Hop(Uri, Mutex<Option<bool>>);

impl ClientTrace for Hop {
    fn got_conn(&self, info: &GotConnInfo<'_>) {
        *self.1.lock().expect("no panic while it is held") = Some(info.reused());
        println!("Connection reused for {}? {}", self.0, info.reused());
    }
}

impl Service<Request<Full<Bytes>>> for Transport {
    type Response = Response<httptrace::ResponseBody>;
    type Error = httptrace::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> ResponseFuture {
        let hop = Arc::new(Hop(request.uri().clone(), Mutex::new(None)));
        with_client_trace(&mut request, hop);
        self.0.request(request)
    }
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"here\n")));
    if request.uri().path() == "/old" {
        // No body: the middleware would drop one unread, and over HTTP/1.1 the next hop could not wait for it.
        *response.body_mut() = Full::default();
        *response.status_mut() = http::StatusCode::FOUND;
        response.headers_mut().insert("location", http::HeaderValue::from_static("/new"));
    }
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), httptrace::BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let uri: Uri = format!("http://{}/old", listener.local_addr()?).parse()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let service = hyper::service::service_fn(answer);
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    for (name, builder) in [("HTTP/1.1", Client::builder()), ("HTTP/2", Client::builder().http2_prior_knowledge())] {
        println!("{name}");
        let client = FollowRedirect::new(Transport(builder.build()?));
        let request = Request::get(uri.clone()).body(Full::default())?;
        client.oneshot(request).await?.into_body().collect().await?;
    }
    Ok(())
}
