//! The `OTEL_*` environment and what code said, made into plain settings. Variables come through a function.
//!
//! [`Settings::read`] is the table: one line per variable, with its default. What code said wins. An empty variable is an
//! unset one. A malformed value is warned of once and its default used. No warning repeats a value that may be a secret
//! (endpoints, header fields). What concerns one signal's way to a collector is in `env/target.rs`, how values are read in
//! `env/values.rs`.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod lists;
mod resource;
mod target;
mod values;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    metrics::Temporality,
    trace::{ShouldSample, SpanLimits},
};

pub(super) use self::target::{Collector, Target};
use self::values::Env;
use super::{Builder, Exporter, InitError, Processor, Propagator};

/// Reads one variable.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All that the pipeline is built from.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) collectors: Vec<Collector>,
    pub(super) console: Console,
    /// Sorted so that the later of two attributes with one key wins.
    pub(super) resource: Vec<KeyValue>,
    /// And whether it may be one that looks at attributes.
    pub(super) sampler: (Box<dyn ShouldSample>, bool),
    pub(super) processors: Vec<Processor>,
    pub(super) limits: SpanLimits,
    pub(super) batch: Batch,
    pub(super) metric_interval: Duration,
    pub(super) temporality: Temporality,
    pub(super) propagators: Vec<Propagator>,
    /// None: the usual ones.
    pub(super) known_methods: Option<Vec<String>>,
    pub(super) shutdown: Duration,
    pub(super) warnings: Vec<String>,
}

/// Which signals are written to stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Console {
    pub(super) traces: bool,
    pub(super) metrics: bool,
}

/// The batch span processor's sizes (the specification's defaults).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) delay: Duration,
    pub(super) queue: usize,
    pub(super) size: usize,
}

impl Settings {
    pub(super) fn read(mut code: Builder, lookup: Lookup<'_>) -> Result<Self, InitError> {
        let mut env = Env::new(lookup);
        let disabled = env.boolean("OTEL_SDK_DISABLED", false);
        let traces = choice(code.traces, code.traces_exporters.take(), || env.exporters("OTEL_TRACES_EXPORTER"));
        let metrics = choice(code.metrics, code.metrics_exporters.take(), || env.exporters("OTEL_METRICS_EXPORTER"));
        let otlp = (traces.contains(&Exporter::Otlp) && !disabled, metrics.contains(&Exporter::Otlp) && !disabled);
        let collectors = env.collectors(&code, otlp)?;
        let console = Console {
            traces: traces.contains(&Exporter::Console) && !disabled,
            metrics: metrics.contains(&Exporter::Console) && !disabled,
        };
        let this = Self {
            console,
            processors: if code.traces && !disabled { code.processors } else { Vec::new() },
            resource: env.resource(code.service_name, code.resource),
            sampler: code
                .sampler
                .unwrap_or_else(|| (Box::new(env.sampler("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")), false)),
            limits: code.span_limits.unwrap_or_else(|| env.limits()),
            batch: env.batch(code.batch_delay, code.batch_queue, code.batch_size),
            metric_interval: code
                .metric_interval
                .unwrap_or_else(|| env.millis("OTEL_METRIC_EXPORT_INTERVAL", DEFAULT_METRIC_INTERVAL)),
            temporality: code
                .temporality
                .unwrap_or_else(|| env.temporality("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")),
            propagators: code.propagators.unwrap_or_else(|| env.propagators("OTEL_PROPAGATORS")),
            known_methods: code.known_methods.or_else(|| env.known_methods("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS")),
            shutdown: longest(&collectors),
            collectors,
            warnings: Vec::new(),
        };
        env.check_unread();
        Ok(Self { warnings: env.warnings, ..this })
    }
}

impl Env<'_> {
    fn batch(&mut self, delay: Option<Duration>, queue: Option<usize>, size: Option<usize>) -> Batch {
        let delay = delay.unwrap_or_else(|| self.millis("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5)));
        let queue = queue.unwrap_or_else(|| self.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048));
        let name = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let told = if size.is_some() { "the batch's size" } else { name };
        let size = size.unwrap_or_else(|| self.count(name, queue.min(512)));
        if size > queue {
            self.warn(told, format_args!("is above the queue's size; {queue} is used"));
        }
        Batch { delay, queue, size: size.min(queue) }
    }

    fn limits(&mut self) -> SpanLimits {
        let all = self.limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128);
        SpanLimits {
            max_attributes_per_span: self.limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", all),
            max_events_per_span: self.limit("OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
            max_links_per_span: self.limit("OTEL_SPAN_LINK_COUNT_LIMIT", 128),
            max_attributes_per_event: self.limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", all),
            max_attributes_per_link: self.limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", all),
        }
    }

    fn check_unread(&mut self) {
        let set = UNREAD.iter().filter(|(name, same)| {
            self.get(name).is_some_and(|value| !same.contains(&value.to_ascii_lowercase().as_str()))
        });
        let set: Vec<_> = set.map(|(name, _)| *name).collect();
        if !set.is_empty() {
            self.warnings.push(format!("set, but without effect: {}", set.join(", ")));
        }
    }
}

const DEFAULT_METRIC_INTERVAL: Duration = Duration::from_secs(60);

/// Variables of the specification that the SDK can't follow, with the values that say what is done anyway.
const UNREAD: [(&str, &[&str]); 5] = [
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", &[]),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", &[]),
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", &["explicit_bucket_histogram"]),
    ("OTEL_METRICS_EXEMPLAR_FILTER", &["always_off"]),
    ("OTEL_CONFIG_FILE", &[]),
];

fn choice(on: bool, code: Option<Vec<Exporter>>, env: impl FnOnce() -> Vec<Exporter>) -> Vec<Exporter> {
    if on { code.unwrap_or_else(env) } else { Vec::new() }
}

/// A shutdown may take as long as the slowest export.
fn longest(collectors: &[Collector]) -> Duration {
    let targets = collectors.iter().flat_map(|collector| [&collector.traces, &collector.metrics]);
    targets.flatten().map(|target| target.patience).max().unwrap_or(target::DEFAULT_TIMEOUT)
}

#[cfg(test)]
mod tests;
