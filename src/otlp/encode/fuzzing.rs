//! What holds of the encoder, whatever an attempt was like: its messages, cut anywhere, are read by prost, and hold the spans
//! that the record tells of, field by field. In: bytes of a fuzzer, or of the kept corpus. Out: a panic where it does not.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, request::Parts};
use opentelemetry::trace::{SpanContext, TraceFlags, TraceId};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue as Pair, any_value},
    trace::v1::{Span, Status as StatusMessage, span},
};
use opentelemetry_sdk::Resource;

use super::*;
use crate::{
    config::SpanDetail,
    error::{Error, Kind},
    hooks::{CloseReason, ConnOutcome, IdleReturn, ResponseOutcome, WaitCause},
    phase::Phase,
    timeline::{Asked, Report, Reporter, RequestInfo, Timeline},
    views::{script, spans::scope},
};

/// A script of an attempt, then what its spans are told.
pub(crate) fn encode(data: &[u8]) {
    let mut bytes = Bytes(data.iter().copied().collect());
    let limits = SpanLimits {
        max_attributes_per_span: u32::from(bytes.next() % 32),
        max_events_per_span: u32::from(bytes.next() % 4),
        max_links_per_span: u32::from(bytes.next() % 2),
        max_attributes_per_event: u32::from(bytes.next() % 2),
        max_attributes_per_link: 1,
    };
    let most = usize::from(bytes.next() % 7) + 1;
    let mut encoder = Encoder::new(&Resource::builder_empty().build(), &scope(), limits);
    let mut expected = Vec::new();
    for number in 0..=bytes.next() % 3 {
        let Some(record) = bytes.record(number) else { continue };
        encoder.write(&record);
        let mut plain = Plain { limits, record: &record, spans: Vec::new() };
        record.tell(&mut plain);
        expected.extend(plain.spans);
    }
    assert_eq!(encoder.spans(), expected.len());
    let mut read = Vec::new();
    while encoder.spans() > 0 {
        let message = encoder.message(most);
        let message = ExportTraceServiceRequest::decode(&*message).expect("a message that prost reads");
        let [resource] = &*message.resource_spans else { panic!("one resource: {message:?}") };
        let [scope] = &*resource.scope_spans else { panic!("one scope: {message:?}") };
        assert!((1..=most).contains(&scope.spans.len()));
        assert_eq!(scope.scope.as_ref().map(|scope| &*scope.name), Some("httptrace"));
        read.extend(scope.spans.clone());
    }
    in_one_tree(&read);
    // Ids are drawn, those that were given away aside, and are held by the tree.
    let without_ids = |span: Span| Span { span_id: Vec::new(), parent_span_id: Vec::new(), ..span };
    assert_eq!(read.into_iter().map(without_ids).collect::<Vec<_>>(), expected);
}

/// Every id is there once, and a child's parent is in the same trace.
fn in_one_tree(spans: &[Span]) {
    let ids: Vec<_> = spans.iter().map(|span| (&span.trace_id, &span.span_id)).collect();
    for span in spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        let own = ids.iter().filter(|id| **id == (&span.trace_id, &span.span_id)).count();
        assert!(own == 1 || span.kind == i32::from(CLIENT), "{} is there {own} times", span.name);
        let has_parent = ids.contains(&(&span.trace_id, &span.parent_span_id));
        assert!(has_parent || span.kind == i32::from(CLIENT), "{} has lost its parent", span.name);
    }
}

/// The fuzzer's bytes; zeros behind them.
struct Bytes(VecDeque<u8>);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0.pop_front().unwrap_or(0)
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.next()))
    }

    fn text(&mut self) -> String {
        let length = usize::from(self.next() % 40).min(self.0.len());
        String::from_utf8_lossy(&self.0.drain(..length).collect::<Vec<_>>()).into_owned()
    }

    fn error(&mut self) -> Option<Error> {
        let kinds = [Kind::ConnectionRefused, Kind::Timeout, Kind::BodyIncomplete, Kind::Other];
        let which = usize::from(self.next());
        (which & 4 == 0).then(|| Error::new(kinds[which % 4], Phase::ResponseRead))
    }

    /// An attempt that took its course; `None` if it came to no end.
    fn record(&mut self, number: u8) -> Option<Record> {
        let kept = Kept::default();
        let attempt = script::get().send(&[&kept]);
        attempt.get_conn();
        for _ in 0..self.next() % 6 {
            let error = self.error();
            match self.next() % 3 {
                0 => attempt.dns(error.as_ref()),
                1 => attempt.connect(u32::from(self.next() % 3), error.as_ref()),
                _ => attempt.tls(),
            };
        }
        let error = self.error();
        match (self.next() % 4, &error) {
            (0, Some(error)) => drop(attempt.no_conn(error, Some(WaitCause::Dial))),
            (which, error) => {
                let outcomes = [ConnOutcome::New, ConnOutcome::Idle, ConnOutcome::Shared];
                let link = TraceRef { trace_id: 7, span_id: self.number(), sampled: which == 1 };
                attempt.got_conn(outcomes[usize::from(which) % 3], None, (which > 0).then_some(link));
                if self.next().is_multiple_of(2) {
                    attempt.writes();
                }
                let status = [None, Some(200), Some(404), Some(503)][usize::from(self.next() % 4)];
                let outcome = if error.is_some() { ResponseOutcome::Failed } else { ResponseOutcome::Complete };
                attempt.responds(status, outcome, error.as_ref());
                let returns = [IdleReturn::Pooled, IdleReturn::Closed(CloseReason::Canceled)];
                attempt.returns(returns[usize::from(self.next() % 2)]);
            }
        }
        let mut timeline = Timeline::clone(&*kept.0.lock().unwrap_or_else(PoisonError::into_inner).take()?);
        let mut info = RequestInfo::clone(&timeline.request);
        (info.host, info.port) = (self.text().into(), u16::from(self.next()));
        info.method = Method::from_bytes(self.text().as_bytes()).unwrap_or(Method::GET);
        timeline.request = Arc::new(info);
        Some(self.telling(number, timeline))
    }

    /// Ids of its own: each in a trace of this number.
    fn telling(&mut self, number: u8, timeline: Timeline) -> Record {
        let trace = u128::from(number) << 64 | u128::from(self.number() | 1);
        let flags = TraceFlags::new(self.next() & 1);
        let state = self.text().parse().unwrap_or_default();
        let client = SpanContext::new(TraceId::from(trace), SpanId::from(self.number() | 1), flags, false, state);
        let sampled = (0..self.next() % 3).map(|_| {
            let key = self.text();
            let value = match self.next() % 5 {
                0 => Value::Bool(self.next() & 1 == 1),
                1 => Value::I64(self.number().cast_signed()),
                2 => Value::F64(f64::from(self.next()) / 7.0),
                3 => Value::Array(opentelemetry::Array::I64(vec![self.number().cast_signed(), -1])),
                _ => Value::String(self.text().into()),
            };
            KeyValue::new(key, value)
        });
        let sampled = sampled.collect();
        let parent = SpanId::from(self.number());
        let setup = (self.next() & 1 == 1).then(|| SpanId::from((self.number() | 2) & !1));
        Record::of(client, parent, sampled, setup, timeline, SpanDetail::Spans)
    }
}

/// Keeps the record.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Arc<Timeline>>>>);

impl Reporter for Kept {
    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }
}

impl Report for Kept {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        None
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(timeline));
    }
}

/// The same spans as messages, made as one would without a thought of what it costs.
struct Plain<'a> {
    limits: SpanLimits,
    record: &'a Record,
    spans: Vec<Span>,
}

impl Sink for Plain<'_> {
    fn span(&mut self, part: &Part<'_>) {
        let (client, is_client) = (&self.record.client, part.place == Place::Client);
        let mut told = Told::default();
        if is_client {
            self.record.tell_start(&mut told);
        }
        part.tell(&mut told);
        let (attributes, dropped_attributes_count) = cut(told.attributes, self.limits.max_attributes_per_span);
        let (events, dropped_events_count) = cut(told.events, self.limits.max_events_per_span);
        let (links, dropped_links_count) = cut(told.links, self.limits.max_links_per_span);
        let most = self.limits.max_attributes_per_event;
        let events = events.into_iter().map(|(at, name, attributes)| {
            let (attributes, dropped_attributes_count) = cut(attributes, most);
            let time_unix_nano = self.record.anchor.unix_nanos(at);
            span::Event { time_unix_nano, name, attributes, dropped_attributes_count }
        });
        self.spans.push(Span {
            trace_id: client.trace_id().to_bytes().to_vec(),
            trace_state: client.trace_state().header(),
            name: part.name.to_owned(),
            kind: if is_client { span::SpanKind::Client.into() } else { span::SpanKind::Internal.into() },
            start_time_unix_nano: self.record.anchor.unix_nanos(part.start),
            end_time_unix_nano: self.record.anchor.unix_nanos(part.end),
            flags: u32::from(client.trace_flags().to_u8()) | 0x100,
            attributes,
            dropped_attributes_count,
            events: events.collect(),
            dropped_events_count,
            links,
            dropped_links_count,
            status: Some(told.status),
            ..Span::default()
        });
    }
}

fn cut<T>(mut all: Vec<T>, most: u32) -> (Vec<T>, u32) {
    let dropped = (all.len() as u32).saturating_sub(most);
    all.truncate(most as usize);
    (all, dropped)
}

/// All that is told of one span.
#[derive(Default)]
struct Told {
    attributes: Vec<Pair>,
    events: Vec<(Instant, String, Vec<Pair>)>,
    links: Vec<span::Link>,
    status: StatusMessage,
}

impl Attributes for Told {
    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        let value = match fact {
            Fact::Bool(value) => any_value::Value::BoolValue(value),
            Fact::Int(value) => any_value::Value::IntValue(value),
            Fact::Float(value) => any_value::Value::DoubleValue(value),
            Fact::Word(value) | Fact::Text(value) => any_value::Value::StringValue(value.to_owned()),
            Fact::Shared(value) => any_value::Value::StringValue(value.to_string()),
        };
        let value = Some(AnyValue { value: Some(value) });
        self.attributes.push(Pair { key: key.to_owned(), value, ..Pair::default() });
    }

    fn put(&mut self, attribute: KeyValue) {
        let KeyValue { key, value, .. } = attribute;
        self.attributes.push(Pair { key: key.to_string(), value: Some(value.into()), ..Pair::default() });
    }
}

impl Telling for Told {
    fn event(&mut self, moment: Moment) {
        let mut of_event = Self::default();
        moment.tell(&mut of_event);
        self.events.push((moment.at, moment.name().to_owned(), of_event.attributes));
    }

    fn link(&mut self, to: TraceRef) {
        let flags = u32::from(to.sampled) | 0x100;
        let (trace_id, span_id) = (to.trace_id.to_be_bytes().to_vec(), to.span_id.to_be_bytes().to_vec());
        self.links.push(span::Link { trace_id, span_id, flags, ..span::Link::default() });
    }

    fn status(&mut self, status: Status) {
        if let Status::Error { description } = status {
            self.status = StatusMessage { message: description.into_owned(), code: 2 };
        }
    }
}
