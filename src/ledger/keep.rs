//! How much of the ledger is kept.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::RowKind;

/// Which closed rows are kept: those that every bound leaves. What ended only now is kept in any case, see
/// [`Keep::at_least`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How many of each incarnation and kind, the newest. Default: 1000.
    pub rows: u32,
    /// For how long after their end. Default: 30 days.
    pub age: Duration,
    /// For how long after the end of their job. Default: 7 days.
    pub ended: Duration,
    /// How many in all, the latest to end; of those beyond it only what ended in the last minute is kept.
    /// Default: a million. A store may delete a tenth more than it must.
    pub total: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Keep { rows: 1000, age: 30 * DAY, ended: 7 * DAY, total: 1_000_000 }
    }
}

impl Keep {
    /// For how long it is remembered that a job is over which may be declared again: a year. A program
    /// that declares it begins that anew.
    pub const ENDED: TimeDelta = TimeDelta::days(365);

    /// For how long the action log is kept: 90 days.
    pub const ACTIONS: TimeDelta = TimeDelta::days(90);

    /// How many actions it keeps, the latest.
    pub const MOST_ACTIONS: usize = 10_000;

    /// How many such ends are remembered, the latest.
    pub const MOST_ENDED: usize = 100_000;

    /// Before when the rows of a kind have ended that are too old, be it by a bound of this age.
    pub(crate) fn oldest(age: Duration, kind: RowKind, now: DateTime<Utc>) -> DateTime<Utc> {
        let age = TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX);
        let oldest = now.checked_sub_signed(age.max(Keep::at_least(kind)));
        oldest.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// How many of so many closed rows are to go, so that there is room for some time.
    pub(crate) fn surplus(&self, closed: u64) -> u64 {
        let begins = self.total - self.total / 20;
        if closed <= begins { 0 } else { closed - (self.total - self.total / 10) }
    }

    /// For how long what has ended is kept in any case: what says how a job ended for two hours, since
    /// nodes may ask as seldom as once an hour, and all else for a minute.
    pub fn at_least(kind: RowKind) -> TimeDelta {
        match kind {
            RowKind::Ended => TimeDelta::hours(2),
            RowKind::Scheduled | RowKind::Requested => TimeDelta::minutes(1),
        }
    }
}

/// What [`Store::prune`](crate::store::Store::prune) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// How many rows it deleted.
    pub deleted: u64,
    /// How many ends of jobs it forgot.
    pub forgotten: u64,
    /// Whether there is more to do.
    pub more: bool,
}
