//! The spans of an attempt, out of its record: which there are, under which parent, and what is told of each.
//!
//! In: a record that is over. Out: its spans, one call of [`Sink::span`] for each, the CLIENT span last, with the record's
//! own times. The one place where children are made, whoever takes them.

use std::time::{Duration, Instant};

use http::StatusCode;
use opentelemetry::trace::Status;

use super::{
    attributes,
    detail::{self, Shown},
    telling::{Fact, Moment, Telling},
};
use crate::{
    clock::TimeAnchor,
    config::SpanDetail,
    connection::TraceRef,
    error::Error,
    hooks::ConnOutcome,
    phase::Phase,
    timeline::{DialOutcome, DialRecord, EventKind, PhaseSpan, Timeline},
    views::semconv,
};

/// Takes the spans of one attempt, or of one dial that ended without its request.
pub(crate) trait Sink {
    fn span(&mut self, part: &Part<'_>);
}

/// Where in the tree a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The CLIENT span itself.
    Client,
    /// Below it.
    Below,
    /// Below it, and steps of a dial are below this: `get-connection` or `background-dial`. It may have been given away while
    /// it ran.
    Setup,
    /// Below that.
    Step,
}

/// One span.
pub(crate) struct Part<'a> {
    pub(crate) place: Place,
    pub(crate) name: &'static str,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    what: What<'a>,
}

enum What<'a> {
    Attempt(&'a Timeline, Shown),
    Phase(&'a Timeline, &'a PhaseSpan<'a>),
    Step(&'a PhaseSpan<'a>, TimeAnchor),
    Dial(Option<&'a Error>, Option<DialOutcome>),
    Nothing,
}

impl Part<'_> {
    /// All but what a CLIENT span was started with.
    pub(crate) fn tell(&self, told: &mut impl Telling) {
        match self.what {
            What::Attempt(timeline, shown) => client(timeline, shown, told),
            What::Phase(timeline, phase) => {
                attributes::phase(timeline, phase, told);
                if let (Phase::RequestWrite, Some(at)) = (phase.phase, timeline.wrote_headers) {
                    told.event(Moment { at, kind: EventKind::WroteHeaders });
                }
                fail(told, phase.error, None);
            }
            What::Step(step, anchor) => {
                if let Some(detail) = step.detail {
                    attributes::setup(detail, anchor.system(step.end), told);
                }
                fail(told, step.error, None);
            }
            What::Dial(error, outcome) => {
                fail(told, error, None);
                if let Some(outcome) = outcome {
                    told.set(semconv::DIAL_OUTCOME, Fact::Word(outcome.as_str()));
                }
            }
            What::Nothing => {}
        }
    }
}

fn client(timeline: &Timeline, shown: Shown, told: &mut impl Telling) {
    if shown == Shown::Attributes {
        detail::phases(timeline, told);
    }
    attributes::response(timeline, told);
    attributes::gathered(timeline, told);
    attributes::captured(timeline, told);
    if let Some(setup) = link(timeline) {
        told.link(setup);
    }
    for event in timeline.events.iter().filter(|event| event.kind != EventKind::WroteHeaders) {
        told.event(Moment { at: event.at, kind: event.kind });
    }
    fail(told, timeline.error.as_ref(), timeline.status);
}

/// To the set-up of a connection that another request set up; absent where that has no exported span.
fn link(timeline: &Timeline) -> Option<TraceRef> {
    let used = timeline.connection.as_ref().filter(|used| used.outcome != ConnOutcome::New)?;
    used.info.setup.filter(|setup| setup.sampled)
}

/// All spans of an attempt. `setup`: when its `get-connection` was started live, if it was.
pub(super) fn attempt(timeline: &Timeline, detail: SpanDetail, setup: Option<Instant>, sink: &mut impl Sink) {
    let shown = detail.of(timeline, setup.is_some());
    let last = match shown {
        Shown::Spans => children(timeline, setup, sink),
        Shown::Attributes | Shown::Nothing => timeline.response_end.unwrap_or(timeline.start),
    };
    sink.span(&Part {
        place: Place::Client,
        name: attributes::name(&timeline.request.method),
        start: timeline.start,
        end: timeline.end.map_or(last, |end| end.max(last)),
        what: What::Attempt(timeline, shown),
    });
}

/// Returns the end of the last.
fn children(timeline: &Timeline, setup: Option<Instant>, sink: &mut impl Sink) -> Instant {
    let mut setup = setup;
    let mut phases = timeline.phases();
    set_apart(timeline.anchor, &mut phases);
    for phase in &phases {
        let place = match (phase.phase, phase.parent) {
            (Phase::GetConnection, _) => Place::Setup,
            (_, Phase::GetConnection) => Place::Step,
            _ => Place::Below,
        };
        if place == Place::Setup {
            setup = None;
        }
        let (name, start, end) = (phase.phase.as_str(), phase.start, phase.end);
        sink.span(&Part { place, name, start, end, what: What::Phase(timeline, phase) });
    }
    let end = timeline.response_end.unwrap_or(timeline.start);
    // Its record was let go (the wait turned out to be none), but it has been linked to.
    if let Some(start) = setup {
        let name = Phase::GetConnection.as_str();
        sink.span(&Part { place: Place::Setup, name, start, end, what: What::Nothing });
    }
    phases.iter().map(|phase| phase.end).fold(end, Instant::max)
}

/// The steps of a dial that ended without its request. Returns the end of the last, which is the dial's.
pub(super) fn steps(dial: &DialRecord, anchor: TimeAnchor, sink: &mut impl Sink) -> Instant {
    let mut steps = dial.phases();
    set_apart(anchor, &mut steps);
    for step in &steps {
        let (name, start, end) = (step.phase.as_str(), step.start, step.end);
        sink.span(&Part { place: Place::Step, name, start, end, what: What::Step(step, anchor) });
    }
    steps.iter().map(|step| step.end).fold(dial.end, Instant::max)
}

/// The dial itself; without an outcome while the pool has not given its word.
pub(super) fn dial(start: Instant, end: Instant, error: Option<&Error>, outcome: Option<DialOutcome>) -> Part<'_> {
    Part { place: Place::Setup, name: semconv::BACKGROUND_DIAL, start, end, what: What::Dial(error, outcome) }
}

/// Lets siblings start in microseconds of their own, and gives what is one moment a length.
///
/// Jaeger keeps whole microseconds, and shows siblings that start in the same one in any order, in another one at each
/// look. And it takes a span that ends where it starts for one of negative length, and puts a warning on it; one read
/// of the socket often brings a whole response, whose first byte and last are one moment then.
fn set_apart(anchor: TimeAnchor, phases: &mut [PhaseSpan<'_>]) {
    let (mut part, mut step, mut last_step) = (None, None, None);
    for phase in &mut *phases {
        let is_step = phase.parent == Phase::GetConnection;
        let earliest = if is_step { &mut step } else { &mut part };
        phase.start = earliest.map_or(phase.start, |earliest| phase.start.max(earliest));
        phase.end = phase.end.max(phase.start + SHORTEST);
        *earliest = Some(phase.start + to_next_microsecond(anchor, phase.start));
        last_step = last_step.max(is_step.then_some(phase.end));
    }
    let wait = phases.iter_mut().find(|phase| phase.phase == Phase::GetConnection);
    if let (Some(wait), Some(end)) = (wait, last_step) {
        wait.end = wait.end.max(end);
    }
}

fn to_next_microsecond(anchor: TimeAnchor, at: Instant) -> Duration {
    Duration::from_nanos(1000 - anchor.unix_nanos(at) % 1000)
}

/// Tells `error.type` and the status, each once.
fn fail(told: &mut impl Telling, error: Option<&Error>, status: Option<StatusCode>) {
    let (error_type, status) = failure(error, status);
    if let Some(error_type) = error_type {
        told.set(semconv::ERROR_TYPE, Fact::Word(error_type));
    }
    if let Some(status) = status {
        told.status(status);
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
