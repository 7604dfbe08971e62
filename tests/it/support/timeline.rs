//! What the record of an attempt should look like.
//!
//! `ExpectedTimeline::new().phases([..]).outcome("new").check(&timeline)`: what is not named is not compared, but an
//! error that is not named must not be there. Besides, what holds for every record is checked always. On failure the whole
//! record is in the message.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use httptrace::{Phase, Timeline};

use super::trace::returned;

/// An expectation, built by naming what matters to the test.
#[derive(Debug, Default)]
#[must_use = "nothing is compared before `check`"]
pub(crate) struct ExpectedTimeline {
    phases: Option<Vec<String>>,
    error: Option<(String, String)>,
    facts: Vec<(&'static str, String)>,
}

impl ExpectedTimeline {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Exactly these phases, in the order of their starts.
    pub(crate) fn phases<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.phases = Some(names.into_iter().map(str::to_owned).collect());
        self
    }

    /// It failed in this phase ("request" for none of them) with this type, and the phase's own entry says so.
    pub(crate) fn error(mut self, phase: &str, error_type: &str) -> Self {
        self.error = Some((phase.to_owned(), error_type.to_owned()));
        self
    }

    /// Where its connection came from: "new", "idle", "handed_over", "shared", or "none".
    pub(crate) fn outcome(self, outcome: &str) -> Self {
        self.fact("outcome", outcome)
    }

    pub(crate) fn reused(self, reused: bool) -> Self {
        self.fact("reused", &reused.to_string())
    }

    /// What became of its connection: "pooled", "closed canceled", or "none".
    pub(crate) fn idle_return(self, outcome: &str) -> Self {
        self.fact("idle_return", outcome)
    }

    pub(crate) fn status(self, status: u16) -> Self {
        self.fact("status", &status.to_string())
    }

    /// No response head arrived.
    pub(crate) fn no_status(self) -> Self {
        self.fact("status", "none")
    }

    /// How its response ended: "complete", "dropped", "failed", or "none".
    pub(crate) fn response(self, outcome: &str) -> Self {
        self.fact("response", outcome)
    }

    /// Compares, and fails with all differences at once.
    #[track_caller]
    pub(crate) fn check(self, timeline: &Timeline) {
        let rows = rows(timeline);
        let mut faults = faults(&rows, timeline);
        if let Some(wanted) = &self.phases {
            let names: Vec<_> = rows.iter().map(|row| row.name).collect();
            if names != *wanted {
                faults.push(format!("phases: {names:?}, expected {wanted:?}"));
            }
        }
        let error = timeline.error.as_ref().map(|error| (error.phase().to_string(), error.error_type().to_owned()));
        if error != self.error {
            faults.push(format!("error: {error:?}, expected {:?}", self.error));
        }
        if let Some((phase, error_type)) = &self.error {
            faults.extend(unmarked(&rows, phase, error_type));
        }
        for (name, wanted) in &self.facts {
            let found = fact(timeline, name);
            if found != *wanted {
                faults.push(format!("{name}: {found}, expected {wanted}"));
            }
        }
        assert!(faults.is_empty(), "not as expected:\n  {}\n{}", faults.join("\n  "), describe(timeline));
    }

    fn fact(mut self, name: &'static str, value: &str) -> Self {
        self.facts.push((name, value.to_owned()));
        self
    }
}

fn fact(timeline: &Timeline, name: &str) -> String {
    let connection = timeline.connection.as_ref();
    let found = match name {
        "outcome" => connection.map(|connection| connection.outcome.as_str().to_owned()),
        "reused" => connection.map(|connection| connection.reused().to_string()),
        "idle_return" => timeline.idle_return.map(returned),
        "status" => timeline.status.map(|status| status.as_str().to_owned()),
        "response" => timeline.response_outcome.map(|outcome| outcome.as_str().to_owned()),
        _ => unreachable!("a fact without a reader: {name}"),
    };
    found.unwrap_or_else(|| "none".to_owned())
}

/// One phase of a record, as far as the checks need it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) parent: &'static str,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) error: Option<String>,
}

fn rows(timeline: &Timeline) -> Vec<Row> {
    let phases = timeline.phases();
    let row = |phase: &httptrace::timeline::PhaseSpan<'_>| Row {
        name: phase.phase.as_str(),
        parent: phase.parent.as_str(),
        start: phase.start,
        end: phase.end,
        error: phase.error.map(|error| error.error_type().to_owned()),
    };
    phases.iter().map(row).collect()
}

/// What holds for the phases of every finished record.
pub(crate) fn phase_faults(rows: &[Row], start: Instant, end: Instant) -> Vec<String> {
    let mut faults = Vec::new();
    if !rows.is_sorted_by_key(|row| row.start) {
        faults.push("the phases are not sorted by their start".to_owned());
    }
    for row in rows {
        if row.end < row.start {
            faults.push(format!("{} ends before it starts", row.name));
        }
        let parents = rows.iter().filter(|other| other.name == row.parent);
        let spans: Vec<_> = parents.map(|parent| (parent.start, parent.end)).collect();
        let spans = if row.parent == Phase::Request.as_str() { vec![(start, end)] } else { spans };
        if spans.is_empty() {
            faults.push(format!("{} has no parent {}", row.name, row.parent));
        } else if !spans.iter().any(|(start, end)| row.start >= *start && row.end <= *end) {
            faults.push(format!("{} is not inside its parent {}", row.name, row.parent));
        }
    }
    faults
}

/// What holds for every finished record.
fn faults(rows: &[Row], timeline: &Timeline) -> Vec<String> {
    let Some(end) = timeline.end else { return vec!["the record has no end".to_owned()] };
    let mut faults = phase_faults(rows, timeline.start, end);
    if end < timeline.start {
        faults.push("it ends before it starts".to_owned());
    }
    match timeline.response_end {
        None => faults.push("it has no response end".to_owned()),
        Some(response_end) if response_end > end => faults.push("it ends before its response".to_owned()),
        Some(_) => {}
    }
    for event in &timeline.events {
        if event.at < timeline.start || event.at > end {
            faults.push(format!("{} lies outside of the record", event.kind.name()));
        }
    }
    if timeline.setup.iter().any(|step| step.end.is_none()) {
        faults.push("a set-up phase has not ended".to_owned());
    }
    if timeline.connection.is_some() != timeline.idle_return.is_some() {
        faults.push("a connection and its return come together or not at all".to_owned());
    }
    let new = timeline.connection.as_ref().is_none_or(|connection| connection.outcome.as_str() == "new");
    if !new && !timeline.setup.is_empty() {
        faults.push("it has the set-up of a connection that it did not dial".to_owned());
    }
    faults
}

/// The phase that died and all around it carry the type.
pub(crate) fn unmarked(rows: &[Row], phase: &str, error_type: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut name = phase;
    while name != Phase::Request.as_str() {
        // Several connects may have been tried; one of their errors is the request's.
        let named: Vec<_> = rows.iter().filter(|row| row.name == name).collect();
        let Some(row) = named.first() else {
            faults.push(format!("it died in {name}, which is not there"));
            break;
        };
        if !named.iter().any(|row| row.error.as_deref() == Some(error_type)) {
            let errors: Vec<_> = named.iter().map(|row| &row.error).collect();
            faults.push(format!("{name} carries {errors:?}, expected {error_type:?}"));
        }
        name = row.parent;
    }
    faults
}

/// The whole record as text.
pub(crate) fn describe(timeline: &Timeline) -> String {
    let at = |at: Instant| match at.checked_duration_since(timeline.start) {
        Some(after) => format!("{:.3} ms", after.as_secs_f64() * 1e3),
        None => format!("-{:.3} ms", timeline.start.duration_since(at).as_secs_f64() * 1e3),
    };
    let end = timeline.end.map_or("no end".to_owned(), at);
    let mut out = format!("the record: {} {}, {end}\n", timeline.request.method, timeline.request.url);
    let mut line = |text: String| writeln!(out, "  {text}").expect("a string takes everything");
    for name in ["outcome", "reused", "status", "response", "idle_return"] {
        line(format!("{name}: {}", fact(timeline, name)));
    }
    line(format!("error: {:?}", timeline.error));
    for row in rows(timeline) {
        let length: Duration = row.end.saturating_duration_since(row.start);
        line(format!("{} in {}: from {} for {length:?}, error {:?}", row.name, row.parent, at(row.start), row.error));
    }
    for event in &timeline.events {
        line(format!("event {} at {}", event.kind.name(), at(event.at)));
    }
    out
}
