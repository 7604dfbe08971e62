//! The hooks of one request, kept as they are called: what `--format hooks` prints, and the fields that `--format har` needs.
//!
//! In: the calls of a [`ClientTrace`], as a user's own trace gets them. Out: the [`Calls`] of each attempt, when its last
//! hook was called. What is secret in a header field is not kept.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use httptrace::{ClientTrace, Error, Timeline, hooks::*};

use crate::{exit::one_line, mark::Mark, redact::Rules};

/// What was called in one attempt, in order.
#[derive(Default)]
pub(crate) struct Calls {
    /// Which attempt of its request, from 1.
    pub(crate) attempt: u32,
    lines: Vec<(Instant, String)>,
    /// The request's fields as the socket took them.
    pub(crate) sent: Vec<(String, String)>,
    got: bool,
    response_due: bool,
    return_due: bool,
    /// Set-up hooks that wait for their partners.
    open: u32,
}

/// The trace of one request.
pub(crate) struct Journal<F> {
    attempts: Mutex<Attempts>,
    over: F,
}

#[derive(Default)]
struct Attempts {
    begun: u32,
    /// A connection may come back when the next attempt has begun, so there may be two.
    live: Vec<Calls>,
}

impl<F: Fn(Calls) + Send + Sync> Journal<F> {
    /// `over` gets the calls of each attempt.
    pub(crate) fn new(over: F) -> Self {
        Self { attempts: Mutex::default(), over }
    }

    /// A hook of the attempt that began last. Without one, a dial goes on and its request is over.
    fn call(&self, at: Instant, line: String, fold: impl FnOnce(&mut Calls)) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = attempts.live.last_mut() {
            calls.lines.push((at, line));
            fold(calls);
        }
    }

    /// A hook of the first attempt that `whose` accepts. `fold` returns whether the attempt is over.
    fn told(&self, at: Instant, line: String, whose: impl Fn(&Calls) -> bool, fold: impl FnOnce(&mut Calls) -> bool) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = attempts.live.iter().position(whose) else { return };
        let calls = &mut attempts.live[index];
        calls.lines.push((at, line));
        if fold(calls) {
            let calls = attempts.live.remove(index);
            drop(attempts);
            (self.over)(calls);
        }
    }

    fn started(&self, at: Instant, line: String) {
        self.call(at, line, |calls| calls.open += 1);
    }

    /// The end of a step belongs to the attempt that began it.
    fn done(&self, at: Instant, line: String) {
        self.told(
            at,
            line,
            |calls| calls.open > 0,
            |calls| {
                calls.open -= 1;
                false
            },
        );
    }
}

/// An info as Go's `%+v` prints a struct; what is absent has no field.
struct Fields(Vec<String>);

impl Fields {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn with(mut self, name: &str, value: impl Display) -> Self {
        self.0.push(format!("{name}:{}", one_line(&value.to_string())));
        self
    }

    fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn error(self, error: Option<&Error>) -> Self {
        self.maybe("error", error)
    }

    fn of(self, hook: &str) -> String {
        format!("{hook}({{{}}})", self.0.join(" "))
    }
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(" "))
}

/// As Go prints a duration: `152.9µs`, `1.2ms`, `1m2.5s`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let seconds = duration.as_secs();
    let fraction = |value: u128, unit: u128, suffix: &str| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || digits == 0 { "" } else { "." };
        format!("{}{point}{}{suffix}", value / unit, if digits == 0 { "" } else { fraction })
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let rest = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

/// The lines of one attempt, below one that says which it is.
pub(crate) fn render(timeline: &Timeline, calls: &Calls) -> String {
    let request = &timeline.request;
    let Mark { request: number, hop } = Mark::of(timeline);
    let hop = if hop > 0 { format!(", hop {hop}") } else { String::new() };
    let mut text = format!("{} {} (request {number}{hop}, attempt {})\n", request.method, request.url, request.attempt);
    for (at, line) in &calls.lines {
        let micros = at.saturating_duration_since(timeline.start).as_micros();
        let millis = format!("{}.{:03}", micros / 1_000, micros % 1_000);
        let millis = millis.trim_end_matches('0').trim_end_matches('.');
        text.push_str(&format!("{line} {} ms\n", if millis.is_empty() { "0" } else { millis }));
    }
    text
}

impl<F: Fn(Calls) + Send + Sync> ClientTrace for Journal<F> {
    fn get_conn(&self, info: &GetConnInfo<'_>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.begun += 1;
        let attempt = attempts.begun;
        attempts.live.push(Calls { attempt, ..Calls::default() });
        drop(attempts);
        self.call(info.at, Fields::new().with("host", info.host).with("port", info.port).of("GetConn"), |_| {});
    }

    fn got_conn(&self, info: &GotConnInfo<'_>) {
        let fields = Fields::new()
            .with("reused", info.reused())
            .with("was_idle", info.was_idle())
            .maybe("idle_time", info.idle_time.map(go_duration));
        self.call(info.at, fields.of("GotConn"), |calls| {
            (calls.got, calls.response_due, calls.return_due) = (true, true, true);
        });
    }

    fn get_conn_failed(&self, info: &GetConnFailedInfo<'_>) {
        self.told(info.at, Fields::new().error(Some(info.error)).of("GetConnFailed"), |calls| !calls.got, |_| true);
    }

    fn put_idle_conn(&self, info: &PutIdleConnInfo) {
        let fields = Fields::new().with("outcome", info.outcome.as_str());
        let line = fields.maybe("reason", info.outcome.reason().map(CloseReason::as_str)).of("PutIdleConn");
        self.told(
            info.at,
            line,
            |calls| calls.return_due,
            |calls| {
                calls.return_due = false;
                !calls.response_due
            },
        );
    }

    fn got_first_response_byte(&self, info: &GotFirstResponseByteInfo) {
        self.call(info.at, "GotFirstResponseByte()".to_owned(), |_| {});
    }

    fn got_100_continue(&self, info: &Got100ContinueInfo) {
        self.call(info.at, "Got100Continue()".to_owned(), |_| {});
    }

    fn got_1xx_response(&self, info: &Got1xxResponseInfo<'_>) {
        let headers = info.headers.iter();
        let headers =
            headers.map(|(name, value)| format!("{name}:{}", Rules::default().field(name.as_str(), value.as_bytes())));
        let fields = Fields::new().with("status", info.status.as_u16()).with("headers", list(headers));
        self.call(info.at, fields.of("Got1xxResponse"), |_| {});
    }

    fn dns_start(&self, info: &DnsStartInfo<'_>) {
        self.started(info.at, Fields::new().with("host", info.host).of("DNSStart"));
    }

    fn dns_done(&self, info: &DnsDoneInfo<'_>) {
        let fields = Fields::new().with("addrs", list(info.addrs)).error(info.error).with("coalesced", info.coalesced);
        self.done(info.at, fields.of("DNSDone"));
    }

    fn connect_start(&self, info: &ConnectStartInfo) {
        let fields = Fields::new().maybe("addr", info.addr).with("attempt", info.attempt);
        self.started(info.at, fields.of("ConnectStart"));
    }

    fn connect_done(&self, info: &ConnectDoneInfo<'_>) {
        let fields = Fields::new().maybe("addr", info.addr).with("attempt", info.attempt).maybe("local", info.local);
        self.done(info.at, fields.error(info.error).of("ConnectDone"));
    }

    fn tunnel_start(&self, info: &TunnelStartInfo<'_>) {
        self.started(info.at, Fields::new().with("host", info.host).with("port", info.port).of("TunnelStart"));
    }

    fn tunnel_done(&self, info: &TunnelDoneInfo<'_>) {
        let fields = Fields::new().maybe("status", info.status.map(|status| status.as_u16()));
        self.done(info.at, fields.error(info.error).of("TunnelDone"));
    }

    fn tls_handshake_start(&self, info: &TlsHandshakeStartInfo<'_>) {
        self.started(info.at, Fields::new().maybe("server_name", info.server_name).of("TLSHandshakeStart"));
    }

    fn tls_handshake_done(&self, info: &TlsHandshakeDoneInfo<'_>) {
        let mut fields = Fields::new();
        if let Some(tls) = info.tls {
            fields = fields.with("version", tls.version).with("cipher", &tls.cipher).maybe("alpn", tls.alpn.as_ref());
            fields = fields.with("resumed", tls.resumed);
        }
        self.done(info.at, fields.error(info.error).of("TLSHandshakeDone"));
    }

    fn wrote_header_field(&self, info: &WroteHeaderFieldInfo<'_>) {
        let value = Rules::default().field(info.name, *info.value);
        let line = Fields::new().with("name", info.name).with("value", &value).of("WroteHeaderField");
        self.call(info.at, line, |calls| calls.sent.push((info.name.to_owned(), value)));
    }

    fn wrote_headers(&self, info: &WroteHeadersInfo) {
        self.call(info.at, "WroteHeaders()".to_owned(), |_| {});
    }

    fn wait_100_continue(&self, info: &Wait100ContinueInfo) {
        self.call(info.at, "Wait100Continue()".to_owned(), |_| {});
    }

    fn wrote_request(&self, info: &WroteRequestInfo<'_>) {
        let fields = Fields::new().maybe("body_bytes", info.body_bytes);
        let fields = fields.maybe("blocked", info.blocked.map(go_duration));
        self.call(info.at, fields.error(info.error).of("WroteRequest"), |_| {});
    }

    fn response_done(&self, info: &ResponseDoneInfo<'_>) {
        let fields = Fields::new()
            .with("outcome", info.outcome.as_str())
            .maybe("status", info.status.map(|status| status.as_u16()))
            .with("body_bytes", info.body_bytes)
            .maybe("stream_id", info.stream_id);
        let line = fields.error(info.error).of("ResponseDone");
        self.told(
            info.at,
            line,
            |calls| calls.response_due,
            |calls| {
                calls.response_due = false;
                !calls.return_due
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (152_900, "152.9µs"),
            (1_200_000, "1.2ms"),
            (1_000_000_000, "1s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_000_001, "1.000001ms"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn a_value_ends_no_line() {
        assert_eq!(Fields::new().with("a", "b\r\nc\u{1b}").of("Hook"), r"Hook({a:b  c\x1b})");
    }
}
