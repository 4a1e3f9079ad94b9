//! What a node claims, and how it detects changes and the next due instant.

mod changes;
mod due;
mod echoes;
mod excluded;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    changes::Changes,
    due::{NextClaim, SCAN_AGAIN},
    echoes::{By, Echoes},
    excluded::{Excluded, Reported},
};
use super::{NodeEvent, NodeOptions, Now, Numbers, exchange::InFlight, options::delta};
use crate::{
    core::{
        ahead::{self, Definition},
        durable::allowance::Allowance,
    },
    error::Error,
    job::JobId,
    ledger::{
        ClaimRequest, ClaimResult, Decide, Decision, Incarnation, NextDueRequest, NodeId, ROW_SIZE,
        Record, RecordChange, StoreChange, StoreError,
    },
    panic::shielded_or,
};

/// A request of the claim lane to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Claim(ClaimRequest),
    NextDue(NextDueRequest),
    /// Checks which of these records have changed. `named` are the records that the store has
    /// notified of, with their versions, if only those are checked.
    Changed {
        known: Vec<(JobId, Incarnation, u64)>,
        named: Option<HashMap<Incarnation, u64>>,
    },
}

/// The reply of the store, with the part of the request that is needed to interpret it.
#[derive(Debug)]
pub(crate) enum Reply {
    Claim { node: NodeId, result: ClaimResult },
    NextDue(Option<DateTime<Utc>>),
    Changed(Vec<RecordChange>),
}

impl Reply {
    /// Returns how many rows a claim has added to the ledger.
    pub(super) fn rows(&self) -> usize {
        match self {
            Reply::Claim { result, .. } => result.jobs.iter().map(|job| job.rows.len()).sum(),
            Reply::NextDue(_) | Reply::Changed(_) => 0,
        }
    }
}

impl Request {
    /// Returns the incarnation of the node that sends the request, if it counts for that one alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Claim(claim) => Some(claim.node),
            Request::NextDue(_) | Request::Changed { .. } => None,
        }
    }
}

/// Returns an error if a job of this record can't run here.
pub(crate) type CanRun = Arc<dyn Fn(&Record, &Definition) -> Result<(), Error> + Send + Sync>;

/// The bounds of the node's claims.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    /// How many claimed rows the node has not closed.
    pub(super) open_rows: usize,
    /// How many closed rows the store has not acknowledged.
    pub(super) unacknowledged: usize,
    /// The jobs that have reached their row cap, so that no more of their rows are claimed.
    pub(super) throttled: &'a HashSet<Incarnation>,
}

/// How many rows a node has at most, claimed and not acknowledged.
const MAX_OPEN: usize = 20_000;

/// How many rows a claim may have per job: a job that is due often, or catches up, has many, and
/// other operations of the store wait for the claim.
const ROWS_PER_JOB: usize = 10;

/// How many jobs a claim scans without result: some milliseconds' worth.
const LOOKS: usize = 250;

/// One node's claims.
pub(super) struct Claimer {
    options: Arc<NodeOptions>,
    /// The tasks that the node can run.
    tasks: Arc<HashSet<String>>,
    can_run: CanRun,
    in_flight: InFlight<Request>,
    next_claim: NextClaim,
    echoes: Echoes,
    changes: Changes,
    excluded: Excluded,
    reported: Reported,
    /// Whether to query the next due instant.
    queries_next_due: bool,
    /// How many claims this incarnation of the node has made: the number of the last claim.
    claims: u64,
    /// A claim without a reply, to be repeated with its number.
    pending: Option<ClaimRequest>,
    /// How many jobs the next claim may have.
    batch: usize,
    /// Whether the last claim left jobs without room.
    left_some: bool,
    /// Whether rows were closed since the last claim was sent.
    has_more_room: bool,
    /// Whether nothing new is claimed.
    paused: bool,
}

impl Claimer {
    pub(super) fn new(
        options: Arc<NodeOptions>,
        tasks: HashSet<String>,
        can_run: CanRun,
    ) -> Claimer {
        Claimer {
            tasks: Arc::new(tasks),
            can_run,
            in_flight: InFlight::default(),
            next_claim: NextClaim::new(delta(options.claim_ahead)),
            echoes: Echoes::default(),
            changes: Changes::new(),
            excluded: Excluded::new(),
            reported: Reported::new(),
            queries_next_due: false,
            claims: 0,
            pending: None,
            batch: options.max_batch.min(100),
            left_some: false,
            has_more_room: false,
            paused: false,
            options,
        }
    }

    pub(super) fn in_flight(&mut self) -> &mut InFlight<Request> {
        &mut self.in_flight
    }

    pub(super) fn is_failing(&self) -> bool {
        self.in_flight.is_failing()
    }

    /// Whether the result of a sent claim is unknown, so that the claim is repeated.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether a pending reply, or a claim to be repeated, may bring records.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight.is_waiting() || self.is_pending()
    }

    /// Claims nothing new while `paused`.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Claims and polls at once, since the node has joined.
    pub(super) fn start(&mut self, now: TimeDelta) {
        self.next_claim.set_local_due(now);
        self.changes.poll_at(now);
    }

    /// Begins a new incarnation of the node: the numbers of its claims start over.
    pub(super) fn restart(&mut self) {
        (self.claims, self.pending) = (0, None);
    }

    /// Claims at `at`, whatever was planned before.
    pub(super) fn set_local_due(&mut self, at: TimeDelta) {
        self.next_claim.set_local_due(at);
    }

    /// Claims in time for a fire time that comes due at `instant` by the store's clock, as this node has
    /// written.
    pub(super) fn note_due(&mut self, instant: DateTime<Utc>, now: Now) {
        self.note(instant, By::Node, now);
    }

    fn note(&mut self, instant: DateTime<Utc>, by: By, now: Now) {
        if !self.echoes.is_echo(instant, by, now.elapsed()) {
            self.next_claim.note_due(instant, now);
        }
    }

    /// Claims the jobs that were left, since there is more room now.
    pub(super) fn has_room_again(&mut self, now: TimeDelta) {
        self.has_more_room = true;
        if std::mem::take(&mut self.left_some) {
            self.next_claim.no_later_than(now + SCAN_AGAIN);
        }
    }

    /// Claims nothing of an unreadable job for a while.
    pub(super) fn exclude(&mut self, incarnation: Incarnation) {
        self.excluded.insert(incarnation);
    }

    /// Checks all records and queries the next due instant, since anything may have changed.
    pub(super) fn refresh(&mut self) {
        self.changes.check_all();
        self.queries_next_due = true;
    }

    /// Accepts a notification of the store. `is_news` says whether the record may be known here by
    /// another version.
    pub(super) fn notice(&mut self, change: StoreChange, is_news: bool, now: Now) {
        match change {
            StoreChange::Due(at) => self.note(at, By::Store, now),
            StoreChange::Job(of, _) | StoreChange::Gone(of) => {
                if is_news && !self.changes.checks_all() {
                    self.changes.check(change.record());
                }
                // A record that could not be read, or run here, may have been changed.
                self.queries_next_due |= self.excluded.remove(of);
                if self.changes.are_many() || self.excluded.is_passing() {
                    self.refresh();
                }
            }
            StoreChange::Unknown => {
                // It may be what echoes have become.
                self.echoes.forget();
                self.refresh();
            }
        }
    }

    /// Returns when to claim next, unless the lane waits.
    #[cfg(test)]
    pub(super) fn next_claim(&self) -> TimeDelta {
        self.next_claim.at()
    }

    /// Returns when the lane must be polled again.
    pub(super) fn wake_at(&self, load: Load<'_>) -> Option<TimeDelta> {
        self.in_flight.wake_at(Some(self.wanted_at(load)))
    }

    fn wanted_at(&self, load: Load<'_>) -> TimeDelta {
        if self.pending.is_some() || self.queries_next_due && self.knows_tasks() {
            return TimeDelta::MIN;
        }
        let changes = self.changes.at();
        if self.may_claim(load) { self.next_claim.at().min(changes) } else { changes }
    }

    /// Whether the node has any tasks to claim for.
    fn knows_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Whether more may be claimed: not before the store has acknowledged enough rows.
    fn may_claim(&self, load: Load<'_>) -> bool {
        let has_room = load.open_rows + load.unacknowledged < MAX_OPEN;
        !self.paused && self.knows_tasks() && has_room
    }

    /// Returns the request to send now, if any. `room` has the free slots; `known` returns the
    /// records that the node knows: all, or the named ones.
    pub(super) fn poll(
        &mut self,
        node: NodeId,
        load: Load<'_>,
        room: impl FnOnce() -> Allowance,
        known: impl FnOnce(Option<&HashMap<Incarnation, u64>>) -> Vec<(JobId, Incarnation, u64)>,
        numbers: &mut Numbers,
        now: Now,
    ) -> Option<Request> {
        if !self.in_flight.is_due(Some(self.wanted_at(load)), now.local) {
            return None;
        }
        let request = self.next_request(node, load, room, known, numbers, now)?;
        Some(self.in_flight.send(request, now.local))
    }

    fn next_request(
        &mut self,
        node: NodeId,
        load: Load<'_>,
        room: impl FnOnce() -> Allowance,
        known: impl FnOnce(Option<&HashMap<Incarnation, u64>>) -> Vec<(JobId, Incarnation, u64)>,
        numbers: &mut Numbers,
        now: Now,
    ) -> Option<Request> {
        if let Some(claim) = &self.pending {
            return Some(Request::Claim(claim.clone()));
        }
        if now.elapsed() >= self.changes.at() {
            let named = self.begin_check(numbers, now);
            return Some(Request::Changed { known: known(named.as_ref()), named });
        }
        if self.may_claim(load) && now.elapsed() >= self.next_claim.at() {
            let claim = self.new_claim(node, load, room(), now);
            self.pending = Some(claim.clone());
            return Some(Request::Claim(claim));
        }
        if self.knows_tasks() && std::mem::take(&mut self.queries_next_due) {
            let (tasks, except) = (self.tasks.clone(), self.excluded.with(load.throttled));
            let passed = self.excluded.passed();
            return Some(Request::NextDue(NextDueRequest { node, tasks, except, passed }));
        }
        None
    }

    /// Begins a check. Returns the records to check, or `None` for all. Records that could not be
    /// read, or run here, may have been changed.
    fn begin_check(
        &mut self,
        numbers: &mut Numbers,
        now: Now,
    ) -> Option<HashMap<Incarnation, u64>> {
        let named = self.changes.take(now);
        match &named {
            Some(named) => self.queries_next_due |= self.excluded.remove_all(named.keys()),
            None => {
                self.excluded.clear(now);
                // Up to a quarter sooner, so that the nodes do not poll together.
                let poll = self.options.poll_every();
                self.changes.poll_at(now.elapsed() + poll - poll / 4000 * numbers.per_mille());
                self.queries_next_due = true;
            }
        }
        named
    }

    fn new_claim(
        &mut self,
        node: NodeId,
        load: Load<'_>,
        room: Allowance,
        now: Now,
    ) -> ClaimRequest {
        self.claims += 1;
        self.has_more_room = false;
        self.next_claim.forget();
        let ahead = delta(self.options.claim_ahead);
        let horizon = now.store.checked_add_signed(ahead).unwrap_or(now.store);
        // Each claimed job is a record and at least one row.
        let limit = self.batch.min(self.options.max_bytes / (2 * ROW_SIZE)).max(1);
        ClaimRequest {
            node,
            number: self.claims,
            horizon,
            tasks: self.tasks.clone(),
            except: self.excluded.with(load.throttled),
            passed: self.excluded.passed(),
            looks: LOOKS,
            limit,
            row_limit: limit
                .saturating_mul(ROWS_PER_JOB)
                .min(MAX_OPEN.saturating_sub(load.open_rows))
                .min(self.options.max_bytes / ROW_SIZE)
                .max(1),
            decide: decide(self.can_run.clone(), node, room, now.store, horizon),
        }
    }

    /// Accepts a reply. A claim of an earlier incarnation of the node is ignored.
    pub(super) fn accept(
        &mut self,
        reply: Reply,
        node: NodeId,
        now: Now,
        events: &mut Vec<NodeEvent>,
    ) {
        if self.in_flight.succeed().is_none() {
            return;
        }
        match reply {
            Reply::Claim { node: of, result } => {
                self.pending = None;
                if of == node {
                    self.has_claimed(result, now, events);
                }
            }
            Reply::NextDue(due) => self.next_claim.set(due, now),
            Reply::Changed(changes) => {
                self.changes.succeed();
                events.push(NodeEvent::Changed(changes));
            }
        }
    }

    fn has_claimed(&mut self, result: ClaimResult, now: Now, events: &mut Vec<NodeEvent>) {
        let has_found = !result.jobs.is_empty();
        let looked_in_vain = !result.rejected.is_empty() || result.left > 0;
        self.left_some = result.left > 0;
        self.excluded.pass_over(&result, now);
        self.next_claim.count(!has_found && !looked_in_vain && !result.more, now);
        if !result.more {
            self.next_claim.set(result.next_due, now);
        }
        if result.more && (has_found || !looked_in_vain) {
            self.next_claim.set_local_due(now.elapsed());
        } else if result.more || self.left_some && self.has_more_room {
            self.next_claim.no_later_than(now.elapsed() + SCAN_AGAIN);
        }
        // Larger batches under load.
        self.batch = if result.more && has_found {
            self.batch.saturating_mul(2).min(self.options.max_batch)
        } else {
            self.options.max_batch.min(100)
        };
        let unreadable = self.reported.add(&result.rejected, now);
        if !unreadable.is_empty() {
            events.push(NodeEvent::Unreadable(unreadable));
        }
        events.push(NodeEvent::Claimed(result));
    }

    /// Handles a failed request, which is sent again.
    pub(super) fn fail(
        &mut self,
        request: Request,
        error: &StoreError,
        now: Now,
        numbers: &mut Numbers,
    ) {
        let refused = error.is_refused();
        if let Request::Changed { named, .. } = request {
            // Claims need not wait: if the store is unavailable, they fail and wait by themselves.
            let took = self.in_flight.fail_at_once(now.local);
            self.changes.fail(took, refused, &self.options, now, numbers);
            match named {
                Some(named) => self.changes.check(named),
                None => self.changes.check_all(),
            }
            return;
        }
        self.in_flight.fail(refused, &self.options, now.local, numbers);
        match request {
            Request::NextDue(_) => {
                self.queries_next_due = true;
                // A claim returns it, too.
                self.next_claim.no_later_than(now.elapsed() + self.options.longest_wait());
            }
            // The store refuses this claim, but may accept another.
            Request::Claim(_) if refused => {
                self.pending = None;
                self.queries_next_due = true;
            }
            Request::Claim(_) | Request::Changed { .. } => {}
        }
    }
}

/// Decides what is claimed of a job, up to `horizon` and as far as there is room.
fn decide(
    can_run: CanRun,
    node: NodeId,
    room: Allowance,
    store_now: DateTime<Utc>,
    horizon: DateTime<Utc>,
) -> Decide {
    let room = Mutex::new(room);
    Arc::new(move |record, waiting| {
        let decided = shielded_or(|| {
            let definition = Definition::read(record)?;
            can_run(record, &definition)?;
            let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
            let decided = ahead::decide(record, waiting, &definition, node, store_now, horizon)?;
            // Jobs that fire again are not limited here; waiting rows were requested, or are late
            // already.
            if let Decision::Claim { rows, next_fire: None } = &decided
                && waiting.is_empty()
            {
                if room.is_full(record.incarnation, &definition.options) {
                    return Ok(Decision::Leave);
                }
                let claimed = rows.iter().filter(|row| row.state.is_open());
                room.claim(&definition.options, claimed.count());
            }
            Ok(decided)
        });
        decided.unwrap_or_else(Decision::Reject)
    })
}
