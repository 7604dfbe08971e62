//! The waterfall on stdout: a chart per attempt and, for several, the table.
//!
//! In: attempts in the order of their completion. Out: texts to write. A pipe or a file gets every chart. On a terminal,
//! a run of many requests would push its own beginning off the screen: there it gets the first of each kind (what came
//! of it, on a new or a reused connection) and the slowest, and a line that says how to see the others.

use std::{
    collections::HashSet,
    env,
    io::{self, IsTerminal},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use httptrace::{
    Timeline,
    views::waterfall::{Style, Summary, Waterfall},
};

/// A terminal gets every chart of so many requests.
const MANY: u64 = 10;
/// The most charts that it gets of more: of attempts that failed, of others; and one for the slowest.
const MAX_KINDS: usize = 4;

/// What was drawn and what is still to be told.
#[derive(Debug)]
pub(crate) struct Charts {
    style: Style,
    summary: Summary,
    drawn: u64,
    /// The kinds that have a chart; absent if all attempts get one.
    kinds: Option<[HashSet<String>; 2]>,
    slowest: Option<Slowest>,
}

#[derive(Debug)]
struct Slowest {
    took: Duration,
    /// Absent if it was drawn when it came.
    waiting: Option<Box<Timeline>>,
}

impl Charts {
    /// For a run of so many requests.
    pub(crate) fn new(requests: u64) -> Self {
        let few = requests <= MANY || !io::stdout().is_terminal();
        Self {
            style: style(),
            summary: Summary::default(),
            drawn: 0,
            kinds: (!few).then(Default::default),
            slowest: None,
        }
    }

    /// What is to be written of an attempt.
    pub(crate) fn attempt(&mut self, timeline: Box<Timeline>) -> Option<String> {
        self.summary.add(&timeline);
        let wanted = self.kinds.as_mut().is_none_or(|kinds| {
            let kinds = &mut kinds[usize::from(timeline.error.is_some())];
            kinds.len() < MAX_KINDS && kinds.insert(kind(&timeline))
        });
        let chart = wanted.then(|| self.draw(&Waterfall::from_timeline(&timeline)));
        if self.kinds.is_some() {
            let took = timeline.end.map_or(Duration::ZERO, |end| end.saturating_duration_since(timeline.start));
            if self.slowest.as_ref().is_none_or(|slowest| took > slowest.took) {
                self.slowest = Some(Slowest { took, waiting: (!wanted).then_some(timeline) });
            }
        }
        chart
    }

    /// What is to be written when all have ended.
    pub(crate) fn end(mut self) -> String {
        let mut text = String::new();
        if let Some(timeline) = self.slowest.take().and_then(|slowest| slowest.waiting) {
            let mut chart = Waterfall::from_timeline(&timeline);
            chart.facts.insert(0, format!("the slowest of {}", self.summary.attempts()));
            text.push_str(&self.draw(&chart));
        }
        let left_out = self.summary.attempts() - self.drawn;
        if left_out > 0 {
            let note = format!("{left_out} more are in the table only. For a chart of each: httptrace ... | less");
            text.push_str(&format!("\n{}", self.style.paragraph(&note)));
        }
        if self.summary.attempts() > 1 {
            text.push_str(&format!("\n{}", self.summary.render(&self.style)));
        }
        text
    }

    fn draw(&mut self, chart: &Waterfall) -> String {
        let gap = if self.drawn > 0 { "\n" } else { "" };
        self.drawn += 1;
        format!("{gap}{}", chart.render(&self.style))
    }
}

/// Attempts that tell the same story.
fn kind(timeline: &Timeline) -> String {
    let error = timeline.error.as_ref().map(|error| (error.phase(), error.error_type()));
    let reused = timeline.connection.as_ref().map(|connection| connection.reused());
    format!("{} {:?} {error:?} {reused:?}", timeline.request.url, timeline.status)
}

/// As wide as the terminal, or `COLUMNS`, or 80; coloured where a terminal can show it, or where the environment insists.
fn style() -> Style {
    let stdout = io::stdout();
    let columns = || env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    let given = width.filter(|width| *width > 0).or_else(columns).filter(|width| *width > 0);
    // Wider charts would only draw the eye away from the names.
    let width = given.unwrap_or(80).min(200);
    Style::plain(width).color(AutoStream::choice(&stdout) != ColorChoice::Never)
}
