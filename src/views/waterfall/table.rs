//! Numbers in columns: as many columns as there is room for, the most telling ones first.

use super::text::{Ink, Paint, columns, fit};

/// A table under construction. Its first column is names; all others are numbers.
pub(super) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<(Ink, String, Vec<String>)>,
}

impl Table {
    /// Columns in the order in which they stand.
    pub(super) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, ink: Ink, name: impl Into<String>, cells: Vec<String>) {
        self.rows.push((ink, name.into(), cells));
    }

    /// Draws it with the columns that fit; `rank` are their titles, those first that must not be missed.
    pub(super) fn draw(&self, rank: &[&str], width: usize, paint: &Paint, out: &mut String) {
        let (margin, gap) = if width < 60 { (0, 1) } else { (2, 2) };
        let name = self.rows.iter().map(|(_, name, _)| columns(&fit(name, usize::MAX, paint))).max().unwrap_or(0);
        let name = name.min(width / 2 - margin);
        let mut room = width - margin - name;
        let mut widths: Vec<Option<usize>> = vec![None; self.titles.len()];
        for title in rank {
            let Some(at) = self.titles.iter().position(|other| other == title) else { continue };
            let cells = self.rows.iter().map(|(_, _, cells)| columns(&fit(&cells[at], usize::MAX, paint)));
            let needed = gap + cells.fold(columns(title), usize::max);
            if needed > room {
                break;
            }
            room -= needed;
            widths[at] = Some(needed);
        }
        let cells = |cells: &mut dyn Iterator<Item = &str>| -> String {
            let shown = cells.zip(&widths).filter_map(|(cell, width)| {
                let cell = fit(cell, usize::MAX, paint);
                width.map(|width| format!("{}{cell}", " ".repeat(width - columns(&cell))))
            });
            shown.collect()
        };
        let head = format!("{}{}", " ".repeat(margin + name), cells(&mut self.titles.iter().copied()));
        out.push_str(&format!("{}\n", paint.ink(Ink::Faint, &head)));
        for (ink, title, numbers) in &self.rows {
            let title = fit(title, name, paint);
            let pad = " ".repeat(name - columns(&title));
            let numbers = cells(&mut numbers.iter().map(String::as_str));
            let line = format!("{}{}{pad}{numbers}", " ".repeat(margin), paint.ink(*ink, &title));
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}
