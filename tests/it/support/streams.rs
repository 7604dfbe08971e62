//! An HTTP/2 origin stream by stream, by the `h2` crate: for what a handler can't do (interim responses, resets, GOAWAY,
//! windows that stay shut) and for the numbers of streams, which hyper does not show.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response, Uri};
use httptrace::{Client, ClientBuilder};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

/// A running origin; dropping it closes everything.
pub(crate) struct Streams {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Streams {
    /// Every stream is given to this handler, in a task of its own.
    pub(crate) fn serve<F, Fut>(handle: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::serve_with(h2::server::Builder::new(), handle)
    }

    /// The same with settings of its own.
    pub(crate) fn serve_with<F, Fut>(settings: h2::server::Builder, handle: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket of our own");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let addr = listener.local_addr().expect("a bound socket");
        let (accepted, handle) = (Arc::new(AtomicUsize::new(0)), Arc::new(handle));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).expect("a connected socket");
                count.fetch_add(1, Ordering::Relaxed);
                let (settings, handle) = (settings.clone(), Arc::clone(&handle));
                connections.spawn(async move {
                    let Ok(mut connection) = settings.handshake(tcp).await else { return };
                    let mut streams = JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        streams.spawn(handle(request, respond));
                    }
                });
            }
        });
        Self { addr, accepted, accepting: accepting.abort_handle() }
    }

    pub(crate) fn url(&self, path: &str) -> Uri {
        format!("http://{}{path}", self.addr).parse().expect("a URL")
    }

    pub(crate) fn client_builder(&self) -> ClientBuilder {
        Client::builder().http2_prior_knowledge()
    }

    /// Connections that it accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Answers with the stream's number in a field and this body.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, status: u16, body: &'static str) {
    let number = respond.stream_id().as_u32();
    let head = Response::builder().status(status).header("x-stream", number).body(()).expect("a head");
    // A stream that was reset meanwhile takes no answer.
    if let Ok(mut stream) = respond.send_response(head, body.is_empty())
        && !body.is_empty()
    {
        let _ = stream.send_data(Bytes::from_static(body.as_bytes()), true);
    }
}
