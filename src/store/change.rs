//! What a store notifies of, and the bounded channel by which stores in this process do.

use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Incarnation, Record};

/// A change of a store, as [`Store::changes`](super::Store::changes) notifies of it.
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

/// How many changes a slow listener may be behind; then it gets [`StoreChange::Unknown`] instead.
const BUFFER: usize = 1024;

/// Notifies all who listen.
#[derive(Clone)]
pub(crate) struct Changes(broadcast::Sender<StoreChange>);

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes(broadcast::Sender::new(BUFFER))
    }

    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn are_wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub(crate) fn send(&self, changes: impl IntoIterator<Item = StoreChange>) {
        for change in changes {
            // Nobody need listen.
            let _ = self.0.send(change);
        }
    }

    /// Those from here on. It ends with the store.
    pub(crate) fn stream(&self) -> BoxStream<'static, StoreChange> {
        let next = |mut receiver: broadcast::Receiver<StoreChange>| async move {
            match receiver.recv().await {
                Ok(change) => Some((change, receiver)),
                Err(RecvError::Lagged(_)) => Some((StoreChange::Unknown, receiver.resubscribe())),
                Err(RecvError::Closed) => None,
            }
        };
        stream::unfold(self.0.subscribe(), next).boxed()
    }
}
