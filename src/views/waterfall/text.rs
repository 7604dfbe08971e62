//! Words, numbers and colours of the charts: everything that is fitted into columns.

use unicode_width::UnicodeWidthChar;

use super::{Row, Style, visible::push_visible};

/// What a piece of text is, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Title,
    Error,
    Faint,
    Mark,
    Pool,
    Name,
    Transport,
    Security,
    Write,
    Wait,
    Read,
    Other,
    Plain,
}

impl Ink {
    pub(super) fn of_phase(name: &str) -> Self {
        match name {
            "get-connection" | "background-dial" => Self::Pool,
            "dns" => Self::Name,
            "connect" | "tunnel" => Self::Transport,
            "tls" => Self::Security,
            "request-write" => Self::Write,
            "response-wait" => Self::Wait,
            "response-read" => Self::Read,
            _ => Self::Other,
        }
    }

    /// The parameters of the escape code that begins it: the 16 colours, which every terminal's theme defines.
    const fn code(self) -> &'static str {
        match self {
            Self::Title => "1",
            Self::Error => "1;31",
            Self::Faint => "2",
            Self::Mark => "1;33",
            Self::Pool => "90",
            Self::Name => "36",
            Self::Transport => "34",
            Self::Security => "35",
            Self::Write => "32",
            Self::Wait => "33",
            Self::Read => "92",
            Self::Other | Self::Plain => "0",
        }
    }
}

/// The characters and colours of a style.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    color: bool,
    pub(super) ascii: bool,
}

impl Paint {
    pub(super) fn new(style: &Style) -> Self {
        Self { color: style.color, ascii: style.ascii }
    }

    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        if self.color && ink != Ink::Plain && !text.trim().is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }

    /// A row's note, its error first.
    pub(super) fn note(&self, row: &Row) -> String {
        let Some(error) = &row.error else { return row.note.clone() };
        let between = if error.is_empty() || row.note.is_empty() { "" } else { self.separator() };
        format!("{} {error}{between}{}", self.cross(), row.note)
    }

    pub(super) fn symbol(&self, mark: &str) -> char {
        match (mark, self.ascii) {
            ("first-byte", false) => '▾',
            ("first-byte", true) => 'v',
            ("idle-return", false) => '◂',
            ("idle-return", true) => '<',
            (_, false) => '◆',
            (_, true) => '*',
        }
    }

    pub(super) fn separator(&self) -> &'static str {
        if self.ascii { ", " } else { " · " }
    }

    pub(super) fn cross(&self) -> &'static str {
        if self.ascii { "x" } else { "✗" }
    }

    pub(super) fn dash(&self) -> &'static str {
        if self.ascii { "-" } else { "─" }
    }

    fn ellipsis(&self) -> char {
        if self.ascii { '~' } else { '…' }
    }
}

/// Nanoseconds in three digits and the unit that suits them.
pub(super) fn duration(nanos: u64) -> String {
    if nanos < 1_000 {
        return format!("{nanos} ns");
    }
    let mut value = nanos as f64 / 1_000.0;
    for unit in ["µs", "ms"] {
        // 999.5 would be shown as 1000.
        if value < 999.5 {
            return format!("{} {unit}", three_digits(value));
        }
        value /= 1_000.0;
    }
    format!("{} s", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// How many per second, in three digits.
pub(super) fn rate(count: u64, nanos: u64) -> String {
    let per_second = count as f64 * 1e9 / nanos.max(1) as f64;
    three_digits(per_second)
}

/// Shares as bars beside each other; nothing has none, and little has the least.
pub(super) fn sparkline(shares: &[f64], paint: &Paint) -> String {
    let levels: &[u8; 8] = b".:-=+*%#";
    let level = |share: f64| ((share * 8.0).ceil() as usize).clamp(1, 8);
    let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = shares.iter().map(|share| match (*share > 0.0, paint.ascii) {
        (false, _) => ' ',
        (true, false) => bars[level(*share) - 1],
        (true, true) => char::from(levels[level(*share) - 1]),
    });
    shown.collect()
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    if count < 1024 {
        return format!("{count} B");
    }
    for unit in ["KiB", "MiB"] {
        value /= 1024.0;
        if value < 999.5 {
            return format!("{} {unit}", three_digits(value));
        }
    }
    format!("{} GiB", three_digits(value / 1024.0))
}

/// The columns that a terminal gives to a text that [`visible`] has made.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Text as it can be shown, in the characters of the style.
pub(super) fn visible(text: &str, paint: &Paint) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'µ' if paint.ascii => shown.push('u'),
            '×' if paint.ascii => shown.push('x'),
            c if paint.ascii && !c.is_ascii() => shown.push('?'),
            c => push_visible(&mut shown, c),
        }
    }
    shown
}

/// At most `width` columns of what is [`visible`].
pub(super) fn fit(text: &str, width: usize, paint: &Paint) -> String {
    let shown = visible(text, paint);
    if columns(&shown) <= width {
        return shown;
    }
    let mut fitted = split(&shown, width.saturating_sub(1)).0.to_owned();
    if width > 0 {
        fitted.push(paint.ellipsis());
    }
    fitted
}

/// As much as fits into `width` columns, and the rest.
fn split(text: &str, width: usize) -> (&str, &str) {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > width
    });
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// Joins items into lines of at most `width` columns, broken between items; within one only where it is longer than a line.
pub(super) fn wrap(items: &[String], separator: &str, width: usize, paint: &Paint) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item = visible(item, paint);
        match lines.last_mut() {
            Some(line) if columns(line) + columns(separator) + columns(&item) <= width => {
                line.push_str(separator);
                line.push_str(&item);
            }
            _ => broken(&item, width, &mut lines),
        }
    }
    lines
}

/// One item in as many lines as it needs, broken between words, or where it must be.
fn broken(item: &str, width: usize, lines: &mut Vec<String>) {
    let mut line = String::new();
    for mut word in item.split(' ') {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        while columns(word) > width {
            let (head, rest) = split(word, width.max(2));
            lines.push(head.to_owned());
            word = rest;
        }
        line.push_str(word);
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_never_round_into_four() {
        let shown = [0, 999, 1_000, 9_994, 9_996, 99_960, 999_499, 999_500, 12_345_678, 1_500_000_000, 120_000_000_000]
            .map(duration);
        let expected = [
            "0 ns", "999 ns", "1.00 µs", "9.99 µs", "10.0 µs", "100 µs", "999 µs", "1.00 ms", "12.3 ms", "1.50 s",
            "120 s",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn sizes_are_exact_while_they_are_small() {
        assert_eq!(
            [0, 5, 1023, 1024, 1_048_576, 5 << 30].map(bytes),
            ["0 B", "5 B", "1023 B", "1.00 KiB", "1.00 MiB", "5.00 GiB"]
        );
    }

    #[test]
    fn text_is_cut_to_its_width_and_cannot_steer_a_terminal() {
        let paint = Paint::new(&Style::plain(80));
        assert_eq!(fit("abc", 3, &paint), "abc");
        assert_eq!(fit("abcd", 3, &paint), "ab…");
        assert_eq!(fit("a\x1b[2J", 9, &paint), "a\\x1b[2J");
        assert_eq!(fit("abcd", 0, &paint), "");
        assert_eq!(fit("a\u{202e}b\u{9b}\n", 40, &paint), "a\\u{202e}b\\x9b\\x0a");
    }

    #[test]
    fn wide_characters_count_as_the_columns_that_they_take() {
        let paint = Paint::new(&Style::plain(80));
        assert_eq!(columns("東京"), 4);
        assert_eq!(fit("東京都", 6, &paint), "東京都");
        assert_eq!(fit("東京都", 5, &paint), "東京…");
        assert_eq!(fit("東京都", 4, &paint), "東…");
    }

    #[test]
    fn what_is_wrapped_is_neither_lost_nor_too_wide() {
        let paint = Paint::new(&Style::plain(80));
        let items = ["200 OK", "a rather long sentence of words", "0123456789abcdef"].map(str::to_owned);
        for width in [3, 7, 10, 20, 60] {
            let lines = wrap(&items, ", ", width, &paint);
            assert!(lines.iter().all(|line| columns(line) <= width), "{width}: {lines:?}");
            let told: String = lines.concat().replace([' ', ','], "");
            assert_eq!(told, items.concat().replace(' ', ""), "{width}");
        }
    }
}
