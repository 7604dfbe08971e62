//! One connection's metrics: whether it is in use, how long it lived, what it served, and how its idle times ended.
//!
//! It is in use while somebody holds it: its dial at first, then requests. Who comes and who goes is counted, since a
//! request may take it before the one that had it is told to have returned it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use opentelemetry::KeyValue;

use super::{Instruments, servers::Server};
use crate::{
    clock,
    connection::ConnectionInfo,
    hooks::{CloseReason, IdleReturn},
    timeline::ConnectionReport,
    views::semconv::*,
};

pub(super) struct Connection {
    instruments: Arc<Instruments>,
    server: Arc<Server>,
    info: Arc<ConnectionInfo>,
    state: Mutex<State>,
}

struct State {
    users: u32,
    /// Since when the idle pool has it.
    idle: Option<Instant>,
    closed: bool,
}

impl Connection {
    pub(super) fn opened(instruments: Arc<Instruments>, server: Arc<Server>, info: Arc<ConnectionInfo>) -> Self {
        server.open(info.protocol, true).add(1);
        Self { instruments, server, info, state: Mutex::new(State { users: 1, idle: None, closed: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self, into_use: bool) {
        self.server.open(self.info.protocol, into_use).add(1);
        self.server.open(self.info.protocol, !into_use).add(-1);
    }
}

impl ConnectionReport for Connection {
    fn taken(&self) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.users += 1;
        state.idle = None;
        if state.users == 1 {
            self.moves(true);
        }
    }

    fn returned(&self, outcome: IdleReturn) {
        let mut state = self.state();
        // What is about to be closed stays in use until it is.
        if state.closed || outcome.reason().is_some() {
            return;
        }
        state.users = state.users.saturating_sub(1);
        if state.users == 0 {
            self.moves(false);
            state.idle = (outcome == IdleReturn::Pooled).then(clock::now);
        }
    }

    fn closed(&self, reason: CloseReason, answered: u64) {
        let idle = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            self.server.open(self.info.protocol, state.users > 0).add(-1);
            state.idle.take()
        };
        let now = clock::now();
        let [address, port] = &self.server.labels;
        let with = |key, value: &'static str| [KeyValue::new(key, value), address.clone(), port.clone()];
        let lived = now.saturating_duration_since(self.info.ready).as_secs_f64();
        let version = with(NETWORK_PROTOCOL_VERSION, version(self.info.protocol));
        self.instruments.connection_duration.record(lived, &version);
        self.instruments.connection_requests.record(answered, &with(CONNECTION_CLOSE_REASON, reason.as_str()));
        if let Some(since) = idle {
            let expired = matches!(reason, CloseReason::IdleTimeout | CloseReason::LifetimeExpired);
            let outcome = with(IDLE_OUTCOME, if expired { "expired" } else { "closed" });
            self.instruments.idle.record(now.saturating_duration_since(since).as_secs_f64(), &outcome);
        }
    }
}
