//! The records of a memory store, by incarnation, by id, and in order of their fire times.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
};

use chrono::{DateTime, Utc};

use super::super::{Incarnation, Keep, Record};
use crate::job::JobId;

#[derive(Default)]
pub(super) struct Jobs {
    records: BTreeMap<Incarnation, Record>,
    /// By the text of the id, whose order is that of its bytes.
    ids: BTreeMap<String, Incarnation>,
    /// Jobs that are not paused and have a next fire time, by task: those that no node knows are
    /// then in nobody's way.
    due: BTreeMap<String, BTreeSet<(DateTime<Utc>, Incarnation)>>,
    /// What is over and remembered, by id.
    ended: BTreeMap<String, Record>,
    /// The same in order of when they were over.
    ended_at: BTreeSet<(Option<DateTime<Utc>>, String)>,
}

impl Jobs {
    pub(super) fn get(&self, incarnation: Incarnation) -> Option<&Record> {
        self.records.get(&incarnation)
    }

    pub(super) fn by_id(&self, id: &JobId) -> Option<&Record> {
        self.ids.get(&*id.as_str()).and_then(|incarnation| self.get(*incarnation))
    }

    /// The same, one that is over and remembered included.
    pub(super) fn known(&self, id: &JobId) -> Option<&Record> {
        self.by_id(id).or_else(|| self.ended.get(&id.to_string()))
    }

    pub(super) fn remember(&mut self, record: Record) {
        let id = record.id.to_string();
        self.forget_text(&id);
        self.ended_at.insert((record.ended_at, id.clone()));
        self.ended.insert(id, record);
    }

    pub(super) fn forget(&mut self, id: &JobId) {
        self.forget_text(&id.to_string());
    }

    fn forget_text(&mut self, id: &str) {
        if let Some(record) = self.ended.remove(id) {
            self.ended_at.remove(&(record.ended_at, id.to_owned()));
        }
    }

    /// Forgets up to `limit` that were over before, or that are too many. Returns how many.
    pub(super) fn forget_before(&mut self, instant: DateTime<Utc>, limit: usize) -> usize {
        let too_many = self.ended.len().saturating_sub(Keep::MOST_ENDED);
        let old = self.ended_at.iter().enumerate();
        let old = old.take_while(|(n, (at, _))| *n < too_many || *at < Some(instant));
        let old: Vec<String> = old.map(|(_, (_, id))| id.clone()).take(limit).collect();
        old.iter().for_each(|id| self.forget_text(id));
        old.len()
    }

    /// In order of the ids' bytes, those behind `after`.
    pub(super) fn listed(&self, after: Option<String>) -> impl Iterator<Item = &Record> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ids
            .range((from, Bound::Unbounded))
            .filter_map(|(_, incarnation)| self.get(*incarnation))
    }

    /// Those of these tasks that are not paused and have a next fire time, in order of that; those
    /// behind `passed`.
    pub(super) fn due<'a>(
        &'a self,
        tasks: &HashSet<String>,
        passed: Option<(DateTime<Utc>, Incarnation)>,
    ) -> impl Iterator<Item = (DateTime<Utc>, &'a Record)> + use<'a> {
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        let mut queues: Vec<_> = tasks
            .iter()
            .filter_map(|task| self.due.get(task))
            .map(|queue| queue.range((from, Bound::Unbounded)).peekable())
            .collect();
        std::iter::from_fn(move || {
            let heads =
                queues.iter_mut().filter_map(|queue| Some((*queue.peek().copied()?, queue)));
            let (_, queue) = heads.min_by_key(|(head, _)| *head)?;
            queue.next()
        })
        .filter_map(|(at, incarnation)| Some((*at, self.get(*incarnation)?)))
    }

    /// Of the same, up to `horizon`, so many, from the newest backwards.
    pub(super) fn newest(
        &self,
        tasks: &HashSet<String>,
        horizon: DateTime<Utc>,
        count: usize,
    ) -> impl Iterator<Item = &Record> {
        let queues = tasks.iter().filter_map(|task| self.due.get(task));
        let last = (horizon, Incarnation(u64::MAX));
        let mut newest: Vec<_> =
            queues.flat_map(|queue| queue.range(..=last).rev().take(count)).copied().collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.into_iter().take(count).filter_map(|(_, incarnation)| self.get(incarnation))
    }

    /// Puts a record in, or in the place of the one of its incarnation.
    pub(super) fn put(&mut self, record: Record) {
        self.remove(record.incarnation);
        self.ids.insert(record.id.as_str().into_owned(), record.incarnation);
        if let Some(at) = next_fire(&record) {
            match self.due.get_mut(&record.task) {
                Some(queue) => queue.insert((at, record.incarnation)),
                None => self
                    .due
                    .entry(record.task.clone())
                    .or_default()
                    .insert((at, record.incarnation)),
            };
        }
        self.records.insert(record.incarnation, record);
    }

    pub(super) fn remove(&mut self, incarnation: Incarnation) -> Option<Record> {
        let record = self.records.remove(&incarnation)?;
        self.ids.remove(&*record.id.as_str());
        if let Some(at) = next_fire(&record)
            && let Some(queue) = self.due.get_mut(&record.task)
        {
            queue.remove(&(at, incarnation));
            if queue.is_empty() {
                self.due.remove(&record.task);
            }
        }
        Some(record)
    }
}

fn next_fire(record: &Record) -> Option<DateTime<Utc>> {
    record.next_fire.filter(|_| !record.paused)
}
