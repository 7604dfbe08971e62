//! One task per connection: it drives hyper, takes HTTP/1 connections back when they are ready again, and ends them when
//! they were idle for too long.
//!
//! It is the only owner of a connection's end: whatever closes it, the driver tells why, once, also when its runtime dies.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant as TokioInstant, Sleep};

use super::{
    Conn, Desk, Exchange, Executor, Over, Returning, Shared, body::RequestBody, failure, lateness::Timed,
    sensor::Sensor,
};
use crate::{
    clock,
    config::{DRAIN_BYTES, DRAIN_TIME},
    hooks::{emit::Hooks, *},
};

pub(super) enum Engine {
    /// Boxed: with upgrades, its type has no name outside of hyper.
    Http1(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    /// And the task in which hyper reads and writes.
    Http2(Box<hyper::client::conn::http2::Connection<TokioIo<Sensor>, RequestBody, Executor>>, Executor),
    /// HTTP/2, over: hyper's task is left to take its leave of the peer.
    Leaving(Executor),
}

/// The owner of one connection.
pub(crate) struct Driver {
    engine: Engine,
    shared: Arc<Shared>,
    hooks: Hooks,
    /// Set when the connection has its home, and not before: one that is due at once wakes the runtime for nothing.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer will wake this task, so there is nothing to poll it for until it has elapsed.
    armed: bool,
    /// How long hyper may take to end a connection that is over.
    patience: Option<Pin<Box<Sleep>>>,
    max_streams: usize,
    draining: bool,
    /// HTTP/2: hyper takes no more requests, and the streams that run go on in its own task.
    leaving: Option<CloseReason>,
    /// Why hyper is done with the connection.
    over: Option<CloseReason>,
    ended: bool,
}

impl Driver {
    pub(super) fn new(engine: Engine, shared: Arc<Shared>, hooks: Hooks) -> Self {
        Self {
            engine,
            shared,
            hooks,
            timer: None,
            armed: false,
            patience: None,
            max_streams: 0,
            draining: false,
            leaving: None,
            over: None,
            ended: false,
        }
    }

    /// Runs it, until the connection is closed. On HTTP/1 it is this task that reads and writes.
    pub(crate) fn spawn(self) {
        match (&self.engine, self.shared.wire.lateness()) {
            (Engine::Http1(_), Some(lateness)) => {
                let lateness = Arc::clone(lateness);
                tokio::spawn(Timed::new(Box::pin(self), lateness));
            }
            (Engine::Http1(_) | Engine::Http2(..) | Engine::Leaving(_), _) => drop(tokio::spawn(self)),
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let Poll::Ready(reason) = self.poll_engine(cx) {
            return Poll::Ready(reason);
        }
        let ending = self.take_back(cx);
        self.watch_expiry(cx);
        if !ending {
            return Poll::Pending;
        }
        self.poll_unfinished(cx);
        self.poll_over(cx)
    }

    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let wire = &self.shared.wire;
        let result = match &mut self.engine {
            Engine::Leaving(_) => unreachable!("what is over is not polled for its end"),
            Engine::Http1(conn) => ready!(conn.as_mut().poll(cx)),
            Engine::Http2(conn, _) => {
                // Before it looks, so that nothing said meanwhile is missed.
                wire.watch(cx.waker());
                if let Some(reason) = self.leaving {
                    return if wire.is_released() { Poll::Ready(reason) } else { Poll::Pending };
                }
                let result = Pin::new(&mut **conn).poll(cx);
                let max = conn.current_max_send_streams();
                if std::mem::replace(&mut self.max_streams, max) != max {
                    self.shared.home().max_streams(max);
                }
                if !self.draining && wire.is_leaving() {
                    self.draining = true;
                    self.shared.home().draining();
                }
                ready!(result)
            }
        };
        let reason = failure::end_reason(&result);
        // After a GOAWAY hyper ends what takes requests; the connection ends with its last stream.
        if wire.is_leaving() && !wire.is_released() {
            self.leaving = Some(reason);
            return Poll::Pending;
        }
        Poll::Ready(reason)
    }

    /// HTTP/2: an upload that the peer's window blocks can be neither ended nor reset, since hyper does not ask it for
    /// more; and a peer that reads nothing takes no reset. Such a connection takes no further requests, and ends with those
    /// that are on it.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>) {
        let until = {
            let mut desk = self.shared.desk();
            desk.unfinished.retain(|(_, exchange)| !exchange.is_stream_over());
            desk.unfinished.iter().map(|(until, _)| *until).min()
        };
        let Some(until) = until else {
            self.patience = self.patience.take().filter(|_| self.shared.desk().over.is_some());
            return;
        };
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        if patience.as_mut().poll(cx).is_pending() {
            return;
        }
        self.patience = None;
        self.shared.closing(CloseReason::RequestUnfinished);
        self.draining = true;
        self.shared.home().draining();
        let unfinished = std::mem::take(&mut self.shared.desk().unfinished);
        for (_, exchange) in unfinished {
            exchange.reset();
        }
    }

    /// A connection that is over ends, also where hyper still has something to write that nobody reads.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let Some(over) = self.shared.desk().over else { return Poll::Pending };
        if over == Over::Now {
            return Poll::Ready(CloseReason::Canceled);
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(DRAIN_TIME)));
        patience.as_mut().poll(cx).map(|()| CloseReason::Canceled)
    }

    /// hyper ends an HTTP/1 connection as soon as it has handed over an error, or a response that asks for it. Why it
    /// ended is known to whose request it was, so the driver waits for that word.
    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut desk = self.shared.desk();
        if desk.reason.is_some() || desk.returning.is_some() || !self.shared.wire.is_in_use() {
            return Poll::Ready(());
        }
        desk.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// An HTTP/1 connection whose response is over, but which was not ready yet. Whether the connection, or a request on
    /// it, is to be ended.
    fn take_back(&mut self, cx: &mut Context<'_>) -> bool {
        let (returning, ending) = {
            let mut desk = self.shared.desk();
            if !desk.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                desk.waker = Some(cx.waker().clone());
                self.armed = false;
            }
            (desk.returning.take(), desk.is_ending())
        };
        let Some(mut returning) = returning else { return ending };
        match returning.poll(cx) {
            Poll::Pending => self.shared.desk().returning = Some(returning),
            Poll::Ready(Ok(())) => {
                let Returning { sender, owed, exchange, .. } = returning;
                self.shared.wire.leave(&exchange);
                let outcome = self.shared.home().checkin(Conn::Http1 { sender, shared: Arc::clone(&self.shared) });
                owed.done(outcome);
            }
            Poll::Ready(Err(reason)) => {
                let Returning { sender, owed, exchange, .. } = returning;
                exchange.connection_gone();
                let reason = self.shared.over(Over::Soon, reason);
                // hyper ends the connection when its sender is gone.
                drop(sender);
                owed.done(IdleReturn::Closed(reason));
                cx.waker().wake_by_ref();
            }
        }
        ending
    }

    /// Looks at the idle time when the timer says so: never on a request's way.
    fn watch_expiry(&mut self, cx: &mut Context<'_>) {
        if self.armed && !self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            return;
        }
        let mut timer = match self.timer.take() {
            Some(timer) => timer,
            None => Box::pin(tokio::time::sleep_until(self.next_look())),
        };
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(self.next_look());
        }
        self.timer = Some(timer);
        self.armed = true;
    }

    fn next_look(&self) -> TokioInstant {
        // For ever, or evicted and about to end: far away.
        TokioInstant::from_std(self.shared.home().expiry().unwrap_or_else(|| clock::now() + FAR))
    }

    /// HTTP/2: hyper takes its leave of the peer in a task of its own, and would wait for ever for one that reads nothing.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let task = match &self.engine {
            Engine::Http1(_) => return Poll::Ready(()),
            Engine::Leaving(task) => task,
            Engine::Http2(_, task) => {
                self.engine = Engine::Leaving(task.clone());
                self.patience = Some(Box::pin(tokio::time::sleep(RESET_TIME)));
                return self.poll_leave(cx);
            }
        };
        self.shared.wire.watch(cx.waker());
        if self.shared.wire.is_released() {
            return Poll::Ready(());
        }
        if let Some(patience) = &mut self.patience {
            ready!(patience.as_mut().poll(cx));
        }
        task.abort();
        Poll::Ready(())
    }

    fn end(&mut self, reason: CloseReason) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let reason = self.shared.closing(reason);
        let returning = {
            let mut desk = self.shared.desk();
            desk.ended = true;
            desk.returning.take()
        };
        self.shared.wire.gone();
        if let Some(Returning { owed, exchange, .. }) = returning {
            exchange.connection_gone();
            owed.done(IdleReturn::Closed(reason));
        }
        self.shared.home().closed(reason, self.shared.answered.load(Ordering::Relaxed));
        if let Some(at) = self.hooks.now() {
            let (connection, requests) = (&self.shared.info, self.shared.requests());
            let wire = &self.shared.wire;
            let by_peer = wire.is_ended_by_peer() || wire.is_leaving();
            let initiator = if by_peer { CloseInitiator::Server } else { CloseInitiator::Client };
            let initiator = self.shared.desk().asked_by.unwrap_or(initiator);
            let http2 = self.shared.wire.record();
            let http2 = http2.as_ref();
            self.hooks.emit(|t| {
                t.conn_closed(&ConnClosedInfo { at, connection, reason, initiator, requests, http2 });
            });
        }
    }
}

/// How long the socket may take for the reset of a stream, or for the last words on a connection: far longer than a loaded
/// machine needs.
const RESET_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs until the connection is closed. Written by hand: an `async fn` would hold the driver twice, for each connection.
impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let reason = match this.over {
            Some(reason) => reason,
            None => {
                let reason = ready!(this.poll_open(cx));
                *this.over.insert(reason)
            }
        };
        ready!(this.poll_last_word(cx));
        this.end(reason);
        this.poll_leave(cx)
    }
}

const FAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

impl Drop for Driver {
    /// The runtime is ending, and the connection with it.
    fn drop(&mut self) {
        self.end(CloseReason::Canceled);
    }
}

impl Returning {
    /// Whether the connection is ready for another request, or why it never will be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        if self.drain.is_some() {
            match self.poll_drain(cx) {
                Poll::Ready(Ok(())) => self.drain = None,
                Poll::Ready(Err(reason)) => return Poll::Ready(Err(reason)),
                Poll::Pending => return self.poll_patience(cx, CloseReason::BodyIncomplete),
            }
        }
        match self.sender.poll_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::PeerClosed)),
            Poll::Pending => self.poll_patience(cx, CloseReason::RequestUnfinished),
        }
    }

    /// Reads what the application left of the body, if it is little.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let Some(body) = &mut self.drain else { return Poll::Ready(Ok(())) };
        while self.drained <= DRAIN_BYTES {
            match Pin::new(&mut **body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(CloseReason::IoError)),
                Poll::Ready(Some(Ok(frame))) => self.drained += frame.data_ref().map_or(0, bytes::Bytes::len),
            }
        }
        Poll::Ready(Err(CloseReason::BodyIncomplete))
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>, reason: CloseReason) -> Poll<Result<(), CloseReason>> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(DRAIN_TIME)));
        patience.as_mut().poll(cx).map(|()| Err(reason))
    }
}

impl Desk {
    /// The driver is to look.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// HTTP/2: a request was answered, and its upload has not ended.
    pub(super) fn unfinished(&mut self, exchange: &Arc<Exchange>) {
        if self.ended {
            return;
        }
        // Its body gives up by itself after the same time, if hyper asks it. A reset waits for the socket alone.
        let patience = if exchange.is_request_over() { RESET_TIME } else { 2 * DRAIN_TIME };
        self.unfinished.push((clock::now() + patience, Arc::clone(exchange)));
        self.wake();
    }

    fn is_ending(&self) -> bool {
        self.over.is_some() || !self.unfinished.is_empty()
    }

    /// Leaves a connection for the driver to take back; gives it back if there is no driver any more.
    pub(super) fn leave(&mut self, returning: Returning) -> Result<(), Returning> {
        if self.ended {
            return Err(returning);
        }
        self.returning = Some(returning);
        self.wake();
        Ok(())
    }
}
