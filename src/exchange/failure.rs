//! What hyper's errors mean: the kind out of the closed set, the phase from the marks.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use super::marks::Exchange;
use crate::{
    error::{Error, Kind, Why, find},
    hooks::{CloseReason, RetryReason},
    phase::Phase,
};

/// The error of an exchange that died.
pub(super) fn of_exchange(error: hyper::Error, exchange: &Exchange) -> Error {
    if let Some(own) = exchange.body_error() {
        return Error::with(Kind::RequestBodyFailed, Phase::RequestWrite, own);
    }
    let phase = exchange.phase();
    // hyper tells such an end in several ways, as it happens: what it read, what it could not write, or that it ended.
    if exchange.wire.is_foreign() {
        let why = Why::new("the server answers in something else than HTTP/2");
        return Error::with(Kind::Http2ProtocolError, phase, why);
    }
    let kind = exchange.aborted().unwrap_or_else(|| kind(&error, phase));
    let phase = match kind {
        Kind::InvalidRequest => Phase::Request,
        _ => phase,
    };
    Error::with(kind, phase, error)
}

fn kind(error: &hyper::Error, phase: Phase) -> Kind {
    let first_byte = phase == Phase::ResponseRead;
    if let Some(h2) = find::<h2::Error>(error) {
        return match h2.get_io() {
            // h2's word for an end of the connection that it did not expect.
            Some(io) if first_byte && io.kind() == io::ErrorKind::BrokenPipe => Kind::BodyIncomplete,
            Some(io) => of_io(io, phase),
            None if h2.is_go_away() && h2.is_remote() => Kind::Http2GoAway,
            None if h2.is_reset() && h2.is_remote() => Kind::Http2StreamReset,
            None => Kind::Http2ProtocolError,
        };
    }
    if find::<TooManyInterim>(error).is_some() {
        Kind::TooManyInformational
    } else if error.is_parse_too_large() {
        Kind::HeadTooLarge
    } else if error.is_parse() {
        Kind::MalformedResponse
    } else if error.is_timeout() {
        Kind::Timeout
    } else if error.is_user() {
        Kind::InvalidRequest
    } else if error.is_incomplete_message() {
        if first_byte { Kind::BodyIncomplete } else { Kind::ConnectionClosed }
    } else if let Some(io) = find::<io::Error>(error) {
        of_io(io, phase)
    } else if error.is_canceled() || error.is_closed() {
        Kind::ConnectionClosed
    } else {
        Kind::Other
    }
}

fn of_io(error: &io::Error, phase: Phase) -> Kind {
    let first_byte = phase == Phase::ResponseRead;
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Kind::ConnectionReset,
        // The system gave up on a peer that does not acknowledge.
        io::ErrorKind::TimedOut => Kind::Timeout,
        // TLS that ends without close_notify is an end that can't be believed.
        io::ErrorKind::UnexpectedEof if first_byte => Kind::BodyIncomplete,
        io::ErrorKind::UnexpectedEof => Kind::ConnectionClosed,
        io::ErrorKind::BrokenPipe if first_byte => Kind::ConnectionReset,
        io::ErrorKind::BrokenPipe if phase == Phase::RequestWrite => Kind::WriteFailed,
        // The request was written: what could not be is of others on the connection.
        io::ErrorKind::BrokenPipe => Kind::ConnectionClosed,
        // hyper's words for chunks and trailers that are none; TLS has one of them for what it can't decrypt.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
            if first_byte && find::<rustls::Error>(error).is_none() =>
        {
            of_chunks(error)
        }
        _ if is_end(error) && first_byte => Kind::BodyIncomplete,
        _ if is_end(error) => Kind::ConnectionClosed,
        _ => Kind::Other,
    }
}

/// hyper says by its text alone that trailers are too large.
fn of_chunks(error: &io::Error) -> Kind {
    let trailers = error.get_ref().is_some_and(|why| why.to_string().starts_with("chunk trailers "));
    if trailers { Kind::HeadTooLarge } else { Kind::MalformedResponse }
}

/// Why a connection is closed after this error.
pub(super) fn close_reason(error: &Error) -> CloseReason {
    match error.kind() {
        Kind::Canceled | Kind::Timeout | Kind::RequestBodyFailed | Kind::InvalidRequest => CloseReason::Canceled,
        Kind::ConnectionClosed | Kind::BodyIncomplete => CloseReason::PeerClosed,
        Kind::MalformedResponse | Kind::HeadTooLarge | Kind::TooManyInformational | Kind::Http2ProtocolError => {
            CloseReason::ProtocolError
        }
        Kind::Http2GoAway => CloseReason::GoAway,
        _ => CloseReason::IoError,
    }
}

/// Why a connection ended by itself, from its driver's last word.
pub(super) fn end_reason(result: &Result<(), hyper::Error>) -> CloseReason {
    let Err(error) = result else { return CloseReason::PeerClosed };
    if let Some(h2) = find::<h2::Error>(error) {
        return if h2.is_go_away() && h2.is_remote() {
            CloseReason::GoAway
        } else if h2.get_io().is_some_and(is_end) {
            CloseReason::PeerClosed
        } else if h2.is_io() {
            CloseReason::IoError
        } else {
            CloseReason::ProtocolError
        };
    }
    if error.is_incomplete_message() {
        CloseReason::PeerClosed
    } else if error.is_parse() {
        CloseReason::ProtocolError
    } else if let Some(error) = find::<io::Error>(error) {
        if is_end(error) { CloseReason::PeerClosed } else { CloseReason::IoError }
    } else if error.is_canceled() {
        CloseReason::Canceled
    } else {
        // hyper has no question for it: bytes that no request asked for.
        CloseReason::SurplusBytes
    }
}

/// Whether h2 made this error of the peer's end, which it calls a broken pipe; not the system. Within a frame, the end has
/// no kind of its own.
fn is_end(error: &io::Error) -> bool {
    let cut = || error.get_ref().is_some_and(|why| why.to_string() == "bytes remaining on stream");
    error.raw_os_error().is_none() && (error.kind() == io::ErrorKind::BrokenPipe || cut())
}

/// Whether the server said that it did nothing for this request (RFC 9113 §8.7), or nothing but want it over HTTP/1.1.
pub(super) fn refused(error: &hyper::Error, exchange: &Exchange, goaway: Option<u32>) -> Option<RetryReason> {
    let h2 = find::<h2::Error>(error);
    if h2.is_some_and(|h2| h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM)) {
        return Some(RetryReason::RefusedStream);
    }
    if h2.is_some_and(|h2| h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)) {
        return Some(RetryReason::Http11Required);
    }
    // A server whose frames are none of HTTP/2 is not believed.
    if h2.is_some_and(h2::Error::is_library) {
        return None;
    }
    let (last, marks) = (goaway?, exchange.marks());
    // Above the last stream, or without one: it was still on its way to the wire when the server closed.
    let above = marks.stream_id.map_or(!marks.dispatched, |stream| stream > last);
    above.then_some(RetryReason::GoAway)
}

/// The peer sends interim responses and no answer.
#[derive(Debug)]
pub(super) struct TooManyInterim;

impl fmt::Display for TooManyInterim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more interim responses than are taken")
    }
}

impl StdError for TooManyInterim {}

/// The application's own request body failed. Shared: hyper gets it, and the exchange keeps it, since on HTTP/2 hyper only
/// tells that the stream was reset.
#[derive(Debug, Clone)]
pub(super) struct BodyError(pub(super) Arc<dyn StdError + Send + Sync>);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request body failed")
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}
