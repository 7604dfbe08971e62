//! The pool's queue: who is served next, and who may dial.
//!
//! ```text
//!   a connection comes back, or a stream ──▶ the first in the queue of its host
//!   a place is free ──▶ the first who has no dial and is let: by its host, then by the pool
//! ```
//!
//! Part of the rules in `core.rs`, and as pure. With a limit for the whole pool, waiters of all hosts stand in one line for
//! its places. Connections that are idle make room for them, and so do those that come back and would go to somebody who
//! came later: they close instead of being handed over. An HTTP/2 connection that is always in use does the same: it takes
//! no more streams, and closes with its last one. So no host is starved by another one that is busier.

use std::time::Instant;

use super::{
    core::{Core, Effects, Host, Slot},
    terms::{Effect, Poolable, Ticket},
};
use crate::hooks::{CloseReason, WaitCause};

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
        let is_http1 = host.learned.is_some_and(|learned| learned.is_http1(now));
        self.config.always_shares || (host.key.https && self.config.may_share && !is_http1)
    }

    fn is_full(&self) -> bool {
        self.config.max_connections.is_some_and(|max| self.busy() >= max)
    }

    /// How many more waiters of this host would dial if the pool had places for all.
    fn places_wanted(&self, index: usize, now: Instant) -> usize {
        let host = &self.hosts[index];
        let mut wanted = host.undialed.len().saturating_sub(host.returning);
        if wanted > 0 && !host.shared.is_empty() {
            wanted =
                wanted.min(self.config.http2_max_connections_per_host.saturating_sub(host.shared.len() + host.dialing));
        }
        if wanted > 0 && self.coalesces(index, now) {
            wanted = usize::from(host.dialing == 0).min(wanted);
        }
        match self.config.max_connections_per_host {
            Some(max) => wanted.min(max.saturating_sub(host.open + host.dialing)),
            None => wanted,
        }
    }

    /// How many of those who wait for a place under the pool's limit will not get one of those that are free, or that will
    /// be when the connections which are closing have closed. `queued`: how many of a host's waiters count.
    fn short(&self, now: Instant, queued: impl Fn(usize, &Host<W>) -> usize) -> usize {
        let Some(max) = self.config.max_connections else { return 0 };
        if self.queued == 0 {
            return 0;
        }
        let places = max.saturating_sub(self.busy()) + self.closing;
        let wanted = self.hosts.iter().map(|(index, host)| match queued(index, host) {
            0 => 0,
            queued => self.places_wanted(index, now).min(queued),
        });
        wanted.sum::<usize>().saturating_sub(places)
    }

    /// Whether somebody waits for a place under the pool's limit that nothing will bring.
    pub(super) fn is_short(&self, now: Instant) -> bool {
        self.short(now, |_, host| host.undialed.len()) > 0
    }

    /// How many of other hosts are short and came before this waiter.
    fn short_before(&self, own: usize, serial: u64, now: Instant) -> usize {
        self.short(now, |index, host| match index == own {
            true => 0,
            false => host.undialed.range(..serial).count(),
        })
    }

    pub(super) fn are_others_before(&self, own: usize, serial: u64, now: Instant) -> bool {
        self.short_before(own, serial, now) > 0
    }

    /// Whether a stream for this waiter would keep a connection from ending that others have waited for longer; not if
    /// enough are to end with their streams already.
    pub(super) fn is_unfair(&self, own: usize, serial: u64, now: Instant) -> bool {
        let short = self.short_before(own, serial, now);
        let ends = |(_, slot): &(usize, &Slot<C>)| slot.draining.is_some() && !slot.closing;
        short > 0 && short > self.slots.iter().filter(ends).count()
    }

    /// The least recently used connections of any host make room for those who are short.
    pub(super) fn make_room(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        while self.is_short(now)
            && let Some(oldest) = self.idle.oldest()
        {
            self.evict(oldest, CloseReason::PoolFull, effects);
        }
    }

    /// A waiter without a dial.
    pub(super) fn queue(&mut self, host: usize, serial: u64) {
        self.queued += usize::from(self.hosts[host].undialed.insert(serial));
    }

    pub(super) fn unqueue(&mut self, host: usize, serial: u64) {
        let host = &mut self.hosts[host];
        host.hopeful.remove(&serial);
        self.queued -= usize::from(host.undialed.remove(&serial));
    }

    pub(super) fn dial_begins(&mut self, host: usize) {
        self.hosts[host].dialing += 1;
        self.dialing += 1;
    }

    pub(super) fn dial_ends(&mut self, host: usize) {
        self.hosts[host].dialing -= 1;
        self.dialing -= 1;
    }

    /// The first waiter that a connection may be given to. Without late binding, who dials waits for its own.
    pub(super) fn first_waiter(&self, host: usize) -> Option<u64> {
        let host = self.hosts.get(host)?;
        match self.config.late_binding {
            true => host.waiters.first_key_value().map(|(serial, _)| *serial),
            false => host.undialed.first().copied(),
        }
    }

    /// The first waiter that takes a connection, or a stream. A used one is not for those who dial because one proved stale.
    pub(super) fn first_taker(&self, host: usize, used: bool) -> Option<u64> {
        let entry = self.hosts.get(host)?;
        if !used || !self.config.late_binding || entry.wary.is_empty() {
            return self.first_waiter(host);
        }
        let takes = |serial: &&u64| !entry.wary.contains(serial) || entry.undialed.contains(serial);
        entry.waiters.keys().find(takes).copied()
    }

    pub(super) fn take_waiter(&mut self, host: usize, serial: u64) -> Option<W> {
        self.unqueue(host, serial);
        self.hosts[host].take(serial)
    }

    /// Serves waiters with streams that are free, then lets those dial who may. Whether any was served.
    pub(super) fn pump(&mut self, host: usize, now: Instant, effects: &mut Effects<C, W>) -> bool {
        let mut served = false;
        while let Some(first) = self.first_taker(host, true) {
            let Some(lease) = self.free_stream(host, first, now, effects) else { break };
            if let Some(waiter) = self.take_waiter(host, first) {
                served = true;
                effects.push(Effect::Serve(waiter, lease));
            }
        }
        if self.config.max_connections.is_none() {
            while self.first_may_dial(host, now).is_some() {
                self.dial_first(host, effects);
            }
        } else if self.queued > 0 {
            self.pump_all(now, effects);
        }
        self.tell_the_hopeless(host, now, effects);
        served
    }

    /// One line for all hosts: the places are the pool's.
    fn pump_all(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        let first = |core: &Self| {
            let hosts = core.hosts.iter().map(|(index, _)| index);
            hosts.filter_map(|index| Some((core.first_may_dial(index, now)?, index))).min()
        };
        while !self.is_full()
            && let Some((_, host)) = first(self)
        {
            self.dial_first(host, effects);
        }
        // Whatever they had queued for: it may be the pool's limit that holds them now.
        self.make_room(now, effects);
    }

    /// Who was told that a connection is just coming back, and is not served by it, learns what it waits for instead.
    fn tell_the_hopeless(&mut self, host: usize, now: Instant, effects: &mut Effects<C, W>) {
        let Some(entry) = self.hosts.get(host).filter(|entry| !entry.hopeful.is_empty()) else { return };
        let Err(Some(cause)) = self.may_dial(host, entry.undialed.len(), now) else { return };
        let passed_over = entry.undialed.iter().skip(entry.returning);
        let hopeless: Vec<_> = passed_over.filter(|serial| entry.hopeful.contains(serial)).copied().collect();
        let entry = &mut self.hosts[host];
        for serial in hopeless {
            entry.hopeful.remove(&serial);
            if let Some(waiter) = entry.waiters.get(&serial) {
                effects.push(Effect::Waits(waiter.clone(), cause));
            }
        }
    }

    /// The first waiter of this host without a dial, if it may dial now.
    fn first_may_dial(&self, host: usize, now: Instant) -> Option<u64> {
        let entry = self.hosts.get(host)?;
        let first = *entry.undialed.first()?;
        self.may_dial(host, entry.undialed.len(), now).ok().map(|()| first)
    }

    /// Its dial is told to its own waiter, which stays in the queue.
    fn dial_first(&mut self, host: usize, effects: &mut Effects<C, W>) {
        let Some(serial) = self.hosts[host].undialed.first().copied() else { return };
        self.unqueue(host, serial);
        if let Some(waiter) = self.hosts[host].waiters.get(&serial).cloned() {
            self.dial_begins(host);
            effects.push(Effect::Dial(waiter, Ticket { host, serial }));
        }
    }

    /// HTTP/2 connections that have reached their age take no more requests.
    pub(super) fn retire_the_old(&mut self, host: usize, now: Instant, effects: &mut Effects<C, W>) {
        if self.config.max_lifetime.is_none() {
            return;
        }
        let shared = self.hosts[host].shared.iter().copied();
        let old: Vec<_> = shared.filter(|index| self.too_old(&self.slots[*index], now)).collect();
        if old.is_empty() {
            return;
        }
        for index in old {
            self.retire(index, CloseReason::LifetimeExpired, effects);
        }
        // Who waited for their streams may dial, before anybody new.
        self.pump(host, now, effects);
    }

    /// An HTTP/2 connection takes no more requests: it ends with those that are on it.
    pub(super) fn retire(&mut self, index: usize, reason: CloseReason, effects: &mut Effects<C, W>) {
        match self.slots[index].streams {
            Some((0, _)) => self.evict(index, reason, effects),
            Some(_) => {
                self.withdraw(index);
                self.slots[index].draining.get_or_insert(reason);
            }
            None => {}
        }
    }
}

#[cfg(test)]
impl<C: Poolable, W: Clone> Core<C, W> {
    pub(super) fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// What its own books must say.
    pub(super) fn check(&self, now: Instant) {
        assert_eq!(self.dialing, self.hosts.iter().map(|(_, host)| host.dialing).sum::<usize>());
        assert_eq!(self.queued, self.hosts.iter().map(|(_, host)| host.undialed.len()).sum::<usize>());
        assert_eq!(self.closing, self.slots.iter().filter(|(_, slot)| slot.closing).count());
        assert!(!self.is_short(now) || self.idle.len() == 0, "somebody is short beside an idle connection");
        for (index, slot) in &self.slots {
            if slot.idle.is_some() {
                assert!(self.idle.iter().any(|other| other == index), "an idle connection is in the order");
                assert!(slot.conn.is_some(), "what is idle is here");
            }
        }
        for (index, host) in &self.hosts {
            // The end of a connection looks at the queue of its host.
            let looks = self.slots.iter().any(|(_, slot)| slot.host == index && slot.closing);
            assert!(looks || self.first_may_dial(index, now).is_none(), "who may dial waits");
            assert!(host.hopeful.is_subset(&host.undialed));
            assert!(host.wary.iter().all(|serial| host.waiters.contains_key(serial)));
            assert!(host.undialed.iter().all(|serial| host.waiters.contains_key(serial)));
            assert!(host.idle.iter().all(|index| self.slots[*index].idle.is_some()), "the stack holds idle ones only");
            assert!(host.idle.len() <= self.config.max_idle_per_host);
            let room = host.shared.iter().any(|index| self.slots[*index].has_room());
            assert!(self.first_taker(index, true).is_none() || !room, "a waiter beside a free stream");
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
