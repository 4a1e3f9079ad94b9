//! The instants of one job: its next fire time, and when to wake it.

use chrono::{DateTime, Utc};

use super::decide::Due;
use crate::core::Job;

/// When a job is due.
pub(in crate::core) struct Timing {
    /// The earliest fire time that has no fate yet, also while the job is paused.
    pub(super) next: Option<Due>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(super) elapsed: bool,
    /// Whether the job came due while the scheduler was paused, or while its node did not trust its
    /// lease.
    pub(super) deferred: bool,
    /// Whether the driver has yet to look up when the job wakes.
    pub(super) dirty: bool,
    /// Whether the driver has a timer for the job.
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

    /// Keeps the job from waking until it is resumed.
    pub(in crate::core) fn defer(&mut self) {
        self.deferred = true;
    }

    /// Undoes [`defer`](Self::defer). Returns whether the job was deferred.
    pub(in crate::core) fn resume(&mut self) -> bool {
        std::mem::take(&mut self.deferred)
    }
}

impl<P> Job<P> {
    /// Returns the next fire time that users see.
    pub(in crate::core) fn next_fire(&self) -> Option<DateTime<Utc>> {
        let next = self.carried().iter().copied().chain(self.awaited()).map(|next| next.fire_time);
        next.chain(self.again()).min()
    }

    /// Returns the next fire time, unless the job is paused or retired.
    pub(in crate::core) fn awaited(&self) -> Option<Due> {
        // Rows that a paused durable job still has are of requested runs.
        self.timing.next.filter(|_| (!self.paused || self.is_durable()) && !self.retired)
    }

    /// Returns when the driver must wake the job.
    pub(in crate::core) fn wake_at(&self) -> Option<DateTime<Utc>> {
        let next = self.awaited().filter(|_| !self.timing.deferred).map(|next| next.at);
        let Some(extras) = &self.extras else { return next };
        let carried = self.carried().iter().map(|carried| carried.at).min();
        let carried = carried.filter(|_| !self.timing.deferred);
        let again = self.again().filter(|_| !self.timing.deferred);
        [next, carried, again, extras.runs.retry_at()].into_iter().flatten().min()
    }

    /// Whether the job has anything left to run for, apart from active runs and their backlogs.
    pub(in crate::core) fn waits(&self) -> bool {
        let again = self.extras.as_ref().is_some_and(|extras| extras.again.is_some());
        self.timing.next.is_some()
            || !self.carried().is_empty()
            || self.follows
            || again
            || !self.is_queue_empty()
    }
}
