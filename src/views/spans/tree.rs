//! The children of a CLIENT span, out of a record's phases, with the record's own times.

use std::time::{Duration, Instant};

use http::StatusCode;
use opentelemetry::{
    Context, KeyValue,
    trace::{Event, Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer},
};

use super::attributes;
use crate::{
    clock::TimeAnchor,
    error::Error,
    phase::Phase,
    timeline::{DialRecord, EventKind, PhaseSpan, Timeline},
    views::semconv,
};

/// Starts and ends spans below one CLIENT span.
pub(super) struct Tree<'a, T> {
    pub(super) tracer: &'a T,
    pub(super) anchor: TimeAnchor,
    /// The CLIENT span as parent.
    pub(super) context: Context,
}

impl<T: Tracer> Tree<'_, T> {
    /// An open child of the CLIENT span.
    pub(super) fn start(&self, name: &'static str, at: Instant, attributes: Vec<KeyValue>) -> T::Span {
        let builder = SpanBuilder::from_name(name).with_start_time(self.anchor.system(at)).with_attributes(attributes);
        self.tracer.build_with_context(builder, &self.context)
    }

    /// All of an attempt's phases. `setup` is its `get-connection`, if that was started live. Returns the end of the last.
    pub(super) fn children(&self, timeline: &Timeline, setup: Option<T::Span>) -> Instant {
        let mut setup = setup;
        let mut under_setup = setup.as_ref().map(|span| self.below(span.span_context()));
        let mut phases = timeline.phases();
        self.set_apart(&mut phases);
        for phase in &phases {
            let attributes = attributes::phase(timeline, phase);
            match (phase.phase, phase.parent) {
                (Phase::GetConnection, _) => {
                    let span = match setup.take() {
                        Some(mut live) => {
                            live.set_attributes(attributes);
                            fail(&mut live, phase.error, None);
                            live
                        }
                        None => self.open(phase, attributes, Vec::new(), &self.context),
                    };
                    under_setup.get_or_insert_with(|| self.below(span.span_context()));
                    self.close(span, phase.end);
                }
                (_, Phase::GetConnection) => {
                    let parent = under_setup.as_ref().unwrap_or(&self.context);
                    self.close(self.open(phase, attributes, Vec::new(), parent), phase.end);
                }
                _ => {
                    let events = self.events_of(phase, timeline);
                    self.close(self.open(phase, attributes, events, &self.context), phase.end);
                }
            }
        }
        let end = timeline.response_end.unwrap_or(timeline.start);
        // Its record was let go (the wait turned out to be none), but it has been linked to.
        if let Some(span) = setup {
            self.close(span, end);
        }
        phases.iter().map(|phase| phase.end).fold(end, Instant::max)
    }

    /// An open `background-dial` with its ended steps, and when it ends.
    pub(super) fn dial(&self, dial: &DialRecord) -> (T::Span, Instant) {
        let mut span = self.start(semconv::BACKGROUND_DIAL, dial.start, Vec::with_capacity(2));
        let below = self.below(span.span_context());
        let mut steps = dial.phases();
        self.set_apart(&mut steps);
        for step in &steps {
            let attributes = step.detail.map_or_else(Vec::new, attributes::setup);
            self.close(self.open(step, attributes, Vec::new(), &below), step.end);
        }
        fail(&mut span, dial.error.as_ref(), None);
        (span, steps.iter().map(|step| step.end).fold(dial.end, Instant::max))
    }

    /// Lets siblings start in microseconds of their own, and gives what is one moment a length.
    ///
    /// Jaeger keeps whole microseconds, and shows siblings that start in the same one in any order, in another one at each
    /// look. And it takes a span that ends where it starts for one of negative length, and puts a warning on it; one read
    /// of the socket often brings a whole response, whose first byte and last are one moment then.
    fn set_apart(&self, phases: &mut [PhaseSpan<'_>]) {
        let (mut part, mut step, mut last_step) = (None, None, None);
        for phase in &mut *phases {
            let is_step = phase.parent == Phase::GetConnection;
            let earliest = if is_step { &mut step } else { &mut part };
            phase.start = earliest.map_or(phase.start, |earliest| phase.start.max(earliest));
            phase.end = phase.end.max(phase.start + SHORTEST);
            *earliest = Some(phase.start + self.to_next_microsecond(phase.start));
            last_step = last_step.max(is_step.then_some(phase.end));
        }
        let wait = phases.iter_mut().find(|phase| phase.phase == Phase::GetConnection);
        if let (Some(wait), Some(end)) = (wait, last_step) {
            wait.end = wait.end.max(end);
        }
    }

    fn to_next_microsecond(&self, at: Instant) -> Duration {
        Duration::from_nanos(1000 - self.anchor.unix_nanos(at) % 1000)
    }

    fn open(
        &self,
        phase: &PhaseSpan<'_>,
        mut attributes: Vec<KeyValue>,
        events: Vec<Event>,
        parent: &Context,
    ) -> T::Span {
        let (error_type, status) = failure(phase.error, None);
        attributes.extend(error_type.map(|error_type| KeyValue::new(semconv::ERROR_TYPE, error_type)));
        let mut builder = SpanBuilder::from_name(phase.phase.as_str())
            .with_start_time(self.anchor.system(phase.start))
            .with_attributes(attributes);
        if !events.is_empty() {
            builder = builder.with_events(events);
        }
        let mut span = self.tracer.build_with_context(builder, parent);
        if let Some(status) = status {
            span.set_status(status);
        }
        span
    }

    fn close(&self, mut span: T::Span, at: Instant) {
        span.end_with_timestamp(self.anchor.system(at));
    }

    fn below(&self, span: &SpanContext) -> Context {
        self.context.with_remote_span_context(span.clone())
    }

    /// `wrote-headers`, on `request-write`.
    fn events_of(&self, phase: &PhaseSpan<'_>, timeline: &Timeline) -> Vec<Event> {
        match (phase.phase, timeline.wrote_headers) {
            (Phase::RequestWrite, Some(at)) => {
                vec![Event::new(EventKind::WroteHeaders.name(), self.anchor.system(at), Vec::new(), 0)]
            }
            _ => Vec::new(),
        }
    }
}

/// Sets `error.type` and the status of an open span, each once.
pub(super) fn fail(span: &mut impl Span, error: Option<&Error>, status: Option<StatusCode>) {
    let (error_type, status) = failure(error, status);
    if let Some(error_type) = error_type {
        span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
    }
    if let Some(status) = status {
        span.set_status(status);
    }
}

/// What a failure shows: an error wins over a status code, and a cancellation is nobody's fault.
fn failure(error: Option<&Error>, status: Option<StatusCode>) -> (Option<&'static str>, Option<Status>) {
    match (error, status.filter(|status| status.as_u16() >= 400)) {
        (Some(error), _) if error.is_canceled() => (Some(error.error_type()), None),
        (Some(error), _) => (Some(error.error_type()), Some(Status::error(error.to_string()))),
        // The code says it all.
        (None, Some(status)) => (Some(semconv::status_text(status)), Some(Status::error(""))),
        (None, None) => (None, None),
    }
}

/// The length of what is one moment: nobody sees it, and the wall clock of every platform can tell it.
const SHORTEST: Duration = Duration::from_nanos(100);
