//! How a node has the ledger pruned, and corrects records that a wrong clock has left.

use crate::ledger::{Cursor, Keep, Page, Pruned, Write, Written};

/// What the prune lane sends to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Prune {
        keep: Keep,
        limit: usize,
    },
    List {
        after: Option<Cursor>,
        limit: usize,
    },
    /// Writes records anew whose next fire time a wrong clock has set.
    Correct(Vec<Write>),
}

/// What the store replies, with the corrections that were sent.
#[derive(Debug)]
pub(crate) enum Reply {
    Prune(Pruned),
    List(Page),
    Correct { writes: Vec<Write>, written: Vec<Written> },
}
