//! Holds telemetry while the program runs, and flushes it at the end: within a deadline, on threads of its own.
//!
//! The SDK's own shutdown ignores its deadline for metrics, waits on the calling thread, and calls it well when nothing
//! arrived. So each provider is shut down on a plain thread, both at once; what is not done at the deadline is left
//! behind, and what was not delivered is counted.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{error::OTelSdkError, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{delivery::Delivery, env::Settings, pipeline::Pipeline, problem::Failure};
use crate::{clock, timeline};

/// Keeps telemetry going. Its [`shutdown`](Self::shutdown), or its drop, flushes and ends it.
#[must_use = "telemetry ends when the guard is dropped"]
pub struct Guard(Arc<Inner>);

struct Inner {
    pipeline: Pipeline,
    deadline: Duration,
    warnings: Vec<String>,
    end: Mutex<End>,
    ended: Condvar,
}

/// How far the end is.
#[derive(Default)]
enum End {
    #[default]
    Ahead,
    UnderWay,
    Done(Shutdown),
}

/// What became of the telemetry, as known at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Spans that a collector took.
    pub exported_spans: u64,
    /// Spans that were ended and that none took: the export failed, the queue was full, or the deadline came.
    pub dropped_spans: u64,
    /// Whether the last metrics were taken; true where none were to be sent.
    pub metrics_delivered: bool,
    /// Whether the deadline came before all was done.
    pub timed_out: bool,
    /// Why exports failed while telemetry was running: a line per kind, with the endpoint and the likely fix.
    pub problems: Vec<String>,
}

impl Shutdown {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.dropped_spans == 0 && self.metrics_delivered && !self.timed_out
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exported_spans, dropped_spans, metrics_delivered, timed_out, problems } = self;
        write!(f, "{exported_spans} spans exported, {dropped_spans} dropped")?;
        if !*metrics_delivered {
            f.write_str(", metrics not delivered")?;
        }
        if *timed_out {
            f.write_str(", given up at the deadline")?;
        }
        problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl Guard {
    pub(super) fn new(pipeline: Pipeline, settings: Settings) -> Self {
        let Settings { shutdown, warnings, .. } = settings;
        // The clock can't tell a time that never comes.
        let deadline = shutdown.min(Duration::from_secs(365 * 24 * 60 * 60));
        Self(Arc::new(Inner { pipeline, deadline, warnings, end: Mutex::default(), ended: Condvar::new() }))
    }

    /// The provider of spans, for a client that is not to use the global one.
    #[must_use]
    pub fn tracer_provider(&self) -> &SdkTracerProvider {
        &self.0.pipeline.tracer_provider
    }

    /// The provider of metrics.
    #[must_use]
    pub fn meter_provider(&self) -> &SdkMeterProvider {
        &self.0.pipeline.meter_provider
    }

    /// What was wrong with the configuration, a line each. They were told to `tracing` as well.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Spans lost so far: those whose export failed or that found no place in the queue, and, after the end, all that no
    /// collector took.
    #[must_use]
    pub fn dropped_spans(&self) -> u64 {
        match &*self.0.end() {
            End::Done(ended) => ended.dropped_spans,
            End::Ahead | End::UnderWay => self.0.of_spans(Delivery::failed),
        }
    }

    /// A layer that exports the application's own `tracing` spans, of every level.
    ///
    /// What the exporters and the HTTP stack below them say is left out, whatever `RUST_LOG` says: it would be exported,
    /// and so be said again, for ever. That is the layer's own filter, so other layers (a log) still see all of it. For
    /// fewer levels, filter once more:
    ///
    /// ```no_run
    /// use tracing_subscriber::{EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};
    ///
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let telemetry = httptrace::otlp::init()?;
    /// let log = tracing_subscriber::fmt::layer().with_filter(EnvFilter::from_default_env());
    /// let spans = telemetry.layer().with_filter(LevelFilter::INFO);
    /// tracing_subscriber::registry().with(spans).with(log).init();
    /// # Ok(()) }
    /// ```
    ///
    /// An application with a layer of its own takes the tracer from here and needs that filter too. Suppressing telemetry
    /// while exporting does not do: `h2` begins spans without a parent.
    ///
    /// ```no_run
    /// use opentelemetry::trace::TracerProvider;
    /// use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};
    ///
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let telemetry = httptrace::otlp::init()?;
    /// let tracer = telemetry.tracer_provider().tracer("shop");
    /// let quiet = "trace,h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,reqwest=off,rustls=off,tokio=off,\
    ///     tokio_util=off,mio=off,httptrace=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off,\
    ///     opentelemetry-http=off";
    /// let spans = tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::try_new(quiet)?);
    /// tracing_subscriber::registry().with(spans).init();
    /// # Ok(()) }
    /// ```
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        self.0.pipeline.spans.then(|| {
            let tracer = self.0.pipeline.tracer_provider.tracer("tracing");
            let own = filter_fn(|metadata| !is_plumbing(metadata.target()));
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(own)
        })
    }

    /// Flushes and ends telemetry; spans after it are not recorded.
    ///
    /// Blocks at most as long as `OTEL_EXPORTER_OTLP_TIMEOUT` says (10 s), and 2 s if the collector refuses its
    /// connections. A second call returns what the first one did. From async code, use
    /// [`shutdown_async`](Self::shutdown_async).
    ///
    /// A request is over when its response has been read or dropped and its connection is back in the pool; for those on
    /// their way back this waits, 100 ms at most. What still runs is lost: end it first, with
    /// [`Client::shutdown`](crate::Client::shutdown). So does a program with a single-threaded runtime, where nothing comes
    /// back while this blocks.
    pub fn shutdown(&self) -> Shutdown {
        self.0.shutdown()
    }

    /// As [`shutdown`](Self::shutdown), without blocking the thread that awaits it. It needs no particular runtime.
    ///
    /// The end goes on if this future is dropped, on a thread of its own, as long as the process lives.
    pub async fn shutdown_async(&self) -> Shutdown {
        let (done, ended) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("httptrace-end".to_owned());
        let spawned = thread.spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(inner.shutdown());
        });
        match (spawned, ended.await) {
            (Ok(_), Ok(ended)) => ended,
            // There is no thread to be had: better a wait than a loss.
            _ => self.0.shutdown(),
        }
    }
}

impl Inner {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shutdown(&self) -> Shutdown {
        let mut end = self.end();
        loop {
            match &*end {
                End::Done(ended) => return ended.clone(),
                End::UnderWay => end = self.ended.wait(end).unwrap_or_else(PoisonError::into_inner),
                End::Ahead => break,
            }
        }
        *end = End::UnderWay;
        drop(end);
        let ended = self.flush();
        *self.end() = End::Done(ended.clone());
        self.ended.notify_all();
        ended
    }

    /// Ends both signals, each on a thread of its own.
    fn flush(&self) -> Shutdown {
        let deadline = clock::now() + self.deadline;
        await_returns(deadline);
        let deliveries = &self.pipeline.deliveries;
        deliveries.iter().for_each(|delivery| delivery.close());
        let (tracers, meters) = (self.pipeline.tracer_provider.clone(), self.pipeline.meter_provider.clone());
        let left = self.deadline;
        let ends = [
            ending("spans", self.pipeline.spans, deliveries, deadline, move || tracers.shutdown_with_timeout(left)),
            ending("metrics", self.pipeline.metrics, deliveries, deadline, move || meters.shutdown_with_timeout(left)),
        ];
        let done = ends.map(|end| {
            let left = deadline.saturating_duration_since(clock::now());
            end.recv_timeout(left).unwrap_or(false)
        });
        if done.contains(&false) {
            let late = deliveries.iter().filter(|delivery| !delivery.settled(deadline));
            late.for_each(|delivery| delivery.complain(&Failure::silence(self.deadline)));
        }
        // What still waits for its turn has none any more.
        self.pipeline.ways.iter().for_each(|way| way.abandon());
        let metrics = deliveries.iter().filter(|delivery| delivery.signal() == "metrics");
        Shutdown {
            exported_spans: self.of_spans(Delivery::delivered),
            dropped_spans: self.of_spans(Delivery::missing),
            metrics_delivered: done[1] && metrics.into_iter().all(|delivery| delivery.last() != Some(false)),
            timed_out: !done.into_iter().all(|done| done),
            problems: self.pipeline.complaints.lines(),
        }
    }

    fn of_spans(&self, count: impl Fn(&Delivery) -> u64) -> u64 {
        let spans = self.pipeline.deliveries.iter().filter(|delivery| delivery.signal() == "spans");
        spans.map(|delivery| count(delivery)).sum()
    }
}

/// The last response has been read, and its connection is on its way back to the pool: the request's spans and metrics are
/// there a moment later. Not on a runtime's only thread, where nothing comes back while it waits here.
fn await_returns(deadline: Instant) {
    let alone = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread);
    let until = deadline.min(clock::now() + RETURN);
    while !alone && timeline::are_returning() && clock::now() < until {
        thread::sleep(RETURN / 500);
    }
}

/// The most that the end waits for connections to come back. A body that was dropped may take 50 ms to be read up.
const RETURN: Duration = Duration::from_millis(100);

/// Ends one signal on a thread of its own. Says `true` when it is done in time; it may be left behind.
fn ending(
    signal: &'static str,
    on: bool,
    deliveries: &[Arc<Delivery>],
    deadline: Instant,
    shutdown: impl FnOnce() -> Result<(), OTelSdkError> + Send + 'static,
) -> mpsc::Receiver<bool> {
    let (done, ended) = mpsc::channel();
    if !on {
        let _ = done.send(true);
        return ended;
    }
    let deliveries: Vec<_> = deliveries.iter().filter(|delivery| delivery.signal() == signal).cloned().collect();
    // If there is no thread to be had, the receiver says so at once.
    let _ = thread::Builder::new().name(format!("httptrace-{signal}")).spawn(move || {
        // Its own word is worth little (see above); and the metrics' has a limit of 5 s, whatever is asked for.
        let _ = shutdown();
        let settled = deliveries.iter().all(|delivery| delivery.settled(deadline));
        let _ = done.send(settled);
    });
    ended
}

/// Targets of the libraries that carry requests and telemetry, this one included. OpenTelemetry's are its packages' names.
const PLUMBING: [&str; 15] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "reqwest",
    "rustls",
    "tokio",
    "tokio_util",
    "mio",
    "httptrace",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "opentelemetry-http",
];

fn is_plumbing(target: &str) -> bool {
    PLUMBING.contains(&target.split("::").next().unwrap_or(target))
}

impl Drop for Guard {
    /// Flushes, unless a shutdown has begun.
    fn drop(&mut self) {
        if matches!(*self.0.end(), End::Ahead) {
            self.0.shutdown();
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("deliveries", &self.0.pipeline.deliveries)
            .field("own_thread", &self.0.pipeline.runtime.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_below_is_plumbing_and_what_sounds_like_it_is_not() {
        for target in ["h2", "h2::client", "hyper::proto::h1", "opentelemetry-otlp", "tokio::task", "httptrace"] {
            assert!(is_plumbing(target), "{target}");
        }
        for target in ["shop", "tower_http::trace", "h2o", "my_hyper", "sqlx::query", "hyperion::h2"] {
            assert!(!is_plumbing(target), "{target}");
        }
    }

    #[test]
    fn the_directives_for_a_layer_of_ones_own_silence_all_of_it() {
        let doc: String = include_str!("guard.rs").lines().filter(|line| line.contains("///")).collect();
        for target in PLUMBING {
            assert!(doc.contains(&format!("{target}=off")), "{target}");
        }
    }
}
