//! The hooks: what happens to a request, as it happens.
//!
//! [`ClientTrace`] is Go's `net/http/httptrace.ClientTrace` for Rust, with its sixteen hooks and a few more. Install one
//! for every request of a client with [`ClientBuilder::client_trace`](crate::ClientBuilder::client_trace), or for one
//! request with [`with_client_trace`].
//!
//! | hook | fires when | per attempt | its partner |
//! |---|---|---|---|
//! | `get_conn` | a connection is asked for | exactly once | `got_conn` or `get_conn_failed` |
//! | `dns_start`, `dns_done` | around a lookup | as often as dialled | each other |
//! | `connect_start`, `connect_done` | around one address | one pair per address | each other |
//! | `tunnel_start`, `tunnel_done` | around a proxy's answer | per dial | each other |
//! | `tls_handshake_start`, `tls_handshake_done` | around a handshake | one pair per TLS layer | each other |
//! | `got_conn` | a connection is in hand | at most once | `put_idle_conn`, `response_done` |
//! | `get_conn_failed` | there will be none | at most once | |
//! | `wrote_header_field` | the head was accepted, once per field | per field | |
//! | `wrote_headers` | the socket accepted the head | at most once | |
//! | `wait_100_continue` | the body waits for a 100 | at most once | |
//! | `wrote_request` | the socket accepted the last request byte, or failed | at most once | |
//! | `got_first_response_byte` | the first byte of any response is readable | at most once | |
//! | `got_100_continue`, `got_1xx_response` | an interim response came | per response | |
//! | `response_done` | the response is over | exactly once after `got_conn` | |
//! | `put_idle_conn` | the connection went back or was refused | exactly once after `got_conn` | |
//! | `retry` | another attempt follows | at most once | |
//! | `conn_closed` | a connection closed | belongs to none | |
//! | `keep_alive_mismatch` | a server's idle timeout is shorter than the client's | belongs to none | |
//!
//! Every start has exactly one done, also on error, timeout, cancel and drop. A hook must not block: it runs on the
//! connection's own task. No lock is held while it runs; one that panics is caught, and the request goes on.

mod dns;
pub(crate) mod emit;
mod fanout;
mod info;

use std::sync::Arc;

use http::Request;

pub(crate) use self::fanout::contained;
pub use self::{dns::DnsFacts, fanout::Stack, info::*};

/// Hooks that are called as a request lives through its phases.
///
/// Every method does nothing unless implemented. A dial that lost its race still calls its set-up hooks, so they may
/// come after the request is over (Go's documentation says the same). Hooks observe: nothing they do changes what is
/// sent, reused or reported.
///
/// ```
/// use httptrace::hooks::{ClientTrace, GotConnInfo};
///
/// struct Reuse;
/// impl ClientTrace for Reuse {
///     fn got_conn(&self, info: &GotConnInfo<'_>) {
///         println!("reused: {}", info.reused());
///     }
/// }
/// ```
#[allow(unused_variables, reason = "the default bodies do nothing")]
pub trait ClientTrace: Send + Sync {
    /// **When** a connection is asked for, before the pool is looked at. Once per attempt.
    #[doc(alias = "GetConn")]
    fn get_conn(&self, info: &GetConnInfo<'_>) {}

    /// **When** a connection is in hand. Its distance from `get_conn` is the wait. Once per attempt, or never if
    /// `get_conn_failed` fires.
    #[doc(alias = "GotConn")]
    fn got_conn(&self, info: &GotConnInfo<'_>) {}

    /// **When** no connection could be had: an error, a timeout or a drop. Go has no such hook.
    fn get_conn_failed(&self, info: &GetConnFailedInfo<'_>) {}

    /// **When** the request is done with its connection and the pool took or refused it; on HTTP/2 when the stream's
    /// slot is free again. Exactly once after `got_conn`, also where Go is silent.
    #[doc(alias = "PutIdleConn")]
    fn put_idle_conn(&self, info: &PutIdleConnInfo) {}

    /// **When** the first byte of any response (1xx included) is readable, before it is parsed. Absent if none came.
    #[doc(alias = "GotFirstResponseByte")]
    fn got_first_response_byte(&self, info: &GotFirstResponseByteInfo) {}

    /// **When** `100 Continue` came (RFC 9110 §15.2.1), after its `got_1xx_response`.
    #[doc(alias = "Got100Continue")]
    fn got_100_continue(&self, info: &Got100ContinueInfo) {}

    /// **When** an interim response but 101 came.
    #[doc(alias = "Got1xxResponse")]
    fn got_1xx_response(&self, info: &Got1xxResponseInfo<'_>) {}

    /// **When** a lookup begins. Absent for an IP address.
    #[doc(alias = "DNSStart")]
    fn dns_start(&self, info: &DnsStartInfo<'_>) {}

    /// **When** a lookup ended, failed, or was given up.
    #[doc(alias = "DNSDone")]
    fn dns_done(&self, info: &DnsDoneInfo<'_>) {}

    /// **When** a TCP connect to one address begins, or the client's own connector is called.
    #[doc(alias = "ConnectStart")]
    fn connect_start(&self, info: &ConnectStartInfo) {}

    /// **When** that connect succeeded, failed, or was given up.
    #[doc(alias = "ConnectDone")]
    fn connect_done(&self, info: &ConnectDoneInfo<'_>) {}

    /// **When** a proxy is asked for a tunnel: by CONNECT, or by the greeting of SOCKS. Absent where a proxy passes requests on
    /// as they are, since it is asked for nothing then. Go has no such hook.
    fn tunnel_start(&self, info: &TunnelStartInfo<'_>) {}

    /// **When** its whole answer was there, or it failed; `canceled` if the dial was given up.
    fn tunnel_done(&self, info: &TunnelDoneInfo<'_>) {}

    /// **When** a TLS handshake begins.
    #[doc(alias = "TLSHandshakeStart")]
    fn tls_handshake_start(&self, info: &TlsHandshakeStartInfo<'_>) {}

    /// **When** a TLS handshake ended, failed, or was given up.
    #[doc(alias = "TLSHandshakeDone")]
    fn tls_handshake_done(&self, info: &TlsHandshakeDoneInfo<'_>) {}

    /// **When** the head was accepted by the socket: once per field that was handed over, just before `wrote_headers`.
    #[doc(alias = "WroteHeaderField")]
    fn wrote_header_field(&self, info: &WroteHeaderFieldInfo<'_>) {}

    /// **When** the socket accepted the last byte of the head; through TLS, when it accepted the record with it. (Go
    /// fires before the flush.)
    #[doc(alias = "WroteHeaders")]
    fn wrote_headers(&self, info: &WroteHeadersInfo) {}

    /// **When** the body begins to wait for `100 Continue`.
    #[doc(alias = "Wait100Continue")]
    fn wait_100_continue(&self, info: &Wait100ContinueInfo) {}

    /// **When** the socket accepted the last byte of the request, or the exchange ended before it did (then with an
    /// error). May come after the first byte of an early response.
    #[doc(alias = "WroteRequest")]
    fn wrote_request(&self, info: &WroteRequestInfo<'_>) {}

    /// **When** the response is over: its body read to the end, dropped, or failed. Exactly once after `got_conn`. Go
    /// has no such hook.
    fn response_done(&self, info: &ResponseDoneInfo<'_>) {}

    /// **When** a connection is closed, whoever did it. A connection outlives requests, so only the traces of the client
    /// ([`ClientBuilder::client_trace`](crate::ClientBuilder::client_trace)) are told; a request learns from
    /// `put_idle_conn` what became of its own. Go has no such hook.
    fn conn_closed(&self, info: &ConnClosedInfo<'_>) {}

    /// **When** it shows that a server closes idle connections before this client would: it announces so, or it closed one.
    /// What is sent in that moment is lost, and can't always be sent twice; the remedy is named at [`KeepAlive`]. Once per
    /// server and client, and to the traces of the client only. Go has no such hook.
    ///
    /// [`KeepAlive`]: crate::facts::KeepAlive
    fn keep_alive_mismatch(&self, info: &KeepAliveMismatchInfo<'_>) {}

    /// **When** the request is about to be tried again. What follows belongs to the next attempt. Go has no such hook.
    fn retry(&self, info: &RetryInfo<'_>) {}
}

/// No hooks at all.
impl ClientTrace for () {}

/// A request's own trace, as it travels in the extensions.
#[derive(Clone)]
struct RequestTrace(Arc<dyn ClientTrace>);

/// Adds hooks to one request. Hooks that are there already keep working and run after the new ones.
#[doc(alias = "WithClientTrace")]
pub fn with_client_trace<B>(request: &mut Request<B>, trace: Arc<dyn ClientTrace>) {
    let trace = match client_trace(request) {
        Some(older) => Arc::new(Stack::new([trace, older])),
        None => trace,
    };
    request.extensions_mut().insert(RequestTrace(trace));
}

/// The hooks of a request: what [`with_client_trace`] added, all of it as one.
#[doc(alias = "ContextClientTrace")]
#[must_use]
pub fn client_trace<B>(request: &Request<B>) -> Option<Arc<dyn ClientTrace>> {
    trace_in(request.extensions())
}

pub(crate) fn trace_in(extensions: &http::Extensions) -> Option<Arc<dyn ClientTrace>> {
    extensions.get::<RequestTrace>().map(|trace| Arc::clone(&trace.0))
}
