//! Fire times: which are due, who takes them, and when to ask again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
};

use chrono::{DateTime, Utc};
use rusqlite::{CachedStatement, OptionalExtension as _};

use super::{
    columns::{key, record, record_columns, row, row_columns},
    jobs, ledger,
    session::Session,
    trouble::{Result, Trouble},
};
use crate::{
    job::SkipReason,
    store::{
        Decision, Fate, Incarnation, NextDue, NodeId, Record, Row, RowKey, RowState, Take, Taken,
        Takings,
        sql::{instant, millis, signed, unsigned},
    },
};

// Each of these finds the jobs of one holder, `?2`: a node looks at those that nobody holds, and at
// its own.

const WAITING: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_waiting \
     WHERE task = ?1 AND holder IS ?2 AND waiting = 1 AND incarnation > ?3 \
     ORDER BY incarnation LIMIT ?4"
);

pub(super) const DUE: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \
     AND (next_fire, incarnation) > (?4, ?5) \
     ORDER BY next_fire, incarnation LIMIT ?6"
);

const ADVANCE: &str = "UPDATE punctual_jobs SET fence = ?2, next_fire = ?3 WHERE incarnation = ?1";

const LAST_TAKE: &str = "SELECT take FROM punctual_nodes WHERE node = ?1";

const COUNT: &str = "UPDATE punctual_nodes SET take = ?2 WHERE node = ?1";

const OF_THE_LAST_TAKE: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_taken WHERE node = ?1 AND take = ?2 ORDER BY incarnation, kind, number"
);

const TAKEN_BY: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_taken WHERE node = ?1 \
     ORDER BY incarnation, kind, number LIMIT ?2"
);

const RELEASE: &str = "UPDATE punctual_ledger SET node = NULL \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND node = ?4 AND fence = ?5";

const WAITS: &str = "SELECT incarnation FROM punctual_jobs AS j INDEXED BY punctual_jobs_waiting \
     WHERE task = ?1 AND holder IS ?2 AND waiting = 1 AND (paused = 0 \
        OR EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open \
            WHERE l.incarnation = j.incarnation AND l.fate IS NULL AND l.node IS NULL AND l.kind = 1))";

pub(super) const NEXT: &str = "SELECT incarnation, next_fire FROM punctual_jobs INDEXED BY punctual_jobs_due \
     WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire IS NOT NULL \
     ORDER BY next_fire";

pub(super) fn take(session: &Session, take: &Take) -> Result<Takings> {
    if is_repeated(session, take)? {
        let node = signed(take.node.0);
        let rows = session
            .prepare(OF_THE_LAST_TAKE)?
            .query_map((node, signed(take.number)), row)?
            .filter_map(rusqlite::Result::transpose)
            .collect::<rusqlite::Result<_>>()?;
        return Ok(Takings { more: true, ..with_records(session, rows)? });
    }
    let mut taking = Taking::new(session, take)?;
    taking.waiting()?;
    taking.due()?;
    Ok(taking.takings)
}

/// Sees that the node has a row, and notes the number of its take; returns whether it was the last one's
/// too.
fn is_repeated(session: &Session, take: &Take) -> Result<bool> {
    let node = signed(take.node.0);
    let found = session.prepare(LAST_TAKE)?.query_row([node], |row| row.get(0)).optional()?;
    let last: Option<i64> = found.ok_or(Trouble::LeaseLost)?;
    match last.map(unsigned) {
        Some(last) if take.number == last => return Ok(true),
        Some(last) if take.number < last => {
            return Err(Trouble::Refused(format!(
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
struct Taking<'a> {
    session: &'a Session,
    take: &'a Take,
    /// In an order of their own, so that the same store gives the same answer.
    tasks: Vec<&'a str>,
    advance: CachedStatement<'a>,
    put: CachedStatement<'a>,
    /// Jobs that were decided on: each is asked for once.
    seen: HashSet<Incarnation>,
    /// How many rows were put.
    rows: usize,
    takings: Takings,
}

impl<'a> Taking<'a> {
    fn new(session: &'a Session, take: &'a Take) -> Result<Taking<'a>> {
        let mut tasks: Vec<&str> = take.tasks.iter().map(String::as_str).collect();
        tasks.sort_unstable();
        Ok(Taking {
            session,
            take,
            tasks,
            advance: session.prepare(ADVANCE)?,
            put: session.prepare(ledger::PUT_OVER_WAITING)?,
            seen: HashSet::new(),
            rows: 0,
            takings: Takings::default(),
        })
    }

    fn is_full(&self) -> bool {
        self.takings.jobs.len() >= self.take.limit || self.rows >= self.take.row_limit
    }

    /// Takes what waits.
    fn waiting(&mut self) -> Result<()> {
        let page = self.take.limit.saturating_add(1);
        for (task, holder) in lines(&self.tasks, self.take.node) {
            let mut behind = i64::MIN;
            loop {
                let records: Vec<Record> = self
                    .session
                    .prepare(WAITING)?
                    .query_map((task, holder, behind, page as i64), record)?
                    .collect::<rusqlite::Result<_>>()?;
                let is_last = records.len() < page;
                for record in records {
                    behind = signed(record.incarnation.0);
                    // What was taken just now is in the other line by now.
                    if self.is_left_out(record.incarnation) {
                        continue;
                    }
                    let rows = ledger::waiting(self.session, record.incarnation, record.paused)?;
                    if rows.is_empty() {
                        // Those of a paused job may count later.
                        continue;
                    }
                    if self.is_full() {
                        self.takings.more = true;
                        return Ok(());
                    }
                    self.decide(record, &rows)?;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }

    fn is_left_out(&self, incarnation: Incarnation) -> bool {
        self.seen.contains(&incarnation) || self.take.except.contains(&incarnation)
    }

    /// Takes what is due.
    fn due(&mut self) -> Result<()> {
        let mut due = Due::new(self.session, self.take, &self.tasks)?;
        while let Some(record) = due.next()? {
            if self.is_left_out(record.incarnation) {
                continue;
            }
            if self.is_full() {
                self.takings.more = true;
                return Ok(());
            }
            self.decide(record, &[])?;
        }
        Ok(())
    }

    /// Asks what becomes of a job, and sees to it.
    fn decide(&mut self, mut record: Record, waiting: &[Row]) -> Result<()> {
        self.seen.insert(record.incarnation);
        let (rows, next_fire) = match (self.take.decide)(&record, waiting) {
            Decision::Leave => return Ok(()),
            Decision::Take { rows, next_fire } => (rows, next_fire),
        };
        record.fence = record.next_fence(self.session.now());
        record.next_fire = next_fire;
        let mut put = Vec::with_capacity(rows.len());
        for mut row in rows {
            if self.put(&mut row, record.fence)? {
                put.push(row);
            }
        }
        let incarnation = signed(record.incarnation.0);
        let next_fire = record.next_fire.map(millis);
        self.advance.execute((incarnation, signed(record.fence), next_fire))?;
        if record.next_fire.is_none() {
            jobs::end_if_over(self.session, record.incarnation, Fate::Completed)?;
        }
        self.rows += put.len();
        self.takings.jobs.push(Taken { record, rows: put });
        Ok(())
    }

    /// Puts a row into the ledger; returns whether its fire time had not been taken care of.
    fn put(&mut self, row: &mut Row, fence: u64) -> Result<bool> {
        let taken = matches!(row.state, RowState::Taken(_));
        if taken {
            row.state = RowState::Taken(self.take.node);
            row.fence = fence;
        }
        ledger::put(&mut self.put, row, taken.then_some(self.take.number))
    }
}

/// The lines of jobs that a node looks at: of each task those that nobody holds, and its own.
fn lines<'a>(tasks: &[&'a str], node: NodeId) -> Vec<(&'a str, Option<i64>)> {
    let both = |&task| [(task, None), (task, Some(signed(node.0)))];
    tasks.iter().flat_map(both).collect()
}

/// The jobs that are due, in order of their next fire times.
struct Due<'a> {
    select: CachedStatement<'a>,
    horizon: i64,
    /// How many of a line are read at once.
    page: usize,
    lines: Vec<Line<'a>>,
    heads: BinaryHeap<Reverse<(i64, i64, usize)>>,
    /// The line whose head was given away.
    open: Option<usize>,
}

struct Line<'a> {
    task: &'a str,
    holder: Option<i64>,
    ahead: VecDeque<Record>,
    /// Where the next page begins; `None` if there is none.
    behind: Option<(i64, i64)>,
}

impl<'a> Due<'a> {
    fn new(session: &'a Session, take: &Take, tasks: &[&'a str]) -> Result<Due<'a>> {
        let behind = Some((i64::MIN, i64::MIN));
        let line = |(task, holder)| Line { task, holder, ahead: VecDeque::new(), behind };
        let mut due = Due {
            select: session.prepare(DUE)?,
            horizon: millis(take.horizon),
            // One more than are wanted tells whether there are more.
            page: take.limit / tasks.len().max(1) + 1,
            lines: lines(tasks, take.node).into_iter().map(line).collect(),
            heads: BinaryHeap::new(),
            open: None,
        };
        for index in 0..due.lines.len() {
            due.step(index)?;
        }
        Ok(due)
    }

    fn next(&mut self) -> Result<Option<Record>> {
        // Not before it is needed: the last page may be enough.
        if let Some(index) = self.open.take() {
            self.step(index)?;
        }
        let Some(Reverse((_, _, index))) = self.heads.pop() else { return Ok(None) };
        self.open = Some(index);
        Ok(self.lines[index].ahead.pop_front())
    }

    /// Puts the head of a line among the heads, if it has one.
    fn step(&mut self, index: usize) -> Result<()> {
        let line = &mut self.lines[index];
        if let (true, Some((next_fire, incarnation))) = (line.ahead.is_empty(), line.behind) {
            let Line { task, holder, .. } = *line;
            let parameters = (task, holder, self.horizon, next_fire, incarnation, self.page as i64);
            for record in self.select.query_map(parameters, record)? {
                line.ahead.push_back(record?);
            }
            let is_full = line.ahead.len() >= self.page;
            line.behind = line.ahead.back().filter(|_| is_full).map(place);
        }
        if let Some(head) = line.ahead.front() {
            let (next_fire, incarnation) = place(head);
            self.heads.push(Reverse((next_fire, incarnation, index)));
        }
        Ok(())
    }
}

/// Where a record stands in line.
fn place(record: &Record) -> (i64, i64) {
    (record.next_fire.map_or(i64::MIN, millis), signed(record.incarnation.0))
}

/// Rows in order of their incarnations, with their records.
fn with_records(session: &Session, rows: Vec<Row>) -> Result<Takings> {
    let mut takings = Takings::default();
    for row in rows {
        match takings.jobs.last_mut() {
            Some(taken) if taken.record.incarnation == row.key.incarnation => taken.rows.push(row),
            _ => match jobs::by_incarnation(session, row.key.incarnation)? {
                Some(record) => takings.jobs.push(Taken { record, rows: vec![row] }),
                None => takings.orphans.push(row),
            },
        }
    }
    Ok(takings)
}

pub(super) fn taken_by(session: &Session, node: NodeId, limit: usize) -> Result<Takings> {
    let mut statement = session.prepare(TAKEN_BY)?;
    let rows = statement.query_map((signed(node.0), limit as i64), row)?;
    let rows = rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?;
    with_records(session, rows)
}

pub(super) fn release(session: &Session, node: NodeId, rows: &[(RowKey, u64)]) -> Result<()> {
    let mut statement = session.prepare(RELEASE)?;
    for &(row, fence) in rows {
        let (incarnation, kind, number) = key(row);
        let node = signed(node.0);
        if statement.execute((incarnation, kind, number, node, signed(fence)))? == 0 {
            continue;
        }
        session.tell();
        // Nothing takes what waits for a record that is gone.
        if !jobs::is_there(session, row.incarnation)? {
            ledger::call_off(session, row.incarnation, SkipReason::Removed)?;
        }
    }
    Ok(())
}

pub(super) fn next_due(session: &Session, of: &NextDue) -> Result<Option<DateTime<Utc>>> {
    let node = signed(of.node.0);
    let mut earliest: Option<i64> = None;
    let is_known = |incarnation| !of.except.contains(&Incarnation(unsigned(incarnation)));
    let (mut waits, mut next) = (session.prepare(WAITS)?, session.prepare(NEXT)?);
    let tasks: Vec<&str> = of.tasks.iter().map(String::as_str).collect();
    for (task, holder) in lines(&tasks, of.node) {
        let mut rows = waits.query((task, holder))?;
        while let Some(row) = rows.next()? {
            if is_known(row.get(0)?) {
                return Ok(Some(DateTime::<Utc>::MIN_UTC));
            }
        }
        let mut rows = next.query((task, holder))?;
        while let Some(row) = rows.next()? {
            if is_known(row.get(0)?) {
                let next_fire = row.get(1)?;
                earliest = Some(earliest.map_or(next_fire, |earliest| earliest.min(next_fire)));
                break;
            }
        }
    }
    Ok(earliest.map(instant))
}

/// All of them, for a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] =
    &[WAITING, DUE, ADVANCE, LAST_TAKE, COUNT, OF_THE_LAST_TAKE, TAKEN_BY, RELEASE, WAITS, NEXT];
