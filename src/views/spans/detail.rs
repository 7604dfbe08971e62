//! How much of an attempt is shown: the one place where that is decided, and the phases as attributes.
//!
//! In: the client's [`SpanDetail`] and a record that is over. Out: whether its phases become child spans, attributes of the
//! CLIENT span, or nothing. Nothing is made before that, but for a `get-connection` to which others may link, and that only
//! where its attempt is sure to have spans.

use std::time::Instant;

use opentelemetry::KeyValue;

use super::attributes;
use crate::{
    config::{SpanCases, SpanDetail},
    phase::Phase,
    timeline::{DialRecord, PhaseSpan, Timeline},
    views::semconv::{ERROR_PHASE, phase_attributes},
};

/// What becomes of an attempt's phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    Attributes,
    Spans,
}

impl SpanDetail {
    /// Whether an attempt that dials has spans, however it ends.
    pub(super) const fn shows_dials(self) -> bool {
        match self {
            Self::Spans => true,
            Self::SpansFor(cases) => cases.new_connection,
            Self::Off | Self::Attributes => false,
        }
    }

    /// The decision. `dialled`: the attempt began a dial.
    pub(super) fn of(self, timeline: &Timeline, dialled: bool) -> Shown {
        match self {
            Self::Off => Shown::Nothing,
            Self::Attributes => Shown::Attributes,
            Self::Spans => Shown::Spans,
            Self::SpansFor(cases) => {
                let refused = timeline.status.is_some_and(|status| status.as_u16() >= 400);
                let failed = timeline.error.is_some() || refused;
                let end = timeline.response_end.unwrap_or(timeline.start);
                let shown = cases.new_connection && dialled || cases.has(failed, timeline.start, end);
                if shown { Shown::Spans } else { Shown::Attributes }
            }
        }
    }

    /// Whether a dial that ended without its request has a span.
    pub(super) fn shows(self, dial: &DialRecord) -> bool {
        match self {
            Self::SpansFor(cases) if !cases.new_connection => cases.has(dial.error.is_some(), dial.start, dial.end),
            _ => self.shows_dials(),
        }
    }
}

impl SpanCases {
    fn has(&self, failed: bool, start: Instant, end: Instant) -> bool {
        let took = end.saturating_duration_since(start);
        self.failed && failed || self.slower_than.is_some_and(|limit| took > limit)
    }
}

/// The phases of an attempt as attributes of its CLIENT span: when each was, and what it would have on a span of its own, but
/// for the steps of a dial, of which there may be several.
pub(super) fn phases(timeline: &Timeline) -> Vec<KeyValue> {
    let phases = timeline.phases();
    let mut all = Vec::with_capacity(2 * phases.len() + 4);
    for (i, phase) in phases.iter().enumerate() {
        let same = |other: &&PhaseSpan<'_>| other.phase == phase.phase;
        // By their start: this is the first of its name.
        if phases[..i].iter().any(|other| same(&other)) {
            continue;
        }
        let end = phases.iter().filter(same).map(|other| other.end).fold(phase.end, Instant::max);
        let [start, duration] = phase_attributes(phase.phase);
        all.push(KeyValue::new(start, phase.start.saturating_duration_since(timeline.start).as_secs_f64()));
        all.push(KeyValue::new(duration, end.saturating_duration_since(phase.start).as_secs_f64()));
        if phase.parent == Phase::Request {
            all.append(&mut attributes::phase(timeline, phase));
        }
    }
    all.extend(timeline.error.as_ref().map(|error| KeyValue::new(ERROR_PHASE, error.phase().as_str())));
    all
}
