//! Scripted attempts for the tests of views: hooks are called as the client would, with times in milliseconds.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, request::Parts};

use crate::{
    clock::TimeAnchor,
    connection::{ConnectionInfo, LeafCertificate, Protocol, TlsInfo, TraceRef},
    error::Error,
    hooks::*,
    redact::Rules,
    timeline::{Asked, Recorder, Report, Reporter, RequestInfo},
};

/// One attempt that is being played.
pub(crate) struct Attempt {
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) reports: Vec<Arc<dyn Report>>,
    pub(crate) headers: HeaderMap,
    recorder: Recorder,
    start: Instant,
}

/// What a request asks for; `send` starts its first attempt.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

pub(crate) fn get() -> Ask {
    Ask { method: Method::GET, headers: HeaderMap::new() }
}

impl Ask {
    fn parts(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.headers) = (self.method.clone(), self.headers.clone());
        parts
    }

    pub(crate) fn info(&self, attempt: u32) -> RequestInfo {
        RequestInfo {
            method: self.method.clone(),
            url: Rules::default().url(&Uri::from_static("https://example.com/a")),
            host: "example.com".into(),
            port: 443,
            scheme: "https",
            attempt,
            resend_count: attempt - 1,
            retry_reason: (attempt > 1).then_some(RetryReason::StaleConnection),
            tag: None,
        }
    }

    pub(crate) fn send(self, reporters: &[&dyn Reporter]) -> Attempt {
        let (mut parts, anchor) = (self.parts(), TimeAnchor::new());
        let make = |_: &Parts| self.info(1);
        let asked = Asked::new(&make);
        let reports = reporters.iter().filter_map(|reporter| reporter.started(&mut parts, &asked, anchor)).collect();
        Attempt::new(anchor, Arc::clone(asked.info(&parts)), reports, parts.headers)
    }
}

impl Attempt {
    fn new(anchor: TimeAnchor, info: Arc<RequestInfo>, reports: Vec<Arc<dyn Report>>, headers: HeaderMap) -> Self {
        let recorder = Recorder::new(anchor, Arc::clone(&info), reports.clone(), false);
        Self { info, reports, headers, recorder, start: anchor.instant() }
    }

    /// The next attempt of the same request.
    pub(crate) fn again(&self) -> Self {
        let ask = Ask { method: self.info.method.clone(), headers: self.headers.clone() };
        let (mut parts, anchor) = (ask.parts(), TimeAnchor::new());
        let make = |_: &Parts| ask.info(self.info.attempt + 1);
        let asked = Asked::new(&make);
        let reports = self.reports.iter().filter_map(|report| report.again(&mut parts, &asked, anchor)).collect();
        Self::new(anchor, Arc::clone(asked.info(&parts)), reports, parts.headers)
    }

    /// For hooks in an order that is no client's.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    pub(crate) fn get_conn(&self) -> &Self {
        self.recorder.get_conn(&GetConnInfo { at: self.start, host: "example.com", port: 443 });
        self
    }

    /// Its own dial begins, live.
    pub(crate) fn dials(&self) -> Option<TraceRef> {
        let trace = self.reports.iter().find_map(|report| report.setup_started(self.start));
        self.recorder.setup_trace(trace);
        trace
    }

    pub(crate) fn dns(&self, error: Option<&Error>) -> &Self {
        let addrs = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let addrs = if error.is_none() { &addrs[..] } else { &[] };
        self.recorder.dns_start(&DnsStartInfo { at: self.at(1), host: "example.com" });
        self.recorder.dns_done(&DnsDoneInfo { at: self.at(2), addrs, error, coalesced: false, facts: None });
        self
    }

    pub(crate) fn connect(&self, attempt: u32, error: Option<&Error>) -> &Self {
        let addr = Some(peer());
        self.recorder.connect_start(&ConnectStartInfo { at: self.at(3), addr, attempt });
        self.recorder.connect_done(&ConnectDoneInfo {
            at: self.at(4),
            addr,
            attempt,
            local: None,
            socket_cookie: None,
            error,
        });
        self
    }

    pub(crate) fn tls(&self) -> &Self {
        let (at, tls) = (self.at(6), session());
        self.recorder.tls_handshake_start(&TlsHandshakeStartInfo { at: self.at(5), server_name: Some("example.com") });
        self.recorder.tls_handshake_done(&TlsHandshakeDoneInfo { at, tls: Some(&tls), error: None });
        self
    }

    pub(crate) fn got_conn(&self, outcome: ConnOutcome, wait: Option<WaitCause>, setup: Option<TraceRef>) -> &Self {
        let new = outcome == ConnOutcome::New;
        let connection = &Arc::new(ConnectionInfo {
            id: 7,
            local: None,
            peer: Some(peer()),
            socket_cookie: None,
            protocol: Protocol::Http1,
            tls: None,
            proxy: None,
            ready: self.start,
            setup,
            keep_alive: std::sync::OnceLock::new(),
            peer_text: std::sync::OnceLock::new(),
            forwards: false,
            left_dns: Default::default(),
        });
        self.recorder.got_conn(&GotConnInfo {
            at: self.at(7),
            connection,
            outcome,
            idle_time: (outcome == ConnOutcome::Idle).then(|| Duration::from_millis(1500)),
            age: Duration::from_secs(if new { 0 } else { 2 }),
            request_number: if new { 1 } else { 2 },
            wait,
        });
        self
    }

    pub(crate) fn no_conn(&self, error: &Error, wait: Option<WaitCause>) -> &Self {
        self.recorder.get_conn_failed(&GetConnFailedInfo { at: self.at(9), error, wait });
        self
    }

    pub(crate) fn writes(&self) -> &Self {
        let started = self.at(8);
        self.recorder.wrote_headers(&WroteHeadersInfo { at: self.at(9), started });
        let info = WroteRequestInfo { at: self.at(10), started, body_bytes: Some(3), blocked: None, error: None };
        self.recorder.wrote_request(&info);
        self
    }

    pub(crate) fn responds(&self, status: Option<u16>, outcome: ResponseOutcome, error: Option<&Error>) -> &Self {
        if status.is_some() {
            self.recorder.got_first_response_byte(&GotFirstResponseByteInfo { at: self.at(20) });
        }
        self.recorder.response_done(&ResponseDoneInfo {
            at: self.at(30),
            outcome,
            status: status.map(|status| StatusCode::from_u16(status).expect("a status")),
            version: status.map(|_| Version::HTTP_11),
            headers: None,
            first_byte: status.map(|_| self.at(20)),
            body_bytes: 5,
            stream_id: None,
            detail_lost: false,
            facts: None,
            error,
        });
        self
    }

    pub(crate) fn returns(&self, outcome: IdleReturn) {
        self.recorder.put_idle_conn(&PutIdleConnInfo { at: self.at(32), outcome });
    }

    /// From the wire to the pool, all well.
    pub(crate) fn completes(&self, status: u16) {
        self.writes().responds(Some(status), ResponseOutcome::Complete, None).returns(IdleReturn::Pooled);
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8443))
}

fn session() -> TlsInfo {
    TlsInfo {
        version: "1.3",
        cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
        alpn: Some("http/1.1".to_owned()),
        resumed: false,
        server_name: Some("example.com".into()),
        peer_chain: Arc::new([]),
        leaf: Some(LeafCertificate { subject: "CN=example.com".into(), issuer: "CN=ca".into(), not_after: 0 }),
    }
}
