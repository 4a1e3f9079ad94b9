//! The trait that every kind of trigger implements.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::{
    error::Error,
    trigger::{
        day_filter::DayFilter,
        moment::impossible_date,
        quote::one_line,
        search::{Budget, Grid},
        wall_clock::{ClockTimes, ZoneRules},
    },
    zone::TimeZone,
};

/// A kind of trigger: what it answers by itself. The bounds, the number of times and the days that limit a
/// [`Trigger`](crate::trigger::Trigger) are applied by the trigger.
///
/// A kind has two questions and two texts of its own. Every other method has a default, which is right for
/// a kind that has no such property.
pub(in crate::trigger) trait Schedule {
    /// The first fire time strictly later than `search.from`. It is paid for from the budget.
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error>;

    /// The last fire time not later than `search.from`. It is paid for from the budget.
    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error>;

    /// Writes the text that is read back, without the clauses behind it.
    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The description in English, which begins a sentence.
    fn description(&self) -> String;

    // Texts.

    /// Writes the clauses that only this kind has, each behind a `;`. The short form leaves out what
    /// was filled in.
    fn write_options(&self, _f: &mut fmt::Formatter<'_>, _short: bool) -> fmt::Result {
        Ok(())
    }

    /// Reads such a clause. Returns whether this kind has a clause of this name.
    fn read_option(&mut self, _option: &KindOption<'_>) -> Result<bool, Error> {
        Ok(false)
    }

    // What depends on when a job is added.

    /// Checks what builders and deserializing cannot refuse. `end` is the end of the trigger.
    fn validate(&mut self, _end: Option<DateTime<Utc>>) -> Result<(), Error> {
        Ok(())
    }

    /// Fills in what depends on when a job is added and in which zone. `start` is that of the trigger.
    fn anchor(
        &mut self,
        _start: &mut Option<DateTime<Utc>>,
        _now: DateTime<Utc>,
        _zone: TimeZone,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the answers depend on when the job is added, the start of a grid aside.
    fn is_floating(&self) -> bool {
        false
    }

    /// Whether the fire times are counted from when the job is added, grids aside.
    fn is_elapsed_time(&self) -> bool {
        false
    }

    /// Moves what is elapsed time, as a step of the wall clock asks. `start` is that of the trigger
    /// before it moves.
    fn shift(&mut self, _by: TimeDelta, _start: Option<DateTime<Utc>>) {}

    /// Whether there is one fire time, which is due even after it has passed.
    fn fires_once(&self) -> bool {
        false
    }

    // Wall clocks.

    /// The zone, gap and fold, for a kind that goes by a wall clock: its fire times are dates and times of
    /// day, which a gap may move.
    fn zone_rules(&self) -> Option<&ZoneRules> {
        None
    }

    /// The same, to be changed.
    fn zone_rules_mut(&mut self) -> Option<&mut ZoneRules> {
        None
    }

    /// The times of day at which it fires, gaps aside, if these are the same on all days.
    fn clock_times(&self) -> Option<ClockTimes> {
        None
    }

    /// Reads a date and time of day by the clock of a zone. Returns whether there was one.
    fn set_zone(&mut self, _zone: TimeZone) -> Result<bool, Error> {
        Ok(false)
    }

    // Grids of elapsed time.

    /// Whether the fire times are steps of elapsed time from the start of the trigger on.
    fn is_grid(&self) -> bool {
        false
    }

    /// Whether the grid starts, and fires, when the job is added.
    fn is_immediate(&self) -> bool {
        false
    }

    /// The mark that makes a grid start when the job is added.
    fn immediate_mark(&mut self) -> Option<ImmediateMark<'_>> {
        None
    }

    /// The fire time of a grid so many steps after `first`, which is one.
    fn nth(
        &self,
        _start: DateTime<Utc>,
        _first: DateTime<Utc>,
        _steps: i64,
    ) -> Option<DateTime<Utc>> {
        None
    }

    /// The instants on which all fire times lie, if these have a fixed distance.
    fn grid(&self, _start: Option<DateTime<Utc>>) -> Option<Grid> {
        None
    }

    /// How many fire times lie in `first..=last`, both of which are fire times, if that can be
    /// computed without a search.
    fn count(
        &self,
        start: Option<DateTime<Utc>>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> Option<u64> {
        self.grid(start).map(|grid| grid.count(first, last))
    }

    // Combinations.

    /// The end of those members that name a fire time.
    fn end_for(&self, _fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }

    /// Why there are no fire times, and what would give it some, if that is known.
    fn why_never(&self) -> Option<String> {
        None
    }
}

/// A search for a fire time of a kind.
pub(in crate::trigger) struct Search<'a> {
    /// The instant that was asked about.
    pub(in crate::trigger) asked: DateTime<Utc>,
    /// The same, but not before the start of the trigger nor after its end.
    pub(in crate::trigger) from: DateTime<Utc>,
    /// Where the search may end.
    pub(in crate::trigger) until: DateTime<Utc>,
    /// The start of the trigger.
    pub(in crate::trigger) start: Option<DateTime<Utc>>,
    /// The days that select from the dates that a kind names.
    pub(in crate::trigger) days: Option<&'a DayFilter>,
}

/// The mark that makes a grid start when the job is added.
pub(in crate::trigger) struct ImmediateMark<'a> {
    pub(in crate::trigger) is_set: &'a mut bool,
    /// Whether the mark stays once the grid has started, since the fire times depend on it.
    pub(in crate::trigger) stays: bool,
}

/// A clause of a text, such as `from 2026-11-20`.
pub(in crate::trigger) struct KindOption<'a> {
    pub(in crate::trigger) name: &'a str,
    pub(in crate::trigger) value: &'a str,
    /// The whole of it, for errors.
    pub(in crate::trigger) clause: &'a str,
}

impl KindOption<'_> {
    /// The date from which a kind counts.
    pub(super) fn date(&self) -> Result<NaiveDate, Error> {
        self.value.parse().map_err(|_| {
            let fault = impossible_date(self.value)
                .unwrap_or_else(|| "write, for example, `from 2026-11-20`".to_owned());
            Error::invalid_trigger(format!(
                "`{}` does not name a date: {fault}",
                one_line(self.clause)
            ))
        })
    }
}
