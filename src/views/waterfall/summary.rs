//! Many attempts in one table: how many failed, how often a connection was reused, and how long each phase took.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Style,
    text::{Ink, Paint, duration, fit, wrap},
};
use crate::{Timeline, phase::Phase};

/// Counts and times of many attempts. Fed one by one; keeps numbers, not records.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    attempts: u64,
    retries: u64,
    errors: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<u16, u64>,
    acquired: u64,
    reused: u64,
    connections: BTreeSet<u64>,
    total: Vec<u64>,
    phases: BTreeMap<Phase, Vec<u64>>,
}

impl Summary {
    /// Counts one attempt.
    pub fn add(&mut self, timeline: &Timeline) {
        let nanos = |from, to: std::time::Instant| {
            u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
        };
        self.attempts += 1;
        self.retries += u64::from(timeline.request.attempt > 1);
        if let Some(error) = &timeline.error {
            *self.errors.entry(error.error_type()).or_default() += 1;
        }
        if let Some(status) = timeline.status {
            *self.statuses.entry(status.as_u16()).or_default() += 1;
        }
        if let Some(connection) = &timeline.connection {
            self.acquired += 1;
            self.reused += u64::from(connection.reused());
            self.connections.insert(connection.info.id);
        }
        self.total.extend(timeline.end.or(timeline.response_end).map(|end| nanos(timeline.start, end)));
        for phase in timeline.phases() {
            self.phases.entry(phase.phase).or_default().push(nanos(phase.start, phase.end));
        }
    }

    /// How many attempts were counted.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Draws the table.
    #[must_use]
    pub fn render(&self, style: &Style) -> String {
        let paint = Paint::new(style);
        let mut out = String::new();
        for (i, items) in [self.outcomes(), self.reuse()].into_iter().enumerate() {
            for line in wrap(&items, paint.separator(), style.width.max(40)) {
                let line = fit(&line, style.width.max(40), &paint);
                out.push_str(&if i == 0 { paint.ink(Ink::Title, &line) } else { line });
                out.push('\n');
            }
        }
        out.push_str(&paint.ink(Ink::Faint, &format!("\n  {:<14}{:>7}", "", "count")));
        for name in COLUMNS.map(|(name, _)| name) {
            out.push_str(&paint.ink(Ink::Faint, &format!("{name:>10}")));
        }
        out.push('\n');
        for (phase, times) in &self.phases {
            line(&mut out, phase.as_str(), times, Ink::of_phase(phase.as_str()), &paint);
        }
        line(&mut out, "total", &self.total, Ink::Title, &paint);
        out
    }

    fn outcomes(&self) -> Vec<String> {
        let failed: u64 = self.errors.values().sum();
        let noun = if self.retries > 0 { "attempts" } else { "requests" };
        let mut items = vec![format!("{} {noun}", self.attempts), format!("{} ok", self.attempts - failed)];
        if failed > 0 {
            let kinds: Vec<String> = self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            items.push(format!("{failed} failed ({})", kinds.join(", ")));
        }
        items.extend(self.statuses.iter().map(|(status, count)| format!("{count} with status {status}")));
        if self.retries > 0 {
            items.push(format!("{} of them retries", self.retries));
        }
        items
    }

    fn reuse(&self) -> Vec<String> {
        if self.acquired == 0 {
            return vec!["no connection".to_owned()];
        }
        let percent = self.reused as f64 * 100.0 / self.acquired as f64;
        let connections = self.connections.len();
        vec![
            format!("{connections} connection{}", if connections == 1 { "" } else { "s" }),
            format!("reuse ratio {percent:.1} % ({} of {})", self.reused, self.acquired),
        ]
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

/// The columns, and the per mille of the times that are at most as long.
const COLUMNS: [(&str, usize); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1_000)];

fn line(out: &mut String, name: &str, times: &[u64], ink: Ink, paint: &Paint) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    out.push_str(&format!("  {}{:>7}", paint.ink(ink, &format!("{name:<14}")), sorted.len()));
    for (_, per_mille) in COLUMNS {
        let shown = percentile(&sorted, per_mille).map_or_else(String::new, |nanos| fit(&duration(nanos), 10, paint));
        out.push_str(&format!("{shown:>10}"));
    }
    out.push('\n');
}

/// Nearest rank: a value that was measured, not one in between.
fn percentile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    let rank = (sorted.len() * per_mille).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_measured_value() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!([500, 900, 990, 1_000].map(|p| percentile(&sorted, p)), [50, 90, 99, 100].map(Some));
        assert_eq!(percentile(&[7], 500), Some(7));
        assert_eq!(percentile(&[], 500), None);
    }
}
