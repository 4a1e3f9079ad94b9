//! The true events, in true time: which work was called where, and which requests took effect in
//! the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use chrono::{DateTime, Utc};

use super::{
    agenda::Life,
    clocks::{Micros, micros},
    node::TASKS,
    scenario::micros_of,
};
use crate::{
    core::Definition,
    job::{JobId, JobOptions, Outcome, SkipReason},
    ledger::{
        ClaimRequest, ClaimResult, Fate, FinishReport, Heartbeat, Incarnation, NodeId, ReapReport,
        Record, Row, RowKey, RowKind, RowOutcome, RowState, RunEnd, Write,
    },
    trigger::{Kind, Trigger},
};

/// The true events, for the judge: one field for each kind of fact.
#[derive(Default)]
pub(super) struct Log {
    trace: Option<String>,
    pub(super) wrong: Vec<String>,
    pub(super) executions: Vec<Execution>,
    /// The active executions, by node and run number.
    active: BTreeMap<(Life, u64), usize>,
    pub(super) lives: BTreeMap<Incarnation, Vec<Era>>,
    /// When incarnations were removed or replaced.
    pub(super) removed: BTreeMap<Incarnation, Micros>,
    /// The era of the record by which a row came into the ledger.
    pub(super) era_of: BTreeMap<RowKey, usize>,
    /// Which node claimed which row under which fence, and when.
    pub(super) claims: BTreeMap<(RowKey, u64), (NodeId, Micros)>,
    fences: BTreeMap<Incarnation, u64>,
    last_claim: BTreeMap<NodeId, u64>,
    /// When the lease of each node ends, by the store's clock.
    leases: BTreeMap<NodeId, Micros>,
    /// The process of each node.
    nodes: BTreeMap<NodeId, Life>,
    /// When a node's lease first lapsed.
    lapses: BTreeMap<NodeId, Micros>,
    /// The nodes that were expired or have deregistered.
    gone: BTreeSet<NodeId>,
    /// When a verb on a node returned that a job is paused or removed.
    pub(super) responses: Vec<Response>,
    /// When records were written that are not paused.
    pub(super) unpaused: Vec<(Incarnation, Micros)>,
    /// When records were written that are paused, by incarnation.
    pub(super) paused: BTreeMap<Incarnation, Vec<Micros>>,
    /// When incarnations were last resumed, by the clock of the caller.
    resumed: BTreeMap<Incarnation, DateTime<Utc>>,
    /// The incarnations with more than one trigger.
    pub(super) rescheduled: BTreeSet<Incarnation>,
    /// When rows were last closed as abandoned.
    pub(super) abandoned: BTreeMap<RowKey, Micros>,
    /// When runs were requested.
    pub(super) requested: BTreeMap<RowKey, Micros>,
    /// Which incarnation and version each verb has changed.
    acts: BTreeMap<u64, (Incarnation, u64)>,
    /// The jobs that were changed so that not all nodes can run them.
    pub(super) narrowed: BTreeSet<Incarnation>,
    /// The verbs that add a job.
    pub(super) adds: BTreeSet<u64>,
    /// How often outcomes were refused when sent alone.
    refusals: BTreeMap<(RowKey, u64), u32>,
    /// When the store's clock stepped, and how far it was ahead of an exact clock from then on.
    store_steps: Vec<(Micros, Micros)>,
    pub(super) counts: Counts,
}

/// How many events there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) faults: u64,
    pub(super) verbs: u64,
    pub(super) unreadable: u64,
}

/// One call of some work.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    pub(super) key: RowKey,
    pub(super) fence: u64,
    pub(super) attempt: u32,
    pub(super) life: Life,
    pub(super) began: Micros,
    pub(super) ended: Option<(Micros, How)>,
    /// When its process was stopped, if its lease lapsed before the process continued: later
    /// effects cannot be prevented.
    pub(super) stopped: Option<Micros>,
    /// The uncertainty of the node's estimate of the store's time.
    pub(super) uncertainty: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Ran(RunEnd),
    /// The node crashed.
    Crashed,
}

impl How {
    pub(super) fn of(outcome: &Outcome) -> How {
        How::Ran(match outcome {
            Outcome::Succeeded => RunEnd::Succeeded,
            Outcome::Failed(_) => RunEnd::Failed,
            Outcome::Panicked(_) => RunEnd::Panicked,
            Outcome::TimedOut => RunEnd::TimedOut,
            _ => RunEnd::Cancelled,
        })
    }
}

/// The time during which an incarnation had one trigger.
#[derive(Debug)]
pub(super) struct Era {
    pub(super) trigger: Trigger,
    pub(super) first: Option<DateTime<Utc>>,
    pub(super) since: Micros,
    /// All options of the job in that time.
    pub(super) options: Vec<JobOptions>,
    pub(super) end: Option<EraEnd>,
}

#[derive(Debug)]
pub(super) struct EraEnd {
    /// The first fire time that was not claimed.
    pub(super) next: Option<DateTime<Utc>>,
    /// Up to when fire times passed, by the clock of the node that ended the era.
    pub(super) passed: DateTime<Utc>,
}

pub(super) struct Response {
    pub(super) life: Life,
    pub(super) incarnation: Incarnation,
    pub(super) at: Micros,
    /// Otherwise the job is paused.
    pub(super) removed: bool,
}

impl Log {
    pub(super) fn new(traced: bool) -> Log {
        Log { trace: traced.then(String::new), ..Log::default() }
    }

    pub(super) fn is_tracing(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn trace(&mut self, now: Micros, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            let _ = writeln!(trace, "{:>10.3} ms  {line}", now as f64 / 1000.0);
        }
    }

    pub(super) fn take_trace(&mut self) -> String {
        self.trace.take().unwrap_or_default()
    }

    /// Reports a broken promise.
    pub(super) fn wrong(&mut self, now: Micros, what: String) {
        self.trace(now, || format!("WRONG   {what}"));
        self.wrong.push(format!("at {:.3} ms: {what}", now as f64 / 1000.0));
    }

    // Work.

    pub(super) fn began(
        &mut self,
        now: Micros,
        (life, number): (Life, u64),
        (key, fence, attempt): (RowKey, u64, u32),
        uncertainty: Micros,
    ) {
        self.trace(now, || format!("{life:?} calls {} fence {fence} attempt {attempt}", name(key)));
        let holder = self.claims.get(&(key, fence)).map(|&(node, _)| node);
        let lease = holder.and_then(|node| self.leases.get(&node)).copied();
        match lease {
            None => self.wrong(now, format!("{} starts, and its node never took it", name(key))),
            Some(until) if until <= now => {
                self.wrong(now, format!("{} starts on a node that is dead", name(key)));
            }
            Some(_) => {}
        }
        self.active.insert((life, number), self.executions.len());
        self.executions.push(Execution {
            key,
            fence,
            attempt,
            life,
            began: now,
            ended: None,
            stopped: None,
            uncertainty,
        });
    }

    pub(super) fn ended(&mut self, now: Micros, life: Life, number: u64, how: How) {
        let Some(index) = self.active.remove(&(life, number)) else { return };
        self.executions[index].ended = Some((now, how));
        let key = self.executions[index].key;
        self.trace(now, || format!("{life:?} ends {}: {how:?}", name(key)));
    }

    pub(super) fn crashed(&mut self, now: Micros, life: Life) {
        let active: Vec<u64> = self.of(life).map(|((_, number), _)| *number).collect();
        for number in active {
            self.ended(now, life, number, How::Crashed);
        }
    }

    fn of(&self, life: Life) -> impl Iterator<Item = (&(Life, u64), &usize)> {
        self.active.range((life, 0)..=(life, u64::MAX))
    }

    /// Marks the runs of a process that continues after a stop.
    pub(super) fn went_on(&mut self, now: Micros, life: Life, stopped: Micros) {
        let active: Vec<usize> = self.of(life).map(|(_, index)| *index).collect();
        for index in active {
            let execution = &self.executions[index];
            let until = self.claims.get(&(execution.key, execution.fence));
            let until = until.and_then(|(node, _)| self.leases.get(node));
            if until.is_none_or(|&until| until <= now) {
                self.executions[index].stopped.get_or_insert(stopped);
            }
        }
    }

    // The store.

    pub(super) fn store_stepped(&mut self, now: Micros, ahead: Micros) {
        self.store_steps.push((now, ahead));
    }

    /// Returns the latest time of the store's clock by a node's estimate: a node detects a step
    /// back within a lease.
    pub(super) fn latest_by(&self, now: Micros, lease: Micros) -> Micros {
        let ends = self.store_steps.iter().map(|(at, _)| at + lease);
        let ends = ends.chain(std::iter::once(Micros::MAX));
        let aheads = self.store_steps.iter().map(|(_, ahead)| *ahead);
        let aheads = std::iter::once(0).chain(aheads);
        ends.zip(aheads).map(|(end, ahead)| now.min(end) + ahead).max().unwrap_or(now)
    }

    pub(super) fn heartbeat_sent(&mut self, now: Micros, life: Life, heartbeat: &Heartbeat) {
        self.nodes.insert(heartbeat.node, life);
        if heartbeat.ttl.is_zero() {
            self.gone.insert(heartbeat.node);
            self.leases.remove(&heartbeat.node);
            self.lapses.entry(heartbeat.node).or_insert(now);
            return;
        }
        let until = now - now % 1000 + micros_of(heartbeat.ttl);
        if let Some(before) = self.leases.insert(heartbeat.node, until)
            && before <= now
        {
            self.lapses.entry(heartbeat.node).or_insert(before);
        }
    }

    /// Accounts for a heartbeat that the store rejects.
    pub(super) fn was_refused(&mut self, now: Micros, heartbeat: &Heartbeat) {
        if self.leases.contains_key(&heartbeat.node) && !self.gone.contains(&heartbeat.node) {
            self.wrong(
                now,
                format!("node {} is told that it is dead, and was not", heartbeat.node),
            );
        }
    }

    pub(super) fn has_reaped(&mut self, now: Micros, reaped: &ReapReport) {
        self.gone.extend(&reaped.nodes);
        self.abandoned.extend(reaped.abandoned.iter().map(|row| (row.key, now)));
        for node in &reaped.nodes {
            match self.leases.get(node) {
                // The clocks of the judging nodes differ slightly.
                Some(&until) if until > now + 1000 => {
                    self.wrong(now, format!("node {node} was buried alive"));
                }
                Some(&until) => drop(self.lapses.entry(*node).or_insert(until)),
                None => {}
            }
        }
    }

    /// Returns the process of a node.
    pub(super) fn life_of(&self, node: NodeId) -> Option<Life> {
        self.nodes.get(&node).copied()
    }

    /// Whether a run of this job is active, or has ended since `since`.
    pub(super) fn is_busy(&self, incarnation: Incarnation, since: Micros) -> bool {
        let mut of_it = self.executions.iter().filter(|it| it.key.incarnation == incarnation);
        of_it.any(|it| it.ended.is_none_or(|(at, _)| at >= since))
    }

    pub(super) fn is_node_of(&self, node: NodeId, life: Life) -> bool {
        self.nodes.get(&node) == Some(&life)
    }

    /// Returns when the lease of a node first lapsed, if that was before `until`.
    pub(super) fn lapse(&self, node: NodeId, until: Micros) -> Option<Micros> {
        let last = self.leases.get(&node).copied();
        self.lapses.get(&node).copied().or(last).filter(|&lapse| lapse < until)
    }

    pub(super) fn claimed(
        &mut self,
        now: Micros,
        request: &ClaimRequest,
        claim_result: &ClaimResult,
    ) {
        let last = self.last_claim.get(&request.node).copied().unwrap_or_default();
        if request.number < last {
            self.wrong(now, format!("take {} was done after take {last}", request.number));
        }
        if self.gone.contains(&request.node) || !self.nodes.contains_key(&request.node) {
            self.wrong(now, format!("node {} has taken, and is none", request.node));
        }
        self.last_claim.insert(request.node, request.number);
        for claimed_job in &claim_result.jobs {
            let incarnation = claimed_job.record.incarnation;
            if request.number == last {
                for row in &claimed_job.rows {
                    if !self.claims.contains_key(&(row.key, row.fence)) {
                        self.wrong(
                            now,
                            format!("take {last} was done twice, of {}", name(row.key)),
                        );
                    }
                }
                continue;
            }
            let before =
                self.fences.insert(incarnation, claimed_job.record.fence).unwrap_or_default();
            if claimed_job.record.fence <= before {
                self.wrong(now, format!("the fence of {incarnation} does not grow from {before}"));
            }
            let era = self.era(incarnation);
            for row in &claimed_job.rows {
                self.trace(now, || format!("      takes {}", describe(row)));
                self.era_of.entry(row.key).or_insert(era);
                if let RowState::Claimed(node) = row.state {
                    self.claims.insert((row.key, row.fence), (node, now));
                }
                self.judge_claimed(now, &claimed_job.record, row);
            }
        }
    }

    /// Whether a row was claimed again after this fence.
    pub(super) fn was_claimed_since(&self, key: RowKey, fence: u64) -> bool {
        self.claims.range((key, fence + 1)..=(key, u64::MAX)).next().is_some()
    }

    /// Accounts for an outcome that was refused when sent alone, which must not continue forever.
    pub(super) fn has_refused(&mut self, now: Micros, key: RowKey, fence: u64) {
        let times = self.refusals.entry((key, fence)).or_default();
        *times += 1;
        if *times == MOST_REFUSALS {
            let name = name(key);
            self.wrong(now, format!("the outcome of {name} was refused {MOST_REFUSALS} times"));
        }
    }

    /// Accounts for outcomes: those are refused whose rows were claimed again.
    pub(super) fn has_finished(
        &mut self,
        now: Micros,
        outcomes: &[RowOutcome],
        report: &FinishReport,
    ) {
        for RowOutcome { key, fence, fate, .. } in outcomes {
            if fate.is_abandoned() {
                self.abandoned.insert(*key, now);
            }
            if outcomes.iter().filter(|other| other.key == *key).count() > 1 {
                // The report does not show which of them is refused.
                continue;
            }
            let refused = report.refused.contains(key);
            if refused != self.was_claimed_since(*key, *fence) {
                let name = name(*key);
                self.wrong(now, format!("{name} is {fate} under {fence}, refused: {refused}"));
            }
        }
    }

    fn judge_claimed(&mut self, now: Micros, record: &Record, row: &Row) {
        let is_date = self.lives.get(&record.incarnation).and_then(|eras| eras.last());
        let is_date = is_date.is_some_and(|era| matches!(era.trigger.kind(), Kind::Date(_)));
        if let RowState::Closed(fate) = &row.state {
            if is_date && *fate == Fate::Skipped(SkipReason::Paused) {
                self.wrong(now, format!("a date is still due: {}", describe(row)));
            }
            return;
        }
        let resumed = self.resumed.get(&record.incarnation);
        let passed = resumed.is_some_and(|&resumed| row.fire_time < resumed);
        if passed && !is_date && row.key.kind == RowKind::Scheduled && row.attempt == 1 {
            self.wrong(now, format!("{} passed while its job was paused, and runs", name(row.key)));
        }
        if record.paused && row.key.kind == RowKind::Scheduled {
            self.wrong(now, format!("{} is taken while its job is paused", name(row.key)));
        }
    }

    fn era(&self, incarnation: Incarnation) -> usize {
        self.lives.get(&incarnation).map_or(0, |eras| eras.len().saturating_sub(1))
    }

    /// Accounts for a write that changed a record from `before` to `after`.
    pub(super) fn has_written(
        &mut self,
        now: Micros,
        before: Option<&Record>,
        after: Option<&Record>,
        Write { id, expected, rows, token, .. }: &Write,
        written_at: DateTime<Utc>,
        wish: Option<u64>,
    ) {
        if before.map(Record::stamp) == after.map(Record::stamp) {
            return;
        }
        if before.map(Record::stamp) != *expected {
            self.wrong(now, format!("{id} was {expected:?} to whoever wrote it, and was not"));
        }
        if before.is_some_and(|before| before.tokens.contains(*token)) {
            self.wrong(now, format!("{id} is written twice by one write"));
        }
        if let Some(wish) = wish {
            self.judge_acts(now, wish, before, after, id);
        }
        // A new job finds a remembered end, which has no further fate.
        let before = before.filter(|before| before.ended_at.is_none());
        if let Some(record) = before {
            let era = self.era(record.incarnation);
            for row in rows.iter().filter(|row| row.key.incarnation == record.incarnation) {
                self.trace(now, || format!("      writes {}", describe(row)));
                if row.key.kind == RowKind::Requested {
                    self.requested.insert(row.key, now);
                }
                self.era_of.entry(row.key).or_insert(era);
            }
        }
        let same = matches!((before, after), (Some(b), Some(a)) if b.incarnation == a.incarnation);
        if let Some(before) = before.filter(|_| !same) {
            self.end_era(before, written_at);
            self.removed.insert(before.incarnation, now);
        }
        let Some(after) = after else { return };
        if same && rows.iter().any(|row| row.key.kind == RowKind::Scheduled) {
            self.rescheduled.insert(after.incarnation);
        }
        if before.is_some_and(|before| before.paused) && same && !after.paused {
            self.resumed.insert(after.incarnation, written_at);
        }
        if after.paused {
            self.paused.entry(after.incarnation).or_default().push(now)
        } else {
            self.unpaused.push((after.incarnation, now))
        }
        let Ok(definition) = Definition::read(after) else { return };
        if !same && self.lives.contains_key(&after.incarnation) {
            self.wrong(now, format!("incarnation {} lives again", after.incarnation));
        }
        let goes_on = before.is_some_and(|before| {
            before.trigger == after.trigger && before.next_fire == after.next_fire
        });
        let by_all = |record: &Record| record.task == TASKS[0] && record.tags.is_empty();
        if same && before.is_some_and(by_all) && !by_all(after) {
            self.narrowed.insert(after.incarnation);
        }
        let era = self.lives.get_mut(&after.incarnation).and_then(|eras| eras.last_mut());
        if let Some(era) = era.filter(|_| same && goes_on) {
            era.options.push(definition.options);
            return;
        }
        if let Some(before) = before.filter(|_| same) {
            self.end_era(before, written_at);
        }
        self.lives.entry(after.incarnation).or_default().push(Era {
            trigger: definition.trigger,
            first: after.next_fire,
            since: now,
            options: vec![definition.options],
            end: None,
        });
    }

    /// A verb acts once, even if it was retried.
    fn judge_acts(
        &mut self,
        now: Micros,
        wish: u64,
        before: Option<&Record>,
        after: Option<&Record>,
        id: &JobId,
    ) {
        let on = before.or(after).map(|record| (record.incarnation, record.version));
        let Some(on) = on else { return };
        let Some(first) = self.acts.insert(wish, on) else { return };
        // After this many other writes, a write is no longer recognized.
        let forgotten = on.0 == first.0 && on.1 > first.1 + KNOWN;
        // An added job has an incarnation of its own, and is added once. If another job has the id,
        // that job is changed to the declaration, and so is its replacement if the response was
        // still pending.
        let declares = on.0 != first.0 && self.adds.contains(&wish);
        if !forgotten && !declares {
            self.wrong(now, format!("what was asked for once was done twice to {id}"));
        }
    }

    fn end_era(&mut self, record: &Record, passed: DateTime<Utc>) {
        let era = self.lives.get_mut(&record.incarnation).and_then(|eras| eras.last_mut());
        era.into_iter().for_each(|era| era.end = Some(EraEnd { next: record.next_fire, passed }));
    }

    /// Whether an open row should have run since `since`, because nothing prevented it.
    pub(super) fn is_stuck(
        &self,
        row: &Row,
        paused: bool,
        due: DateTime<Utc>,
        since: Micros,
    ) -> bool {
        let incarnation = row.key.incarnation;
        let eras = self.lives.get(&incarnation).into_iter().flatten();
        let slow = |options: &JobOptions| options.group.is_some() || options.retry.is_some();
        let waits = paused && row.key.kind == RowKind::Scheduled && row.state == RowState::Waiting;
        row.state.is_open()
            && !waits
            && row.fire_time < due
            && !eras.flat_map(|era| &era.options).any(slow)
            && !self.is_busy(incarnation, since)
    }

    pub(super) fn was_begun(&self, row: &Row) -> bool {
        let of_it = |it: &&Execution| it.key == row.key && it.fence == row.fence;
        self.executions.iter().any(|execution| of_it(&execution))
    }

    /// Returns all incarnations that ever existed.
    pub(super) fn incarnations(&self) -> BTreeSet<Incarnation> {
        self.lives.keys().copied().collect()
    }
}

/// How many writes of a record are recognized, by the contract.
const KNOWN: u64 = 8;

/// How often a refused outcome may be sent alone if each heartbeat of its node is lost meanwhile.
const MOST_REFUSALS: u32 = 40;

/// Describes a row for people.
pub(super) fn name(key: RowKey) -> String {
    let job = key.incarnation.0 & 0xffff;
    match key.kind {
        RowKind::Scheduled => {
            let at = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
            format!("job {job:04x} for {} ms", at / 1000)
        }
        RowKind::Requested => format!("job {job:04x} on request {}", key.number),
        RowKind::Ended => format!("the end of job {job:04x}"),
    }
}

pub(super) fn describe(row: &Row) -> String {
    let state = match &row.state {
        RowState::Waiting => "waiting".into(),
        RowState::Claimed(node) => format!("taken by {node}"),
        RowState::Closed(fate) => fate.to_string(),
    };
    let last = if row.count > 1 {
        format!(" to {} ms ({} times)", micros(row.last) / 1000, row.count)
    } else {
        String::new()
    };
    format!("{}{last}: {state}, fence {}, attempt {}", name(row.key), row.fence, row.attempt)
}
