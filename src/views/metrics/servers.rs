//! What is going on per server: one state per meter provider, shared by all clients on it.
//!
//! Counts that go up and down, and the reuse ratio, are plain atomics here, which the SDK asks for when it collects: a
//! request pays for an addition and no lookup of a series. A callback can't be taken back, and where two are registered
//! for one name the last one wins. So a provider gets one set of callbacks, and all its clients count into the state
//! behind them. A collection by any reader starts the ratio's next interval: the counter of acquisitions is the truth
//! that dashboards divide.
//!
//! What is kept is bounded: a server that nobody uses is forgotten once every metric has told so, and those beyond the
//! most share one series, as the SDK's own instruments do it. So sums stay right, whatever a client talks to.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{AsyncInstrument, Meter},
};

use crate::{connection::Protocol, views::semconv::*};

/// All servers that attempts or connections are under way to, or were a collection ago.
pub(super) struct Servers {
    known: Mutex<HashMap<Address, Arc<Server>>>,
    /// What is going on with all others together.
    beyond: Arc<Levels>,
}

/// Host and port.
type Address = (Arc<str>, u16);

/// One server.
pub(super) struct Server {
    /// `server.address` and `server.port`.
    pub(super) labels: [KeyValue; 2],
    levels: Arc<Levels>,
    /// Callbacks that have seen nobody use it.
    unused: AtomicU32,
}

impl Deref for Server {
    type Target = Levels;

    fn deref(&self) -> &Levels {
        &self.levels
    }
}

/// What is going on with one server, or with all beyond the most.
pub(super) struct Levels {
    /// The server's labels, or the one that says it is many.
    labels: Vec<KeyValue>,
    /// Attempts under way, by method.
    pub(super) active: [Level; METHODS.len()],
    /// Attempts that wait for a connection.
    pub(super) pending: Level,
    /// Idle and active connections, of HTTP/1.1 and of HTTP/2.
    open: [[Level; 2]; 2],
    /// Acquisitions since the last collection: all in the upper half, reused ones in the lower.
    acquired: AtomicU64,
}

/// A count that goes up and down; absent until it first did.
#[derive(Default)]
pub(super) struct Level {
    now: AtomicI64,
    used: AtomicBool,
}

impl Level {
    pub(super) fn add(&self, change: i64) {
        self.now.fetch_add(change, Ordering::Relaxed);
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Option<i64> {
        self.used.load(Ordering::Relaxed).then(|| self.now.load(Ordering::Relaxed))
    }
}

/// The states by the address of their provider's meter. The callbacks own the state, and live as long as the provider.
static PROVIDERS: Mutex<Vec<(usize, Weak<Servers>)>> = Mutex::new(Vec::new());

/// Most servers with series of their own. The SDK takes 2000 series of a metric, and one server has up to four of
/// `http.client.open_connections`.
const MAX_SERVERS: usize = 500;

/// Runs of callbacks for which an unused server is still told of: two collections by one reader, or one by each of two.
const TOLD: u32 = 2 * CALLBACKS;
const CALLBACKS: u32 = 4;

impl Servers {
    /// The state of the provider whose meter this is; the first time its callbacks are registered.
    ///
    /// A meter's address is its provider's as long as somebody holds the meter. A provider that was dropped while
    /// another library held a meter of it, and whose address was given to a new one, would be taken for that one; then
    /// the new one's clients have none of these metrics.
    pub(super) fn of(meter: &Meter, address: usize) -> Arc<Self> {
        let mut providers = lock(&PROVIDERS);
        providers.retain(|(_, servers)| servers.strong_count() > 0);
        if let Some(servers) = providers.iter().find(|known| known.0 == address).and_then(|known| known.1.upgrade()) {
            return servers;
        }
        let beyond = Arc::new(Levels::new(vec![KeyValue::new(OVERFLOW, true)]));
        let servers = Arc::new(Self { known: Mutex::default(), beyond });
        servers.register(meter);
        providers.push((address, Arc::downgrade(&servers)));
        servers
    }

    fn register(self: &Arc<Self>, meter: &Meter) {
        let levels = |name, unit, description, observe: fn(&Levels, &dyn AsyncInstrument<i64>)| {
            let this = Arc::clone(self);
            meter
                .i64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |counter| this.observed(|levels| observe(levels, counter)))
                .build();
        };
        let description = "Number of active HTTP requests.";
        levels(HTTP_CLIENT_ACTIVE_REQUESTS, "{request}", description, Levels::observe_active);
        let description = "Number of outbound HTTP connections that are currently active or idle on the client.";
        levels(HTTP_CLIENT_OPEN_CONNECTIONS, "{connection}", description, Levels::observe_open);
        levels(REQUEST_PENDING, "{request}", "Requests that wait for a connection.", Levels::observe_pending);
        let this = Arc::clone(self);
        meter
            .f64_observable_gauge(CONNECTION_REUSE_RATIO)
            .with_unit("1")
            .with_description("Reused connections among those that requests got, since the last collection.")
            .with_callback(move |gauge| this.observed(|levels| levels.observe_ratio(gauge)))
            .build();
    }

    /// The state of one server, which it may share with others.
    pub(super) fn get(&self, host: &Arc<str>, port: u16) -> Arc<Server> {
        let mut known = lock(&self.known);
        let key = (Arc::clone(host), port);
        if let Some(server) = known.get(&key) {
            // It may be over before the next collection, which has yet to tell of it.
            server.unused.store(0, Ordering::Relaxed);
            return Arc::clone(server);
        }
        let server = |labels: [KeyValue; 2], levels| Arc::new(Server { labels, levels, unused: AtomicU32::new(0) });
        let labels = [
            KeyValue::new(SERVER_ADDRESS, StringValue::from(Arc::clone(host))),
            KeyValue::new(SERVER_PORT, i64::from(port)),
        ];
        if known.len() >= MAX_SERVERS {
            return server(labels, Arc::clone(&self.beyond));
        }
        let levels = Arc::new(Levels::new(labels.to_vec()));
        let server = server(labels, levels);
        known.insert(key, Arc::clone(&server));
        server
    }

    /// One callback's run. Out of the lock: a reader's code runs with what is observed.
    fn observed(&self, observe: impl Fn(&Levels)) {
        let known: Vec<_> = lock(&self.known).values().cloned().collect();
        known.iter().for_each(|server| observe(server));
        observe(&self.beyond);
        drop(known);
        self.forget();
    }

    /// Servers that nobody uses go, but not before each metric has told so. Any metric may have been dropped by a view,
    /// so it is every callback's task.
    fn forget(&self) {
        lock(&self.known).retain(|_, server| {
            if Arc::strong_count(server) > 1 {
                server.unused.store(0, Ordering::Relaxed);
                return true;
            }
            server.unused.fetch_add(1, Ordering::Relaxed) < TOLD
        });
    }
}

impl Levels {
    fn new(labels: Vec<KeyValue>) -> Self {
        Self {
            labels,
            active: Default::default(),
            pending: Level::default(),
            open: Default::default(),
            acquired: AtomicU64::new(0),
        }
    }

    pub(super) fn acquired(&self, reused: bool) {
        self.acquired.fetch_add((1 << 32) | u64::from(reused), Ordering::Relaxed);
    }

    /// Its connections of this protocol that are in use, or idle.
    pub(super) fn open(&self, protocol: Protocol, in_use: bool) -> &Level {
        let protocol = match protocol {
            Protocol::Http1 => 0,
            Protocol::Http2 => 1,
        };
        &self.open[protocol][usize::from(in_use)]
    }

    /// The labels, which sort behind these.
    fn with<const N: usize>(&self, before: [KeyValue; N]) -> Vec<KeyValue> {
        before.into_iter().chain(self.labels.iter().cloned()).collect()
    }

    fn observe_active(&self, counter: &dyn AsyncInstrument<i64>) {
        for (method, level) in methods().iter().zip(&self.active) {
            if let Some(now) = level.get() {
                counter.observe(now, &self.with([KeyValue::new(HTTP_REQUEST_METHOD, *method)]));
            }
        }
    }

    fn observe_pending(&self, counter: &dyn AsyncInstrument<i64>) {
        if let Some(now) = self.pending.get() {
            counter.observe(now, &self.labels);
        }
    }

    fn observe_open(&self, counter: &dyn AsyncInstrument<i64>) {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (state, in_use) in [("idle", false), ("active", true)] {
                if let Some(now) = self.open(protocol, in_use).get() {
                    let state = KeyValue::new(HTTP_CONNECTION_STATE, state);
                    let version = KeyValue::new(NETWORK_PROTOCOL_VERSION, version(protocol));
                    counter.observe(now, &self.with([state, version]));
                }
            }
        }
    }

    fn observe_ratio(&self, gauge: &dyn AsyncInstrument<f64>) {
        let (all, reused) = self.interval();
        if all > 0 {
            gauge.observe(reused as f64 / all as f64, &self.labels);
        }
    }

    /// Acquisitions since it was last asked: all, and the reused ones.
    pub(super) fn interval(&self) -> (u64, u64) {
        let acquired = self.acquired.swap(0, Ordering::Relaxed);
        (acquired >> 32, acquired & u64::from(u32::MAX))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
