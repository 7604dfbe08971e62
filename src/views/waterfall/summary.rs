//! Many attempts in one table: how many failed and where, how often a connection was reused, how long each phase took.
//!
//! In: finished records, one by one. Out: a few lines of counts, a table of percentiles per phase and, where there are
//! several servers, one of them. It keeps numbers, not records: a million attempts need no more room than some thousand.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{
    MIN_WIDTH, Style,
    attempt::{cause, nanos, patience, protocol},
    durations::Durations,
    table::Table,
    text::{Ink, Paint, bytes, columns, duration, rate, sparkline, wrap},
};
use crate::{
    Timeline,
    phase::Phase,
    timeline::{ConnectionUse, PhaseSpan},
};

/// Counts and times of many attempts. Fed one by one; keeps numbers, not records.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    all: Group,
    retries: u64,
    /// Further ones of the same request that are no retries: redirects followed.
    hops: u64,
    span: Option<(Instant, Instant)>,
    errors: BTreeMap<(Phase, &'static str), u64>,
    statuses: BTreeMap<u16, u64>,
    protocols: BTreeMap<&'static str, u64>,
    waits: BTreeMap<&'static str, u64>,
    /// What servers were said to do with idle connections.
    keep_alive: Vec<String>,
    received: u64,
    phases: BTreeMap<Phase, Steps>,
    first_byte: Durations,
    hosts: BTreeMap<(Arc<str>, u16), Group>,
    /// Attempts at further hosts.
    elsewhere: Group,
}

/// What is counted of all, and of each host.
#[derive(Debug, Clone, Default)]
struct Group {
    attempts: u64,
    failed: u64,
    new: u64,
    reused: u64,
    total: Durations,
}

/// One phase: an attempt that tries several addresses has several connects.
#[derive(Debug, Clone, Default)]
struct Steps {
    attempts: u64,
    times: Durations,
}

/// The column of a histogram with steps of equal ratio, as wide as its name.
const SPREAD: &str = "min ...log... max";
/// Hosts with a line of their own: redirects may lead anywhere.
const MAX_HOSTS: usize = 32;

impl Group {
    fn add(&mut self, timeline: &Timeline) {
        self.attempts += 1;
        self.failed += u64::from(timeline.error.is_some());
        if let Some(connection) = &timeline.connection {
            *(if connection.reused() { &mut self.reused } else { &mut self.new }) += 1;
        }
        if let Some(end) = timeline.end.or(timeline.response_end) {
            self.total.add(nanos(timeline.start, end));
        }
    }

    fn ratio(&self) -> Option<String> {
        let acquired = self.new + self.reused;
        (acquired > 0).then(|| format!("{:.1} %", self.reused as f64 * 100.0 / acquired as f64))
    }
}

impl Summary {
    /// Counts one attempt.
    pub fn add(&mut self, timeline: &Timeline) {
        self.all.add(timeline);
        let key = (Arc::clone(&timeline.request.host), timeline.request.port);
        match self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(&key) {
            true => self.hosts.entry(key).or_default().add(timeline),
            false => self.elsewhere.add(timeline),
        }
        self.retries += u64::from(timeline.request.attempt > 1);
        self.hops += u64::from(timeline.request.attempt == 1 && timeline.request.resend_count > 0);
        let end = timeline.end.or(timeline.response_end).unwrap_or(timeline.start);
        let (first, last) = self.span.unwrap_or((timeline.start, end));
        self.span = Some((first.min(timeline.start), last.max(end)));
        if let Some(error) = &timeline.error {
            *self.errors.entry((error.phase(), error.error_type())).or_default() += 1;
        }
        if let Some(status) = timeline.status {
            *self.statuses.entry(status.as_u16()).or_default() += 1;
        }
        if let Some(connection) = &timeline.connection {
            *self.protocols.entry(protocol(timeline, connection)).or_default() += 1;
        }
        if let Some(waited) = timeline.wait.as_ref().and_then(|wait| wait.cause) {
            *self.waits.entry(cause(waited)).or_default() += 1;
        }
        if let Some(known) = timeline.connection.as_ref().and_then(ConnectionUse::keep_alive)
            && self.keep_alive.len() < MAX_HOSTS
        {
            let request = &timeline.request;
            self.keep_alive.push(format!("{}: {}", host_and_port(&request.host, request.port), patience(known)));
        }
        self.received += timeline.response_body_bytes;
        if let Some(first) = timeline.final_first_byte {
            self.first_byte.add(nanos(timeline.start, first));
        }
        self.steps(&timeline.phases());
    }

    fn steps(&mut self, phases: &[PhaseSpan<'_>]) {
        for (i, phase) in phases.iter().enumerate() {
            let steps = self.phases.entry(phase.phase).or_default();
            steps.attempts += u64::from(phases[..i].iter().all(|before| before.phase != phase.phase));
            steps.times.add(nanos(phase.start, phase.end));
        }
    }

    /// How many attempts were counted.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.all.attempts
    }

    /// Draws the table.
    #[must_use]
    pub fn render(&self, style: &Style) -> String {
        let paint = Paint::new(style);
        let width = style.width.max(MIN_WIDTH);
        let mut out = String::new();
        for line in wrap(&self.outcome(), paint.separator(), width, &paint) {
            out.push_str(&format!("{}\n", paint.ink(Ink::Title, &line)));
        }
        for (label, ink, items) in [
            ("failed", Ink::Error, self.failures()),
            ("status", Ink::Plain, self.statuses.iter().map(|(status, count)| times(status, *count)).collect()),
            ("protocol", Ink::Plain, self.protocols.iter().map(|(name, count)| times(name, *count)).collect()),
            ("connections", Ink::Plain, self.reuse()),
            ("idle", Ink::Plain, self.keep_alive.clone()),
            ("waited for", Ink::Plain, self.waits.iter().map(|(name, count)| times(name, *count)).collect()),
        ] {
            labelled(&mut out, label, ink, &items, width, &paint);
        }
        out.push('\n');
        self.times(&paint).draw(&["p50", "count", "p99", "max", "p90", "p95", "min", SPREAD], width, &paint, &mut out);
        if self.hosts.len() > 1 {
            out.push('\n');
            let rank = ["count", "failed", "reuse", "p50", "p99", "new", "reused", "max"];
            self.servers().draw(&rank, width, &paint, &mut out);
        }
        out
    }

    fn outcome(&self) -> Vec<String> {
        let all = &self.all;
        let again = self.retries + self.hops;
        let requests = all.attempts.saturating_sub(again);
        let mut items = vec![format!("{requests} request{}", if requests == 1 { "" } else { "s" })];
        if let Some((first, last)) = self.span {
            let elapsed = nanos(first, last);
            items[0].push_str(&format!(" in {}", duration(elapsed)));
            items.push(format!("{}/s", rate(requests, elapsed)));
        }
        if again > 0 {
            let parts = [(self.retries, "retries"), (self.hops, "redirects")];
            let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
            items.push(format!("{} attempts ({})", all.attempts, parts.collect::<Vec<_>>().join(", ")));
        }
        items.push(format!("{} answered", all.attempts - all.failed));
        items.push(format!("{} failed", all.failed));
        items.push(format!("{} of bodies read", bytes(self.received)));
        items
    }

    /// What is most frequent is first.
    fn failures(&self) -> Vec<String> {
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        errors.into_iter().map(|((phase, kind), count)| times(format!("{kind} in {phase}"), *count)).collect()
    }

    fn reuse(&self) -> Vec<String> {
        let Some(ratio) = self.all.ratio() else { return vec!["none".to_owned()] };
        let (new, reused) = (self.all.new, self.all.reused);
        vec![
            format!("{new} new"),
            format!("{reused} reused"),
            format!("reuse ratio {ratio} ({reused} of {})", new + reused),
        ]
    }

    fn times(&self, paint: &Paint) -> Table {
        let mut table = Table::new(&["count", "min", "p50", "p90", "p95", "p99", "max", SPREAD]);
        let mut row = |name: &str, count: u64, times: &Durations, ink| {
            let percentiles = [500, 900, 950, 990].map(|per_mille| times.percentile(per_mille));
            let spread = sparkline(&times.spread::<{ SPREAD.len() }>(), paint);
            let times = [times.min()].into_iter().chain(percentiles).chain([times.max()]);
            let cells = times.map(|nanos| nanos.map_or_else(String::new, duration));
            table.row(ink, name, [count.to_string()].into_iter().chain(cells).chain([spread]).collect());
        };
        for (phase, steps) in &self.phases {
            row(phase.as_str(), steps.attempts, &steps.times, Ink::of_phase(phase.as_str()));
        }
        if self.first_byte.count() > 0 {
            row("to first byte", self.first_byte.count(), &self.first_byte, Ink::Plain);
        }
        row("total", self.all.total.count(), &self.all.total, Ink::Title);
        table
    }

    fn servers(&self) -> Table {
        let mut table = Table::new(&["count", "failed", "new", "reused", "reuse", "p50", "p99", "max"]);
        let mut row = |name: String, group: &Group| {
            let ink = if group.failed > 0 { Ink::Error } else { Ink::Plain };
            let counts = [group.attempts, group.failed, group.new, group.reused].map(|count| count.to_string());
            let total = &group.total;
            let times = [total.percentile(500), total.percentile(990), total.max()];
            let times = times.map(|nanos| nanos.map_or_else(String::new, duration));
            let ratio = group.ratio().unwrap_or_default();
            table.row(ink, name, counts.into_iter().chain([ratio]).chain(times).collect());
        };
        for ((host, port), group) in &self.hosts {
            row(host_and_port(host, *port), group);
        }
        if self.elsewhere.attempts > 0 {
            row("other hosts".to_owned(), &self.elsewhere);
        }
        table
    }
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn times(what: impl std::fmt::Display, count: u64) -> String {
    format!("{what} ×{count}")
}

/// Lines of items behind their label; nothing where there are none.
fn labelled(out: &mut String, label: &str, ink: Ink, items: &[String], width: usize, paint: &Paint) {
    if items.is_empty() {
        return;
    }
    let margin = if width < 60 { 2 } else { 14 };
    if width < 60 {
        out.push_str(&format!("{label}\n"));
    }
    for (i, line) in wrap(items, paint.separator(), width - margin, paint).into_iter().enumerate() {
        let before = if i == 0 && width >= 60 { label } else { "" };
        let pad = " ".repeat(margin - columns(before));
        out.push_str(&format!("{}{pad}{}\n", paint.ink(Ink::Faint, before), paint.ink(ink, &line)));
    }
}

impl<'a> Extend<&'a Timeline> for Summary {
    fn extend<I: IntoIterator<Item = &'a Timeline>>(&mut self, timelines: I) {
        timelines.into_iter().for_each(|timeline| self.add(timeline));
    }
}

impl<'a> FromIterator<&'a Timeline> for Summary {
    fn from_iter<I: IntoIterator<Item = &'a Timeline>>(timelines: I) -> Self {
        let mut summary = Self::default();
        summary.extend(timelines);
        summary
    }
}
