//! The rows of a memory store, and which of them wait and which are taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use chrono::{DateTime, Utc};

use super::super::{FateCursor, Incarnation, NodeId, Row, RowKey, RowKind, RowState};

#[derive(Default)]
pub(super) struct Ledger {
    rows: BTreeMap<RowKey, Row>,
    waiting: BTreeSet<RowKey>,
    taken: BTreeMap<RowKey, NodeId>,
    /// What each node has taken, and with the take of which number.
    holdings: BTreeMap<NodeId, BTreeMap<RowKey, u64>>,
    /// Closed rows in order of when they ended.
    ended: BTreeSet<Ended>,
    /// Up to where, of each kind, it was looked for jobs that have too many rows.
    looked_to: BTreeMap<RowKind, Ended>,
}

/// When a row ended, by its kind.
type Ended = (RowKind, DateTime<Utc>, RowKey);

impl Ledger {
    pub(super) fn get(&self, key: RowKey) -> Option<&Row> {
        self.rows.get(&key)
    }

    /// Those behind `after`, in order of their keys.
    pub(super) fn behind(&self, after: Option<RowKey>) -> impl Iterator<Item = &Row> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range((from, Bound::Unbounded)).map(|(_, row)| row)
    }

    pub(super) fn of(&self, incarnation: Incarnation) -> impl Iterator<Item = &Row> {
        self.rows.range(keys_of(incarnation)).map(|(_, row)| row)
    }

    /// Those of one incarnation and kind, the newest first.
    pub(super) fn newest(
        &self,
        incarnation: Incarnation,
        kind: RowKind,
    ) -> impl Iterator<Item = &Row> {
        let first = RowKey { incarnation, kind, number: i64::MIN };
        let last = RowKey { incarnation, kind, number: i64::MAX };
        self.rows.range(first..=last).rev().map(|(_, row)| row)
    }

    pub(super) fn has_open(&self, incarnation: Incarnation) -> bool {
        self.waiting.range(keys_of(incarnation)).next().is_some()
            || self.taken.range(keys_of(incarnation)).next().is_some()
    }

    /// The waiting rows of an incarnation, in order of their keys.
    pub(super) fn waiting_of(&self, incarnation: Incarnation) -> impl Iterator<Item = &Row> {
        self.waiting.range(keys_of(incarnation)).filter_map(|key| self.get(*key))
    }

    /// The incarnations that have waiting rows, those behind `passed`.
    pub(super) fn waiting(&self, passed: Option<Incarnation>) -> impl Iterator<Item = Incarnation> {
        let from = passed.map_or(Bound::Unbounded, |it| Bound::Excluded(*keys_of(it).end()));
        let first = self.waiting.range((from, Bound::Unbounded)).next();
        let mut next = first.map(|key| key.incarnation);
        std::iter::from_fn(move || {
            let incarnation = next?;
            let behind = (Bound::Excluded(*keys_of(incarnation).end()), Bound::Unbounded);
            next = self.waiting.range(behind).next().map(|key| key.incarnation);
            Some(incarnation)
        })
    }

    /// The nodes that have taken rows of an incarnation.
    pub(super) fn holders(&self, incarnation: Incarnation) -> impl Iterator<Item = NodeId> {
        self.taken.range(keys_of(incarnation)).map(|(_, node)| *node)
    }

    /// What a node has taken, in order of the keys, and with the take of which number.
    pub(super) fn taken_by(&self, node: NodeId) -> impl Iterator<Item = (&Row, u64)> {
        let holdings = self.holdings.get(&node).into_iter().flatten();
        holdings.filter_map(|(key, take)| Some((self.get(*key)?, *take)))
    }

    /// The nodes that have taken rows.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.holdings.keys().copied()
    }

    /// How many rows are closed.
    pub(super) fn closed(&self) -> u64 {
        self.ended.len() as u64
    }

    /// Those of a kind that ended before, the oldest first.
    pub(super) fn ended_before(
        &self,
        kind: RowKind,
        instant: DateTime<Utc>,
    ) -> impl Iterator<Item = RowKey> {
        let (first, last) =
            (first_ended(kind, DateTime::<Utc>::MIN_UTC), first_ended(kind, instant));
        self.ended.range(first..last).map(|(.., key)| *key)
    }

    /// Closed rows behind a place, the latest to end first; those that ended before `until`.
    pub(super) fn latest_ended(
        &self,
        until: Option<DateTime<Utc>>,
        after: Option<FateCursor>,
    ) -> impl Iterator<Item = &Row> {
        let until = until.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut kinds: Vec<_> = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended]
            .into_iter()
            .map(|kind| {
                let end = match after {
                    Some(after) if after.key.kind == kind => (kind, after.ended_at, after.key),
                    // Of one instant the later kinds come first.
                    Some(after) if after.key.kind > kind => {
                        let last =
                            RowKey { number: i64::MAX, ..RowKey::end_of(Incarnation(u64::MAX)) };
                        (kind, after.ended_at, last)
                    }
                    Some(after) => first_ended(kind, after.ended_at),
                    None => first_ended(kind, DateTime::<Utc>::MAX_UTC),
                };
                let end = end.min(first_ended(kind, until));
                let first = first_ended(kind, DateTime::<Utc>::MIN_UTC);
                self.ended.range(first.min(end)..end).rev().peekable()
            })
            .collect();
        std::iter::from_fn(move || {
            let heads = kinds.iter_mut().filter_map(|kind| Some((*kind.peek().copied()?, kind)));
            let (_, kind) = heads.max_by_key(|((kind, at, key), _)| (*at, *kind, *key))?;
            let (.., key) = kind.next()?;
            self.get(*key)
        })
    }

    /// The jobs of which rows have ended before since it was looked last, and up to where that is.
    pub(super) fn newly_ended(
        &self,
        kind: RowKind,
        instant: DateTime<Utc>,
    ) -> (BTreeSet<Incarnation>, Option<Ended>) {
        let from = self.looked_to.get(&kind).copied();
        let from = from
            .map_or(Bound::Included(first_ended(kind, DateTime::<Utc>::MIN_UTC)), Bound::Excluded);
        let until = first_ended(kind, instant);
        let is_empty = matches!(from, Bound::Excluded(from) if from >= until);
        let new = (!is_empty).then(|| self.ended.range((from, Bound::Excluded(until))));
        let new = new.into_iter().flatten();
        let last = new.clone().next_back().copied();
        (new.map(|(.., key)| key.incarnation).collect(), last)
    }

    /// It was looked up to here.
    pub(super) fn has_looked(&mut self, kind: RowKind, to: Option<Ended>) {
        self.looked_to.extend(to.map(|to| (kind, to)));
    }

    /// Puts a row in, or in the place of the one of its key.
    pub(super) fn put(&mut self, row: Row) {
        // Nodes count their takes from 1.
        self.put_in_take(row, 0);
    }

    /// The same, with the number of the take that does.
    pub(super) fn put_in_take(&mut self, row: Row, take: u64) {
        self.remove(row.key);
        match row.state {
            RowState::Waiting => {
                self.waiting.insert(row.key);
            }
            RowState::Taken(node) => {
                self.taken.insert(row.key, node);
                self.holdings.entry(node).or_default().insert(row.key, take);
            }
            RowState::Closed(_) => self.ended.extend(ended(&row)),
        }
        self.rows.insert(row.key, row);
    }

    pub(super) fn remove(&mut self, key: RowKey) {
        if let Some(row) = self.rows.remove(&key) {
            ended(&row).iter().for_each(|ended| _ = self.ended.remove(ended));
        }
        self.waiting.remove(&key);
        if let Some(node) = self.taken.remove(&key)
            && let Some(holdings) = self.holdings.get_mut(&node)
        {
            holdings.remove(&key);
            if holdings.is_empty() {
                self.holdings.remove(&node);
            }
        }
    }
}

fn keys_of(incarnation: Incarnation) -> std::ops::RangeInclusive<RowKey> {
    let first = RowKey { incarnation, kind: RowKind::Scheduled, number: i64::MIN };
    let last = RowKey { incarnation, kind: RowKind::Ended, number: i64::MAX };
    first..=last
}

/// Of a closed row, when it ended.
fn ended(row: &Row) -> Option<Ended> {
    Some((row.key.kind, row.ended_at?, row.key)).filter(|_| !row.state.is_open())
}

/// What comes before all rows of a kind that end at an instant.
fn first_ended(kind: RowKind, instant: DateTime<Utc>) -> Ended {
    let first = RowKey { incarnation: Incarnation(0), kind: RowKind::Scheduled, number: i64::MIN };
    (kind, instant, first)
}
