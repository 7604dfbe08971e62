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
mod heads;
mod marks;
mod sensor;
mod upload;
mod wire;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Sleep;

pub use self::body::ResponseBody;
use self::{body::must_close, driver::Engine, sensor::Sensor, wire::Wire};
pub(crate) use self::{
    body::{Ending, Payload, RequestBody, expects_continue},
    driver::Driver,
    marks::{Exchange, Fields, Terms},
};
use crate::{
    config::ExchangeConfig,
    connection::{ConnectionInfo, Protocol},
    error::{Error, Kind},
    hooks::{
        CloseInitiator, CloseReason, IdleReturn, RetryReason,
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
    Http2 { shared: Arc<Shared>, owed: emit::Return },
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
    let wire = Arc::new(Wire::new(info.protocol));
    let shared = Arc::new(Shared {
        wire: Arc::clone(&wire),
        probe: transport.probe(),
        home: OnceLock::new(),
        requests: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        desk: Mutex::default(),
        info: Arc::new(info),
    });
    let protocol = shared.info.protocol;
    // HTTP/2 frames belong to many requests, so their moments are always taken.
    let io = TokioIo::new(Sensor::new(transport, protocol, wire, protocol == Protocol::Http2));
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
            let mut builder = http2::Builder::new(Executor);
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
            (Conn::Http2 { sender, shared: Arc::clone(&shared) }, Engine::Http2(conn))
        }
    };
    Ok((conn, Driver::new(engine, shared, hooks)))
}

/// Runs hyper's HTTP/2 tasks, outside of any caller's span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Boxed, it is moved once: a task moves what it is given five times, some 1.5k instructions for each request.
        tokio::spawn(Box::pin(future));
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> &dyn Home {
        &**self.home.get().expect("a connection is settled before its driver runs")
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connection closes, for this reason if none was given before.
    fn closing(&self, reason: CloseReason) -> CloseReason {
        // It ends as the peer had said that it would.
        let said_so = reason == CloseReason::PeerClosed && self.wire.goaway().is_some();
        let reason = if said_so { CloseReason::GoAway } else { reason };
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
            Self::Http2 { sender, shared } => !sender.is_closed() && shared.wire.goaway().is_none(),
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
                // The driver is on another thread that has no time for it.
                Waiting::Bytes => tokio::time::sleep(Duration::from_millis(1)).await,
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

/// Why a request was not answered.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The request, if it was given back without a byte of it sent.
    pub(crate) unsent: Option<Payload>,
    /// The server's word that it did nothing for it.
    pub(crate) refused: Option<RetryReason>,
    /// Whether the connection took any byte of the request.
    pub(crate) touched: bool,
    /// Whether a byte of a response came.
    pub(crate) answered: bool,
}

/// Sends a request, and waits for the head of its response.
///
/// # Cancel safety
///
/// Dropped, the attempt ends as `canceled`; an HTTP/1 connection is closed, an HTTP/2 stream reset.
pub(crate) async fn send(
    conn: Conn,
    request: Request<RequestBody>,
    exchange: Arc<Exchange>,
    (response, owed): (emit::Response, emit::Return),
    deadline: Option<Instant>,
) -> Result<Response<ResponseBody>, Box<Failed>> {
    let (is_connect, is_head) = (request.method() == Method::CONNECT, request.method() == Method::HEAD);
    // Kept for the decision after the response; asking for the close is rare.
    let asked_to_close = body::asks_to_close(request.headers());
    let shared = Arc::clone(conn.shared());
    let (result, mut ending) = match conn {
        Conn::Http1 { mut sender, shared } => {
            let sent = in_time(deadline, sender.try_send_request(request), &exchange);
            let ending = Ending::new(response, Loan::Http1 { sender, shared, owed }, Arc::clone(&exchange));
            (sent.await.map(Sent::Done), ending)
        }
        Conn::Http2 { mut sender, shared } => {
            let sent = in_time(deadline, or_aborted(sender.try_send_request(request), &exchange), &exchange);
            let ending = Ending::new(response, Loan::Http2 { shared, owed }, Arc::clone(&exchange));
            (sent.await, ending)
        }
    };
    let (error, unsent, refused) = match result {
        Some(Sent::Done(Ok(response))) => {
            shared.answered.fetch_add(1, Ordering::Relaxed);
            ending.refused = exchange.answer(response.status());
            ending.status = Some(response.status());
            ending.version = Some(response.version());
            ending.bodiless = is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            if response.version() < Version::HTTP_2 {
                let reason = must_close(response.status(), response.version(), response.headers(), is_connect);
                ending.close = reason.or(asked_to_close.then_some(CloseReason::ConnectionClose));
                if let Some(reason) = ending.close {
                    // Said now: the peer may close before the body is read.
                    shared.closing(reason);
                    let by_us = asked_to_close || reason == CloseReason::Upgraded;
                    shared.desk().asked_by = Some(if by_us { CloseInitiator::Client } else { CloseInitiator::Server });
                }
                if exchange.is_watched() && !ending.bodiless && body::runs_until_close(response.headers()) {
                    exchange.runs_until_close();
                }
            } else {
                shared.wire.answered(&exchange, response.status());
            }
            let timer = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.into())));
            return Ok(response.map(|incoming| ResponseBody::new(incoming, ending, timer)));
        }
        Some(Sent::Aborted(kind)) => (Error::new(kind, exchange.phase()), None, None),
        Some(Sent::Done(Err(mut failed))) => {
            let unsent = failed.take_message().map(|request| request.into_body().into_payload());
            let error = failed.into_error();
            if error.is_user() {
                shared.wire.refused(&exchange);
            }
            let refused = failure::refused(&error, &exchange, shared.wire.goaway());
            (failure::of_exchange(error, &exchange), unsent, refused)
        }
        None => (Error::timeout(exchange.phase()), None, None),
    };
    let marks = exchange.marks();
    ending.failed(&error, 0);
    Err(Box::new(Failed { error, unsent, refused, touched: marks.touched, answered: marks.first_byte }))
}

/// What came of a request.
#[expect(clippy::large_enum_variant, reason = "on the stack, for a moment")]
enum Sent {
    Done(Result<Response<Incoming>, TrySendError<Request<RequestBody>>>),
    /// It is to be given up, alone on its connection.
    Aborted(Kind),
}

/// HTTP/2: what the wire shows may end one request, and must not end the others.
async fn or_aborted(
    sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    exchange: &Exchange,
) -> Sent {
    let mut sent = std::pin::pin!(sent);
    // What ends it comes first: the answer may have come in the same read.
    std::future::poll_fn(|cx| match exchange.poll_aborted(cx) {
        Some(kind) => Poll::Ready(Sent::Aborted(kind)),
        None => sent.as_mut().poll(cx).map(Sent::Done),
    })
    .await
}

/// `None` once the deadline has passed, or the head of the response is late.
async fn in_time<T>(deadline: Option<Instant>, head: impl Future<Output = T>, exchange: &Exchange) -> Option<T> {
    let mut head = std::pin::pin!(head);
    if exchange.terms().response_header.is_none() {
        return within(deadline, head).await;
    }
    let late = async {
        let due = std::future::poll_fn(|cx| exchange.poll_head_due(cx)).await;
        tokio::time::sleep_until(due.into()).await;
    };
    let head = async {
        tokio::select! {
            // What has come is taken, however late.
            biased;
            head = head.as_mut() => Some(head),
            () = late => None,
        }
    };
    within(deadline, head).await.flatten()
}

/// `None` once the deadline has passed.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
    }
}

/// The most bytes of a dropped body for which its connection is waited for: what one read or two bring.
const SOON: u64 = 16 * 1024;

impl Loan {
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
            Self::Http2 { shared, owed } => {
                // What the application left unread is given up: hyper resets the stream.
                drop(after);
                if !exchange.is_request_over() {
                    shared.desk().unfinished(exchange);
                }
                exchange.when_free(Box::new(move || {
                    // A stream that ends with its connection goes nowhere.
                    let outcome = if shared.desk().ended {
                        IdleReturn::Closed(shared.closing(CloseReason::PeerClosed))
                    } else {
                        shared.home().stream_ended()
                    };
                    let outcome = outcome.reason().map_or(outcome, |reason| IdleReturn::Closed(shared.closing(reason)));
                    owed.done(outcome);
                }));
            }
        }
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
