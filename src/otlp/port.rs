//! The way to the collector's port, with an ear on it: the first bytes that come back tell which protocol is spoken there.
//!
//! In: the origin to connect to. Out: a TCP stream that notes its first bytes. What is wrong with an endpoint shows there
//! long before any protocol's error does: a TLS alert, HTTP/2's SETTINGS on a port taken for HTTP/1.1, an SSH banner.

use std::{
    future::Future,
    io::{self, Read},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower_service::Service;

/// Enough to know a TLS record, an HTTP/2 frame, an HTTP/1 status line.
const ENOUGH: usize = 9;

/// What was heard of the last connection.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Vec<u8>>);

impl Heard {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns whether more is to be heard.
    fn add(&self, bytes: &[u8]) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.len().min(ENOUGH - heard.len());
        heard.extend_from_slice(&bytes[..more]);
        heard.len() < ENOUGH
    }
}

/// Connects.
#[derive(Debug, Clone)]
pub(super) struct Port(pub(super) Arc<Heard>);

impl Service<Uri> for Port {
    type Response = TokioIo<Listening>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Listening>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        let heard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = origin.host().unwrap_or_default().trim_matches(['[', ']']);
            let port = origin.port_u16().unwrap_or(if origin.scheme_str() == Some("https") { 443 } else { 80 });
            let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
                Ok(addresses) => addresses.collect(),
                Err(error) => return Err(io::Error::new(io::ErrorKind::NotFound, error)),
            };
            let stream = TcpStream::connect(&*addresses).await?;
            stream.set_nodelay(true)?;
            heard.begin();
            Ok(TokioIo::new(Listening { stream, heard, listens: true }))
        })
    }
}

pin_project! {
    /// A stream whose first bytes are noted.
    #[derive(Debug)]
    pub(super) struct Listening {
        #[pin]
        stream: TcpStream,
        heard: Arc<Heard>,
        listens: bool,
    }
}

impl AsyncRead for Listening {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.stream.poll_read(cx, buf))?;
        if *this.listens {
            *this.listens = this.heard.add(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl Listening {
    /// A port that takes one protocol often answers another with a few bytes and a reset, and then writing fails before
    /// anybody reads. They are still there.
    fn written<T>(self: Pin<&mut Self>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let this = self.project();
        if matches!(result, Poll::Ready(Err(_))) && *this.listens {
            let mut last = [0; ENOUGH];
            // Past tokio, which may not have been told yet that there is something to read.
            let count = (&*SockRef::from(&*this.stream)).read(&mut last).unwrap_or(0);
            *this.listens = this.heard.add(&last[..count]);
        }
        result
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.as_mut().project().stream.poll_write(cx, buf);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.as_mut().project().stream.poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = self.as_mut().project().stream.poll_shutdown(cx);
        self.written(result)
    }
}
