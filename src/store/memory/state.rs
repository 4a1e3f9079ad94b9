//! What each operation of a memory store does, as one: each job's part of it is a function on its cell.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
};

use super::{
    super::{
        cell::{Acceptance, Cell, Place, keys},
        *,
    },
    claim::Claiming,
    history::History,
    indexes::Indexes,
};

#[derive(Default)]
pub(super) struct State {
    /// In boxes, since cells are large and a table has room to spare.
    pub(super) cells: HashMap<JobId, Box<Cell>>,
    pub(super) indexes: Indexes,
    pub(super) history: History,
    /// The jobs of which rows have ended since it was looked for too many of them.
    pub(super) grown: HashSet<JobId>,
    /// Those that have a row, and the numbers of their last takes.
    nodes: BTreeMap<NodeId, (NodeRow, u64)>,
    pub(super) actions: BTreeMap<ActionCursor, LoggedAction>,
    /// What the operation has changed that others may wait for.
    changes: Vec<StoreChange>,
}

/// How many rows that do not pass a page of fates looks at.
const LOOKED_AT: usize = 1000;

impl State {
    /// What others are to be notified of that the operation has done.
    pub(super) fn take_changes(&mut self) -> Vec<StoreChange> {
        std::mem::take(&mut self.changes)
    }

    /// Changes the cell of an id, which has the rows of these keys that are in its history.
    pub(super) fn change<T>(
        &mut self,
        id: &JobId,
        keys: impl IntoIterator<Item = RowKey>,
        change: impl FnOnce(&mut Cell) -> T,
    ) -> T {
        let State { cells, indexes, history, grown, .. } = self;
        let cell = cells.entry(id.clone()).or_default();
        let before = cell.places();
        let keys: Vec<RowKey> = cell.archived(keys).collect();
        cell.recall(keys.into_iter().filter_map(|key| forget(history, indexes, key)));
        let done = change(cell);
        let overflow = cell.overflow();
        let (go, come) = Place::changes(before, cell.places());
        if cell.is_empty() {
            cells.remove(id);
        }
        go.into_iter().for_each(|place| indexes.remove(place, id));
        if come.iter().any(|place| matches!(place, Place::Closed(..))) && !grown.contains(id) {
            grown.insert(id.clone());
        }
        come.into_iter().for_each(|place| indexes.insert(place, id.clone()));
        for row in overflow {
            ended(&row).into_iter().for_each(|place| indexes.insert(place, id.clone()));
            history.put(id, row);
        }
        done
    }

    /// Removes a row from the history.
    pub(super) fn forget_history(&mut self, key: RowKey) {
        forget(&mut self.history, &mut self.indexes, key);
    }

    fn cell(&self, incarnation: Incarnation) -> Option<&Cell> {
        self.cells.get(self.indexes.id(incarnation)?).map(|cell| &**cell)
    }

    /// The id whose cell has the row of this key, or had it.
    fn id_of(&self, key: RowKey) -> Option<JobId> {
        self.indexes.id(key.incarnation).or_else(|| self.history.id(key)).cloned()
    }

    pub(super) fn write(
        &mut self,
        writes: Vec<Write>,
        max_jobs: Option<u64>,
        now: DateTime<Utc>,
    ) -> Result<Vec<WriteResult>, StoreError> {
        if let Some(most) = max_jobs {
            let grown: i64 = writes.iter().map(|write| self.growth(write, now)).sum();
            let after = self.indexes.count_listed().saturating_add_signed(grown);
            if grown > 0 && after > most {
                return Err(StoreError::refused(full(most)));
            }
        }
        Ok(writes.into_iter().map(|write| self.write_one(write, now)).collect())
    }

    /// How many jobs more there are with this write.
    fn growth(&self, write: &Write, now: DateTime<Utc>) -> i64 {
        let mut cell = self.cells.get(&write.id).map(|cell| (**cell).clone()).unwrap_or_default();
        let archived: Vec<RowKey> = cell.archived(keys(write)).collect();
        cell.recall(archived.into_iter().filter_map(|key| self.history.get(key).cloned()));
        let before = i64::from(cell.living().is_some());
        if cell.answer(write).is_none() {
            cell.write(write.clone(), now);
        }
        i64::from(cell.living().is_some()) - before
    }

    fn write_one(&mut self, write: Write, now: DateTime<Utc>) -> WriteResult {
        let (id, keys): (_, Vec<RowKey>) = (write.id.clone(), keys(&write).collect());
        let incarnation = write.record.as_ref().map(|record| record.incarnation);
        let incarnation = incarnation.or(write.expected.map(|expected| expected.incarnation));
        let action = write.action.clone().zip(incarnation).map(|(action, incarnation)| {
            LoggedAction::new(now, write.token, id.clone(), incarnation, action)
        });
        let was_paused = self.get(&id).is_some_and(|record| record.paused);
        let waits = write.rows.iter().any(|row| row.state == RowState::Waiting);
        let expected = write.expected.map(|expected| expected.incarnation);
        let answer = self.change(&id, keys, |cell| {
            let answer = cell.answer(&write);
            if answer.is_none() {
                cell.write(write, now);
            }
            answer
        });
        if answer.is_none() {
            let record = self.cells.get(&id).and_then(|cell| cell.living());
            let is = record.map(|record| record.incarnation);
            let gone = expected.filter(|gone| is != Some(*gone));
            // Of one that is resumed all rows that wait count again.
            let waits = waits || was_paused && record.is_some_and(|record| !record.paused);
            self.changes.extend(StoreChange::of_write(gone, record, waits));
            self.actions.extend(action.map(|action| (action.cursor(), action)));
        }
        answer.unwrap_or(WriteResult::Done)
    }

    pub(super) fn get(&self, id: &JobId) -> Option<Record> {
        self.cells.get(id).and_then(|cell| cell.record()).cloned()
    }

    pub(super) fn list(
        &self,
        filter: &RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> RecordPage {
        // An id is text here; bytes that are none come behind what they can be read as.
        let after = after.map(|cursor| String::from_utf8_lossy(cursor.as_bytes()).into_owned());
        let listed = self.indexes.listed(after).filter_map(|id| self.cells.get(id)?.living());
        let mut passing = listed.filter(|record| filter.passes(record));
        let records: Vec<Record> = passing.by_ref().take(limit).cloned().collect();
        let next = passing.next().and(records.last()).map(|record| RecordCursor::from(&record.id));
        RecordPage { records, next }
    }

    pub(super) fn waiting_rows(
        &self,
        mut of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Vec<Row> {
        of.sort_unstable();
        let waiting = of.into_iter().filter_map(|incarnation| {
            let waiting = self.cell(incarnation)?.waiting_of(incarnation);
            Some(waiting)
        });
        waiting.flatten().filter(|row| Some(row.key) > after).take(limit).cloned().collect()
    }

    pub(super) fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> Vec<RecordChange> {
        let status = |incarnation, version| {
            let cell = self.cell(incarnation);
            let record = cell.and_then(|cell| cell.living());
            match record.filter(|record| record.incarnation == incarnation) {
                Some(record) if record.version == version => None,
                Some(record) => Some(RecordStatus::Updated(Box::new(record.clone()))),
                None => {
                    let key = RowKey::end_of(incarnation);
                    let end = cell.and_then(|cell| cell.row(key)).or_else(|| self.history.get(key));
                    Some(RecordStatus::Removed(end.and_then(|row| match &row.state {
                        RowState::Closed(fate) => Some(fate.clone()),
                        _ => None,
                    })))
                }
            }
        };
        let changed = known.into_iter().filter_map(|(_, incarnation, version)| {
            Some(RecordChange { incarnation, status: status(incarnation, version)? })
        });
        changed.collect()
    }

    pub(super) fn claim(
        &mut self,
        take: &ClaimRequest,
        now: DateTime<Utc>,
    ) -> Result<ClaimResult, StoreError> {
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
            return Ok(ClaimResult { more: true, passed, ..self.taken_in(take.node, last) });
        }
        let Claiming { decided, in_vain, mut claim_result, .. } = Claiming::new(self, take);
        self.nodes.entry(take.node).and_modify(|(_, last)| *last = take.number);
        for (id, rows, next_fire) in decided {
            let keys: Vec<RowKey> = rows.iter().map(|row| row.key).collect();
            let taken = self.change(&id, keys, |cell| cell.claim(take, rows, next_fire, now));
            if let Some(taken) = taken {
                if self.cells.get(&id).is_none_or(|cell| cell.living().is_none()) {
                    self.changes.push(StoreChange::Gone(taken.record.incarnation));
                }
                claim_result.jobs.push(taken);
            }
        }
        if !claim_result.more {
            claim_result.next_due = self.next_due(&take.next_due(claim_result.passed, &in_vain));
        }
        Ok(claim_result)
    }

    /// The jobs with waiting rows that a take by this node considers.
    pub(super) fn waiting(
        &self,
        node: NodeId,
        tasks: &HashSet<String>,
        except: &HashSet<Incarnation>,
        passed: Option<Incarnation>,
    ) -> impl Iterator<Item = &Cell> {
        let waiting = self.indexes.waiting(node, tasks, passed);
        let waiting = waiting.filter(|(incarnation, _)| !except.contains(incarnation));
        waiting.filter_map(|(_, id)| self.cells.get(id).map(|cell| &**cell))
    }

    /// The jobs with a next fire time that a take by this node considers, in order of that.
    pub(super) fn due(
        &self,
        node: NodeId,
        tasks: &HashSet<String>,
        except: &HashSet<Incarnation>,
        passed: Option<(DateTime<Utc>, Incarnation)>,
    ) -> impl Iterator<Item = (DateTime<Utc>, &Cell)> {
        let due = self.indexes.due(node, tasks, passed);
        let due = due.filter(|((_, incarnation), _)| !except.contains(incarnation));
        due.filter_map(|((at, _), id)| Some((at, &**self.cells.get(id)?)))
    }

    /// Of the same so many, from the newest backwards.
    pub(super) fn newest(&self, take: &ClaimRequest, count: usize) -> impl Iterator<Item = &Cell> {
        let newest = self.indexes.newest(take.node, &take.tasks, take.horizon, count);
        let newest =
            newest.into_iter().filter(|(incarnation, _)| !take.except.contains(incarnation));
        newest.filter_map(|(_, id)| self.cells.get(id).map(|cell| &**cell))
    }

    /// What a node has of the take of this number.
    fn taken_in(&self, node: NodeId, number: u64) -> ClaimResult {
        let mut claim_result = ClaimResult::default();
        for (incarnation, id) in self.indexes.held(node, Incarnation(0)) {
            if let Some(cell) = self.cells.get(id) {
                cell.taken_in(node, incarnation, number, &mut claim_result);
            }
        }
        claim_result
    }

    pub(super) fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Vec<Claim> {
        let from = after.map_or(Incarnation(0), |key| key.incarnation);
        let held = self.indexes.held(node, from);
        let rows = held
            .filter_map(|(incarnation, id)| Some(self.cells.get(id)?.taken_of(node, incarnation)));
        let rows = rows.flatten().filter(|row| Some(row.key) > after);
        rows.map(Row::claim).take(limit).collect()
    }

    pub(super) fn claimed(&self, node: NodeId, rows: &[RowKey]) -> ClaimResult {
        let mut claim_result = ClaimResult::default();
        for key in rows {
            if let Some(cell) = self.cell(key.incarnation) {
                cell.claimed(node, *key, &mut claim_result);
            }
        }
        claim_result
    }

    pub(super) fn release(&mut self, node: NodeId, rows: Vec<Release>, now: DateTime<Utc>) {
        for row in rows {
            if let Some(id) = self.id_of(row.key)
                && self.change(&id, [], |cell| cell.release(node, row, now))
            {
                self.changes.push(StoreChange::Due(DateTime::<Utc>::MIN_UTC));
            }
        }
    }

    pub(super) fn finish(&mut self, outcomes: Vec<RowOutcome>, now: DateTime<Utc>) -> FinishReport {
        let mut report = FinishReport::default();
        for outcome in outcomes {
            let key = outcome.key;
            let acceptance = self.id_of(key).map_or(Acceptance::Refused, |id| {
                self.change(&id, [key], |cell| cell.finish(outcome, now))
            });
            match acceptance {
                Acceptance::Refused => report.refused.push(key),
                Acceptance::Unchanged | Acceptance::Closed => {}
                Acceptance::Over => report.over.push(key.incarnation),
            }
        }
        self.changes.extend(report.over.iter().map(|over| StoreChange::Gone(*over)));
        report
    }

    pub(super) fn heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, StoreError> {
        if heartbeat.ttl.is_zero() {
            self.nodes.remove(&heartbeat.node);
            self.bury([heartbeat.node], usize::MAX, now);
            // What the node would have claimed next is for others.
            self.changes.push(StoreChange::Unknown);
            return Ok(now);
        }
        match self.nodes.get_mut(&heartbeat.node) {
            Some((row, _)) => row.heartbeat(heartbeat, now),
            None if heartbeat.first => {
                self.nodes.insert(heartbeat.node, (NodeRow::new(heartbeat, now), 0));
            }
            None => return Err(StoreError::lease_lost()),
        }
        Ok(now)
    }

    pub(super) fn nodes(&self) -> Vec<NodeRow> {
        self.nodes.values().map(|(row, _)| row.clone()).collect()
    }

    pub(super) fn reap(
        &mut self,
        suspects: &[(NodeId, u64)],
        limit: usize,
        now: DateTime<Utc>,
    ) -> ReapReport {
        let is_dead = |state: &State, (node, beats): &(NodeId, u64)| {
            state.nodes.get(node).is_some_and(|(row, _)| row.heartbeats == *beats)
        };
        let mut nodes = Vec::new();
        for suspect in suspects {
            if is_dead(self, suspect) {
                self.nodes.remove(&suspect.0);
                nodes.push(suspect.0);
            }
        }
        self.changes.extend((!nodes.is_empty()).then_some(StoreChange::Unknown));
        let dead: Vec<NodeId> =
            self.indexes.nodes().filter(|node| !self.nodes.contains_key(node)).collect();
        ReapReport { nodes, ..self.bury(dead, limit, now) }
    }

    /// Hands out or closes up to `limit` rows that nodes had taken whose rows are gone.
    fn bury(
        &mut self,
        nodes: impl IntoIterator<Item = NodeId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> ReapReport {
        let mut reaped = ReapReport::default();
        let mut room = limit;
        for node in nodes {
            let held = self.indexes.held(node, Incarnation(0)).map(|(_, id)| id.clone());
            // Each has a row; one more says that there is more.
            let held: Vec<JobId> = held.take(room.saturating_add(1)).collect();
            for id in held {
                let part = self.change(&id, [], |cell| cell.reap(node, room, now));
                room -= part.handed_out.len() + part.abandoned.len();
                reaped.handed_out.extend(part.handed_out);
                reaped.abandoned.extend(part.abandoned);
                reaped.over.extend(part.over);
                reaped.more |= part.more;
            }
        }
        self.changes.extend((room < limit).then_some(StoreChange::Unknown));
        reaped
    }

    pub(super) fn next_due(&self, of: &NextDueRequest) -> Option<DateTime<Utc>> {
        if self.waiting(of.node, &of.tasks, &of.except, of.passed.waiting).next().is_some() {
            return Some(DateTime::<Utc>::MIN_UTC);
        }
        self.due(of.node, &of.tasks, &of.except, of.passed.due).next().map(|(at, _)| at)
    }

    pub(super) fn history(&self, incarnation: Incarnation, limit: usize) -> Vec<Row> {
        let in_cell = self.cell(incarnation).map(|cell| cell.rows(incarnation));
        let mut rows: Vec<_> = self.history.of(incarnation).collect();
        rows.extend(in_cell.into_iter().flatten());
        rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.fire_time, row.key)));
        rows.into_iter().take(limit).cloned().collect()
    }

    /// The order of all rows is a matter of this store alone.
    pub(super) fn rows(&self, after: Option<RowKey>, limit: usize) -> Vec<Row> {
        let first =
            RowKey { incarnation: Incarnation(0), kind: RowKind::Scheduled, number: i64::MIN };
        let from = after.unwrap_or(first);
        let is_behind = |row: &&Row| Some(row.key) > after;
        let cells = self.indexes.incarnations(from.incarnation);
        let in_cells = cells.filter_map(|(it, id)| Some(self.cells.get(id)?.rows(it))).flatten();
        let mut in_cells = in_cells.filter(is_behind).peekable();
        let mut in_history = self.history.from(from).filter(is_behind).peekable();
        let rows = std::iter::from_fn(|| match (in_cells.peek(), in_history.peek()) {
            (Some(row), Some(other)) if other.key < row.key => in_history.next(),
            (Some(_), _) => in_cells.next(),
            (None, _) => in_history.next(),
        });
        rows.take(limit).cloned().collect()
    }

    pub(super) fn fates(
        &self,
        filter: &FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> FatePage {
        let rows = self.indexes.latest_closed(filter.until, after);
        let rows = rows
            .filter_map(|(key, id)| self.cells.get(id)?.row(key).or_else(|| self.history.get(key)));
        let (mut page, mut looked_at) = (FatePage::default(), 0);
        for row in rows {
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
}

fn forget(history: &mut History, indexes: &mut Indexes, key: RowKey) -> Option<Row> {
    let id = history.id(key)?.clone();
    let row = history.remove(key)?;
    ended(&row).into_iter().for_each(|place| indexes.remove(place, &id));
    Some(row)
}

/// The entry of a row of the history.
fn ended(row: &Row) -> Option<Place> {
    Some(Place::Closed(row.key, row.ended_at?))
}
