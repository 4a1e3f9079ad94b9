//! The bounded channel by which stores in this process notify of changes.

use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::ledger::StoreChange;

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
