//! Removing one store while the scheduler goes on: its jobs stay in it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    core::{Core, Payload, RunKey, StoreKey, durable::node::Node},
    event::EventPayload,
    job::End,
};

impl<P: Payload> Core<P> {
    /// Claims nothing more of a store, and releases what has not started; the node leaves once nothing of
    /// the store's jobs is going.
    pub(crate) fn retire_store(&mut self, store: StoreKey, now: DateTime<Utc>) {
        let Some(room) = self.durable.get_mut(store) else { return };
        room.leaving = true;
        for slot in self.slots_of(store) {
            // What became of one of them may have ended another.
            if self.registry.get(slot).is_some_and(|job| !job.retired) {
                self.retire(slot, End::ShutDown, now);
            }
        }
        self.deregister_idle_nodes();
        self.effects.poll_stores();
    }

    /// Wakes whoever removes this store: it may wait for what has just happened.
    pub(in crate::core) fn wake_store_removal(&mut self, store: StoreKey) {
        if self.durable.get(store).is_some_and(|room| room.leaving) {
            self.effects.wake_store_removal();
        }
    }

    /// The runs of a store's jobs that are going.
    pub(crate) fn active_runs_in(&self, store: StoreKey) -> Vec<RunKey> {
        let of = |run: &RunKey| self.runs.job_of(*run).and_then(|slot| self.registry[slot].store());
        self.runs.keys().filter(|run| of(run) == Some(store)).collect()
    }

    /// Asks them to stop; says how long the most patient job lets its runs go on.
    pub(crate) fn cancel_store(&mut self, store: StoreKey) -> Duration {
        let active = self.active_runs_in(store);
        self.runs.cancel_all(active, &[], self.registry.defaults(), &mut self.effects)
    }

    /// Whether the store has been told everything, and that the node leaves.
    pub(crate) fn has_left_store(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_none_or(Node::has_left)
    }

    /// Knows a store no longer. Says how many outcomes of runs it has not been told.
    pub(crate) fn drop_store(&mut self, store: StoreKey, now: DateTime<Utc>) -> usize {
        let pending_outcomes = self.durable.node(store).map_or(0, Node::pending_outcomes);
        for slot in self.slots_of(store) {
            // It does not answer, and is not asked again.
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
