//! What each hook is told. Every type has `at`, the moment when the event happened: a hook may be called a little later.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};

use super::DnsFacts;
use crate::{
    capture::ShownHeaders,
    connection::{ConnectionInfo, Http2Record, TlsInfo},
    error::Error,
    facts::{Facts, KeepAlive},
    redact::Hidden,
};

macro_rules! infos {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone)]
            #[non_exhaustive]
            pub struct $name $(<$life>)? {
                /// When it happened.
                pub at: Instant,
                $($(#[$field_doc])* pub $field: $ty,)*
            }
        )+
    };
}

infos! {
    /// A connection is asked for.
    GetConnInfo<'a> {
        /// The host that is asked for, as in the URL (IPv6 without brackets).
        host: &'a str,
        /// Its port, the scheme's default filled in.
        port: u16,
    }
    /// A connection is in hand.
    GotConnInfo<'a> {
        /// The connection.
        connection: &'a Arc<ConnectionInfo>,
        /// Where it came from.
        outcome: ConnOutcome,
        /// How long it was idle; absent unless it came out of the idle pool.
        idle_time: Option<Duration>,
        /// From ready for use to in hand; zero for a new one.
        age: Duration,
        /// Which request on this connection this is, from 1.
        request_number: u64,
        /// Why the request had to wait; absent if a connection was at hand.
        wait: Option<WaitCause>,
    }
    /// No connection could be had.
    GetConnFailedInfo<'a> {
        /// Why.
        error: &'a Error,
        /// What the request was waiting for; absent if it failed before it waited.
        wait: Option<WaitCause>,
    }
    /// A lookup begins.
    DnsStartInfo<'a> {
        /// The name asked for: the server's, or its proxy's.
        host: &'a str,
    }
    /// A lookup ended.
    DnsDoneInfo<'a> {
        /// The answers, in the resolver's order; empty if it failed.
        addrs: &'a [IpAddr],
        /// Why it failed.
        error: Option<&'a Error>,
        /// Whether the answer was shared with another lookup of the same name.
        coalesced: bool,
        /// What else is known of the answer; absent if it failed, or the resolver knows nothing.
        facts: Option<&'a DnsFacts>,
    }
    /// A connect to one address begins, or the client's own connector.
    ConnectStartInfo {
        /// The address, the proxy's where there is one; absent with a connector, which knows alone where it connects to.
        addr: Option<SocketAddr>,
        /// Which address of this dial it is, from 1.
        attempt: u32,
    }
    /// That connect ended.
    ConnectDoneInfo<'a> {
        /// The address; absent with a connector.
        addr: Option<SocketAddr>,
        /// Which address of this dial it is, from 1.
        attempt: u32,
        /// This end's address; absent if the connect failed, and with a connector.
        local: Option<SocketAddr>,
        /// The kernel's number for the socket, the key to its tools: [`ConnectionInfo::socket_cookie`].
        socket_cookie: Option<NonZeroU64>,
        /// Why it failed; `canceled` if another address won.
        error: Option<&'a Error>,
    }
    /// A proxy is asked for a tunnel.
    TunnelStartInfo<'a> {
        /// The proxy's host.
        host: &'a str,
        /// The proxy's port.
        port: u16,
    }
    /// The proxy answered or failed.
    TunnelDoneInfo<'a> {
        /// The status of its answer to CONNECT; absent without one, and with SOCKS.
        status: Option<StatusCode>,
        /// Why it failed.
        error: Option<&'a Error>,
    }
    /// A TLS handshake begins.
    TlsHandshakeStartInfo<'a> {
        /// The name sent as SNI; absent for an IP address.
        server_name: Option<&'a str>,
    }
    /// A TLS handshake ended.
    TlsHandshakeDoneInfo<'a> {
        /// The session; absent if it failed.
        tls: Option<&'a TlsInfo>,
        /// Why it failed.
        error: Option<&'a Error>,
    }
    /// A header field was handed over.
    WroteHeaderFieldInfo<'a> {
        /// The field's name, lower case; on HTTP/2 pseudo-headers (`:method`) too.
        name: &'a str,
        /// The field's value. It may be a secret, so `Debug` does not show it.
        value: Hidden<&'a [u8]>,
    }
    /// The socket accepted the whole request head.
    WroteHeadersInfo {
        /// When the request was handed to the wire.
        started: Instant,
    }
    /// The request body waits for `100 Continue`.
    Wait100ContinueInfo {}
    /// The socket accepted the last byte of the request, or failed before it.
    WroteRequestInfo<'a> {
        /// When the request was handed to the wire.
        started: Instant,
        /// Bytes of body that were handed over; absent if the request has none.
        body_bytes: Option<u64>,
        /// How long the body was blocked by HTTP/2 flow control: bytes of it waited, and the peer's windows were used up;
        /// absent on HTTP/1 and without a body.
        blocked: Option<Duration>,
        /// Why it could not be written.
        error: Option<&'a Error>,
    }
    /// The first byte of any response, interim ones included, was readable.
    GotFirstResponseByteInfo {}
    /// `100 Continue` came.
    Got100ContinueInfo {}
    /// An interim response came.
    Got1xxResponseInfo<'a> {
        /// Its status.
        status: StatusCode,
        /// Its header. `Debug` does not show it.
        headers: Hidden<&'a HeaderMap>,
    }
    /// The response is over.
    ResponseDoneInfo<'a> {
        /// How it ended.
        outcome: ResponseOutcome,
        /// The status; absent if no head arrived.
        status: Option<StatusCode>,
        /// The HTTP version of the response; absent if no head arrived.
        version: Option<http::Version>,
        /// The fields of its header that the client captures
        /// ([`capture_response_headers`](crate::ClientBuilder::capture_response_headers)), without their secrets; absent if
        /// no head arrived, or it has none of them.
        headers: Option<&'a ShownHeaders>,
        /// When the first byte of the final response was readable; absent if none was.
        first_byte: Option<Instant>,
        /// Bytes of body that the application received.
        body_bytes: u64,
        /// The HTTP/2 stream; absent on HTTP/1.
        stream_id: Option<u32>,
        /// The moments of this request's frames could not be trusted, so those that were told are void
        /// ([`Http2Record::disagreed`]).
        detail_lost: bool,
        /// What was gathered beside the marks; absent unless an option of the client asks for it.
        facts: Option<&'a Arc<Facts>>,
        /// Why it failed or was canceled.
        error: Option<&'a Error>,
    }
    /// The connection went back, or was refused.
    PutIdleConnInfo {
        /// What became of it.
        outcome: IdleReturn,
    }
    /// A connection is closed.
    ConnClosedInfo<'a> {
        /// The connection.
        connection: &'a Arc<ConnectionInfo>,
        /// Why.
        reason: CloseReason,
        /// Who ended it.
        initiator: CloseInitiator,
        /// Requests that it carried.
        requests: u64,
        /// What passed on it beside requests; absent on HTTP/1.
        http2: Option<&'a Http2Record>,
    }
    /// A server closes idle connections before this client would.
    KeepAliveMismatchInfo<'a> {
        /// The host, as in the URL (IPv6 without brackets).
        host: &'a str,
        /// Its port.
        port: u16,
        /// The server's time and this client's.
        mismatch: KeepAlive,
    }
    /// The request is tried again.
    RetryInfo<'a> {
        /// The number of the attempt that follows, from 2.
        attempt: u32,
        /// Why.
        reason: RetryReason,
        /// The error of the attempt before.
        error: &'a Error,
    }
}

impl GotConnInfo<'_> {
    /// Whether the connection has carried a request before.
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

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum $name { $($(#[$variant_doc])* $variant,)+ }

            impl $name {
                /// The name used in spans, metrics and JSON.
                #[must_use]
                pub const fn as_str(self) -> &'static str {
                    match self { $(Self::$variant => $text,)+ }
                }
            }
        )+
    };
}

names! {
    /// Where a request's connection came from.
    ConnOutcome {
        /// This request dialled it and got it.
        New = "new",
        /// Out of the idle pool.
        Idle = "idle",
        /// Straight from another request, or from a dial that another request began.
        HandedOver = "handed_over",
        /// HTTP/2, beside live streams.
        Shared = "shared",
    }
    /// What a request waited for when it had no connection.
    WaitCause {
        /// Its own dial.
        Dial = "dial",
        /// Another request's dial to the same origin.
        OtherDial = "other_dial",
        /// A free place under the host's connection limit.
        HostLimit = "host_limit",
        /// A free place under the pool's connection limit.
        PoolLimit = "pool_limit",
        /// A free HTTP/2 stream.
        Http2Streams = "http2_streams",
    }
    /// How a response ended.
    ResponseOutcome {
        /// To the last byte.
        Complete = "complete",
        /// The application dropped the body before its end.
        Dropped = "dropped",
        /// The exchange failed, or the request was given up before the response's head.
        Failed = "failed",
    }
    /// Why a connection was closed.
    CloseReason {
        /// Either side sent `Connection: close` (RFC 9112 §9.6).
        ConnectionClose = "connection_close",
        /// An HTTP/1.0 response.
        Http10 = "http_1_0",
        /// Keeping connections is switched off.
        KeepAliveDisabled = "keep_alive_disabled",
        /// The connection speaks another protocol now.
        Upgraded = "upgraded",
        /// The response body was not read to its end and could not be drained.
        BodyIncomplete = "body_incomplete",
        /// The response was over before the request was.
        RequestUnfinished = "request_unfinished",
        /// Bytes that no request asked for.
        SurplusBytes = "surplus_bytes",
        /// The peer broke the protocol.
        ProtocolError = "protocol_error",
        /// Reading or writing failed.
        IoError = "io_error",
        /// The peer closed it.
        PeerClosed = "peer_closed",
        /// The peer sent GOAWAY (RFC 9113 §6.8), or refused HTTP/2 on one of its streams (HTTP_1_1_REQUIRED, §7).
        GoAway = "goaway",
        /// The request that used it was given up.
        Canceled = "canceled",
        /// It reached its maximum lifetime.
        LifetimeExpired = "lifetime_expired",
        /// The host has its maximum of idle connections.
        HostPoolFull = "host_pool_full",
        /// The pool has its maximum of idle connections.
        PoolFull = "pool_full",
        /// The pool was closed, or asked to close its idle connections.
        PoolClosed = "pool_closed",
        /// It was idle for too long.
        IdleTimeout = "idle_timeout",
    }
    /// Who ended a connection.
    CloseInitiator {
        /// This end: it asked for the close, or closed while the peer's side was still open.
        Client = "client",
        /// The peer: it asked for the close, said GOAWAY, or closed, reset or broke off first.
        Server = "server",
    }
    /// Why a request is tried again.
    RetryReason {
        /// A used connection was closed before the first byte of the response.
        StaleConnection = "stale_connection",
        /// The server said that it did not process the request (RFC 9113 §8.7).
        RefusedStream = "refused_stream",
        /// The server said so by a GOAWAY below the request's stream (RFC 9113 §6.8).
        GoAway = "goaway",
        /// The server wants this request over HTTP/1.1 (HTTP_1_1_REQUIRED, RFC 9113 §7).
        Http11Required = "http_1_1_required",
    }
}

/// What became of a connection when its request was done with it.
///
/// A refusal (`Closed`) is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IdleReturn {
    /// The idle pool took it.
    Pooled,
    /// A waiting request took it.
    HandedOver,
    /// HTTP/2: other streams still run on it.
    Shared,
    /// It is closed.
    Closed(CloseReason),
}

impl IdleReturn {
    /// `pooled`, `handed_over`, `shared` or `closed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::HandedOver => "handed_over",
            Self::Shared => "shared",
            Self::Closed(_) => "closed",
        }
    }

    /// Why it was closed, if it was.
    #[must_use]
    pub const fn reason(self) -> Option<CloseReason> {
        match self {
            Self::Closed(reason) => Some(reason),
            Self::Pooled | Self::HandedOver | Self::Shared => None,
        }
    }
}
