//! The kinds of triggers: a file for each, the enum of them, and the one place that matches on it.

mod calendar;
mod combine;
mod cron;
mod custom;
mod date;
mod follow;
mod interval;
mod random;
mod schedule;
mod timetable;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use self::schedule::ImmediateMark;
pub use self::{
    calendar::CalendarInterval,
    combine::{And, Or},
    cron::{Cron, CronFields},
    custom::{Custom, CustomTrigger},
    date::Date,
    follow::{Follow, FollowOn},
    interval::Interval,
    random::Random,
    timetable::Timetable,
};
pub(super) use self::{
    combine::Members,
    cron::Part,
    schedule::{KindOption, Schedule, Search},
};
use super::{
    search::{Budget, Grid},
    wall_clock::{ClockTimes, ZoneRules},
};
use crate::{error::Error, zone::TimeZone};

/// What a trigger goes by. It prints as [`Trigger`](super::Trigger) does, without bounds and options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// One fire time.
    Date(Date),
    /// A grid of elapsed time.
    Interval(Interval),
    /// A pattern of wall-clock readings.
    Cron(Cron),
    /// The same, given as fields.
    CronFields(CronFields),
    /// Dates so many years, months, weeks and days apart.
    CalendarInterval(CalendarInterval),
    /// The instants that several triggers name, all of them.
    And(And),
    /// The instants that several triggers name, any of them.
    Or(Or),
    /// Certain days at certain times of day.
    Timetable(Timetable),
    /// Random distances of elapsed time.
    Random(Box<Random>),
    /// Another job's runs, in place of fire times.
    Follow(Box<Follow>),
    /// A type of the user's own. It has no serialized form.
    #[serde(skip_deserializing)]
    Custom(Custom),
}

/// Evaluates an expression for the kind that a [`Kind`] holds: the only place that knows all of them.
macro_rules! of_kind {
    ($self:expr, $kind:ident => $answer:expr) => {
        match $self {
            Kind::Date($kind) => $answer,
            Kind::Interval($kind) => $answer,
            Kind::Cron($kind) => $answer,
            Kind::CronFields($kind) => $answer,
            Kind::CalendarInterval($kind) => $answer,
            Kind::And($kind) => $answer,
            Kind::Or($kind) => $answer,
            Kind::Timetable($kind) => $answer,
            Kind::Random($kind) => $answer,
            Kind::Follow($kind) => $answer,
            Kind::Custom($kind) => $answer,
        }
    };
}

macro_rules! into_kind {
    ($($kind:ident)+) => {$(
        impl From<$kind> for Kind {
            fn from(kind: $kind) -> Kind {
                Kind::$kind(kind.into())
            }
        }
    )+};
}

into_kind! {
    Date Interval Cron CronFields CalendarInterval And Or Timetable Random Follow Custom
}

impl Schedule for Kind {
    #[inline]
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        of_kind!(self, kind => kind.next(search, budget))
    }

    #[inline]
    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        of_kind!(self, kind => kind.last(search, budget))
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        of_kind!(self, kind => kind.write_text(f))
    }

    fn description(&self) -> String {
        of_kind!(self, kind => kind.description())
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, short: bool) -> fmt::Result {
        of_kind!(self, kind => kind.write_options(f, short))
    }

    fn read_option(&mut self, option: &KindOption<'_>) -> Result<bool, Error> {
        of_kind!(self, kind => kind.read_option(option))
    }

    fn validate(&mut self, end: Option<DateTime<Utc>>) -> Result<(), Error> {
        of_kind!(self, kind => kind.validate(end))
    }

    fn anchor(
        &mut self,
        start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        of_kind!(self, kind => kind.anchor(start, now, zone))
    }

    fn is_floating(&self) -> bool {
        of_kind!(self, kind => kind.is_floating())
    }

    fn is_elapsed_time(&self) -> bool {
        of_kind!(self, kind => kind.is_elapsed_time())
    }

    fn shift(&mut self, by: TimeDelta, start: Option<DateTime<Utc>>) {
        of_kind!(self, kind => kind.shift(by, start))
    }

    fn fires_once(&self) -> bool {
        of_kind!(self, kind => kind.fires_once())
    }

    fn zone_rules(&self) -> Option<&ZoneRules> {
        of_kind!(self, kind => kind.zone_rules())
    }

    fn zone_rules_mut(&mut self) -> Option<&mut ZoneRules> {
        of_kind!(self, kind => kind.zone_rules_mut())
    }

    fn clock_times(&self) -> Option<ClockTimes> {
        of_kind!(self, kind => kind.clock_times())
    }

    fn set_zone(&mut self, zone: TimeZone) -> Result<bool, Error> {
        of_kind!(self, kind => kind.set_zone(zone))
    }

    fn is_grid(&self) -> bool {
        of_kind!(self, kind => kind.is_grid())
    }

    fn is_immediate(&self) -> bool {
        of_kind!(self, kind => kind.is_immediate())
    }

    fn immediate_mark(&mut self) -> Option<ImmediateMark<'_>> {
        of_kind!(self, kind => kind.immediate_mark())
    }

    fn nth(&self, start: DateTime<Utc>, first: DateTime<Utc>, steps: i64) -> Option<DateTime<Utc>> {
        of_kind!(self, kind => kind.nth(start, first, steps))
    }

    fn grid(&self, start: Option<DateTime<Utc>>) -> Option<Grid> {
        of_kind!(self, kind => kind.grid(start))
    }

    fn count(
        &self,
        start: Option<DateTime<Utc>>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> Option<u64> {
        of_kind!(self, kind => kind.count(start, first, last))
    }

    fn end_for(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        of_kind!(self, kind => kind.end_for(fire_time))
    }

    fn why_never(&self) -> Option<String> {
        of_kind!(self, kind => kind.why_never())
    }
}

/// What the trigger goes by, as [`Trigger`](super::Trigger) prints it first.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_text(f)
    }
}
