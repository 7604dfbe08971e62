//! The pool's rules. Pure: no async, no clock, no lock; time comes in, effects go out.
//!
//! ```text
//!              checkout                 checkin
//!   idle ─────────────────▶ in use ─────────────────▶ idle | a waiter | closed
//!    ▲                                                  
//!    └── dialed ── a dial ◀── checkout, nothing at hand: wait, and dial if the limits allow it
//! ```
//!
//! A waiter is served by whatever comes first: its own dial, a connection that returns, a free HTTP/2 stream. A dial that
//! its waiter no longer needs goes on and serves another, or the idle pool. Waiters are served in their order, the most
//! recently used connection first. Effects are carried out by the caller after its lock is released.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use slab::Slab;

use super::{
    key::PoolKey,
    learned::{Http1Origins, Learned},
    lru::Lru,
    terms::{Checkout, Effect, Lease, Poolable, SlotId, Ticket},
};
use crate::{
    config::PoolConfig,
    connection::Protocol,
    error::Error,
    hooks::{CloseReason, ConnOutcome, IdleReturn, WaitCause},
};

pub(crate) struct Core<C, W> {
    pub(super) config: PoolConfig,
    pub(super) keys: HashMap<PoolKey, usize>,
    pub(super) hosts: Slab<Host<W>>,
    /// The host that was asked for last, and likely is the next time: to compare its key costs a fifth of a look-up by hash.
    last: usize,
    pub(super) slots: Slab<Slot<C>>,
    /// Idle connections in the order in which they became idle: the first is the least recently used.
    pub(super) idle: Lru,
    /// Of hosts that are forgotten otherwise.
    pub(super) http1_origins: Http1Origins,
    pub(super) serial: u64,
    /// Dials under way, of all hosts.
    pub(super) dialing: usize,
    /// Waiters without a dial of their own, of all hosts.
    pub(super) queued: usize,
    /// Connections whose end is under way: each will free a place soon.
    pub(super) closing: usize,
    pub(super) closed: bool,
}

pub(super) struct Host<W> {
    pub(super) key: PoolKey,
    /// Idle HTTP/1 connections, the most recently used last.
    pub(super) idle: Vec<usize>,
    /// HTTP/2 connections that take streams.
    pub(super) shared: Vec<usize>,
    pub(super) waiters: BTreeMap<u64, W>,
    /// Waiters without a dial of their own, in their order.
    pub(super) undialed: BTreeSet<u64>,
    /// Those of them who were told that a connection is just coming back.
    pub(super) hopeful: BTreeSet<u64>,
    /// Waiters whose last connection proved stale: they take no used one as long as they have a dial of their own.
    pub(super) wary: BTreeSet<u64>,
    pub(super) dialing: usize,
    pub(super) open: usize,
    /// HTTP/1 connections whose response is over, and which will be ready in a moment.
    pub(super) returning: usize,
    pub(super) learned: Option<Learned>,
}

impl<W> Host<W> {
    pub(super) fn take(&mut self, serial: u64) -> Option<W> {
        self.wary.remove(&serial);
        self.waiters.remove(&serial)
    }
}

pub(super) struct Slot<C> {
    pub(super) serial: u64,
    pub(super) host: usize,
    /// `None` while an HTTP/1 connection is on loan.
    pub(super) conn: Option<C>,
    /// Streams in use, and how many there may be; `None`: one request at a time.
    pub(super) streams: Option<(usize, usize)>,
    /// Since when it is idle.
    pub(super) idle: Option<Instant>,
    pub(super) opened: Instant,
    /// Requests that it was handed out for.
    pub(super) uses: u64,
    /// The most that it may be idle, in seconds, where its peer keeps it for less time than the pool would.
    pub(super) limit: Option<u32>,
    /// Its response is over, and it will be ready in a moment.
    pub(super) returning: bool,
    /// It takes no more requests, for this reason.
    pub(super) draining: Option<CloseReason>,
    /// Nobody uses it, and its end is under way.
    pub(super) closing: bool,
}

impl<C: Poolable> Slot<C> {
    /// Whether it takes another stream.
    pub(super) fn has_room(&self) -> bool {
        let free = self.streams.is_some_and(|(active, max)| active < max);
        free && self.conn.as_ref().is_some_and(Poolable::is_open)
    }
}

pub(super) type Effects<C, W> = Vec<Effect<C, W>>;

impl<C: Poolable, W: Clone> Core<C, W> {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            keys: HashMap::new(),
            hosts: Slab::new(),
            last: 0,
            slots: Slab::new(),
            idle: Lru::default(),
            http1_origins: Http1Origins::default(),
            serial: 0,
            dialing: 0,
            queued: 0,
            closing: 0,
            closed: false,
        }
    }

    /// A connection, or a place in the queue. `fresh`: another connection has just proved stale, so idle ones of HTTP/1
    /// are passed over, and those of HTTP/2 where one more may be dialled. `waiter` is made only if one must wait.
    pub(crate) fn checkout(
        &mut self,
        key: &PoolKey,
        now: Instant,
        fresh: bool,
        waiter: impl FnOnce() -> W,
        effects: &mut Effects<C, W>,
    ) -> Checkout<C> {
        let host = self.host(key);
        self.retire_the_old(host, now, effects);
        // What is open may be as stale as the one before: a new one, if there may be one.
        let dials = fresh && self.may_dial(host, usize::MAX, now).is_ok();
        if !dials && let Some(lease) = self.free_stream(host, u64::MAX, now, effects) {
            return Checkout::Ready(lease);
        }
        if !fresh && let Some(lease) = self.most_recently_used(host, now, effects) {
            return Checkout::Ready(lease);
        }
        let serial = self.next_serial();
        // Who wants a new connection has no hope in one that is just coming back.
        let ahead = if fresh { usize::MAX } else { self.hosts[host].undialed.len() + 1 };
        let may_dial = self.may_dial(host, ahead, now);
        self.hosts[host].waiters.insert(serial, waiter());
        if fresh {
            self.hosts[host].wary.insert(serial);
        }
        let (dial, cause) = match may_dial {
            Ok(()) => {
                self.dial_begins(host);
                (true, Some(WaitCause::Dial))
            }
            Err(cause) => {
                self.queue(host, serial);
                if cause.is_none() {
                    self.hosts[host].hopeful.insert(serial);
                }
                (false, cause)
            }
        };
        if cause == Some(WaitCause::PoolLimit) {
            self.make_room(now, effects);
        }
        Checkout::Wait { ticket: Ticket { host, serial }, dial, cause }
    }

    /// A waiter gave up. Its dial, if it has one, goes on.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        if let Some(host) = self.hosts.get_mut(ticket.host) {
            host.take(ticket.serial);
            self.unqueue(ticket.host, ticket.serial);
        }
        self.forget_if_empty(ticket.host);
    }

    /// Whether the waiter who began this dial still waits.
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.hosts.get(ticket.host).is_some_and(|host| host.waiters.contains_key(&ticket.serial))
    }

    /// A dial brought a connection. Its own waiter comes first, then the others, then the idle pool. `streams`: how many
    /// at once; `None` for HTTP/1. Returns the connection's place, and what became of it.
    pub(crate) fn dialed(
        &mut self,
        ticket: Ticket,
        streams: Option<usize>,
        now: Instant,
        conn: impl FnOnce(SlotId) -> C,
        effects: &mut Effects<C, W>,
    ) -> IdleReturn {
        let serial = self.next_serial();
        let protocol = if streams.is_some() { Protocol::Http2 } else { Protocol::Http1 };
        self.dial_ends(ticket.host);
        let host = &mut self.hosts[ticket.host];
        host.open += 1;
        let insists = host.learned.is_some_and(|learned| learned.insists(now));
        if !insists {
            host.learned = Some(Learned { protocol, at: now, insists });
        }
        let index = self.slots.insert(Slot {
            serial,
            host: ticket.host,
            conn: None,
            streams: streams.map(|max| (0, max)),
            idle: None,
            opened: now,
            uses: 0,
            limit: None,
            returning: false,
            draining: None,
            closing: false,
        });
        let slot = SlotId { index, serial };
        let conn = conn(slot);
        // Of a pool that is closed too: who waits for it has nothing else to wait for.
        let owner = self.hosts[ticket.host].take(ticket.serial);
        if streams.is_some() {
            self.slots[index].conn = Some(conn);
            self.hosts[ticket.host].shared.push(index);
            let own = owner.map(|owner| (owner, self.lease_stream(index, now)));
            if insists {
                // It was on its way when another was refused: at most its own request may try it.
                self.retire(index, CloseReason::GoAway, effects);
            }
            let owned = own.is_some();
            if let Some((sender, lease)) = own {
                effects.push(Effect::Serve(sender, Lease { outcome: ConnOutcome::New, ..lease }));
            }
            let served = self.pump(ticket.host, now, effects);
            return match (owned || served, self.slots[index].streams) {
                (false, Some((0, _))) => self.rest(index, now, effects),
                _ => IdleReturn::HandedOver,
            };
        }
        let outcome = match owner {
            Some(owner) => {
                effects.push(Effect::Serve(owner, self.lend(index, conn, ConnOutcome::New, None)));
                IdleReturn::HandedOver
            }
            None => self.give(index, conn, now, effects),
        };
        self.pump(ticket.host, now, effects);
        outcome
    }

    /// A dial failed. Its waiter gets the error, and so do all who waited for this dial only.
    pub(crate) fn dial_failed(&mut self, ticket: Ticket, error: &Error, now: Instant, effects: &mut Effects<C, W>) {
        self.dial_ends(ticket.host);
        let host = &mut self.hosts[ticket.host];
        if let Some(owner) = host.take(ticket.serial) {
            effects.push(Effect::Fail(owner, error.clone()));
        }
        let last = host.dialing == 0 && host.shared.is_empty();
        if last && self.coalesces(ticket.host, now) {
            // They waited for this dial instead of making their own; the first few for connections that are coming back.
            let host = &self.hosts[ticket.host];
            let waited: Vec<_> = host.undialed.iter().copied().skip(host.returning).collect();
            for serial in waited {
                self.unqueue(ticket.host, serial);
                if let Some(waiter) = self.hosts[ticket.host].take(serial) {
                    effects.push(Effect::Fail(waiter, error.clone()));
                }
            }
        }
        self.pump(ticket.host, now, effects);
        self.forget_if_empty(ticket.host);
    }

    /// A dial was given up before it came to anything (its runtime ended). Who waited for it may dial themselves.
    pub(crate) fn dial_dropped(&mut self, ticket: Ticket, now: Instant, effects: &mut Effects<C, W>) {
        self.dial_ends(ticket.host);
        if self.is_waiting(ticket) {
            self.queue(ticket.host, ticket.serial);
        }
        self.pump(ticket.host, now, effects);
        self.forget_if_empty(ticket.host);
    }

    /// The response on an HTTP/1 connection is over; it will come back in a moment, or be closed.
    pub(crate) fn returning(&mut self, slot: SlotId) {
        if self.is_current(slot) && !std::mem::replace(&mut self.slots[slot.index].returning, true) {
            self.hosts[self.slots[slot.index].host].returning += 1;
        }
    }

    fn returned(&mut self, index: usize) {
        if std::mem::take(&mut self.slots[index].returning) {
            self.hosts[self.slots[index].host].returning -= 1;
        }
    }

    /// A request is done with an HTTP/1 connection that can carry another one.
    pub(crate) fn checkin(&mut self, slot: SlotId, conn: C, now: Instant, effects: &mut Effects<C, W>) -> IdleReturn {
        if !self.is_current(slot) {
            effects.push(Effect::Close(conn, CloseReason::PeerClosed));
            return IdleReturn::Closed(CloseReason::PeerClosed);
        }
        self.returned(slot.index);
        let host = self.slots[slot.index].host;
        let outcome = self.give(slot.index, conn, now, effects);
        if !self.hosts[host].undialed.is_empty() {
            // It may have gone to somebody else than who waited for just this one.
            self.pump(host, now, effects);
        }
        outcome
    }

    /// A stream of an HTTP/2 connection is free again.
    pub(crate) fn stream_ended(&mut self, slot: SlotId, now: Instant, effects: &mut Effects<C, W>) -> IdleReturn {
        if !self.is_current(slot) {
            return IdleReturn::Closed(CloseReason::PeerClosed);
        }
        let entry = &mut self.slots[slot.index];
        let host = entry.host;
        if let Some((active, _)) = &mut entry.streams {
            *active = active.saturating_sub(1);
        }
        if self.pump(host, now, effects) {
            return IdleReturn::HandedOver;
        }
        match self.slots[slot.index].streams {
            Some((0, _)) => self.rest(slot.index, now, effects),
            _ => IdleReturn::Shared,
        }
    }

    /// The peer allows this many streams at once.
    pub(crate) fn max_streams(&mut self, slot: SlotId, max: usize, now: Instant, effects: &mut Effects<C, W>) {
        if self.is_current(slot) {
            let entry = &mut self.slots[slot.index];
            let host = entry.host;
            if let Some((_, limit)) = &mut entry.streams {
                *limit = max;
            }
            self.pump(host, now, effects);
        }
    }

    /// The peer takes no more requests on this connection; those that run may end. Returns how long it had been idle.
    pub(crate) fn draining(&mut self, slot: SlotId, now: Instant, effects: &mut Effects<C, W>) -> Option<Duration> {
        let mut idle = None;
        if self.is_current(slot) {
            let host = self.slots[slot.index].host;
            idle = self.slots[slot.index].idle.map(|since| now.saturating_duration_since(since));
            self.withdraw(slot.index);
            self.slots[slot.index].draining.get_or_insert(CloseReason::GoAway);
            if matches!(self.slots[slot.index].streams, Some((0, _))) {
                self.is_closing(slot.index);
            }
            self.pump(host, now, effects);
        }
        idle
    }

    /// The origin has refused HTTP/2: its connections end with what is on them, and what is dialled for a while offers
    /// HTTP/1.1 only.
    pub(crate) fn insists_on_http1(&mut self, key: &PoolKey, now: Instant, effects: &mut Effects<C, W>) {
        let host = self.host(key);
        self.hosts[host].learned = Some(Learned { protocol: Protocol::Http1, at: now, insists: true });
        for index in self.hosts[host].shared.clone() {
            self.retire(index, CloseReason::GoAway, effects);
        }
        self.pump(host, now, effects);
        self.forget_if_empty(host);
    }

    /// Whether this host is offered HTTP/1.1 only.
    pub(crate) fn insists(&self, host: usize, now: Instant) -> bool {
        self.hosts.get(host).and_then(|host| host.learned).is_some_and(|learned| learned.insists(now))
    }

    /// A connection is closed, for whatever reason: its place is free. Returns how long it had been idle, if nobody had it
    /// and the pool did not close it.
    pub(crate) fn closed(&mut self, slot: SlotId, now: Instant, effects: &mut Effects<C, W>) -> Option<Duration> {
        if !self.is_current(slot) {
            return None;
        }
        let idle = self.slots[slot.index].idle.map(|since| now.saturating_duration_since(since));
        self.withdraw(slot.index);
        self.returned(slot.index);
        let Slot { host, closing, .. } = self.slots.remove(slot.index);
        self.closing -= usize::from(closing);
        self.hosts[host].open -= 1;
        self.pump(host, now, effects);
        self.forget_if_empty(host);
        idle
    }

    /// When this connection is to be looked at again, and whether it is over now: idle for too long, or too old.
    pub(crate) fn expiry(&mut self, slot: SlotId, now: Instant, effects: &mut Effects<C, W>) -> Option<Instant> {
        if !self.is_current(slot) {
            return None;
        }
        let entry = &self.slots[slot.index];
        let dies = self.config.max_lifetime.map(|life| entry.opened + life);
        let timeout = self.idle_limit(entry);
        let expires = entry.idle.zip(timeout).map(|(since, timeout)| since + timeout);
        let over = if expires.is_some_and(|at| at <= now) {
            Some(CloseReason::IdleTimeout)
        } else if entry.idle.is_some() && dies.is_some_and(|at| at <= now) {
            Some(CloseReason::LifetimeExpired)
        } else {
            None
        };
        if let Some(reason) = over {
            self.evict(slot.index, reason, effects);
            return None;
        }
        if dies.is_some_and(|at| at <= now) {
            let host = entry.host;
            self.retire(slot.index, CloseReason::LifetimeExpired, effects);
            self.pump(host, now, effects);
        }
        // In use: it can't become idle for a whole timeout before this.
        let idle_at = expires.or(timeout.map(|timeout| now + timeout));
        [idle_at, dies.filter(|at| *at > now)].into_iter().flatten().min()
    }

    /// Closes what is idle.
    pub(crate) fn close_idle(&mut self, effects: &mut Effects<C, W>) {
        let idle: Vec<_> = self.idle.iter().collect();
        for index in idle {
            self.evict(index, CloseReason::PoolClosed, effects);
        }
    }

    /// Takes no more connections back, and closes what is idle.
    pub(crate) fn close(&mut self, effects: &mut Effects<C, W>) {
        self.closed = true;
        self.close_idle(effects);
    }

    /// Connections that are open, and dials under way.
    pub(crate) fn busy(&self) -> usize {
        self.slots.len() + self.dialing
    }

    // === what the above is made of ===

    fn host(&mut self, key: &PoolKey) -> usize {
        if self.hosts.get(self.last).is_some_and(|host| host.key == *key) {
            return self.last;
        }
        if let Some(host) = self.keys.get(key) {
            self.last = *host;
            return *host;
        }
        let learned = if key.https { self.http1_origins.recall(key) } else { None };
        let host = self.hosts.insert(Host {
            key: key.clone(),
            idle: Vec::new(),
            shared: Vec::new(),
            waiters: BTreeMap::new(),
            undialed: BTreeSet::new(),
            hopeful: BTreeSet::new(),
            wary: BTreeSet::new(),
            dialing: 0,
            open: 0,
            returning: 0,
            learned,
        });
        self.keys.insert(key.clone(), host);
        host
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn is_current(&self, slot: SlotId) -> bool {
        self.slots.get(slot.index).is_some_and(|entry| entry.serial == slot.serial)
    }

    /// A free HTTP/1 connection: to the first waiter, or to the idle pool, or closed.
    fn give(&mut self, index: usize, conn: C, now: Instant, effects: &mut Effects<C, W>) -> IdleReturn {
        let slot = &self.slots[index];
        let host = slot.host;
        let first = self.first_taker(host, slot.uses > 0);
        let refused = if self.closed {
            Some(CloseReason::PoolClosed)
        } else if self.too_old(slot, now) {
            Some(CloseReason::LifetimeExpired)
        } else if first.is_some_and(|first| self.are_others_before(host, first, now)) {
            Some(CloseReason::PoolFull)
        } else {
            None
        };
        if let Some(reason) = refused {
            return self.refuse(index, conn, reason, effects);
        }
        if let Some(waiter) = first.and_then(|first| self.take_waiter(host, first)) {
            effects.push(Effect::Serve(waiter, self.lend(index, conn, ConnOutcome::HandedOver, None)));
            return IdleReturn::HandedOver;
        }
        self.slots[index].conn = Some(conn);
        self.rest(index, now, effects)
    }

    /// A connection that nobody waits for becomes idle, unless the limits refuse it.
    fn rest(&mut self, index: usize, now: Instant, effects: &mut Effects<C, W>) -> IdleReturn {
        let slot = &self.slots[index];
        let host = slot.host;
        let refused = if let Some(reason) = slot.draining {
            Some(reason)
        } else if self.closed {
            Some(CloseReason::PoolClosed)
        } else if self.too_old(slot, now) {
            Some(CloseReason::LifetimeExpired)
        } else if self.config.max_idle == 0 || self.config.max_idle_per_host == 0 {
            Some(CloseReason::KeepAliveDisabled)
        } else if slot.streams.is_none() && self.hosts[host].idle.len() >= self.config.max_idle_per_host {
            Some(CloseReason::HostPoolFull)
        } else if self.is_short(now) {
            Some(CloseReason::PoolFull)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.evict(index, reason, effects);
            return IdleReturn::Closed(reason);
        }
        if self.idle.len() >= self.config.max_idle
            && let Some(oldest) = self.idle.oldest()
        {
            // The least recently used one makes room.
            self.evict(oldest, CloseReason::PoolFull, effects);
        }
        self.slots[index].idle = Some(now);
        self.idle.join(index);
        if self.slots[index].streams.is_none() {
            self.hosts[host].idle.push(index);
        }
        IdleReturn::Pooled
    }

    /// Takes a connection out of everything that hands it out. Its place stays until `closed`.
    pub(super) fn withdraw(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let host = &mut self.hosts[slot.host];
        if slot.idle.take().is_some() {
            self.idle.leave(index);
            if slot.streams.is_none()
                && let Some(at) = host.idle.iter().rposition(|other| *other == index)
            {
                host.idle.remove(at);
            }
        }
        if slot.streams.is_some() && slot.draining.is_none() {
            host.shared.retain(|other| *other != index);
        }
    }

    /// Withdraws a connection that no request is using, and has it closed.
    pub(super) fn evict(&mut self, index: usize, reason: CloseReason, effects: &mut Effects<C, W>) {
        self.withdraw(index);
        self.slots[index].draining.get_or_insert(reason);
        self.is_closing(index);
        if let Some(conn) = self.slots[index].conn.take() {
            effects.push(Effect::Close(conn, reason));
        }
    }

    /// The same for one that is not in its slot.
    fn refuse(&mut self, index: usize, conn: C, reason: CloseReason, effects: &mut Effects<C, W>) -> IdleReturn {
        self.slots[index].conn = Some(conn);
        self.evict(index, reason, effects);
        IdleReturn::Closed(reason)
    }

    /// Its end is under way.
    fn is_closing(&mut self, index: usize) {
        self.closing += usize::from(!std::mem::replace(&mut self.slots[index].closing, true));
    }

    /// Hosts that nobody uses are forgotten, so that the pool does not grow with every host ever seen; all but their
    /// HTTP/1.1.
    fn forget_if_empty(&mut self, host: usize) {
        let Some(entry) = self.hosts.get(host) else { return };
        if entry.open == 0 && entry.dialing == 0 && entry.waiters.is_empty() {
            let entry = self.hosts.remove(host);
            self.keys.remove(&entry.key);
            let learned = entry.learned.filter(|learned| learned.protocol == Protocol::Http1);
            let matters = |learned: &Learned| entry.key.https && (self.config.may_share || learned.insists);
            if let Some(learned) = learned.filter(matters) {
                self.http1_origins.keep(&entry.key, learned);
            }
        }
    }
}
