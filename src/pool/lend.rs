//! The pool's loans: which connection is handed out, and with which facts.
//!
//! Comes in: a host, and who asks. Goes out: a [`Lease`], the most recently used connection first; what may not be used any
//! more is closed on the way. Part of the rules in `core.rs`, and as pure.

use std::time::{Duration, Instant};

use super::{
    core::{Core, Effects, Slot},
    terms::{Lease, Poolable, SlotId},
};
use crate::hooks::{CloseReason, ConnOutcome};

impl<C: Poolable, W: Clone> Core<C, W> {
    /// A stream of an HTTP/2 connection that has room, for this waiter. What may not be used any more ends on the way.
    pub(super) fn free_stream(
        &mut self,
        host: usize,
        taker: u64,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) -> Option<Lease<C>> {
        loop {
            let free = |index: &usize| self.slots[*index].has_room();
            let index = self.hosts[host].shared.iter().copied().find(free)?;
            let reason = if self.idle_for_too_long(&self.slots[index], now) {
                CloseReason::IdleTimeout
            } else if self.is_unfair(host, taker, now) {
                CloseReason::PoolFull
            } else {
                return Some(self.lease_stream(index, now));
            };
            self.retire(index, reason, effects);
        }
    }

    /// The idle HTTP/1 connection that was used last; those that may not be used any more are closed on the way.
    pub(super) fn most_recently_used(
        &mut self,
        host: usize,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) -> Option<Lease<C>> {
        while let Some(index) = self.hosts[host].idle.last().copied() {
            let slot = &self.slots[index];
            let since = slot.idle.unwrap_or(now);
            let idle_time = now.saturating_duration_since(since);
            let reason = if !slot.conn.as_ref().is_some_and(Poolable::is_open) {
                Some(CloseReason::PeerClosed)
            } else if self.idle_limit(slot).is_some_and(|timeout| idle_time >= timeout) {
                Some(CloseReason::IdleTimeout)
            } else if self.too_old(slot, now) {
                Some(CloseReason::LifetimeExpired)
            } else {
                None
            };
            if let Some(reason) = reason {
                self.evict(index, reason, effects);
                continue;
            }
            self.withdraw(index);
            let conn = self.slots[index].conn.take()?;
            return Some(self.lend(index, conn, ConnOutcome::Idle, Some(idle_time)));
        }
        None
    }

    /// The peer keeps this connection for so long when it is idle, so the pool keeps it no longer.
    pub(crate) fn limit_idle(&mut self, slot: SlotId, limit: Duration) {
        if self.is_current(slot) {
            self.slots[slot.index].limit = Some(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX));
        }
    }

    /// Whose connection it is.
    pub(crate) fn origin(&self, slot: SlotId) -> Option<(&str, u16)> {
        let host = self.is_current(slot).then(|| &self.hosts[self.slots[slot.index].host])?;
        Some((host.key.host(), host.key.port))
    }

    /// The most that it may be idle.
    pub(super) fn idle_limit(&self, slot: &Slot<C>) -> Option<Duration> {
        let limit = slot.limit.map(|seconds| Duration::from_secs(seconds.into()));
        self.config.idle_timeout.into_iter().chain(limit).min()
    }

    /// Also where no timer ran: the machine was suspended.
    fn idle_for_too_long(&self, slot: &Slot<C>, now: Instant) -> bool {
        let idle = slot.idle.map(|since| now.saturating_duration_since(since));
        idle.zip(self.idle_limit(slot)).is_some_and(|(idle, timeout)| idle >= timeout)
    }

    pub(super) fn too_old(&self, slot: &Slot<C>, now: Instant) -> bool {
        self.config.max_lifetime.is_some_and(|life| now.saturating_duration_since(slot.opened) >= life)
    }

    /// One more stream on an HTTP/2 connection that has room.
    pub(super) fn lease_stream(&mut self, index: usize, now: Instant) -> Lease<C> {
        let slot = &mut self.slots[index];
        let idle = slot.idle.take();
        if idle.is_some() {
            self.idle.leave(index);
        }
        let active = slot.streams.map_or(0, |(active, _)| active);
        slot.streams = slot.streams.map(|(active, max)| (active + 1, max));
        let outcome = match (idle, active) {
            (Some(_), _) => ConnOutcome::Idle,
            (None, 0) => ConnOutcome::HandedOver,
            (None, _) => ConnOutcome::Shared,
        };
        let conn = slot
            .conn
            .as_ref()
            .and_then(Poolable::share)
            .expect("an HTTP/2 connection stays in its slot and can be shared");
        let idle_time = idle.map(|since| now.saturating_duration_since(since));
        self.lend(index, conn, outcome, idle_time)
    }

    pub(super) fn lend(
        &mut self,
        index: usize,
        conn: C,
        outcome: ConnOutcome,
        idle_time: Option<Duration>,
    ) -> Lease<C> {
        let slot = &mut self.slots[index];
        slot.uses += 1;
        Lease { conn, slot: SlotId { index, serial: slot.serial }, outcome, idle_time, number: slot.uses }
    }

    /// A loan that came to nothing: no request was sent, so it does not count.
    pub(crate) fn unused(&mut self, slot: SlotId, number: u64) {
        if self.is_current(slot) {
            let slot = &mut self.slots[slot.index];
            // Only the last number can be taken back.
            slot.uses -= u64::from(slot.uses == number);
        }
    }
}
