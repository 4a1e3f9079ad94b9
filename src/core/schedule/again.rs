//! The extra run that a job's own run asks for.

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
    /// The job of a run that has not ended.
    pub(crate) fn job_of(&self, run: RunKey) -> Option<Own> {
        let slot = self.runs.job_of(run)?;
        let job = &self.registry[slot];
        Some(match job.incarnation_in_store() {
            Some((store, incarnation)) => Own::Stored(store, incarnation),
            None => Own::Memory(job.key(slot)),
        })
    }

    /// Has the job of a run run once more at `at`, or sooner if that was asked for before.
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

    /// Begins the run that was asked for, if it is due. It waits in line if it has to.
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
        // The one that is in line already is for this request, too.
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
    /// When it is to run once more, unless that doesn't count now.
    pub(in crate::core) fn again(&self) -> Option<DateTime<Utc>> {
        self.extras.as_ref()?.again.filter(|_| !self.paused && !self.retired)
    }
}
