//! The operations of a memory store: each is one commit, and its part for each job is a function on
//! the job's cell.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
};

use super::{
    super::{
        cell::{Acceptance, Cell, IndexEntry, keys},
        *,
    },
    claim::Claiming,
    history::History,
    indexes::Indexes,
};

#[derive(Default)]
pub(super) struct State {
    /// Boxed, since cells are large and a hash table has unused capacity.
    pub(super) cells: HashMap<JobId, Box<Cell>>,
    pub(super) indexes: Indexes,
    pub(super) history: History,
    /// The jobs with rows that were closed since the last check of their number.
    pub(super) grown: HashSet<JobId>,
    /// The rows of the nodes, with the numbers of their last claims.
    nodes: BTreeMap<NodeId, (NodeRow, u64)>,
    pub(super) actions: BTreeMap<ActionCursor, LoggedAction>,
    /// The changes of the operation, to be sent to receivers.
    changes: Vec<StoreChange>,
}

/// How many rows that do not pass the filter one page of fates scans.
const MAX_SCANNED: usize = 1000;

impl State {
    /// Takes the changes of the operation, to be sent to receivers.
    pub(super) fn take_changes(&mut self) -> Vec<StoreChange> {
        std::mem::take(&mut self.changes)
    }

    /// Changes the cell of an id, after recalling the rows with these keys from its history.
    pub(super) fn change<T>(
        &mut self,
        id: &JobId,
        keys: impl IntoIterator<Item = RowKey>,
        change: impl FnOnce(&mut Cell) -> T,
    ) -> T {
        let State { cells, indexes, history, grown, .. } = self;
        let cell = cells.entry(id.clone()).or_default();
        let (before, closed_before) = (cell.open_entries(), cell.closed_ends());
        let keys: Vec<RowKey> = cell.archived(keys).collect();
        cell.recall(keys.into_iter().filter_map(|key| take_archived(history, indexes, key)));
        let done = change(cell);
        let overflow = cell.overflow();
        let (removed, inserted) = IndexEntry::changes(before, cell.open_entries());
        let (reopened, closed) = IndexEntry::changes(closed_before, cell.closed_ends());
        if cell.is_empty() {
            cells.remove(id);
        }
        if !closed.is_empty() && !grown.contains(id) {
            grown.insert(id.clone());
        }
        let entry = |(key, at)| IndexEntry::Closed(key, at);
        let removed = removed.into_iter().chain(reopened.into_iter().map(entry));
        removed.for_each(|entry| indexes.remove(entry, id));
        let inserted = inserted.into_iter().chain(closed.into_iter().map(entry));
        inserted.for_each(|entry| indexes.insert(entry, id.clone()));
        for row in overflow {
            if let Some(entry) = closed_entry(&row) {
                indexes.insert(entry, id.clone());
            }
            history.put(id, row);
        }
        done
    }

    /// Removes a row from the history.
    pub(super) fn forget_history(&mut self, key: RowKey) {
        take_archived(&mut self.history, &mut self.indexes, key);
    }

    fn cell(&self, incarnation: Incarnation) -> Option<&Cell> {
        self.cells.get(self.indexes.id(incarnation)?).map(|cell| &**cell)
    }

    /// The id whose cell or history has the row with this key.
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

    /// The increase in the number of jobs by this write.
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
            let current = record.map(|record| record.incarnation);
            let gone = expected.filter(|gone| current != Some(*gone));
            // All waiting rows of a resumed job count again.
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
        // Ids are text here; invalid bytes sort after the text that replaces them.
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
        request: &ClaimRequest,
        now: DateTime<Utc>,
    ) -> Result<ClaimResult, StoreError> {
        let node = self.nodes.get(&request.node);
        let last = node.map(|(_, last)| *last).ok_or_else(StoreError::lease_lost)?;
        if request.number < last {
            let number = request.number;
            return Err(StoreError::refused(format!(
                "claim {number} follows claim {last} of the same node: the numbers must ascend"
            )));
        }
        if request.number == last {
            let passed = request.passed;
            return Ok(ClaimResult { more: true, passed, ..self.claimed_in(request.node, last) });
        }
        let Claiming { decided, in_vain, mut claim_result, .. } = Claiming::new(self, request);
        self.nodes.entry(request.node).and_modify(|(_, last)| *last = request.number);
        for (id, rows, next_fire) in decided {
            let keys: Vec<RowKey> = rows.iter().map(|row| row.key).collect();
            let claimed = self.change(&id, keys, |cell| cell.claim(request, rows, next_fire, now));
            if let Some(claimed) = claimed {
                if self.cells.get(&id).is_none_or(|cell| cell.living().is_none()) {
                    self.changes.push(StoreChange::Gone(claimed.record.incarnation));
                }
                claim_result.jobs.push(claimed);
            }
        }
        if !claim_result.more {
            claim_result.next_due = self.next_due(&request.next_due(claim_result.passed, &in_vain));
        }
        Ok(claim_result)
    }

    /// The jobs with waiting rows that are candidates for a claim by this node.
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

    /// The jobs with a next fire time that are candidates for a claim by this node, in order of it.
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

    /// The newest `count` of these jobs, in reverse order.
    pub(super) fn newest(
        &self,
        request: &ClaimRequest,
        count: usize,
    ) -> impl Iterator<Item = &Cell> {
        let newest = self.indexes.newest(request.node, &request.tasks, request.horizon, count);
        let newest =
            newest.into_iter().filter(|(incarnation, _)| !request.except.contains(incarnation));
        newest.filter_map(|(_, id)| self.cells.get(id).map(|cell| &**cell))
    }

    /// The rows of the node's claim with this number.
    fn claimed_in(&self, node: NodeId, number: u64) -> ClaimResult {
        let mut claim_result = ClaimResult::default();
        for (incarnation, id) in self.indexes.claimed(node, Incarnation(0)) {
            if let Some(cell) = self.cells.get(id) {
                cell.claimed_in(node, incarnation, number, &mut claim_result);
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
        let claimed = self.indexes.claimed(node, from);
        let rows = claimed.filter_map(|(incarnation, id)| {
            Some(self.cells.get(id)?.claimed_of(node, incarnation))
        });
        let rows = rows.flatten().filter(|row| Some(row.key) > after);
        rows.map(Row::claim).take(limit).collect()
    }

    pub(super) fn claimed(&self, node: NodeId, rows: &[RowKey]) -> ClaimResult {
        let mut claim_result = ClaimResult::default();
        for key in rows {
            if let Some(cell) = self.cell(key.incarnation) {
                cell.add_claimed(node, *key, &mut claim_result);
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
            self.reclaim([heartbeat.node], usize::MAX, now);
            // Other nodes may claim what this node had claimed exclusively.
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
        let is_dead = |state: &State, (node, heartbeats): &(NodeId, u64)| {
            state.nodes.get(node).is_some_and(|(row, _)| row.heartbeats == *heartbeats)
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
        ReapReport { nodes, ..self.reclaim(dead, limit, now) }
    }

    /// Reclaims up to `limit` rows of nodes without a row.
    fn reclaim(
        &mut self,
        nodes: impl IntoIterator<Item = NodeId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> ReapReport {
        let mut reaped = ReapReport::default();
        let mut room = limit;
        for node in nodes {
            let claimed = self.indexes.claimed(node, Incarnation(0)).map(|(_, id)| id.clone());
            // Each of these jobs has at least one row, so one job more shows that there are more
            // rows.
            let claimed: Vec<JobId> = claimed.take(room.saturating_add(1)).collect();
            for id in claimed {
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

    /// All rows in order of their keys, from the cells and the history.
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
        if limit == 0 {
            return FatePage::default();
        }
        let rows = self.indexes.latest_closed(filter.until, after);
        let rows = rows
            .filter_map(|(key, id)| self.cells.get(id)?.row(key).or_else(|| self.history.get(key)));
        let (mut page, mut scanned) = (FatePage::default(), 0);
        for row in rows {
            if filter.from.is_some_and(|from| row.ended_at < Some(from)) {
                break;
            }
            scanned += 1;
            if filter.passes(row) {
                page.rows.push(row.clone());
            }
            if page.rows.len() >= limit || scanned == MAX_SCANNED {
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

fn take_archived(history: &mut History, indexes: &mut Indexes, key: RowKey) -> Option<Row> {
    let id = history.id(key)?.clone();
    let row = history.remove(key)?;
    if let Some(entry) = closed_entry(&row) {
        indexes.remove(entry, &id);
    }
    Some(row)
}

/// The index entry of a row in the history.
fn closed_entry(row: &Row) -> Option<IndexEntry> {
    Some(IndexEntry::Closed(row.key, row.ended_at?))
}
