//! Records: written, read and listed.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use chrono::{DateTime, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{
        signed, unsigned,
        write::{Batch, Known, OpenRows, decide, keys as asked_keys},
    },
    actions,
    columns::{
        List, NOW, OPEN, OrNull, RECORD, RECORD_COLUMNS, ROW, RecordValues, RowValues, Text,
        by_incarnation, by_key, get, incarnations, joined, key, keys, open_rows, record, text,
    },
    edit::{delete_jobs, delete_rows, insert_closed, time},
    error::{MySqlError, Result},
    ledger,
    pool::{BEGIN, Session},
    schema::{LONGEST, Tables},
};
use crate::{
    job::JobId,
    store::{
        Fate, Incarnation, Record, RecordChange, RecordCursor, RecordFilter, RecordPage,
        RecordStatus, Row, RowKey, RowState, Write, WriteResult,
    },
};

/// How many records one page scans.
const SCANNED: usize = 1000;

/// The statement for a transaction of the application's, whose one parameter is a
/// [document](crate::store::sql::document).
pub(super) fn insert_statement(tables: &Tables) -> String {
    let jobs = &tables.jobs;
    let kind = |column: &str| match column {
        "id" | "task" => "VARCHAR(1024) CHARACTER SET utf8mb4",
        "args" | "`trigger`" | "options" | "name" | "tags" | "declared" | "earlier_tokens"
        | "paused_by" | "paused_because" | "extra" => "LONGTEXT CHARACTER SET utf8mb4",
        _ => "BIGINT",
    };
    let columns: Vec<&str> = RECORD.split(", ").collect();
    let typed: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} {} PATH '$.{}'", kind(column), column.trim_matches('`')))
        .collect();
    // A remembered end of the same id makes room for the new job. Whether it is one is looked at for each
    // column, so the column that says so is the last to change.
    let replaced: Vec<String> =
        columns.iter().map(|column| format!("{jobs}.{column} = VALUES({column})")).collect();
    let replaced = replaced.join(", ").replacen(
        "= VALUES(incarnation)",
        &format!(
            "= IF({jobs}.ended_at IS NULL, (SELECT 1 UNION ALL SELECT 2), VALUES(incarnation))"
        ),
        1,
    );
    let columns = columns.join(", ");
    format!(
        "INSERT INTO {jobs} ({columns}) SELECT {columns} FROM JSON_TABLE(?, '$' COLUMNS({})) AS r \
         ON DUPLICATE KEY UPDATE {replaced}",
        typed.join(", ")
    )
}

pub(super) async fn time_of(session: &mut Session<'_>) -> Result<DateTime<Utc>> {
    let answers = session.run(&format!("SELECT {NOW}")).await?;
    time(answers.first())
}

pub(super) async fn get_by_id(session: &mut Session<'_>, id: &JobId) -> Result<Option<Record>> {
    let jobs = &session.tables().jobs;
    let sql = format!("SELECT {RECORD} FROM {jobs} WHERE id = {}", Text(&id.as_str()));
    let answers = session.run(&sql).await?;
    answers.iter().flatten().next().map(|row| record(row, 0)).transpose()
}

/// Up to `limit` records that pass the filter.
pub(super) async fn list(
    session: &mut Session<'_>,
    filter: &RecordFilter,
    after: Option<&RecordCursor>,
    limit: usize,
) -> Result<RecordPage> {
    let jobs = &session.tables().jobs;
    let mut after = after.map(|after| after.as_bytes().to_vec()).unwrap_or_default();
    let mut which = String::new();
    if let Some(name) = &filter.name {
        let _ = write!(which, " AND name = {}", Text(name));
    }
    if let Some(paused) = filter.paused {
        let _ = write!(which, " AND paused = {paused}");
    }
    let mut page = RecordPage::default();
    while page.records.len() < limit {
        let room = limit - page.records.len();
        let size = if filter.tag.is_some() { SCANNED } else { room.min(SCANNED) };
        let digits: String = after.iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "SELECT {RECORD} FROM {jobs} WHERE id > x'{digits}' AND ended_at IS NULL{which} \
             ORDER BY id LIMIT {size}"
        );
        let answers = session.run(&sql).await?;
        let rows: Vec<&Columns> = answers.iter().flatten().collect();
        let mut last = None;
        for row in &rows {
            let record = record(row, 0)?;
            last = Some(RecordCursor::from(&record.id));
            if filter.passes(&record) {
                page.records.push(record);
            }
            if page.records.len() == limit {
                page.next = last;
                return Ok(page);
            }
        }
        match last.filter(|_| rows.len() == size) {
            Some(last) => after = last.as_bytes().to_vec(),
            None => break,
        }
    }
    Ok(page)
}

pub(super) async fn changed(
    session: &mut Session<'_>,
    known: &[(JobId, Incarnation, u64)],
) -> Result<Vec<RecordChange>> {
    let Tables { jobs, ledger, .. } = session.tables();
    let of = incarnations(known.iter().map(|(_, of, _)| *of));
    let rows: Vec<_> =
        known.iter().map(|(_, of, version)| [Some(signed(of.0)), Some(signed(*version))]).collect();
    // Those that are there, those that have changed, and how those that are not there have ended.
    let sql = format!(
        "SELECT incarnation FROM {} WHERE ended_at IS NULL; \
         SELECT {RECORD} FROM {} AND version <> r_version WHERE ended_at IS NULL; \
         SELECT incarnation, fate FROM {} AND kind = 2 AND number = 0",
        by_incarnation(&of, jobs),
        joined(["r_of", "r_version"], &rows, jobs),
        by_incarnation(&of, ledger)
    );
    let answers = session.run(&sql).await?;
    let [there, updated, ends] = &answers[..] else { return Err(MySqlError::Columns) };
    let incarnation = |row: &Columns| Ok(Incarnation(unsigned(get(row, 0)?)));
    let there: HashSet<_> = there.iter().map(incarnation).collect::<Result<_>>()?;
    let updated = updated.iter().map(|row| record(row, 0).map(|it| (it.incarnation, it)));
    let mut updated: HashMap<_, _> = updated.collect::<Result<_>>()?;
    let end = |row: &Columns| {
        let Ok(fate) = text(row, 1)?.parse::<Fate>();
        Ok((incarnation(row)?, fate))
    };
    let mut ends: HashMap<_, _> = ends.iter().map(end).collect::<Result<_>>()?;
    let change = |&(_, of, _): &(JobId, Incarnation, u64)| {
        let status = match updated.remove(&of) {
            Some(record) => RecordStatus::Updated(Box::new(record)),
            None if there.contains(&of) => return None,
            None => RecordStatus::Removed(ends.remove(&of)),
        };
        Some(RecordChange { incarnation: of, status })
    };
    Ok(known.iter().filter_map(change).collect())
}

/// Does each of the writes that finds what it expects.
pub(super) async fn write(session: &mut Session<'_>, writes: &[Write]) -> Result<Vec<WriteResult>> {
    for write in writes {
        fits(write)?;
    }
    let Tables { jobs, open, ledger, .. } = session.tables();
    let ids: Vec<String> = writes.iter().map(|it| Text(&it.id.as_str()).to_string()).collect();
    let asked: Vec<RowKey> = writes.iter().flat_map(asked_keys).collect();
    let asked = keys(&asked);
    let look = format!(
        "SELECT {RECORD}, claimed, waiting, asked FROM {jobs} FORCE INDEX ({jobs}_id) \
            WHERE id IN ({}) FOR UPDATE; \
         SELECT {NOW}; \
         SELECT incarnation, kind, number FROM {}; SELECT incarnation, kind, number FROM {}",
        List(ids.iter()),
        by_key(&asked, open),
        by_key(&asked, ledger)
    );
    let mut answers = session.run(&format!("{BEGIN}; {look}")).await?;
    let mut known = known_of(answers.first())?;
    if writes.iter().any(|write| write.expected.is_some() && !known.contains_key(&write.id)) {
        // A job that was replaced while this waited for its lock may be gone for that statement, and the
        // one in its place not there yet.
        answers = session.run(&look).await?;
        known = known_of(answers.first())?;
    }
    let now = time(answers.get(1))?;
    let keys: HashSet<RowKey> =
        answers.iter().skip(2).flatten().map(|row| key(row, 0)).collect::<Result<_>>()?;
    let batch = decide(writes.to_vec(), &known, &keys, now);
    carry_out(session, &batch, now).await?;
    Ok(batch.results)
}

/// Sees that the columns with indexes have room for a record.
fn fits(write: &Write) -> Result<()> {
    let task = write.record.as_ref().map_or("", |record| &record.task);
    for (what, text) in [("id", &*write.id.as_str()), ("task", task)] {
        if text.len() > LONGEST {
            let start: String = text.chars().take(20).collect();
            return Err(MySqlError::Refused(format!(
                "the {what} `{start}…` has {} bytes: the MySQL store takes up to {LONGEST}: shorten it",
                text.len()
            )));
        }
    }
    Ok(())
}

/// The records that were locked, by their ids.
fn known_of(rows: Option<&Vec<Columns>>) -> Result<HashMap<JobId, Known>> {
    let known = |row: &Columns| {
        let record = record(row, 0)?;
        Ok((record.id.clone(), Known { record, open: open_rows(row, RECORD_COLUMNS)? }))
    };
    rows.into_iter().flatten().map(known).collect()
}

async fn carry_out(session: &mut Session<'_>, batch: &Batch, now: DateTime<Utc>) -> Result<()> {
    if batch.is_empty() {
        session.run("ROLLBACK").await?;
        return Ok(());
    }
    let Tables { jobs, open, ledger, .. } = session.tables();
    let called_off = call_off(session, batch, now).await?;
    let mut sql = String::new();
    // Writing into a string does not fail.
    let mut step = |text: String| {
        sql.push_str(&text);
        sql.push_str("; ");
    };
    if !batch.gone.is_empty() {
        let gone = incarnations(batch.gone.iter().map(|(of, _)| *of));
        step(delete_jobs(jobs, &gone));
    }
    if !called_off.is_empty() {
        step(delete_rows(open, called_off.iter().map(|row| &row.key)));
        step(insert_closed(ledger, &called_off));
    }
    if !batch.inserted.is_empty() {
        let values =
            batch.inserted.iter().map(|(record, open)| RecordValues(record, *open).to_string());
        let values: Vec<String> = values.collect();
        step(format!(
            "INSERT INTO {jobs} ({RECORD}, claimed, waiting, asked) VALUES {}",
            values.join(",")
        ));
    }
    for (record, open) in &batch.updated {
        step(update(jobs, record, *open));
    }
    let (opened, closed): (Vec<Row>, Vec<Row>) =
        batch.rows.iter().cloned().partition(|row| row.state.is_open());
    if !opened.is_empty() {
        let values: Vec<String> = opened
            .iter()
            .map(|row| {
                let node = match row.state {
                    RowState::Claimed(node) => Some(signed(node.0)),
                    _ => None,
                };
                format!("({}, {})", RowValues(row), OrNull(node))
            })
            .collect();
        step(format!("INSERT INTO {open} ({ROW}, node) VALUES {}", values.join(",")));
    }
    if !closed.is_empty() {
        step(insert_closed(ledger, &closed));
    }
    if !batch.actions.is_empty() {
        step(actions::insert(session.tables(), &batch.actions));
    }
    sql.push_str("COMMIT");
    session.run(&sql).await?;
    Ok(())
}

/// The waiting rows of jobs that are gone, closed.
async fn call_off(
    session: &mut Session<'_>,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<Vec<Row>> {
    if batch.gone.is_empty() {
        return Ok(Vec::new());
    }
    let open = &session.tables().open;
    let reasons: HashMap<Incarnation, _> = batch.gone.iter().copied().collect();
    let of = incarnations(batch.gone.iter().map(|(of, _)| *of));
    let sql = format!(
        "SELECT {ROW}, {OPEN} FROM {} WHERE node IS NULL FOR UPDATE",
        by_incarnation(&of, open)
    );
    let rows = ledger::read(&session.run(&sql).await?)?;
    let close = |row: Row| {
        let reason = reasons.get(&row.key.incarnation).copied();
        let reason = reason.unwrap_or(crate::job::SkipReason::Removed);
        let fate = Fate::called_off(reason, row.attempt);
        Row { state: RowState::Closed(fate), ended_at: Some(now), ..row }
    };
    Ok(rows.into_iter().map(close).collect())
}

/// The SQL that changes a record.
fn update(jobs: &str, record: &Record, open: OpenRows) -> String {
    let values = RecordValues(record, open).to_string();
    // The primary key and the id stay, so there is a row to update.
    let columns = format!("{RECORD}, claimed, waiting, asked");
    let set: Vec<String> =
        columns.split(", ").map(|column| format!("{column} = VALUES({column})")).collect();
    format!(
        "INSERT INTO {jobs} ({columns}) VALUES {values} ON DUPLICATE KEY UPDATE {}",
        set.join(", ")
    )
}
