//! The pool's queue: who is served next, and who may dial.
//!
//! ```text
//!   a connection comes back, or a stream ──▶ the first in the queue of its host
//!   a place is free ──▶ the first who has no dial and is let: by its host, then by the pool
//! ```
//!
//! Part of the rules in `core.rs`, and as pure. With a limit for the whole pool, waiters of all hosts stand in one line for
//! its places; connections that are idle make room for them.

use std::time::{Duration, Instant};

use super::{
    core::{Core, Effects},
    terms::{Effect, Poolable, Ticket},
};
use crate::{
    connection::Protocol,
    hooks::{CloseReason, WaitCause},
};

impl<C: Poolable, W: Clone> Core<C, W> {
    /// Whether the `undialed`th waiter without a dial may dial now, or what is to be waited for instead. `None`: for a
    /// connection that is just coming back.
    pub(super) fn may_dial(&self, index: usize, undialed: usize, now: Instant) -> Result<(), Option<WaitCause>> {
        let host = &self.hosts[index];
        if !host.shared.is_empty() && host.shared.len() + host.dialing >= self.config.http2_max_connections_per_host {
            return Err(Some(WaitCause::Http2Streams));
        }
        if host.returning >= undialed {
            // hyper needs a moment between a body's last byte and its readiness: shorter than any dial.
            return Err(None);
        }
        if host.dialing > 0 && self.coalesces(index, now) {
            return Err(Some(WaitCause::OtherDial));
        }
        if self.config.max_connections_per_host.is_some_and(|max| host.open + host.dialing >= max) {
            return Err(Some(WaitCause::HostLimit));
        }
        if self.is_full() { Err(Some(WaitCause::PoolLimit)) } else { Ok(()) }
    }

    /// Whether one dial may serve all who wait.
    pub(super) fn coalesces(&self, host: usize, now: Instant) -> bool {
        let host = &self.hosts[host];
        let remembered = |at| now.saturating_duration_since(at) < REMEMBER_PROTOCOL;
        let is_http1 = matches!(host.learned, Some((Protocol::Http1, at)) if remembered(at));
        self.config.always_shares || (host.key.https && self.config.may_share && !is_http1)
    }

    fn is_full(&self) -> bool {
        self.config.max_connections.is_some_and(|max| self.busy() >= max)
    }

    /// Whether somebody waits for a place under the pool's limit.
    pub(super) fn others_are_short(&self, now: Instant) -> bool {
        self.is_full()
            && self.hosts.iter().any(|(index, host)| {
                !host.undialed.is_empty()
                    && self.may_dial(index, host.undialed.len(), now) == Err(Some(WaitCause::PoolLimit))
            })
    }

    /// The least recently used connection of any host makes room for one more.
    pub(super) fn make_room(&mut self, effects: &mut Effects<C, W>) {
        if let Some(oldest) = self.idle.oldest() {
            self.evict(oldest, CloseReason::PoolFull, effects);
        }
    }

    /// Takes the first waiter that a connection may be given to. Without late binding, who dials waits for its own.
    pub(super) fn next_waiter(&mut self, host: usize) -> Option<W> {
        let host = &mut self.hosts[host];
        let serial = match self.config.late_binding {
            true => *host.waiters.first_key_value()?.0,
            false => *host.undialed.first()?,
        };
        host.undialed.remove(&serial);
        host.waiters.remove(&serial)
    }

    /// Serves waiters with streams that are free, then lets those dial who may. Whether any was served.
    pub(super) fn pump(&mut self, host: usize, now: Instant, effects: &mut Effects<C, W>) -> bool {
        let mut served = false;
        while let Some(entry) = self.hosts.get(host)
            && !(if self.config.late_binding { entry.waiters.is_empty() } else { entry.undialed.is_empty() })
        {
            let Some(lease) = self.free_stream(host, now) else { break };
            if let Some(waiter) = self.next_waiter(host) {
                served = true;
                effects.push(Effect::Serve(waiter, lease));
            }
        }
        if self.config.max_connections.is_none() {
            while self.first_may_dial(host, now).is_some() {
                self.dial_first(host, effects);
            }
            return served;
        }
        // One line for all hosts: the places are the pool's.
        let first = |core: &Self| {
            let hosts = core.hosts.iter().map(|(index, _)| index);
            hosts.filter_map(|index| Some((core.first_may_dial(index, now)?, index))).min()
        };
        while let Some((_, host)) = first(self) {
            self.dial_first(host, effects);
        }
        served
    }

    /// The first waiter of this host without a dial, if it may dial now.
    fn first_may_dial(&self, host: usize, now: Instant) -> Option<u64> {
        let entry = self.hosts.get(host)?;
        let first = *entry.undialed.first()?;
        self.may_dial(host, entry.undialed.len(), now).ok().map(|()| first)
    }

    /// Its dial is told to its own waiter, which stays in the queue.
    fn dial_first(&mut self, host: usize, effects: &mut Effects<C, W>) {
        let entry = &mut self.hosts[host];
        let Some(serial) = entry.undialed.pop_first() else { return };
        if let Some(waiter) = entry.waiters.get(&serial) {
            entry.dialing += 1;
            effects.push(Effect::Dial(waiter.clone(), Ticket { host, serial }));
        }
    }

    /// HTTP/2 connections that have reached their age take no more requests.
    pub(super) fn retire_the_old(&mut self, host: usize, now: Instant, effects: &mut Effects<C, W>) {
        if self.config.max_lifetime.is_none() {
            return;
        }
        let shared = self.hosts[host].shared.iter().copied();
        let old: Vec<_> = shared.filter(|index| self.too_old(&self.slots[*index], now)).collect();
        for index in old {
            if self.slots[index].idle.is_some() {
                self.evict(index, CloseReason::LifetimeExpired, effects);
            } else {
                self.retire(index);
            }
        }
    }

    /// It ends with the requests that are on it.
    pub(super) fn retire(&mut self, index: usize) {
        let slot = &self.slots[index];
        if slot.streams.is_some_and(|(active, _)| active > 0) && slot.draining.is_none() {
            self.withdraw(index);
            self.slots[index].draining = Some(CloseReason::LifetimeExpired);
        }
    }
}

/// How long an origin's HTTP/1.1 is remembered: until then its cold requests dial at once.
const REMEMBER_PROTOCOL: Duration = Duration::from_secs(600);

#[cfg(test)]
impl<C: Poolable, W: Clone> Core<C, W> {
    pub(super) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// What its own books must say.
    pub(super) fn check(&self) {
        for (index, slot) in &self.slots {
            if slot.idle.is_some() {
                assert!(self.idle.iter().any(|other| other == index), "an idle connection is in the order");
                assert!(slot.conn.is_some(), "what is idle is here");
            }
        }
        for (_, host) in &self.hosts {
            assert!(host.undialed.iter().all(|serial| host.waiters.contains_key(serial)));
            assert!(host.idle.iter().all(|index| self.slots[*index].idle.is_some()), "the stack holds idle ones only");
            assert!(host.idle.len() <= self.config.max_idle_per_host);
            let room = host.shared.iter().any(|index| {
                let slot = &self.slots[*index];
                slot.conn.as_ref().is_some_and(Poolable::is_open) && slot.streams.is_some_and(|(used, max)| used < max)
            });
            let takers = if self.config.late_binding { host.waiters.len() } else { host.undialed.len() };
            assert!(takers == 0 || !room, "a waiter beside a free stream");
            let open = host.open + host.dialing;
            assert!(self.config.max_connections_per_host.is_none_or(|max| open <= max), "more than the cap");
            let full = self.config.max_connections.is_some_and(|max| self.busy() >= max);
            assert!(host.open > 0 || host.dialing > 0 || host.waiters.is_empty() || full, "nobody will serve these");
        }
        for (index, host) in self.keys.values().map(|index| (index, &self.hosts[*index])) {
            let open = self.slots.iter().filter(|(_, slot)| slot.host == *index).count();
            assert_eq!(open, host.open, "every open connection is counted once");
        }
    }
}
