//! The series that the requests to one server are recorded into, kept with it.
//!
//! The SDK finds a series by hashing all of its labels, which costs ten times as much as the recording itself. So the
//! labels of what comes again and again are made once, and where the provider is the SDK's own, its series are found once
//! and stay bound. Any other provider gets the labels each time: the API's way to bind is young, and what is recorded
//! through it would be lost in a provider that does not know it.
//!
//! Comes in: what an attempt got or took. Goes out: records of the instruments, none later than without this.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::StatusCode;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, MeterProvider},
};

use super::Instruments;
use crate::views::semconv::*;

/// Whether series of this provider can be bound: it is the SDK's, of the version that this crate is built with.
#[cfg(feature = "otlp")]
pub(super) fn binds<P: MeterProvider + ?Sized + 'static>(_: &P) -> bool {
    std::any::TypeId::of::<P>() == std::any::TypeId::of::<opentelemetry_sdk::metrics::SdkMeterProvider>()
}

#[cfg(not(feature = "otlp"))]
pub(super) fn binds<P: MeterProvider + ?Sized + 'static>(_: &P) -> bool {
    false
}

/// What records into one series.
type Bound<T> = Box<dyn Fn(T) + Send + Sync>;

trait Instrument<T> {
    fn record_with(&self, value: T, labels: &[KeyValue]);
    fn bound(&self, labels: &[KeyValue]) -> Bound<T>;
}

impl<T: Clone + 'static> Instrument<T> for Histogram<T> {
    fn record_with(&self, value: T, labels: &[KeyValue]) {
        self.record(value, labels);
    }

    #[cfg(feature = "otlp")]
    fn bound(&self, labels: &[KeyValue]) -> Bound<T> {
        let series = self.bind(labels);
        Box::new(move |value| series.record(value))
    }

    #[cfg(not(feature = "otlp"))]
    fn bound(&self, labels: &[KeyValue]) -> Bound<T> {
        with_labels(self.clone(), labels)
    }
}

impl Instrument<u64> for Counter<u64> {
    fn record_with(&self, value: u64, labels: &[KeyValue]) {
        self.add(value, labels);
    }

    #[cfg(feature = "otlp")]
    fn bound(&self, labels: &[KeyValue]) -> Bound<u64> {
        let series = self.bind(labels);
        Box::new(move |value| series.add(value))
    }

    #[cfg(not(feature = "otlp"))]
    fn bound(&self, labels: &[KeyValue]) -> Bound<u64> {
        with_labels(self.clone(), labels)
    }
}

#[cfg(not(feature = "otlp"))]
fn with_labels<T>(instrument: impl Instrument<T> + Send + Sync + 'static, labels: &[KeyValue]) -> Bound<T> {
    let labels = labels.to_vec();
    Box::new(move |value| instrument.record_with(value, &labels))
}

/// One series, bound at its first record, which is when the SDK begins to tell of it. `None`: not to be bound.
struct Series<T>(Option<OnceLock<Bound<T>>>);

impl<T> Series<T> {
    fn new(binds: bool) -> Self {
        Self(binds.then(OnceLock::new))
    }

    fn record(&self, instrument: &impl Instrument<T>, labels: &[KeyValue], value: T) {
        match &self.0 {
            Some(bound) => bound.get_or_init(|| instrument.bound(labels))(value),
            None => instrument.record_with(value, labels),
        }
    }
}

/// The series of one server.
pub(super) struct Kept {
    binds: bool,
    server: [KeyValue; 2],
    queue: Series<f64>,
    /// By whether the connection was reused.
    acquired: [([KeyValue; 3], Series<u64>); 2],
    idle: ([KeyValue; 3], Series<f64>),
    /// What came last is first.
    answers: Mutex<Vec<Arc<Answers>>>,
}

/// Answers of one kind.
pub(super) struct Answers {
    kind: Kind,
    labels: [KeyValue; 5],
    duration: Series<f64>,
    first_byte: Series<f64>,
    request_size: Series<u64>,
    response_size: Series<u64>,
}

/// What tells the series of successful requests to one server apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its place in [`methods`].
    pub(super) method: usize,
    pub(super) status: StatusCode,
    pub(super) version: &'static str,
}

/// Most kinds of answers that are kept of one server. Another one replaces the one that came longest ago.
const MOST_KINDS: usize = 8;

impl Kept {
    pub(super) fn new(server: &[KeyValue; 2], binds: bool) -> Self {
        let with = |label| [label, server[0].clone(), server[1].clone()];
        let acquired = |reused: bool| (with(KeyValue::new(CONNECTION_REUSED, reused)), Series::new(binds));
        Self {
            binds,
            server: server.clone(),
            queue: Series::new(binds),
            acquired: [acquired(false), acquired(true)],
            idle: (with(KeyValue::new(IDLE_OUTCOME, "reused")), Series::new(binds)),
            answers: Mutex::default(),
        }
    }

    pub(super) fn acquired(&self, instruments: &Instruments, reused: bool) {
        let (labels, series) = &self.acquired[usize::from(reused)];
        series.record(&instruments.acquisitions, labels, 1);
    }

    pub(super) fn idle(&self, instruments: &Instruments, seconds: f64) {
        let (labels, series) = &self.idle;
        series.record(&instruments.idle, labels, seconds);
    }

    pub(super) fn queued(&self, instruments: &Instruments, seconds: f64) {
        self.queue.record(&instruments.queue, &self.server, seconds);
    }

    pub(super) fn answers(&self, kind: Kind) -> Arc<Answers> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.iter().position(|known| known.kind == kind) {
            Some(0) => {}
            Some(at) => answers[..=at].rotate_right(1),
            None => {
                answers.truncate(MOST_KINDS - 1);
                answers.insert(0, Arc::new(Answers::new(kind, &self.server, self.binds)));
            }
        }
        Arc::clone(&answers[0])
    }
}

impl Answers {
    fn new(kind: Kind, [address, port]: &[KeyValue; 2], binds: bool) -> Self {
        let labels = [
            KeyValue::new(HTTP_REQUEST_METHOD, methods()[kind.method]),
            KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(kind.status.as_u16())),
            KeyValue::new(NETWORK_PROTOCOL_VERSION, kind.version),
            address.clone(),
            port.clone(),
        ];
        let (duration, first_byte) = (Series::new(binds), Series::new(binds));
        Self { kind, labels, duration, first_byte, request_size: Series::new(binds), response_size: Series::new(binds) }
    }

    pub(super) fn record(&self, instruments: &Instruments, took: &Took) {
        let Self { labels, duration, first_byte, request_size, response_size, .. } = self;
        duration.record(&instruments.duration, labels, took.seconds);
        if let Some(seconds) = took.first_byte {
            first_byte.record(&instruments.first_byte, labels, seconds);
        }
        if let Some(bytes) = took.request_bytes {
            request_size.record(&instruments.request_size, labels, bytes);
        }
        if let Some(bytes) = took.response_bytes {
            response_size.record(&instruments.response_size, labels, bytes);
        }
    }
}

/// What is measured of one attempt; what was not, or is nothing, is absent.
pub(super) struct Took {
    pub(super) seconds: f64,
    pub(super) first_byte: Option<f64>,
    pub(super) request_bytes: Option<u64>,
    pub(super) response_bytes: Option<u64>,
}
