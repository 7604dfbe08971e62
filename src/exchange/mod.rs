//! The exchange: one request and its response on one connection.
//!
//! [`open`] turns a byte stream into a connection and its [`Driver`]; [`send`] sends a request on it. Between TLS and hyper
//! sits the [`sensor`], which takes the marks. How a response ended, and what becomes of the connection, is decided in
//! [`body`]. The pool is reached only through [`Home`].

mod body;
mod driver;
mod failure;
mod flow;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gathering;
mod heads;
mod in_flight;
mod lateness;
mod marks;
mod sensor;
mod terms;
mod upload;
mod wire;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{task::AbortHandle, time::Sleep};

pub use self::body::ResponseBody;
use self::{
    body::Live,
    driver::Engine,
    gathering::Gathering,
    in_flight::{Answer, InFlight},
    lateness::{Lateness, Timed},
    sensor::Sensor,
    wire::Wire,
};
pub(crate) use self::{
    body::{Ending, Payload, RequestBody, asks_to_close, expects_continue},
    driver::Driver,
    in_flight::{Asks, Failed},
    marks::Exchange,
    terms::{Fields, Terms},
};
use crate::{
    config::ExchangeConfig,
    connection::{ConnectionInfo, Protocol},
    error::{Error, Kind},
    facts::KeepAlive,
    hooks::{
        CloseInitiator, CloseReason, IdleReturn,
        emit::{self, Hooks},
    },
    phase::Phase,
    transport::{Probe, Transport, Waiting},
};

/// Where a connection belongs: the pool, with the connection's place in it.
pub(crate) trait Home: Send + Sync {
    /// A request uses the connection from now on.
    fn taken(&self);
    /// An HTTP/1 connection can carry another request.
    fn checkin(&self, conn: Conn) -> IdleReturn;
    /// An HTTP/1 connection will be checked in in a moment.
    fn returning(&self);
    /// A stream is free again.
    fn stream_ended(&self) -> IdleReturn;
    /// The peer allows this many streams at once.
    fn max_streams(&self, max: usize);
    /// The peer takes no more requests.
    fn draining(&self);
    /// The connection is closed. `answered`: its requests that got a response's head.
    fn closed(&self, reason: CloseReason, answered: u64);
    /// The server announced how long it keeps an idle connection. Returns what the connection's record is to say of it.
    fn announced(&self, timeout: Duration) -> Option<KeepAlive>;
    /// When to ask again whether it was idle for too long.
    fn expiry(&self) -> Option<Instant>;
}

/// A connection that a request can be sent on.
pub(crate) enum Conn {
    Http1 { sender: http1::SendRequest<RequestBody>, shared: Arc<Shared> },
    Http2 { sender: http2::SendRequest<RequestBody>, shared: Arc<Shared> },
}

/// What all who use a connection share.
pub(crate) struct Shared {
    pub(crate) info: Arc<ConnectionInfo>,
    wire: Arc<Wire>,
    probe: Probe,
    home: OnceLock<Box<dyn Home>>,
    requests: AtomicU64,
    answered: AtomicU64,
    desk: Mutex<Desk>,
    /// The `Host` field of the first request.
    host: OnceLock<HeaderValue>,
}

/// Where a connection is left for its driver.
#[derive(Default)]
struct Desk {
    returning: Option<Returning>,
    waker: Option<Waker>,
    /// There is no driver any more.
    ended: bool,
    /// Why the connection closes: the first reason stands.
    reason: Option<CloseReason>,
    /// Who asked for the end, in the request or in the response.
    asked_by: Option<CloseInitiator>,
    /// Nobody will use it again.
    over: Option<Over>,
    /// HTTP/2: requests that were answered before their upload ended, and until when they may end it.
    unfinished: Vec<(Instant, Arc<Exchange>)>,
}

/// How a connection that nobody will use again ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// What hyper has begun to write is let out, if the peer takes it soon.
    Soon,
    /// What is left of the upload is not wanted.
    Now,
}

/// An HTTP/1 connection between its response's end and its readiness.
struct Returning {
    sender: http1::SendRequest<RequestBody>,
    owed: emit::Return,
    exchange: Arc<Exchange>,
    /// What is left of a body that the application dropped.
    drain: Option<Box<Incoming>>,
    drained: usize,
    patience: Option<Pin<Box<Sleep>>>,
}

/// A connection on loan to a request: what goes back.
pub(crate) enum Loan {
    Http1 { sender: http1::SendRequest<RequestBody>, shared: Arc<Shared>, owed: emit::Return },
    Http2(Stream),
}

/// What is to become of a connection after its response.
pub(crate) enum After {
    Reuse,
    Drain(Box<Incoming>),
    Close(CloseReason),
}

/// Makes an HTTP connection out of a byte stream. The driver has to be spawned, after `settle` told it its home.
///
/// No bytes are waited for: HTTP/1 says nothing first, HTTP/2 writes its preface with the first poll.
pub(crate) async fn open(
    transport: Transport,
    info: ConnectionInfo,
    config: &ExchangeConfig,
    hooks: Hooks,
) -> Result<(Conn, Driver), Error> {
    let lateness = config.facts.poll_times.then(Arc::<Lateness>::default);
    let wire = Arc::new(Wire::new(info.protocol, hooks.installed(), lateness.clone()));
    let shared = Arc::new(Shared {
        wire: Arc::clone(&wire),
        probe: transport.probe(),
        home: OnceLock::new(),
        requests: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        desk: Mutex::default(),
        host: OnceLock::new(),
        info: Arc::new(info),
    });
    let protocol = shared.info.protocol;
    let io = TokioIo::new(Sensor::new(transport, protocol, wire));
    let failed = |error| Error::with(Kind::ConnectFailed, Phase::Connect, error);
    let (conn, engine) = match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_header_size(config.max_head_bytes);
            if config.max_headers != 100 {
                builder.max_headers(config.max_headers);
            }
            let (sender, conn) = builder.handshake(io).await.map_err(failed)?;
            (Conn::Http1 { sender, shared: Arc::clone(&shared) }, Engine::Http1(Box::pin(conn.with_upgrades())))
        }
        Protocol::Http2 => {
            let executor = Executor { task: Arc::default(), lateness: lateness.clone() };
            let mut builder = http2::Builder::new(executor.clone());
            builder.timer(TokioTimer::new());
            builder.max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX));
            // So that every header block can be read by itself, and interim responses be told from the final one.
            builder.header_table_size(0);
            if let Some(keep_alive) = config.http2_keep_alive {
                builder.keep_alive_interval(keep_alive.interval);
                builder.keep_alive_timeout(keep_alive.timeout);
                builder.keep_alive_while_idle(keep_alive.while_idle);
            }
            if let Some((stream, connection)) = config.http2_windows {
                builder.initial_stream_window_size(stream);
                builder.initial_connection_window_size(connection);
            }
            let (sender, conn) = builder.handshake(io).await.map_err(failed)?;
            (Conn::Http2 { sender, shared: Arc::clone(&shared) }, Engine::Http2(Box::new(conn), executor))
        }
    };
    Ok((conn, Driver::new(engine, shared, hooks)))
}

/// Runs hyper's HTTP/2 tasks, outside of any caller's span.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    /// The connection's own.
    task: Arc<OnceLock<AbortHandle>>,
    /// Whether its polls are timed.
    lateness: Option<Arc<Lateness>>,
}

impl Executor {
    /// Ends the connection, whatever it is at.
    fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Boxed, it is moved once: a task moves what it is given five times, some 1.5k instructions for each request.
        let future = Box::pin(future);
        if self.task.get().is_some() {
            tokio::spawn(future);
            return;
        }
        // The first one is the connection's own, which reads and writes.
        let task = match &self.lateness {
            Some(lateness) => tokio::spawn(Timed::new(future, Arc::clone(lateness))),
            None => tokio::spawn(future),
        };
        let _ = self.task.set(task.abort_handle());
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> &dyn Home {
        &**self.home.get().expect("a connection is settled before its driver runs")
    }

    /// A request on this connection.
    pub(crate) fn exchange(&self, hooks: Hooks, fields: Option<Box<Fields>>, terms: Terms) -> Arc<Exchange> {
        let gathering =
            (terms.facts.any() && hooks.installed()).then(|| Gathering::new(terms.facts, || self.probe.tcp_info()));
        Arc::new(Exchange::new(hooks, fields, terms, gathering, Arc::clone(&self.wire)))
    }

    /// A `Host` field. Nearly all requests of a connection have the same one, so it is made once.
    pub(crate) fn host(&self, field: &str) -> Option<HeaderValue> {
        match self.host.get() {
            Some(known) if known.as_bytes() == field.as_bytes() => Some(known.clone()),
            Some(_) => HeaderValue::from_str(field).ok(),
            None => {
                let host = HeaderValue::from_str(field).ok()?;
                let _ = self.host.set(host.clone());
                Some(host)
            }
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connection closes, for this reason if none was given before.
    fn closing(&self, reason: CloseReason) -> CloseReason {
        // It ends as the peer had said that it would.
        let said_so = reason == CloseReason::PeerClosed && self.wire.is_leaving();
        let reason = match reason {
            CloseReason::PeerClosed | CloseReason::IoError if self.wire.is_foreign() => CloseReason::ProtocolError,
            _ if said_so => CloseReason::GoAway,
            reason => reason,
        };
        let mut desk = self.desk();
        desk.wake();
        *desk.reason.get_or_insert(reason)
    }

    /// Nobody will use the connection again: it closes, and its driver sees to it that it ends.
    fn over(&self, over: Over, reason: CloseReason) -> CloseReason {
        self.desk().over = Some(over);
        self.closing(reason)
    }
}

impl Conn {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Http1 { shared, .. } | Self::Http2 { shared, .. } => shared,
        }
    }

    /// Tells the connection where it belongs.
    pub(crate) fn settle(&self, home: Box<dyn Home>) {
        // A second home can't be: settling is part of opening.
        let _ = self.shared().home.set(home);
    }

    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Http1 { sender, .. } => !sender.is_closed(),
            Self::Http2 { sender, shared } => !sender.is_closed() && !shared.wire.is_leaving(),
        }
    }

    /// HTTP/2 connections can be shared.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { sender, shared } => Some(Self::Http2 { sender: sender.clone(), shared: Arc::clone(shared) }),
        }
    }

    /// Closes it. hyper ends a connection when its last sender is gone.
    pub(crate) fn close(self, reason: CloseReason) {
        self.shared().over(Over::Soon, reason);
    }

    /// Whether a used connection may still carry a request: nothing may wait on its socket (RFC 9112 §9.2). Bytes under
    /// TLS may be a ticket, so the driver gets its turn to read them; so it does on a user's stream, which only it can read.
    pub(crate) async fn is_fresh(&self) -> Result<(), CloseReason> {
        let Self::Http1 { shared, .. } = self else { return Ok(()) };
        let mut looks = 0;
        loop {
            match shared.probe.look() {
                _ if shared.wire.is_surplus() => return Err(CloseReason::SurplusBytes),
                _ if looks > 0 && !self.is_open() => return Err(CloseReason::PeerClosed),
                Waiting::Nothing => return Ok(()),
                Waiting::Unknown if looks > 0 => return Ok(()),
                Waiting::Unknown => tokio::task::yield_now().await,
                Waiting::End => return Err(CloseReason::PeerClosed),
                Waiting::Bytes if !shared.probe.encrypted || looks == MAX_LOOKS => {
                    return Err(CloseReason::SurplusBytes);
                }
                Waiting::Bytes if looks < 3 => tokio::task::yield_now().await,
                // The driver is on another thread that has no time for it. Boxed: no request that is not held up pays for it.
                Waiting::Bytes => Box::pin(tokio::time::sleep(Duration::from_millis(1))).await,
            }
            looks += 1;
        }
    }

    /// Counts the request that comes now, which uses the connection.
    pub(crate) fn count_request(&self) {
        self.shared().requests.fetch_add(1, Ordering::Relaxed);
        self.shared().home().taken();
    }
}

/// How often a used connection is looked at while its driver reads what waits there.
const MAX_LOOKS: u32 = 20;

/// Sends a request. What it returns waits for the head of the response.
///
/// # Cancel safety
///
/// Dropped, the attempt ends as `canceled`; an HTTP/1 connection is closed, an HTTP/2 stream reset.
pub(crate) fn send(
    conn: Conn,
    request: Request<RequestBody>,
    exchange: Arc<Exchange>,
    (response, owed): (emit::Response, emit::Return),
    asks: Asks,
) -> impl Future<Output = Result<Response<ResponseBody>, Box<Failed>>> + Send {
    let shared = Arc::clone(conn.shared());
    let (answer, loan) = match conn {
        Conn::Http1 { mut sender, shared } => {
            let answer = Answer::Http1 { answer: sender.try_send_request(request) };
            (answer, Loan::Http1 { sender, shared, owed })
        }
        Conn::Http2 { mut sender, shared } => {
            let answer = Answer::Http2 { answer: sender.try_send_request(request) };
            (answer, Loan::Http2(Stream { shared, owed }))
        }
    };
    let body = Live::new(Ending::new(response, loan, exchange), asks.deadline);
    InFlight::new(answer, body, shared, asks)
}

/// The most bytes of a dropped body for which its connection is waited for: what one read or two bring.
const SOON: u64 = 16 * 1024;

impl Loan {
    fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Http1 { shared, .. } | Self::Http2(Stream { shared, .. }) => shared,
        }
    }

    /// The request is done with the connection.
    fn end(self, exchange: &Arc<Exchange>, after: After) {
        match self {
            Self::Http1 { sender, shared, owed } => match after {
                After::Close(reason) => {
                    exchange.connection_gone();
                    let reason = match reason {
                        CloseReason::Upgraded => shared.closing(reason),
                        CloseReason::RequestUnfinished => shared.over(Over::Now, reason),
                        _ => shared.over(Over::Soon, reason),
                    };
                    drop(sender);
                    owed.done(IdleReturn::Closed(reason));
                }
                After::Reuse if sender.is_ready() && exchange.is_request_written() => {
                    shared.wire.leave(exchange);
                    let home = Arc::clone(&shared);
                    owed.done(home.home().checkin(Conn::Http1 { sender, shared }));
                }
                After::Reuse => {
                    if exchange.is_request_written() {
                        shared.home().returning();
                    }
                    leave(&shared, Returning::new(sender, owed, exchange, None));
                }
                After::Drain(rest) => {
                    // A redirect's few bytes: mostly here already, and worth more than another dial.
                    if rest.size_hint().upper().is_some_and(|left| left <= SOON) && exchange.is_request_written() {
                        shared.home().returning();
                    }
                    leave(&shared, Returning::new(sender, owed, exchange, Some(rest)));
                }
            },
            Self::Http2(stream) => {
                // What the application left unread is given up: hyper resets the stream.
                drop(after);
                if !exchange.is_stream_over() {
                    stream.shared.desk().unfinished(exchange);
                }
                exchange.when_free(stream);
            }
        }
    }
}

/// A stream of an HTTP/2 connection that a request has.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    owed: emit::Return,
}

impl Stream {
    /// Everybody is done with it.
    fn free(self) {
        let Self { shared, owed } = self;
        // A stream that ends with its connection goes nowhere.
        let outcome = if shared.desk().ended {
            IdleReturn::Closed(shared.closing(CloseReason::PeerClosed))
        } else {
            shared.home().stream_ended()
        };
        let outcome = outcome.reason().map_or(outcome, |reason| IdleReturn::Closed(shared.closing(reason)));
        owed.done(outcome);
    }
}

impl Returning {
    fn new(
        sender: http1::SendRequest<RequestBody>,
        owed: emit::Return,
        exchange: &Arc<Exchange>,
        drain: Option<Box<Incoming>>,
    ) -> Self {
        Self { sender, owed, exchange: Arc::clone(exchange), drain, drained: 0, patience: None }
    }
}

fn leave(shared: &Arc<Shared>, returning: Returning) {
    let left = shared.desk().leave(returning);
    if let Err(Returning { owed, exchange, .. }) = left {
        exchange.connection_gone();
        owed.done(IdleReturn::Closed(shared.closing(CloseReason::PeerClosed)));
    }
}
