//! How a node reports the outcomes of its rows, and releases rows that it does not run.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use chrono::TimeDelta;

use super::{NodeEvent, NodeOptions, Numbers, exchange::InFlight};
use crate::{
    clock::Reading,
    ledger::{
        Claim, FinishReport, Incarnation, NodeId, ROW_SIZE, Release, RowOutcome, StoreError,
        fitting,
    },
};

/// A request of the close lane to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Finish(Vec<RowOutcome>),
    Release { node: NodeId, rows: Vec<Release> },
}

/// The reply of the store, with the number of rows sent.
#[derive(Debug)]
pub(crate) enum Reply {
    Finish { count: usize, report: FinishReport },
    Release { node: NodeId, count: usize },
}

impl Request {
    /// Returns the incarnation of the node that sends the request, if it counts for that one alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Release { node, .. } => Some(*node),
            Request::Finish(_) => None,
        }
    }

    /// Returns the claim of the request, if it has only one.
    fn only_claim(&self) -> Option<Claim> {
        match self {
            Request::Finish(outcomes) => match &outcomes[..] {
                [outcome] => Some(outcome.claim()),
                _ => None,
            },
            Request::Release { rows, .. } => match &rows[..] {
                [row] => Some(row.claim()),
                _ => None,
            },
        }
    }
}

/// How long outcomes are gathered before they are sent.
const LINGER: TimeDelta = TimeDelta::milliseconds(10);

/// How many outcomes are sent at once without waiting for more.
const FULL: usize = 100;

/// The outcomes and releases of one node that the store has not acknowledged.
pub(super) struct Closer {
    options: Arc<NodeOptions>,
    in_flight: InFlight<Request>,
    outcomes: VecDeque<RowOutcome>,
    /// The claims of those outcomes.
    pending_outcomes: HashSet<Claim>,
    /// When the gathered outcomes are sent.
    flush_at: Option<TimeDelta>,
    /// How many outcomes are sent at once: halved each time that the store refuses one of them or
    /// does not reply, since the batch may be too large for the timeout.
    finish_batch: usize,
    releases: Vec<Release>,
    /// How many rows are released at once, adjusted in the same way.
    release_batch: usize,
    /// Whether the last request released rows.
    released_last: bool,
    /// Claims whose outcome or release the store refused when sent alone, with the time of the
    /// first refusal.
    refused: HashMap<Claim, TimeDelta>,
    /// Claims whose outcome the store refuses for good: the store keeps showing them as this
    /// node's.
    given_up: HashSet<Claim>,
    /// Claims that were closed or released while a reply was pending that may still show them as
    /// this node's.
    acknowledged: HashSet<Claim>,
}

impl Closer {
    pub(super) fn new(options: Arc<NodeOptions>) -> Closer {
        Closer {
            options,
            in_flight: InFlight::default(),
            outcomes: VecDeque::new(),
            pending_outcomes: HashSet::new(),
            flush_at: None,
            finish_batch: usize::MAX,
            releases: Vec::new(),
            release_batch: usize::MAX,
            released_last: false,
            refused: HashMap::new(),
            given_up: HashSet::new(),
            acknowledged: HashSet::new(),
        }
    }

    pub(super) fn in_flight(&mut self) -> &mut InFlight<Request> {
        &mut self.in_flight
    }

    pub(super) fn is_failing(&self) -> bool {
        self.in_flight.is_failing()
    }

    /// Queues the outcome of a row.
    pub(super) fn finish(&mut self, outcome: RowOutcome, now: TimeDelta) {
        self.flush_at.get_or_insert(now + LINGER);
        self.pending_outcomes.insert(outcome.claim());
        self.outcomes.push_back(outcome);
    }

    /// Queues the release of a row.
    pub(super) fn release(&mut self, row: Release) {
        self.releases.push(row);
    }

    /// Returns how many outcomes the store has not acknowledged.
    pub(super) fn pending_outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// Returns how many closed rows the store still shows as open.
    pub(super) fn unacknowledged(&self) -> usize {
        self.outcomes.len() + self.given_up.len()
    }

    /// Whether the store has acknowledged everything.
    pub(super) fn is_drained(&self) -> bool {
        self.outcomes.is_empty() && self.releases.is_empty() && !self.in_flight.is_waiting()
    }

    /// Whether a reply may show this claim as the node's although the node has closed or released
    /// it.
    pub(super) fn has_closed(&self, claim: Claim) -> bool {
        self.acknowledged.contains(&claim)
            || self.releases.iter().any(|row| row.claim() == claim)
            || self.pending_outcomes.contains(&claim)
            || self.given_up.contains(&claim)
    }

    /// Forgets acknowledged claims: replies to later requests show their state.
    pub(super) fn forget_acknowledged(&mut self) {
        self.acknowledged.clear();
    }

    /// Returns when the lane must be polled again.
    pub(super) fn wake_at(&self, is_leaving: bool) -> Option<TimeDelta> {
        self.in_flight.wake_at(self.wanted_at(is_leaving))
    }

    fn wanted_at(&self, is_leaving: bool) -> Option<TimeDelta> {
        match self.flush_at {
            _ if !self.releases.is_empty() => Some(TimeDelta::MIN),
            Some(_) if self.is_full() || is_leaving => Some(TimeDelta::MIN),
            flush_at => flush_at,
        }
    }

    fn is_full(&self) -> bool {
        self.outcomes.len() >= self.options.max_batch.min(FULL)
    }

    /// Returns the request to send now, if any.
    pub(super) fn poll(&mut self, node: NodeId, is_leaving: bool, now: Reading) -> Option<Request> {
        if !self.in_flight.is_due(self.wanted_at(is_leaving), now) {
            return None;
        }
        let request = self.next_request(node, is_leaving, now)?;
        Some(self.in_flight.send(request, now))
    }

    fn next_request(&mut self, node: NodeId, is_leaving: bool, now: Reading) -> Option<Request> {
        let sizes = self.outcomes.iter().map(RowOutcome::size);
        let count = self.batch_of(sizes, self.finish_batch);
        let is_due = self.flush_at.is_some_and(|at| at <= now.elapsed) || is_leaving;
        let finishes = count > 0 && (is_due || self.is_full());
        // Alternates, so that neither kind waits for the other if the store fails for one of them.
        self.released_last = !(self.releases.is_empty() || finishes && self.released_last);
        if self.released_last {
            let sizes = self.releases.iter().map(|_| ROW_SIZE);
            let count = self.batch_of(sizes, self.release_batch);
            return Some(Request::Release { node, rows: self.releases[..count].to_vec() });
        }
        finishes.then(|| Request::Finish(self.outcomes.iter().take(count).cloned().collect()))
    }

    /// Returns how many rows of these sizes are sent at once.
    fn batch_of(&self, sizes: impl Iterator<Item = usize>, most: usize) -> usize {
        fitting(sizes, self.options.max_batch.min(most), self.options.max_bytes)
    }

    /// Accepts a reply. A release of an earlier incarnation of the node is ignored.
    pub(super) fn accept(
        &mut self,
        reply: Reply,
        node: NodeId,
        now: Reading,
        events: &mut Vec<NodeEvent>,
    ) {
        if self.in_flight.succeed().is_none() {
            return;
        }
        match reply {
            Reply::Finish { count, report } => {
                let outcomes = self.outcomes.drain(..count.min(self.outcomes.len()));
                let claims: Vec<_> = outcomes.map(|outcome| outcome.claim()).collect();
                for claim in &claims {
                    self.pending_outcomes.remove(claim);
                    self.refused.remove(claim);
                }
                self.finish_batch = self.finish_batch.saturating_mul(2);
                self.flush_at = (!self.outcomes.is_empty()).then_some(now.elapsed);
                self.acknowledge(claims, report.over, events);
            }
            Reply::Release { node: of, count } if of == node => {
                self.release_batch = self.release_batch.saturating_mul(2);
                let rows = self.releases.drain(..count.min(self.releases.len()));
                let claims: Vec<_> = rows.map(|row| row.claim()).collect();
                for claim in &claims {
                    self.refused.remove(claim);
                }
                self.acknowledge(claims, Vec::new(), events);
            }
            Reply::Release { .. } => {}
        }
    }

    fn acknowledge(
        &mut self,
        claims: Vec<Claim>,
        over: Vec<Incarnation>,
        events: &mut Vec<NodeEvent>,
    ) {
        self.acknowledged.extend(&claims);
        events.push(NodeEvent::Acknowledged { claims, over });
    }

    /// Handles a failed request: it is sent again, or given up.
    pub(super) fn fail(
        &mut self,
        request: &Request,
        error: &StoreError,
        now: Reading,
        last_heartbeat: TimeDelta,
        numbers: &mut Numbers,
        events: &mut Vec<NodeEvent>,
    ) {
        let only = request.only_claim();
        match only {
            // The refused outcome is searched for at once.
            None if error.is_refused() => {
                self.in_flight.fail_at_once(now);
            }
            _ => self.in_flight.fail(error.is_refused(), &self.options, now, numbers),
        }
        match request {
            // The others must not wait for the refused outcome.
            Request::Finish(_) if error.is_refused() && only.is_some() => {
                let count = self.outcomes.len().min(1);
                self.outcomes.rotate_left(count);
                self.finish_batch = 1;
            }
            Request::Release { .. } if error.is_refused() && only.is_some() => {
                let count = self.releases.len().min(1);
                self.releases.rotate_left(count);
                self.release_batch = 1;
            }
            // The store refuses one of them, or the batch takes longer than the timeout.
            Request::Finish(sent) => self.finish_batch = sent.len().div_ceil(2).max(1),
            Request::Release { rows, .. } => self.release_batch = rows.len().div_ceil(2).max(1),
        }
        if let Some(claim) = only.filter(|_| error.is_refused())
            && self.gives_up(claim, now, last_heartbeat)
        {
            self.in_flight.forgive(request);
            events.push(NodeEvent::GivenUp(claim.key, error.clone()));
            self.acknowledge(vec![claim], Vec::new(), events);
        }
    }

    /// Gives up the message of an outcome that the store refuses when sent alone, and the next time
    /// the outcome itself: the store would refuse it forever, and the node could not deregister.
    /// While heartbeats fail, too, the store is at fault rather than the outcome. Returns whether
    /// the outcome was given up.
    fn gives_up(&mut self, claim: Claim, now: Reading, last_heartbeat: TimeDelta) -> bool {
        let since = *self.refused.entry(claim).or_insert(now.elapsed);
        if last_heartbeat <= since {
            return false;
        }
        let outcome = self.outcomes.iter_mut().find(|outcome| outcome.claim() == claim);
        if outcome.is_some_and(|outcome| outcome.message.take().is_some()) {
            self.refused.insert(claim, now.elapsed);
            return false;
        }
        self.outcomes.retain(|outcome| outcome.claim() != claim);
        self.releases.retain(|row| row.claim() != claim);
        self.pending_outcomes.remove(&claim);
        self.refused.remove(&claim);
        self.given_up.insert(claim);
        true
    }

    /// Begins a new incarnation of the node, which has nothing to release.
    pub(super) fn restart(&mut self, node: NodeId, events: &mut Vec<NodeEvent>) {
        self.given_up.clear();
        // Releases are not sent again, so an error of the last one no longer matters.
        self.in_flight.forgive(&Request::Release { node, rows: Vec::new() });
        let claims = std::mem::take(&mut self.releases).iter().map(Release::claim).collect();
        self.acknowledge(claims, Vec::new(), events);
    }
}
