//! A record as phases: the one derivation that spans, waterfall and JSON share. Pure.

use std::time::{Duration, Instant};

use super::{DialRecord, SetupDetail, SetupPhase, Timeline};
use crate::{error::Error, phase::Phase};

/// One phase of a finished attempt: what a span, a bar or a JSON entry is made from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PhaseSpan<'a> {
    /// Which phase.
    pub phase: Phase,
    /// The phase that it is part of; [`Phase::Request`] for the attempt itself.
    pub parent: Phase,
    /// Its start.
    pub start: Instant,
    /// Its end.
    pub end: Instant,
    /// Why it failed, or why a phase inside it did.
    pub error: Option<&'a Error>,
    /// More about a step of a dial.
    pub detail: Option<&'a SetupDetail>,
}

impl SetupPhase {
    /// Which phase this step is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.detail {
            SetupDetail::Dns { .. } => Phase::Dns,
            SetupDetail::Connect { .. } => Phase::Connect,
            SetupDetail::Tunnel { .. } => Phase::Tunnel,
            SetupDetail::Tls { .. } => Phase::Tls,
        }
    }
}

/// The steps of a dial as phases; a step that is still open ends at `end`.
fn setup_phases(setup: &[SetupPhase], parent: Phase, end: Instant) -> impl Iterator<Item = PhaseSpan<'_>> {
    setup.iter().map(move |step| PhaseSpan {
        phase: step.phase(),
        parent,
        start: step.start,
        end: step.end.unwrap_or(end),
        error: step.error.as_ref(),
        detail: Some(&step.detail),
    })
}

impl DialRecord {
    /// The dial's steps, sorted by their start. All are ended; their parent is the `get-connection` that they would be
    /// part of, had their request waited for them.
    #[must_use]
    pub fn phases(&self) -> Vec<PhaseSpan<'_>> {
        let mut phases: Vec<_> = setup_phases(&self.setup, Phase::GetConnection, self.end).collect();
        phases.sort_by_key(|phase| phase.start);
        phases
    }
}

impl Timeline {
    /// How long the server says that it took: [`ServerTiming::total`](crate::facts::ServerTiming::total). Absent unless
    /// [`server_timing`](crate::ClientBuilder::server_timing) is on and it says so.
    #[must_use]
    pub fn server_time(&self) -> Option<Duration> {
        self.facts.as_ref()?.server_timing.as_ref()?.total()
    }

    /// What is left of `response-wait` for the network, both ways: the wait without the [`server_time`](Self::server_time).
    /// Absent if the server says that it took longer than that, since it then began before the request was written, or says
    /// something else.
    #[must_use]
    pub fn network_time(&self) -> Option<Duration> {
        let wait = self.final_first_byte?.checked_duration_since(self.wrote_request?)?;
        wait.checked_sub(self.server_time()?)
    }

    /// The attempt's phases, sorted by their start, a parent before its parts. All are ended.
    #[must_use]
    pub fn phases(&self) -> Vec<PhaseSpan<'_>> {
        let end = self.response_end.or(self.end).unwrap_or(self.start);
        let mut phases = Vec::with_capacity(4 + self.setup.len());
        if let Some(wait) = &self.wait {
            let end = wait.end.unwrap_or(end);
            phases.push(span(Phase::GetConnection, wait.start, end, wait.error.as_ref()));
            phases.extend(setup_phases(&self.setup, Phase::GetConnection, end));
        }
        self.exchange(end, &mut phases);
        phases.sort_by_key(|phase| phase.start);
        phases
    }

    /// `request-write`, `response-wait` and `response-read`: each ends where the next begins, or where it died.
    fn exchange<'a>(&'a self, end: Instant, phases: &mut Vec<PhaseSpan<'a>>) {
        let failed = |phase: Phase| self.error.as_ref().filter(|error| error.phase() == phase);
        if let Some(start) = self.write_start {
            let (given_up, error) = self.write_error.as_ref().map(|(at, error)| (*at, error)).unzip();
            let written = self.wrote_request.or(given_up).unwrap_or(end);
            let error = failed(Phase::RequestWrite).or(error);
            phases.push(span(Phase::RequestWrite, start, written, error));
        }
        if let Some(written) = self.wrote_request {
            match self.final_first_byte {
                // An early response: there was nothing to wait for.
                Some(first) if first < written => {}
                Some(first) => phases.push(span(Phase::ResponseWait, written, first, None)),
                None => phases.push(span(Phase::ResponseWait, written, end, failed(Phase::ResponseWait))),
            }
        }
        if let Some(first) = self.final_first_byte {
            phases.push(span(Phase::ResponseRead, first, end.max(first), failed(Phase::ResponseRead)));
        }
    }
}

fn span(phase: Phase, start: Instant, end: Instant, error: Option<&Error>) -> PhaseSpan<'_> {
    PhaseSpan { phase, parent: Phase::Request, start, end: end.max(start), error, detail: None }
}
