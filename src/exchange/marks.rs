//! The marks of one request on the wire, and the hooks that they call.
//!
//! One [`Exchange`] belongs to one attempt. The sensor between TLS and hyper tells it what passed and when; the bodies tell
//! it where the request ends. It calls each hook once, in an order that a packet capture would show, and never under its
//! lock.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::body::Incoming;

use crate::{
    clock,
    connection::Protocol,
    error::{Error, Kind},
    hooks::{emit::Hooks, *},
    phase::Phase,
};

/// One attempt on the wire.
pub(crate) struct Exchange {
    pub(crate) hooks: Hooks,
    marks: Mutex<Marks>,
    fields: Option<Box<Fields>>,
    on_free: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    body_error: OnceLock<BodyError>,
    /// A response body without bytes, kept until its stream has ended.
    parked: Mutex<Option<Incoming>>,
}

/// What `wrote_header_field` reports: kept only where somebody asks for it.
pub(crate) struct Fields {
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
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
    /// The request side is over: written, failed, or given up.
    request_over: bool,
    pub(crate) first_byte: bool,
    /// The first byte of the response that is now the last one.
    pub(crate) final_first_byte: Option<Instant>,
    /// An interim response was parsed: the next bytes begin another one.
    interim: bool,
    head_read: bool,
    pub(crate) last_read: Option<Instant>,
    pub(crate) stream_id: Option<u32>,
    /// HTTP/2: nothing more comes for this stream.
    response_over: bool,
    /// The application is done with the response.
    consumed: bool,
}

impl Exchange {
    pub(crate) fn new(hooks: Hooks, fields: Option<Box<Fields>>) -> Self {
        Self {
            hooks,
            marks: Mutex::default(),
            fields,
            on_free: Mutex::default(),
            body_error: OnceLock::new(),
            parked: Mutex::default(),
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

    // === the request's side ===

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

    /// The request has a body, and this much of it was handed over.
    pub(crate) fn body_bytes(&self, bytes: usize) {
        let mut marks = self.lock();
        *marks.body_bytes.get_or_insert(0) += bytes as u64;
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

    /// HTTP/1: whether all of the request has been handed over and begun to pass, so that a flush completes it.
    pub(crate) fn is_all_given(&self) -> bool {
        let marks = self.lock();
        marks.body_over && marks.touched && !marks.wrote_request
    }

    pub(crate) fn is_request_written(&self) -> bool {
        self.lock().wrote_request
    }

    /// The socket accepted the last byte of the head.
    pub(crate) fn wrote_headers(&self, at: Option<Instant>) {
        let started = {
            let mut marks = self.lock();
            if std::mem::replace(&mut marks.wrote_headers, true) {
                return;
            }
            marks.started
        };
        let (Some(at), Some(started)) = (at, started) else { return };
        if let Some(fields) = &self.fields {
            fields.each(|name, value| {
                self.hooks.emit(|t| t.wrote_header_field(&WroteHeaderFieldInfo { at, name, value }))
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
        if self.marks().dispatched {
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
            *marks
        };
        if let (Some(at), Some(started)) = (at, marks.started) {
            let body_bytes = marks.body_bytes;
            self.hooks.emit(|t| t.wrote_request(&WroteRequestInfo { at, started, body_bytes, error }));
        }
        self.side_over(|marks| marks.request_over = true);
    }

    // === the response's side ===

    /// Bytes for this request were readable.
    pub(crate) fn read(&self, at: Option<Instant>) {
        let first = {
            let mut marks = self.lock();
            marks.last_read = at;
            if !marks.head_read && (marks.final_first_byte.is_none() || std::mem::take(&mut marks.interim)) {
                marks.final_first_byte = at;
            }
            !std::mem::replace(&mut marks.first_byte, true)
        };
        if let (true, Some(at)) = (first, at) {
            self.hooks.emit(|t| t.got_first_response_byte(&GotFirstResponseByteInfo { at }));
        }
    }

    /// HTTP/2: another header block of this stream begins, before any data.
    pub(crate) fn head_begins(&self, at: Option<Instant>) {
        self.lock().interim = true;
        self.read(at);
    }

    /// An interim response was parsed.
    pub(crate) fn informational(&self, status: StatusCode, headers: &HeaderMap) {
        self.lock().interim = true;
        let Some(at) = self.lock().last_read else { return };
        self.hooks.emit(|t| t.got_1xx_response(&Got1xxResponseInfo { at, status, headers }));
        if status == StatusCode::CONTINUE {
            self.hooks.emit(|t| t.got_100_continue(&Got100ContinueInfo { at }));
        }
    }

    /// The final response's head is parsed.
    pub(crate) fn head_read(&self) {
        self.lock().head_read = true;
    }

    /// HTTP/2: the peer's last frame of this stream came.
    pub(crate) fn response_over(&self) {
        self.side_over(|marks| marks.response_over = true);
    }

    pub(crate) fn is_response_over(&self) -> bool {
        self.lock().response_over
    }

    /// HTTP/2: the stream was reset by either side.
    pub(crate) fn reset(&self) {
        self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
    }

    /// The application has the whole response, or dropped it.
    pub(crate) fn consumed(&self) {
        self.side_over(|marks| marks.consumed = true);
    }

    /// The request was never handed to the wire, and will not be.
    pub(crate) fn never_dispatched(&self) {
        if !self.marks().dispatched {
            self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
        }
    }

    /// The connection is gone: nothing more comes or goes.
    pub(crate) fn connection_gone(&self) {
        let marks = self.marks();
        if marks.dispatched && !marks.wrote_request {
            self.write_failed(&Error::new(Kind::ConnectionClosed, Phase::RequestWrite));
        }
        self.side_over(|marks| (marks.request_over, marks.response_over) = (true, true));
    }

    /// HTTP/2: calls `free` once both sides and the application are done with the stream.
    pub(crate) fn when_free(&self, free: Box<dyn FnOnce() + Send>) {
        *self.on_free.lock().unwrap_or_else(PoisonError::into_inner) = Some(free);
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
            drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner).take());
            let free = self.on_free.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(free) = free {
                free();
            }
        }
    }

    /// Where an exchange that dies now has come to.
    pub(crate) fn phase(&self) -> Phase {
        let marks = self.marks();
        if marks.first_byte {
            Phase::ResponseRead
        } else if marks.wrote_request {
            Phase::ResponseWait
        } else {
            Phase::RequestWrite
        }
    }

    /// The moment of the last byte that came for this request, or now.
    pub(crate) fn last_read_or_now(&self) -> Instant {
        self.marks().last_read.unwrap_or_else(clock::now)
    }
}

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

impl Fields {
    fn each(&self, mut tell: impl FnMut(&str, &[u8])) {
        if self.protocol == Protocol::Http2 {
            tell(":method", self.method.as_str().as_bytes());
            tell(":scheme", self.uri.scheme_str().unwrap_or_default().as_bytes());
            tell(":authority", self.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
            tell(":path", self.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
        }
        for (name, value) in &self.headers {
            tell(name.as_str(), value.as_bytes());
        }
    }
}
