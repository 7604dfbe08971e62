//! The reuse ratio: one state per meter provider, shared by all clients on it.
//!
//! A gauge's callback can't be taken back, and where two are registered for one name the last one wins. So a provider
//! gets one callback, and all its clients count into the state behind it. A collection by any reader starts the next
//! interval: the counter of acquisitions is the truth that dashboards divide.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{AsyncInstrument, Meter},
};

use crate::views::semconv::{CONNECTION_REUSE_RATIO, SERVER_ADDRESS, SERVER_PORT};

/// Acquisitions per server since the last collection.
#[derive(Default)]
pub(super) struct Ratio {
    servers: Mutex<HashMap<(Arc<str>, u16), Acquired>>,
}

#[derive(Default, Clone, Copy)]
struct Acquired {
    all: u32,
    reused: u32,
}

/// The states by the address of their provider's meter. The callback owns the state, and lives as long as the provider.
static PROVIDERS: Mutex<Vec<(usize, Weak<Ratio>)>> = Mutex::new(Vec::new());

/// Most servers counted in one interval: the SDK keeps as many series. Others are in the counter.
const MAX_SERVERS: usize = 2000;

impl Ratio {
    /// The state of the provider whose meter this is; the first time its callback is registered.
    ///
    /// A meter's address is its provider's as long as somebody holds the meter. A provider that was dropped while
    /// another library held a meter of it, and whose address was given to a new one, would be taken for that one; then
    /// the new one's clients have no ratio.
    pub(super) fn of(meter: &Meter, address: usize) -> Arc<Self> {
        let mut providers = lock(&PROVIDERS);
        providers.retain(|(_, ratio)| ratio.strong_count() > 0);
        if let Some(ratio) = providers.iter().find(|known| known.0 == address).and_then(|known| known.1.upgrade()) {
            return ratio;
        }
        let ratio = Arc::new(Self::default());
        let observed = Arc::clone(&ratio);
        meter
            .f64_observable_gauge(CONNECTION_REUSE_RATIO)
            .with_unit("1")
            .with_description("Reused connections among those that requests got, since the last collection.")
            .with_callback(move |gauge| observed.observe(gauge))
            .build();
        providers.push((address, Arc::downgrade(&ratio)));
        ratio
    }

    pub(super) fn acquired(&self, host: &Arc<str>, port: u16, reused: bool) {
        let mut servers = lock(&self.servers);
        let key = (Arc::clone(host), port);
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&key) {
            return;
        }
        let acquired = servers.entry(key).or_default();
        acquired.all = acquired.all.saturating_add(1);
        acquired.reused = acquired.reused.saturating_add(u32::from(reused));
    }

    fn observe(&self, gauge: &dyn AsyncInstrument<f64>) {
        let servers = std::mem::take(&mut *lock(&self.servers));
        for ((host, port), Acquired { all, reused }) in servers {
            let address = KeyValue::new(SERVER_ADDRESS, StringValue::from(host));
            gauge.observe(f64::from(reused) / f64::from(all), &[address, KeyValue::new(SERVER_PORT, i64::from(port))]);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
