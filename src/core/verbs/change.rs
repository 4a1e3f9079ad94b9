//! The verbs on one job: pausing, resuming, rescheduling, modifying, removing, running now.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::{
    core::{
        Core, Discarded, JobKey, Payload, Settings, Submission, decide::Due, registry::Batch,
        shut_down,
    },
    error::Error,
    event::{EventKind, EventPayload},
    job::{End, JobOptions, Labels, RunId, SkipReason},
    trigger::Trigger,
};

impl<P: Payload> Core<P> {
    /// Ends a job. Cancelling and replacing also cancel its active runs; removing does not.
    pub(crate) fn remove(
        &mut self,
        key: JobKey,
        end: End,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.live(key)?;
        self.retire(key.slot, end, now);
        Ok(())
    }

    /// Ends a job unless it has ended, and cancels its active runs in any case.
    pub(crate) fn cancel(&mut self, key: JobKey, now: DateTime<Utc>) {
        if self.live(key).is_ok() {
            self.retire(key.slot, End::Cancelled, now);
        } else if self.registry.get(key.slot).is_some_and(|job| job.key(key.slot) == key) {
            self.cancel_runs(key.slot);
        }
    }

    pub(crate) fn pause(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<(), Error> {
        if self.live(key)?.paused {
            return Ok(());
        }
        if !self.is_date(key.slot) {
            self.skip_due(key.slot, SkipReason::Paused, now, now);
        }
        self.skip_waiting(key.slot, SkipReason::Paused, false, now);
        let job = &mut self.registry[key.slot];
        job.paused = true;
        job.payload.set_standing(Some(SkipReason::Paused));
        self.mark(key.slot);
        self.note(now, EventPayload::JobPaused { job: self.registry.id(key.slot) });
        self.end_if_over(key.slot, now);
        Ok(())
    }

    pub(crate) fn resume(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<(), Error> {
        if !self.live(key)?.paused {
            return Ok(());
        }
        // Fire times that passed during the pause are skipped, except a date, which is still due.
        let just_before = now.checked_sub_signed(TimeDelta::nanoseconds(1));
        if let Some(before) = just_before.filter(|_| !self.is_date(key.slot)) {
            self.skip_due(key.slot, SkipReason::Paused, before, now);
        }
        let job = &mut self.registry[key.slot];
        job.paused = false;
        job.payload.set_standing(None);
        let next_fire = job.next_fire();
        let what = EventPayload::JobResumed { job: self.registry.id(key.slot), next_fire };
        self.mark(key.slot);
        self.note(now, what);
        self.end_if_over(key.slot, now);
        Ok(())
    }

    /// Replaces the trigger of a job. Fire times due by the old trigger run unless the scheduler is
    /// paused; all others that have passed are superseded.
    pub(crate) fn reschedule(
        &mut self,
        key: JobKey,
        trigger: Trigger,
        first: Option<DateTime<Utc>>,
        elapsed: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut ready = self.live(key).map(drop);
        if ready.is_ok()
            && let Some(follow) = trigger.follow()
        {
            ready = self.registry.check_follow(
                Some(&self.registry.id(key.slot)),
                follow,
                &Batch::new(),
            );
        }
        if ready.is_ok() {
            self.wake_one(key.slot, now);
            // A date that was due and skipped may have ended the job.
            ready = self.live_again(key).map(drop);
        }
        if let Err(error) = ready {
            self.effects.discard(Discarded::Trigger(trigger));
            return Err(error);
        }
        let reason = if self.registry[key.slot].paused {
            SkipReason::Paused
        } else {
            SkipReason::Superseded
        };
        self.carry_due(key.slot, now);
        self.skip_due(key.slot, reason, now, now);
        self.registry.unfollow(key.slot, &mut self.effects);
        let job = &mut self.registry[key.slot];
        let follow = trigger.follow().cloned();
        let old = std::mem::replace(&mut job.trigger, trigger);
        self.effects.discard(Discarded::Trigger(old));
        job.timing.set_elapsed(elapsed);
        if let Some(extras) = &mut job.extras {
            extras.end = None;
        }
        if let Some(follow) = follow {
            self.registry.follow(key.slot, &follow);
        }
        self.set_next(key.slot, first);
        self.note_modified(key.slot, now);
        self.end_if_over(key.slot, now);
        Ok(())
    }

    /// Changes the options and labels of a job and, if given, the arguments of its task. The fire
    /// times stay. Returns `false` and changes nothing if the settings are not `expected` any more.
    pub(crate) fn modify(
        &mut self,
        key: JobKey,
        expected: &Settings<P>,
        options: Arc<JobOptions>,
        labels: Labels,
        args: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let job = self.live(key)?;
        // A declaration may have changed the work but not the options.
        if !Arc::ptr_eq(job.options(self.registry.common()), &expected.options)
            || !job.payload.is(&expected.payload)
        {
            return Ok(false);
        }
        self.runs.limits().check(&options, job.options.as_deref())?;
        if let Some(args) = args {
            job.payload.set_args(0, args);
        }
        self.set_options(key.slot, Some(options), labels, now);
        Ok(true)
    }

    /// Sets checked options, or the scheduler's defaults, and labels.
    pub(in crate::core) fn set_options(
        &mut self,
        slot: u32,
        options: Option<Arc<JobOptions>>,
        labels: Labels,
        now: DateTime<Utc>,
    ) {
        if let Some(old) = self.registry[slot].options.take() {
            self.runs.limits_mut().leave(&old);
            self.effects.discard_options(old);
        }
        let kept = options.as_ref().unwrap_or(self.registry.defaults()).history;
        let limits = options.as_ref().map(|options| self.runs.limits_mut().join(options));
        let job = &mut self.registry[slot];
        job.trim_history(kept);
        job.options = options;
        if job.extras.is_some() || !labels.is_empty() {
            job.extras().labels = labels;
        }
        if let Some(old) = job.timing.next() {
            // Another jitter moves the due instant, but not to later if it is due already.
            let new = self.registry.planner(slot).due(old.fire_time);
            let next = Due { at: new.at.max(old.at.min(now)), ..new };
            self.registry[slot].timing.set_next(Some(next));
        }
        self.mark(slot);
        self.note_modified(slot, now);
        // There may be more permits, and other limits.
        self.requeue_waiting(slot);
        self.serve_queue(slot, now);
        limits.into_iter().flatten().for_each(|limit| self.serve(limit));
    }

    pub(in crate::core) fn note_modified(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.registry[slot];
        self.effects.emit(now, EventKind::JobModified, || EventPayload::JobModified {
            job: job.id(self.registry.common(), slot),
            next_fire: job.next_fire(),
        });
    }

    /// Starts an extra run with fire time `now`.
    pub(crate) fn run_now(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<RunId, Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.live_again(key)?;
        if self.would_skip(key.slot) {
            let job = &self.registry[key.slot];
            return Err(Error::overlap(format!(
                "job `{}` has {} of {} runs going: wait for one to end, or raise `max_instances`",
                self.registry.id(key.slot),
                job.runs.active(),
                job.options(self.registry.common()).max_instances
            )));
        }
        if self.registry[key.slot].once {
            // The work can run only once, and this is its run.
            self.skip_due(key.slot, SkipReason::Superseded, now, now);
            self.set_next(key.slot, None);
            self.registry.unfollow(key.slot, &mut self.effects);
        }
        let due = Due { fire_time: now.trunc_subsecs(3), at: now };
        let submission = Submission { on_request: true, ..Submission::of(due) };
        self.submit(key.slot, submission, now).ok_or_else(|| Error::overlap("the run was skipped"))
    }
}
