//! The days and hours on which a trigger may fire.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::RangeInclusive,
    sync::Arc,
};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::{
    days::Days,
    search::{Budget, Grid, leapfrog},
    wall_clock::{self, Readings, Zoned},
    window::Window,
};
use crate::{
    error::Error,
    zone::{DAY, TimeZone},
};

/// The days and hours that a trigger is limited to, as they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct DayOptions {
    pub(super) only: Option<Days>,
    pub(super) except: Option<Days>,
    pub(super) between: Option<Window>,
}

impl DayOptions {
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
    /// Nothing if no option is set.
    pub(super) fn new(
        options: DayOptions,
        zone: Option<TimeZone>,
    ) -> Result<Option<Arc<DayFilter>>, Error> {
        const MOST: usize = 4_096;
        let DayOptions { only, except, between } = options;
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
        let found = wall_clock::first_on(zone, second, |date| self.allowed.at_or_after(date));
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
        let found = wall_clock::last_on(zone, second, |date| self.allowed.at_or_before(date));
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
            && wall_clock::offsets_from(zone, grid.first.div_euclid(1000)).into_iter().all(
                |offset| {
                    !grid.hits(7 * DAY, offset * 1000, |time| {
                        self.allowed.weekdays >> weekday(time / DAY) & 1 != 0
                    })
                },
            )
    }
}

/// The readings of a schedule whose date, as the schedule names it, is allowed: a gap may move the fire
/// time to another date.
pub(super) struct AllowedReadings<'a, R> {
    readings: &'a R,
    allowed: &'a Allowed,
    /// Where the search ends.
    bounds: RangeInclusive<i64>,
    budget: RefCell<&'a mut Budget>,
    exhausted: Cell<Option<Error>>,
}

impl<'a, R: Readings> AllowedReadings<'a, R> {
    pub(super) fn new(
        readings: &'a R,
        days: &'a DayFilter,
        bounds: RangeInclusive<i64>,
        budget: &'a mut Budget,
    ) -> AllowedReadings<'a, R> {
        let budget = RefCell::new(budget);
        AllowedReadings {
            readings,
            allowed: &days.allowed,
            bounds,
            budget,
            exhausted: Cell::new(None),
        }
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

impl<R: Readings> Readings for AllowedReadings<'_, R> {
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

impl<R: Readings> Zoned<'_, R> {
    /// The first fire time strictly later than `t`, of those that the schedule names on these days. The
    /// search may end at `hi`, and is paid for.
    pub(super) fn next_on(
        &self,
        days: Option<&DayFilter>,
        t: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(days) = days else {
            let next = self.next_after(t);
            budget.spend_on_calendar(t, next, R::COST)?;
            return Ok(next);
        };
        // No clock is a day from UTC.
        let bounds = i64::MIN..=hi.timestamp() + DAY;
        let readings = AllowedReadings::new(self.readings, days, bounds, budget);
        let next = self.with(&readings).next_after(t);
        readings.unless_exhausted(next)
    }

    /// The last one that is not later than `t`. The search may end at `lo`, and is paid for.
    pub(super) fn last_on(
        &self,
        days: Option<&DayFilter>,
        t: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(days) = days else {
            let last = self.last_at_or_before(t);
            budget.spend_on_calendar(t, last, R::COST)?;
            return Ok(last);
        };
        let bounds = lo.timestamp() - DAY..=i64::MAX;
        let readings = AllowedReadings::new(self.readings, days, bounds, budget);
        let last = self.with(&readings).last_at_or_before(t);
        readings.unless_exhausted(last)
    }
}
