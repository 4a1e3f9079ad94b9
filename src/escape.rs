//! Text from outside as it can stand in one line: what would break the line, or hide in it, is escaped.

use std::fmt::{self, Display, Formatter, Write};

/// How long a text from outside is in a log line, in bytes; the rest is cut off. It holds what a
/// command printed last, and is within what collectors of logs take as one line.
pub(crate) const LOG_LINE: usize = 8 * 1024;

/// Displays a value with its line breaks, control characters, direction marks and invisible characters
/// escaped, as in a Rust literal: `\n`, `\u{1b}`. A backslash stays as it is.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// A value on one line of at most `limit` bytes, with `…` for what was cut off.
pub(crate) fn one_line(value: impl Display, limit: usize) -> String {
    cut(Escaped(value), limit)
}

/// The same as it is, with its line breaks.
///
/// A value that is longer is not asked for all of its text.
pub(crate) fn cut(value: impl Display, limit: usize) -> String {
    let mut cut = Cut { text: String::new(), limit };
    if write!(cut, "{value}").is_err() {
        cut.text.push('…');
    }
    cut.text
}

/// Whether a text stays as it is.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.contains(needs_escape)
}

fn needs_escape(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\0'..='\u{9f}' => true,
        // Soft hyphen, and marks of direction in Arabic and Mongolian.
        '\u{ad}' | '\u{61c}' | '\u{180e}' => true,
        // Zero width, direction marks, line and paragraph separators.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        // Byte order mark, annotations, and tags.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

struct Escaping<'a, 'b>(&'a mut Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.match_indices(needs_escape) {
            self.0.write_str(&text[plain..at])?;
            for c in c.chars() {
                write!(self.0, "{}", c.escape_default())?;
            }
            plain = at + c.len();
        }
        self.0.write_str(&text[plain..])
    }
}

/// Takes text up to a limit, and then fails.
struct Cut {
    text: String,
    limit: usize,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit - self.text.len();
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        self.text.push_str(&text[..end]);
        self.limit = self.text.len();
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::{Escaped, cut, is_plain, one_line};

    #[test]
    fn what_breaks_a_line_or_hides_in_it_is_escaped() {
        for (text, escaped) in [
            ("a\nb\r\tc\0", r"a\nb\r\tc\u{0}"),
            ("\u{1b}[31mred\u{7f}\u{9b}", r"\u{1b}[31mred\u{7f}\u{9b}"),
            ("left\u{202e}right\u{2066}\u{200f}", r"left\u{202e}right\u{2066}\u{200f}"),
            ("no\u{200b}thing\u{feff}\u{ad}\u{e0041}", r"no\u{200b}thing\u{feff}\u{ad}\u{e0041}"),
            ("one\u{85}two\u{2028}three\u{2029}", r"one\u{85}two\u{2028}three\u{2029}"),
        ] {
            assert_eq!(Escaped(text).to_string(), escaped);
            assert!(!is_plain(text));
        }
        let plain = r#"Zürich 東京 🦀 é "quoted" C:\temp ~"#;
        assert_eq!(Escaped(plain).to_string(), plain);
        assert!(is_plain(plain));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(one_line("abc", 3), "abc");
        assert_eq!(one_line("abcd", 3), "abc…");
        assert_eq!(one_line("aüb", 2), "a…");
        assert_eq!(one_line("a\nb", 3), r"a\n…");
        assert_eq!(cut("a\nbc", 3), "a\nb…");
    }

    #[test]
    fn a_long_text_is_not_asked_for_all_of_it() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("more ")?;
                }
            }
        }
        assert_eq!(one_line(Endless, 7), "more mo…");
    }
}
