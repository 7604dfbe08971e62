//! One attempt of a call: who hears of it, and the hooks that it calls.

use std::sync::{Arc, atomic::Ordering};

use http::{HeaderMap, request::Parts};

use super::{Inner, Resends};
use crate::{
    capture::Listed,
    clock::TimeAnchor,
    connection::TraceRef,
    exchange::{Exchange, Fields, Shared, Terms},
    hooks::{
        self, ClientTrace, RetryReason, Stack, contained,
        emit::{GetConn, Hooks},
    },
    pool::PoolKey,
    timeline::{Asked, Recorder, Reports, RequestInfo, Tag, answers},
};

/// One attempt of a call.
pub(super) struct Attempt {
    pub(super) hooks: Hooks,
    /// Whether any reporter was asked, so that the header may have a `traceparent`.
    pub(super) reported: bool,
    /// Absent if nobody wanted it: nothing of this attempt is recorded then.
    pub(super) info: Option<Arc<RequestInfo>>,
    pub(super) recorder: Option<Arc<Recorder>>,
    pub(super) reports: Reports,
    pub(super) get_conn: Option<GetConn>,
}

impl Attempt {
    /// Asks who wants to hear of it, makes the record if anybody does, and calls `get_conn`.
    /// `before`: the attempt that failed, and why this one follows.
    pub(super) fn start(
        inner: &Inner,
        key: &PoolKey,
        head: &mut Parts,
        attempt: u32,
        before: Option<(&Self, RetryReason)>,
    ) -> Self {
        let user = match (hooks::trace_in(&head.extensions), &inner.trace) {
            (Some(request), Some(client)) => Some(Arc::new(Stack::new([request, Arc::clone(client)])) as Arc<_>),
            (request, client) => request.or_else(|| client.clone()),
        };
        let wanted = inner.timeline
            || inner.reporters.iter().any(|reporter| contained(|| reporter.is_listening()) == Some(true));
        let mut this = Self {
            hooks: Hooks::default(),
            reported: wanted,
            info: None,
            recorder: None,
            reports: Reports::default(),
            get_conn: None,
        };
        if !wanted && user.is_none() {
            return this;
        }
        let anchor = TimeAnchor::new();
        if wanted {
            let resends = head.extensions.get::<Resends>().map(|resends| resends.0.fetch_add(1, Ordering::Relaxed));
            let make = |head: &Parts| RequestInfo {
                method: head.method.clone(),
                url: inner.redaction.url(&head.uri),
                host: inner.host(key.host()),
                port: key.port,
                scheme: key.scheme(),
                attempt,
                resend_count: resends.unwrap_or(attempt - 1),
                retry_reason: before.map(|(_, reason)| reason),
                tag: head.extensions.get::<Tag>().copied(),
            };
            let asked = Asked::new(&make);
            this.reports = match before {
                Some((before, _)) => before.reports.answers(|report| report.again(head, &asked, anchor)).collect(),
                None => answers(&inner.reporters, |reporter| reporter.started(head, &asked, anchor)).collect(),
            };
            if inner.timeline || this.reports.record() {
                let reports = this.reports.iter().cloned();
                let info = Arc::clone(asked.info(head));
                this.recorder = Some(Arc::new(Recorder::new(anchor, info, reports, inner.timeline)));
            }
            this.info = asked.into_made();
            // An attempt that gets no connection has them too.
            this.capture(&inner.capture.request, &head.headers);
        }
        this.hooks = Hooks::new(this.recorder.clone().map(|recorder| recorder as Arc<dyn ClientTrace>), user);
        if this.hooks.installed() {
            this.get_conn = Some(this.hooks.get_conn(anchor.instant(), key.host(), key.port));
        }
        this
    }

    /// Records the listed fields of the request's header.
    pub(super) fn capture(&self, listed: &Listed, headers: &HeaderMap) {
        if let (false, Some(recorder)) = (listed.is_empty(), &self.recorder) {
            recorder.request_headers(listed.of(headers));
        }
    }

    /// The attempt begins to dial: its wait is told live, so that others can link to it.
    pub(super) fn setup_started(&self) -> Option<TraceRef> {
        let recorder = self.recorder.as_ref()?;
        if let Some(trace) = recorder.setup() {
            return Some(trace);
        }
        let start = recorder.wait_start()?;
        let trace = self.reports.answers(|report| report.setup_started(start)).next();
        recorder.setup_trace(trace);
        trace
    }

    /// The attempt has to wait, until what this returns is dropped.
    pub(super) fn waiting(&self) -> Waits {
        self.reports.each(|report| report.waiting());
        Waits(self.reports.clone())
    }

    pub(super) fn exchange(&self, head: &Parts, connection: &Shared, terms: Terms) -> Arc<Exchange> {
        let fields = self.hooks.wants_fields().then(|| {
            let (method, uri, headers) = (head.method.clone(), head.uri.clone(), head.headers.clone());
            Box::new(Fields { protocol: connection.info.protocol, method, uri, headers })
        });
        connection.exchange(self.hooks.clone(), fields, terms)
    }
}

/// Owes the reports the end of a wait.
pub(super) struct Waits(Reports);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.each(|report| report.waited());
    }
}

/// A host as records name it: one server has one name, however the URL spells it.
pub(super) fn lower_case(host: &str) -> Arc<str> {
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}
