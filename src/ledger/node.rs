//! The nodes of a store.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Incarnation, Row};

/// One life of a node, from its first heartbeat on: a random number of 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A sign of life; see [`Store::heartbeat`](crate::store::Store::heartbeat).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Whose.
    pub node: NodeId,
    /// For people: which program on which machine.
    pub name: Arc<str>,
    /// Whether it is the first.
    pub first: bool,
    /// For how long.
    pub ttl: Duration,
    /// For people: the version of this crate that the node is built with.
    pub version: Arc<str>,
    /// For people: how far the node's wall clock is ahead of the store's, where that is known.
    pub clock_offset: Option<TimeDelta>,
}

impl Heartbeat {
    /// A sign of life of a node that is built with this version of the crate.
    pub fn new(node: NodeId, name: impl Into<Arc<str>>, first: bool, ttl: Duration) -> Heartbeat {
        let version = env!("CARGO_PKG_VERSION").into();
        Heartbeat { node, name: name.into(), first, ttl, version, clock_offset: None }
    }
}

/// What a store knows of a node that has joined and neither left nor been buried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRow {
    /// Which one.
    pub id: NodeId,
    /// For people: which program on which machine.
    pub name: Arc<str>,
    /// How many signs of life it has given.
    pub heartbeats: u64,
    /// For how long the last of them counts.
    pub ttl: Duration,
    /// For people: when that is over, by the store's clock.
    pub lease_until: DateTime<Utc>,
    /// For people: the version of this crate that it is built with; empty if it did not say.
    pub version: Arc<str>,
    /// For people: how far its wall clock is ahead of the store's, as far as it knows.
    pub clock_offset: Option<TimeDelta>,
}

impl NodeRow {
    /// The row of a node after its first sign of life, `heartbeat`, at `now` by the store's clock.
    pub fn new(heartbeat: &Heartbeat, now: DateTime<Utc>) -> NodeRow {
        let mut row = NodeRow {
            id: heartbeat.node,
            name: heartbeat.name.clone(),
            heartbeats: 0,
            ttl: Duration::ZERO,
            lease_until: now,
            version: heartbeat.version.clone(),
            clock_offset: heartbeat.clock_offset,
        };
        row.heartbeat(heartbeat, now);
        row
    }

    /// Takes another sign of life into account.
    pub fn heartbeat(&mut self, heartbeat: &Heartbeat, now: DateTime<Utc>) {
        let ttl = TimeDelta::from_std(heartbeat.ttl).unwrap_or(TimeDelta::MAX);
        self.lease_until = now.checked_add_signed(ttl).unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.name = heartbeat.name.clone();
        self.ttl = heartbeat.ttl;
        self.version = heartbeat.version.clone();
        self.clock_offset = heartbeat.clock_offset;
        self.heartbeats += 1;
    }
}

/// What [`Store::reap`](crate::store::Store::reap) did.
#[derive(Clone, Debug, Default)]
pub struct ReapReport {
    /// The nodes that are dead.
    pub nodes: Vec<NodeId>,
    /// Their rows that are waiting again.
    pub handed_out: Vec<Row>,
    /// Their rows that were closed.
    pub abandoned: Vec<Row>,
    /// The jobs that are over with this.
    pub over: Vec<Incarnation>,
    /// Whether there is more to do.
    pub more: bool,
}
