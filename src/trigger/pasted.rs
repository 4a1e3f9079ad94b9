//! Characters of a pasted text that show as nothing, as a blank, or as another one.

/// Names the first character that is not what it looks like, with its place and the remedy.
pub(super) fn disguised(text: &str) -> Option<String> {
    let last = text.chars().count().saturating_sub(1);
    // At the end it may be that of a command, which then begins with one, too.
    let is_alone = |c: char| text.matches(c).count() % 2 == 1;
    let is_plain = |c: char| matches!(c, '"' | '\'' | '`');
    if let Some((index, quote)) = text
        .chars()
        .enumerate()
        .find(|&(at, c)| is_curly(c) || is_plain(c) && (at == 0 || at == last && is_alone(c)))
    {
        return Some(format!(
            "its character {}, U+{:04X}, is a quotation mark: remove it",
            index + 1,
            u32::from(quote)
        ));
    }
    let disguises = |c| is_invisible(c) || is_odd_blank(c) || look_alike(c).is_some();
    let (index, found) = text.chars().enumerate().find(|&(_, c)| !c.is_ascii() && disguises(c))?;
    let (place, code) = (index + 1, u32::from(found));
    let (what, remedy) = match look_alike(found) {
        Some(meant) => {
            (format!("only looks like `{meant}`"), format!("write `{meant}` in its place"))
        }
        None if is_odd_blank(found) => (
            format!("is {}, not an ordinary blank", named(found).unwrap_or("a special blank")),
            "write an ordinary blank in its place".to_owned(),
        ),
        None => (
            format!(
                "is {}, which shows as nothing",
                named(found).unwrap_or("a formatting character")
            ),
            "remove it".to_owned(),
        ),
    };
    Some(format!("its character {place}, U+{code:04X}, {what}: {remedy}"))
}

/// Whether a character takes no room of its own.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The quotation marks of word processors, which no text has.
fn is_curly(c: char) -> bool {
    matches!(c, '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2039}' | '\u{203a}')
}

fn is_odd_blank(c: char) -> bool {
    !c.is_ascii() && c.is_whitespace()
}

/// What word processors and web pages put in place of what was typed.
fn look_alike(c: char) -> Option<char> {
    Some(match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2217}' | '\u{204e}' | '\u{ff0a}' => '*',
        '\u{ff0c}' => ',',
        '\u{2215}' | '\u{2044}' => '/',
        _ => return None,
    })
}

fn named(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{a0}' => "a no-break space",
        '\u{202f}' => "a narrow no-break space",
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero-width space",
        '\u{200c}' => "a zero-width non-joiner",
        '\u{200d}' => "a zero-width joiner",
        '\u{2060}' => "a word joiner",
        '\u{feff}' => "a byte order mark",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::trigger::{IntoTrigger, cron, cron_fields, every};

    /// The text with the character at the named place changed as the error says.
    fn mended(text: &str, error: &str) -> String {
        let (place, rest) = error.split_once("its character ").unwrap().1.split_once(',').unwrap();
        let place: usize = place.parse().unwrap();
        let remedy = rest.split_once(": ").unwrap().1;
        let instead = match remedy {
            "remove it" => String::new(),
            "write an ordinary blank in its place" => " ".to_owned(),
            _ => remedy.split('`').nth(1).unwrap().to_owned(),
        };
        let mend =
            |(at, c): (usize, char)| if at + 1 == place { instead.clone() } else { c.into() };
        text.chars().enumerate().map(mend).collect()
    }

    #[test]
    fn what_only_looks_right_is_named_with_its_place_and_the_remedy() {
        let plain = "0 9 * * MON-FRI".into_trigger().unwrap();
        for (text, code) in [
            ("\u{feff}0 9 * * MON-FRI", "character 1, U+FEFF, is a byte order mark"),
            ("0 9\u{a0}* * MON-FRI", "character 4, U+00A0, is a no-break space"),
            ("0 9 *\u{202f}* MON-FRI", "character 6, U+202F, is a narrow no-break space"),
            ("0 9 * * \u{200b}MON-FRI", "character 9, U+200B, is a zero-width space"),
            ("0 9 * * MON\u{2060}-FRI", "character 12, U+2060, is a word joiner"),
            ("0 9 * * MON-FRI\u{200e}", "character 16, U+200E, is a formatting character"),
            ("0 9 * * MON–FRI", "character 12, U+2013, only looks like `-`"),
            ("0 9 ∗ * MON-FRI", "character 5, U+2217, only looks like `*`"),
            ("0 9 *\u{3000}* MON-FRI", "character 6, U+3000, is a special blank"),
        ] {
            for error in [text.into_trigger().unwrap_err(), cron(text).into_trigger().unwrap_err()]
            {
                let error = error.to_string();
                assert!(error.contains(code), "{error}");
                assert_eq!(mended(text, &error).as_str().into_trigger().unwrap(), plain, "{error}");
            }
        }
        for text in
            ["“0 9 * * MON-FRI”", "\"0 9 * * MON-FRI\"", "‘0 9 * * MON-FRI’", "'0 9 * * MON-FRI'"]
        {
            let once = mended(text, &text.into_trigger().unwrap_err().to_string());
            let error = once.as_str().into_trigger().unwrap_err().to_string();
            assert!(error.contains("is a quotation mark: remove it"), "{error}");
            assert_eq!(mended(&once, &error).as_str().into_trigger().unwrap(), plain);
        }
        for (made, code) in [
            (every("monday\u{a0}at 9:00").into_trigger(), "character 7, U+00A0"),
            (every(1).day().at("9:00\u{200b}").into_trigger(), "character 5, U+200B"),
            (cron_fields().day("3rd\u{a0}fri").into_trigger(), "character 4, U+00A0"),
            ("0 9 * * *\u{a0}(Europe/Berlin)".into_trigger(), "character 10, U+00A0"),
            ("0 9 * * *; until\u{a0}2030-01-01T00:00:00Z".into_trigger(), "character 17, U+00A0"),
        ] {
            let error = made.unwrap_err().to_string();
            assert!(error.contains(code), "{error}");
        }
    }
}
