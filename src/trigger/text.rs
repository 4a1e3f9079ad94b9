//! Triggers as text that can be read back, in words, and as a list of fire times.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    And, Cron, CronFields, Date, Days, Follow, FollowOn, IntoTimeOfDay as _, Kind, Limits, Or,
    Trigger,
    cron::one_line,
    days::{DayFilter, Said},
    moment::{Moment, impossible_date},
    pasted, rfc3339,
    window::Window,
    words,
    zone::{Fold, Gap, InZone as _, ZoneRules},
};
use crate::{
    error::Error,
    zone::{IntoTimeZone as _, TimeZone},
};

/// The text of a trigger, which [`FromStr`] reads back: what it goes by, and after each `;` what
/// else was said of it.
///
/// | | text |
/// |---|---|
/// | follow | `after success of extract`, `after failure of …`, `after any run of …`, `after all of ["extract","load"]` |
/// | date | `at 2026-11-20T12:00:00Z`, or another [`Moment`], `after 10s`, `now` |
/// | interval | `every 10min` |
/// | random | `every 5 to 10min` |
/// | timetable | `every weekday at 9:00 (Europe/Berlin)` |
/// | cron text | `30 8 * * MON-FRI (Europe/Berlin)` |
/// | cron fields | `cron[day='3rd fri', hour='0-3'] (Europe/Berlin)` |
/// | calendar interval | `calendar[1 month, 2 days at 09:30:00] (Europe/Berlin)` |
/// | combination | `and[every 90s & 0 9 * * *]`, `or[@daily | every monday]`, maybe nested |
/// | then | `; starting MOMENT`, `; first MOMENT`, `; immediately`, `; until MOMENT`, `; elapsed_end INSTANT`, `; last INSTANT`, `; 5 times`, `; 5 times since INSTANT` |
/// | if it goes by a wall clock | `; gap next`, `; gap skip`, `; fold first`, `; fold last`, `; fold both` |
/// | cron text | `; dom_and_dow` |
/// | timetable, calendar interval | `; from DATE`, which its days, weeks or months count from |
/// | any | `; only Mon, Fri, 2026-12-24`, `; except 2026-12-25`, `; between 10:00 and 12:00`, `; days in ZONE`, whose dates and hours these are |
/// | random | `; seed NUMBER`, once a step of the clock has moved it |
///
/// A custom trigger has no text that could be read: it prints what its `Debug` does.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// The text of a trigger as a line about a job has it: where a grid starts is left out, and so are
/// all but a few of many dates.
pub(crate) struct Short<'a>(pub(crate) &'a Trigger);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, true)
    }
}

impl Trigger {
    fn write(&self, f: &mut fmt::Formatter<'_>, short: bool) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let mut rules = ZoneRules::default();
        match &self.kind {
            Kind::Interval(interval) if interval.immediate => f.write_str("; immediately")?,
            Kind::Random(random) => {
                if random.immediate {
                    f.write_str("; immediately")?;
                }
                if let Some(seed) = random.seed().filter(|_| !short) {
                    write!(f, "; seed {seed}")?;
                }
            }
            Kind::Cron(cron) => {
                rules = cron.rules;
                if cron.dom_and_dow {
                    f.write_str("; dom_and_dow")?;
                }
            }
            Kind::CronFields(fields) => rules = fields.rules,
            Kind::Timetable(timetable) => {
                rules = timetable.rules;
                if let Some(from) = timetable.counts_from() {
                    write!(f, "; from {from}")?;
                }
            }
            Kind::CalendarInterval(calendar) => {
                rules = calendar.rules;
                if let Some(from) = calendar.start_date() {
                    write!(f, "; from {from}")?;
                }
            }
            _ => {}
        }
        if let Some(gap) = rules.gap {
            write!(f, "; gap {}", GAPS.name(gap))?;
        }
        if let Some(fold) = rules.fold {
            write!(f, "; fold {}", FOLDS.name(fold))?;
        }
        let Limits { open, first, end, times, times_since, elapsed_end, last, days } =
            self.limits();
        // Where the grid of a job starts was filled in, or shows in its next fire time.
        let is_grid = matches!(self.kind, Kind::Interval(_) | Kind::Random(_));
        let start = self.start.filter(|_| !(short && is_grid));
        for (name, said, known) in [
            ("starting", open.start, start),
            ("first", open.first, *first),
            ("until", open.end, *end),
            (if short { "until" } else { "elapsed_end" }, None, *elapsed_end),
            // Alone it would read as the last run.
            (if short { "the last at" } else { "last" }, None, *last),
        ] {
            match (said, known) {
                (Some(Moment::NOW), _) if name == "first" => f.write_str("; immediately")?,
                (Some(said), _) => write!(f, "; {name} {said}")?,
                (None, Some(known)) => write!(f, "; {name} {}", rfc3339(known))?,
                (None, None) => {}
            }
        }
        if let Some(days) = days {
            for (name, days) in [("only", days.only()), ("except", days.except())] {
                match days {
                    Some(days) if short => write!(f, "; {name} {days}")?,
                    Some(days) => {
                        write!(f, "; {name} {}", days.words().collect::<Vec<_>>().join(", "))?;
                    }
                    None => {}
                }
            }
            if let Some(window) = days.between() {
                write!(f, "; between {window}")?;
            }
            if let Some(zone) = days.zone() {
                write!(f, "; days in {zone}")?;
            }
        }
        match (times, times_since) {
            // The last of them is there already.
            (Some(_), Some(_)) if short && last.is_some() => Ok(()),
            (Some(times), Some(since)) if !short => {
                write!(f, "; {times} times since {}", rfc3339(*since))
            }
            (Some(times), _) => write!(f, "; {times} times"),
            (None, _) => Ok(()),
        }
    }
}

/// What the trigger goes by, as [`Trigger`] prints it first.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Date(Date::At(instant)) => write!(f, "at {}", rfc3339(*instant)),
            Kind::Date(Date::AtWall(moment)) => write!(f, "at {moment}"),
            Kind::Date(Date::AfterMs(0)) => f.write_str("now"),
            Kind::Date(Date::AfterMs(delay)) => {
                let (n, unit) = in_units([*delay]);
                write!(f, "after {}{unit}", n[0])
            }
            Kind::Interval(interval) => {
                let (n, unit) = in_units([interval.period_ms().unsigned_abs()]);
                write!(f, "every {}{unit}", n[0])
            }
            Kind::Random(random) => {
                let bounds = [random.min_ms(), random.max_ms()].map(i64::unsigned_abs);
                let (n, unit) = in_units(bounds);
                write!(f, "every {} to {}{unit}", n[0], n[1])
            }
            Kind::Cron(cron) => write!(f, "{cron}"),
            Kind::CronFields(fields) => write!(f, "{fields}"),
            Kind::Timetable(timetable) => write!(f, "{timetable}"),
            Kind::CalendarInterval(calendar) => write!(f, "{calendar}"),
            Kind::And(and) => write!(f, "{and}"),
            Kind::Or(or) => write!(f, "{or}"),
            Kind::Follow(follow) => write!(f, "{follow}"),
            Kind::Custom(custom) => write!(f, "{custom:?}"),
        }
    }
}

/// So many milliseconds in the largest unit in which all are whole numbers.
pub(super) fn in_units<const N: usize>(millis: [u64; N]) -> ([u64; N], &'static str) {
    [(3_600_000, "h"), (60_000, "min"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis.iter().all(|millis| millis % unit == 0))
        .map_or((millis, "ms"), |(unit, name)| (millis.map(|millis| millis / unit), name))
}

/// Reads the text of a trigger: what its `Display` prints, cron text, with `CRON_TZ=` as well, and
/// [words](super::Words).
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
        let wrong = match text.starts_with("after all of ") || followed(text).is_some() {
            true => None,
            false if text.len() > LONGEST => Some(format!(
                "it is longer than {LONGEST} bytes: combine triggers by `and` and `or`"
            )),
            false => pasted::disguised(text),
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

/// The jobs that a trigger follows, if it does. All behind `of` are their ids, whatever they have in them.
fn followed(text: &str) -> Option<Result<Follow, Error>> {
    let text = text.strip_prefix("after ")?;
    if let Some(jobs) = text.strip_prefix("all of ") {
        return Some(Follow::read_all(jobs));
    }
    [FollowOn::Success, FollowOn::Failure, FollowOn::Any].into_iter().find_map(|on| {
        let job = text.strip_prefix(on.name())?.strip_prefix(" of ")?;
        Some(Follow::new([job.into()], on))
    })
}

/// Reads a trigger that is a member of so many combinations.
fn read(text: &str, depth: usize) -> Result<Trigger, Error> {
    if let Some(follow) = followed(text) {
        return Trigger::new(follow?.into(), Limits::default()).validated();
    }
    let mut clauses = split(text, ";").into_iter().map(str::trim);
    let kind = kind(clauses.next().unwrap_or_default(), depth)?;
    let mut trigger = Trigger::new(kind, Limits::default());
    let mut limits = Limits::default();
    let (mut said, mut day_zone) = (Said::default(), None);
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
            Some(("only", text)) => said.only(days(text)?),
            Some(("except", text)) => said.except(days(text)?),
            Some(("between", text)) => {
                let window = Window::read(text).ok_or_else(|| {
                    Error::invalid_trigger(format!(
                        "`{}` does not name hours: write, for example, `between 10:00 and 12:00`",
                        one_line(clause)
                    ))
                })?;
                said.between = Some(window);
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
        let has_days = said.only.is_some() || said.except.is_some() || said.between.is_some();
        let kind = trigger.kind.to_string();
        match trigger.kind.rules() {
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
    limits.days = DayFilter::new(said, day_zone)?;
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
    let mut build = super::calendar_interval();
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
    if let (Some(zone), Some(rules)) = (zone, kind.rules()) {
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
    text.parse().map_err(|error: Error| match text.trim().is_empty() {
        true => Error::invalid_trigger(format!(
            "`{}` lacks an instant: write, for example, `{} 2026-11-20T12:00:00Z`",
            one_line(whole),
            one_line(whole.trim())
        )),
        false => error,
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

impl Kind {
    /// What was said of its zone, if it goes by one.
    pub(super) fn rules(&mut self) -> Option<&mut ZoneRules> {
        match self {
            Kind::Cron(cron) => Some(cron.rules()),
            Kind::CronFields(fields) => Some(fields.rules()),
            Kind::Timetable(timetable) => Some(timetable.rules()),
            Kind::CalendarInterval(calendar) => Some(calendar.rules()),
            _ => None,
        }
    }
}

impl Trigger {
    fn read_clause(&mut self, clause: &str, limits: &mut Limits) -> Result<(), Error> {
        let misplaced = |kind: &Kind, what: &str| {
            Err(Error::invalid_trigger(format!(
                "`{}` does not go with `{kind}`: it is for {what}",
                one_line(clause)
            )))
        };
        let (name, value) = clause.split_once(char::is_whitespace).unwrap_or((clause, ""));
        let value = value.trim();
        match (name, &mut self.kind) {
            ("starting", _) => limits.open.start = Some(moment(value, clause)?),
            ("first", _) => limits.open.say_first(moment(value, clause)?)?,
            ("immediately", Kind::Random(random)) => random.immediate = true,
            ("immediately", _) => limits.open.say_first(Moment::NOW)?,
            ("until", _) => limits.open.end = Some(moment(value, clause)?),
            ("elapsed_end", _) => limits.elapsed_end = Some(filled_in(value, clause)?),
            ("last", _) => limits.last = Some(filled_in(value, clause)?),
            (times, _) if value == "times" || value.starts_with("times since ") => {
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
            ("dom_and_dow", Kind::Cron(cron)) => *cron = cron.clone().dom_and_dow(),
            ("dom_and_dow", kind) => return misplaced(kind, "cron text"),
            ("from", kind @ (Kind::Timetable(_) | Kind::CalendarInterval(_))) => {
                let date: NaiveDate = value.parse().map_err(|_| {
                    let fault = impossible_date(value)
                        .unwrap_or_else(|| "write, for example, `from 2026-11-20`".to_owned());
                    Error::invalid_trigger(format!(
                        "`{}` does not name a date: {fault}",
                        one_line(clause)
                    ))
                })?;
                match kind {
                    Kind::Timetable(timetable) => {
                        *timetable = timetable.clone().counted_from(date)?;
                    }
                    Kind::CalendarInterval(calendar) => {
                        *calendar = calendar.clone().starting_on(date)?;
                    }
                    _ => {}
                }
            }
            ("from", kind) => return misplaced(kind, "every so many days, weeks or months"),
            ("seed", Kind::Random(random)) => {
                let seed = value.parse().map_err(|_| {
                    Error::invalid_trigger(format!(
                        "`{}`: the seed is not a whole number",
                        one_line(clause)
                    ))
                })?;
                **random = random.with_seed(seed);
            }
            ("seed", kind) => return misplaced(kind, "random periods"),
            ("gap" | "fold", kind) => {
                let Some(rules) = kind.rules() else {
                    return misplaced(kind, "what goes by a wall clock");
                };
                match name {
                    "gap" => rules.gap = Some(GAPS.value(value, clause)?),
                    _ => rules.fold = Some(FOLDS.value(value, clause)?),
                }
            }
            _ => {
                return Err(Error::invalid_trigger(format!(
                    "`{}` is no clause: those are `starting`, `first`, `immediately`, `until`, `elapsed_end`, `last`, `5 times`, `only`, `except`, `between`, `days in`, `gap`, `fold`, `dom_and_dow`, `from` and `seed`",
                    one_line(clause)
                )));
            }
        }
        Ok(())
    }

    /// What the trigger says, in English.
    ///
    /// ```
    /// use punctual::trigger::{every, IntoTrigger, Trigger};
    ///
    /// let trigger = every(2).weeks().on("monday").at("10:30").in_tz("Europe/Berlin").times(5);
    /// assert_eq!(
    ///     trigger.into_trigger()?.describe(),
    ///     "Every 2 weeks on monday at 10:30, in Europe/Berlin, 5 times",
    /// );
    /// let trigger: Trigger = "30 8 * * SAT,SUN".parse()?;
    /// assert_eq!(trigger.describe(), "At 08:30, on Sunday and Saturday");
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn describe(&self) -> String {
        let in_zone = |words: String, zone: Option<TimeZone>| match zone {
            Some(zone) => format!("{words}, in {zone}"),
            None => words,
        };
        let mut text = match &self.kind {
            Kind::Date(Date::At(instant)) => format!("Once, at {}", rfc3339(*instant)),
            Kind::Date(Date::AtWall(moment)) => format!("Once, at {moment}"),
            Kind::Date(Date::AfterMs(0)) => "Once, when it is added".to_owned(),
            Kind::Date(Date::AfterMs(delay)) => {
                format!("Once, {} after it is added", duration([*delay]))
            }
            Kind::Interval(interval) => {
                format!("Every {}", duration([interval.period_ms().unsigned_abs()]))
            }
            Kind::Random(random) => {
                let bounds = [random.min_ms(), random.max_ms()].map(i64::unsigned_abs);
                format!("Every {}, at random", duration(bounds))
            }
            Kind::Cron(cron) => cron.describe(),
            Kind::CronFields(fields) => in_zone(fields.describe(), fields.zone()),
            Kind::Timetable(timetable) => {
                in_zone(timetable.words().replacen('e', "E", 1), timetable.zone())
            }
            Kind::CalendarInterval(calendar) => {
                in_zone(format!("Every {}", calendar.words()), calendar.zone())
            }
            Kind::And(and) => {
                let all: Vec<String> = and.triggers().map(Trigger::describe).collect();
                format!("When all of these agree: {}", all.join("; "))
            }
            Kind::Or(or) => {
                let any: Vec<String> = or.triggers().map(Trigger::describe).collect();
                format!("At any of these: {}", any.join("; "))
            }
            Kind::Follow(follow) => {
                let jobs: Vec<String> =
                    follow.jobs().iter().map(|job| one_line(&job.to_string())).collect();
                let all = if jobs.len() > 1 { "all of " } else { "" };
                format!("After {} of {all}{}", follow.on().name(), jobs.join(", "))
            }
            Kind::Custom(custom) => format!("As {custom:?} says"),
        };
        if let Some(days) = self.days() {
            text += &days.to_string();
        }
        let immediate = match &self.kind {
            Kind::Interval(interval) => interval.immediate,
            Kind::Random(random) => random.immediate,
            _ => false,
        };
        let Limits { open, first, .. } = self.limits();
        match (open.first.filter(|&first| first != Moment::NOW), first) {
            (Some(first), _) => text += &format!(", first at {first}"),
            (None, Some(first)) => text += &format!(", first at {}", rfc3339(*first)),
            (None, None) if immediate || open.first.is_some() => {
                text += ", from when it is added";
            }
            (None, None) => {}
        }
        for (word, said, known) in
            [("from", open.start, self.start), ("until", open.end, self.end())]
        {
            match (said, known) {
                (Some(said), _) => text += &format!(", {word} {said}"),
                (None, Some(known)) => text += &format!(", {word} {}", rfc3339(known)),
                (None, None) => {}
            }
        }
        if let Some(times) = self.limits().times {
            text += &format!(", {times} times");
        }
        text
    }

    /// The next `n` fire times from now on; see [`upcoming_after`](Trigger::upcoming_after).
    ///
    /// ```
    /// use punctual::trigger::{cron, IntoTrigger};
    ///
    /// for fire in cron("0 9 * * MON-FRI").in_tz("Europe/Berlin").into_trigger()?.upcoming(3) {
    ///     println!("{}", fire?);
    /// }
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn upcoming(&self, n: usize) -> std::iter::Take<Upcoming> {
        self.upcoming_after(Utc::now()).take(n)
    }

    /// The fire times strictly later than `t`, in order.
    ///
    /// A trigger that has not been [anchored](Trigger::anchored) is taken as if it were added at
    /// `t`, and goes by UTC if it names no zone. The iterator ends after the last fire time, and
    /// after an error, which is its last item; many a trigger has no last fire time.
    pub fn upcoming_after(&self, t: DateTime<Utc>) -> Upcoming {
        Upcoming { trigger: Some(self.anchored(t, TimeZone::UTC)), after: t }
    }
}

/// The fire times of a trigger; made by [`Trigger::upcoming`] and [`Trigger::upcoming_after`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Upcoming {
    /// Until the end, or an error that is still to be said.
    trigger: Option<Result<Trigger, Error>>,
    after: DateTime<Utc>,
}

impl Iterator for Upcoming {
    type Item = Result<DateTime<Utc>, Error>;

    fn next(&mut self) -> Option<Result<DateTime<Utc>, Error>> {
        let trigger = self.trigger.take()?;
        match trigger.and_then(|trigger| Ok((trigger.next_after(self.after)?, trigger))) {
            Ok((None, _)) => None,
            Ok((Some(next), trigger)) => {
                (self.after, self.trigger) = (next, Some(Ok(trigger)));
                Some(Ok(next))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Upcoming {}

/// One or several durations of the same unit, in words.
pub(super) fn duration<const N: usize>(millis: [u64; N]) -> String {
    let (numbers, unit) = in_units(millis);
    let unit = match unit {
        "h" => "hour",
        "min" => "minute",
        "s" => "second",
        _ => "millisecond",
    };
    let plural = if numbers.iter().all(|&n| n == 1) { "" } else { "s" };
    let numbers = numbers.map(|n| n.to_string()).join(" to ");
    format!("{numbers} {unit}{plural}")
}

/// The words for the values of an option.
struct Names<T: 'static>(&'static [(T, &'static str)]);

const GAPS: Names<Gap> = Names(&[(Gap::Next, "next"), (Gap::Skip, "skip")]);
const FOLDS: Names<Fold> =
    Names(&[(Fold::First, "first"), (Fold::Last, "last"), (Fold::Both, "both")]);

impl<T: Copy + PartialEq> Names<T> {
    fn name(&self, value: T) -> &'static str {
        self.0.iter().find(|(known, _)| *known == value).map_or("", |(_, name)| name)
    }

    fn value(&self, name: &str, clause: &str) -> Result<T, Error> {
        let known = self.0.iter().find(|(_, known)| *known == name);
        known.map(|(value, _)| *value).ok_or_else(|| {
            let names: Vec<String> = self.0.iter().map(|(_, name)| format!("`{name}`")).collect();
            Error::invalid_trigger(format!(
                "`{}`: `{}` is none of {}",
                one_line(clause),
                one_line(name),
                names.join(", ")
            ))
        })
    }
}
