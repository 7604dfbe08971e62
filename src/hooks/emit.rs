//! The only place that calls hooks, and the one mechanism that pairs them.
//!
//! A start returns a guard; the guard's ending, or else its drop, sends the done. Nothing else can send one, so a done
//! can't be missing or doubled. `None` inside [`Hooks`] costs one check: no clock is read, nothing is built.

use std::{net::IpAddr, net::SocketAddr, sync::Arc, time::Instant};

use http::StatusCode;

use super::{fanout::contained, *};
use crate::{clock, connection::TlsInfo, error::Error, phase::Phase, transport::LocalEnd};

/// The traces of one attempt: the record's own, and the user's.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    recorder: Option<Arc<dyn ClientTrace>>,
    user: Option<Arc<dyn ClientTrace>>,
}

impl Hooks {
    pub(crate) fn new(recorder: Option<Arc<dyn ClientTrace>>, user: Option<Arc<dyn ClientTrace>>) -> Self {
        Self { recorder, user }
    }

    /// Hooks without a user's trace beside them: the recorder alone, which takes no header fields.
    pub(crate) fn wants_fields(&self) -> bool {
        self.user.is_some()
    }

    pub(crate) fn installed(&self) -> bool {
        self.recorder.is_some() || self.user.is_some()
    }

    /// These hooks, and a dial's own record, which hears the set-up as well.
    pub(crate) fn with_recorder(&self, dial: Arc<dyn ClientTrace>) -> Self {
        let user: Vec<_> = self.recorder.iter().chain(&self.user).cloned().collect();
        let user = (!user.is_empty()).then(|| Arc::new(Stack::new(user)) as Arc<dyn ClientTrace>);
        Self { recorder: Some(dial), user }
    }

    /// The moment of an event, read only if somebody listens.
    pub(crate) fn now(&self) -> Option<Instant> {
        self.installed().then(clock::now)
    }

    /// Calls the recorder, then the user's trace; a panic of either stays inside.
    pub(crate) fn emit(&self, hook: impl Fn(&dyn ClientTrace)) {
        for trace in self.recorder.iter().chain(&self.user) {
            contained(|| hook(&**trace));
        }
    }

    pub(crate) fn get_conn(&self, at: Instant, host: &str, port: u16) -> GetConn {
        self.emit(|t| t.get_conn(&GetConnInfo { at, host, port }));
        GetConn { owed: Owed(Some(self.clone())), wait: None }
    }

    /// A `get_conn` that nobody listens to.
    pub(crate) fn untold(self) -> GetConn {
        GetConn { owed: Owed(Some(self)), wait: None }
    }

    pub(crate) fn dns(&self, host: &str) -> Dns {
        if let Some(at) = self.now() {
            self.emit(|t| t.dns_start(&DnsStartInfo { at, host }));
        }
        Dns { owed: Owed(Some(self.clone())) }
    }

    /// `addr`: absent where a user's connector connects.
    pub(crate) fn connect(&self, addr: impl Into<Option<SocketAddr>>, attempt: u32) -> Connect {
        let addr = addr.into();
        if let Some(at) = self.now() {
            self.emit(|t| t.connect_start(&ConnectStartInfo { at, addr, attempt }));
        }
        Connect { owed: Owed(Some(self.clone())), addr, attempt }
    }

    /// A proxy is asked for a tunnel.
    pub(crate) fn tunnel(&self, host: &str, port: u16) -> Tunnel {
        if let Some(at) = self.now() {
            self.emit(|t| t.tunnel_start(&TunnelStartInfo { at, host, port }));
        }
        Tunnel { owed: Owed(Some(self.clone())) }
    }

    pub(crate) fn tls(&self, server_name: Option<&str>) -> Tls {
        if let Some(at) = self.now() {
            self.emit(|t| t.tls_handshake_start(&TlsHandshakeStartInfo { at, server_name }));
        }
        Tls { owed: Owed(Some(self.clone())) }
    }
}

/// A done that is still owed. Taken once: by the guard's ending or by its drop.
struct Owed(Option<Hooks>);

impl Owed {
    fn pay(&mut self, hook: impl Fn(&dyn ClientTrace, Instant)) {
        let now = self.0.as_ref().and_then(Hooks::now);
        self.pay_at(now, hook);
    }

    /// For what ended a moment ago. `None`: nobody listens.
    fn pay_at(&mut self, at: Option<Instant>, hook: impl Fn(&dyn ClientTrace, Instant)) {
        if let Some(hooks) = self.0.take()
            && let Some(at) = at
        {
            hooks.emit(|t| hook(t, at));
        }
    }
}

/// Between `get_conn` and `got_conn` or `get_conn_failed`.
#[must_use]
pub(crate) struct GetConn {
    owed: Owed,
    /// What is being waited for, told with the failure.
    pub(crate) wait: Option<WaitCause>,
}

impl GetConn {
    /// A connection is in hand: from here on, a response and a return are owed.
    pub(crate) fn got(mut self, facts: impl FnOnce(Instant) -> GotConnFacts) -> (Response, Return) {
        let hooks = self.owed.0.take().unwrap_or_default();
        if let Some(at) = hooks.now() {
            let GotConnFacts { connection, outcome, idle_time, age, request_number, wait } = facts(at);
            let info = GotConnInfo { at, connection: &connection, outcome, idle_time, age, request_number, wait };
            hooks.emit(|t| t.got_conn(&info));
        }
        (Response { owed: Owed(Some(hooks.clone())) }, Return { owed: Owed(Some(hooks)) })
    }

    pub(crate) fn failed(mut self, error: &Error) {
        self.pay(error);
    }

    fn pay(&mut self, error: &Error) {
        let wait = self.wait;
        self.owed.pay(|t, at| t.get_conn_failed(&GetConnFailedInfo { at, error, wait }));
    }
}

impl Drop for GetConn {
    fn drop(&mut self) {
        if self.owed.0.is_some() {
            self.pay(&Error::canceled(Phase::GetConnection));
        }
    }
}

/// What `got_conn` is told, owned.
pub(crate) struct GotConnFacts {
    pub(crate) connection: Arc<crate::connection::ConnectionInfo>,
    pub(crate) outcome: ConnOutcome,
    pub(crate) idle_time: Option<std::time::Duration>,
    pub(crate) age: std::time::Duration,
    pub(crate) request_number: u64,
    pub(crate) wait: Option<WaitCause>,
}

/// Owes `response_done`.
#[must_use]
pub(crate) struct Response {
    owed: Owed,
}

impl Response {
    pub(crate) fn done(mut self, info: &ResponseDoneInfo<'_>) {
        if let Some(hooks) = self.owed.0.take() {
            hooks.emit(|t| t.response_done(info));
        }
    }
}

impl Drop for Response {
    /// The last resort (a runtime that dies); the owners end it themselves.
    fn drop(&mut self) {
        // Also where nobody listens: an error would be made for nothing, and it allocates.
        if !self.owed.0.as_ref().is_some_and(Hooks::installed) {
            return;
        }
        let error = Error::canceled(Phase::Request);
        self.owed.pay(|t, at| {
            t.response_done(&ResponseDoneInfo {
                at,
                outcome: ResponseOutcome::Failed,
                status: None,
                version: None,
                headers: None,
                first_byte: None,
                body_bytes: 0,
                stream_id: None,
                detail_lost: false,
                facts: None,
                error: Some(&error),
            });
        });
    }
}

/// Owes `put_idle_conn`.
#[must_use]
pub(crate) struct Return {
    owed: Owed,
}

impl Return {
    pub(crate) fn done(mut self, outcome: IdleReturn) {
        self.owed.pay(|t, at| t.put_idle_conn(&PutIdleConnInfo { at, outcome }));
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        let outcome = IdleReturn::Closed(CloseReason::Canceled);
        self.owed.pay(|t, at| t.put_idle_conn(&PutIdleConnInfo { at, outcome }));
    }
}

/// Between `dns_start` and `dns_done`.
#[must_use]
pub(crate) struct Dns {
    owed: Owed,
}

impl Dns {
    /// `coalesced`: others got the same answer.
    pub(crate) fn done(mut self, at: Option<Instant>, result: Answered<'_>, coalesced: bool) {
        self.pay(at, result, coalesced);
    }

    fn pay(&mut self, at: Option<Instant>, result: Answered<'_>, coalesced: bool) {
        let error = result.err();
        let (addrs, facts) = result.unwrap_or_default();
        self.owed.pay_at(at, |t, at| t.dns_done(&DnsDoneInfo { at, addrs, error, coalesced, facts }));
    }
}

/// The addresses, and what else is known of them.
pub(crate) type Answered<'a> = Result<(&'a [IpAddr], Option<&'a DnsFacts>), &'a Error>;

impl Drop for Dns {
    fn drop(&mut self) {
        if let Some(hooks) = &self.owed.0 {
            self.pay(hooks.now(), Err(&Error::canceled(Phase::Dns)), false);
        }
    }
}

/// Between `connect_start` and `connect_done`.
#[must_use]
pub(crate) struct Connect {
    owed: Owed,
    addr: Option<SocketAddr>,
    attempt: u32,
}

impl Connect {
    /// `at`: when the handshake ended.
    pub(crate) fn done(mut self, at: Option<Instant>, result: Result<LocalEnd, &Error>) {
        self.pay(at, result);
    }

    fn pay(&mut self, at: Option<Instant>, result: Result<LocalEnd, &Error>) {
        let (addr, attempt, error) = (self.addr, self.attempt, result.as_ref().err().copied());
        let LocalEnd { addr: local, cookie: socket_cookie } = result.unwrap_or_default();
        self.owed.pay_at(at, |t, at| {
            t.connect_done(&ConnectDoneInfo { at, addr, attempt, local, socket_cookie, error });
        });
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if let Some(hooks) = &self.owed.0 {
            self.pay(hooks.now(), Err(&Error::canceled(Phase::Connect)));
        }
    }
}

/// Between `tunnel_start` and `tunnel_done`.
#[must_use]
pub(crate) struct Tunnel {
    owed: Owed,
}

impl Tunnel {
    /// `at`: when the proxy's answer was there. `status`: of an answer to CONNECT.
    pub(crate) fn done(mut self, at: Option<Instant>, status: Option<StatusCode>, error: Option<&Error>) {
        self.owed.pay_at(at, |t, at| t.tunnel_done(&TunnelDoneInfo { at, status, error }));
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(at) = self.owed.0.as_ref().and_then(Hooks::now) {
            let error = Error::canceled(Phase::Tunnel);
            self.owed
                .pay_at(Some(at), |t, at| t.tunnel_done(&TunnelDoneInfo { at, status: None, error: Some(&error) }));
        }
    }
}

/// Between `tls_handshake_start` and `tls_handshake_done`.
#[must_use]
pub(crate) struct Tls {
    owed: Owed,
}

impl Tls {
    /// `at`: when the handshake ended.
    pub(crate) fn done(mut self, at: Option<Instant>, result: Result<&TlsInfo, &Error>) {
        self.pay(at, result);
    }

    fn pay(&mut self, at: Option<Instant>, result: Result<&TlsInfo, &Error>) {
        let (tls, error) = (result.ok(), result.err());
        self.owed.pay_at(at, |t, at| t.tls_handshake_done(&TlsHandshakeDoneInfo { at, tls, error }));
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(hooks) = &self.owed.0 {
            self.pay(hooks.now(), Err(&Error::canceled(Phase::Tls)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Returns(Mutex<Vec<IdleReturn>>);

    impl ClientTrace for Returns {
        fn put_idle_conn(&self, info: &PutIdleConnInfo) {
            self.0.lock().expect("no panic under the lock").push(info.outcome);
        }
    }

    #[test]
    fn a_return_is_told_once_also_if_nobody_ends_it() {
        let told = Arc::new(Returns::default());
        let owed = || Return { owed: Owed(Some(Hooks::new(None, Some(Arc::clone(&told) as Arc<dyn ClientTrace>)))) };
        drop(owed());
        owed().done(IdleReturn::Pooled);
        let told = told.0.lock().expect("no panic under the lock");
        assert_eq!(*told, [IdleReturn::Closed(CloseReason::Canceled), IdleReturn::Pooled]);
    }
}
