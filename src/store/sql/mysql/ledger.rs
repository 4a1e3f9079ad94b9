//! The ledger: rows closed and read.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use mysql_async::Row as Columns;

use super::{
    super::{millis, signed, unsigned},
    claim::behind,
    columns::{
        CLOSED, NOW, OPEN, OrNull, ROW, Text, by_incarnation, by_key, get, incarnations, key, keys,
        optional_text, row,
    },
    edit::{Edit, lock, locked, time},
    error::Result,
    pool::{Answers, BEGIN, Session},
    schema::Tables,
};
use crate::store::{Fate, FinishReport, Incarnation, Row, RowKey, RowOutcome, RowState};

/// Reads rows of the ledger.
pub(super) fn read(answers: &Answers) -> Result<Vec<Row>> {
    answers.iter().flatten().map(row).collect()
}

/// The SQL for the open rows with these keys.
fn open_select<'a>(
    tables: &Tables,
    of: impl IntoIterator<Item = &'a RowKey>,
    lock: &str,
) -> String {
    format!("SELECT {ROW}, {OPEN} FROM {}{lock}", by_key(&keys(of), &tables.open))
}

/// The open rows with these keys.
pub(super) async fn open_rows_of<'a>(
    session: &mut Session<'_>,
    of: impl IntoIterator<Item = &'a RowKey>,
    lock: &str,
) -> Result<Vec<Row>> {
    let sql = open_select(session.tables(), of, lock);
    read(&session.run(&sql).await?)
}

/// What a try has done is in the report, though a later statement of it fails.
pub(super) async fn finish(
    session: &mut Session<'_>,
    outcomes: &[RowOutcome],
    report: &mut FinishReport,
) -> Result<()> {
    let all: Vec<&RowOutcome> = outcomes.iter().collect();
    // An outcome whose job somebody else has locked delays no other. What is not found then is nearly
    // always closed or claimed anew.
    let left = close(session, all, true, report).await?;
    let left = close(session, left, false, report).await?;
    if left.is_empty() {
        return Ok(());
    }
    close_late(session, &left, report).await
}

/// Closes open rows; returns the outcomes whose rows were not found.
async fn close<'a>(
    session: &mut Session<'_>,
    outcomes: Vec<&'a RowOutcome>,
    skips: bool,
    report: &mut FinishReport,
) -> Result<Vec<&'a RowOutcome>> {
    if outcomes.is_empty() {
        return Ok(outcomes);
    }
    let tables = session.tables();
    let of = incarnations(outcomes.iter().map(|it| it.key.incarnation));
    let asked = outcomes.iter().map(|it| &it.key);
    // The rows are locked as well, for those whose job is gone. What another transaction has locked, it
    // has with the job.
    let suffix = if skips { " FOR UPDATE SKIP LOCKED" } else { " FOR UPDATE" };
    let sql = format!(
        "{BEGIN}; SELECT {NOW}; {}; {}",
        lock(tables, &of, skips),
        open_select(tables, asked, suffix)
    );
    let answers = session.run(&sql).await?;
    let now = time(answers.first())?;
    let mut jobs = answers.get(1).map_or(Ok(HashMap::new()), |rows| locked(rows))?;
    let rows = answers.get(2).map_or(Ok(Vec::new()), |rows| rows.iter().map(row).collect())?;
    let mut rows: HashMap<RowKey, Row> = rows.into_iter().map(|row: Row| (row.key, row)).collect();
    // Jobs that are there, and that somebody else has locked.
    let of_others = match skips && jobs.len() < of.len() {
        true => existing(session, &of).await?,
        false => HashSet::new(),
    };
    let mut edit = Edit::new(tables, now);
    let mut left = Vec::new();
    for outcome in outcomes {
        let of = outcome.key.incarnation;
        let is_free = jobs.contains_key(&of) || !of_others.contains(&of);
        let is_it = |row: &Row| is_free && row.fence == outcome.fence;
        let Some(row) = rows.remove(&outcome.key).filter(is_it) else {
            left.push(outcome);
            continue;
        };
        if let Some(job) = jobs.get_mut(&of) {
            match row.state {
                RowState::Claimed(_) => job.open.add(row.key.kind, -1, 0),
                _ => job.open.add(row.key.kind, 0, -1),
            }
            edit.set(job.clone(), outcome.job_end.clone());
        }
        edit.close(Row {
            state: RowState::Closed(outcome.fate.clone()),
            attempt: outcome.attempt,
            started_at: outcome.started_at,
            ended_at: Some(outcome.ended_at),
            message: outcome.message.clone(),
            ..row
        });
    }
    let sql = format!("{}COMMIT", edit.sql());
    session.run(&sql).await?;
    report.over.extend(edit.over());
    Ok(left)
}

/// Those of some jobs that have not ended.
pub(super) async fn existing(
    session: &mut Session<'_>,
    of: &[[Option<i64>; 1]],
) -> Result<HashSet<Incarnation>> {
    let jobs = &session.tables().jobs;
    let sql =
        format!("SELECT incarnation FROM {} WHERE ended_at IS NULL", by_incarnation(of, jobs));
    let answers = session.run(&sql).await?;
    answers.iter().flatten().map(|row| Ok(Incarnation(unsigned(get(row, 0)?)))).collect()
}

/// Outcomes of rows that are not open: news to those of which only the death of their node was known.
async fn close_late(
    session: &mut Session<'_>,
    outcomes: &[&RowOutcome],
    report: &mut FinishReport,
) -> Result<()> {
    let ledger = &session.tables().ledger;
    let rows = keys(outcomes.iter().map(|it| &it.key));
    let mut sql = format!(
        "{BEGIN}; SELECT incarnation, kind, number, fence, fate FROM {} FOR UPDATE",
        by_key(&rows, ledger)
    );
    let found = |row: &Columns| {
        let fate = optional_text(row, 4)?.unwrap_or_default();
        let Ok(fate) = fate.parse::<Fate>();
        Ok((key(row, 0)?, (unsigned(get(row, 3)?), fate)))
    };
    let answers = session.run(&sql).await?;
    let found: HashMap<RowKey, (u64, Fate)> =
        answers.iter().flatten().map(found).collect::<Result<_>>()?;
    sql.clear();
    for outcome in outcomes {
        match found.get(&outcome.key) {
            Some((fence, fate)) if *fence == outcome.fence => {
                if fate.is_abandoned() {
                    let RowKey { incarnation, kind, number } = outcome.key;
                    // Writing into a string does not fail.
                    let _ = write!(
                        sql,
                        "UPDATE {ledger} SET fate = {}, attempt = {}, started_at = {}, ended_at = {}, \
                         message = {} WHERE incarnation = {} AND kind = {} AND number = {number}; ",
                        Text(&outcome.fate.to_string()),
                        i32::try_from(outcome.attempt).unwrap_or(i32::MAX),
                        OrNull(outcome.started_at.map(millis)),
                        millis(outcome.ended_at),
                        OrNull(outcome.message.as_deref().map(Text)),
                        signed(incarnation.0),
                        super::super::kind_number(kind),
                    );
                }
            }
            _ => report.refused.push(outcome.key),
        }
    }
    sql.push_str("COMMIT");
    session.run(&sql).await?;
    Ok(())
}

/// The numbers of each kind grow with time, so each kind gives its last few without sorting.
pub(super) async fn history(
    session: &mut Session<'_>,
    incarnation: Incarnation,
    limit: usize,
) -> Result<Vec<Row>> {
    let Tables { open, ledger, .. } = session.tables();
    let of = signed(incarnation.0);
    let selects = (0..3).flat_map(|kind| {
        [(open, OPEN), (ledger, CLOSED)].map(|(table, rest)| {
            format!(
                "(SELECT {ROW}, {rest} FROM {table} WHERE incarnation = {of} AND kind = {kind} \
                 ORDER BY number DESC LIMIT {limit})"
            )
        })
    });
    let selects: Vec<String> = selects.collect();
    let sql = format!(
        "SELECT * FROM ({}) AS every_row ORDER BY fire_time DESC, kind DESC, number DESC LIMIT {limit}",
        selects.join(" UNION ALL ")
    );
    read(&session.run(&sql).await?)
}

pub(super) async fn rows(
    session: &mut Session<'_>,
    after: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Row>> {
    let Tables { open, ledger, .. } = session.tables();
    let behind = behind(after);
    let sql = format!(
        "SELECT * FROM ((SELECT {ROW}, {OPEN} FROM {open} WHERE {behind} \
            ORDER BY incarnation, kind, number LIMIT {limit}) UNION ALL \
         (SELECT {ROW}, {CLOSED} FROM {ledger} WHERE {behind} \
            ORDER BY incarnation, kind, number LIMIT {limit})) AS every_row \
         ORDER BY incarnation, kind, number LIMIT {limit}"
    );
    read(&session.run(&sql).await?)
}

/// The waiting rows of these jobs.
pub(super) async fn waiting(
    session: &mut Session<'_>,
    of: &[Incarnation],
    after: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Row>> {
    let open = &session.tables().open;
    let of = incarnations(of.iter().copied());
    let from = after.map_or(i64::MIN, |after| signed(after.incarnation.0));
    let of: Vec<_> = of.into_iter().filter(|row| row[0] >= Some(from)).collect();
    let sql = format!(
        "SELECT {ROW}, {OPEN} FROM {} WHERE node IS NULL AND {} \
         ORDER BY incarnation, kind, number LIMIT {limit}",
        by_incarnation(&of, open),
        behind(after)
    );
    read(&session.run(&sql).await?)
}
