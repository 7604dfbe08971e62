//! What attempts leave in a meter, read from an in-memory exporter.

use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
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
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    (provider, exporter)
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
