//! Times of day, as a type and as a text such as `9:00`, `6:30 pm` and `noon`.

use chrono::NaiveTime;

use super::{pasted, quote::one_line};
use crate::error::Error;

/// What is a time of day: a [`chrono::NaiveTime`], or a text such as `"10:30"`, `"10:30:15"`, `"6pm"`,
/// `"6:30 pm"`, `"noon"` or `"midnight"`.
///
/// The text is the same wherever a time of day is taken, in [words](super::Words), too.
///
/// ```
/// use punctual::trigger::{IntoTrigger, every};
///
/// let trigger = every(10).minutes().between("9am", "6:30 pm").into_trigger()?;
/// assert_eq!(trigger.to_string(), "every 10min; between 09:00 and 18:30");
/// # Ok::<(), punctual::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a time of day",
    note = "use a `chrono::NaiveTime`, or a text such as \"10:30\" and \"6pm\""
)]
pub trait IntoTimeOfDay {
    /// Reads the time.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if the text is no time of day.
    fn into_time_of_day(self) -> Result<NaiveTime, Error>;
}

impl IntoTimeOfDay for NaiveTime {
    fn into_time_of_day(self) -> Result<NaiveTime, Error> {
        Ok(self)
    }
}

impl IntoTimeOfDay for &str {
    fn into_time_of_day(self) -> Result<NaiveTime, Error> {
        read(self).map_err(|reason| {
            Error::invalid_trigger(format!("invalid time of day `{}`: {reason}", one_line(self)))
        })
    }
}

impl IntoTimeOfDay for String {
    fn into_time_of_day(self) -> Result<NaiveTime, Error> {
        self.as_str().into_time_of_day()
    }
}

/// Reads a text that is a time of day; an error is the reason and the remedy.
pub(super) fn read(text: &str) -> Result<NaiveTime, String> {
    if let Some(reason) = pasted::disguised(text) {
        return Err(reason);
    }
    let mut words = text.split_whitespace();
    let (clock, half) = (words.next().unwrap_or_default(), words.next());
    let (time, took_half) = from_words(clock, half)?;
    if half.is_some() && !took_half || words.next().is_some() {
        return Err("nothing may follow the time but `am` or `pm`".into());
    }
    Ok(time)
}

pub(super) const HOURS_AND_MINUTES: &str =
    "write hours and minutes, as in `9:00`, and seconds if need be";

/// Reads a time of day from a word and the next one, and returns whether the next one, `am` or `pm`,
/// belongs to the time. An error is the reason and the remedy.
pub(super) fn from_words(word: &str, next: Option<&str>) -> Result<(NaiveTime, bool), String> {
    let word = word.to_ascii_lowercase();
    let invalid = |remedy: &str| Err(remedy.to_owned());
    let (word, next) = match &*word {
        "noon" => ("12:00", None),
        "midnight" => ("0:00", None),
        word => (word, next),
    };
    let attached = HALVES.iter().find_map(|(name, half)| Some((word.strip_suffix(name)?, *half)));
    let (clock, half, took_half) = match attached {
        Some((clock, half)) => (clock, Some(half), false),
        None => {
            let half = next.and_then(half_of_day);
            (word, half, half.is_some())
        }
    };
    let mut parts = [0; 3];
    let mut count = 0;
    for part in clock.split(':') {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits || count == 3 {
            return invalid(HOURS_AND_MINUTES);
        }
        parts[count] = part.parse().unwrap_or(u32::MAX);
        count += 1;
    }
    let [mut hour, minute, second] = parts;
    match half {
        Some(_) if !(1..=12).contains(&hour) => {
            return invalid("with `am` or `pm`, the hour is in 1..=12");
        }
        Some(half) => hour = hour % 12 + 12 * half as u32,
        None if count == 1 && hour <= 23 => return invalid(&format!("write `{clock}:00`")),
        None => {}
    }
    match NaiveTime::from_hms_opt(hour, minute, second) {
        Some(time) => Ok((time, took_half)),
        None => invalid("the hour is in 0..=23, minute and second in 0..=59"),
    }
}

/// The halves of a day.
#[derive(Clone, Copy)]
enum Half {
    Morning = 0,
    Afternoon = 1,
}

const HALVES: [(&str, Half); 4] = [
    ("am", Half::Morning),
    ("a.m.", Half::Morning),
    ("pm", Half::Afternoon),
    ("p.m.", Half::Afternoon),
];

fn half_of_day(word: &str) -> Option<Half> {
    let known = HALVES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|&(_, half)| half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_time_of_day_in_all_its_forms() {
        for (text, time) in [
            ("9:00", "09:00:00"),
            ("09:00", "09:00:00"),
            ("9:5:0", "09:05:00"),
            ("23:59:59", "23:59:59"),
            ("6pm", "18:00:00"),
            ("6 PM", "18:00:00"),
            ("6:30 pm", "18:30:00"),
            (" 6:30pm ", "18:30:00"),
            ("6 p.m.", "18:00:00"),
            ("6:30a.m.", "06:30:00"),
            ("12am", "00:00:00"),
            ("12pm", "12:00:00"),
            ("Noon", "12:00:00"),
            ("midnight", "00:00:00"),
        ] {
            assert_eq!(text.into_time_of_day().unwrap().to_string(), time, "{text}");
        }
        for (text, remedy) in [
            ("9", "write `9:00`"),
            ("99", "the hour is in 0..=23"),
            ("24:00", "the hour is in 0..=23"),
            ("9:0x", "write hours and minutes, as in `9:00`"),
            ("", "write hours and minutes, as in `9:00`"),
            ("13pm", "the hour is in 1..=12"),
            ("9:00 o'clock", "nothing may follow the time but `am` or `pm`"),
            ("noon pm", "nothing may follow the time"),
            ("9:00\u{a0}am", "is a no-break space"),
        ] {
            let error = text.into_time_of_day().unwrap_err().to_string();
            assert!(error.contains(remedy) && error.contains("invalid time of day"), "{error}");
        }
    }
}
