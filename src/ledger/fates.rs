//! Which fates a store lists over all its jobs, and where a page of them ends.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{NodeId, Row, RowKey, RowState};
use crate::job::JobId;

/// Which closed rows [`Store::fates`](crate::store::Store::fates) lists: those for which all holds that is set.
/// Default: all.
///
/// ```
/// use punctual::store::FateFilter;
///
/// let failed = FateFilter { fate: Some("ran: failed".into()), ..FateFilter::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FateFilter {
    /// They ended at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// They ended before this instant.
    pub until: Option<DateTime<Utc>>,
    /// They are of a job of this id, in whichever of its lives.
    pub job: Option<JobId>,
    /// The text of the [`Fate`](super::Fate) begins with this: `ran`, `ran: failed`, `skipped`.
    pub fate: Option<String>,
    /// This node took them last.
    pub node: Option<NodeId>,
}

impl FateFilter {
    /// Whether a row is one of those.
    pub fn passes(&self, row: &Row) -> bool {
        let (RowState::Closed(fate), Some(ended_at)) = (&row.state, row.ended_at) else {
            return false;
        };
        self.from.is_none_or(|from| ended_at >= from)
            && self.until.is_none_or(|until| ended_at < until)
            && self.job.as_ref().is_none_or(|job| row.job == *job)
            && self.node.is_none_or(|node| row.node == Some(node))
            && self.fate.as_ref().is_none_or(|begin| fate.to_string().starts_with(begin))
    }
}

/// Where a page of [`Store::fates`](crate::store::Store::fates) ends: at a closed row. What ends later does not
/// move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateCursor {
    /// When the row ended.
    pub ended_at: DateTime<Utc>,
    /// Which row it is.
    pub key: RowKey,
}

impl FateCursor {
    /// At this row; `None` if it is open.
    pub fn at(row: &Row) -> Option<FateCursor> {
        let ended_at = row.ended_at.filter(|_| !row.state.is_open())?;
        Some(FateCursor { ended_at, key: row.key })
    }

    /// What grows along the order in which rows are listed: the latest to end come first.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn place(row: &Row) -> impl Ord + use<> {
        let RowKey { incarnation, kind, number } = row.key;
        std::cmp::Reverse((row.ended_at, kind, incarnation, number))
    }
}

/// Some of the closed rows of a store; see [`Store::fates`](crate::store::Store::fates).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FatePage {
    /// The rows, the latest to end first.
    pub rows: Vec<Row>,
    /// Behind what the next page begins, which may be empty; `None` if this is the last one.
    pub next: Option<FateCursor>,
}
