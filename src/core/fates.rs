//! How fire times meet their fates: waking, starting, skipping, and the end of runs and jobs.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

use chrono::{DateTime, Utc};

use super::{
    Core, Ended, Finish, Going, Payload, RunKey, Start, Submission,
    decide::{Due, Plan},
    semaphore::Permit,
};
use crate::{
    error::Error,
    event::{EventKind, What},
    job::{End, FireTimes, Outcome, Run, RunId, SkipReason},
    trigger::Kind,
};

impl<P: Payload> Core<P> {
    /// Looks at jobs that may be due. `now` decides whether they are.
    ///
    /// Returns how many it looked at: it stops short when counting the fire times of outages takes
    /// too long, since the lock is held.
    pub(crate) fn wake(&mut self, slots: &[u32], now: DateTime<Utc>) -> usize {
        const COUNTED: u64 = 20_000;
        let (mut woken, mut counted) = (0, 0);
        let first_start = self.out.starts.len();
        for &slot in slots {
            if counted > COUNTED {
                break;
            }
            woken += 1;
            if let Some(job) = self.jobs.get_mut(slot) {
                // Its timer has expired. If it was set again since, it expires once for nothing.
                job.armed = false;
                counted += self.wake_one(slot, now);
            }
        }
        // The slots are in order of what was due first, the runs may be for what was due last.
        let defaults = &self.defaults;
        self.out.starts[first_start..].sort_by_key(|start| {
            let options = start.options.as_ref().unwrap_or(defaults);
            (start.fire_time, Reverse(options.priority), start.incarnation)
        });
        woken
    }

    /// A run has ended. Whoever was declared abandoned has nothing to say any more.
    pub(crate) fn finish(&mut self, key: RunKey, finish: Finish, now: DateTime<Utc>) {
        let Finish { started_at, ended_at, took, late_by, outcome } = finish;
        let known = self.runs.get(key.slot).is_some_and(|run| run.id == key.id);
        let Some(mut going) = known.then(|| self.runs.remove(key.slot)).flatten() else {
            self.out.ignored.push(outcome);
            return;
        };
        let slot = going.job;
        self.unlink(&going);
        let job = &mut self.jobs[slot];
        let record = Run {
            job: job.id(self.scheduler, slot),
            id: going.id,
            fire_time: going.fire_time,
            late_by,
            coalesced: going.coalesced,
            on_request: going.on_request,
            started_at,
            took,
            ended_at,
            outcome,
        };
        let kind = kind_of(&record.outcome);
        self.log.emit(&mut self.out, now, kind, || fate_of(record.clone()));
        if self.closed || job.payload.wants_runs() {
            self.out.reports.push((job.payload.clone(), record));
        } else if let Outcome::Failed(_) = record.outcome {
            // The error is the user's.
            self.out.ignored.push(record.outcome);
        }
        match going.backlog.pop_front() {
            Some(due) if self.paused => {
                going.backlog.push_front(due);
                job.extras().parked.push((going.permit, going.backlog));
                self.held.insert(slot);
            }
            Some(due) => {
                let backlog = going.backlog;
                let next = Submission { due, coalesced: 0, on_request: false, backlog };
                self.start(slot, going.permit, next, now);
            }
            None => job.semaphore.release(going.permit),
        }
        self.end_if_over(slot, now);
    }

    /// Sets the next fire time.
    pub(super) fn set_next(&mut self, slot: u32, next: Option<DateTime<Utc>>) {
        let next = next.map(|next| self.schedule(slot).due(next));
        self.jobs[slot].next = next;
        self.mark(slot);
    }

    /// Has the driver look at the job's wake-up, unless it has no timer for it and needs none.
    pub(super) fn mark(&mut self, slot: u32) {
        let job = &mut self.jobs[slot];
        if !job.dirty && (job.armed || job.wake_at().is_some()) {
            job.dirty = true;
            self.out.dirty.push(slot);
        }
    }

    /// Goes on with the backlogs that a pause of the scheduler interrupted.
    pub(super) fn unpark(&mut self, slot: u32, now: DateTime<Utc>) {
        for (permit, mut backlog) in self.jobs[slot].take_parked() {
            if let Some(due) = backlog.pop_front() {
                let next = Submission { due, coalesced: 0, on_request: false, backlog };
                self.start(slot, permit, next, now);
            }
        }
    }

    /// Looks at one job that may be due. Returns how many fire times had to be counted.
    pub(super) fn wake_one(&mut self, slot: u32, now: DateTime<Utc>) -> u64 {
        let job = &mut self.jobs[slot];
        let Some(next) = job.awaited() else { return 0 };
        if next.at > now {
            self.mark(slot);
            return 0;
        }
        if self.paused {
            job.held = true;
            self.held.insert(slot);
            self.mark(slot);
            return 0;
        }
        let (plan, after) = self.schedule(slot).plan(next, now);
        let job = &self.jobs[slot];
        let stretches = [plan.missed, plan.coalesced.map(|(stretch, _)| stretch)];
        let counted = match job.trigger.kind() {
            Kind::Interval(_) | Kind::Random(_) => 0,
            _ => stretches.iter().flatten().map(|stretch| stretch.count).sum(),
        };
        if job.once {
            self.set_next(slot, None);
        } else {
            self.go_on(slot, after, now);
        }
        self.submit(slot, plan, now);
        self.end_if_over(slot, now);
        counted
    }

    /// Goes on to the next fire time, if there is one and the trigger could say.
    fn go_on(&mut self, slot: u32, next: Result<Option<DateTime<Utc>>, Error>, now: DateTime<Utc>) {
        match next {
            Ok(next) => self.set_next(slot, next),
            Err(error) => {
                self.set_next(slot, None);
                self.jobs[slot].extras().end = Some(End::TriggerFailed(error.clone()));
                let what = What::TriggerFailed { job: self.id(slot), error };
                self.note(now, what);
            }
        }
    }

    /// Carries a plan out, as far as the semaphore lets it.
    pub(super) fn submit(&mut self, slot: u32, plan: Plan, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot];
        let Plan { missed, coalesced, run, .. } = plan;
        if let Some(fire_times) = missed {
            self.log.emit(&mut self.out, now, EventKind::Missed, || What::Missed {
                job: job.id(self.scheduler, slot),
                run: None,
                fire_times,
            });
        }
        if let Some((fire_times, into)) = coalesced {
            self.log.emit(&mut self.out, now, EventKind::Coalesced, || What::Coalesced {
                job: job.id(self.scheduler, slot),
                fire_times,
                into,
            });
        }
        let Some((due, backlog)) = run else { return };
        match job.semaphore.try_acquire(job.options(&self.defaults).max_instances) {
            Some(permit) => {
                let coalesced = coalesced.map_or(0, |(fire_times, _)| fire_times.count);
                let submission = Submission { due, coalesced, on_request: false, backlog };
                self.start(slot, permit, submission, now);
            }
            None => {
                let fire_times = FireTimes {
                    first: due.fire_time,
                    last: backlog.back().unwrap_or(&due).fire_time,
                    count: 1 + backlog.len() as u64,
                };
                self.skip(slot, fire_times, SkipReason::MaxInstances, now);
            }
        }
    }

    pub(super) fn start(
        &mut self,
        slot: u32,
        permit: Permit,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        self.run_ids += 1;
        let id = RunId(self.run_ids);
        let job = &mut self.jobs[slot];
        let Submission { due: Due { fire_time, at: due }, coalesced, on_request, backlog } =
            submission;
        let older = job.runs;
        let run_slot = self.runs.insert_with(|_| Going {
            id,
            job: slot,
            fire_time,
            coalesced,
            on_request,
            cancelled: false,
            permit,
            backlog,
            older,
            newer: None,
        });
        if let Some(older) = job.runs.replace(run_slot) {
            self.runs[older].newer = Some(run_slot);
        }
        self.log.emit(&mut self.out, now, EventKind::Submitted, || What::Submitted {
            job: job.id(self.scheduler, slot),
            run: id,
            fire_time,
            on_request,
        });
        self.out.starts.push(Start {
            run: RunKey { slot: run_slot, id },
            job: job.id(self.scheduler, slot),
            fire_time,
            due,
            coalesced,
            on_request,
            incarnation: job.incarnation,
            options: job.options.clone(),
            payload: job.payload.clone(),
        });
        id
    }

    /// Takes a run out of its job's list.
    fn unlink(&mut self, run: &Going) {
        match run.newer {
            Some(newer) => self.runs[newer].older = run.older,
            None => self.jobs[run.job].runs = run.older,
        }
        if let Some(older) = run.older {
            self.runs[older].newer = run.newer;
        }
    }

    pub(super) fn skip(
        &mut self,
        slot: u32,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let job = &self.jobs[slot];
        self.log.emit(&mut self.out, now, EventKind::Skipped, || What::Skipped {
            job: job.id(self.scheduler, slot),
            run: None,
            fire_times,
            reason,
        });
    }

    /// Skips all fire times up to `last` that have no fate yet.
    pub(super) fn settle(
        &mut self,
        slot: u32,
        reason: SkipReason,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let job = &self.jobs[slot];
        let passed = job.next.and_then(|next| self.schedule(slot).passed(next.fire_time, last));
        if let Some(fire_times) = passed {
            self.skip(slot, fire_times, reason, now);
            let next = self.jobs[slot].trigger.next_after(fire_times.last);
            self.go_on(slot, next, now);
        }
    }

    /// Skips the fire times that wait for a run of the job to end.
    pub(super) fn call_off_waiting(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot];
        let mut waiting = Vec::new();
        for (permit, backlog) in job.take_parked() {
            job.semaphore.release(permit);
            waiting.push(backlog);
        }
        let mut at = job.runs;
        while let Some(going) = at.and_then(|at| self.runs.get_mut(at)) {
            waiting.push(std::mem::take(&mut going.backlog));
            at = going.older;
        }
        for backlog in waiting {
            if let (Some(&first), Some(&last)) = (backlog.front(), backlog.back()) {
                let (first, last) = (first.fire_time, last.fire_time);
                let fire_times = FireTimes { first, last, count: backlog.len() as u64 };
                self.skip(slot, fire_times, reason, now);
            }
        }
    }

    /// Takes a job out of service; it is over when none of its runs is going.
    pub(super) fn retire(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let reason = match end {
            End::ShutDown => SkipReason::Shutdown,
            _ => SkipReason::Removed,
        };
        let paused = self.jobs[slot].paused;
        self.settle(slot, if paused { SkipReason::Paused } else { reason }, now, now);
        self.call_off_waiting(slot, reason, now);
        let cancel = matches!(end, End::Cancelled | End::Replaced);
        let job = &mut self.jobs[slot];
        job.payload.set_standing(Some(reason));
        job.retired = true;
        if let Some(id) = job.given_id() {
            self.named.remove(id);
            shrink(&mut self.named);
        }
        if !matches!(end, End::ShutDown) {
            self.out.retired.push(job.payload.clone());
            self.log.emit(&mut self.out, now, EventKind::JobRemoved, || What::JobRemoved {
                job: job.id(self.scheduler, slot),
                end: end.clone(),
            });
        }
        if job.semaphore.taken() == 0 {
            self.end(slot, end, now);
            return;
        }
        job.extras().end = Some(end);
        if cancel {
            self.cancel_runs(slot);
        }
        self.mark(slot);
    }

    /// Asks the runs of a job to stop.
    pub(super) fn cancel_runs(&mut self, slot: u32) {
        let mut at = self.jobs[slot].runs;
        while let Some((run, going)) = at.and_then(|at| Some((at, self.runs.get_mut(at)?))) {
            if !std::mem::replace(&mut going.cancelled, true) {
                self.out.cancels.push(RunKey { slot: run, id: going.id });
            }
            at = going.older;
        }
    }

    /// Lets go of a job that has neither a fire time nor a run left.
    pub(super) fn end_if_over(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot];
        if job.semaphore.taken() > 0 || !(job.retired || job.next.is_none()) {
            return;
        }
        let end = job.extras.as_mut().and_then(|extras| extras.end.take());
        self.end(slot, end.unwrap_or(End::Completed), now);
    }

    fn end(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        self.mark(slot);
        let Some(job) = self.jobs.remove(slot) else { return };
        if !job.retired {
            if let Some(id) = job.given_id() {
                self.named.remove(id);
                shrink(&mut self.named);
            }
            self.log.emit(&mut self.out, now, EventKind::JobRemoved, || What::JobRemoved {
                job: job.id(self.scheduler, slot),
                end: end.clone(),
            });
        }
        self.out.ended.push(Ended { payload: job.payload, end, trigger: job.trigger });
    }
}

/// Gives back what a burst has left, once three quarters of it are free.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 && map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}

fn kind_of(outcome: &Outcome) -> EventKind {
    match outcome {
        Outcome::Succeeded => EventKind::Executed,
        Outcome::Failed(_) | Outcome::Panicked(_) => EventKind::Failed,
        Outcome::Cancelled => EventKind::Cancelled,
        Outcome::Missed => EventKind::Missed,
        Outcome::Skipped(_) => EventKind::Skipped,
        Outcome::Abandoned => EventKind::Abandoned,
    }
}

/// The event of a run's end.
fn fate_of(run: Run) -> What {
    let fire_times = FireTimes::one(run.fire_time);
    match run.outcome {
        Outcome::Succeeded => What::Executed(run),
        Outcome::Failed(_) | Outcome::Panicked(_) => What::Failed(run),
        Outcome::Cancelled => What::Cancelled(run),
        Outcome::Abandoned => What::Abandoned(run),
        Outcome::Missed => What::Missed { job: run.job, run: Some(run.id), fire_times },
        Outcome::Skipped(reason) => {
            What::Skipped { job: run.job, run: Some(run.id), fire_times, reason }
        }
    }
}
