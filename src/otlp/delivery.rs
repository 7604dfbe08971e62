//! What became of what was handed to the exporters: counted, warned of once, given up on at the end.
//!
//! The SDK tells nobody how many spans were lost, and says that a shutdown went well when nothing was delivered. So the
//! exporters and the batch processor are wrapped, and counted here.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use http::Uri;
use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor},
};
use tokio::sync::Notify;

use super::{
    Protocol,
    lane::Way,
    problem::{Complaints, Failure, Problem},
};
use crate::{clock, redact::Rules};

/// From here on after a shutdown's begin, a collector that failed an export since and took none is not asked again. Where
/// nobody is there at all, the first attempt is enough. A collector that was not asked yet always is: the SDK ends one after
/// another, and a dead one may have used up the time of a live one.
const PATIENCE: Duration = Duration::from_millis(800);

/// One signal's way to one collector.
pub(super) struct Delivery {
    signal: &'static str,
    endpoint: Uri,
    protocol: Protocol,
    complaints: Arc<Complaints>,
    handed: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    closed: Notify,
}

#[derive(Default)]
struct State {
    in_flight: u32,
    closing: Option<Instant>,
    delivered_since: bool,
    failed_since: bool,
    absent: bool,
    last: Option<bool>,
}

impl Delivery {
    pub(super) fn new(
        signal: &'static str,
        endpoint: Uri,
        protocol: Protocol,
        complaints: Arc<Complaints>,
    ) -> Arc<Self> {
        Arc::new(Self {
            signal,
            endpoint,
            protocol,
            complaints,
            handed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
            closed: Notify::new(),
        })
    }

    pub(super) fn signal(&self) -> &'static str {
        self.signal
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// So many were ended, and are to be exported.
    pub(super) fn handed(&self, items: u64) {
        self.handed.fetch_add(items, Relaxed);
    }

    /// So many found no place in the queue, where so many of these wait. `first`: since it had some.
    pub(super) fn overflowed(&self, items: u64, places: usize, these: &str, first: bool) {
        self.handed(items);
        self.failed.fetch_add(items, Relaxed);
        if first {
            let failure = Failure::new(Problem::QueueFull, format!("{places} {these} wait already"));
            self.complaints.raise(self.signal, &self.endpoint, self.protocol, &failure);
        }
    }

    /// What an export lost.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// What was ended and not delivered, for whatever reason: right once nothing is under way.
    pub(super) fn missing(&self) -> u64 {
        self.handed.load(Relaxed).saturating_sub(self.delivered())
    }

    /// Whether the last export was taken; `None` if there was none.
    pub(super) fn last(&self) -> Option<bool> {
        self.state().last
    }

    /// The end begins.
    pub(super) fn close(&self) {
        self.state().closing = Some(clock::now());
        self.closed.notify_waiters();
    }

    /// Waits for the end to begin; for ever if it has already.
    pub(super) async fn closing(&self) {
        self.closed.notified().await;
    }

    /// Whether there is no use in another attempt after this failure: the end has begun, and nobody is there.
    pub(super) fn gives_up(&self, failure: &Failure) -> bool {
        let mut state = self.state();
        let gives_up = state.closing.is_some() && failure.is_absence();
        state.absent |= gives_up;
        gives_up
    }

    /// Tells why an export failed.
    pub(super) fn complain(&self, failure: &Failure) {
        self.gives_up(failure);
        self.complaints.raise(self.signal, &self.endpoint, self.protocol, failure);
    }

    /// Of an export the collector refused so many; it says why. Returns how many.
    pub(super) fn rejected(&self, items: i64, why: &str) -> u64 {
        let items = u64::try_from(items).unwrap_or(0);
        if items > 0 || !why.is_empty() {
            self.complain(&Failure::new(Problem::Rejected, format!("{items} items refused ({why})")));
        }
        items
    }

    /// Waits until no export is under way. `false` at the deadline.
    pub(super) fn settled(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(clock::now());
        let waited = self.changed.wait_timeout_while(self.state(), left, |state| state.in_flight > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One export, unless the collector was given up. It says how many of the items were refused.
    pub(super) async fn attempt(
        &self,
        items: u64,
        export: impl Future<Output = Result<u64, OTelSdkError>>,
    ) -> OTelSdkResult {
        let given_up = {
            let mut state = self.state();
            let waited = state.closing.map(|since| clock::now().saturating_duration_since(since));
            let late = waited.is_some_and(|waited| waited >= PATIENCE);
            let given_up = (late && state.failed_since || state.absent) && !state.delivered_since;
            state.in_flight += 1;
            given_up
        };
        let result = match given_up {
            true => Err(OTelSdkError::InternalFailure("the collector can't be reached".to_owned())),
            false => export.await,
        };
        self.ended(items, &result);
        result.map(|_| ())
    }

    fn ended(&self, items: u64, result: &Result<u64, OTelSdkError>) {
        match result {
            Ok(rejected) => {
                let rejected = items.min(*rejected);
                self.delivered.fetch_add(items - rejected, Relaxed);
                self.failed.fetch_add(rejected, Relaxed);
                if rejected == 0 {
                    self.complaints.over(self.signal);
                }
            }
            Err(_) => drop(self.failed.fetch_add(items, Relaxed)),
        }
        let mut state = self.state();
        state.in_flight -= 1;
        state.last = Some(result.is_ok());
        state.delivered_since |= state.closing.is_some() && result.is_ok();
        state.failed_since |= state.closing.is_some() && result.is_err();
        self.changed.notify_all();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("signal", &self.signal)
            .field("endpoint", &Rules::default().url(&self.endpoint))
            .finish()
    }
}

/// The places in the queue of the SDK, which tells nobody but its own log of a span that found none. So they are counted before
/// it: a span without one is not handed to it. What it has taken out counts until its export begins, so its queue is never
/// longer than what is counted here, and drops nothing by itself.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: AtomicUsize,
    /// A span found none since the last export.
    overflows: AtomicBool,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), overflows: AtomicBool::new(false) })
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Acquire, Relaxed, more).is_ok()
    }

    /// The export of so many spans begins.
    pub(super) fn leave(&self, spans: usize) {
        self.taken.fetch_sub(spans, Release);
        self.overflows.store(false, Relaxed);
    }
}

/// The batch processor, which takes sampled spans only (it would export others too) and is handed counted ones; and the lane
/// beside it, which is flushed and ended with it.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) batch: BatchSpanProcessor,
    pub(super) places: Arc<Places>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) way: Option<Arc<Way>>,
}

impl SpanProcessor for Handed {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batch.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if !self.places.take() {
            let first = !self.places.overflows.swap(true, Relaxed);
            return self.delivery.overflowed(1, self.places.most, "spans", first);
        }
        self.delivery.handed(1);
        self.batch.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        let batch = self.batch.force_flush();
        let way = self.way.as_ref().map_or(Ok(()), |way| way.flush(FLUSH));
        batch.and(way)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let deadline = clock::now() + timeout;
        if let Some(way) = &self.way {
            way.close();
        }
        let batch = self.batch.shutdown_with_timeout(timeout);
        let way = self.way.as_ref().map_or(Ok(()), |way| way.closed(deadline));
        batch.and(way)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batch.set_resource(resource);
    }
}

/// The most that a flush waits for a lane: as long as the SDK's processor does.
const FLUSH: Duration = Duration::from_secs(5);
