//! Who tells: the attributes of the resource that come from the environment or from the process itself.

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use percent_encoding::percent_decode_str;

use super::values::Env;

impl Env<'_> {
    /// What code says is the least: the operator knows better who this is.
    pub(super) fn resource(&mut self, service_name: Option<String>, code: Vec<KeyValue>) -> Vec<KeyValue> {
        let name = service_name.unwrap_or_else(unknown_service);
        let mut all = vec![KeyValue::new("service.name", name), KeyValue::new("service.instance.id", instance_id())];
        all.extend(code);
        let variable = "OTEL_RESOURCE_ATTRIBUTES";
        if let Some(value) = self.get(variable) {
            match resource_attributes(&value) {
                Some(attributes) => all.extend(attributes),
                None => self.warn(variable, "is malformed and not used (expected: key=value,key=value)"),
            }
        }
        all.extend(self.get("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name)));
        all
    }
}

/// The whole list or, as the specification wants it, nothing of it.
fn resource_attributes(list: &str) -> Option<Vec<KeyValue>> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(String::from);
    let pairs = list.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some(KeyValue::new(decoded(key).filter(|key| !key.is_empty())?, decoded(value)?))
        })
        .collect()
}

fn unknown_service() -> String {
    let program = std::env::current_exe().ok();
    match program.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str()) {
        Some(name) => format!("unknown_service:{name}"),
        None => "unknown_service".to_owned(),
    }
}

/// A random UUID (RFC 9562 §5.4).
pub(super) fn instance_id() -> String {
    let random = RandomIdGenerator::default().new_trace_id().to_bytes();
    let bits = u128::from_be_bytes(random) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
