//! What a take of a memory store looks at, and what is decided about that before anything is done.

use std::collections::HashSet;

use super::{
    super::{cell::Cell, *},
    state::State,
};

/// What is decided in a take.
pub(super) struct Claiming<'a> {
    state: &'a State,
    take: &'a ClaimRequest,
    /// The jobs, the rows that they are to have, and their next fire times.
    pub(super) decided: Vec<(JobId, Vec<Row>, Option<DateTime<Utc>>)>,
    /// How many rows that are.
    rows: usize,
    /// Jobs that were decided on: each is asked for once.
    seen: HashSet<Incarnation>,
    /// Those of them that are not taken.
    pub(super) in_vain: HashSet<Incarnation>,
    pub(super) claim_result: ClaimResult,
}

impl<'a> Claiming<'a> {
    pub(super) fn new(state: &'a State, take: &'a ClaimRequest) -> Claiming<'a> {
        let claim_result = ClaimResult { passed: take.passed, ..ClaimResult::default() };
        let (seen, in_vain) = (HashSet::new(), HashSet::new());
        let mut taking =
            Claiming { state, take, decided: Vec::new(), rows: 0, seen, in_vain, claim_result };
        taking.look_at_all();
        taking
    }

    fn look_at_all(&mut self) {
        let Claiming { state, take, .. } = *self;
        let few = take.looks.div_ceil(8);
        let waiting = |passed| state.waiting(take.node, &take.tasks, &take.except, passed);
        if take.passed.waiting.is_some() {
            self.look(waiting(None), few);
        }
        if let Some(last) = self.look(waiting(take.passed.waiting), take.looks) {
            self.claim_result.passed.waiting = Some(last.incarnation);
        }
        let due = |passed| {
            let due = state.due(take.node, &take.tasks, &take.except, passed);
            due.take_while(|(at, _)| *at <= take.horizon).map(|(_, cell)| cell)
        };
        if take.passed.due.is_some() {
            self.look(due(None), few);
        }
        if let Some(last) = self.look(due(take.passed.due), take.looks) {
            self.claim_result.passed.due = last.next_fire.map(|at| (at, last.incarnation));
        }
        if self.claim_result.passed.due.is_some() {
            self.look(state.newest(take, few), few);
        }
    }

    /// Decides on these until `looks` were looked at in vain. Returns the last of those, if there are
    /// any.
    fn look(&mut self, cells: impl Iterator<Item = &'a Cell>, looks: usize) -> Option<&'a Record> {
        let (mut in_vain, mut last) = (0, None);
        for (cell, record) in cells.filter_map(|cell| Some((cell, cell.living()?))) {
            if self.seen.contains(&record.incarnation) {
                continue;
            }
            let is_full = self.decided.len() >= self.take.limit || self.rows >= self.take.row_limit;
            if is_full || in_vain >= looks {
                self.claim_result.more |= is_full || looks == self.take.looks;
                break;
            }
            self.seen.insert(record.incarnation);
            let rows: Vec<_> = cell.waiting_rows().cloned().collect();
            match (self.take.decide)(record, &rows) {
                Decision::Claim { rows, next_fire } => {
                    self.rows += rows.len();
                    self.decided.push((record.id.clone(), rows, next_fire));
                    continue;
                }
                Decision::Leave => self.claim_result.left += 1,
                Decision::Reject(error) => {
                    let (stamp, job) = (record.stamp(), record.id.clone());
                    self.claim_result.rejected.push(RejectedJob { job, stamp, error });
                }
            }
            self.in_vain.insert(record.incarnation);
            (in_vain, last) = (in_vain + 1, Some(record));
        }
        last
    }
}
