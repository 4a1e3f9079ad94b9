//! The data of durable jobs: records, rows of the ledger, fates, and what nodes and stores say to each
//! other about them. Nothing here acts; [`Store`](crate::store::Store) says what is done with it.

mod actions;
mod change;
mod claim;
mod error;
mod fate;
mod fates;
mod keep;
mod node;
mod outcome;
mod record;
mod row;
mod write;

pub use self::{
    actions::{Action, ActionCursor, ActionPage, LoggedAction},
    change::StoreChange,
    claim::{
        Claim, ClaimRequest, ClaimResult, ClaimedJob, Decide, Decision, NextDue, Passed, Rejected,
        Release,
    },
    error::StoreError,
    fate::{Fate, RunEnd},
    fates::{FateCursor, FateFilter, FatePage},
    keep::{Keep, Pruned},
    node::{Heartbeat, NodeId, NodeRow, Reaped},
    outcome::{FinishReport, RowOutcome},
    record::{
        Cursor, Incarnation, Page, Record, RecordChange, RecordFilter, RecordStatus, Stamp, Tokens,
    },
    row::{Row, RowKey, RowKind, RowState},
    write::{Write, Written},
};
pub(crate) use self::{
    record::{is_nothing, nothing, recoveries},
    row::ROW_SIZE,
};

/// How many of the first of these sizes one operation takes, of at most so many and so many bytes: one at
/// least, if there are any.
pub(crate) fn fitting(sizes: impl Iterator<Item = usize>, most: usize, bytes: usize) -> usize {
    let mut left = bytes;
    let fits = sizes.take(most.max(1)).enumerate().take_while(|&(before, size)| {
        let fits = before == 0 || size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fits.count()
}
