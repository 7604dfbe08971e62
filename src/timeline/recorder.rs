//! Folds hooks into a [`Timeline`]. Never fails, never blocks, and tells its reports once, when the attempt is over.
//!
//! An attempt is over when no connection could be had, or when its response is done **and** its connection returned.
//! What a dial tells after that is not for this record.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::*;
use crate::hooks::*;

/// Attempts of this process whose response is done and whose connection is on its way back.
static RETURNING: AtomicUsize = AtomicUsize::new(0);

/// Whether an attempt is about to be over: its response is done, and another thread is giving its connection back. Who ends
/// telemetry waits for it, or the last request of a program would be missing now and then.
#[cfg(feature = "otlp")]
pub(crate) fn are_returning() -> bool {
    RETURNING.load(Ordering::Acquire) > 0
}

/// The internal trace of one attempt.
pub(crate) struct Recorder {
    state: Mutex<State>,
    reports: Reports,
    keep_hooks: bool,
}

struct State {
    /// Shared once it is over, and not before: the record is made where it stays.
    timeline: Arc<Timeline>,
    response_done: bool,
    returned: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.response_done && self.returned
    }
}

/// What a hook may change.
struct Live<'a> {
    timeline: &'a mut Timeline,
    response_done: &'a mut bool,
    returned: &'a mut bool,
}

impl Recorder {
    pub(crate) fn new(
        anchor: TimeAnchor,
        request: Arc<RequestInfo>,
        reports: impl IntoIterator<Item = Arc<dyn Report>>,
        keep_hooks: bool,
    ) -> Self {
        let reports: Reports = reports.into_iter().collect();
        let trace = reports.answers(|report| report.trace()).next();
        let timeline = Arc::new(Timeline::new(anchor, request, trace));
        Self { state: Mutex::new(State { timeline, response_done: false, returned: false }), reports, keep_hooks }
    }

    /// The span that `get-connection` was started with.
    pub(crate) fn setup_trace(&self, trace: Option<TraceRef>) {
        self.record("", None, |live| {
            if let Some(wait) = &mut live.timeline.wait {
                wait.trace = trace;
            }
        });
    }

    /// The captured fields of the request's header, as far as is known now.
    pub(crate) fn request_headers(&self, captured: Option<Box<ShownHeaders>>) {
        self.record("", None, |live| live.timeline.request_headers = captured);
    }

    /// The span that `get-connection` was started with, if it was.
    pub(crate) fn setup(&self) -> Option<TraceRef> {
        self.live(|timeline| timeline.wait.as_ref().and_then(|wait| wait.trace))
    }

    /// Since when a connection is waited for.
    pub(crate) fn wait_start(&self) -> Option<Instant> {
        self.live(|timeline| timeline.wait.as_ref().map(|wait| wait.start))
    }

    fn live<T>(&self, read: impl FnOnce(&Timeline) -> Option<T>) -> Option<T> {
        let state = self.lock();
        if state.is_over() { None } else { read(&state.timeline) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can't be: nothing of a user's runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records one hook, unless the attempt is over; ends the attempt if this was its last.
    fn record(&self, hook: &'static str, at: Option<Instant>, fold: impl FnOnce(Live<'_>)) {
        let mut guard = self.lock();
        if guard.is_over() {
            return;
        }
        let state = &mut *guard;
        let timeline = Arc::get_mut(&mut state.timeline).expect("a record is not shared before it is over");
        if let (true, Some(at)) = (self.keep_hooks, at) {
            timeline.called(hook, at);
        }
        let was_done = state.response_done;
        let (response_done, returned) = (&mut state.response_done, &mut state.returned);
        fold(Live { timeline, response_done, returned });
        if !state.is_over() {
            if state.response_done && !was_done {
                RETURNING.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        if let Some(timeline) = Arc::get_mut(&mut state.timeline) {
            timeline.close();
        }
        let timeline = Arc::clone(&state.timeline);
        drop(guard);
        self.reports.each(|report| report.finished(&timeline));
        if was_done {
            RETURNING.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Timeline {
    fn new(anchor: TimeAnchor, request: Arc<RequestInfo>, trace: Option<TraceRef>) -> Self {
        Self {
            anchor,
            start: anchor.instant(),
            end: None,
            response_end: None,
            request,
            trace,
            status: None,
            version: None,
            request_headers: None,
            response_headers: None,
            error: None,
            connection: None,
            wait: None,
            setup: Vec::new(),
            write_start: None,
            wrote_headers: None,
            wrote_request: None,
            write_error: None,
            blocked: None,
            first_byte: None,
            final_first_byte: None,
            request_body_bytes: None,
            response_body_bytes: 0,
            response_outcome: None,
            idle_return: None,
            stream_id: None,
            events: Vec::new(),
            hooks: Vec::new(),
            facts: None,
            dropped_events: 0,
        }
    }

    fn event(&mut self, at: Instant, kind: EventKind) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(Event { at, kind });
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    fn called(&mut self, name: &'static str, at: Instant) {
        if self.hooks.len() < MAX_EVENTS {
            self.hooks.push(HookCall { name, at });
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    fn step(&mut self, start: Instant, detail: SetupDetail) {
        if self.setup.len() < MAX_SETUP {
            if self.setup.is_empty() {
                // A lookup and a connect, or one of them with TLS; many requests at once may each have a dial of their own.
                self.setup.reserve_exact(2);
            }
            self.setup.push(SetupPhase { start, end: None, error: None, detail });
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    /// What was told of the wire is void: rather absent than wrong.
    fn lose_detail(&mut self) {
        let known = self.events.len();
        self.events.retain(|event| matches!(event.kind, EventKind::IdleReturn(_)));
        let lost = u32::try_from(known - self.events.len()).unwrap_or(u32::MAX);
        self.dropped_events = self.dropped_events.saturating_add(lost.max(1));
        (self.write_start, self.wrote_headers, self.wrote_request, self.write_error) = (None, None, None, None);
        (self.first_byte, self.final_first_byte, self.blocked) = (None, None, None);
        if let Some(facts) = &self.facts {
            let known = Facts::clone(facts);
            self.facts = Some(Arc::new(Facts { reading: None, runtime_delay: None, ..known }));
        }
    }

    /// The open step that `which` accepts, ended.
    fn ended(&mut self, at: Instant, error: Option<&Error>, mut which: impl FnMut(&mut SetupDetail) -> bool) {
        let open = self
            .setup
            .iter_mut()
            .rev()
            .filter(|step| step.end.is_none())
            .find_map(|step| which(&mut step.detail).then_some(step));
        if let Some(step) = open {
            step.end = Some(at);
            step.error = error.cloned();
        }
    }

    /// Ends what is still open: a dial that goes on without its request ended for it when it gave up.
    fn close(&mut self) {
        let end = self.response_end.unwrap_or(self.start);
        for step in self.setup.iter_mut().filter(|step| step.end.is_none()) {
            step.end = Some(end);
            // The phase that was open when the request gave up carries the reason.
            step.error = self.error.as_ref().map(|error| Error::new(error.kind(), step.phase()));
        }
        if let (Some(error), Some(open)) = (&self.error, self.setup.last())
            && error.phase() == Phase::GetConnection
            && open.error.as_ref().is_some_and(|inner| inner.kind() == error.kind())
        {
            self.error = open.error.clone();
        }
        let last_event = self.events.iter().map(|event| event.at).max();
        self.end = Some(last_event.map_or(end, |at| at.max(end)));
    }
}

use crate::phase::Phase;

fn setup_hook(timeline: &mut Timeline, fold: impl FnOnce(&mut Timeline)) {
    // Once a connection is in hand, a dial that is still under way belongs to whoever gets its connection.
    if timeline.connection.is_none() {
        fold(timeline);
    }
}

impl ClientTrace for Recorder {
    fn get_conn(&self, info: &GetConnInfo<'_>) {
        self.record("get_conn", Some(info.at), |live| {
            live.timeline.wait = Some(Wait { start: info.at, end: None, cause: None, error: None, trace: None });
        });
    }

    fn got_conn(&self, info: &GotConnInfo<'_>) {
        let used = ConnectionUse {
            info: Arc::clone(info.connection),
            outcome: info.outcome,
            idle_time: info.idle_time,
            age: info.age,
            request_number: info.request_number,
            address_left_dns: info.connection.address_left_dns(),
        };
        let mut waited = Duration::ZERO;
        self.record("got_conn", Some(info.at), |live| {
            let timeline = live.timeline;
            match (&mut timeline.wait, info.wait) {
                (Some(wait), Some(cause)) => {
                    (wait.end, wait.cause) = (Some(info.at), Some(cause));
                    waited = info.at.saturating_duration_since(wait.start);
                }
                // One was at hand: there was no wait.
                (wait, _) => *wait = None,
            }
            if info.outcome != ConnOutcome::New {
                timeline.setup.clear();
            }
            timeline.connection = Some(used.clone());
        });
        self.reports.each(|report| report.got_connection(&used, waited));
    }

    fn get_conn_failed(&self, info: &GetConnFailedInfo<'_>) {
        self.record("get_conn_failed", Some(info.at), |live| {
            if let Some(wait) = &mut live.timeline.wait {
                wait.end = Some(info.at);
                wait.cause = info.wait;
                wait.error = Some(info.error.clone());
            }
            live.timeline.error = Some(info.error.clone());
            live.timeline.response_end = Some(info.at);
            (*live.response_done, *live.returned) = (true, true);
        });
    }

    fn put_idle_conn(&self, info: &PutIdleConnInfo) {
        self.record("put_idle_conn", Some(info.at), |live| {
            live.timeline.idle_return = Some(info.outcome);
            live.timeline.event(info.at, EventKind::IdleReturn(info.outcome));
            *live.returned = true;
        });
    }

    fn got_first_response_byte(&self, info: &GotFirstResponseByteInfo) {
        self.record("got_first_response_byte", Some(info.at), |live| {
            live.timeline.first_byte = Some(info.at);
            live.timeline.event(info.at, EventKind::FirstByte);
        });
    }

    fn got_100_continue(&self, info: &Got100ContinueInfo) {
        self.record("got_100_continue", Some(info.at), |live| live.timeline.event(info.at, EventKind::Got100Continue));
    }

    fn got_1xx_response(&self, info: &Got1xxResponseInfo<'_>) {
        self.record("got_1xx_response", Some(info.at), |live| {
            if info.status != StatusCode::CONTINUE {
                live.timeline.event(info.at, EventKind::Informational(info.status));
            }
        });
    }

    fn dns_start(&self, info: &DnsStartInfo<'_>) {
        self.record("dns_start", Some(info.at), |live| {
            setup_hook(live.timeline, |timeline| {
                let host = info.host.to_owned();
                timeline.step(info.at, SetupDetail::Dns { host, addrs: Vec::new(), coalesced: false, facts: None });
            });
        });
    }

    fn dns_done(&self, info: &DnsDoneInfo<'_>) {
        self.record("dns_done", Some(info.at), |live| {
            live.timeline.ended(info.at, info.error, |detail| match detail {
                SetupDetail::Dns { addrs, coalesced, facts, .. } => {
                    (*addrs, *coalesced) = (info.addrs.to_vec(), info.coalesced);
                    *facts = info.facts.cloned().map(Box::new);
                    true
                }
                SetupDetail::Connect { .. } | SetupDetail::Tunnel { .. } | SetupDetail::Tls { .. } => false,
            });
        });
    }

    fn connect_start(&self, info: &ConnectStartInfo) {
        self.record("connect_start", Some(info.at), |live| {
            setup_hook(live.timeline, |timeline| {
                let detail =
                    SetupDetail::Connect { peer: info.addr, local: None, socket_cookie: None, attempt: info.attempt };
                timeline.step(info.at, detail);
            });
        });
    }

    fn connect_done(&self, info: &ConnectDoneInfo<'_>) {
        self.record("connect_done", Some(info.at), |live| {
            live.timeline.ended(info.at, info.error, |detail| match detail {
                SetupDetail::Connect { local, socket_cookie, attempt, .. } if *attempt == info.attempt => {
                    (*local, *socket_cookie) = (info.local, info.socket_cookie);
                    true
                }
                _ => false,
            });
        });
    }

    fn tunnel_start(&self, info: &TunnelStartInfo<'_>) {
        self.record("tunnel_start", Some(info.at), |live| {
            setup_hook(live.timeline, |timeline| {
                let host = info.host.to_owned();
                timeline.step(info.at, SetupDetail::Tunnel { host, port: info.port, status: None });
            });
        });
    }

    fn tunnel_done(&self, info: &TunnelDoneInfo<'_>) {
        self.record("tunnel_done", Some(info.at), |live| {
            live.timeline.ended(info.at, info.error, |detail| match detail {
                SetupDetail::Tunnel { status, .. } => {
                    *status = info.status;
                    true
                }
                SetupDetail::Dns { .. } | SetupDetail::Connect { .. } | SetupDetail::Tls { .. } => false,
            });
        });
    }

    fn tls_handshake_start(&self, info: &TlsHandshakeStartInfo<'_>) {
        self.record("tls_handshake_start", Some(info.at), |live| {
            setup_hook(live.timeline, |timeline| {
                let server_name = info.server_name.map(str::to_owned);
                timeline.step(info.at, SetupDetail::Tls { server_name, tls: None });
            });
        });
    }

    fn tls_handshake_done(&self, info: &TlsHandshakeDoneInfo<'_>) {
        self.record("tls_handshake_done", Some(info.at), |live| {
            live.timeline.ended(info.at, info.error, |detail| match detail {
                SetupDetail::Tls { tls, .. } => {
                    *tls = info.tls.cloned().map(Box::new);
                    true
                }
                SetupDetail::Dns { .. } | SetupDetail::Connect { .. } | SetupDetail::Tunnel { .. } => false,
            });
        });
    }

    fn wrote_header_field(&self, info: &WroteHeaderFieldInfo<'_>) {
        self.record("wrote_header_field", Some(info.at), |_| {});
    }

    fn wrote_headers(&self, info: &WroteHeadersInfo) {
        self.record("wrote_headers", Some(info.at), |live| {
            live.timeline.write_start = Some(info.started);
            live.timeline.wrote_headers = Some(info.at);
            live.timeline.event(info.at, EventKind::WroteHeaders);
        });
    }

    fn wait_100_continue(&self, info: &Wait100ContinueInfo) {
        self.record("wait_100_continue", Some(info.at), |live| {
            live.timeline.event(info.at, EventKind::Wait100Continue);
        });
    }

    fn wrote_request(&self, info: &WroteRequestInfo<'_>) {
        self.record("wrote_request", Some(info.at), |live| {
            live.timeline.write_start = Some(info.started);
            live.timeline.request_body_bytes = info.body_bytes;
            live.timeline.blocked = info.blocked;
            match info.error {
                None => live.timeline.wrote_request = Some(info.at),
                Some(error) => live.timeline.write_error = Some((info.at, error.clone())),
            }
        });
    }

    fn response_done(&self, info: &ResponseDoneInfo<'_>) {
        self.record("response_done", Some(info.at), |live| {
            let timeline = live.timeline;
            timeline.response_end = Some(info.at);
            timeline.response_outcome = Some(info.outcome);
            timeline.status = info.status;
            timeline.version = info.version;
            timeline.response_headers = info.headers.map(|captured| Box::new(captured.clone()));
            timeline.final_first_byte = info.first_byte;
            timeline.response_body_bytes = info.body_bytes;
            timeline.stream_id = info.stream_id;
            timeline.error = info.error.cloned();
            timeline.facts = info.facts.cloned();
            if info.detail_lost {
                timeline.lose_detail();
            }
            *live.response_done = true;
        });
    }

    fn retry(&self, info: &RetryInfo<'_>) {
        self.record("retry", Some(info.at), |_| {});
    }
}

/// A request's [`Timeline`] in its response's extensions.
///
/// The record is complete once the response's body has ended (or was dropped) and the connection is back.
#[derive(Clone)]
pub struct TimelineHandle(pub(crate) Arc<Recorder>);

impl TimelineHandle {
    /// The record, or `None` while the attempt is under way.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Timeline>> {
        let state = self.0.lock();
        state.is_over().then(|| Arc::clone(&state.timeline))
    }
}

impl fmt::Debug for TimelineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimelineHandle").field(&self.get()).finish()
    }
}

/// The internal trace of one dial: its own record, whatever becomes of the request that began it.
pub(crate) struct DialRecorder {
    recorder: Recorder,
}

impl DialRecorder {
    pub(crate) fn new(request: &Arc<RequestInfo>) -> Self {
        Self { recorder: Recorder::new(TimeAnchor::new(), Arc::clone(request), [], false) }
    }

    /// The record, once the dial has ended.
    pub(crate) fn record(&self, end: Instant, error: Option<Error>) -> Option<DialRecord> {
        let mut state = self.recorder.lock();
        let timeline = Arc::get_mut(&mut state.timeline)?;
        Some(DialRecord {
            anchor: timeline.anchor,
            start: timeline.start,
            end,
            host: Arc::clone(&timeline.request.host),
            port: timeline.request.port,
            setup: std::mem::take(&mut timeline.setup),
            error,
        })
    }
}

macro_rules! setup_only {
    ($($hook:ident($info:ty);)+) => {
        impl ClientTrace for DialRecorder {
            $(fn $hook(&self, info: &$info) {
                self.recorder.$hook(info);
            })+
        }
    };
}

setup_only! {
    dns_start(DnsStartInfo<'_>);
    dns_done(DnsDoneInfo<'_>);
    connect_start(ConnectStartInfo);
    connect_done(ConnectDoneInfo<'_>);
    tunnel_start(TunnelStartInfo<'_>);
    tunnel_done(TunnelDoneInfo<'_>);
    tls_handshake_start(TlsHandshakeStartInfo<'_>);
    tls_handshake_done(TlsHandshakeDoneInfo<'_>);
}
