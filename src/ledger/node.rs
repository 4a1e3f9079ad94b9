//! The nodes of a store: ids, heartbeats, rows.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Incarnation, Row};

/// The id of a node, from its first heartbeat until it deregisters or expires: a random number of
/// 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A renewal of a node's lease; see [`Store::heartbeat`](crate::store::Store::heartbeat).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The node.
    pub node: NodeId,
    /// For people: the program and the machine.
    pub name: Arc<str>,
    /// Whether this is the node's first heartbeat.
    pub first: bool,
    /// The length of the lease.
    pub ttl: Duration,
    /// For people: the version of this crate in the node's program.
    pub version: Arc<str>,
    /// For people: how far the node's wall clock is ahead of the store's, if known.
    pub clock_offset: Option<TimeDelta>,
}

impl Heartbeat {
    /// A heartbeat of a node with this version of the crate.
    pub fn new(node: NodeId, name: impl Into<Arc<str>>, first: bool, ttl: Duration) -> Heartbeat {
        let version = env!("CARGO_PKG_VERSION").into();
        Heartbeat { node, name: name.into(), first, ttl, version, clock_offset: None }
    }
}

/// A store's row of a node that has joined, and has neither deregistered nor expired.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRow {
    /// The node's id.
    pub id: NodeId,
    /// For people: the program and the machine.
    pub name: Arc<str>,
    /// The number of heartbeats.
    pub heartbeats: u64,
    /// The length of the lease in the last heartbeat.
    pub ttl: Duration,
    /// For people: the end of the lease, by the store's clock.
    pub lease_until: DateTime<Utc>,
    /// For people: the version of this crate in the node's program; empty if unknown.
    pub version: Arc<str>,
    /// For people: how far the node's wall clock is ahead of the store's, if known.
    pub clock_offset: Option<TimeDelta>,
}

impl NodeRow {
    /// The row of a node after its first heartbeat, at `now` by the store's clock.
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

    /// Applies another heartbeat to the row.
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

/// The result of [`Store::reap`](crate::store::Store::reap).
#[derive(Clone, Debug, Default)]
pub struct ReapReport {
    /// The nodes that have expired.
    pub nodes: Vec<NodeId>,
    /// Their rows that are waiting again.
    pub handed_out: Vec<Row>,
    /// Their rows that were closed.
    pub abandoned: Vec<Row>,
    /// The jobs that are now over.
    pub over: Vec<Incarnation>,
    /// Whether there are more rows to reclaim.
    pub more: bool,
}
