//! Fates over all jobs, the latest first.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use super::{
    super::{instant, millis_from, signed},
    columns::{Parameter, kind_column, row},
    error::Result,
    pool::Session,
};
use crate::store::{FateCursor, FateFilter, FatePage, RowKind};

/// How many rows that do not pass one page scans.
const SCANNED: usize = 1000;

/// Closed rows behind a place, the latest to end first: each kind is in order in the index, and the
/// three are merged.
const LATEST: &str = concat!(
    "SELECT l.* FROM unnest($1, $2, $3, $4) AS k(kind, ended_at, incarnation, number) \
     CROSS JOIN LATERAL (SELECT ",
    closed_columns!("l."),
    " FROM punctual_ledger AS l WHERE l.ended_at IS NOT NULL AND l.kind = k.kind \
        AND (l.ended_at, l.incarnation, l.number) < (k.ended_at, k.incarnation, k.number) \
        AND l.ended_at >= $5 \
        ORDER BY l.ended_at DESC, l.incarnation DESC, l.number DESC LIMIT $6) AS l \
     ORDER BY l.ended_at DESC, l.kind DESC, l.incarnation DESC, l.number DESC LIMIT $6"
);

/// A page of those that pass the filter.
pub(super) async fn page(
    session: &Session<'_>,
    filter: &FateFilter,
    after: Option<FateCursor>,
    limit: usize,
) -> Result<FatePage> {
    let mut page = FatePage::default();
    if limit == 0 {
        return Ok(page);
    }
    // What ended at no instant that can be told is in no page.
    let from = millis_from(filter.from.unwrap_or(DateTime::<Utc>::MIN_UTC));
    let until = millis_from(filter.until.unwrap_or(DateTime::<Utc>::MAX_UTC));
    let until = (until, i64::MIN, i64::MIN);
    let (mut kinds, mut ends) = (Vec::new(), Vec::new());
    let (mut incarnations, mut numbers) = (Vec::new(), Vec::new());
    for kind in [RowKind::Scheduled, RowKind::Requested, RowKind::Ended] {
        let (ended_at, incarnation, number) = after.map_or(until, |it| place(kind, it).min(until));
        kinds.push(kind_column(kind));
        ends.push(ended_at);
        incarnations.push(incarnation);
        numbers.push(number);
    }
    let selects = filter.job.is_some() || filter.fate.is_some() || filter.node.is_some();
    let size = if selects { SCANNED } else { SCANNED.min(limit) };
    let count = size as i64;
    let parameters: Vec<Parameter<'_>> = vec![
        (&kinds, Type::INT2_ARRAY),
        (&ends, Type::INT8_ARRAY),
        (&incarnations, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&from, Type::INT8),
        (&count, Type::INT8),
    ];
    let rows = session.query(LATEST, parameters).await?;
    for (scanned, it) in (1..).zip(&rows) {
        let row = row(it, 0)?;
        let place = FateCursor::at(&row);
        if filter.passes(&row) {
            page.rows.push(row);
        }
        if page.rows.len() >= limit || scanned == size {
            page.next = place;
            break;
        }
    }
    Ok(page)
}

/// Where the rows of a kind continue behind a row of any kind: at the same instant, later kinds come
/// first.
fn place(kind: RowKind, after: FateCursor) -> (i64, i64, i64) {
    let ended_at = millis_from(after.ended_at);
    if instant(ended_at) != after.ended_at {
        // Nothing ends between milliseconds: all that ended before is behind it.
        return (ended_at, i64::MIN, i64::MIN);
    }
    match kind.cmp(&after.key.kind) {
        std::cmp::Ordering::Less => (ended_at, i64::MAX, i64::MAX),
        std::cmp::Ordering::Equal => (ended_at, signed(after.key.incarnation.0), after.key.number),
        std::cmp::Ordering::Greater => (ended_at, i64::MIN, i64::MIN),
    }
}
