//! Cells to test with, and what holds of each of them, whatever is done in whatever order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{
    super::{
        ClaimCursor, ClaimRequest, ClaimedJob, Decision, Fate, Incarnation, Keep, NodeId, Record,
        Release, Row, RowKey, RowKind, RowOutcome, RowState, RunEnd, Write, WriteResult,
    },
    Acceptance, Cell, IndexEntry, keys,
};

pub(super) const NODE: NodeId = NodeId(1);
pub(super) const RIVAL: NodeId = NodeId(2);

/// So many seconds after the beginning of the tests.
pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

/// The record of a job that fires next then.
pub(super) fn record(incarnation: u64, next_fire: Option<i64>) -> Record {
    let record = Record::new("report", Incarnation(incarnation), "task", at(0));
    Record { next_fire: next_fire.map(at), ..record }
}

pub(super) fn cell_of(record: Record) -> Cell {
    cell_with(record, [])
}

/// A cell to which a job was added with these rows.
pub(super) fn cell_with(record: Record, rows: impl Into<Vec<Row>>) -> Cell {
    let mut cell = Cell::default();
    cell.write(Write::add(record, 1).with_rows(rows.into()), at(0));
    cell
}

/// A row for the fire time then.
pub(super) fn scheduled(incarnation: u64, seconds: i64, state: RowState) -> Row {
    let number = at(seconds).timestamp_millis();
    row(Incarnation(incarnation), RowKind::Scheduled, number, at(seconds), state)
}

/// A row for a run that was asked for.
pub(super) fn requested(incarnation: u64, number: i64, state: RowState) -> Row {
    row(Incarnation(incarnation), RowKind::Requested, number, at(0), state)
}

fn row(
    incarnation: Incarnation,
    kind: RowKind,
    number: i64,
    fire_time: DateTime<Utc>,
    state: RowState,
) -> Row {
    let ended_at = (!state.is_open()).then_some(fire_time);
    let key = RowKey { incarnation, kind, number };
    Row { ended_at, ..Row::new(key, "report".into(), fire_time, state) }
}

pub(super) fn claimed_by(node: NodeId) -> RowState {
    RowState::Claimed(node)
}

pub(super) fn succeeded() -> RowState {
    RowState::Closed(Fate::Ran(RunEnd::Succeeded))
}

pub(super) fn ask(node: NodeId, number: u64) -> ClaimRequest {
    ClaimRequest {
        node,
        number,
        horizon: DateTime::<Utc>::MAX_UTC,
        tasks: Arc::default(),
        except: Arc::default(),
        passed: ClaimCursor::default(),
        looks: usize::MAX,
        limit: usize::MAX,
        row_limit: usize::MAX,
        decide: Arc::new(|_, _| Decision::Leave),
    }
}

/// Takes the rows, after which the job fires next then.
pub(super) fn claim(
    cell: &mut Cell,
    node: NodeId,
    rows: impl Into<Vec<Row>>,
    next_fire: Option<i64>,
) -> ClaimedJob {
    cell.claim(&ask(node, 1), rows.into(), next_fire.map(at), at(0)).expect("the job is not over")
}

/// The outcome of a run that succeeded then.
pub(super) fn outcome(row: &Row, seconds: i64) -> RowOutcome {
    RowOutcome {
        key: row.key,
        fence: row.fence,
        fate: Fate::Ran(RunEnd::Succeeded),
        attempt: row.attempt,
        started_at: Some(at(seconds - 1)),
        ended_at: at(seconds),
        message: None,
        job_end: Fate::Completed,
    }
}

pub(super) fn end_of(cell: &Cell, incarnation: u64) -> Option<RowState> {
    cell.row(RowKey::end_of(Incarnation(incarnation))).map(|row| row.state.clone())
}

/// A key-value store of one id: its document, its history, and its indexes.
#[derive(Default)]
struct KeyValueStore {
    cell: Cell,
    history: BTreeMap<RowKey, Row>,
    entries: BTreeSet<IndexEntry>,
    now: i64,
    takes: u64,
    tokens: u64,
    incarnations: u64,
    /// What was done before, to be asked for again.
    writes: Vec<Write>,
    outcomes: Vec<RowOutcome>,
    /// Whether a write has left a job with nothing to do.
    is_idle: bool,
}

/// One step: what is done, and two numbers that say with what.
type Step = (u8, u64, i64);

impl KeyValueStore {
    /// Does what a store does around a change.
    fn change<T>(
        &mut self,
        keys: impl IntoIterator<Item = RowKey>,
        change: impl FnOnce(&mut Cell) -> T,
    ) -> T {
        let before = self.cell.index_entries();
        let keys: Vec<RowKey> = self.cell.archived(keys).collect();
        self.cell.recall(keys.iter().filter_map(|key| self.history.get(key)).cloned());
        let done = change(&mut self.cell);
        self.history.extend(self.cell.overflow().into_iter().map(|row| (row.key, row)));
        let (removed, inserted) = IndexEntry::changes(before, self.cell.index_entries());
        for place in &removed {
            assert!(self.entries.remove(place), "{place:?} was not there");
        }
        for place in inserted {
            assert!(self.entries.insert(place), "it was there before");
        }
        done
    }

    /// All rows of the id.
    fn ledger(&self) -> BTreeMap<RowKey, Row> {
        let mut rows = self.history.clone();
        let incarnations: BTreeSet<Incarnation> = self
            .cell
            .index_entries()
            .into_iter()
            .filter_map(|place| match place {
                IndexEntry::Incarnation(incarnation) => Some(incarnation),
                _ => None,
            })
            .collect();
        for incarnation in incarnations {
            rows.extend(self.cell.rows(incarnation).into_iter().map(|row| (row.key, row.clone())));
        }
        rows
    }

    fn step(&mut self, (what, choice, number): Step) {
        self.now += 1;
        let (now, before) = (at(self.now), self.ledger());
        let node = NodeId(1 + choice % 3);
        let mut is_write = false;
        match what {
            // Adds, changes, replaces, removes; asks for a run.
            0..=4 => {
                is_write = true;
                let write = self.new_write(what, choice, number);
                self.write(write, now);
            }
            5 => {
                is_write = true;
                let place = choice as usize % self.writes.len().max(1);
                if let Some(write) = self.writes.get(place).cloned() {
                    self.write(write, now);
                }
            }
            6..=9 => self.claim(node, number, &before, now),
            10 => {
                let rows: Vec<&Row> = before.values().filter(|row| row.state.is_open()).collect();
                if let Some(row) = pick(&rows, choice) {
                    let fence = row.fence - u64::from(number % 3 == 0).min(row.fence);
                    let release = Release::new(row.key, fence, number.unsigned_abs() as u32 % 3);
                    self.change([], |cell| cell.release(node, release, now));
                }
            }
            11..=13 => {
                let rows: Vec<&Row> = before.values().collect();
                if let Some(row) = pick(&rows, choice).filter(|row| row.key.kind != RowKind::Ended)
                {
                    self.finish(outcome(row, self.now), Some(row), now);
                }
            }
            14 => {
                let outcomes: Vec<&RowOutcome> = self.outcomes.iter().collect();
                if let Some(outcome) = pick(&outcomes, choice).cloned() {
                    self.finish(outcome.clone(), before.get(&outcome.key), now);
                }
            }
            15 => {
                let limit = usize::from(number % 2 == 0) * 1000 + 1;
                let reaped = self.change([], |cell| cell.reap(node, limit, now));
                assert!(reaped.handed_out.len() + reaped.abandoned.len() <= limit);
                assert_eq!(
                    reaped.more,
                    self.cell.claimed.iter().any(|claimed| claimed.row.state == claimed_by(node))
                );
            }
            _ => {
                let keep = Keep { rows: 3 + number.unsigned_abs() as u32 % 20, ..Keep::default() };
                return self.prune(keep, now);
            }
        }
        self.check(&before, is_write);
    }

    fn new_write(&mut self, what: u8, choice: u64, number: i64) -> Write {
        self.tokens += 1;
        let token = self.tokens;
        let next_fire = (!choice.is_multiple_of(4)).then_some(self.now + number);
        let current = self.cell.record().cloned();
        let mut begin = || {
            self.incarnations += 1;
            let record = record(self.incarnations, next_fire);
            Record {
                remember: choice.is_multiple_of(3),
                paused: choice.is_multiple_of(7),
                ..record
            }
        };
        let id = begin().id;
        match (what, current) {
            (_, None) => Write::add(begin(), token),
            // Often of a stamp that is no longer so.
            (0, Some(_)) => Write::add(begin(), token),
            (1, Some(current)) => {
                let record = Record { next_fire: next_fire.map(at), ..current.clone() };
                Write::change(
                    current.stamp(),
                    Record { paused: choice.is_multiple_of(5), ..record },
                    token,
                )
            }
            (2, Some(current)) => {
                let end = Row::ended(&current, Fate::Replaced, at(self.now));
                Write::change(current.stamp(), begin(), token).with_rows(vec![end])
            }
            (3, Some(current)) => {
                let end = Row::ended(&current, Fate::Removed, at(self.now));
                Write::remove(id, current.stamp(), token).with_rows(vec![end])
            }
            (_, Some(current)) => {
                let requests = current.requests + 1;
                let row = requested(current.incarnation.0, requests as i64, RowState::Waiting);
                let record = Record { requests, ..current.clone() };
                Write::change(current.stamp(), record, token).with_rows(vec![row])
            }
        }
    }

    fn write(&mut self, write: Write, now: DateTime<Utc>) {
        self.writes.push(write.clone());
        let before = self.cell.clone();
        let keys: Vec<RowKey> = keys(&write).collect();
        let (stamp, becomes) = (write.expected, write.record.as_ref().map(|it| it.incarnation));
        let answer = self.change(keys, |cell| {
            let answer = cell.answer(&write);
            if answer.is_none() {
                cell.write(write, now);
            }
            answer
        });
        match answer {
            Some(WriteResult::Lost(current)) => {
                assert_ne!(current.as_ref().map(|record| record.stamp()), stamp);
                assert_eq!(self.cell.record(), current.as_deref());
            }
            Some(WriteResult::Done) => assert_eq!(self.cell.record(), before.record()),
            None => {
                assert_eq!(before.record().map(Record::stamp), stamp);
                assert_eq!(self.cell.record().map(|record| record.incarnation), becomes);
            }
        }
    }

    fn claim(
        &mut self,
        node: NodeId,
        number: i64,
        ledger: &BTreeMap<RowKey, Row>,
        now: DateTime<Utc>,
    ) {
        let Some(record) = self.cell.living().cloned() else { return };
        if self.cell.holder().is_some_and(|holder| holder != node) {
            return;
        }
        let mut rows: Vec<Row> = self.cell.waiting_rows().cloned().collect();
        rows.iter_mut().for_each(|row| row.state = claimed_by(NodeId(0)));
        if let Some(fire_time) = self.cell.next_fire() {
            let seconds = (fire_time - at(0)).num_seconds();
            let state = if number % 3 == 0 { succeeded() } else { claimed_by(NodeId(0)) };
            rows.push(Row {
                recover: number % 2 == 0,
                ..scheduled(record.incarnation.0, seconds, state)
            });
        }
        // A clock that has stepped back makes a trigger name fire times again.
        let next_fire =
            record.next_fire.map(|at| at + TimeDelta::seconds(number)).filter(|_| number % 5 != 0);
        self.takes += 1;
        let request = ask(node, self.takes);
        let keys: Vec<RowKey> = rows.iter().map(|row| row.key).collect();
        let claimed = self.change(keys, |cell| cell.claim(&request, rows, next_fire, now));
        let ClaimedJob { record: after, rows } = claimed.expect("it lives");
        assert!(after.fence > record.fence, "fences grow");
        for row in rows {
            let there = ledger.get(&row.key).map(|row| &row.state);
            assert!(matches!(there, None | Some(RowState::Waiting)), "{:?} again", row.key);
            if row.state.is_open() {
                assert_eq!((row.state, row.fence), (claimed_by(node), after.fence));
            }
        }
    }

    fn finish(&mut self, outcome: RowOutcome, before: Option<&Row>, now: DateTime<Utc>) {
        let key = outcome.key;
        self.outcomes.push(outcome.clone());
        let acceptance = self.change([key], |cell| cell.finish(outcome.clone(), now));
        let expected = match before.filter(|row| row.fence == outcome.fence).map(|row| &row.state) {
            None => Acceptance::Refused,
            Some(RowState::Closed(fate)) if !fate.is_abandoned() => Acceptance::Unchanged,
            Some(_) if acceptance == Acceptance::Over => Acceptance::Over,
            Some(_) => Acceptance::Closed,
        };
        assert_eq!(acceptance, expected);
        if acceptance == Acceptance::Over {
            assert!(!self.cell.is_living(key.incarnation));
        }
    }

    fn prune(&mut self, keep: Keep, now: DateTime<Utc>) {
        let gone = self.cell.outdated(self.history.values(), &keep, now);
        gone.iter().for_each(|key| drop(self.history.remove(key)));
        let is_gone = self.history.is_empty();
        self.change([], |cell| {
            gone.iter()
                .for_each(|key| assert!(cell.row(*key).is_none_or(|row| !row.state.is_open())));
            gone.iter().for_each(|key| _ = cell.delete(*key));
            if is_gone {
                cell.history_is_gone();
            }
        });
        assert_eq!(self.cell.outdated(self.history.values(), &keep, now), []);
    }

    /// What holds after each step but pruning.
    fn check(&mut self, before: &BTreeMap<RowKey, Row>, is_write: bool) {
        let Cell { waiting, claimed, closed, .. } = &self.cell;
        let ledger = self.ledger();
        for (key, row) in before {
            let after = &ledger[key];
            if matches!(&row.state, RowState::Closed(fate) if !fate.is_abandoned()) {
                assert_eq!(row, after, "a closed row stays as it is");
            }
        }
        let mut keys: Vec<RowKey> =
            waiting.iter().chain(closed.iter()).map(|row| row.key).collect();
        keys.extend(claimed.iter().map(|claimed| claimed.row.key));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count, "two rows of one key");
        assert!(waiting.iter().all(|row| row.state == RowState::Waiting));
        assert!(waiting.iter().all(|row| self.cell.is_living(row.key.incarnation)));
        assert!(closed.iter().all(|row| !row.state.is_open()) && closed.len() <= Cell::MOST_CLOSED);
        let holders: BTreeSet<_> = claimed
            .iter()
            .map(|claimed| (claimed.row.key.incarnation, super::claim::holder_of(&claimed.row)))
            .collect();
        let incarnations: BTreeSet<_> =
            holders.iter().map(|(incarnation, _)| incarnation).collect();
        assert_eq!(holders.len(), incarnations.len(), "two nodes hold one incarnation");
        let is_open = |it| waiting.of(it).len() + claimed.of(it).len() > 0;
        let idle =
            self.cell.living().filter(|it| it.next_fire.is_none() && !is_open(it.incarnation));
        assert!(idle.is_none_or(|it| !it.remember && (is_write || self.is_idle)), "it is over");
        self.is_idle = idle.is_some();
        let entries = self.cell.index_entries();
        assert!(entries.is_sorted());
        assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), self.entries);
        let json = serde_json::to_string(&self.cell).unwrap();
        assert_eq!(serde_json::from_str::<Cell>(&json).unwrap(), self.cell);
    }
}

fn pick<'a, T>(of: &[&'a T], choice: u64) -> Option<&'a T> {
    of.get(choice as usize % of.len().max(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// No two rows of one key, one holder, fences that grow, entries that follow from the cell.
    #[test]
    fn the_contract_holds_for_random_operations(
        steps in prop::collection::vec((0..18u8, any::<u64>(), -20..60i64), 1..250),
    ) {
        let mut store = KeyValueStore::default();
        steps.into_iter().for_each(|step| store.step(step));
    }
}
