//! The claims of a node: how claimed rows become runs like any other, and how their outcomes get
//! back to the store.

mod accept;
mod lease;
mod records;
mod reports;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};

use self::records::end_of;
use super::{StoreKey, StoreState};
use crate::{
    clock::Reading,
    core::{
        Core, Discarded, Job, Payload,
        ahead::run_id,
        decide::Due,
        durable::node::{CanRun, Lease, Node, NodeEvent, NodeOptions, Reply, Request},
    },
    error::Error,
    event::EventPayload,
    job::{JobOptions, Labels, Overlap, RunId},
    ledger::{
        Claim, Incarnation, Record, RecordChange, RecordStatus, RowKey, RowKind, StoreChange,
        StoreError,
    },
};

/// The additional state of a durable job.
pub(in crate::core) struct DurableJob {
    store: StoreKey,
    incarnation: Incarnation,
    version: u64,
    /// The trigger of the record, to detect a change.
    trigger: String,
    /// The name of the task.
    task: String,
    /// The claimed rows without an outcome.
    open: BTreeMap<(RowKind, i64), ClaimedRow>,
    /// The open rows that have not come due, in order.
    upcoming: VecDeque<Upcoming>,
    /// Closed or released rows that the store has not acknowledged.
    unacknowledged: HashSet<Claim>,
    /// Whether the store has ended the job, since nothing is left of it.
    over: bool,
    /// Whether the job has no further fire time, so that its rows count against the limits of its
    /// options.
    last: bool,
    /// The number of open rows at which no more are claimed.
    row_cap: usize,
}

struct ClaimedRow {
    fence: u64,
    attempt: u32,
    coalesced: u64,
    /// Whether the row is run again if its node expires.
    recover: bool,
    /// Whether the node has expired since, so that another node may have claimed the row.
    lost: bool,
}

#[derive(Clone, Copy)]
struct Upcoming {
    due: Due,
    kind: RowKind,
    number: i64,
}

impl<P> Job<P> {
    /// Returns the store and the incarnation of a durable job.
    pub(in crate::core) fn incarnation_in_store(&self) -> Option<(StoreKey, Incarnation)> {
        self.durable().map(|durable| (durable.store, durable.incarnation))
    }

    /// Returns the store of a durable job.
    pub(in crate::core) fn store(&self) -> Option<StoreKey> {
        self.durable().map(|durable| durable.store)
    }
}

impl DurableJob {
    /// Drops the pending outcomes, since the store is removed.
    pub(super) fn forget_unacknowledged(&mut self) {
        self.unacknowledged.clear();
    }

    fn key(&self, kind: RowKind, number: i64) -> RowKey {
        RowKey { incarnation: self.incarnation, kind, number }
    }

    fn run_id(&self, due: Due) -> RunId {
        run_id(self.key(RowKind::Scheduled, due.fire_time.timestamp_millis()))
    }

    /// Returns the row of a run.
    fn row_of(&self, run: RunId, fire_time: DateTime<Utc>) -> Option<(RowKind, i64)> {
        let scheduled = (RowKind::Scheduled, fire_time.timestamp_millis());
        if run_id(self.key(scheduled.0, scheduled.1)) == run {
            return self.open.contains_key(&scheduled).then_some(scheduled);
        }
        let requested = self.open.range((RowKind::Requested, i64::MIN)..);
        requested.map(|(&row, _)| row).find(|&(kind, number)| run_id(self.key(kind, number)) == run)
    }
}

/// The jobs of a store of which this node has claimed rows, and the numbers of these rows.
#[derive(Default)]
pub(in crate::core) struct Claims {
    slots: HashMap<Incarnation, u32>,
    /// The number of open rows.
    open: usize,
    /// Jobs that have reached their row cap: no more of their rows are claimed, to leave room for
    /// other jobs.
    throttled: HashSet<Incarnation>,
    /// The number of open rows of throttled jobs.
    throttled_rows: usize,
    /// Whether a job is no longer throttled since the node was last polled.
    was_unthrottled: bool,
    /// Whether rows were closed since the node was last polled.
    pub(in crate::core) rows_closed: bool,
}

/// From this number of open rows on, the rows of throttled jobs count, too.
const MAX_UNCOUNTED_ROWS: usize = 200_000;

/// The lowest row cap of a job.
const MIN_ROW_CAP: usize = 2000;

/// Returns the row cap of a job with these options: twice the runs that may be active or queued,
/// within bounds.
fn row_cap(options: &JobOptions) -> usize {
    let in_line = match options.overlap {
        Overlap::Queue(most) => most as usize,
        _ => 0,
    };
    (options.max_instances as usize)
        .saturating_add(in_line)
        .saturating_mul(2)
        .clamp(MIN_ROW_CAP, 5 * MIN_ROW_CAP)
}

impl Claims {
    /// Updates the counters when the open rows of a job go from `before` to `now`. At `row_cap`
    /// rows the job is throttled, until it has less than half as many.
    fn count(&mut self, incarnation: Incarnation, before: usize, now: usize, row_cap: usize) {
        self.open = (self.open + now).saturating_sub(before);
        if self.throttled.contains(&incarnation) {
            self.throttled_rows = self.throttled_rows.saturating_sub(before);
        }
        if now >= row_cap {
            self.throttled.insert(incarnation);
        } else if now < row_cap / 2 && self.throttled.remove(&incarnation) {
            self.was_unthrottled = true;
        }
        if self.throttled.contains(&incarnation) {
            self.throttled_rows += now;
        }
    }

    /// Returns how many open rows count against the node's limit of claimed rows. Rows of throttled
    /// jobs count only if there are very many rows.
    fn counted_rows(&self) -> usize {
        if self.open < MAX_UNCOUNTED_ROWS {
            self.open.saturating_sub(self.throttled_rows)
        } else {
            self.open
        }
    }

    pub(in crate::core) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(in crate::core) fn slot(&self, incarnation: Incarnation) -> Option<u32> {
        self.slots.get(&incarnation).copied()
    }
}

impl<P> Job<P> {
    pub(in crate::core) fn durable(&self) -> Option<&DurableJob> {
        self.extras.as_ref()?.durable.as_deref()
    }

    pub(super) fn durable_mut(&mut self) -> Option<&mut DurableJob> {
        self.extras.as_mut()?.durable.as_deref_mut()
    }

    /// Whether the job has outcomes that the store has not acknowledged.
    pub(in crate::core) fn is_unacknowledged(&self) -> bool {
        self.durable().is_some_and(|durable| !durable.unacknowledged.is_empty())
    }

    /// Whether the job is durable.
    pub(in crate::core) fn is_durable(&self) -> bool {
        self.durable().is_some()
    }

    /// Returns the number of the run for this fire time, which the row determines.
    pub(in crate::core) fn durable_run(&self, due: Due) -> Option<RunId> {
        Some(self.durable()?.run_id(due))
    }

    /// Returns the attempt of a run's row, and the fence under which it was claimed.
    pub(in crate::core) fn row_of(
        &self,
        run: RunId,
        fire_time: DateTime<Utc>,
    ) -> Option<(u32, u64)> {
        let durable = self.durable()?;
        let open = durable.open.get(&durable.row_of(run, fire_time)?)?;
        Some((open.attempt, open.fence))
    }
}

impl<P: Payload> Core<P> {
    /// Updates the counters of a job that had `before` open rows.
    pub(in crate::core) fn count_open(&mut self, slot: u32, before: usize) {
        let job = &self.registry[slot];
        let Some(durable) = job.durable() else { return };
        let now = durable.open.len();
        if let Some(room) = self.durable.get_mut(durable.store) {
            room.claims.count(durable.incarnation, before, now, durable.row_cap);
        }
        if now < before {
            self.durable.note_rows_closed();
        }
        let now = if durable.last { now } else { 0 };
        let of = (durable.store, durable.incarnation);
        self.runs.limits_mut().count_claimed(of, job.options(self.registry.common()), now);
    }

    /// Makes this scheduler a node of the store of this name.
    pub(crate) fn join(
        &mut self,
        name: Arc<str>,
        options: NodeOptions,
        tasks: HashSet<String>,
        can_run: CanRun,
    ) -> (StoreKey, Arc<Lease>) {
        let node = Node::new(options, tasks, can_run, self.reading);
        let lease = node.lease().clone();
        self.effects.poll_stores();
        (self.durable.add(name, node), lease)
    }

    /// Sets both clocks, before any other input.
    pub(crate) fn read_clocks(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Returns how long until the nodes must be polled again.
    pub(crate) fn node_wakes_in(&self) -> Option<Duration> {
        let wake_at =
            |room: &StoreState| room.node.wake_at(room.claims.counted_rows(), self.reading);
        let at = self.durable.iter().filter_map(wake_at).min()?;
        // A wanted request may not be allowed yet, and the node must not be polled all the time.
        let wait = at.checked_sub(&self.reading.elapsed).and_then(|wait| wait.to_std().ok());
        Some(wait.unwrap_or_default().max(Duration::from_millis(1)))
    }

    /// Returns the requests that the nodes send to their stores now.
    pub(crate) fn due_requests(&mut self, now: DateTime<Utc>) -> Vec<(StoreKey, Request)> {
        let mut requests = Vec::new();
        for index in 0..self.durable.len() {
            if let Some(store) = self.durable.key_at(index) {
                requests.extend(
                    self.due_requests_of(store, now).into_iter().map(|request| (store, request)),
                );
            }
        }
        requests
    }

    fn due_requests_of(&mut self, store: StoreKey, now: DateTime<Utc>) -> Vec<Request> {
        let reading = self.reading;
        if self.durable.node_mut(store).is_some_and(|node| node.lapse(reading)) {
            self.lease_lapsed(store, now);
        }
        let Some(StoreState { node, claims, leaving, .. }) = self.durable.get_mut(store) else {
            return Vec::new();
        };
        node.set_paused(self.paused || self.closed || *leaving);
        if std::mem::take(&mut claims.was_unthrottled) {
            node.refresh();
        }
        if std::mem::take(&mut claims.rows_closed) {
            node.has_room_again(reading);
        }
        let limits = self.runs.limits_mut();
        let (registry, claims) = (&self.registry, &*claims);
        let room = || limits.room(store, reading.elapsed);
        node.poll(reading, claims.counted_rows(), &claims.throttled, room, |named| {
            let known = |&slot: &u32| {
                let job = &registry[slot];
                let durable = job.durable()?;
                Some((registry.id(slot), durable.incarnation, durable.version))
            };
            let slots = &claims.slots;
            let mut known: Vec<_> = match named {
                None => slots.values().filter_map(known).collect(),
                Some(named) => {
                    let known =
                        |(of, version)| known(slots.get(of)?).filter(|(.., known)| known < version);
                    named.iter().filter_map(known).collect()
                }
            };
            known.sort_unstable();
            known
        })
    }

    /// Accepts the reply to a request. `payloads` are for the jobs in the reply, in order.
    pub(crate) fn answer(
        &mut self,
        store: StoreKey,
        request: Request,
        reply: Result<Reply, StoreError>,
        payloads: Vec<P>,
        now: DateTime<Utc>,
    ) {
        let reading = self.reading;
        let mut payloads = payloads.into_iter();
        // The replies of a removed store are ignored.
        let node = self.durable.node_mut(store);
        let news = node.map(|node| node.answer(request, reply, reading)).unwrap_or_default();
        for news in news {
            match news {
                NodeEvent::Claimed(claim_result) => {
                    for claimed in claim_result.jobs {
                        let payload = payloads.next();
                        self.accept_claim(store, claimed, payload, false, now);
                    }
                    self.close_orphans(store, &claim_result.orphans, now);
                }
                NodeEvent::Listed(rows) => {
                    let is_new = |claim: &Claim| !self.knows(store, *claim);
                    let new: Vec<RowKey> =
                        rows.into_iter().filter(is_new).map(|claim| claim.key).collect();
                    if let Some(node) = self.durable.node_mut(store) {
                        node.fetch(new.into_iter());
                    }
                }
                NodeEvent::Fetched(claim_result) => {
                    for claimed in claim_result.jobs {
                        let payload = payloads.next();
                        self.accept_claim(store, claimed, payload, true, now);
                    }
                    self.close_orphans(store, &claim_result.orphans, now);
                }
                NodeEvent::Changed(changed) => {
                    for RecordChange { incarnation, status } in changed {
                        match status {
                            RecordStatus::Updated(record) => {
                                self.adopt(store, &record, payloads.next(), now);
                            }
                            RecordStatus::Removed(fate) => {
                                self.forget(store, incarnation, &end_of(fate), now)
                            }
                        }
                    }
                }
                NodeEvent::Acknowledged { claims, over } => {
                    self.acknowledge_rows(store, &claims, &over, now)
                }
                NodeEvent::Reaped(reaped) => self.report_reaped(store, reaped, now),
                NodeEvent::Failing(error) => {
                    let error = error.into();
                    self.note_of(store, now, |store| EventPayload::StoreFailing { store, error });
                }
                NodeEvent::Working => {
                    self.note_of(store, now, |store| EventPayload::StoreWorking { store })
                }
                // If the clock was wrong, claimed rows run when they would have run without the
                // correction.
                NodeEvent::ClockMoved(by) if -by > self.correction => {}
                NodeEvent::ClockMoved(by) => self.shift_claims(store, -by),
                NodeEvent::GivenUp(key, error) => {
                    if let Some(slot) = self.durable.slot(store, key.incarnation) {
                        let job = self.registry.id(slot);
                        let (run, error) = (run_id(key), error.into());
                        self.note_of(store, now, |store| EventPayload::OutcomeRefused {
                            store,
                            job,
                            run,
                            error,
                        });
                    }
                }
                NodeEvent::Corrected(records) => {
                    for record in records {
                        let (job, next_fire) = (record.id.clone(), record.next_fire);
                        self.adopt(store, &record, None, now);
                        self.note_in(store, now, EventPayload::JobModified { job, next_fire });
                        self.note_due(store, next_fire.filter(|_| !record.paused));
                    }
                }
                NodeEvent::Trusted => self.lease_renewed(store, now),
                NodeEvent::Lost => self.lease_lost(store, now),
                NodeEvent::Unreadable(found) => {
                    for (job, error) in found {
                        self.note_of(store, now, |store| EventPayload::JobUnreadable {
                            store,
                            job,
                            error,
                        });
                    }
                }
            }
        }
        self.wake_store_removal(store);
        // The payloads are dropped when the lock is free.
        self.effects.discard_all(payloads.map(Discarded::Payload));
    }

    /// Emits an event about a store, unless the store has been removed.
    pub(in crate::core::durable) fn note_of(
        &mut self,
        store: StoreKey,
        now: DateTime<Utc>,
        payload: impl FnOnce(Arc<str>) -> EventPayload,
    ) {
        if let Some(name) = self.durable.name(Some(store)) {
            self.note_in(store, now, payload(name));
        }
    }

    /// Whether the node of this store trusts its lease, so that runs may start.
    fn is_trusted(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_some_and(|node| node.is_trusted(self.reading))
    }

    /// Notes that a job of this store fires at `next` if no other node claims it.
    pub(crate) fn note_due(&mut self, store: StoreKey, next: Option<DateTime<Utc>>) {
        if let (Some(node), Some(next)) = (self.durable.node_mut(store), next) {
            node.note_due(next, self.reading);
            self.effects.poll_stores();
        }
    }

    /// Notes that anything may have changed in this store.
    pub(crate) fn refresh(&mut self, store: StoreKey) {
        self.durable.node_mut(store).into_iter().for_each(Node::refresh);
        self.effects.poll_stores();
    }

    /// Accepts a notification of this store; `is_news` says whether the change is news to a handle.
    pub(crate) fn notice(&mut self, store: StoreKey, change: StoreChange, is_news: bool) {
        let version = |of| {
            let slot = self.durable.slot(store, of)?;
            self.registry[slot].durable().map(|durable| durable.version)
        };
        let is_news = match change {
            _ if is_news => Some(true),
            StoreChange::Job(of, is) => version(of).map(|known| known < is),
            StoreChange::Gone(of) => version(of).map(|_| true),
            _ => None,
        };
        let reading = self.reading;
        if let Some(node) = self.durable.node_mut(store) {
            node.notice(change, is_news, reading);
        }
        self.effects.poll_stores();
    }

    pub(in crate::core) fn refresh_all(&mut self) {
        self.durable.iter_mut().for_each(|room| room.node.refresh());
        self.effects.poll_stores();
    }

    /// Returns the time of the store's clock, as far as it is known.
    pub(crate) fn store_now(&self, store: StoreKey) -> DateTime<Utc> {
        let node = self.durable.node(store);
        node.map_or(self.reading.wall, |node| node.store_now(self.reading))
    }

    /// Returns the time of the store's clock, if it is known.
    pub(crate) fn known_store_now(&self, store: StoreKey) -> Option<DateTime<Utc>> {
        let node = self.durable.node(store).filter(|node| node.knows_clock())?;
        Some(node.store_now(self.reading))
    }

    /// Whether the store is known to be down.
    pub(crate) fn is_down(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_some_and(Node::is_down)
    }

    /// Returns a number of 63 bits that no other node draws.
    pub(crate) fn number(&mut self, store: StoreKey) -> Result<u64, Error> {
        let node = self.durable.node_mut(store);
        node.map(Node::number).ok_or_else(|| Error::gone("the store of the job has been removed"))
    }

    /// Whether the stores have acknowledged everything, including that the nodes deregister.
    pub(crate) fn has_left(&self) -> bool {
        self.durable.iter().all(|room| room.node.has_left())
    }

    /// Returns the stores that have not acknowledged everything, each with its number of pending
    /// outcomes.
    pub(crate) fn pending_outcomes(&self) -> Vec<(Arc<str>, usize)> {
        let left = self.durable.iter().filter(|room| !room.node.has_left());
        left.map(|room| (room.name.clone(), room.node.pending_outcomes())).collect()
    }

    /// Deregisters from each store that is being left, once none of its jobs is active.
    pub(in crate::core) fn deregister_idle_nodes(&mut self) {
        for room in self.durable.iter_mut() {
            if (self.closed || room.leaving) && room.claims.slots.is_empty() {
                room.node.deregister();
                self.effects.poll_stores();
            }
        }
    }

    /// Whether the scheduler is leaving this store, because of a shutdown or a removal of the
    /// store.
    fn is_leaving(&self, store: StoreKey) -> bool {
        self.closed || self.durable.get(store).is_none_or(|room| room.leaving)
    }

    /// Returns the payload of a job that the node of this store has claimed.
    pub(crate) fn payload_of(&self, store: StoreKey, incarnation: Incarnation) -> Option<P> {
        let slot = self.durable.slot(store, incarnation)?;
        Some(self.registry[slot].payload.clone())
    }

    /// Whether the node of this store has claimed the job.
    pub(crate) fn has_claimed(&self, store: StoreKey, incarnation: Incarnation) -> bool {
        self.durable.slot(store, incarnation).is_some()
    }

    /// Returns how many of a job's runs are active here.
    pub(crate) fn running(&self, store: StoreKey, incarnation: Incarnation) -> u32 {
        let slot = self.durable.slot(store, incarnation);
        slot.map_or(0, |slot| self.registry[slot].runs.active())
    }

    /// Returns the first claimed fire time of a job that has not come due.
    pub(crate) fn next_claimed(
        &self,
        store: StoreKey,
        incarnation: Incarnation,
    ) -> Option<DateTime<Utc>> {
        let durable = self.registry[self.durable.slot(store, incarnation)?].durable()?;
        let scheduled = durable.upcoming.iter().filter(|it| it.kind == RowKind::Scheduled);
        scheduled.map(|upcoming| upcoming.due.fire_time).min()
    }

    /// Whether another run of the job would be skipped, as far as its node knows.
    pub(crate) fn is_full(&self, store: StoreKey, incarnation: Incarnation) -> bool {
        self.durable.slot(store, incarnation).is_some_and(|slot| self.would_skip(slot))
    }
}

fn labels_of(record: &Record) -> Labels {
    Labels {
        name: record.name.as_deref().map(Into::into),
        tags: record.tags.iter().map(|tag| tag.as_str().into()).collect(),
    }
}
