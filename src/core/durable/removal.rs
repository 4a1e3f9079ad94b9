//! Removing one store from a running scheduler: its jobs stay in it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    core::{Core, Payload, RunKey, StoreKey, durable::node::Node},
    event::EventPayload,
    job::End,
};

impl<P: Payload> Core<P> {
    /// Claims nothing more of a store, and releases unstarted rows; the node deregisters once none
    /// of the store's jobs is active.
    pub(crate) fn retire_store(&mut self, store: StoreKey, now: DateTime<Utc>) {
        let Some(room) = self.durable.get_mut(store) else { return };
        room.leaving = true;
        for slot in self.slots_of(store) {
            // The end of one job may have ended another.
            if self.registry.get(slot).is_some_and(|job| !job.retired) {
                self.retire(slot, End::ShutDown, now);
            }
        }
        self.deregister_idle_nodes();
        self.effects.poll_stores();
    }

    /// Wakes the callers that remove this store, since they may wait for the last input.
    pub(in crate::core) fn wake_store_removal(&mut self, store: StoreKey) {
        if self.durable.get(store).is_some_and(|room| room.leaving) {
            self.effects.wake_store_removal();
        }
    }

    /// Returns the active runs of a store's jobs.
    pub(crate) fn active_runs_in(&self, store: StoreKey) -> Vec<RunKey> {
        let of = |run: &RunKey| self.runs.job_of(*run).and_then(|slot| self.registry[slot].store());
        self.runs.keys().filter(|run| of(run) == Some(store)).collect()
    }

    /// Cancels these runs. Returns the longest cancel grace of their jobs.
    pub(crate) fn cancel_store(&mut self, store: StoreKey) -> Duration {
        let active = self.active_runs_in(store);
        self.runs.cancel_all(active, &[], self.registry.defaults(), &mut self.effects)
    }

    /// Whether the store has acknowledged everything, including that the node deregisters.
    pub(crate) fn has_left_store(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_none_or(Node::has_left)
    }

    /// Drops a store. Returns the number of its pending outcomes.
    pub(crate) fn drop_store(&mut self, store: StoreKey, now: DateTime<Utc>) -> usize {
        let pending_outcomes = self.durable.node(store).map_or(0, Node::pending_outcomes);
        for slot in self.slots_of(store) {
            // The store does not reply, and gets no further requests.
            if let Some(durable) = self.registry.get_mut(slot).and_then(|job| job.durable_mut()) {
                durable.forget_unacknowledged();
            }
            self.end_if_over(slot, now);
        }
        self.note_of(store, now, |store| EventPayload::StoreRemoved { store });
        self.durable.remove(store);
        pending_outcomes
    }
}
