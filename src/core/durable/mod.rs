//! The stores of a scheduler: for each its node, and the jobs that this node holds.

pub(in crate::core) mod claims;
mod removal;

use std::sync::Arc;

use self::claims::Claims;
use crate::{
    core::node::{Life, Node},
    ledger::Incarnation,
};

/// One of the stores of a scheduler, from when it is added to when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoreKey(u32);

/// What the scheduler is to one of its stores.
pub(in crate::core) struct StoreRoom {
    pub(in crate::core) key: StoreKey,
    pub(in crate::core) name: Arc<str>,
    pub(in crate::core) node: Node,
    pub(in crate::core) claims: Claims,
    /// Whether the store is being removed: nothing more of it is taken.
    pub(in crate::core) leaving: bool,
}

#[derive(Default)]
pub(in crate::core) struct Stores {
    /// In order of their keys. Nearly always there is one, or none.
    rooms: Vec<StoreRoom>,
    /// How many there have been: a key is not used again, since answers may be on their way.
    added: u32,
}

impl Stores {
    pub(in crate::core) fn add(&mut self, name: Arc<str>, node: Node) -> StoreKey {
        let key = StoreKey(self.added);
        self.added += 1;
        self.rooms.push(StoreRoom { key, name, node, claims: Claims::default(), leaving: false });
        key
    }

    pub(in crate::core) fn remove(&mut self, key: StoreKey) {
        self.rooms.retain(|room| room.key != key);
    }

    pub(in crate::core) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    pub(in crate::core) fn get(&self, key: StoreKey) -> Option<&StoreRoom> {
        self.rooms.iter().find(|room| room.key == key)
    }

    pub(in crate::core) fn get_mut(&mut self, key: StoreKey) -> Option<&mut StoreRoom> {
        self.rooms.iter_mut().find(|room| room.key == key)
    }

    pub(in crate::core) fn node(&self, key: StoreKey) -> Option<&Node> {
        self.get(key).map(|room| &room.node)
    }

    pub(in crate::core) fn node_mut(&mut self, key: StoreKey) -> Option<&mut Node> {
        self.get_mut(key).map(|room| &mut room.node)
    }

    pub(in crate::core) fn iter(&self) -> impl Iterator<Item = &StoreRoom> {
        self.rooms.iter()
    }

    pub(in crate::core) fn iter_mut(&mut self) -> impl Iterator<Item = &mut StoreRoom> {
        self.rooms.iter_mut()
    }

    /// Fewer rows are open, so there may be room for jobs of any store: limits are those of all alike.
    pub(in crate::core) fn note_rows_closed(&mut self) {
        self.rooms.iter_mut().for_each(|room| room.claims.rows_closed = true);
    }

    /// The name of a store, where there is one.
    pub(in crate::core) fn name(&self, key: Option<StoreKey>) -> Option<Arc<str>> {
        self.get(key?).map(|room| room.name.clone())
    }

    pub(in crate::core) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(in crate::core) fn key_at(&self, index: usize) -> Option<StoreKey> {
        self.rooms.get(index).map(|room| room.key)
    }

    pub(in crate::core) fn keys(&self) -> Vec<StoreKey> {
        self.rooms.iter().map(|room| room.key).collect()
    }

    /// The slot of a job that the node of this store holds.
    pub(in crate::core) fn slot(&self, key: StoreKey, incarnation: Incarnation) -> Option<u32> {
        self.get(key)?.claims.slot(incarnation)
    }

    /// In which of its lives the node of this store is.
    pub(in crate::core) fn life(&self, key: StoreKey) -> Life {
        self.node(key).map_or_else(Life::default, |node| node.lease().life())
    }
}
