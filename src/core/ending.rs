//! How jobs end: taken out of service, and dropped when none of their runs is active.

use chrono::{DateTime, Utc};

use super::{Core, Discarded, Ended, Job, Payload};
use crate::{
    event::{EventKind, EventPayload},
    job::{End, FireTimes, SkipReason},
};

impl<P: Payload> Core<P> {
    /// Takes a job out of service; the job is over when none of its runs is active.
    pub(in crate::core) fn retire(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let reason = match end {
            End::ShutDown => SkipReason::Shutdown,
            End::Replaced => SkipReason::Replaced,
            _ => SkipReason::Removed,
        };
        let job = &self.registry[slot];
        let paused = job.paused && !job.is_durable();
        self.skip_due(slot, if paused { SkipReason::Paused } else { reason }, now, now);
        self.skip_waiting(slot, reason, true, now);
        let again = self.registry[slot].extras.as_mut().and_then(|extras| extras.again.take());
        if let Some(at) = again.filter(|&at| at <= now) {
            self.skip(slot, None, FireTimes::one(at), reason, now);
        }
        let cancel = matches!(end, End::Cancelled | End::Replaced);
        let job = &mut self.registry[slot];
        job.payload.set_standing(Some(reason));
        job.retired = true;
        self.registry.unname(slot);
        let (job, common) = self.registry.job_mut(slot);
        if !matches!(end, End::ShutDown) {
            self.effects.retire(job.payload.clone());
            let store = || self.durable.name(job.store());
            self.effects.emit_in(now, EventKind::JobRemoved, store, || EventPayload::JobRemoved {
                job: job.id(common, slot),
                end: end.clone(),
            });
        }
        if job.runs.active() == 0 && !job.is_unacknowledged() {
            self.end(slot, end, now);
            return;
        }
        job.extras().end = Some(end);
        if cancel {
            self.cancel_runs(slot);
        }
        self.mark(slot);
    }

    /// Cancels the runs of a job.
    pub(in crate::core) fn cancel_runs(&mut self, slot: u32) {
        for run in self.runs_of(slot) {
            self.cancel_run(run);
        }
    }

    /// Drops a job that has neither a fire time nor a run left.
    pub(in crate::core) fn end_if_over(&mut self, slot: u32, now: DateTime<Utc>) {
        if !self.is_job_over(slot) {
            return;
        }
        let job = &mut self.registry[slot];
        let end = job.extras.as_mut().and_then(|extras| extras.end.take());
        self.end(slot, end.unwrap_or(End::Completed), now);
    }

    /// Drops a job, and the jobs that followed it and have nothing left to do.
    pub(in crate::core) fn end(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let mut orphans = self.drop_job(slot, end, now);
        // The chain of followers may be long, so this is no recursion.
        while let Some(orphan) = orphans.pop() {
            if self.is_job_over(orphan) {
                orphans.extend(self.drop_job(orphan, End::Completed, now));
            }
        }
    }

    /// Whether a job exists that has neither a fire time nor a run left.
    pub(in crate::core) fn is_job_over(&self, slot: u32) -> bool {
        self.registry.get(slot).is_some_and(|job| {
            job.runs.active() == 0 && (job.retired || !job.waits()) && !job.is_unacknowledged()
        })
    }

    pub(in crate::core) fn drop_job(
        &mut self,
        slot: u32,
        end: End,
        now: DateTime<Utc>,
    ) -> Vec<u32> {
        self.mark(slot);
        self.registry.unfollow(slot, &mut self.effects);
        if self.registry.get(slot).is_some_and(|job| !job.retired) {
            self.registry.unname(slot);
        }
        let Some(mut job) = self.registry.remove(slot) else { return Vec::new() };
        let id = job.id(self.registry.common(), slot);
        if !self.drop_claims(&job) {
            // Other nodes may claim the job next.
            let Job { trigger, options, payload, .. } = job;
            options.iter().for_each(|options| self.runs.limits_mut().leave(options));
            self.effects.discard(Discarded::Trigger(trigger));
            self.effects.discard(Discarded::Payload(payload));
            self.deregister_idle_nodes();
            return Vec::new();
        }
        if !job.retired {
            let store = || self.durable.name(job.store());
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
            let history = history.clone().unwrap_or_default();
            self.registry.remember(key, id.clone(), history, declared, now, &mut self.effects);
        } else {
            self.effects.discard_all(declared.map(Discarded::Declaration));
            if let Some(history) = history.as_ref().filter(|_| job.given_id().is_some()) {
                let history = history.clone();
                self.registry.remember(key, id.clone(), history, None, now, &mut self.effects);
            }
        }
        if let Some(options) = job.options {
            self.runs.limits_mut().leave(&options);
            self.effects.discard_options(options);
        }
        // If all jobs go, each is dropped by itself; the followers of a replaced job follow its
        // replacement.
        let orphans = if self.retiring_all || matches!(end, End::Replaced) {
            Vec::new()
        } else {
            self.registry.orphans(&id, &mut self.effects)
        };
        self.effects.end(Ended { payload: job.payload, end, trigger: job.trigger, history });
        self.deregister_idle_nodes();
        orphans
    }

    /// Takes all jobs out of service. Returns how many there were.
    pub(in crate::core) fn retire_all(&mut self, end: &End, now: DateTime<Utc>) -> usize {
        self.retiring_all = true;
        let mut slots = self.registry.live_slots();
        if !matches!(end, End::ShutDown) {
            // The store removes the jobs that it keeps.
            slots.retain(|&slot| !self.registry[slot].is_durable());
        }
        for &slot in &slots {
            // The end of one job may have ended another.
            if self.registry.get(slot).is_some_and(|job| !job.retired) {
                self.retire(slot, end.clone(), now);
            }
        }
        self.retiring_all = false;
        slots.len()
    }
}
