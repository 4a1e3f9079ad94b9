//! How long closed rows are kept.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::RowKind;

/// The limits for closed rows: a row is kept while it is within every limit.
///
/// A row that was closed recently is kept in any case: see [`Keep::at_least`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many rows of each incarnation and kind, the newest first. Default: 1000.
    pub rows: u32,
    /// How long a row is kept after it was closed. Default: 30 days.
    pub age: Duration,
    /// How long a row is kept after its job ended. Default: 7 days.
    pub ended: Duration,
    /// How many rows in total, the latest to end first. Default: 1,000,000.
    ///
    /// Beyond this limit only rows that were closed within the last minute are kept. A store may
    /// delete up to a tenth more than the limit requires.
    pub total: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Keep { rows: 1000, age: 30 * DAY, ended: 7 * DAY, total: 1_000_000 }
    }
}

impl Keep {
    /// How long a store remembers the end of a declared job: 365 days.
    ///
    /// A program that declares the job again restarts this period.
    pub const ENDED: TimeDelta = TimeDelta::days(365);

    /// How long the action log is kept: 90 days.
    pub const ACTIONS: TimeDelta = TimeDelta::days(90);

    /// The maximum number of actions in the log; the latest are kept.
    pub const MOST_ACTIONS: usize = 10_000;

    /// The maximum number of remembered ends; the latest are kept.
    pub const MOST_ENDED: usize = 100_000;

    /// The instant before which rows of this kind are older than `age`.
    pub(crate) fn oldest(age: Duration, kind: RowKind, now: DateTime<Utc>) -> DateTime<Utc> {
        let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
        let oldest = now.checked_sub_signed(age.max(Keep::at_least(kind)));
        oldest.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// How many of `closed` rows to delete, so that the total limit is not reached again soon.
    pub(crate) fn surplus(&self, closed: u64) -> u64 {
        let begins = self.total - self.total / 20;
        if closed <= begins { 0 } else { closed - (self.total - self.total / 10) }
    }

    /// How long a closed row is kept in any case: two hours for the end of a job, since nodes may
    /// poll as seldom as once an hour, and one minute for all other rows.
    pub fn at_least(kind: RowKind) -> TimeDelta {
        match kind {
            RowKind::Ended => TimeDelta::hours(2),
            RowKind::Scheduled | RowKind::Requested => TimeDelta::minutes(1),
        }
    }
}

/// The result of [`Store::prune`](crate::store::Store::prune).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The number of deleted rows.
    pub deleted: u64,
    /// The number of forgotten ends of jobs.
    pub forgotten: u64,
    /// Whether there is more to delete.
    pub more: bool,
}
