//! Releasing a claimed row.

use chrono::{DateTime, Utc};

use super::{
    super::{Fate, NodeId, Release, Row, RowState},
    Cell,
    claim::holder_of,
};
use crate::job::SkipReason;

impl Cell {
    /// Makes a row waiting, with the attempt of the release, if this node has claimed it under the
    /// release's fence. Closes the row instead if its incarnation has ended. Returns whether the
    /// row was released or closed.
    pub(crate) fn release(&mut self, node: NodeId, release: Release, now: DateTime<Utc>) -> bool {
        let Release { key, fence, attempt } = release;
        let row = self.claimed.get(key).map(|claimed| &claimed.row);
        let Some(row) = row.filter(|row| holder_of(row) == Some(node) && row.fence == fence) else {
            return false;
        };
        let attempt = attempt.max(row.attempt);
        let row = Row { state: RowState::Waiting, attempt, ..row.clone() };
        if self.is_living(key.incarnation) {
            self.put(row, 0);
        } else {
            let fate = Fate::called_off(SkipReason::Removed, attempt);
            self.close(row, fate, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Write, tests::*},
        *,
    };

    fn claimed() -> (Cell, Row) {
        let mut cell = cell_of(record(1, Some(60)));
        let row = claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], None).rows.remove(0);
        (cell, row)
    }

    #[test]
    fn a_released_row_waits_for_its_next_attempt() {
        for (next, attempt) in [(1, 1), (3, 3)] {
            let (mut cell, row) = claimed();
            let release = Release::new(row.key, row.fence, next);
            assert!(cell.release(NODE, release, at(1)));
            let waits = Row { state: RowState::Waiting, attempt, ..row.clone() };
            assert_eq!((cell.row(row.key), cell.holder()), (Some(&waits), None));
            assert!(!cell.release(NODE, release, at(1)), "it has been given back");
        }
    }

    #[test]
    fn a_row_of_another_node_or_fence_is_left_alone() {
        let (before, row) = claimed();
        let mut cell = before.clone();
        assert!(!cell.release(RIVAL, Release::new(row.key, row.fence, 1), at(1)));
        assert!(!cell.release(NODE, Release::new(row.key, row.fence + 1, 1), at(1)));
        assert_eq!(cell, before);
    }

    #[test]
    fn a_released_row_without_a_record_is_closed() {
        let skipped = Fate::Skipped(SkipReason::Removed);
        for (next, fate) in [(1, skipped), (2, Fate::Abandoned)] {
            let (mut cell, row) = claimed();
            let stamp = cell.record().unwrap().stamp();
            cell.write(Write::remove(row.job.clone(), stamp, 2), at(1));
            assert!(cell.release(NODE, Release::new(row.key, row.fence, next), at(2)));
            let closed = cell.row(row.key).unwrap();
            assert_eq!((&closed.state, closed.ended_at), (&RowState::Closed(fate), Some(at(2))));
        }
    }
}
