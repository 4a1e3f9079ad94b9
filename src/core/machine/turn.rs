//! A turn of the loop: what the shell has to do now, and when it looks again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{ACKNOWLEDGE_TIMEOUT, BATCH, KEPT, Machine};
use crate::core::{Payload, Request, Start, StoreKey};

/// What the shell has to do. It is filled again and again, so that its lists keep their capacity.
pub(crate) struct Turn<P> {
    /// The slots whose timers have expired; the shell puts them here before the turn.
    pub(crate) expired: Vec<u32>,
    /// The runs to start, in order.
    pub(crate) starts: Vec<Start<P>>,
    pub(crate) timers: Vec<(u32, Timer)>,
    /// What to send to which store.
    pub(crate) requests: Vec<(StoreKey, Request)>,
    /// How many jobs there are.
    pub(crate) jobs: usize,
    /// Whether more jobs are due: [`Machine::fire`] is to be called.
    pub(crate) fires: bool,
    /// How long until the nodes may have something to send.
    pub(crate) sends_in: Option<Duration>,
    /// Until when stores may acknowledge what is pending, in elapsed time.
    pub(crate) acknowledge_until: Option<TimeDelta>,
    /// When [`Machine::end_patience`] is to be called, in elapsed time.
    pub(crate) patient_until: Option<TimeDelta>,
    pub(crate) course: Course,
}

/// What becomes of the timer of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// It is set or moved to this instant of the wall clock.
    At(DateTime<Utc>),
    /// It goes: its job is due.
    Due,
    /// It goes: there is nothing to wait for.
    Gone,
}

/// Whether there are further turns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Course {
    GoesOn,
    /// It goes on, but only for runs that themselves wait for the shutdown: that is over.
    HasStopped,
    /// All is done. These stores did not acknowledge so many outcomes.
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

    /// Gives back the capacity that a burst took.
    pub(crate) fn shrink(&mut self) {
        self.starts.shrink_to(KEPT);
        self.timers.shrink_to(KEPT);
    }
}

impl<P: Payload> Machine<P> {
    /// Fills `turn` with what is to be done now.
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

    /// Says what becomes of timers that may have changed, and puts jobs that are due in line.
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

    /// Puts jobs that came due together behind those that came due before.
    fn enqueue(&mut self, slots: &mut Vec<u32>) {
        if slots.len() > 1 {
            // Timers that expire together come in any order.
            self.core.sort(slots);
        }
        self.due.extend(slots.drain(..));
    }

    /// Fires the next batch of those that are due.
    pub(crate) fn fire(&mut self, now: DateTime<Utc>, turn: &mut Turn<P>) {
        self.batch.clear();
        self.batch.extend(self.due.iter().take(BATCH));
        let fired = self.core.wake(&self.batch, now);
        self.batch.clear();
        self.due.drain(..fired);
        std::mem::swap(&mut turn.starts, &mut self.core.outbox().starts);
        turn.fires = !self.due.is_empty();
    }

    /// Whether the scheduler is closed, all runs have ended that can be waited for, and the stores have
    /// acknowledged that, or do not answer.
    fn course(&mut self, elapsed: TimeDelta, now: DateTime<Utc>) -> Course {
        let callers = self.shutdown.as_ref().map_or(&[][..], |shutdown| &shutdown.callers);
        if !self.core.is_closed() || self.core.active_runs().any(|run| !callers.contains(&run)) {
            return Course::GoesOn;
        }
        if self.core.has_left() {
            return Course::Ends(Vec::new());
        }
        if self.core.active_runs().next().is_some() {
            // Runs that asked for the shutdown can't be waited for, but the stores must learn how they
            // end.
            self.note_stop(now);
            return Course::HasStopped;
        }
        let timeout = TimeDelta::from_std(ACKNOWLEDGE_TIMEOUT).unwrap_or_default();
        let until = *self.acknowledge_until.get_or_insert(elapsed + timeout);
        if elapsed < until { Course::GoesOn } else { Course::Ends(self.core.pending_outcomes()) }
    }
}
