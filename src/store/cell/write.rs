//! Writing a record.

use chrono::{DateTime, Utc};

use super::{
    super::{Fate, Incarnation, Record, RowKey, Tokens, Write, WriteResult},
    Cell,
};
use crate::job::SkipReason;

/// The keys of the rows that a write inserts, and the key of the row that shows that the write was
/// done before.
pub(crate) fn keys(write: &Write) -> impl Iterator<Item = RowKey> + '_ {
    let end = adds(write).map(RowKey::end_of);
    write.rows.iter().map(|row| row.key).chain(end)
}

/// The incarnation that a write adds.
fn adds(write: &Write) -> Option<Incarnation> {
    let before = write.expected.map(|expected| expected.incarnation);
    let after = write.record.as_ref().map(|record| record.incarnation);
    after.filter(|_| after != before)
}

impl Cell {
    /// The result of a write that changes nothing, since it was done before or is lost. `None` for
    /// a write to do.
    pub(crate) fn answer(&self, write: &Write) -> Option<WriteResult> {
        let token_is_known =
            self.record.as_ref().is_some_and(|record| record.tokens.contains(write.token));
        let has_ended = adds(write).is_some_and(|it| self.row(RowKey::end_of(it)).is_some());
        if token_is_known || has_ended {
            return Some(WriteResult::Done);
        }
        let is_lost = self.record.as_ref().map(Record::stamp) != write.expected;
        is_lost.then(|| WriteResult::Lost(self.record.clone().map(Box::new)))
    }

    /// Does a write for which [`answer`](Cell::answer) returned `None`.
    pub(crate) fn write(&mut self, write: Write, now: DateTime<Utc>) {
        let Write { record, rows, token, .. } = write;
        for row in rows {
            if self.row(row.key).is_none() {
                self.put(row, 0);
            }
        }
        let Some(record) = record else {
            return self.take_out(SkipReason::Removed, now);
        };
        let (incarnation, remember) = (record.incarnation, record.remember);
        if self.record.as_ref().is_some_and(|current| current.incarnation != incarnation) {
            self.take_out(SkipReason::Replaced, now);
        }
        let current = self.record.take().map(|current| (current.version, current.tokens));
        let (version, mut tokens) = current.unwrap_or((0, Tokens::default()));
        tokens.push(token);
        let version = version.wrapping_add(1);
        self.record = Some(Record { version, tokens, ended_at: None, ..record });
        if remember {
            self.end_if_over(incarnation, Fate::Completed, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::*, tests::*},
        *,
    };

    fn removal(cell: &Cell) -> Write {
        let record = cell.record().unwrap();
        let end = Row::ended(record, Fate::Removed, at(5));
        Write::remove(record.id.clone(), record.stamp(), 9).with_rows(vec![end])
    }

    #[test]
    fn an_add_makes_a_record_of_version_1() {
        let cell = cell_of(Record { version: 7, ..record(1, Some(60)) });
        let tokens = [1].into_iter().collect();
        assert_eq!(cell.record(), Some(&Record { version: 1, tokens, ..record(1, Some(60)) }));
    }

    #[test]
    fn a_write_that_expects_something_else_is_lost() {
        let cell = cell_of(record(1, Some(60)));
        let current = cell.record().unwrap();
        let lost = Some(WriteResult::Lost(Some(Box::new(current.clone()))));
        assert_eq!(cell.answer(&Write::add(record(2, None), 2)), lost);
        let stale = Stamp { version: 0, ..current.stamp() };
        assert_eq!(cell.answer(&Write::change(stale, current.clone(), 2)), lost);
        assert_eq!(cell.answer(&Write::change(current.stamp(), current.clone(), 2)), None);
        let nothing = Cell::default().answer(&Write::change(stale, current.clone(), 2));
        assert_eq!(nothing, Some(WriteResult::Lost(None)));
    }

    #[test]
    fn a_write_whose_token_is_known_was_done() {
        let mut cell = cell_of(record(1, Some(60)));
        let add = Write::add(record(1, Some(60)), 1);
        assert_eq!(cell.answer(&add), Some(WriteResult::Done));
        let current = cell.record().unwrap().clone();
        cell.write(Write::change(current.stamp(), current, 2), at(1));
        assert_eq!(cell.answer(&add), Some(WriteResult::Done));
        assert_eq!(cell.record().unwrap().version, 2);
    }

    #[test]
    fn a_retried_add_of_an_ended_incarnation_is_done() {
        let mut cell = cell_of(record(1, Some(60)));
        cell.write(removal(&cell), at(5));
        assert_eq!(cell.record(), None);
        assert_eq!(cell.answer(&Write::add(record(1, Some(60)), 1)), Some(WriteResult::Done));
        assert_eq!(cell.answer(&Write::add(record(2, Some(60)), 1)), None);
        let wanted: Vec<_> = keys(&Write::add(record(1, None), 1)).collect();
        assert_eq!(wanted, [RowKey::end_of(Incarnation(1))]);
    }

    #[test]
    fn written_rows_do_not_replace_rows() {
        let there = requested(1, 1, succeeded());
        let mut cell = cell_with(record(1, Some(60)), [there.clone()]);
        let rows = vec![requested(1, 1, RowState::Waiting), requested(1, 2, RowState::Waiting)];
        let current = cell.record().unwrap().clone();
        cell.write(Write::change(current.stamp(), current, 2).with_rows(rows.clone()), at(1));
        assert_eq!(cell.rows(Incarnation(1)), [&there, &rows[1]]);
    }

    #[test]
    fn a_removal_closes_waiting_rows_and_keeps_claimed_ones() {
        let rows = [1, 2].map(|number| requested(1, number, RowState::Waiting));
        for (reason, becomes) in [(SkipReason::Removed, None), (SkipReason::Replaced, Some(2))] {
            let mut cell = cell_with(record(1, Some(60)), rows.clone());
            claim(&mut cell, NODE, [requested(1, 1, claimed_by(NODE))], Some(60));
            let write = match becomes {
                None => removal(&cell),
                Some(new) => Write { record: Some(record(new, Some(9))), ..removal(&cell) },
            };
            cell.write(write, at(5));
            let [claimed, skipped, end] = cell.rows(Incarnation(1))[..] else { panic!("{cell:?}") };
            assert_eq!(claimed.state, claimed_by(NODE));
            assert_eq!(skipped.state, RowState::Closed(Fate::Skipped(reason)));
            assert_eq!((skipped.ended_at, end.key.kind), (Some(at(5)), RowKind::Ended));
            assert_eq!(
                cell.living().map(|it| (it.incarnation.0, it.version)),
                becomes.map(|it| (it, 1))
            );
        }
    }

    #[test]
    fn a_job_written_without_fire_times_may_be_remembered() {
        let cell = cell_of(Record { remember: true, ..record(1, None) });
        let (version, ended_at) = cell.record().map(|it| (it.version, it.ended_at)).unwrap();
        assert_eq!((version, ended_at, cell.living()), (2, Some(at(0)), None));
        assert_eq!(end_of(&cell, 1), Some(RowState::Closed(Fate::Completed)));
        assert!(cell_of(record(1, None)).living().is_some());
    }
}
