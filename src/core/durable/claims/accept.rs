//! Claimed rows come in, and become runs like any other when they are due.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{ClaimedRow, DurableJob, Upcoming, labels_of, row_cap};
use crate::{
    core::{
        Core, Discarded, JobKey, Payload, StoreKey,
        ahead::{Definition, run_id},
        decide::{self, Due},
        registry::job::{Extras, Job},
        runs::{JobRuns, Submission},
        schedule::Timing,
    },
    event::EventPayload,
    job::{End, SkipReason},
    ledger::{
        Claim, ClaimedJob, Fate, Record, Release, Row, RowKey, RowKind, RowOutcome, RowState,
    },
};

impl<P: Payload> Core<P> {
    /// Accepts the claimed rows of a job. If `may_know`, rows that are known, or were acknowledged
    /// meanwhile, are ignored.
    pub(in crate::core) fn accept_claim(
        &mut self,
        store: StoreKey,
        claimed: ClaimedJob,
        payload: Option<P>,
        may_know: bool,
        now: DateTime<Utc>,
    ) {
        let ClaimedJob { record, rows } = claimed;
        let open: Vec<Row> = rows
            .into_iter()
            .filter(|row| match row.state {
                RowState::Claimed(node) => self.is_news(store, row, node),
                _ => {
                    if !may_know {
                        self.report_closed(store, row, now);
                    }
                    false
                }
            })
            .collect();
        if open.is_empty() {
            if record.next_fire.is_none()
                && !may_know
                && !self.has_claimed(store, record.incarnation)
            {
                self.note_in(
                    store,
                    now,
                    EventPayload::JobRemoved { job: record.id, end: End::Completed },
                );
                self.effects.job_over(store, record.incarnation, End::Completed);
            }
            self.effects.discard_all(payload.map(Discarded::Payload));
            return;
        }
        let node = self.durable.node(store);
        let removed = node.and_then(|node| node.overtaken(record.incarnation));
        if let Some(None) = removed
            && !self.has_claimed(store, record.incarnation)
        {
            self.close_rows_of_removed(store, open);
            self.effects.discard_all(payload.map(Discarded::Payload));
            return;
        }
        let give_back = |row: &Row| Release::new(row.key, row.fence, row.attempt);
        let releases: Vec<Release> = open.iter().map(give_back).collect();
        let Ok(definition) = Definition::read(&record) else {
            // No node can have decided to claim it.
            if let Some(node) = self.durable.node_mut(store) {
                node.exclude(record.incarnation);
            }
            self.release_unread(store, releases);
            self.effects.discard_all(payload.map(Discarded::Payload));
            return;
        };
        let Some(slot) = self.find_or_add_claimed(store, &record, &definition, payload, now) else {
            self.release_unread(store, releases);
            return;
        };
        if let Some(durable) = self.registry[slot].durable_mut() {
            durable.last = record.next_fire.is_none();
        }
        for row in open {
            self.add_row(slot, &record, &definition, row);
        }
        self.arm_claims(slot);
        let durable = self.registry[slot].durable();
        if durable.is_some_and(|durable| {
            durable.version > record.version && durable.trigger != record.trigger
        }) {
            // The rows were claimed by an older trigger.
            self.release_upcoming(slot);
        }
        let job = &self.registry[slot];
        let standing = match () {
            () if self.is_leaving(store) => Some(SkipReason::Shutdown),
            () if job.retired => Some(SkipReason::Removed),
            () if job.paused || self.paused => Some(SkipReason::Paused),
            () => None,
        };
        if let Some(reason) = standing {
            self.skip_claimed(slot, reason, now);
        }
        let node = self.durable.node(store);
        let newer = node.and_then(|node| node.overtaken(record.incarnation));
        if let Some(Some(newer)) = newer.cloned() {
            self.adopt(store, &newer, None, now);
        }
    }

    fn release_unread(&mut self, store: StoreKey, rows: Vec<Release>) {
        if let Some(node) = self.durable.node_mut(store) {
            rows.into_iter().for_each(|row| node.release(row));
        }
    }

    /// Closes claimed rows of a job that has been removed since.
    fn close_rows_of_removed(&mut self, store: StoreKey, rows: Vec<Row>) {
        let reading = self.reading;
        let Some(node) = self.durable.node_mut(store) else { return };
        let ended_at = chrono::SubsecRound::trunc_subsecs(node.store_now(reading), 3);
        for Row { key, fence, attempt, .. } in rows {
            let fate = Fate::called_off(SkipReason::Removed, attempt);
            let (started_at, message, job_end) = (None, None, Fate::Completed);
            let outcome =
                RowOutcome { key, fence, fate, attempt, started_at, ended_at, message, job_end };
            node.finish(outcome, reading);
        }
        self.effects.poll_stores();
    }

    /// Closes rows that the node did not know of, since the response to its claim was lost, and
    /// whose job is gone.
    pub(in crate::core) fn close_orphans(
        &mut self,
        store: StoreKey,
        orphans: &[Row],
        now: DateTime<Utc>,
    ) {
        for row in orphans {
            let RowState::Claimed(of) = row.state else { continue };
            if !self.is_news(store, row, of) {
                continue;
            }
            let fate = Fate::called_off(SkipReason::Removed, row.attempt);
            let closed = Row { state: RowState::Closed(fate.clone()), ..row.clone() };
            self.report_closed(store, &closed, now);
            let slot = self.durable.slot(store, row.key.incarnation);
            if let Some(durable) = slot.and_then(|slot| self.registry[slot].durable_mut()) {
                durable.unacknowledged.insert(row.claim());
            }
            let Some(node) = self.durable.node_mut(store) else { return };
            let outcome = RowOutcome {
                key: row.key,
                fence: row.fence,
                fate,
                attempt: row.attempt,
                started_at: None,
                ended_at: chrono::SubsecRound::trunc_subsecs(node.store_now(self.reading), 3),
                message: None,
                job_end: Fate::Completed,
            };
            node.finish(outcome, self.reading);
            self.effects.poll_stores();
        }
    }

    /// Whether the node has claimed a row that it did not know of.
    fn is_news(&self, store: StoreKey, row: &Row, of: crate::ledger::NodeId) -> bool {
        let is_own = self.durable.node(store).is_some_and(|node| of == node.id());
        is_own && !self.knows(store, row.claim())
    }

    /// Whether the node knows this claim: its row is open here, or its outcome is pending.
    pub(in crate::core) fn knows(&self, store: StoreKey, claim: Claim) -> bool {
        let Claim { key, fence } = claim;
        let slot = self.durable.slot(store, key.incarnation);
        let durable = slot.and_then(|slot| self.registry[slot].durable());
        let open = durable.and_then(|durable| durable.open.get(&(key.kind, key.number)));
        open.is_some_and(|open| open.fence == fence)
            || self.durable.node(store).is_some_and(|node| node.has_closed(claim))
    }

    /// Returns the slot of a durable job, adding the job if it has none.
    fn find_or_add_claimed(
        &mut self,
        store: StoreKey,
        record: &Record,
        definition: &Definition,
        payload: Option<P>,
        now: DateTime<Utc>,
    ) -> Option<u32> {
        if let Some(slot) = self.durable.slot(store, record.incarnation) {
            self.adopt(store, record, payload, now);
            // That may have closed its last row.
            return self.has_claimed(store, record.incarnation).then_some(slot);
        }
        let payload = payload?;
        let options = Arc::new(definition.options.clone());
        self.runs.limits_mut().join(&options);
        let durable = DurableJob {
            store,
            incarnation: record.incarnation,
            version: record.version,
            trigger: record.trigger.clone(),
            task: record.task.clone(),
            open: BTreeMap::new(),
            upcoming: VecDeque::new(),
            unacknowledged: HashSet::new(),
            over: false,
            last: record.next_fire.is_none(),
            row_cap: row_cap(&definition.options),
        };
        let extras = Extras {
            id: Some(record.id.clone()),
            labels: labels_of(record),
            durable: Some(Box::new(durable)),
            ..Extras::default()
        };
        payload.set_standing(record.paused.then_some(SkipReason::Paused));
        let JobKey { slot, .. } = self.registry.insert(|incarnation| Job {
            incarnation,
            trigger: definition.trigger.clone(),
            timing: Timing::new(false),
            options: Some(options),
            runs: JobRuns::default(),
            once: false,
            follows: false,
            paused: record.paused,
            retired: false,
            extras: Some(Box::new(extras)),
            payload,
        });
        if let Some(room) = self.durable.get_mut(store) {
            room.claims.slots.insert(record.incarnation, slot);
        }
        Some(slot)
    }

    /// Adds a row to the upcoming rows of a job, in the order of due instants.
    fn add_row(&mut self, slot: u32, record: &Record, definition: &Definition, row: Row) {
        let store = self.registry[slot].store();
        let Some(node) = store.and_then(|store| self.durable.node(store)) else { return };
        let RowKey { kind, number, .. } = row.key;
        let due = match kind {
            RowKind::Scheduled => definition.due(record, row.fire_time),
            _ => row.fire_time,
        };
        let due = Due { fire_time: row.fire_time, at: node.to_local(due) };
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        let Row { fence, attempt, coalesced, recover, .. } = row;
        let open = ClaimedRow { fence, attempt, coalesced, recover, lost: false };
        match durable.open.insert((kind, number), open) {
            None => {
                let before = durable.open.len() - 1;
                self.count_open(slot, before);
            }
            Some(_) => durable.upcoming.retain(|it| (it.kind, it.number) != (kind, number)),
        }
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        let place = durable.upcoming.partition_point(|other| other.due.at <= due.at);
        durable.upcoming.insert(place, Upcoming { due, kind, number });
    }

    /// Has the job wake for the first of its claimed rows.
    pub(in crate::core) fn arm_claims(&mut self, slot: u32) {
        let job = &mut self.registry[slot];
        let next =
            job.durable().and_then(|durable| durable.upcoming.front()).map(|upcoming| upcoming.due);
        job.timing.set_next(next);
        self.mark(slot);
    }

    /// Starts runs for the due rows of a durable job.
    pub(in crate::core) fn start_due_rows(&mut self, slot: u32, now: DateTime<Utc>) {
        let is_trusted = |store| self.is_trusted(store);
        if !self.registry[slot].store().is_some_and(is_trusted) {
            // The job continues when the node trusts its lease again.
            self.registry[slot].timing.defer();
            self.mark(slot);
            return;
        }
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        let count = durable.upcoming.partition_point(|upcoming| upcoming.due.at <= now);
        let due: Vec<Upcoming> = durable.upcoming.drain(..count).collect();
        self.arm_claims(slot);
        let mut together = VecDeque::new();
        for Upcoming { due, kind, number } in due {
            let Some(durable) = self.registry[slot].durable() else { return };
            let Some(open) = durable.open.get(&(kind, number)) else { continue };
            // Requested runs, and runs that may have begun on another node, are not coalesced.
            if kind == RowKind::Scheduled && open.attempt == 1 {
                together.push_back(due);
                continue;
            }
            let id = Some(run_id(durable.key(kind, number)));
            let on_request = kind == RowKind::Requested;
            let (coalesced, again) = (open.coalesced, open.attempt > 1);
            let submission = Submission { id, on_request, coalesced, again, ..Submission::of(due) };
            self.submit(slot, submission, now);
        }
        // Rows of an older trigger may be due in another order.
        together.make_contiguous().sort_by_key(|due| due.fire_time);
        let options = self.registry.options(slot);
        if let Some(plan) = decide::coalesce(options, together, now) {
            self.carry_out(slot, plan, now);
        }
        self.end_if_over(slot, now);
    }

    /// Returns how many fire times the store coalesced into this one.
    pub(in crate::core) fn coalesced_before(&self, slot: u32, due: Due) -> u64 {
        let durable = self.registry[slot].durable();
        let open = durable.and_then(|durable| {
            durable.open.get(&(RowKind::Scheduled, due.fire_time.timestamp_millis()))
        });
        open.map_or(0, |open| open.coalesced)
    }
}
