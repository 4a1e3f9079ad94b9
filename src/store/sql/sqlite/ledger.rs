//! The ledger: rows are inserted, closed, read.

use rusqlite::{CachedStatement, OptionalExtension as _, Row as Columns};

use super::{
    columns::{bind_row, key, optional_text, row, row_columns},
    error::Result,
    jobs,
    session::Session,
};
use crate::{
    job::SkipReason,
    store::{
        ClaimRequest, Fate, FinishReport, Incarnation, Record, Row, RowKey, RowKind, RowOutcome,
        sql::{kind_number, millis, signed, unsigned},
    },
};

/// Inserts a row unless its key exists. With `OR FAIL`, SQLite keeps no copy of each page that the
/// statement and its triggers change: a transaction is rolled back as a whole in any case.
pub(super) const PUT_NEW: &str = concat!(
    "INSERT OR FAIL INTO punctual_ledger (",
    row_columns!(),
    ", take) VALUES \
     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
     ?19, ?20, ?21, ?22) \
     ON CONFLICT (incarnation, kind, number) DO NOTHING"
);

/// Inserts a row unless its key exists, or replaces a waiting row.
pub(super) const PUT_OVER_WAITING: &str = concat!(
    "INSERT INTO punctual_ledger (",
    row_columns!(),
    ", take) VALUES \
     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
     ?19, ?20, ?21, ?22) \
     ON CONFLICT (incarnation, kind, number) DO UPDATE SET (",
    row_columns!(),
    ", take) = \
     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
     ?19, ?20, ?21, ?22) \
     WHERE node IS NULL AND fate IS NULL"
);

const WAITING: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE incarnation = ?1 AND fate IS NULL AND node IS NULL AND kind BETWEEN ?2 AND ?3 \
     ORDER BY kind, number LIMIT ?4"
);

/// The next waiting rows of a job, of any kind.
const WAITING_BEHIND: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE incarnation = ?1 AND fate IS NULL AND node IS NULL AND (kind, number) > (?2, ?3) \
     ORDER BY kind, number LIMIT ?4"
);

const CALL_OFF: &str = "UPDATE punctual_ledger INDEXED BY punctual_ledger_by_node \
     SET fate = CASE WHEN attempt > 1 THEN 'abandoned' ELSE ?2 END, take = 0, ended_at = ?3 \
     WHERE incarnation = ?1 AND fate IS NULL AND node IS NULL";

const ENDING: &str =
    "SELECT fate FROM punctual_ledger WHERE incarnation = ?1 AND kind = ?2 AND number = 0";

/// An outcome closes an open row, and replaces the fate of a row whose node was expired. For `OR
/// FAIL`, see [`PUT_NEW`]. The claim number 0 marks a row that is closed without the triggers.
const FINISH: &str = "UPDATE OR FAIL punctual_ledger \
     SET node = NULL, take = 0, fate = ?5, attempt = ?6, \
        started_at = ?7, ended_at = ?8, message = ?9 \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND fence = ?4 \
     AND (fate IS NULL OR fate IN ('abandoned', 'abandoned: recovered too often'))";

const FENCE_OF: &str = "SELECT fence FROM punctual_ledger \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3";

/// The numbers of each kind grow with time, so the last few of each kind need no sorting.
const HISTORY: &str = concat!(
    "SELECT * FROM (SELECT ",
    row_columns!(),
    " FROM punctual_ledger WHERE incarnation = ?1 AND kind = 0 ORDER BY number DESC LIMIT ?2) \
     UNION ALL SELECT * FROM (SELECT ",
    row_columns!(),
    " FROM punctual_ledger WHERE incarnation = ?1 AND kind = 1 ORDER BY number DESC LIMIT ?2) \
     UNION ALL SELECT * FROM (SELECT ",
    row_columns!(),
    " FROM punctual_ledger WHERE incarnation = ?1 AND kind = 2 ORDER BY number DESC LIMIT ?2) \
     ORDER BY fire_time DESC, kind DESC, number DESC LIMIT ?2"
);

const PAGE_BEHIND: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger WHERE (incarnation, kind, number) > (?1, ?2, ?3) \
     ORDER BY incarnation, kind, number LIMIT ?4"
);

/// A position before all keys.
pub(super) const BEGINNING: (i64, i64, i64) = (i64::MIN, i64::MIN, i64::MIN);

/// Inserts a row by [`PUT_NEW`] or [`PUT_OVER_WAITING`]. Returns whether it was inserted.
pub(super) fn put(
    statement: &mut CachedStatement<'_>,
    row: &Row,
    claim_number: Option<u64>,
) -> Result<bool> {
    bind_row(statement, row, claim_number)?;
    Ok(statement.raw_execute()? > 0)
}

/// Returns the first waiting rows of a job, as many as a claim considers; of a paused job, only those of
/// requested runs.
pub(super) fn waiting(
    session: &Session,
    incarnation: Incarnation,
    paused: bool,
) -> Result<Vec<Row>> {
    let mut statement = session.prepare(WAITING)?;
    let (first, last) = if paused {
        (RowKind::Requested, RowKind::Requested)
    } else {
        (RowKind::Scheduled, RowKind::Ended)
    };
    let most = ClaimRequest::MOST_WAITING as i64;
    let parameters = (signed(incarnation.0), kind_number(first), kind_number(last), most);
    let rows = statement.query_map(parameters, row)?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

/// Returns the waiting rows of these jobs.
pub(super) fn waiting_of(
    session: &Session,
    of: &[Incarnation],
    after: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Row>> {
    let mut of = of.to_vec();
    of.sort_unstable();
    let mut statement = session.prepare(WAITING_BEHIND)?;
    let mut waiting = Vec::new();
    for incarnation in of {
        let (_, kind, number) = match after {
            Some(after) if after.incarnation > incarnation => continue,
            Some(after) if after.incarnation == incarnation => key(after),
            _ => BEGINNING,
        };
        let room = (limit - waiting.len()) as i64;
        let rows = statement.query_map((signed(incarnation.0), kind, number, room), row)?;
        for row in rows.filter_map(rusqlite::Result::transpose) {
            waiting.push(row?);
        }
        if waiting.len() == limit {
            break;
        }
    }
    Ok(waiting)
}

/// Closes the waiting rows of a record that is gone.
pub(super) fn call_off(
    session: &Session,
    incarnation: Incarnation,
    reason: SkipReason,
) -> Result<()> {
    let fate = Fate::Skipped(reason).to_string();
    session.prepare(CALL_OFF)?.execute((signed(incarnation.0), fate, millis(session.now())))?;
    Ok(())
}

/// Adds the row about the end of a record.
pub(super) fn end(session: &Session, record: &Record, fate: Fate) -> Result<()> {
    let row = Row::ended(record, fate, session.now());
    put(&mut session.prepare(PUT_NEW)?, &row, None)?;
    Ok(())
}

/// Returns how an incarnation ended, if it has ended and the ledger still has its row.
pub(super) fn ending(session: &Session, incarnation: Incarnation) -> Result<Option<Fate>> {
    let mut statement = session.prepare(ENDING)?;
    let parameters = (signed(incarnation.0), kind_number(RowKind::Ended));
    let fate: Option<String> =
        statement.query_row(parameters, |row| optional_text(row, 0)).optional()?.flatten();
    Ok(fate.map(|fate| {
        let Ok(fate) = fate.parse();
        fate
    }))
}

pub(super) fn finish(session: &Session, outcomes: Vec<RowOutcome>) -> Result<FinishReport> {
    let mut report = FinishReport::default();
    let (mut close, mut fence_of) = (session.prepare(FINISH)?, session.prepare(FENCE_OF)?);
    let mut free = session.prepare(jobs::FREE)?;
    for outcome in outcomes {
        let (incarnation, kind, number) = key(outcome.key);
        let closed = close.execute((
            incarnation,
            kind,
            number,
            signed(outcome.fence),
            outcome.fate.to_string(),
            outcome.attempt,
            outcome.started_at.map(millis),
            millis(outcome.ended_at),
            outcome.message,
        ))?;
        if closed == 0 {
            let read = |row: &Columns<'_>| row.get(0).map(unsigned);
            let fence = fence_of.query_row((incarnation, kind, number), read).optional()?;
            if fence != Some(outcome.fence) {
                report.refused.push(outcome.key);
            }
        } else if free.execute([incarnation])? == 0 {
            let of = outcome.key.incarnation;
            jobs::recount(session, of)?;
            if jobs::end_if_over(session, of, outcome.job_end)? {
                report.over.push(of);
            }
        }
    }
    Ok(report)
}

pub(super) fn history(
    session: &Session,
    incarnation: Incarnation,
    limit: usize,
) -> Result<Vec<Row>> {
    let mut statement = session.prepare(HISTORY)?;
    let rows = statement.query_map((signed(incarnation.0), limit as i64), row)?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

pub(super) fn rows(session: &Session, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>> {
    let (incarnation, kind, number) = after.map_or(BEGINNING, key);
    let mut statement = session.prepare(PAGE_BEHIND)?;
    let rows = statement.query_map((incarnation, kind, number, limit as i64), row)?;
    Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
}

/// All statements except that of the history, which sorts the few rows that it has found.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    PUT_NEW,
    PUT_OVER_WAITING,
    WAITING,
    WAITING_BEHIND,
    CALL_OFF,
    ENDING,
    FINISH,
    FENCE_OF,
    PAGE_BEHIND,
];
