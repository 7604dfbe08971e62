//! Each variable of the environment, seen at a real receiver. Each test fails when its variable is not read.

use std::{fs, path::PathBuf, time::Duration};

use http::{Request, Response};
use http_body_util::Full;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    trace::v1::Span,
};

use super::{
    application::{run, start},
    now,
};
use crate::support::{
    certificate::Identity,
    collector::{Answer, Collector},
    origin::Origin,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// Runs the application with the collector as its endpoint and these variables.
async fn exported(collector: &Collector, variables: &[(&str, &str)]) -> super::application::Said {
    let endpoint = collector.endpoint();
    run(&[&[(ENDPOINT, endpoint.as_str())], variables].concat()).await
}

fn spans(collector: &Collector) -> Vec<Span> {
    let received = collector.received().spans;
    received.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
}

/// The values of this key in the resources of all that came.
fn resource(collector: &Collector, key: &str) -> Vec<String> {
    let received = collector.received();
    let resources = received.spans.iter().map(|it| &it.resource).chain(received.metrics.iter().map(|it| &it.resource));
    let attributes = resources.flatten().flat_map(|resource| &resource.attributes).filter(|it| it.key == key);
    attributes.map(text).collect()
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    }
}

/// Paths of the requests whose header field has this value.
fn paths(collector: &Collector, name: &str, value: &str) -> Vec<String> {
    let mut paths: Vec<_> = collector
        .requests()
        .into_iter()
        .filter(|request| request.headers.get(name).is_some_and(|it| it == value))
        .map(|request| request.target.parse::<http::Uri>().expect("a target").path().to_owned())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

const BOTH: [&str; 2] = ["/v1/metrics", "/v1/traces"];
const BOTH_GRPC: [&str; 2] = [
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
];

/// A variable of the three forms `OTEL_EXPORTER_OTLP_[TRACES_|METRICS_]what`, and the paths that it concerns.
fn forms(what: &str) -> [(String, Vec<&'static str>); 3] {
    [("", BOTH.to_vec()), ("TRACES_", vec![BOTH[1]]), ("METRICS_", vec![BOTH[0]])]
        .map(|(signal, paths)| (format!("OTEL_EXPORTER_OTLP_{signal}{what}"), paths))
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_and_a_signals_own_form() {
    let (general, own) = (Collector::http(), Collector::http());
    exported(&general, &[]).await;
    assert_eq!(paths(&general, "content-type", "application/x-protobuf"), BOTH);
    for (i, (signal, path)) in [("TRACES", BOTH[1]), ("METRICS", BOTH[0])].into_iter().enumerate() {
        let (name, url) = (format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"), format!("{}{path}", own.endpoint()));
        exported(&general, &[(&name, &url)]).await;
        assert_eq!(paths(&own, "content-type", "application/x-protobuf").len(), i + 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol() {
    let grpc = Collector::grpc();
    let said = exported(&grpc, &[(PROTOCOL, "grpc")]).await;
    assert_eq!(paths(&grpc, "content-type", "application/grpc"), BOTH_GRPC);
    assert!(said.ended.starts_with("3 spans exported, 0 dropped"), "{said:?}");
    for (signal, path) in [("TRACES", BOTH_GRPC[1]), ("METRICS", BOTH_GRPC[0])] {
        let grpc = Collector::grpc();
        exported(&grpc, &[(&format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"), "grpc")]).await;
        assert_eq!(paths(&grpc, "content-type", "application/grpc"), [path]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn insecure() {
    for (signal, path) in [("", &BOTH_GRPC[..]), ("TRACES_", &BOTH_GRPC[1..]), ("METRICS_", &BOTH_GRPC[..1])] {
        let grpc = Collector::grpc();
        let endpoint = grpc.endpoint().replace("http://", "");
        let name = format!("OTEL_EXPORTER_OTLP_{signal}INSECURE");
        run(&[(ENDPOINT, endpoint.as_str()), (PROTOCOL, "grpc"), (&name, "true")]).await;
        assert_eq!(paths(&grpc, "content-type", "application/grpc"), path, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_percent_decoded() {
    for (name, concerned) in forms("HEADERS") {
        let collector = Collector::http();
        exported(&collector, &[(&name, "authorization=Bearer%20a%3Db%2C, x-team = blue")]).await;
        assert_eq!(paths(&collector, "authorization", "Bearer a=b,"), concerned, "{name}");
        assert_eq!(paths(&collector, "x-team", "blue"), concerned, "{name}");
    }
    let grpc = Collector::grpc();
    exported(&grpc, &[(PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue%21")]).await;
    assert_eq!(paths(&grpc, "x-team", "blue!"), BOTH_GRPC);
}

#[tokio::test(flavor = "multi_thread")]
async fn compression() {
    for (name, concerned) in forms("COMPRESSION") {
        let collector = Collector::http();
        let said = exported(&collector, &[(&name, "gzip")]).await;
        assert_eq!(paths(&collector, "content-encoding", "gzip"), concerned, "{name}");
        assert!(said.ended.starts_with("3 spans exported, 0 dropped") && said.warnings.is_empty(), "{said:?}");
    }
    let grpc = Collector::grpc();
    let said = exported(&grpc, &[(PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]).await;
    assert_eq!(paths(&grpc, "grpc-encoding", "gzip"), BOTH_GRPC);
    assert!(said.ended.starts_with("3 spans exported, 0 dropped"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts() {
    let limits = ["OTEL_BSP_EXPORT_TIMEOUT", "OTEL_METRIC_EXPORT_TIMEOUT"].map(str::to_owned);
    for name in forms("TIMEOUT").map(|(name, _)| name).into_iter().chain(limits) {
        let collector = Collector::http();
        collector.answer(Answer::Hang);
        // The other signal must not be what ends it.
        let other = if name.contains("METRIC") { "OTEL_TRACES_EXPORTER" } else { "OTEL_METRICS_EXPORTER" };
        let said = exported(&collector, &[(&name, "321"), (other, "none")]).await;
        assert!(said.ended.contains("no answer within 321ms"), "{name}: {said:?}");
    }
}

/// A file with this content, below the target folder.
fn file(name: &str, content: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("otlp-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    fs::write(&path, content).expect("a file");
    path.to_str().expect("a name in UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate() {
    for (name, concerned) in forms("CERTIFICATE") {
        let identity = Identity::new(&[]);
        let root = file(&format!("{name}.pem"), &identity.root_pem);
        let collector = Collector::http_tls(identity);
        let said = exported(&collector, &[(&name, &root)]).await;
        assert_eq!(paths(&collector, "content-type", "application/x-protobuf"), concerned, "{name}: {said:?}");
    }
    let identity = Identity::new(&["h2"]);
    let root = file("grpc.pem", &identity.root_pem);
    let grpc = Collector::grpc_tls(identity);
    exported(&grpc, &[(PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &root)]).await;
    assert_eq!(paths(&grpc, "content-type", "application/grpc"), BOTH_GRPC);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_and_key() {
    for ((certificate, concerned), (key, _)) in forms("CLIENT_CERTIFICATE").into_iter().zip(forms("CLIENT_KEY")) {
        let (identity, client) = Identity::mutual(&[]);
        let root = file(&format!("{key}.root.pem"), &identity.root_pem);
        let files =
            [file(&format!("{certificate}.pem"), &client.certificate), file(&format!("{key}.pem"), &client.key)];
        let collector = Collector::http_tls(identity);
        let trust = ("OTEL_EXPORTER_OTLP_CERTIFICATE", root.as_str());
        let said = exported(&collector, &[trust, (&certificate, &files[0]), (&key, &files[1])]).await;
        assert_eq!(paths(&collector, "content-type", "application/x-protobuf"), concerned, "{key}: {said:?}");
        let nobody = exported(&collector, &[trust]).await;
        assert!(nobody.ended.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"), "{nobody:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who() {
    let collector = Collector::http();
    let listed = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,team=blue%20team");
    exported(&collector, &[listed]).await;
    assert_eq!(resource(&collector, "service.name"), ["listed"; 2]);
    assert_eq!(resource(&collector, "team"), ["blue team"; 2]);
    let collector = Collector::http();
    exported(&collector, &[listed, ("OTEL_SERVICE_NAME", "named")]).await;
    assert_eq!(resource(&collector, "service.name"), ["named"; 2]);
    let ids = resource(&collector, "service.instance.id");
    assert!(ids.len() == 2 && ids[0] == ids[1] && ids[0].len() == 36, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exporters() {
    for (name, left) in [("OTEL_TRACES_EXPORTER", BOTH[0]), ("OTEL_METRICS_EXPORTER", BOTH[1])] {
        let collector = Collector::http();
        exported(&collector, &[(name, "none")]).await;
        assert_eq!(paths(&collector, "content-type", "application/x-protobuf"), [left], "{name}");
        let collector = Collector::http();
        let said = exported(&collector, &[(name, "Console")]).await;
        assert_eq!(paths(&collector, "content-type", "application/x-protobuf"), [left], "{name}");
        let line = if left == BOTH[0] { "span work Internal trace=" } else { "metric work ()" };
        assert!(said.stderr.contains(line), "{name}: {said:?}");
        let collector = Collector::http();
        let said = exported(&collector, &[(name, "otlp,console")]).await;
        assert_eq!(paths(&collector, "content-type", "application/x-protobuf"), BOTH, "{name}");
        assert!(said.stderr.contains(line), "{name}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdk_disabled() {
    let collector = Collector::http();
    let said = exported(&collector, &[("OTEL_SDK_DISABLED", "True")]).await;
    assert_eq!((collector.requests().len(), said.ended.as_str()), (0, "0 spans exported, 0 dropped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sampler_and_its_argument() {
    for (sampler, arg, arrive) in [
        ("always_off", "", 0),
        ("parentbased_always_off", "", 0),
        ("traceidratio", "0", 0),
        ("parentbased_traceidratio", "0", 0),
        ("parentbased_traceidratio", "1.0", 3),
        ("always_on", "0", 3),
    ] {
        let collector = Collector::http();
        exported(&collector, &[("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", arg)]).await;
        assert_eq!(spans(&collector).len(), arrive, "{sampler} {arg}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporality() {
    for (value, number) in [("", 2), ("delta", 1), ("LowMemory", 1), ("cumulative", 2)] {
        let collector = Collector::http();
        exported(&collector, &[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", value)]).await;
        let Some(Data::Sum(sum)) = collector.metric("work").await.data else { panic!("a counter") };
        assert_eq!(sum.aggregation_temporality, number, "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals() {
    let collector = Collector::http();
    let endpoint = collector.endpoint();
    let soon = [
        (ENDPOINT, endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    // It arrives while the application waits: its end did not send it.
    let (application, began) = (start(&soon), now());
    collector.spans(3).await;
    assert!(now() - began < Duration::from_secs(4), "by default it would be 5 s");
    application.end().await;
    let soon = [(ENDPOINT, endpoint.as_str()), ("OTEL_METRIC_EXPORT_INTERVAL", "20")];
    let application = start(&soon);
    collector.metric("work").await;
    application.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_and_queue_sizes() {
    let collector = Collector::http();
    exported(&collector, &[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")]).await;
    let exports = collector.requests().iter().filter(|request| request.target.ends_with("traces")).count();
    assert_eq!((exports, spans(&collector).len()), (3, 3));
    // One is with the exporter, which hangs, some wait, and the rest is dropped.
    let collector = Collector::http();
    collector.answer(Answer::Hang);
    let many = [("APPLICATION_SPANS", "50"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"), ("OTEL_METRICS_EXPORTER", "none")];
    let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "2")];
    let said = exported(&collector, &[&many[..], &small].concat()).await;
    assert!(said.ended.starts_with("0 spans exported, 50 dropped"), "{said:?}");
    assert!(collector.requests().len() <= 3, "the queue was longer: {}", collector.requests().len());
    let collector = Collector::http();
    let said = exported(&collector, &[("OTEL_BSP_MAX_QUEUE_SIZE", "2"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9")]).await;
    assert_eq!(said.warnings, ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE: is above the queue's size; 2 is used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    type Count = fn(&Span) -> usize;
    let (attributes, events, links): (Count, Count, Count) =
        (|span| span.attributes.len(), |span| span.events.len(), |span| span.links.len());
    let of_event: Count = |span| span.events[0].attributes.len();
    let of_link: Count = |span| span.links[0].attributes.len();
    for (name, counts) in [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", &[attributes][..]),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", &[events]),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", &[links]),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", &[of_event]),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", &[of_link]),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", &[attributes, of_event, of_link]),
    ] {
        let collector = Collector::http();
        exported(&collector, &[(name, "2")]).await;
        let span = &spans(&collector)[0];
        counts.iter().for_each(|count| assert_eq!(count(span), 2, "{name}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn propagators() {
    for (value, context, baggage) in [
        ("", true, true),
        ("tracecontext", true, false),
        ("baggage", false, true),
        ("none", false, false),
        ("b3,tracecontext", true, false),
        ("xray", true, true),
    ] {
        let collector = Collector::http();
        let origin = Origin::plain().serve(async |_: Request<_>| Response::new(Full::<bytes::Bytes>::default()));
        let url = origin.url("/").to_string();
        let said = exported(&collector, &[("OTEL_PROPAGATORS", value), ("APPLICATION_REQUEST", &url)]).await;
        let headers = &origin.record().requests[0].headers;
        assert_eq!(headers.contains_key("traceparent"), context, "{value}");
        assert_eq!(headers.contains_key("baggage"), baggage, "{value}");
        let warned = value.contains("b3") || value.contains("xray");
        assert_eq!(said.warnings.len(), usize::from(warned), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_methods() {
    for (value, name, method) in [("", "GET", "GET"), ("BREW, GET", "GET", "GET"), ("get,BREW", "HTTP", "_OTHER")] {
        let collector = Collector::http();
        let origin = Origin::plain().serve(async |_: Request<_>| Response::new(Full::<bytes::Bytes>::default()));
        let url = origin.url("/").to_string();
        let variables = [("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", value), ("APPLICATION_REQUEST", &url)];
        exported(&collector, &variables).await;
        let spans = spans(&collector);
        let client = spans.iter().find(|span| span.name == name).expect("a span of the request");
        let told = client.attributes.iter().find(|attribute| attribute.key == "http.request.method");
        assert_eq!(told.map(text).as_deref(), Some(method), "{value}");
        let Some(Data::Histogram(duration)) = collector.metric("http.client.request.duration").await.data else {
            panic!("a histogram")
        };
        let told = duration.data_points[0].attributes.iter().find(|attribute| attribute.key == "http.request.method");
        assert_eq!(told.map(text).as_deref(), Some(method), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senseless_value_is_one_warning_and_the_default() {
    for name in [
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    ] {
        for value in ["0", "-1", "99999999999999999999", "18446744073709551615", "ten", "1e3"] {
            let collector = Collector::http();
            let said = exported(&collector, &[(name, value)]).await;
            assert!(said.warnings.len() == 1 && said.warnings[0].starts_with(name), "{name}={value}: {said:?}");
            assert_eq!(said.stderr.matches(name).count(), 1, "{name}={value}: {said:?}");
            assert_eq!(said.ended, "3 spans exported, 0 dropped", "{name}={value}");
            assert_eq!(collector.requests().len(), 2, "{name}={value}: no busy loop");
        }
    }
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/key.pem"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "10"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "10"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_on"),
        ("OTEL_CONFIG_FILE", "otel.yaml"),
    ] {
        let collector = Collector::http();
        let said = exported(&collector, &[(name, value)]).await;
        assert!(!said.warnings.is_empty() && said.warnings.concat().contains(name), "{name}={value}: {said:?}");
        assert_eq!(said.ended, "3 spans exported, 0 dropped", "{name}={value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_is_logged_of_a_dead_collector_however_many_batches_fail() {
    let variables = [
        (ENDPOINT, "http://127.0.0.1:1"),
        ("APPLICATION_SPANS", "20"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ];
    let said = run(&variables).await;
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(said.stderr.contains("connection refused") && said.stderr.contains("WARN"), "{said:?}");
    assert!(said.ended.starts_with("0 spans exported, 20 dropped, metrics not delivered; http://127.0.0.1:1/"));
}
