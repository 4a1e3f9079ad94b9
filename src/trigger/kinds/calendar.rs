//! Fire times every so many years, months, weeks and days, at a wall-clock time.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Timelike as _, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{KindOption, Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::rfc3339,
        once::set_once,
        search::Budget,
        wall_clock::{self, ClockTimes, Fold, Gap, InZone, Readings, ZoneRules, Zoned},
    },
    zone::{DAY, IntoTimeZone as _, TimeZone},
};

/// A trigger that fires every so many years, months, weeks and days, at times of day; made by
/// [`calendar_interval`](crate::trigger::calendar_interval).
///
/// From one date to the next, years and months are added first, and then weeks and days. A date
/// that does not exist is passed over: the years and months are added again, the day of the month
/// staying what it was. So one month from 31 January comes 31 March, and one year from 29 February
/// comes the next 29 February.
///
/// The dates count from the [start date](crate::trigger::Build::starting_on). Its default is the date at
/// [`starting_at`](crate::trigger::Build::starting_at), and failing that the day the job is added, both as
/// the zone's calendar has it.
///
/// # Daylight saving
///
/// A time that a gap swallows fires at the first instant after it, and one that occurs twice fires
/// at its first occurrence; [`Gap`] and [`Fold`] have the tables, and choose otherwise. Either way
/// the dates that follow stay the same.
///
/// # Limits
///
/// Fire times are whole seconds of the years 1900 to 2199.
///
/// # Serialized form
///
/// ```
/// use punctual::trigger::{Trigger, IntoTrigger, calendar_interval};
///
/// let trigger = calendar_interval().months(1).at("09:30").in_tz("Europe/Berlin").into_trigger()?;
/// let json =
///     r#"{"type":"calendar_interval","months":1,"time":"09:30:00","zone":"Europe/Berlin"}"#;
/// assert_eq!(serde_json::to_string(&trigger)?, json);
/// assert_eq!(serde_json::from_str::<Trigger>(json)?, trigger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Several times of day are a list, as in `"time":["09:30:00","17:00:00"]`. `"years"`, `"months"`,
/// `"weeks"` and `"days"` are there if they are not zero; `"start_date"`,
/// `"zone"`, `"gap"` and `"fold"` if they were said or filled in.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub struct CalendarInterval {
    rule: Arc<Rule>,
    rules: ZoneRules,
}

#[derive(Clone, PartialEq)]
struct Rule {
    every: Every,
    /// In ascending order. None is midnight, until that is filled in.
    times: Vec<NaiveTime>,
    start: Option<NaiveDate>,
    /// What the rest amounts to, once it is known to make sense and where it starts.
    dates: Option<Dates>,
}

/// What lies between two dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Every {
    #[serde(default, skip_serializing_if = "is_zero")]
    years: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    months: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    weeks: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    days: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl CalendarInterval {
    pub(in crate::trigger) fn new() -> CalendarInterval {
        let rule = Rule { every: Every::default(), times: Vec::new(), start: None, dates: None };
        CalendarInterval { rule: Arc::new(rule), rules: ZoneRules::default() }
    }

    /// The years between two dates, beside what the other units say.
    pub fn years(&self) -> u32 {
        self.rule.every.years
    }

    /// The months between two dates, beside what the other units say.
    pub fn months(&self) -> u32 {
        self.rule.every.months
    }

    /// The weeks between two dates, beside what the other units say.
    pub fn weeks(&self) -> u32 {
        self.rule.every.weeks
    }

    /// The days between two dates, beside what the other units say.
    pub fn days(&self) -> u32 {
        self.rule.every.days
    }

    /// The time of day, or the first of several.
    pub fn time(&self) -> NaiveTime {
        self.rule.first()
    }

    /// The times of day, in ascending order; at least one.
    pub fn times_of_day(&self) -> &[NaiveTime] {
        self.rule.times()
    }

    /// The date that the others count from, if that was said or filled in.
    pub fn start_date(&self) -> Option<NaiveDate> {
        self.rule.start
    }

    /// The zone whose wall clock it goes by, if that was said or filled in.
    pub fn zone(&self) -> Option<TimeZone> {
        self.rules.zone
    }

    fn change(mut self, change: impl FnOnce(&mut Rule)) -> CalendarInterval {
        let rule = Arc::make_mut(&mut self.rule);
        change(rule);
        rule.dates = None;
        self
    }

    pub(in crate::trigger) fn every_years(self, years: u32) -> Result<CalendarInterval, Error> {
        let years = once("years", self.years(), years)?;
        Ok(self.change(|rule| rule.every.years = years))
    }

    pub(in crate::trigger) fn every_months(self, months: u32) -> Result<CalendarInterval, Error> {
        let months = once("months", self.months(), months)?;
        Ok(self.change(|rule| rule.every.months = months))
    }

    pub(in crate::trigger) fn every_weeks(self, weeks: u32) -> Result<CalendarInterval, Error> {
        let weeks = once("weeks", self.weeks(), weeks)?;
        Ok(self.change(|rule| rule.every.weeks = weeks))
    }

    pub(in crate::trigger) fn every_days(self, days: u32) -> Result<CalendarInterval, Error> {
        let days = once("days", self.days(), days)?;
        Ok(self.change(|rule| rule.every.days = days))
    }

    /// At one more time of day.
    pub(in crate::trigger) fn at(self, time: NaiveTime) -> CalendarInterval {
        self.change(|rule| {
            if let Err(index) = rule.times.binary_search(&time) {
                rule.times.insert(index, time);
            }
        })
    }

    pub(in crate::trigger) fn starting_on(
        self,
        date: NaiveDate,
    ) -> Result<CalendarInterval, Error> {
        let mut start = self.rule.start;
        set_once(&mut start, date, |[a, b]| format!("the first date is {a} and again {b}"))?;
        Ok(self.change(|rule| rule.start = start))
    }

    /// The text without the start date and the zone.
    fn words(&self) -> String {
        let times = self.rule.times().iter().map(NaiveTime::to_string);
        format!("{} at {}", self.rule.every, times.collect::<Vec<_>>().join(", "))
    }

    /// Checks the numbers and times, and finds the dates if it is known where they start.
    fn find_dates(&mut self) -> Result<(), Error> {
        if self.rule.dates.is_none() {
            let dates = self.rule.check()?;
            let rule = Arc::make_mut(&mut self.rule);
            rule.dates = dates;
            if rule.times.is_empty() {
                rule.times.push(NaiveTime::MIN);
            }
        }
        Ok(())
    }

    /// Fills in the zone, and the start date as that of `from`.
    fn start_on_date_of(&mut self, from: DateTime<Utc>, default: TimeZone) -> Result<(), Error> {
        let zone = *self.rules.zone.get_or_insert(default);
        if self.rule.start.is_none() {
            let rule = Arc::make_mut(&mut self.rule);
            rule.start = Some(wall_clock::date_at(zone, from));
            rule.dates = rule.check()?;
        }
        Ok(())
    }

    fn zoned(&self) -> Zoned<'_, impl Readings> {
        self.rules.apply(&*self.rule, true)
    }
}

impl Schedule for CalendarInterval {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        if self.is_floating() {
            let mut anchored = self.clone();
            anchored.start_on_date_of(search.from, TimeZone::UTC)?;
            return anchored.zoned().next_on(search.days, search.from, search.until, budget);
        }
        self.zoned().next_on(search.days, search.from, search.until, budget)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.zoned().last_on(search.days, search.from, search.until, budget)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        self.rules.in_zone(format!("Every {}", self.words()))
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, _short: bool) -> fmt::Result {
        match self.rule.start {
            Some(from) => write!(f, "; from {from}"),
            None => Ok(()),
        }
    }

    fn read_option(&mut self, option: &KindOption<'_>) -> Result<bool, Error> {
        if option.name != "from" {
            return Ok(false);
        }
        *self = self.clone().starting_on(option.date()?)?;
        Ok(true)
    }

    fn validate(&mut self, end: Option<DateTime<Utc>>) -> Result<(), Error> {
        if let Some((start, end)) = self.rule.start.zip(end)
            && wall_clock::date_at(self.rules.zone.unwrap_or(TimeZone::UTC), end) < start
        {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {}, before it starts on {start}: swap them",
                rfc3339(end)
            )));
        }
        self.find_dates()
    }

    fn anchor(
        &mut self,
        start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        self.start_on_date_of(start.unwrap_or(now), zone)
    }

    /// Whether the dates count from when the job is added, which is not known yet.
    fn is_floating(&self) -> bool {
        self.rule.start.is_none()
    }

    fn zone_rules(&self) -> Option<&ZoneRules> {
        Some(&self.rules)
    }

    fn zone_rules_mut(&mut self) -> Option<&mut ZoneRules> {
        Some(&mut self.rules)
    }

    fn clock_times(&self) -> Option<ClockTimes> {
        let none = ClockTimes { hours: 0, minutes: 0, seconds: 0 };
        Some(self.rule.times().iter().fold(none, |times, time| ClockTimes {
            hours: times.hours | 1 << time.hour(),
            minutes: times.minutes | 1 << time.minute(),
            seconds: times.seconds | 1 << time.second(),
        }))
    }
}

impl Rule {
    fn check(&self) -> Result<Option<Dates>, Error> {
        let Every { years, months, weeks, days } = self.every;
        let months = u64::from(years) * 12 + u64::from(months);
        let days = u64::from(weeks) * 7 + u64::from(days);
        if months + days == 0 {
            return Err(Error::invalid_trigger(
                "a calendar interval of nothing at all would fire without end: say how many years, months, weeks or days",
            ));
        }
        // What passes fits into `i32`, several times over.
        if months > MONTHS || days > DAYS {
            return Err(Error::invalid_trigger(format!(
                "a calendar interval of {} is longer than the calendar, which has the years {FIRST_YEAR} to {LAST_YEAR}: use a shorter one",
                self.every
            )));
        }
        if let Some(time) = self.times.iter().find(|time| time.nanosecond() != 0) {
            return Err(Error::invalid_trigger(format!(
                "the time of day {time} is not a whole second: use {}",
                time.with_nanosecond(0).unwrap_or_default()
            )));
        }
        let Some(start) = self.start else { return Ok(None) };
        if !(FIRST_YEAR..=LAST_YEAR).contains(&start.year()) {
            return Err(Error::invalid_trigger(format!(
                "the start date {start} is not in the years {FIRST_YEAR} to {LAST_YEAR}: use another one"
            )));
        }
        Ok(Some(Dates::new(start, months as i32, days as i32)))
    }

    fn times(&self) -> &[NaiveTime] {
        match &*self.times {
            [] => &[NaiveTime::MIN],
            times => times,
        }
    }

    fn first(&self) -> NaiveTime {
        self.times.first().copied().unwrap_or_default()
    }

    fn last(&self) -> NaiveTime {
        self.times.last().copied().unwrap_or_default()
    }
}

fn seconds(time: NaiveTime) -> i64 {
    i64::from(time.num_seconds_from_midnight())
}

/// The number of a unit, which is 0 until it is said.
fn once(unit: &str, before: u32, number: u32) -> Result<u32, Error> {
    let mut slot = (before != 0).then_some(before);
    set_once(&mut slot, number, |[a, b]| format!("the number of {unit} is {a} and again {b}"))?;
    Ok(number)
}

impl Readings for Rule {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        // A day counts until its last time.
        let day = (reading - seconds(self.last()) + DAY - 1).div_euclid(DAY);
        let midnight = i64::from(self.dates.as_ref()?.at_or_after(clamped(day))?) * DAY;
        let times = self.times.iter().map(|&time| midnight + seconds(time));
        Some(times.into_iter().find(|&time| time >= reading).unwrap_or(midnight))
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        // A day counts from its first time.
        let day = (reading - seconds(self.first())).div_euclid(DAY);
        let midnight = i64::from(self.dates.as_ref()?.at_or_before(clamped(day))?) * DAY;
        let times = self.times.iter().rev().map(|&time| midnight + seconds(time));
        Some(times.into_iter().find(|&time| time <= reading).unwrap_or(midnight))
    }
}

const FIRST_YEAR: i32 = 1900;
const LAST_YEAR: i32 = 2199;
/// How many months and days the calendar has.
const MONTHS: u64 = 3_600;
const DAYS: u64 = 109_573;
/// 1900-01-01 and 2200-01-01, in days since 1970-01-01.
const FIRST_DAY: i32 = -25_567;
const END_DAY: i32 = 84_006;

/// A day that a calendar search can be asked for, nearest to any.
fn clamped(day: i64) -> i32 {
    day.clamp(i64::from(FIRST_DAY) - 1, i64::from(END_DAY)) as i32
}

/// The dates, as days since 1970-01-01. All lie in the calendar's years.
#[derive(Clone, Debug, PartialEq)]
enum Dates {
    /// `first + k × step`.
    Days { first: i32, step: i32 },
    /// One day of the month, `step` months apart, counted from January of year 0.
    Months { first: i32, step: i32, day: u32 },
    /// Where a date leads depends on the lengths of the months between, so there is no formula;
    /// but there are 3,600 of them at most.
    Walk { months: i32, days: i32, marks: Box<[i32]> },
}

/// Of so many dates of a walk one is kept as a mark to start from.
const STRIDE: usize = 32;

impl Dates {
    fn new(start: NaiveDate, months: i32, days: i32) -> Dates {
        let first = number(start);
        if months == 0 {
            return Dates::Days { first, step: days };
        }
        if days == 0 {
            return Dates::Months { first: month_of(start), step: months, day: start.day() };
        }
        let walk = std::iter::successors(Some(first), |&date| step(date, months, days));
        Dates::Walk { months, days, marks: walk.step_by(STRIDE).collect() }
    }

    fn at_or_after(&self, day: i32) -> Option<i32> {
        match *self {
            Dates::Days { first, step } => {
                let steps = (day - first).max(0).div_euclid(step);
                let date = first + steps * step;
                let date = if date < day { date + step } else { date };
                (date < END_DAY).then_some(date)
            }
            Dates::Months { first, step, day: of_month } => {
                let steps = (month_of(date_of(day)?) - first).max(0) / step;
                // A day of the month that is no 29 February turns up in the next month or two,
                // and that one within eight years of those that are asked.
                (first + steps * step..(LAST_YEAR + 1) * 12)
                    .step_by(step as usize)
                    .filter_map(|month| day_in(month, of_month))
                    .find(|&date| date >= day)
            }
            Dates::Walk { months, days, ref marks } => {
                let mark = marks.partition_point(|&mark| mark <= day).saturating_sub(1);
                let mut date = marks[mark];
                while date < day {
                    date = step(date, months, days)?;
                }
                Some(date)
            }
        }
    }

    fn at_or_before(&self, day: i32) -> Option<i32> {
        match *self {
            Dates::Days { first, step } => {
                (day >= first).then(|| first + (day.min(END_DAY - 1) - first) / step * step)
            }
            Dates::Months { first, step, day: of_month } => {
                let last = month_of(date_of(day.min(END_DAY - 1))?);
                (0..=(last - first).div_euclid(step))
                    .rev()
                    .filter_map(|steps| day_in(first + steps * step, of_month))
                    .find(|&date| date <= day)
            }
            Dates::Walk { months, days, ref marks } => {
                let mark = marks.partition_point(|&mark| mark <= day).checked_sub(1)?;
                let mut date = marks[mark];
                while let Some(next) = step(date, months, days).filter(|&next| next <= day) {
                    date = next;
                }
                Some(date)
            }
        }
    }
}

/// The date after `date`: months are added until there is such a date, and then the days.
fn step(date: i32, months: i32, days: i32) -> Option<i32> {
    let date = date_of(date)?;
    let month = month_of(date);
    let reached = (month + months..(LAST_YEAR + 1) * 12)
        .step_by(months as usize)
        .find_map(|month| day_in(month, date.day()))?;
    Some(reached + days).filter(|&next| next < END_DAY)
}

/// A day of a month, if it has it.
fn day_in(month: i32, day: u32) -> Option<i32> {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) as u32 + 1);
    NaiveDate::from_ymd_opt(year, month, day).map(number)
}

fn month_of(date: NaiveDate) -> i32 {
    date.year() * 12 + date.month0() as i32
}

fn number(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

fn date_of(number: i32) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(number)
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.years, "year"),
            (self.months, "month"),
            (self.weeks, "week"),
            (self.days, "day"),
        ];
        let mut separator = "";
        for (n, unit) in units.into_iter().filter(|&(n, _)| n > 0) {
            let plural = if n == 1 { "" } else { "s" };
            write!(f, "{separator}{n} {unit}{plural}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Display for CalendarInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calendar[{}]", self.words())?;
        self.rules.write_zone(f)
    }
}

impl fmt::Debug for CalendarInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalendarInterval")
            .field("every", &format_args!("{}", self.rule.every))
            .field("times", &self.rule.times())
            .field("start_date", &self.rule.start)
            .field("rules", &self.rules)
            .finish()
    }
}

impl InZone for CalendarInterval {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
struct Repr {
    #[serde(flatten)]
    every: Every,
    time: Times,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_date: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold: Option<Fold>,
}

/// One time of day, or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a time of day is as in \"09:30:00\", and several are a list")]
enum Times {
    One(NaiveTime),
    Several(Vec<NaiveTime>),
}

impl From<CalendarInterval> for Repr {
    fn from(CalendarInterval { rule, rules }: CalendarInterval) -> Repr {
        let ZoneRules { zone, gap, fold } = rules;
        Repr {
            every: rule.every,
            time: match rule.times() {
                [time] => Times::One(*time),
                times => Times::Several(times.to_vec()),
            },
            start_date: rule.start,
            zone: zone.map(|zone| zone.name().to_owned()),
            gap,
            fold,
        }
    }
}

impl TryFrom<Repr> for CalendarInterval {
    type Error = Error;

    fn try_from(repr: Repr) -> Result<CalendarInterval, Error> {
        let Repr { every, time, start_date, zone, gap, fold } = repr;
        let zone = zone.map(|zone| zone.into_time_zone()).transpose()?;
        let mut times = match time {
            Times::One(time) => vec![time],
            Times::Several(times) => times,
        };
        times.sort_unstable();
        times.dedup();
        let rule = Rule { every, times, start: start_date, dates: None };
        let rules = ZoneRules { zone, gap, fold };
        let mut calendar = CalendarInterval { rule: Arc::new(rule), rules };
        calendar.find_dates()?;
        Ok(calendar)
    }
}
