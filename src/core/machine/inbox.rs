//! Where runs leave their results for whoever locks the machine next.

use crate::core::{RunKey, RunResult};

/// The results of runs that have ended, under a lock of their own: in a burst, one holder of the machine's
/// lock takes many of them, and the runs do not compete for it.
#[derive(Default)]
pub(crate) struct Inbox {
    ended: Vec<(RunKey, RunResult)>,
    /// Whether the loop locks the machine in a moment, so that a run need not.
    pub(crate) attended: bool,
}

/// How many results are left for the loop, which has more to do than the runs in a burst.
const MANY: usize = 64;

/// Who takes a result out of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The loop does, soon.
    CanWait,
    /// The run does if it need not wait for the machine's lock: the loop has fallen behind.
    IfFree,
    /// The run does: nobody else would.
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

    /// Swaps what is in the inbox for `empty`, which keeps its capacity.
    pub(crate) fn take(&mut self, empty: &mut Vec<(RunKey, RunResult)>) {
        std::mem::swap(&mut self.ended, empty);
    }
}
