//! When a node asks its store which records have changed, and after which it asks.

use std::collections::HashSet;

use chrono::TimeDelta;

use super::Now;
use crate::ledger::Incarnation;

/// How long after the store was asked for changes it is not asked again because it notified of some: the
/// request grows with the jobs that are known, and a busy store notifies all the time.
pub(super) const LOOK_EVERY: TimeDelta = TimeDelta::milliseconds(100);

/// How many records are asked after by name; if there are more, all are.
const MAX_NAMED: usize = 1000;

/// The changes that are still to be asked for.
pub(super) struct Changes {
    /// Whether all records are to be asked after.
    all: bool,
    /// Records that have changed, as the store notifies, if not all are to be asked after.
    named: HashSet<Incarnation>,
    /// When to ask again at the earliest because the store notified.
    next_look: TimeDelta,
    next_poll: TimeDelta,
}

impl Changes {
    pub(super) fn new() -> Changes {
        Changes {
            all: false,
            named: HashSet::new(),
            next_look: TimeDelta::MIN,
            next_poll: TimeDelta::MIN,
        }
    }

    /// When to ask next.
    pub(super) fn at(&self) -> TimeDelta {
        let looks = self.all || !self.named.is_empty();
        if looks { self.next_look.min(self.next_poll) } else { self.next_poll }
    }

    pub(super) fn poll_at(&mut self, at: TimeDelta) {
        self.next_poll = at;
    }

    pub(super) fn ask_all(&mut self) {
        self.all = true;
    }

    /// Asks after records by name, as far as they are not asked after anyway.
    pub(super) fn ask(&mut self, named: impl IntoIterator<Item = Incarnation>) {
        self.named.extend(named);
    }

    pub(super) fn asks_all(&self) -> bool {
        self.all
    }

    /// Whether that are more than are asked after by name.
    pub(super) fn are_many(&self) -> bool {
        self.named.len() > MAX_NAMED
    }

    /// The names to ask after now. Returns `None` if all records are to be asked after.
    pub(super) fn take(&mut self, now: Now) -> Option<HashSet<Incarnation>> {
        self.next_look = now.elapsed() + LOOK_EVERY;
        let named = std::mem::take(&mut self.named);
        let is_look = !self.all && now.elapsed() < self.next_poll;
        self.all = false;
        is_look.then_some(named)
    }
}
