//! Fates over all jobs, the latest first.

use chrono::{DateTime, Utc};
use rusqlite::Rows;

use super::{
    columns::{row, row_columns},
    error::Result,
    session::Session,
};
use crate::store::{
    FateCursor, FateFilter, FatePage, Row, RowKind,
    sql::{instant, kind_number, millis_from, signed},
};

/// How many rows that do not pass one page scans at most, so that other operations get a turn.
const MAX_SCANNED: usize = 1000;

/// Closed rows of a kind after a position, the latest end first.
const LATEST: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_closed \
     WHERE ended_at IS NOT NULL AND fate IS NOT NULL AND kind = ?1 AND (ended_at, incarnation, number) < (?2, ?3, ?4) \
     AND ended_at >= ?5 ORDER BY ended_at DESC, incarnation DESC, number DESC"
);

/// Returns a page of the rows that pass the filter.
pub(super) fn page(
    session: &Session,
    filter: &FateFilter,
    after: Option<FateCursor>,
    limit: usize,
) -> Result<FatePage> {
    if limit == 0 {
        return Ok(FatePage::default());
    }
    // The index has each kind in order: merge the three.
    let kinds = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];
    let mut statements =
        kinds.iter().map(|_| session.prepare(LATEST)).collect::<Result<Vec<_>>>()?;
    // Rows that ended at an instant out of range are in no page.
    let from = millis_from(filter.from.unwrap_or(DateTime::<Utc>::MIN_UTC));
    let until = millis_from(filter.until.unwrap_or(DateTime::<Utc>::MAX_UTC));
    let until = (until, i64::MIN, i64::MIN);
    let mut heads = Vec::new();
    for (kind, statement) in kinds.into_iter().zip(&mut statements) {
        let (ended_at, incarnation, number) = after.map_or(until, |it| place(kind, it).min(until));
        let parameters = (kind_number(kind), ended_at, incarnation, number, from);
        let mut rows = statement.query(parameters)?;
        heads.push((next(&mut rows)?, rows));
    }
    let (mut page, mut scanned) = (FatePage::default(), 0);
    while let Some((head, rows)) = heads
        .iter_mut()
        .filter(|(head, _)| head.is_some())
        .min_by_key(|(head, _)| head.as_ref().map(FateCursor::place))
    {
        let Some(row) = std::mem::replace(head, next(rows)?) else { break };
        scanned += 1;
        let place = FateCursor::at(&row);
        if filter.passes(&row) {
            page.rows.push(row);
        }
        if page.rows.len() >= limit || scanned == MAX_SCANNED {
            page.next = place;
            break;
        }
    }
    Ok(page)
}

/// Returns where the rows of a kind continue after a row of any kind: of one instant, later kinds
/// come first.
fn place(kind: RowKind, after: FateCursor) -> (i64, i64, i64) {
    let ended_at = millis_from(after.ended_at);
    if after.ended_at != instant(ended_at) {
        // Nothing ends between milliseconds: all that ended before is behind it.
        return (ended_at, i64::MIN, i64::MIN);
    }
    match kind.cmp(&after.key.kind) {
        std::cmp::Ordering::Less => (ended_at, i64::MAX, i64::MAX),
        std::cmp::Ordering::Equal => (ended_at, signed(after.key.incarnation.0), after.key.number),
        std::cmp::Ordering::Greater => (ended_at, i64::MIN, i64::MIN),
    }
}

fn next(rows: &mut Rows<'_>) -> Result<Option<Row>> {
    Ok(match rows.next()? {
        Some(columns) => row(columns)?,
        None => None,
    })
}

/// All statements, for a check of their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[LATEST];
