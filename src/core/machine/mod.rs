//! All that a scheduler decides, without I/O: the steps of the clocks, runs that have ended, the turns of
//! the loop, and the shutdown. The driver and the simulation carry out what it puts out, and decide
//! nothing.

mod attempt;
mod inbox;
mod known;
mod shutdown;
#[cfg(test)]
mod tests;
mod turn;
mod verb;

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use self::shutdown::Shutdown;
pub use self::shutdown::ShutdownReport;
pub(crate) use self::{
    attempt::{Attempt, Ending},
    inbox::{Inbox, Urgency},
    known::{Handles, Known},
    turn::{Course, Timer, Turn},
    verb::{
        Addition, FIRST_RETRY, LONGEST_RETRY, RETRIES, Step, Update, Updated, modified,
        next_fire_of,
    },
};
use super::{Core, Payload, RunKey, RunResult};
use crate::{
    clock::{Reading, StepWatch},
    event::EventPayload,
    job::Outcome,
    zone::{self, time_zone_data},
};

/// How many jobs are fired at once, before others have a chance to run.
const BATCH: usize = 256;

/// The capacity that lists keep for the next time: after a burst the rest is given back.
pub(crate) const KEPT: usize = 256;

/// How long after their grace cancelled runs are waited for: dropping one takes a moment.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long a store is given to acknowledge what is pending, once all runs have ended.
pub(crate) const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A wait that is as good as endless, and can still be added to an instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The logic of a scheduler.
///
/// The shell calls [`transact`](Machine::transact), and within it whatever else there is to do; then it
/// empties the core's [`Outbox`](super::Outbox). Time is passed in: `now` is the wall clock, `elapsed` is
/// time that also passes while a manual clock stands still.
pub(crate) struct Machine<P> {
    pub(crate) core: Core<P>,
    steps: StepWatch,
    /// The generation of time zone rules that the next fire times were computed by.
    zones: u64,
    /// Slots that may be due, in the order in which they start.
    due: VecDeque<u32>,
    /// Kept for its capacity.
    batch: Vec<u32>,
    /// Kept for its capacity.
    dirty: Vec<u32>,
    /// Whether the loop was woken since its last turn.
    woken: bool,
    shutdown: Option<Shutdown>,
    /// Until when stores may acknowledge what is pending, in elapsed time.
    acknowledge_until: Option<TimeDelta>,
    /// Whether the end of the scheduler was noted.
    stopped: bool,
    /// The runs that were finished since the shell last looked.
    pub(crate) finished: Vec<RunKey>,
}

impl<P: Payload> Machine<P> {
    pub(crate) fn new(core: Core<P>, reading: Reading) -> Machine<P> {
        Machine {
            core,
            steps: StepWatch::new(reading),
            zones: zone::generation(),
            due: VecDeque::new(),
            batch: Vec::new(),
            dirty: Vec::new(),
            woken: false,
            shutdown: None,
            acknowledge_until: None,
            stopped: false,
            finished: Vec::new(),
        }
    }

    /// Runs `f` at an instant: after the steps of the clock, updates of time zones and the runs of the
    /// inbox are dealt with, so that it decides by what is so now.
    pub(crate) fn transact<T>(
        &mut self,
        reading: Reading,
        ended: &mut Vec<(RunKey, RunResult)>,
        f: impl FnOnce(&mut Machine<P>, DateTime<Utc>) -> T,
    ) -> T {
        let now = reading.wall;
        if let Some(by) = self.steps.step(reading) {
            self.core.clock_stepped(by, now);
        }
        let zones = zone::generation();
        if self.zones != zones {
            self.zones = zones;
            self.core.time_zones_updated(time_zone_data(), now);
        }
        self.core.read_clocks(reading);
        // Nearly always there are none.
        if !ended.is_empty() {
            for (run, result) in ended.drain(..) {
                self.finish(run, result, now);
            }
            ended.shrink_to(KEPT);
        }
        let result = f(self, now);
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.record(&self.core.pending_effects().reports);
        }
        result
    }

    /// Whether the loop must be woken for what the last transaction brought, or for `other` work.
    pub(crate) fn wakes_loop(&mut self, other: bool) -> bool {
        let work = other || self.has_work();
        let out = self.core.pending_effects();
        let ended = !(self.finished.is_empty() && out.reports.is_empty() && out.ended.is_empty());
        // The loop of a closed scheduler waits for the last run to end.
        let wakes = work && !self.woken || self.core.is_closed() && ended;
        self.woken |= work;
        wakes
    }

    /// Whether there is something to do for the loop.
    pub(crate) fn has_work(&self) -> bool {
        let out = self.core.pending_effects();
        out.has_requests || !out.dirty.is_empty() || !out.starts.is_empty()
    }

    /// Gives these runs up: they may go on, but nobody waits for them any more.
    pub(crate) fn abandon(&mut self, runs: Vec<RunKey>, now: DateTime<Utc>) {
        for run in runs {
            self.finish(run, RunResult::without_work(Outcome::Abandoned, now), now);
        }
    }

    fn finish(&mut self, run: RunKey, result: RunResult, now: DateTime<Utc>) {
        self.core.finish(run, result, now);
        self.finished.push(run);
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.callers.retain(|caller| *caller != run);
        }
    }

    /// Notes that the scheduler is shut down, once.
    fn note_stop(&mut self, now: DateTime<Utc>) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.core.note(now, EventPayload::ShutDown);
        }
    }
}
