//! The index entries of a cell.

use chrono::{DateTime, Utc};

use super::{
    super::{Incarnation, NodeId, RowKey},
    Cell,
    claim::holder_of,
};

/// An entry in an index of a store, which points to the id of a cell.
///
/// The entries are a function of the cell. So a store updates its indexes with the difference
/// between the entries before and after each change, in the same commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IndexEntry {
    /// For [`Store::list`](super::Store::list), in order of the ids: the cell has a job that has
    /// not ended.
    Listed,
    /// For [`Store::prune`](super::Store::prune): the cell has only the remembered end of a job, at
    /// this instant.
    Remembered(DateTime<Utc>),
    /// For claims: the job has a waiting row that counts. With a `holder`, only that node may claim
    /// it.
    Waiting { holder: Option<NodeId>, task: String, incarnation: Incarnation },
    /// For claims, in order of the fire times: the job has this next fire time.
    Due { holder: Option<NodeId>, task: String, at: DateTime<Utc>, incarnation: Incarnation },
    /// For the claims of a node, in order of the keys: the node has claimed rows of this incarnation.
    Claimed { incarnation: Incarnation, node: NodeId },
    /// For operations on keys: the cell has the record or rows of this incarnation.
    Incarnation(Incarnation),
    /// For pruning, and in order of the ends: the cell has this closed row, with this end. Rows in
    /// the history also have such an entry.
    Closed(RowKey, DateTime<Utc>),
}

impl Cell {
    /// All index entries of the cell, in order.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "a store need not make those that stay as they are")
    )]
    pub(crate) fn index_entries(&self) -> Vec<IndexEntry> {
        let mut entries = self.open_entries();
        entries.extend(self.closed_ends().into_iter().map(|(key, at)| IndexEntry::Closed(key, at)));
        entries
    }

    /// The keys of the closed rows, in order, and when they ended: each has an [`IndexEntry::Closed`].
    pub(crate) fn closed_ends(&self) -> Vec<(RowKey, DateTime<Utc>)> {
        self.closed.iter().filter_map(|row| Some((row.key, row.ended_at?))).collect()
    }

    /// The index entries of the cell but for those of its closed rows, in order.
    pub(crate) fn open_entries(&self) -> Vec<IndexEntry> {
        let mut entries = Vec::with_capacity(6);
        match (&self.record, self.living()) {
            (_, Some(record)) => {
                entries.push(IndexEntry::Listed);
                let (holder, incarnation) = (self.holder(), record.incarnation);
                if self.waiting_rows().next().is_some() {
                    let task = record.task.clone();
                    entries.push(IndexEntry::Waiting { holder, task, incarnation });
                }
                if let Some(at) = self.next_fire() {
                    let task = record.task.clone();
                    entries.push(IndexEntry::Due { holder, task, at, incarnation });
                }
            }
            (Some(record), None) => entries.extend(record.ended_at.map(IndexEntry::Remembered)),
            (None, None) => {}
        }
        // Only one node has claimed rows of an incarnation.
        entries.extend(self.claimed.firsts().filter_map(|claimed| {
            let node = holder_of(&claimed.row)?;
            Some(IndexEntry::Claimed { incarnation: claimed.row.key.incarnation, node })
        }));
        let mut incarnations: Vec<Incarnation> = self
            .waiting
            .firsts()
            .chain(self.closed.firsts())
            .map(|row| row.key.incarnation)
            .chain(self.claimed.firsts().map(|claimed| claimed.row.key.incarnation))
            .chain(self.record.as_ref().map(|record| record.incarnation))
            .collect();
        incarnations.sort_unstable();
        incarnations.dedup();
        entries.extend(incarnations.into_iter().map(IndexEntry::Incarnation));
        entries
    }
}

impl IndexEntry {
    /// The entries to remove and to insert after a change, given the entries before and after it, in
    /// order; or what stands for entries.
    pub(crate) fn changes<T: Ord>(before: Vec<T>, after: Vec<T>) -> (Vec<T>, Vec<T>) {
        let (mut removed, mut inserted) = (Vec::new(), Vec::new());
        let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (Some(old), Some(new)) if old == new => drop((before.next(), after.next())),
                (Some(old), new) if new.is_none_or(|new| old < new) => {
                    removed.extend(before.next())
                }
                (_, Some(_)) => inserted.extend(after.next()),
                (_, None) => return (removed, inserted),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{Record, RowState, Write},
            tests::*,
        },
        *,
    };

    const INCARNATION: Incarnation = Incarnation(1);

    fn due(holder: Option<NodeId>, seconds: i64) -> IndexEntry {
        IndexEntry::Due { holder, task: "task".into(), at: at(seconds), incarnation: INCARNATION }
    }

    fn waiting(holder: Option<NodeId>) -> IndexEntry {
        IndexEntry::Waiting { holder, task: "task".into(), incarnation: INCARNATION }
    }

    #[test]
    fn a_job_waits_for_its_fire_time_or_for_a_node() {
        assert_eq!(Cell::default().index_entries(), []);
        let listed = [IndexEntry::Listed, IndexEntry::Incarnation(INCARNATION)];
        assert_eq!(cell_of(record(1, None)).index_entries(), listed);
        let [first, last] = &listed;
        let entries = [first.clone(), due(None, 60), last.clone()];
        assert_eq!(cell_of(record(1, Some(60))).index_entries(), entries);
        let row = requested(1, 1, RowState::Waiting);
        let paused = cell_with(Record { paused: true, ..record(1, Some(60)) }, [row]);
        assert_eq!(paused.index_entries(), [first.clone(), waiting(None), last.clone()]);
    }

    #[test]
    fn a_claimed_job_is_due_only_for_its_holder() {
        let mut cell = cell_with(record(1, Some(60)), [requested(1, 1, RowState::Waiting)]);
        claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120));
        let claimed = IndexEntry::Claimed { incarnation: INCARNATION, node: NODE };
        let (holder, last) = (Some(NODE), IndexEntry::Incarnation(INCARNATION));
        let entries = [IndexEntry::Listed, waiting(holder), due(holder, 120), claimed, last];
        assert_eq!(cell.index_entries(), entries);
    }

    #[test]
    fn an_ended_job_has_entries() {
        let mut cell = cell_of(Record { remember: true, ..record(1, Some(60)) });
        let row = claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], None).rows.remove(0);
        cell.finish(outcome(&row, 61), at(62));
        let closed = IndexEntry::Closed(row.key, at(61));
        let end = IndexEntry::Closed(RowKey::end_of(INCARNATION), at(62));
        let remembered = IndexEntry::Remembered(at(62));
        let mut entries = vec![remembered, IndexEntry::Incarnation(INCARNATION), closed, end];
        assert_eq!(cell.index_entries(), entries);
        cell.forget();
        entries.remove(0);
        assert_eq!(cell.index_entries(), entries);
    }

    #[test]
    fn claimed_rows_of_an_ended_incarnation_stay_beside_the_next() {
        let mut cell = cell_of(record(1, Some(60)));
        claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120));
        let stamp = cell.record().unwrap().stamp();
        cell.write(Write::change(stamp, record(2, Some(60)), 2), at(1));
        claim(&mut cell, RIVAL, [scheduled(2, 60, claimed_by(NODE))], None);
        let claimed =
            |incarnation, node| IndexEntry::Claimed { incarnation: Incarnation(incarnation), node };
        let entries = [IndexEntry::Listed, claimed(1, NODE), claimed(2, RIVAL)];
        assert_eq!(cell.index_entries()[..3], entries);
        assert_eq!(
            cell.index_entries()[3..],
            [1, 2].map(|it| IndexEntry::Incarnation(Incarnation(it)))
        );
    }

    #[test]
    fn changes_are_what_only_one_side_has() {
        let of = |seconds: &[i64]| seconds.iter().map(|it| due(None, *it)).collect::<Vec<_>>();
        let (removed, inserted) = IndexEntry::changes(of(&[1, 2, 4, 7]), of(&[2, 3, 4, 5, 8, 9]));
        assert_eq!((removed, inserted), (of(&[1, 7]), of(&[3, 5, 8, 9])));
        assert_eq!(IndexEntry::changes(of(&[1]), of(&[])), (of(&[1]), of(&[])));
    }
}
