//! What the spans of a test should look like, out of the SDK's in-memory exporter.
//!
//! `Spans` knows the tree; `ExpectedSpan` compares one span, and what it does not name is not compared. On failure the
//! whole tree is in the message.

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Array, InstrumentationScope, KeyValue, StringValue, Value,
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId},
};
use opentelemetry_proto::tonic::{
    common::v1::{self as common, any_value},
    trace::v1::{ResourceSpans, Span, SpanFlags, span, status::StatusCode},
};
use opentelemetry_sdk::trace::SpanData;

/// All spans that a test's exporter got.
#[derive(Debug, Clone)]
pub(crate) struct Spans(Vec<SpanData>);

impl Spans {
    pub(crate) fn new(spans: Vec<SpanData>) -> Self {
        Self(spans)
    }

    /// The only span of this name.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> &SpanData {
        match *self.named(name) {
            [span] => span,
            ref several => panic!("{} spans named {name}, expected one\n{self}", several.len()),
        }
    }

    /// The spans of this name, by their start.
    pub(crate) fn named(&self, name: &str) -> Vec<&SpanData> {
        sorted(self.0.iter().filter(|span| span.name == name))
    }

    /// The spans right under this one, by their start.
    pub(crate) fn children(&self, parent: &SpanData) -> Vec<&SpanData> {
        sorted(self.0.iter().filter(|span| span.parent_span_id == parent.span_context.span_id()))
    }

    /// The spans without a parent here: roots, and those under a parent of another process.
    pub(crate) fn roots(&self) -> Vec<&SpanData> {
        sorted(self.0.iter().filter(|span| span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote))
    }

    /// Fails unless every span was ended once, has its events inside of it and its parent here and in its own trace, and
    /// does not begin before that.
    #[track_caller]
    pub(crate) fn assert_tree(&self) {
        let faults = self.faults();
        assert!(faults.is_empty(), "not a tree:\n  {}\n{self}", faults.join("\n  "));
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        for span in &self.0 {
            if !seen.insert(span.span_context.span_id()) {
                faults.push(format!("{} was ended twice", span.name));
            }
            if span.end_time < span.start_time {
                faults.push(format!("{} ends before it starts", span.name));
            }
            let inside = |at| span.start_time <= at && at <= span.end_time;
            for event in span.events.iter().filter(|event| !inside(event.timestamp)) {
                faults.push(format!("{} is outside of its span {}", event.name, span.name));
            }
            if span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote {
                continue;
            }
            match self.0.iter().find(|parent| parent.span_context.span_id() == span.parent_span_id) {
                None => faults.push(format!("{} is an orphan", span.name)),
                Some(parent) if parent.span_context.trace_id() != span.span_context.trace_id() => {
                    faults.push(format!("{} is in another trace than its parent {}", span.name, parent.name));
                }
                Some(parent) if parent.start_time > span.start_time => {
                    faults.push(format!("{} begins before its parent {}", span.name, parent.name));
                }
                Some(_) => {}
            }
        }
        faults
    }
}

/// The names as a tree, two blanks a level: what a test compares with a literal.
impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn draw(spans: &Spans, span: &SpanData, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "{:depth$}{}", "", span.name, depth = depth * 2)?;
            // A span that is its own ancestor would be drawn forever.
            let children = if depth < 16 { spans.children(span) } else { Vec::new() };
            children.into_iter().try_for_each(|child| draw(spans, child, depth + 1, f))
        }
        self.roots().into_iter().try_for_each(|root| draw(self, root, 0, f))
    }
}

/// What a collector got, as the SDK would have it.
pub(crate) fn decoded(received: &[ResourceSpans]) -> Vec<SpanData> {
    let scopes = received.iter().flat_map(|resource| &resource.scope_spans);
    let all = scopes.flat_map(|group| {
        let scope = group.scope.clone().unwrap_or_default();
        let builder = InstrumentationScope::builder(scope.name).with_version(scope.version);
        let scope = builder.with_schema_url(group.schema_url.clone()).build();
        group.spans.iter().map(move |span| data(span, scope.clone()))
    });
    all.collect()
}

fn data(span: &Span, scope: InstrumentationScope) -> SpanData {
    let mut data = SpanData {
        span_context: identity(&span.trace_id, &span.span_id, span.flags, &span.trace_state),
        parent_span_id: id(&span.parent_span_id),
        parent_span_is_remote: span.flags & SpanFlags::ContextIsRemoteMask as u32 != 0,
        span_kind: match span.kind() {
            span::SpanKind::Client => SpanKind::Client,
            span::SpanKind::Internal => SpanKind::Internal,
            other => panic!("{other:?}"),
        },
        name: span.name.clone().into(),
        start_time: at(span.start_time_unix_nano),
        end_time: at(span.end_time_unix_nano),
        attributes: attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events: Default::default(),
        links: Default::default(),
        status: match &span.status {
            Some(status) if status.code() == StatusCode::Error => Status::error(status.message.clone()),
            _ => Status::Unset,
        },
        instrumentation_scope: scope,
    };
    data.events.dropped_count = span.dropped_events_count;
    data.events.events.extend(span.events.iter().map(|event| {
        let dropped = event.dropped_attributes_count;
        Event::new(event.name.clone(), at(event.time_unix_nano), attributes(&event.attributes), dropped)
    }));
    data.links.dropped_count = span.dropped_links_count;
    data.links.links.extend(span.links.iter().map(|link| {
        let there = identity(&link.trace_id, &link.span_id, link.flags, &link.trace_state);
        Link::new(there, attributes(&link.attributes), link.dropped_attributes_count)
    }));
    data
}

fn identity(trace: &[u8], span: &[u8], flags: u32, state: &str) -> SpanContext {
    let trace = TraceId::from_bytes(trace.try_into().expect("16 bytes"));
    let flags = TraceFlags::new(u8::try_from(flags & 0xff).expect("8 bits"));
    SpanContext::new(trace, id(span), flags, false, state.parse().expect("a trace state"))
}

fn id(bytes: &[u8]) -> SpanId {
    if bytes.is_empty() { SpanId::INVALID } else { SpanId::from_bytes(bytes.try_into().expect("8 bytes")) }
}

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn attributes(all: &[common::KeyValue]) -> Vec<KeyValue> {
    let value = |value: &any_value::Value| match value {
        any_value::Value::BoolValue(value) => Value::Bool(*value),
        any_value::Value::IntValue(value) => Value::I64(*value),
        any_value::Value::DoubleValue(value) => Value::F64(*value),
        any_value::Value::StringValue(value) => Value::String(value.clone().into()),
        any_value::Value::ArrayValue(array) => {
            let texts = array.values.iter().map(|value| match &value.value {
                Some(any_value::Value::StringValue(text)) => StringValue::from(text.clone()),
                other => panic!("{other:?}"),
            });
            Value::Array(Array::String(texts.collect()))
        }
        other => panic!("{other:?}"),
    };
    let one = |attribute: &common::KeyValue| {
        let found = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        KeyValue::new(attribute.key.clone(), value(found.expect("a value")))
    };
    all.iter().map(one).collect()
}

fn sorted<'a>(spans: impl Iterator<Item = &'a SpanData>) -> Vec<&'a SpanData> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_by_key(|span| span.start_time);
    spans
}

/// An expectation, built by naming what matters to the test.
#[derive(Debug, Default)]
#[must_use = "nothing is compared before `check`"]
pub(crate) struct ExpectedSpan {
    kind: Option<SpanKind>,
    parent: Option<SpanId>,
    attributes: Vec<(&'static str, Option<Value>)>,
    error: Option<&'static str>,
    canceled: bool,
    events: Option<Vec<&'static str>>,
    links: Option<usize>,
}

impl ExpectedSpan {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn kind(mut self, kind: SpanKind) -> Self {
        self.kind = Some(kind);
        self
    }

    pub(crate) fn under(mut self, parent: &SpanData) -> Self {
        self.parent = Some(parent.span_context.span_id());
        self
    }

    pub(crate) fn root(mut self) -> Self {
        self.parent = Some(SpanId::INVALID);
        self
    }

    /// It has this attribute.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, Some(value.into())));
        self
    }

    /// It does not have this attribute.
    pub(crate) fn without(mut self, key: &'static str) -> Self {
        self.attributes.push((key, None));
        self
    }

    /// Its status is Error and its `error.type` is this. Without this call neither may be there.
    pub(crate) fn error(mut self, error_type: &'static str) -> Self {
        self.error = Some(error_type);
        self
    }

    /// Its `error.type` is `canceled`, and its status is Unset.
    pub(crate) fn canceled(mut self) -> Self {
        self.canceled = true;
        self
    }

    /// It has exactly these events, in this order.
    pub(crate) fn events<const N: usize>(mut self, names: [&'static str; N]) -> Self {
        self.events = Some(names.to_vec());
        self
    }

    /// It has so many links.
    pub(crate) fn links(mut self, count: usize) -> Self {
        self.links = Some(count);
        self
    }

    /// Compares, and fails with all differences at once.
    #[track_caller]
    pub(crate) fn check(mut self, span: &SpanData) {
        let error_type = if self.canceled { Some("canceled") } else { self.error };
        self.attributes.push(("error.type", error_type.map(Value::from)));
        let mut faults = Vec::new();
        let mut compare = |what: &str, found: String, wanted: String| {
            if found != wanted {
                faults.push(format!("{what}: {found}, expected {wanted}"));
            }
        };
        for (key, wanted) in &self.attributes {
            let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == *key).map(|a| &a.value);
            // Their `Debug` tells owned from static text; they are equal all the same.
            if found != wanted.as_ref() {
                compare(key, format!("{found:?}"), format!("{:?}", wanted.as_ref()));
            }
            let times = span.attributes.iter().filter(|attribute| attribute.key.as_str() == *key).count();
            compare(&format!("times {key}"), times.to_string(), usize::from(wanted.is_some()).to_string());
        }
        let failed = matches!(span.status, Status::Error { .. });
        compare("status Error", failed.to_string(), self.error.is_some().to_string());
        if let Some(kind) = &self.kind {
            compare("kind", format!("{:?}", span.span_kind), format!("{kind:?}"));
        }
        if let Some(parent) = self.parent {
            compare("parent", span.parent_span_id.to_string(), parent.to_string());
        }
        if let Some(wanted) = &self.events {
            let found: Vec<_> = span.events.iter().map(|event| event.name.as_ref()).collect();
            compare("events", format!("{found:?}"), format!("{wanted:?}"));
        }
        if let Some(wanted) = self.links {
            compare("links", span.links.len().to_string(), wanted.to_string());
        }
        assert!(faults.is_empty(), "{} is not as expected:\n  {}\n{span:#?}", span.name, faults.join("\n  "));
    }
}
