//! The sensor between TLS and hyper: it sees what passes, and asks the socket below it when.
//!
//! ```text
//!   hyper ── plaintext ── Sensor (what: head, last byte, frames)
//!                           │
//!                          TLS (keeps records back while the socket is full)
//!                           │
//!                         Socket (when: the moment of each read and write)
//! ```
//!
//! A write mark is due when its last byte passed here, and taken when TLS holds nothing back any more; its moment is the
//! socket's last write. A read mark's moment is the socket's last read. The sensor changes nothing that passes.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{Fact, Frames},
    marks::Exchange,
};
use crate::{connection::Protocol, transport::Transport};

/// Which requests are on a connection: shared by its sensor and its bodies.
#[derive(Default)]
pub(crate) struct Wire {
    on_wire: Mutex<OnWire>,
    /// HTTP/1: whether anybody wants the moments of the request under way. hyper reads five times for one response, so
    /// this is asked without the lock.
    watched: AtomicBool,
}

#[derive(Default)]
struct OnWire {
    /// HTTP/1: the request under way.
    current: Option<Arc<Exchange>>,
    /// HTTP/2: the next stream's number, and the streams that are open.
    next_stream: u32,
    streams: HashMap<u32, Arc<Exchange>>,
    /// HTTP/2: the last stream that the peer will handle, once it said so.
    goaway: Option<u32>,
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, OnWire> {
        self.on_wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// hyper begins to write this request. HTTP/2: it gets the next stream, since hyper's task is the only one to open
    /// streams, and does so right after it asked the body whether it is empty.
    pub(crate) fn dispatch(&self, protocol: Protocol, exchange: &Arc<Exchange>) {
        let mut on_wire = self.lock();
        match protocol {
            Protocol::Http1 => {
                exchange.dispatched(None);
                self.watched.store(exchange.is_watched(), Ordering::Relaxed);
                on_wire.current = Some(Arc::clone(exchange));
            }
            Protocol::Http2 => {
                let id = on_wire.next_stream.max(1);
                on_wire.next_stream = id + 2;
                exchange.dispatched(Some(id));
                on_wire.streams.insert(id, Arc::clone(exchange));
            }
        }
    }

    /// HTTP/1: what comes now is not for this request any more.
    pub(crate) fn leave(&self, exchange: &Arc<Exchange>) {
        let mut on_wire = self.lock();
        if on_wire.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, exchange)) {
            on_wire.current = None;
            self.watched.store(false, Ordering::Relaxed);
        }
    }

    /// The last stream that the peer will handle, if it sent GOAWAY.
    pub(crate) fn goaway(&self) -> Option<u32> {
        self.lock().goaway
    }

    /// The connection is gone.
    pub(crate) fn gone(&self) {
        let (current, streams) = {
            let mut on_wire = self.lock();
            (on_wire.current.take(), std::mem::take(&mut on_wire.streams))
        };
        for exchange in current.into_iter().chain(streams.into_values()) {
            exchange.connection_gone();
        }
    }

    /// HTTP/1: whether a request is under way whose end is still to be told.
    pub(crate) fn is_in_use(&self) -> bool {
        self.current().is_some_and(|exchange| !exchange.is_consumed())
    }

    fn current(&self) -> Option<Arc<Exchange>> {
        self.lock().current.clone()
    }

    fn stream(&self, id: u32) -> Option<Arc<Exchange>> {
        self.lock().streams.get(&id).cloned()
    }

    fn forget(&self, id: u32) {
        self.lock().streams.remove(&id);
    }
}

/// The byte stream as hyper uses it.
pub(crate) struct Sensor {
    transport: Transport,
    wire: Arc<Wire>,
    protocol: Scanner,
}

enum Scanner {
    Http1 {
        /// How much of `\r\n\r\n` the head's last bytes match.
        matched: usize,
        /// The head has passed, and its mark is due.
        head_due: bool,
        /// Whose head is being looked for.
        head_of: Option<Arc<Exchange>>,
    },
    Http2 {
        out: Frames,
        inbound: Frames,
        due: Vec<Fact>,
    },
}

impl Sensor {
    pub(crate) fn new(mut transport: Transport, protocol: Protocol, wire: Arc<Wire>, watched: bool) -> Self {
        transport.watch(watched);
        let protocol = match protocol {
            Protocol::Http1 => Scanner::Http1 { matched: 0, head_due: false, head_of: None },
            Protocol::Http2 => Scanner::Http2 { out: Frames::outbound(), inbound: Frames::inbound(), due: Vec::new() },
        };
        Self { transport, wire, protocol }
    }

    /// Before bytes pass: whether the moments are wanted.
    fn watch(&mut self) {
        if let Scanner::Http1 { .. } = self.protocol {
            self.transport.watch(self.wire.watched.load(Ordering::Relaxed));
        }
    }

    /// These bytes passed outwards.
    fn passed_out<'a>(&mut self, bytes: impl Iterator<Item = &'a [u8]>) {
        match &mut self.protocol {
            Scanner::Http1 { matched, head_due, head_of } => {
                let Some(current) = self.wire.current() else { return };
                current.touched();
                if !current.is_watched() {
                    return;
                }
                if !head_of.as_ref().is_some_and(|exchange| Arc::ptr_eq(exchange, &current)) {
                    (*matched, *head_due, *head_of) = (0, false, Some(current));
                }
                for bytes in bytes {
                    if *matched < END_OF_HEAD.len() {
                        *matched = end_of_head(*matched, bytes);
                        *head_due |= *matched == END_OF_HEAD.len();
                    }
                }
            }
            Scanner::Http2 { out, due, .. } => {
                for bytes in bytes {
                    out.pass(bytes, |fact| due.push(fact));
                }
            }
        }
        self.take_due();
    }

    /// Takes the write marks that are due, unless TLS still holds bytes back.
    fn take_due(&mut self) {
        if self.transport.holds_back() {
            return;
        }
        let at = self.transport.last_write();
        match &mut self.protocol {
            Scanner::Http1 { head_due, head_of, .. } => {
                if let (true, Some(exchange)) = (std::mem::take(head_due), head_of) {
                    exchange.wrote_headers(at);
                }
            }
            Scanner::Http2 { due, .. } => {
                for fact in std::mem::take(due) {
                    told_out(&self.wire, fact, at);
                }
            }
        }
    }

    /// Whether a mark waits for TLS to let go of its bytes.
    fn mark_is_due(&self) -> bool {
        match &self.protocol {
            Scanner::Http1 { head_due, .. } => *head_due,
            Scanner::Http2 { due, .. } => !due.is_empty(),
        }
    }

    /// Everything that hyper wrote has reached the socket.
    fn flushed(&mut self) {
        self.take_due();
        if let Scanner::Http1 { .. } = self.protocol
            && !self.transport.holds_back()
            && let Some(exchange) = self.wire.current()
            && exchange.is_all_given()
        {
            exchange.wrote_request(self.transport.last_write());
        }
    }

    /// These bytes passed inwards.
    fn passed_in(&mut self, bytes: &[u8]) {
        let at = self.transport.last_read();
        match &mut self.protocol {
            Scanner::Http1 { .. } => {
                if let Some(exchange) = self.wire.current() {
                    exchange.read(at);
                }
            }
            Scanner::Http2 { inbound, .. } => {
                let mut facts = Vec::new();
                inbound.pass(bytes, |fact| facts.push(fact));
                for fact in facts {
                    told_in(&self.wire, fact, at);
                }
            }
        }
    }
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// How much of the end of a head is matched after these bytes; stops at its end.
fn end_of_head(mut matched: usize, bytes: &[u8]) -> usize {
    for byte in bytes {
        matched = if *byte == END_OF_HEAD[matched] { matched + 1 } else { usize::from(*byte == b'\r') };
        if matched == END_OF_HEAD.len() {
            break;
        }
    }
    matched
}

fn told_out(wire: &Wire, fact: Fact, at: Option<Instant>) {
    match fact {
        Fact::HeadersBegin { stream } | Fact::DataBegin { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                exchange.touched();
            }
        }
        Fact::HeadersEnd { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                exchange.wrote_headers(at);
            }
        }
        Fact::StreamEnd { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                if exchange.is_response_over() {
                    wire.forget(stream);
                }
                exchange.wrote_request(at);
            }
        }
        Fact::Reset { stream } => reset(wire, stream),
        Fact::GoAway { .. } => {}
    }
}

fn told_in(wire: &Wire, fact: Fact, at: Option<Instant>) {
    match fact {
        Fact::HeadersBegin { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                exchange.head_begins(at);
            }
        }
        Fact::DataBegin { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                exchange.head_read();
                exchange.read(at);
            }
        }
        Fact::HeadersEnd { .. } => {}
        Fact::StreamEnd { stream } => {
            if let Some(exchange) = wire.stream(stream) {
                exchange.read(at);
                // It stays known until the request's side is over too.
                if exchange.is_request_written() {
                    wire.forget(stream);
                }
                exchange.response_over();
            }
        }
        Fact::Reset { stream } => reset(wire, stream),
        Fact::GoAway { last_stream } => wire.lock().goaway = Some(last_stream),
    }
}

fn reset(wire: &Wire, stream: u32) {
    if let Some(exchange) = wire.stream(stream) {
        wire.forget(stream);
        exchange.reset();
    }
}

impl AsyncRead for Sensor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.watch();
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.passed_in(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sensor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.watch();
        if self.mark_is_due() {
            // The mark's bytes go first, or its moment could not be told from that of the bytes behind it.
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.take_due();
        }
        let written = ready!(Pin::new(&mut self.transport).poll_write(cx, buf))?;
        self.passed_out(std::iter::once(&buf[..written]));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch();
        if self.mark_is_due() {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.take_due();
        }
        let written = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        self.passed_out(bufs.iter().map_while(|buf| {
            let taken = left.min(buf.len());
            left -= taken;
            (taken > 0 || buf.is_empty()).then(|| &buf[..taken])
        }));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
        self.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nbody";
        for cut in 0..head.len() {
            let matched = end_of_head(end_of_head(0, &head[..cut]), if cut < 27 { &head[cut..] } else { &[] });
            assert_eq!(matched, END_OF_HEAD.len(), "cut at {cut}");
        }
        assert_eq!(end_of_head(0, b"\r\n\r\r\n\r\n"), 4);
    }
}
