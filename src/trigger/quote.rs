//! A text of a user as an error quotes it.

use super::pasted;

/// A text as it can stand in an error: short, and without line breaks.
pub(super) fn one_line(text: &str) -> String {
    clipped(text, 100)
}

/// The first `long` characters of a text, in one line. Control characters are shown, not dropped:
/// what is left without them could be taken for what was written.
pub(super) fn clipped(text: &str, long: usize) -> String {
    let visible = |c: char| {
        if c.is_control() || pasted::is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }
    };
    // Looks no further than it needs to, however long the text is.
    let mut words = text.split_whitespace();
    let first = words.next().into_iter().flat_map(str::chars);
    let rest = words.flat_map(|word| std::iter::once(' ').chain(word.chars()));
    let mut chars = first.chain(rest).map(visible);
    let mut line: String = chars.by_ref().take(long).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}
