//! A trigger from its text.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::names::{FOLDS, GAPS};
use crate::{
    error::Error,
    trigger::{
        Moment, Trigger,
        build::calendar_interval,
        day_filter::{DayFilter, DayOptions},
        days::Days,
        kinds::{And, Cron, CronFields, Date, Follow, Kind, KindOption, Or, Schedule as _},
        limits::Limits,
        pasted,
        quote::one_line,
        time_of_day::IntoTimeOfDay as _,
        window::Window,
        words,
    },
    zone::IntoTimeZone as _,
};

/// Reads the text of a trigger: what its `Display` prints, cron text, with `CRON_TZ=` as well, and
/// [words](crate::trigger::Words).
///
/// ```
/// use punctual::trigger::Trigger;
///
/// let trigger: Trigger = "every monday at 10:30 Europe/Berlin; until 2026-12-31T00:00:00Z".parse()?;
/// assert_eq!(trigger.to_string().parse::<Trigger>()?, trigger);
///
/// let error = "0 9 * * *; untill 2026-12-31T00:00:00Z".parse::<Trigger>().unwrap_err();
/// assert!(error.to_string().contains("`untill 2026-12-31T00:00:00Z` is no clause"));
/// # Ok::<(), punctual::Error>(())
/// ```
impl FromStr for Trigger {
    type Err = Error;

    fn from_str(text: &str) -> Result<Trigger, Error> {
        // What is longer takes long to refuse.
        const LONGEST: usize = 65_536;
        // Ids may have any characters.
        let wrong = if Follow::read(text).is_some() {
            None
        } else if text.len() > LONGEST {
            Some(format!("it is longer than {LONGEST} bytes: combine triggers by `and` and `or`"))
        } else {
            pasted::disguised(text)
        };
        if let Some(reason) = wrong {
            return Err(Error::invalid_trigger(format!(
                "invalid trigger `{}`: {reason}",
                one_line(text)
            )));
        }
        read(text, 0)
    }
}

/// Reads a trigger that is a member of so many combinations.
fn read(text: &str, depth: usize) -> Result<Trigger, Error> {
    if let Some(follow) = Follow::read(text) {
        return Trigger::new(follow?.into(), Limits::default()).validated();
    }
    let mut clauses = split(text, ";").into_iter().map(str::trim);
    let kind = kind(clauses.next().unwrap_or_default(), depth)?;
    let mut trigger = Trigger::new(kind, Limits::default());
    let mut limits = Limits::default();
    let (mut options, mut day_zone) = (DayOptions::default(), None);
    let mut read: Vec<(&str, &str)> = Vec::new();
    for clause in clauses.filter(|clause| !clause.is_empty()) {
        let (first, rest) = clause.split_once(char::is_whitespace).unwrap_or((clause, ""));
        let name = match rest.split_whitespace().next() {
            Some("times") => "times",
            _ => first,
        };
        if !matches!(name, "only" | "except")
            && let Some((_, before)) =
                read.iter().find(|(known, before)| *known == name && *before != clause)
        {
            return Err(Error::invalid_trigger(format!(
                "`{}` comes after `{}`: leave one of them out",
                one_line(clause),
                one_line(before)
            )));
        }
        read.push((name, clause));
        let days = |text: &str| {
            Days::read(text).map_err(|reason| {
                Error::invalid_trigger(format!(
                    "`{}` does not name days: {reason}",
                    one_line(clause)
                ))
            })
        };
        match clause.split_once(char::is_whitespace) {
            Some(("only", text)) => options.only(days(text)?),
            Some(("except", text)) => options.except(days(text)?),
            Some(("between", text)) => {
                let window = Window::read(text).ok_or_else(|| {
                    Error::invalid_trigger(format!(
                        "`{}` does not name hours: write, for example, `between 10:00 and 12:00`",
                        one_line(clause)
                    ))
                })?;
                options.between = Some(window);
            }
            Some(("days", text)) => {
                let zone = text.trim().strip_prefix("in ").ok_or_else(|| {
                    Error::invalid_trigger(format!(
                        "`{}` does not name a zone: write, for example, `days in Europe/Berlin`",
                        one_line(clause)
                    ))
                })?;
                day_zone = Some(zone.trim().into_time_zone()?);
            }
            _ => trigger.read_clause(clause, &mut limits)?,
        }
    }
    if let Some(zone) = day_zone {
        let has_days =
            options.only.is_some() || options.except.is_some() || options.between.is_some();
        let kind = trigger.kind.to_string();
        match trigger.kind.zone_rules() {
            _ if !has_days => {
                return Err(Error::invalid_trigger(format!(
                    "`days in {zone}` does not say which days or hours: add `only`, `except` or `between`, or leave it out"
                )));
            }
            // Its days are those of the zone it goes by.
            Some(rules) if rules.zone == Some(zone) => day_zone = None,
            Some(rules) => {
                let remedy = match rules.zone {
                    Some(_) => "leave it out".to_owned(),
                    None => format!("write `{kind} ({zone})`, or leave it out"),
                };
                return Err(Error::invalid_trigger(format!(
                    "`days in {zone}` does not go with `{kind}`, whose days are those of the zone that it goes by: {remedy}"
                )));
            }
            None => {}
        }
    }
    limits.days = DayFilter::new(options, day_zone)?;
    trigger.with_limits(limits).validated()
}

/// The parts of a text between separators that are in no brackets.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_i32);
    for (index, char) in text.char_indices() {
        match char {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 && index >= begin && text[index..].starts_with(separator) => {
                parts.push(&text[begin..index]);
                begin = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Reads what is between the brackets of `and[…]` or `or[…]`.
fn members(text: &str, separator: &str, depth: usize) -> Result<Vec<Trigger>, Error> {
    // More levels than may be are refused when they are combined; this bounds the stack.
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return Err(Error::invalid_trigger(
            "combinations in more than 16 levels: leave some out".to_owned(),
        ));
    }
    split(text, separator).into_iter().map(|member| read(member.trim(), depth + 1)).collect()
}

/// Reads what is between the brackets of `calendar[…]`.
fn calendar(text: &str) -> Result<Kind, Error> {
    let wrong = || {
        Error::invalid_trigger(format!(
            "`calendar[{}]` is no calendar interval: write, for example, `calendar[1 month, 2 days at 9:30]`",
            one_line(text)
        ))
    };
    let (every, time) = text.rsplit_once(" at ").ok_or_else(wrong)?;
    let mut build = calendar_interval();
    for part in every.split(',') {
        let (count, unit) = part.trim().split_once(' ').ok_or_else(wrong)?;
        let count = count.parse().map_err(|_| wrong())?;
        build = match unit.trim_end_matches('s') {
            "year" => build.years(count),
            "month" => build.months(count),
            "week" => build.weeks(count),
            "day" => build.days(count),
            _ => return Err(wrong()),
        };
    }
    let build = time.split(',').fold(build, |build, time| build.at(time.trim()));
    Ok(build.kind?.into())
}

fn kind(text: &str, depth: usize) -> Result<Kind, Error> {
    let bracketed = |name: &str| text.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']');
    if let Some(text) = bracketed("and") {
        return Ok(Kind::And(And::new(members(text, " & ", depth)?)?));
    }
    if let Some(text) = bracketed("or") {
        return Ok(Kind::Or(Or::new(members(text, " | ", depth)?)?));
    }
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match first {
        _ if first.eq_ignore_ascii_case("@every") => return words::parse(rest)?.try_into(),
        "now" if rest.is_empty() => return Ok(Kind::Date(Date::AfterMs(0))),
        "at" => return Ok(Date::from(moment(rest, text)?).into()),
        "after" => {
            return match words::parse(rest)?.try_into()? {
                Kind::Interval(delay) => {
                    Ok(Kind::Date(Date::AfterMs(delay.period_ms().unsigned_abs())))
                }
                _ => Err(Error::invalid_trigger(format!(
                    "`{}` is no delay: write, for example, `after 10 minutes`",
                    one_line(text)
                ))),
            };
        }
        "in" if words::is_bare_period(rest) => {
            return Err(Error::invalid_trigger(format!(
                "`{}` is a delay: write `after {}`",
                one_line(text),
                one_line(rest)
            )));
        }
        "" => {
            return Err(Error::invalid_trigger(
                "the trigger is an empty text: write, for example, `every 10 minutes` or `0 9 * * *`",
            ));
        }
        _ if words::is_words(text) => {
            return words::parse_alone(text).map_err(|error| meant(text, error))?.try_into();
        }
        _ => {}
    }
    let (text, zone) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((text, zone)) => (text, Some(zone.into_time_zone()?)),
        None => (text, None),
    };
    let bracketed = |name: &str| text.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']');
    let mut kind = match (bracketed("cron"), bracketed("calendar")) {
        (Some(fields), _) => Kind::CronFields(CronFields::read(fields)?),
        (_, Some(text)) => calendar(text)?,
        _ => Kind::Cron(Cron::parse(text).map_err(|error| {
            if words::is_bare_period(text) { words::bare_period(text) } else { meant(text, error) }
        })?),
    };
    if let (Some(zone), Some(rules)) = (zone, kind.zone_rules_mut()) {
        rules.name_zone(zone)?;
    }
    Ok(kind)
}

/// The error for a text that names no trigger, but an instant or a time of day.
fn meant(text: &str, error: Error) -> Error {
    if text.into_time_of_day().is_ok() {
        Error::invalid_trigger(format!(
            "`{text}` is a time of day: write `every day at {text}`, or `at {text}` for once"
        ))
    } else if text.parse::<Moment>().is_ok() {
        Error::invalid_trigger(format!("`{text}` is an instant: write `at {text}`"))
    } else {
        error
    }
}

/// Reads a moment; `whole` is the clause that an error shows.
fn moment(text: &str, whole: &str) -> Result<Moment, Error> {
    text.parse().map_err(|error: Error| {
        if !text.trim().is_empty() {
            return error;
        }
        Error::invalid_trigger(format!(
            "`{}` lacks an instant: write, for example, `{} 2026-11-20T12:00:00Z`",
            one_line(whole),
            one_line(whole.trim())
        ))
    })
}

/// Reads what is filled in when a job is added.
fn filled_in(text: &str, clause: &str) -> Result<DateTime<Utc>, Error> {
    moment(text, clause)?.as_instant().ok_or_else(|| {
        Error::invalid_trigger(format!(
            "`{}` is filled in when a job is added, with an instant: use `until`",
            one_line(clause)
        ))
    })
}

impl Trigger {
    /// Reads a clause of bounds, times or zone, or one that only its kind has.
    fn read_clause(&mut self, clause: &str, limits: &mut Limits) -> Result<(), Error> {
        let misplaced = |kind: &Kind, what: &str| {
            Err(Error::invalid_trigger(format!(
                "`{}` does not go with `{kind}`: it is for {what}",
                one_line(clause)
            )))
        };
        let (name, value) = clause.split_once(char::is_whitespace).unwrap_or((clause, ""));
        let value = value.trim();
        if self.kind.read_option(&KindOption { name, value, clause })? {
            return Ok(());
        }
        match name {
            "starting" => limits.open.start = Some(moment(value, clause)?),
            "first" => limits.open.set_first(moment(value, clause)?)?,
            "immediately" => limits.open.set_first(Moment::NOW)?,
            "until" => limits.open.end = Some(moment(value, clause)?),
            "elapsed_end" => limits.elapsed_end = Some(filled_in(value, clause)?),
            "last" => limits.last = Some(filled_in(value, clause)?),
            times if value == "times" || value.starts_with("times since ") => {
                limits.times = Some(times.parse().map_err(|_| {
                    Error::invalid_trigger(format!(
                        "`{}` does not say how many times: write a number from 1 on",
                        one_line(clause)
                    ))
                })?);
                if let Some(since) = value.strip_prefix("times since ") {
                    limits.times_since = Some(filled_in(since, clause)?);
                }
            }
            "gap" | "fold" => {
                let Some(rules) = self.kind.zone_rules_mut() else {
                    return misplaced(&self.kind, "what goes by a wall clock");
                };
                match name {
                    "gap" => rules.gap = Some(GAPS.value(value, clause)?),
                    _ => rules.fold = Some(FOLDS.value(value, clause)?),
                }
            }
            "dom_and_dow" => return misplaced(&self.kind, "cron text"),
            "from" => return misplaced(&self.kind, "every so many days, weeks or months"),
            "seed" => return misplaced(&self.kind, "random periods"),
            _ => {
                return Err(Error::invalid_trigger(format!(
                    "`{}` is no clause: those are `starting`, `first`, `immediately`, `until`, `elapsed_end`, `last`, `5 times`, `only`, `except`, `between`, `days in`, `gap`, `fold`, `dom_and_dow`, `from` and `seed`",
                    one_line(clause)
                )));
            }
        }
        Ok(())
    }
}
