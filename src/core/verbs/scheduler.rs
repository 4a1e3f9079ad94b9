//! The verbs on all jobs at once: pausing, resuming, closing, executors.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    core::{Core, Outbox, Payload, RunKey, StoreKey, shut_down},
    error::Error,
    event::{EventPayload, KindSet},
    job::{End, JobOptions},
    metrics::Metrics,
};

impl<P: Payload> Core<P> {
    /// Returns the pending effects. The shell drains them after each call, before it releases the
    /// lock.
    pub(crate) fn outbox(&mut self) -> &mut Outbox<P> {
        self.effects.outbox()
    }

    /// Returns the pending effects for reading.
    pub(crate) fn pending_effects(&self) -> &Outbox<P> {
        self.effects.pending()
    }

    /// Sets which kinds of events are emitted.
    pub(crate) fn observe(&mut self, kinds: KindSet) {
        self.effects.observe(kinds);
    }

    /// Emits an event of a job of this store, or of the store.
    pub(crate) fn note_in(&mut self, store: StoreKey, now: DateTime<Utc>, payload: EventPayload) {
        let name = || self.durable.name(Some(store));
        self.effects.emit_in(now, payload.kind(), name, || payload);
    }

    pub(crate) fn note(&mut self, now: DateTime<Utc>, payload: EventPayload) {
        self.effects.emit(now, payload.kind(), || payload);
    }

    /// Whether a run is cancelled or has ended.
    pub(crate) fn is_cancelled(&self, key: RunKey) -> bool {
        self.runs.is_cancelled(key)
    }

    /// Returns the active runs.
    pub(crate) fn active_runs(&self) -> impl Iterator<Item = RunKey> + '_ {
        self.runs.keys()
    }

    /// Cancels every run except those in `spared`. Returns the longest cancel grace of the
    /// cancelled jobs.
    pub(crate) fn cancel_all(&mut self, spared: &[RunKey]) -> Duration {
        let active = self.active_runs().collect();
        self.runs.cancel_all(active, spared, self.registry.defaults(), &mut self.effects)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns an error if the scheduler has shut down.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(shut_down()) } else { Ok(()) }
    }

    /// Checks the default options of jobs.
    pub(crate) fn check_defaults(&mut self) -> Result<(), Error> {
        self.runs.limits().check(self.registry.defaults(), None)?;
        self.runs.limits_mut().join(self.registry.defaults());
        Ok(())
    }

    /// Checks whether a job may have these options here; `old` are its options now, if any.
    pub(crate) fn check_options(
        &self,
        options: &JobOptions,
        old: Option<&JobOptions>,
    ) -> Result<(), Error> {
        self.runs.limits().check(options, old)
    }

    /// Adds an executor for up to `max` runs at once, or without a limit.
    pub(crate) fn add_executor(
        &mut self,
        name: Arc<str>,
        max: Option<u32>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.runs.limits_mut().add_executor(name.clone(), max)?;
        self.note(now, EventPayload::ExecutorAdded { name });
        // Jobs that name the executor could not run here until now.
        self.refresh_all();
        Ok(())
    }

    pub(crate) fn remove_executor(
        &mut self,
        name: Arc<str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.runs.limits_mut().remove_executor(&name)?;
        self.note(now, EventPayload::ExecutorRemoved { name });
        Ok(())
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.runs.metrics()
    }

    /// Returns how many jobs are in memory, including durable jobs that this node has claimed.
    pub(crate) fn len(&self) -> usize {
        self.registry.len()
    }

    /// Returns how many jobs are in memory alone.
    pub(crate) fn volatile(&self) -> usize {
        self.registry.len() - self.durable.claimed_jobs()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn pause_all(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        if !self.paused {
            self.paused = true;
            self.note(now, EventPayload::Paused);
            self.release_unstarted(now);
        }
        Ok(())
    }

    /// Resumes the scheduler. Fire times that came due meanwhile are coalesced and judged by grace.
    pub(crate) fn resume_all(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        if self.paused {
            self.paused = false;
            self.note(now, EventPayload::Resumed);
            self.refresh_all();
            let first_start = self.effects.start_count();
            // Runs that wait for a limit come before runs that have not begun to.
            for limit in self.runs.limits().waited_for() {
                self.serve(limit);
            }
            let mut deferred: Vec<u32> =
                std::mem::take(&mut self.deferred_jobs).into_iter().collect();
            deferred.sort_by_key(|&slot| self.registry.get(slot).map(|job| job.incarnation));
            for slot in deferred {
                if let Some(job) = self.registry.get_mut(slot) {
                    job.timing.resume();
                    self.mark(slot);
                    self.resume_backlogs(slot, now);
                    self.serve_queue(slot, now);
                    self.end_if_over(slot, now);
                }
            }
            self.effects.sort_starts(first_start, self.registry.defaults());
        }
        Ok(())
    }

    pub(crate) fn remove_all(&mut self, now: DateTime<Utc>) -> Result<usize, Error> {
        if self.closed {
            return Err(shut_down());
        }
        Ok(self.retire_all(&End::Removed, now))
    }

    /// Starts nothing from here on; a job ends as soon as none of its runs is active.
    pub(crate) fn close(&mut self, now: DateTime<Utc>) {
        if !self.closed {
            self.closed = true;
            self.retire_all(&End::ShutDown, now);
            self.deregister_idle_nodes();
        }
    }
}
