//! What of the ledger need not be kept, and is deleted.

use chrono::{DateTime, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    super::{
        latest::Place,
        millis_from,
        prune::{self, ClosedRows},
    },
    actions,
    columns::{Parameter, bound, get, kind_column},
    error::{PostgresError, Result},
    jobs,
    pool::Session,
};
use crate::store::{Keep, PruneReport, RowKind};

/// The next closed rows of a kind that ended before, the oldest first.
const CLOSED: &str = "SELECT ended_at, incarnation, number FROM punctual_ledger \
     WHERE ended_at IS NOT NULL AND kind = $1 AND (ended_at, incarnation, number) > ($2, $3, $4) \
     AND ended_at < $5 ORDER BY ended_at, incarnation, number LIMIT $6";

/// The number of closed rows, up to a maximum.
const COUNT: &str = "SELECT count(*) FROM (SELECT FROM punctual_ledger LIMIT $1) AS l";

/// The number of closed rows by the server's own statistics, which are late, and lost in a crash.
const ESTIMATE: &str = "SELECT greatest(reltuples::bigint, pg_stat_get_live_tuples(oid), 0) \
     FROM pg_class WHERE oid = $1::regclass";

const DELETE: &str = "DELETE FROM punctual_ledger AS l \
     USING unnest($1, $2, $3) AS k(incarnation, kind, number) \
     WHERE l.incarnation = k.incarnation AND l.kind = k.kind AND l.number = k.number";

/// Of the rows of these jobs and this kind, up to so many that are closed before.
const OF_JOBS: &str = "SELECT l.ended_at, l.incarnation, l.number FROM unnest($1) AS j(incarnation) \
     CROSS JOIN LATERAL (SELECT l.ended_at, l.incarnation, l.number FROM punctual_ledger AS l \
        WHERE l.incarnation = j.incarnation AND l.kind = $2 AND l.ended_at < $3 \
        ORDER BY l.number LIMIT $4) AS l LIMIT $4";

/// The same of those that are more than so many, the newest left out.
const TOO_MANY: &str = "SELECT l.ended_at, l.incarnation, l.number FROM unnest($1) AS j(incarnation) \
     CROSS JOIN LATERAL (SELECT n.number FROM punctual_ledger AS n \
        WHERE n.incarnation = j.incarnation AND n.kind = $2 \
        ORDER BY n.number DESC LIMIT 1 OFFSET $5) AS newest \
     CROSS JOIN LATERAL (SELECT l.ended_at, l.incarnation, l.number FROM punctual_ledger AS l \
        WHERE l.incarnation = j.incarnation AND l.kind = $2 AND l.number <= newest.number \
        AND l.ended_at < $3 ORDER BY l.number LIMIT $4) AS l LIMIT $4";

const LOOKED_TO: &str = "SELECT ended_at, incarnation, number FROM punctual_pruned WHERE kind = $1";

const SET_LOOKED_TO: &str = "INSERT INTO punctual_pruned (kind, ended_at, incarnation, number) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (kind) DO UPDATE SET ended_at = EXCLUDED.ended_at, \
     incarnation = EXCLUDED.incarnation, number = EXCLUDED.number";

/// Deletes remembered ends that are too old, or too many.
const FORGET: &str = "DELETE FROM punctual_jobs WHERE incarnation = ANY(ARRAY(\
     SELECT incarnation FROM punctual_jobs WHERE ended_at IS NOT NULL AND (ended_at < $1 \
        OR (ended_at, incarnation) <= (SELECT ended_at, incarnation FROM punctual_jobs \
            WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, incarnation DESC LIMIT 1 OFFSET $2)) \
     ORDER BY ended_at, incarnation LIMIT $3)) AND ended_at IS NOT NULL RETURNING incarnation";

pub(super) async fn prune(session: &Session<'_>, keep: Keep, limit: usize) -> Result<PruneReport> {
    let now = jobs::time(session).await?;
    let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(now);
    let forgotten = forget(session, oldest, limit).await?;
    let actions = actions::prune(session, now, limit).await?;
    let report = prune::prune(Closed(session), keep, limit, now).await?;
    let more = report.more || forgotten == limit || actions == limit;
    Ok(PruneReport { forgotten: forgotten as u64, more, ..report })
}

async fn forget(session: &Session<'_>, oldest: DateTime<Utc>, limit: usize) -> Result<usize> {
    let (oldest, most, limit) = (millis_from(oldest), Keep::MOST_ENDED as i64, bound(limit));
    let parameters: Vec<Parameter<'_>> =
        vec![(&oldest, Type::INT8), (&most, Type::INT8), (&limit, Type::INT8)];
    Ok(session.query(FORGET, parameters).await?.len())
}

struct Closed<'a>(&'a Session<'a>);

impl ClosedRows for Closed<'_> {
    type Error = PostgresError;

    async fn page(
        &mut self,
        kind: RowKind,
        (ended_at, incarnation, number): Place,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let (kind, before, limit) = (kind_column(kind), millis_from(before), bound(limit));
        let parameters: Vec<Parameter<'_>> = vec![
            (&kind, Type::INT2),
            (&ended_at, Type::INT8),
            (&incarnation, Type::INT8),
            (&number, Type::INT8),
            (&before, Type::INT8),
            (&limit, Type::INT8),
        ];
        places(&self.0.query(CLOSED, parameters).await?)
    }

    async fn of_jobs(
        &mut self,
        jobs: &[i64],
        kind: RowKind,
        most: Option<u32>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let (kind, limit) = (kind_column(kind), bound(limit));
        let most = most.map(i64::from);
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&jobs, Type::INT8_ARRAY),
            (&kind, Type::INT2),
            (&before, Type::INT8),
            (&limit, Type::INT8),
        ];
        let select = match &most {
            Some(most) => {
                parameters.push((most, Type::INT8));
                TOO_MANY
            }
            None => OF_JOBS,
        };
        places(&self.0.query(select, parameters).await?)
    }

    async fn delete(&mut self, kind: RowKind, rows: &[Place]) -> Result<()> {
        let incarnations: Vec<i64> = rows.iter().map(|&(_, incarnation, _)| incarnation).collect();
        let kinds = vec![kind_column(kind); rows.len()];
        let numbers: Vec<i64> = rows.iter().map(|&(.., number)| number).collect();
        let parameters: Vec<Parameter<'_>> = vec![
            (&incarnations, Type::INT8_ARRAY),
            (&kinds, Type::INT2_ARRAY),
            (&numbers, Type::INT8_ARRAY),
        ];
        self.0.query(DELETE, parameters).await?;
        Ok(())
    }

    async fn looked_to(&mut self, kind: RowKind) -> Result<Option<Place>> {
        let kind = kind_column(kind);
        let rows = self.0.query(LOOKED_TO, vec![(&kind, Type::INT2)]).await?;
        Ok(places(&rows)?.first().copied())
    }

    async fn set_looked_to(
        &mut self,
        kind: RowKind,
        (ended_at, incarnation, number): Place,
    ) -> Result<()> {
        let kind = kind_column(kind);
        let parameters: Vec<Parameter<'_>> = vec![
            (&kind, Type::INT2),
            (&ended_at, Type::INT8),
            (&incarnation, Type::INT8),
            (&number, Type::INT8),
        ];
        self.0.query(SET_LOOKED_TO, parameters).await?;
        Ok(())
    }

    async fn count(&mut self, most: u64) -> Result<u64> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.0.query(COUNT, vec![(&most, Type::INT8)]).await?;
        rows.first().map_or(Ok(0), |row| Ok(get::<i64>(row, 0)?.unsigned_abs()))
    }

    async fn estimate(&mut self) -> Result<u64> {
        let ledger = self.0.named("punctual_ledger").into_owned();
        let rows = self.0.query(ESTIMATE, vec![(&ledger, Type::TEXT)]).await?;
        rows.first().map_or(Ok(0), |row| Ok(get::<i64>(row, 0)?.unsigned_abs()))
    }
}

fn places(rows: &[Columns]) -> Result<Vec<Place>> {
    let place = |row: &Columns| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?));
    rows.iter().map(place).collect()
}
