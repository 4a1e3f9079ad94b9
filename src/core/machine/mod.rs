//! All decisions of a scheduler, without I/O: steps of the clocks, ended runs, turns of the loop,
//! and the shutdown. The driver and the simulation carry out the effects, and decide nothing.

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

/// How many jobs are fired at once before other tasks get a chance to run.
const BATCH: usize = 256;

/// The capacity that lists keep between turns; the rest of a burst is freed.
pub(crate) const KEPT: usize = 256;

/// How long to wait for cancelled runs after their grace: dropping a run takes a moment.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long a store has to acknowledge pending outcomes after all runs have ended.
pub(crate) const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A practically endless wait that can still be added to an instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The logic of a scheduler.
///
/// The shell calls [`transact`](Machine::transact), with its own calls inside, and then drains the
/// core's [`Outbox`](super::Outbox). Time is passed in: `now` is the wall clock; `elapsed` is time
/// that also passes while a manual clock stands still.
pub(crate) struct Machine<P> {
    pub(crate) core: Core<P>,
    steps: StepWatch,
    /// The generation of the time zone rules by which the next fire times were computed.
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
    /// Until when stores may acknowledge pending outcomes, in elapsed time.
    acknowledge_until: Option<TimeDelta>,
    /// Whether the end of the scheduler was reported.
    stopped: bool,
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
        }
    }

    /// Runs `f` at an instant. Steps of the clock, updates of time zones and the results of the
    /// inbox are handled first, so that `f` decides by the current state.
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
        // The common case.
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

    /// Whether the loop must be woken for the effects of the last transaction, or for `other` work.
    pub(crate) fn wakes_loop(&mut self, other: bool) -> bool {
        let work = other || self.has_work();
        let out = self.core.pending_effects();
        let ended = !(out.concluded.is_empty() && out.reports.is_empty() && out.ended.is_empty());
        // The loop of a closed scheduler waits for the last run to end.
        let wakes = work && !self.woken || self.core.is_closed() && ended;
        self.woken |= work;
        wakes
    }

    /// Whether the loop has something to do.
    pub(crate) fn has_work(&self) -> bool {
        let out = self.core.pending_effects();
        out.has_requests || !out.dirty.is_empty() || !out.starts.is_empty()
    }

    /// Gives runs up: they may stay active, but nothing waits for them any more.
    pub(crate) fn abandon(&mut self, runs: Vec<RunKey>, now: DateTime<Utc>) {
        for run in runs {
            self.finish(run, RunResult::without_work(Outcome::Abandoned, now), now);
        }
    }

    fn finish(&mut self, run: RunKey, result: RunResult, now: DateTime<Utc>) {
        self.core.finish(run, result, now);
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.callers.retain(|caller| *caller != run);
        }
    }

    /// Reports once that the scheduler is shut down.
    fn note_stop(&mut self, now: DateTime<Utc>) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.core.note(now, EventPayload::ShutDown);
        }
    }
}
