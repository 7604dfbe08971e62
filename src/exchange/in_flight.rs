//! A request on its way, until the head of its response is here.
//!
//! A future written by hand: hyper's own holds the request, and every `async fn` around it would move those 300 bytes
//! twice more. Comes in: hyper's future. Goes out: the response with its body, or why there is none.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use http::{Request, Response, StatusCode, Version};
use hyper::{body::Incoming, client::conn::TrySendError};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::{
    Shared,
    body::{Ending, Live, Payload, RequestBody, ResponseBody, must_close, runs_until_close},
    failure,
    marks::Exchange,
};
use crate::{
    capture::Listed,
    error::{Error, Kind},
    facts::announced,
    hooks::{CloseInitiator, CloseReason, RetryReason},
};

/// What has to be known of a request when its response comes.
#[derive(Debug, Clone)]
pub(crate) struct Asks {
    pub(crate) is_connect: bool,
    pub(crate) is_head: bool,
    /// For the connection's end.
    pub(crate) to_close: bool,
    /// Until when the whole response has to be here.
    pub(crate) deadline: Option<Instant>,
    /// What of its header is recorded.
    pub(crate) capture: Listed,
}

/// Why a request was not answered.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The request, if it was given back without a byte of it sent.
    pub(crate) unsent: Option<Payload>,
    /// The server's word that it did nothing for it.
    pub(crate) refused: Option<RetryReason>,
    /// The server ended the connection since it wants HTTP/1.1.
    pub(crate) wants_http1: bool,
    /// Whether the connection took any byte of the request.
    pub(crate) touched: bool,
    /// Whether a byte of a response came.
    pub(crate) answered: bool,
}

pin_project! {
    pub(super) struct InFlight<A, B> {
        // Dropped before the attempt ends: hyper is the first to know that nobody waits any more.
        #[pin]
        answer: Option<Answer<A, B>>,
        // The body of the response to be; gone when the attempt is the body's affair, or over.
        body: Option<Box<Live>>,
        shared: Arc<Shared>,
        asks: Asks,
        // Runs once the request is written, if its response's head is waited for no longer than so.
        head_due: Option<Pin<Box<Sleep>>>,
    }
}

pin_project! {
    // hyper's futures, which have no names.
    #[project = Waiting]
    pub(super) enum Answer<A, B> {
        Http1 { #[pin] answer: A },
        Http2 { #[pin] answer: B },
    }
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why there is no answer.
#[expect(clippy::large_enum_variant, reason = "on the stack, for a moment")]
enum NoAnswer {
    /// hyper says so.
    Failed(TrySendError<Request<RequestBody>>),
    /// It is to be given up, alone on its connection.
    Aborted(Kind),
    Late,
}

impl<A, B> InFlight<A, B> {
    pub(super) fn new(answer: Answer<A, B>, body: Box<Live>, shared: Arc<Shared>, asks: Asks) -> Self {
        Self { answer: Some(answer), body: Some(body), shared, asks, head_due: None }
    }
}

impl<A: Future<Output = Sent>, B: Future<Output = Sent>> Future for InFlight<A, B> {
    type Output = Result<Response<ResponseBody>, Box<Failed>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (Some(answer), Some(body)) = (this.answer.as_mut().as_pin_mut(), this.body.as_mut()) else {
            unreachable!("a request is answered once");
        };
        let none = match answer.poll(&body.ending.exchange, cx) {
            // hyper counts the fields of HTTP/1 alone.
            Poll::Ready(Ok(response)) if response.headers().len() > body.ending.exchange.terms().max_headers => {
                NoAnswer::Aborted(Kind::HeadTooLarge)
            }
            Poll::Ready(Ok(response)) => {
                let body = this.body.take().expect("it was here a moment ago");
                return Poll::Ready(Ok(this.shared.answered(response, body, this.asks)));
            }
            Poll::Ready(Err(none)) => none,
            // What has come is taken, however late.
            Poll::Pending if body.is_late(cx) || head_is_late(&body.ending.exchange, this.head_due, cx) => {
                NoAnswer::Late
            }
            Poll::Pending => return Poll::Pending,
        };
        this.answer.set(None);
        let body = this.body.take().expect("it was here a moment ago");
        Poll::Ready(Err(Box::new(this.shared.unanswered(none, *body))))
    }
}

/// Whether the head was waited for too long since the request was written.
fn head_is_late(exchange: &Exchange, timer: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    if exchange.terms().response_header.is_none() {
        return false;
    }
    if timer.is_none()
        && let Poll::Ready(due) = exchange.poll_head_due(cx)
    {
        *timer = Some(Box::pin(tokio::time::sleep_until(due.into())));
    }
    timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
}

impl<A: Future<Output = Sent>, B: Future<Output = Sent>> Answer<A, B> {
    fn poll(
        self: Pin<&mut Self>,
        exchange: &Exchange,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Incoming>, NoAnswer>> {
        let sent = match self.project() {
            Waiting::Http1 { answer } => answer.poll(cx),
            // What the wire shows may end one request, and must not end the others. It comes first: the answer may have
            // come in the same read.
            Waiting::Http2 { answer } => match exchange.poll_aborted(cx) {
                Some(kind) => return Poll::Ready(Err(NoAnswer::Aborted(kind))),
                None => answer.poll(cx),
            },
        };
        sent.map_err(NoAnswer::Failed)
    }
}

impl Shared {
    fn answered(&self, response: Response<Incoming>, mut body: Box<Live>, asks: &Asks) -> Response<ResponseBody> {
        let (status, version) = (response.status(), response.version());
        // Nearly every server says the same each time, so only the first answer is asked.
        if self.answered.fetch_add(1, Ordering::Relaxed) == 0
            && version < Version::HTTP_2
            && let Some(timeout) = announced(response.headers())
            && let Some(mismatch) = self.home().announced(timeout)
        {
            let _ = self.info.keep_alive.set(Box::new(mismatch));
        }
        let Ending { exchange, .. } = &body.ending;
        if let Some(gathering) = exchange.gathering() {
            gathering.head_given(response.headers());
        }
        let refused = exchange.answer(status);
        let bodiless = asks.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut close = None;
        if version < Version::HTTP_2 {
            close = must_close(status, version, response.headers(), asks.is_connect);
            close = close.or(asks.to_close.then_some(CloseReason::ConnectionClose));
            if let Some(reason) = close {
                // Said now: the peer may close before the body is read.
                self.closing(reason);
                let by_us = asks.to_close || matches!(reason, CloseReason::Upgraded | CloseReason::ProtocolError);
                self.desk().asked_by = Some(if by_us { CloseInitiator::Client } else { CloseInitiator::Server });
            }
            if exchange.is_watched() && !bodiless && runs_until_close(response.headers()) {
                exchange.runs_until_close();
            }
        } else {
            self.wire.answered(exchange, status);
        }
        if !asks.capture.is_empty() && exchange.is_watched() {
            body.ending.captured = asks.capture.of(response.headers());
        }
        body.ending.head = Some((status, version));
        (body.ending.refused, body.ending.bodiless, body.ending.close) = (refused, bodiless, close);
        response.map(|incoming| ResponseBody::new(incoming, body))
    }

    fn unanswered(&self, none: NoAnswer, mut body: Live) -> Failed {
        let exchange = Arc::clone(&body.ending.exchange);
        let (error, unsent, refused) = match none {
            NoAnswer::Failed(mut failed) => {
                let unsent = failed.take_message().map(|request| request.into_body().into_payload());
                let error = failed.into_error();
                if error.is_user() {
                    self.wire.refused(&exchange);
                }
                let refused = failure::refused(&error, &exchange, self.wire.goaway());
                (failure::of_exchange(error, &exchange), unsent, refused)
            }
            NoAnswer::Aborted(kind) => (Error::new(kind, exchange.phase()), None, None),
            NoAnswer::Late => (Error::timeout(exchange.phase()), None, None),
        };
        let marks = exchange.marks();
        body.ending.failed(&error, 0);
        let wants_http1 = self.wire.wants_http1();
        Failed { error, unsent, refused, wants_http1, touched: marks.touched, answered: marks.first_byte }
    }
}
