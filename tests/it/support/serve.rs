//! A real HTTP server, by hyper: HTTP/1.1 or HTTP/2, with a handler of the test's own.
//!
//! In comes an accepted connection; each request goes to the record, then to the handler.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use super::{
    origin::Wire,
    record::{Record, SeenRequest},
};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Response<UnsyncBoxBody<Bytes, Error>>> + Send>>;

/// The test's handler, its types erased.
pub(crate) type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// Erases the types of a handler.
pub(crate) fn handler<F, Fut, B>(handle: F) -> Handler
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    Arc::new(move |request| {
        let answer = handle(request);
        Box::pin(async move { answer.await.map(|body| body.map_err(Into::into).boxed_unsync()) })
    })
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    wire: Wire,
    number: usize,
    http2: bool,
    max_streams: Option<u32>,
    handler: &Handler,
    record: &watch::Sender<Record>,
) {
    let (handler, record) = (Arc::clone(handler), record.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = Busy::begin(number, &request, &record);
        let answer = handler(request);
        async move {
            let answer = answer.await;
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(wire.into_io());
    // How a connection ends is the client's affair, and the test sees it there.
    let _ = if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(max_streams);
        builder.serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await
    };
}

/// A request that is being answered.
struct Busy {
    number: usize,
    record: watch::Sender<Record>,
}

impl Busy {
    fn begin(number: usize, request: &Request<Incoming>, record: &watch::Sender<Record>) -> Self {
        record.send_modify(|record| {
            let connection = record.connection(number);
            connection.in_flight += 1;
            let in_flight = connection.in_flight;
            record.requests.push(SeenRequest {
                connection: number,
                method: request.method().to_string(),
                target: request.uri().to_string(),
                headers: request.headers().clone(),
                in_flight,
            });
        });
        Self { number, record: record.clone() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.record.send_modify(|record| record.connection(self.number).in_flight -= 1);
    }
}
