//! The record of one attempt, and who is told of it.
//!
//! A [`Timeline`] is plain data: what happened, when, on which connection. It is filled by an internal
//! [`ClientTrace`](crate::hooks::ClientTrace) and knows nothing of spans, metrics or output. Absent is absent: a phase
//! that did not happen is `None` or missing, never zero. Views read it through [`Timeline::phases`], so that they all
//! tell the same story.

mod recorder;
mod segments;

use std::{
    cell::OnceCell,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, StatusCode, Version, request::Parts};

#[cfg(feature = "otlp")]
pub(crate) use self::recorder::are_returning;
pub(crate) use self::recorder::{DialRecorder, Recorder};
pub use self::{recorder::TimelineHandle, segments::PhaseSpan};
use crate::{
    capture::ShownHeaders,
    clock::TimeAnchor,
    connection::{ConnectionInfo, TlsInfo, TraceRef},
    error::Error,
    facts::{Facts, KeepAlive},
    hooks::{CloseReason, ConnOutcome, DnsFacts, IdleReturn, ResponseOutcome, RetryReason, WaitCause, contained},
    redact::ShownUrl,
};

/// What was asked for: the same for all views of one attempt.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RequestInfo {
    /// The method.
    pub method: Method,
    /// The URL with its secrets replaced, as in the `url.full` attribute.
    pub url: ShownUrl,
    /// The host, without brackets.
    pub host: Arc<str>,
    /// The port, the scheme's default filled in.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Which attempt of the request this is, from 1.
    pub attempt: u32,
    /// How often this request was sent before, hops included; 0 for the first time.
    pub resend_count: u32,
    /// Why the attempt before was given up for this one; absent for a first attempt.
    pub retry_reason: Option<RetryReason>,
    /// The mark that the application put on the request.
    pub tag: Option<Tag>,
}

/// A number of the application's own: put it into a request's extensions to know its records again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// The record of one attempt of a request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Timeline {
    /// Turns the monotonic moments below into wall time.
    pub anchor: TimeAnchor,
    /// The call.
    pub start: Instant,
    /// The later of the last body byte (or drop, or error) and the connection's return; absent while under way.
    pub end: Option<Instant>,
    /// The last body byte, drop or error: what `http.client.request.duration` runs to.
    pub response_end: Option<Instant>,
    /// What was asked for.
    pub request: Arc<RequestInfo>,
    /// The attempt's CLIENT span; absent without a tracer.
    pub trace: Option<TraceRef>,
    /// The response's status; absent if no head arrived.
    pub status: Option<StatusCode>,
    /// The response's HTTP version; absent if no head arrived.
    pub version: Option<Version>,
    /// The captured fields of the request's header, without their secrets; absent if there are none.
    pub request_headers: Option<Box<ShownHeaders>>,
    /// The captured fields of the response's header, without their secrets; absent if there are none.
    pub response_headers: Option<Box<ShownHeaders>>,
    /// Why the attempt failed.
    pub error: Option<Error>,
    /// The connection it used; absent if it got none.
    pub connection: Option<ConnectionUse>,
    /// Its wait for a connection; absent if one was at hand.
    pub wait: Option<Wait>,
    /// The lookups, connects and handshakes of its own dial.
    pub setup: Vec<SetupPhase>,
    /// When the request was handed to the wire.
    pub write_start: Option<Instant>,
    /// When the socket accepted the whole head.
    pub wrote_headers: Option<Instant>,
    /// When the socket accepted the last byte of the request.
    pub wrote_request: Option<Instant>,
    /// Why the request could not be written whole, and when that was known.
    pub write_error: Option<(Instant, Error)>,
    /// When the first byte of any response was readable, 1xx included.
    pub first_byte: Option<Instant>,
    /// When the first byte of the final response was readable.
    pub final_first_byte: Option<Instant>,
    /// Body bytes handed over; absent if the request has no body.
    pub request_body_bytes: Option<u64>,
    /// How long the request's body was blocked by HTTP/2 flow control; absent on HTTP/1 and without a body.
    pub blocked: Option<Duration>,
    /// Body bytes that the application received.
    pub response_body_bytes: u64,
    /// How the response ended; absent if there was no connection to get one from.
    pub response_outcome: Option<ResponseOutcome>,
    /// What became of the connection; absent if there was none.
    pub idle_return: Option<IdleReturn>,
    /// The HTTP/2 stream; absent on HTTP/1.
    pub stream_id: Option<u32>,
    /// The moments worth showing, in the order in which they were told.
    pub events: Vec<Event>,
    /// Every hook that was called, in order; empty unless the client records them (`timeline(true)`).
    pub hooks: Vec<HookCall>,
    /// What was gathered beside the marks; absent unless an option asks for it: see [`facts`](crate::facts).
    pub facts: Option<Arc<Facts>>,
    /// Events, hooks and set-up phases beyond the record's limits (128, 128 and 64), counted and not kept.
    pub dropped_events: u32,
}

/// A connection as one attempt used it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionUse {
    /// The connection.
    pub info: Arc<ConnectionInfo>,
    /// Where it came from.
    pub outcome: ConnOutcome,
    /// How long it was idle; absent unless it came out of the idle pool.
    pub idle_time: Option<Duration>,
    /// From ready for use to in hand.
    pub age: Duration,
    /// Which request on it this is, from 1.
    pub request_number: u64,
    /// As this attempt got it, its address was no longer an answer for its host
    /// ([`ConnectionInfo::address_left_dns`]).
    pub address_left_dns: bool,
}

impl ConnectionUse {
    /// The server's idle timeout, where it is shorter than this client's and this is the record that says it.
    #[must_use]
    pub fn keep_alive(&self) -> Option<&KeepAlive> {
        self.info.keep_alive().filter(|_| self.request_number == 1)
    }

    /// Whether it has carried a request before.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.request_number > 1
    }

    /// Whether it came out of the idle pool.
    #[must_use]
    pub fn was_idle(&self) -> bool {
        self.idle_time.is_some()
    }
}

/// A wait for a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Wait {
    /// The pool was asked.
    pub start: Instant,
    /// The connection was in hand, or there was to be none; absent while under way.
    pub end: Option<Instant>,
    /// What was waited for; absent if it failed before that was known.
    pub cause: Option<WaitCause>,
    /// Why there is no connection.
    pub error: Option<Error>,
    /// The span that was started live for it, so that others can link to it.
    pub trace: Option<TraceRef>,
}

/// One step of a dial.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SetupPhase {
    /// Its start.
    pub start: Instant,
    /// Its end; absent while under way.
    pub end: Option<Instant>,
    /// Why it failed.
    pub error: Option<Error>,
    /// Which step.
    pub detail: SetupDetail,
}

/// What is known of one step of a dial.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SetupDetail {
    /// A lookup.
    #[non_exhaustive]
    Dns {
        /// The name.
        host: String,
        /// The answers.
        addrs: Vec<IpAddr>,
        /// Whether the answer was shared with another lookup.
        coalesced: bool,
        /// What else the resolver knows of the answer.
        facts: Option<Box<DnsFacts>>,
    },
    /// A connect to one address, or by the client's own connector.
    #[non_exhaustive]
    Connect {
        /// The address; absent with a connector.
        peer: Option<SocketAddr>,
        /// This end's address.
        local: Option<SocketAddr>,
        /// The kernel's number for the socket: [`ConnectionInfo::socket_cookie`].
        socket_cookie: Option<NonZeroU64>,
        /// Which address of the dial, from 1.
        attempt: u32,
    },
    /// The exchange with a proxy.
    #[non_exhaustive]
    Tunnel {
        /// The proxy's host.
        host: String,
        /// The proxy's port.
        port: u16,
        /// Its answer.
        status: Option<StatusCode>,
    },
    /// A TLS handshake.
    #[non_exhaustive]
    Tls {
        /// The name sent as SNI.
        server_name: Option<String>,
        /// The session.
        tls: Option<Box<TlsInfo>>,
    },
}

/// One moment of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What happened at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// `wrote-headers`: the socket accepted the head. Belongs to `request-write`.
    WroteHeaders,
    /// `first-byte`: of any response.
    FirstByte,
    /// `wait-100-continue`.
    Wait100Continue,
    /// `got-100-continue`.
    Got100Continue,
    /// `informational`: an interim response other than 100 and 101.
    Informational(StatusCode),
    /// `idle-return`: what became of the connection.
    IdleReturn(IdleReturn),
}

impl EventKind {
    /// The event's name in spans and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WroteHeaders => "wrote-headers",
            Self::FirstByte => "first-byte",
            Self::Wait100Continue => "wait-100-continue",
            Self::Got100Continue => "got-100-continue",
            Self::Informational(_) => "informational",
            Self::IdleReturn(_) => "idle-return",
        }
    }
}

/// One call of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookCall {
    /// The hook's method name.
    pub name: &'static str,
    /// When its event happened.
    pub at: Instant,
}

/// The whole of one dial.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DialRecord {
    /// Turns the moments into wall time.
    pub anchor: TimeAnchor,
    /// Its start.
    pub start: Instant,
    /// Its end.
    pub end: Instant,
    /// The host that was dialled.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its steps.
    pub setup: Vec<SetupPhase>,
    /// Why it failed.
    pub error: Option<Error>,
}

/// What became of a dial whose request had gone on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialOutcome {
    /// The idle pool took the connection.
    Pooled,
    /// A waiting request took it.
    HandedOver,
    /// Nobody wanted it.
    Discarded,
    /// There is none.
    Failed,
}

impl DialOutcome {
    /// The value of `httptrace.dial.outcome`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::HandedOver => "handed_over",
            Self::Discarded => "discarded",
            Self::Failed => "failed",
        }
    }
}

/// Somebody who reports attempts: spans, metrics, a callback.
///
/// Most of a report is made from the finished record. Two things can't wait: the request span's ids go into
/// `traceparent` before anything is sent, and a set-up that others may link to needs its ids while it runs.
pub trait Reporter: Send + Sync {
    /// Whether anything would come of an attempt now. Asked first, so that nothing is prepared for nobody.
    fn is_listening(&self) -> bool {
        true
    }

    /// An attempt begins, in the context of its caller. May add header fields. `None`: not interested in this one.
    fn started(&self, request: &mut Parts, asked: &Asked<'_>, anchor: TimeAnchor) -> Option<Arc<dyn Report>>;
}

/// What is asked for by a request whose attempt begins. Put together for the first who wants it, and for nobody else: of an
/// attempt that is not sampled, no record is made and no URL redacted.
pub struct Asked<'a> {
    make: &'a dyn Fn(&Parts) -> RequestInfo,
    made: OnceCell<Arc<RequestInfo>>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(make: &'a dyn Fn(&Parts) -> RequestInfo) -> Self {
        Self { make, made: OnceCell::new() }
    }

    /// What is known of this request, which is the one that the attempt begins with.
    pub fn info(&self, request: &Parts) -> &Arc<RequestInfo> {
        self.made.get_or_init(|| Arc::new((self.make)(request)))
    }

    /// What was put together, if anybody wanted it.
    pub(crate) fn into_made(self) -> Option<Arc<RequestInfo>> {
        self.made.into_inner()
    }
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.made.get()).finish()
    }
}

/// One reporter's view of one attempt.
pub trait Report: Send + Sync {
    /// Another attempt of the same request begins, under the same parent.
    fn again(&self, request: &mut Parts, asked: &Asked<'_>, anchor: TimeAnchor) -> Option<Arc<dyn Report>>;

    /// Whether [`finished`](Self::finished) makes anything of the record; if nobody does, none is kept.
    fn records(&self) -> bool {
        true
    }

    /// The attempt's own span.
    fn trace(&self) -> Option<TraceRef> {
        None
    }

    /// The attempt begins to dial: its `get-connection` starts now. Returns that span, for links.
    fn setup_started(&self, at: Instant) -> Option<TraceRef> {
        let _ = at;
        None
    }

    /// The attempt has to wait for a connection.
    fn waiting(&self) {}

    /// Its wait is over, whichever way. Called once for each [`waiting`](Self::waiting).
    fn waited(&self) {}

    /// It has a connection, for which it waited so long; not at all if one was at hand.
    fn got_connection(&self, used: &ConnectionUse, waited: Duration) {
        let _ = (used, waited);
    }

    /// A dial that this attempt began has ended, whatever became of the attempt. Called once for each dial.
    fn dialed(&self, dial: &DialRecord) {
        let _ = dial;
    }

    /// That dial brought a connection. Returns who is to hear of it, whoever uses it.
    fn connection_opened(&self, connection: &Arc<ConnectionInfo>) -> Option<Arc<dyn ConnectionReport>> {
        let _ = connection;
        None
    }

    /// A dial that this attempt began has ended without it. Called before the connection is given on.
    fn background_dial(&self, dial: &DialRecord) -> Option<PendingDial> {
        let _ = dial;
        None
    }

    /// The attempt is over, and its record complete: it may be kept. Called once.
    fn finished(&self, timeline: &Arc<Timeline>);
}

/// The reports of one attempt. The first two, which are spans and metrics mostly, take no allocation.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    few: [Option<Arc<dyn Report>>; 2],
    more: Vec<Arc<dyn Report>>,
}

impl Reports {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Report>> {
        self.few.iter().flatten().chain(&self.more)
    }

    /// Tells each of them.
    pub(crate) fn each(&self, tell: impl Fn(&dyn Report)) {
        for report in self.iter() {
            contained(|| tell(&**report));
        }
    }

    /// What they answer, those that do.
    pub(crate) fn answers<T>(&self, ask: impl FnMut(&(dyn Report + 'static)) -> Option<T>) -> impl Iterator<Item = T> {
        answers(self.iter(), ask)
    }

    /// Whether any of them makes something of the record.
    pub(crate) fn record(&self) -> bool {
        self.iter().any(|report| contained(|| report.records()) == Some(true))
    }
}

/// Asks each of these. One that panics has no answer, and the others are asked all the same: telemetry that breaks is no
/// reason for a request to.
pub(crate) fn answers<'a, R: ?Sized + 'a, T>(
    reporters: impl IntoIterator<Item = &'a Arc<R>>,
    mut ask: impl FnMut(&R) -> Option<T>,
) -> impl Iterator<Item = T> {
    reporters.into_iter().filter_map(move |reporter| contained(|| ask(&**reporter)).flatten())
}

/// Tells each of these; as [`answers`].
pub(crate) fn tell<R: ?Sized>(reporters: &[Arc<R>], tell: impl Fn(&R)) {
    for reporter in reporters {
        contained(|| tell(&**reporter));
    }
}

impl FromIterator<Arc<dyn Report>> for Reports {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Report>>>(reports: I) -> Self {
        let mut reports = reports.into_iter();
        Self { few: [reports.next(), reports.next()], more: reports.collect() }
    }
}

/// One reporter's view of one connection. It is opened in use, by its own dial, which returns it as a request does.
///
/// Calls may overtake each other: a request may take a connection just before the one that had it is told to have
/// returned it.
pub trait ConnectionReport: Send + Sync {
    /// A request takes it, or one of its HTTP/2 streams.
    fn taken(&self);

    /// A request that can leave it to others is done with it. This is what became of it then.
    fn returned(&self, outcome: IdleReturn);

    /// It is closed. `answered`: its requests that got the head of a response. Called once.
    fn closed(&self, reason: CloseReason, answered: u64);
}

/// A background dial's span, waiting for the pool's word.
pub struct PendingDial {
    /// The span, for links.
    pub trace: Option<TraceRef>,
    /// Ends it.
    pub finish: Box<dyn FnOnce(DialOutcome) + Send>,
}

/// Most events that a record keeps, and most hook calls.
pub(crate) const MAX_EVENTS: usize = 128;
/// Most set-up phases that a record keeps.
pub(crate) const MAX_SETUP: usize = 64;
