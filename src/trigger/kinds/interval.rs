//! Fire times on a grid of elapsed time, `start + k × period`.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{ImmediateMark, Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::add_millis,
        period::{duration, in_millis, in_units},
        search::{Budget, Grid},
    },
    zone::TimeZone,
};

/// A trigger that fires every so many milliseconds of elapsed time; made by
/// [`every`](crate::trigger::every).
///
/// The grid is anchored at the trigger's start and never drifts: what a run takes, and how late
/// one starts, do not move the next. Without a start the grid is anchored when the job is added
/// and first fires one period later, or at once if it is [immediate](crate::trigger::Build::immediately).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    period_ms: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    immediate: bool,
}

impl Interval {
    /// `period` in nanoseconds, since only its whole milliseconds can be kept.
    pub(in crate::trigger) fn new(period: Option<i128>) -> Result<Interval, Error> {
        let period_ms = in_millis(period)?;
        Ok(Interval { period_ms, immediate: false })
    }

    /// The length of one step, in milliseconds.
    pub fn period_ms(&self) -> i64 {
        self.period_ms
    }

    /// The instant so many steps after `start`, if the calendar reaches that far.
    fn after(&self, start: DateTime<Utc>, steps: i64) -> Option<DateTime<Utc>> {
        add_millis(start, steps.checked_mul(self.period_ms)?)
    }
}

impl Schedule for Interval {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let next = match search.start {
            Some(start) if search.asked < start => Some(start),
            Some(start) => {
                let steps = (search.asked - start).num_milliseconds() / self.period_ms;
                steps.checked_add(1).and_then(|steps| self.after(start, steps))
            }
            None => self.after(search.asked, 1),
        };
        budget.spend(1)?;
        Ok(next)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let last = search.start.filter(|&start| start <= search.from).and_then(|start| {
            self.after(start, (search.from - start).num_milliseconds() / self.period_ms)
        });
        budget.spend(1)?;
        Ok(last)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = in_units([self.period_ms.unsigned_abs()]);
        write!(f, "every {}{unit}", n[0])
    }

    fn description(&self) -> String {
        format!("Every {}", duration([self.period_ms.unsigned_abs()]))
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, _short: bool) -> fmt::Result {
        if self.immediate { f.write_str("; immediately") } else { Ok(()) }
    }

    fn validate(&mut self, _end: Option<DateTime<Utc>>) -> Result<(), Error> {
        in_millis(Some(i128::from(self.period_ms) * 1_000_000)).map(drop)
    }

    fn anchor(
        &mut self,
        start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        _zone: TimeZone,
    ) -> Result<(), Error> {
        if start.is_some() {
            return Ok(());
        }
        let first = self.after(now, 1).ok_or_else(|| {
            Error::invalid_trigger(format!(
                "a period of {} ms reaches past the end of the calendar: use a shorter one",
                self.period_ms
            ))
        })?;
        *start = Some(first);
        Ok(())
    }

    fn is_grid(&self) -> bool {
        true
    }

    fn is_immediate(&self) -> bool {
        self.immediate
    }

    fn immediate_mark(&mut self) -> Option<ImmediateMark<'_>> {
        // The grid starts with the first fire, and needs no mark once it does.
        Some(ImmediateMark { is_set: &mut self.immediate, stays: false })
    }

    fn nth(
        &self,
        _start: DateTime<Utc>,
        first: DateTime<Utc>,
        steps: i64,
    ) -> Option<DateTime<Utc>> {
        self.after(first, steps)
    }

    fn grid(&self, start: Option<DateTime<Utc>>) -> Option<Grid> {
        Some(Grid::new(start?, self.period_ms))
    }
}
