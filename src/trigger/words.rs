//! Triggers in words, and builders that read like them.

use std::fmt;

use chrono::{Timelike as _, Weekday};

pub(super) use super::cron::one_line;
use super::{
    Build, Cron, Every, Interval, Kind, Random, pasted, time_of_day,
    timetable::{DaysOfMonth, On, Timetable, bit},
    zone::{InZone, ZoneRules},
};
use crate::{
    error::Error,
    zone::{IntoTimeZone as _, TimeZone, edit_distance, is_like_a_zone},
};

/// What was said of a trigger after `every`, in words or by methods.
///
/// ```
/// use chrono::Weekday::Mon;
/// use punctual::trigger::{every, IntoTrigger};
///
/// let words = every("monday at 10:30 Europe/Berlin").into_trigger()?;
/// let typed = every(1).week().on(Mon).at("10:30").in_tz("Europe/Berlin").into_trigger()?;
/// assert_eq!(words, typed);
/// # Ok::<(), punctual::Error>(())
/// ```
///
/// # Words
///
/// | words | by methods | fires |
/// |---|---|---|
/// | `every 10 minutes` | `every(10).minutes()` | every 10 minutes of elapsed time |
/// | `every 1h30m`, `every 1 hour 30 minutes`, `every 1.5 hours` | `every(90).minutes()` | every 90 minutes of elapsed time |
/// | `every 5 to 10 minutes` | `every(5).to(10).minutes()` | at [random](super::Random) distances |
/// | `every minute at :17` | `every(1).minute().at(":17")` | at second 17 of every minute |
/// | `every hour at :15`, `hourly at :15` | `every(1).hour().at(":15")` | at minute 15 of every hour |
/// | `every day at 9:00, 17:30`, `daily at 9:00, 17:30` | `every(1).day().at("9:00").at("17:30")` | twice a day |
/// | `every monday at 10:30`, `monday at 10:30` | `every(1).week().on(Mon).at("10:30")` | on Mondays |
/// | `every other monday at 10:30`, `every 2 weeks on monday at 10:30` | `every(2).weeks().on(Mon).at("10:30")` | on every second Monday |
/// | `every weekday at 9am Europe/Berlin` | `every(1).week().on("weekday").at("9am").in_tz("Europe/Berlin")` | from Monday to Friday |
/// | `every month on the 1st at 7:00` | `every(1).month().on("the 1st").at("7:00")` | on the 1st |
/// | `every last friday at 16:00` | `every(1).month().on("last friday").at("16:00")` | on the last Friday of each month |
///
/// The grammar, read in any case. `every` itself may be left out, but a text in place of a trigger
/// needs it before a period, which may as well be a delay:
///
/// ```text
/// words    = [ "every" ] ( elapsed | ( parts | days [ "at" times ] ) [ [ "in" ] zone ] )
/// elapsed  = [ count ] unit
///          | number "to" number unit
///          | number unit { [ "," ] [ "and" ] number unit }          (the larger unit first)
/// unit     = millisecond | second | minute | hour | day | week      (or ms, s, min, h, d, w)
/// parts    = "minute" "at" ":17"                                    (a list)
///          | ( "hour" | "hourly" ) "at" ( ":15" | ":15:30" )        (a list)
/// days     = ( [ count ] "day" | "daily" )                          (with "at")
///          | [ count ] weekdays
///          | ( [ count ] "week" | "weekly" ) "on" weekdays
///          | ( [ count ] "month" | "monthly" ) "on" monthdays
///          | monthdays
/// count    = number | "other", which is 2
/// number   = "10" | "1.5", a whole number of milliseconds           (with a unit; else whole)
/// weekdays = "monday" … "sunday", "mon" … "sun", "weekday", "weekend"  (a list)
/// monthdays = [ "the" ] ( nth | "last" "day" | nth weekdays ) [ "of the month" ]  (a list)
/// nth      = "1st" … "31st" | "first" … "fifth" | "last"
/// times    = "9:00" | "9:00:30" | "9am" | "9:30 pm" | "noon" | "midnight"  (a list)
/// zone     = an IANA name
/// ```
///
/// Units and weekdays may be in the plural. The items of a list are divided by `,` or `and`.
///
/// # What it means
///
/// A unit alone is elapsed time, `every 2 days` too: 48 hours, whatever the clock does, and first
/// after one period. With days or a time it goes by the wall clock of a zone, as a
/// [`Timetable`](super::Timetable); the time is midnight if none is said. A number of days, weeks
/// or months counts from the first fire, which is the first day that fits. Parts of an hour or a
/// minute are a [`Cron`](super::Cron): `every hour at :15` is `15 * * * *`, and prints so.
///
/// `hourly`, `daily` and `weekly` alone are errors: some mean a period of elapsed time, and others
/// the start of each hour, day or week, as `@hourly`, `@daily` and `@weekly` do in cron text.
///
/// # Errors
///
/// They name the word and the remedy:
///
/// ```
/// use punctual::trigger::{every, IntoTrigger};
///
/// let error = every("mondy at 10:30").into_trigger().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid words `mondy at 10:30`: `mondy` is not a unit or a day: did you mean `monday`?",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    count: u64,
    /// The upper bound of a random period.
    to: Option<u64>,
    unit: Unit,
    on: Option<On>,
    times: Vec<Time>,
    rules: ZoneRules,
    /// Whether it was `daily` or the like, which means two things unless days or times follow.
    adverb: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Time {
    /// Seconds since midnight.
    OfDay(u32),
    /// `:15` and `:15:30`: a second of each minute, or a minute of each hour and its second.
    Part(u32, Option<u32>),
}

/// From the shortest to the longest.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Unit {
    const NAMES: [(Unit, &'static str, &'static [&'static str]); 7] = [
        (Unit::Millisecond, "millisecond", &["ms", "milli", "millis"]),
        (Unit::Second, "second", &["s", "sec", "secs"]),
        (Unit::Minute, "minute", &["m", "min", "mins"]),
        (Unit::Hour, "hour", &["h", "hr", "hrs"]),
        (Unit::Day, "day", &["d"]),
        (Unit::Week, "week", &["w"]),
        (Unit::Month, "month", &[]),
    ];

    fn named(word: &str) -> Option<Unit> {
        let singular = word.strip_suffix('s').unwrap_or(word);
        Unit::NAMES
            .iter()
            .find(|(_, name, short)| *name == singular || short.contains(&word))
            .map(|&(unit, ..)| unit)
    }

    fn name(self) -> &'static str {
        Unit::NAMES[self as usize].1
    }

    /// The unit that an adverb such as `daily` is made of.
    fn of_adverb(word: &str) -> Option<Unit> {
        Some(match word {
            "hourly" => Unit::Hour,
            "daily" => Unit::Day,
            "weekly" => Unit::Week,
            "monthly" => Unit::Month,
            _ => return None,
        })
    }

    /// How long it lasts, unless that depends.
    fn nanos(self) -> Option<i128> {
        const SECOND: i128 = 1_000_000_000;
        Some(match self {
            Unit::Millisecond => SECOND / 1000,
            Unit::Second => SECOND,
            Unit::Minute => 60 * SECOND,
            Unit::Hour => 3600 * SECOND,
            Unit::Day => 86_400 * SECOND,
            Unit::Week => 7 * 86_400 * SECOND,
            Unit::Month => return None,
        })
    }
}

pub(super) const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const WEEK_AND_MONTH: &str =
    "it lists days of the week and days of the month: make two triggers of them";
pub(super) const WEEKDAY: u8 = 0b001_1111;
pub(super) const WEEKEND: u8 = 0b110_0000;

/// A number that waits for its unit, as in `every(10).minutes()`; made by [`every`](super::every).
#[derive(Clone, Copy, Debug)]
#[must_use = "a number is no trigger before it has a unit, as in `every(10).minutes()`"]
pub struct Count {
    count: u64,
    to: Option<u64>,
    /// A second upper bound, which is an error once there is a unit.
    again: Option<u64>,
}

macro_rules! units {
    ($($unit:ident $singular:ident $plural:ident $doc:literal;)*) => {
        impl Count {
            $(
                #[doc = $doc]
                pub fn $plural(self) -> Build<Words> {
                    self.of(Unit::$unit)
                }

                #[doc = concat!("The same as [`", stringify!($plural), "`](Count::", stringify!($plural), ").")]
                pub fn $singular(self) -> Build<Words> {
                    self.of(Unit::$unit)
                }
            )*
        }
    };
}

units! {
    Millisecond millisecond milliseconds "So many milliseconds of elapsed time.";
    Second second seconds "So many seconds of elapsed time.";
    Minute minute minutes "So many minutes of elapsed time.";
    Hour hour hours "So many hours of elapsed time.";
    Day day days "So many times 24 hours of elapsed time, or so many dates if [`at`](Build::at) follows.";
    Week week weeks "So many times 168 hours of elapsed time, or so many weeks from Monday on if [`on`](Build::on) follows.";
    Month month months "So many months; [`on`](Build::on) must follow.";
}

impl Count {
    /// At random distances, from so many units to this many; see [`Random`](super::Random).
    ///
    /// ```
    /// use chrono::{DateTime, TimeDelta, Utc};
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
    /// let trigger = every(5).to(10).minutes().starting_at(start).into_trigger()?;
    /// let first = trigger.next_after(start)?.unwrap();
    /// let second = trigger.next_after(first)?.unwrap();
    /// assert!((5..=10).contains(&(second - first).num_minutes()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to(self, most: u64) -> Count {
        match self.to {
            Some(before) if before != most => Count { again: Some(most), ..self },
            _ => Count { to: Some(most), ..self },
        }
    }

    fn of(self, unit: Unit) -> Build<Words> {
        let Count { count, to, again } = self;
        Build::new(match (to, again) {
            (Some(to), Some(again)) => Err(Error::invalid_trigger(format!(
                "a random period ends with {to} and again with {again}: leave one of them out"
            ))),
            _ => Ok(Words { to, ..Words::new(count, unit, None) }),
        })
    }
}

impl Every for u64 {
    type Output = Count;

    fn every(self) -> Count {
        Count { count: self, to: None, again: None }
    }
}

impl Every for &str {
    type Output = Build<Words>;

    fn every(self) -> Build<Words> {
        Build::new(parse(self))
    }
}

impl Every for String {
    type Output = Build<Words>;

    fn every(self) -> Build<Words> {
        self.as_str().every()
    }
}

/// What [`Build::on`] takes: a [`chrono::Weekday`], several of them, or words such as
/// `"monday, friday"`, `"weekday"`, `"the 1st and 15th"`, `"last day"` and `"last friday"`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say on which days",
    note = "use a `chrono::Weekday`, an array of them, or words such as \"the 1st\" and \"last friday\""
)]
pub trait OnDays {
    /// The days, as words.
    #[doc(hidden)]
    fn on_days(self) -> String;
}

impl OnDays for Weekday {
    fn on_days(self) -> String {
        [self].on_days()
    }
}

impl<const N: usize> OnDays for [Weekday; N] {
    fn on_days(self) -> String {
        self.as_slice().on_days()
    }
}

impl OnDays for Vec<Weekday> {
    fn on_days(self) -> String {
        self.as_slice().on_days()
    }
}

impl OnDays for &[Weekday] {
    fn on_days(self) -> String {
        let names = self.iter().map(|day| WEEKDAYS[day.num_days_from_monday() as usize]);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl OnDays for &str {
    fn on_days(self) -> String {
        self.to_owned()
    }
}

impl Build<Words> {
    /// On these days of the week, or of the month; see [`OnDays`]. Asked twice, on all of them.
    ///
    /// ```
    /// use chrono::Weekday::{Mon, Thu};
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// assert!(every(2).weeks().on([Mon, Thu]).at("10:30").into_trigger().is_ok());
    /// assert!(every(1).month().on("the 1st and 15th").at("7:00").into_trigger().is_ok());
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn on(self, days: impl OnDays) -> Build<Words> {
        let text = days.on_days();
        self.map(|words| {
            let days = Reader::all(&text, |reader| reader.days())?;
            Ok(Words { on: Some(words.on.map_or(Ok(days), |on| on.and(days))?), ..words })
        })
    }

    /// At these times of the day: `"10:30"`, `"9am"` or `"9:00, 17:30"`. Default: midnight. An hour
    /// is given its minutes, as in `":15"`, and a minute its seconds. Asked twice, at all of them.
    ///
    /// ```
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// let twice = every(1).day().at("10:30").at("17:00").into_trigger()?;
    /// assert_eq!(twice, every("day at 10:30, 17:00").into_trigger()?);
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn at(self, times: impl AsRef<str>) -> Build<Words> {
        self.map(|mut words| {
            words.times.extend(Reader::all(times.as_ref(), |reader| reader.times())?);
            Ok(words)
        })
    }
}

impl InZone for Words {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

impl Words {
    fn new(count: u64, unit: Unit, on: Option<On>) -> Words {
        let rules = ZoneRules::default();
        let times = Vec::new();
        Words { count, to: None, unit, on, times, rules, adverb: false }
    }

    /// What was said so far, for an error.
    fn so_far(&self) -> String {
        let plural = if self.count == 1 && self.to.is_none() { "" } else { "s" };
        match self.to {
            Some(to) => format!("every {} to {to} {}{plural}", self.count, self.unit.name()),
            None => format!("every {} {}{plural}", self.count, self.unit.name()),
        }
    }

    /// Whether it says how often and nothing else.
    fn is_period(&self) -> bool {
        self.on.is_none() && self.times.is_empty() && !self.adverb
    }

    /// So many units, or at random up to `to` of them: of a shorter unit, if only of that these are
    /// whole numbers.
    fn elapsing(count: Decimal, to: Option<Decimal>, unit: Unit) -> Result<Words, String> {
        if let (Some(count), Some(to)) =
            (count.whole(), to.map_or(Some(None), |to| to.whole().map(Some)))
        {
            return Ok(Words { to, ..Words::new(count, unit, None) });
        }
        let fraction = to.filter(|_| count.whole().is_some()).unwrap_or(count);
        let Some(length) = unit.nanos() else {
            return Err(format!(
                "{fraction} is not a whole number of {}s, which have no fixed length: write a number of weeks or days",
                unit.name()
            ));
        };
        Unit::NAMES
            .iter()
            .rev()
            .filter(|&&(shorter, ..)| shorter < unit)
            .find_map(|&(shorter, ..)| {
                let units = |count: Decimal| count.times(length, shorter.nanos()?);
                let to = to.map_or(Some(None), |to| units(to).map(Some))?;
                Some(Words { to, ..Words::new(units(count)?, shorter, None) })
            })
            .ok_or_else(|| {
                let millis = fraction.rounded_millis(length);
                format!(
                    "{fraction} {}s are not a whole number of milliseconds: write, for example, `{millis}ms`",
                    unit.name()
                )
            })
    }

    /// With so much of a shorter unit.
    fn and(self, more: Words) -> Result<Words, String> {
        let (Some(this), Some(other)) = (self.unit.nanos(), more.unit.nanos()) else {
            return Err("a month has no fixed length: use `calendar_interval`".into());
        };
        let (unit, length) = if other < this { (more.unit, other) } else { (self.unit, this) };
        let units =
            |words: &Words, of: i128| words.count.checked_mul(u64::try_from(of / length).ok()?);
        let count = units(&self, this)
            .zip(units(&more, other))
            .and_then(|(this, more)| this.checked_add(more))
            .ok_or_else(|| format!("{} {}s is too long a period", self.count, self.unit.name()))?;
        Ok(Words { count, unit, ..self })
    }

    fn elapsed(self) -> Result<Kind, Error> {
        let so_far = self.so_far();
        let other = match self.unit {
            _ if !self.adverb => None,
            Unit::Hour => {
                Some(["hourly", "60 minutes", "`hourly at :00` for the start of each hour"])
            }
            Unit::Day => Some(["daily", "24 hours", "`daily at 0:00` for each midnight"]),
            Unit::Week => {
                Some(["weekly", "168 hours", "`weekly on monday` for a day of each week"])
            }
            _ => None,
        };
        if let Some([adverb, length, clock]) = other {
            return Err(Error::invalid_trigger(format!(
                "`{adverb}` alone has two meanings: write `{so_far}` for {length} of elapsed time, or {clock}"
            )));
        }
        let Some(unit) = self.unit.nanos() else {
            return Err(Error::invalid_trigger(format!(
                "`{so_far}` does not say on which day: add one, as in `on the 1st` or `on the last friday`"
            )));
        };
        if self.rules != ZoneRules::default() {
            return Err(Error::invalid_trigger(format!(
                "`{so_far}` is elapsed time, which is the same in every zone: leave zone, gap and fold out, or say at which time of day"
            )));
        }
        let period = |count: u64| Interval::new(i128::from(count).checked_mul(unit));
        let interval = period(self.count)?;
        Ok(match self.to {
            Some(to) => Random::new(interval, period(to)?)?.into(),
            None => interval.into(),
        })
    }

    /// Parts of each hour or of each minute.
    fn parts(self) -> Result<Kind, Error> {
        let so_far = self.so_far();
        let refused = |reason: &str| Err(Error::invalid_trigger(format!("`{so_far}` {reason}")));
        if self.to.is_some() {
            return refused("goes by the clock, so it is not random");
        }
        let mut parts = Vec::new();
        for &time in &self.times {
            match (self.unit, time) {
                _ if self.on.is_some() => {
                    return refused("is on certain days: give it times of day, as in `9:15`");
                }
                (_, Time::OfDay(_)) => {
                    return refused(
                        "has both times of day and parts of an hour: make two triggers of them",
                    );
                }
                (Unit::Hour, Time::Part(minute, second)) => {
                    parts.push([minute, second.unwrap_or(0)])
                }
                (Unit::Minute, Time::Part(second, None)) => parts.push([0, second]),
                (Unit::Minute, Time::Part(..)) => {
                    return refused("has a second, as in `:17`, and no minute");
                }
                _ => {
                    return refused(
                        "has no part such as `:15`: write a time of day, as in `9:15`, or `every hour at :15`",
                    );
                }
            }
        }
        parts.sort_unstable();
        parts.dedup();
        let [mut minutes, mut seconds] =
            [0, 1].map(|part| parts.iter().map(|at| at[part]).collect::<Vec<_>>());
        for values in [&mut minutes, &mut seconds] {
            values.sort_unstable();
            values.dedup();
        }
        if minutes.len() * seconds.len() != parts.len() {
            return refused(
                "has minutes whose seconds differ: make a trigger of each, and `or` of them",
            );
        }
        let list = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let step = if self.count == 1 { String::new() } else { format!("/{}", self.count) };
        let (text, most) = match (self.unit, &*seconds) {
            (Unit::Minute, _) => (format!("{} *{step} * * * *", list(&seconds)), 60),
            (_, [0]) => (format!("{} *{step} * * *", list(&minutes)), 24),
            _ => (format!("{} {} *{step} * * *", list(&seconds), list(&minutes)), 24),
        };
        match self.count {
            1 => {}
            count if count > 0 && count < most && most % count == 0 => {
                return refused(&format!(
                    "counts from when a job is added, and not on the clock: use the cron text `{text}`"
                ));
            }
            _ => {
                return refused(
                    "counts from when a job is added, and not on the clock: leave the part out, or use `cron`",
                );
            }
        }
        let mut cron = Cron::parse(&text)?;
        *cron.rules() = self.rules;
        Ok(cron.into())
    }

    fn timetable(self) -> Result<Kind, Error> {
        let so_far = self.so_far();
        let refused = |reason: &str| Err(Error::invalid_trigger(format!("`{so_far}` {reason}")));
        if self.to.is_some() {
            return refused("is a random period, which has neither days nor times: leave them out");
        }
        let days = match (self.unit, self.on) {
            (Unit::Day, None) => On::EveryDay,
            (Unit::Week, Some(on @ On::Week(_))) | (Unit::Month, Some(on @ On::Month(_))) => on,
            (Unit::Week, None) => {
                return refused(
                    "does not say on which day of the week: add one, as in `on monday`",
                );
            }
            (Unit::Month, None) => {
                return refused(
                    "does not say on which day: add one, as in `on the 1st` or `on the last friday`",
                );
            }
            (Unit::Week, Some(_)) => {
                return refused("is of weeks, and the days are of a month: use `month`");
            }
            (Unit::Month, Some(_)) => {
                return refused(
                    "does not say which one of the month: write, for example, `on the first monday`",
                );
            }
            (Unit::Day, Some(_)) => {
                return refused("is of days, and cannot choose among them: use `week` or `month`");
            }
            _ => {
                return refused(
                    "is elapsed time, which has neither days nor times of day: use `day`, `week` or `month`, or `cron`",
                );
            }
        };
        let of_day = |time| match time {
            Time::OfDay(second) => Some(second),
            Time::Part(..) => None,
        };
        let mut times: Vec<u32> = self.times.into_iter().filter_map(of_day).collect();
        if times.is_empty() {
            times.push(0);
        }
        Timetable::new(self.count, days, times, self.rules).map(Kind::from)
    }
}

impl On {
    /// On the days of either.
    fn and(self, other: On) -> Result<On, Error> {
        match (self, other) {
            (On::Week(a), On::Week(b)) => Ok(On::Week(a | b)),
            (On::Month(mut a), On::Month(b)) => {
                a.dates |= b.dates;
                a.nth.iter_mut().zip(b.nth).for_each(|(a, b)| *a |= b);
                Ok(On::Month(a))
            }
            _ => Err(Error::invalid_trigger(format!("invalid words: {WEEK_AND_MONTH}"))),
        }
    }
}

impl TryFrom<Words> for Kind {
    type Error = Error;

    fn try_from(words: Words) -> Result<Kind, Error> {
        if words.times.iter().any(|time| matches!(time, Time::Part(..))) {
            words.parts()
        } else if words.on.is_none() && words.times.is_empty() {
            words.elapsed()
        } else {
            words.timetable()
        }
    }
}

/// Whether a text that stands for a trigger is meant as words: cron text begins with no letter, and
/// with no number such as `1st`.
pub(super) fn is_words(text: &str) -> bool {
    let first = text.split(|c: char| c == ',' || c.is_whitespace()).next().unwrap_or_default();
    let is_word = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_alphabetic());
    (is_word || date_named(&first.to_ascii_lowercase()).is_some()) && !text.contains('*')
}

/// Reads words that stand for a trigger by themselves.
pub(super) fn parse_alone(text: &str) -> Result<Words, Error> {
    let words = parse(text)?;
    let has_every = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("every"));
    match words.is_period() && !has_every {
        true => Err(bare_period(text)),
        false => Ok(words),
    }
}

/// Whether a text is a period, as `10 minutes` is, which lacks `every` to be a trigger.
pub(super) fn is_bare_period(text: &str) -> bool {
    parse(text).is_ok_and(|words| words.is_period())
}

pub(super) fn bare_period(text: &str) -> Error {
    let text = one_line(text);
    Error::invalid_trigger(format!(
        "`{text}` may be a period or a delay: write `every {text}`, or `after {text}` for once"
    ))
}

/// Reads words, of which the first may be `every`.
pub(super) fn parse(text: &str) -> Result<Words, Error> {
    Reader::all(text, Reader::words).map_err(|error| clause_behind(text).unwrap_or(error))
}

/// A number of units as it is written, with decimals or without: 15 and one decimal is 1.5.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u64,
    decimals: u32,
}

impl From<u64> for Decimal {
    fn from(digits: u64) -> Decimal {
        Decimal { digits, decimals: 0 }
    }
}

impl Decimal {
    /// Reads digits with or without a point.
    fn read(text: &str) -> Result<Decimal, String> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let decimals = decimals.trim_end_matches('0');
        let too_large = |what| format!("{} {what}", one_line(text));
        let digits = format!("{whole}{decimals}").parse().map_err(|_| match decimals {
            "" => too_large("is too large a number"),
            _ => too_large("has too many digits: write fewer decimals, or use a smaller unit"),
        })?;
        // There are fewer decimals than digits of the largest number, unless they begin with zeros.
        let decimals =
            u32::try_from(decimals.len()).ok().filter(|&decimals| decimals <= 18).ok_or_else(
                || too_large("has too many digits: write fewer decimals, or use a smaller unit"),
            )?;
        Ok(Decimal { digits, decimals })
    }

    fn whole(self) -> Option<u64> {
        (self.decimals == 0).then_some(self.digits)
    }

    /// How many units of the length `unit` are in this number of units of the length `length`, if
    /// that is a whole number.
    fn times(self, length: i128, unit: i128) -> Option<u64> {
        let (total, parts) = (i128::from(self.digits).checked_mul(length)?, self.scale() * unit);
        (total % parts == 0).then(|| u64::try_from(total / parts).ok())?
    }

    /// The nearest number of milliseconds, at least one, if the unit lasts so many nanoseconds.
    fn rounded_millis(self, nanos: i128) -> i128 {
        let parts = self.scale() * 1_000_000;
        ((i128::from(self.digits) * nanos + parts / 2) / parts).max(1)
    }

    fn scale(self) -> i128 {
        10_i128.pow(self.decimals)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u64.pow(self.decimals);
        write!(f, "{}", self.digits / scale)?;
        match self.decimals {
            0 => Ok(()),
            decimals => write!(f, ".{:0width$}", self.digits % scale, width = decimals as usize),
        }
    }
}

/// How many bytes of a word are the number that it begins with: digits, and decimals behind a point.
fn number_at_start(word: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(word);
    match word[whole..].strip_prefix('.').map(digits) {
        Some(decimals @ 1..) => whole + 1 + decimals,
        _ => whole,
    }
}

/// Words, commas and how many of them are read. Every method takes what it understands, and never
/// goes back.
struct Reader<'a> {
    tokens: Vec<&'a str>,
    read: usize,
}

impl<'a> Reader<'a> {
    /// Reads a text with nothing left over.
    fn all<T>(
        text: &'a str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, String>,
    ) -> Result<T, Error> {
        let invalid = |reason| {
            Error::invalid_trigger(format!("invalid words `{}`: {reason}", one_line(text)))
        };
        // A list of all the minutes of a day has 10,000.
        const LONGEST: usize = 65_536;
        if text.len() > LONGEST {
            return Err(invalid(format!("they are longer than {LONGEST} bytes: say fewer")));
        }
        if let Some(reason) = pasted::disguised(text) {
            return Err(invalid(reason));
        }
        let tokens = text
            .split_whitespace()
            .flat_map(|word| word.split_inclusive(','))
            .flat_map(|word| match word.strip_suffix(',') {
                Some(word) => [word, ","],
                None => [word, ""],
            })
            .filter(|token| !token.is_empty())
            .collect();
        let mut reader = Reader { tokens, read: 0 };
        read(&mut reader)
            .and_then(|it| match reader.tokens.get(reader.read) {
                Some(token) => Err(reader.left_over(token)),
                None => Ok(it),
            })
            .map_err(invalid)
    }

    /// The `n`-th next word, in lower case.
    fn peek(&self, n: usize) -> Option<String> {
        self.tokens.get(self.read + n).map(|token| token.to_ascii_lowercase())
    }

    fn skip(&mut self, word: &str) -> bool {
        let skipped = self.peek(0).is_some_and(|next| next == word);
        self.read += usize::from(skipped);
        skipped
    }

    /// Goes past what divides the items of a list, if another item follows.
    fn another(&mut self) -> bool {
        let comma = self.skip(",");
        self.skip("and") || comma
    }

    fn words(&mut self) -> Result<Words, String> {
        self.skip("every");
        let mut words = self.period()?;
        if self.skip("on") {
            words.on = Some(self.days()?);
        }
        if self.skip("at") {
            words.times = self.times()?;
        }
        if self.read < self.tokens.len() {
            words.rules.zone = Some(self.zone()?);
        }
        Ok(words)
    }

    fn period(&mut self) -> Result<Words, String> {
        let Some(word) = self.peek(0) else {
            return Err("it does not say how often: write, for example, `every 10 minutes`".into());
        };
        // The days of a month can stand for themselves.
        if word == "the" || self.nth()?.is_some() {
            return Ok(Words::new(1, Unit::Month, Some(self.days()?)));
        }
        if let Some(unit) = Unit::of_adverb(&word) {
            self.read += 1;
            return Ok(Words { adverb: true, ..Words::new(1, unit, None) });
        }
        if matches!(word.as_str(), "yearly" | "annually") {
            return Err(format!(
                "`{word}` does not say on which day: use the cron text `@yearly` for the 1st of January, or one such as `0 9 24 12 *`"
            ));
        }
        let is_number = number_at_start(&word) > 0;
        let (count, to) = self.count()?;
        let Some(word) = self.peek(0) else {
            return Err(format!("{count} of what? add a unit, as in `every {count} minutes`"));
        };
        if let Some(mut unit) = Unit::named(&word) {
            self.read += 1;
            let mut words = Words::elapsing(count, to, unit)?;
            while is_number && to.is_none() && self.skip_to_unit() {
                let Some(count) = self.number()? else { break };
                let shorter =
                    self.peek(0).and_then(|word| Unit::named(&word)).ok_or_else(|| {
                        format!("{count} of what? add a unit, as in `1 hour {count} minutes`")
                    })?;
                if shorter >= unit && shorter != Unit::Month {
                    return Err(format!(
                        "`{}` comes after `{}`: write the larger unit first, as in `1 hour 30 minutes`",
                        shorter.name(),
                        unit.name()
                    ));
                }
                self.read += 1;
                words = words.and(Words::elapsing(count, None, shorter)?)?;
                unit = shorter;
            }
            return Ok(words);
        }
        if weekdays_named(&word).is_some() {
            let whole = |count: Decimal| {
                count.whole().ok_or_else(|| {
                    format!("{count} is not a whole number of weeks: write, for example, `every 2 weeks on monday`")
                })
            };
            let (count, to) = (whole(count)?, to.map(whole).transpose()?);
            return Ok(Words { to, ..Words::new(count, Unit::Week, Some(self.days()?)) });
        }
        Err(unknown(&word, "is not a unit or a day", Unit::NAMES.map(|(_, name, _)| name)))
    }

    /// The number of units, which is 1 unless something else is said, and the upper bound of a
    /// random one.
    fn count(&mut self) -> Result<(Decimal, Option<Decimal>), String> {
        if self.skip("other") {
            return Ok((Decimal::from(2), None));
        }
        let Some(count) = self.number()? else { return Ok((Decimal::from(1), None)) };
        if !self.skip("to") {
            return Ok((count, None));
        }
        match self.number()? {
            Some(to) => Ok((count, Some(to))),
            None => Err(format!("after `{count} to` comes a number, as in `5 to 10 minutes`")),
        }
    }

    /// Whether a number with a unit follows, maybe after `,` or `and`, which are gone past then.
    fn skip_to_unit(&mut self) -> bool {
        let is = |at: usize, divider| self.peek(at).is_some_and(|word| word == divider);
        let comma = usize::from(is(0, ","));
        let dividers = comma + usize::from(is(comma, "and"));
        let Some(word) = self.peek(dividers) else { return false };
        let unit = &word[number_at_start(&word)..];
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        let follows =
            unit.len() < word.len() && (unit.is_empty() || Unit::named(&unit[..letters]).is_some());
        self.read += if follows { dividers } else { 0 };
        follows
    }

    /// A number; of a unit that follows it at once, as in `10min` and `1h30m`, only the number.
    fn number(&mut self) -> Result<Option<Decimal>, String> {
        let Some(&word) = self.tokens.get(self.read) else { return Ok(None) };
        let (number, rest) = word.split_at(number_at_start(word));
        if number.is_empty() {
            return Ok(None);
        }
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, more) = rest.split_at(letters);
        let has_unit = Unit::named(&unit.to_ascii_lowercase()).is_some();
        if rest.is_empty() {
            self.read += 1;
        } else if has_unit && (more.is_empty() || number_at_start(more) > 0) {
            self.tokens[self.read] = unit;
            if !more.is_empty() {
                self.tokens.insert(self.read + 1, more);
            }
        } else {
            return Err(format!(
                "`{}` is not a number, nor one with a unit: write, for example, `10 minutes`",
                one_line(word)
            ));
        }
        Decimal::read(number).map(Some)
    }

    /// A list of days, all of the week or all of the month.
    fn days(&mut self) -> Result<On, String> {
        let (mut of_week, mut of_month) = (0, DaysOfMonth::default());
        loop {
            self.skip("the");
            if let Some(nth) = self.nth()? {
                self.read += 1;
                self.nth_day(nth, &mut of_month)?;
                self.of_the_month()?;
            } else if let Some(days) = self.weekdays() {
                of_week |= days;
            } else {
                return Err(match self.peek(0) {
                    Some(word) => unknown(&word, "is not a day", ["weekday", "weekend", "last"]),
                    None => "it lacks a day: write, for example, `monday` or `the 1st`".into(),
                });
            }
            if !self.another() {
                break;
            }
        }
        match (of_week, of_month == DaysOfMonth::default()) {
            (0, _) => Ok(On::Month(of_month)),
            (of_week, true) => Ok(On::Week(of_week)),
            _ => Err(WEEK_AND_MONTH.into()),
        }
    }

    /// The day that an `nth` before it is said of.
    fn nth_day(&mut self, nth: Nth, days: &mut DaysOfMonth) -> Result<(), String> {
        let weekdays = self.weekdays();
        match (nth, weekdays) {
            (Nth::Last, Some(weekdays)) => days.nth[DaysOfMonth::LAST_OF_WEEK] |= weekdays,
            (Nth::Number(n @ 1..=5), Some(weekdays)) => days.nth[n as usize - 1] |= weekdays,
            (Nth::Number(n), Some(_)) => {
                return Err(format!("no month has a day of the week {n} times: the most is 5"));
            }
            (Nth::Last, None) => {
                if !self.skip("day") {
                    return Err("after `last` comes `day` or a day of the week".into());
                }
                days.dates |= DaysOfMonth::LAST;
            }
            (Nth::Number(n), None) => {
                self.skip("day");
                days.dates |= 1 << n;
            }
        }
        Ok(())
    }

    /// Goes past `of the month`, which is what it is without, too.
    fn of_the_month(&mut self) -> Result<(), String> {
        if !self.skip("of") {
            return Ok(());
        }
        let _article = self.skip("the") || self.skip("each") || self.skip("every");
        match self.skip("month") {
            true => Ok(()),
            false => Err("after `of` comes `the month`; for certain months use `cron`".into()),
        }
    }

    /// One name of a weekday or of several, and what belongs to it.
    fn weekdays(&mut self) -> Option<u8> {
        let days = weekdays_named(&self.peek(0)?)?;
        self.read += 1;
        Some(days)
    }

    /// Which of a month's days the next word says, without going past it.
    fn nth(&self) -> Result<Option<Nth>, String> {
        let Some(word) = self.peek(0) else { return Ok(None) };
        let number = match word.as_str() {
            "first" => 1,
            "second" => {
                return match self.peek(1).and_then(|next| weekdays_named(&next)) {
                    // Some say so and mean every other one.
                    Some(_) => Err(
                        "`second` is ambiguous here: write `2nd` for the second of the month, or `other` for every other one".into(),
                    ),
                    None => Ok(None),
                };
            }
            "third" => 3,
            "fourth" => 4,
            "fifth" => 5,
            "last" => return Ok(Some(Nth::Last)),
            word => {
                let Some(number) = date_named(word) else { return Ok(None) };
                return match number.parse() {
                    Ok(number @ 1..=31) => Ok(Some(Nth::Number(number))),
                    _ => Err(format!("the {} is not in 1..=31: no month has it", one_line(word))),
                };
            }
        };
        Ok(Some(Nth::Number(number)))
    }

    fn times(&mut self) -> Result<Vec<Time>, String> {
        let mut times = vec![self.time()?];
        while self.another() {
            times.push(self.time()?);
        }
        Ok(times)
    }

    fn time(&mut self) -> Result<Time, String> {
        let Some(word) = self.peek(0) else {
            return Err("it lacks a time of day: write, for example, `9:00`".into());
        };
        self.read += 1;
        if let Some(part) = word.strip_prefix(':') {
            let number = |part: &str| {
                let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
                part.parse().ok().filter(|&number: &u32| digits && number < 60)
            };
            let parts = match part.split_once(':') {
                Some((minute, second)) => number(minute).zip(number(second).map(Some)),
                None => number(part).map(|part| (part, None)),
            };
            return parts.map(|(part, second)| Time::Part(part, second)).ok_or_else(|| {
                format!(
                    "`{}` is not a part of an hour or a minute: write two digits from `:00` to `:59`",
                    one_line(&word)
                )
            });
        }
        let next = self.peek(0);
        let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
        // `9:5` may be meant as 9:05 and as 9:50.
        let is_cut_off = word.split(':').skip(1).any(|part| digits(part) == 1);
        let (time, took_next) = match is_cut_off {
            true => Err(time_of_day::HOURS_AND_MINUTES.to_owned()),
            false => time_of_day::from_words(&word, next.as_deref()),
        }
        .map_err(|remedy| format!("`{}` is not a time of day: {remedy}", one_line(&word)))?;
        self.read += usize::from(took_next);
        Ok(Time::OfDay(time.num_seconds_from_midnight()))
    }

    fn zone(&mut self) -> Result<TimeZone, String> {
        self.skip("in");
        let Some(&token) = self.tokens.get(self.read) else {
            return Err("after `in` comes a zone, as in `in Europe/Berlin`".into());
        };
        let name = match token.strip_prefix('(') {
            Some(name) => name.strip_suffix(')').unwrap_or(name),
            None => token,
        };
        match name.into_time_zone() {
            Ok(zone) => {
                self.read += 1;
                Ok(zone)
            }
            Err(error) if name.contains('/') || is_like_a_zone(name) => Err(error.to_string()),
            Err(_) => Err(self.left_over(token)),
        }
    }

    fn left_over(&self, token: &str) -> String {
        let before = self.read.checked_sub(1).and_then(|before| self.tokens.get(before));
        let place = match before {
            Some(before) => format!("is not understood after `{}`", one_line(before)),
            None => "is not understood".to_owned(),
        };
        if time_of_day::read(token).is_ok() {
            return format!("`{}` {place}: write `at {}`", one_line(token), one_line(token));
        }
        unknown(token, &place, ["on", "at", "and", "in"])
    }
}

/// The error for words with a clause behind them that is no part of them, as in `every 10 minutes
/// until 18:00`, if the words are right without it.
fn clause_behind(text: &str) -> Option<Error> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |at: usize| {
        let word = words.get(at)?.to_ascii_lowercase();
        let is_times = words.get(at + 1).is_some_and(|next| next.eq_ignore_ascii_case("times"));
        match &*word {
            "until" | "starting" | "between" | "only" | "except" | "immediately" => Some(word),
            _ => (is_times && word.parse::<u64>().is_ok()).then(|| format!("{word} times")),
        }
    };
    let (at, name) = (1..words.len()).find_map(|at| Some((at, name(at)?)))?;
    let said = words[..at].join(" ");
    let said = said.strip_suffix(',').unwrap_or(&said);
    Reader::all(said, Reader::words).ok()?;
    let every = if said.to_ascii_lowercase().starts_with("every") { "" } else { "every " };
    let instead = one_line(&format!("{every}{said}; {}", words[at..].join(" ")));
    let value = one_line(&words[at + 1..].join(" "));
    let method = match &*name {
        "until" => format!(", or add `.until(\"{value}\")`"),
        "starting" => format!(", or add `.starting_at(\"{value}\")`"),
        "immediately" => ", or add `.immediately()`".to_owned(),
        "between" | "only" | "except" => String::new(),
        _ => format!(", or add `.times({})`", words[at]),
    };
    Some(Error::invalid_trigger(format!(
        "invalid words `{}`: `{name}` begins a clause of its own: write the text `{instead}`{method}",
        one_line(text)
    )))
}

/// Which of a month's days.
#[derive(Clone, Copy)]
enum Nth {
    Number(u32),
    Last,
}

/// The number in a name such as `1st`.
fn date_named(word: &str) -> Option<&str> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = word.split_at(digits);
    (digits > 0 && matches!(suffix, "st" | "nd" | "rd" | "th")).then_some(number)
}

/// The days of the week of this name, as bits.
pub(super) fn weekdays_named(word: &str) -> Option<u8> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    match singular {
        "weekday" => return Some(WEEKDAY),
        "weekend" => return Some(WEEKEND),
        _ => {}
    }
    // `mon`, `tues`, `thurs`: at least three letters of the name.
    let day = WEEKDAYS
        .iter()
        .position(|name| *name == singular || word.len() >= 3 && name.starts_with(word))?;
    Weekday::try_from(day as u8).ok().map(bit)
}

/// The error for a word that is none of those expected, with the one that is most like it.
fn unknown<const N: usize>(word: &str, reason: &str, expected: [&'static str; N]) -> String {
    const FAR: usize = 3;
    let lower = word.to_ascii_lowercase();
    // Long texts are not typing errors, and comparing them would take long.
    let nearest = (lower.len() <= 32)
        .then(|| {
            let known = expected.iter().copied().chain(WEEKDAYS);
            known
                .map(|known| (edit_distance(&lower, known), known))
                .filter(|&(distance, known)| {
                    distance < FAR.min(known.len()) && distance < lower.len()
                })
                .min_by_key(|&(distance, _)| distance)
        })
        .flatten();
    let word = one_line(word);
    match nearest {
        Some((_, known)) => format!("`{word}` {reason}: did you mean `{known}`?"),
        None => format!("`{word}` {reason}: write, for example, `every monday at 10:30`"),
    }
}
