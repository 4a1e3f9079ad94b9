//! Reclaiming the rows of a dead node.

use chrono::{DateTime, Utc};

use super::{
    super::{Fate, NodeId, ReapReport, Row},
    Cell,
    claim::holder_of,
};

impl Cell {
    /// Reclaims up to `limit` rows of this node, in order of their keys: makes them waiting, or
    /// closes them as *abandoned*. The node's row was deleted before.
    pub(crate) fn reap(&mut self, node: NodeId, limit: usize, now: DateTime<Utc>) -> ReapReport {
        let claimed = self.claimed.iter().map(|claimed| &claimed.row);
        let mut rows: Vec<Row> = claimed
            .filter(|row| holder_of(row) == Some(node))
            .take(limit.saturating_add(1))
            .cloned()
            .collect();
        let mut reaped = ReapReport { more: rows.len() > limit, ..ReapReport::default() };
        rows.truncate(limit);
        for row in rows {
            let incarnation = row.key.incarnation;
            let recovers = row.recover && self.is_living(incarnation);
            if let Some(row) = row.recovered().filter(|_| recovers) {
                self.put(row.clone(), 0);
                reaped.handed_out.push(row);
                continue;
            }
            let fate = if recovers { Fate::RecoveredTooOften } else { Fate::Abandoned };
            reaped.abandoned.push(self.close(row, fate, now));
            if self.end_if_over(incarnation, Fate::Completed, now) {
                reaped.over.push(incarnation);
            }
        }
        reaped
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{Incarnation, RowState, Write},
            tests::*,
        },
        *,
    };

    #[test]
    fn recovering_rows_wait_and_others_are_abandoned() {
        let mut cell = cell_of(record(1, Some(60)));
        let row = |seconds, recover, recoveries| Row {
            recover,
            recoveries,
            ..scheduled(1, seconds, claimed_by(NODE))
        };
        let rows = [row(60, true, 2), row(61, true, 0), row(62, false, 2)];
        let rows = claim(&mut cell, NODE, rows, Some(120)).rows;
        assert_eq!(cell.reap(RIVAL, 9, at(5)).abandoned, [], "they are another's");
        let reaped = cell.reap(NODE, 9, at(5));
        let again = Row { state: RowState::Waiting, attempt: 2, recoveries: 1, ..rows[0].clone() };
        assert_eq!(reaped.handed_out, [again]);
        let fates: Vec<_> = reaped.abandoned.iter().map(|row| row.state.clone()).collect();
        assert_eq!(fates, [Fate::RecoveredTooOften, Fate::Abandoned].map(RowState::Closed));
        assert!(reaped.over.is_empty() && !reaped.more && cell.holder().is_none());
        let mut kept = reaped.handed_out.clone();
        kept.extend(reaped.abandoned);
        assert_eq!(cell.rows(Incarnation(1)), kept.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_job_may_be_over_with_its_node() {
        let mut cell = cell_of(record(1, Some(60)));
        claim(
            &mut cell,
            NODE,
            [60, 61].map(|seconds| scheduled(1, seconds, claimed_by(NODE))),
            None,
        );
        let first = cell.reap(NODE, 1, at(5));
        assert_eq!((first.abandoned.len(), first.more, first.over), (1, true, vec![]));
        let second = cell.reap(NODE, 1, at(5));
        assert_eq!((second.abandoned.len(), second.more), (1, false));
        assert_eq!(second.over, [Incarnation(1)]);
        assert_eq!(end_of(&cell, 1), Some(RowState::Closed(Fate::Completed)));
    }

    #[test]
    fn rows_without_a_record_are_abandoned() {
        let mut cell = cell_of(record(1, Some(60)));
        let row = Row { recover: true, ..scheduled(1, 60, claimed_by(NODE)) };
        claim(&mut cell, NODE, [row], Some(120));
        let stamp = cell.record().unwrap().stamp();
        cell.write(Write::change(stamp, record(2, Some(60)), 2), at(1));
        let reaped = cell.reap(NODE, 9, at(5));
        assert_eq!((reaped.handed_out.len(), reaped.abandoned.len()), (0, 1));
        assert_eq!(reaped.abandoned[0].state, RowState::Closed(Fate::Abandoned));
        assert!(cell.living().is_some());
    }
}
