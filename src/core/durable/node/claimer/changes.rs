//! When a node checks which records have changed, and which records it checks.

use std::collections::HashMap;

use chrono::TimeDelta;

use super::{
    super::{NodeOptions, Numbers, exchange::backoff},
    Now,
};
use crate::ledger::Incarnation;

/// How long after a check no notification causes another one: the request grows with the known
/// jobs, and a busy store notifies all the time.
pub(super) const CHECK_INTERVAL: TimeDelta = TimeDelta::milliseconds(100);

/// How many records are checked by name; beyond this number, all are checked.
const MAX_NAMED: usize = 1000;

/// The records to check.
pub(super) struct Changes {
    /// Whether to check all records.
    all: bool,
    /// The records that the store has notified of, each with the version that it has become at least,
    /// unless all are checked.
    named: HashMap<Incarnation, u64>,
    /// When a notification may cause a check again.
    next_check: TimeDelta,
    next_poll: TimeDelta,
    /// How many checks in a row have failed, and when the next one may be made.
    failures: u32,
    not_before: TimeDelta,
}

impl Changes {
    pub(super) fn new() -> Changes {
        Changes {
            all: false,
            named: HashMap::new(),
            next_check: TimeDelta::MIN,
            next_poll: TimeDelta::MIN,
            failures: 0,
            not_before: TimeDelta::MIN,
        }
    }

    /// When to check next.
    pub(super) fn at(&self) -> TimeDelta {
        let is_pending = self.all || !self.named.is_empty();
        let at = if is_pending { self.next_check.min(self.next_poll) } else { self.next_poll };
        at.max(self.not_before)
    }

    /// Notes that a check has succeeded.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Notes that a check has failed, which took this long: claims go on meanwhile, so checks take a
    /// fifth of the lane's time at most.
    pub(super) fn fail(
        &mut self,
        took: TimeDelta,
        refused: bool,
        options: &NodeOptions,
        now: Now,
        numbers: &mut Numbers,
    ) {
        self.failures = self.failures.saturating_add(1);
        let wait = backoff(self.failures, refused, options, numbers);
        self.not_before = now.elapsed() + wait.max(took * 4);
    }

    pub(super) fn poll_at(&mut self, at: TimeDelta) {
        self.next_poll = at;
    }

    pub(super) fn check_all(&mut self) {
        self.all = true;
    }

    /// Checks records by name, unless all are checked.
    pub(super) fn check(&mut self, named: impl IntoIterator<Item = (Incarnation, u64)>) {
        for (of, version) in named {
            let known = self.named.entry(of).or_default();
            *known = version.max(*known);
        }
    }

    pub(super) fn checks_all(&self) -> bool {
        self.all
    }

    /// Whether there are more records than can be checked by name.
    pub(super) fn are_many(&self) -> bool {
        self.named.len() > MAX_NAMED
    }

    /// Begins a check. Returns the records to check, or `None` for all.
    pub(super) fn take(&mut self, now: Now) -> Option<HashMap<Incarnation, u64>> {
        self.next_check = now.elapsed() + CHECK_INTERVAL;
        let named = std::mem::take(&mut self.named);
        let by_name = !self.all && now.elapsed() < self.next_poll;
        self.all = false;
        by_name.then_some(named)
    }
}
