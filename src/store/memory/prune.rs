//! Pruning a memory store.

use std::collections::{BTreeMap, HashMap};

use super::{super::*, state::State};

const KINDS: [RowKind; 3] = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];

/// The rows to delete, with the ids of their jobs.
type Gone = BTreeMap<RowKey, JobId>;

impl State {
    pub(super) fn prune(&mut self, keep: Keep, limit: usize, now: DateTime<Utc>) -> PruneReport {
        let forgotten = self.forget(limit, now);
        let actions = self.prune_actions(limit, now);
        let mut gone = self.outdated(&keep, limit, now);
        self.add_surplus(&mut gone, &keep, limit, now);
        let more = gone.len() >= limit || forgotten >= limit || actions >= limit;
        let mut by_id: HashMap<JobId, Vec<RowKey>> = HashMap::new();
        for (key, id) in gone.into_iter().take(limit) {
            by_id.entry(id).or_default().push(key);
        }
        let deleted = by_id.values().map(|keys| keys.len() as u64).sum();
        by_id.into_iter().for_each(|(id, keys)| self.delete(&id, &keys));
        PruneReport { deleted, forgotten: forgotten as u64, more }
    }

    /// Deletes remembered ends beyond the limits on age and number.
    fn forget(&mut self, limit: usize, now: DateTime<Utc>) -> usize {
        let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let ends = self.indexes.remembered();
        let too_many = ends.len().saturating_sub(Keep::MOST_ENDED);
        let old = ends.enumerate().take_while(|(place, (at, _))| *place < too_many || *at < oldest);
        let old: Vec<JobId> = old.map(|(_, (_, id))| id.clone()).take(limit).collect();
        for id in &old {
            self.change(id, [], |cell| cell.forget());
        }
        old.len()
    }

    /// Deletes up to `limit` actions beyond the limits on age and number. Returns how many.
    fn prune_actions(&mut self, limit: usize, now: DateTime<Utc>) -> usize {
        let oldest = now.checked_sub_signed(Keep::ACTIONS).unwrap_or(DateTime::<Utc>::MIN_UTC);
        for deleted in 0..limit {
            let too_many = self.actions.len() > Keep::MOST_ACTIONS;
            match self.actions.first_entry() {
                Some(first) if too_many || first.key().at < oldest => drop(first.remove()),
                _ => return deleted,
            }
        }
        limit
    }

    /// Rows that exceed a limit of their job: at least `limit` rows, if there are so many.
    fn outdated(&mut self, keep: &Keep, limit: usize, now: DateTime<Utc>) -> Gone {
        let mut gone = Gone::new();
        let recent = now - Keep::at_least(RowKind::Scheduled);
        let old = KINDS.map(|kind| (kind, Keep::oldest(keep.age, kind, now)));
        let ended = [(RowKind::Ended, Keep::oldest(keep.ended, RowKind::Ended, now))];
        for (kind, instant) in old.into_iter().chain(ended) {
            let mut rows = self.indexes.closed_before(kind, instant);
            while gone.len() < limit
                && let Some(((.., key), id)) = rows.next()
            {
                if !gone.contains_key(key) {
                    self.add_outdated(&mut gone, id, keep, now);
                }
            }
        }
        let mut judged = Vec::new();
        for id in &self.grown {
            if gone.len() > limit {
                break;
            }
            let closed = self.cells.get(id).map_or(0, |cell| cell.count_closed());
            let count = gone.len();
            let has_many = closed + self.history.count(id) > keep.rows as usize;
            if has_many {
                self.add_outdated(&mut gone, id, keep, now);
            }
            if !has_many || !self.has_ended_since(id, recent) {
                judged.push((id.clone(), gone.len() > count));
            }
        }
        // Beyond `limit`, the rows to delete are not determined yet.
        let is_all = gone.len() <= limit;
        for (id, _) in judged.into_iter().filter(|(_, has_outdated)| is_all || !has_outdated) {
            self.grown.remove(&id);
        }
        gone
    }

    /// Whether the job has closed rows that must be checked again later.
    fn has_ended_since(&self, id: &JobId, instant: DateTime<Utc>) -> bool {
        self.cells.get(id).is_some_and(|cell| cell.has_ended_since(instant))
            || self.history.of_id(id).any(|row| row.ended_at >= Some(instant))
    }

    fn add_outdated(&self, gone: &mut Gone, id: &JobId, keep: &Keep, now: DateTime<Utc>) {
        if let Some(cell) = self.cells.get(id) {
            let keys = cell.outdated(self.history.of_id(id), keep, now);
            gone.extend(keys.into_iter().map(|key| (key, id.clone())));
        }
    }

    /// Adds the earliest rows beyond the limit on the total number.
    fn add_surplus(&self, gone: &mut Gone, keep: &Keep, limit: usize, now: DateTime<Utc>) {
        let surplus = keep.surplus(self.indexes.count_closed()).saturating_sub(gone.len() as u64);
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        let surplus = surplus.min(limit.saturating_sub(gone.len()));
        if surplus == 0 {
            return;
        }
        let recent = now - Keep::at_least(RowKind::Scheduled);
        let mut earliest: Vec<_> = KINDS
            .into_iter()
            .flat_map(|kind| self.indexes.closed_before(kind, recent).take(limit))
            .filter(|((.., key), _)| !gone.contains_key(key))
            .collect();
        earliest.sort_unstable_by_key(|((kind, at, key), _)| (*at, *kind, *key));
        let earliest = earliest.into_iter().take(surplus);
        gone.extend(earliest.map(|((.., key), id)| (*key, id.clone())));
    }

    /// Deletes rows of an id.
    fn delete(&mut self, id: &JobId, keys: &[RowKey]) {
        for key in keys {
            self.forget_history(*key);
        }
        let is_gone = self.history.count(id) == 0;
        self.change(id, [], |cell| {
            for key in keys {
                cell.delete(*key);
            }
            if is_gone {
                cell.history_is_gone();
            }
        });
    }
}
