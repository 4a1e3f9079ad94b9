//! What a node asks for when it claims fire times, and what it gets.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Incarnation, NodeId, Record, Row, RowKey, Stamp};
use crate::{error::Error, job::JobId};

/// A row as one node has it: until it is claimed again, which is under another fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// Which row.
    pub key: RowKey,
    /// The fence under which it was claimed.
    pub fence: u64,
}

/// What [`Store::claim`](crate::store::Store::claim) is asked for.
#[derive(Clone)]
pub struct ClaimRequest {
    /// Who takes.
    pub node: NodeId,
    /// Counts the takes of this node, from 1.
    pub number: u64,
    /// Up to when jobs are to be due.
    pub horizon: DateTime<Utc>,
    /// The tasks that the node knows.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs that it leaves out: those of which it has enough, and some thousand at most that it can't
    /// read.
    pub except: Arc<HashSet<Incarnation>>,
    /// How far the node has looked in vain before.
    pub passed: ClaimCursor,
    /// How many jobs are looked at in vain at most; see [`Store::claim`](crate::store::Store::claim).
    pub looks: usize,
    /// How many jobs at most.
    pub limit: usize,
    /// After how many rows it is enough: the job at hand gets all that was decided on.
    pub row_limit: usize,
    /// Says what becomes of a job's fire times.
    pub decide: Decide,
}

impl ClaimRequest {
    /// What a take answers in [`ClaimResult::next_due`], if it came so far and looked at these in vain.
    pub fn next_due(&self, passed: ClaimCursor, in_vain: &HashSet<Incarnation>) -> NextDueRequest {
        let except = match in_vain.is_empty() {
            true => self.except.clone(),
            false => Arc::new(self.except.union(in_vain).copied().collect()),
        };
        NextDueRequest { node: self.node, tasks: self.tasks.clone(), except, passed }
    }
}

/// Decides what becomes of a job's fire times by its record and its waiting rows. It takes some
/// microseconds and changes nothing but its own count of the room there is, so it may be called inside a
/// transaction, and again where that is tried again.
pub type Decide = Arc<dyn Fn(&Record, &[Row]) -> Decision + Send + Sync>;

/// What becomes of a job's fire times.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing, for this node, as things are: it has no room for it.
    Leave,
    /// Nothing, since this node can't read the record, or not run it.
    Reject(Error),
    /// These rows go into the ledger: taken ones, and closed ones that run for nothing.
    Claim {
        /// The rows; those that were waiting have their old key.
        rows: Vec<Row>,
        /// The first fire time that is not among them.
        next_fire: Option<DateTime<Utc>>,
    },
}

/// What [`Store::claim`](crate::store::Store::claim) took, or [`Store::claimed`](crate::store::Store::claimed) found.
#[derive(Clone, Debug, Default)]
pub struct ClaimResult {
    /// The jobs and their rows, in the order in which they were found.
    pub jobs: Vec<ClaimedJob>,
    /// Rows whose record is gone since they were taken, for the node to close.
    pub orphans: Vec<Row>,
    /// Whether there may be more, for a take that goes on behind `passed`.
    pub more: bool,
    /// The jobs that were rejected.
    pub rejected: Vec<RejectedJob>,
    /// How many were left.
    pub left: usize,
    /// How far the take has looked in vain: at least as far as [`ClaimRequest::passed`].
    pub passed: ClaimCursor,
    /// When to take next, if there is no more now: what [`Store::next_due`](crate::store::Store::next_due) answers to
    /// [`ClaimRequest::next_due`].
    pub next_due: Option<DateTime<Utc>>,
}

/// How far a node has looked in vain: it passes over the jobs up to there. Nothing is passed by
/// default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimCursor {
    /// Of the jobs with waiting rows, which come in order of their incarnations: the last.
    pub waiting: Option<Incarnation>,
    /// Of the jobs that are due, which come in order of their next fire times and incarnations: the
    /// last.
    pub due: Option<(DateTime<Utc>, Incarnation)>,
}

/// A job whose record a take could not read.
#[derive(Clone, Debug)]
pub struct RejectedJob {
    /// Which it is.
    pub job: JobId,
    /// Its record as it was.
    pub stamp: Stamp,
    /// What is wrong with it.
    pub error: Error,
}

/// A job of which a node has taken rows.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    /// The record as it is now.
    pub record: Record,
    /// The rows that this take put into the ledger as was decided: those taken, and those closed.
    pub rows: Vec<Row>,
}

/// A row that a node gives back; see [`Store::release`](crate::store::Store::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// Which row.
    pub key: RowKey,
    /// The fence under which it was taken.
    pub fence: u64,
    /// Which call of the work comes next, from 1: one more than the last one that was made.
    pub attempt: u32,
}

impl Release {
    /// Gives back a row that was taken under this fence, for this attempt to come.
    pub fn new(key: RowKey, fence: u64, attempt: u32) -> Release {
        Release { key, fence, attempt }
    }

    /// The claim that it gives back.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
    }
}

/// What [`Store::next_due`](crate::store::Store::next_due) is asked for; as in [`ClaimRequest`].
#[derive(Clone, Debug)]
pub struct NextDueRequest {
    /// Who asks.
    pub node: NodeId,
    /// The tasks that the node knows.
    pub tasks: Arc<HashSet<String>>,
    /// Jobs that it leaves out.
    pub except: Arc<HashSet<Incarnation>>,
    /// How far the node has looked in vain: jobs up to there do not count.
    pub passed: ClaimCursor,
}
