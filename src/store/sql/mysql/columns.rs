//! How records and rows of the ledger are written into SQL, and read from columns.
//!
//! Statements have their values in them: several are sent at once, which takes one round trip, and a
//! prepared statement can't be one of several.

use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, Utc};
use mysql_async::{FromValueError, Row as Columns, prelude::FromValue};

use super::{
    super::{
        instant, kind, kind_number, millis, signed, tags, tags_text, tokens, tokens_columns,
        unsigned, write::OpenRows,
    },
    error::{MySqlError, Result},
};
use crate::store::{Fate, Incarnation, NodeId, Record, Row, RowKey, RowKind, RowState};

/// The columns of a record, in the order in which [`record`] reads them.
pub(super) const RECORD: &str = "incarnation, id, version, fence, requests, token, task, args, \
     `trigger`, options, name, tags, declared, added_at, next_fire, paused, resumed_at, taken_to, \
     recover, rescheduled_at, remember, earlier_tokens, recoveries, paused_by, paused_because, \
     extra, ended_at";

/// The number of columns of a record.
pub(super) const RECORD_COLUMNS: usize = 27;

/// The columns that an open row and a closed one share.
pub(super) const ROW: &str = "incarnation, kind, number, job, fire_time, last, count, coalesced, \
     fence, attempt, recover, started_at, ended_at, message, recoveries, last_node, due, \
     requested_by, trace_id";

/// What an open row has behind them, in the order in which [`row`] reads them.
pub(super) const OPEN: &str = "node, NULL AS fate";

/// The same of a closed row.
pub(super) const CLOSED: &str = "NULL AS node, fate";

/// The store's time, in milliseconds: one statement has one time, in whatever zone its session is.
pub(super) const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000";

/// A text in SQL. It has no need of a mode for quotes or of a character set.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'\'' && byte != b'\\';
        if self.0.bytes().all(is_plain) {
            return write!(f, "'{}'", self.0);
        }
        f.write_str("_utf8mb4 x'")?;
        for byte in self.0.bytes() {
            let digit = |number: u8| char::from_digit(number.into(), 16).unwrap_or('0');
            write!(f, "{}{}", digit(byte >> 4), digit(byte & 15))?;
        }
        f.write_str("'")
    }
}

/// A value in SQL or in JSON, which may be none.
pub(super) struct OrNull<T>(pub(super) Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Values with commas in between, in SQL or in JSON.
pub(super) struct List<I>(pub(super) I);

impl<I: IntoIterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.clone().into_iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            value.fmt(f)?;
        }
        Ok(())
    }
}

/// Rows of numbers as a table `r` of these columns, in the order of the rows.
struct Numbers<'a, const N: usize> {
    columns: [&'a str; N],
    rows: &'a [[Option<i64>; N]],
}

impl<const N: usize> Display for Numbers<'_, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("JSON_TABLE('[")?;
        for (index, row) in self.rows.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            write!(f, "{separator}[{}]", List(row.map(OrNull).iter()))?;
        }
        f.write_str("]', '$[*]' COLUMNS(")?;
        for (index, column) in self.columns.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{column} BIGINT PATH '$[{index}]'")?;
        }
        f.write_str(")) AS r")
    }
}

/// Incarnations as rows of a table.
pub(super) fn incarnations(of: impl IntoIterator<Item = Incarnation>) -> Vec<[Option<i64>; 1]> {
    let mut of: Vec<_> = of.into_iter().map(|of| [Some(signed(of.0))]).collect();
    // In one order, in which all operations lock them.
    of.sort_unstable();
    of.dedup();
    of
}

/// Keys as rows of a table.
pub(super) fn keys<'a>(keys: impl IntoIterator<Item = &'a RowKey>) -> Vec<[Option<i64>; 3]> {
    let column = |key: &RowKey| {
        [Some(signed(key.incarnation.0)), Some(kind_number(key.kind)), Some(key.number)]
    };
    let mut keys: Vec<_> = keys.into_iter().map(column).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What is joined: a table `r` of numbers, whose first column is `r_of`, and the rows `t` of a table with
/// these incarnations.
///
/// Each is looked up by its key, however small the table is: a scan would wait for rows that somebody else
/// has locked.
pub(super) fn joined<const N: usize>(
    columns: [&str; N],
    rows: &[[Option<i64>; N]],
    table: &str,
) -> String {
    let numbers = Numbers { columns, rows };
    format!("{numbers} STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) ON t.incarnation = r_of")
}

/// The same of these incarnations.
pub(super) fn by_incarnation(of: &[[Option<i64>; 1]], table: &str) -> String {
    joined(["r_of"], of, table)
}

/// The same of these keys.
pub(super) fn by_key(keys: &[[Option<i64>; 3]], table: &str) -> String {
    let joined = joined(["r_of", "r_kind", "r_number"], keys, table);
    format!("{joined} AND t.kind = r_kind AND t.number = r_number")
}

/// A record as the values of its [columns](RECORD) and of the counts of its open rows.
pub(super) struct RecordValues<'a>(pub(super) &'a Record, pub(super) OpenRows);

impl Display for RecordValues<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let RecordValues(it, open) = self;
        let (token, earlier) = tokens_columns(it.tokens);
        let text = |text: &Option<String>| OrNullText(text.clone());
        let at = |at: Option<DateTime<Utc>>| OrNull(at.map(millis));
        write!(
            f,
            "({}, {}, {}, {}, {}, {}, {}, {}, ",
            signed(it.incarnation.0),
            Text(&it.id.as_str()),
            signed(it.version),
            signed(it.fence),
            signed(it.requests),
            signed(token),
            Text(&it.task),
            Text(&it.args),
        )?;
        write!(
            f,
            "{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, ",
            Text(&it.trigger),
            Text(&it.options),
            text(&it.name),
            Text(&tags_text(&it.tags)),
            text(&it.declared),
            millis(it.added_at),
            at(it.next_fire),
            it.paused,
            at(it.resumed_at),
            at(it.taken_to),
        )?;
        write!(
            f,
            "{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {})",
            it.recover,
            at(it.rescheduled_at),
            it.remember,
            Text(&earlier),
            small(it.recoveries),
            text(&it.paused_by),
            text(&it.paused_because),
            Text(&it.extra),
            at(it.ended_at),
            open.claimed,
            open.waiting,
            open.asked,
        )
    }
}

struct OrNullText(Option<String>);

impl Display for OrNullText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        OrNull(self.0.as_deref().map(Text)).fmt(f)
    }
}

/// A row of the ledger as the values of its [columns](ROW), without parentheses.
pub(super) struct RowValues<'a>(pub(super) &'a Row);

impl Display for RowValues<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let it = self.0;
        let text = |text: &Option<String>| OrNullText(text.clone());
        let at = |at: Option<DateTime<Utc>>| OrNull(at.map(millis));
        write!(
            f,
            "{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}",
            signed(it.key.incarnation.0),
            kind_number(it.key.kind),
            it.key.number,
            Text(&it.job.as_str()),
            millis(it.fire_time),
            millis(it.last),
            signed(it.count),
            signed(it.coalesced),
            signed(it.fence),
            small(it.attempt),
            it.recover,
            at(it.started_at),
            at(it.ended_at),
            text(&it.message),
            small(it.recoveries),
            OrNull(it.node.map(|node| signed(node.0))),
            at(it.due),
            text(&it.requested_by),
            text(&it.trace_id),
        )
    }
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Reads a record from the columns from `first` on.
pub(super) fn record(row: &Columns, first: usize) -> Result<Record> {
    let number = |index: usize| -> Result<i64> { get(row, first + index) };
    let text = |index: usize| text(row, first + index);
    let optional_text = |index: usize| optional_text(row, first + index);
    let optional_instant = |index: usize| optional_instant(row, first + index);
    let flag = |index: usize| -> Result<bool> { get(row, first + index) };
    Ok(Record {
        incarnation: Incarnation(unsigned(number(0)?)),
        id: text(1)?.into(),
        version: unsigned(number(2)?),
        fence: unsigned(number(3)?),
        requests: unsigned(number(4)?),
        tokens: tokens(number(5)?, &text(21)?),
        task: text(6)?,
        args: text(7)?,
        trigger: text(8)?,
        options: text(9)?,
        name: optional_text(10)?,
        tags: tags(&text(11)?),
        declared: optional_text(12)?,
        added_at: instant(number(13)?),
        next_fire: optional_instant(14)?,
        paused: flag(15)?,
        resumed_at: optional_instant(16)?,
        taken_to: optional_instant(17)?,
        recover: flag(18)?,
        rescheduled_at: optional_instant(19)?,
        remember: flag(20)?,
        recoveries: count(row, first + 22)?,
        paused_by: optional_text(23)?,
        paused_because: optional_text(24)?,
        extra: text(25)?,
        ended_at: optional_instant(26)?,
    })
}

/// Reads the counts of open rows from three columns from `first` on.
pub(super) fn open_rows(row: &Columns, first: usize) -> Result<OpenRows> {
    let count = |index: usize| get(row, first + index);
    Ok(OpenRows { claimed: count(0)?, waiting: count(1)?, asked: count(2)? })
}

/// Reads a row of the ledger, open or closed.
pub(super) fn row(row: &Columns) -> Result<Row> {
    let number = |index: usize| -> Result<i64> { get(row, index) };
    let node: Option<i64> = get(row, 19)?;
    let state = match (optional_text(row, 20)?, node) {
        (Some(fate), _) => {
            let Ok(fate) = fate.parse::<Fate>();
            RowState::Closed(fate)
        }
        (None, Some(node)) => RowState::Claimed(NodeId(unsigned(node))),
        (None, None) => RowState::Waiting,
    };
    Ok(Row {
        key: key(row, 0)?,
        job: text(row, 3)?.into(),
        fire_time: instant(number(4)?),
        last: instant(number(5)?),
        count: unsigned(number(6)?),
        coalesced: unsigned(number(7)?),
        state,
        fence: unsigned(number(8)?),
        attempt: count(row, 9)?,
        recover: get(row, 10)?,
        started_at: optional_instant(row, 11)?,
        ended_at: optional_instant(row, 12)?,
        message: optional_text(row, 13)?,
        recoveries: count(row, 14)?,
        node: get::<Option<i64>>(row, 15)?.map(|node| NodeId(unsigned(node))),
        due: optional_instant(row, 16)?,
        requested_by: optional_text(row, 17)?,
        trace_id: optional_text(row, 18)?,
    })
}

/// Reads a key from three columns from `first` on.
pub(super) fn key(row: &Columns, first: usize) -> Result<RowKey> {
    let incarnation = Incarnation(unsigned(get(row, first)?));
    // The table has no other kinds.
    let kind = kind(get(row, first + 1)?).unwrap_or(RowKind::Ended);
    Ok(RowKey { incarnation, kind, number: get(row, first + 2)? })
}

pub(super) fn get<T: FromValue>(row: &Columns, index: usize) -> Result<T> {
    let value = row.get_opt(index);
    value.unwrap_or(Err(FromValueError(mysql_async::Value::NULL))).map_err(|_| MySqlError::Columns)
}

pub(super) fn text(row: &Columns, index: usize) -> Result<String> {
    optional_text(row, index)?.ok_or(MySqlError::Columns)
}

pub(super) fn optional_text(row: &Columns, index: usize) -> Result<Option<String>> {
    get(row, index)
}

pub(super) fn optional_instant(row: &Columns, index: usize) -> Result<Option<DateTime<Utc>>> {
    Ok(get::<Option<i64>>(row, index)?.map(instant))
}

fn count(row: &Columns, index: usize) -> Result<u32> {
    // So that one more can be counted.
    Ok(get::<i32>(row, index)?.clamp(0, i32::MAX) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_unless_they_would_end_the_quotes() {
        assert_eq!(Text("a \"b\" {c}").to_string(), "'a \"b\" {c}'");
        assert_eq!(Text("").to_string(), "''");
        assert_eq!(Text("it's").to_string(), "_utf8mb4 x'69742773'");
        assert_eq!(Text("a\\").to_string(), "_utf8mb4 x'615c'");
        assert_eq!(Text("\0ü\n").to_string(), "_utf8mb4 x'00c3bc0a'");
    }

    #[test]
    fn numbers_are_a_table() {
        let rows = [[Some(1), None], [Some(i64::MIN), Some(2)]];
        let table = Numbers { columns: ["a", "b"], rows: &rows };
        assert_eq!(
            table.to_string(),
            "JSON_TABLE('[[1,null],[-9223372036854775808,2]]', '$[*]' COLUMNS(a BIGINT PATH '$[0]', \
             b BIGINT PATH '$[1]')) AS r"
        );
    }
}
