//! The two bodies, and the one place where it is decided how a response ended.
//!
//! [`RequestBody`] is what hyper reads: its first question (is it empty?) marks the dispatch. [`ResponseBody`] is what the
//! application reads. Four ways lead to its end (the last frame, an end without frame, an error, a drop), and all go
//! through [`Ending::finish`], once.

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{
    After, Loan,
    failure::{self, BodyError},
    gathering::Gathering,
    marks::Exchange,
    upload::May,
};
use crate::{
    capture::ShownHeaders,
    clock,
    connection::Protocol,
    error::{BoxError, Error, Kind},
    hooks::{emit, *},
    phase::Phase,
};

// === the request ===

/// What a request carries.
pub(crate) enum Payload {
    Empty,
    /// Kept whole, so that it can be sent again.
    Full(Bytes),
    /// Given to hyper already.
    Gone,
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Payload {
    /// Keeps what can be sent again: nothing, and bytes that are whole already. The rest is boxed.
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        let any = &mut body as &mut dyn Any;
        if let Some(full) = any.downcast_mut::<Option<Full<Bytes>>>().and_then(Option::take) {
            return Self::of_full(full);
        }
        match body {
            Some(body) if !body.is_end_stream() => Self::Stream(body.map_err(Into::into).boxed_unsync()),
            _ => Self::Empty,
        }
    }

    fn of_full(mut full: Full<Bytes>) -> Self {
        // A `Full` is ready at once and has one frame.
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut full).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().map_or(Self::Empty, Self::Full),
            Poll::Ready(_) | Poll::Pending => Self::Empty,
        }
    }

    /// The same payload once more, if it was kept.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Gone | Self::Stream(_) => None,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Gone => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty | Self::Gone => true,
            Self::Full(_) => false,
            Self::Stream(body) => body.is_end_stream(),
        }
    }
}

/// A request's body on its way to hyper: one word, and what it carries is kept with the exchange. hyper has room for 31
/// requests on every connection, so each word here is 248 bytes of an idle one.
pub(crate) struct RequestBody(Arc<Exchange>);

const _: () = assert!(size_of::<Option<RequestBody>>() == size_of::<usize>(), "one word");

/// A body that has bytes, or may have some.
pub(super) struct Carrying {
    payload: Payload,
    protocol: Protocol,
    /// Until when it waits for `100 Continue`, or may go on behind the answer.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl RequestBody {
    pub(crate) fn new(payload: Payload, exchange: Arc<Exchange>, protocol: Protocol) -> Self {
        if !matches!(payload, Payload::Empty | Payload::Gone) {
            exchange.carry(Some(Box::new(Carrying { payload, protocol, timer: None })));
        }
        Self(exchange)
    }

    /// The payload of a request that hyper gave back.
    pub(crate) fn into_payload(self) -> Payload {
        self.0.carry(None).map_or(Payload::Empty, |carrying| carrying.payload)
    }
}

impl Carrying {
    /// Whether the next bytes may go.
    fn poll_permission(&mut self, exchange: &Exchange, cx: &mut Context<'_>) -> Poll<Result<(), GivenUp>> {
        // Nothing is to come, or all of it at once.
        if matches!(self.payload, Payload::Empty | Payload::Gone) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let http2 = self.protocol == Protocol::Http2;
            match exchange.may_upload(cx) {
                May::Go => return Poll::Ready(Ok(())),
                May::Stop if http2 => return Poll::Ready(Err(GivenUp::new())),
                // HTTP/1: the driver closes the connection.
                May::Stop | May::Wait(None) => return Poll::Pending,
                May::Wait(Some(until)) => {
                    ready!(self.poll_timer(until, cx));
                    exchange.stop_expecting();
                }
                May::GoUntil(until) if http2 => {
                    let late = self.poll_timer(until, cx).is_ready();
                    return Poll::Ready(if late { Err(GivenUp::new()) } else { Ok(()) });
                }
                May::GoUntil(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_frame(
        &mut self,
        exchange: &Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Err(given_up) = ready!(self.poll_permission(exchange, cx)) {
            return Poll::Ready(Some(Err(given_up.into())));
        }
        let frame = match &mut self.payload {
            Payload::Empty | Payload::Gone => None,
            Payload::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.payload = Payload::Gone;
                Some(Ok(Frame::data(bytes)))
            }
            Payload::Stream(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Err(error)) => {
                    let error = BodyError(error.into());
                    exchange.body_failed(error.clone());
                    Some(Err(error.into()))
                }
                frame => frame,
            },
        };
        match &frame {
            None => exchange.body_over(),
            Some(Ok(frame)) => {
                exchange.given(frame.data_ref().map_or(0, Bytes::len));
                if self.payload.is_end() {
                    exchange.body_over();
                }
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn poll_timer(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some((at, timer)) if *at == until => timer,
            timer => &mut timer.insert((until, Box::pin(tokio::time::sleep_until(until.into())))).1,
        };
        timer.as_mut().poll(cx)
    }
}

/// An upload that the server does not want any more. On HTTP/2 its stream is reset with this code (RFC 9113 §8.1).
#[derive(Debug)]
struct GivenUp(h2::Error);

impl GivenUp {
    fn new() -> Self {
        Self(h2::Reason::CANCEL.into())
    }
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server has answered before the upload ended")
    }
}

impl std::error::Error for GivenUp {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let exchange = &self.0;
        // Taken while it is polled: the application's body is not called under a lock.
        let Some(mut carrying) = exchange.carry(None) else {
            exchange.body_over();
            return Poll::Ready(None);
        };
        let polled = carrying.poll_frame(exchange, cx);
        exchange.carry(Some(carrying));
        polled
    }

    fn is_end_stream(&self) -> bool {
        let end = self.0.carries(|carrying| carrying.is_none_or(|carrying| carrying.payload.is_end()));
        self.0.dispatch(end);
        if end {
            self.0.body_over();
        }
        end
    }

    fn size_hint(&self) -> SizeHint {
        self.0.carries(|carrying| {
            carrying.map_or_else(|| SizeHint::with_exact(0), |carrying| carrying.payload.size_hint())
        })
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // hyper is done with it: the response may still be read for long.
        drop(self.0.carry(None));
        self.0.never_dispatched();
    }
}

// === the response ===

/// Ends an attempt: tells how its response ended, and gives the connection back. Dropped, it was canceled.
pub(crate) struct Ending {
    parts: Option<Parts>,
    pub(super) exchange: Arc<Exchange>,
    /// The response's, once it is here.
    pub(super) head: Option<(StatusCode, Version)>,
    /// What of its header is recorded.
    pub(super) captured: Option<Box<ShownHeaders>>,
    /// The head is all there is (RFC 9110 §6.4.1): HEAD, 204, 304.
    pub(super) bodiless: bool,
    /// The upload was refused before it had ended.
    pub(super) refused: bool,
    /// The connection can't be used again, whatever comes.
    pub(super) close: Option<CloseReason>,
}

struct Parts {
    response: emit::Response,
    loan: Loan,
}

impl Ending {
    pub(crate) fn new(response: emit::Response, loan: Loan, exchange: Arc<Exchange>) -> Self {
        Self {
            parts: Some(Parts { response, loan }),
            exchange,
            head: None,
            captured: None,
            bodiless: false,
            refused: false,
            close: None,
        }
    }

    /// To the last byte.
    pub(crate) fn complete(&mut self, bytes: u64) {
        let after = self.close.map_or(After::Reuse, After::Close);
        self.finish(ResponseOutcome::Complete, None, bytes, after);
    }

    /// The exchange failed.
    pub(crate) fn failed(&mut self, error: &Error, bytes: u64) {
        self.finish(ResponseOutcome::Failed, Some(error), bytes, After::Close(failure::close_reason(error)));
    }

    /// The application dropped the body.
    fn dropped(&mut self, incoming: Incoming, bytes: u64) {
        if self.parts.is_none() {
            return;
        }
        let after = self.close.map_or_else(|| After::Drain(Box::new(incoming)), After::Close);
        self.finish(ResponseOutcome::Dropped, None, bytes, after);
    }

    fn finish(&mut self, outcome: ResponseOutcome, error: Option<&Error>, body_bytes: u64, after: After) {
        let Some(Parts { response, loan }) = self.parts.take() else { return };
        let mut after = after;
        if let Some(error) = error {
            self.exchange.write_failed(error);
        } else if self.refused && matches!(loan, Loan::Http1 { .. }) {
            self.exchange.write_failed(&Error::canceled(Phase::RequestWrite));
            after = After::Close(self.close.unwrap_or(CloseReason::RequestUnfinished));
        }
        if self.exchange.is_watched() {
            let marks = self.exchange.marks();
            let at = match outcome {
                ResponseOutcome::Complete => self.exchange.last_read_or_now(),
                ResponseOutcome::Dropped | ResponseOutcome::Failed => clock::now(),
            };
            let whole = outcome == ResponseOutcome::Complete;
            let facts = self.exchange.facts(whole, || loan.shared().probe.tcp_info());
            response.done(&ResponseDoneInfo {
                at,
                outcome,
                status: self.head.map(|(status, _)| status),
                version: self.head.map(|(_, version)| version),
                headers: self.captured.as_deref(),
                first_byte: marks.final_first_byte,
                body_bytes,
                stream_id: marks.stream_id,
                detail_lost: marks.detail_lost,
                facts: facts.as_ref(),
                error,
            });
        }
        self.exchange.consumed();
        loan.end(&self.exchange, after);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.parts.is_some() {
            let error = Error::canceled(self.exchange.phase());
            self.failed(&error, 0);
        }
    }
}

/// The body of a response.
///
/// Ends the attempt when its last byte was read: there is no need to poll it once more. Dropping it before gives up the
/// rest of the body; the connection survives if little is left.
#[derive(Default)]
pub struct ResponseBody(Option<Box<Live>>);

/// A response from the moment when its request is sent: where it will be in the end, so that it is not moved there.
pub(super) struct Live {
    /// Absent before the response's head, and after its end.
    incoming: Option<Incoming>,
    pub(super) ending: Ending,
    bytes: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    idle: Option<Box<Idle>>,
}

/// How long the next piece of a body may be waited for.
struct Idle {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// Somebody waits since the timer was set.
    waiting: bool,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: Box::pin(tokio::time::sleep(limit)), waiting: false }
    }

    /// Nothing is here: whether that has been so for too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if !std::mem::replace(&mut self.waiting, true) {
            self.timer.as_mut().reset((clock::now() + self.limit).into());
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

impl ResponseBody {
    /// A body under way; one that is empty has ended at once.
    pub(super) fn new(incoming: Incoming, mut live: Box<Live>) -> Self {
        if incoming.is_end_stream() || live.ending.bodiless {
            // HTTP/2 may end the stream with a frame of its own; dropping the body before would reset it.
            live.ending.exchange.park(incoming);
            live.ending.complete(0);
            return Self(None);
        }
        live.idle = live.ending.exchange.terms().body_idle.map(|limit| Box::new(Idle::new(limit)));
        live.incoming = Some(incoming);
        Self(Some(live))
    }

    /// Gives the request up: its attempt ends as `canceled`, as if its future had been dropped, and the connection closes
    /// (on HTTP/2: the stream is reset). A drop says that the rest of the body is not wanted, which is no error. Does
    /// nothing once the body has ended.
    pub fn cancel(mut self) {
        if let Some(live) = &mut self.0
            && live.incoming.is_some()
        {
            live.fail(Error::canceled(live.ending.exchange.phase()));
        }
    }
}

impl Live {
    pub(super) fn new(ending: Ending, deadline: Option<Instant>) -> Box<Self> {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
        Box::new(Self { incoming: None, ending, bytes: 0, deadline, idle: None })
    }

    /// Nothing has come: whether it is too late for more.
    pub(super) fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let asked = self.ending.exchange.gathering().and_then(Gathering::asked);
        let polled = Pin::new(incoming).poll_frame(cx);
        if let Some(gathering) = self.ending.exchange.gathering() {
            if let Some(asked) = asked {
                gathering.answered(asked, &polled);
            }
            if let Poll::Ready(Some(Ok(frame))) = &polled
                && let Some(trailers) = frame.trailers_ref()
            {
                gathering.fields(trailers);
            }
        }
        if let (Some(idle), Poll::Ready(_)) = (&mut self.idle, &polled) {
            idle.waiting = false;
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) if self.has_too_many(frame.trailers_ref()) => {
                let error = Error::new(Kind::HeadTooLarge, self.ending.exchange.phase());
                Poll::Ready(Some(Err(self.fail(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.incoming.as_ref().is_some_and(Body::is_end_stream) {
                    self.ending.complete(self.bytes);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // hyper takes a reset without an error (RFC 9113 §8.1) for the end, also where the body has not ended.
            Poll::Ready(None) if self.ending.exchange.marks().cut => {
                let error = Error::new(Kind::Http2StreamReset, self.ending.exchange.phase());
                Poll::Ready(Some(Err(self.fail(error))))
            }
            Poll::Ready(None) => {
                self.ending.complete(self.bytes);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error = failure::of_exchange(error, &self.ending.exchange);
                Poll::Ready(Some(Err(self.fail(error))))
            }
            Poll::Pending => {
                let late = self.is_late(cx);
                let idle = self.idle.as_mut().is_some_and(|idle| idle.is_over(cx));
                if !(late || idle) {
                    return Poll::Pending;
                }
                let error = Error::timeout(self.ending.exchange.phase());
                Poll::Ready(Some(Err(self.fail(error))))
            }
        }
    }

    /// hyper counts the trailers of HTTP/1 alone.
    fn has_too_many(&self, trailers: Option<&HeaderMap>) -> bool {
        trailers.is_some_and(|trailers| trailers.len() > self.ending.exchange.terms().max_headers)
    }

    fn fail(&mut self, error: Error) -> Error {
        self.ending.failed(&error, self.bytes);
        self.incoming = None;
        error
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.ending.dropped(incoming, self.bytes);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Some(live) => live.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|live| live.incoming.as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(live) => live.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("ended", &self.is_end_stream()).finish_non_exhaustive()
    }
}

/// Whether the connection can't be used after this response (RFC 9112 §9.3), and why.
pub(crate) fn must_close(
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
    is_connect: bool,
) -> Option<CloseReason> {
    if status == StatusCode::SWITCHING_PROTOCOLS || is_connect && status.is_success() {
        Some(CloseReason::Upgraded)
    } else if version < Version::HTTP_11 {
        Some(CloseReason::Http10)
    } else if asks_to_close(headers) {
        Some(CloseReason::ConnectionClose)
    } else if headers.contains_key(http::header::TRANSFER_ENCODING)
        && headers.contains_key(http::header::CONTENT_LENGTH)
    {
        // Two ends: who reads the other one finds a second response (RFC 9112 §6.3).
        Some(CloseReason::ProtocolError)
    } else {
        None
    }
}

/// Whether the client is to wait for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(http::header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether the body of such a response runs to the connection's end (RFC 9112 §6.3).
pub(crate) fn runs_until_close(headers: &HeaderMap) -> bool {
    !headers.contains_key(http::header::CONTENT_LENGTH) && !headers.contains_key(http::header::TRANSFER_ENCODING)
}

pub(crate) fn asks_to_close(headers: &HeaderMap) -> bool {
    if !headers.contains_key(http::header::CONNECTION) {
        return false;
    }
    headers.get_all(http::header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why the connection is closed after a response with these fields.
    fn closes(status: u16, version: Version, fields: &[(&'static str, &'static str)]) -> Option<CloseReason> {
        let fields = fields.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        must_close(StatusCode::from_u16(status).expect("a status"), version, &headers, status == 299)
    }

    #[test]
    fn a_response_says_whether_its_connection_can_be_used_again() {
        let http11 = Version::HTTP_11;
        assert_eq!(closes(200, http11, &[("connection", "keep-alive")]), None);
        for value in ["close", "Close", "keep-alive, close", "x ,\tCLOSE"] {
            assert_eq!(closes(200, http11, &[("connection", value)]), Some(CloseReason::ConnectionClose), "{value}");
        }
        assert_eq!(closes(200, http11, &[("connection", "closed")]), None, "another word");
        let twice = [("connection", "keep-alive"), ("connection", "close")];
        assert_eq!(closes(200, http11, &twice), Some(CloseReason::ConnectionClose), "in a second field");
        assert_eq!(closes(200, Version::HTTP_10, &[("connection", "keep-alive")]), Some(CloseReason::Http10));
        assert_eq!(closes(101, http11, &[]), Some(CloseReason::Upgraded));
        assert_eq!(closes(299, http11, &[]), Some(CloseReason::Upgraded), "the answer to a CONNECT");
        assert_eq!(closes(200, http11, &[("content-length", "1")]), None);
        assert_eq!(closes(200, http11, &[("transfer-encoding", "chunked")]), None);
        let both = [("content-length", "1"), ("transfer-encoding", "chunked")];
        assert_eq!(closes(200, http11, &both), Some(CloseReason::ProtocolError));
    }
}
