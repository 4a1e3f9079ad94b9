//! How a node joins its store, renews its lease, and expires others that no longer renew theirs.

use chrono::{DateTime, Utc};

use crate::ledger::{Claim, ClaimResult, Heartbeat, NodeId, NodeRow, Reaped, RowKey};

/// What the membership lane sends to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Heartbeat(Heartbeat),
    Nodes,
    Reap(Vec<(NodeId, u64)>),
    ClaimedBy { node: NodeId, after: Option<RowKey>, limit: usize },
    Claimed { node: NodeId, rows: Vec<RowKey> },
}

/// What the store replies, with what of the request the reply is read by.
#[derive(Debug)]
pub(crate) enum Reply {
    Heartbeat { heartbeat: Heartbeat, store_now: DateTime<Utc> },
    Nodes(Vec<NodeRow>),
    Reap { suspects: Vec<(NodeId, u64)>, reaped: Reaped },
    ClaimedBy { node: NodeId, limit: usize, claims: Vec<Claim> },
    Claimed { node: NodeId, asked: usize, found: ClaimResult },
}

impl Request {
    /// The life of the node that sends it, if it counts for that life alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Heartbeat(heartbeat) => Some(heartbeat.node),
            Request::ClaimedBy { node, .. } | Request::Claimed { node, .. } => Some(*node),
            Request::Nodes | Request::Reap(_) => None,
        }
    }
}
