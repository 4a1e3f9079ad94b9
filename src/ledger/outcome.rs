//! The outcomes of rows.

use chrono::{DateTime, Utc};

use super::{Claim, Fate, Incarnation, ROW_SIZE, RowKey};

/// The outcome of a row, for [`Store::finish`](crate::store::Store::finish).
#[derive(Clone, Debug)]
pub struct RowOutcome {
    /// The key of the row.
    pub key: RowKey,
    /// The fence of the claim.
    pub fence: u64,
    /// The fate of the row.
    pub fate: Fate,
    /// The last attempt that was made, or was about to be made.
    pub attempt: u32,
    /// When the last attempt called the work; `None` if it was not called.
    pub started_at: Option<DateTime<Utc>>,
    /// When the fate was known.
    pub ended_at: DateTime<Utc>,
    /// The error of a failed run, at most 1 kB.
    pub message: Option<String>,
    /// The fate of the job, if this outcome ends it: *completed*, or *cancelled* if its token was
    /// cancelled during the run.
    pub job_end: Fate,
}

impl RowOutcome {
    /// The claim that this outcome ends.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
    }

    /// The approximate size of the commit, in bytes.
    pub(crate) fn size(&self) -> usize {
        ROW_SIZE + self.message.as_ref().map_or(0, String::len)
    }
}

/// The result of [`Store::finish`](crate::store::Store::finish).
#[derive(Clone, Debug, Default)]
pub struct FinishReport {
    /// The outcomes that were refused, since their rows were claimed again or pruned.
    pub refused: Vec<RowKey>,
    /// The jobs that are now over.
    pub over: Vec<Incarnation>,
}
