//! Fire times that do not run: skipped, or released to the store.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::Submission;
use crate::{
    core::{Core, Payload, decide::Due},
    event::{EventKind, EventPayload},
    job::{FireTimes, RunId, SkipReason},
};

impl<P: Payload> Core<P> {
    pub(in crate::core) fn skip(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        if self.skip_durable(slot, run, fire_times, reason, now) {
            self.note_skip(slot, run, fire_times, reason, now);
        }
    }

    /// Skips fire times that are known one by one; `run` has the first one.
    pub(super) fn skip_each(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: impl Iterator<Item = DateTime<Utc>> + Clone,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let (Some(first), Some(last)) = (fire_times.clone().next(), fire_times.clone().last())
        else {
            return;
        };
        let stretch = FireTimes { first, last, count: fire_times.clone().count() as u64 };
        if self.skip_durable_each(slot, run, fire_times, reason, now) {
            self.note_skip(slot, run, stretch, reason, now);
        }
    }

    fn note_skip(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let job = &self.registry[slot];
        self.runs.count_skipped(fire_times.count);
        let store = || self.durable.name(job.store());
        self.effects.emit_in(now, EventKind::Skipped, store, || EventPayload::Skipped {
            job: job.id(self.registry.common(), slot),
            run,
            fire_times,
            reason,
        });
    }

    pub(in crate::core) fn skip_backlog(
        &mut self,
        slot: u32,
        backlog: &VecDeque<Due>,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let fire_times = backlog.iter().map(|due| due.fire_time);
        self.skip_each(slot, None, fire_times, reason, now);
    }

    /// Skips the fire times of a job that wait for a permit, and its runs that wait for a limit.
    /// Unless `for_good`, requested runs stay.
    pub(in crate::core) fn skip_waiting(
        &mut self,
        slot: u32,
        reason: SkipReason,
        for_good: bool,
        now: DateTime<Utc>,
    ) {
        let job = &mut self.registry[slot];
        let mut queue =
            job.extras.as_mut().map(|e| std::mem::take(&mut e.runs.queue)).unwrap_or_default();
        let mut waiting = Vec::new();
        for (permit, backlog) in job.take_parked() {
            job.runs.semaphore.release(permit);
            waiting.push(backlog);
        }
        let carried = job.take_carried(DateTime::<Utc>::MAX_UTC);
        waiting.extend(carried.into_iter().map(|due| VecDeque::from([due])));
        for run in self.runs_of(slot) {
            waiting.push(self.runs.take_backlog(run));
        }
        for backlog in waiting {
            self.skip_backlog(slot, &backlog, reason, now);
        }
        if !for_good {
            let goes_on = |it: &Submission| it.on_request;
            if queue.iter().any(goes_on) {
                let (kept, rest) = queue.into_iter().partition(goes_on);
                self.registry[slot].extras().runs.queue = kept;
                queue = rest;
            }
        }
        for submission in queue {
            self.skip_submission(slot, submission, reason, now);
        }
        self.skip_waiting_runs(slot, reason, for_good, now);
    }

    /// Resumes the backlogs that a pause of the scheduler interrupted.
    pub(in crate::core) fn resume_backlogs(&mut self, slot: u32, now: DateTime<Utc>) {
        for (permit, mut backlog) in self.registry[slot].take_parked() {
            if let Some(due) = backlog.pop_front() {
                self.begin(slot, permit, Submission { backlog, ..Submission::of(due) }, now);
            }
        }
    }
}
