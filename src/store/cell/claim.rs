//! Claiming fire times of a job.

use chrono::{DateTime, Utc};

use super::{
    super::{
        ClaimRequest, ClaimResult, ClaimedJob, Fate, Incarnation, NodeId, Row, RowKey, RowKind,
        RowState,
    },
    Cell,
};

impl Cell {
    /// The node that has claimed rows of the current incarnation: no other node may claim more of
    /// them.
    pub(crate) fn holder(&self) -> Option<NodeId> {
        let living = self.living()?.incarnation;
        let first = self.claimed.of(living).next()?;
        holder_of(&first.row)
    }

    /// The waiting rows of one incarnation, in order of their keys.
    pub(crate) fn waiting_of(&self, incarnation: Incarnation) -> impl Iterator<Item = &Row> {
        self.waiting.of(incarnation)
    }

    /// The waiting rows that a claim considers, in order of their keys; of a paused job only
    /// requested runs.
    pub(crate) fn waiting_rows(&self) -> impl Iterator<Item = &Row> {
        let rows = self.living().map(|record| {
            if record.paused {
                self.waiting.of_kind(record.incarnation, RowKind::Requested)
            } else {
                self.waiting.of(record.incarnation)
            }
        });
        rows.into_iter().flatten()
    }

    /// The first fire time that a claim considers, of a job that is not paused.
    pub(crate) fn next_fire(&self) -> Option<DateTime<Utc>> {
        self.living().filter(|record| !record.paused).and_then(|record| record.next_fire)
    }

    /// Claims as decided: `rows`, without those that the cell already has in a state other than
    /// waiting, and `next_fire`, the first fire time after them. Returns `None` if the job has
    /// ended.
    pub(crate) fn claim(
        &mut self,
        request: &ClaimRequest,
        rows: Vec<Row>,
        next_fire: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<ClaimedJob> {
        let record = self.record.as_mut().filter(|record| record.ended_at.is_none())?;
        record.fence = record.next_fence(now);
        record.next_fire = next_fire;
        let record = record.clone();
        let mut claimed = Vec::with_capacity(rows.len());
        for mut row in rows {
            if self.row(row.key).is_some_and(|there| there.state != RowState::Waiting) {
                continue;
            }
            if let RowState::Claimed(node) = &mut row.state {
                *node = request.node;
                row.node = Some(request.node);
                row.fence = record.fence;
            }
            self.put(row.clone(), request.number);
            claimed.push(row);
        }
        self.end_if_over(record.incarnation, Fate::Completed, now);
        Some(ClaimedJob { record, rows: claimed })
    }

    /// The claimed rows of this node and incarnation, in order of their keys.
    pub(crate) fn claimed_of(
        &self,
        node: NodeId,
        incarnation: Incarnation,
    ) -> impl Iterator<Item = &Row> {
        let rows = self.claimed.of(incarnation).map(|claimed| &claimed.row);
        rows.filter(move |row| holder_of(row) == Some(node))
    }

    /// Adds those of the node's claimed rows to `claim_result` that the claim with this number has
    /// claimed.
    pub(crate) fn claimed_in(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        number: u64,
        claim_result: &mut ClaimResult,
    ) {
        let claimed = self.claimed.of(incarnation).filter(|claimed| claimed.number == number);
        let claimed =
            claimed.map(|claimed| &claimed.row).filter(|row| holder_of(row) == Some(node));
        for row in claimed {
            self.add_row(row, claim_result);
        }
    }

    /// Adds the row with this key to `claim_result`, if this node has claimed it.
    pub(crate) fn add_claimed(&self, node: NodeId, key: RowKey, claim_result: &mut ClaimResult) {
        let row = self.claimed.get(key).map(|claimed| &claimed.row);
        if let Some(row) = row.filter(|row| holder_of(row) == Some(node)) {
            self.add_row(row, claim_result);
        }
    }

    /// Adds a claimed row, with its record, or as an orphan if its incarnation has ended. Rows of
    /// one incarnation must follow each other.
    fn add_row(&self, row: &Row, claim_result: &mut ClaimResult) {
        let incarnation = row.key.incarnation;
        let Some(record) = self.living().filter(|record| record.incarnation == incarnation) else {
            return claim_result.orphans.push(row.clone());
        };
        match claim_result.jobs.last_mut() {
            Some(last) if last.record.incarnation == incarnation => last.rows.push(row.clone()),
            _ => claim_result
                .jobs
                .push(ClaimedJob { record: record.clone(), rows: vec![row.clone()] }),
        }
    }
}

/// The node that has claimed a row.
pub(super) fn holder_of(row: &Row) -> Option<NodeId> {
    match row.state {
        RowState::Claimed(node) => Some(node),
        RowState::Waiting | RowState::Closed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::Record, tests::*},
        *,
    };

    #[test]
    fn a_claim_marks_the_record_and_the_rows() {
        let mut cell = cell_of(Record { fence: 7, ..record(1, Some(60)) });
        let decided = scheduled(1, 60, claimed_by(NodeId(0)));
        let ClaimedJob { record, rows } = claim(&mut cell, NODE, [decided.clone()], Some(120));
        let fence = u64::try_from(at(0).timestamp_millis()).unwrap();
        assert_eq!((record.fence, record.next_fire, record.version), (fence, Some(at(120)), 1));
        let node = Some(NODE);
        assert_eq!(rows, [Row { state: claimed_by(NODE), fence, node, ..decided }]);
        assert_eq!((cell.living(), cell.row(rows[0].key)), (Some(&record), Some(&rows[0])));
        let again = claim(&mut cell, NODE, [], Some(120));
        assert_eq!(again.record.fence, fence + 1, "a clock that stands still");
    }

    #[test]
    fn rows_that_do_not_wait_are_left_out() {
        let closed = scheduled(1, 60, succeeded());
        let mut cell =
            cell_with(record(1, Some(60)), [closed.clone(), requested(1, 1, RowState::Waiting)]);
        let first = claim(&mut cell, NODE, [requested(1, 1, claimed_by(NODE))], Some(60)).rows;
        let rows = [scheduled(1, 60, claimed_by(NODE)), requested(1, 1, claimed_by(NODE))];
        assert_eq!(claim(&mut cell, NODE, rows, Some(120)).rows, []);
        assert_eq!(cell.rows(closed.key.incarnation), [&closed, &first[0]]);
    }

    #[test]
    fn only_requested_runs_of_a_paused_job_count() {
        let rows = [scheduled(1, 0, RowState::Waiting), requested(1, 1, RowState::Waiting)];
        let cell = cell_with(record(1, Some(60)), rows.clone());
        assert_eq!(cell.waiting_rows().collect::<Vec<_>>(), [&rows[0], &rows[1]]);
        assert_eq!(cell.next_fire(), Some(at(60)));
        let paused = cell_with(Record { paused: true, ..record(1, Some(60)) }, rows.clone());
        assert_eq!(paused.waiting_rows().collect::<Vec<_>>(), [&rows[1]]);
        assert_eq!(paused.next_fire(), None);
    }

    #[test]
    fn the_holder_has_claimed_rows_of_the_current_incarnation() {
        let mut cell = cell_of(record(1, Some(60)));
        assert_eq!(cell.holder(), None);
        claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120));
        assert_eq!(cell.holder(), Some(NODE));
        let stamp = cell.record().unwrap().stamp();
        cell.write(super::super::super::Write::change(stamp, record(2, Some(60)), 2), at(1));
        assert_eq!(cell.holder(), None);
        claim(&mut cell, RIVAL, [scheduled(2, 60, claimed_by(NODE))], Some(120));
        assert_eq!(cell.holder(), Some(RIVAL));
    }

    #[test]
    fn a_claim_of_the_last_fire_time_ends_the_job() {
        let mut cell = cell_of(record(1, Some(60)));
        let claimed = claim(&mut cell, NODE, [scheduled(1, 60, succeeded())], None);
        assert_eq!((claimed.rows.len(), cell.record()), (1, None));
        assert_eq!(end_of(&cell, 1), Some(RowState::Closed(Fate::Completed)));
        assert!(cell.claim(&ask(NODE, 2), Vec::new(), None, at(1)).is_none());
    }

    #[test]
    fn the_rows_of_a_claim_are_found_by_its_number() {
        let mut cell = cell_of(record(1, Some(60)));
        let takes = [(1, 60), (2, 120), (2, 180)];
        for (number, seconds) in takes {
            let rows = vec![scheduled(1, seconds, claimed_by(NODE))];
            cell.claim(&ask(NODE, number), rows, Some(at(seconds + 60)), at(0));
        }
        let of = |node, number| {
            let mut claim_result = ClaimResult::default();
            cell.claimed_in(node, Incarnation(1), number, &mut claim_result);
            let rows = claim_result.jobs.into_iter().flat_map(|claimed| claimed.rows);
            rows.map(|row| (row.fire_time - at(0)).num_seconds()).collect::<Vec<_>>()
        };
        assert_eq!((of(NODE, 1), of(NODE, 2), of(RIVAL, 2)), (vec![60], vec![120, 180], vec![]));
        assert_eq!(cell.claimed_of(NODE, Incarnation(1)).count(), 3);
    }

    #[test]
    fn a_claimed_row_without_a_record_is_an_orphan() {
        let mut cell = cell_of(record(1, Some(60)));
        let row =
            claim(&mut cell, NODE, [scheduled(1, 60, claimed_by(NODE))], Some(120)).rows.remove(0);
        let record = cell.record().unwrap().clone();
        let found = |cell: &Cell| {
            let mut claim_result = ClaimResult::default();
            cell.add_claimed(NODE, row.key, &mut claim_result);
            (claim_result.jobs.len(), claim_result.orphans)
        };
        assert_eq!(found(&cell), (1, vec![]));
        cell.write(super::super::super::Write::remove(record.id.clone(), record.stamp(), 2), at(1));
        assert_eq!(found(&cell), (0, vec![row.clone()]));
    }
}
