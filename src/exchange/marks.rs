//! The marks of one request on the wire, and the hooks that they call.
//!
//! One [`Exchange`] belongs to one attempt. The sensor between TLS and hyper tells it what passed and when; the bodies tell
//! it where the request ends. It calls each hook once, in an order that a packet capture would show, and never under its
//! lock.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use super::{
    Stream,
    body::Carrying,
    failure::{BodyError, TooManyInterim},
    gathering::Gathering,
    terms::{Fields, Terms},
    upload::{May, Upload},
    wire::Wire,
};
use crate::{
    clock,
    error::{Error, Kind},
    hooks::{emit::Hooks, *},
    phase::Phase,
    redact::Hidden,
};

/// One attempt on the wire.
pub(crate) struct Exchange {
    pub(crate) hooks: Hooks,
    /// Where it is, or will be. Each holds the other while the request is on the wire: `leave` and `gone` part them.
    pub(super) wire: Arc<Wire>,
    /// hyper has asked whether there is a body, which it does when it takes the request.
    asked: AtomicBool,
    marks: Mutex<Marks>,
    fields: Option<Box<Fields>>,
    upload: Mutex<Upload>,
    terms: Terms,
    /// What else is wanted of it; mostly nothing.
    pub(super) gathering: Option<Box<Gathering>>,
    on_free: Mutex<Option<Stream>>,
    /// What of the request's body hyper has not asked for yet.
    carrying: Mutex<Option<Box<Carrying>>>,
    body_error: OnceLock<BodyError>,
    /// A response body without bytes, kept until its stream has ended.
    parked: Mutex<Option<Incoming>>,
    /// HTTP/2: this request alone is to be given up.
    aborted: OnceLock<Kind>,
    /// Who waits for the answer.
    waiting: Mutex<Option<Waker>>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Marks {
    /// Handed to the wire.
    pub(crate) started: Option<Instant>,
    /// Whether the request reached hyper's engine at all.
    pub(crate) dispatched: bool,
    /// Whether the connection took any byte of it.
    pub(crate) touched: bool,
    wrote_headers: bool,
    /// Bytes of the request body so far; `None` as long as there is no body.
    pub(crate) body_bytes: Option<u64>,
    /// The body has given its last byte to hyper.
    body_over: bool,
    pub(crate) wrote_request: bool,
    /// Until when the head of the response has to be here.
    head_due: Option<Instant>,
    /// The request side is over: written, failed, or given up.
    request_over: bool,
    pub(crate) first_byte: bool,
    /// The first byte of the response that is now the last one.
    pub(crate) final_first_byte: Option<Instant>,
    /// A head has begun that is not known to be an interim one.
    head_begun: bool,
    /// The final head was seen.
    head_final: bool,
    /// Its status, where the wire showed it.
    pub(crate) status: Option<u16>,
    /// Interim responses so far.
    interims: u16,
    pub(crate) last_read: Option<Instant>,
    /// The peer's end of the connection.
    ended: Option<Instant>,
    /// The body runs to that end (RFC 9112 §6.3).
    until_close: bool,
    pub(crate) stream_id: Option<u32>,
    /// HTTP/2: nothing more comes for this stream.
    pub(super) response_over: bool,
    /// HTTP/2: the peer reset the stream before it had ended its side.
    pub(super) cut: bool,
    /// The application is done with the response.
    consumed: bool,
    /// How long the body was blocked by flow control.
    blocked: Option<Duration>,
    /// HTTP/2: the moments of this stream could not be trusted.
    pub(crate) detail_lost: bool,
}

impl Marks {
    fn head_begins(&mut self, at: Option<Instant>, max_informational: u16) {
        // Behind one interim response too many, nothing is read any more.
        if !self.head_final && self.interims <= max_informational {
            (self.head_begun, self.final_first_byte) = (true, at);
        }
    }
}

impl Exchange {
    pub(super) fn new(
        hooks: Hooks,
        fields: Option<Box<Fields>>,
        terms: Terms,
        gathering: Option<Box<Gathering>>,
        wire: Arc<Wire>,
    ) -> Self {
        Self {
            hooks,
            wire,
            asked: AtomicBool::new(false),
            marks: Mutex::default(),
            fields,
            terms,
            gathering,
            upload: Mutex::new(terms.expect.map_or_else(Upload::default, Upload::expecting)),
            on_free: Mutex::default(),
            carrying: Mutex::default(),
            body_error: OnceLock::new(),
            parked: Mutex::default(),
            aborted: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn marks(&self) -> Marks {
        *self.lock()
    }

    /// Whether anybody wants moments.
    pub(crate) fn is_watched(&self) -> bool {
        self.hooks.installed()
    }

    /// Whether the end of the head is to be looked for: somebody wants its moment, or a body waits behind it.
    pub(super) fn wants_write_marks(&self) -> bool {
        self.is_watched() || self.terms.expect.is_some()
    }

    // === the request's side ===

    /// hyper takes the request; the first call counts. `ends`: it has no body.
    pub(super) fn dispatch(self: &Arc<Self>, ends: bool) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.wire.dispatch(self, ends && !self.terms.is_connect);
        }
    }

    /// hyper took the request and will write it now.
    pub(crate) fn dispatched(&self, stream_id: Option<u32>) {
        let mut marks = self.lock();
        marks.dispatched = true;
        marks.started = self.hooks.now();
        marks.stream_id = stream_id;
    }

    /// The connection accepted bytes of this request.
    pub(crate) fn touched(&self) {
        self.lock().touched = true;
    }

    /// Keeps the body, or takes it.
    pub(super) fn carry(&self, body: Option<Box<Carrying>>) -> Option<Box<Carrying>> {
        std::mem::replace(&mut *self.carrying.lock().unwrap_or_else(PoisonError::into_inner), body)
    }

    pub(super) fn carries<T>(&self, read: impl FnOnce(Option<&Carrying>) -> T) -> T {
        read(self.carrying.lock().unwrap_or_else(PoisonError::into_inner).as_deref())
    }

    /// The request has a body, and this much of it was handed over to hyper.
    pub(super) fn given(&self, bytes: usize) {
        *self.lock().body_bytes.get_or_insert(0) += bytes as u64;
        self.wire.given(self, bytes);
    }

    /// The application's body failed.
    pub(super) fn body_failed(&self, error: BodyError) {
        let _ = self.body_error.set(error);
    }

    pub(super) fn body_error(&self) -> Option<BodyError> {
        self.body_error.get().cloned()
    }

    pub(crate) fn body_over(&self) {
        self.lock().body_over = true;
    }

    // === whether the upload goes on ===

    fn upload(&self) -> MutexGuard<'_, Upload> {
        self.upload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn may_upload(&self, cx: &Context<'_>) -> May {
        self.upload().may(cx)
    }

    /// The time for `100 Continue` is over.
    pub(super) fn stop_expecting(&self) {
        self.upload().go_on();
    }

    /// The final head is here. Whether it refuses an upload that has not ended: nothing more of that is sent.
    pub(super) fn answer(&self, status: StatusCode) -> bool {
        if self.lock().body_over {
            return false;
        }
        let (refused, waker) = {
            let mut upload = self.upload();
            if status.as_u16() >= 400 {
                upload.hold();
                (true, None)
            } else {
                (false, upload.go_on())
            }
        };
        wake(waker);
        refused
    }

    /// HTTP/1: whether all of the request has been handed over and begun to pass, so that a flush completes it.
    pub(crate) fn is_all_given(&self) -> bool {
        let marks = self.lock();
        marks.body_over && marks.touched && !marks.wrote_request
    }

    /// Nothing more of the request will be sent.
    pub(super) fn is_request_over(&self) -> bool {
        self.lock().request_over
    }

    pub(super) fn is_stream_over(&self) -> bool {
        let marks = self.lock();
        marks.request_over && marks.response_over
    }

    pub(crate) fn is_request_written(&self) -> bool {
        self.lock().wrote_request
    }

    /// The socket accepted the last byte of the head.
    pub(crate) fn wrote_headers(&self, at: Option<Instant>) {
        self.tell_wrote_headers(at);
        if self.terms.expect.is_some() && !self.lock().body_over && self.upload().expects() {
            let at = at.unwrap_or_else(clock::now);
            let waker = self.upload().head_written(at);
            if let (Some(_), true) = (&waker, self.is_watched()) {
                self.hooks.emit(|t| t.wait_100_continue(&Wait100ContinueInfo { at }));
            }
            wake(waker);
        }
    }

    fn tell_wrote_headers(&self, at: Option<Instant>) {
        let started = {
            let mut marks = self.lock();
            marks.touched = true;
            if std::mem::replace(&mut marks.wrote_headers, true) {
                return;
            }
            marks.started
        };
        let (Some(at), Some(started)) = (at, started) else { return };
        if let Some(fields) = &self.fields {
            fields.each(|name, value| {
                self.hooks.emit(|t| t.wrote_header_field(&WroteHeaderFieldInfo { at, name, value: Hidden::new(value) }))
            });
        }
        self.hooks.emit(|t| t.wrote_headers(&WroteHeadersInfo { at, started }));
    }

    /// The socket accepted the last byte of the request.
    pub(crate) fn wrote_request(&self, at: Option<Instant>) {
        self.request_written(at, None);
    }

    /// The request can't be written any further.
    pub(crate) fn write_failed(&self, error: &Error) {
        if self.lock().dispatched {
            self.request_written(self.hooks.now(), Some(error));
        }
        self.side_over(|marks| marks.request_over = true);
    }

    fn request_written(&self, at: Option<Instant>, error: Option<&Error>) {
        let marks = {
            let mut marks = self.lock();
            if std::mem::replace(&mut marks.wrote_request, true) {
                return;
            }
            marks.head_due = self.terms.response_header.map(|limit| at.unwrap_or_else(clock::now) + limit);
            *marks
        };
        if marks.head_due.is_some() {
            self.wake_waiting();
        }
        if let (Some(at), Some(started)) = (at, marks.started) {
            let (body_bytes, blocked) = (marks.body_bytes, marks.blocked);
            self.hooks.emit(|t| t.wrote_request(&WroteRequestInfo { at, started, body_bytes, blocked, error }));
        }
        self.side_over(|marks| marks.request_over = true);
    }

    // === the response's side ===

    /// Bytes for this request were readable.
    pub(crate) fn read(&self, at: Option<Instant>) {
        self.read_and(at, |_| {});
    }

    /// HTTP/1: bytes for this request were readable that begin with its final head.
    pub(super) fn read_answer(&self, at: Option<Instant>) {
        self.read_and(at, |marks| {
            (marks.head_begun, marks.head_final, marks.final_first_byte) = (true, true, at);
        });
        self.arrived(at);
        self.head_arrived(at);
    }

    /// HTTP/2: bytes for this request were readable that begin with a head.
    pub(super) fn read_head(&self, at: Option<Instant>) {
        let most = self.terms.max_informational;
        self.read_and(at, |marks| marks.head_begins(at, most));
    }

    /// HTTP/2: the last bytes for this request were readable. Whether it has been written, too.
    pub(super) fn read_last(&self, at: Option<Instant>) -> bool {
        let mut written = false;
        self.read_and(at, |marks| written = marks.wrote_request);
        written
    }

    fn read_and(&self, at: Option<Instant>, change: impl FnOnce(&mut Marks)) {
        let first = {
            let mut marks = self.lock();
            marks.last_read = at;
            change(&mut marks);
            !std::mem::replace(&mut marks.first_byte, true)
        };
        if let (true, Some(at)) = (first, at) {
            self.hooks.emit(|t| t.got_first_response_byte(&GotFirstResponseByteInfo { at }));
        }
    }

    /// A head begins: the final one, as far as is known yet.
    pub(super) fn head_begins(&self, at: Option<Instant>) {
        self.lock().head_begins(at, self.terms.max_informational);
    }

    /// The head that began is the final one, unless that has been here before.
    pub(super) fn head_is_final(&self, status: Option<u16>, at: Option<Instant>) {
        let mut marks = self.lock();
        if marks.head_final {
            return;
        }
        (marks.head_final, marks.status) = (marks.head_begun, status);
        drop(marks);
        self.arrived(at);
        self.head_arrived(at);
    }

    pub(super) fn is_head_final(&self) -> bool {
        self.lock().head_final
    }

    /// Whether the fields of interim heads are asked for.
    pub(super) fn wants_fields(&self) -> bool {
        self.fields.is_some()
    }

    /// The head that began was an interim one. Too many of them end the exchange, whoever listens: they cost the client,
    /// and never answer.
    pub(super) fn interim(
        &self,
        status: u16,
        at: Option<Instant>,
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<(), TooManyInterim> {
        let too_many = {
            let mut marks = self.lock();
            (marks.head_begun, marks.final_first_byte) = (false, None);
            marks.interims = marks.interims.saturating_add(1);
            marks.interims > self.terms.max_informational
        };
        if too_many {
            self.abort(Kind::TooManyInformational);
            return Err(TooManyInterim);
        }
        if let (Some(at), Ok(status)) = (at, StatusCode::from_u16(status)) {
            let headers = if self.wants_fields() { fields() } else { HeaderMap::new() };
            let headers = Hidden::new(&headers);
            self.hooks.emit(|t| t.got_1xx_response(&Got1xxResponseInfo { at, status, headers }));
            if status == StatusCode::CONTINUE {
                self.hooks.emit(|t| t.got_100_continue(&Got100ContinueInfo { at }));
            }
        }
        if status == 100 {
            let waker = self.upload().go_on();
            wake(waker);
        }
        Ok(())
    }

    /// HTTP/2: a header block is here. h2 refuses what is too long, and does not say why.
    pub(super) fn head_length(&self, bytes: usize) {
        if bytes > self.terms.max_head_bytes {
            self.abort(Kind::HeadTooLarge);
        }
    }

    /// HTTP/2: why this request is to be given up, if it is.
    pub(super) fn aborted(&self) -> Option<Kind> {
        self.aborted.get().copied()
    }

    fn abort(&self, kind: Kind) {
        if self.aborted.set(kind).is_ok() {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&self) {
        let waker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        wake(waker);
    }

    fn wait(&self, cx: &Context<'_>) {
        match &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// HTTP/2: whether this request is to be given up.
    pub(super) fn poll_aborted(&self, cx: &Context<'_>) -> Option<Kind> {
        self.wait(cx);
        self.aborted.get().copied()
    }

    /// Until when the head of the response has to be here: known once the request is written.
    pub(super) fn poll_head_due(&self, cx: &Context<'_>) -> Poll<Instant> {
        self.wait(cx);
        self.lock().head_due.map_or(Poll::Pending, Poll::Ready)
    }

    /// What this exchange is held to.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// HTTP/1: the peer ended the connection.
    pub(super) fn ended(&self) {
        let now = self.hooks.now();
        let mut marks = self.lock();
        marks.ended = marks.ended.or(now);
    }

    /// HTTP/1: the body runs to the connection's end.
    pub(super) fn runs_until_close(&self) {
        self.lock().until_close = true;
    }

    /// HTTP/2: so long was the body blocked by flow control.
    pub(super) fn was_blocked(&self, blocked: Duration) {
        self.lock().blocked = Some(blocked);
    }

    /// HTTP/2: what was told of this stream may be wrong, and nothing more will be.
    pub(super) fn lose_detail(&self) {
        let head_due = self.terms.response_header.map(|limit| clock::now() + limit);
        self.side_over(|marks| {
            marks.head_due = marks.head_due.or(head_due);
            (marks.detail_lost, marks.stream_id, marks.blocked) = (true, None, None);
            // It can't be known whether the peer saw the request, so it counts as seen.
            (marks.touched, marks.started, marks.wrote_request) = (true, None, true);
            (marks.first_byte, marks.final_first_byte, marks.last_read) = (true, None, None);
            (marks.request_over, marks.response_over) = (true, true);
        });
        self.wake_waiting();
    }

    /// HTTP/2: the peer's last frame of this stream came.
    pub(crate) fn response_over(&self) {
        self.side_over(|marks| marks.response_over = true);
    }

    /// HTTP/2: the peer resets the stream.
    pub(crate) fn cut(&self) {
        let mut marks = self.lock();
        marks.cut = !marks.response_over;
    }

    /// HTTP/2: the stream was reset by either side.
    pub(crate) fn reset(&self) {
        self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
    }

    /// The application has the whole response, or dropped it.
    pub(crate) fn consumed(&self) {
        let mut unfinished = false;
        self.side_over(|marks| {
            marks.consumed = true;
            unfinished = !marks.body_over;
        });
        if unfinished {
            let waker = self.upload().answered(clock::now());
            wake(waker);
        }
    }

    /// The request was never handed to the wire, and will not be.
    pub(crate) fn never_dispatched(&self) {
        if !self.lock().dispatched {
            self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
        }
    }

    /// The connection is gone: nothing more comes or goes.
    pub(crate) fn connection_gone(&self) {
        let marks = self.marks();
        if marks.dispatched && !marks.wrote_request {
            let kind = match marks.consumed {
                // What the server did not want any more was given up; the rest is lost.
                true => Kind::Canceled,
                false if self.wire.is_foreign() => Kind::Http2ProtocolError,
                false => Kind::ConnectionClosed,
            };
            self.write_failed(&Error::new(kind, Phase::RequestWrite));
        }
        self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
    }

    /// HTTP/2: gives the stream back once both sides and the application are done with it.
    pub(super) fn when_free(&self, stream: Stream) {
        *self.on_free.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        self.side_over(|_| {});
    }

    /// Keeps a body that has no bytes until its stream has ended.
    pub(super) fn park(&self, body: Incoming) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }

    pub(crate) fn is_consumed(&self) -> bool {
        self.lock().consumed
    }

    fn side_over(&self, change: impl FnOnce(&mut Marks)) {
        let free = {
            let mut marks = self.lock();
            change(&mut marks);
            marks.request_over && marks.response_over && marks.consumed
        };
        if free {
            let marks = self.marks();
            if marks.dispatched && !marks.wrote_request {
                self.request_written(self.hooks.now(), Some(&Error::canceled(Phase::RequestWrite)));
            }
            drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner).take());
            let stream = self.on_free.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(stream) = stream {
                stream.free();
            }
        }
    }

    /// Where an exchange that dies now has come to.
    pub(crate) fn phase(&self) -> Phase {
        let marks = self.marks();
        if marks.head_begun || marks.head_final {
            Phase::ResponseRead
        } else if marks.wrote_request {
            Phase::ResponseWait
        } else {
            Phase::RequestWrite
        }
    }

    /// The moment of the last byte that came for this request, or of the end that says that it was the last; else now.
    pub(crate) fn last_read_or_now(&self) -> Instant {
        let marks = self.marks();
        let end = marks.ended.filter(|_| marks.until_close);
        end.or(marks.last_read).unwrap_or_else(clock::now)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
