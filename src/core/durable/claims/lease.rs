//! Whether the node takes itself for alive, and what it does when it does not.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{Core, Payload, RunResult, StoreKey, decide::Due, runs::Phase},
    event::EventPayload,
    job::{Outcome, SkipReason},
};

impl<P: Payload> Core<P> {
    /// The store's clock moved by so much against the one here.
    pub(in crate::core) fn shift_claims(&mut self, store: StoreKey, by: TimeDelta) {
        for slot in self.slots_of(store) {
            let shifted = |due: &mut Due| {
                due.at = due.at.checked_add_signed(by).unwrap_or(due.at);
            };
            let job = &mut self.jobs[slot];
            let upcoming = job.durable_mut().map(|durable| durable.upcoming.iter_mut());
            upcoming.into_iter().flatten().for_each(|upcoming| shifted(&mut upcoming.due));
            job.extras.iter_mut().flat_map(|extras| extras.waiting()).for_each(shifted);
            job.extras.iter_mut().flat_map(|extras| extras.requested()).for_each(shifted);
            for run in self.runs_of(slot) {
                let run = &mut self.runs[run];
                shifted(&mut run.due);
                run.backlog.iter_mut().for_each(shifted);
            }
            self.arm_claims(slot);
        }
    }

    /// The scheduler is paused: others may run what it has taken and not started.
    pub(in crate::core) fn release_unstarted(&mut self, now: DateTime<Utc>) {
        for store in self.stores.keys() {
            for slot in self.slots_of(store) {
                self.skip_unstarted(slot, SkipReason::Paused, now);
            }
        }
    }

    /// The jobs that the node of this store holds.
    pub(in crate::core) fn slots_of(&self, store: StoreKey) -> Vec<u32> {
        let claims = self.stores.get(store).map(|room| &room.claims);
        let mut slots: Vec<u32> =
            claims.into_iter().flat_map(|claims| claims.slots.values().copied()).collect();
        slots.sort_unstable();
        slots
    }

    /// The node believes itself again: what came due meanwhile is looked at.
    pub(in crate::core) fn lease_renewed(&mut self, store: StoreKey, now: DateTime<Utc>) {
        for slot in self.slots_of(store) {
            if std::mem::take(&mut self.jobs[slot].deferred) {
                self.mark(slot);
                self.end_if_over(slot, now);
            }
        }
    }

    /// The node does not believe itself any more: runs are asked to stop that another node may start
    /// again, or beside which it may start others.
    pub(in crate::core) fn lease_lapsed(&mut self, store: StoreKey, now: DateTime<Utc>) {
        self.note_of(store, now, |store| EventPayload::LeaseLapsed { store });
        for slot in self.slots_of(store) {
            self.cancel_unsafe_runs(slot);
        }
    }

    fn cancel_unsafe_runs(&mut self, slot: u32) {
        let job = &self.jobs[slot];
        let alone = job.options(&self.defaults).max_instances == 1;
        if !alone
            && !job.durable().is_some_and(|durable| durable.open.values().any(|open| open.recover))
        {
            return;
        }
        for run in self.runs_of(slot) {
            let going = &mut self.runs[run];
            if matches!(going.phase, Phase::Started) && !going.cancelled {
                going.distrusted = true;
                self.cancel_run(run);
            }
        }
    }

    /// The store takes the node for dead: what it has taken is others' now, or abandoned. Runs that
    /// have started may still tell how they end.
    pub(in crate::core) fn lease_lost(&mut self, store: StoreKey, now: DateTime<Utc>) {
        self.note_of(store, now, |store| EventPayload::LeaseLost { store });
        for slot in self.slots_of(store) {
            self.lose_rows(slot, now);
        }
    }

    /// Others have closed, or taken, the rows that this node had of a job.
    pub(in crate::core) fn lose_rows(&mut self, slot: u32, now: DateTime<Utc>) {
        self.cancel_unsafe_runs(slot);
        let mut going = Vec::new();
        for run in self.runs_of(slot) {
            let run = &mut self.runs[run];
            run.backlog.clear();
            if let Phase::Started = run.phase {
                going.push((run.id, run.due.fire_time));
            }
        }
        let job = &mut self.jobs[slot];
        let queue = job.extras.as_mut().map(|extras| std::mem::take(&mut extras.queue));
        for (permit, _) in job.take_parked() {
            job.semaphore.release(permit);
        }
        if let Some(durable) = job.durable_mut() {
            durable.upcoming.clear();
            let going: Vec<_> =
                going.into_iter().filter_map(|(run, at)| durable.row_of(run, at)).collect();
            let before = durable.open.len();
            durable.open.retain(|row, _| going.contains(row));
            durable.open.values_mut().for_each(|open| open.lost = true);
            self.count_open(slot, before);
        }
        drop(queue);
        self.arm_claims(slot);
        for run in self.runs_of(slot) {
            if !matches!(self.runs[run].phase, Phase::Started) {
                self.conclude(run, RunResult::without_work(Outcome::Abandoned, now), now);
            }
        }
        self.end_if_over(slot, now);
    }
}
