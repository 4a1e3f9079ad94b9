//! When a job is due, as far as it is known.

use chrono::{DateTime, Utc};

use super::decide::Due;
use crate::core::Job;

/// When a job is due.
pub(in crate::core) struct Timing {
    /// The earliest fire time that has no fate yet, also while the job is paused.
    pub(super) next: Option<Due>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(super) elapsed: bool,
    /// Whether it came due while the scheduler was paused, or its node did not trust its lease.
    pub(super) deferred: bool,
    /// Whether the driver has yet to look up when it wakes.
    pub(super) dirty: bool,
    /// Whether the driver has a timer for it.
    pub(super) armed: bool,
}

impl Timing {
    pub(in crate::core) fn new(elapsed: bool) -> Timing {
        Timing { next: None, elapsed, deferred: false, dirty: false, armed: false }
    }

    pub(in crate::core) fn next(&self) -> Option<Due> {
        self.next
    }

    pub(in crate::core) fn set_next(&mut self, next: Option<Due>) {
        self.next = next;
    }

    pub(in crate::core) fn set_elapsed(&mut self, elapsed: bool) {
        self.elapsed = elapsed;
    }

    /// The job is not woken until it is resumed.
    pub(in crate::core) fn defer(&mut self) {
        self.deferred = true;
    }

    /// Ends that. Returns whether the job was deferred.
    pub(in crate::core) fn resume(&mut self) -> bool {
        std::mem::take(&mut self.deferred)
    }
}

impl<P> Job<P> {
    /// The next fire time, as seen from outside.
    pub(in crate::core) fn next_fire(&self) -> Option<DateTime<Utc>> {
        let next = self.carried().iter().copied().chain(self.awaited()).map(|next| next.fire_time);
        next.chain(self.again()).min()
    }

    /// The next fire time, unless it doesn't count now.
    pub(in crate::core) fn awaited(&self) -> Option<Due> {
        // What a paused job in a store still has was asked for.
        self.timing.next.filter(|_| (!self.paused || self.is_durable()) && !self.retired)
    }

    /// When the driver is to look at the job, if it is.
    pub(in crate::core) fn wake_at(&self) -> Option<DateTime<Utc>> {
        let next = self.awaited().filter(|_| !self.timing.deferred).map(|next| next.at);
        let Some(extras) = &self.extras else { return next };
        let carried = self.carried().iter().map(|carried| carried.at).min();
        let carried = carried.filter(|_| !self.timing.deferred);
        let again = self.again().filter(|_| !self.timing.deferred);
        [next, carried, again, extras.runs.retry_at()].into_iter().flatten().min()
    }

    /// Whether anything is left for it to run for, but for its runs and their backlogs.
    pub(in crate::core) fn waits(&self) -> bool {
        let again = self.extras.as_ref().is_some_and(|extras| extras.again.is_some());
        self.timing.next.is_some()
            || !self.carried().is_empty()
            || self.follows
            || again
            || !self.is_queue_empty()
    }
}
