//! How records and rows of the ledger are written into columns, and read from them.
//!
//! The tables are `STRICT`, so each column has its type. Invalid UTF-8 is replaced, and instants
//! out of range are clamped, so no content of the file prevents reading the rest.

use chrono::{DateTime, Utc};
use rusqlite::{CachedStatement, ToSql, types::ValueRef};

use super::super::{
    instant, kind, kind_number, millis, signed, tags, tags_text, tokens, tokens_columns, unsigned,
};
use crate::store::{Fate, Incarnation, NodeId, Record, Row, RowKey, RowState};

/// The columns of a record, in the order in which [`record`] reads them.
macro_rules! record_columns {
    () => {
        "incarnation, id, version, fence, requests, token, task, args, trigger, options, name, \
         tags, declared, added_at, next_fire, paused, resumed_at, taken_to, recover, \
         rescheduled_at, remember, earlier_tokens, recoveries, paused_by, paused_because, extra"
    };
}

/// The columns of a row, in the order in which [`row`] reads them.
macro_rules! row_columns {
    () => {
        "incarnation, kind, number, job, fire_time, last, count, coalesced, node, fate, fence, \
         attempt, recover, started_at, ended_at, message, recoveries, last_node, due, \
         requested_by, trace_id"
    };
}

pub(super) use {record_columns, row_columns};

/// Reads a record.
pub(super) fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        incarnation: Incarnation(unsigned(row.get(0)?)),
        id: text(row, 1)?.into(),
        version: unsigned(row.get(2)?),
        fence: unsigned(row.get(3)?),
        requests: unsigned(row.get(4)?),
        tokens: tokens(row.get(5)?, &text(row, 21)?),
        task: text(row, 6)?,
        args: text(row, 7)?,
        trigger: text(row, 8)?,
        options: text(row, 9)?,
        name: optional_text(row, 10)?,
        tags: tags(&text(row, 11)?),
        declared: optional_text(row, 12)?,
        added_at: instant(row.get(13)?),
        next_fire: optional_instant(row, 14)?,
        paused: row.get(15)?,
        resumed_at: optional_instant(row, 16)?,
        taken_to: optional_instant(row, 17)?,
        recover: row.get(18)?,
        rescheduled_at: optional_instant(row, 19)?,
        remember: row.get(20)?,
        recoveries: count(row, 22)?,
        paused_by: optional_text(row, 23)?,
        paused_because: optional_text(row, 24)?,
        extra: text(row, 25)?,
        ended_at: None,
    })
}

/// Binds a record to the parameters 1 to 26.
pub(super) fn bind_record(
    statement: &mut CachedStatement<'_>,
    record: &Record,
) -> rusqlite::Result<()> {
    let id = record.id.as_str();
    let (latest, earlier_tokens) = tokens_columns(record.tokens);
    let columns: [&dyn ToSql; 26] = [
        &signed(record.incarnation.0),
        &id,
        &signed(record.version),
        &signed(record.fence),
        &signed(record.requests),
        &signed(latest),
        &record.task,
        &record.args,
        &record.trigger,
        &record.options,
        &record.name,
        &tags_text(&record.tags),
        &record.declared,
        &millis(record.added_at),
        &record.next_fire.map(millis),
        &record.paused,
        &record.resumed_at.map(millis),
        &record.taken_to.map(millis),
        &record.recover,
        &record.rescheduled_at.map(millis),
        &record.remember,
        &earlier_tokens,
        &record.recoveries,
        &record.paused_by,
        &record.paused_because,
        &record.extra,
    ];
    bind(statement, &columns)
}

/// Reads a row of the ledger, or returns `None` if its kind is unknown.
pub(super) fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Row>> {
    let Some(kind) = kind(row.get(1)?) else { return Ok(None) };
    let node: Option<i64> = row.get(8)?;
    let state = match (optional_text(row, 9)?, node) {
        (Some(fate), _) => {
            let Ok(fate) = fate.parse::<Fate>();
            RowState::Closed(fate)
        }
        (None, Some(node)) => RowState::Claimed(NodeId(unsigned(node))),
        (None, None) => RowState::Waiting,
    };
    Ok(Some(Row {
        key: RowKey { incarnation: Incarnation(unsigned(row.get(0)?)), kind, number: row.get(2)? },
        job: text(row, 3)?.into(),
        fire_time: instant(row.get(4)?),
        last: instant(row.get(5)?),
        count: unsigned(row.get(6)?),
        coalesced: unsigned(row.get(7)?),
        state,
        fence: unsigned(row.get(10)?),
        attempt: count(row, 11)?,
        recover: row.get(12)?,
        started_at: optional_instant(row, 13)?,
        ended_at: optional_instant(row, 14)?,
        message: optional_text(row, 15)?,
        recoveries: count(row, 16)?,
        node: row.get::<_, Option<i64>>(17)?.map(|node| NodeId(unsigned(node))),
        due: optional_instant(row, 18)?,
        requested_by: optional_text(row, 19)?,
        trace_id: optional_text(row, 20)?,
    }))
}

/// Binds a row of the ledger to the parameters 1 to 21, and the number of its claim to the 22nd; of a
/// closed row it is 0, by which triggers know that this program closed it.
pub(super) fn bind_row(
    statement: &mut CachedStatement<'_>,
    row: &Row,
    claim_number: Option<u64>,
) -> rusqlite::Result<()> {
    let (node, fate) = match &row.state {
        RowState::Waiting => (None, None),
        RowState::Claimed(node) => (Some(signed(node.0)), None),
        RowState::Closed(fate) => (None, Some(fate.to_string())),
    };
    let job = row.job.as_str();
    let columns: [&dyn ToSql; 22] = [
        &signed(row.key.incarnation.0),
        &kind_number(row.key.kind),
        &row.key.number,
        &job,
        &millis(row.fire_time),
        &millis(row.last),
        &signed(row.count),
        &signed(row.coalesced),
        &node,
        &fate,
        &signed(row.fence),
        &row.attempt,
        &row.recover,
        &row.started_at.map(millis),
        &row.ended_at.map(millis),
        &row.message,
        &row.recoveries,
        &row.node.map(|node| signed(node.0)),
        &row.due.map(millis),
        &row.requested_by,
        &row.trace_id,
        &claim_number.map(signed).or(fate.as_ref().map(|_| 0)),
    ];
    bind(statement, &columns)
}

/// Returns the parameters of a key.
pub(super) fn key(key: RowKey) -> (i64, i64, i64) {
    (signed(key.incarnation.0), kind_number(key.kind), key.number)
}

fn bind(statement: &mut CachedStatement<'_>, columns: &[&dyn ToSql]) -> rusqlite::Result<()> {
    for (index, column) in columns.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, column)?;
    }
    Ok(())
}

fn count(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u32> {
    // Leaves room to count one more.
    Ok(row.get::<_, i64>(index)?.clamp(0, i64::from(i32::MAX)) as u32)
}

pub(super) fn text(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<String> {
    Ok(optional_text(row, index)?.unwrap_or_default())
}

pub(super) fn optional_text(
    row: &rusqlite::Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(index)? {
        // Nearly all texts are UTF-8, and this check is faster than the lossy conversion.
        ValueRef::Text(bytes) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        }),
        _ => None,
    })
}

fn optional_instant(
    row: &rusqlite::Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<DateTime<Utc>>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(instant))
}
