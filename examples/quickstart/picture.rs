//! Spans, as a collector has them, to waterfalls. Nothing but the spans is looked at.

use httptrace::views::waterfall::{Mark, Row, Waterfall};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    trace::v1::{Span, span::SpanKind},
};

/// One picture for each CLIENT span, in the order of their starts.
pub(crate) fn waterfalls(spans: &[Span]) -> Vec<Waterfall> {
    let mut requests: Vec<&Span> = spans.iter().filter(|span| span.kind() == SpanKind::Client).collect();
    requests.sort_by_key(|span| span.start_time_unix_nano);
    requests.into_iter().map(|request| waterfall(request, spans)).collect()
}

fn waterfall(request: &Span, spans: &[Span]) -> Waterfall {
    let title = format!("{} {}", request.name, text(request, "url.full").unwrap_or_default());
    let mut picture = Waterfall::new(title, request.start_time_unix_nano, request.end_time_unix_nano);
    picture.facts = facts(request);
    let failed = text(request, "error.type");
    picture.failure = failed.filter(|_| text(request, "http.response.status_code").is_none());
    below(request, spans, 0, &mut picture.rows);
    let events = request.events.iter();
    picture.marks = events
        .map(|event| {
            let note = value(&event.attributes, "httptrace.idle_return.outcome").unwrap_or_default();
            Mark { name: event.name.clone(), at: event.time_unix_nano, note }
        })
        .collect();
    picture
}

fn below(parent: &Span, spans: &[Span], depth: usize, rows: &mut Vec<Row>) {
    let mut children: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect();
    children.sort_by_key(|span| span.start_time_unix_nano);
    for child in children {
        rows.push(Row {
            name: child.name.clone(),
            depth,
            start: child.start_time_unix_nano,
            end: child.end_time_unix_nano,
            error: text(child, "error.type"),
            note: note(child),
        });
        below(child, spans, depth + 1, rows);
    }
}

/// What the line under the title says.
fn facts(span: &Span) -> Vec<String> {
    let mut facts = Vec::new();
    facts.extend(text(span, "http.response.status_code"));
    facts.extend(text(span, "network.protocol.version").map(|version| format!("HTTP/{version}")));
    if let Some(id) = text(span, "httptrace.connection.id") {
        let number = text(span, "httptrace.connection.request_number").unwrap_or_default();
        facts.push(match text(span, "httptrace.connection.outcome").as_deref() {
            Some("new") => format!("new connection #{id}"),
            Some("shared") => format!("shared connection #{id}, request {number} on it"),
            Some("handed_over") => format!("connection #{id} handed over, request {number} on it"),
            _ => format!("reused connection #{id}, request {number} on it"),
        });
    }
    facts
}

fn note(span: &Span) -> String {
    let words = match span.name.as_str() {
        "get-connection" => [text(span, "httptrace.wait.cause").map(|cause| format!("waits for: {cause}")), None],
        "dns" => [text(span, "dns.question.name"), text(span, "dns.answers")],
        "connect" => [text(span, "network.peer.address"), text(span, "network.peer.port")],
        "tls" => [
            text(span, "tls.protocol.version").map(|version| format!("TLS {version}")),
            text(span, "tls.next_protocol"),
        ],
        "response-read" => [text(span, "http.response.body.size").map(|size| format!("{size} bytes of body")), None],
        _ => [None, None],
    };
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn text(span: &Span, key: &str) -> Option<String> {
    value(&span.attributes, key)
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    shown(found.value.as_ref()?.value.as_ref()?)
}

fn shown(value: &Value) -> Option<String> {
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(yes) => yes.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(values) => {
            let values = values.values.iter().filter_map(|value| shown(value.value.as_ref()?));
            values.collect::<Vec<_>>().join(", ")
        }
        _ => return None,
    })
}

/// Acquired connections, and how many of them had carried a request before.
pub(crate) fn acquisitions(metrics: &[Metric]) -> (i64, i64) {
    let mut counted = (0, 0);
    for metric in metrics.iter().filter(|metric| metric.name == "httptrace.connection.acquisitions") {
        let Some(Data::Sum(sum)) = &metric.data else { continue };
        for point in &sum.data_points {
            let Some(number_data_point::Value::AsInt(count)) = point.value else { continue };
            match value(&point.attributes, "httptrace.connection.reused").as_deref() {
                Some("true") => counted = (counted.0 + count, counted.1 + count),
                Some(_) => counted.0 += count,
                None => {}
            }
        }
    }
    counted
}
