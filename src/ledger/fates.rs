//! The filter and the pages of a store's fates.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{NodeId, Row, RowKey, RowState};
use crate::id::JobId;

/// The closed rows that [`Store::fates`](crate::store::Store::fates) returns: those that match
/// every set field. Default: all.
///
/// ```
/// use punctual::store::FateFilter;
///
/// let failed = FateFilter { fate: Some("ran: failed".into()), ..FateFilter::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FateFilter {
    /// The row was closed at this instant or later.
    pub from: Option<DateTime<Utc>>,
    /// The row was closed before this instant.
    pub until: Option<DateTime<Utc>>,
    /// The row belongs to a job with this id, in any incarnation.
    pub job: Option<JobId>,
    /// The text of the [`Fate`](super::Fate) starts with this: `ran`, `ran: failed`, `skipped`.
    pub fate: Option<String>,
    /// This node claimed the row last.
    pub node: Option<NodeId>,
}

impl FateFilter {
    /// Whether a row passes the filter.
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

/// The end of a page of [`Store::fates`](crate::store::Store::fates): the position of a closed row.
///
/// Rows that are closed later do not move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateCursor {
    /// When the row was closed.
    pub ended_at: DateTime<Utc>,
    /// The key of the row.
    pub key: RowKey,
}

impl FateCursor {
    /// The position of this row; `None` if the row is open.
    pub fn at(row: &Row) -> Option<FateCursor> {
        let ended_at = row.ended_at.filter(|_| !row.state.is_open())?;
        Some(FateCursor { ended_at, key: row.key })
    }

    /// A sort key in listing order: the latest end first.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn place(row: &Row) -> impl Ord + use<> {
        let RowKey { incarnation, kind, number } = row.key;
        std::cmp::Reverse((row.ended_at, kind, incarnation, number))
    }
}

/// A page of a store's closed rows; see [`Store::fates`](crate::store::Store::fates).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FatePage {
    /// The rows, the latest to end first.
    pub rows: Vec<Row>,
    /// Where the next page begins; that page may be empty. `None` after the last page.
    pub next: Option<FateCursor>,
}
