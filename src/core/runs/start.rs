//! How a run with a permit starts, or waits for its executor and its group.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::{
    ActiveRun, Phase, RunKey, Submission,
    limits::{Slots, Turn},
    semaphore::Permit,
};
use crate::{
    core::{Core, Payload, Start, decide::Due, durable::node::LeaseEpoch},
    event::{EventKind, EventPayload},
    job::RunId,
};

impl<P: Payload> Core<P> {
    /// Begins a run under a permit of its job.
    pub(in crate::core) fn begin(
        &mut self,
        slot: u32,
        permit: Permit,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        self.begin_with(slot, permit, Slots::default(), submission, now)
    }

    /// Like [`begin`](Self::begin), for a run that uses slots already.
    pub(super) fn begin_with(
        &mut self,
        slot: u32,
        permit: Permit,
        slots: Slots,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        let Submission { id, due, coalesced, on_request, backlog, preceding, .. } = submission;
        let id = id.unwrap_or_else(|| self.run_id(slot, due));
        let (job, common) = self.registry.job_mut(slot);
        let (attempt, fence) = job.row_of(id, due.fire_time).unwrap_or((1, 0));
        let older = job.runs.newest;
        let epoch = job.store().map_or_else(LeaseEpoch::default, |store| self.durable.epoch(store));
        let run = self.runs.active.insert_with(|_| ActiveRun {
            id,
            job: slot,
            due,
            coalesced,
            on_request,
            attempt,
            phase: Phase::Started,
            cancelled: false,
            distrusted: false,
            fence,
            epoch,
            permit,
            slots,
            options: None,
            backlog,
            preceding,
            last: None,
            older,
            newer: None,
        });
        if let Some(older) = job.runs.newest.replace(run) {
            self.runs.active[older].newer = Some(run);
        }
        self.runs.metrics.submitted += 1;
        let store = || self.durable.name(job.store());
        self.effects.emit_in(now, EventKind::Submitted, store, || EventPayload::Submitted {
            job: job.id(common, slot),
            run: id,
            fire_time: due.fire_time,
            on_request,
        });
        self.try_start(run);
        id
    }

    /// Returns the number of a run for this fire time.
    pub(super) fn run_id(&mut self, slot: u32, due: Due) -> RunId {
        self.registry[slot].durable_run(due).unwrap_or_else(|| {
            self.runs.last_id += 1;
            RunId(self.runs.last_id)
        })
    }

    /// Starts a run, or has it wait until every limit has a free slot.
    pub(super) fn try_start(&mut self, run: u32) {
        let active = &mut self.runs.active[run];
        let job = &self.registry[active.job];
        if active.last.is_some()
            && let Some(store) = job.store()
        {
            // The lease may have lapsed and been renewed while the run waited.
            active.epoch.lapses = self.durable.epoch(store).lapses;
        }
        // A run keeps the options of its first start.
        let options = match active.last {
            None => &job.options,
            Some(_) => &active.options,
        };
        let slots = match active.slots {
            none if none == Slots::default() => self
                .runs
                .limits
                .try_acquire_slots(options.as_ref().unwrap_or(self.registry.defaults())),
            slots => Ok(slots),
        };
        match slots {
            Err(limit) => {
                let priority = options.as_ref().unwrap_or(self.registry.defaults()).priority;
                active.phase = Phase::Waiting { limit, priority };
                let turn = turn(active, priority, job.incarnation);
                self.runs.limits.wait(limit, turn, run, active.on_request || active.attempt > 1);
            }
            Ok(slots) => {
                let options = options.clone();
                active.options = options.clone();
                active.slots = slots;
                active.phase = Phase::Started;
                self.effects.start(Start {
                    run: RunKey { slot: run, id: active.id },
                    job: job.id(self.registry.common(), active.job),
                    fire_time: active.due.fire_time,
                    due: active.due.at,
                    coalesced: active.coalesced,
                    on_request: active.on_request,
                    attempt: active.attempt,
                    incarnation: job.incarnation,
                    fence: active.fence,
                    lease: job
                        .store()
                        .filter(|_| active.fence > 0)
                        .and_then(|store| self.durable.lease(store)),
                    epoch: active.epoch,
                    preceding: active.preceding.clone(),
                    options,
                    payload: job.payload.clone(),
                });
            }
        }
    }

    /// Queues the runs of a job that wait for a limit again, by the job's new options.
    pub(in crate::core) fn requeue_waiting(&mut self, slot: u32) {
        for run in self.runs_of(slot) {
            let active = &self.runs.active[run];
            if let Phase::Waiting { limit, priority } = active.phase
                && (!self.paused || active.on_request || active.attempt > 1)
            {
                let turn = turn(active, priority, self.registry[slot].incarnation);
                self.runs.limits.stop_waiting(limit, turn);
                self.try_start(run);
            }
        }
    }

    /// Frees the slots of a run, and starts the next waiting runs.
    pub(super) fn free_slots(&mut self, slots: Slots) {
        for limit in slots.iter() {
            self.runs.limits.give_back(limit);
            self.serve(limit);
        }
    }

    /// Starts the runs that wait for a limit, while slots are free.
    pub(in crate::core) fn serve(&mut self, limit: u32) {
        while let Some(run) = self.runs.limits.next(limit, self.paused) {
            self.try_start(run);
        }
    }
}

/// Returns the place of a run among those that wait for a limit.
pub(super) fn turn(run: &ActiveRun, priority: i32, incarnation: u64) -> Turn {
    (run.due.fire_time, Reverse(priority), incarnation, run.id)
}
