//! What attempts leave in a meter, read from an in-memory exporter.

use std::{sync::Mutex, thread};

use opentelemetry::{
    InstrumentationScope,
    metrics::{Counter, Histogram, HistogramBuilder, InstrumentBuilder, InstrumentProvider, SyncInstrument},
};
use opentelemetry_sdk::metrics::{
    Aggregation, InMemoryMetricExporter, Instrument, MeterProviderBuilder, PeriodicReader, SdkMeterProvider, Stream,
    data::{AggregatedMetrics, MetricData},
};

use super::*;
use crate::{
    error::{Error, Kind},
    hooks::{ConnOutcome, WaitCause},
    phase::Phase,
    views::script,
};

fn provider() -> (SdkMeterProvider, InMemoryMetricExporter) {
    provided(|builder| builder)
}

fn provided(
    set: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
) -> (SdkMeterProvider, InMemoryMetricExporter) {
    let exporter = InMemoryMetricExporter::default();
    let builder = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build());
    (set(builder).build(), exporter)
}

fn reused(metrics: &Metrics, status: u16) {
    script::get().send(&[metrics]).get_conn().got_conn(ConnOutcome::Idle, None, None).completes(status);
}

fn fresh(metrics: &Metrics) {
    let attempt = script::get().send(&[metrics]);
    attempt.get_conn().got_conn(ConnOutcome::New, Some(WaitCause::Dial), None).completes(200);
}

/// The points of one metric in the last collection, as `attributes -> value`.
fn collected(provider: &SdkMeterProvider, exporter: &InMemoryMetricExporter, name: &str) -> Vec<(String, f64)> {
    exporter.reset();
    provider.force_flush().unwrap();
    let mut points = Vec::new();
    for resource in exporter.get_finished_metrics().unwrap() {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()).filter(|m| m.name() == name) {
            match metric.data() {
                AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                    points.extend(gauge.data_points().map(|p| (shown(p.attributes()), p.value())));
                }
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    points.extend(sum.data_points().map(|p| (shown(p.attributes()), p.value() as f64)));
                }
                AggregatedMetrics::I64(MetricData::Sum(sum)) => {
                    points.extend(sum.data_points().map(|p| (shown(p.attributes()), p.value() as f64)));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    points.extend(histogram.data_points().map(|p| (shown(p.attributes()), p.sum())));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    points.sort_by(|a, b| a.0.cmp(&b.0));
    points
}

fn shown<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    attributes.map(|a| format!("{}={}", a.key, a.value.as_str())).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_duration_runs_to_the_last_body_byte() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    reused(&metrics, 200);
    let points = collected(&provider, &exporter, HTTP_CLIENT_REQUEST_DURATION);
    let labels = "http.request.method=GET http.response.status_code=200 network.protocol.version=1.1 \
                  server.address=example.com server.port=443";
    assert_eq!(points, [(labels.to_owned(), 0.03)]);
}

#[test]
fn a_failed_attempt_says_in_which_phase_it_died() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    let attempt = script::get().send(&[&metrics]);
    let refused = Error::new(Kind::ConnectionRefused, Phase::Connect);
    attempt.get_conn().no_conn(&refused, Some(WaitCause::Dial));
    reused(&metrics, 503);
    let durations: Vec<_> =
        collected(&provider, &exporter, HTTP_CLIENT_REQUEST_DURATION).into_iter().map(|point| point.0).collect();
    assert_eq!(
        durations,
        [
            "error.type=503 http.request.method=GET http.response.status_code=503 network.protocol.version=1.1 \
             server.address=example.com server.port=443",
            "error.type=connection_refused http.request.method=GET httptrace.error.phase=connect \
             server.address=example.com server.port=443",
        ]
    );
    let acquisitions = collected(&provider, &exporter, CONNECTION_ACQUISITIONS);
    assert_eq!(
        acquisitions,
        [
            ("error.type=connection_refused server.address=example.com server.port=443".to_owned(), 1.0),
            ("httptrace.connection.reused=true server.address=example.com server.port=443".to_owned(), 1.0),
        ]
    );
}

#[test]
fn the_ratio_is_of_all_clients_of_a_provider_since_the_last_collection() {
    let (provider, exporter) = provider();
    let (one, two) = (Metrics::new(&provider), Metrics::new(&provider));
    fresh(&one);
    reused(&one, 200);
    reused(&two, 200);
    reused(&two, 200);
    let server = "server.address=example.com server.port=443".to_owned();
    assert_eq!(collected(&provider, &exporter, CONNECTION_REUSE_RATIO), [(server.clone(), 0.75)]);
    assert_eq!(collected(&provider, &exporter, CONNECTION_REUSE_RATIO), [], "no acquisitions, no point");
    drop(one);
    fresh(&two);
    assert_eq!(collected(&provider, &exporter, CONNECTION_REUSE_RATIO), [(server.clone(), 0.0)]);
    drop(two);
    let third = Metrics::new(&provider);
    reused(&third, 200);
    assert_eq!(
        collected(&provider, &exporter, CONNECTION_REUSE_RATIO),
        [(server, 1.0)],
        "a later client is counted too"
    );
}

#[test]
fn two_providers_have_a_ratio_each() {
    let ((one, one_exporter), (two, two_exporter)) = (provider(), provider());
    reused(&Metrics::new(&one), 200);
    fresh(&Metrics::new(&two));
    assert_eq!(collected(&one, &one_exporter, CONNECTION_REUSE_RATIO)[0].1, 1.0);
    assert_eq!(collected(&two, &two_exporter, CONNECTION_REUSE_RATIO)[0].1, 0.0);
}

#[test]
fn a_provider_that_records_nothing_is_not_reported_to() {
    let noop = Metrics::new(&opentelemetry::metrics::NoopMeterProvider::new());
    assert!(!noop.is_listening() && script::get().send(&[&noop]).reports.is_empty());
    let (provider, _exporter) = provider();
    provider.shutdown().unwrap();
    assert!(!Metrics::new(&provider).is_listening());
}

#[test]
fn a_suppressed_scope_records_nothing() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    let guard = Context::enter_telemetry_suppressed_scope();
    reused(&metrics, 200);
    drop(guard);
    assert_eq!(collected(&provider, &exporter, CONNECTION_ACQUISITIONS), []);
}

#[test]
fn a_retry_is_counted_as_an_attempt_of_its_own() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    let first = script::get().send(&[&metrics]);
    first.get_conn().got_conn(ConnOutcome::Idle, None, None).completes(200);
    first.again().get_conn().got_conn(ConnOutcome::Idle, None, None).completes(200);
    assert_eq!(collected(&provider, &exporter, CONNECTION_ACQUISITIONS)[0].1, 2.0);
}

#[test]
fn an_acquisition_counts_when_it_is_made_and_not_when_its_body_has_ended() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    let attempt = script::get().send(&[&metrics]);
    attempt.get_conn().got_conn(ConnOutcome::Idle, None, None);
    // The ratio first: each collection begins an interval.
    for name in [CONNECTION_REUSE_RATIO, CONNECTION_ACQUISITIONS] {
        assert_eq!(collected(&provider, &exporter, name).first().map(|point| point.1), Some(1.0), "{name}");
    }
    attempt.completes(200);
    assert_eq!(collected(&provider, &exporter, CONNECTION_REUSE_RATIO), [], "and once");
}

#[test]
fn no_acquisition_is_lost_or_told_twice_between_two_intervals() {
    const EACH: u64 = 20_000;
    let (provider, _exporter) = provider();
    let metrics = Metrics::new(&provider);
    let server = metrics.0.as_ref().expect("instruments").servers.get(&"example.com".into(), 443);
    let (mut all, mut reused) = (0, 0);
    let mut add = |(more, of_them): (u64, u64)| {
        assert!(of_them <= more, "{of_them} of {more}");
        (all, reused) = (all + more, reused + of_them);
    };
    thread::scope(|scope| {
        let requests: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..EACH).for_each(|n| server.acquired(n % 4 != 0)))).collect();
        while !requests.iter().all(thread::ScopedJoinHandle::is_finished) {
            add(server.interval());
        }
    });
    add(server.interval());
    assert_eq!((all, reused), (4 * EACH, 3 * EACH));
}

/// A provider that knows only what is stable of the API.
#[derive(Clone, Default)]
struct Plain(Arc<Mutex<Vec<String>>>);

struct PlainInstrument(&'static str, Plain);

impl MeterProvider for Plain {
    fn meter_with_scope(&self, _: InstrumentationScope) -> Meter {
        Meter::new(Arc::new(self.clone()))
    }
}

impl InstrumentProvider for Plain {
    fn u64_counter(&self, _: InstrumentBuilder<'_, Counter<u64>>) -> Counter<u64> {
        Counter::new(Arc::new(PlainInstrument("counter", self.clone())))
    }

    fn f64_histogram(&self, _: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        Histogram::new(Arc::new(PlainInstrument("histogram", self.clone())))
    }
}

impl<T> SyncInstrument<T> for PlainInstrument {
    fn measure(&self, _: T, labels: &[KeyValue]) {
        self.1.0.lock().unwrap().push(format!("{} {}", self.0, shown(labels.iter())));
    }
}

#[test]
fn a_provider_that_can_not_bind_series_loses_nothing() {
    let provider = Plain::default();
    let metrics = Metrics::new(&provider);
    (0..2).for_each(|_| reused(&metrics, 200));
    let server = "server.address=example.com server.port=443";
    let answer = "http.request.method=GET http.response.status_code=200 network.protocol.version=1.1";
    let each = [
        format!("counter httptrace.connection.reused=true {server}"),
        format!("histogram httptrace.idle.outcome=reused {server}"),
        format!("histogram {server}"),
        format!("histogram {answer} {server}"),
        format!("histogram {answer} {server}"),
    ];
    assert_eq!(*provider.0.lock().unwrap(), [each.clone(), each].concat());
}

#[test]
fn a_series_is_found_again_whatever_came_between() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    // More kinds than are kept, one of which has an error; then some that are kept, and one that is not any more.
    let statuses = || (200..212).chain([404, 210, 207, 207, 201]);
    statuses().for_each(|status| reused(&metrics, status));
    statuses().for_each(|status| reused(&Metrics::new(&provider), status));
    let points = collected(&provider, &exporter, HTTP_CLIENT_REQUEST_DURATION);
    let seconds =
        |status: &str| points.iter().filter(|point| point.0.contains(status)).map(|point| point.1).sum::<f64>();
    let times = |status| (seconds(status) / 0.03).round();
    let told = ["=200 ", "=201 ", "=207 ", "=210 ", "=404 "].map(times);
    assert_eq!((points.len(), told), (13, [2.0, 4.0, 6.0, 4.0, 2.0]));
    assert_eq!(collected(&provider, &exporter, CONNECTION_ACQUISITIONS)[0].1, 34.0);
    assert_eq!(collected(&provider, &exporter, CONNECTION_IDLE_DURATION).len(), 1);
}

/// Requests are under way to these hosts.
fn under_way(metrics: &Metrics, hosts: impl Iterator<Item = u32>) -> Vec<Arc<Server>> {
    let servers = &metrics.0.as_ref().expect("instruments").servers;
    let server = |n| {
        let server = servers.get(&format!("host-{n}.test").into(), 443);
        server.active[0].add(1);
        server
    };
    hosts.map(server).collect()
}

fn all_over(servers: Vec<Arc<Server>>) {
    servers.iter().for_each(|server| server.active[0].add(-1));
}

#[test]
fn a_hundred_thousand_hosts_are_counted_and_few_are_kept() {
    let (provider, exporter) = provider();
    let metrics = Metrics::new(&provider);
    let sum = |points: &[(String, f64)]| points.iter().map(|point| point.1).sum::<f64>();
    let many = under_way(&metrics, 0..1_300);
    let points = collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS);
    assert_eq!((points.len(), sum(&points)), (501, 1_300.0), "all are counted, the last of them in one series");
    let shared: Vec<_> = points.iter().filter(|point| point.0.contains("otel.metric.overflow=true")).collect();
    assert_eq!((shared.len(), shared[0].1), (1, 800.0));
    all_over(many);
    (0..100_000).for_each(|host| all_over(under_way(&metrics, host..host + 1)));
    let points = collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS);
    assert_eq!((points.len(), sum(&points)), (501, 0.0));
}

#[test]
fn hosts_that_nobody_uses_are_told_to_be_at_zero_and_make_room_for_others() {
    // Whichever metric is left: the ratio may be dropped by a view.
    let drop_ratio = |instrument: &Instrument| {
        let stream = || Stream::builder().with_aggregation(Aggregation::Drop).build().expect("a stream");
        (instrument.name() == CONNECTION_REUSE_RATIO).then(stream)
    };
    for (provider, exporter) in [provider(), provided(|builder| builder.with_view(drop_ratio))] {
        let metrics = Metrics::new(&provider);
        let own = |points: Vec<(String, f64)>| points.into_iter().filter(|point| point.0.contains("host-")).count();
        // More hosts in all than the SDK has series.
        for round in 0..6 {
            let hosts = round * 500..(round + 1) * 500;
            let servers = under_way(&metrics, hosts);
            assert_eq!(own(collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS)), 500, "round {round}");
            all_over(servers);
            let points = collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS);
            assert!(points.len() == 500 && points.iter().all(|point| point.1 == 0.0), "told once more, and at zero");
            for _ in 0..3 {
                collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS);
            }
            assert_eq!(own(collected(&provider, &exporter, HTTP_CLIENT_ACTIVE_REQUESTS)), 0, "round {round}");
        }
    }
}
