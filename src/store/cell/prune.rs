//! Finding and deleting outdated rows.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{
    super::{Incarnation, Keep, Row, RowKey, RowKind},
    Cell,
};

impl Cell {
    /// The keys of the closed rows of this id, in the cell and in `history`, that exceed a limit on
    /// age, on the number per incarnation and kind, or on the time since their job's end. The limit
    /// on the total number of rows is not checked here.
    pub(crate) fn outdated<'a>(
        &'a self,
        history: impl IntoIterator<Item = &'a Row>,
        keep: &Keep,
        now: DateTime<Utc>,
    ) -> Vec<RowKey> {
        let rows: BTreeMap<RowKey, DateTime<Utc>> = history
            .into_iter()
            .chain(self.closed.iter())
            .filter_map(|row| Some((row.key, row.ended_at?)))
            .collect();
        let recent = now - Keep::at_least(RowKind::Scheduled);
        let ended = Keep::oldest(keep.ended, RowKind::Ended, now);
        let over: BTreeSet<Incarnation> = rows
            .iter()
            .filter(|(key, at)| key.kind == RowKind::Ended && **at < ended)
            .map(|(key, _)| key.incarnation)
            .collect();
        let mut newest: BTreeMap<(Incarnation, RowKind), u32> = BTreeMap::new();
        let mut outdated = Vec::new();
        for (key, at) in rows.into_iter().rev() {
            let newer = newest.entry((key.incarnation, key.kind)).or_default();
            let is_surplus = key.kind != RowKind::Ended && *newer >= keep.rows;
            *newer = newer.saturating_add(1);
            let is_left = is_surplus || over.contains(&key.incarnation);
            if at < Keep::oldest(keep.age, key.kind, now) || (is_left && at < recent) {
                outdated.push(key);
            }
        }
        outdated
    }

    /// Whether the cell has a closed row that ended at or after `instant`.
    pub(crate) fn has_ended_since(&self, instant: DateTime<Utc>) -> bool {
        self.closed.iter().any(|row| row.ended_at >= Some(instant))
    }

    /// Deletes a closed row, if the cell has it.
    pub(crate) fn delete(&mut self, key: RowKey) -> bool {
        self.closed.remove(key).is_some()
    }

    /// Deletes a remembered end. Returns whether there was one.
    pub(crate) fn forget(&mut self) -> bool {
        let is_forgotten = self.record.take_if(|record| record.ended_at.is_some()).is_some();
        if is_forgotten {
            self.archived.forget_record();
        }
        is_forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::tests::*, *};

    const ALL: Keep = Keep {
        rows: u32::MAX,
        age: Duration::from_secs(1 << 30),
        ended: Duration::from_secs(1 << 30),
        total: u64::MAX,
    };

    fn numbers(keys: Vec<RowKey>) -> Vec<i64> {
        let mut numbers: Vec<_> = keys.iter().map(|key| key.number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn ended(number: i64, seconds: i64) -> Row {
        Row { ended_at: Some(at(seconds)), ..requested(1, number, succeeded()) }
    }

    #[test]
    fn old_rows_are_outdated_except_the_last_minute() {
        let cell = cell_with(record(1, Some(0)), [ended(1, 0), ended(2, 100), ended(3, 990)]);
        let of = |age| {
            let keep = Keep { age: Duration::from_secs(age), ..ALL };
            numbers(cell.outdated([], &keep, at(1000)))
        };
        assert_eq!((of(2000), of(950), of(0)), (vec![], vec![1], vec![1, 2]));
    }

    #[test]
    fn the_newest_stay_wherever_they_are() {
        let history = [ended(1, 0), ended(2, 0), ended(9, 0)];
        let cell = cell_with(record(1, Some(0)), [ended(3, 0), ended(4, 990)]);
        let of = |rows| numbers(cell.outdated(&history, &Keep { rows, ..ALL }, at(1000)));
        assert_eq!((of(5), of(3), of(0)), (vec![], vec![1, 2], vec![1, 2, 3, 9]));
    }

    #[test]
    fn rows_of_an_ended_incarnation_become_outdated() {
        let mut cell = cell_with(record(1, Some(0)), [ended(1, 0), ended(2, 9000)]);
        claim(&mut cell, NODE, [], None);
        let of = |seconds| {
            let keep = Keep { ended: Duration::from_secs(8000), ..ALL };
            let kinds =
                cell.outdated([], &keep, at(seconds)).into_iter().map(|key| (key.kind, key.number));
            kinds.collect::<BTreeSet<_>>()
        };
        assert_eq!(of(8000), [].into());
        assert_eq!(of(9001), [(RowKind::Ended, 0), (RowKind::Requested, 1)].into());
    }

    #[test]
    fn open_rows_are_neither_deleted_nor_counted() {
        let waiting = requested(1, 9, super::super::RowState::Waiting);
        let mut cell = cell_with(record(1, Some(0)), [ended(1, 0), waiting.clone()]);
        assert_eq!(cell.outdated([], &Keep { rows: 1, ..ALL }, at(1000)), []);
        assert!(!cell.delete(waiting.key) && cell.delete(ended(1, 0).key));
        assert_eq!(cell.rows(Incarnation(1)), [&waiting]);
    }

    #[test]
    fn only_an_end_that_is_remembered_is_forgotten() {
        let mut living = cell_of(record(1, Some(0)));
        assert!(!living.forget() && living.living().is_some());
        let mut over = cell_of(super::super::Record { remember: true, ..record(1, None) });
        assert!(over.forget() && over.record().is_none() && !over.forget());
    }
}
