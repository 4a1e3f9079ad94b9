//! Fates over all jobs, the latest first.

use super::{
    super::{
        kind_number,
        latest::{FatesAfter, fate_page, fates_to_read},
    },
    columns::{CLOSED, ROW},
    error::Result,
    ledger,
    pool::Session,
};
use crate::store::{FateCursor, FateFilter, FatePage};

/// A page of those that pass the filter: each kind is in order in the index, and the three are merged.
pub(super) async fn page(
    session: &mut Session<'_>,
    filter: &FateFilter,
    after: Option<FateCursor>,
    limit: usize,
) -> Result<FatePage> {
    if limit == 0 {
        return Ok(FatePage::default());
    }
    let table = &session.tables().ledger;
    let FatesAfter { places, from } = FatesAfter::new(filter, after);
    let size = fates_to_read(filter, limit);
    let selects = places.map(|(kind, (at, of, number))| {
        format!(
            "(SELECT {ROW}, {CLOSED} FROM {table} WHERE kind = {} AND ended_at >= {from} \
             AND (ended_at < {at} OR (ended_at = {at} AND incarnation < {of}) \
                OR (ended_at = {at} AND incarnation = {of} AND number < {number})) \
             ORDER BY ended_at DESC, incarnation DESC, number DESC LIMIT {size})",
            kind_number(kind)
        )
    });
    let sql = format!(
        "SELECT * FROM ({}) AS every_row \
         ORDER BY ended_at DESC, kind DESC, incarnation DESC, number DESC LIMIT {size}",
        selects.join(" UNION ALL ")
    );
    let rows = ledger::read(&session.run(&sql).await?)?;
    Ok(fate_page(rows, filter, limit))
}
