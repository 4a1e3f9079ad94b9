//! The end of a row, as a node reports it.

use chrono::{DateTime, Utc};

use super::{Claim, Fate, Incarnation, ROW_SIZE, RowKey};

/// The end of a row.
#[derive(Clone, Debug)]
pub struct RowOutcome {
    /// Which row.
    pub key: RowKey,
    /// The fence under which it was taken.
    pub fence: u64,
    /// What became of it.
    pub fate: Fate,
    /// How often the work was called, or was to be.
    pub attempt: u32,
    /// When the work was called, if it was; the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// When that was known.
    pub ended_at: DateTime<Utc>,
    /// The error of a run that failed, at most a kilobyte.
    pub message: Option<String>,
    /// How the job ended, if it is over with this: *completed*, or *cancelled* where its token was
    /// cancelled while the run was going.
    pub job_end: Fate,
}

impl RowOutcome {
    /// The claim that it ends.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
    }

    /// About how many bytes it commits.
    pub(crate) fn size(&self) -> usize {
        ROW_SIZE + self.message.as_ref().map_or(0, String::len)
    }
}

/// What came of [`Store::finish`](crate::store::Store::finish).
#[derive(Clone, Debug, Default)]
pub struct FinishReport {
    /// The outcomes that were refused, since their rows have been taken again, or pruned.
    pub refused: Vec<RowKey>,
    /// The jobs that are over with this.
    pub over: Vec<Incarnation>,
}
