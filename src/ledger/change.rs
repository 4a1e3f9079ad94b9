//! The changes that a store reports.

use chrono::{DateTime, Utc};

use super::{Incarnation, Record};

/// A change in a store, as [`Store::changes`](crate::store::Store::changes) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreChange {
    /// There may be something new to claim at this instant: a job that fires then, or a waiting row
    /// if the instant is `DateTime::<Utc>::MIN_UTC`.
    Due(DateTime<Utc>),
    /// The record of this incarnation has this version, or a later one.
    Job(Incarnation, u64),
    /// The record of this incarnation was removed.
    Gone(Incarnation),
    /// Anything may have changed.
    Unknown,
}

impl StoreChange {
    /// The record that has changed, if one has, with the version that it has at least: the highest of all
    /// if it was removed.
    pub(crate) fn record(self) -> Option<(Incarnation, u64)> {
        match self {
            StoreChange::Job(of, version) => Some((of, version)),
            StoreChange::Gone(of) => Some((of, u64::MAX)),
            StoreChange::Due(_) | StoreChange::Unknown => None,
        }
    }

    /// The changes to report after a write.
    ///
    /// `gone` is the incarnation that the write removed, `record` is the current record, and
    /// `waits` says whether there may be a waiting row to claim.
    pub(crate) fn of_write(
        gone: Option<Incarnation>,
        record: Option<&Record>,
        waits: bool,
    ) -> impl Iterator<Item = StoreChange> {
        let changed = record.map(|record| StoreChange::Job(record.incarnation, record.version));
        let next_fire = record.filter(|record| !record.paused).and_then(|record| record.next_fire);
        let due = if waits { Some(DateTime::<Utc>::MIN_UTC) } else { next_fire };
        [gone.map(StoreChange::Gone), changed, due.map(StoreChange::Due)].into_iter().flatten()
    }
}
