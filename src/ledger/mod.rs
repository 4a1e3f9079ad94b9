//! The data of durable jobs: records, rows of the ledger, fates, and the requests and results of
//! store operations.
//!
//! This module is data only; [`Store`](crate::store::Store) describes the operations.

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
mod statement;
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
    statement::InsertStatement,
    write::{Write, WriteResult},
};
pub(crate) use self::{
    record::{is_nothing, nothing, recoveries},
    row::ROW_SIZE,
};

/// How many of the first `sizes` fit into one operation of at most `most` items and `bytes` bytes:
/// at least one item, if there is one.
pub(crate) fn fitting(sizes: impl Iterator<Item = usize>, most: usize, bytes: usize) -> usize {
    let mut left = bytes;
    let fits = sizes.take(most.max(1)).enumerate().take_while(|&(before, size)| {
        let fits = before == 0 || size <= left;
        left = left.saturating_sub(size);
        fits
    });
    fits.count()
}
