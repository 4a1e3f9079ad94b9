//! What a store notifies of.

use chrono::{DateTime, Utc};

use super::{Incarnation, Record};

/// A change of a store, as [`Store::changes`](crate::store::Store::changes) notifies of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreChange {
    /// There may be something to claim from this instant on that there was not: a job that fires then, or,
    /// at the beginning of time (`DateTime::<Utc>::MIN_UTC`), a row that waits.
    Due(DateTime<Utc>),
    /// The record of this incarnation has this version now, or a later one.
    Job(Incarnation, u64),
    /// The record of this incarnation is gone.
    Gone(Incarnation),
    /// Anything may have changed.
    Unknown,
}

impl StoreChange {
    /// What there is to notify of after a write: which incarnation has gone, if one has, the record as it
    /// is now, and whether there may be a waiting row to claim.
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
