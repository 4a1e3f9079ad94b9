//! The claims of a node: how claimed rows become runs like any other, and how their outcomes get back to
//! the store.

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
use super::{StoreKey, StoreRoom};
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

/// What a durable job has beyond one in memory.
pub(in crate::core) struct DurableJob {
    store: StoreKey,
    incarnation: Incarnation,
    version: u64,
    /// Its trigger as the record has it, to see when that changes.
    trigger: String,
    /// The name of its task.
    task: String,
    /// The rows that this node has claimed and that have no outcome yet.
    open: BTreeMap<(RowKind, i64), ClaimedRow>,
    /// Those of them that have not come due, in order.
    upcoming: VecDeque<Upcoming>,
    /// Rows that were closed or released, which the store has not acknowledged.
    unacknowledged: HashSet<Claim>,
    /// Whether the store has ended the job, since nothing is left of it.
    over: bool,
    /// Whether it has no further fire time: then its rows count against the limits of its options.
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
    /// Whether the node has expired since: the row may be another node's by now.
    lost: bool,
}

#[derive(Clone, Copy)]
struct Upcoming {
    due: Due,
    kind: RowKind,
    number: i64,
}

impl<P> Job<P> {
    /// Its store and its incarnation there, if it is in one.
    pub(in crate::core) fn incarnation_in_store(&self) -> Option<(StoreKey, Incarnation)> {
        self.durable().map(|durable| (durable.store, durable.incarnation))
    }

    /// Its store, if it is in one.
    pub(in crate::core) fn store(&self) -> Option<StoreKey> {
        self.durable().map(|durable| durable.store)
    }
}

impl DurableJob {
    /// Drops the outcomes that the store has not acknowledged: the store is gone.
    pub(super) fn forget_unacknowledged(&mut self) {
        self.unacknowledged.clear();
    }

    fn key(&self, kind: RowKind, number: i64) -> RowKey {
        RowKey { incarnation: self.incarnation, kind, number }
    }

    fn run_id(&self, due: Due) -> RunId {
        run_id(self.key(RowKind::Scheduled, due.fire_time.timestamp_millis()))
    }

    /// The row of a run.
    fn row_of(&self, run: RunId, fire_time: DateTime<Utc>) -> Option<(RowKind, i64)> {
        let scheduled = (RowKind::Scheduled, fire_time.timestamp_millis());
        if run_id(self.key(scheduled.0, scheduled.1)) == run {
            return self.open.contains_key(&scheduled).then_some(scheduled);
        }
        let requested = self.open.range((RowKind::Requested, i64::MIN)..);
        requested.map(|(&row, _)| row).find(|&(kind, number)| run_id(self.key(kind, number)) == run)
    }
}

/// The jobs of a store of which this node has claimed rows, and how many rows these are.
#[derive(Default)]
pub(in crate::core) struct Claims {
    slots: HashMap<Incarnation, u32>,
    /// The number of open rows.
    open: usize,
    /// Jobs that have reached their row cap: no more of their rows are claimed, so that others get room.
    throttled: HashSet<Incarnation>,
    /// The number of open rows of throttled jobs.
    throttled_rows: usize,
    /// Whether a job is no longer throttled since the node was last polled.
    was_unthrottled: bool,
    /// Whether rows were closed since then.
    pub(in crate::core) rows_closed: bool,
}

/// The number of open rows from which on those of throttled jobs count, too.
const MAX_UNCOUNTED_ROWS: usize = 200_000;

/// The lowest row cap of a job.
const MIN_ROW_CAP: usize = 2000;

/// The row cap of a job of these options: twice what may be active or wait in line, within bounds.
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
    /// Updates the counters when the open rows of a job go from `before` to `now`. At `row_cap` rows the job
    /// is throttled, until it has less than half as many.
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

    /// The number of open rows that count against what a node may claim. Rows of throttled jobs count only if
    /// there are very many rows.
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

    /// Whether the store has not acknowledged the outcomes of some of its rows.
    pub(in crate::core) fn is_unacknowledged(&self) -> bool {
        self.durable().is_some_and(|durable| !durable.unacknowledged.is_empty())
    }

    /// Whether it is in a store.
    pub(in crate::core) fn is_durable(&self) -> bool {
        self.durable().is_some()
    }

    /// The number of a run for this fire time, which its row determines.
    pub(in crate::core) fn durable_run(&self, due: Due) -> Option<RunId> {
        Some(self.durable()?.run_id(due))
    }

    /// The attempt that the row of a run stands for, and the fence under which it was claimed.
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
    /// Updates the counters when a job had `before` open rows.
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

    /// Has this scheduler be a node of a store of this name.
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

    /// What both clocks say, before anything is told.
    pub(crate) fn read_clocks(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// How long until the nodes must be asked again what they want.
    pub(crate) fn node_wakes_in(&self) -> Option<Duration> {
        let wake_at =
            |room: &StoreRoom| room.node.wake_at(room.claims.counted_rows(), self.reading);
        let at = self.durable.iter().filter_map(wake_at).min()?;
        // It may be that it can't be asked for what it wants now, and it must not be asked all the time.
        let wait = at.checked_sub(&self.reading.elapsed).and_then(|wait| wait.to_std().ok());
        Some(wait.unwrap_or_default().max(Duration::from_millis(1)))
    }

    /// What the nodes ask their stores now.
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
        let Some(StoreRoom { node, claims, leaving, .. }) = self.durable.get_mut(store) else {
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
                Some(named) => named.iter().filter_map(|of| known(slots.get(of)?)).collect(),
            };
            known.sort_unstable();
            known
        })
    }

    /// What a store answered. `payloads` are for the jobs in it, in order.
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
        // One that was removed has nothing to say.
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
                // What it has claimed runs when it would have if the clock was not wrong.
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
        // What was discarded is dropped when the lock is free.
        self.effects.discard_all(payloads.map(Discarded::Payload));
    }

    /// Emits an event about a store, if the store is still there.
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

    /// Whether runs of this store's jobs may start: its node trusts its lease.
    fn is_trusted(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_some_and(|node| node.is_trusted(self.reading))
    }

    /// A job of this store fires at `next`, if it is left as it is.
    pub(crate) fn note_due(&mut self, store: StoreKey, next: Option<DateTime<Utc>>) {
        if let (Some(node), Some(next)) = (self.durable.node_mut(store), next) {
            node.note_due(next, self.reading);
            self.effects.poll_stores();
        }
    }

    /// Something may have changed in this store.
    pub(crate) fn refresh(&mut self, store: StoreKey) {
        self.durable.node_mut(store).into_iter().for_each(Node::refresh);
        self.effects.poll_stores();
    }

    /// This store notifies of a change; `is_news` says whether it is news to a handle.
    pub(crate) fn notice(&mut self, store: StoreKey, change: StoreChange, is_news: bool) {
        let version = |of| {
            let slot = self.durable.slot(store, of)?;
            self.registry[slot].durable().map(|durable| durable.version)
        };
        let is_news = is_news
            || match change {
                StoreChange::Job(of, is) => version(of).is_some_and(|known| known < is),
                StoreChange::Gone(of) => version(of).is_some(),
                _ => false,
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

    /// What the store's clock says, as far as it is known.
    pub(crate) fn store_now(&self, store: StoreKey) -> DateTime<Utc> {
        let node = self.durable.node(store);
        node.map_or(self.reading.wall, |node| node.store_now(self.reading))
    }

    /// The same, if it is known.
    pub(crate) fn known_store_now(&self, store: StoreKey) -> Option<DateTime<Utc>> {
        let node = self.durable.node(store).filter(|node| node.knows_clock())?;
        Some(node.store_now(self.reading))
    }

    /// Whether the store is known to be down.
    pub(crate) fn is_down(&self, store: StoreKey) -> bool {
        self.durable.node(store).is_some_and(Node::is_down)
    }

    /// A number of 63 bits that no other node has.
    pub(crate) fn number(&mut self, store: StoreKey) -> Result<u64, Error> {
        let node = self.durable.node_mut(store);
        node.map(Node::number).ok_or_else(|| Error::gone("the store of the job has been removed"))
    }

    /// Whether the stores have been told everything, and that the nodes leave.
    pub(crate) fn has_left(&self) -> bool {
        self.durable.iter().all(|room| room.node.has_left())
    }

    /// The stores that have not been told everything, and how many outcomes of runs each.
    pub(crate) fn pending_outcomes(&self) -> Vec<(Arc<str>, usize)> {
        let left = self.durable.iter().filter(|room| !room.node.has_left());
        left.map(|room| (room.name.clone(), room.node.pending_outcomes())).collect()
    }

    /// Takes leave of each store that is to be left, once nothing of its jobs is going.
    pub(in crate::core) fn deregister_idle_nodes(&mut self) {
        for room in self.durable.iter_mut() {
            if (self.closed || room.leaving) && room.claims.slots.is_empty() {
                room.node.deregister();
                self.effects.poll_stores();
            }
        }
    }

    /// Whether the scheduler takes leave of this store, since it shuts down or the store is removed.
    fn is_leaving(&self, store: StoreKey) -> bool {
        self.closed || self.durable.get(store).is_none_or(|room| room.leaving)
    }

    /// What the shell keeps with a job that the node of this store holds.
    pub(crate) fn payload_of(&self, store: StoreKey, incarnation: Incarnation) -> Option<P> {
        let slot = self.durable.slot(store, incarnation)?;
        Some(self.registry[slot].payload.clone())
    }

    /// Whether the node of this store holds the job.
    pub(crate) fn has_claimed(&self, store: StoreKey, incarnation: Incarnation) -> bool {
        self.durable.slot(store, incarnation).is_some()
    }

    /// How many of a job's runs are going here.
    pub(crate) fn running(&self, store: StoreKey, incarnation: Incarnation) -> u32 {
        let slot = self.durable.slot(store, incarnation);
        slot.map_or(0, |slot| self.registry[slot].runs.active())
    }

    /// The first fire time of a job that its node has taken and that has not come due.
    pub(crate) fn next_taken(
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
