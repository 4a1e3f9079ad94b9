//! The extra run of a job that its own run requests.

use chrono::{DateTime, Utc};

use super::decide::Due;
use crate::{
    core::{Core, Job, JobKey, Payload, RunKey, StoreKey, Submission},
    error::Error,
    ledger::Incarnation,
};

/// The job of a run.
pub(crate) enum Own {
    Memory(JobKey),
    Stored(StoreKey, Incarnation),
}

impl<P: Payload> Core<P> {
    /// Returns the job of an active run.
    pub(crate) fn job_of(&self, run: RunKey) -> Option<Own> {
        let slot = self.runs.job_of(run)?;
        let job = &self.registry[slot];
        Some(match job.incarnation_in_store() {
            Some((store, incarnation)) => Own::Stored(store, incarnation),
            None => Own::Memory(job.key(slot)),
        })
    }

    /// Requests an extra run of the job of `run` at `at`, unless an earlier one is requested.
    pub(crate) fn again(&mut self, run: RunKey, at: DateTime<Utc>) -> Result<(), Error> {
        let key = match self.job_of(run) {
            Some(Own::Memory(key)) => key,
            Some(Own::Stored(..)) => {
                return Err(Error::invalid_option(
                    "a job in a store can't run again by `again_in`: add a job for it, `cx.scheduler().add(after(delay), ..)`",
                ));
            }
            None => {
                return Err(Error::gone(
                    "the run has ended: call `again_in` while it is under way, or add a job",
                ));
            }
        };
        if self.live(key)?.once {
            return Err(Error::invalid_option(
                "a job of `add_once` runs once, and not again: use `add`",
            ));
        }
        let again = &mut self.registry[key.slot].extras().again;
        *again = Some(again.map_or(at, |asked| asked.min(at)));
        self.mark(key.slot);
        Ok(())
    }

    /// Submits the requested extra run if it is due. The run queues like any other.
    pub(in crate::core) fn run_again(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &mut self.registry[slot];
        let Some(at) = job.again().filter(|&at| at <= now) else { return };
        if self.paused {
            job.timing.defer();
            self.deferred_jobs.insert(slot);
            return;
        }
        let extras = job.extras();
        extras.again = None;
        // The queued extra run answers this request, too.
        if extras.runs.has_again() {
            return;
        }
        let submission = Submission {
            on_request: true,
            again: true,
            ..Submission::of(Due { fire_time: at, at })
        };
        self.submit(slot, submission, now);
    }
}

impl<P> Job<P> {
    /// Returns when the requested extra run is due, unless the job is paused or retired.
    pub(in crate::core) fn again(&self) -> Option<DateTime<Utc>> {
        self.extras.as_ref()?.again.filter(|_| !self.paused && !self.retired)
    }
}
