//! The inbox of run results, for the next holder of the machine's lock.

use crate::core::{RunKey, RunResult};

/// The results of ended runs, under a lock of their own: in a burst, one holder of the machine's
/// lock drains many of them, and the runs do not compete for it.
#[derive(Default)]
pub(crate) struct Inbox {
    ended: Vec<(RunKey, RunResult)>,
    /// Whether the loop is about to lock the machine, so that a run need not.
    pub(crate) attended: bool,
}

/// How many results may wait for the loop, which has more to do than the runs in a burst.
const MANY: usize = 64;

/// Who drains a result from the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The loop, soon.
    CanWait,
    /// The run, if the machine's lock is free: the loop has fallen behind.
    IfFree,
    /// The run: nothing else would.
    Now,
}

impl Inbox {
    pub(crate) fn push(&mut self, run: RunKey, result: RunResult) -> Urgency {
        self.ended.push((run, result));
        match self.attended {
            false => Urgency::Now,
            true if self.ended.len() >= MANY => Urgency::IfFree,
            true => Urgency::CanWait,
        }
    }

    /// Swaps the results for `empty`, which keeps its capacity.
    pub(crate) fn take(&mut self, empty: &mut Vec<(RunKey, RunResult)>) {
        std::mem::swap(&mut self.ended, empty);
    }
}
