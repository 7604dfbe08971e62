//! Text of others as it can be shown.
//!
//! In: what a server, a URL or a file name holds. Out: the same with what a terminal would obey, and what it would not
//! show, written out: `\x1b`, `\u{202e}`. The charts and the command's lines on stderr are made with it.

/// A character as it can be shown, appended.
pub(crate) fn push_visible(text: &mut String, c: char) {
    match c {
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if is_unseen(c) => text.extend(c.escape_unicode()),
        c => text.push(c),
    }
}

/// What has no width and turns, joins or hides what stands beside it.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
