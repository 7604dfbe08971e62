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
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    frames::{Fact, Frames},
    heads::{Heads, Seen, fields_of_head},
    wire::{Known, Wire},
};
use crate::{connection::Protocol, transport::Transport};

/// The byte stream as hyper uses it.
pub(crate) struct Sensor {
    transport: Transport,
    wire: Arc<Wire>,
    protocol: Scanner,
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.wire.release();
    }
}

enum Scanner {
    Http1 {
        /// How much of `\r\n\r\n` the head's last bytes match.
        matched: usize,
        /// The head has passed, and its mark is due.
        head_due: bool,
        /// Bytes of a request have passed, and its last one has not been told.
        unwritten: bool,
        /// The how manyth request's head is being looked for.
        head_of: u64,
        /// The heads of its response.
        heads: Heads,
    },
    Http2(Box<Both>),
}

/// The frames of both directions.
struct Both {
    out: Frames,
    inbound: Frames,
    due: Vec<Fact>,
    /// Whose frames passed last.
    sending: Known,
    receiving: Known,
    /// When the first byte of a frame's header was readable whose last one is still to come.
    header_began: Option<Instant>,
}

impl Sensor {
    pub(crate) fn new(mut transport: Transport, protocol: Protocol, wire: Arc<Wire>) -> Self {
        transport.watch(wire.watched());
        let protocol = match protocol {
            Protocol::Http1 => {
                let heads = Heads::default();
                Scanner::Http1 { matched: 0, head_due: false, unwritten: false, head_of: 0, heads }
            }
            Protocol::Http2 => Scanner::Http2(Box::new(Both {
                out: Frames::outbound(),
                inbound: Frames::inbound(),
                due: Vec::new(),
                sending: None,
                receiving: None,
                header_began: None,
            })),
        };
        Self { transport, wire, protocol }
    }

    /// These bytes passed outwards.
    fn passed_out<'a>(&mut self, bytes: impl Iterator<Item = &'a [u8]>) {
        match &mut self.protocol {
            Scanner::Http1 { matched, head_due, unwritten, head_of, heads } => {
                let Some((current, number)) = self.wire.current_and_number() else { return };
                current.touched();
                *unwritten = true;
                if *head_of != number {
                    (*matched, *head_due, *heads) = (0, false, Heads::default());
                    *head_of = number;
                }
                if !current.wants_write_marks() {
                    return;
                }
                for bytes in bytes {
                    if *matched < END_OF_HEAD.len() {
                        // A head is mostly written alone, so that its end is seen without looking at every byte.
                        let at_end = bytes.ends_with(END_OF_HEAD);
                        *matched = if at_end { END_OF_HEAD.len() } else { end_of_head(*matched, bytes) };
                        *head_due |= *matched == END_OF_HEAD.len();
                    }
                }
            }
            Scanner::Http2(both) => {
                let Both { out, due, sending, .. } = &mut **both;
                if due.is_empty() && !self.transport.holds_back() {
                    let at = self.transport.last_write();
                    bytes.for_each(|bytes| out.pass(bytes, |fact| self.wire.told_out(fact, at, sending)));
                    return;
                }
                bytes.for_each(|bytes| out.pass(bytes, |fact| due.push(fact)));
            }
        }
        self.take_due();
    }

    /// Takes the write marks that are due, unless TLS still holds bytes back.
    fn take_due(&mut self) {
        if !self.mark_is_due() || self.transport.holds_back() {
            return;
        }
        let at = self.transport.last_write();
        match &mut self.protocol {
            Scanner::Http1 { head_due, .. } => {
                if let (true, Some(exchange)) = (std::mem::take(head_due), self.wire.current()) {
                    exchange.wrote_headers(at);
                }
            }
            Scanner::Http2(both) => {
                let Both { due, sending, .. } = &mut **both;
                for fact in due.drain(..) {
                    self.wire.told_out(fact, at, sending);
                }
            }
        }
    }

    /// The socket takes nothing more. A peer that was asked for HTTP/2 may have said before that it speaks something else,
    /// and hyper, which writes first, will not read that any more.
    fn write_failed(&mut self) {
        let Scanner::Http2(both) = &mut self.protocol else { return };
        let mut header = [0; 9];
        if both.inbound.is_at_start()
            && let Some(length) = self.transport.read_the_rest(&mut header)
        {
            let wire = &self.wire;
            both.inbound.pass(&header[..length], |fact| {
                if fact == Fact::Foreign {
                    wire.told_in(fact, None, None, &mut None);
                }
            });
        }
    }

    /// Whether a mark waits for TLS to let go of its bytes.
    fn mark_is_due(&self) -> bool {
        match &self.protocol {
            Scanner::Http1 { head_due, .. } => *head_due,
            Scanner::Http2(both) => !both.due.is_empty(),
        }
    }

    /// Everything that hyper wrote has reached the socket.
    fn flushed(&mut self) {
        self.take_due();
        // hyper flushes three times for one request.
        if let Scanner::Http1 { unwritten: unwritten @ true, .. } = &mut self.protocol
            && !self.transport.holds_back()
            && let Some(exchange) = self.wire.current()
            && exchange.is_all_given()
        {
            *unwritten = false;
            exchange.wrote_request(self.transport.last_write());
        }
    }

    /// These bytes passed inwards.
    fn passed_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.transport.last_read();
        match &mut self.protocol {
            Scanner::Http1 { heads, .. } => {
                let Some(exchange) = self.wire.current() else {
                    self.wire.surplus();
                    return Ok(());
                };
                // Nearly every response: its first read has the final head.
                if heads.skip_final(bytes) {
                    exchange.read_answer(at);
                    return Ok(());
                }
                exchange.read(at);
                exchange.arrived(at);
                if heads.is_final() {
                    return Ok(());
                }
                let mut result = Ok(());
                heads.pass(bytes, exchange.wants_fields(), |seen| match seen {
                    Seen::Begin => exchange.head_begins(at),
                    Seen::Final => exchange.head_is_final(None, at),
                    Seen::Interim { status, head } => {
                        if let Err(too_many) = exchange.interim(status, at, || fields_of_head(&head)) {
                            result = Err(too_many);
                        }
                    }
                });
                result.map_err(io::Error::other)
            }
            Scanner::Http2(both) => {
                let Both { inbound, receiving, header_began, .. } = &mut **both;
                let began = *header_began;
                inbound.pass(bytes, |fact| self.wire.told_in(fact, at, began, receiving));
                // A header of nine bytes may come in nine reads.
                let goes_on = inbound.is_within_header() && bytes.len() < 9 && header_began.is_some();
                if !goes_on {
                    *header_began = at.filter(|_| inbound.is_within_header());
                }
                Ok(())
            }
        }
    }
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// How much of the end of a head is matched after these bytes; stops at its end.
pub(super) fn end_of_head(mut matched: usize, bytes: &[u8]) -> usize {
    for byte in bytes {
        matched = if *byte == END_OF_HEAD[matched] { matched + 1 } else { usize::from(*byte == b'\r') };
        if matched == END_OF_HEAD.len() {
            break;
        }
    }
    matched
}

impl AsyncRead for Sensor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match ready!(Pin::new(&mut self.transport).poll_read(cx, buf)) {
            Ok(()) if buf.filled().len() > before => Poll::Ready(self.passed_in(&buf.filled()[before..])),
            Ok(()) => {
                if buf.remaining() > 0 {
                    self.wire.peer_ended();
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.wire.peer_ended();
                Poll::Ready(Err(error))
            }
        }
    }
}

impl AsyncWrite for Sensor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.mark_is_due() {
            // The mark's bytes go first, or its moment could not be told from that of the bytes behind it.
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.take_due();
        }
        let written = ready!(Pin::new(&mut self.transport).poll_write(cx, buf)).inspect_err(|_| self.write_failed())?;
        self.passed_out(std::iter::once(&buf[..written]));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.mark_is_due() {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.take_due();
        }
        let written = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, bufs));
        let written = written.inspect_err(|_| self.write_failed())?;
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
