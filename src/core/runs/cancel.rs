//! Runs that are skipped before they start, and runs that are cancelled.

use chrono::{DateTime, Utc};

use super::{Phase, RunResult, Submission};
use crate::{
    core::{Core, Discarded, Payload},
    job::{Outcome, SkipReason},
};

impl<P: Payload> Core<P> {
    /// Skips the fire times of a submission.
    pub(in crate::core) fn skip_submission(
        &mut self,
        slot: u32,
        submission: Submission,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let fire_times = std::iter::once(&submission.due).chain(&submission.backlog);
        let fire_times = fire_times.map(|due| due.fire_time);
        self.skip_each(slot, submission.id, fire_times, reason, now);
        self.effects.discard_all(submission.preceding.map(Discarded::Preceding));
    }

    /// Ends a run that has not started, or that is backing off.
    fn skip_run(&mut self, run: u32, reason: SkipReason, now: DateTime<Utc>) {
        let late_by = (now - self.runs.active[run].due.at).to_std().unwrap_or_default();
        let finish =
            RunResult { late_by, ..RunResult::without_work(Outcome::Skipped(reason), now) };
        self.conclude(run, finish, now);
    }

    /// Ends the waiting runs of a job: those that wait for a limit and, if `for_good`, those that
    /// back off.
    pub(in crate::core) fn skip_waiting_runs(
        &mut self,
        slot: u32,
        reason: SkipReason,
        for_good: bool,
        now: DateTime<Utc>,
    ) {
        for run in self.runs_of(slot) {
            let active = &self.runs.active[run];
            let waits = match active.phase {
                Phase::Started => false,
                Phase::Waiting { .. } => for_good || (active.attempt == 1 && !active.on_request),
                Phase::BackingOff(_) => for_good,
            };
            if waits {
                self.skip_run(run, reason, now);
            }
        }
    }

    /// Cancels the oldest run of a job, unless a run of the job is cancelled already.
    pub(super) fn cancel_previous(&mut self, slot: u32, now: DateTime<Utc>) {
        let runs = self.runs_of(slot);
        if runs.iter().any(|&run| self.runs.active[run].cancelled) {
            return;
        }
        let Some(&run) = runs.last() else { return };
        // The fire times of the backlog are older than the new one, so they are superseded as well.
        let backlog = std::mem::take(&mut self.runs.active[run].backlog);
        self.skip_backlog(slot, &backlog, SkipReason::Superseded, now);
        match self.runs.active[run].phase {
            Phase::Started => self.cancel_run(run),
            // A run whose work is not being called ends at once.
            _ => self.skip_run(run, SkipReason::Superseded, now),
        }
    }

    /// Cancels a run.
    pub(in crate::core) fn cancel_run(&mut self, run: u32) {
        self.runs.cancel(run, &mut self.effects);
    }

    /// Returns the runs of a job that have not ended, the newest first.
    pub(in crate::core) fn runs_of(&self, slot: u32) -> Vec<u32> {
        self.runs.chain(self.registry[slot].runs.newest)
    }
}
