//! Accepting the outcome of a row.

use chrono::{DateTime, Utc};

use super::{
    super::{Row, RowOutcome, RowState},
    Cell,
};

/// Whether an outcome was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// The row was claimed again, or does not exist.
    Refused,
    /// The row was already closed, and is unchanged.
    Unchanged,
    /// The row was closed.
    Closed,
    /// The row was closed, and the job has ended.
    Over,
}

impl Cell {
    /// Closes the row of an outcome, if the row has the outcome's fence and is open or *abandoned*.
    pub(crate) fn finish(&mut self, outcome: RowOutcome, now: DateTime<Utc>) -> Acceptance {
        let key = outcome.key;
        let Some(row) = self.row(key).filter(|row| row.fence == outcome.fence) else {
            return Acceptance::Refused;
        };
        if matches!(&row.state, RowState::Closed(fate) if !fate.is_abandoned()) {
            return Acceptance::Unchanged;
        }
        let row = Row {
            state: RowState::Closed(outcome.fate),
            attempt: outcome.attempt,
            started_at: outcome.started_at,
            ended_at: Some(outcome.ended_at),
            message: outcome.message,
            ..row.clone()
        };
        self.put(row, 0);
        if self.end_if_over(key.incarnation, outcome.job_end, now) {
            Acceptance::Over
        } else {
            Acceptance::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{Fate, Record},
            tests::*,
        },
        *,
    };

    fn claimed(next_fire: Option<i64>) -> (Cell, Row) {
        let mut cell = cell_of(record(1, Some(60)));
        let row =
            claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], next_fire).rows.remove(0);
        (cell, row)
    }

    #[test]
    fn an_outcome_closes_its_row() {
        let (mut cell, row) = claimed(Some(120));
        let outcome = RowOutcome { attempt: 3, message: Some("late".into()), ..outcome(&row, 9) };
        assert_eq!(cell.finish(outcome, at(10)), Acceptance::Closed);
        let expected = Row {
            state: succeeded(),
            attempt: 3,
            started_at: Some(at(8)),
            ended_at: Some(at(9)),
            message: Some("late".into()),
            ..row
        };
        assert_eq!(cell.row(expected.key), Some(&expected));
        assert_eq!(cell.holder(), None);
    }

    #[test]
    fn the_last_outcome_ends_the_job_as_it_says() {
        for remember in [false, true] {
            let (mut cell, row) = claimed(None);
            cell.record.as_mut().unwrap().remember = remember;
            let outcome = RowOutcome { job_end: Fate::Cancelled, ..outcome(&row, 9) };
            assert_eq!(cell.finish(outcome, at(10)), Acceptance::Over);
            assert_eq!(end_of(&cell, 1), Some(RowState::Closed(Fate::Cancelled)));
            let ended_at =
                cell.record().map(|Record { ended_at, version, .. }| (*ended_at, *version));
            assert_eq!(ended_at, remember.then_some((Some(at(10)), 2)));
        }
    }

    #[test]
    fn another_fence_is_refused_and_a_second_outcome_changes_nothing() {
        let (mut cell, row) = claimed(Some(120));
        let stale = RowOutcome { fence: row.fence - 1, ..outcome(&row, 9) };
        assert_eq!(cell.finish(stale, at(9)), Acceptance::Refused);
        assert_eq!(cell.row(row.key), Some(&row));
        cell.finish(outcome(&row, 9), at(9));
        let before = cell.clone();
        let second = RowOutcome { fate: Fate::Missed, ..outcome(&row, 20) };
        assert_eq!(cell.finish(second, at(20)), Acceptance::Unchanged);
        assert_eq!(cell, before);
        assert_eq!(Cell::default().finish(outcome(&row, 9), at(9)), Acceptance::Refused);
    }

    #[test]
    fn a_late_outcome_replaces_abandoned() {
        let (mut cell, row) = claimed(None);
        cell.reap(NODE, 1, at(5));
        assert_eq!(cell.row(row.key).unwrap().state, RowState::Closed(Fate::Abandoned));
        assert_eq!(cell.finish(outcome(&row, 9), at(9)), Acceptance::Closed);
        assert_eq!(cell.row(row.key).unwrap().state, succeeded());
    }
}
