//! Records: written, read, listed and removed.

use chrono::{DateTime, Utc};
use rusqlite::{
    OptionalExtension as _, Row as Columns,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    actions,
    columns::{bind_record, record, record_columns, text},
    error::{Result, SqliteError},
    ledger,
    session::{NAMESPACE, Session},
};
use crate::{
    job::{JobId, SkipReason},
    store::{
        Fate, Incarnation, Keep, Record, RecordChange, RecordCursor, RecordFilter, RecordPage,
        RecordStatus, RowState, StoreChange, Tokens, Write, WriteResult, full,
        sql::{millis, signed, unsigned},
    },
};

/// How many records one page scans at most, so that other operations get a turn.
const MAX_SCANNED: usize = 1000;

const BY_ID: &str = concat!("SELECT ", record_columns!(), " FROM punctual_jobs WHERE id = ?1");

const BY_INCARNATION: &str =
    concat!("SELECT ", record_columns!(), " FROM punctual_jobs WHERE incarnation = ?1");

const PAGE_BEHIND: &str =
    concat!("SELECT ", record_columns!(), " FROM punctual_jobs WHERE id > ?1 ORDER BY id LIMIT ?2");

/// For `OR FAIL`, see [`ledger::PUT_NEW`].
const INSERT: &str = concat!(
    "INSERT OR FAIL INTO punctual_jobs (",
    record_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
     ?20, ?21, ?22, ?23, ?24, ?25, ?26)"
);

const UPDATE: &str = concat!(
    "UPDATE punctual_jobs SET (",
    record_columns!(),
    ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
     ?20, ?21, ?22, ?23, ?24, ?25, ?26) ",
    "WHERE incarnation = ?1"
);

/// The statement for a transaction of the application's, whose one parameter is a
/// [document](crate::store::sql::document).
pub(super) fn insert_statement() -> String {
    let columns = record_columns!();
    let values = columns.split(", ").map(|column| format!("json_extract(document, '$.{column}')"));
    let values = values.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO {NAMESPACE}jobs ({columns}) SELECT {values} FROM (SELECT ?1 AS document)")
}

/// The record of a job that is over: it has neither a next fire time nor an open row.
const OVER: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM punctual_jobs \
     WHERE incarnation = ?1 AND next_fire IS NULL AND holder IS NULL AND waiting = 0"
);

/// Clears the holder of a job, if the job has no open row and fires again.
pub(super) const FREE: &str = "UPDATE punctual_jobs SET holder = NULL \
     WHERE incarnation = ?1 AND holder IS NOT NULL AND waiting = 0 AND next_fire IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_by_node \
        WHERE l.fate IS NULL AND l.node = punctual_jobs.holder \
        AND l.incarnation = punctual_jobs.incarnation)";

const RECOUNT: &str = "INSERT INTO punctual_recount VALUES (?1, NULL)";

const DELETE: &str = "DELETE FROM punctual_jobs WHERE incarnation = ?1";

const COUNT: &str = "SELECT count(*) FROM punctual_jobs";

const VERSION: &str = "SELECT version FROM punctual_jobs WHERE incarnation = ?1";

/// A remembered end.
const ENDED: &str = "SELECT record FROM punctual_ended WHERE id = ?1";

const REMEMBER: &str =
    "INSERT OR REPLACE INTO punctual_ended (id, ended_at, record) VALUES (?1, ?2, ?3)";

const FORGET: &str = "DELETE FROM punctual_ended WHERE id = ?1";

const FORGET_OLD: &str = "DELETE FROM punctual_ended WHERE id IN \
     (SELECT id FROM punctual_ended INDEXED BY punctual_ended_at WHERE ended_at < ?1 LIMIT ?2)";

/// When the newest job beyond the maximum number was over.
const NEWEST_ENDED_TOO_MANY: &str = "SELECT ended_at \
     FROM punctual_ended INDEXED BY punctual_ended_at ORDER BY ended_at DESC LIMIT 1 OFFSET ?1";

/// Carries out each write whose expectation is met.
pub(super) fn write(
    session: &Session,
    writes: Vec<Write>,
    max_jobs: Option<u64>,
) -> Result<Vec<WriteResult>> {
    let Some(most) = max_jobs else {
        return writes.into_iter().map(|write| write_one(session, write)).collect();
    };
    let count = || -> Result<i64> { Ok(session.prepare(COUNT)?.query_row([], |row| row.get(0))?) };
    let before = count()?;
    let written = writes.into_iter().map(|write| write_one(session, write)).collect();
    // A refused operation is rolled back.
    match count()? {
        after if after > before && after.unsigned_abs() > most => {
            Err(SqliteError::Refused(full(most)))
        }
        _ => written,
    }
}

fn write_one(session: &Session, write: Write) -> Result<WriteResult> {
    let current = match (get(session, &write.id)?, write.expected) {
        // An id that is not UTF-8 is not found by its converted text.
        (None, Some(stamp)) => {
            by_incarnation(session, stamp.incarnation)?.filter(|record| record.id == write.id)
        }
        (current, _) => current,
    };
    if current.as_ref().is_some_and(|current| current.tokens.contains(write.token)) {
        return Ok(WriteResult::Done);
    }
    let expected = write.expected.map(|stamp| stamp.incarnation);
    if let Some(new) = write.record.as_ref().map(|record| record.incarnation)
        && Some(new) != expected
        && ledger::ending(session, new)?.is_some()
    {
        return Ok(WriteResult::Done);
    }
    if current.as_ref().map(Record::stamp) != write.expected {
        return Ok(WriteResult::Lost(current.map(Box::new)));
    }
    let same = |current: &&Record| {
        write.record.as_ref().is_some_and(|record| record.incarnation == current.incarnation)
    };
    let changed = current.as_ref().filter(same);
    let version = changed.map_or(0, |current| current.version).wrapping_add(1);
    let remembered = current.as_ref().is_some_and(|current| current.ended_at.is_some());
    let stays = changed.is_some() && !remembered;
    let mut tokens = changed.map_or(Tokens::default(), |current| current.tokens);
    tokens.push(write.token);
    let record = write.record.map(|record| Record { version, tokens, ..record });
    if remembered {
        session.prepare(FORGET)?.execute([write.id.to_string()])?;
    } else if let (Some(gone), false) = (&current, stays) {
        let reason = match record {
            Some(_) => SkipReason::Replaced,
            None => SkipReason::Removed,
        };
        remove(session, gone.incarnation, reason)?;
    }
    if let Some(record) = &record {
        let mut statement = session.prepare(if stays { UPDATE } else { INSERT })?;
        bind_record(&mut statement, record)?;
        statement.raw_execute()?;
    }
    if let Some(action) = write.action
        && let Some(of) = record.as_ref().map(|it| it.incarnation).or(expected)
    {
        actions::put(session, write.token, &write.id, of, &action)?;
    }
    let waits = write.rows.iter().any(|row| row.state == RowState::Waiting);
    // All waiting rows of a resumed job count again.
    let resumes = current.as_ref().is_some_and(|current| current.paused)
        && record.as_ref().is_some_and(|record| !record.paused);
    let is = record.as_ref().map(|record| record.incarnation);
    let gone = expected.filter(|gone| is != Some(*gone));
    let changes: Vec<_> = StoreChange::of_write(gone, record.as_ref(), waits || resumes).collect();
    let mut put = session.prepare(ledger::PUT_NEW)?;
    for row in &write.rows {
        ledger::put(&mut put, row, None)?;
    }
    if let Some(gone) = gone.filter(|_| waits) {
        let reason = if is.is_some() { SkipReason::Replaced } else { SkipReason::Removed };
        ledger::call_off(session, gone, reason)?;
    }
    if let Some(record) = record.filter(|it| it.remember && it.next_fire.is_none()) {
        end_if_over(session, record.incarnation, Fate::Completed)?;
    }
    session.notify(changes);
    Ok(WriteResult::Done)
}

/// Removes a record, and calls off its waiting rows.
fn remove(session: &Session, incarnation: Incarnation, reason: SkipReason) -> Result<()> {
    session.prepare(DELETE)?.execute([signed(incarnation.0)])?;
    ledger::call_off(session, incarnation, reason)
}

/// Whether there is a record of this incarnation.
pub(super) fn is_there(session: &Session, incarnation: Incarnation) -> Result<bool> {
    Ok(session.prepare(VERSION)?.exists([signed(incarnation.0)])?)
}

pub(super) fn get(session: &Session, id: &JobId) -> Result<Option<Record>> {
    let id = id.as_str();
    let record = session.prepare(BY_ID)?.query_row([&*id], record).optional()?;
    if record.is_some() {
        return Ok(record);
    }
    let ended = session.prepare(ENDED)?.query_row([&*id], |row| text(row, 0)).optional()?;
    // An unreadable end is not remembered.
    Ok(ended.and_then(|record| serde_json::from_str(&record).ok()))
}

/// Deletes up to `limit` ends that are older than `instant`, or beyond the maximum number. Returns
/// how many.
pub(super) fn forget_before(
    session: &Session,
    instant: DateTime<Utc>,
    limit: usize,
) -> Result<usize> {
    let newest_too_many: Option<i64> = session
        .prepare(NEWEST_ENDED_TOO_MANY)?
        .query_row([Keep::MOST_ENDED as i64], |row| row.get(0))
        .optional()?;
    // An end at this very instant is too old as well.
    let before = newest_too_many
        .map_or(millis(instant), |newest| millis(instant).max(newest.saturating_add(1)));
    Ok(session.prepare(FORGET_OLD)?.execute((before, limit as i64))?)
}

pub(super) fn by_incarnation(
    session: &Session,
    incarnation: Incarnation,
) -> Result<Option<Record>> {
    let mut statement = session.prepare(BY_INCARNATION)?;
    Ok(statement.query_row([signed(incarnation.0)], record).optional()?)
}

/// Returns the records after an id that pass the filter, at most `limit`, from a bounded scan.
pub(super) fn page(
    session: &Session,
    filter: &RecordFilter,
    after: &RecordCursor,
    limit: usize,
) -> Result<RecordPage> {
    let mut statement = session.prepare(PAGE_BEHIND)?;
    // As stored in the column, which may contain invalid UTF-8.
    let after = ToSqlOutput::Borrowed(ValueRef::Text(after.as_bytes()));
    let mut rows = statement.query((after, MAX_SCANNED as i64))?;
    let (mut page, mut scanned) = (RecordPage::default(), 0);
    while let Some(row) = rows.next()? {
        let record = record(row)?;
        scanned += 1;
        if filter.passes(&record) {
            page.records.push(record);
        }
        if page.records.len() == limit || scanned == MAX_SCANNED {
            page.next = Some(RecordCursor::new(row.get_ref(1)?.as_bytes().unwrap_or_default()));
            break;
        }
    }
    Ok(page)
}

pub(super) fn changed(
    session: &Session,
    known: &[(JobId, Incarnation, u64)],
) -> Result<Vec<RecordChange>> {
    let mut changed = Vec::new();
    let mut version_of = session.prepare(VERSION)?;
    for &(_, incarnation, version) in known {
        let read = |row: &Columns<'_>| row.get(0).map(unsigned);
        let is = version_of.query_row([signed(incarnation.0)], read).optional()?;
        if is == Some(version) {
            continue;
        }
        let status = match by_incarnation(session, incarnation)? {
            Some(record) => RecordStatus::Updated(Box::new(record)),
            None => RecordStatus::Removed(ledger::ending(session, incarnation)?),
        };
        changed.push(RecordChange { incarnation, status });
    }
    Ok(changed)
}

/// Updates the columns of a record that depend on its open rows.
pub(super) fn recount(session: &Session, incarnation: Incarnation) -> Result<()> {
    session.prepare(RECOUNT)?.execute([signed(incarnation.0)])?;
    Ok(())
}

/// Ends a job with `fate` if it has neither a next fire time nor an open row. Returns whether it
/// did.
pub(super) fn end_if_over(session: &Session, incarnation: Incarnation, fate: Fate) -> Result<bool> {
    let over = session.prepare(OVER)?.query_row([signed(incarnation.0)], record).optional()?;
    let Some(record) = over else { return Ok(false) };
    session.prepare(DELETE)?.execute([signed(incarnation.0)])?;
    ledger::end(session, &record, fate)?;
    if record.remember {
        let ended_at = session.now();
        let version = record.version.wrapping_add(1);
        let record = Record { version, ended_at: Some(ended_at), ..record };
        if let Ok(text) = serde_json::to_string(&record) {
            let mut remember = session.prepare(REMEMBER)?;
            remember.execute((record.id.to_string(), millis(ended_at), text))?;
        }
    }
    session.notify([StoreChange::Gone(incarnation)]);
    Ok(true)
}

/// All statements, for a check of their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    BY_ID,
    BY_INCARNATION,
    PAGE_BEHIND,
    INSERT,
    UPDATE,
    OVER,
    FREE,
    DELETE,
    VERSION,
    ENDED,
    REMEMBER,
    FORGET,
    FORGET_OLD,
];
