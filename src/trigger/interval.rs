//! Fire times on a grid of elapsed time, `start + k × period`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::add_millis;
use crate::error::Error;

/// A trigger that fires every so many milliseconds of elapsed time; made by
/// [`every`](super::every).
///
/// The grid is anchored at the trigger's start and never drifts: what a run takes, and how late
/// one starts, do not move the next. Without a start the grid is anchored when the job is added
/// and first fires one period later, or at once if it is [immediate](super::Build::immediately).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    period_ms: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) immediate: bool,
}

impl Interval {
    /// `period` in nanoseconds, since only its whole milliseconds can be kept.
    pub(super) fn new(period: Option<i128>) -> Result<Interval, Error> {
        const NANOS: i128 = 1_000_000;
        let too_long = || {
            Error::invalid_trigger(
                "the period reaches past the end of the calendar: use a shorter one",
            )
        };
        let nanos = period.ok_or_else(too_long)?;
        let period_ms = i64::try_from(nanos / NANOS).map_err(|_| too_long())?;
        if nanos < NANOS {
            return Err(Error::invalid_trigger(format!(
                "a period of {} ms is too short: the shortest is 1 ms",
                nanos as f64 / NANOS as f64
            )));
        }
        if nanos % NANOS != 0 {
            return Err(Error::invalid_trigger(format!(
                "a period of {} ms is not a whole number of milliseconds, so its grid would drift: use {} ms",
                nanos as f64 / NANOS as f64,
                nanos / NANOS
            )));
        }
        Ok(Interval { period_ms, immediate: false })
    }

    /// The length of one step, in milliseconds.
    pub fn period_ms(&self) -> i64 {
        self.period_ms
    }

    /// Checks what deserializing may have let in.
    pub(super) fn validate(&self) -> Result<(), Error> {
        Interval::new(Some(i128::from(self.period_ms) * 1_000_000)).map(drop)
    }

    pub(super) fn next_after(
        &self,
        start: DateTime<Utc>,
        t: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if t < start {
            return Some(start);
        }
        let steps = (t - start).num_milliseconds() / self.period_ms;
        self.nth(start, steps.checked_add(1)?)
    }

    pub(super) fn last_at_or_before(
        &self,
        start: DateTime<Utc>,
        t: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if t < start {
            return None;
        }
        self.nth(start, (t - start).num_milliseconds() / self.period_ms)
    }

    pub(super) fn nth(&self, start: DateTime<Utc>, steps: i64) -> Option<DateTime<Utc>> {
        add_millis(start, steps.checked_mul(self.period_ms)?)
    }
}
