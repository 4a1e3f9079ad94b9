//! The hours of the day in which a trigger fires.

use std::fmt;

use chrono::{DateTime, NaiveTime, SubsecRound as _, TimeDelta, Timelike as _, Utc};
use serde::{Deserialize, Serialize};

use super::{
    instant::before,
    moment::Daily,
    search::{Budget, Grid},
    time_of_day::IntoTimeOfDay,
    wall_clock::{self, Fold, Gap, Readings, ZoneRules},
};
use crate::{
    error::Error,
    zone::{DAY, TimeZone},
};

/// What a wall clock shows between two times of day, both included; over midnight if the first is the
/// later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 2]", into = "[String; 2]")]
pub(super) struct Window {
    from: NaiveTime,
    to: NaiveTime,
}

impl Window {
    pub(super) fn new(from: impl IntoTimeOfDay, to: impl IntoTimeOfDay) -> Result<Window, Error> {
        let (from, to) = (from.into_time_of_day()?, to.into_time_of_day()?);
        for time in [from, to] {
            if time.nanosecond() != 0 {
                return Err(Error::invalid_trigger(format!(
                    "the time of day {time} is not a whole second: use {}",
                    time.with_nanosecond(0).unwrap_or_default()
                )));
            }
        }
        Ok(Window { from, to })
    }

    /// Reads a window as it prints.
    pub(super) fn read(text: &str) -> Option<Window> {
        let (from, to) = text.split_once(" and ")?;
        Window::new(from.trim(), to.trim()).ok()
    }

    /// The first instant at which the clock of a zone shows a time in the window, and that is not
    /// earlier than `t`.
    pub(super) fn at_or_after(
        self,
        zone: TimeZone,
        t: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let second = t.trunc_subsecs(0);
        let (inside, end) = (self.inside(), Daily::at(self.to));
        let rules = shown(zone);
        let earlier = second.checked_sub_signed(TimeDelta::seconds(1)).unwrap_or(second);
        let found = rules.apply(&inside, false).next_after(earlier);
        let found = found.map(|found| if found == second { t } else { found });
        // Of the last second only its beginning is in the window.
        let last = rules.apply(&end, false).next_after(before(t));
        let found = found.into_iter().chain(last).min();
        budget.spend_on_calendar(t, found, 2)?;
        Ok(found)
    }

    /// The last such instant that is not later than `t`, to the millisecond.
    pub(super) fn at_or_before(
        self,
        zone: TimeZone,
        t: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let second = t.trunc_subsecs(0);
        let (inside, end) = (self.inside(), Daily::at(self.to));
        let rules = shown(zone);
        let found = rules.apply(&inside, false).last_at_or_before(second);
        let found = found
            .map(|found| if found == second { t } else { found + TimeDelta::milliseconds(999) });
        let last = rules.apply(&end, false).last_at_or_before(second);
        let found = found.into_iter().chain(last).max();
        budget.spend_on_calendar(t, found, 2)?;
        Ok(found)
    }

    /// Whether it is certain that no instant of a grid is in the window: every day at noon is never
    /// in the morning.
    pub(super) fn never_meets(self, zone: TimeZone, grid: Grid) -> bool {
        let inside = self.inside();
        let is_in = |millis: i64| {
            let second = millis / 1000;
            inside.at_or_after(second) == Some(second)
                || millis == 1000 * i64::from(self.to.num_seconds_from_midnight())
        };
        wall_clock::offsets_from(zone, grid.first.div_euclid(1000))
            .into_iter()
            .all(|offset| !grid.hits(1000 * DAY, offset * 1000, is_in))
    }

    fn inside(self) -> Inside {
        let [from, to] =
            [self.from, self.to].map(|time| i64::from(time.num_seconds_from_midnight()));
        Inside { from, length: (to - from).rem_euclid(DAY) }
    }
}

/// A clock shows what it shows: nothing in a gap, and both passes of a fold.
fn shown(zone: TimeZone) -> ZoneRules {
    ZoneRules { zone: Some(zone), gap: Some(Gap::Skip), fold: Some(Fold::Both) }
}

/// The seconds of a window but for its last.
struct Inside {
    from: i64,
    length: i64,
}

impl Readings for Inside {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        let past = (reading - self.from).rem_euclid(DAY);
        if past < self.length {
            Some(reading)
        } else {
            (self.length > 0).then_some(reading + DAY - past)
        }
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        let past = (reading - self.from).rem_euclid(DAY);
        if past < self.length {
            Some(reading)
        } else {
            (self.length > 0).then_some(reading - past + self.length - 1)
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(text);
        write!(f, "{from} and {to}")
    }
}

fn text(time: NaiveTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

impl From<Window> for [String; 2] {
    fn from(window: Window) -> [String; 2] {
        [window.from, window.to].map(text)
    }
}

impl TryFrom<[String; 2]> for Window {
    type Error = Error;

    fn try_from([from, to]: [String; 2]) -> Result<Window, Error> {
        Window::new(from, to)
    }
}
