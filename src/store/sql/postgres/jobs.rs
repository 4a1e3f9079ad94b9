//! Records: written, read and listed.

use std::{
    collections::{HashMap, HashSet},
    iter,
};

use chrono::{DateTime, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    super::{
        instant, signed, unsigned,
        write::{Batch, Known, OpenRows, decide, keys},
    },
    actions::{self, Actions},
    changes::{self, NOTIFY},
    columns::{
        Keys, Parameter, RECORD_COLUMNS, Records, Rows, clean, get, key, optional_text, record,
    },
    error::Result,
    pool::{Session, Step},
};
use crate::{
    job::JobId,
    store::{
        Fate, Incarnation, Record, RecordChange, RecordCursor, RecordFilter, RecordPage,
        RecordStatus, RowKey, StoreChange, Write, WriteResult,
    },
};

/// How many records one page scans.
const SCANNED: usize = 1000;

/// The statement for a transaction of the application's, whose one parameter is a
/// [document](crate::store::sql::document). It notifies the channel when that transaction commits.
pub(super) fn insert_statement(namespace: &str, channel: Option<&str>) -> String {
    let columns: Vec<&str> = record_columns!("").split(", ").collect();
    let kind = |column: &str| match column {
        "id" | "task" | "args" | "trigger" | "options" | "name" | "tags" | "declared"
        | "earlier_tokens" | "paused_by" | "paused_because" | "extra" => "text",
        "paused" | "recover" | "remember" | "recoveries" => "integer",
        _ => "bigint",
    };
    let value = |column: &str| match column {
        "paused" | "recover" | "remember" => format!("{column} <> 0"),
        column => column.to_owned(),
    };
    let list = |text: &dyn Fn(&str) -> String| {
        columns.iter().map(|column| text(column)).collect::<Vec<_>>().join(", ")
    };
    let typed = list(&|column| format!("{column} {}", kind(column)));
    let (columns, values) = (list(&|column| column.to_owned()), list(&value));
    let notify = channel.map_or_else(
        || "SELECT 1 FROM added".to_owned(),
        |channel| format!("SELECT pg_notify('{channel}', 'd' || next_fire) FROM added"),
    );
    // A remembered end of the same id makes room for the new job.
    format!(
        "WITH document AS (SELECT * FROM jsonb_to_record($1::text::jsonb) AS r({typed})), \
         forgotten AS (DELETE FROM {namespace}jobs WHERE ended_at IS NOT NULL \
         AND id IN (SELECT id FROM document) RETURNING id), \
         added AS (INSERT INTO {namespace}jobs ({columns}) SELECT {values} FROM document \
         WHERE (SELECT count(*) FROM forgotten) >= 0 RETURNING next_fire) {notify}"
    )
}

pub(super) const NOW: &str = concat!("SELECT ", now!());

const BY_ID: &str = concat!("SELECT ", record_columns!(""), " FROM punctual_jobs WHERE id = $1");

/// The records of incarnations whose jobs have not ended.
pub(super) const BY_INCARNATION: &str = concat!(
    "SELECT ",
    record_columns!(""),
    " FROM punctual_jobs WHERE incarnation = ANY($1) AND ended_at IS NULL"
);

const PAGE: &str = concat!(
    "SELECT ",
    record_columns!(""),
    " FROM punctual_jobs WHERE id > $1 AND ended_at IS NULL \
     AND ($3::text IS NULL OR name = $3) AND ($4::boolean IS NULL OR paused = $4) \
     ORDER BY id LIMIT $2"
);

const CHANGED: &str = concat!(
    "SELECT k.incarnation, (SELECT l.fate FROM punctual_ledger AS l \
        WHERE l.incarnation = k.incarnation AND l.kind = 2 AND l.number = 0), ",
    record_columns!("j."),
    " FROM unnest($1, $2) WITH ORDINALITY AS k(incarnation, version, place) \
     LEFT JOIN LATERAL (SELECT * FROM punctual_jobs AS j \
        WHERE j.incarnation = k.incarnation AND j.ended_at IS NULL LIMIT 1) AS j ON true \
     WHERE j.version IS DISTINCT FROM k.version ORDER BY k.place"
);

/// Adds records with ids that are not in use, and tells of them.
const ADD: &str = concat!(
    "WITH new AS (INSERT INTO punctual_jobs (",
    record_columns!(""),
    ", claimed, waiting, asked) SELECT r.* FROM ",
    unnest_records!(),
    " WHERE (SELECT true FROM punctual_ledger AS l \
        WHERE l.incarnation = r.incarnation AND l.kind = 2 AND l.number = 0) IS NULL \
     ON CONFLICT DO NOTHING RETURNING incarnation), \
     told AS (SELECT pg_notify($31, $32) WHERE $32 IS NOT NULL AND EXISTS (SELECT FROM new)), \
     logged AS (INSERT INTO punctual_actions (at, token, job, incarnation, what, by, because) SELECT ",
    now!(),
    ", a.* FROM unnest($33, $34, $35, $36, $37, $38) \
        AS a(token, job, incarnation, what, by, because) \
        WHERE a.incarnation IN (SELECT incarnation FROM new) ON CONFLICT DO NOTHING) \
     SELECT incarnation, (SELECT count(*) FROM told) FROM new"
);

/// The records of these ids, in the order in which all operations lock them.
const LOCK: &str = concat!(
    "SELECT ",
    record_columns!(""),
    ", claimed, waiting, asked FROM punctual_jobs WHERE id = ANY($1) \
     ORDER BY incarnation FOR UPDATE"
);

/// Which of these keys the ledger has.
const KNOWN_KEYS: &str = "SELECT k.incarnation, k.kind, k.number \
     FROM unnest($1, $2, $3) AS k(incarnation, kind, number) \
     WHERE (SELECT true FROM punctual_open AS o \
        WHERE o.incarnation = k.incarnation AND o.kind = k.kind AND o.number = k.number) \
     OR (SELECT true FROM punctual_ledger AS l \
        WHERE l.incarnation = k.incarnation AND l.kind = k.kind AND l.number = k.number)";

const DELETE: &str = "DELETE FROM punctual_jobs WHERE incarnation = ANY($1)";

/// Closes the waiting rows of jobs that are gone.
const CALL_OFF: &str = concat!(
    "WITH gone AS (DELETE FROM punctual_open AS o USING unnest($1, $2) AS r(incarnation, fate) \
     WHERE o.incarnation = r.incarnation AND o.node IS NULL RETURNING ",
    shared_columns!("o."),
    ", r.fate) INSERT INTO punctual_ledger (",
    shared_columns!(""),
    ", fate) SELECT ",
    shared_with!("", "attempt", "started_at", now!(), "message"),
    ", CASE WHEN attempt > 1 THEN 'abandoned' ELSE fate END FROM gone ON CONFLICT DO NOTHING"
);

const INSERT: &str = concat!(
    "INSERT INTO punctual_jobs (",
    record_columns!(""),
    ", claimed, waiting, asked) SELECT r.* FROM ",
    unnest_records!()
);

const UPDATE: &str = concat!(
    "UPDATE punctual_jobs AS j SET (",
    record_columns!(""),
    ", claimed, waiting, asked, rev) = (",
    record_columns!("r."),
    ", r.claimed, r.waiting, r.asked, j.rev + 1) FROM ",
    unnest_records!(),
    " WHERE j.incarnation = r.incarnation AND j.incarnation = ANY($1)"
);

/// Puts rows with keys that the ledger does not have.
const PUT: &str = concat!(
    "WITH r AS (SELECT * FROM ",
    unnest_rows!(),
    "), opened AS (INSERT INTO punctual_open (",
    shared_columns!(""),
    ", node) SELECT ",
    shared_columns!(""),
    ", node FROM r WHERE fate IS NULL ON CONFLICT DO NOTHING) INSERT INTO punctual_ledger (",
    shared_columns!(""),
    ", fate) SELECT ",
    shared_columns!(""),
    ", fate FROM r WHERE fate IS NOT NULL ON CONFLICT DO NOTHING"
);

pub(super) async fn time(session: &Session<'_>) -> Result<DateTime<Utc>> {
    let rows = session.query(NOW, Vec::new()).await?;
    Ok(instant(get(&rows[0], 0)?))
}

pub(super) async fn get_by_id(session: &Session<'_>, id: &JobId) -> Result<Option<Record>> {
    let id = clean(&id.as_str()).into_owned();
    let rows = session.query(BY_ID, vec![(&id, Type::TEXT)]).await?;
    rows.first().map(|row| record(row, 0)).transpose()
}

/// Up to `limit` records that pass the filter.
pub(super) async fn list(
    session: &Session<'_>,
    filter: &RecordFilter,
    after: Option<&RecordCursor>,
    limit: usize,
) -> Result<RecordPage> {
    // No id has a NUL, so all that come after the text come after what is before its first NUL.
    let after = after.map(|after| String::from_utf8_lossy(after.as_bytes()).into_owned());
    let mut after = after.map_or(String::new(), |it| it.split('\0').next().unwrap_or("").into());
    let name = filter.name.as_deref().map(clean);
    let mut page = RecordPage::default();
    while page.records.len() < limit {
        let room = limit - page.records.len();
        let size = if filter.tag.is_some() { SCANNED } else { room.min(SCANNED) } as i64;
        let parameters: Vec<Parameter<'_>> = vec![
            (&after, Type::TEXT),
            (&size, Type::INT8),
            (&name, Type::TEXT),
            (&filter.paused, Type::BOOL),
        ];
        let rows = session.query(PAGE, parameters).await?;
        let is_last = (rows.len() as i64) < size;
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
        match last.filter(|_| !is_last) {
            Some(last) => after = String::from_utf8_lossy(last.as_bytes()).into_owned(),
            None => break,
        }
    }
    Ok(page)
}

pub(super) async fn changed(
    session: &Session<'_>,
    known: &[(JobId, Incarnation, u64)],
) -> Result<Vec<RecordChange>> {
    let incarnations: Vec<i64> = known.iter().map(|(_, of, _)| signed(of.0)).collect();
    let versions: Vec<i64> = known.iter().map(|(.., version)| signed(*version)).collect();
    let parameters: Vec<Parameter<'_>> =
        vec![(&incarnations, Type::INT8_ARRAY), (&versions, Type::INT8_ARRAY)];
    let rows = session.query(CHANGED, parameters).await?;
    let change = |row: &Columns| {
        let status = match get::<Option<i64>>(row, 2)? {
            Some(_) => RecordStatus::Updated(Box::new(record(row, 2)?)),
            None => RecordStatus::Removed(optional_text(row, 1)?.map(|fate| {
                let Ok(fate) = fate.parse::<Fate>();
                fate
            })),
        };
        Ok(RecordChange { incarnation: Incarnation(unsigned(get(row, 0)?)), status })
    };
    rows.iter().map(change).collect()
}

/// Whether a write adds a record and nothing else: one statement is enough.
fn is_plain_add(write: &Write) -> bool {
    let is_plain = |record: &Record| record.next_fire.is_some() || !record.remember;
    write.expected.is_none() && write.rows.is_empty() && write.record.as_ref().is_some_and(is_plain)
}

/// Does each of the writes that finds what it expects: first those that only add a record, and then,
/// in a transaction, the others and those whose ids are in use.
pub(super) async fn write(
    session: &Session<'_>,
    writes: &[Write],
    channel: Option<&str>,
) -> Result<Vec<WriteResult>> {
    let mut results: Vec<Option<WriteResult>> = vec![None; writes.len()];
    if writes.iter().any(is_plain_add) {
        let added = add(session, writes.iter().filter(|it| is_plain_add(it)), channel).await?;
        for (write, result) in writes.iter().zip(&mut results) {
            let incarnation = write.record.as_ref().map(|record| record.incarnation);
            if is_plain_add(write) && incarnation.is_some_and(|it| added.contains(&it)) {
                *result = Some(WriteResult::Done);
            }
        }
    }
    let left: Vec<Write> = writes
        .iter()
        .zip(&results)
        .filter(|(_, it)| it.is_none())
        .map(|(it, _)| it.clone())
        .collect();
    if !left.is_empty() {
        let mut left = swap(session, left, channel).await?.into_iter();
        for result in results.iter_mut().filter(|it| it.is_none()) {
            *result = left.next();
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// Adds records; returns the incarnations that were added. The others have ids in use, or have
/// been there before.
async fn add(
    session: &Session<'_>,
    writes: impl Iterator<Item = &Write>,
    channel: Option<&str>,
) -> Result<HashSet<Incarnation>> {
    let writes: Vec<Write> = writes.cloned().collect();
    let batch = decide(writes, &HashMap::new(), &HashSet::new(), DateTime::UNIX_EPOCH);
    let mut inserted = batch.inserted;
    // All in one order, or two of them wait for each other.
    inserted.sort_by(|(a, _), (b, _)| a.id.as_str().cmp(&b.id.as_str()));
    let (records, actions) = (Records::of(&inserted), Actions::of(&batch.actions));
    let payload = channel.and_then(|_| changes::payload(&batch.changes));
    let channel = channel.unwrap_or_default();
    let mut parameters: Vec<Parameter<'_>> = records.parameters().collect();
    parameters.extend([(&channel as _, Type::TEXT), (&payload as _, Type::TEXT)]);
    parameters.extend(actions.parameters());
    let rows = session.query(ADD, parameters).await?;
    rows.iter().map(|row| Ok(Incarnation(unsigned(get(row, 0)?)))).collect()
}

/// Compares and swaps records.
async fn swap(
    session: &Session<'_>,
    writes: Vec<Write>,
    channel: Option<&str>,
) -> Result<Vec<WriteResult>> {
    let ids: Vec<String> = writes.iter().map(|it| clean(&it.id.as_str()).into_owned()).collect();
    let asked: Vec<RowKey> = writes.iter().flat_map(keys).collect();
    let asked = Keys::of(&asked);
    let look = || {
        vec![
            Step::Query(LOCK, vec![(&ids, Type::TEXT_ARRAY)]),
            // Later statements: they see what others have committed before the lock was free.
            Step::Query(KNOWN_KEYS, asked.parameters().collect()),
            Step::Query(NOW, Vec::new()),
        ]
    };
    let steps = iter::once(session.begin()).chain(look()).collect();
    let mut rows = session.all(steps).await?.split_off(1);
    let mut known = known(&rows[0])?;
    if writes.iter().any(|write| write.expected.is_some() && !known.contains_key(&write.id)) {
        // A job that was replaced while this waited for its lock is gone for that statement, and the one
        // in its place is not there yet.
        rows = session.all(look()).await?;
        known = self::known(&rows[0])?;
    }
    let keys: HashSet<RowKey> = rows[1].iter().map(|row| key(row, 0)).collect::<Result<_>>()?;
    let now = instant(get(&rows[2][0], 0)?);
    let batch = decide(writes, &known, &keys, now);
    carry_out(session, &batch, channel).await?;
    Ok(batch.results)
}

/// The records that were locked, by their ids.
fn known(rows: &[Columns]) -> Result<HashMap<JobId, Known>> {
    let known = |row: &Columns| {
        let count = |index: usize| get(row, RECORD_COLUMNS + index);
        let open = OpenRows { claimed: count(0)?, waiting: count(1)?, asked: count(2)? };
        let record = record(row, 0)?;
        Ok((record.id.clone(), Known { record, open }))
    };
    rows.iter().map(known).collect()
}

async fn carry_out(session: &Session<'_>, batch: &Batch, channel: Option<&str>) -> Result<()> {
    let gone: Vec<i64> = batch.gone.iter().map(|(of, _)| signed(of.0)).collect();
    let fates: Vec<String> =
        batch.gone.iter().map(|(_, reason)| Fate::Skipped(*reason).to_string()).collect();
    let inserted = Records::of(&batch.inserted);
    let updated = Records::of(&batch.updated);
    let rows = Rows::of(&batch.rows);
    let actions = Actions::of(&batch.actions);
    let payload = channel.and_then(|_| changes::payload(&batch.changes));
    let channel = channel.unwrap_or_default();

    let mut steps = Vec::new();
    if !batch.gone.is_empty() {
        steps.push(Step::Query(DELETE, vec![(&gone, Type::INT8_ARRAY)]));
        let parameters: Vec<Parameter<'_>> =
            vec![(&gone, Type::INT8_ARRAY), (&fates, Type::TEXT_ARRAY)];
        steps.push(Step::Query(CALL_OFF, parameters));
    }
    if !batch.inserted.is_empty() {
        steps.push(Step::Query(INSERT, inserted.parameters().collect()));
    }
    if !batch.updated.is_empty() {
        steps.push(Step::Query(UPDATE, updated.parameters().collect()));
    }
    if !batch.rows.is_empty() {
        steps.push(Step::Query(PUT, rows.parameters().collect()));
    }
    if !batch.actions.is_empty() {
        steps.push(Step::Query(actions::PUT, actions.parameters().collect()));
    }
    if let Some(payload) = &payload {
        let parameters: Vec<Parameter<'_>> =
            vec![(&channel as _, Type::TEXT), (payload, Type::TEXT)];
        steps.push(Step::Query(NOTIFY, parameters));
    }
    let end = if batch.is_empty() { "ROLLBACK" } else { "COMMIT" };
    steps.push(Step::Run(end.into()));
    session.all(steps).await?;
    Ok(())
}

/// Sends changes to the other nodes.
pub(super) async fn notify(
    session: &Session<'_>,
    channel: Option<&str>,
    changes: &[StoreChange],
) -> Result<()> {
    if let (Some(channel), Some(payload)) = (channel, changes::payload(changes)) {
        let parameters: Vec<Parameter<'_>> = vec![(&channel, Type::TEXT), (&payload, Type::TEXT)];
        session.query(NOTIFY, parameters).await?;
    }
    Ok(())
}
