//! Fates over all jobs, the latest first.

use tokio_postgres::types::Type;

use super::{
    super::latest::{FatesAfter, fate_page, fates_to_read},
    columns::{Parameter, bound, kind_column, row},
    error::Result,
    pool::Session,
};
use crate::store::{FateCursor, FateFilter, FatePage};

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
    if limit == 0 {
        return Ok(FatePage::default());
    }
    let FatesAfter { places, from } = FatesAfter::new(filter, after);
    let kinds = places.map(|(kind, _)| kind_column(kind)).to_vec();
    let ends = places.map(|(_, (ended_at, ..))| ended_at).to_vec();
    let incarnations = places.map(|(_, (_, incarnation, _))| incarnation).to_vec();
    let numbers = places.map(|(_, (.., number))| number).to_vec();
    let count = bound(fates_to_read(filter, limit));
    let parameters: Vec<Parameter<'_>> = vec![
        (&kinds, Type::INT2_ARRAY),
        (&ends, Type::INT8_ARRAY),
        (&incarnations, Type::INT8_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&from, Type::INT8),
        (&count, Type::INT8),
    ];
    let rows = session.query(LATEST, parameters).await?;
    let rows = rows.iter().map(|it| row(it, 0)).collect::<Result<_>>()?;
    Ok(fate_page(rows, filter, limit))
}
