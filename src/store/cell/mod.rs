//! A cell: the document of one job id, on which a key-value store implements the contract of
//! [`Store`](super::Store).
//!
//! A store that can compare and swap only one document at a time keeps one [`Cell`] per job id: the
//! record, the open rows, and the closed rows that ended last. The operations of the contract are
//! functions on a cell, one file each. They use no clock, lock or network: the instant and the node
//! are arguments, and the return value is the result for that id.
//!
//! | operation | on a cell |
//! |---|---|
//! | [`Store::write`](super::Store::write) | [`answer`](Cell::answer), then [`write`](Cell::write) |
//! | [`Store::claim`](super::Store::claim) | [`waiting_rows`](Cell::waiting_rows) and [`living`](Cell::living) for the decision, then [`claim`](Cell::claim) |
//! | a retried claim | [`claimed_in`](Cell::claimed_in) |
//! | [`Store::claimed`](super::Store::claimed), [`Store::claimed_by`](super::Store::claimed_by) | [`add_claimed`](Cell::add_claimed), [`claimed_of`](Cell::claimed_of) |
//! | [`Store::release`](super::Store::release) | [`release`](Cell::release) |
//! | [`Store::finish`](super::Store::finish) | [`finish`](Cell::finish) |
//! | [`Store::reap`](super::Store::reap), and a node that deregisters | [`reap`](Cell::reap) |
//! | [`Store::prune`](super::Store::prune) | [`outdated`](Cell::outdated), [`delete`](Cell::delete), [`forget`](Cell::forget) |
//!
//! # How a store uses a cell
//!
//! To change a cell, a store
//! 1. reads the document; an id without a document has the empty cell,
//! 2. reads the keys that [`archived`](Cell::archived) returns from the history, and puts the rows
//!    it finds back with [`recall`](Cell::recall),
//! 3. calls the operation,
//! 4. appends the rows of [`overflow`](Cell::overflow) to the history,
//! 5. swaps the document, or deletes it if it [is empty](Cell::is_empty), together with its index
//!    entries: the difference of [`index_entries`](Cell::index_entries) before and after. If the
//!    swap is lost, the store starts again.
//!
//! An operation without a change needs no swap. If the cell and the history both have a row with
//! one key, as after a lost swap, the row of the cell is valid.
//!
//! Everything that is not part of one job id belongs to the store: the rows of the nodes with the
//! number of the last claim of each; the order of all rows, by keys and by ends, and the limit on
//! their number; the action log; the choice of the cells that a claim scans.
//!
//! # Why this satisfies the contract
//!
//! - **One row per key.** All rows of an incarnation are in the cell of its id or in the history of
//!   that id, and a row leaves the cell only after the history has it. So a key that is neither in
//!   the cell as read, nor in the history as read *afterwards*, has no row, and gets none before
//!   the swap, which otherwise would be lost. The history is rarely read: fire times and requested
//!   runs have ascending numbers, and a key above the numbers that have left the cell is not in the
//!   history. Below that, the history decides; the number alone does not, since a replaced trigger
//!   may name earlier fire times again.
//! - **One claiming node.** A claim checks the claimed rows of the incarnation in the document that
//!   it swaps.
//! - **Rows outlive their record.** Claimed rows of a removed or replaced incarnation stay in the
//!   cell of the id until they are closed, beside the rows of the next incarnation: a cell may have
//!   rows of several incarnations.
//! - **Outcomes** of rows that have left the cell are checked like all others, since the row is
//!   recalled: accepted if it is closed, closed again if it was *abandoned*, refused if it was
//!   pruned.
//! - **A retried add** is recognized by the [`RowKind::Ended`](super::RowKind::Ended) row of its
//!   incarnation, which may have left the cell, too. A cell with rows of ended incarnations in the
//!   history records that until they are pruned, and is not deleted before.
//! - **A retried claim** is recognized by the claim number that each claimed row has, until it is
//!   closed or released.
//! - **Fences** are counted in the record, in the swap that claims.
//! - **Reaping.** The node's row is deleted first. Its claimed rows are found by the index of
//!   claimed rows, cell by cell, by any later `reap`, which also finds rows that a concurrent claim
//!   has added.
//!
//! # The size of a cell
//!
//! A cell has one record, at most [`Cell::MOST_CLOSED`] closed rows, and the open rows: of the
//! current incarnation as many as its limits and the claims of one node allow, and of ended
//! incarnations those that still run. Requested runs that wait have no limit. Fire times without a
//! run are part of a stretch, so that an outage is one row.

mod claim;
mod end;
mod finish;
mod history;
mod index;
mod prune;
mod reap;
mod release;
mod rows;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use self::{finish::Acceptance, index::IndexEntry, write::keys};
use self::{
    history::Archived,
    rows::{ClaimedRow, Rows},
};
use super::{Incarnation, Record, Row, RowKey, RowState};

/// The document of one job id; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cell {
    /// The record, including one that is kept only as a remembered end.
    record: Option<Record>,
    /// The waiting rows, of the current incarnation.
    waiting: Rows,
    /// The claimed rows, of any incarnation.
    claimed: Rows<ClaimedRow>,
    /// The closed rows that ended last, of any incarnation.
    closed: Rows,
    /// Which rows have left the cell for the history.
    archived: Archived,
}

impl Cell {
    /// The maximum number of closed rows in a cell, after its [overflow](Cell::overflow) has left.
    pub(crate) const MOST_CLOSED: usize = 16;

    /// The record, including one that is kept only as a remembered end: the result of
    /// [`Store::get`](super::Store::get).
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The record of a job that has not ended.
    pub(crate) fn living(&self) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.ended_at.is_none())
    }

    /// The row with this key, if the cell has it.
    pub(crate) fn row(&self, key: RowKey) -> Option<&Row> {
        let claimed = || self.claimed.get(key).map(|claimed| &claimed.row);
        self.waiting.get(key).or_else(claimed).or_else(|| self.closed.get(key))
    }

    /// The rows of one incarnation, in order of their keys.
    pub(crate) fn rows(&self, incarnation: Incarnation) -> Vec<&Row> {
        let claimed = self.claimed.of(incarnation).map(|claimed| &claimed.row);
        let mut rows: Vec<&Row> = self.waiting.of(incarnation).collect();
        rows.extend(claimed.chain(self.closed.of(incarnation)));
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    /// The number of closed rows in the cell.
    pub(crate) fn count_closed(&self) -> usize {
        self.closed.len()
    }

    /// Whether the cell has no content to keep.
    pub(crate) fn is_empty(&self) -> bool {
        let rows = self.waiting.len() + self.claimed.len() + self.closed.len();
        self.record.is_none() && rows == 0 && self.archived == Archived::default()
    }

    fn is_living(&self, incarnation: Incarnation) -> bool {
        self.living().is_some_and(|record| record.incarnation == incarnation)
    }

    /// Inserts or replaces a row. A claimed row gets the claim number `number`.
    fn put(&mut self, row: Row, number: u64) {
        let key = row.key;
        if row.state != RowState::Waiting {
            self.waiting.remove(key);
        }
        if !matches!(row.state, RowState::Claimed(_)) {
            self.claimed.remove(key);
        }
        if row.state.is_open() {
            self.closed.remove(key);
        }
        match row.state {
            RowState::Waiting => self.waiting.put(row),
            RowState::Claimed(_) => self.claimed.put(ClaimedRow { row, number }),
            RowState::Closed(_) => self.closed.put(row),
        }
    }
}
