//! Where a bar lies, in eighths of a character cell.

/// A bar's leading blanks and its text. Never empty, never wider than `cells`.
pub(super) fn bar(from: u64, to: u64, total: u64, cells: usize, ascii: bool) -> (usize, String) {
    let all = cells * 8;
    let start = eighths(from, total, all).min(all - 1);
    let end = eighths(to, total, all).clamp(start + 1, all);
    let (first, last) = (start / 8, (end - 1) / 8);
    let text = match (ascii, last - first) {
        (true, 0) => "|".to_owned(),
        (true, more) => "#".repeat(more + 1),
        (false, 0) => within(start % 8, end - first * 8).to_string(),
        (false, more) => {
            let mut text = String::from(opening(start % 8));
            text.extend(std::iter::repeat_n('█', more - 1));
            text.push(LEFT[end - last * 8 - 1]);
            text
        }
    };
    (first, text)
}

/// The cell of a moment.
pub(super) fn cell(at: u64, total: u64, cells: usize) -> usize {
    (eighths(at, total, cells * 8) / 8).min(cells - 1)
}

/// A moment's place, rounded to the nearest of `all` steps.
fn eighths(at: u64, total: u64, all: usize) -> usize {
    let (at, total, all) = (u128::from(at), u128::from(total.max(1)), all as u128);
    usize::try_from((at * all + total / 2) / total).unwrap_or(usize::MAX)
}

/// Cells filled from the left, by eighths.
const LEFT: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// The first cell of a longer bar that begins after some eighths. Unicode fills from the right only by one and by four.
fn opening(skipped: usize) -> char {
    match skipped {
        0..=1 => '█',
        2..=5 => '▐',
        _ => '▕',
    }
}

/// A bar within one cell: as long as it is, at the side that it is nearer to.
fn within(from: usize, to: usize) -> char {
    match (from + to > 8, to - from) {
        (false, length) => LEFT[length - 1],
        (true, 7..) => '█',
        (true, 3..=6) => '▐',
        (true, _) => '▕',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_empty_and_never_leaves_its_cells() {
        for total in [0, 1, 7, 1_000, u64::MAX] {
            for from in [0, total / 3, total / 2, total] {
                for to in [from, from + (total - from) / 7, total] {
                    for (cells, ascii) in [(1, false), (9, true), (40, false)] {
                        let (lead, text) = bar(from, to, total, cells, ascii);
                        let width = text.chars().count();
                        assert!(width > 0 && lead + width <= cells, "{from}..{to} of {total}: {lead} {text:?}");
                        assert!(text.trim() == text);
                    }
                }
            }
        }
    }

    #[test]
    fn a_bar_that_ends_where_another_begins_meets_it() {
        assert_eq!(bar(0, 50, 100, 10, false), (0, "█████".to_owned()));
        assert_eq!(bar(50, 100, 100, 10, false), (5, "█████".to_owned()));
        assert_eq!(bar(0, 55, 100, 10, false), (0, "█████▌".to_owned()));
        assert_eq!(bar(55, 100, 100, 10, false), (5, "▐████".to_owned()));
    }

    #[test]
    fn a_moment_at_the_very_end_is_in_the_last_cell() {
        assert_eq!(cell(100, 100, 10), 9);
        assert_eq!(cell(0, 0, 10), 0);
    }
}
