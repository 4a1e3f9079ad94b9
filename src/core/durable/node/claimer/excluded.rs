//! The jobs that a node's claims leave out, since the node cannot read or run them.

use std::{collections::HashSet, sync::Arc};

use chrono::TimeDelta;

use super::Now;
use crate::{
    error::Error,
    job::JobId,
    ledger::{ClaimCursor, ClaimResult, Incarnation, RejectedJob},
};

/// How many jobs are left out by name. With more, claims skip everything before the position that
/// they have scanned.
const MAX_LISTED: usize = 1000;

/// How many unreadable records are reported per hour.
const MAX_REPORTED: usize = 10_000;

/// The jobs that claims leave out.
pub(super) struct Excluded {
    listed: Arc<HashSet<Incarnation>>,
    /// The position that claims have scanned without result, where that is too much to list.
    passed: ClaimCursor,
    /// When claims began to skip jobs.
    began: TimeDelta,
    /// When claims start over; `TimeDelta::MAX` until they have reached the end.
    restarts_at: TimeDelta,
}

impl Excluded {
    pub(super) fn new() -> Excluded {
        Excluded {
            listed: Arc::default(),
            passed: ClaimCursor::default(),
            began: TimeDelta::MIN,
            restarts_at: TimeDelta::MIN,
        }
    }

    pub(super) fn passed(&self) -> ClaimCursor {
        self.passed
    }

    pub(super) fn is_passing(&self) -> bool {
        self.passed != ClaimCursor::default()
    }

    /// Returns the listed jobs and `others`.
    pub(super) fn with(&self, others: &HashSet<Incarnation>) -> Arc<HashSet<Incarnation>> {
        if others.is_empty() {
            self.listed.clone()
        } else {
            Arc::new(self.listed.union(others).copied().collect())
        }
    }

    pub(super) fn insert(&mut self, incarnation: Incarnation) {
        if self.listed.len() < MAX_LISTED {
            Arc::make_mut(&mut self.listed).insert(incarnation);
        }
    }

    /// Admits a job again that may have changed. Returns whether it was left out.
    pub(super) fn remove(&mut self, changed: Incarnation) -> bool {
        self.listed.contains(&changed) && Arc::make_mut(&mut self.listed).remove(&changed)
    }

    /// Admits jobs again that may have changed. Returns whether one was left out.
    pub(super) fn remove_all<'a>(
        &mut self,
        changed: impl Iterator<Item = &'a Incarnation>,
    ) -> bool {
        let mut has_some = false;
        for of in changed {
            has_some |= self.remove(*of);
        }
        has_some
    }

    /// Admits all jobs again, since any may have changed; skipped jobs only from time to time.
    pub(super) fn clear(&mut self, now: Now) {
        if !self.listed.is_empty() {
            self.listed = Arc::default();
        }
        if now.elapsed() >= self.restarts_at {
            self.passed = ClaimCursor::default();
        }
    }

    /// Leaves the jobs out of later claims that this one could not claim.
    pub(super) fn pass_over(&mut self, result: &ClaimResult, now: Now) {
        let was_passing = self.is_passing();
        let fits = self.listed.len() + result.rejected.len() <= MAX_LISTED;
        if fits && !result.rejected.is_empty() {
            let rejected = result.rejected.iter().map(|rejected| rejected.stamp.incarnation);
            Arc::make_mut(&mut self.listed).extend(rejected);
        }
        if !was_passing {
            if fits && result.left == 0 {
                return;
            }
            (self.began, self.restarts_at) = (now.elapsed(), TimeDelta::MAX);
        }
        self.passed = result.passed;
        if !result.more && self.restarts_at == TimeDelta::MAX {
            // The scan uses only a fraction of the time, whatever the number of jobs.
            self.restarts_at = now.elapsed() + (now.elapsed() - self.began) * 10;
        }
    }
}

/// The unreadable records that were reported, with their versions.
pub(super) struct Reported {
    records: HashSet<(Incarnation, u64)>,
    since: TimeDelta,
}

impl Reported {
    pub(super) fn new() -> Reported {
        Reported { records: HashSet::new(), since: TimeDelta::MIN }
    }

    /// Returns the records that have not been reported before.
    pub(super) fn add(&mut self, rejected: &[RejectedJob], now: Now) -> Vec<(JobId, Error)> {
        let mut new = Vec::new();
        for RejectedJob { job, stamp, error } in rejected {
            if self.records.len() >= MAX_REPORTED {
                if now.elapsed() < self.since + TimeDelta::hours(1) {
                    break;
                }
                self.records.clear();
            }
            if self.records.is_empty() {
                self.since = now.elapsed();
            }
            if self.records.insert((stamp.incarnation, stamp.version)) {
                new.push((job.clone(), error.clone()));
            }
        }
        new
    }
}
