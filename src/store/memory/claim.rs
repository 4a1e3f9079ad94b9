//! The scan of a claim: selects and decides before any change.

use std::collections::HashSet;

use super::{
    super::{cell::Cell, *},
    state::State,
};

/// The state of a claim's scan.
pub(super) struct Claiming<'a> {
    state: &'a State,
    request: &'a ClaimRequest,
    /// The decided jobs, with their rows and next fire times.
    pub(super) decided: Vec<(JobId, Vec<Row>, Option<DateTime<Utc>>)>,
    /// The number of decided rows.
    rows: usize,
    /// The scanned jobs: each is decided once.
    seen: HashSet<Incarnation>,
    /// The scanned jobs that were left or rejected.
    pub(super) in_vain: HashSet<Incarnation>,
    pub(super) claim_result: ClaimResult,
}

impl<'a> Claiming<'a> {
    pub(super) fn new(state: &'a State, request: &'a ClaimRequest) -> Claiming<'a> {
        let claim_result = ClaimResult { passed: request.passed, ..ClaimResult::default() };
        let (seen, in_vain) = (HashSet::new(), HashSet::new());
        let mut claiming =
            Claiming { state, request, decided: Vec::new(), rows: 0, seen, in_vain, claim_result };
        claiming.scan_all();
        claiming
    }

    fn scan_all(&mut self) {
        let Claiming { state, request, .. } = *self;
        let few = request.looks.div_ceil(8);
        let waiting = |passed| state.waiting(request.node, &request.tasks, &request.except, passed);
        if request.passed.waiting.is_some() {
            self.scan(waiting(None), few);
        }
        if let Some(last) = self.scan(waiting(request.passed.waiting), request.looks) {
            self.claim_result.passed.waiting = Some(last.incarnation);
        }
        let due = |passed| {
            let due = state.due(request.node, &request.tasks, &request.except, passed);
            due.take_while(|(at, _)| *at <= request.horizon).map(|(_, cell)| cell)
        };
        if request.passed.due.is_some() {
            self.scan(due(None), few);
        }
        if let Some(last) = self.scan(due(request.passed.due), request.looks) {
            self.claim_result.passed.due = last.next_fire.map(|at| (at, last.incarnation));
        }
        if self.claim_result.passed.due.is_some() {
            self.scan(state.newest(request, few), few);
        }
    }

    /// Decides jobs until `looks` of them were left or rejected. Returns the last of those, if any.
    fn scan(&mut self, cells: impl Iterator<Item = &'a Cell>, looks: usize) -> Option<&'a Record> {
        let (mut in_vain, mut last) = (0, None);
        for (cell, record) in cells.filter_map(|cell| Some((cell, cell.living()?))) {
            if self.seen.contains(&record.incarnation) {
                continue;
            }
            let is_full =
                self.decided.len() >= self.request.limit || self.rows >= self.request.row_limit;
            if is_full || in_vain >= looks {
                self.claim_result.more |= is_full || looks == self.request.looks;
                break;
            }
            self.seen.insert(record.incarnation);
            let waiting = cell.waiting_rows().take(ClaimRequest::MOST_WAITING);
            let rows: Vec<_> = waiting.cloned().collect();
            match (self.request.decide)(record, &rows) {
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
