//! Days on which a trigger fires or does not: weekdays and dates.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::RangeInclusive,
    sync::Arc,
};

use chrono::{DateTime, NaiveDate, Utc, Weekday};
use serde::{Deserialize, Serialize};

use super::{
    cron::one_line,
    moment::impossible_date,
    search::{Budget, Grid, leapfrog},
    window::Window,
    words,
    zone::{self, Readings},
};
use crate::{
    error::Error,
    zone::{DAY, TimeZone},
};

/// A set of days: weekdays, dates, or both.
///
/// It says on which days a trigger fires ([`only`](super::Build::only)) or does not
/// ([`except`](super::Build::except)). A [`Weekday`], a [`NaiveDate`], and an array or a `Vec` of
/// either are such sets, too. It has 4,096 dates at most.
///
/// ```
/// use chrono::{NaiveDate, Weekday};
/// use punctual::trigger::{Days, IntoTrigger, cron};
///
/// let christmas: NaiveDate = "2026-12-25".parse()?;
/// let off = Days::weekend().and(christmas);
/// assert!(off.contains(christmas));
///
/// let trigger = cron("0 9 * * *").except(off).into_trigger()?;
/// let eve = "2026-12-24T12:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(eve)?, Some("2026-12-28T09:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Serialized form
///
/// `{"weekdays":["Sat","Sun"],"dates":["2026-12-25"]}`, either being left out if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Repr", into = "Repr")]
pub struct Days {
    /// Bit 0 is Monday.
    weekdays: u8,
    /// In order, each once.
    dates: Vec<NaiveDate>,
}

impl Days {
    /// Some days of every week.
    pub fn weekdays(weekdays: impl IntoIterator<Item = Weekday>) -> Days {
        let weekdays = weekdays.into_iter().fold(0, |set, day| set | bit(day));
        Days { weekdays, dates: Vec::new() }
    }

    /// Some dates.
    pub fn dates(dates: impl IntoIterator<Item = NaiveDate>) -> Days {
        let mut dates: Vec<NaiveDate> = dates.into_iter().collect();
        dates.sort_unstable();
        dates.dedup();
        Days { weekdays: 0, dates }
    }

    /// Saturday and Sunday.
    pub fn weekend() -> Days {
        Days::weekdays([Weekday::Sat, Weekday::Sun])
    }

    /// These days and the others.
    pub fn and(mut self, others: impl Into<Days>) -> Days {
        let others = others.into();
        self.dates.extend(others.dates);
        Days { weekdays: self.weekdays | others.weekdays, ..Days::dates(self.dates) }
    }

    /// Whether a date is one of these days.
    pub fn contains(&self, date: NaiveDate) -> bool {
        self.weekdays & bit(chrono::Datelike::weekday(&date)) != 0
            || self.dates.binary_search(&date).is_ok()
    }

    /// The days that are in both sets.
    fn common(self, others: Days) -> Days {
        let dates = self.dates.iter().copied().filter(|&date| others.contains(date));
        let theirs = others.dates.iter().copied().filter(|&date| self.contains(date));
        Days { weekdays: self.weekdays & others.weekdays, ..Days::dates(dates.chain(theirs)) }
    }
}

impl FromIterator<NaiveDate> for Days {
    fn from_iter<I: IntoIterator<Item = NaiveDate>>(dates: I) -> Days {
        Days::dates(dates)
    }
}

impl FromIterator<Weekday> for Days {
    fn from_iter<I: IntoIterator<Item = Weekday>>(weekdays: I) -> Days {
        Days::weekdays(weekdays)
    }
}

impl From<Weekday> for Days {
    fn from(weekday: Weekday) -> Days {
        Days::weekdays([weekday])
    }
}

impl From<NaiveDate> for Days {
    fn from(date: NaiveDate) -> Days {
        Days::dates([date])
    }
}

impl<T, const N: usize> From<[T; N]> for Days
where
    Days: FromIterator<T>,
{
    fn from(days: [T; N]) -> Days {
        days.into_iter().collect()
    }
}

impl<T> From<Vec<T>> for Days
where
    Days: FromIterator<T>,
{
    fn from(days: Vec<T>) -> Days {
        days.into_iter().collect()
    }
}

/// What [`Build::only`](super::Build::only) and [`Build::except`](super::Build::except) take: [`Days`], a
/// [`Weekday`], a [`NaiveDate`], an array or a `Vec` of either, what else becomes `Days` by `From`, or a
/// text such as `"Mon-Thu, weekend"`.
///
/// The items of a text are divided by `,`: weekdays, a range of them, `weekday`, `weekend`, and dates.
///
/// ```
/// use punctual::trigger::{IntoTrigger, cron};
///
/// let trigger = cron("0 9 * * *").except("weekend, 2026-12-25").into_trigger()?;
/// assert_eq!(trigger.to_string(), "0 9 * * *; except Sat, Sun, 2026-12-25");
/// # Ok::<(), punctual::Error>(())
/// ```
pub trait IntoDays {
    /// Reads the days.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if the text names none.
    fn into_days(self) -> Result<Days, Error>;
}

impl<D: Into<Days>> IntoDays for D {
    fn into_days(self) -> Result<Days, Error> {
        Ok(self.into())
    }
}

impl IntoDays for &str {
    fn into_days(self) -> Result<Days, Error> {
        Days::read(self).map_err(|reason| {
            Error::invalid_trigger(format!("`{}` does not name days: {reason}", one_line(self)))
        })
    }
}

impl IntoDays for String {
    fn into_days(self) -> Result<Days, Error> {
        self.as_str().into_days()
    }
}

impl Days {
    /// All of its days, as text.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        let weekdays = WEEK.iter().filter(|&&day| self.weekdays & bit(day) != 0);
        weekdays.map(Weekday::to_string).chain(self.dates.iter().map(NaiveDate::to_string))
    }

    /// Reads days as they print; an error is the reason and the remedy.
    pub(super) fn read(text: &str) -> Result<Days, String> {
        let mut days = Days::default();
        for word in text.split(',').map(str::trim) {
            days = match word.parse() {
                Ok(date) => days.and(Days::dates([date])),
                Err(_) => days.and(weekdays_named(word).ok_or_else(|| {
                    impossible_date(word)
                        .unwrap_or_else(|| "write, for example, `Sat, Sun, 2026-12-25`".to_owned())
                })?),
            };
        }
        Ok(days)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let weekdays = self.weekdays.count_ones() as usize;
        let mut words: Vec<String> = self.words().take(weekdays + SHOWN).collect();
        if self.dates.len() > SHOWN {
            words.push(format!("{} more dates", self.dates.len() - SHOWN));
        }
        f.write_str(&words.join(", "))
    }
}

/// One day of the week, a range of them, maybe around the end, or `weekday` or `weekend`.
fn weekdays_named(word: &str) -> Option<Days> {
    if let Some((first, last)) = word.split_once('-') {
        let (first, last): (Weekday, Weekday) = (first.parse().ok()?, last.parse().ok()?);
        let days = WEEK.into_iter().cycle().skip_while(|&day| day != first);
        let length = (last.num_days_from_monday() + 7 - first.num_days_from_monday()) % 7;
        return Some(days.take(length as usize + 1).collect());
    }
    let weekdays = words::weekdays_named(&word.to_ascii_lowercase())?;
    Some(WEEK.into_iter().filter(|&day| weekdays & bit(day) != 0).collect())
}

const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

fn bit(day: Weekday) -> u8 {
    1 << day.num_days_from_monday()
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
struct Repr {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weekdays: Vec<Weekday>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dates: Vec<NaiveDate>,
}

impl From<Days> for Repr {
    fn from(Days { weekdays, dates }: Days) -> Repr {
        let weekdays = WEEK.into_iter().filter(|&day| weekdays & bit(day) != 0).collect();
        Repr { weekdays, dates }
    }
}

impl From<Repr> for Days {
    fn from(Repr { weekdays, dates }: Repr) -> Days {
        Days::weekdays(weekdays).and(dates)
    }
}

/// What was said of the days and hours of a trigger.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) only: Option<Days>,
    pub(super) except: Option<Days>,
    pub(super) between: Option<Window>,
}

impl Said {
    pub(super) fn only(&mut self, days: Days) {
        self.only = Some(match self.only.take() {
            Some(before) => before.common(days),
            None => days,
        });
    }

    pub(super) fn except(&mut self, days: Days) {
        self.except = Some(self.except.take().unwrap_or_default().and(days));
    }
}

/// When a trigger may fire: on the days of `only`, less those of `except`, in the hours of `between`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DayFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    only: Option<Days>,
    #[serde(skip_serializing_if = "Option::is_none")]
    except: Option<Days>,
    #[serde(skip_serializing_if = "Option::is_none")]
    between: Option<Window>,
    /// The zone whose calendar and clock count, unless the trigger has one.
    #[serde(rename = "day_zone", skip_serializing_if = "Option::is_none")]
    zone: Option<TimeZone>,
    #[serde(skip)]
    allowed: Allowed,
}

/// The same as one set: weekdays less some dates, and dates. Dates are days since 1970-01-01.
#[derive(Clone, Debug)]
struct Allowed {
    weekdays: u8,
    struck: Box<[i64]>,
    listed: Box<[i64]>,
}

impl PartialEq for DayFilter {
    fn eq(&self, other: &DayFilter) -> bool {
        (&self.only, &self.except, self.between, self.zone)
            == (&other.only, &other.except, other.between, other.zone)
    }
}

impl DayFilter {
    /// None if nothing was said.
    pub(super) fn new(said: Said, zone: Option<TimeZone>) -> Result<Option<Arc<DayFilter>>, Error> {
        const MOST: usize = 4_096;
        let Said { only, except, between } = said;
        let except = except.filter(|days| *days != Days::default());
        if only.is_none() && except.is_none() && between.is_none() {
            return Ok(None);
        }
        for days in [&only, &except].into_iter().flatten() {
            if days.dates.len() > MOST {
                return Err(Error::invalid_trigger(format!(
                    "{} dates are too many, the most are {MOST}: leave out those that have passed",
                    days.dates.len()
                )));
            }
        }
        let none = Days::default();
        let excepted = except.as_ref().unwrap_or(&none);
        let (weekdays, dates) = match &only {
            Some(only) => (only.weekdays, &only.dates[..]),
            None => (0x7f, &[][..]),
        };
        let listed = dates.iter().filter(|&&date| !excepted.contains(date));
        let number = |date: &NaiveDate| i64::from(date.to_epoch_days());
        let allowed = Allowed {
            weekdays: weekdays & !excepted.weekdays,
            struck: excepted.dates.iter().map(number).collect(),
            listed: listed.map(number).collect(),
        };
        if allowed.weekdays == 0 && allowed.listed.is_empty() {
            return Err(Error::invalid_trigger(
                "`only` and `except` leave no day on which the trigger could fire: leave some",
            ));
        }
        Ok(Some(Arc::new(DayFilter { only, except, between, zone, allowed })))
    }

    pub(super) fn zone(&self) -> Option<TimeZone> {
        self.zone
    }

    pub(super) fn only(&self) -> Option<&Days> {
        self.only.as_ref()
    }

    pub(super) fn except(&self) -> Option<&Days> {
        self.except.as_ref()
    }

    pub(super) fn between(&self) -> Option<Window> {
        self.between
    }

    /// Whether it has days, and not hours alone.
    pub(super) fn has_days(&self) -> bool {
        self.only.is_some() || self.except.is_some()
    }

    pub(super) fn in_tz(&self, zone: TimeZone) -> DayFilter {
        DayFilter { zone: Some(zone), ..self.clone() }
    }

    /// The first instant in the allowed hours that is not earlier than `t`, and on an allowed day,
    /// unless those pick from the dates that a trigger names.
    pub(super) fn at_or_after(
        &self,
        zone: TimeZone,
        t: DateTime<Utc>,
        named: bool,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(window) = self.between else { return self.day_from(zone, t, budget) };
        if named {
            return window.at_or_after(zone, t, budget);
        }
        leapfrog(2, t, budget, |turn, at, budget| match turn {
            0 => self.day_from(zone, at, budget),
            _ => window.at_or_after(zone, at, budget),
        })
    }

    /// The first instant on an allowed day that is not earlier than `t`.
    fn day_from(
        &self,
        zone: TimeZone,
        t: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let second = t.timestamp();
        let found = zone::first_on(zone, second, |date| self.allowed.at_or_after(date));
        let found = match found {
            Some(same) if same == second => Some(t),
            found => found.and_then(|found| DateTime::from_timestamp(found, 0)),
        };
        budget.spend_on_calendar(t, found, 1)?;
        Ok(found)
    }

    /// The last such instant that is not later than `t`, to the millisecond.
    pub(super) fn at_or_before(
        &self,
        zone: TimeZone,
        t: DateTime<Utc>,
        named: bool,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(window) = self.between else { return self.day_to(zone, t, budget) };
        if named {
            return window.at_or_before(zone, t, budget);
        }
        leapfrog(2, t, budget, |turn, at, budget| match turn {
            0 => self.day_to(zone, at, budget),
            _ => window.at_or_before(zone, at, budget),
        })
    }

    /// The last instant on an allowed day that is not later than `t`, to the millisecond.
    fn day_to(
        &self,
        zone: TimeZone,
        t: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let second = t.timestamp();
        let found = zone::last_on(zone, second, |date| self.allowed.at_or_before(date));
        let found = match found {
            Some(same) if same == second => Some(t),
            found => found.and_then(|found| DateTime::from_timestamp(found, 999_000_000)),
        };
        budget.spend_on_calendar(t, found, 1)?;
        Ok(found)
    }

    /// Whether it is certain that no instant of a grid is allowed: every seven days from a Sunday is
    /// never a Monday.
    pub(super) fn never_meets(&self, zone: TimeZone, grid: Grid) -> bool {
        const DAY: i64 = 86_400_000;
        if self.between.is_some_and(|window| window.never_meets(zone, grid)) {
            return true;
        }
        self.allowed.listed.is_empty()
            && zone::offsets_from(zone, grid.first.div_euclid(1000)).into_iter().all(|offset| {
                !grid.hits(7 * DAY, offset * 1000, |time| {
                    self.allowed.weekdays >> weekday(time / DAY) & 1 != 0
                })
            })
    }
}

/// The readings of a schedule whose date, as the schedule names it, is allowed: a gap may move the fire
/// time to another date.
pub(super) struct OnDays<'a, R> {
    readings: &'a R,
    allowed: &'a Allowed,
    /// Where the search ends.
    bounds: RangeInclusive<i64>,
    budget: RefCell<&'a mut Budget>,
    exhausted: Cell<Option<Error>>,
}

impl<'a, R: Readings> OnDays<'a, R> {
    pub(super) fn new(
        readings: &'a R,
        days: &'a DayFilter,
        bounds: RangeInclusive<i64>,
        budget: &'a mut Budget,
    ) -> OnDays<'a, R> {
        let budget = RefCell::new(budget);
        OnDays { readings, allowed: &days.allowed, bounds, budget, exhausted: Cell::new(None) }
    }

    /// What a search found, unless it ended because the budget did.
    pub(super) fn unless_exhausted<T>(&self, found: Option<T>) -> Result<Option<T>, Error> {
        self.exhausted.take().map_or(Ok(found), Err)
    }

    /// Goes from one named reading to the next until one is on an allowed day.
    fn search(
        &self,
        mut from: i64,
        named: impl Fn(i64) -> Option<i64>,
        allowed: impl Fn(i64) -> Option<i64>,
        edge: i64,
    ) -> Option<i64> {
        loop {
            let reading = named(from);
            let instant = |reading| DateTime::from_timestamp(reading, 0).unwrap_or_default();
            let budget = &mut **self.budget.borrow_mut();
            if let Err(error) =
                budget.spend_on_calendar(instant(from), reading.map(instant), R::COST)
            {
                self.exhausted.set(Some(error));
                return None;
            }
            let reading = reading.filter(|reading| self.bounds.contains(reading))?;
            let date = reading.div_euclid(DAY);
            match allowed(date)? {
                same if same == date => return Some(reading),
                other => from = other * DAY + edge,
            }
        }
    }
}

impl<R: Readings> Readings for OnDays<'_, R> {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        let named = |from| self.readings.at_or_after(from);
        self.search(reading, named, |date| self.allowed.at_or_after(date), 0)
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        let named = |from| self.readings.at_or_before(from);
        self.search(reading, named, |date| self.allowed.at_or_before(date), DAY - 1)
    }
}

impl fmt::Display for DayFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(only) = &self.only {
            write!(f, " only {only}")?;
        }
        if let Some(except) = &self.except {
            write!(f, " except {except}")?;
        }
        if let Some(window) = &self.between {
            write!(f, " between {window}")?;
        }
        Ok(())
    }
}

/// The day of the week of a day since 1970-01-01, which was a Thursday; 0 is Monday.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

impl Allowed {
    fn at_or_after(&self, day: i64) -> Option<i64> {
        let listed = self.listed.get(self.listed.partition_point(|&listed| listed < day)).copied();
        let mut struck = self.struck[self.struck.partition_point(|&struck| struck < day)..].iter();
        let mut regular = self.to_weekday(day, 1);
        // Each round uses up a date at least.
        while let Some(found) = regular
            && struck.find(|&&struck| struck >= found).is_some_and(|&struck| struck == found)
        {
            regular = self.to_weekday(found + 1, 1);
        }
        listed.into_iter().chain(regular).min()
    }

    fn at_or_before(&self, day: i64) -> Option<i64> {
        let listed = self.listed[..self.listed.partition_point(|&listed| listed <= day)].last();
        let struck = &self.struck[..self.struck.partition_point(|&struck| struck <= day)];
        let mut struck = struck.iter().rev();
        let mut regular = self.to_weekday(day, -1);
        while let Some(found) = regular
            && struck.find(|&&struck| struck <= found).is_some_and(|&struck| struck == found)
        {
            regular = self.to_weekday(found - 1, -1);
        }
        listed.copied().into_iter().chain(regular).max()
    }

    /// The nearest allowed weekday in a direction.
    fn to_weekday(&self, day: i64, step: i64) -> Option<i64> {
        (0..7).map(|n| day + n * step).find(|&day| self.weekdays >> weekday(day) & 1 != 0)
    }
}
