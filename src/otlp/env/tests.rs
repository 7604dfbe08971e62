//! What each variable means, and what is said of a bad one.

use std::{cell::RefCell, collections::BTreeSet};

use opentelemetry_sdk::trace::Sampler;

use super::*;
use crate::otlp::{
    Compression, Protocol, builder,
    env::{resource::instance_id, target::DEFAULT_TIMEOUT},
};

fn read(code: Builder, variables: &[(&str, &str)]) -> Settings {
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Settings::read(code, &find).expect("settings")
}

fn endpoints(settings: &Settings) -> Vec<String> {
    let targets = settings.collectors.iter().flat_map(|collector| [&collector.traces, &collector.metrics]);
    targets.flatten().map(|target| target.endpoint.to_string()).collect()
}

fn attribute(settings: &Settings, key: &str) -> String {
    let last = settings.resource.iter().rfind(|attribute| attribute.key.as_str() == key);
    last.map(|attribute| attribute.value.as_str().into_owned()).unwrap_or_default()
}

#[test]
fn an_empty_environment_means_http_on_port_4318() {
    let settings = read(builder(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    assert_eq!(endpoints(&settings), ["http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"]);
    let target = settings.collectors[0].traces.as_ref().unwrap();
    assert_eq!((target.protocol, target.timeout), (Protocol::HttpProtobuf, DEFAULT_TIMEOUT));
    assert_eq!((settings.shutdown, settings.metric_interval), (DEFAULT_TIMEOUT, DEFAULT_METRIC_INTERVAL));
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn a_base_gets_a_path_and_a_signals_own_endpoint_does_not() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example:4000/base/"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m.example/in"),
    ];
    let settings = read(builder(), &variables);
    assert_eq!(endpoints(&settings), ["https://c.example:4000/base/v1/traces", "http://m.example/in"]);
    let settings = read(builder(), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), variables[0]]);
    assert_eq!(endpoints(&settings), ["https://c.example:4000/base/"; 2]);
}

#[test]
fn what_code_says_wins_but_for_the_service_name() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ("OTEL_SERVICE_NAME", "named"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,team=a%20b,service.instance.id=7"),
    ];
    let code = || builder().endpoint("http://code:2").protocol(Protocol::Grpc).service_name("coded");
    let settings = read(code(), &variables);
    assert_eq!(endpoints(&settings), ["http://code:2/"; 2]);
    assert_eq!(settings.shutdown, Duration::from_millis(250));
    assert_eq!(attribute(&settings, "service.name"), "named");
    assert_eq!(attribute(&settings, "team"), "a b");
    assert_eq!(attribute(&settings, "service.instance.id"), "7");
    let both = read(code().and_environment(), &variables);
    let env = ["http://env:1/v1/traces", "http://env:1/v1/metrics"];
    assert_eq!(endpoints(&both), [["http://code:2/"; 2], env].concat());
    assert_eq!(endpoints(&read(code().and_environment(), &[])), ["http://code:2/"; 2]);
    assert_eq!(attribute(&read(code(), &[]), "service.name"), "coded");
}

#[test]
fn every_option_of_the_builder_wins_over_its_variable() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=env,b=env"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "ENV"),
    ];
    let seconds = Duration::from_secs;
    let code = builder()
        .protocol(Protocol::HttpProtobuf)
        .header("a", "code")
        .timeout(seconds(20))
        .compression(Compression::None)
        .traces_exporters([Exporter::Otlp, Exporter::Console])
        .metrics_exporters([Exporter::Otlp])
        .sampler(Sampler::AlwaysOn)
        .span_limits(SpanLimits::default())
        .batch_delay(seconds(2))
        .batch_timeout(seconds(3))
        .batch_queue(40)
        .batch_size(50)
        .metric_interval(seconds(6))
        .metric_timeout(seconds(7))
        .temporality(Temporality::LowMemory)
        .propagators([Propagator::Baggage])
        .known_methods(["CODE"]);
    let settings = read(code, &variables);
    let collector = &settings.collectors[0];
    let (traces, metrics) = (collector.traces.as_ref().unwrap(), collector.metrics.as_ref().unwrap());
    assert_eq!((traces.protocol, traces.gzip, traces.timeout), (Protocol::HttpProtobuf, false, seconds(3)));
    assert_eq!((metrics.timeout, metrics.patience, settings.shutdown), (seconds(7), seconds(20), seconds(20)));
    assert_eq!((&traces.headers["a"], &traces.headers["b"]), (&"code".parse().unwrap(), &"env".parse().unwrap()));
    assert_eq!(settings.console, Console { traces: true, metrics: false });
    assert_eq!(format!("{:?}", settings.sampler.0), "AlwaysOn");
    assert_eq!(settings.limits.max_attributes_per_span, 128);
    assert_eq!(settings.batch, Batch { delay: seconds(2), queue: 40, size: 40 });
    assert_eq!((settings.metric_interval, settings.temporality), (seconds(6), Temporality::LowMemory));
    assert_eq!(settings.propagators, [Propagator::Baggage]);
    assert_eq!(settings.known_methods.as_deref(), Some(&["CODE".to_owned()][..]));
    let both = read(
        builder().endpoint("http://code").and_environment(),
        &[variables[1], ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env")],
    );
    let fields = |i: usize| both.collectors[i].traces.as_ref().unwrap().headers.len();
    assert_eq!((fields(0), fields(1)), (0, 2), "the environment's credentials go to its own collector");
}

#[test]
fn a_certificate_or_key_of_code_that_can_not_be_used_is_an_error() {
    for code in [builder().certificate("garbage"), builder().client_identity("garbage", "garbage")] {
        assert!(Settings::read(code, &|_| None).is_err());
    }
}

#[test]
fn a_bad_value_is_said_and_its_default_used() {
    let bad = [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://user:secret@host"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_CONFIG_FILE", "otel.yaml"),
    ];
    let settings = read(builder(), &bad);
    let all = settings.warnings.join("\n");
    for (name, _) in bad {
        let fine = ["OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"].contains(&name);
        assert_eq!(all.contains(name), !fine, "{name} in:\n{all}");
    }
    assert!(!all.contains("secret"));
    assert_eq!(all.matches("without effect").count(), 1);
    assert_eq!(endpoints(&settings), ["http://localhost:4318/v1/traces", "http://localhost:4318/v1/metrics"]);
    assert_eq!(settings.metric_interval, DEFAULT_METRIC_INTERVAL);
    assert_eq!(settings.batch.queue, 2048);
}

#[test]
fn one_signal_can_be_left_out_and_all_of_it_disabled() {
    assert_eq!(endpoints(&read(builder().metrics(false), &[])), ["http://localhost:4318/v1/traces"]);
    let settings = read(builder(), &[("OTEL_SDK_DISABLED", "TRUE")]);
    assert!(settings.collectors.is_empty());
}

#[test]
fn every_process_has_an_instance_id() {
    let (one, two) = (instance_id(), instance_id());
    assert_ne!(one, two);
    assert_eq!((one.len(), one.as_bytes()[14]), (36, b'4'));
    assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
}

/// The variables that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("OTEL_") && !word.ends_with('_')).map(str::to_owned).collect()
}

#[test]
fn the_table_of_the_documentation_has_what_is_read_and_nothing_else() {
    let told: String = include_str!("../mod.rs").lines().filter(|line| line.starts_with("//!")).collect();
    let read = RefCell::new(BTreeSet::new());
    // Some are read only where another one calls for them.
    for set in [&[][..], &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "host:4317")]] {
        let find = |name: &str| {
            read.borrow_mut().insert(name.to_owned());
            let set = set.iter().chain(&[("OTEL_TRACES_SAMPLER", "traceidratio")]);
            set.clone().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let code = if set.is_empty() { builder().endpoint("http://code").and_environment() } else { builder() };
        Settings::read(code, &find).expect("settings");
    }
    let (told, read) = (named(&told), read.into_inner());
    assert_eq!(told.difference(&read).collect::<Vec<_>>(), Vec::<&String>::new(), "told, but not read");
    assert_eq!(read.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "read, but not told");
}
