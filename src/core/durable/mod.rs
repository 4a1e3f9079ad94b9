//! The stores of a scheduler: for each its node and its claims.

pub(in crate::core) mod allowance;
pub(in crate::core) mod claims;
pub(in crate::core) mod node;
mod removal;

use std::sync::Arc;

use chrono::TimeDelta;

use self::claims::Claims;
use crate::{
    core::durable::node::{Lease, LeaseEpoch, Node},
    ledger::Incarnation,
};

/// The key of a store of a scheduler, valid from its addition to its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoreKey(u32);

/// The state of the scheduler in one of its stores.
struct StoreState {
    key: StoreKey,
    name: Arc<str>,
    node: Node,
    claims: Claims,
    /// Whether the store is being removed: nothing more of it is claimed.
    leaving: bool,
}

/// The stores of a scheduler: for each its node and its claims.
#[derive(Default)]
pub(in crate::core) struct Durable {
    /// In order of their keys. Nearly always one, or none.
    stores: Vec<StoreState>,
    /// How many stores were ever added: a key is not reused, since replies may be in flight.
    added: u32,
}

impl Durable {
    fn add(&mut self, name: Arc<str>, node: Node) -> StoreKey {
        let key = StoreKey(self.added);
        self.added += 1;
        self.stores.push(StoreState { key, name, node, claims: Claims::default(), leaving: false });
        key
    }

    fn remove(&mut self, key: StoreKey) {
        self.stores.retain(|room| room.key != key);
    }

    pub(in crate::core) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    fn get(&self, key: StoreKey) -> Option<&StoreState> {
        self.stores.iter().find(|room| room.key == key)
    }

    fn get_mut(&mut self, key: StoreKey) -> Option<&mut StoreState> {
        self.stores.iter_mut().find(|room| room.key == key)
    }

    fn node(&self, key: StoreKey) -> Option<&Node> {
        self.get(key).map(|room| &room.node)
    }

    fn node_mut(&mut self, key: StoreKey) -> Option<&mut Node> {
        self.get_mut(key).map(|room| &mut room.node)
    }

    fn iter(&self) -> impl Iterator<Item = &StoreState> {
        self.stores.iter()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut StoreState> {
        self.stores.iter_mut()
    }

    /// Notes that rows were closed. Jobs of any store may have room now, since stores share the
    /// limits.
    fn note_rows_closed(&mut self) {
        self.stores.iter_mut().for_each(|room| room.claims.rows_closed = true);
    }

    /// Returns the name of a store, if the store exists.
    pub(in crate::core) fn name(&self, key: Option<StoreKey>) -> Option<Arc<str>> {
        self.get(key?).map(|room| room.name.clone())
    }

    fn len(&self) -> usize {
        self.stores.len()
    }

    fn key_at(&self, index: usize) -> Option<StoreKey> {
        self.stores.get(index).map(|room| room.key)
    }

    pub(in crate::core) fn keys(&self) -> Vec<StoreKey> {
        self.stores.iter().map(|room| room.key).collect()
    }

    /// Returns the slot of a job that the node of this store has claimed.
    fn slot(&self, key: StoreKey, incarnation: Incarnation) -> Option<u32> {
        self.get(key)?.claims.slot(incarnation)
    }

    /// Returns the epoch of the lease of this store's node.
    pub(in crate::core) fn epoch(&self, key: StoreKey) -> LeaseEpoch {
        self.node(key).map_or_else(LeaseEpoch::default, |node| node.lease().epoch())
    }

    /// Returns the lease of this store's node.
    pub(in crate::core) fn lease(&self, key: StoreKey) -> Option<Arc<Lease>> {
        self.node(key).map(|node| node.lease().clone())
    }

    /// Returns how many jobs the nodes have claimed.
    pub(in crate::core) fn claimed_jobs(&self) -> usize {
        self.stores.iter().map(|room| room.claims.len()).sum()
    }

    /// Moves the clock of a node with the wall clock. Returns by how much its store's clock moved
    /// against it.
    pub(in crate::core) fn clock_stepped(
        &mut self,
        key: StoreKey,
        by: TimeDelta,
    ) -> Option<TimeDelta> {
        self.node_mut(key).map(|node| node.clock_stepped(by))
    }

    /// Has each node search for records that the new rules of time zones correct. Returns whether
    /// there is a node.
    pub(in crate::core) fn search_for_corrections(&mut self) -> bool {
        self.stores.iter_mut().for_each(|room| room.node.search_for_corrections());
        !self.stores.is_empty()
    }
}
