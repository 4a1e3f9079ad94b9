//! APScheduler's field expressions, read strictly and compiled to a pattern.
//!
//! APScheduler matches some expressions only from their start, so it reads `mon-fri/2` as
//! `mon-fri`, `jan5` as `jan` and `last-1` as `last`. Here what is left over is an error.

use super::{
    super::{
        parse::{self, Field, number},
        pattern::{Days, Pattern, YEARS, Years},
    },
    Part,
};
use crate::{error::Error, trigger::quote::one_line};

const YEAR: Field = Field { name: "year", min: 1970, max: 9999, names: &[] };
const DAY: Field = Field { name: "day", min: 1, max: 31, names: &[] };
const WEEK: Field = Field { name: "week", min: 1, max: 53, names: &[] };
/// The set of all the values of [`WEEK`].
const EVERY_WEEK: u64 = (1 << 54) - 2;
/// Monday is 0.
const DAY_OF_WEEK: Field = Field {
    name: "day_of_week",
    min: 0,
    max: 6,
    names: &["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"],
};

/// What comes before a day of the week in the field `day`, in the order of
/// [`Days::nth_of_week`].
const POSITIONS: [&str; 6] = ["1st", "2nd", "3rd", "4th", "5th", "last"];

/// The pattern of the given fields, and whether neither the minute nor the hour starts with `*`.
pub(super) fn compile(given: &[(Part, Box<str>)]) -> Result<(Pattern, bool), Error> {
    let text = |part: Part| match given.iter().find(|(given, _)| *given == part) {
        Some((_, text)) => text,
        None if given.iter().any(|(given, _)| *given > part) => "*",
        None => part.default_text(),
    };
    let invalid = |reason| Error::invalid_trigger(format!("invalid cron fields: {reason}"));
    let set = |field: &Field, part| {
        let mut set = 0_u64;
        each(field, text(part), |value| set |= 1 << value).map_err(invalid)?;
        Ok::<u64, Error>(set)
    };
    let weeks = match set(&WEEK, Part::Week)? {
        EVERY_WEEK => Pattern::ALL_WEEKS,
        weeks => weeks,
    };
    let pattern = Pattern {
        seconds: set(&parse::SECOND, Part::Second)?,
        minutes: set(&parse::MINUTE, Part::Minute)?,
        hours: set(&parse::HOUR, Part::Hour)? as u32,
        months: set(&parse::MONTH, Part::Month)? as u16 & months_of(weeks),
        weeks,
        either: false,
        days: [
            days(text(Part::Day)).map_err(invalid)?,
            days_of_week(text(Part::DayOfWeek)).map_err(invalid)?,
        ],
        years: years(text(Part::Year)).map_err(invalid)?,
    };
    let wild = |part| text(part).starts_with('*');
    Ok((pattern, !wild(Part::Minute) && !wild(Part::Hour)))
}

/// The months that days of these weeks may lie in: a search need not look at others.
fn months_of(weeks: u64) -> u16 {
    // The days before each month, and in a year, without a leap day.
    const DAYS: [u32; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let months = (1..=12).filter(|&month| {
        // The n-th day of a year is in week (n + 3) / 7 at the least and (n + 9) / 7 at the most.
        let (first, last) = (DAYS[month - 1] + 1, DAYS[month] + 1);
        let mut of_month: u64 =
            ((first + 3) / 7..=(last + 9) / 7).fold(0, |set, week| set | 1 << week);
        // Week 0 is one of 52 or 53 of the year before, week 54 the first of the year after.
        match month {
            1 => of_month |= 1 << 52 | 1 << 53,
            12 => of_month |= 1 << 1,
            _ => {}
        }
        of_month & weeks != 0
    });
    months.fold(0, |set, month| set | 1 << month)
}

fn years(text: &str) -> Result<Years, String> {
    let mut years = Years::NONE;
    if text == "*" {
        // The common case need not look at 8,000 years.
        (i64::from(YEAR.min)..=*YEARS.end()).for_each(|year| years.insert(year));
        return Ok(years);
    }
    each(&YEAR, text, |year| {
        if YEARS.contains(&i64::from(year)) {
            years.insert(i64::from(year));
        }
    })?;
    Ok(years)
}

fn days(text: &str) -> Result<Days, String> {
    if text == "*" {
        return Ok(Days { of_month: Days::ALL_OF_MONTH, ..Days::default() });
    }
    let mut days = Days::default();
    for item in items(&DAY, text)? {
        let item = &one_line(item);
        if item.eq_ignore_ascii_case("last") {
            days.before_end |= 1;
        } else if let Some((position, weekday)) = item.split_once(' ') {
            let nth = POSITIONS.iter().position(|known| known.eq_ignore_ascii_case(position));
            let weekday =
                DAY_OF_WEEK.names.iter().position(|name| name.eq_ignore_ascii_case(weekday));
            let (Some(nth), Some(weekday)) = (nth, weekday) else {
                return Err(format!(
                    "day `{item}` is not a position and a day of the week: write one of `1st`, `2nd`, `3rd`, `4th`, `5th` and `last`, a space, and one of `mon` to `sun`"
                ));
            };
            days.nth_of_week[nth] |= 1 << from_sunday(weekday as u32);
        } else if POSITIONS.iter().any(|position| starts_with(item, position)) {
            return Err(format!(
                "day `{item}`: write `last`, or as in `2nd fri` and `last fri` for a day of the week"
            ));
        } else {
            each_of(&DAY, item, |day| days.of_month |= 1 << day)?;
        }
    }
    Ok(days)
}

fn days_of_week(text: &str) -> Result<Days, String> {
    if text == "*" {
        return Ok(Days { of_month: Days::ALL_OF_MONTH, ..Days::default() });
    }
    let mut days = Days::default();
    each(&DAY_OF_WEEK, text, |day| days.of_week |= 1 << from_sunday(day))?;
    Ok(days)
}

/// The number of a day of the week in a pattern.
fn from_sunday(from_monday: u32) -> u32 {
    (from_monday + 1) % 7
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// Calls `add` with each value of a list.
fn each(field: &Field, text: &str, mut add: impl FnMut(u32)) -> Result<(), String> {
    for item in items(field, text)? {
        each_of(field, item, &mut add)?;
    }
    Ok(())
}

fn items<'a>(field: &Field, text: &'a str) -> Result<impl Iterator<Item = &'a str>, String> {
    let name = field.name;
    if text.is_empty() {
        return Err(format!("{name} is empty: write an expression, or leave the field out"));
    }
    if text.split(',').any(|item| item.trim().is_empty()) {
        return Err(format!("{name} `{}` has an empty item: remove the comma", one_line(text)));
    }
    Ok(text.split(',').map(str::trim))
}

/// Calls `add` with each value of one item: a value, a range or `*`. Each may have a step: that of
/// a value counts up to the end of the field. Ranges do not wrap around.
fn each_of(field: &Field, item: &str, add: impl FnMut(u32)) -> Result<(), String> {
    let item = &one_line(item);
    let name = field.name;
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item.as_str(), None),
    };
    let (first_text, last_text) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = match range {
        "*" => (field.min, field.max),
        _ => (field.value(first_text, item)?, field.value(last_text, item)?),
    };
    let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_name(first_text) != is_name(last_text) {
        return Err(format!("{name} `{item}` mixes a name and a number: write `{first}-{last}`"));
    }
    if last < first {
        if name == YEAR.name {
            return Err(format!("{name} `{item}` ends before it begins: swap its ends"));
        }
        let named = |number: u32| match field.names.get((number - field.min) as usize) {
            Some(name) if is_name(first_text) => name.to_ascii_lowercase(),
            _ => number.to_string(),
        };
        let range = |first, last| {
            if first == last { named(first) } else { format!("{}-{}", named(first), named(last)) }
        };
        return Err(format!(
            "{name} `{item}` ends before it begins: write `{},{}`",
            range(first, field.max),
            range(field.min, last)
        ));
    }
    let Some(step) = step else {
        (first..=last).for_each(add);
        return Ok(());
    };
    if is_name(first_text) {
        return Err(format!(
            "{name} `{item}` has a step after names: write `{first}-{last}/{step}`"
        ));
    }
    // A step on a single value counts up to the end of the field.
    let last = if range.contains('-') { last } else { field.max };
    match number(step) {
        Some(step) if (1..=last - first).contains(&step) => {
            (first..=last).step_by(step as usize).for_each(add);
            Ok(())
        }
        found => Err(field.misstep(item, [first, last - first], found)),
    }
}
