//! How a node reports the outcomes of its rows, and releases rows that it does not run.

use crate::ledger::{FinishReport, NodeId, Release, RowOutcome};

/// What the close lane sends to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Finish(Vec<RowOutcome>),
    Release { node: NodeId, rows: Vec<Release> },
}

/// What the store replies, with how many rows were sent.
#[derive(Debug)]
pub(crate) enum Reply {
    Finish { count: usize, report: FinishReport },
    Release { node: NodeId, count: usize },
}

impl Request {
    /// The life of the node that sends it, if it counts for that life alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Release { node, .. } => Some(*node),
            Request::Finish(_) => None,
        }
    }

    /// Whether it is about several rows, one of which the store may refuse.
    pub(super) fn is_batch(&self) -> bool {
        match self {
            Request::Finish(outcomes) => outcomes.len() > 1,
            Request::Release { rows, .. } => rows.len() > 1,
        }
    }
}
