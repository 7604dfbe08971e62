//! Options for connections: how many there are, who may have them, and how long they are kept.
//!
//! In: durations and counts. Out: the settings that [`super`] gives to the pool, and to HTTP/2.

use std::time::Duration;

use super::ClientBuilder;
use crate::{config::Http2KeepAlive, dial::ColdDials};

/// Connections.
impl ClientBuilder {
    /// How long an unused connection is kept. Default 90 s. A server that closes it sooner is told of
    /// ([`keep_alive_mismatch`](crate::ClientTrace::keep_alive_mismatch)): what is sent in that moment is lost.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool.idle_timeout = Some(timeout);
        self
    }

    /// Whether a connection is reused no longer than the server announces to keep it (`Keep-Alive: timeout=5`, HTTP/1): up to
    /// a second before that, where [`pool_idle_timeout`](Self::pool_idle_timeout) is not shorter anyway. The first answer of
    /// a connection counts. Default: off, as Go and curl, since it costs dials where a server announces little.
    pub fn obey_keep_alive(mut self, obey: bool) -> Self {
        self.pool.obeys_keep_alive = obey;
        self
    }

    /// The most idle connections in all; when there are more, the least recently used closes. 0: none is kept. Default 256.
    pub fn pool_max_idle(mut self, max: usize) -> Self {
        self.pool.max_idle = max;
        self
    }

    /// The most idle connections per host. 0: none is kept. Default: as many as in all.
    pub fn pool_max_idle_per_host(mut self, max: usize) -> Self {
        self.pool.max_idle_per_host = max;
        self
    }

    /// The most connections per host, those that are being made included. Requests above it wait in their order. At least
    /// 1. Default: no limit.
    pub fn max_connections_per_host(mut self, max: usize) -> Self {
        self.pool.max_connections_per_host = Some(max.max(1));
        self
    }

    /// What several requests to an `https` origin do while there is no connection to it yet. Default
    /// [`ColdDials::Coalesce`]: they wait for one dial, since a connection that speaks HTTP/2 serves them all.
    pub fn cold_dials(mut self, cold_dials: ColdDials) -> Self {
        self.cold_dials = cold_dials;
        self
    }

    /// The most connections in all, those that are being made included. A request above it waits in one line with those of
    /// all hosts; the least recently used idle connection, of whatever host, makes room. A connection in use does so when it
    /// is given back, rather than serve somebody who came later; an HTTP/2 connection takes no more streams then and closes
    /// with its last one. At least 1. Default: no limit.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.pool.max_connections = Some(max.max(1));
        self
    }

    /// The most HTTP/2 connections per host: another one is made when all streams of those that are open are in use. At
    /// least 1. Default 1, as RFC 9113 §9.1 asks.
    pub fn http2_max_connections_per_host(mut self, max: usize) -> Self {
        self.pool.http2_max_connections_per_host = max.max(1);
        self
    }

    /// Whether a request that dials takes what comes first: its dial, or a connection that another request gives back. Its
    /// dial then goes on, and its connection serves others. Off: it waits for its own dial. Default: on, as Go and
    /// browsers; off makes it plain which request used which dial.
    pub fn late_binding(mut self, late: bool) -> Self {
        self.pool.late_binding = late;
        self
    }

    /// The most that a request may wait in the pool's queue: for another's dial, a place under a limit, an HTTP/2 stream.
    /// Its own dial is bounded by the connect timeout. Then it fails with `timeout` in `get-connection`. One limit for all
    /// that an attempt waits for, stale connections included. Default: none.
    pub fn pool_wait_timeout(mut self, timeout: Duration) -> Self {
        self.pool.wait_timeout = Some(timeout);
        self
    }

    /// The age at which a connection takes no further request. Default: none.
    pub fn max_connection_lifetime(mut self, lifetime: Duration) -> Self {
        self.pool.max_lifetime = Some(lifetime);
        self
    }

    /// Pings HTTP/2 connections (RFC 9113 §6.7): one each `interval` without a frame from the peer; without an answer within
    /// `timeout` the connection is dead. `while_idle`: also when no request is on it. Their round trips are in
    /// [`ConnClosedInfo::http2`](crate::hooks::ConnClosedInfo). Default: off, since pings wake radios and servers; then a peer
    /// that is silently gone is noticed by timeouts only.
    pub fn http2_keep_alive(mut self, interval: Duration, timeout: Duration, while_idle: bool) -> Self {
        self.exchange.http2_keep_alive = Some(Http2KeepAlive { interval, timeout, while_idle });
        self
    }

    /// Bytes that an HTTP/2 peer may send before this end has read them: per stream, and on the connection (RFC 9113
    /// §6.9.2). Default: 2 MiB and 5 MiB, hyper's.
    pub fn http2_windows(mut self, stream: u32, connection: u32) -> Self {
        self.exchange.http2_windows = Some((stream, connection));
        self
    }
}
