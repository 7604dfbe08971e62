//! A request as a bar chart of its phases, in text. Pure: data in, a `String` out.
//!
//! In: a [`Waterfall`] of neutral rows, made by hand (from the spans of a collector, say) or from a
//! [`Timeline`](crate::Timeline) with [`Waterfall::from_timeline`]; and a [`Style`], since width and colour are the
//! caller's to know. Out: lines that end in a newline. Times are nanoseconds on any one clock, Unix time for instance;
//! only their distances are shown. A phase that did not happen has no row, and a bar is never empty.

mod attempt;
mod bar;
mod durations;
mod failure;
mod summary;
mod table;
mod text;
mod visible;

pub use self::summary::Summary;
use self::text::{Ink, Paint, columns, duration, fit};

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// Columns to fill; below 20, 20 are taken. Below 40 there is no room for bars: the phases have their durations only.
    pub width: usize,
    /// Colours as ANSI escape codes.
    pub color: bool,
    /// Nothing but ASCII.
    pub ascii: bool,
}

impl Style {
    /// No colour, with block characters.
    #[must_use]
    pub const fn plain(width: usize) -> Self {
        Self { width, color: false, ascii: false }
    }

    /// The same style with or without colour.
    #[must_use]
    pub const fn color(self, color: bool) -> Self {
        Self { color, ..self }
    }

    /// The same style with or without characters beyond ASCII.
    #[must_use]
    pub const fn ascii(self, ascii: bool) -> Self {
        Self { ascii, ..self }
    }

    /// A text of the same width, to stand beside charts. What a terminal would obey in it is written out.
    #[must_use]
    pub fn paragraph(&self, text: &str) -> String {
        let paint = Paint::new(self);
        let lines = text::wrap(&[text.to_owned()], "", self.width.max(MIN_WIDTH), &paint);
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

impl Default for Style {
    /// Plain, 80 columns.
    fn default() -> Self {
        Self::plain(80)
    }
}

/// One request, ready to be drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waterfall {
    /// The head line: method and URL.
    pub title: String,
    /// What else is worth a line: status, protocol, connection, trace id. They are joined and wrapped.
    pub facts: Vec<String>,
    /// Why the request failed, in words.
    pub failure: Option<String>,
    /// What stands below the failure: what it means, what was tried, how long it took. A paragraph each.
    pub hints: Vec<String>,
    /// The left edge of the chart.
    pub start: u64,
    /// The right edge. Rows and marks outside of the edges move them.
    pub end: u64,
    /// The phases, in the order in which they are drawn.
    pub rows: Vec<Row>,
    /// The moments.
    pub marks: Vec<Mark>,
}

/// One phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Its name, such as `dns`.
    pub name: String,
    /// How deep it is nested, from 0.
    pub depth: usize,
    /// Its start in nanoseconds.
    pub start: u64,
    /// Its end in nanoseconds.
    pub end: u64,
    /// Why it failed: an `error.type`; empty if it was a phase inside it that did.
    pub error: Option<String>,
    /// A few words at the end of the line.
    pub note: String,
}

/// One moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its name, such as `first-byte`.
    pub name: String,
    /// When, in nanoseconds.
    pub at: u64,
    /// A word or two behind its time.
    pub note: String,
}

impl Waterfall {
    /// An empty chart between two moments.
    #[must_use]
    pub fn new(title: impl Into<String>, start: u64, end: u64) -> Self {
        Self { title: title.into(), start, end, ..Self::default() }
    }

    /// The chart's edges: wide enough for all that is in it.
    fn edges(&self) -> (u64, u64) {
        let starts = self.rows.iter().map(|row| row.start).chain(self.marks.iter().map(|mark| mark.at));
        let ends = self.rows.iter().map(|row| row.end).chain(self.marks.iter().map(|mark| mark.at));
        let start = starts.fold(self.start, u64::min);
        (start, ends.fold(self.end, u64::max).max(start))
    }

    /// Draws this one.
    #[must_use]
    pub fn render(&self, style: &Style) -> String {
        let mut out = String::new();
        Chart::new(self, style).draw(&mut out);
        out
    }
}

/// Draws several, a blank line between them.
#[must_use]
pub fn render(waterfalls: &[Waterfall], style: &Style) -> String {
    let charts: Vec<String> = waterfalls.iter().map(|waterfall| waterfall.render(style)).collect();
    charts.join("\n")
}

/// One waterfall and the columns that it is drawn in.
struct Chart<'a> {
    waterfall: &'a Waterfall,
    paint: Paint,
    width: usize,
    start: u64,
    total: u64,
    name: usize,
    bar: usize,
    note: usize,
}

/// Left margin of rows.
const INDENT: usize = 2;
/// `12.3 ms`, and one more so that long names of units fit.
const DURATION: usize = 7;
/// Narrower than this, nothing can be said.
const MIN_WIDTH: usize = 20;
/// Narrower than this, a bar says nothing.
const BAR_WIDTH: usize = 40;
/// Name column that fits all phases of an attempt, so that charts below each other line up.
const NAME: usize = 14;

impl<'a> Chart<'a> {
    fn new(waterfall: &'a Waterfall, style: &Style) -> Self {
        let width = style.width.max(MIN_WIDTH);
        let (start, end) = waterfall.edges();
        let paint = Paint::new(style);
        let rows = &waterfall.rows;
        let name = rows.iter().map(|row| 2 * row.depth + columns(&row.name)).fold(NAME, usize::max);
        let narrow = width < BAR_WIDTH;
        let name = name.min(if narrow { width - DURATION - 3 } else { width * 2 / 5 });
        let longest = rows.iter().map(|row| columns(&paint.note(row))).max().unwrap_or(0);
        let free = if narrow { 0 } else { width - (INDENT + name + 2 + 1 + DURATION) };
        // The notes may take four ninths of what is left: the bars are the message.
        let note = if longest == 0 { 0 } else { (longest + 2).min(free * 4 / 9) };
        Self { waterfall, paint, width, start, total: end - start, name, bar: free - note, note }
    }

    fn draw(&self, out: &mut String) {
        self.head(out);
        if !self.waterfall.rows.is_empty() {
            out.push('\n');
        }
        for row in &self.waterfall.rows {
            self.row(row, out);
        }
        if !self.waterfall.marks.is_empty() {
            self.axis(out);
        }
    }

    /// Title with the total at the right edge, facts, failure.
    fn head(&self, out: &mut String) {
        let total = self.duration(self.total);
        let title = fit(&self.waterfall.title, self.width - columns(&total) - 2, &self.paint);
        let gap = self.width - columns(&title) - columns(&total);
        let (title, total) = (self.paint.ink(Ink::Title, &title), self.paint.ink(Ink::Title, &total));
        self.line(out, &format!("{title}{}{total}", " ".repeat(gap)));
        for line in text::wrap(&self.waterfall.facts, self.paint.separator(), self.width, &self.paint) {
            self.line(out, &line);
        }
        if let Some(failure) = &self.waterfall.failure {
            self.paragraph(out, self.paint.cross(), failure, Ink::Error);
        }
        for hint in &self.waterfall.hints {
            self.paragraph(out, "", hint, Ink::Plain);
        }
    }

    /// Text in as many lines as it needs, two columns from the edge.
    fn paragraph(&self, out: &mut String, sign: &str, text: &str, ink: Ink) {
        let lines = text::wrap(&[text.to_owned()], "", self.width - INDENT, &self.paint);
        for (i, line) in lines.iter().enumerate() {
            let sign = if i == 0 { sign } else { "" };
            let line = format!("{sign}{}{line}", " ".repeat(INDENT - columns(sign)));
            self.line(out, &self.paint.ink(ink, &line));
        }
    }

    fn row(&self, row: &Row, out: &mut String) {
        let failed = row.error.is_some();
        let name = fit(&format!("{}{}", "  ".repeat(row.depth), row.name), self.name, &self.paint);
        let pad = " ".repeat(self.name - columns(&name));
        let name = if failed { self.paint.ink(Ink::Error, &name) } else { name };
        let (from, to) = (row.start - self.start, row.end.max(row.start) - self.start);
        let length = self.duration(to - from);
        if self.bar == 0 {
            let sign = if failed { self.paint.ink(Ink::Error, self.paint.cross()) } else { String::new() };
            return self.line(out, &format!("{name}{pad} {length:>DURATION$} {sign}"));
        }
        let (lead, bar) = bar::bar(from, to, self.total, self.bar, self.paint.ascii);
        let trail = " ".repeat(self.bar - lead - bar.chars().count());
        let note = fit(&self.note(row), self.note.saturating_sub(2), &self.paint);
        let (ink, note_ink) = if failed { (Ink::Error, Ink::Error) } else { (Ink::of_phase(&row.name), Ink::Faint) };
        let line = format!(
            "{}{name}{pad}  {}{}{trail} {length:>DURATION$}  {}",
            " ".repeat(INDENT),
            " ".repeat(lead),
            self.paint.ink(ink, &bar),
            self.paint.ink(note_ink, &note),
        );
        self.line(out, &line);
    }

    /// The row's note; where it is too long, its error alone.
    fn note(&self, row: &Row) -> String {
        let whole = self.paint.note(row);
        match &row.error {
            Some(error) if !error.is_empty() && columns(&whole) + 2 > self.note => {
                format!("{} {error}", self.paint.cross())
            }
            _ => whole,
        }
    }

    /// The time axis with the marks on it, and below it what they mean.
    fn axis(&self, out: &mut String) {
        let mut marks: Vec<&Mark> = self.waterfall.marks.iter().collect();
        marks.sort_by_key(|mark| mark.at);
        let legend: Vec<String> = marks
            .iter()
            .map(|mark| {
                let note = if mark.note.is_empty() { String::new() } else { format!(" ({})", mark.note) };
                let at = self.duration(mark.at - self.start);
                format!("{} {} {at}{note}", self.paint.symbol(&mark.name), mark.name)
            })
            .collect();
        let margin = if self.bar == 0 { String::new() } else { " ".repeat(INDENT + self.name + 2) };
        if self.bar > 0 {
            let mut symbols = vec![None; self.bar];
            for (cell, mark) in self.cells(&marks).into_iter().zip(&marks) {
                symbols[cell] = Some(self.paint.symbol(&mark.name));
            }
            let line: String = symbols.chunk_by(|a, b| a == b).map(|run| self.axis_run(run)).collect();
            self.line(out, &format!("{margin}{line}"));
        }
        for line in text::wrap(&legend, "  ", self.width - margin.len(), &self.paint) {
            self.line(out, &format!("{margin}{}", self.paint.ink(Ink::Faint, &line)));
        }
    }

    /// Where marks stand: each in a cell of its own while there are enough, in the order of their times.
    fn cells(&self, marks: &[&Mark]) -> Vec<usize> {
        let mut cells: Vec<usize> = Vec::with_capacity(marks.len());
        for mark in marks {
            let wanted = bar::cell(mark.at - self.start, self.total, self.bar);
            let free = |cell: &usize| !cells.contains(cell);
            let cell = (wanted..self.bar).find(free).or_else(|| (0..wanted).rev().find(free));
            cells.push(cell.unwrap_or(wanted));
        }
        cells.sort_unstable();
        cells
    }

    /// Cells that look the same.
    fn axis_run(&self, run: &[Option<char>]) -> String {
        match run[0] {
            Some(symbol) => self.paint.ink(Ink::Mark, &symbol.to_string().repeat(run.len())),
            None => self.paint.ink(Ink::Faint, &self.paint.dash().repeat(run.len())),
        }
    }

    fn duration(&self, nanos: u64) -> String {
        fit(&duration(nanos), self.width, &self.paint)
    }

    fn line(&self, out: &mut String, line: &str) {
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests;
