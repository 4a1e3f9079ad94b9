//! How records and rows of the ledger are written into columns, and read from them.
//!
//! Many of them are written at once: a column is an array, which the server unnests.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use tokio_postgres::{
    Row as Columns,
    types::{FromSql, ToSql, Type},
};

use super::{
    super::{
        instant, kind, kind_number, millis, signed, tags, tags_text, tokens, tokens_columns,
        unsigned, write::OpenRows,
    },
    error::Result,
};
use crate::store::{Fate, Incarnation, NodeId, Record, Row, RowKey, RowState};

/// The columns of a record, in the order in which [`record`] reads them.
macro_rules! record_columns {
    ($table:literal) => {
        concat!(
            $table,
            "incarnation, ",
            $table,
            "id, ",
            $table,
            "version, ",
            $table,
            "fence, ",
            $table,
            "requests, ",
            $table,
            "token, ",
            $table,
            "task, ",
            $table,
            "args, ",
            $table,
            "trigger, ",
            $table,
            "options, ",
            $table,
            "name, ",
            $table,
            "tags, ",
            $table,
            "declared, ",
            $table,
            "added_at, ",
            $table,
            "next_fire, ",
            $table,
            "paused, ",
            $table,
            "resumed_at, ",
            $table,
            "taken_to, ",
            $table,
            "recover, ",
            $table,
            "rescheduled_at, ",
            $table,
            "remember, ",
            $table,
            "earlier_tokens, ",
            $table,
            "recoveries, ",
            $table,
            "paused_by, ",
            $table,
            "paused_because, ",
            $table,
            "extra, ",
            $table,
            "ended_at"
        )
    };
}

/// The columns that an open row and a closed one share, some of them replaced.
macro_rules! shared_with {
    ($table:literal, $attempt:expr, $started_at:expr, $ended_at:expr, $message:expr) => {
        concat!(
            $table,
            "incarnation, ",
            $table,
            "kind, ",
            $table,
            "number, ",
            $table,
            "job, ",
            $table,
            "fire_time, ",
            $table,
            "last, ",
            $table,
            "count, ",
            $table,
            "coalesced, ",
            $table,
            "fence, ",
            $attempt,
            ", ",
            $table,
            "recover, ",
            $started_at,
            ", ",
            $ended_at,
            ", ",
            $message,
            ", ",
            $table,
            "recoveries, ",
            $table,
            "last_node, ",
            $table,
            "due, ",
            $table,
            "requested_by, ",
            $table,
            "trace_id"
        )
    };
}

/// The columns that an open row and a closed one share.
macro_rules! shared_columns {
    ($table:literal) => {
        shared_with!(
            $table,
            concat!($table, "attempt"),
            concat!($table, "started_at"),
            concat!($table, "ended_at"),
            concat!($table, "message")
        )
    };
}

/// The columns of an open row, in the order in which [`row`] reads them.
macro_rules! open_columns {
    ($table:literal) => {
        concat!(shared_columns!($table), ", ", $table, "node, NULL::text")
    };
}

/// The columns of a closed row, in the order in which [`row`] reads them.
macro_rules! closed_columns {
    ($table:literal) => {
        concat!(shared_columns!($table), ", NULL::bigint, ", $table, "fate")
    };
}

/// The store's time, in milliseconds: one statement has one time.
macro_rules! now {
    () => {
        "floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
    };
}

/// The parameters `$1` to `$30`: the arrays of [`Records`].
macro_rules! unnest_records {
    () => {
        concat!(
            "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30) AS r(",
            record_columns!(""),
            ", claimed, waiting, asked)"
        )
    };
}

/// The parameters `$1` to `$21`: the arrays of [`Rows`], with the place of each row.
macro_rules! unnest_rows {
    () => {
        concat!(
            "unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21) WITH ORDINALITY AS r(",
            shared_columns!(""),
            ", node, fate, place)"
        )
    };
}

/// The number of columns of a record.
pub(super) const RECORD_COLUMNS: usize = 27;

/// A parameter of a statement.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Reads a record from the columns from `first` on.
pub(super) fn record(row: &Columns, first: usize) -> Result<Record> {
    let get = |index: usize| -> Result<i64> { get(row, first + index) };
    let text = |index: usize| text(row, first + index);
    let optional_text = |index: usize| optional_text(row, first + index);
    let optional_instant = |index: usize| optional_instant(row, first + index);
    let flag = |index: usize| -> Result<bool> { self::get(row, first + index) };
    Ok(Record {
        incarnation: Incarnation(unsigned(get(0)?)),
        id: text(1)?.into(),
        version: unsigned(get(2)?),
        fence: unsigned(get(3)?),
        requests: unsigned(get(4)?),
        tokens: tokens(get(5)?, text(21)?),
        task: text(6)?.into(),
        args: text(7)?.into(),
        trigger: text(8)?.into(),
        options: text(9)?.into(),
        name: optional_text(10)?,
        tags: tags(text(11)?),
        declared: optional_text(12)?,
        added_at: instant(get(13)?),
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
        extra: text(25)?.into(),
        ended_at: optional_instant(26)?,
    })
}

/// Reads a row of the ledger, open or closed, from the columns from `first` on.
pub(super) fn row(row: &Columns, first: usize) -> Result<Row> {
    let number = |index: usize| -> Result<i64> { get(row, first + index) };
    let node: Option<i64> = get(row, first + 19)?;
    let state = match (optional_text(row, first + 20)?, node) {
        (Some(fate), _) => {
            let Ok(fate) = fate.parse::<Fate>();
            RowState::Closed(fate)
        }
        (None, Some(node)) => RowState::Claimed(NodeId(unsigned(node))),
        (None, None) => RowState::Waiting,
    };
    Ok(Row {
        key: key(row, first)?,
        job: text(row, first + 3)?.into(),
        fire_time: instant(number(4)?),
        last: instant(number(5)?),
        count: unsigned(number(6)?),
        coalesced: unsigned(number(7)?),
        state,
        fence: unsigned(number(8)?),
        attempt: count(row, first + 9)?,
        recover: get(row, first + 10)?,
        started_at: optional_instant(row, first + 11)?,
        ended_at: optional_instant(row, first + 12)?,
        message: optional_text(row, first + 13)?,
        recoveries: count(row, first + 14)?,
        node: get::<Option<i64>>(row, first + 15)?.map(|node| NodeId(unsigned(node))),
        due: optional_instant(row, first + 16)?,
        requested_by: optional_text(row, first + 17)?,
        trace_id: optional_text(row, first + 18)?,
    })
}

/// Reads a key from three columns from `first` on.
pub(super) fn key(row: &Columns, first: usize) -> Result<RowKey> {
    let incarnation = Incarnation(unsigned(get(row, first)?));
    let number: i16 = get(row, first + 1)?;
    // The table has no other kinds.
    let kind = kind(i64::from(number)).unwrap_or(crate::store::RowKind::Ended);
    Ok(RowKey { incarnation, kind, number: get(row, first + 2)? })
}

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Columns, index: usize) -> Result<T> {
    Ok(row.try_get(index)?)
}

fn text(row: &Columns, index: usize) -> Result<&str> {
    Ok(row.try_get(index)?)
}

pub(super) fn optional_text(row: &Columns, index: usize) -> Result<Option<String>> {
    Ok(row.try_get(index)?)
}

pub(super) fn optional_instant(row: &Columns, index: usize) -> Result<Option<DateTime<Utc>>> {
    Ok(row.try_get::<_, Option<i64>>(index)?.map(instant))
}

fn count(row: &Columns, index: usize) -> Result<u32> {
    // So that one more can be counted.
    Ok(row.try_get::<_, i32>(index)?.clamp(0, i32::MAX) as u32)
}

/// A text without NUL, which PostgreSQL does not take.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

fn clean_owned(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

/// A kind as a column.
pub(super) fn kind_column(kind: crate::store::RowKind) -> i16 {
    kind_number(kind) as i16
}

/// A limit as a parameter.
pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Defines arrays of columns, of many values of one type.
macro_rules! arrays {
    (
        $(#[$doc:meta])*
        $name:ident<$life:lifetime> of $value:ty as $it:ident:
        $($column:ident: $type:ty, $sql:ident = $expression:expr;)*
    ) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<$life> {
            $($column: Vec<$type>,)*
            lives: std::marker::PhantomData<&$life ()>,
        }

        impl<$life> $name<$life> {
            pub(super) fn of(values: impl IntoIterator<Item = $value>) -> $name<$life> {
                let mut all = $name::default();
                for $it in values {
                    $(all.$column.push($expression);)*
                }
                all
            }

            pub(super) fn parameters(&self) -> impl Iterator<Item = Parameter<'_>> {
                [$((&self.$column as _, Type::$sql)),*].into_iter()
            }
        }
    };
}

arrays! {
    /// The columns of records in order, and the counts of their open rows.
    Records<'a> of &'a (Record, OpenRows) as it:
    incarnation: i64, INT8_ARRAY = signed(it.0.incarnation.0);
    id: Cow<'a, str>, TEXT_ARRAY = clean_owned(it.0.id.as_str());
    version: i64, INT8_ARRAY = signed(it.0.version);
    fence: i64, INT8_ARRAY = signed(it.0.fence);
    requests: i64, INT8_ARRAY = signed(it.0.requests);
    token: i64, INT8_ARRAY = signed(tokens_columns(it.0.tokens).0);
    task: Cow<'a, str>, TEXT_ARRAY = clean(&it.0.task);
    args: Cow<'a, str>, TEXT_ARRAY = clean(&it.0.args);
    trigger: Cow<'a, str>, TEXT_ARRAY = clean(&it.0.trigger);
    options: Cow<'a, str>, TEXT_ARRAY = clean(&it.0.options);
    name: Option<Cow<'a, str>>, TEXT_ARRAY = it.0.name.as_deref().map(clean);
    tags: Cow<'a, str>, TEXT_ARRAY = match it.0.tags.is_empty() {
        true => "[]".into(),
        false => tags_text(&it.0.tags).into(),
    };
    declared: Option<Cow<'a, str>>, TEXT_ARRAY = it.0.declared.as_deref().map(clean);
    added_at: i64, INT8_ARRAY = millis(it.0.added_at);
    next_fire: Option<i64>, INT8_ARRAY = it.0.next_fire.map(millis);
    paused: bool, BOOL_ARRAY = it.0.paused;
    resumed_at: Option<i64>, INT8_ARRAY = it.0.resumed_at.map(millis);
    taken_to: Option<i64>, INT8_ARRAY = it.0.taken_to.map(millis);
    recover: bool, BOOL_ARRAY = it.0.recover;
    rescheduled_at: Option<i64>, INT8_ARRAY = it.0.rescheduled_at.map(millis);
    remember: bool, BOOL_ARRAY = it.0.remember;
    earlier_tokens: String, TEXT_ARRAY = tokens_columns(it.0.tokens).1;
    recoveries: i32, INT4_ARRAY = small(it.0.recoveries);
    paused_by: Option<Cow<'a, str>>, TEXT_ARRAY = it.0.paused_by.as_deref().map(clean);
    paused_because: Option<Cow<'a, str>>, TEXT_ARRAY = it.0.paused_because.as_deref().map(clean);
    extra: Cow<'a, str>, TEXT_ARRAY = clean(&it.0.extra);
    ended_at: Option<i64>, INT8_ARRAY = it.0.ended_at.map(millis);
    claimed: i32, INT4_ARRAY = it.1.claimed;
    waiting: i32, INT4_ARRAY = it.1.waiting;
    asked: i32, INT4_ARRAY = it.1.asked;
}

arrays! {
    /// The columns of rows that have just been decided: those that open and closed rows share, and
    /// then the node that claims, and the fate.
    Rows<'a> of &'a Row as it:
    incarnation: i64, INT8_ARRAY = signed(it.key.incarnation.0);
    kind: i16, INT2_ARRAY = kind_column(it.key.kind);
    number: i64, INT8_ARRAY = it.key.number;
    job: Cow<'a, str>, TEXT_ARRAY = clean_owned(it.job.as_str());
    fire_time: i64, INT8_ARRAY = millis(it.fire_time);
    last: i64, INT8_ARRAY = millis(it.last);
    count: i64, INT8_ARRAY = signed(it.count);
    coalesced: i64, INT8_ARRAY = signed(it.coalesced);
    fence: i64, INT8_ARRAY = signed(it.fence);
    attempt: i32, INT4_ARRAY = small(it.attempt);
    recover: bool, BOOL_ARRAY = it.recover;
    started_at: Option<i64>, INT8_ARRAY = it.started_at.map(millis);
    ended_at: Option<i64>, INT8_ARRAY = it.ended_at.map(millis);
    message: Option<Cow<'a, str>>, TEXT_ARRAY = it.message.as_deref().map(clean);
    recoveries: i32, INT4_ARRAY = small(it.recoveries);
    last_node: Option<i64>, INT8_ARRAY = it.node.map(|node| signed(node.0));
    due: Option<i64>, INT8_ARRAY = it.due.map(millis);
    requested_by: Option<Cow<'a, str>>, TEXT_ARRAY = it.requested_by.as_deref().map(clean);
    trace_id: Option<Cow<'a, str>>, TEXT_ARRAY = it.trace_id.as_deref().map(clean);
    node: Option<i64>, INT8_ARRAY = match it.state {
        RowState::Claimed(node) => Some(signed(node.0)),
        RowState::Waiting | RowState::Closed(_) => None,
    };
    fate: Option<String>, TEXT_ARRAY = match &it.state {
        RowState::Closed(fate) => Some(clean(&fate.to_string()).into_owned()),
        RowState::Waiting | RowState::Claimed(_) => None,
    };
}

arrays! {
    /// The columns of keys.
    Keys<'a> of &'a RowKey as it:
    incarnation: i64, INT8_ARRAY = signed(it.incarnation.0);
    kind: i16, INT2_ARRAY = kind_column(it.kind);
    number: i64, INT8_ARRAY = it.number;
}
