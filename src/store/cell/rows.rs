//! Rows in order of their keys.

use std::{
    collections::{VecDeque, vec_deque},
    ops::Range,
};

use serde::{Deserialize, Serialize};

use super::super::{Incarnation, Row, RowKey, RowKind};

/// Rows in order of their keys: usually a few, at most thousands, which are inserted at the end and
/// removed from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Rows<T = Row>(VecDeque<T>);

/// A claimed row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimedRow {
    /// The row.
    #[serde(flatten)]
    pub(super) row: Row,
    /// The number of the claim.
    pub(super) number: u64,
}

/// An item with the key of a row.
pub(super) trait Keyed {
    fn key(&self) -> RowKey;
}

impl Keyed for Row {
    fn key(&self) -> RowKey {
        self.key
    }
}

impl Keyed for ClaimedRow {
    fn key(&self) -> RowKey {
        self.row.key
    }
}

impl<T> Default for Rows<T> {
    fn default() -> Rows<T> {
        Rows(VecDeque::new())
    }
}

impl<T: Keyed> Rows<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn get(&self, key: RowKey) -> Option<&T> {
        self.find(key).ok().map(|place| &self.0[place])
    }

    /// The rows of one incarnation.
    pub(super) fn of(&self, incarnation: Incarnation) -> vec_deque::Iter<'_, T> {
        self.between(|key| key.incarnation < incarnation, |key| key.incarnation <= incarnation)
    }

    /// The rows of one incarnation and kind.
    pub(super) fn of_kind(
        &self,
        incarnation: Incarnation,
        kind: RowKind,
    ) -> vec_deque::Iter<'_, T> {
        let of = (incarnation, kind);
        self.between(
            |key| (key.incarnation, key.kind) < of,
            |key| (key.incarnation, key.kind) <= of,
        )
    }

    /// The first row of each incarnation.
    pub(super) fn firsts(&self) -> impl Iterator<Item = &T> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.0.get(next)?;
            let incarnation = first.key().incarnation;
            next = match self.0.get(next + 1) {
                // Nearly all rows of a cell belong to one incarnation, and most cells have one row.
                Some(_) => self.0.partition_point(|row| row.key().incarnation <= incarnation),
                None => self.0.len(),
            };
            Some(first)
        })
    }

    /// Inserts or replaces a row.
    pub(super) fn put(&mut self, row: T) {
        match self.find(row.key()) {
            Ok(place) => self.0[place] = row,
            Err(place) => {
                // Rows are large, and most cells have one or two.
                if self.0.len() < 4 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, row);
            }
        }
    }

    pub(super) fn remove(&mut self, key: RowKey) -> Option<T> {
        let row = self.find(key).ok().and_then(|place| self.0.remove(place));
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        row
    }

    fn find(&self, key: RowKey) -> Result<usize, usize> {
        // New rows usually come last.
        match self.0.back() {
            Some(last) if last.key() < key => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&key, T::key),
        }
    }

    fn between(
        &self,
        is_before: impl Fn(RowKey) -> bool,
        is_not_behind: impl Fn(RowKey) -> bool,
    ) -> vec_deque::Iter<'_, T> {
        let start = self.0.partition_point(|row| is_before(row.key()));
        let range: Range<usize> = start..self.0.partition_point(|row| is_not_behind(row.key()));
        self.0.range(range)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn rows_are_in_order_whatever_comes_first() {
        let mut rows = Rows::default();
        for (incarnation, number) in [(2, 1), (1, 9), (2, 3), (1, 2), (2, 2), (1, 9)] {
            rows.put(requested(incarnation, number, succeeded()));
        }
        rows.put(scheduled(2, 0, succeeded()));
        let of = |rows: &mut dyn Iterator<Item = &Row>| {
            rows.map(|row| (row.key.incarnation.0, row.key.number)).collect::<Vec<_>>()
        };
        let scheduled = at(0).timestamp_millis();
        let all = [(1, 2), (1, 9), (2, scheduled), (2, 1), (2, 2), (2, 3)];
        assert_eq!(of(&mut rows.iter()), all);
        assert_eq!(of(&mut rows.of(Incarnation(1))), all[..2]);
        assert_eq!(of(&mut rows.of_kind(Incarnation(2), RowKind::Requested)), all[3..]);
        assert_eq!(of(&mut rows.of(Incarnation(3))), []);
        assert_eq!(of(&mut rows.firsts()), [all[0], all[2]]);
        let key = requested(2, 2, succeeded()).key;
        assert_eq!(rows.remove(key).map(|row| row.key), Some(key));
        assert!(rows.get(key).is_none() && rows.remove(key).is_none() && rows.len() == 5);
    }
}
