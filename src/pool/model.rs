//! The pool's rules against a model: random steps, and after each one what must always hold.
//!
//! The model knows only what was handed out and what was promised. It looks for what users would notice: a connection given
//! to two requests, a waiter forgotten beside a free connection, a limit broken, an order broken.

mod steps;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use proptest::{prelude::*, test_runner::TestRunner};

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
    Insist(usize),
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
        1 => (1_usize..3).prop_map(Step::Insist),
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
    /// Its response is over, and it is to come back.
    returning: bool,
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
    /// Connections that the pool had closed, and those whose end was told.
    evicted: BTreeSet<usize>,
    gone: BTreeSet<usize>,
    /// Waiters who were told that a connection is just coming back.
    hopes: BTreeSet<usize>,
    /// Waiters that want a new connection.
    wary: BTreeSet<usize>,
    /// Hosts that have refused HTTP/2, and when.
    insisted: BTreeMap<usize, Instant>,
    /// All hosts speak HTTP/1 without TLS: whoever waits, waits for a place in the pool.
    one_line: bool,
}

impl Model {
    fn new(config: PoolConfig) -> Self {
        Self::of(config, ["http://a/", "https://b/", "https://c/"])
    }

    fn of(config: PoolConfig, keys: [&str; 3]) -> Self {
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
            evicted: BTreeSet::new(),
            gone: BTreeSet::new(),
            hopes: BTreeSet::new(),
            wary: BTreeSet::new(),
            insisted: BTreeMap::new(),
            one_line: keys.iter().all(|key| key.starts_with("http:")),
        }
    }

    fn lend(&mut self, lease: &Lease<Fake>, host: usize) {
        let id = lease.conn.id;
        let insists = self.insists(host);
        let known = &mut self.conns[id];
        assert_eq!(known.host, host, "a connection of another host");
        assert!(!known.closing, "a connection that is closing was handed out");
        assert!(known.conn.http2 || known.used == 0, "an HTTP/1 connection has two requests");
        assert!(!(known.conn.http2 && insists) || lease.outcome == ConnOutcome::New, "HTTP/2 was refused");
        match lease.outcome {
            ConnOutcome::Shared => assert!(known.conn.http2 && known.used > 0),
            ConnOutcome::Idle => assert!(lease.idle_time.is_some() && known.used == 0),
            ConnOutcome::New | ConnOutcome::HandedOver => assert!(lease.idle_time.is_none()),
        }
        known.used += 1;
        self.loans.push(id);
    }

    /// Whether the host has refused HTTP/2 in the last ten minutes.
    fn insists(&self, host: usize) -> bool {
        self.insisted.get(&host).is_some_and(|at| self.now - *at < Duration::from_secs(600))
    }

    /// Who waits without a dial, in their order, with their hosts.
    fn undialed(&self) -> impl Iterator<Item = (usize, usize)> {
        let dials = |waiter: usize| self.dials.iter().any(|(_, _, other)| *other == waiter);
        self.waiting.iter().map(|(waiter, (host, _))| (*waiter, *host)).filter(move |(waiter, _)| !dials(*waiter))
    }

    /// Places of the pool that are free or will be in a moment.
    fn places(&self) -> usize {
        let all = self.conns.len() - self.gone.len() + self.dials.len();
        self.config.max_connections.map_or(usize::MAX, |max| max - all + self.evicted.difference(&self.gone).count())
    }

    fn carry_out(&mut self, effects: Vec<Effect<Fake, usize>>) {
        let mut last_served: BTreeMap<usize, usize> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Serve(waiter, lease) => {
                    let (host, _) = self.waiting.remove(&waiter).expect("one who waits is served");
                    assert!(self.done.insert(waiter), "served twice");
                    self.hopes.remove(&waiter);
                    if lease.outcome != ConnOutcome::New {
                        let before = last_served.insert(host, waiter);
                        assert!(before.is_none_or(|before| before < waiter), "out of order");
                        let dials = |waiter: usize| self.dials.iter().any(|(_, _, other)| *other == waiter);
                        let late = self.config.late_binding;
                        assert!(late || !dials(waiter), "who dials waits for its own");
                        // A retry that dials takes no used connection, and no stream of another's.
                        let wary = |waiter: usize| {
                            let used = lease.conn.http2 || lease.number > 1;
                            used && self.wary.contains(&waiter) && dials(waiter)
                        };
                        assert!(!wary(waiter), "a used connection for a retry that dials");
                        let first = self
                            .waiting
                            .iter()
                            .find(|(first, (other, _))| *other == host && (late || !dials(**first)) && !wary(**first));
                        assert!(first.is_none_or(|(first, _)| *first > waiter), "an earlier waiter was passed over");
                        if self.one_line {
                            let earlier = self.undialed().filter(|(other, at)| *at != host && *other < waiter).count();
                            assert!(earlier <= self.places(), "an earlier waiter of another host was passed over");
                        }
                    }
                    self.lend(&lease, host);
                }
                Effect::Dial(waiter, ticket) => {
                    let (host, own) = self.waiting[&waiter];
                    assert_eq!(own, ticket);
                    let dials = |waiter: usize| self.dials.iter().any(|(_, _, other)| *other == waiter);
                    let first = self.waiting.iter().find(|(first, (other, _))| *other == host && !dials(**first));
                    assert_eq!(first.map(|(first, _)| *first), Some(waiter), "an earlier one may dial first");
                    if self.one_line && self.config.max_connections.is_some() {
                        let first = self.undialed().next();
                        assert_eq!(first, Some((waiter, host)), "an earlier one of any host dials first");
                    }
                    self.dials.push((ticket, host, waiter));
                    self.hopes.remove(&waiter);
                }
                Effect::Waits(waiter, cause) => {
                    assert!(self.hopes.remove(&waiter), "it was told already what it waits for");
                    self.check_cause(self.waiting[&waiter].0, false, Some(cause));
                }
                Effect::Fail(waiter, _) => {
                    self.waiting.remove(&waiter).expect("one who waits is told");
                    self.hopes.remove(&waiter);
                    assert!(self.done.insert(waiter), "told twice");
                }
                Effect::Close(conn, _) => {
                    let known = &mut self.conns[conn.id];
                    assert!(!known.closing, "closed twice");
                    known.closing = true;
                    self.evicted.insert(conn.id);
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
                let checkout = self.core.checkout(&key, now, fresh, || waiter, &mut effects);
                self.carry_out(std::mem::take(&mut effects));
                match checkout {
                    Checkout::Ready(lease) => self.lend(&lease, host),
                    Checkout::Wait { ticket, dial, cause } => {
                        self.check_cause(host, dial, cause);
                        self.waiting.insert(waiter, (host, ticket));
                        if fresh {
                            self.wary.insert(waiter);
                        }
                        if cause.is_none() {
                            self.hopes.insert(waiter);
                        }
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
                    self.hopes.remove(&waiter);
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
                let id = self.loans.get(which).copied().filter(|id| !self.conns[*id].conn.http2 && !self.one_line);
                if let Some(known) = id.map(|id| &mut self.conns[id]) {
                    known.returning = !self.gone.contains(&known.conn.id);
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
                    (known.closing, known.returning) = (true, false);
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
            Step::Insist(host) if !self.one_line => {
                self.insisted.insert(host, now);
                let key = self.keys[host].clone();
                self.core.insists_on_http1(&key, now, &mut effects);
            }
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Step::Expiry(which) => {
                if let Some(known) = self.conns.get(which) {
                    let next = self.core.expiry(known.slot, now, &mut effects);
                    assert!(next.is_none_or(|next| next > now), "asked again at once: a busy loop");
                }
            }
            Step::CloseIdle => self.core.close_idle(&mut effects),
            Step::Insist(_)
            | Step::Dialed { .. }
            | Step::DialFailed(_)
            | Step::DialDropped(_)
            | Step::Return { .. } => {}
        }
        self.carry_out(effects);
        self.check();
    }

    fn dialed(&mut self, which: usize, http2: bool, effects: &mut Vec<Effect<Fake, usize>>) {
        let (ticket, host, _) = self.dials.remove(which);
        let http2 = http2 && host > 0 && !self.one_line;
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
        self.conns.push(Known { conn, slot, host, used: 0, closing: false, returning: false });
    }

    fn give_back(&mut self, which: usize, reuse: bool, effects: &mut Vec<Effect<Fake, usize>>) {
        let id = self.loans.remove(which);
        let known = &mut self.conns[id];
        known.used -= 1;
        let (conn, slot) = (known.conn.clone(), known.slot);
        let outcome = if conn.http2 {
            self.core.stream_ended(slot, self.now, effects)
        } else if reuse && conn.open.get() && !known.closing {
            known.returning = false;
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
        for host in 0..self.keys.len() {
            let returning = self.conns.iter().filter(|known| known.host == host && known.returning).count();
            let mut later = self.undialed().filter(|(_, other)| *other == host).skip(returning);
            assert!(later.all(|(waiter, _)| !self.hopes.contains(&waiter)), "waits for nothing and is not told");
        }
        let undialed = self.undialed().count();
        let served = undialed == 0 || undialed <= self.places() || self.core.idle_count() == 0;
        assert!(!self.one_line || served, "idle connections do not make room");
        for (_, host, _) in &self.dials {
            let (ticket, ..) = self.dials.iter().find(|(_, other, _)| other == host).expect("it is one of them");
            assert_eq!(self.core.insists(ticket.host, self.now), self.insists(*host), "what is offered");
        }
        self.core.check(self.now);
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

    #[test]
    fn waiters_of_all_hosts_stand_in_one_line(
        max in 1_usize..4,
        late_binding in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let config = PoolConfig { max_connections: Some(max), late_binding, ..PoolConfig::default() };
        let mut model = Model::of(config, ["http://a/", "http://b/", "http://c/"]);
        for step in &steps {
            model.run(step);
        }
    }
}

// The same promises for a million steps, in `.ci/run full`. The sequences are longer as well: a pool in use for long has met
// every limit and every kind of end.

fn half_a_million_steps(hosts: [&str; 3], config: impl Strategy<Value = PoolConfig>) {
    let steps = Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(3_300));
    let result = runner.run(&(config, prop::collection::vec(step(), 120..200)), |(config, sequence)| {
        let mut model = Model::of(config, hosts);
        sequence.iter().for_each(|step| model.run(step));
        steps.set(steps.get() + sequence.len());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(steps.get() >= 500_000, "only {} steps", steps.get());
}

#[test]
#[ignore = "takes a minute"]
fn half_a_million_steps_keep_the_promises() {
    half_a_million_steps(["http://a/", "https://b/", "https://c/"], config());
}

#[test]
#[ignore = "takes a minute"]
fn waiters_of_all_hosts_stand_in_one_line_for_half_a_million_steps() {
    let config = (1_usize..4, any::<bool>()).prop_map(|(max, late_binding)| PoolConfig {
        max_connections: Some(max),
        late_binding,
        ..PoolConfig::default()
    });
    half_a_million_steps(["http://a/", "http://b/", "http://c/"], config);
}
