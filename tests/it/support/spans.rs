//! What the spans of a test should look like, out of the SDK's in-memory exporter.
//!
//! `Spans` knows the tree; `ExpectedSpan` compares one span, and what it does not name is not compared. On failure the
//! whole tree is in the message.

use std::{collections::HashSet, fmt};

use opentelemetry::{
    Value,
    trace::{SpanId, SpanKind, Status},
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
