//! What holds of the settings, whatever the environment says: they are within bounds, and no warning and no `Debug` tells a
//! secret. In: bytes of a fuzzer, or of the kept corpus: in each line the number of a variable, and its value. Out: a panic
//! where it does not hold.

use std::{collections::HashMap, time::Duration};

use super::{super::builder, Settings};

/// Not those that name files.
const VARIABLES: [&str; 34] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS",
    "OTEL_CONFIG_FILE",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
];
/// Those whose values are never told.
const SECRET: usize = 6;
const PLANTED: &str = "s3cr3t";
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) fn environment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut variables = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (number, value) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        let number = usize::try_from(u32::from(number.chars().next().unwrap_or_default())).unwrap_or(0);
        let which = number.wrapping_sub(usize::from(b'0')) % VARIABLES.len();
        // Within a URL or a list, in front of it, or as all there is.
        let value = if which < SECRET { value.replace("~", PLANTED) } else { value.replace(PLANTED, "") };
        variables.insert(VARIABLES[which], value);
    }
    let lookup = |name: &str| variables.get(name).cloned();
    let Ok(settings) = Settings::read(builder(), &lookup) else { return };
    let told = format!("{:?} {:?}", settings.warnings, settings.collectors);
    assert!(!told.contains(PLANTED), "{told}");
    within_bounds(&settings);
}

fn within_bounds(settings: &Settings) {
    let Settings { batch, metric_interval, shutdown, warnings, known_methods, resource, .. } = settings;
    assert!(batch.size >= 1 && batch.size <= batch.queue && batch.queue <= 1 << 20, "{batch:?}");
    for time in [batch.delay, *metric_interval, *shutdown] {
        assert!(time <= YEAR && !time.is_zero(), "{time:?}");
    }
    assert!(known_methods.as_ref().is_none_or(|methods| methods.len() <= 64), "a label has its bounds");
    assert!(resource.iter().all(|pair| !pair.key.as_str().is_empty()));
    for (i, warning) in warnings.iter().enumerate() {
        assert!(!warnings[..i].contains(warning), "told twice: {warning}");
    }
    for collector in &settings.collectors {
        for target in [&collector.traces, &collector.metrics].into_iter().flatten() {
            assert!(matches!(target.endpoint.scheme_str(), Some("http" | "https")));
            assert!(target.endpoint.host().is_some_and(|host| !host.is_empty()));
            assert!(target.timeout <= target.patience && target.patience <= YEAR);
        }
    }
}
