//! The indexes of a memory store, with the entries of its cells.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, btree_map},
    ops::Bound,
};

use chrono::{DateTime, Utc};

use super::super::{FateCursor, Incarnation, NodeId, RowKey, RowKind, cell::IndexEntry};
use crate::job::JobId;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    /// Keyed by the id as text, whose order is the order of its bytes.
    listed: BTreeMap<String, JobId>,
    remembered: BTreeSet<(DateTime<Utc>, JobId)>,
    /// The candidates of claims, by holder and by task, so that a claim does not scan jobs that
    /// other nodes hold or tasks that the node has not registered.
    queues: BTreeMap<Option<NodeId>, BTreeMap<String, Queue>>,
    claimed: BTreeMap<NodeId, BTreeMap<Incarnation, JobId>>,
    incarnations: BTreeMap<Incarnation, JobId>,
    /// The closed rows, including the history, in order of their ends.
    closed: BTreeMap<Ended, JobId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Queue {
    waiting: BTreeMap<Incarnation, JobId>,
    due: BTreeMap<(DateTime<Utc>, Incarnation), JobId>,
}

/// The position of a closed row: its kind and its end.
type Ended = (RowKind, DateTime<Utc>, RowKey);

impl Indexes {
    /// The jobs after `after`, in order of the bytes of their ids.
    pub(super) fn listed(&self, after: Option<String>) -> impl Iterator<Item = &JobId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.listed.range((from, Bound::Unbounded)).map(|(_, id)| id)
    }

    /// The number of jobs.
    pub(super) fn count_listed(&self) -> u64 {
        self.listed.len() as u64
    }

    /// The jobs of these tasks with waiting rows that this node may claim, in order of their
    /// incarnations, after `passed`.
    pub(super) fn waiting<'a>(
        &'a self,
        node: NodeId,
        tasks: &HashSet<String>,
        passed: Option<Incarnation>,
    ) -> impl Iterator<Item = (Incarnation, &'a JobId)> + use<'a> {
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        let queues = self.queues(node, tasks);
        merged(queues.map(|queue| queue.waiting.range((from, Bound::Unbounded))).collect())
    }

    /// The jobs of these tasks with fire times that this node may claim, in order of the fire
    /// times, after `passed`.
    pub(super) fn due<'a>(
        &'a self,
        node: NodeId,
        tasks: &HashSet<String>,
        passed: Option<(DateTime<Utc>, Incarnation)>,
    ) -> impl Iterator<Item = ((DateTime<Utc>, Incarnation), &'a JobId)> + use<'a> {
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        let queues = self.queues(node, tasks);
        merged(queues.map(|queue| queue.due.range((from, Bound::Unbounded))).collect())
    }

    /// The newest `count` of these jobs up to `horizon`, in reverse order.
    pub(super) fn newest(
        &self,
        node: NodeId,
        tasks: &HashSet<String>,
        horizon: DateTime<Utc>,
        count: usize,
    ) -> Vec<(Incarnation, &JobId)> {
        let last = (horizon, Incarnation(u64::MAX));
        let queues = self.queues(node, tasks);
        let mut newest: Vec<_> =
            queues.flat_map(|queue| queue.due.range(..=last).rev().take(count)).collect();
        newest.sort_unstable_by(|a, b| b.0.cmp(a.0));
        newest.into_iter().take(count).map(|((_, incarnation), id)| (*incarnation, id)).collect()
    }

    fn queues(&self, node: NodeId, tasks: &HashSet<String>) -> impl Iterator<Item = &Queue> {
        let by_task = [None, Some(node)].map(|holder| self.queues.get(&holder));
        let by_task = by_task.into_iter().flatten();
        by_task.flat_map(|queues| tasks.iter().filter_map(|task| queues.get(task)))
    }

    /// The nodes that have claimed rows.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.claimed.keys().copied()
    }

    /// The incarnations of which a node has claimed rows, in order, starting with `from`.
    pub(super) fn claimed(
        &self,
        node: NodeId,
        from: Incarnation,
    ) -> impl Iterator<Item = (Incarnation, &JobId)> {
        let claimed = self.claimed.get(&node).map(|claimed| claimed.range(from..));
        claimed.into_iter().flatten().map(|(incarnation, id)| (*incarnation, id))
    }

    /// The id of an incarnation's job.
    pub(super) fn id(&self, incarnation: Incarnation) -> Option<&JobId> {
        self.incarnations.get(&incarnation)
    }

    /// The incarnations in order, starting with `from`.
    pub(super) fn incarnations(
        &self,
        from: Incarnation,
    ) -> impl Iterator<Item = (Incarnation, &JobId)> {
        self.incarnations.range(from..).map(|(incarnation, id)| (*incarnation, id))
    }

    /// The remembered ends, the earliest first.
    pub(super) fn remembered(&self) -> impl ExactSizeIterator<Item = &(DateTime<Utc>, JobId)> {
        self.remembered.iter()
    }

    /// The number of closed rows.
    pub(super) fn count_closed(&self) -> u64 {
        self.closed.len() as u64
    }

    /// The closed rows of a kind that ended before `instant`, the earliest first.
    pub(super) fn closed_before(
        &self,
        kind: RowKind,
        instant: DateTime<Utc>,
    ) -> impl Iterator<Item = (&Ended, &JobId)> {
        self.closed.range(first_ended(kind, DateTime::<Utc>::MIN_UTC)..first_ended(kind, instant))
    }

    /// The closed rows that ended before `until`, the latest end first, starting after `after`.
    pub(super) fn latest_closed(
        &self,
        until: Option<DateTime<Utc>>,
        after: Option<FateCursor>,
    ) -> impl Iterator<Item = (RowKey, &JobId)> {
        let until = until.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut kinds: Vec<_> = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended]
            .into_iter()
            .map(|kind| {
                let end = match after {
                    Some(after) if after.key.kind == kind => (kind, after.ended_at, after.key),
                    // At the same instant, later kinds come first.
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
                self.closed.range(first.min(end)..end).rev().peekable()
            })
            .collect();
        std::iter::from_fn(move || {
            let heads = kinds.iter_mut().filter_map(|kind| Some((*kind.peek()?.0, kind)));
            let (_, kind) = heads.max_by_key(|((kind, at, key), _)| (*at, *kind, *key))?;
            kind.next().map(|((.., key), id)| (*key, id))
        })
    }

    pub(super) fn insert(&mut self, entry: IndexEntry, id: JobId) {
        match entry {
            IndexEntry::Listed => drop(self.listed.insert(id.as_str().into_owned(), id)),
            IndexEntry::Remembered(at) => drop(self.remembered.insert((at, id))),
            IndexEntry::Waiting { holder, task, incarnation } => {
                let queues = self.queues.entry(holder).or_default();
                queues.entry(task).or_default().waiting.insert(incarnation, id);
            }
            IndexEntry::Due { holder, task, at, incarnation } => {
                let queues = self.queues.entry(holder).or_default();
                queues.entry(task).or_default().due.insert((at, incarnation), id);
            }
            IndexEntry::Claimed { incarnation, node } => {
                self.claimed.entry(node).or_default().insert(incarnation, id);
            }
            IndexEntry::Incarnation(incarnation) => drop(self.incarnations.insert(incarnation, id)),
            IndexEntry::Closed(key, at) => drop(self.closed.insert((key.kind, at, key), id)),
        }
    }

    pub(super) fn remove(&mut self, entry: IndexEntry, id: &JobId) {
        match entry {
            IndexEntry::Listed => drop(self.listed.remove(&*id.as_str())),
            IndexEntry::Remembered(at) => drop(self.remembered.remove(&(at, id.clone()))),
            IndexEntry::Waiting { holder, task, incarnation } => {
                self.remove_from(holder, &task, |queue| drop(queue.waiting.remove(&incarnation)));
            }
            IndexEntry::Due { holder, task, at, incarnation } => {
                self.remove_from(holder, &task, |queue| drop(queue.due.remove(&(at, incarnation))));
            }
            IndexEntry::Claimed { incarnation, node } => {
                if let btree_map::Entry::Occupied(mut claimed) = self.claimed.entry(node) {
                    claimed.get_mut().remove(&incarnation);
                    if claimed.get().is_empty() {
                        claimed.remove();
                    }
                }
            }
            IndexEntry::Incarnation(incarnation) => drop(self.incarnations.remove(&incarnation)),
            IndexEntry::Closed(key, at) => drop(self.closed.remove(&(key.kind, at, key))),
        }
    }

    fn remove_from(&mut self, holder: Option<NodeId>, task: &str, remove: impl FnOnce(&mut Queue)) {
        let Some(queues) = self.queues.get_mut(&holder) else { return };
        let Some(queue) = queues.get_mut(task) else { return };
        remove(queue);
        if queue.waiting.is_empty() && queue.due.is_empty() {
            queues.remove(task);
        }
        if queues.is_empty() {
            self.queues.remove(&holder);
        }
    }
}

/// The position before all rows of a kind that end at `instant`.
fn first_ended(kind: RowKind, instant: DateTime<Utc>) -> Ended {
    let first = RowKey { incarnation: Incarnation(0), kind: RowKind::Scheduled, number: i64::MIN };
    (kind, instant, first)
}

/// Merges several ranges in order.
fn merged<K: Copy + Ord>(
    ranges: Vec<btree_map::Range<'_, K, JobId>>,
) -> impl Iterator<Item = (K, &JobId)> {
    let mut ranges: Vec<_> = ranges.into_iter().map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let heads = ranges.iter_mut().filter_map(|range| Some((*range.peek()?.0, range)));
        let (_, range) = heads.min_by_key(|(head, _)| *head)?;
        range.next().map(|(key, id)| (*key, id))
    })
}
