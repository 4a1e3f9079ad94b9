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

    /// The only claim that it is about, unless there are several.
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
    /// When outcomes are sent, if there are any.
    flush_at: Option<TimeDelta>,
    /// How many outcomes are sent at once: half as many each time that the store refuses one of them, or
    /// does not reply, since it may be too many for the time that is waited.
    finish_batch: usize,
    releases: Vec<Release>,
    /// How many rows are released at once, in the same way.
    release_batch: usize,
    /// Whether the last request released rows.
    released_last: bool,
    /// Claims of which the store refused, alone, the outcome or the release; and when it did first.
    refused: HashMap<Claim, TimeDelta>,
    /// Claims of which the store refuses the outcome for good: it shows them as this node's.
    given_up: HashSet<Claim>,
    /// Claims that were closed or released while a reply was awaited that may show them as this node's.
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

    /// Reports the outcome of a row.
    pub(super) fn finish(&mut self, outcome: RowOutcome, now: TimeDelta) {
        self.flush_at.get_or_insert(now + LINGER);
        self.pending_outcomes.insert(outcome.claim());
        self.outcomes.push_back(outcome);
    }

    /// Gives a row back, for any node to run.
    pub(super) fn release(&mut self, row: Release) {
        self.releases.push(row);
    }

    /// How many outcomes the store has not acknowledged.
    pub(super) fn pending_outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// How many rows are closed that the store shows as open.
    pub(super) fn unacknowledged(&self) -> usize {
        self.outcomes.len() + self.given_up.len()
    }

    /// Whether the store has acknowledged everything.
    pub(super) fn is_drained(&self) -> bool {
        self.outcomes.is_empty() && self.releases.is_empty() && !self.in_flight.is_waiting()
    }

    /// Whether a reply may show this claim as the node's although the node has closed or released it.
    pub(super) fn has_closed(&self, claim: Claim) -> bool {
        self.acknowledged.contains(&claim)
            || self.releases.iter().any(|row| row.claim() == claim)
            || self.pending_outcomes.contains(&claim)
            || self.given_up.contains(&claim)
    }

    /// Forgets what the store has acknowledged: replies to later requests show it.
    pub(super) fn forget_acknowledged(&mut self) {
        self.acknowledged.clear();
    }

    /// When the lane must be polled again.
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

    /// The request to send now, if there is one.
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
        // In turns, so that neither waits for the other if the store fails in one of them.
        self.released_last = !(self.releases.is_empty() || finishes && self.released_last);
        if self.released_last {
            let sizes = self.releases.iter().map(|_| ROW_SIZE);
            let count = self.batch_of(sizes, self.release_batch);
            return Some(Request::Release { node, rows: self.releases[..count].to_vec() });
        }
        finishes.then(|| Request::Finish(self.outcomes.iter().take(count).cloned().collect()))
    }

    /// How many rows of these sizes are sent at once.
    fn batch_of(&self, sizes: impl Iterator<Item = usize>, most: usize) -> usize {
        fitting(sizes, self.options.max_batch.min(most), self.options.max_bytes)
    }

    /// Takes in a reply. A release of an earlier life of the node changes nothing.
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

    /// Takes in that the store has failed to do a request, to send it again or to give it up.
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
            // Which of them the store refuses is found out at once.
            None if error.is_refused() => {
                self.in_flight.fail_at_once(now);
            }
            _ => self.in_flight.fail(error.is_refused(), &self.options, now, numbers),
        }
        match request {
            // The others must not wait for the one that the store refuses.
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
            // One of them the store refuses, or they are more than it does in the time that is waited.
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

    /// Gives up the message of an outcome that the store refuses alone, and the next time the outcome: it
    /// would be refused for ever, and the node could not leave. While the store fails heartbeats, too, the
    /// store is at fault, and not what it is sent. Returns whether the outcome was given up.
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

    /// Begins another life of the node: it has nothing to release.
    pub(super) fn restart(&mut self, node: NodeId, events: &mut Vec<NodeEvent>) {
        self.given_up.clear();
        // Releases are not sent again: an error of the last one is of no interest any more.
        self.in_flight.forgive(&Request::Release { node, rows: Vec::new() });
        let claims = std::mem::take(&mut self.releases).iter().map(Release::claim).collect();
        self.acknowledge(claims, Vec::new(), events);
    }
}
