//! What came through the doors, as the origin saw it.
//!
//! In: each accept, handshake, request, answer and end. Out: JSON, one object per door:
//!
//! ```json
//! {"h1": {"accepted": 3, "handshakes": 3, "failed_handshakes": 0, "received": 0, "sent": 32,
//!         "answers": {"/slow": {"200": 4}}, "ends": {"idle": {"connections": 3, "used": 2, "requests": 4, "heads": 4}}}}
//! ```
//!
//! `ends` tells of connections that have ended: who ended them, how many were used, how many requests they brought, and how
//! many of those got the head of an answer. `received` and `sent` are bytes of bodies.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

/// How long ago the last request may be for `/loaded`: a few rounds of the load.
const LATELY: Duration = Duration::from_secs(10);

/// Who ended a connection, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The origin, since it had been idle.
    Idle,
    /// The origin, which had announced it in its answer.
    Close,
    /// The origin, in place of an answer.
    Reset,
    /// The origin, in the midst of an answer.
    Cut,
    /// The client, which gets no answer.
    GivenUp,
}

/// All doors.
#[derive(Default)]
pub(crate) struct Counts {
    doors: Mutex<BTreeMap<&'static str, Arc<Door>>>,
}

/// One door.
#[derive(Default)]
pub(crate) struct Door(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    accepted: u64,
    handshakes: u64,
    failed_handshakes: u64,
    received: u64,
    sent: u64,
    ends: BTreeMap<&'static str, Ended>,
    answers: BTreeMap<String, BTreeMap<String, u64>>,
    last: Option<Instant>,
}

/// Connections that have ended in the same way.
#[derive(Default)]
struct Ended {
    connections: u64,
    used: u64,
    requests: u64,
    heads: u64,
}

/// One connection, from its handshake on.
pub(crate) struct Visit {
    door: Arc<Door>,
    requests: AtomicU64,
    heads: AtomicU64,
    end: OnceLock<End>,
}

impl Counts {
    pub(crate) fn door(&self, name: &'static str) -> Arc<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(doors.entry(name).or_default())
    }

    pub(crate) fn to_json(&self) -> Value {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.iter().map(|(name, door)| ((*name).to_owned(), door.seen(|seen| seen.to_json()))).collect()
    }

    /// Whether anybody has asked for anything of late.
    pub(crate) fn lately(&self) -> bool {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.values().filter_map(|door| door.seen(|seen| seen.last)).any(|last| last.elapsed() < LATELY)
    }
}

impl Door {
    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn accepted(&self) {
        self.seen(|seen| seen.accepted += 1);
    }

    pub(crate) fn handshake_failed(&self) {
        self.seen(|seen| seen.failed_handshakes += 1);
    }

    pub(crate) fn shake_hands(self: &Arc<Self>) -> Visit {
        self.seen(|seen| seen.handshakes += 1);
        Visit { door: Arc::clone(self), requests: AtomicU64::new(0), heads: AtomicU64::new(0), end: OnceLock::new() }
    }
}

impl Seen {
    fn to_json(&self) -> Value {
        json!({
            "accepted": self.accepted,
            "handshakes": self.handshakes,
            "failed_handshakes": self.failed_handshakes,
            "received": self.received,
            "sent": self.sent,
            "ends": self.ends.iter().map(|(end, ended)| ((*end).to_owned(), ended.to_json())).collect::<Value>(),
            "answers": self.answers,
        })
    }
}

impl Ended {
    fn to_json(&self) -> Value {
        json!({ "connections": self.connections, "used": self.used, "requests": self.requests, "heads": self.heads })
    }
}

impl Visit {
    /// A request is here, with a body of so many bytes.
    pub(crate) fn asked(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.door.seen(|seen| {
            seen.last = Some(Instant::now());
            seen.received += bytes as u64;
        });
    }

    /// The head of an answer goes out, with a body of so many bytes.
    pub(crate) fn sent(&self, bytes: usize) {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.door.seen(|seen| seen.sent += bytes as u64);
    }

    pub(crate) fn answered(&self, path: &str, how: &str) {
        self.door
            .seen(|seen| *seen.answers.entry(path.to_owned()).or_default().entry(how.to_owned()).or_default() += 1);
    }

    /// The origin ends this connection; the first reason counts.
    pub(crate) fn ended_by(&self, end: End) {
        let _ = self.end.set(end);
    }

    pub(crate) fn was_reset(&self) -> bool {
        matches!(self.end.get(), Some(End::Reset))
    }

    /// The connection is closed.
    pub(crate) fn over(&self) {
        let end = match self.end.get() {
            Some(End::Idle) => "idle",
            Some(End::Close) => "close",
            Some(End::Reset) => "reset",
            Some(End::Cut) => "cut",
            Some(End::GivenUp) => "given_up",
            None => "client",
        };
        self.door.seen(|seen| {
            let ended = seen.ends.entry(end).or_default();
            ended.connections += 1;
            let requests = self.requests.load(Ordering::Relaxed);
            ended.used += u64::from(requests > 0);
            ended.requests += requests;
            ended.heads += self.heads.load(Ordering::Relaxed);
        });
    }
}
