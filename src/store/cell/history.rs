//! The move of closed rows from a cell to the history, and their lookup there.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    super::{Record, Row, RowKey, RowKind},
    Cell,
};

/// Which rows have left a cell for the history of its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Archived {
    /// The highest number among the archived fire times of the record's incarnation.
    scheduled: Option<i64>,
    /// The highest number among the archived requested runs of the record's incarnation.
    requested: Option<i64>,
    /// Whether rows of other incarnations are archived.
    others: bool,
}

impl Archived {
    /// Adds the key of an archived row, for a cell with this record.
    fn add(&mut self, record: Option<&Record>, key: RowKey) {
        match self.highest(record, key) {
            Some(highest) => *highest = (*highest).max(Some(key.number)),
            None => self.others = true,
        }
    }

    fn may_have(mut self, record: Option<&Record>, key: RowKey) -> bool {
        let others = self.others;
        self.highest(record, key).map_or(others, |highest| Some(key.number) <= *highest)
    }

    /// The highest archived number of the key's kind, if the key is a numbered one of the record's
    /// incarnation.
    fn highest(&mut self, record: Option<&Record>, key: RowKey) -> Option<&mut Option<i64>> {
        let is_of_record = record.is_some_and(|record| record.incarnation == key.incarnation);
        match key.kind {
            RowKind::Scheduled if is_of_record => Some(&mut self.scheduled),
            RowKind::Requested if is_of_record => Some(&mut self.requested),
            _ => None,
        }
    }

    /// Updates the summary after the record was removed: all archived rows belong to other
    /// incarnations.
    pub(super) fn forget_record(&mut self) {
        let others = *self != Archived::default();
        *self = Archived { others, ..Archived::default() };
    }
}

impl Cell {
    /// How many closed rows remain in a cell after an overflow.
    const KEPT_CLOSED: usize = Cell::MOST_CLOSED / 2;

    /// Those of the keys that the cell does not have and that may be in the history. Before an
    /// operation that inserts or closes rows with these keys, only these rows must be
    /// [recalled](Cell::recall).
    pub(crate) fn archived<'a>(
        &'a self,
        keys: impl IntoIterator<Item = RowKey> + 'a,
    ) -> impl Iterator<Item = RowKey> + 'a {
        let record = self.record.as_ref();
        let may_be = move |key: &RowKey| self.archived.may_have(record, *key);
        keys.into_iter().filter(may_be).filter(|key| self.row(*key).is_none())
    }

    /// Puts rows from the history back into the cell.
    pub(crate) fn recall(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            if self.row(row.key).is_none() {
                self.put(row, 0);
            }
        }
    }

    /// Removes and returns the rows that leave a cell with more than [`Cell::MOST_CLOSED`] closed
    /// rows: those that ended first. The history must have them before the cell is swapped; they
    /// replace rows with the same keys there.
    pub(crate) fn overflow(&mut self) -> Vec<Row> {
        if self.closed.len() <= Cell::MOST_CLOSED {
            return Vec::new();
        }
        // The row of a remembered end stays in the cell, since the job may be added again.
        let end = self.record.as_ref().map(|record| RowKey::end_of(record.incarnation));
        let leaves = |row: &&Row| Some(row.key) != end;
        let mut ends: Vec<(Option<DateTime<Utc>>, RowKey)> =
            self.closed.iter().filter(leaves).map(|row| (row.ended_at, row.key)).collect();
        ends.sort_unstable();
        ends.truncate(self.closed.len() - Cell::KEPT_CLOSED);
        for (_, key) in &ends {
            self.archived.add(self.record.as_ref(), *key);
        }
        ends.into_iter().filter_map(|(_, key)| self.closed.remove(key)).collect()
    }

    /// Records that the history of this id has no rows left.
    pub(crate) fn history_is_gone(&mut self) {
        self.archived = Archived::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{Fate, Incarnation, Row, RowState, Write},
            Acceptance,
            tests::*,
        },
        *,
    };

    /// A job that has run so many times, and what has left its cell.
    fn run(times: i64) -> (Cell, Vec<Row>) {
        let mut cell = cell_of(record(1, Some(0)));
        let mut left = Vec::new();
        for seconds in 0..times {
            let row = scheduled(1, seconds, claimed_by(NODE));
            let row = claim(&mut cell, NODE, [row], Some(seconds + 1)).rows.remove(0);
            cell.finish(outcome(&row, seconds), at(seconds));
            left.extend(cell.overflow());
        }
        (cell, left)
    }

    fn key(incarnation: u64, seconds: i64) -> RowKey {
        scheduled(incarnation, seconds, succeeded()).key
    }

    fn archived(cell: &Cell, keys: impl Into<Vec<RowKey>>) -> Vec<RowKey> {
        cell.archived(keys.into()).collect()
    }

    #[test]
    fn the_earliest_ends_leave_a_full_cell() {
        let most = Cell::MOST_CLOSED as i64;
        assert_eq!(run(most).1, []);
        let (cell, left) = run(most + 1);
        let left: Vec<_> = left.iter().map(|row| row.key).collect();
        assert_eq!(left, (0..=most / 2).map(|seconds| key(1, seconds)).collect::<Vec<_>>());
        assert_eq!(cell.count_closed(), Cell::KEPT_CLOSED);
        assert_eq!(run(100).0.count_closed() + run(100).1.len(), 100);
    }

    #[test]
    fn only_keys_that_may_be_in_the_history_are_looked_up() {
        let (cell, left) = run(30);
        let last = left.last().unwrap().key;
        assert_eq!(archived(&cell, [key(1, 30), key(1, 29)]), [], "above all, and in the cell");
        let gone = key(1, -5);
        assert_eq!(archived(&cell, [last, gone, key(1, 31)]), [last, gone]);
        assert_eq!(archived(&cell, [requested(1, 1, succeeded()).key]), [], "none has left");
        assert_eq!(archived(&cell, [key(2, 0), RowKey::end_of(Incarnation(1))]), []);
        assert_eq!(archived(&cell_of(record(1, None)), [key(1, -5), key(2, 0)]), []);
    }

    #[test]
    fn a_fire_time_in_the_history_is_not_claimed_again() {
        let (mut cell, left) = run(30);
        let first = left[0].clone();
        cell.recall([first.clone()]);
        let again = scheduled(1, 0, claimed_by(NODE));
        assert_eq!(claim(&mut cell, NODE, [again], Some(40)).rows, []);
        assert_eq!(cell.row(first.key), Some(&first));
    }

    #[test]
    fn an_outcome_in_the_history_is_checked_as_in_the_cell() {
        let (mut cell, left) = run(30);
        let abandoned = Row { state: RowState::Closed(Fate::Abandoned), ..left[0].clone() };
        assert_eq!(cell.finish(outcome(&abandoned, 50), at(50)), Acceptance::Refused, "pruned");
        cell.recall([abandoned.clone(), left[1].clone()]);
        assert_eq!(cell.finish(outcome(&left[1], 50), at(50)), Acceptance::Unchanged);
        assert_eq!(cell.finish(outcome(&abandoned, 50), at(50)), Acceptance::Closed);
        assert_eq!(cell.row(abandoned.key).unwrap().state, succeeded());
    }

    #[test]
    fn an_id_that_has_a_history_is_not_forgotten() {
        let (mut cell, _) = run(30);
        let stamp = cell.record().unwrap().stamp();
        cell.write(Write::change(stamp, record(2, None), 2), at(40));
        assert_eq!(archived(&cell, [key(1, 0), key(2, 0)]), [key(1, 0)]);
        let stamp = cell.record().unwrap().stamp();
        cell.write(Write::remove("report".into(), stamp, 3), at(41));
        for row in cell.closed.clone().iter() {
            assert!(cell.delete(row.key));
        }
        assert_eq!(
            archived(&cell, [RowKey::end_of(Incarnation(1))]),
            [RowKey::end_of(Incarnation(1))]
        );
        assert!(!cell.is_empty());
        cell.history_is_gone();
        assert!(cell.is_empty());
    }

    #[test]
    fn an_end_that_is_remembered_leaves_the_numbers_as_they_are() {
        let (mut cell, _) = run(30);
        cell.record.as_mut().unwrap().remember = true;
        claim(&mut cell, NODE, [], None);
        let record = cell.record().unwrap().clone();
        assert!(record.ended_at.is_some());
        let mut ends = cell.closed.clone();
        for number in 1..=30 {
            ends.put(Row { ended_at: Some(at(90)), ..requested(1, number, succeeded()) });
        }
        cell.closed = ends;
        cell.overflow();
        assert_eq!(end_of(&cell, 1), Some(RowState::Closed(Fate::Completed)), "it stays");
        cell.write(
            Write::change(record.stamp(), Record { next_fire: Some(at(0)), ..record }, 7),
            at(50),
        );
        assert_eq!(archived(&cell, [key(1, 0)]), [key(1, 0)]);
    }
}
