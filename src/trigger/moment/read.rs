//! The text of a moment.

use std::str::FromStr;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use super::{Form, IntoMoment as _, Moment};
use crate::{
    error::Error,
    trigger::{
        pasted,
        period::{Period, in_millis},
        quote::one_line,
        time_of_day,
    },
    zone::{IntoTimeZone as _, is_like_a_zone},
};

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Moment, Error> {
        let text = text.trim();
        if text == "now" {
            return Ok(Moment(Form::Delay(0)));
        }
        if let Some(instant) = instant(text) {
            return instant.into_moment();
        }
        if let Some(moment) = on_wall_clock(text) {
            return moment;
        }
        if let Some(moment) = in_named_zone(text) {
            return moment;
        }
        if let Some(delay) = delay(text) {
            return Ok(delay);
        }
        let reason = pasted::disguised(text).or_else(|| fault(text)).unwrap_or_else(|| {
            "write, for example, `2026-12-01T10:30:00+01:00`, `2026-12-01 10:30`, `2026-12-01`, `18:00` or `10 minutes`".to_owned()
        });
        Err(Error::invalid_trigger(format!(
            "`{}` does not name an instant: {reason}",
            one_line(text)
        )))
    }
}

/// What a wall clock shows, its zone not being said.
fn on_wall_clock(text: &str) -> Option<Result<Moment, Error>> {
    match reading(text) {
        Some(reading) => Some(reading.into_moment()),
        None => Some(time_of_day::read(text).ok()?.into_moment()),
    }
}

/// What the wall clock shows in the zone whose name follows, as in `18:00 Asia/Tokyo`.
fn in_named_zone(text: &str) -> Option<Result<Moment, Error>> {
    // A date, `at`, a time and `pm` are the most.
    const WORDS: usize = 4;
    let (moment, zone) = text
        .match_indices(char::is_whitespace)
        .take(WORDS)
        .filter_map(|(end, _)| Some((on_wall_clock(&text[..end])?, text[end..].trim())))
        .last()?;
    let zone = zone.strip_prefix("in ").map_or(zone, str::trim);
    let zone = zone.strip_prefix('(').and_then(|zone| zone.strip_suffix(')')).unwrap_or(zone);
    match zone.into_time_zone() {
        Ok(zone) => Some(moment.and_then(|moment| moment.in_tz(zone))),
        // Of anything else it is not certain that it is meant as a zone.
        Err(error) if zone.contains('/') || is_like_a_zone(zone) => Some(Err(error)),
        Err(_) => None,
    }
}

/// What is wrong with a text that has the shape of a date, of a date with a time, or of a time of day.
fn fault(text: &str) -> Option<String> {
    if let Some(fault) = impossible_date(text) {
        return Some(fault);
    }
    let time = match text.split_at_checked("2026-12-01".len()) {
        Some((date, time)) if date.parse::<NaiveDate>().is_ok() => {
            time.trim_start_matches(|c: char| c == 'T' || c.is_whitespace())
        }
        _ => text,
    };
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains(':');
    let mut words = time.split_whitespace();
    time_of_day::from_words(words.next()?, words.next()).err().filter(|_| is_time)
}

/// What is wrong with a text that begins with the numbers of a date that no calendar has.
pub(in crate::trigger) fn impossible_date(text: &str) -> Option<String> {
    let date = text.trim().split([' ', 'T', '\t']).next()?;
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let number = |text: &str, digits| {
        let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| is_number)
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let Some(first) = NaiveDate::from_ymd_opt(year.cast_signed(), month, 1) else {
        return Some(format!("month {month} is not in 1..=12"));
    };
    let days = u32::from(first.num_days_in_month());
    (!(1..=days).contains(&day))
        .then(|| format!("{} has {days} days: use a day in 1..={days}", first.format("%B %Y")))
}

/// An instant with its offset.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let seconds_left_out =
        || ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M%:z", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%MZ"];
    text.parse().ok().or_else(|| {
        seconds_left_out().into_iter().find_map(|format| {
            if format.ends_with('Z') {
                NaiveDateTime::parse_from_str(text, format).ok().map(|utc| utc.and_utc())
            } else {
                DateTime::parse_from_str(text, format).ok().map(Into::into)
            }
        })
    })
}

/// What a wall clock shows: date and time, or midnight.
fn reading(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN)))
        .or_else(|| {
            let (date, time) = text.split_once(char::is_whitespace)?;
            let time = time.trim_start();
            let time = time_of_day::read(time.strip_prefix("at ").unwrap_or(time)).ok()?;
            Some(date.parse::<NaiveDate>().ok()?.and_time(time))
        })
}

/// A number of units, as in `10 minutes`, `90s` or `+90s`.
fn delay(text: &str) -> Option<Moment> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let millis = in_millis(Period::read(text)?.nanos()).ok()?;
    Some(Moment(Form::Delay(millis.unsigned_abs())))
}
