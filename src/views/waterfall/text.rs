//! Words, numbers and colours of the charts: everything that is fitted into columns.

use super::{Row, Style};

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
            Self::Other => "0",
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
        if self.color && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_owned() }
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

/// At most `width` characters. What a terminal would obey (a host can send anything) is made visible.
pub(super) fn fit(text: &str, width: usize, paint: &Paint) -> String {
    let shown = |c: char| match c {
        'µ' if paint.ascii => 'u',
        c if c.is_control() || (paint.ascii && !c.is_ascii()) => '?',
        c => c,
    };
    let mut fitted: String = text.chars().map(shown).take(width + 1).collect();
    if fitted.chars().count() > width {
        fitted = fitted.chars().take(width.saturating_sub(1)).collect();
        if width > 0 {
            fitted.push(paint.ellipsis());
        }
    }
    fitted
}

/// Joins items into lines of at most `width`, broken between items.
pub(super) fn wrap(items: &[String], separator: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if line.chars().count() + separator.chars().count() + item.chars().count() <= width => {
                line.push_str(separator);
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines
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
        assert_eq!(fit("a\x1b[2J", 9, &paint), "a?[2J");
        assert_eq!(fit("abcd", 0, &paint), "");
    }
}
