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
        Claim, ClaimCursor, ClaimRequest, ClaimResult, ClaimedJob, Decide, Decision,
        NextDueRequest, RejectedJob, Release,
    },
    error::StoreError,
    fate::{Fate, RunEnd},
    fates::{FateCursor, FateFilter, FatePage},
    keep::{Keep, PruneReport},
    node::{Heartbeat, NodeId, NodeRow, ReapReport},
    outcome::{FinishReport, RowOutcome},
    record::{
        Incarnation, Record, RecordChange, RecordCursor, RecordFilter, RecordPage, RecordStatus,
        Stamp, Tokens,
    },
    row::{Row, RowKey, RowKind, RowState},
    write::{Write, WriteResult},
};
// The names before these types were renamed; to be removed.
#[doc(hidden)]
pub use self::{
    ClaimCursor as Passed, NextDueRequest as NextDue, PruneReport as Pruned, ReapReport as Reaped,
    RecordCursor as Cursor, RecordPage as Page, RejectedJob as Rejected, WriteResult as Written,
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
