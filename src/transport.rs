//! The byte stream under a connection: a TCP socket, with or without TLS.
//!
//! A leaf that dialer and exchange share. The socket notes when it last took and gave bytes: those are the moments on the
//! wire. What lies above it (TLS keeps records back, hyper buffers) can only say *what* those bytes were.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::clock;

/// A socket that knows when it last read and wrote.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: Arc<TcpStream>,
    /// Somebody wants the moments; else no clock is read.
    watched: bool,
    last_read: Option<Instant>,
    last_write: Option<Instant>,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp: Arc::new(tcp), watched: false, last_read: None, last_write: None }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    fn wrote(&mut self, result: &io::Result<usize>) {
        if self.watched && matches!(result, Ok(1..)) {
            self.last_write = Some(clock::now());
        }
    }
}

/// A plain or encrypted connection.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// From here on, note the moments (or no longer).
    pub(crate) fn watch(&mut self, watched: bool) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_mut().0,
        };
        socket.watched = watched;
    }

    pub(crate) fn last_read(&self) -> Option<Instant> {
        self.socket().last_read
    }

    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.socket().last_write
    }

    /// Whether bytes that were accepted have not reached the socket yet: TLS keeps records when the socket is full.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.wants_write(),
        }
    }

    /// A way to look at the socket from outside, which does not keep it open.
    pub(crate) fn probe(&self) -> Probe {
        Probe { tcp: Arc::downgrade(&self.socket().tcp), encrypted: matches!(self, Self::Tls(_)) }
    }
}

/// Looks whether anything waits on a socket, without taking it.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    tcp: Weak<TcpStream>,
    pub(crate) encrypted: bool,
}

/// What waits on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nothing,
    Bytes,
    /// The peer has closed it, or it is broken.
    End,
}

impl Probe {
    /// One non-blocking peek. It asks the kernel, not the reactor, which may not have run since the peer's FIN came.
    pub(crate) fn look(&self) -> Waiting {
        let Some(tcp) = self.tcp.upgrade() else { return Waiting::End };
        match socket2::SockRef::from(&*tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Waiting::End,
            Ok(_) => Waiting::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Waiting::Nothing,
            Err(_) => Waiting::End,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read_buf(buf) {
                Ok(read) => {
                    if self.watched && read > 0 {
                        self.last_read = Some(clock::now());
                    }
                    return Poll::Ready(Ok(()));
                }
                // The readiness was stale; it is cleared now, so this ends.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.wrote(&result);
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.wrote(&result);
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match socket2::SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
    }
}

macro_rules! delegate {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Transport::Tls($io) => {
                let $io = Pin::new(&mut **$io);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, io => io.poll_shutdown(cx))
    }
}
