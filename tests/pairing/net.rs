//! The wire: pipes in memory, made by a connector, that can be cut after any byte of the origin's.
//!
//! In comes what the client dials, out goes one end of a pipe; the other goes to the origin. The network counts the pipes
//! that it made, those that the client still holds, and the origin's bytes. When the byte count comes to the cut, the
//! connection that is being read dies there, and those that are made later live.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    task::yield_now,
};

/// How a connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its end, as a FIN tells it.
    Eof,
    /// As a RST tells it: for both directions.
    Reset,
    /// Nothing comes any more, and nothing says so.
    Silence,
}

/// Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub(crate) struct Net {
    wire: Arc<Wire>,
    serve: Arc<dyn Fn(usize, DuplexStream) + Send + Sync>,
}

struct Wire {
    opened: AtomicUsize,
    live: AtomicUsize,
    /// Bytes of the origin that the client has read.
    read: AtomicUsize,
    cut: Mutex<Option<(usize, Death)>>,
}

impl Net {
    /// Each new pipe's other end goes to `serve`, with its number from 0.
    pub(crate) fn new(
        cut: Option<(usize, Death)>,
        serve: impl Fn(usize, DuplexStream) + Send + Sync + 'static,
    ) -> Self {
        let (opened, live, read) = Default::default();
        Self { wire: Arc::new(Wire { opened, live, read, cut: Mutex::new(cut) }), serve: Arc::new(serve) }
    }

    /// Pipes that were made.
    pub(crate) fn opened(&self) -> usize {
        self.wire.opened.load(Ordering::Relaxed)
    }

    /// Pipes whose end the client still holds.
    pub(crate) fn live(&self) -> usize {
        self.wire.live.load(Ordering::Relaxed)
    }

    /// Bytes of the origin that the client has read.
    pub(crate) fn read(&self) -> usize {
        self.wire.read.load(Ordering::Relaxed)
    }
}

impl tower_service::Service<Uri> for Net {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let net = self.clone();
        Box::pin(async move {
            // A connect takes its time, so that a request can be given up within it.
            yield_now().await;
            let (client, server) = tokio::io::duplex(4096);
            let number = net.wire.opened.fetch_add(1, Ordering::Relaxed);
            net.wire.live.fetch_add(1, Ordering::Relaxed);
            let line = Line { pipe: client, wire: Arc::clone(&net.wire), dead: None };
            (net.serve)(number, server);
            yield_now().await;
            Ok(TokioIo::new(line))
        })
    }
}

/// The client's end of a pipe.
pub(crate) struct Line {
    pipe: DuplexStream,
    wire: Arc<Wire>,
    dead: Option<Death>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wire.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    /// How many bytes may be read now; `Err`: it is dead.
    fn allowed(&mut self) -> Result<usize, Death> {
        if let Some(death) = self.dead {
            return Err(death);
        }
        let mut cut = self.wire.cut.lock().expect("nothing panics under it");
        let Some((at, death)) = *cut else { return Ok(usize::MAX) };
        let left = at - self.wire.read.load(Ordering::Relaxed);
        if left == 0 {
            // Once: the next connection is a good one.
            *cut = None;
            self.dead = Some(death);
            return Err(death);
        }
        Ok(left)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = match self.allowed() {
            Ok(allowed) => allowed,
            Err(Death::Eof) => return Poll::Ready(Ok(())),
            Err(Death::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Err(Death::Silence) => return Poll::Pending,
        };
        let mut bytes = [0; 1024];
        let most = bytes.len().min(allowed).min(buf.remaining());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.pipe).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.wire.read.fetch_add(part.filled().len(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead == Some(Death::Reset) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
