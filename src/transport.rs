//! The byte stream under a connection: a TCP socket, a user's own stream or a proxy's TLS, with or without TLS of its own.
//!
//! A leaf that dialer and exchange share. The socket notes when it last took and gave bytes: those are the moments on the
//! wire. What lies above it (TLS keeps records back, hyper buffers) can only say *what* those bytes were.

use std::{
    fmt,
    io::{self, Read as _},
    mem::MaybeUninit,
    net::SocketAddr,
    num::NonZeroU64,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{clock, facts::TcpInfo};

/// A byte stream that knows when it last read and wrote.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    /// Somebody wants the moments; else no clock is read. Absent during the dial.
    watched: Option<Arc<AtomicBool>>,
    last_read: Option<Instant>,
    last_write: Option<Instant>,
}

/// What the bytes go through. TCP is never called through a table; what is rarer is boxed, so that it costs others no room.
enum Stream {
    Tcp(Arc<TcpStream>),
    Other(Box<Other>),
}

/// What is no TCP socket of this machine's.
enum Other {
    /// What a user brought.
    Own(Box<dyn OwnStream>),
    /// A connection to a proxy that speaks TLS; what the target is told goes inside.
    Proxy(Box<TlsStream<Socket>>),
}

impl Other {
    fn stream(&mut self) -> Pin<&mut dyn OwnStream> {
        match self {
            Self::Own(stream) => Pin::new(&mut **stream),
            Self::Proxy(tls) => Pin::new(&mut **tls),
        }
    }
}

/// A user's stream, its type erased.
pub(crate) trait OwnStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> OwnStream for T {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(tcp) => tcp.fmt(f),
            Self::Other(other) => f.write_str(match **other {
                Other::Own(_) => "Own",
                Other::Proxy(_) => "Proxy",
            }),
        }
    }
}

impl Socket {
    pub(crate) fn tcp(tcp: TcpStream) -> Self {
        Self::of(Stream::Tcp(Arc::new(tcp)))
    }

    pub(crate) fn own(stream: Box<dyn OwnStream>) -> Self {
        Self::of(Stream::Other(Box::new(Other::Own(stream))))
    }

    /// What goes to a proxy inside of its TLS.
    pub(crate) fn to_proxy(tls: TlsStream<Self>) -> Self {
        Self::of(Stream::Other(Box::new(Other::Proxy(Box::new(tls)))))
    }

    /// The TLS session with a proxy right below, if there is one.
    fn proxy(&self) -> Option<&TlsStream<Self>> {
        match &self.stream {
            Stream::Tcp(_) => None,
            Stream::Other(other) => match &**other {
                Other::Own(_) => None,
                Other::Proxy(tls) => Some(tls),
            },
        }
    }

    /// The socket that the system knows, below a proxy's TLS: what it took and gave are the moments on the wire.
    fn lowest(&self) -> &Self {
        self.proxy().map_or(self, |tls| tls.get_ref().0.lowest())
    }

    fn watch(&mut self, watched: Arc<AtomicBool>) {
        if let Stream::Other(other) = &mut self.stream
            && let Other::Proxy(tls) = &mut **other
        {
            return tls.get_mut().0.watch(watched);
        }
        self.watched = Some(watched);
    }

    /// Whether a proxy's TLS has bytes that it has not written yet.
    fn holds_back(&self) -> bool {
        self.proxy().is_some_and(|tls| tls.get_ref().1.wants_write() || tls.get_ref().0.holds_back())
    }

    fn of(stream: Stream) -> Self {
        Self { stream, watched: None, last_read: None, last_write: None }
    }

    fn tcp_stream(&self) -> Option<&Arc<TcpStream>> {
        match &self.lowest().stream {
            Stream::Tcp(tcp) => Some(tcp),
            Stream::Other(_) => None,
        }
    }

    /// This end's address; a user's stream has none that is known here.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.tcp_stream()?.local_addr().ok()
    }

    /// The other end's address, a proxy's if there is one; likewise.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.tcp_stream()?.peer_addr().ok()
    }

    /// The kernel's number for it, if it has one.
    pub(crate) fn cookie(&self) -> Option<NonZeroU64> {
        self.tcp_stream().and_then(|tcp| cookie(tcp))
    }

    fn is_watched(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.load(Ordering::Relaxed))
    }

    fn read(&mut self, bytes: usize) {
        if bytes > 0 && self.is_watched() {
            self.last_read = Some(clock::now());
        }
    }

    fn wrote(&mut self, result: &io::Result<usize>) {
        if matches!(result, Ok(1..)) && self.is_watched() {
            self.last_write = Some(clock::now());
        }
    }
}

/// The kernel's number for a socket (`SO_COOKIE`): never used twice while the machine is up, and never 0.
#[cfg(target_os = "linux")]
pub(crate) fn cookie(tcp: &TcpStream) -> Option<NonZeroU64> {
    // A kernel before 4.12 has none.
    socket2::SockRef::from(tcp).cookie().ok().and_then(NonZeroU64::new)
}

/// Other systems have none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cookie(_: &TcpStream) -> Option<NonZeroU64> {
    None
}

/// This end of a socket that has connected.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LocalEnd {
    /// Its address; a user's stream has none that is known here.
    pub(crate) addr: Option<SocketAddr>,
    /// The kernel's number for it.
    pub(crate) cookie: Option<NonZeroU64>,
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

    /// Reads what has come to a plain socket that is no use any more; not what is encrypted, nor a user's stream.
    pub(crate) fn read_the_rest(&self, to: &mut [u8]) -> Option<usize> {
        match self {
            Self::Plain(Socket { stream: Stream::Tcp(tcp), .. }) => (&*socket2::SockRef::from(&**tcp)).read(to).ok(),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }

    /// The kernel's number for the socket, if it has one.
    pub(crate) fn cookie(&self) -> Option<NonZeroU64> {
        self.socket().cookie()
    }

    /// From here on, note the moments whenever they are wanted.
    pub(crate) fn watch(&mut self, watched: Arc<AtomicBool>) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_mut().0,
        };
        socket.watch(watched);
    }

    pub(crate) fn last_read(&self) -> Option<Instant> {
        self.socket().lowest().last_read
    }

    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.socket().lowest().last_write
    }

    /// Whether bytes that were accepted have not reached the socket yet: TLS keeps records when the socket is full.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.holds_back(),
            Self::Tls(tls) => tls.get_ref().1.wants_write() || tls.get_ref().0.holds_back(),
        }
    }

    /// A way to look at the socket from outside, which does not keep it open.
    pub(crate) fn probe(&self) -> Probe {
        let encrypted = matches!(self, Self::Tls(_)) || self.socket().proxy().is_some();
        Probe { tcp: self.socket().tcp_stream().map(Arc::downgrade), encrypted }
    }
}

/// Looks whether anything waits on a socket, without taking it.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// `None`: a user's stream, which can only be read by its owner.
    tcp: Option<Weak<TcpStream>>,
    pub(crate) encrypted: bool,
}

/// What waits on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nothing,
    Bytes,
    /// The peer has closed it, or it is broken.
    End,
    /// There is no kernel's socket to ask.
    Unknown,
}

impl Probe {
    /// What the kernel knows of the connection; `None` if there is no socket any more, or none of ours.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        TcpInfo::of(&*self.tcp.as_ref()?.upgrade()?)
    }

    /// One non-blocking peek. It asks the kernel, not the reactor, which may not have run since the peer's FIN came.
    pub(crate) fn look(&self) -> Waiting {
        let Some(tcp) = &self.tcp else { return Waiting::Unknown };
        let Some(tcp) = tcp.upgrade() else { return Waiting::End };
        match socket2::SockRef::from(&*tcp).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Waiting::End,
            Ok(_) => Waiting::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Waiting::Nothing,
            Err(_) => Waiting::End,
        }
    }
}

impl AsyncRead for Socket {
    #[inline] // hyper asks five times for one response, mostly in vain
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match &mut self.stream {
            Stream::Tcp(tcp) => ready!(read_tcp(tcp, cx, buf))?,
            Stream::Other(other) => ready!(other.stream().poll_read(cx, buf))?,
        }
        let bytes = buf.filled().len() - before;
        self.read(bytes);
        Poll::Ready(Ok(()))
    }
}

fn read_tcp(tcp: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        let mut read = Ok(0);
        let room = buf.remaining();
        let tried = tcp.try_io(Interest::READABLE, || {
            read = tcp.try_read_buf(buf);
            match read {
                // Less than there was room for: the socket is empty. To say so saves the system call that would find out, as
                // tokio does where a stream is read by its owner.
                Ok(bytes) if bytes > 0 && bytes < room && EDGE_TRIGGERED => Err(io::ErrorKind::WouldBlock.into()),
                Ok(_) => Ok(()),
                Err(ref error) => Err(error.kind().into()),
            }
        });
        match (read, tried) {
            // The readiness was stale; it is cleared now, so this ends.
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {}
            (Ok(0), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            (read, _) => return Poll::Ready(read.map(drop)),
        }
    }
}

/// Whether the system tells of bytes once, when they come (epoll, kqueue), and not as long as they are there.
const EDGE_TRIGGERED: bool = cfg!(any(
    target_os = "android",
    target_os = "freebsd",
    target_os = "ios",
    target_os = "linux",
    target_os = "macos",
    target_os = "netbsd",
    target_os = "openbsd",
));

fn write_tcp(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_write_ready(cx))?;
        match write(tcp) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(match &mut self.stream {
            Stream::Tcp(tcp) => write_tcp(tcp, cx, |tcp| tcp.try_write(buf)),
            Stream::Other(other) => other.stream().poll_write(cx, buf),
        });
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(match &mut self.stream {
            Stream::Tcp(tcp) => write_tcp(tcp, cx, |tcp| tcp.try_write_vectored(bufs)),
            Stream::Other(other) => other.stream().poll_write_vectored(cx, bufs),
        });
        self.wrote(&result);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(_) => true,
            Stream::Other(other) => match &**other {
                Other::Own(stream) => stream.is_write_vectored(),
                Other::Proxy(tls) => tls.is_write_vectored(),
            },
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(_) => Poll::Ready(Ok(())),
            Stream::Other(other) => other.stream().poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(tcp) => Poll::Ready(match socket2::SockRef::from(&**tcp).shutdown(std::net::Shutdown::Write) {
                // The peer was faster.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                result => result,
            }),
            Stream::Other(other) => other.stream().poll_shutdown(cx),
        }
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
