//! Crontab text with its zone, and what is wrong with one that cannot be read.

pub(super) use super::parse::Origin;
use super::{line, parse::schedule, pattern::Pattern};
use crate::{
    error::Error,
    trigger::{
        pasted,
        quote::{clipped, one_line},
    },
    zone::{IntoTimeZone as _, TimeZone},
};

/// A text, read.
pub(super) struct Parsed<'a> {
    /// The text without its zone.
    pub(super) expression: &'a str,
    pub(super) zone: Option<TimeZone>,
    pub(super) pattern: Pattern,
    /// Whether neither the minute nor the hour field starts with `*`: ISC cron's rule for what
    /// must not be lost in a gap, nor run twice in a fold.
    pub(super) fixed_time: bool,
}

pub(super) fn read(text: &str, origin: Origin) -> Result<Parsed<'_>, Error> {
    // All that seven fields can list has 2,000 characters.
    const LONGEST: usize = 4096;
    let invalid = |reason: String| {
        // A token may be as long and as odd as the text is.
        let reason = clipped(&reason, 400);
        Error::invalid_trigger(format!("invalid cron expression `{}`: {reason}", one_line(text)))
    };
    if origin == Origin::Typed {
        if text.len() > LONGEST {
            return Err(invalid(format!(
                "it is longer than {LONGEST} bytes: use ranges and steps"
            )));
        }
        if let Some(reason) = pasted::disguised(text) {
            return Err(invalid(reason));
        }
    }
    let text = text.trim();
    let (zone, expression) = split_zone(text).map_err(|error| invalid(error.to_string()))?;
    let (pattern, fixed_time) = schedule(expression, origin).map_err(|reason| {
        let prefix = &text[..text.len() - expression.len()];
        invalid(line::reason(prefix, expression).unwrap_or(reason))
    })?;
    Ok(Parsed { expression, zone, pattern, fixed_time })
}

fn split_zone(text: &str) -> Result<(Option<TimeZone>, &str), Error> {
    let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return Ok((None, text));
    };
    let (name, expression) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok((Some(name.into_time_zone()?), expression.trim_start()))
}
