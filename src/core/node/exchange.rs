//! What a node sends to its store, and what the store replies, lane by lane.

use std::mem::{Discriminant, discriminant};

use super::{Lane, claimer, closer, membership, pruner};
use crate::ledger::{NodeId, Record, RecordStatus};

/// What a node sends to its store. Requests of one lane go one after the other; the lanes do not wait for
/// each other.
#[derive(Clone)]
pub(crate) enum Request {
    Membership(membership::Request),
    Claim(claimer::Request),
    Close(closer::Request),
    Prune(pruner::Request),
}

/// What the store replies.
#[derive(Debug)]
pub(crate) enum Reply {
    Membership(membership::Reply),
    Claim(claimer::Reply),
    Close(closer::Reply),
    Prune(pruner::Reply),
}

impl Reply {
    /// The records whose jobs the node may take in, in order: it needs the work of each.
    pub(crate) fn records(&self) -> Vec<&Record> {
        match self {
            Reply::Membership(membership::Reply::Claimed { found: result, .. })
            | Reply::Claim(claimer::Reply::Claim { result, .. }) => {
                result.jobs.iter().map(|job| &job.record).collect()
            }
            Reply::Claim(claimer::Reply::Changed(changes)) => {
                let updated = changes.iter().filter_map(|change| match &change.status {
                    RecordStatus::Updated(record) => Some(&**record),
                    RecordStatus::Removed(_) => None,
                });
                updated.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Which operation of the store a request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Membership(Discriminant<membership::Request>),
    Claim(Discriminant<claimer::Request>),
    Close(Discriminant<closer::Request>),
    Prune(Discriminant<pruner::Request>),
}

impl Request {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Request::Membership(_) => Lane::Membership,
            Request::Claim(_) => Lane::Claim,
            Request::Close(_) => Lane::Close,
            Request::Prune(_) => Lane::Prune,
        }
    }

    pub(super) fn operation(&self) -> Operation {
        match self {
            Request::Membership(request) => Operation::Membership(discriminant(request)),
            Request::Claim(request) => Operation::Claim(discriminant(request)),
            Request::Close(request) => Operation::Close(discriminant(request)),
            Request::Prune(request) => Operation::Prune(discriminant(request)),
        }
    }

    /// The life of the node that sends it, if it counts for that life alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Membership(request) => request.node(),
            Request::Claim(request) => request.node(),
            Request::Close(request) => request.node(),
            Request::Prune(_) => None,
        }
    }

    /// Whether it is about several rows, one of which the store may refuse.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self, Request::Close(request) if request.is_batch())
    }
}

impl Reply {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Reply::Membership(_) => Lane::Membership,
            Reply::Claim(_) => Lane::Claim,
            Reply::Close(_) => Lane::Close,
            Reply::Prune(_) => Lane::Prune,
        }
    }
}
