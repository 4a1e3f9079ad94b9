//! The durable jobs that this node holds: how rows that it took become runs like any other, and how
//! the fates of those get back to the store.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Core, Discarded, Finish, Payload, RunKey,
    ahead::{Definition, run_id},
    decide::{self, Due},
    fates::shrink,
    job::{Extras, Job},
    node::{Answer, Asked, Fits, Lease, News, Node, NodeOptions},
    runs::{Going, Phase, Submission},
    semaphore::Semaphore,
};
use crate::{
    clock::Reading,
    event::{EventKind, What},
    job::{End, FireTimes, Labels, Outcome, Run, RunId, SkipReason},
    store::{
        Changed, Fate, Finished, Incarnation, Now, Reaped, Record, Row, RowKey, RowKind, RowState,
        RunEnd, StoreError, Taken,
    },
};

/// What a job in the store has, beyond one in memory.
pub(super) struct Held {
    incarnation: Incarnation,
    version: u64,
    recover: bool,
    /// Its trigger as the record has it, to see when that changes.
    trigger: String,
    /// The rows that this node has taken and that have not met their fate.
    open: BTreeMap<(RowKind, i64), Open>,
    /// Those of them that have not come due, in order.
    upcoming: VecDeque<Upcoming>,
    /// Rows that were closed or released, of which the store has not said that it knows.
    unsettled: HashSet<(RowKey, u64)>,
    /// Whether the store has let go of it, since there is nothing left of it.
    over: bool,
}

struct Open {
    fence: u64,
    attempt: u32,
    /// The attempt that the ledger has.
    handed_out: u32,
    coalesced: u64,
    /// Whether the store took the node for dead since: it may be another's by now.
    lost: bool,
}

impl Open {
    /// Whether its work was called here, and is to be called again.
    fn has_begun(&self) -> bool {
        self.attempt > self.handed_out
    }
}

#[derive(Clone, Copy)]
struct Upcoming {
    due: Due,
    kind: RowKind,
    number: i64,
}

impl Held {
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

/// The durable jobs of which this node has rows.
#[derive(Default)]
pub(super) struct HeldJobs {
    slots: HashMap<Incarnation, u32>,
    /// How many rows that are.
    open: usize,
}

impl HeldJobs {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl<P> Job<P> {
    pub(super) fn held(&self) -> Option<&Held> {
        self.extras.as_ref()?.held.as_deref()
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        self.extras.as_mut()?.held.as_deref_mut()
    }

    /// Whether the store has yet to hear of some of its rows.
    pub(super) fn is_unsettled(&self) -> bool {
        self.held().is_some_and(|held| !held.unsettled.is_empty())
    }

    /// Whether it is in a store.
    pub(super) fn is_durable(&self) -> bool {
        self.held().is_some()
    }

    /// The run's number, if its row says so.
    pub(super) fn durable_run(&self, due: Due) -> Option<RunId> {
        Some(self.held()?.run_id(due))
    }

    /// How often the row of a run was handed out, and under which fence.
    pub(super) fn row_of(&self, run: RunId, fire_time: DateTime<Utc>) -> Option<(u32, u64)> {
        let held = self.held()?;
        let open = held.open.get(&held.row_of(run, fire_time)?)?;
        Some((open.attempt, open.fence))
    }
}

impl<P: Payload> Core<P> {
    // The node.

    /// Has this scheduler be a node of a store.
    pub(crate) fn join(
        &mut self,
        options: NodeOptions,
        tasks: HashSet<String>,
        fits: Fits,
    ) -> Arc<Lease> {
        let node = Node::new(options, tasks, fits, self.reading);
        let lease = node.lease().clone();
        self.node = Some(Box::new(node));
        lease
    }

    /// What both clocks say, before anything is told.
    pub(crate) fn read_clocks(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// How long until the node must be asked again what it wants.
    pub(crate) fn node_wakes_in(&self) -> Option<Duration> {
        let at = self.node.as_ref()?.wake_at(self.held_jobs.open, self.reading)?;
        // It may be that it can't be asked for what it wants now, and it must not be asked all the time.
        let wait = at.checked_sub(&self.reading.elapsed).and_then(|wait| wait.to_std().ok());
        Some(wait.unwrap_or_default().max(Duration::from_millis(1)))
    }

    /// What the node asks the store now.
    pub(crate) fn ask(&mut self, now: DateTime<Utc>) -> Vec<Asked> {
        let reading = self.reading;
        let Some(node) = &mut self.node else { return Vec::new() };
        if node.has_lapsed(reading) {
            self.distrust(now);
        }
        let Some(node) = &mut self.node else { return Vec::new() };
        node.paused = self.paused || self.closed;
        let (jobs, held, scheduler) = (&self.jobs, &self.held_jobs, self.scheduler);
        node.poll(reading, held.open, || {
            let mut known: Vec<_> = held
                .slots
                .values()
                .filter_map(|&slot| {
                    let job = &jobs[slot];
                    let held = job.held()?;
                    Some((job.id(scheduler, slot), held.incarnation, held.version))
                })
                .collect();
            known.sort_unstable();
            known
        })
    }

    /// What the store answered. `payloads` are for the jobs in it, in order.
    pub(crate) fn answer(
        &mut self,
        asked: Asked,
        answer: Result<Answer, StoreError>,
        payloads: Vec<P>,
        now: DateTime<Utc>,
    ) {
        let reading = self.reading;
        let Some(node) = &mut self.node else { return };
        let mut payloads = payloads.into_iter();
        for news in node.answer(asked, answer, reading) {
            match news {
                News::Taken(takings) => {
                    for taken in takings.jobs {
                        let payload = payloads.next();
                        self.take_in(taken, payload, false, now);
                    }
                    self.close_orphans(&takings.orphans, now);
                }
                News::Mine(takings) => {
                    for taken in takings.jobs {
                        let payload = payloads.next();
                        self.take_in(taken, payload, true, now);
                    }
                    self.close_orphans(&takings.orphans, now);
                }
                News::Changed(changed) => {
                    for Changed { incarnation, now: then } in changed {
                        match then {
                            Now::Changed(record) => self.adopt(&record, now),
                            Now::Gone(fate) => self.forget(incarnation, &end_of(fate), now),
                        }
                    }
                }
                News::Settled { rows, over } => self.settle_rows(&rows, &over, now),
                News::Reaped(reaped) => self.report_reaped(reaped, now),
                News::Failing(error) => self.note(now, What::StoreFailing { error: error.into() }),
                News::Working => self.note(now, What::StoreWorking),
                News::ClockMoved(by) => self.shift_durable(-by),
                News::Trusted => self.go_on_durable(now),
                News::Lost => self.lose(now),
                News::Unreadable(found) => {
                    for (job, error) in found {
                        self.note(now, What::JobUnreadable { job, error });
                    }
                }
            }
        }
        // What was discarded is dropped when the lock is free.
        self.out.discarded.extend(payloads.map(Discarded::Payload));
    }

    /// Whether runs of durable jobs may start.
    fn is_trusted(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.is_trusted(self.reading))
    }

    /// A durable job fires at `next`, if it is left as it is.
    pub(crate) fn expect(&mut self, next: Option<DateTime<Utc>>) {
        if let (Some(node), Some(next)) = (&mut self.node, next) {
            node.expect(next, self.reading);
            self.out.ask = true;
        }
    }

    /// Something may have changed in the store.
    pub(crate) fn look(&mut self) {
        self.node.iter_mut().for_each(|node| node.look());
        self.out.ask = true;
    }

    /// What the store's clock says, as far as it is known.
    pub(crate) fn store_now(&self) -> DateTime<Utc> {
        self.node.as_ref().map_or(self.reading.wall, |node| node.store_now(self.reading))
    }

    /// The same, if it is known.
    pub(crate) fn known_store_now(&self) -> Option<DateTime<Utc>> {
        self.node.as_ref().filter(|node| node.knows_clock()).map(|_| self.store_now())
    }

    /// A number of 63 bits that no other node has.
    pub(crate) fn number(&mut self) -> u64 {
        self.node.as_mut().map_or(0, |node| node.number())
    }

    /// Whether the store has been told everything, and that the node leaves.
    pub(crate) fn has_left(&self) -> bool {
        self.node.as_ref().is_none_or(|node| node.has_left())
    }

    /// How many outcomes of runs the store has not been told.
    pub(crate) fn untold(&self) -> usize {
        self.node.as_ref().map_or(0, |node| node.untold())
    }

    /// Takes leave of the store, once nothing of a durable job is going.
    pub(super) fn leave_store(&mut self) {
        if self.closed && self.held_jobs.slots.is_empty() {
            self.node.iter_mut().for_each(|node| node.leave());
            self.out.ask = true;
        }
    }

    /// Whether this node holds the job.
    pub(crate) fn holds(&self, incarnation: Incarnation) -> bool {
        self.held_jobs.slots.contains_key(&incarnation)
    }

    /// How many of a job's runs are going here.
    pub(crate) fn running(&self, incarnation: Incarnation) -> u32 {
        let slot = self.held_jobs.slots.get(&incarnation);
        slot.map_or(0, |&slot| self.jobs[slot].semaphore.taken())
    }

    /// The first fire time of a job that this node has taken and that has not come due.
    pub(crate) fn next_taken(&self, incarnation: Incarnation) -> Option<DateTime<Utc>> {
        let held = self.jobs[*self.held_jobs.slots.get(&incarnation)?].held()?;
        let scheduled = held.upcoming.iter().filter(|it| it.kind == RowKind::Scheduled);
        scheduled.map(|upcoming| upcoming.due.fire_time).min()
    }

    /// Whether another run of the job would be skipped, as far as this node knows.
    pub(crate) fn is_full(&self, incarnation: Incarnation) -> bool {
        let slot = self.held_jobs.slots.get(&incarnation);
        slot.is_some_and(|&slot| self.would_skip(slot))
    }

    // What was taken.

    /// Takes in a job of which the node has taken rows; those that it `may_know` are none to the node
    /// if it has settled them meanwhile.
    fn take_in(&mut self, taken: Taken, payload: Option<P>, may_know: bool, now: DateTime<Utc>) {
        let Taken { record, rows } = taken;
        let open: Vec<Row> = rows
            .into_iter()
            .filter(|row| match row.state {
                RowState::Taken(node) => self.is_news(row, node),
                _ => {
                    if !may_know {
                        self.report_closed(row, now);
                    }
                    false
                }
            })
            .collect();
        if open.is_empty() {
            if record.next_fire.is_none() && !may_know && !self.holds(record.incarnation) {
                self.note(now, What::JobRemoved { job: record.id, end: End::Completed });
                self.out.over.push((record.incarnation, End::Completed));
            }
            self.out.discarded.extend(payload.map(Discarded::Payload));
            return;
        }
        let removed = self.node.as_ref().and_then(|node| node.overtaken(record.incarnation));
        if let Some(None) = removed
            && !self.holds(record.incarnation)
        {
            self.close_removed(open);
            self.out.discarded.extend(payload.map(Discarded::Payload));
            return;
        }
        let rows = open.iter().map(|row| (row.key, row.fence));
        let Ok(definition) = Definition::read(&record) else {
            // Nobody can have decided to take it.
            self.node.iter_mut().for_each(|node| node.leave_out(record.incarnation));
            let node = self.node.as_mut();
            node.into_iter().for_each(|node| rows.clone().for_each(|(k, f)| node.release(k, f)));
            self.out.discarded.extend(payload.map(Discarded::Payload));
            return;
        };
        let Some(slot) = self.slot_for(&record, &definition, payload, now) else {
            let node = self.node.as_mut();
            node.into_iter().for_each(|node| rows.clone().for_each(|(k, f)| node.release(k, f)));
            return;
        };
        for row in open {
            self.hold(slot, &record, &definition, row);
        }
        self.arm_durable(slot);
        let held = self.jobs[slot].held();
        if held.is_some_and(|held| held.version > record.version && held.trigger != record.trigger)
        {
            // They were taken by a trigger that it has no more.
            self.release_upcoming(slot);
        }
        let job = &self.jobs[slot];
        let standing = match () {
            () if self.closed => Some(SkipReason::Shutdown),
            () if job.retired => Some(SkipReason::Removed),
            () if job.paused || self.paused => Some(SkipReason::Paused),
            () => None,
        };
        if let Some(reason) = standing {
            self.call_off_taken(slot, reason, now);
        }
        let newer = self.node.as_ref().and_then(|node| node.overtaken(record.incarnation));
        if let Some(Some(newer)) = newer.cloned() {
            self.adopt(&newer, now);
        }
    }

    /// Rows were taken of a job that has been removed since.
    fn close_removed(&mut self, rows: Vec<Row>) {
        let reading = self.reading;
        let Some(node) = &mut self.node else { return };
        let ended_at = chrono::SubsecRound::trunc_subsecs(node.store_now(reading), 3);
        for Row { key, fence, attempt, .. } in rows {
            let fate = Fate::Skipped(SkipReason::Removed);
            let (started_at, message) = (None, None);
            let outcome = Finished { key, fence, fate, attempt, started_at, ended_at, message };
            node.finish(outcome, reading);
        }
        self.out.ask = true;
    }

    /// Closes rows that the node did not know of, since the answer to its take was lost, and whose job
    /// is gone.
    fn close_orphans(&mut self, orphans: &[Row], now: DateTime<Utc>) {
        for row in orphans {
            let RowState::Taken(of) = row.state else { continue };
            if !self.is_news(row, of) {
                continue;
            }
            let (reason, job) = (SkipReason::Removed, row.job.clone());
            let fire_times = FireTimes { first: row.fire_time, last: row.last, count: row.count };
            self.note(now, What::Skipped { job, run: None, fire_times, reason });
            let slot = self.held_jobs.slots.get(&row.key.incarnation);
            if let Some(held) = slot.and_then(|&slot| self.jobs[slot].held_mut()) {
                held.unsettled.insert((row.key, row.fence));
            }
            let Some(node) = &mut self.node else { return };
            let outcome = Finished {
                key: row.key,
                fence: row.fence,
                fate: Fate::Skipped(reason),
                attempt: row.attempt,
                started_at: None,
                ended_at: chrono::SubsecRound::trunc_subsecs(node.store_now(self.reading), 3),
                message: None,
            };
            node.finish(outcome, self.reading);
            self.out.ask = true;
        }
    }

    /// Whether a row is one that the node has now, and did not know of.
    fn is_news(&self, row: &Row, of: crate::store::NodeId) -> bool {
        let Some(node) = &self.node else { return false };
        let known = self.held_jobs.slots.get(&row.key.incarnation).is_some_and(|&slot| {
            let held = self.jobs[slot].held();
            held.is_some_and(|held| {
                let open = held.open.get(&(row.key.kind, row.key.number));
                open.is_some_and(|open| open.fence == row.fence)
            })
        });
        of == node.id() && !known && !node.is_settled(row.key, row.fence)
    }

    /// The slot of a durable job, made if it has none.
    fn slot_for(
        &mut self,
        record: &Record,
        definition: &Definition,
        payload: Option<P>,
        now: DateTime<Utc>,
    ) -> Option<u32> {
        if let Some(&slot) = self.held_jobs.slots.get(&record.incarnation) {
            self.out.discarded.extend(payload.map(Discarded::Payload));
            self.adopt(record, now);
            // What it was held for may be over with that.
            return self.holds(record.incarnation).then_some(slot);
        }
        let payload = payload?;
        self.incarnations += 1;
        let options = Arc::new(definition.options.clone());
        self.limits.join(&options);
        let held = Held {
            incarnation: record.incarnation,
            version: record.version,
            recover: record.recover,
            trigger: record.trigger.clone(),
            open: BTreeMap::new(),
            upcoming: VecDeque::new(),
            unsettled: HashSet::new(),
            over: false,
        };
        let extras = Extras {
            id: Some(record.id.clone()),
            labels: labels_of(record),
            held: Some(Box::new(held)),
            ..Extras::default()
        };
        payload.set_standing(record.paused.then_some(SkipReason::Paused));
        let incarnation = self.incarnations;
        let slot = self.jobs.insert_with(|_| Job {
            incarnation,
            trigger: definition.trigger.clone(),
            next: None,
            options: Some(options),
            semaphore: Semaphore::default(),
            runs: None,
            elapsed: false,
            once: false,
            follows: false,
            paused: record.paused,
            held: false,
            dirty: false,
            armed: false,
            retired: false,
            extras: Some(Box::new(extras)),
            payload,
        });
        self.held_jobs.slots.insert(record.incarnation, slot);
        Some(slot)
    }

    /// Takes a row in hand.
    fn hold(&mut self, slot: u32, record: &Record, definition: &Definition, row: Row) {
        let Some(node) = &self.node else { return };
        let RowKey { kind, number, .. } = row.key;
        let due = match kind {
            RowKind::Scheduled => definition.due(record, row.fire_time),
            _ => row.fire_time,
        };
        let due = Due { fire_time: row.fire_time, at: node.here(due) };
        let Some(held) = self.jobs[slot].held_mut() else { return };
        let Row { fence, attempt, coalesced, .. } = row;
        let open = Open { fence, attempt, handed_out: attempt, coalesced, lost: false };
        if held.open.insert((kind, number), open).is_none() {
            self.held_jobs.open += 1;
        }
        held.upcoming.retain(|upcoming| (upcoming.kind, upcoming.number) != (kind, number));
        let place = held.upcoming.partition_point(|other| other.due.at <= due.at);
        held.upcoming.insert(place, Upcoming { due, kind, number });
    }

    /// Has the job look at the first of what it has taken.
    fn arm_durable(&mut self, slot: u32) {
        let job = &mut self.jobs[slot];
        job.next = job.held().and_then(|held| held.upcoming.front()).map(|upcoming| upcoming.due);
        self.mark(slot);
    }

    /// Begins what of a durable job has come due.
    pub(super) fn wake_taken(&mut self, slot: u32, now: DateTime<Utc>) {
        if !self.is_trusted() {
            // It goes on when the node is trusted again.
            self.jobs[slot].held = true;
            self.mark(slot);
            return;
        }
        let Some(held) = self.jobs[slot].held_mut() else { return };
        let count = held.upcoming.partition_point(|upcoming| upcoming.due.at <= now);
        let due: Vec<Upcoming> = held.upcoming.drain(..count).collect();
        self.arm_durable(slot);
        let mut together = VecDeque::new();
        for Upcoming { due, kind, number } in due {
            let Some(held) = self.jobs[slot].held() else { return };
            let Some(open) = held.open.get(&(kind, number)) else { continue };
            // What was asked for, and what may have begun on another node, is not coalesced.
            if kind == RowKind::Scheduled && open.attempt == 1 {
                together.push_back(due);
                continue;
            }
            let id = Some(run_id(held.key(kind, number)));
            let on_request = kind == RowKind::Requested;
            let (coalesced, again) = (open.coalesced, open.attempt > 1);
            let submission = Submission { id, on_request, coalesced, again, ..Submission::of(due) };
            self.submit(slot, submission, now);
        }
        // Those of an older trigger may be due in another order.
        together.make_contiguous().sort_by_key(|due| due.fire_time);
        let options = self.jobs[slot].options(&self.defaults);
        if let Some(plan) = decide::coalesce(options, together, now) {
            self.carry_out(slot, plan, now);
        }
        self.end_if_over(slot, now);
    }

    /// How many fire times the store coalesced into this one.
    pub(super) fn coalesced_before(&self, slot: u32, due: Due) -> u64 {
        let held = self.jobs[slot].held();
        let open = held.and_then(|held| {
            held.open.get(&(RowKind::Scheduled, due.fire_time.timestamp_millis()))
        });
        open.map_or(0, |open| open.coalesced)
    }

    // Fates.

    /// Closes the rows of a stretch of fire times.
    pub(super) fn close_stretch(
        &mut self,
        slot: u32,
        fire_times: FireTimes,
        fate: &Fate,
        now: DateTime<Utc>,
    ) {
        for (kind, number) in self.rows_in(slot, fire_times) {
            self.close_row(slot, (kind, number), fate.clone(), None, now);
        }
    }

    /// The open rows of a stretch. Others may lie between them, of fire times that come before or after:
    /// what is going, in line or yet to come is not among them.
    fn rows_in(&self, slot: u32, fire_times: FireTimes) -> Vec<(RowKind, i64)> {
        let Some(held) = self.jobs[slot].held() else { return Vec::new() };
        let (first, last) =
            (fire_times.first.timestamp_millis(), fire_times.last.timestamp_millis());
        let range = (RowKind::Scheduled, first)..=(RowKind::Scheduled, last);
        let mut rows: Vec<_> = held.open.range(range).map(|(&row, _)| row).collect();
        if rows.len() > 1 {
            let others = self.spoken_for(slot, held);
            rows.retain(|(_, number)| !others.contains(number));
        }
        rows
    }

    /// The fire times of a job that something is to become of already.
    fn spoken_for(&self, slot: u32, held: &Held) -> HashSet<i64> {
        let job = &self.jobs[slot];
        let upcoming = held.upcoming.iter().filter(|it| it.kind == RowKind::Scheduled);
        let mut spoken_for: HashSet<i64> = upcoming.map(|it| it.number).collect();
        let mut add = |due: &Due| spoken_for.insert(due.fire_time.timestamp_millis());
        if let Some(extras) = &job.extras {
            for submission in extras.queue.iter().filter(|it| !it.on_request) {
                add(&submission.due);
                submission.backlog.iter().for_each(|due| _ = add(due));
            }
            extras.parked.iter().flat_map(|(_, backlog)| backlog).for_each(|due| _ = add(due));
        }
        for run in self.runs_of(slot) {
            let Going { id, due, fence, backlog, .. } = &self.runs[run];
            let row = held.row_of(*id, due.fire_time);
            if row.is_some_and(|row| row.0 == RowKind::Scheduled && held.open[&row].fence == *fence)
            {
                add(due);
            }
            backlog.iter().for_each(|due| _ = add(due));
        }
        spoken_for
    }

    /// Tells the store of fire times that are skipped, unless others may run for them: then they are
    /// released. Says whether they are skipped.
    pub(super) fn skip_durable(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(held) = self.jobs[slot].held() else { return true };
        let rows = match run.and_then(|run| held.row_of(run, fire_times.first)) {
            Some(row) if fire_times.count == 1 => vec![row],
            _ => self.rows_in(slot, fire_times),
        };
        let released = matches!(reason, SkipReason::Paused | SkipReason::Shutdown);
        for row in rows {
            match released {
                true => self.release_row(slot, row),
                false => self.close_row(slot, row, Fate::Skipped(reason), None, now),
            }
        }
        !released
    }

    /// Tells the store how a run ended, unless another node is to run it again. Says whether it has
    /// ended.
    pub(super) fn conclude_durable(
        &mut self,
        run: &Going,
        finish: &Finish,
        now: DateTime<Utc>,
    ) -> bool {
        let Going { job: slot, attempt, distrusted, .. } = *run;
        let Some(held) = self.jobs[slot].held() else { return true };
        let row = held.row_of(run.id, run.due.fire_time);
        let Some(row) = row.filter(|row| held.open[row].fence == run.fence) else {
            // The store took the node for dead, and has given the row to another, or to this one again.
            return true;
        };
        let recover = held.recover;
        let fate = match &finish.outcome {
            Outcome::Succeeded => Fate::Ran(RunEnd::Succeeded),
            Outcome::Failed(_) => Fate::Ran(RunEnd::Failed),
            Outcome::Panicked(_) => Fate::Ran(RunEnd::Panicked),
            Outcome::TimedOut => Fate::Ran(RunEnd::TimedOut),
            Outcome::Cancelled | Outcome::Abandoned if recover && self.closed => {
                self.leave_row(slot, row);
                return true;
            }
            Outcome::Cancelled if recover && distrusted && held.open[&row].lost => {
                // It is to be run again, by whoever has it now.
                if let Some(held) = self.jobs[slot].held_mut() {
                    held.open.remove(&row);
                    self.held_jobs.open -= 1;
                }
                return true;
            }
            Outcome::Cancelled if recover && distrusted && !self.jobs[slot].retired => {
                self.hold_again(slot, row, run.due, attempt + 1);
                return true;
            }
            Outcome::Cancelled => Fate::Ran(RunEnd::Cancelled),
            Outcome::Abandoned => Fate::Abandoned,
            Outcome::Missed => Fate::Missed,
            Outcome::Skipped(SkipReason::Paused | SkipReason::Shutdown) => {
                self.release_row(slot, row);
                return false;
            }
            Outcome::Skipped(reason) => Fate::Skipped(*reason),
        };
        let message = match &finish.outcome {
            Outcome::Panicked(message) => Some(shortened(message)),
            Outcome::Failed(_) => finish.said.as_deref().map(shortened),
            _ => None,
        };
        let ran = Some((attempt, finish.started_at, message));
        self.close_row(slot, row, fate, ran, finish.ended_at.min(now));
        true
    }

    fn close_row(
        &mut self,
        slot: u32,
        row: (RowKind, i64),
        fate: Fate,
        ran: Option<(u32, Option<DateTime<Utc>>, Option<String>)>,
        ended_at: DateTime<Utc>,
    ) {
        let Some((key, open)) = self.let_row_go(slot, row) else { return };
        let Some(node) = &mut self.node else { return };
        let (attempt, started_at, message) = ran.unwrap_or((open.attempt, None, None));
        // Instants of the ledger are the store's.
        let there = |instant| chrono::SubsecRound::trunc_subsecs(node.there(instant), 3);
        let outcome = Finished {
            key,
            fence: open.fence,
            fate,
            attempt,
            started_at: started_at.map(there),
            ended_at: there(ended_at),
            message,
        };
        node.finish(outcome, self.reading);
        self.out.ask = true;
    }

    fn release_row(&mut self, slot: u32, row: (RowKind, i64)) {
        let open = self.jobs[slot].held().and_then(|held| held.open.get(&row));
        if open.is_some_and(Open::has_begun) {
            self.leave_row(slot, row);
            return;
        }
        if let Some((key, open)) = self.let_row_go(slot, row)
            && let Some(node) = &mut self.node
        {
            node.release(key, open.fence);
            self.out.ask = true;
        }
    }

    /// Lets go of a row whose run has begun: whoever finds that this node is gone hands it out again.
    fn leave_row(&mut self, slot: u32, row: (RowKind, i64)) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        if let Some(open) = held.open.remove(&row) {
            let key = held.key(row.0, row.1);
            self.held_jobs.open -= 1;
            self.node.iter_mut().for_each(|node| node.leave_behind(key, open.fence));
        }
    }

    fn let_row_go(&mut self, slot: u32, row: (RowKind, i64)) -> Option<(RowKey, Open)> {
        let held = self.jobs[slot].held_mut()?;
        let open = held.open.remove(&row)?;
        let key = held.key(row.0, row.1);
        held.unsettled.insert((key, open.fence));
        self.held_jobs.open -= 1;
        Some((key, open))
    }

    /// Gives a run back that was about to start while the node did not believe itself: it is begun
    /// again when the node does.
    pub(super) fn put_back(&mut self, run: RunKey) {
        let Some(going) = self.runs.get(run.slot).filter(|going| going.id == run.id) else {
            return;
        };
        let (slot, due, attempt) = (going.job, going.due, going.attempt);
        let held = self.jobs[slot].held();
        let row = held.and_then(|held| {
            let row = held.row_of(run.id, due.fire_time)?;
            (held.open[&row].fence == going.fence).then_some(row)
        });
        row.into_iter().for_each(|row| self.hold_again(slot, row, due, attempt));
    }

    /// Begins a row again that has come due, as soon as the node believes itself.
    fn hold_again(&mut self, slot: u32, (kind, number): (RowKind, i64), due: Due, attempt: u32) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        if let Some(open) = held.open.get_mut(&(kind, number)) {
            open.attempt = attempt;
        }
        let place = held.upcoming.partition_point(|other| other.due.at <= due.at);
        held.upcoming.insert(place, Upcoming { due, kind, number });
        self.arm_durable(slot);
    }

    /// Skips, or releases, what of a durable job has been taken and has not come due.
    pub(super) fn call_off_upcoming(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        for Upcoming { due, kind, number } in std::mem::take(&mut held.upcoming) {
            let run = self.jobs[slot].held().map(|held| run_id(held.key(kind, number)));
            self.skip(slot, run, FireTimes::one(due.fire_time), reason, now);
        }
        self.arm_durable(slot);
    }

    /// The same, but for runs that a pause does not keep from starting: those that were asked for, and
    /// those that have begun.
    fn call_off_taken(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        let mut spared = VecDeque::new();
        if reason == SkipReason::Paused {
            let here = !self.paused;
            let open = &held.open;
            let goes_on = |it: &Upcoming| {
                (it.kind == RowKind::Requested && here)
                    || open.get(&(it.kind, it.number)).is_some_and(Open::has_begun)
            };
            let upcoming = std::mem::take(&mut held.upcoming);
            (spared, held.upcoming) = upcoming.into_iter().partition(goes_on);
        }
        self.call_off_upcoming(slot, reason, now);
        if let Some(held) = self.jobs[slot].held_mut() {
            held.upcoming = spared;
        }
        self.arm_durable(slot);
        self.end_if_over(slot, now);
    }

    /// The same, for all that has not started.
    fn call_off_durable(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        self.call_off_taken(slot, reason, now);
        if self.jobs.get(slot).is_some() {
            self.call_off_waiting(slot, reason, false, now);
            self.end_if_over(slot, now);
        }
    }

    // Jobs.

    /// A record was changed: what is held of it follows.
    pub(crate) fn adopt(&mut self, record: &Record, now: DateTime<Utc>) {
        let node = self.node.as_mut();
        node.into_iter().for_each(|node| node.overtake(record.incarnation, Some(record)));
        let Some(&slot) = self.held_jobs.slots.get(&record.incarnation) else { return };
        let Ok(definition) = Definition::read(record) else { return };
        let job = &mut self.jobs[slot];
        let Some(held) = job.held_mut().filter(|held| held.version < record.version) else {
            return;
        };
        held.version = record.version;
        held.recover = record.recover;
        let rescheduled = held.trigger != record.trigger;
        if rescheduled {
            held.trigger.clone_from(&record.trigger);
            let old = std::mem::replace(&mut job.trigger, definition.trigger);
            self.out.discarded.push(Discarded::Trigger(old));
        }
        let job = &mut self.jobs[slot];
        job.extras().labels = labels_of(record);
        let options = Arc::new(definition.options);
        if let Some(old) = job.options.replace(options.clone()) {
            self.limits.leave(&old);
        }
        let limit = self.limits.join(&options);
        let was_paused = std::mem::replace(&mut self.jobs[slot].paused, record.paused);
        if record.paused && !was_paused {
            self.jobs[slot].payload.set_standing(Some(SkipReason::Paused));
            self.call_off_durable(slot, SkipReason::Paused, now);
        } else if was_paused && !record.paused {
            self.jobs[slot].payload.set_standing(None);
        }
        if rescheduled {
            // Whether they are still to be run is for the new trigger to say.
            self.release_upcoming(slot);
        }
        if self.jobs.get(slot).is_none() {
            return;
        }
        self.mark(slot);
        self.wait_anew(slot);
        self.serve_queue(slot, now);
        limit.into_iter().for_each(|limit| self.serve(limit));
        self.end_if_over(slot, now);
    }

    fn release_upcoming(&mut self, slot: u32) {
        let Some(held) = self.jobs.get_mut(slot).and_then(|job| job.held_mut()) else { return };
        let open = &held.open;
        let has_begun =
            |it: &Upcoming| open.get(&(it.kind, it.number)).is_some_and(Open::has_begun);
        let (kept, released): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut held.upcoming).into_iter().partition(has_begun);
        held.upcoming = kept;
        for Upcoming { kind, number, .. } in released {
            self.release_row(slot, (kind, number));
        }
        self.arm_durable(slot);
    }

    /// The incarnations that this node holds.
    pub(crate) fn held(&self) -> Vec<Incarnation> {
        self.held_jobs.slots.keys().copied().collect()
    }

    /// Asks the runs of a job to stop that are going here.
    pub(crate) fn cancel_held(&mut self, incarnation: Incarnation) {
        if let Some(&slot) = self.held_jobs.slots.get(&incarnation) {
            self.cancel_runs(slot);
        }
    }

    /// An incarnation is gone from the store.
    pub(crate) fn forget(&mut self, incarnation: Incarnation, end: &End, now: DateTime<Utc>) {
        self.node.iter_mut().for_each(|node| node.overtake(incarnation, None));
        match self.held_jobs.slots.get(&incarnation) {
            Some(&slot) if !self.jobs[slot].retired => self.retire(slot, end.clone(), now),
            Some(_) => {}
            None => self.out.over.push((incarnation, end.clone())),
        }
    }

    /// The store knows what became of these rows, and that these jobs are over with them.
    fn settle_rows(&mut self, rows: &[(RowKey, u64)], over: &[Incarnation], now: DateTime<Utc>) {
        for incarnation in over {
            let slot = self.held_jobs.slots.get(incarnation);
            match slot.and_then(|&slot| self.jobs[slot].held_mut()) {
                Some(held) => held.over = true,
                None => self.out.over.push((*incarnation, End::Completed)),
            }
        }
        for row in rows {
            let slot = self.held_jobs.slots.get(&row.0.incarnation).copied();
            let Some(slot) = slot else { continue };
            if let Some(held) = self.jobs[slot].held_mut() {
                held.unsettled.remove(row);
            }
            self.end_if_over(slot, now);
        }
        self.leave_store();
    }

    /// A durable job that is no longer held. Says whether it is over.
    pub(super) fn let_durable_go(&mut self, job: &Job<P>) -> bool {
        let Some(held) = job.held() else { return true };
        self.held_jobs.slots.remove(&held.incarnation);
        shrink(&mut self.held_jobs.slots);
        self.held_jobs.open -= held.open.len();
        job.retired || held.over
    }

    // Trust.

    /// The store's clock moved by so much against the one here.
    pub(super) fn shift_durable(&mut self, by: TimeDelta) {
        for slot in self.durable_slots() {
            let shifted = |due: &mut Due| {
                due.at = due.at.checked_add_signed(by).unwrap_or(due.at);
            };
            let job = &mut self.jobs[slot];
            let upcoming = job.held_mut().map(|held| held.upcoming.iter_mut());
            upcoming.into_iter().flatten().for_each(|upcoming| shifted(&mut upcoming.due));
            job.extras.iter_mut().flat_map(|extras| extras.waiting()).for_each(shifted);
            for run in self.runs_of(slot) {
                let run = &mut self.runs[run];
                shifted(&mut run.due);
                run.backlog.iter_mut().for_each(shifted);
            }
            self.arm_durable(slot);
        }
    }

    /// The scheduler is paused: others may run what it has taken and not started.
    pub(super) fn release_durable(&mut self, now: DateTime<Utc>) {
        for slot in self.durable_slots() {
            self.call_off_durable(slot, SkipReason::Paused, now);
        }
    }

    fn durable_slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.held_jobs.slots.values().copied().collect();
        slots.sort_unstable();
        slots
    }

    /// The node believes itself again: what came due meanwhile is looked at.
    fn go_on_durable(&mut self, now: DateTime<Utc>) {
        for slot in self.durable_slots() {
            if std::mem::take(&mut self.jobs[slot].held) {
                self.mark(slot);
                self.end_if_over(slot, now);
            }
        }
    }

    /// The node does not believe itself any more: runs are asked to stop that another node may start
    /// again, or beside which it may start others.
    fn distrust(&mut self, now: DateTime<Utc>) {
        self.note(now, What::LeaseLapsed);
        for slot in self.durable_slots() {
            self.stop_distrusted(slot);
        }
    }

    fn stop_distrusted(&mut self, slot: u32) {
        let job = &self.jobs[slot];
        let alone = job.options(&self.defaults).max_instances == 1;
        if !alone && !job.held().is_some_and(|held| held.recover) {
            return;
        }
        for run in self.runs_of(slot) {
            if let Phase::Started = self.runs[run].phase {
                self.runs[run].distrusted = true;
                self.cancel_run(run);
            }
        }
    }

    /// The store takes the node for dead: what it has taken is others' now, or abandoned. Runs that
    /// have started may still tell how they end.
    fn lose(&mut self, now: DateTime<Utc>) {
        self.note(now, What::LeaseLost);
        for slot in self.durable_slots() {
            self.stop_distrusted(slot);
            let mut going = Vec::new();
            for run in self.runs_of(slot) {
                let run = &mut self.runs[run];
                run.backlog.clear();
                if let Phase::Started = run.phase {
                    going.push((run.id, run.due.fire_time));
                }
            }
            let job = &mut self.jobs[slot];
            let queue = job.extras.as_mut().map(|extras| std::mem::take(&mut extras.queue));
            for (permit, _) in job.take_parked() {
                job.semaphore.release(permit);
            }
            if let Some(held) = job.held_mut() {
                held.upcoming.clear();
                let going: Vec<_> =
                    going.into_iter().filter_map(|(run, at)| held.row_of(run, at)).collect();
                let before = held.open.len();
                held.open.retain(|row, _| going.contains(row));
                held.open.values_mut().for_each(|open| open.lost = true);
                self.held_jobs.open -= before - held.open.len();
            }
            drop(queue);
            self.arm_durable(slot);
            for run in self.runs_of(slot) {
                if !matches!(self.runs[run].phase, Phase::Started) {
                    self.conclude(run, Finish::without_work(Outcome::Abandoned, now), now);
                }
            }
            self.end_if_over(slot, now);
        }
    }

    // Events.

    /// Tells of fire times that ran for nothing.
    fn report_closed(&mut self, row: &Row, now: DateTime<Utc>) {
        let RowState::Closed(fate) = &row.state else { return };
        let job = row.job.clone();
        let fire_times = FireTimes { first: row.fire_time, last: row.last, count: row.count };
        match *fate {
            Fate::Missed => {
                self.metrics.missed += row.count;
                self.note(now, What::Missed { job, run: None, fire_times });
            }
            Fate::Coalesced(into) => {
                self.metrics.coalesced += row.count;
                self.note(now, What::Coalesced { job, fire_times, into });
            }
            Fate::Skipped(reason) => {
                self.metrics.skipped += row.count;
                self.note(now, What::Skipped { job, run: None, fire_times, reason });
            }
            _ => {}
        }
    }

    fn report_reaped(&mut self, reaped: Reaped, now: DateTime<Utc>) {
        let Reaped { nodes, handed_out, abandoned, over, .. } = reaped;
        if !nodes.is_empty() {
            let (recovered, abandoned) = (handed_out.len(), abandoned.len());
            self.note(now, What::NodesDied { nodes, recovered, abandoned });
        }
        for row in &abandoned {
            let run = Run {
                job: row.job.clone(),
                id: run_id(row.key),
                fire_time: row.fire_time,
                late_by: Duration::ZERO,
                coalesced: row.coalesced,
                on_request: row.key.kind == RowKind::Requested,
                attempt: row.attempt,
                started_at: None,
                took: Duration::ZERO,
                ended_at: row.ended_at.unwrap_or(now),
                outcome: Outcome::Abandoned,
            };
            self.log.emit(&mut self.out, now, EventKind::Abandoned, || What::Abandoned(run));
        }
        for incarnation in over {
            if self.holds(incarnation) {
                continue;
            }
            let of = abandoned.iter().find(|row| row.key.incarnation == incarnation);
            if let Some(row) = of {
                let job = row.job.clone();
                self.note(now, What::JobRemoved { job, end: End::Completed });
            }
            self.out.over.push((incarnation, End::Completed));
        }
    }
}

fn labels_of(record: &Record) -> Labels {
    Labels {
        name: record.name.as_deref().map(Into::into),
        tags: record.tags.iter().map(|tag| tag.as_str().into()).collect(),
    }
}

/// How an incarnation ended that is gone from the store.
fn end_of(fate: Option<Fate>) -> End {
    match fate {
        Some(Fate::Completed) => End::Completed,
        Some(Fate::Cancelled) => End::Cancelled,
        Some(Fate::Replaced) => End::Replaced,
        _ => End::Removed,
    }
}

/// As much of a message as the ledger keeps.
fn shortened(message: &str) -> String {
    let end = (0..=message.len().min(1024)).rev().find(|&end| message.is_char_boundary(end));
    message[..end.unwrap_or(0)].to_owned()
}
