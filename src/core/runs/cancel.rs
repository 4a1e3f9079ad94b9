//! Runs that do not start, or are asked to stop.

use chrono::{DateTime, Utc};

use super::{Phase, RunResult, Submission};
use crate::{
    core::{Core, Discarded, Payload},
    job::{FireTimes, Outcome, SkipReason},
};

impl<P: Payload> Core<P> {
    /// Skips what a submission is for.
    pub(in crate::core) fn skip_submission(
        &mut self,
        slot: u32,
        submission: Submission,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let fire_times = FireTimes {
            first: submission.due.fire_time,
            last: submission.backlog.back().unwrap_or(&submission.due).fire_time,
            count: 1 + submission.backlog.len() as u64,
        };
        self.skip(slot, submission.id, fire_times, reason, now);
        self.effects.discard_all(submission.preceding.map(Discarded::Preceding));
    }

    /// Ends a run that has not started, or that waits to be tried again.
    fn skip_run(&mut self, run: u32, reason: SkipReason, now: DateTime<Utc>) {
        let late_by = (now - self.runs.active[run].due.at).to_std().unwrap_or_default();
        let finish =
            RunResult { late_by, ..RunResult::without_work(Outcome::Skipped(reason), now) };
        self.conclude(run, finish, now);
    }

    /// Ends the runs of a job that wait: for room, and, if it is `for_good`, to be tried again.
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

    /// Asks the oldest run of a job to stop, unless one has been asked already.
    pub(super) fn cancel_previous(&mut self, slot: u32, now: DateTime<Utc>) {
        let runs = self.runs_of(slot);
        if runs.iter().any(|&run| self.runs.active[run].cancelled) {
            return;
        }
        let Some(&run) = runs.last() else { return };
        // What it was to catch up with is older still.
        let backlog = std::mem::take(&mut self.runs.active[run].backlog);
        self.skip_backlog(slot, &backlog, SkipReason::Superseded, now);
        match self.runs.active[run].phase {
            Phase::Started => self.cancel_run(run),
            // What has not started, or waits to be tried again, ends at once.
            _ => self.skip_run(run, SkipReason::Superseded, now),
        }
    }

    /// Asks a run to stop.
    pub(in crate::core) fn cancel_run(&mut self, run: u32) {
        self.runs.cancel(run, &mut self.effects);
    }

    /// The runs of a job that have not ended, the newest first.
    pub(in crate::core) fn runs_of(&self, slot: u32) -> Vec<u32> {
        self.runs.chain(self.registry[slot].runs.newest)
    }
}
