//! The closed rows that have left their cells.

use std::collections::{BTreeMap, HashMap};

use super::super::{Incarnation, Row, RowKey, RowKind};
use crate::job::JobId;

#[derive(Default)]
pub(super) struct History {
    rows: BTreeMap<RowKey, (JobId, Row)>,
    /// The number of rows of each id and incarnation.
    counts: HashMap<JobId, BTreeMap<Incarnation, usize>>,
}

impl History {
    pub(super) fn get(&self, key: RowKey) -> Option<&Row> {
        self.rows.get(&key).map(|(_, row)| row)
    }

    /// The id of the row's job.
    pub(super) fn id(&self, key: RowKey) -> Option<&JobId> {
        self.rows.get(&key).map(|(id, _)| id)
    }

    /// The rows from a key on, in order.
    pub(super) fn from(&self, key: RowKey) -> impl Iterator<Item = &Row> {
        self.rows.range(key..).map(|(_, (_, row))| row)
    }

    /// The rows of one incarnation, in order of their keys.
    pub(super) fn of(&self, incarnation: Incarnation) -> impl Iterator<Item = &Row> {
        let first = RowKey { incarnation, kind: RowKind::Scheduled, number: i64::MIN };
        self.from(first).take_while(move |row| row.key.incarnation == incarnation)
    }

    /// The rows of all incarnations of an id.
    pub(super) fn of_id(&self, id: &JobId) -> impl Iterator<Item = &Row> {
        let incarnations = self.counts.get(id).into_iter().flat_map(BTreeMap::keys);
        incarnations.flat_map(|incarnation| self.of(*incarnation))
    }

    /// The number of rows of an id.
    pub(super) fn count(&self, id: &JobId) -> usize {
        self.counts.get(id).map_or(0, |counts| counts.values().sum())
    }

    pub(super) fn put(&mut self, id: &JobId, row: Row) {
        let key = row.key;
        if self.rows.insert(key, (id.clone(), row)).is_none() {
            *self.counts.entry(id.clone()).or_default().entry(key.incarnation).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, key: RowKey) -> Option<Row> {
        let (id, row) = self.rows.remove(&key)?;
        if let Some(counts) = self.counts.get_mut(&id) {
            if let Some(count) = counts.get_mut(&key.incarnation) {
                *count -= 1;
            }
            counts.retain(|_, count| *count > 0);
            if counts.is_empty() {
                self.counts.remove(&id);
            }
        }
        Some(row)
    }
}
