//! What a transaction does to jobs whose rows it has locked, and to the rows of the ledger that are theirs.
//!
//! An operation looks first, and decides what is to be; an [`Edit`] then is SQL for the second round
//! trip.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use chrono::{DateTime, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{instant, kind_number, millis, signed, unsigned, write::OpenRows},
    columns::{
        OrNull, ROW, RowValues, Text, by_incarnation, by_key, get, incarnations, joined, keys,
        open_rows, optional_instant, text,
    },
    error::Result,
    schema::Tables,
};
use crate::{
    job::JobId,
    store::{Fate, Incarnation, Row, RowKey, RowKind, RowState},
};

/// A job whose row is locked.
#[derive(Clone, Debug)]
pub(super) struct Locked {
    pub(super) incarnation: Incarnation,
    pub(super) id: JobId,
    pub(super) fence: u64,
    pub(super) next_fire: Option<DateTime<Utc>>,
    pub(super) remember: bool,
    pub(super) open: OpenRows,
    pub(super) holder: Option<i64>,
}

/// The SQL that locks the jobs of these incarnations that have not ended.
pub(super) fn lock(tables: &Tables, of: &[[Option<i64>; 1]], skips: bool) -> String {
    let (jobs, skip) = (&tables.jobs, if skips { " SKIP LOCKED" } else { "" });
    format!(
        "SELECT incarnation, id, fence, next_fire, remember, claimed, waiting, asked, holder \
         FROM {} WHERE ended_at IS NULL FOR UPDATE{skip}",
        by_incarnation(of, jobs)
    )
}

/// Reads what [`lock`] has locked.
pub(super) fn locked(rows: &[Columns]) -> Result<HashMap<Incarnation, Locked>> {
    let locked = |row: &Columns| {
        let incarnation = Incarnation(unsigned(get(row, 0)?));
        let locked = Locked {
            incarnation,
            id: text(row, 1)?.into(),
            fence: unsigned(get(row, 2)?),
            next_fire: optional_instant(row, 3)?,
            remember: get(row, 4)?,
            open: open_rows(row, 5)?,
            holder: get(row, 8)?,
        };
        Ok((incarnation, locked))
    };
    rows.iter().map(locked).collect()
}

/// What is to be done.
pub(super) struct Edit<'a> {
    tables: &'a Tables,
    now: DateTime<Utc>,
    /// The keys of rows that are no longer open, or are opened anew.
    removed: Vec<RowKey>,
    /// Rows that are open, with the number of their claim.
    opened: Vec<(Row, Option<u64>)>,
    /// Rows with a fate.
    closed: Vec<Row>,
    /// Jobs, and the fates with which they end if they are over.
    jobs: BTreeMap<Incarnation, (Locked, Fate)>,
}

impl<'a> Edit<'a> {
    pub(super) fn new(tables: &'a Tables, now: DateTime<Utc>) -> Edit<'a> {
        let (removed, opened, closed) = (Vec::new(), Vec::new(), Vec::new());
        Edit { tables, now, removed, opened, closed, jobs: BTreeMap::new() }
    }

    /// Sets what a job is from now on. With no row open and no next fire time it is over, with this fate.
    pub(super) fn set(&mut self, job: Locked, end: Fate) {
        self.jobs.insert(job.incarnation, (job, end));
    }

    /// Opens a row that is neither open nor closed.
    pub(super) fn open(&mut self, row: Row, claim: Option<u64>) {
        self.opened.push((row, claim));
    }

    /// Replaces an open row.
    pub(super) fn replace(&mut self, row: Row, claim: Option<u64>) {
        self.removed.push(row.key);
        self.opened.push((row, claim));
    }

    /// Closes an open row.
    pub(super) fn close(&mut self, row: Row) {
        self.removed.push(row.key);
        self.closed.push(row);
    }

    /// Adds a row with a fate that was not open.
    pub(super) fn add_closed(&mut self, row: Row) {
        self.closed.push(row);
    }

    /// The keys of the rows that are opened, which the ledger must not have.
    pub(super) fn opened_keys(&self) -> impl Iterator<Item = &RowKey> {
        self.opened.iter().map(|(row, _)| &row.key)
    }

    /// The keys of the rows that are closed and were not open.
    pub(super) fn closed_keys(&self) -> impl Iterator<Item = &RowKey> {
        let removed: HashSet<&RowKey> = self.removed.iter().collect();
        self.closed.iter().map(|row| &row.key).filter(move |key| !removed.contains(key))
    }

    /// The jobs that are over.
    pub(super) fn over(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.jobs.values().filter(|(job, _)| is_over(job)).map(|(job, _)| job.incarnation)
    }

    /// The statements that do it.
    pub(super) fn sql(&self) -> String {
        let mut sql = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut sql);
        sql
    }

    fn write(&self, sql: &mut String) -> std::fmt::Result {
        let Edit { tables, now, removed, opened, closed, jobs } = self;
        let Tables { jobs: jobs_table, open, ledger, .. } = tables;
        if !removed.is_empty() {
            write!(sql, "{}; ", delete_rows(open, removed))?;
        }
        if !opened.is_empty() {
            write!(sql, "INSERT INTO {open} ({ROW}, node, claim) VALUES ")?;
            for (index, (row, claim)) in opened.iter().enumerate() {
                let node = match row.state {
                    RowState::Claimed(node) => Some(signed(node.0)),
                    RowState::Waiting | RowState::Closed(_) => None,
                };
                let claim = OrNull(node.and(*claim).map(signed));
                let separator = if index > 0 { "," } else { "" };
                write!(sql, "{separator}({}, {}, {claim})", RowValues(row), OrNull(node))?;
            }
            sql.push_str("; ");
        }
        let ends = jobs.values().filter(|(job, _)| is_over(job)).map(|(job, end)| {
            let key = RowKey { incarnation: job.incarnation, kind: RowKind::Ended, number: 0 };
            let row = Row::new(key, job.id.clone(), *now, RowState::Closed(end.clone()));
            Row { fence: job.fence, ended_at: Some(*now), ..row }
        });
        let closed: Vec<Row> = closed.iter().cloned().chain(ends).collect();
        if !closed.is_empty() {
            write!(sql, "{}; ", insert_closed(ledger, &closed))?;
        }
        let is_kept = |job: &&Locked| job.remember || !is_over(job);
        let (kept, gone): (Vec<&Locked>, Vec<&Locked>) =
            jobs.values().map(|(job, _)| job).partition(|job| is_kept(job));
        if !kept.is_empty() {
            let row = |job: &&Locked| {
                [
                    Some(signed(job.incarnation.0)),
                    Some(signed(job.fence)),
                    job.next_fire.map(millis),
                    Some(job.open.claimed.into()),
                    Some(job.open.waiting.into()),
                    Some(job.open.asked.into()),
                    job.holder.filter(|_| job.open.claimed > 0),
                    Some(millis(*now)).filter(|_| is_over(job)),
                ]
            };
            let rows: Vec<_> = kept.iter().map(row).collect();
            let columns = [
                "r_of",
                "r_fence",
                "r_next",
                "r_claimed",
                "r_waiting",
                "r_asked",
                "r_holder",
                "r_end",
            ];
            write!(
                sql,
                "UPDATE {} SET t.fence = r_fence, t.next_fire = r_next, t.claimed = r_claimed, \
                 t.waiting = r_waiting, t.asked = r_asked, t.holder = r_holder, \
                 t.version = t.version + (r_end IS NOT NULL), t.ended_at = r_end; ",
                joined(columns, &rows, jobs_table)
            )?;
        }
        if !gone.is_empty() {
            let gone = incarnations(gone.iter().map(|job| job.incarnation));
            write!(sql, "{}; ", delete_jobs(jobs_table, &gone))?;
        }
        Ok(())
    }
}

fn is_over(job: &Locked) -> bool {
    job.next_fire.is_none() && job.open == OpenRows::default()
}

/// Deletes jobs.
pub(super) fn delete_jobs(jobs: &str, of: &[[Option<i64>; 1]]) -> String {
    format!("DELETE t FROM {}", by_incarnation(of, jobs))
}

/// Deletes rows by their keys.
pub(super) fn delete_rows<'a>(table: &str, of: impl IntoIterator<Item = &'a RowKey>) -> String {
    format!("DELETE t FROM {}", by_key(&keys(of), table))
}

/// Puts rows with a fate into the ledger, which has none with their keys, but for the ends of jobs that
/// were there before.
pub(super) fn insert_closed(ledger: &str, rows: &[Row]) -> String {
    let mut sql = format!("INSERT INTO {ledger} ({ROW}, fate) VALUES ");
    for (index, row) in rows.iter().enumerate() {
        let fate = match &row.state {
            RowState::Closed(fate) => fate.to_string(),
            RowState::Waiting | RowState::Claimed(_) => String::new(),
        };
        let separator = if index > 0 { "," } else { "" };
        // Writing into a string does not fail.
        let _ = write!(sql, "{separator}({}, {})", RowValues(row), Text(&fate));
    }
    sql.push_str(" ON DUPLICATE KEY UPDATE fate = fate");
    sql
}

/// Whether a table has a row with one of these keys, as a condition in SQL.
pub(super) fn has_row<'a>(table: &str, of: impl IntoIterator<Item = &'a RowKey>) -> String {
    format!("EXISTS (SELECT 1 FROM {})", by_key(&keys(of), table))
}

impl OpenRows {
    /// Adds to the counts of rows of this kind: `claimed` to the claimed rows, `waiting` to the waiting rows.
    pub(super) fn add(&mut self, kind: RowKind, claimed: i32, waiting: i32) {
        self.claimed = self.claimed.saturating_add(claimed).max(0);
        self.waiting = self.waiting.saturating_add(waiting).max(0);
        if kind == RowKind::Requested {
            self.asked = self.asked.saturating_add(waiting).max(0);
        }
    }
}

/// The time of a look.
pub(super) fn time(rows: Option<&Vec<Columns>>) -> Result<DateTime<Utc>> {
    let row = rows.and_then(|rows| rows.first());
    row.map_or(Err(super::error::MySqlError::Columns), |row| Ok(instant(get(row, 0)?)))
}

/// A key as columns.
pub(super) fn place(key: Option<RowKey>) -> (i64, i64, i64) {
    key.map_or((i64::MIN, i64::MIN, i64::MIN), |key| {
        (signed(key.incarnation.0), kind_number(key.kind), key.number)
    })
}
