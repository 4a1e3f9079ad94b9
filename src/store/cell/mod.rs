//! A cell: one job id's document, on which a key-value store keeps the contract of [`Store`](super::Store).
//!
//! A store that can compare and swap one document, and no more than that at once, keeps one [`Cell`]
//! for each job id: the record, the open rows, and the closed rows that ended last. The operations of
//! the contract are functions on a cell, a file each. They know no clock, no lock and no network: the
//! instant and the node are arguments, and what they return is the answer for that id.
//!
//! | operation | on a cell |
//! |---|---|
//! | [`Store::write`](super::Store::write) | [`answer`](Cell::answer), then [`write`](Cell::write) |
//! | [`Store::claim`](super::Store::claim) | [`waiting_rows`](Cell::waiting_rows) and [`living`](Cell::living) for the decision, then [`claim`](Cell::take) |
//! | the same again | [`taken_in`](Cell::taken_in) |
//! | [`Store::claimed`](super::Store::claimed), [`Store::claimed_by`](super::Store::claimed_by) | [`taken`](Cell::taken), [`taken_of`](Cell::taken_of) |
//! | [`Store::release`](super::Store::release) | [`release`](Cell::release) |
//! | [`Store::finish`](super::Store::finish) | [`finish`](Cell::finish) |
//! | [`Store::reap`](super::Store::reap), and a node that leaves | [`reap`](Cell::reap) |
//! | [`Store::prune`](super::Store::prune) | [`outdated`](Cell::outdated), [`delete`](Cell::delete), [`forget`](Cell::forget) |
//!
//! # What a store does around them
//!
//! To change a cell, a store
//! 1. reads it; an id that has no document has the empty cell,
//! 2. reads from the history those keys that [`archived`](Cell::archived) names, and puts the rows that
//!    it finds back with [`recall`](Cell::recall),
//! 3. calls the operation,
//! 4. appends the rows of [`overflow`](Cell::overflow) to the history,
//! 5. swaps the document, or deletes it if it [is empty](Cell::is_empty), together with the entries of
//!    its indexes: [`places`](Cell::places) before and after. If the swap is lost, it starts again.
//!
//! An operation that changes nothing leaves nothing to swap. Where the cell and the history have a row
//! of one key, as after a swap that was lost, the row of the cell is it.
//!
//! What is no matter of one job id is the store's own: the rows of the nodes with the number of the last
//! take of each; the order of all rows, by keys and by ends, and the bound on their number; the action
//! log; which cells a take looks at.
//!
//! # Why that keeps the contract
//!
//! - **One row of each key.** All rows of an incarnation are in the cell of its id or in the history of
//!   that id, and a row leaves the cell only after the history has it. So a key that neither the cell
//!   as it was read nor the history as it was read *after* it has, has no row, and gets none until the
//!   swap: else the cell would be another. The history is rarely read: fire times and runs that were
//!   asked for are numbered upwards, and a key above the numbers that have left the cell is in no
//!   history. Below, the history decides; a number alone does not, since a trigger that is replaced may
//!   name fire times again that come before the last.
//! - **One holder.** A take looks at the taken rows of the incarnation in the document that it swaps.
//! - **Rows outlive their record.** What was taken of an incarnation that has been removed or replaced
//!   stays in the cell of the id until it is closed, beside the rows of the next incarnation: a cell may
//!   have rows of several.
//! - **Outcomes** of rows that have left the cell are judged like others, since the row is recalled:
//!   accepted if it is closed, closed anew if it was *abandoned*, refused if it has been pruned.
//! - **An add that is asked again** is known by the row of
//!   [`RowKind::Ended`](super::RowKind::Ended) of its incarnation, which
//!   may have left the cell, too. A cell of which rows of ended incarnations are in the history says so
//!   until they have been pruned, and is not deleted before.
//! - **A take that is asked again** is known by the number that each taken row keeps, until it is closed
//!   or given back.
//! - **Fences** are counted in the record, in the swap that takes.
//! - **Reaping.** The node's row goes first. What it had taken is found by the index of those that hold
//!   rows, cell by cell, by whoever reaps next, as is what a take that was under way has slipped in.
//!
//! # How large a cell becomes
//!
//! It has one record, at most [`Cell::MOST_CLOSED`] closed rows, and the open ones: of the living
//! incarnation as many as its limits and the claims of one node allow, and of ended ones those that run
//! still. Runs that are asked for and wait have no bound of their own. A fire time that does not run is
//! part of a stretch, so that an outage is one row.

mod claim;
mod end;
mod finish;
mod history;
mod places;
mod prune;
mod reap;
mod release;
mod rows;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

pub(crate) use self::{finish::Acceptance, places::Place, write::keys};
use self::{
    history::Archived,
    rows::{Held, Rows},
};
use super::{Incarnation, Record, Row, RowKey, RowState};

/// The document of one job id; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cell {
    /// The record, one of which only the end is remembered included.
    record: Option<Record>,
    /// The rows that wait, of the living incarnation.
    waiting: Rows,
    /// The rows that are taken, of any incarnation.
    taken: Rows<Held>,
    /// The closed rows that ended last, of any incarnation.
    closed: Rows,
    /// What has left the cell for the history.
    archived: Archived,
}

impl Cell {
    /// How many closed rows a cell has at most, once its [overflow](Cell::overflow) has left.
    pub(crate) const MOST_CLOSED: usize = 16;

    /// The record, one of which only the end is remembered included: what [`Store::get`](super::Store::get) answers.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The record of a job that is not over.
    pub(crate) fn living(&self) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.ended_at.is_none())
    }

    /// The row of this key, if the cell has it.
    pub(crate) fn row(&self, key: RowKey) -> Option<&Row> {
        let taken = || self.taken.get(key).map(|held| &held.row);
        self.waiting.get(key).or_else(taken).or_else(|| self.closed.get(key))
    }

    /// The rows of one incarnation, in order of their keys.
    pub(crate) fn rows(&self, incarnation: Incarnation) -> Vec<&Row> {
        let taken = self.taken.of(incarnation).map(|held| &held.row);
        let mut rows: Vec<&Row> = self.waiting.of(incarnation).collect();
        rows.extend(taken.chain(self.closed.of(incarnation)));
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    /// How many closed rows the cell has.
    pub(crate) fn count_closed(&self) -> usize {
        self.closed.len()
    }

    /// Whether there is nothing to be kept.
    pub(crate) fn is_empty(&self) -> bool {
        let rows = self.waiting.len() + self.taken.len() + self.closed.len();
        self.record.is_none() && rows == 0 && self.archived == Archived::default()
    }

    fn is_living(&self, incarnation: Incarnation) -> bool {
        self.living().is_some_and(|record| record.incarnation == incarnation)
    }

    /// Puts a row in, or in the place of the one of its key. One that is taken bears the number of a take.
    fn put(&mut self, row: Row, take: u64) {
        let key = row.key;
        if row.state != RowState::Waiting {
            self.waiting.remove(key);
        }
        if !matches!(row.state, RowState::Claimed(_)) {
            self.taken.remove(key);
        }
        if row.state.is_open() {
            self.closed.remove(key);
        }
        match row.state {
            RowState::Waiting => self.waiting.put(row),
            RowState::Claimed(_) => self.taken.put(Held { row, take }),
            RowState::Closed(_) => self.closed.put(row),
        }
    }
}
