//! How fire times meet their fates: waking, skipping, and the end of jobs.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use chrono::{DateTime, Utc};

use super::{
    Core, Discarded, Ended, Job, Payload, Submission,
    decide::{Due, Plan},
};
use crate::{
    error::Error,
    event::{EventKind, EventPayload},
    job::{End, FireTimes, RunId, SkipReason},
    ledger::Fate,
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
        let first_start = self.effects.start_count();
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
        self.effects.sort_starts(first_start, &self.defaults);
        woken
    }

    /// Sets the next fire time.
    pub(super) fn set_next(&mut self, slot: u32, next: Option<DateTime<Utc>>) {
        let next = next.map(|next| self.planner(slot).due(next));
        self.jobs[slot].next = next;
        self.mark(slot);
    }

    /// Has the driver look at the job's wake-up, unless it has no timer for it and needs none.
    pub(super) fn mark(&mut self, slot: u32) {
        let job = &mut self.jobs[slot];
        if !job.dirty && (job.armed || job.wake_at().is_some()) {
            job.dirty = true;
            self.effects.rearm(slot);
        }
    }

    /// Goes on with the backlogs that a pause of the scheduler interrupted.
    pub(super) fn resume_backlogs(&mut self, slot: u32, now: DateTime<Utc>) {
        for (permit, mut backlog) in self.jobs[slot].take_parked() {
            if let Some(due) = backlog.pop_front() {
                self.begin(slot, permit, Submission { backlog, ..Submission::of(due) }, now);
            }
        }
    }

    /// Looks at one job that may be due. Returns how many fire times had to be counted.
    pub(super) fn wake_one(&mut self, slot: u32, now: DateTime<Utc>) -> u64 {
        self.retry_due(slot, now);
        self.run_again(slot, now);
        let job = &mut self.jobs[slot];
        let carried = job.carried().iter().any(|carried| carried.at <= now);
        let next = job.awaited().filter(|next| next.at <= now);
        if next.is_none() && !carried {
            self.mark(slot);
            return 0;
        }
        if self.paused {
            job.deferred = true;
            self.deferred_jobs.insert(slot);
            self.mark(slot);
            return 0;
        }
        if job.is_durable() {
            self.start_due_rows(slot, now);
            return 0;
        }
        if carried {
            self.run_carried(slot, now);
        }
        let Some(next) = next else {
            self.mark(slot);
            self.end_if_over(slot, now);
            return 0;
        };
        let (plan, after) = self.planner(slot).plan(next, now);
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
        self.carry_out(slot, plan, now);
        self.end_if_over(slot, now);
        counted
    }

    /// Runs for the fire times of earlier triggers that were still to run and are due.
    fn run_carried(&mut self, slot: u32, now: DateTime<Utc>) {
        for due in self.jobs[slot].take_carried(now) {
            self.submit(slot, Submission::of(due), now);
        }
    }

    /// What has its fire time and waits only for its jitter runs when that has passed, although the job
    /// is given another trigger now.
    pub(super) fn carry_due(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.jobs[slot];
        if job.paused || job.once || self.paused || job.is_durable() {
            return;
        }
        if let Some(due) = job.next.filter(|next| next.fire_time <= now) {
            let next = job.trigger.next_after(due.fire_time);
            self.go_on(slot, next, now);
            self.jobs[slot].carry(due);
        }
    }

    /// Goes on to the next fire time, if there is one and the trigger could say.
    pub(super) fn go_on(
        &mut self,
        slot: u32,
        next: Result<Option<DateTime<Utc>>, Error>,
        now: DateTime<Utc>,
    ) {
        match next {
            Ok(next) => self.set_next(slot, next),
            Err(error) => {
                self.set_next(slot, None);
                self.jobs[slot].extras().end = Some(End::TriggerFailed(error.clone()));
                let what = EventPayload::TriggerFailed { job: self.id(slot), error };
                self.note(now, what);
            }
        }
    }

    /// Does what the plan for a job says.
    pub(super) fn carry_out(&mut self, slot: u32, plan: Plan, now: DateTime<Utc>) {
        let Plan { missed, coalesced, run, .. } = plan;
        if self.jobs[slot].is_durable() {
            if let Some(fire_times) = missed {
                self.close_stretch(slot, fire_times, &Fate::Missed, now);
            }
            if let Some((fire_times, into)) = coalesced {
                self.close_stretch(slot, fire_times, &Fate::Coalesced(into), now);
            }
        }
        let job = &mut self.jobs[slot];
        if let Some(fire_times) = missed {
            self.metrics.missed += fire_times.count;
            let store = || self.stores.name(job.store());
            self.effects.emit_in(now, EventKind::Missed, store, || EventPayload::Missed {
                job: job.id(self.scheduler, slot),
                run: None,
                fire_times,
            });
        }
        if let Some((fire_times, into)) = coalesced {
            self.metrics.coalesced += fire_times.count;
            let store = || self.stores.name(job.store());
            self.effects.emit_in(now, EventKind::Coalesced, store, || EventPayload::Coalesced {
                job: job.id(self.scheduler, slot),
                fire_times,
                into,
            });
        }
        if let Some((due, backlog)) = run {
            let coalesced = coalesced.map_or(0, |(fire_times, _)| fire_times.count)
                + self.coalesced_before(slot, due);
            let submission = Submission { coalesced, backlog, ..Submission::of(due) };
            self.submit(slot, submission, now);
        }
    }

    pub(super) fn skip(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        if !self.skip_durable(slot, run, fire_times, reason, now) {
            return;
        }
        let job = &self.jobs[slot];
        self.metrics.skipped += fire_times.count;
        let store = || self.stores.name(job.store());
        self.effects.emit_in(now, EventKind::Skipped, store, || EventPayload::Skipped {
            job: job.id(self.scheduler, slot),
            run,
            fire_times,
            reason,
        });
    }

    /// Skips all fire times up to `last` that have no fate yet.
    pub(super) fn skip_due(
        &mut self,
        slot: u32,
        reason: SkipReason,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let job = &self.jobs[slot];
        if job.is_durable() {
            self.skip_upcoming(slot, reason, now);
            return;
        }
        let passed = job.next.and_then(|next| self.planner(slot).passed(next.fire_time, last));
        if let Some(fire_times) = passed {
            self.skip(slot, None, fire_times, reason, now);
            let next = self.jobs[slot].trigger.next_after(fire_times.last);
            self.go_on(slot, next, now);
        }
    }

    /// Skips the fire times of a job that wait for one of its runs to end, and its runs that wait for
    /// room. If it is not `for_good`, those go on that were asked for.
    pub(super) fn skip_waiting(
        &mut self,
        slot: u32,
        reason: SkipReason,
        for_good: bool,
        now: DateTime<Utc>,
    ) {
        let job = &mut self.jobs[slot];
        let mut queue =
            job.extras.as_mut().map(|e| std::mem::take(&mut e.queue)).unwrap_or_default();
        let mut waiting = Vec::new();
        for (permit, backlog) in job.take_parked() {
            job.semaphore.release(permit);
            waiting.push(backlog);
        }
        let carried = job.take_carried(DateTime::<Utc>::MAX_UTC);
        waiting.extend(carried.into_iter().map(|due| VecDeque::from([due])));
        for run in self.runs_of(slot) {
            waiting.push(std::mem::take(&mut self.runs[run].backlog));
        }
        for backlog in waiting {
            self.skip_backlog(slot, &backlog, reason, now);
        }
        if !for_good {
            let goes_on = |it: &Submission| it.on_request;
            if queue.iter().any(goes_on) {
                let (kept, rest) = queue.into_iter().partition(goes_on);
                self.jobs[slot].extras().queue = kept;
                queue = rest;
            }
        }
        for submission in queue {
            self.skip_submission(slot, submission, reason, now);
        }
        self.skip_waiting_runs(slot, reason, for_good, now);
    }

    pub(super) fn skip_backlog(
        &mut self,
        slot: u32,
        backlog: &VecDeque<Due>,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        if let (Some(first), Some(last)) = (backlog.front(), backlog.back()) {
            let (first, last) = (first.fire_time, last.fire_time);
            let fire_times = FireTimes { first, last, count: backlog.len() as u64 };
            self.skip(slot, None, fire_times, reason, now);
        }
    }

    /// Takes a job out of service; it is over when none of its runs is going.
    pub(super) fn retire(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let reason = match end {
            End::ShutDown => SkipReason::Shutdown,
            End::Replaced => SkipReason::Replaced,
            _ => SkipReason::Removed,
        };
        let job = &self.jobs[slot];
        let paused = job.paused && !job.is_durable();
        self.skip_due(slot, if paused { SkipReason::Paused } else { reason }, now, now);
        self.skip_waiting(slot, reason, true, now);
        let again = self.jobs[slot].extras.as_mut().and_then(|extras| extras.again.take());
        if let Some(at) = again.filter(|&at| at <= now) {
            self.skip(slot, None, FireTimes::one(at), reason, now);
        }
        let cancel = matches!(end, End::Cancelled | End::Replaced);
        let job = &mut self.jobs[slot];
        job.payload.set_standing(Some(reason));
        job.retired = true;
        self.unname(slot);
        let job = &mut self.jobs[slot];
        if !matches!(end, End::ShutDown) {
            self.effects.retire(job.payload.clone());
            let store = || self.stores.name(job.store());
            self.effects.emit_in(now, EventKind::JobRemoved, store, || EventPayload::JobRemoved {
                job: job.id(self.scheduler, slot),
                end: end.clone(),
            });
        }
        if job.semaphore.in_use() == 0 && !job.is_unacknowledged() {
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
        for run in self.runs_of(slot) {
            self.cancel_run(run);
        }
    }

    /// Lets go of a job that has neither a fire time nor a run left.
    pub(super) fn end_if_over(&mut self, slot: u32, now: DateTime<Utc>) {
        if !self.is_job_over(slot) {
            return;
        }
        let job = &mut self.jobs[slot];
        let end = job.extras.as_mut().and_then(|extras| extras.end.take());
        self.end(slot, end.unwrap_or(End::Completed), now);
    }

    /// Lets go of a job, and of those that followed it and have nothing left to do.
    fn end(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let mut orphans = self.drop_job(slot, end, now);
        // A chain of them may be long, so this is no recursion.
        while let Some(orphan) = orphans.pop() {
            if self.is_job_over(orphan) {
                orphans.extend(self.drop_job(orphan, End::Completed, now));
            }
        }
    }

    /// Whether a job that is there has neither a fire time nor a run left.
    fn is_job_over(&self, slot: u32) -> bool {
        self.jobs.get(slot).is_some_and(|job| {
            job.semaphore.in_use() == 0 && (job.retired || !job.waits()) && !job.is_unacknowledged()
        })
    }

    fn drop_job(&mut self, slot: u32, end: End, now: DateTime<Utc>) -> Vec<u32> {
        self.mark(slot);
        self.unfollow(slot);
        if self.jobs.get(slot).is_some_and(|job| !job.retired) {
            self.unname(slot);
        }
        let Some(mut job) = self.jobs.remove(slot) else { return Vec::new() };
        let id = job.id(self.scheduler, slot);
        if !self.drop_claims(&job) {
            // Other nodes may hold it next.
            let Job { trigger, options, payload, .. } = job;
            options.iter().for_each(|options| self.limits.leave(options));
            self.effects.discard(Discarded::Trigger(trigger));
            self.effects.discard(Discarded::Payload(payload));
            self.deregister_idle_nodes();
            return Vec::new();
        }
        if !job.retired {
            let store = || self.stores.name(job.store());
            self.effects.emit_in(now, EventKind::JobRemoved, store, || EventPayload::JobRemoved {
                job: id.clone(),
                end: end.clone(),
            });
        }
        let history = job.take_history();
        let (declared, key) = (job.take_declared(), job.key(slot));
        if let End::Completed = end
            && declared.is_some()
        {
            self.remember(key, id.clone(), history.clone().unwrap_or_default(), declared, now);
        } else {
            self.effects.discard_all(declared.map(Discarded::Declaration));
            if let Some(history) = history.as_ref().filter(|_| job.given_id().is_some()) {
                self.remember(key, id.clone(), history.clone(), None, now);
            }
        }
        if let Some(options) = job.options {
            self.limits.leave(&options);
            self.effects.discard_options(options);
        }
        // If all jobs go, each goes by itself; who takes a job's place is followed as that was.
        let orphans = match self.retiring_all || matches!(end, End::Replaced) {
            true => Vec::new(),
            false => self.orphans(&id),
        };
        self.effects.end(Ended { payload: job.payload, end, trigger: job.trigger, history });
        self.deregister_idle_nodes();
        orphans
    }

    /// Lets others have the id of a job. Durable jobs have theirs in the store.
    fn unname(&mut self, slot: u32) {
        if let Some(id) = self.jobs[slot].given_id()
            && self.named.get(id) == Some(&slot)
        {
            let id = id.clone();
            self.named.remove(&id);
            shrink(&mut self.named);
        }
    }

    /// Takes all jobs out of service. Says how many there were.
    pub(super) fn retire_all(&mut self, end: &End, now: DateTime<Utc>) -> usize {
        self.retiring_all = true;
        let mut slots = self.live_slots();
        if !matches!(end, End::ShutDown) {
            // It is for the store to remove those that it has.
            slots.retain(|&slot| !self.jobs[slot].is_durable());
        }
        for &slot in &slots {
            // What became of one of them may have ended another.
            if self.jobs.get(slot).is_some_and(|job| !job.retired) {
                self.retire(slot, end.clone(), now);
            }
        }
        self.retiring_all = false;
        slots.len()
    }
}

/// Gives back what a burst has left, once three quarters of it are free.
pub(super) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 && map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}
