//! One dial: a task of its own. It makes a connection and gives it to the pool, whatever became of the request that began
//! it; a dial that ended without its request tells its own story.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::keep_alive::KeepAlives;
use crate::{
    clock,
    config::ExchangeConfig,
    connection::{ConnectionInfo, TraceRef},
    dial::{Dialed, Dialer, Progress, Target, Watched},
    error::Error,
    exchange::{self, Conn, Home},
    facts::KeepAlive,
    hooks::{ClientTrace, CloseReason, IdleReturn, contained, emit::Hooks},
    pool::{Permit, Pool, Poolable, Pooled, SlotId},
    timeline::{ConnectionReport, DialOutcome, DialRecorder, PendingDial, Reports, RequestInfo, tell},
};

pub(super) struct Dial {
    pub(super) dialer: Arc<Dialer>,
    pub(super) pool: Arc<Pool<Conn>>,
    pub(super) exchange: ExchangeConfig,
    pub(super) trace: Option<Arc<dyn ClientTrace>>,
    pub(super) target: Target,
    pub(super) hooks: Hooks,
    pub(super) reports: Reports,
    pub(super) info: Option<Arc<RequestInfo>>,
    pub(super) setup: Option<TraceRef>,
    pub(super) keep_alives: Arc<KeepAlives>,
    pub(super) progress: Arc<Progress>,
}

impl Dial {
    /// Makes a connection and gives it to the pool, which knows who needs it.
    pub(super) async fn run(self, permit: Permit<Conn>) {
        let recorder = match &self.info {
            Some(info) if self.reports.record() => Some(Arc::new(DialRecorder::new(info))),
            _ => None,
        };
        let hooks = match &recorder {
            Some(recorder) => self.hooks.with_recorder(Arc::clone(recorder) as Arc<dyn ClientTrace>),
            None => self.hooks.clone(),
        };
        // Boxed, as below: a task of 5 KiB would be copied byte by byte on its way to the runtime.
        let result = Box::pin(self.dialer.dial(&self.target, &hooks, &self.progress)).await;
        let record = recorder.and_then(|recorder| recorder.record(clock::now(), result.as_ref().err().cloned()));
        if let Some(record) = &record {
            self.reports.each(|report| report.dialed(record));
        }
        // Its request went on without it: it tells its own story, before the connection is used by another.
        let background = if permit.is_waited_for() {
            None
        } else {
            record.and_then(|record| self.reports.answers(|report| report.background_dial(&record)).next())
        };
        let setup = background.as_ref().map_or(self.setup, |dial| dial.trace);
        let outcome = match Box::pin(self.connected(result, setup, permit)).await {
            Some(IdleReturn::Pooled) => DialOutcome::Pooled,
            Some(IdleReturn::HandedOver | IdleReturn::Shared) => DialOutcome::HandedOver,
            Some(IdleReturn::Closed(_)) => DialOutcome::Discarded,
            None => DialOutcome::Failed,
        };
        if let Some(PendingDial { finish, .. }) = background {
            contained(|| finish(outcome));
        }
    }

    async fn connected(
        &self,
        dialed: Result<Dialed, Error>,
        setup: Option<TraceRef>,
        permit: Permit<Conn>,
    ) -> Option<IdleReturn> {
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => {
                permit.failed(&error);
                return None;
            }
        };
        let protocol = dialed.protocol;
        let keep_alive = self.keep_alives.news(&self.target.host, self.target.port).map(|news| Box::new(news).into());
        let info = ConnectionInfo {
            id: NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed),
            local: dialed.local,
            peer: dialed.peer,
            // Asked only where it may be told: it is a system call.
            socket_cookie: if self.hooks.installed() { dialed.transport.cookie() } else { None },
            protocol,
            tls: dialed.tls.map(Box::new),
            proxy: dialed.proxy,
            ready: clock::now(),
            setup,
            keep_alive: keep_alive.unwrap_or_default(),
            peer_text: OnceLock::new(),
            forwards: dialed.forwards,
            left_dns: Default::default(),
        };
        let hooks = Hooks::new(None, self.trace.clone());
        match exchange::open(dialed.transport, info, &self.exchange, hooks).await {
            Ok((conn, driver)) => {
                let info = &conn.shared().info;
                let reports: Vec<_> = self.reports.answers(|report| report.connection_opened(info)).collect();
                let is_told = self.info.is_some() || self.hooks.installed();
                let host = dialed.looked_up.filter(|_| is_told);
                let watched = host.map(|host| self.dialer.departed.watch(&host, info));
                let outcome = permit.dialed(protocol, |slot| {
                    let (pool, reports) = (Arc::clone(&self.pool), reports.clone());
                    let keep_alives = Arc::clone(&self.keep_alives);
                    conn.settle(Box::new(Place { pool, slot, reports, keep_alives, _watched: watched }));
                    conn
                });
                tell(&reports, |report| report.returned(outcome));
                driver.spawn();
                Some(outcome)
            }
            Err(error) => {
                permit.failed(&error);
                None
            }
        }
    }
}

/// Connections are numbered for the whole process, so that two clients' records can be told apart.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// A connection's place in the pool, and who hears of what it does there.
struct Place {
    pool: Arc<Pool<Conn>>,
    slot: SlotId,
    reports: Vec<Arc<dyn ConnectionReport>>,
    keep_alives: Arc<KeepAlives>,
    /// Later lookups of its host are held against its address.
    _watched: Option<Watched>,
}

impl Place {
    /// The peer ended the connection when nobody used it.
    fn closed_idle(&self, origin: Option<(String, u16)>, idle: Option<Duration>) {
        if let (Some((host, port)), Some(idle)) = (origin, idle) {
            self.keep_alives.closed(&host, port, idle);
        }
    }

    fn returned(&self, outcome: IdleReturn) -> IdleReturn {
        tell(&self.reports, |report| report.returned(outcome));
        outcome
    }
}

impl Home for Place {
    fn taken(&self) {
        tell(&self.reports, |report| report.taken());
    }

    fn checkin(&self, conn: Conn) -> IdleReturn {
        self.returned(self.pool.checkin(self.slot, conn))
    }

    fn returning(&self) {
        self.pool.returning(self.slot);
    }

    fn stream_ended(&self) -> IdleReturn {
        self.returned(self.pool.stream_ended(self.slot))
    }

    fn max_streams(&self, max: usize) {
        self.pool.max_streams(self.slot, max);
    }

    fn draining(&self) {
        let origin = self.pool.origin(self.slot);
        self.closed_idle(origin, self.pool.draining(self.slot));
    }

    fn closed(&self, reason: CloseReason, answered: u64) {
        // Told first: a client that has shut down has told all.
        tell(&self.reports, |report| report.closed(reason, answered));
        // It is not known behind its end.
        let by_peer = matches!(reason, CloseReason::PeerClosed | CloseReason::IoError | CloseReason::GoAway);
        let origin = if by_peer { self.pool.origin(self.slot) } else { None };
        self.closed_idle(origin, self.pool.closed(self.slot));
    }

    fn announced(&self, timeout: Duration) -> Option<KeepAlive> {
        if self.keep_alives.obeys {
            self.pool.limit_idle(self.slot, KeepAlives::limit(timeout));
            return None;
        }
        let (host, port) = self.pool.origin(self.slot)?;
        self.keep_alives.announced(&host, port, timeout)
    }

    fn expiry(&self) -> Option<Instant> {
        self.pool.expiry(self.slot)
    }
}

impl Poolable for Conn {
    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    fn share(&self) -> Option<Self> {
        Self::share(self)
    }
}

impl Pooled for Conn {
    fn close(self, reason: CloseReason) {
        Self::close(self, reason);
    }
}
