//! What a node claims, and how it learns of changes and of what is due next.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::{
    job::JobId,
    ledger::{ClaimRequest, ClaimResult, Incarnation, NextDue, NodeId, RecordChange},
};

/// What the claim lane sends to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Claim(ClaimRequest),
    NextDue(NextDue),
    /// Asks which of these records have changed; `named` are those that the store has notified of, if
    /// only those are asked after.
    Changed {
        known: Vec<(JobId, Incarnation, u64)>,
        named: Option<HashSet<Incarnation>>,
    },
}

/// What the store replies, with what of the request the reply is read by.
#[derive(Debug)]
pub(crate) enum Reply {
    Claim { node: NodeId, result: ClaimResult },
    NextDue(Option<DateTime<Utc>>),
    Changed(Vec<RecordChange>),
}

impl Request {
    /// The life of the node that sends it, if it counts for that life alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Claim(claim) => Some(claim.node),
            Request::NextDue(_) | Request::Changed { .. } => None,
        }
    }
}
