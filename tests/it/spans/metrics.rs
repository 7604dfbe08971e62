//! Metrics, as a reader of the SDK collects them.

use httptrace::Client;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, Metric, MetricData},
};

use super::scene::hello;
use crate::support::{
    client::Traced,
    origin::{Origin, Refusing},
};

/// A provider, and what it exports.
pub(crate) fn provider() -> (SdkMeterProvider, InMemoryMetricExporter) {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    (SdkMeterProvider::builder().with_reader(reader).build(), exporter)
}

/// Looks at a metric of the only collection that was made.
pub(crate) fn metric<T>(exporter: &InMemoryMetricExporter, name: &str, look: impl Fn(&Metric) -> T) -> T {
    let all = exporter.get_finished_metrics().expect("an exporter that was not shut down");
    let found = all.iter().flat_map(|resource| resource.scope_metrics()).flat_map(|scope| scope.metrics());
    let found: Vec<_> = found.filter(|metric| metric.name() == name).collect();
    let [metric] = found[..] else { panic!("{} metrics named {name}", found.len()) };
    look(metric)
}

pub(crate) fn value<'a>(mut attributes: impl Iterator<Item = &'a KeyValue>, key: &str) -> Option<Value> {
    attributes.find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.clone())
}

/// Acquisitions by `httptrace.connection.reused` and `error.type`.
fn acquisitions(exporter: &InMemoryMetricExporter) -> Vec<(Option<Value>, Option<Value>, u64)> {
    let mut all = metric(exporter, "httptrace.connection.acquisitions", |metric| {
        let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() else { panic!("a counter") };
        assert!(sum.is_monotonic());
        let point = |point: &opentelemetry_sdk::metrics::data::SumDataPoint<u64>| {
            assert!(value(point.attributes(), "server.port").is_some());
            let reused = value(point.attributes(), "httptrace.connection.reused");
            (reused, value(point.attributes(), "error.type"), point.value())
        };
        sum.data_points().map(point).collect::<Vec<_>>()
    });
    all.sort_by_key(|(_, _, count)| *count);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn four_requests_over_one_connection_have_a_reuse_ratio_of_three_quarters() {
    let (provider, exporter) = provider();
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&provider));
    for _ in 0..4 {
        traced.read(origin.url("/")).await.expect("a response");
        traced.log.settled().await;
    }
    traced.timelines(4).await;
    provider.force_flush().expect("a collection");
    assert_eq!(origin.accepted(), 1);
    assert_eq!(acquisitions(&exporter), [(Some(Value::from(false)), None, 1), (Some(Value::from(true)), None, 3)]);
    let ratios = metric(&exporter, "httptrace.connection.reuse_ratio", |metric| {
        let AggregatedMetrics::F64(MetricData::Gauge(gauge)) = metric.data() else { panic!("a gauge") };
        assert_eq!(metric.unit(), "1");
        gauge.data_points().map(|point| (value(point.attributes(), "server.port"), point.value())).collect::<Vec<_>>()
    });
    assert_eq!(ratios, [(Some(Value::from(i64::from(origin.addr().port()))), 0.75)]);
    metric(&exporter, "http.client.request.duration", |metric| {
        let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else { panic!("a histogram") };
        assert_eq!(metric.unit(), "s");
        let points: Vec<_> = histogram.data_points().collect();
        let [point] = points[..] else { panic!("one series for four equal requests: {points:?}") };
        assert_eq!(point.count(), 4);
        assert!(point.sum() > 0.0);
        for (key, wanted) in [
            ("http.request.method", Value::from("GET")),
            ("http.response.status_code", Value::from(200)),
            ("network.protocol.version", Value::from("1.1")),
            ("server.address", Value::from("127.0.0.1")),
            ("server.port", Value::from(i64::from(origin.addr().port()))),
        ] {
            assert_eq!(value(point.attributes(), key), Some(wanted), "{key}");
        }
        assert_eq!(point.attributes().count(), 5);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_got_no_connection_counts_with_its_error_and_phase() {
    let (provider, exporter) = provider();
    let refusing = Refusing::new();
    let traced = Traced::new(Client::builder().meter_provider(&provider));
    let url = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    traced.read(url).await.expect_err("nobody listens");
    traced.timelines(1).await;
    provider.force_flush().expect("a collection");
    assert_eq!(acquisitions(&exporter), [(None, Some(Value::from("connection_refused")), 1)]);
    metric(&exporter, "http.client.request.duration", |metric| {
        let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else { panic!("a histogram") };
        let points: Vec<_> = histogram.data_points().collect();
        let [point] = points[..] else { panic!("one request: {points:?}") };
        assert_eq!(value(point.attributes(), "error.type"), Some(Value::from("connection_refused")));
        assert_eq!(value(point.attributes(), "httptrace.error.phase"), Some(Value::from("connect")));
        assert_eq!(value(point.attributes(), "http.response.status_code"), None);
    });
}
