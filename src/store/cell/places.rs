//! Where a cell stands in the indexes of its store.

use chrono::{DateTime, Utc};

use super::{
    super::{Incarnation, NodeId, RowKey},
    Cell,
    claim::holder_of,
};

/// An entry of one of the indexes of a store, which leads to the id of a cell.
///
/// The entries of a cell follow from it alone. So a store keeps its indexes right by the entries of the
/// cell before and after each change, in one commit with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// For [`Store::list`](super::Store::list), in order of the ids: it has a job that is not over.
    Listed,
    /// For [`Store::prune`](super::Store::prune): it only remembers the end of a job, which was then.
    Remembered(DateTime<Utc>),
    /// For takes: the job has a waiting row that counts. Those that a node holds are for that node only,
    /// and in nobody else's way.
    Waiting { holder: Option<NodeId>, task: String, incarnation: Incarnation },
    /// For takes, in order of the fire times: the job fires then.
    Due { holder: Option<NodeId>, task: String, at: DateTime<Utc>, incarnation: Incarnation },
    /// For what a node has taken, in order of the keys: it has taken rows of this incarnation.
    Held { incarnation: Incarnation, node: NodeId },
    /// For operations that name keys: it has the record or rows of this incarnation.
    Incarnation(Incarnation),
    /// For pruning, and in order of the ends: it has this closed row, which ended then. The rows of the
    /// history have such an entry, too.
    Closed(RowKey, DateTime<Utc>),
}

impl Cell {
    /// All its entries, in order.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places = Vec::with_capacity(6 + self.closed.len());
        match (&self.record, self.living()) {
            (_, Some(record)) => {
                places.push(Place::Listed);
                let (holder, incarnation) = (self.holder(), record.incarnation);
                if self.waiting_rows().next().is_some() {
                    let task = record.task.clone();
                    places.push(Place::Waiting { holder, task, incarnation });
                }
                if let Some(at) = self.next_fire() {
                    let task = record.task.clone();
                    places.push(Place::Due { holder, task, at, incarnation });
                }
            }
            (Some(record), None) => places.extend(record.ended_at.map(Place::Remembered)),
            (None, None) => {}
        }
        // Of each incarnation one node has taken rows.
        places.extend(self.taken.firsts().filter_map(|held| {
            let node = holder_of(&held.row)?;
            Some(Place::Held { incarnation: held.row.key.incarnation, node })
        }));
        let mut incarnations: Vec<Incarnation> = self
            .waiting
            .firsts()
            .chain(self.closed.firsts())
            .map(|row| row.key.incarnation)
            .chain(self.taken.firsts().map(|held| held.row.key.incarnation))
            .chain(self.record.as_ref().map(|record| record.incarnation))
            .collect();
        incarnations.sort_unstable();
        incarnations.dedup();
        places.extend(incarnations.into_iter().map(Place::Incarnation));
        places.extend(
            self.closed.iter().filter_map(|row| Some(Place::Closed(row.key, row.ended_at?))),
        );
        places
    }
}

impl Place {
    /// The entries that go and those that come with a change, from the entries before and after it.
    pub(crate) fn changes(before: Vec<Place>, after: Vec<Place>) -> (Vec<Place>, Vec<Place>) {
        let (mut go, mut come) = (Vec::new(), Vec::new());
        let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (Some(old), Some(new)) if old == new => drop((before.next(), after.next())),
                (Some(old), new) if new.is_none_or(|new| old < new) => go.extend(before.next()),
                (_, Some(_)) => come.extend(after.next()),
                (_, None) => return (go, come),
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

    fn due(holder: Option<NodeId>, seconds: i64) -> Place {
        Place::Due { holder, task: "task".into(), at: at(seconds), incarnation: INCARNATION }
    }

    fn waiting(holder: Option<NodeId>) -> Place {
        Place::Waiting { holder, task: "task".into(), incarnation: INCARNATION }
    }

    #[test]
    fn a_job_waits_for_its_fire_time_or_for_a_node() {
        assert_eq!(Cell::default().places(), []);
        let listed = [Place::Listed, Place::Incarnation(INCARNATION)];
        assert_eq!(cell_of(record(1, None)).places(), listed);
        let [first, last] = &listed;
        let places = [first.clone(), due(None, 60), last.clone()];
        assert_eq!(cell_of(record(1, Some(60))).places(), places);
        let row = requested(1, 1, RowState::Waiting);
        let paused = cell_with(Record { paused: true, ..record(1, Some(60)) }, [row]);
        assert_eq!(paused.places(), [first.clone(), waiting(None), last.clone()]);
    }

    #[test]
    fn what_a_node_holds_is_due_for_it_alone() {
        let mut cell = cell_with(record(1, Some(60)), [requested(1, 1, RowState::Waiting)]);
        claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120));
        let held = Place::Held { incarnation: INCARNATION, node: NODE };
        let (holder, last) = (Some(NODE), Place::Incarnation(INCARNATION));
        let places = [Place::Listed, waiting(holder), due(holder, 120), held, last];
        assert_eq!(cell.places(), places);
    }

    #[test]
    fn what_is_left_of_a_job_has_its_entries() {
        let mut cell = cell_of(Record { remember: true, ..record(1, Some(60)) });
        let row = claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], None).rows.remove(0);
        cell.finish(outcome(&row, 61), at(62));
        let closed = Place::Closed(row.key, at(61));
        let end = Place::Closed(RowKey::end_of(INCARNATION), at(62));
        let remembered = Place::Remembered(at(62));
        let mut places = vec![remembered, Place::Incarnation(INCARNATION), closed, end];
        assert_eq!(cell.places(), places);
        cell.forget();
        places.remove(0);
        assert_eq!(cell.places(), places);
    }

    #[test]
    fn rows_that_outlive_their_record_are_held_beside_the_next() {
        let mut cell = cell_of(record(1, Some(60)));
        claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120));
        let stamp = cell.record().unwrap().stamp();
        cell.write(Write::change(stamp, record(2, Some(60)), 2), at(1));
        claim(&mut cell, RIVAL, [scheduled(2, 60, claimed_by(NODE))], None);
        let held = |incarnation, node| Place::Held { incarnation: Incarnation(incarnation), node };
        let places = [Place::Listed, held(1, NODE), held(2, RIVAL)];
        assert_eq!(cell.places()[..3], places);
        assert_eq!(cell.places()[3..], [1, 2].map(|it| Place::Incarnation(Incarnation(it))));
    }

    #[test]
    fn changes_are_what_only_one_side_has() {
        let of = |seconds: &[i64]| seconds.iter().map(|it| due(None, *it)).collect::<Vec<_>>();
        let (go, come) = Place::changes(of(&[1, 2, 4, 7]), of(&[2, 3, 4, 5, 8, 9]));
        assert_eq!((go, come), (of(&[1, 7]), of(&[3, 5, 8, 9])));
        assert_eq!(Place::changes(of(&[1]), of(&[])), (of(&[1]), of(&[])));
    }
}
