//! Waking: which fire times are due, their fates, and when a job wakes next.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::decide::Plan;
use crate::{
    core::{Core, Payload, Submission},
    error::Error,
    event::{EventKind, EventPayload},
    job::{End, SkipReason},
    ledger::Fate,
    trigger::Kind,
};

impl<P: Payload> Core<P> {
    /// Returns when the job in this slot must be woken.
    pub(crate) fn wake_at(&mut self, slot: u32) -> Option<DateTime<Utc>> {
        let job = self.registry.get_mut(slot)?;
        job.timing.dirty = false;
        let wake_at = job.wake_at();
        job.timing.armed = wake_at.is_some();
        wake_at
    }

    /// Sorts slots in the order in which their jobs start: by fire time, then priority, then the
    /// order of adding.
    pub(crate) fn sort(&self, slots: &mut [u32]) {
        let mut keyed: Vec<_> = slots
            .iter()
            .map(|&slot| match self.registry.get(slot) {
                Some(job) => {
                    let fire_time = job.next_fire().map_or(i64::MAX, |t| t.timestamp_millis());
                    let priority = job.options(self.registry.common()).priority;
                    (fire_time, Reverse(priority), job.incarnation, slot)
                }
                None => (i64::MAX, Reverse(0), 0, slot),
            })
            .collect();
        keyed.sort_unstable();
        for (slot, (.., sorted)) in slots.iter_mut().zip(keyed) {
            *slot = sorted;
        }
    }

    /// Wakes jobs that may be due at `now`.
    ///
    /// Returns how many slots were handled. Stops early if counting the fire times of outages takes
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
            if let Some(job) = self.registry.get_mut(slot) {
                // The timer has expired. If it was set again since, it expires once without effect.
                job.timing.armed = false;
                counted += self.wake_one(slot, now);
            }
        }
        self.effects.sort_starts(first_start, self.registry.defaults());
        woken
    }

    /// Wakes one job that may be due. Returns how many fire times had to be counted.
    pub(in crate::core) fn wake_one(&mut self, slot: u32, now: DateTime<Utc>) -> u64 {
        self.retry_due(slot, now);
        self.run_again(slot, now);
        let job = &mut self.registry[slot];
        let carried = job.carried().iter().any(|carried| carried.at <= now);
        let next = job.awaited().filter(|next| next.at <= now);
        if next.is_none() && !carried {
            self.mark(slot);
            return 0;
        }
        if self.paused {
            job.timing.deferred = true;
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
        let (plan, after) = self.registry.planner(slot).plan(next, now);
        let job = &self.registry[slot];
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

    /// Sets the next fire time.
    pub(in crate::core) fn set_next(&mut self, slot: u32, next: Option<DateTime<Utc>>) {
        let next = next.map(|next| self.registry.planner(slot).due(next));
        self.registry[slot].timing.next = next;
        self.mark(slot);
    }

    /// Has the driver look up when the job wakes, unless it has no timer for the job and needs
    /// none.
    pub(in crate::core) fn mark(&mut self, slot: u32) {
        let job = &mut self.registry[slot];
        if !job.timing.dirty && (job.timing.armed || job.wake_at().is_some()) {
            job.timing.dirty = true;
            self.effects.rearm(slot);
        }
    }

    /// Sets the next fire time, or ends the schedule if the trigger failed.
    pub(in crate::core) fn go_on(
        &mut self,
        slot: u32,
        next: Result<Option<DateTime<Utc>>, Error>,
        now: DateTime<Utc>,
    ) {
        match next {
            Ok(next) => self.set_next(slot, next),
            Err(error) => {
                self.set_next(slot, None);
                self.registry[slot].extras().end = Some(End::TriggerFailed(error.clone()));
                let what = EventPayload::TriggerFailed { job: self.registry.id(slot), error };
                self.note(now, what);
            }
        }
    }

    /// Carries out the plan for a job.
    pub(in crate::core) fn carry_out(&mut self, slot: u32, plan: Plan, now: DateTime<Utc>) {
        let Plan { missed, coalesced, run, .. } = plan;
        if self.registry[slot].is_durable() {
            if let Some(fire_times) = missed {
                self.close_stretch(slot, fire_times, &Fate::Missed, now);
            }
            if let Some((fire_times, into)) = coalesced {
                self.close_stretch(slot, fire_times, &Fate::Coalesced(into), now);
            }
        }
        let job = &self.registry[slot];
        if let Some(fire_times) = missed {
            self.runs.count_missed(fire_times.count);
            let store = || self.durable.name(job.store());
            self.effects.emit_in(now, EventKind::Missed, store, || EventPayload::Missed {
                job: job.id(self.registry.common(), slot),
                run: None,
                fire_times,
            });
        }
        if let Some((fire_times, into)) = coalesced {
            self.runs.count_coalesced(fire_times.count);
            let store = || self.durable.name(job.store());
            self.effects.emit_in(now, EventKind::Coalesced, store, || EventPayload::Coalesced {
                job: job.id(self.registry.common(), slot),
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

    /// Submits runs for due fire times of earlier triggers.
    fn run_carried(&mut self, slot: u32, now: DateTime<Utc>) {
        for due in self.registry[slot].take_carried(now) {
            self.submit(slot, Submission::of(due), now);
        }
    }

    /// Keeps the next fire time of a job that is being rescheduled if the fire time has come and
    /// waits only for its jitter.
    pub(in crate::core) fn carry_due(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.registry[slot];
        if job.paused || job.once || self.paused || job.is_durable() {
            return;
        }
        if let Some(due) = job.timing.next.filter(|next| next.fire_time <= now) {
            let next = job.trigger.next_after(due.fire_time);
            self.go_on(slot, next, now);
            self.registry[slot].carry(due);
        }
    }

    /// Skips all fire times up to `last` that have no fate yet.
    pub(in crate::core) fn skip_due(
        &mut self,
        slot: u32,
        reason: SkipReason,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let job = &self.registry[slot];
        if job.is_durable() {
            self.skip_upcoming(slot, reason, now);
            return;
        }
        let passed = job
            .timing
            .next
            .and_then(|next| self.registry.planner(slot).passed(next.fire_time, last));
        if let Some(fire_times) = passed {
            self.skip(slot, None, fire_times, reason, now);
            let next = self.registry[slot].trigger.next_after(fire_times.last);
            self.go_on(slot, next, now);
        }
    }
}
