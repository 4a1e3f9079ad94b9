//! A node of a store: it joins and leaves, claims fire times, reports outcomes and prunes, on four
//! lanes that do not wait for each other. A node returns requests and accepts replies; it neither
//! waits nor reads a clock.

pub(crate) mod claimer;
pub(crate) mod closer;
mod exchange;
pub(crate) mod membership;
mod options;
pub(crate) mod pruner;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

pub(crate) use self::{
    claimer::CanRun,
    exchange::{Reply, Request},
    membership::{Lease, LeaseEpoch},
    options::NodeOptions,
};
use self::{
    claimer::{Claimer, Load},
    closer::Closer,
    membership::{Findings, Membership, Now},
    options::Numbers,
    pruner::Pruner,
};
use crate::{
    clock::Reading,
    core::durable::allowance::Allowance,
    error::Error,
    job::JobId,
    ledger::{
        Claim, ClaimResult, Incarnation, NodeId, ReapReport, Record, RecordChange, Release, RowKey,
        RowOutcome, StoreChange, StoreError,
    },
};

/// The effects of a reply on the jobs of a store.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// This node has claimed rows.
    Claimed(ClaimResult),
    /// The claims of this node, as the store lists them.
    Listed(Vec<Claim>),
    /// The listed claims that were fetched.
    Fetched(ClaimResult),
    /// Records have changed.
    Changed(Vec<RecordChange>),
    /// The store has acknowledged the outcomes or releases of these claims; these jobs are over
    /// with them.
    Acknowledged { claims: Vec<Claim>, over: Vec<Incarnation> },
    /// Other nodes were expired.
    Reaped(ReapReport),
    /// The store fails, after it worked.
    Failing(StoreError),
    /// The store works again.
    Working,
    /// The store's clock is further ahead than estimated, by this much.
    ClockMoved(TimeDelta),
    /// The node trusts its lease again.
    Trusted,
    /// The store has expired this node.
    Lost,
    /// The store refuses the outcome of this row for good.
    GivenUp(RowKey, StoreError),
    /// Records were corrected that a wrong clock had set.
    Corrected(Vec<Record>),
    /// Records cannot be read or run here.
    Unreadable(Vec<(JobId, Error)>),
}

/// A scheduler's node of one of its stores.
pub(super) struct Node {
    membership: Membership,
    claimer: Claimer,
    closer: Closer,
    pruner: Pruner,
    numbers: Numbers,
    /// Records that were changed or removed while a reply was pending that may show their old
    /// state.
    overtaken: HashMap<Incarnation, Option<Record>>,
    /// The longest step back of the store's clock after which jobs wait until the clock has caught
    /// up.
    correction: TimeDelta,
    /// Whether the store has a clock of its own.
    has_clock: bool,
}

impl Node {
    pub(super) fn new(
        options: NodeOptions,
        tasks: HashSet<String>,
        can_run: CanRun,
        now: Reading,
    ) -> Node {
        let options = Arc::new(options);
        let mut numbers = Numbers::new(options.seed);
        Node {
            membership: Membership::new(options.clone(), &mut numbers, now),
            claimer: Claimer::new(options.clone(), tasks, can_run),
            closer: Closer::new(options.clone()),
            pruner: Pruner::new(options.clone()),
            numbers,
            overtaken: HashMap::new(),
            correction: options.correction,
            has_clock: options.has_clock,
        }
    }

    // Membership.

    /// Returns the id of the current incarnation of the node.
    pub(super) fn id(&self) -> NodeId {
        self.membership.id()
    }

    /// Returns a number of 63 bits that no other node draws.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers.draw()
    }

    pub(super) fn lease(&self) -> &Arc<Lease> {
        self.membership.lease()
    }

    /// Whether the node trusts its lease.
    pub(super) fn is_trusted(&self, now: Reading) -> bool {
        self.membership.is_trusted(now)
    }

    /// Notes a lapsed lease. Returns whether it has lapsed, for the first time since the last
    /// confirmed heartbeat.
    pub(super) fn lapse(&mut self, now: Reading) -> bool {
        self.membership.lapse(now)
    }

    /// Deregisters once the store has acknowledged everything.
    pub(super) fn deregister(&mut self) {
        self.membership.deregister();
    }

    pub(super) fn has_left(&self) -> bool {
        self.membership.has_left()
    }

    /// Whether the last heartbeat, or another request of its lane, has failed.
    pub(super) fn is_down(&self) -> bool {
        self.membership.is_down()
    }

    // Clocks.

    /// Whether the time of the store's clock is known.
    pub(super) fn knows_clock(&self) -> bool {
        self.membership.knows_clock()
    }

    /// Returns the time of the store's clock, as far as it is known.
    pub(super) fn store_now(&self, now: Reading) -> DateTime<Utc> {
        self.membership.read(now).store
    }

    /// Converts an instant of the store's clock to the local wall clock.
    pub(super) fn to_local(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        self.membership.to_local(instant)
    }

    /// Converts an instant of the local wall clock to the store's clock.
    pub(super) fn to_store(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        self.membership.to_store(instant)
    }

    /// Accounts for a step of the local wall clock. Returns how much sooner the claimed rows come
    /// due by it.
    pub(super) fn clock_stepped(&mut self, by: TimeDelta) -> TimeDelta {
        let moved = self.membership.wall_stepped(by);
        if self.has_clock {
            return moved;
        }
        // The store has no clock, so its time stepped as well.
        self.claimer.set_local_due(TimeDelta::MIN);
        if -by > TimeDelta::seconds(1) {
            self.pruner.search();
        }
        // If the clock was wrong, claimed rows run when they would have run without the correction.
        if -by > self.correction { -by } else { TimeDelta::zero() }
    }

    // Claims.

    /// Claims nothing new while `paused`.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.claimer.set_paused(paused);
    }

    /// Claims in time for a fire time that comes due at `instant` by the store's clock.
    pub(super) fn note_due(&mut self, instant: DateTime<Utc>, now: Reading) {
        let now = self.membership.read(now);
        self.claimer.note_due(instant, now);
    }

    /// Fetches claims of this node that it does not know.
    pub(super) fn fetch(&mut self, rows: impl Iterator<Item = RowKey>) {
        self.membership.fetch(rows);
    }

    /// Claims the jobs that were left, since there is more room now.
    pub(super) fn has_room_again(&mut self, now: Reading) {
        self.claimer.has_room_again(now.elapsed);
    }

    /// Claims nothing of an unreadable job for a while.
    pub(super) fn exclude(&mut self, incarnation: Incarnation) {
        self.claimer.exclude(incarnation);
    }

    /// Checks all records and queries the next due instant, since anything may have changed.
    pub(super) fn refresh(&mut self) {
        self.claimer.refresh();
    }

    /// Accepts a notification of the store. `is_news` says whether the record is known here by
    /// another version; `None` if it is not known.
    pub(super) fn notice(&mut self, change: StoreChange, is_news: Option<bool>, now: Reading) {
        // A pending reply may show the record in its old state.
        let is_news = is_news.unwrap_or_else(|| self.awaits_records());
        let now = self.membership.read(now);
        self.claimer.notice(change, is_news, now);
    }

    /// Whether a pending reply may bring records.
    fn awaits_records(&self) -> bool {
        self.claimer.is_waiting() || self.membership.is_waiting()
    }

    /// Notes that a record was changed to this, or removed, since a pending reply may not show it.
    pub(super) fn overtake(&mut self, incarnation: Incarnation, record: Option<&Record>) {
        let newer = |known: &Option<Record>| match (known, record) {
            (Some(known), Some(record)) => known.version < record.version,
            (known, _) => known.is_some(),
        };
        if self.overtaken.get(&incarnation).is_none_or(newer) {
            self.overtaken.insert(incarnation, record.cloned());
        }
    }

    /// Returns the record as it was changed while a reply was pending; `Some(None)` if it was
    /// removed.
    pub(super) fn overtaken(&self, incarnation: Incarnation) -> Option<&Option<Record>> {
        self.overtaken.get(&incarnation)
    }

    // Outcomes.

    /// Queues the outcome of a row.
    pub(super) fn finish(&mut self, outcome: RowOutcome, now: Reading) {
        self.closer.finish(outcome, now.elapsed);
    }

    /// Queues the release of a row.
    pub(super) fn release(&mut self, row: Release) {
        self.closer.release(row);
    }

    /// Returns how many outcomes the store has not acknowledged.
    pub(super) fn pending_outcomes(&self) -> usize {
        self.closer.pending_outcomes()
    }

    /// Whether a reply may show this claim as the node's although the node has closed or released
    /// it.
    pub(super) fn has_closed(&self, claim: Claim) -> bool {
        self.closer.has_closed(claim)
    }

    /// Searches all records for those that need a correction, since the store's clock was set back or the
    /// rules of time zones have changed.
    pub(super) fn search_for_corrections(&mut self) {
        self.pruner.search();
    }

    // Lanes.

    /// Returns when the node must be polled again. `open_rows` is the number of claimed rows that
    /// are not closed.
    pub(super) fn wake_at(&self, open_rows: usize, now: Reading) -> Option<TimeDelta> {
        if self.has_left() {
            return None;
        }
        let throttled = HashSet::new();
        let load = self.load(open_rows, &throttled);
        let (is_leaving, claims) = (self.membership.is_leaving(), self.may_claim(now));
        let at = [
            self.membership.wake_at(self.is_done(), now),
            if claims { self.claimer.wake_at(load) } else { None },
            self.closer.wake_at(is_leaving),
            if self.membership.stays() { self.pruner.wake_at() } else { None },
        ];
        at.into_iter().flatten().min()
    }

    /// Returns the requests to send now; each gets a reply. `open_rows` is the number of claimed
    /// rows that are not closed; nothing of `throttled` jobs is claimed. `room` has the free slots;
    /// `known` returns the records that are known here: all, or the named ones.
    pub(super) fn poll(
        &mut self,
        now: Reading,
        open_rows: usize,
        throttled: &HashSet<Incarnation>,
        room: impl FnOnce() -> Allowance,
        known: impl FnOnce(Option<&HashMap<Incarnation, u64>>) -> Vec<(JobId, Incarnation, u64)>,
    ) -> Vec<Request> {
        if self.has_left() {
            return Vec::new();
        }
        if !self.awaits_records() {
            // Replies to later requests show the current state.
            self.closer.forget_acknowledged();
            self.overtaken.clear();
        }
        let mut requests = Vec::new();
        let is_done = self.is_done();
        requests.extend(self.membership.poll(is_done, now).map(Request::Membership));
        let (node, is_leaving, clocks) =
            (self.id(), self.membership.is_leaving(), self.membership.read(now));
        if self.may_claim(now) {
            let load = self.load(open_rows, throttled);
            let request = self.claimer.poll(node, load, room, known, &mut self.numbers, clocks);
            requests.extend(request.map(Request::Claim));
        }
        requests.extend(self.closer.poll(node, is_leaving, now).map(Request::Close));
        if self.membership.stays() {
            requests.extend(self.pruner.poll(clocks).map(Request::Prune));
        }
        requests
    }

    fn load<'a>(&self, open_rows: usize, throttled: &'a HashSet<Incarnation>) -> Load<'a> {
        Load { open_rows, unacknowledged: self.closer.unacknowledged(), throttled }
    }

    /// Whether the other lanes have nothing left that the membership must wait for. The rows of a
    /// claim without a reply would be abandoned.
    fn is_done(&self) -> bool {
        self.closer.is_drained() && !self.claimer.is_waiting()
    }

    fn may_claim(&self, now: Reading) -> bool {
        let may_claim = !self.membership.is_leaving() || self.claimer.is_pending();
        self.membership.has_joined() && may_claim && self.is_trusted(now)
    }

    /// Accepts the reply to a request, or its error. Returns the effects on the jobs.
    pub(super) fn answer(
        &mut self,
        request: Request,
        reply: Result<Reply, StoreError>,
        now: Reading,
    ) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        let was_failing = self.is_failing();
        match reply {
            Ok(reply) => {
                self.pruner.forgive_corrections();
                self.accept(reply, now, &mut events);
                if was_failing && !self.is_failing() {
                    events.insert(0, NodeEvent::Working);
                }
            }
            Err(error) => {
                self.fail(request, &error, now, &mut events);
                match (was_failing, self.is_failing()) {
                    (false, true) => events.push(NodeEvent::Failing(error)),
                    (true, false) => events.push(NodeEvent::Working),
                    _ => {}
                }
            }
        }
        events
    }

    /// Whether the last reply to some operation was an error.
    fn is_failing(&self) -> bool {
        self.membership.is_failing()
            || self.claimer.is_failing()
            || self.closer.is_failing()
            || self.pruner.is_failing()
    }

    fn accept(&mut self, reply: Reply, now: Reading, events: &mut Vec<NodeEvent>) {
        let (node, clocks) = (self.id(), self.membership.read(now));
        match reply {
            Reply::Membership(reply) => {
                let findings = self.membership.accept(reply, now, events);
                self.follow(findings, now.elapsed);
            }
            Reply::Claim(reply) => {
                self.pruner.count(reply.rows());
                self.claimer.accept(reply, node, clocks, events);
            }
            Reply::Close(reply) => self.closer.accept(reply, node, now, events),
            Reply::Prune(reply) => self.pruner.accept(reply, clocks, &mut self.numbers, events),
        }
    }

    /// Passes the findings of a reply to the other lanes.
    fn follow(&mut self, findings: Findings, now: TimeDelta) {
        if findings.joined {
            self.claimer.start(now);
            self.pruner.start(now);
        }
        if findings.due_changed {
            self.claimer.set_local_due(now);
        }
        if findings.joined || findings.clock_set_back {
            self.pruner.search();
        }
    }

    fn fail(
        &mut self,
        request: Request,
        error: &StoreError,
        now: Reading,
        events: &mut Vec<NodeEvent>,
    ) {
        self.membership.inquire();
        let is_stale = request.node().is_some_and(|node| node != self.id());
        if is_stale || error.is_lease_lost() {
            let was_sent = match request {
                Request::Membership(_) => self.membership.in_flight().cancel(),
                Request::Claim(_) => self.claimer.in_flight().cancel(),
                Request::Close(_) => self.closer.in_flight().cancel(),
                Request::Prune(_) => self.pruner.in_flight().cancel(),
            };
            // An ended incarnation cannot lose its lease again.
            if !is_stale && was_sent.is_some() {
                self.lose(events);
            }
            return;
        }
        let (clocks, numbers) = (self.membership.read(now), &mut self.numbers);
        match request {
            Request::Membership(request) => self.membership.fail(&request, error, now, numbers),
            Request::Claim(request) => self.claimer.fail(request, error, clocks, numbers),
            Request::Close(request) => {
                let last_heartbeat = self.membership.last_heartbeat();
                self.closer.fail(&request, error, now, last_heartbeat, numbers, events);
            }
            Request::Prune(request) => self.pruner.fail(&request, error, clocks, numbers),
        }
    }

    /// Begins a new incarnation, since the store has expired this one.
    fn lose(&mut self, events: &mut Vec<NodeEvent>) {
        let has_outcomes = self.closer.pending_outcomes() > 0;
        self.membership.lose(has_outcomes, &mut self.numbers);
        self.claimer.restart();
        self.closer.restart(self.id(), events);
        events.push(NodeEvent::Lost);
    }
}
