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

/// One of the stores of a scheduler, from when it is added to when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoreKey(u32);

/// What the scheduler is to one of its stores.
struct StoreRoom {
    key: StoreKey,
    name: Arc<str>,
    node: Node,
    claims: Claims,
    /// Whether the store is being removed: nothing more of it is taken.
    leaving: bool,
}

/// The room of the stores: for each its node and its claims.
#[derive(Default)]
pub(in crate::core) struct Durable {
    /// In order of their keys. Nearly always there is one, or none.
    rooms: Vec<StoreRoom>,
    /// How many there have been: a key is not used again, since answers may be on their way.
    added: u32,
}

impl Durable {
    fn add(&mut self, name: Arc<str>, node: Node) -> StoreKey {
        let key = StoreKey(self.added);
        self.added += 1;
        self.rooms.push(StoreRoom { key, name, node, claims: Claims::default(), leaving: false });
        key
    }

    fn remove(&mut self, key: StoreKey) {
        self.rooms.retain(|room| room.key != key);
    }

    pub(in crate::core) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    fn get(&self, key: StoreKey) -> Option<&StoreRoom> {
        self.rooms.iter().find(|room| room.key == key)
    }

    fn get_mut(&mut self, key: StoreKey) -> Option<&mut StoreRoom> {
        self.rooms.iter_mut().find(|room| room.key == key)
    }

    fn node(&self, key: StoreKey) -> Option<&Node> {
        self.get(key).map(|room| &room.node)
    }

    fn node_mut(&mut self, key: StoreKey) -> Option<&mut Node> {
        self.get_mut(key).map(|room| &mut room.node)
    }

    fn iter(&self) -> impl Iterator<Item = &StoreRoom> {
        self.rooms.iter()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut StoreRoom> {
        self.rooms.iter_mut()
    }

    /// Notes that rows were closed: there may be room for jobs of any store, since stores share the limits.
    fn note_rows_closed(&mut self) {
        self.rooms.iter_mut().for_each(|room| room.claims.rows_closed = true);
    }

    /// The name of a store, where there is one.
    pub(in crate::core) fn name(&self, key: Option<StoreKey>) -> Option<Arc<str>> {
        self.get(key?).map(|room| room.name.clone())
    }

    fn len(&self) -> usize {
        self.rooms.len()
    }

    fn key_at(&self, index: usize) -> Option<StoreKey> {
        self.rooms.get(index).map(|room| room.key)
    }

    pub(in crate::core) fn keys(&self) -> Vec<StoreKey> {
        self.rooms.iter().map(|room| room.key).collect()
    }

    /// The slot of a job that the node of this store holds.
    fn slot(&self, key: StoreKey, incarnation: Incarnation) -> Option<u32> {
        self.get(key)?.claims.slot(incarnation)
    }

    /// In which of its lives the node of this store is.
    pub(in crate::core) fn epoch(&self, key: StoreKey) -> LeaseEpoch {
        self.node(key).map_or_else(LeaseEpoch::default, |node| node.lease().epoch())
    }

    /// What the node of this store goes by.
    pub(in crate::core) fn lease(&self, key: StoreKey) -> Option<Arc<Lease>> {
        self.node(key).map(|node| node.lease().clone())
    }

    /// How many jobs the nodes have rows of.
    pub(in crate::core) fn claimed_jobs(&self) -> usize {
        self.rooms.iter().map(|room| room.claims.len()).sum()
    }

    /// Moves the clock of a node with the wall clock. Returns by how much its store's clock moved against it.
    pub(in crate::core) fn clock_stepped(
        &mut self,
        key: StoreKey,
        by: TimeDelta,
    ) -> Option<TimeDelta> {
        self.node_mut(key).map(|node| node.clock_stepped(by))
    }

    /// Has each node look for records that the new rules of time zones correct. Returns whether there is a
    /// node.
    pub(in crate::core) fn search_for_corrections(&mut self) -> bool {
        self.rooms.iter_mut().for_each(|room| room.node.search_for_corrections());
        !self.rooms.is_empty()
    }
}
