//! What each operation of a memory store does, as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use chrono::{DateTime, Utc};

use super::{super::*, jobs::Jobs, ledger::Ledger};
use crate::job::SkipReason;

#[derive(Default)]
pub(super) struct State {
    jobs: Jobs,
    ledger: Ledger,
    /// Those that have a row, and the numbers of their last takes.
    nodes: BTreeMap<NodeId, (NodeRow, u64)>,
    actions: BTreeMap<ActionCursor, LoggedAction>,
    /// Whether the operation has changed what others may wait for.
    changed: bool,
}

/// How many rows that do not pass a page of fates looks at.
const LOOKED_AT: usize = 1000;

/// A record, the rows that it is to have, and its next fire time.
type Decided = (Record, Vec<Row>, Option<DateTime<Utc>>);

/// What is decided in a take, before anything of it is done.
struct Taking<'a> {
    state: &'a State,
    take: &'a Take,
    decided: Vec<Decided>,
    /// How many rows that are.
    rows: usize,
    /// Jobs that were decided on: each is asked for once.
    seen: HashSet<Incarnation>,
    /// Those of them that are not taken.
    in_vain: HashSet<Incarnation>,
    takings: Takings,
}

impl<'a> Taking<'a> {
    fn new(state: &'a State, take: &'a Take) -> Taking<'a> {
        let takings = Takings { passed: take.passed, ..Takings::default() };
        let (seen, in_vain) = (HashSet::new(), HashSet::new());
        Taking { state, take, decided: Vec::new(), rows: 0, seen, in_vain, takings }
    }

    /// Decides on these until `looks` were looked at in vain. Returns the last of those, if there are
    /// any.
    fn look(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
        looks: usize,
    ) -> Option<&'a Record> {
        let (mut in_vain, mut last) = (0, None);
        for record in records {
            if self.seen.contains(&record.incarnation) {
                continue;
            }
            let is_full = self.decided.len() >= self.take.limit || self.rows >= self.take.row_limit;
            if is_full || in_vain >= looks {
                self.takings.more |= is_full || looks == self.take.looks;
                break;
            }
            self.seen.insert(record.incarnation);
            let rows: Vec<_> = self.state.counting(record).cloned().collect();
            match (self.take.decide)(record, &rows) {
                Decision::Take { rows, next_fire } => {
                    self.rows += rows.len();
                    self.decided.push((record.clone(), rows, next_fire));
                    continue;
                }
                Decision::Leave => self.takings.left += 1,
                Decision::Reject(error) => {
                    let (stamp, job) = (record.stamp(), record.id.clone());
                    self.takings.rejected.push(Rejected { job, stamp, error });
                }
            }
            self.in_vain.insert(record.incarnation);
            (in_vain, last) = (in_vain + 1, Some(record));
        }
        last
    }
}

impl State {
    /// Whether others are to be told of what the operation has done.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn write(&mut self, writes: Vec<Write>, now: DateTime<Utc>) -> Vec<Written> {
        let one_by_one = writes.into_iter().map(|write| {
            let current = self.jobs.known(&write.id);
            if self.was_written(&write) {
                return Written::Done;
            }
            if current.map(Record::stamp) != write.expected {
                return Written::Lost(current.cloned().map(Box::new));
            }
            self.write_one(write, now);
            Written::Done
        });
        one_by_one.collect()
    }

    /// Whether a write that is asked for again was done before.
    fn was_written(&self, write: &Write) -> bool {
        let current = self.jobs.known(&write.id);
        let changes = write.expected.map(|expected| expected.incarnation);
        let becomes = write.record.as_ref().map(|record| record.incarnation);
        let adds = becomes.filter(|_| becomes != changes);
        current.is_some_and(|current| current.tokens.contains(write.token))
            || adds
                .is_some_and(|incarnation| self.ledger.get(RowKey::end_of(incarnation)).is_some())
    }

    fn write_one(&mut self, write: Write, now: DateTime<Utc>) {
        let Write { id, expected, record, rows, token, action } = write;
        let incarnation = record.as_ref().map(|it| it.incarnation);
        if let Some(action) = action
            && let Some(of) = incarnation.or(expected.map(|it| it.incarnation))
        {
            let action = LoggedAction::new(now, token, id.clone(), of, action);
            self.actions.insert(action.cursor(), action);
        }
        for row in rows {
            if self.ledger.get(row.key).is_none() {
                self.ledger.put(row);
            }
        }
        self.changed = true;
        let current = self.jobs.known(&id).map(|record| (record.stamp(), record.tokens));
        let known = |record: &Record| current.filter(|it| it.0.incarnation == record.incarnation);
        let (version, mut tokens) = record
            .as_ref()
            .and_then(known)
            .map_or((0, Tokens::default()), |(it, t)| (it.version, t));
        tokens.push(token);
        if let Some((current, _)) = current {
            self.jobs.forget(&id);
            match &record {
                None => drop(self.remove_job(current.incarnation, SkipReason::Removed, now)),
                Some(new) if known(new).is_none() => {
                    self.remove_job(current.incarnation, SkipReason::Replaced, now);
                }
                Some(_) => {}
            }
        }
        if let Some(record) = record {
            let (incarnation, remember) = (record.incarnation, record.remember);
            let version = version.wrapping_add(1);
            self.jobs.put(Record { version, tokens, ended_at: None, ..record });
            if remember {
                self.end_if_over(incarnation, Fate::Completed, now);
            }
        }
    }

    pub(super) fn get(&self, id: &JobId) -> Option<Record> {
        self.jobs.known(id).cloned()
    }

    pub(super) fn list(&self, filter: &RecordFilter, after: Option<Cursor>, limit: usize) -> Page {
        // An id is text here; bytes that are none come behind what they can be read as.
        let after = after.map(|cursor| String::from_utf8_lossy(cursor.as_bytes()).into_owned());
        let mut passing = self.jobs.listed(after).filter(|record| filter.passes(record));
        let records: Vec<Record> = passing.by_ref().take(limit).cloned().collect();
        let next = passing.next().and(records.last()).map(|record| Cursor::from(&record.id));
        Page { records, next }
    }

    pub(super) fn waiting_rows(
        &self,
        mut of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Vec<Row> {
        of.sort_unstable();
        let waiting = of.into_iter().flat_map(|incarnation| self.ledger.waiting_of(incarnation));
        waiting.filter(|row| Some(row.key) > after).take(limit).cloned().collect()
    }

    pub(super) fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> Vec<Changed> {
        let now = |incarnation, version| match self.jobs.get(incarnation) {
            Some(record) if record.version == version => None,
            Some(record) => Some(Now::Changed(Box::new(record.clone()))),
            None => match self.ledger.get(RowKey::end_of(incarnation)).map(|row| &row.state) {
                Some(RowState::Closed(fate)) => Some(Now::Gone(Some(fate.clone()))),
                _ => Some(Now::Gone(None)),
            },
        };
        let changed = known.into_iter().filter_map(|(_, incarnation, version)| {
            Some(Changed { incarnation, now: now(incarnation, version)? })
        });
        changed.collect()
    }

    /// Removes a record, and closes its waiting rows.
    fn remove_job(
        &mut self,
        incarnation: Incarnation,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> Option<Record> {
        let waiting: Vec<_> = self.ledger.waiting_of(incarnation).cloned().collect();
        for row in waiting {
            let fate = Fate::called_off(reason, row.attempt);
            self.close(row, fate, now);
        }
        self.jobs.remove(incarnation)
    }

    fn close(&mut self, row: Row, fate: Fate, now: DateTime<Utc>) -> Row {
        let row = Row { state: RowState::Closed(fate), ended_at: Some(now), ..row };
        self.ledger.put(row.clone());
        row
    }

    /// Removes the job's record if neither a fire time nor an open row is left of it. Returns
    /// whether.
    fn end_if_over(&mut self, incarnation: Incarnation, fate: Fate, now: DateTime<Utc>) -> bool {
        let is_over =
            |record: &Record| record.next_fire.is_none() && !self.ledger.has_open(incarnation);
        if !self.jobs.get(incarnation).is_some_and(is_over) {
            return false;
        }
        if let Some(record) = self.jobs.remove(incarnation) {
            let ended = Row::ended(&record, fate, now);
            if self.ledger.get(ended.key).is_none() {
                self.ledger.put(ended);
            }
            if record.remember {
                let version = record.version.wrapping_add(1);
                self.jobs.remember(Record { version, ended_at: Some(now), ..record });
            }
        }
        self.changed = true;
        true
    }

    pub(super) fn take(&mut self, take: &Take, now: DateTime<Utc>) -> Result<Takings, StoreError> {
        let node = self.nodes.get(&take.node);
        let last = node.map(|(_, last)| *last).ok_or_else(StoreError::lease_lost)?;
        if take.number < last {
            let number = take.number;
            return Err(StoreError::refused(format!(
                "take {number} comes after take {last} of the same node: count them up"
            )));
        }
        if take.number == last {
            let passed = take.passed;
            return Ok(Takings { more: true, passed, ..self.taken_in(take.node, last) });
        }
        let Taking { decided, in_vain, mut takings, .. } = self.decide(take);
        self.nodes.entry(take.node).and_modify(|(_, last)| *last = take.number);
        let apply = |(record, rows, next_fire)| self.apply(take, record, rows, next_fire, now);
        takings.jobs = decided.into_iter().map(apply).collect();
        if !takings.more {
            takings.next_due = self.next_due(&take.next_due(takings.passed, &in_vain));
        }
        Ok(takings)
    }

    /// What is decided about the jobs that a take finds.
    fn decide<'a>(&'a self, take: &'a Take) -> Taking<'a> {
        let few = take.looks.div_ceil(8);
        let mut taking = Taking::new(self, take);
        let waiting = |passed| self.waiting(take.node, &take.tasks, &take.except, passed);
        if take.passed.waiting.is_some() {
            taking.look(waiting(None), few);
        }
        if let Some(last) = taking.look(waiting(take.passed.waiting), take.looks) {
            taking.takings.passed.waiting = Some(last.incarnation);
        }
        let due = |passed| {
            let due = self.due(take.node, &take.tasks, &take.except, passed);
            due.take_while(|(at, _)| *at <= take.horizon).map(|(_, record)| record)
        };
        if take.passed.due.is_some() {
            taking.look(due(None), few);
        }
        if let Some(last) = taking.look(due(take.passed.due), take.looks) {
            let place = last.next_fire.map(|at| (at, last.incarnation));
            taking.takings.passed.due = place;
        }
        if taking.takings.passed.due.is_some() {
            let newest = self.jobs.newest(&take.tasks, take.horizon, few);
            let free = newest.filter(|record| self.is_free(record, take.node, &take.except));
            taking.look(free, few);
        }
        taking
    }

    fn apply(
        &mut self,
        take: &Take,
        mut record: Record,
        rows: Vec<Row>,
        next_fire: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Taken {
        record.fence = record.next_fence(now);
        record.next_fire = next_fire;
        self.jobs.put(record.clone());
        let mut put = Vec::with_capacity(rows.len());
        for mut row in rows {
            let there = self.ledger.get(row.key);
            if there.is_some_and(|row| row.state != RowState::Waiting) {
                continue;
            }
            if let RowState::Taken(node) = &mut row.state {
                *node = take.node;
                row.node = Some(take.node);
                row.fence = record.fence;
            }
            self.ledger.put_in_take(row.clone(), take.number);
            put.push(row);
        }
        self.end_if_over(record.incarnation, Fate::Completed, now);
        Taken { record, rows: put }
    }

    /// The jobs with waiting rows that a take by this node considers.
    fn waiting(
        &self,
        node: NodeId,
        tasks: &HashSet<String>,
        except: &HashSet<Incarnation>,
        passed: Option<Incarnation>,
    ) -> impl Iterator<Item = &Record> {
        let waiting = self.ledger.waiting(passed);
        let records = waiting.filter_map(|incarnation| self.jobs.get(incarnation));
        records.filter(move |record| {
            tasks.contains(&record.task)
                && self.is_free(record, node, except)
                && self.counting(record).next().is_some()
        })
    }

    /// The jobs with a next fire time that a take by this node considers, in order of that.
    fn due(
        &self,
        node: NodeId,
        tasks: &HashSet<String>,
        except: &HashSet<Incarnation>,
        passed: Option<(DateTime<Utc>, Incarnation)>,
    ) -> impl Iterator<Item = (DateTime<Utc>, &Record)> {
        self.jobs.due(tasks, passed).filter(move |(_, record)| self.is_free(record, node, except))
    }

    fn is_free(&self, record: &Record, node: NodeId, except: &HashSet<Incarnation>) -> bool {
        !except.contains(&record.incarnation)
            && self.ledger.holders(record.incarnation).all(|holder| holder == node)
    }

    /// The waiting rows that count: of a paused job those that were asked for.
    fn counting(&self, record: &Record) -> impl Iterator<Item = &Row> {
        let paused = record.paused;
        let rows = self.ledger.waiting_of(record.incarnation);
        rows.filter(move |row| !paused || row.key.kind == RowKind::Requested)
    }

    /// What a node has of the take of this number.
    fn taken_in(&self, node: NodeId, number: u64) -> Takings {
        let rows = self.ledger.taken_by(node).filter(|(_, take)| *take == number);
        self.with_records(rows.map(|(row, _)| row))
    }

    pub(super) fn taken_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Vec<(RowKey, u64)> {
        let rows = self.ledger.taken_by(node).map(|(row, _)| (row.key, row.fence));
        rows.filter(|(key, _)| Some(*key) > after).take(limit).collect()
    }

    pub(super) fn taken(&self, node: NodeId, rows: &[RowKey]) -> Takings {
        let rows = rows.iter().filter_map(|key| self.ledger.get(*key));
        self.with_records(rows.filter(|row| row.state == RowState::Taken(node)))
    }

    /// Rows, in order of their keys, by their records.
    fn with_records<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Takings {
        let mut takings = Takings::default();
        for row in rows {
            match (takings.jobs.last_mut(), self.jobs.get(row.key.incarnation)) {
                (_, None) => takings.orphans.push(row.clone()),
                (Some(last), Some(record)) if last.record.incarnation == record.incarnation => {
                    last.rows.push(row.clone());
                }
                (_, Some(record)) => {
                    takings.jobs.push(Taken { record: record.clone(), rows: vec![row.clone()] });
                }
            }
        }
        takings
    }

    pub(super) fn release(&mut self, node: NodeId, rows: Vec<Release>, now: DateTime<Utc>) {
        for Release { key, fence, attempt } in rows {
            let row = self.ledger.get(key);
            let Some(row) =
                row.filter(|row| row.state == RowState::Taken(node) && row.fence == fence).cloned()
            else {
                continue;
            };
            let row = Row { state: RowState::Waiting, attempt: attempt.max(row.attempt), ..row };
            if self.jobs.get(key.incarnation).is_some() {
                self.ledger.put(row);
                self.changed = true;
            } else {
                let fate = Fate::called_off(SkipReason::Removed, row.attempt);
                self.close(row, fate, now);
            }
        }
    }

    pub(super) fn finish(&mut self, outcomes: Vec<Finished>, now: DateTime<Utc>) -> Finishes {
        let mut finishes = Finishes::default();
        for outcome in outcomes {
            let row = self.ledger.get(outcome.key);
            let Some(row) = row.filter(|row| row.fence == outcome.fence) else {
                finishes.refused.push(outcome.key);
                continue;
            };
            if matches!(&row.state, RowState::Closed(fate) if !fate.is_abandoned()) {
                continue;
            }
            let row = Row {
                state: RowState::Closed(outcome.fate),
                attempt: outcome.attempt,
                started_at: outcome.started_at,
                ended_at: Some(outcome.ended_at),
                message: outcome.message,
                ..row.clone()
            };
            self.ledger.put(row);
            if self.end_if_over(outcome.key.incarnation, outcome.job_end, now) {
                finishes.over.push(outcome.key.incarnation);
            }
        }
        finishes
    }

    pub(super) fn heartbeat(
        &mut self,
        beat: &Beat,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, StoreError> {
        if beat.ttl.is_zero() {
            self.leave(beat.node, now);
            return Ok(now);
        }
        match self.nodes.get_mut(&beat.node) {
            Some((row, _)) => row.beat(beat, now),
            None if beat.first => {
                self.nodes.insert(beat.node, (NodeRow::new(beat, now), 0));
            }
            None => return Err(StoreError::lease_lost()),
        }
        Ok(now)
    }

    /// Lets a node go, with all that it has taken.
    fn leave(&mut self, node: NodeId, now: DateTime<Utc>) {
        self.nodes.remove(&node);
        let rows: Vec<_> = self.ledger.taken_by(node).map(|(row, _)| row.clone()).collect();
        self.bury(rows, &mut Reaped::default(), now);
    }

    pub(super) fn nodes(&self) -> Vec<NodeRow> {
        self.nodes.values().map(|(row, _)| row.clone()).collect()
    }

    pub(super) fn reap(
        &mut self,
        suspects: &[(NodeId, u64)],
        limit: usize,
        now: DateTime<Utc>,
    ) -> Reaped {
        let mut reaped = Reaped::default();
        for (node, beats) in suspects {
            if self.nodes.get(node).is_some_and(|(row, _)| row.beats == *beats) {
                self.nodes.remove(node);
                reaped.nodes.push(*node);
            }
        }
        let dead = self.ledger.nodes().filter(|node| !self.nodes.contains_key(node));
        let mut rows: Vec<_> = dead
            .flat_map(|node| self.ledger.taken_by(node))
            .map(|(row, _)| row.clone())
            .take(limit.saturating_add(1))
            .collect();
        reaped.more = rows.len() > limit;
        rows.truncate(limit);
        self.bury(rows, &mut reaped, now);
        reaped
    }

    /// Hands out or closes what dead nodes had taken.
    fn bury(&mut self, rows: Vec<Row>, reaped: &mut Reaped, now: DateTime<Utc>) {
        self.changed |= !rows.is_empty() || !reaped.nodes.is_empty();
        for row in rows {
            let incarnation = row.key.incarnation;
            let fate = match self.jobs.get(incarnation) {
                Some(_) if row.recover => {
                    if let Some(row) = row.recovered() {
                        self.ledger.put(row.clone());
                        reaped.handed_out.push(row);
                        continue;
                    }
                    Fate::RecoveredTooOften
                }
                _ => Fate::Abandoned,
            };
            reaped.abandoned.push(self.close(row, fate, now));
            if self.end_if_over(incarnation, Fate::Completed, now) {
                reaped.over.push(incarnation);
            }
        }
    }

    pub(super) fn next_due(&self, of: &NextDue) -> Option<DateTime<Utc>> {
        if self.waiting(of.node, &of.tasks, &of.except, of.passed.waiting).next().is_some() {
            return Some(DateTime::<Utc>::MIN_UTC);
        }
        self.due(of.node, &of.tasks, &of.except, of.passed.due).next().map(|(at, _)| at)
    }

    pub(super) fn history(&self, incarnation: Incarnation, limit: usize) -> Vec<Row> {
        let mut rows: Vec<_> = self.ledger.of(incarnation).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.fire_time, row.key)));
        rows.into_iter().take(limit).cloned().collect()
    }

    pub(super) fn rows(&self, after: Option<RowKey>, limit: usize) -> Vec<Row> {
        self.ledger.behind(after).take(limit).cloned().collect()
    }

    pub(super) fn fates(
        &self,
        filter: &FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> FatePage {
        let mut rows = self.ledger.latest_ended(filter.until, after);
        let (mut page, mut looked_at) = (FatePage::default(), 0);
        for row in rows.by_ref() {
            if filter.from.is_some_and(|from| row.ended_at < Some(from)) {
                break;
            }
            looked_at += 1;
            if filter.passes(row) {
                page.rows.push(row.clone());
            }
            if page.rows.len() >= limit || looked_at == LOOKED_AT {
                page.next = FateCursor::at(row);
                break;
            }
        }
        page
    }

    pub(super) fn actions(
        &self,
        job: Option<&JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> ActionPage {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let latest = self.actions.range((Bound::Unbounded, behind)).rev();
        let mut of_job = latest.filter(|(_, it)| job.is_none_or(|job| it.job == *job));
        let actions: Vec<_> = of_job.by_ref().take(limit).map(|(_, it)| it.clone()).collect();
        let next = of_job.next().and(actions.last()).map(LoggedAction::cursor);
        ActionPage { actions, next }
    }

    fn prune_actions(&mut self, limit: usize, now: DateTime<Utc>) {
        let oldest = now.checked_sub_signed(Keep::ACTIONS).unwrap_or(DateTime::<Utc>::MIN_UTC);
        for _ in 0..limit {
            let too_many = self.actions.len() > Keep::MOST_ACTIONS;
            match self.actions.first_entry() {
                Some(first) if too_many || first.key().at < oldest => drop(first.remove()),
                _ => break,
            }
        }
    }

    pub(super) fn prune(&mut self, keep: Keep, limit: usize, now: DateTime<Utc>) -> Pruned {
        const KINDS: [RowKind; 3] = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];
        let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let forgotten = self.jobs.forget_before(oldest, limit) as u64;
        self.prune_actions(limit, now);
        let recent = now - Keep::at_least(RowKind::Scheduled);
        let mut gone: BTreeSet<RowKey> = BTreeSet::new();
        for kind in KINDS {
            let old = self.ledger.ended_before(kind, Keep::oldest(keep.age, kind, now));
            gone.extend(old.take(limit));
        }
        let ended = Keep::oldest(keep.ended, RowKind::Ended, now);
        for end in self.ledger.ended_before(RowKind::Ended, ended).take(limit) {
            let rows = self.ledger.of(end.incarnation);
            gone.extend(rows.filter(|row| has_ended_before(row, recent)).map(|row| row.key));
        }
        for kind in [RowKind::Scheduled, RowKind::Requested] {
            let (groups, looked_to) = self.ledger.newly_ended(kind, recent);
            for incarnation in groups {
                let closed = self.ledger.newest(incarnation, kind);
                let closed = closed.filter(|row| !row.state.is_open()).skip(keep.rows as usize);
                gone.extend(closed.filter(|row| has_ended_before(row, recent)).map(|row| row.key));
            }
            if gone.len() <= limit {
                self.ledger.has_looked(kind, looked_to);
            }
        }
        if gone.len() < limit {
            let surplus = keep.surplus(self.ledger.closed()).saturating_sub(gone.len() as u64);
            let mut oldest: Vec<_> = KINDS
                .into_iter()
                .flat_map(|kind| self.ledger.ended_before(kind, recent).take(limit))
                .filter(|key| !gone.contains(key))
                .collect();
            oldest.sort_by_key(|key| self.ledger.get(*key).and_then(|row| row.ended_at));
            let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
            gone.extend(oldest.into_iter().take(surplus.min(limit - gone.len())));
        }
        let more = gone.len() >= limit || forgotten >= limit as u64;
        let mut deleted = 0;
        for key in gone.into_iter().take(limit) {
            self.ledger.remove(key);
            deleted += 1;
        }
        Pruned { deleted, forgotten, more }
    }
}

fn has_ended_before(row: &Row, instant: DateTime<Utc>) -> bool {
    row.ended_at.is_some_and(|at| at < instant)
}
