//! How a node joins its store, renews its lease, and expires nodes that no longer renew theirs.

mod clock;
mod lease;
#[cfg(test)]
mod tests;
mod watch;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

pub(super) use self::clock::Now;
pub(crate) use self::lease::{Lease, LeaseEpoch};
use self::{
    clock::{Clocks, have_parted},
    watch::Watch,
};
use super::{NodeEvent, NodeOptions, Numbers, exchange::InFlight, options::delta};
use crate::{
    clock::Reading,
    ledger::{Claim, ClaimResult, Heartbeat, NodeId, NodeRow, ReapReport, RowKey, StoreError},
};

/// A request of the membership lane to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Heartbeat(Heartbeat),
    Nodes,
    Reap(Vec<(NodeId, u64)>),
    ClaimedBy { node: NodeId, after: Option<RowKey>, limit: usize },
    Claimed { node: NodeId, rows: Vec<RowKey> },
}

/// The reply of the store, with the part of the request that is needed to interpret it.
#[derive(Debug)]
pub(crate) enum Reply {
    Heartbeat { heartbeat: Heartbeat, store_now: DateTime<Utc> },
    Nodes(Vec<NodeRow>),
    Reap { suspects: Vec<(NodeId, u64)>, reaped: ReapReport },
    ClaimedBy { node: NodeId, limit: usize, claims: Vec<Claim> },
    Claimed { node: NodeId, requested: usize, found: ClaimResult },
}

impl Request {
    /// Returns the incarnation of the node that sends the request, if it counts for that one alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Heartbeat(heartbeat) => Some(heartbeat.node),
            Request::ClaimedBy { node, .. } | Request::Claimed { node, .. } => Some(*node),
            Request::Nodes | Request::Reap(_) => None,
        }
    }
}

/// How often a node reaps and lists its claims though it knows of no reason to, in heartbeats.
const INQUIRE_EVERY: u32 = 24;

/// One node's membership in its store.
pub(super) struct Membership {
    options: Arc<NodeOptions>,
    /// The id of the current incarnation of the node.
    id: NodeId,
    phase: Phase,
    lease: Arc<Lease>,
    clocks: Clocks,
    in_flight: InFlight<Request>,
    next_heartbeat: TimeDelta,
    /// When the last confirmed heartbeat was sent.
    last_heartbeat: TimeDelta,
    /// The other nodes.
    watch: Watch,
    /// How many heartbeats are left until the node inquires fully.
    inquires_in: u32,
    /// Whether to list the nodes.
    list_nodes: bool,
    /// Whether to reap dead nodes, and rows of nodes that are gone.
    reap: bool,
    /// Whether to list the claims of this node; below, after which row.
    list_claims: bool,
    list_after: Option<RowKey>,
    /// Claims of this node that the store listed, and that are to be fetched.
    unknown: Vec<RowKey>,
}

/// The phase of a node between joining its store and leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Member(Standing),
    /// The node deregisters once the store has acknowledged everything; until then it renews its
    /// lease.
    Leaving(Standing),
    Left,
}

/// Whether the store and the node itself count the node as alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The store has not confirmed the first heartbeat of this incarnation.
    Joining,
    /// The store has confirmed a heartbeat, and the node has trusted its lease since.
    Live,
    /// The lease has lapsed, until the next heartbeat is confirmed.
    Lapsed,
}

/// The effects of a reply on the other lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The node has joined the store.
    pub(super) joined: bool,
    /// The next due instant may have changed.
    pub(super) due_changed: bool,
    /// The store's clock was set back: records may have fire times that a wrong clock has set.
    pub(super) clock_set_back: bool,
}

impl Membership {
    pub(super) fn new(
        options: Arc<NodeOptions>,
        numbers: &mut Numbers,
        now: Reading,
    ) -> Membership {
        Membership {
            id: NodeId(numbers.draw()),
            phase: Phase::Member(Standing::Joining),
            lease: Arc::new(Lease::new(options.margin())),
            clocks: Clocks::new(now),
            in_flight: InFlight::default(),
            next_heartbeat: TimeDelta::MIN,
            last_heartbeat: TimeDelta::MIN,
            watch: Watch::default(),
            inquires_in: 0,
            list_nodes: false,
            reap: false,
            list_claims: false,
            list_after: None,
            unknown: Vec::new(),
            options,
        }
    }

    /// Returns the id of the current incarnation of the node.
    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Returns the time of the local clocks and of the store's clock.
    pub(super) fn read(&self, now: Reading) -> Now {
        self.clocks.read(now)
    }

    /// Converts an instant of the store's clock to the local wall clock.
    pub(super) fn to_local(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        self.clocks.to_local(instant)
    }

    /// Converts an instant of the local wall clock to the store's clock.
    pub(super) fn to_store(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        self.clocks.to_store(instant)
    }

    /// Whether the time of the store's clock is known.
    pub(super) fn knows_clock(&self) -> bool {
        self.clocks.is_measured() || !self.options.has_clock
    }

    /// Returns when the last confirmed heartbeat was sent.
    pub(super) fn last_heartbeat(&self) -> TimeDelta {
        self.last_heartbeat
    }

    fn standing(&self) -> Option<Standing> {
        match self.phase {
            Phase::Member(standing) | Phase::Leaving(standing) => Some(standing),
            Phase::Left => None,
        }
    }

    fn set_standing(&mut self, new: Standing) {
        match &mut self.phase {
            Phase::Member(standing) | Phase::Leaving(standing) => *standing = new,
            Phase::Left => {}
        }
    }

    /// Whether the store has confirmed a heartbeat of this incarnation.
    pub(super) fn has_joined(&self) -> bool {
        matches!(self.standing(), Some(Standing::Live | Standing::Lapsed))
    }

    /// Whether the node has joined and is not leaving.
    pub(super) fn stays(&self) -> bool {
        matches!(self.phase, Phase::Member(Standing::Live | Standing::Lapsed))
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub(super) fn has_left(&self) -> bool {
        self.phase == Phase::Left
    }

    /// Whether the last heartbeat, or another request of this lane, has failed.
    pub(super) fn is_down(&self) -> bool {
        self.in_flight.has_failed()
    }

    pub(super) fn in_flight(&mut self) -> &mut InFlight<Request> {
        &mut self.in_flight
    }

    /// Whether a pending reply may bring claims of this node.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight.is_waiting()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.in_flight.is_failing()
    }

    /// Whether the node trusts its lease.
    pub(super) fn is_trusted(&self, now: Reading) -> bool {
        self.lease.is_trusted(now)
    }

    /// Notes a lapsed lease. Returns whether it has lapsed, for the first time since the last
    /// confirmed heartbeat.
    pub(super) fn lapse(&mut self, now: Reading) -> bool {
        let has_lapsed = self.standing() == Some(Standing::Live) && !self.is_trusted(now);
        if has_lapsed {
            self.set_standing(Standing::Lapsed);
            self.lease.lapse();
        }
        has_lapsed
    }

    /// Deregisters once the store has acknowledged everything.
    pub(super) fn deregister(&mut self) {
        if let Phase::Member(standing) = self.phase {
            self.phase = Phase::Leaving(standing);
        }
    }

    /// Begins a new incarnation, since the store has expired this one. A leaving node without
    /// pending outcomes has left.
    pub(super) fn lose(&mut self, has_outcomes: bool, numbers: &mut Numbers) {
        self.id = NodeId(numbers.draw());
        self.set_standing(Standing::Joining);
        (self.list_after, self.unknown) = (None, Vec::new());
        self.lease.lose();
        self.next_heartbeat = TimeDelta::MIN;
        if self.is_leaving() && !has_outcomes {
            self.phase = Phase::Left;
        }
    }

    /// Accounts for a step of the local wall clock. Returns how much further ahead of it the
    /// store's clock is.
    pub(super) fn wall_stepped(&mut self, by: TimeDelta) -> TimeDelta {
        self.lease.stepped(by);
        self.next_heartbeat = TimeDelta::MIN;
        self.clocks.wall_stepped(by)
    }

    /// Fetches claims of this node that it does not know.
    pub(super) fn fetch(&mut self, rows: impl Iterator<Item = RowKey>) {
        self.unknown.extend(rows);
    }

    /// Returns when the node must be polled again. `is_done` says whether the other lanes have
    /// nothing left.
    pub(super) fn wake_at(&self, is_done: bool, now: Reading) -> Option<TimeDelta> {
        let request = self.in_flight.wake_at(self.wanted_at(is_done));
        let is_live = self.standing() == Some(Standing::Live);
        let lapse = is_live.then(|| now.elapsed + self.lease.left(now).max(TimeDelta::zero()));
        [request, lapse].into_iter().flatten().min()
    }

    fn wanted_at(&self, is_done: bool) -> Option<TimeDelta> {
        match self.phase {
            Phase::Leaving(_) if is_done => Some(TimeDelta::MIN),
            Phase::Leaving(Standing::Joining) | Phase::Left => None,
            // The lease must not lapse during the wait.
            Phase::Leaving(_) | Phase::Member(Standing::Joining) => Some(self.next_heartbeat),
            Phase::Member(_) if self.has_inquiries() => Some(TimeDelta::MIN),
            Phase::Member(_) => {
                let expiry = self.watch.next_expiry();
                Some(expiry.map_or(self.next_heartbeat, |expiry| expiry.min(self.next_heartbeat)))
            }
        }
    }

    fn has_inquiries(&self) -> bool {
        self.list_nodes || self.reap || self.list_claims || !self.unknown.is_empty()
    }

    /// Returns the request to send now, if any. `is_done` says whether the other lanes have nothing
    /// left.
    pub(super) fn poll(&mut self, is_done: bool, now: Reading) -> Option<Request> {
        if !self.in_flight.is_due(self.wanted_at(is_done), now) {
            return None;
        }
        let request = self.next_request(is_done, now);
        Some(self.in_flight.send(request, now))
    }

    fn next_request(&mut self, is_done: bool, now: Reading) -> Request {
        let leaves = self.is_leaving() && is_done;
        if leaves || !self.has_joined() || now.elapsed >= self.next_heartbeat {
            let ttl = if leaves { Duration::ZERO } else { self.options.lease };
            let (name, first) = (self.options.name.clone(), !self.has_joined());
            let clock_offset = self.clocks.is_measured().then(|| -self.clocks.ahead());
            let heartbeat = Heartbeat::new(self.id, name, first, ttl);
            return Request::Heartbeat(Heartbeat { clock_offset, ..heartbeat });
        }
        if std::mem::take(&mut self.list_nodes) {
            return Request::Nodes;
        }
        let suspects = self.watch.suspects(now.elapsed);
        if std::mem::take(&mut self.reap) || !suspects.is_empty() {
            return Request::Reap(suspects);
        }
        // All at once, since rows of one job are judged together.
        if !self.unknown.is_empty() && self.list_after.is_none() {
            return Request::Claimed { node: self.id, rows: self.unknown.clone() };
        }
        self.list_claims = false;
        let (after, limit) = (self.list_after, self.options.max_batch);
        Request::ClaimedBy { node: self.id, after, limit }
    }

    /// Accepts a reply. A reply to an earlier incarnation of the node is ignored.
    pub(super) fn accept(
        &mut self,
        reply: Reply,
        now: Reading,
        events: &mut Vec<NodeEvent>,
    ) -> Findings {
        let mut findings = Findings::default();
        let Some(sent) = self.in_flight.succeed() else { return findings };
        match reply {
            Reply::Heartbeat { heartbeat, .. } if heartbeat.ttl.is_zero() => {
                self.phase = Phase::Left;
            }
            Reply::Heartbeat { heartbeat, store_now } if heartbeat.node == self.id => {
                findings = self.renew(store_now, sent, now, events);
            }
            Reply::Nodes(nodes) => {
                // Other nodes may claim the jobs of a node that is gone, and whoever has expired it may
                // have died before all its rows were reclaimed.
                let is_gone =
                    self.watch.update(&nodes, self.id, self.options.heartbeat_every(), now.elapsed);
                findings.due_changed = is_gone;
                self.reap |= is_gone;
            }
            Reply::Reap { suspects, reaped } => {
                self.reap = reaped.more;
                // Suspects that the store has not expired are alive, and watched anew.
                self.watch.forget(&suspects);
                self.list_nodes |= !suspects.is_empty();
                findings.due_changed = !reaped.handed_out.is_empty() || !suspects.is_empty();
                events.push(NodeEvent::Reaped(reaped));
            }
            Reply::ClaimedBy { node, limit, claims } if node == self.id => {
                let is_full = claims.len() >= limit;
                self.list_after = claims.last().map(|claim| claim.key).filter(|_| is_full);
                self.list_claims |= is_full;
                events.push(NodeEvent::Listed(claims));
            }
            Reply::Claimed { node, requested, found } if node == self.id => {
                self.unknown.drain(..requested.min(self.unknown.len()));
                events.push(NodeEvent::Fetched(found));
            }
            Reply::Heartbeat { .. } | Reply::ClaimedBy { .. } | Reply::Claimed { .. } => {}
        }
        findings
    }

    /// Accepts that the store has confirmed a heartbeat of this incarnation.
    fn renew(
        &mut self,
        store_now: DateTime<Utc>,
        sent: Reading,
        now: Reading,
        events: &mut Vec<NodeEvent>,
    ) -> Findings {
        let mut findings = Findings { joined: !self.has_joined(), ..Findings::default() };
        if self.options.has_clock {
            let change = self.clocks.measure(store_now, sent, now);
            // Claims are made well ahead, so it does not matter to them when a clock is known better.
            findings.due_changed = change.by.abs() * 8 > delta(self.options.claim_ahead);
            findings.clock_set_back = change.stepped_back;
            if !change.moved.is_zero() {
                events.push(NodeEvent::ClockMoved(change.moved));
            }
        }
        let until = delta(self.options.lease) - self.options.margin();
        self.lease.renew(
            sent.wall.timestamp_millis() + until.num_milliseconds(),
            (sent.elapsed + until).num_milliseconds(),
        );
        self.list_nodes = true;
        if findings.joined || self.inquires_in == 0 {
            (self.reap, self.list_claims) = (true, true);
            self.inquires_in = INQUIRE_EVERY;
        }
        self.inquires_in -= 1;
        self.last_heartbeat = sent.elapsed;
        self.next_heartbeat = if have_parted(sent, now) {
            TimeDelta::MIN
        } else {
            sent.elapsed + self.options.heartbeat_every()
        };
        let was_live = self.standing() == Some(Standing::Live);
        let is_trusted = self.is_trusted(now);
        self.set_standing(if was_live || is_trusted { Standing::Live } else { Standing::Lapsed });
        if is_trusted && !was_live {
            events.push(NodeEvent::Trusted);
        }
        findings
    }

    /// Inquires fully after the next heartbeat, since a reply was lost.
    pub(super) fn inquire(&mut self) {
        self.inquires_in = 0;
    }

    /// Handles a failed request, which is sent again.
    pub(super) fn fail(
        &mut self,
        request: &Request,
        error: &StoreError,
        now: Reading,
        numbers: &mut Numbers,
    ) {
        self.in_flight.fail(error.is_refused(), &self.options, now, numbers);
        match request {
            // The heartbeat may take effect long after the node has left, and must not bring the
            // node back.
            Request::Heartbeat(heartbeat) if heartbeat.first => self.id = NodeId(numbers.draw()),
            Request::Heartbeat(_) => {}
            Request::Nodes => self.list_nodes = true,
            Request::Reap(_) => self.reap = true,
            Request::ClaimedBy { .. } => self.list_claims = true,
            // The next list shows whether the node still has these claims.
            Request::Claimed { .. } => self.unknown.clear(),
        }
    }
}
