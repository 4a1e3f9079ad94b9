//! How a run ends: its outcome, the reports of its end, and the next use of its permit.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::{ActiveRun, Phase, Preceding, RunKey, RunResult, Submission, start::turn};
use crate::{
    core::{Core, Discarded, Payload, decide::Due},
    event::{EventKind, EventPayload},
    job::{FireTimes, JobId, Outcome, Run, SkipReason},
};

/// How long an attempt waits that may not begin because the node does not trust its lease.
const UNTRUSTED_WAIT: Duration = Duration::from_millis(100);

impl<P: Payload> Core<P> {
    /// Accepts the result of a run whose work has ended, or was not called. The result of a run
    /// that was declared abandoned is discarded.
    pub(crate) fn finish(&mut self, key: RunKey, mut finish: RunResult, now: DateTime<Utc>) {
        let Some(active) = self.runs.active.get_mut(key.slot).filter(|run| run.id == key.id) else {
            self.effects.discard_result(finish);
            return;
        };
        let slot = active.job;
        let job = &self.registry[slot];
        let wanted = !active.cancelled && !self.closed && !job.retired;
        if finish.put_back && active.last.is_some() {
            // The work was called before. Without another attempt, the run ends with its last
            // result.
            let is_called_off = active.cancelled && !active.distrusted;
            if !(is_called_off || self.closed || job.retired) {
                (active.cancelled, active.distrusted) = (false, false);
                self.wait_to_retry(key.slot, now, UNTRUSTED_WAIT);
                self.effects.discard_result(finish);
                return;
            }
            let given_up = RunResult::without_work(Outcome::Skipped(SkipReason::Shutdown), now);
            self.effects.discard_result(std::mem::replace(&mut finish, given_up));
        } else if finish.put_back
            && let Some(outcome) = self.requeue_run(key)
        {
            let ended = RunResult::without_work(outcome, now);
            self.effects.discard_result(std::mem::replace(&mut finish, ended));
        }
        match finish.retry_in.filter(|_| wanted) {
            Some(delay) => self.back_off(key.slot, finish, delay, now),
            None => {
                self.conclude(key.slot, finish, now);
                self.end_if_over(slot, now);
            }
        }
    }

    /// Ends a run.
    pub(in crate::core) fn conclude(&mut self, run: u32, finish: RunResult, now: DateTime<Utc>) {
        let Some(mut active) = self.runs.active.remove(run) else { return };
        self.effects.conclude(RunKey { slot: run, id: active.id });
        self.unlink(&active);
        let slot = active.job;
        if let Some(store) = self.registry[slot].store() {
            self.wake_store_removal(store);
        }
        if let Phase::Waiting { limit, priority } = active.phase {
            let turn = turn(&active, priority, self.registry[slot].incarnation);
            self.runs.limits.stop_waiting(limit, turn);
        }
        // A run that backed off and gets no further attempt ends with its last result.
        let put_back = finish.put_back;
        let finish = match active.last.take() {
            Some(last) if !finish.outcome.has_run() && !put_back => {
                active.attempt -= 1;
                self.effects.discard_result(finish);
                *last
            }
            Some(last) => {
                let late_by = last.late_by;
                self.effects.discard_result(*last);
                RunResult { late_by, ..finish }
            }
            None => finish,
        };
        let finish = match finish.outcome {
            // The work may have been called before, on another node.
            Outcome::Skipped(reason)
                if active.attempt > 1
                    && !matches!(reason, SkipReason::Paused | SkipReason::Shutdown) =>
            {
                RunResult { outcome: Outcome::Abandoned, ..finish }
            }
            _ => finish,
        };
        if put_back || !self.conclude_durable(active.row(), &finish, now) {
            self.effects.discard_result(finish);
        } else {
            let late_by = finish.started_at.map(|_| finish.late_by);
            self.runs.metrics.count(&finish.outcome, late_by);
            self.report_run(&active, finish, now);
        }
        self.effects.discard_all(active.preceding.take().map(Discarded::Preceding));
        active.options.iter().for_each(|options| self.effects.discard_options(options.clone()));
        match active.backlog.pop_front() {
            Some(due) if self.paused => {
                active.backlog.push_front(due);
                self.registry[slot].extras().runs.parked.push((active.permit, active.backlog));
                self.deferred_jobs.insert(slot);
                self.free_slots(active.slots);
            }
            Some(due) => {
                let next = Submission { backlog: active.backlog, ..Submission::of(due) };
                let options = &self.registry[slot].options;
                if options.as_ref().map(Arc::as_ptr) == active.options.as_ref().map(Arc::as_ptr) {
                    // A backlog is one submission, so the next run keeps the slots.
                    self.begin_with(slot, active.permit, active.slots, next, now);
                } else {
                    self.free_slots(active.slots);
                    self.begin(slot, active.permit, next, now);
                }
            }
            None => {
                self.free_slots(active.slots);
                self.release(slot, active.permit, now);
            }
        }
    }

    /// Reports the end of a run: event, history, following jobs, handles.
    fn report_run(&mut self, run: &ActiveRun, finish: RunResult, now: DateTime<Utc>) {
        let slot = run.job;
        let followed = self.registry.has_followers();
        let (job, common) = self.registry.job_mut(slot);
        let kind = kind_of(&finish.outcome);
        let kept = job.keeps_run(!run.backlog.is_empty(), common);
        let reported = self.closed || job.payload.wants_runs();
        if !(self.effects.wants(kind) || kept || reported || followed) {
            // The common case.
            self.effects.skip_event();
            self.effects.discard_result(finish);
            return;
        }
        let record = run.record(job.id(common, slot), &finish);
        let store = || self.durable.name(job.store());
        self.effects.emit_in(now, kind, store, || fate_of(record.clone()));
        if kept {
            job.keep_run(&record, finish.error_text.as_ref(), common);
        }
        if record.outcome.has_run() && self.registry.is_followed(&record.job) {
            self.submit_followers(Preceding { run: record.clone(), others: Vec::new() }, now);
        }
        if reported {
            self.effects.report(self.registry[slot].payload.clone(), record);
        }
        // The result may own user values, which are dropped when the lock is free.
        self.effects.discard_result(finish);
    }

    /// Submits runs of the jobs that follow the job of `preceding`.
    fn submit_followers(&mut self, preceding: Preceding, now: DateTime<Utc>) {
        let preceding = Arc::new(preceding);
        let run = &preceding.run;
        for slot in self.registry.followers_of(&run.job) {
            let Some(job) = self.registry.get(slot).filter(|job| !job.retired) else { continue };
            let Some(follow) = job.trigger.follow().filter(|follow| follow.wants(&run.outcome))
            else {
                continue;
            };
            let preceding = match follow.jobs().len() {
                1 => Some(preceding.clone()),
                wanted => self.registry.gather(slot, wanted, &preceding, &mut self.effects),
            };
            if preceding.is_none() {
                continue;
            }
            let job = &self.registry[slot];
            let (paused, once) = (job.paused, job.once);
            let due = Due { fire_time: run.fire_time, at: now };
            let submission = Submission { preceding, ..Submission::of(due) };
            if paused {
                self.skip_submission(slot, submission, SkipReason::Paused, now);
            } else {
                if once {
                    // This is the only run of the job.
                    self.registry.unfollow(slot, &mut self.effects);
                }
                self.submit(slot, submission, now);
            }
            self.end_if_over(slot, now);
        }
        self.effects.discard(Discarded::Preceding(preceding));
    }

    /// Unlinks a run from the list of its job.
    fn unlink(&mut self, run: &ActiveRun) {
        match run.newer {
            Some(newer) => self.runs.active[newer].older = run.older,
            None => self.registry[run.job].runs.newest = run.older,
        }
        if let Some(older) = run.older {
            self.runs.active[older].newer = run.newer;
        }
    }
}

impl ActiveRun {
    /// Returns the public description of the run, if it ended with `finish`.
    pub(super) fn record(&self, job: JobId, finish: &RunResult) -> Run {
        Run {
            job,
            id: self.id,
            fire_time: self.due.fire_time,
            late_by: finish.late_by,
            coalesced: self.coalesced,
            on_request: self.on_request,
            attempt: self.attempt,
            started_at: finish.started_at,
            took: finish.took,
            ended_at: finish.ended_at,
            outcome: finish.outcome.clone(),
            output: finish.output.clone(),
        }
    }
}

fn kind_of(outcome: &Outcome) -> EventKind {
    match outcome {
        Outcome::Succeeded => EventKind::Executed,
        Outcome::Failed(_) | Outcome::Panicked(_) => EventKind::Failed,
        Outcome::TimedOut => EventKind::TimedOut,
        Outcome::Cancelled => EventKind::Cancelled,
        Outcome::Missed => EventKind::Missed,
        Outcome::Skipped(_) => EventKind::Skipped,
        Outcome::Abandoned => EventKind::Abandoned,
    }
}

/// Returns the event for the end of a run.
fn fate_of(run: Run) -> EventPayload {
    let fire_times = FireTimes::one(run.fire_time);
    match run.outcome {
        Outcome::Succeeded => EventPayload::Executed(run),
        Outcome::Failed(_) | Outcome::Panicked(_) => EventPayload::Failed(run),
        Outcome::TimedOut => EventPayload::TimedOut(run),
        Outcome::Cancelled => EventPayload::Cancelled(run),
        Outcome::Abandoned => EventPayload::Abandoned(run),
        Outcome::Missed => EventPayload::Missed { job: run.job, run: Some(run.id), fire_times },
        Outcome::Skipped(reason) => {
            EventPayload::Skipped { job: run.job, run: Some(run.id), fire_times, reason }
        }
    }
}
