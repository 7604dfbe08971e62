//! Records as OTLP, in one pass: what is told of a span is written where it stays.
//!
//! In: [`Record`]s. Out: `ExportTraceServiceRequest`s of as many spans as one export may have. The SDK's way copies every
//! attribute into a tree of messages and drops it again, which costs six times as much. Protobuf lets the fields of a message
//! come in any order, so that nothing is kept but the counts.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::time::Instant;

use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanId, Status, TraceState},
};
use opentelemetry_proto::{
    tonic::{
        common::v1::InstrumentationScope as ScopeMessage,
        resource::v1::Resource as ResourceMessage,
        trace::v1::{ResourceSpans, ScopeSpans},
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanLimits};
use prost::Message;

use crate::{
    clock::TimeAnchor,
    connection::TraceRef,
    views::spans::{
        lane::Record,
        telling::{Attributes, Fact, Moment, Telling},
        tree::{Part, Place, Sink},
    },
};

/// Writes spans, and cuts messages out of them.
pub(super) struct Encoder {
    /// All of `ResourceSpans` but its spans, and all of `ScopeSpans` but its.
    resource: Vec<u8>,
    scope: Vec<u8>,
    limits: SpanLimits,
    ids: RandomIdGenerator,
    /// `ScopeSpans.spans`, one behind the other, and where each ends.
    spans: Vec<u8>,
    ends: Vec<usize>,
    /// The fields of the span that is being told, and of its part.
    span: Vec<u8>,
    part: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(
        resource: &opentelemetry_sdk::Resource,
        scope: &InstrumentationScope,
        limits: SpanLimits,
    ) -> Self {
        let ResourceAttributesWithSchema { attributes, schema_url } = resource.into();
        let resource = ResourceSpans {
            resource: Some(ResourceMessage { attributes: attributes.0, ..ResourceMessage::default() }),
            schema_url: schema_url.unwrap_or_default(),
            scope_spans: Vec::new(),
        };
        let scope = ScopeSpans {
            schema_url: scope.schema_url().unwrap_or_default().to_owned(),
            scope: Some(ScopeMessage::from((scope, None))),
            spans: Vec::new(),
        };
        Self {
            resource: resource.encode_to_vec(),
            scope: scope.encode_to_vec(),
            limits,
            ids: RandomIdGenerator::default(),
            spans: Vec::new(),
            ends: Vec::new(),
            span: Vec::new(),
            part: Vec::new(),
        }
    }

    /// Spans that are in no message yet.
    pub(super) fn spans(&self) -> usize {
        self.ends.len()
    }

    /// Writes the spans of a record.
    pub(super) fn write(&mut self, record: &Record) {
        let client = &record.client;
        let state = match client.trace_state() {
            state if *state == TraceState::NONE => String::new(),
            state => state.header(),
        };
        record.tell(&mut Writer {
            trace: client.trace_id().to_bytes(),
            flags: u32::from(client.trace_flags().to_u8()) | HAS_IS_REMOTE,
            state,
            setup: record.setup,
            clock: Clock::new(record.anchor),
            record,
            told: Told::default(),
            encoder: self,
        });
    }

    /// The first `most` spans as a message.
    pub(super) fn message(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.ends.len());
        let length = count.checked_sub(1).map_or(0, |last| self.ends[last]);
        let scope_length = self.scope.len() + length;
        let resource_length = self.resource.len() + 1 + varint_length(scope_length as u64) + scope_length;
        let mut message = Vec::with_capacity(1 + varint_length(resource_length as u64) + resource_length);
        key(&mut message, 1, BYTES);
        varint(&mut message, resource_length as u64);
        message.extend_from_slice(&self.resource);
        key(&mut message, 2, BYTES);
        varint(&mut message, scope_length as u64);
        message.extend_from_slice(&self.scope);
        message.extend_from_slice(&self.spans[..length]);
        self.spans.drain(..length);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|end| *end -= length);
        message
    }
}

/// The wall clock in nanoseconds, by one pair of readings.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    nanos: u64,
}

impl Clock {
    fn new(anchor: TimeAnchor) -> Self {
        Self { instant: anchor.instant(), nanos: anchor.unix_nanos(anchor.instant()) }
    }

    fn nanos(self, at: Instant) -> u64 {
        let nanos = |early: Instant, late: Instant| {
            let time = late.saturating_duration_since(early);
            time.as_secs() * 1_000_000_000 + u64::from(time.subsec_nanos())
        };
        match at >= self.instant {
            true => self.nanos + nanos(self.instant, at),
            false => self.nanos.saturating_sub(nanos(at, self.instant)),
        }
    }
}

/// What limits are about.
#[derive(Default)]
struct Told {
    attributes: u32,
    events: u32,
    links: u32,
    failed: bool,
}

/// Writes the spans of one record.
struct Writer<'a> {
    encoder: &'a mut Encoder,
    record: &'a Record,
    trace: [u8; 16],
    flags: u32,
    state: String,
    /// The span that steps of a dial are below.
    setup: Option<SpanId>,
    clock: Clock,
    told: Told,
}

impl Sink for Writer<'_> {
    fn span(&mut self, part: &Part<'_>) {
        let client = self.record.client.span_id();
        let (id, parent) = match part.place {
            Place::Client => (client, self.record.parent),
            Place::Below => (self.encoder.ids.new_span_id(), client),
            Place::Setup => (*self.setup.get_or_insert_with(|| self.encoder.ids.new_span_id()), client),
            Place::Step => {
                // Steps come behind what they are steps of, but for a dial's, whose identity was given away before.
                (self.encoder.ids.new_span_id(), self.setup.unwrap_or(client))
            }
        };
        let is_client = part.place == Place::Client;
        let span = &mut self.encoder.span;
        span.clear();
        bytes(span, 1, &self.trace);
        bytes(span, 2, &id.to_bytes());
        if !self.state.is_empty() {
            bytes(span, 3, self.state.as_bytes());
        }
        if parent != SpanId::INVALID {
            bytes(span, 4, &parent.to_bytes());
        }
        bytes(span, 5, part.name.as_bytes());
        small(span, 6, if is_client { CLIENT } else { INTERNAL });
        fixed64(span, 7, self.clock.nanos(part.start));
        fixed64(span, 8, self.clock.nanos(part.end));
        let is_remote = is_client && self.record.parent_is_remote;
        fixed32(span, 16, self.flags | if is_remote { IS_REMOTE } else { 0 });
        self.told = Told::default();
        if is_client {
            self.record.tell_start(self);
        }
        part.tell(self);
        self.end();
    }
}

impl Writer<'_> {
    /// What can be said only now, and the length before it all.
    fn end(&mut self) {
        let Encoder { span, spans, ends, limits, .. } = &mut *self.encoder;
        for (field, told, most) in [
            (10, self.told.attributes, limits.max_attributes_per_span),
            (12, self.told.events, limits.max_events_per_span),
            (14, self.told.links, limits.max_links_per_span),
        ] {
            if told > most {
                key(span, field, VARINT);
                varint(span, u64::from(told - most));
            }
        }
        if !self.told.failed {
            bytes(span, 15, &[]);
        }
        bytes(spans, 2, span);
        ends.push(spans.len());
    }
}

impl Attributes for Writer<'_> {
    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        if self.told.attributes < self.encoder.limits.max_attributes_per_span {
            attribute(&mut self.encoder.span, 9, key, fact);
        }
        self.told.attributes += 1;
    }

    fn put(&mut self, attribute: KeyValue) {
        if self.told.attributes < self.encoder.limits.max_attributes_per_span {
            any_attribute(&mut self.encoder.span, 9, attribute);
        }
        self.told.attributes += 1;
    }
}

impl Telling for Writer<'_> {
    fn event(&mut self, moment: Moment) {
        self.told.events += 1;
        let Encoder { span, part, limits, .. } = &mut *self.encoder;
        if self.told.events > limits.max_events_per_span {
            return;
        }
        part.clear();
        fixed64(part, 1, self.clock.nanos(moment.at));
        bytes(part, 2, moment.name().as_bytes());
        let mut event = Event { part, told: 0, most: limits.max_attributes_per_event };
        moment.tell(&mut event);
        let dropped = event.told.saturating_sub(event.most);
        if dropped > 0 {
            key(part, 4, VARINT);
            varint(part, u64::from(dropped));
        }
        bytes(span, 11, part);
    }

    fn link(&mut self, to: TraceRef) {
        self.told.links += 1;
        let Encoder { span, part, limits, .. } = &mut *self.encoder;
        if self.told.links > limits.max_links_per_span {
            return;
        }
        part.clear();
        bytes(part, 1, &to.trace_id.to_be_bytes());
        bytes(part, 2, &to.span_id.to_be_bytes());
        fixed32(part, 6, u32::from(to.sampled) | HAS_IS_REMOTE);
        bytes(span, 13, part);
    }

    fn status(&mut self, status: Status) {
        let Status::Error { description } = status else { return };
        self.told.failed = true;
        let Encoder { span, part, .. } = &mut *self.encoder;
        part.clear();
        if !description.is_empty() {
            bytes(part, 2, description.as_bytes());
        }
        small(part, 3, ERROR);
        bytes(span, 15, part);
    }
}

/// The attributes of an event.
struct Event<'a> {
    part: &'a mut Vec<u8>,
    told: u32,
    most: u32,
}

impl Attributes for Event<'_> {
    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        if self.told < self.most {
            attribute(self.part, 3, key, fact);
        }
        self.told += 1;
    }

    fn put(&mut self, attribute: KeyValue) {
        if self.told < self.most {
            any_attribute(self.part, 3, attribute);
        }
        self.told += 1;
    }
}

/// A `KeyValue` with its `AnyValue` inside, whose lengths are known beforehand.
fn attribute(to: &mut Vec<u8>, field: u8, name: &str, fact: Fact<'_>) {
    let text: &str = match fact {
        Fact::Word(text) | Fact::Text(text) => text,
        Fact::Shared(text) => text,
        Fact::Bool(_) | Fact::Int(_) | Fact::Float(_) => "",
    };
    let length = match fact {
        Fact::Bool(_) => 2,
        Fact::Int(value) => 1 + varint_length(value.cast_unsigned()),
        Fact::Float(_) => 9,
        Fact::Word(_) | Fact::Text(_) | Fact::Shared(_) => 1 + varint_length(text.len() as u64) + text.len(),
    };
    let whole = 1 + varint_length(name.len() as u64) + name.len() + 1 + varint_length(length as u64) + length;
    to.reserve(whole + 4);
    key(to, field, BYTES);
    varint(to, whole as u64);
    bytes(to, 1, name.as_bytes());
    key(to, 2, BYTES);
    varint(to, length as u64);
    match fact {
        Fact::Bool(value) => small(to, 2, u8::from(value)),
        Fact::Int(value) => {
            key(to, 3, VARINT);
            varint(to, value.cast_unsigned());
        }
        Fact::Float(value) => fixed64(to, 4, value.to_bits()),
        Fact::Word(_) | Fact::Text(_) | Fact::Shared(_) => bytes(to, 1, text.as_bytes()),
    }
}

/// One that is not made for speed: of a sampler, of a captured field, of a set-up.
fn any_attribute(to: &mut Vec<u8>, field: u8, attribute: KeyValue) {
    let KeyValue { key: name, value, .. } = attribute;
    match &value {
        Value::Bool(_) | Value::I64(_) | Value::F64(_) | Value::Array(_) => {}
        value => return self::attribute(to, field, name.as_str(), Fact::Text(&value.as_str())),
    }
    let message = opentelemetry_proto::tonic::common::v1::KeyValue {
        key: name.as_str().to_owned(),
        value: Some(value.into()),
        ..Default::default()
    };
    bytes(to, field, &message.encode_to_vec());
}

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// `Span.SpanKind`, `Status.StatusCode` and `SpanFlags`.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

fn key(to: &mut Vec<u8>, field: u8, wire: u8) {
    // Of the fields that are written, one has a number above 15.
    varint(to, u64::from(field) << 3 | u64::from(wire));
}

#[inline]
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[inline]
fn varint_length(value: u64) -> usize {
    // Seven bits a byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[inline]
fn bytes(to: &mut Vec<u8>, field: u8, value: &[u8]) {
    key(to, field, BYTES);
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

fn small(to: &mut Vec<u8>, field: u8, value: u8) {
    key(to, field, VARINT);
    to.push(value);
}

fn fixed64(to: &mut Vec<u8>, field: u8, value: u64) {
    key(to, field, FIXED64);
    to.extend_from_slice(&value.to_le_bytes());
}

fn fixed32(to: &mut Vec<u8>, field: u8, value: u32) {
    key(to, field, FIXED32);
    to.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_tells_what_the_anchor_tells_before_it_too() {
        let anchor = TimeAnchor::new();
        let (clock, far) = (Clock::new(anchor), Duration::new(7, 999_999_999));
        for at in [anchor.instant(), anchor.instant() + far, anchor.instant() - far] {
            assert_eq!(clock.nanos(at), anchor.unix_nanos(at));
        }
    }

    #[test]
    fn a_length_is_told_before_it_is_written() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), i64::MAX.cast_unsigned(), u64::MAX] {
            let mut written = Vec::new();
            varint(&mut written, value);
            assert_eq!(varint_length(value), written.len(), "{value}");
            assert_eq!(prost::encoding::decode_varint(&mut &*written), Ok(value));
        }
    }
}
