//! How a span is told, whatever becomes of it: a span of the SDK, or bytes of OTLP.
//!
//! In: facts of a record, borrowed from it. Out: calls of [`Telling`], in the order in which limits count. What is told of
//! which span is decided in `attributes.rs` and `tree.rs`, once; who implements these traits decides nothing.

use std::{sync::Arc, time::Instant};

use opentelemetry::{KeyValue, StringValue, Value, trace::Status};

use super::attributes;
use crate::{connection::TraceRef, timeline::EventKind};

/// A value, borrowed from where it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fact<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Word(&'static str),
    Shared(&'a Arc<str>),
    Text(&'a str),
}

impl Fact<'_> {
    pub(super) fn owned(self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::I64(value),
            Self::Float(value) => Value::F64(value),
            Self::Word(value) => Value::String(value.into()),
            Self::Shared(value) => Value::String(StringValue::from(Arc::clone(value))),
            Self::Text(value) => Value::String(value.to_owned().into()),
        }
    }
}

/// Takes attributes.
pub(crate) trait Attributes {
    /// So many are about to come.
    fn room(&mut self, more: usize) {
        let _ = more;
    }

    fn set(&mut self, key: &'static str, fact: Fact<'_>);

    /// One that is rare, and made for this call.
    fn put(&mut self, attribute: KeyValue);
}

impl Attributes for Vec<KeyValue> {
    fn room(&mut self, more: usize) {
        self.reserve_exact(more);
    }

    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        self.push(KeyValue::new(key, fact.owned()));
    }

    fn put(&mut self, attribute: KeyValue) {
        self.push(attribute);
    }
}

/// An event of a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(super) kind: EventKind,
}

impl Moment {
    pub(crate) fn name(self) -> &'static str {
        self.kind.name()
    }

    pub(crate) fn tell(self, all: &mut impl Attributes) {
        attributes::event(self.kind, all);
    }
}

/// Takes all that is told of one span, but for its name and its times.
pub(crate) trait Telling: Attributes {
    fn event(&mut self, moment: Moment);

    fn link(&mut self, to: TraceRef);

    /// At most once.
    fn status(&mut self, status: Status);
}
