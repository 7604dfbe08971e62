//! The pool's rules against a model: random steps, and after each one what must always hold.
//!
//! The model knows only what was handed out and what was promised. It looks for what users would notice: a connection given
//! to two requests, a waiter forgotten beside a free connection, a limit broken, an order broken.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    core::Core,
    key::PoolKey,
    terms::{Checkout, Effect, Lease, Poolable, SlotId, Ticket},
};
use crate::{
    config::PoolConfig,
    error::{Error, Kind},
    hooks::{CloseReason, ConnOutcome, IdleReturn, WaitCause},
    phase::Phase,
};

#[derive(Debug, Clone)]
struct Fake {
    id: usize,
    open: Rc<Cell<bool>>,
    http2: bool,
}

impl Poolable for Fake {
    fn is_open(&self) -> bool {
        self.open.get()
    }

    fn share(&self) -> Option<Self> {
        self.http2.then(|| self.clone())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Checkout { host: usize, fresh: bool },
    Cancel(usize),
    Dialed { which: usize, http2: bool },
    DialFailed(usize),
    DialDropped(usize),
    Return { which: usize, reuse: bool },
    Returning(usize),
    PeerCloses(usize),
    Closed(usize),
    MaxStreams { which: usize, max: usize },
    Drain(usize),
    Wait(u64),
    Expiry(usize),
    CloseIdle,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0_usize..32;
    prop_oneof![
        6 => (0_usize..3, prop::bool::weighted(0.1)).prop_map(|(host, fresh)| Step::Checkout { host, fresh }),
        2 => which.clone().prop_map(Step::Cancel),
        5 => (which.clone(), any::<bool>()).prop_map(|(which, http2)| Step::Dialed { which, http2 }),
        1 => which.clone().prop_map(Step::DialFailed),
        1 => which.clone().prop_map(Step::DialDropped),
        6 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(which, reuse)| Step::Return { which, reuse }),
        2 => which.clone().prop_map(Step::Returning),
        1 => which.clone().prop_map(Step::PeerCloses),
        2 => which.clone().prop_map(Step::Closed),
        1 => (which.clone(), 0_usize..4).prop_map(|(which, max)| Step::MaxStreams { which, max }),
        1 => which.clone().prop_map(Step::Drain),
        2 => (0_u64..40).prop_map(Step::Wait),
        2 => which.prop_map(Step::Expiry),
        1 => Just(Step::CloseIdle),
    ]
}

struct Known {
    conn: Fake,
    slot: SlotId,
    host: usize,
    /// Requests on it now.
    used: usize,
    /// Handed to the closer, or given up by its user: only its end is to come.
    closing: bool,
}

struct Model {
    core: Core<Fake, usize>,
    config: PoolConfig,
    now: Instant,
    keys: Vec<PoolKey>,
    /// By waiter: its host, its ticket, whether it dials.
    waiting: BTreeMap<usize, (usize, Ticket)>,
    dials: Vec<(Ticket, usize, usize)>,
    conns: Vec<Known>,
    loans: Vec<usize>,
    next_waiter: usize,
    done: BTreeSet<usize>,
    /// Connections whose end was told.
    gone: BTreeSet<usize>,
}

impl Model {
    fn new(config: PoolConfig) -> Self {
        let keys = ["http://a/", "https://b/", "https://c/"];
        Self {
            core: Core::new(config.clone()),
            config,
            now: crate::clock::now(),
            keys: keys.iter().map(|key| PoolKey::from_uri(&key.parse().expect("a URI")).expect("a key")).collect(),
            waiting: BTreeMap::new(),
            dials: Vec::new(),
            conns: Vec::new(),
            loans: Vec::new(),
            next_waiter: 0,
            done: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }

    fn lend(&mut self, lease: &Lease<Fake>, host: usize) {
        let id = lease.conn.id;
        let known = &mut self.conns[id];
        assert_eq!(known.host, host, "a connection of another host");
        assert!(!known.closing, "a connection that is closing was handed out");
        assert!(known.conn.http2 || known.used == 0, "an HTTP/1 connection has two requests");
        match lease.outcome {
            ConnOutcome::Shared => assert!(known.conn.http2 && known.used > 0),
            ConnOutcome::Idle => assert!(lease.idle_time.is_some() && known.used == 0),
            ConnOutcome::New | ConnOutcome::HandedOver => assert!(lease.idle_time.is_none()),
        }
        known.used += 1;
        self.loans.push(id);
    }

    fn carry_out(&mut self, effects: Vec<Effect<Fake, usize>>) {
        let mut last_served: BTreeMap<usize, usize> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Serve(waiter, lease) => {
                    let (host, _) = self.waiting.remove(&waiter).expect("one who waits is served");
                    assert!(self.done.insert(waiter), "served twice");
                    if lease.outcome != ConnOutcome::New {
                        let before = last_served.insert(host, waiter);
                        assert!(before.is_none_or(|before| before < waiter), "out of order");
                        let dials = |waiter: usize| self.dials.iter().any(|(_, _, other)| *other == waiter);
                        let late = self.config.late_binding;
                        assert!(late || !dials(waiter), "who dials waits for its own");
                        let first =
                            self.waiting.iter().find(|(first, (other, _))| *other == host && (late || !dials(**first)));
                        assert!(first.is_none_or(|(first, _)| *first > waiter), "an earlier waiter was passed over");
                    }
                    self.lend(&lease, host);
                }
                Effect::Dial(waiter, ticket) => {
                    let (host, own) = self.waiting[&waiter];
                    assert_eq!(own, ticket);
                    let dials = |waiter: usize| self.dials.iter().any(|(_, _, other)| *other == waiter);
                    let first = self.waiting.iter().find(|(first, (other, _))| *other == host && !dials(**first));
                    assert_eq!(first.map(|(first, _)| *first), Some(waiter), "an earlier one may dial first");
                    self.dials.push((ticket, host, waiter));
                }
                Effect::Fail(waiter, _) => {
                    self.waiting.remove(&waiter).expect("one who waits is told");
                    assert!(self.done.insert(waiter), "told twice");
                }
                Effect::Close(conn, _) => {
                    let known = &mut self.conns[conn.id];
                    assert!(!known.closing, "closed twice");
                    known.closing = true;
                }
            }
        }
    }

    fn run(&mut self, step: &Step) {
        let mut effects = Vec::new();
        let now = self.now;
        match *step {
            Step::Checkout { host, fresh } => {
                let waiter = self.next_waiter;
                self.next_waiter += 1;
                let key = self.keys[host].clone();
                match self.core.checkout(&key, now, fresh, || waiter, &mut effects) {
                    Checkout::Ready(lease) => self.lend(&lease, host),
                    Checkout::Wait { ticket, dial, cause } => {
                        self.check_cause(host, dial, cause);
                        self.waiting.insert(waiter, (host, ticket));
                        if dial {
                            self.dials.push((ticket, host, waiter));
                        }
                    }
                }
            }
            Step::Cancel(which) => {
                if let Some(waiter) = self.waiting.keys().nth(which).copied() {
                    let (_, ticket) = self.waiting.remove(&waiter).expect("it waits");
                    self.done.insert(waiter);
                    self.core.cancel(ticket);
                }
            }
            Step::Dialed { which, http2 } if which < self.dials.len() => self.dialed(which, http2, &mut effects),
            Step::DialFailed(which) if which < self.dials.len() => {
                let (ticket, _, _) = self.dials.remove(which);
                let error = Error::new(Kind::ConnectionRefused, Phase::Connect);
                self.core.dial_failed(ticket, &error, now, &mut effects);
            }
            Step::DialDropped(which) if which < self.dials.len() => {
                let (ticket, _, _) = self.dials.remove(which);
                self.core.dial_dropped(ticket, now, &mut effects);
            }
            Step::Return { which, reuse } if which < self.loans.len() => self.give_back(which, reuse, &mut effects),
            Step::Returning(which) => {
                if let Some(known) = self.loans.get(which).map(|id| &self.conns[*id]).filter(|known| !known.conn.http2)
                {
                    self.core.returning(known.slot);
                }
            }
            Step::PeerCloses(which) => {
                if let Some(known) = self.conns.get(which) {
                    known.conn.open.set(false);
                }
            }
            Step::Closed(which) => {
                if let Some(known) = self.conns.get_mut(which) {
                    known.conn.open.set(false);
                    known.closing = true;
                    self.gone.insert(which);
                    self.core.closed(known.slot, now, &mut effects);
                }
            }
            Step::MaxStreams { which, max } => {
                if let Some(known) = self.conns.get(which) {
                    self.core.max_streams(known.slot, max, now, &mut effects);
                }
            }
            Step::Drain(which) => {
                if let Some(known) = self.conns.get(which).filter(|known| known.conn.http2) {
                    known.conn.open.set(false);
                    self.core.draining(known.slot, now, &mut effects);
                }
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Step::Expiry(which) => {
                if let Some(known) = self.conns.get(which) {
                    let next = self.core.expiry(known.slot, now, &mut effects);
                    assert!(next.is_none_or(|next| next > now), "asked again at once: a busy loop");
                }
            }
            Step::CloseIdle => self.core.close_idle(&mut effects),
            Step::Dialed { .. } | Step::DialFailed(_) | Step::DialDropped(_) | Step::Return { .. } => {}
        }
        self.carry_out(effects);
        self.check();
    }

    fn dialed(&mut self, which: usize, http2: bool, effects: &mut Vec<Effect<Fake, usize>>) {
        let (ticket, host, _) = self.dials.remove(which);
        let http2 = http2 && host > 0;
        let conn = Fake { id: self.conns.len(), open: Rc::new(Cell::new(true)), http2 };
        let mut slot = None;
        let made = conn.clone();
        self.core.dialed(
            ticket,
            http2.then_some(2),
            self.now,
            |at| {
                slot = Some(at);
                made
            },
            effects,
        );
        let slot = slot.expect("the connection was made");
        self.conns.push(Known { conn, slot, host, used: 0, closing: false });
    }

    fn give_back(&mut self, which: usize, reuse: bool, effects: &mut Vec<Effect<Fake, usize>>) {
        let id = self.loans.remove(which);
        let known = &mut self.conns[id];
        known.used -= 1;
        let (conn, slot) = (known.conn.clone(), known.slot);
        let outcome = if conn.http2 {
            self.core.stream_ended(slot, self.now, effects)
        } else if reuse && conn.open.get() && !known.closing {
            self.core.checkin(slot, conn, self.now, effects)
        } else {
            // The user gives it up; its driver tells the end.
            known.closing = true;
            return;
        };
        if let IdleReturn::Closed(reason) = outcome {
            assert_ne!(reason, CloseReason::Canceled);
        }
    }

    /// What a request is told that it waits for is so.
    fn check_cause(&self, host: usize, dial: bool, cause: Option<WaitCause>) {
        let dialing = self.dials.iter().filter(|(_, other, _)| *other == host).count();
        let of_host = self.conns.iter().filter(|known| known.host == host);
        let open = of_host.clone().filter(|known| !self.gone.contains(&known.conn.id)).count();
        let all = self.conns.len() - self.gone.len() + self.dials.len();
        let holds = match cause {
            Some(WaitCause::Dial) => dial,
            Some(WaitCause::OtherDial) => dialing > 0,
            Some(WaitCause::HostLimit) => self.config.max_connections_per_host.is_some_and(|max| open + dialing >= max),
            Some(WaitCause::PoolLimit) => self.config.max_connections.is_some_and(|max| all >= max),
            Some(WaitCause::Http2Streams) => of_host.clone().any(|known| known.conn.http2 && !known.closing),
            // It may have been given up meanwhile, as its driver will tell.
            None => of_host.clone().any(|known| !known.conn.http2 && !self.gone.contains(&known.conn.id)),
        };
        assert!(holds && dial == (cause == Some(WaitCause::Dial)), "waits for {cause:?}, dial {dial}");
    }

    fn check(&self) {
        let all = self.conns.len() - self.gone.len() + self.dials.len();
        assert!(self.config.max_connections.is_none_or(|max| all <= max), "more connections in all than allowed");
        for host in 0..self.keys.len() {
            let waiters = self.waiting.values().filter(|(other, _)| *other == host).count();
            let dialing = self.dials.iter().filter(|(_, other, _)| *other == host).count();
            let open = self.conns.iter().filter(|known| known.host == host && !known.closing).count();
            let gone = self.conns.iter().filter(|known| known.host == host && known.closing).count();
            let full = self.config.max_connections.is_some_and(|max| all >= max);
            assert!(waiters == 0 || dialing + open + gone > 0 || full, "nobody will ever serve these waiters");
            if let Some(max) = self.config.max_connections_per_host {
                // Those that are closing still hold their place until their driver tells the end.
                assert!(open + dialing <= max, "more connections than allowed");
            }
        }
        assert!(self.core.idle_count() <= self.config.max_idle, "more idle connections than allowed");
        self.core.check();
    }
}

fn config() -> impl Strategy<Value = PoolConfig> {
    let limits = (prop::option::of(1_usize..4), prop::option::of(1_usize..6), 1_usize..4);
    let idle = (0_usize..5, 0_usize..4, prop::option::of(20_u64..60));
    (limits, idle, any::<bool>(), any::<bool>()).prop_map(|(limits, idle, may_share, late_binding)| {
        let (max_connections_per_host, max_connections, http2_max_connections_per_host) = limits;
        let (max_idle, max_idle_per_host, life) = idle;
        PoolConfig {
            idle_timeout: Some(Duration::from_secs(30)),
            max_idle,
            max_idle_per_host,
            max_connections_per_host,
            max_connections,
            http2_max_connections_per_host,
            late_binding,
            max_lifetime: life.map(Duration::from_secs),
            may_share,
            ..PoolConfig::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_steps_keeps_the_promises(config in config(), steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new(config);
        for step in &steps {
            model.run(step);
        }
    }
}

fn pool(config: PoolConfig) -> Model {
    Model::new(config)
}

#[test]
fn the_most_recently_used_connection_comes_first() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 0, fresh: true });
        model.run(&Step::Dialed { which: 0, http2: false });
    }
    for _ in 0..3 {
        model.run(&Step::Return { which: 0, reuse: true });
    }
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!(model.loans, [2], "the last that came back goes first");
}

#[test]
fn the_least_recently_used_connection_of_any_host_makes_room() {
    let mut model = pool(PoolConfig { max_idle: 2, ..PoolConfig::default() });
    for host in 0..3 {
        model.run(&Step::Checkout { host, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Return { which: 0, reuse: true });
    }
    let closing: Vec<_> = model.conns.iter().map(|known| known.closing).collect();
    assert_eq!(closing, [true, false, false]);
}

#[test]
fn a_connection_idle_for_too_long_is_not_handed_out_even_if_no_timer_ran() {
    let mut model = pool(PoolConfig { idle_timeout: Some(Duration::from_secs(30)), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Return { which: 0, reuse: true });
    model.run(&Step::Wait(30));
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert!(model.loans.is_empty() && model.conns[0].closing && model.dials.len() == 1);
}

#[test]
fn cold_https_requests_wait_for_one_dial_and_http1_lets_them_all_dial() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..4 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    assert_eq!(model.dials.len(), 1);
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!((model.loans.len(), model.dials.len()), (1, 3));
    // It is remembered: the next cold requests do not wait for each other.
    model.run(&Step::Checkout { host: 1, fresh: true });
    assert_eq!(model.dials.len(), 4);
}

#[test]
fn cold_http2_requests_share_one_connection_up_to_its_streams() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..4 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::Dialed { which: 0, http2: true });
    assert_eq!((model.loans.clone(), model.waiting.len(), model.dials.len()), (vec![0, 0], 2, 0));
    model.run(&Step::MaxStreams { which: 0, max: 3 });
    assert_eq!(model.waiting.len(), 1);
    model.run(&Step::Return { which: 0, reuse: true });
    assert_eq!(model.waiting.len(), 0);
}

#[test]
fn a_failed_cold_dial_is_told_to_all_who_waited_for_it() {
    let mut model = pool(PoolConfig::default());
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (0, 3, 0));
}

#[test]
fn a_failed_cold_dial_is_told_to_all_also_below_a_limit() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(2), ..PoolConfig::default() });
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 1, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (0, 3, 0));
}

#[test]
fn a_failed_dial_to_an_http1_origin_is_its_own_and_the_next_in_the_queue_dials() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(1), ..PoolConfig::default() });
    for _ in 0..3 {
        model.run(&Step::Checkout { host: 0, fresh: false });
    }
    model.run(&Step::DialFailed(0));
    assert_eq!((model.waiting.len(), model.done.len(), model.dials.len()), (2, 1, 1));
}

#[test]
fn an_origins_http1_is_remembered_for_ten_minutes_without_a_connection() {
    for (seconds, dials) in [(599, 2), (600, 1)] {
        let mut model = pool(PoolConfig::default());
        model.run(&Step::Checkout { host: 1, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Return { which: 0, reuse: false });
        model.run(&Step::Closed(0));
        model.run(&Step::Wait(seconds));
        // A dial that fails has not shown anything.
        model.run(&Step::Checkout { host: 1, fresh: false });
        model.run(&Step::DialFailed(0));
        for _ in 0..2 {
            model.run(&Step::Checkout { host: 1, fresh: false });
        }
        assert_eq!(model.dials.len(), dials, "after {seconds} s");
    }
}

#[test]
fn a_dial_that_nobody_waits_for_any_more_fills_the_pool() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Cancel(0));
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!(model.core.idle_count(), 1);
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!(model.loans, [0]);
}

#[test]
fn a_closed_connection_under_a_cap_lets_the_next_waiter_dial() {
    let mut model = pool(PoolConfig { max_connections_per_host: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    assert_eq!(model.dials.len(), 0, "the cap holds");
    model.run(&Step::Return { which: 0, reuse: false });
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 1);
}

#[test]
fn an_idle_connection_of_another_host_makes_room_under_the_pools_limit() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Return { which: 0, reuse: true });
    model.run(&Step::Checkout { host: 2, fresh: false });
    assert!(model.conns[0].closing && model.dials.is_empty(), "its place is free when it is closed");
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 1);
}

#[test]
fn a_connection_that_comes_back_while_others_wait_for_its_place_makes_room() {
    let mut model = pool(PoolConfig { max_connections: Some(1), ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Checkout { host: 2, fresh: false });
    model.run(&Step::Checkout { host: 1, fresh: false });
    model.run(&Step::Return { which: 0, reuse: true });
    assert_eq!((model.core.idle_count(), model.dials.len()), (0, 0));
    model.run(&Step::Closed(0));
    let dialing: Vec<_> = model.dials.iter().map(|(_, host, _)| *host).collect();
    assert_eq!(dialing, [2], "who came first, whatever its host");
}

#[test]
fn without_late_binding_who_dials_waits_for_its_own_dial() {
    for late_binding in [true, false] {
        let mut model = pool(PoolConfig { late_binding, ..PoolConfig::default() });
        model.run(&Step::Checkout { host: 0, fresh: false });
        model.run(&Step::Dialed { which: 0, http2: false });
        model.run(&Step::Checkout { host: 0, fresh: false });
        model.run(&Step::Return { which: 0, reuse: true });
        assert_eq!(model.waiting.is_empty(), late_binding);
        assert_eq!(model.core.idle_count(), usize::from(!late_binding));
    }
}

#[test]
fn another_http2_connection_is_dialled_when_the_streams_are_used_up_and_it_is_allowed() {
    for (max, dials) in [(1, 0), (2, 1)] {
        let mut model = pool(PoolConfig { http2_max_connections_per_host: max, ..PoolConfig::default() });
        for _ in 0..4 {
            model.run(&Step::Checkout { host: 1, fresh: false });
        }
        model.run(&Step::Dialed { which: 0, http2: true });
        assert_eq!((model.loans.len(), model.dials.len()), (2, dials), "at most {max}");
    }
}

#[test]
fn an_http2_connection_that_is_too_old_ends_with_its_last_stream() {
    let life = Some(Duration::from_secs(10));
    let mut model = pool(PoolConfig { max_lifetime: life, ..PoolConfig::default() });
    model.run(&Step::Checkout { host: 1, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: true });
    model.run(&Step::Wait(10));
    model.run(&Step::Checkout { host: 1, fresh: false });
    assert_eq!((model.loans.len(), model.dials.len()), (1, 1), "the next one dials");
    model.run(&Step::Return { which: 0, reuse: true });
    assert!(model.conns[0].closing);
}

#[test]
fn a_connection_that_is_just_coming_back_is_waited_for_and_not_doubled() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    model.run(&Step::Returning(0));
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!((model.dials.len(), model.waiting.len()), (0, 1));
    // A second one has no such hope.
    model.run(&Step::Checkout { host: 0, fresh: false });
    assert_eq!((model.dials.len(), model.waiting.len()), (1, 2));
    // If it does not come back after all, the first one dials too.
    model.run(&Step::Closed(0));
    assert_eq!(model.dials.len(), 2);
}

#[test]
fn a_loan_that_came_to_nothing_does_not_count_as_a_use() {
    let mut model = pool(PoolConfig::default());
    model.run(&Step::Checkout { host: 0, fresh: false });
    model.run(&Step::Dialed { which: 0, http2: false });
    let (slot, conn) = (model.conns[0].slot, model.conns[0].conn.clone());
    for (unused, next) in [(true, 1), (false, 2)] {
        if unused {
            model.core.unused(slot, 1);
        }
        let mut effects = Vec::new();
        model.core.checkin(slot, conn.clone(), model.now, &mut effects);
        let key = model.keys[0].clone();
        match model.core.checkout(&key, model.now, false, || 9, &mut effects) {
            Checkout::Ready(lease) => assert_eq!(lease.number, next),
            Checkout::Wait { .. } => panic!("it is idle"),
        }
    }
}
