//! What happens to claimed rows when the lease lapses, is renewed, or is lost.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{Core, Payload, RunResult, StoreKey, decide::Due},
    event::EventPayload,
    job::{Outcome, SkipReason},
};

impl<P: Payload> Core<P> {
    /// Moves the due instants of a store's jobs after the store's clock moved against the wall
    /// clock.
    pub(in crate::core) fn shift_claims(&mut self, store: StoreKey, by: TimeDelta) {
        for slot in self.slots_of(store) {
            let shifted = |due: &mut Due| {
                due.at = due.at.checked_add_signed(by).unwrap_or(due.at);
            };
            let job = &mut self.registry[slot];
            let upcoming = job.durable_mut().map(|durable| durable.upcoming.iter_mut());
            upcoming.into_iter().flatten().for_each(|upcoming| shifted(&mut upcoming.due));
            job.extras.iter_mut().flat_map(|extras| extras.waiting()).for_each(shifted);
            job.extras.iter_mut().flat_map(|extras| extras.runs.requested()).for_each(shifted);
            for run in self.runs_of(slot) {
                self.runs.shift_due(run, shifted);
            }
            self.arm_claims(slot);
        }
    }

    /// Releases the unstarted rows of all durable jobs, since the scheduler is paused and other
    /// nodes may run them.
    pub(in crate::core) fn release_unstarted(&mut self, now: DateTime<Utc>) {
        for store in self.durable.keys() {
            for slot in self.slots_of(store) {
                self.skip_unstarted(slot, SkipReason::Paused, now);
            }
        }
    }

    /// Returns the slots of the jobs of which the node of this store has claimed rows.
    pub(in crate::core) fn slots_of(&self, store: StoreKey) -> Vec<u32> {
        let claims = self.durable.get(store).map(|room| &room.claims);
        let mut slots: Vec<u32> =
            claims.into_iter().flat_map(|claims| claims.slots.values().copied()).collect();
        slots.sort_unstable();
        slots
    }

    /// Wakes the jobs that came due while the lease had lapsed, since it is renewed.
    pub(in crate::core) fn lease_renewed(&mut self, store: StoreKey, now: DateTime<Utc>) {
        for slot in self.slots_of(store) {
            if self.registry[slot].timing.resume() {
                self.mark(slot);
                self.end_if_over(slot, now);
            }
        }
    }

    /// Handles a lapsed lease: cancels the runs that another node may start again, and the runs of
    /// jobs of which it may start others.
    pub(in crate::core) fn lease_lapsed(&mut self, store: StoreKey, now: DateTime<Utc>) {
        self.note_of(store, now, |store| EventPayload::LeaseLapsed { store });
        for slot in self.slots_of(store) {
            self.cancel_unsafe_runs(slot);
        }
    }

    fn cancel_unsafe_runs(&mut self, slot: u32) {
        let job = &self.registry[slot];
        let alone = job.options(self.registry.common()).max_instances == 1;
        if !alone
            && !job.durable().is_some_and(|durable| durable.open.values().any(|open| open.recover))
        {
            return;
        }
        for run in self.runs_of(slot) {
            self.runs.cancel_distrusted(run, &mut self.effects);
        }
    }

    /// Handles the expiry of the node: its rows were reclaimed by other nodes, or are abandoned.
    /// Started runs still report their outcomes.
    pub(in crate::core) fn lease_lost(&mut self, store: StoreKey, now: DateTime<Utc>) {
        self.note_of(store, now, |store| EventPayload::LeaseLost { store });
        for slot in self.slots_of(store) {
            self.lose_rows(slot, now);
        }
    }

    /// Drops the rows of a job that other nodes have closed or claimed.
    pub(in crate::core) fn lose_rows(&mut self, slot: u32, now: DateTime<Utc>) {
        self.cancel_unsafe_runs(slot);
        let mut active = Vec::new();
        for run in self.runs_of(slot) {
            drop(self.runs.take_backlog(run));
            if self.runs.is_started(run) {
                let (row, _) = self.runs.with_backlog(run);
                active.push((row.id, row.due.fire_time));
            }
        }
        let job = &mut self.registry[slot];
        job.drop_waiting();
        if let Some(durable) = job.durable_mut() {
            durable.upcoming.clear();
            let active: Vec<_> =
                active.into_iter().filter_map(|(run, at)| durable.row_of(run, at)).collect();
            let before = durable.open.len();
            durable.open.retain(|row, _| active.contains(row));
            durable.open.values_mut().for_each(|open| open.lost = true);
            self.count_open(slot, before);
        }
        self.arm_claims(slot);
        for run in self.runs_of(slot) {
            if !self.runs.is_started(run) {
                self.conclude(run, RunResult::without_work(Outcome::Abandoned, now), now);
            }
        }
        self.end_if_over(slot, now);
    }
}
