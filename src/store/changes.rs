//! The bounded channel by which a store in this process sends changes to its schedulers.

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::ledger::StoreChange;

/// How many changes a slow receiver may be behind; beyond that the receiver gets
/// [`StoreChange::Unknown`].
const BUFFER: usize = 1024;

/// The sender of a store's changes, with any number of receivers.
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
            // Without a receiver the change is dropped.
            let _ = self.0.send(change);
        }
    }

    /// A stream of all changes from now on, which ends with the store.
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
