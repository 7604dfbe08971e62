//! The pool: who has a connection, who waits for one, which are idle.
//!
//! The rules are in [`core`], pure. This is their shell: one lock, held for a lookup and never while anything else runs;
//! the effects that a rule returns (serve a waiter, close a connection) are carried out after it is released. The pool
//! knows nothing of HTTP: connections are any [`Poolable`], dials are made by whoever holds a [`Permit`].

mod core;
mod key;
mod learned;
mod lend;
mod lru;
#[cfg(test)]
mod model;
mod queue;
mod terms;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::{
    core::Core,
    terms::{Checkout, Effect, Ticket},
};
pub(crate) use self::{
    key::PoolKey,
    terms::{Lease, Poolable, SlotId},
};
use crate::{
    clock,
    config::PoolConfig,
    connection::Protocol,
    error::Error,
    hooks::{CloseReason, IdleReturn, WaitCause},
};

type Sender<C> = mpsc::UnboundedSender<Grant<C>>;

/// What comes of a wait.
pub(crate) enum Grant<C: Pooled> {
    /// A connection.
    Conn(Lease<C>),
    /// It is this waiter's turn to dial.
    Dial(Permit<C>),
    /// The connection that was just coming back is not for this waiter: it waits for this instead.
    Waits(WaitCause),
    /// There will be none.
    Failed(Error),
}

/// A connection that can be pooled, and closed with a reason.
pub(crate) trait Pooled: Poolable + Send + 'static {
    /// Ends the connection. Must not block.
    fn close(self, reason: CloseReason);
}

pub(crate) struct Pool<C: Pooled> {
    core: Mutex<Core<C, Sender<C>>>,
}

/// A connection, or a wait for one.
pub(crate) enum Checked<C: Pooled> {
    Ready(Lease<C>),
    Waiting { waiting: Waiting<C>, dial: Option<Permit<C>>, cause: Option<WaitCause> },
}

impl<C: Pooled> Pool<C> {
    pub(crate) fn new(config: PoolConfig) -> Arc<Self> {
        Arc::new(Self { core: Mutex::new(Core::new(config)) })
    }

    /// A connection to `key`'s origin, or a place in the queue for one.
    /// `fresh`: not out of the idle pool.
    pub(crate) fn checkout(self: &Arc<Self>, key: &PoolKey, now: Instant, fresh: bool) -> Checked<C> {
        let mut receiver = None;
        let checkout = self.change(|core, effects| {
            core.checkout(
                key,
                now,
                fresh,
                || {
                    let (tx, rx) = mpsc::unbounded_channel();
                    receiver = Some(rx);
                    tx
                },
                effects,
            )
        });
        match (checkout, receiver) {
            (Checkout::Wait { ticket, dial, cause }, Some(grants)) => {
                let dial = dial.then(|| Permit { pool: Arc::clone(self), ticket: Some(ticket) });
                Checked::Waiting { waiting: Waiting { pool: Arc::clone(self), ticket, grants }, dial, cause }
            }
            (Checkout::Ready(lease), _) => Checked::Ready(lease),
            (Checkout::Wait { .. }, None) => unreachable!("who waits has been given a channel"),
        }
    }

    /// An HTTP/1 connection that can carry another request.
    pub(crate) fn checkin(self: &Arc<Self>, slot: SlotId, conn: C) -> IdleReturn {
        self.change(|core, effects| core.checkin(slot, conn, clock::now(), effects))
    }

    /// An HTTP/1 connection will come back in a moment.
    pub(crate) fn returning(self: &Arc<Self>, slot: SlotId) {
        self.lock().returning(slot);
    }

    /// A stream of an HTTP/2 connection is free.
    pub(crate) fn stream_ended(self: &Arc<Self>, slot: SlotId) -> IdleReturn {
        self.change(|core, effects| core.stream_ended(slot, clock::now(), effects))
    }

    pub(crate) fn max_streams(self: &Arc<Self>, slot: SlotId, max: usize) {
        self.change(|core, effects| core.max_streams(slot, max, clock::now(), effects));
    }

    /// Returns how long it had been idle.
    pub(crate) fn draining(self: &Arc<Self>, slot: SlotId) -> Option<Duration> {
        self.change(|core, effects| core.draining(slot, clock::now(), effects))
    }

    /// Returns how long it had been idle, if nobody had it and the pool did not close it.
    pub(crate) fn closed(self: &Arc<Self>, slot: SlotId) -> Option<Duration> {
        self.change(|core, effects| core.closed(slot, clock::now(), effects))
    }

    /// The most that this connection may be idle, if that is less than the pool's own.
    pub(crate) fn limit_idle(&self, slot: SlotId, limit: Duration) {
        self.lock().limit_idle(slot, limit);
    }

    /// Whose connection it is: host and port.
    pub(crate) fn origin(&self, slot: SlotId) -> Option<(String, u16)> {
        self.lock().origin(slot).map(|(host, port)| (host.to_owned(), port))
    }

    /// When to ask again; `None` once the connection is to end.
    pub(crate) fn expiry(self: &Arc<Self>, slot: SlotId) -> Option<Instant> {
        self.change(|core, effects| core.expiry(slot, clock::now(), effects))
    }

    /// The origin has refused HTTP/2: it gets HTTP/1.1 for a while.
    pub(crate) fn insists_on_http1(self: &Arc<Self>, key: &PoolKey) {
        self.change(|core, effects| core.insists_on_http1(key, clock::now(), effects));
    }

    pub(crate) fn close_idle(self: &Arc<Self>) {
        self.change(|core, effects| core.close_idle(effects));
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.change(|core, effects| core.close(effects));
    }

    /// Connections that are open, and dials under way.
    pub(crate) fn busy(&self) -> usize {
        self.lock().busy()
    }

    fn lock(&self) -> MutexGuard<'_, Core<C, Sender<C>>> {
        // Nothing of a user's runs under it, so it can't be poisoned half way.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a rule under the lock, and carries out its effects after it.
    fn change<T>(
        self: &Arc<Self>,
        rule: impl FnOnce(&mut Core<C, Sender<C>>, &mut Vec<Effect<C, Sender<C>>>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let result = rule(&mut self.lock(), &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
        result
    }

    fn carry_out(self: &Arc<Self>, effect: Effect<C, Sender<C>>) {
        match effect {
            Effect::Serve(waiter, lease) => {
                if let Err(unsent) = waiter.send(Grant::Conn(lease)) {
                    self.recover(unsent.0);
                }
            }
            Effect::Dial(waiter, ticket) => {
                let permit = Permit { pool: Arc::clone(self), ticket: Some(ticket) };
                if let Err(unsent) = waiter.send(Grant::Dial(permit)) {
                    // Out of the queue, or the turn would come back to it; then dropped, so that the next one has it.
                    self.lock().cancel(ticket);
                    drop(unsent);
                }
            }
            Effect::Waits(waiter, cause) => {
                let _ = waiter.send(Grant::Waits(cause));
            }
            Effect::Fail(waiter, error) => {
                let _ = waiter.send(Grant::Failed(error));
            }
            Effect::Close(conn, reason) => conn.close(reason),
        }
    }

    /// A grant whose waiter has gone meanwhile.
    fn recover(self: &Arc<Self>, grant: Grant<C>) {
        if let Grant::Conn(lease) = grant {
            self.put_back(lease);
        }
    }

    /// A connection that was handed out and never used.
    pub(crate) fn put_back(self: &Arc<Self>, lease: Lease<C>) {
        self.lock().unused(lease.slot, lease.number);
        if lease.conn.share().is_some() {
            self.stream_ended(lease.slot);
        } else {
            self.checkin(lease.slot, lease.conn);
        }
    }
}

/// A place in the queue. Dropping it gives the place up, and puts back what was granted meanwhile.
pub(crate) struct Waiting<C: Pooled> {
    pool: Arc<Pool<C>>,
    ticket: Ticket,
    grants: mpsc::UnboundedReceiver<Grant<C>>,
}

impl<C: Pooled> Waiting<C> {
    /// The next grant. Cancel safe: a grant that is not received is put back.
    pub(crate) async fn next(&mut self) -> Grant<C> {
        match self.grants.recv().await {
            Some(grant) => grant,
            // The pool holds the other end as long as the waiter is in the queue.
            None => Grant::Failed(Error::canceled(crate::Phase::GetConnection)),
        }
    }
}

impl<C: Pooled> Drop for Waiting<C> {
    fn drop(&mut self) {
        self.grants.close();
        self.pool.lock().cancel(self.ticket);
        while let Ok(grant) = self.grants.try_recv() {
            self.pool.recover(grant);
        }
    }
}

/// The right to make one connection. Dropping it gives the right to another waiter.
pub(crate) struct Permit<C: Pooled> {
    pool: Arc<Pool<C>>,
    ticket: Option<Ticket>,
}

impl<C: Pooled> Permit<C> {
    /// Whether the request that began this dial still waits for a connection.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.pool.lock().is_waiting(ticket))
    }

    /// Whether the origin has refused HTTP/2, so that only HTTP/1.1 is to be offered.
    pub(crate) fn is_for_http1(&self) -> bool {
        self.ticket.is_some_and(|ticket| self.pool.lock().insists(ticket.host, clock::now()))
    }

    /// The dial brought a connection: `conn` makes it, knowing its place. Returns what became of it.
    pub(crate) fn dialed(mut self, protocol: Protocol, conn: impl FnOnce(SlotId) -> C) -> IdleReturn {
        let Some(ticket) = self.ticket.take() else { unreachable!("a permit is used once") };
        let streams = match protocol {
            Protocol::Http1 => None,
            // Until SETTINGS say otherwise; hyper assumes the same.
            Protocol::Http2 => Some(100),
        };
        self.pool.change(|core, effects| core.dialed(ticket, streams, clock::now(), conn, effects))
    }

    /// The dial failed.
    pub(crate) fn failed(mut self, error: &Error) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.change(|core, effects| core.dial_failed(ticket, error, clock::now(), effects));
        }
    }
}

impl<C: Pooled> Drop for Permit<C> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.change(|core, effects| core.dial_dropped(ticket, clock::now(), effects));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No connection is ever made here.
    enum Never {}

    impl Poolable for Never {
        fn is_open(&self) -> bool {
            match *self {}
        }

        fn share(&self) -> Option<Self> {
            match *self {}
        }
    }

    impl Pooled for Never {
        fn close(self, _: CloseReason) {
            match self {}
        }
    }

    #[test]
    fn a_turn_to_dial_does_not_come_back_to_a_waiter_that_is_leaving() {
        let pool = Pool::<Never>::new(PoolConfig::default());
        let key = PoolKey::from_uri(&http::Uri::from_static("http://origin.test/")).expect("a key");
        let Checked::Waiting { mut waiting, dial: Some(permit), .. } = pool.checkout(&key, clock::now(), false) else {
            panic!("an empty pool has nothing to give but the permit to dial");
        };
        // It is about to leave the queue, on another thread, when its dial is dropped.
        waiting.grants.close();
        drop(permit);
        assert_eq!(pool.busy(), 0);
        drop(waiting);
        assert_eq!(pool.busy(), 0);
    }
}
