//! A turn of the loop: what the shell must do now, and when the next turn is.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{ACKNOWLEDGE_TIMEOUT, BATCH, KEPT, Machine};
use crate::core::{Payload, Request, Start, StoreKey};

/// What the shell must do. Reused for each turn, so that its lists keep their capacity.
pub(crate) struct Turn<P> {
    /// The slots whose timers have expired; the shell puts them here before the turn.
    pub(crate) expired: Vec<u32>,
    /// The runs to start, in order.
    pub(crate) starts: Vec<Start<P>>,
    pub(crate) timers: Vec<(u32, Timer)>,
    /// The requests to send, by store.
    pub(crate) requests: Vec<(StoreKey, Request)>,
    /// How many jobs there are.
    pub(crate) jobs: usize,
    /// Whether more jobs are due, so that the shell must call [`Machine::fire`].
    pub(crate) fires: bool,
    /// How long until the nodes may have something to send.
    pub(crate) sends_in: Option<Duration>,
    /// Until when stores may acknowledge pending outcomes, in elapsed time.
    pub(crate) acknowledge_until: Option<TimeDelta>,
    /// When to call [`Machine::end_patience`], in elapsed time.
    pub(crate) patient_until: Option<TimeDelta>,
    pub(crate) course: Course,
}

/// A change of the timer of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Set or moved to this instant of the wall clock.
    At(DateTime<Utc>),
    /// Removed: the job is due.
    Due,
    /// Removed: nothing to wait for.
    Gone,
}

/// Whether there are further turns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Course {
    GoesOn,
    /// The scheduler has stopped; only runs that themselves wait for the shutdown are left.
    HasStopped,
    /// Everything has ended. These stores did not acknowledge this many outcomes.
    Ends(Vec<(Arc<str>, usize)>),
}

impl<P> Turn<P> {
    pub(crate) fn new() -> Turn<P> {
        Turn {
            expired: Vec::new(),
            starts: Vec::new(),
            timers: Vec::new(),
            requests: Vec::new(),
            jobs: 0,
            fires: false,
            sends_in: None,
            acknowledge_until: None,
            patient_until: None,
            course: Course::GoesOn,
        }
    }

    /// Frees the capacity that a burst needed.
    pub(crate) fn shrink(&mut self) {
        self.starts.shrink_to(KEPT);
        self.timers.shrink_to(KEPT);
    }
}

impl<P: Payload> Machine<P> {
    /// Fills `turn` with what must be done now.
    pub(crate) fn turn(&mut self, elapsed: TimeDelta, now: DateTime<Utc>, turn: &mut Turn<P>) {
        self.woken = false;
        self.enqueue(&mut turn.expired);
        self.core.outbox().has_requests = false;
        turn.requests = self.core.due_requests(now);
        std::mem::swap(&mut turn.starts, &mut self.core.outbox().starts);
        self.set_timers(now, turn);
        turn.jobs = self.core.len();
        turn.sends_in = self.core.node_wakes_in();
        turn.course = self.course(elapsed, now);
        turn.acknowledge_until = self.acknowledge_until;
        let shutdown = self.shutdown.as_ref().filter(|shutdown| !shutdown.given_up);
        turn.patient_until = shutdown.map(|shutdown| shutdown.deadline);
        turn.fires = !self.due.is_empty();
        if !turn.fires {
            self.due.shrink_to(KEPT);
        }
    }

    /// Reports changes of timers, and queues jobs that are due.
    fn set_timers(&mut self, now: DateTime<Utc>, turn: &mut Turn<P>) {
        let mut due = std::mem::take(&mut self.batch);
        std::mem::swap(&mut self.dirty, &mut self.core.outbox().dirty);
        turn.timers.clear();
        for slot in self.dirty.drain(..) {
            let timer = match self.core.wake_at(slot) {
                Some(at) if at <= now => {
                    due.push(slot);
                    Timer::Due
                }
                Some(at) => Timer::At(at),
                None => Timer::Gone,
            };
            turn.timers.push((slot, timer));
        }
        self.dirty.shrink_to(KEPT);
        self.enqueue(&mut due);
        due.shrink_to(KEPT);
        self.batch = due;
    }

    /// Queues jobs that came due together behind those that came due before.
    fn enqueue(&mut self, slots: &mut Vec<u32>) {
        if slots.len() > 1 {
            // Timers that expire together come in any order.
            self.core.sort(slots);
        }
        self.due.extend(slots.drain(..));
    }

    /// Fires the next batch of due jobs.
    pub(crate) fn fire(&mut self, now: DateTime<Utc>, turn: &mut Turn<P>) {
        self.batch.clear();
        self.batch.extend(self.due.iter().take(BATCH));
        let fired = self.core.wake(&self.batch, now);
        self.batch.clear();
        self.due.drain(..fired);
        std::mem::swap(&mut turn.starts, &mut self.core.outbox().starts);
        turn.fires = !self.due.is_empty();
    }

    /// Returns whether the scheduler is closed, all runs that can be waited for have ended, and the
    /// stores have acknowledged the outcomes or timed out.
    fn course(&mut self, elapsed: TimeDelta, now: DateTime<Utc>) -> Course {
        let callers = self.shutdown.as_ref().map_or(&[][..], |shutdown| &shutdown.callers);
        if !self.core.is_closed() || self.core.active_runs().any(|run| !callers.contains(&run)) {
            return Course::GoesOn;
        }
        if self.core.has_left() {
            return Course::Ends(Vec::new());
        }
        if self.core.active_runs().next().is_some() {
            // The shutdown cannot wait for runs that requested it, but the stores must receive
            // their outcomes.
            self.note_stop(now);
            return Course::HasStopped;
        }
        let timeout = TimeDelta::from_std(ACKNOWLEDGE_TIMEOUT).unwrap_or_default();
        let until = *self.acknowledge_until.get_or_insert(elapsed + timeout);
        if elapsed < until { Course::GoesOn } else { Course::Ends(self.core.pending_outcomes()) }
    }
}
