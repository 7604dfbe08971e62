//! A meter provider in memory, and what a collection of it says.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData},
};

/// A provider with so many readers.
pub(super) struct Meters {
    pub(super) provider: SdkMeterProvider,
    exporters: Vec<InMemoryMetricExporter>,
}

/// One metric of one collection.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) kind: &'static str,
    pub(super) unit: String,
    pub(super) description: String,
    pub(super) bounds: Vec<f64>,
    pub(super) points: Vec<Point>,
}

/// One series: a histogram's count and sum, else the value twice.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) count: f64,
    pub(super) sum: f64,
}

pub(super) type Collection = BTreeMap<String, Seen>;

impl Meters {
    pub(super) fn new(readers: usize) -> Self {
        let exporters: Vec<_> = (0..readers).map(|_| InMemoryMetricExporter::default()).collect();
        let builder = exporters.iter().fold(SdkMeterProvider::builder(), |builder, exporter| {
            builder.with_reader(PeriodicReader::builder(exporter.clone()).build())
        });
        Self { provider: builder.build(), exporters }
    }

    /// What each reader says now.
    pub(super) fn collect(&self) -> Vec<Collection> {
        self.exporters.iter().for_each(InMemoryMetricExporter::reset);
        self.provider.force_flush().expect("a collection");
        self.exporters.iter().map(read).collect()
    }

    /// What the first reader says now.
    pub(super) fn first(&self) -> Collection {
        self.collect().remove(0)
    }
}

/// The sum of what a metric's series count where a label has a value, or of all.
pub(super) fn total(collection: &Collection, name: &str, label: Option<(&str, &str)>) -> f64 {
    let points = collection.get(name).map_or(&[][..], |seen| &seen.points);
    let wanted = |point: &&Point| label.is_none_or(|(key, value)| point.labels.get(key).is_some_and(|v| v == value));
    points.iter().filter(wanted).map(|point| point.count).sum()
}

fn read(exporter: &InMemoryMetricExporter) -> Collection {
    let mut all = Collection::new();
    for resource in exporter.get_finished_metrics().expect("an exporter that was not shut down") {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            let (kind, bounds, points) = match metric.data() {
                AggregatedMetrics::F64(data) => data_of(data, |value| value),
                AggregatedMetrics::U64(data) => data_of(data, |value| value as f64),
                AggregatedMetrics::I64(data) => data_of(data, |value| value as f64),
            };
            let (unit, description) = (metric.unit().to_owned(), metric.description().to_owned());
            let seen = Seen { kind, unit, description, bounds, points };
            assert!(all.insert(metric.name().to_owned(), seen).is_none(), "{} twice", metric.name());
        }
    }
    all
}

fn data_of<T: Copy>(data: &MetricData<T>, float: impl Fn(T) -> f64) -> (&'static str, Vec<f64>, Vec<Point>) {
    match data {
        MetricData::Gauge(gauge) => {
            let points = gauge.data_points().map(|p| point(p.attributes(), float(p.value()), float(p.value())));
            ("gauge", Vec::new(), points.collect())
        }
        MetricData::Sum(sum) => {
            let points = sum.data_points().map(|p| point(p.attributes(), float(p.value()), float(p.value())));
            (if sum.is_monotonic() { "counter" } else { "up-down" }, Vec::new(), points.collect())
        }
        MetricData::Histogram(histogram) => {
            let bounds = histogram.data_points().next().map(|p| p.bounds().collect()).unwrap_or_default();
            let points = histogram.data_points().map(|p| point(p.attributes(), p.count() as f64, float(p.sum())));
            ("histogram", bounds, points.collect())
        }
        MetricData::ExponentialHistogram(_) => panic!("no view asks for one"),
    }
}

fn point<'a>(labels: impl Iterator<Item = &'a KeyValue>, count: f64, sum: f64) -> Point {
    Point { labels: labels.map(|l| (l.key.to_string(), l.value.as_str().into_owned())).collect(), count, sum }
}
