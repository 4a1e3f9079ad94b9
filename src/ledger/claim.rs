//! The requests and results of a claim.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Incarnation, NodeId, Record, Row, RowKey, Stamp};
use crate::{error::Error, id::JobId};

/// A row that a node has claimed, until another claim, which has another fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The key of the row.
    pub key: RowKey,
    /// The fence of the claim.
    pub fence: u64,
}

/// The request of [`Store::claim`](crate::store::Store::claim).
#[derive(Clone)]
pub struct ClaimRequest {
    /// The node that claims.
    pub node: NodeId,
    /// The number of this claim among the node's claims, from 1.
    pub number: u64,
    /// The latest `next_fire` to claim.
    pub horizon: DateTime<Utc>,
    /// The tasks that the node has registered.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs to exclude: those of which the node has enough rows, and up to some thousand whose
    /// records it cannot read.
    pub except: Arc<HashSet<Incarnation>>,
    /// Where the scan starts: the node left or rejected the jobs before this position.
    pub passed: ClaimCursor,
    /// How many jobs the scan may leave or reject; see
    /// [`Store::claim`](crate::store::Store::claim).
    pub looks: usize,
    /// The maximum number of jobs.
    pub limit: usize,
    /// The number of rows after which the claim ends. The last job gets all its decided rows.
    pub row_limit: usize,
    /// Decides which rows of a job to claim.
    pub decide: Decide,
}

impl ClaimRequest {
    /// The maximum number of waiting rows of one job that a claim considers.
    pub const MOST_WAITING: usize = 1000;

    /// The request whose answer is [`ClaimResult::next_due`], for a claim that scanned up to
    /// `passed` and left or rejected `in_vain`.
    pub fn next_due(&self, passed: ClaimCursor, in_vain: &HashSet<Incarnation>) -> NextDueRequest {
        let except = if in_vain.is_empty() {
            self.except.clone()
        } else {
            Arc::new(self.except.union(in_vain).copied().collect())
        };
        NextDueRequest { node: self.node, tasks: self.tasks.clone(), except, passed }
    }
}

/// Decides which rows of a job to claim, given its record and the first
/// [`MOST_WAITING`](ClaimRequest::MOST_WAITING) of its waiting rows.
///
/// A call takes some microseconds and has no side effect except on its own count of free capacity.
/// A store may call it inside a transaction, and again when it retries the transaction.
pub type Decide = Arc<dyn Fn(&Record, &[Row]) -> Decision + Send + Sync>;

/// What a claim does with a job.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Leave the job unchanged: the node has no capacity for it.
    Leave,
    /// Leave the job unchanged: the node cannot read or run the record.
    Reject(Error),
    /// Put these rows into the ledger: claimed rows, and closed rows for fire times without a run.
    Claim {
        /// The rows. A row that was waiting keeps its key.
        rows: Vec<Row>,
        /// The first fire time after these rows.
        next_fire: Option<DateTime<Utc>>,
    },
}

/// The result of [`Store::claim`](crate::store::Store::claim) and
/// [`Store::claimed`](crate::store::Store::claimed).
#[derive(Clone, Debug, Default)]
pub struct ClaimResult {
    /// The jobs and their rows, in the order in which the store found them.
    pub jobs: Vec<ClaimedJob>,
    /// Rows whose record was removed after the claim, for the node to close.
    pub orphans: Vec<Row>,
    /// Whether a claim that continues after `passed` may find more.
    pub more: bool,
    /// The jobs that the node rejected.
    pub rejected: Vec<RejectedJob>,
    /// How many jobs the node left.
    pub left: usize,
    /// The position that the scan reached, at or after [`ClaimRequest::passed`].
    pub passed: ClaimCursor,
    /// The instant of the next claim, if there are no more candidates now: the result of
    /// [`Store::next_due`](crate::store::Store::next_due) for [`ClaimRequest::next_due`].
    pub next_due: Option<DateTime<Utc>>,
}

/// The position that a node's scan for jobs to claim has reached.
///
/// Later claims skip the jobs before it. Default: the start, which skips nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimCursor {
    /// The last scanned job with waiting rows; these jobs are in order of their incarnations.
    pub waiting: Option<Incarnation>,
    /// The last scanned due job; these jobs are in order of their next fire times and incarnations.
    pub due: Option<(DateTime<Utc>, Incarnation)>,
}

/// A job whose record a node could not read or run.
#[derive(Clone, Debug)]
pub struct RejectedJob {
    /// The job's id.
    pub job: JobId,
    /// The stamp of the record that was rejected.
    pub stamp: Stamp,
    /// Why the record was rejected.
    pub error: Error,
}

/// A job with rows that a node has claimed.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    /// The current record.
    pub record: Record,
    /// The rows that this claim put into the ledger: claimed and closed ones.
    pub rows: Vec<Row>,
}

/// A claimed row for [`Store::release`](crate::store::Store::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// The key of the row.
    pub key: RowKey,
    /// The fence of the claim.
    pub fence: u64,
    /// The next attempt, from 1: one more than the attempts made so far.
    pub attempt: u32,
}

impl Release {
    /// Releases the row that was claimed under this fence; `attempt` is the next attempt.
    pub fn new(key: RowKey, fence: u64, attempt: u32) -> Release {
        Release { key, fence, attempt }
    }

    /// The claim that is released.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
    }
}

/// The request of [`Store::next_due`](crate::store::Store::next_due), with fields as in
/// [`ClaimRequest`].
#[derive(Clone, Debug)]
pub struct NextDueRequest {
    /// The node that will claim.
    pub node: NodeId,
    /// The tasks that the node has registered.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs to exclude.
    pub except: Arc<HashSet<Incarnation>>,
    /// Where the scan starts: jobs before this position do not count.
    pub passed: ClaimCursor,
}
