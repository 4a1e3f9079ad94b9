//! Fire times: which are due, who takes them, and when to ask again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
};

use chrono::{DateTime, Utc};
use rusqlite::{CachedStatement, OptionalExtension as _, Params};

use super::{
    columns::{key, record, record_columns, row, row_columns},
    error::{Result, SqliteError},
    jobs, ledger,
    session::Session,
};
use crate::{
    job::SkipReason,
    store::{
        Claim, ClaimRequest, ClaimResult, ClaimedJob, Decision, Fate, Incarnation, NextDueRequest,
        NodeId, Record, RejectedJob, Release, Row, RowKey, RowState, StoreChange,
        sql::{instant, kind, millis, signed, unsigned},
    },
};

// Each of these finds the jobs of one holder, `?2`: a node looks at those that nobody holds, and at
// its own.

pub(super) const WAITING: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_ready \
     WHERE task = ?1 AND holder IS ?2 AND waiting = 1 AND (paused = 0 OR asked = 1) \
     AND incarnation > ?3 ORDER BY incarnation LIMIT ?4"
);

// What follows a fire time and an incarnation takes two seeks. The incarnation is the rowid, which is no part
// of the bounds that SQLite makes of `(next_fire, incarnation) > (?, ?)`: that would step over all jobs of the
// fire time.

/// Of the jobs of one fire time those after an incarnation.
pub(super) const DUE_AT: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \
     AND next_fire = ?4 AND incarnation > ?5 ORDER BY incarnation LIMIT ?6"
);

pub(super) const DUE: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \
     AND next_fire >= ?4 ORDER BY next_fire, incarnation LIMIT ?5"
);

/// From the newest backwards.
pub(super) const NEWEST: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \
     ORDER BY next_fire DESC, incarnation DESC LIMIT ?4"
);

const ADVANCE: &str = "UPDATE punctual_jobs \
     SET fence = ?2, next_fire = ?3, holder = coalesce(?4, holder) WHERE incarnation = ?1";

const LAST_TAKE: &str = "SELECT take FROM punctual_nodes WHERE node = ?1";

const COUNT: &str = "UPDATE punctual_nodes SET take = ?2 WHERE node = ?1";

const OF_THE_LAST_TAKE: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node = ?1 AND take = ?2 ORDER BY incarnation, kind, number"
);

const TAKEN_BY: &str = "SELECT incarnation, kind, number, fence \
     FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node = ?1 AND (incarnation, kind, number) > (?2, ?3, ?4) \
     ORDER BY incarnation, kind, number LIMIT ?5";

const TAKEN: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND node = ?4"
);

const RELEASE: &str = "UPDATE punctual_ledger SET node = NULL, attempt = max(attempt, ?6) \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND node = ?4 AND fence = ?5";

pub(super) const WAITS: &str = "SELECT incarnation FROM punctual_jobs INDEXED BY punctual_jobs_ready \
     WHERE task = ?1 AND holder IS ?2 AND waiting = 1 AND (paused = 0 OR asked = 1) AND incarnation > ?3";

pub(super) const NEXT_AT: &str = "SELECT incarnation, next_fire FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire = ?3 AND incarnation > ?4 \
     ORDER BY incarnation";

pub(super) const NEXT: &str = "SELECT incarnation, next_fire FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire >= ?3 \
     ORDER BY next_fire, incarnation";

/// The most records that are read of a line at once.
const LONGEST_PAGE: usize = 1024;

pub(super) fn claim(session: &Session, take: &ClaimRequest) -> Result<ClaimResult> {
    if is_repeated(session, take)? {
        let node = signed(take.node.0);
        let rows = session
            .prepare(OF_THE_LAST_TAKE)?
            .query_map((node, signed(take.number)), row)?
            .filter_map(rusqlite::Result::transpose)
            .collect::<rusqlite::Result<_>>()?;
        let passed = take.passed;
        return Ok(ClaimResult { more: true, passed, ..with_records(session, rows)? });
    }
    let mut taking = Claiming::new(session, take)?;
    taking.waiting()?;
    taking.due()?;
    let Claiming { mut claim_result, unclaimed, .. } = taking;
    if !claim_result.more {
        claim_result.next_due = next_due(session, &take.next_due(claim_result.passed, &unclaimed))?;
    }
    Ok(claim_result)
}

/// Sees that the node has a row, and notes the number of its take; returns whether it was the last one's
/// too.
fn is_repeated(session: &Session, take: &ClaimRequest) -> Result<bool> {
    let node = signed(take.node.0);
    let found = session.prepare(LAST_TAKE)?.query_row([node], |row| row.get(0)).optional()?;
    let last: Option<i64> = found.ok_or(SqliteError::LeaseLost)?;
    match last.map(unsigned) {
        Some(last) if take.number == last => return Ok(true),
        Some(last) if take.number < last => {
            return Err(SqliteError::Refused(format!(
                "take {} comes after take {last} of the same node: count them up",
                take.number
            )));
        }
        _ => {}
    }
    session.prepare(COUNT)?.execute((node, signed(take.number)))?;
    Ok(false)
}

/// A take that is going on.
struct Claiming<'a> {
    session: &'a Session,
    take: &'a ClaimRequest,
    /// In an order of their own, so that the same store gives the same answer.
    tasks: Vec<&'a str>,
    advance: CachedStatement<'a>,
    put_new: CachedStatement<'a>,
    put_over_waiting: CachedStatement<'a>,
    /// Jobs that were decided on: each is asked for once.
    seen: HashSet<Incarnation>,
    /// Those of them that were not taken.
    unclaimed: HashSet<Incarnation>,
    /// Whether all jobs with waiting rows were decided on: the others have none.
    saw_waiting: bool,
    /// How many rows were put.
    rows: usize,
    claim_result: ClaimResult,
}

impl<'a> Claiming<'a> {
    fn new(session: &'a Session, take: &'a ClaimRequest) -> Result<Claiming<'a>> {
        let mut tasks: Vec<&str> = take.tasks.iter().map(String::as_str).collect();
        tasks.sort_unstable();
        Ok(Claiming {
            session,
            take,
            tasks,
            advance: session.prepare(ADVANCE)?,
            put_new: session.prepare(ledger::PUT_NEW)?,
            put_over_waiting: session.prepare(ledger::PUT_OVER_WAITING)?,
            seen: HashSet::new(),
            unclaimed: HashSet::new(),
            saw_waiting: false,
            rows: 0,
            claim_result: ClaimResult { passed: take.passed, ..ClaimResult::default() },
        })
    }

    fn is_full(&self) -> bool {
        self.claim_result.jobs.len() >= self.take.limit || self.rows >= self.take.row_limit
    }

    /// Takes what waits.
    fn waiting(&mut self) -> Result<()> {
        let from = self.take.passed.waiting.map(|passed| (i64::MIN, signed(passed.0)));
        if from.is_some() {
            self.look(Order::Waiting, None, self.few())?;
        }
        if let Some((_, passed)) = self.look(Order::Waiting, from, self.take.looks)? {
            self.claim_result.passed.waiting = Some(Incarnation(unsigned(passed)));
        }
        self.saw_waiting = self.claim_result.passed.waiting.is_none();
        Ok(())
    }

    /// Takes what is due.
    fn due(&mut self) -> Result<()> {
        let from = self.take.passed.due.map(|(at, passed)| (millis(at), signed(passed.0)));
        if from.is_some() {
            self.look(Order::Due, None, self.few())?;
        }
        if let Some((at, passed)) = self.look(Order::Due, from, self.take.looks)? {
            self.claim_result.passed.due = Some((instant(at), Incarnation(unsigned(passed))));
        }
        if self.claim_result.passed.due.is_some() && !self.is_full() {
            self.newest()?;
        }
        Ok(())
    }

    /// Takes the jobs behind a place, until `looks` were looked at in vain. Returns the place of the last
    /// of those, if there are any.
    fn look(&mut self, order: Order, from: Option<Place>, looks: usize) -> Result<Option<Place>> {
        let mut lines = Lines::new(self.session, order, self.take, &self.tasks, from)?;
        let (mut unclaimed, mut last) = (0, None);
        while let Some((place, record)) = lines.next()? {
            // What was taken just now is in another line by now.
            if self.is_left_out(record.incarnation) {
                continue;
            }
            if self.is_full() || unclaimed >= looks {
                self.claim_result.more |= self.is_full() || looks == self.take.looks;
                break;
            }
            let rows = match order {
                Order::Due if self.saw_waiting => Vec::new(),
                _ => ledger::waiting(self.session, record.incarnation, record.paused)?,
            };
            if order == Order::Waiting && rows.is_empty() {
                // The record says so, and is wrong: somebody has edited it.
                jobs::recount(self.session, record.incarnation)?;
                continue;
            }
            if !self.decide(record, &rows)? {
                (unclaimed, last) = (unclaimed + 1, Some(place));
            }
        }
        Ok(last)
    }

    /// Takes what is due, from the newest backwards.
    fn newest(&mut self) -> Result<()> {
        let looks = self.few();
        let mut newest = Vec::new();
        let mut select = self.session.prepare(NEWEST)?;
        for (task, holder) in lines(&self.tasks, self.take.node) {
            let parameters = (task, holder, millis(self.take.horizon), looks as i64);
            for record in select.query_map(parameters, record)? {
                newest.push(record?);
            }
        }
        newest.sort_by_key(|record| Reverse((record.next_fire, record.incarnation)));
        for record in newest.into_iter().take(looks) {
            if self.is_full() {
                self.claim_result.more = true;
                break;
            }
            if !self.is_left_out(record.incarnation) {
                let rows = ledger::waiting(self.session, record.incarnation, record.paused)?;
                self.decide(record, &rows)?;
            }
        }
        Ok(())
    }

    /// How many are looked at in vain where those behind are looked at, too.
    fn few(&self) -> usize {
        self.take.looks.div_ceil(8)
    }

    fn is_left_out(&self, incarnation: Incarnation) -> bool {
        self.seen.contains(&incarnation) || self.take.except.contains(&incarnation)
    }

    /// Asks what becomes of a job, and sees to it. Returns whether it was taken.
    fn decide(&mut self, mut record: Record, waiting: &[Row]) -> Result<bool> {
        self.seen.insert(record.incarnation);
        let (rows, next_fire) = match (self.take.decide)(&record, waiting) {
            Decision::Leave => {
                self.unclaimed.insert(record.incarnation);
                self.claim_result.left += 1;
                return Ok(false);
            }
            Decision::Reject(error) => {
                self.unclaimed.insert(record.incarnation);
                let (stamp, job) = (record.stamp(), record.id);
                self.claim_result.rejected.push(RejectedJob { job, stamp, error });
                return Ok(false);
            }
            Decision::Claim { rows, next_fire } => (rows, next_fire),
        };
        record.fence = record.next_fence(self.session.now());
        record.next_fire = next_fire;
        let mut put = Vec::with_capacity(rows.len());
        for mut row in rows {
            if self.put(&mut row, record.fence, !waiting.is_empty())? {
                put.push(row);
            }
        }
        let incarnation = signed(record.incarnation.0);
        let next_fire = record.next_fire.map(millis);
        let has_claimed = put.iter().any(|row| matches!(row.state, RowState::Claimed(_)));
        let holder = has_claimed.then_some(signed(self.take.node.0));
        self.advance.execute((incarnation, signed(record.fence), next_fire, holder))?;
        if !waiting.is_empty() {
            jobs::recount(self.session, record.incarnation)?;
        }
        if record.next_fire.is_none() {
            jobs::end_if_over(self.session, record.incarnation, Fate::Completed)?;
        }
        self.rows += put.len();
        self.claim_result.jobs.push(ClaimedJob { record, rows: put });
        Ok(true)
    }

    /// Puts a row into the ledger; returns whether its fire time had not been taken care of.
    fn put(&mut self, row: &mut Row, fence: u64, over_waiting: bool) -> Result<bool> {
        let taken = matches!(row.state, RowState::Claimed(_));
        if taken {
            row.state = RowState::Claimed(self.take.node);
            row.node = Some(self.take.node);
            row.fence = fence;
        }
        let put = if over_waiting { &mut self.put_over_waiting } else { &mut self.put_new };
        ledger::put(put, row, taken.then_some(self.take.number))
    }
}

/// The lines of jobs that a node looks at: of each task those that nobody holds, and its own.
fn lines<'a>(tasks: &[&'a str], node: NodeId) -> Vec<(&'a str, Option<i64>)> {
    let both = |&task| [(task, None), (task, Some(signed(node.0)))];
    tasks.iter().flat_map(both).collect()
}

/// What a take looks at, and in which order.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Waiting,
    Due,
}

/// The jobs of all lines, in order.
struct Lines<'a> {
    session: &'a Session,
    order: Order,
    select: CachedStatement<'a>,
    horizon: i64,
    lines: Vec<Line<'a>>,
    heads: BinaryHeap<Reverse<(Place, usize)>>,
    /// The line whose head was given away.
    open: Option<usize>,
}

/// Where a record stands in line: its next fire time, if that is the order, and its incarnation.
type Place = (i64, i64);

struct Line<'a> {
    task: &'a str,
    holder: Option<i64>,
    ahead: VecDeque<Record>,
    /// Where the next page begins; the first page of a line begins where the line does.
    behind: Option<Place>,
    /// How many records are read at once.
    page: usize,
    /// Whether the last page was read.
    is_read: bool,
}

impl<'a> Lines<'a> {
    fn new(
        session: &'a Session,
        order: Order,
        take: &ClaimRequest,
        tasks: &[&'a str],
        behind: Option<Place>,
    ) -> Result<Lines<'a>> {
        // One more than are wanted tells whether there are more.
        let page = (take.limit / tasks.len().max(1)).saturating_add(1).min(LONGEST_PAGE);
        let line = |(task, holder)| {
            let ahead = VecDeque::new();
            Line { task, holder, ahead, behind, page, is_read: false }
        };
        let mut found = Lines {
            session,
            order,
            select: session.prepare(order.sql())?,
            horizon: millis(take.horizon),
            lines: lines(tasks, take.node).into_iter().map(line).collect(),
            heads: BinaryHeap::new(),
            open: None,
        };
        for index in 0..found.lines.len() {
            found.step(index)?;
        }
        Ok(found)
    }

    fn next(&mut self) -> Result<Option<(Place, Record)>> {
        // Not before it is needed: the last page may be enough.
        if let Some(index) = self.open.take() {
            self.step(index)?;
        }
        let Some(Reverse((place, index))) = self.heads.pop() else { return Ok(None) };
        self.open = Some(index);
        Ok(self.lines[index].ahead.pop_front().map(|record| (place, record)))
    }

    /// Puts the head of a line among the heads, if it has one.
    fn step(&mut self, index: usize) -> Result<()> {
        if self.lines[index].ahead.is_empty() && !self.lines[index].is_read {
            self.read_page(index)?;
        }
        if let Some(head) = self.lines[index].ahead.front() {
            self.heads.push(Reverse((self.order.place(head), index)));
        }
        Ok(())
    }

    fn read_page(&mut self, index: usize) -> Result<()> {
        let Line { task, holder, behind, page, ref mut ahead, .. } = self.lines[index];
        match (self.order, behind) {
            (Order::Waiting, behind) => {
                let behind = behind.map_or(i64::MIN, |(_, incarnation)| incarnation);
                let parameters = (task, holder, behind, page as i64);
                read(&mut self.select, parameters, ahead)?;
            }
            (Order::Due, None) => {
                let parameters = (task, holder, self.horizon, i64::MIN, page as i64);
                read(&mut self.select, parameters, ahead)?;
            }
            (Order::Due, Some((at, incarnation))) => {
                let parameters = (task, holder, self.horizon, at, incarnation, page as i64);
                read(&mut self.session.prepare(DUE_AT)?, parameters, ahead)?;
                let room = page - ahead.len();
                if let Some(later) = at.checked_add(1).filter(|_| room > 0) {
                    let parameters = (task, holder, self.horizon, later, room as i64);
                    read(&mut self.select, parameters, ahead)?;
                }
            }
        }
        let line = &mut self.lines[index];
        line.behind = line.ahead.back().map(|it| self.order.place(it));
        line.is_read = line.ahead.len() < page;
        // A line of which more is read is one of jobs that are passed over.
        line.page = (2 * page).min(LONGEST_PAGE);
        Ok(())
    }
}

/// Reads records to the end of those ahead.
fn read(
    select: &mut CachedStatement<'_>,
    parameters: impl Params,
    ahead: &mut VecDeque<Record>,
) -> Result<()> {
    for record in select.query_map(parameters, record)? {
        ahead.push_back(record?);
    }
    Ok(())
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Order::Waiting => WAITING,
            Order::Due => DUE,
        }
    }

    fn place(self, record: &Record) -> Place {
        let at = record.next_fire.filter(|_| self == Order::Due);
        (at.map_or(i64::MIN, millis), signed(record.incarnation.0))
    }
}

/// Rows in order of their incarnations, with their records.
fn with_records(session: &Session, rows: Vec<Row>) -> Result<ClaimResult> {
    let mut claim_result = ClaimResult::default();
    for row in rows {
        match claim_result.jobs.last_mut() {
            Some(taken) if taken.record.incarnation == row.key.incarnation => taken.rows.push(row),
            _ => match jobs::by_incarnation(session, row.key.incarnation)? {
                Some(record) => claim_result.jobs.push(ClaimedJob { record, rows: vec![row] }),
                None => claim_result.orphans.push(row),
            },
        }
    }
    Ok(claim_result)
}

pub(super) fn claimed_by(
    session: &Session,
    node: NodeId,
    after: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Claim>> {
    let (incarnation, of_kind, number) = after.map_or(ledger::BEGINNING, key);
    let parameters = (signed(node.0), incarnation, of_kind, number, limit as i64);
    let mut statement = session.prepare(TAKEN_BY)?;
    let rows = statement.query_map(parameters, |row| {
        let (incarnation, number) = (Incarnation(unsigned(row.get(0)?)), row.get(2)?);
        let fence = unsigned(row.get(3)?);
        let key = kind(row.get(1)?).map(|kind| RowKey { incarnation, kind, number });
        Ok(key.map(|key| Claim { key, fence }))
    })?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

pub(super) fn claimed(session: &Session, node: NodeId, rows: &[RowKey]) -> Result<ClaimResult> {
    let (mut statement, mut taken) = (session.prepare(TAKEN)?, Vec::new());
    for &of in rows {
        let (incarnation, kind, number) = key(of);
        let parameters = (incarnation, kind, number, signed(node.0));
        taken.extend(statement.query_row(parameters, row).optional()?.flatten());
    }
    with_records(session, taken)
}

pub(super) fn release(session: &Session, node: NodeId, rows: &[Release]) -> Result<()> {
    let mut statement = session.prepare(RELEASE)?;
    for &Release { key: row, fence, attempt } in rows {
        let (incarnation, kind, number) = key(row);
        let node = signed(node.0);
        if statement.execute((incarnation, kind, number, node, signed(fence), attempt))? == 0 {
            continue;
        }
        session.notify([StoreChange::Due(DateTime::<Utc>::MIN_UTC)]);
        // Nothing takes what waits for a record that is gone.
        if !jobs::is_there(session, row.incarnation)? {
            ledger::call_off(session, row.incarnation, SkipReason::Removed)?;
        }
    }
    Ok(())
}

pub(super) fn next_due(session: &Session, of: &NextDueRequest) -> Result<Option<DateTime<Utc>>> {
    let mut earliest: Option<i64> = None;
    let is_known = |incarnation| !of.except.contains(&Incarnation(unsigned(incarnation)));
    let (mut waits, mut next) = (session.prepare(WAITS)?, session.prepare(NEXT)?);
    let waiting_behind = of.passed.waiting.map_or(i64::MIN, |passed| signed(passed.0));
    let due_behind = of.passed.due.map(|(at, passed)| (millis(at), signed(passed.0)));
    let later = due_behind.map_or(Some(i64::MIN), |(at, _)| at.checked_add(1));
    let tasks: Vec<&str> = of.tasks.iter().map(String::as_str).collect();
    for (task, holder) in lines(&tasks, of.node) {
        let mut rows = waits.query((task, holder, waiting_behind))?;
        while let Some(row) = rows.next()? {
            if is_known(row.get(0)?) {
                return Ok(Some(DateTime::<Utc>::MIN_UTC));
            }
        }
        let mut first = None;
        if let Some((at, passed)) = due_behind {
            let mut next_at = session.prepare(NEXT_AT)?;
            first = next_fire(&mut next_at, (task, holder, at, passed), is_known)?;
        }
        if let (None, Some(later)) = (first, later) {
            first = next_fire(&mut next, (task, holder, later), is_known)?;
        }
        earliest = earliest.into_iter().chain(first).min();
    }
    Ok(earliest.map(instant))
}

/// The next fire time of the first job by [`NEXT_AT`] or [`NEXT`] that is none of the excluded ones.
fn next_fire(
    select: &mut CachedStatement<'_>,
    parameters: impl Params,
    is_known: impl Fn(i64) -> bool,
) -> Result<Option<i64>> {
    let mut rows = select.query(parameters)?;
    while let Some(row) = rows.next()? {
        if is_known(row.get(0)?) {
            return Ok(Some(row.get(1)?));
        }
    }
    Ok(None)
}

/// All of them, for a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    WAITING,
    DUE_AT,
    DUE,
    ADVANCE,
    LAST_TAKE,
    COUNT,
    OF_THE_LAST_TAKE,
    TAKEN_BY,
    TAKEN,
    RELEASE,
    WAITS,
    NEXT_AT,
    NEXT,
    NEWEST,
];
