//! The common part of SQL stores: the conversion of instants, numbers and lists to columns.
//!
//! Instants are milliseconds since 1970, and JSON is text. Two columns have the state of a ledger
//! row: `node` is the node that has claimed it, and `fate` is its fate. A row with neither is
//! waiting.

#[cfg(any(feature = "mysql", feature = "postgres"))]
mod latest;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod operation;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod prune;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod scan;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod write;

use chrono::{DateTime, Utc};

#[cfg(feature = "mysql")]
pub use self::mysql::{MySqlBuilder, MySqlStore};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresBuilder, PostgresStore};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteBuilder, SqliteStore, Synchronous};
use super::{Record, RowKind, Tokens};

/// An instant as a column.
fn millis(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_millis()
}

/// The first instant as a column that is not before this one, for bounds that are no whole milliseconds.
fn millis_from(instant: DateTime<Utc>) -> i64 {
    let is_whole = instant.timestamp_subsec_nanos().is_multiple_of(1_000_000);
    millis(instant) + i64::from(!is_whole)
}

/// An instant from a column; out of range, the nearest one.
fn instant(millis: i64) -> DateTime<Utc> {
    let end = if millis < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_millis(millis).unwrap_or(end)
}

/// A number as a column: SQL has no unsigned numbers, so the upper half becomes negative.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// A number from a column.
fn unsigned(column: i64) -> u64 {
    column.cast_unsigned()
}

/// A kind as a column.
fn kind_number(kind: RowKind) -> i64 {
    kind as i64
}

/// A kind from a column, if it is known.
fn kind(number: i64) -> Option<RowKind> {
    [RowKind::Scheduled, RowKind::Requested, RowKind::Ended]
        .into_iter()
        .find(|&kind| kind_number(kind) == number)
}

/// Tags as a column, as JSON.
fn tags_text(tags: &[String]) -> String {
    serde_json::Value::from(tags).to_string()
}

/// Tags from a column; none if another program has written something that is not a list of texts.
fn tags(text: &str) -> Vec<String> {
    match text {
        "[]" => Vec::new(),
        text => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// Tokens as columns: the latest as a number, the earlier ones as a text.
fn tokens_columns(tokens: Tokens) -> (u64, String) {
    let (latest, earlier) = tokens.as_slice().split_first().unwrap_or((&0, &[]));
    let earlier: Vec<String> = earlier.iter().map(|token| format!("{token:x}")).collect();
    (*latest, earlier.join(" "))
}

/// The columns of a record as a JSON document, from which the statement of
/// [`insert_statement`](super::Store::insert_statement) reads them. An absent key is a `NULL`.
fn document(record: &Record) -> String {
    // Destructured, so that a new field causes a compile error here.
    let Record {
        id,
        incarnation,
        version,
        fence,
        requests,
        tokens,
        task,
        args,
        trigger,
        options,
        name,
        tags,
        declared,
        added_at,
        next_fire,
        paused,
        resumed_at,
        taken_to,
        recover,
        recoveries,
        rescheduled_at,
        remember,
        ended_at: _,
        paused_by,
        paused_because,
        extra,
    } = record;
    let (token, earlier_tokens) = tokens_columns(*tokens);
    let document = serde_json::json!({
        "incarnation": signed(incarnation.0),
        "id": id,
        "version": signed(*version),
        "fence": signed(*fence),
        "requests": signed(*requests),
        "token": signed(token),
        "task": task,
        "args": args,
        "trigger": trigger,
        "options": options,
        "name": name,
        "tags": tags_text(tags),
        "declared": declared,
        "added_at": millis(*added_at),
        "next_fire": next_fire.map(millis),
        "paused": i64::from(*paused),
        "resumed_at": resumed_at.map(millis),
        "taken_to": taken_to.map(millis),
        "recover": i64::from(*recover),
        "rescheduled_at": rescheduled_at.map(millis),
        "remember": i64::from(*remember),
        "earlier_tokens": earlier_tokens,
        "recoveries": recoveries,
        "paused_by": paused_by,
        "paused_because": paused_because,
        "extra": extra,
    });
    document.to_string()
}

/// Tokens from columns; invalid ones are left out.
fn tokens(latest: i64, earlier: &str) -> Tokens {
    let earlier = earlier.split(' ').filter_map(|token| u64::from_str_radix(token, 16).ok());
    std::iter::once(unsigned(latest)).chain(earlier).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn columns_are_read_as_they_are_written() {
        for number in [0, 1, u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX] {
            assert_eq!(unsigned(signed(number)), number);
        }
        for count in 1..=Tokens::KEPT as u64 {
            let before: Tokens = (0..count).map(|number| u64::MAX / 2 - number).collect();
            let (latest, earlier) = tokens_columns(before);
            assert_eq!(tokens(signed(latest), &earlier), before);
        }
        for tags_before in [vec![], vec!["a \"b\" \0 ü".to_owned(), String::new()]] {
            assert_eq!(tags(&tags_text(&tags_before)), tags_before);
        }
        for number in -1_i64..4 {
            assert_eq!(kind(number).map(kind_number), Some(number).filter(|n| (0..3).contains(n)));
        }
    }

    #[test]
    fn a_bound_between_milliseconds_is_the_next_of_them() {
        for whole in [-1001, -1, 0, 1, 999, 1000] {
            let at = instant(whole);
            assert_eq!(millis_from(at), whole);
            for nanoseconds in [1, 500_000, 999_999] {
                assert_eq!(millis_from(at + TimeDelta::nanoseconds(nanoseconds)), whole + 1);
            }
        }
        assert_eq!(millis_from(DateTime::<Utc>::MAX_UTC), millis(DateTime::<Utc>::MAX_UTC) + 1);
    }

    #[test]
    fn what_makes_no_sense_is_read_as_the_nearest_that_does() {
        assert_eq!(instant(i64::MIN), DateTime::<Utc>::MIN_UTC);
        assert_eq!(instant(i64::MAX), DateTime::<Utc>::MAX_UTC);
        assert_eq!(tags("{not json"), Vec::<String>::new());
    }
}
