//! What of the ledger need not be kept, and is deleted.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    super::{millis, millis_from},
    actions,
    columns::{Parameter, bound, get, kind_column},
    error::Result,
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

const KINDS: [RowKind; 3] = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];

/// When a closed row ended, and which of its kind it is.
type Place = (i64, i64, i64);

const BEGINNING: Place = (i64::MIN, i64::MIN, i64::MIN);

pub(super) async fn prune(session: &Session<'_>, keep: Keep, limit: usize) -> Result<PruneReport> {
    let now = jobs::time(session).await?;
    let recent = now - Keep::at_least(RowKind::Scheduled);
    let mut pruning = Pruning { session, room: limit, deleted: 0, recent };
    let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(now);
    let forgotten = forget(session, oldest, limit).await?;
    let actions = actions::prune(session, now, limit).await?;
    for kind in KINDS {
        let oldest = Keep::oldest(keep.age, kind, now);
        let rows = pruning.page(kind, BEGINNING, oldest, pruning.room).await?;
        pruning.delete(kind, &rows).await?;
    }
    let ended = Keep::oldest(keep.ended, RowKind::Ended, now);
    let ends = pruning.page(RowKind::Ended, BEGINNING, ended, pruning.room).await?;
    let jobs: Vec<i64> = ends.iter().map(|&(_, incarnation, _)| incarnation).collect();
    if !jobs.is_empty() {
        for kind in [RowKind::Scheduled, RowKind::Requested] {
            let rows = pruning.of_jobs(&jobs, kind, None).await?;
            pruning.delete(kind, &rows).await?;
        }
        // The end of a job is what the others are found by, so it goes last.
        pruning.delete(RowKind::Ended, &ends).await?;
    }
    let mut more = false;
    for kind in [RowKind::Scheduled, RowKind::Requested] {
        more |= pruning.delete_too_many(kind, keep.rows, limit).await?;
    }
    pruning.delete_surplus(keep).await?;
    more |= pruning.room == 0 || forgotten == limit || actions == limit;
    Ok(PruneReport { deleted: pruning.deleted, forgotten: forgotten as u64, more })
}

async fn forget(session: &Session<'_>, oldest: DateTime<Utc>, limit: usize) -> Result<usize> {
    let (oldest, most, limit) = (millis_from(oldest), Keep::MOST_ENDED as i64, bound(limit));
    let parameters: Vec<Parameter<'_>> =
        vec![(&oldest, Type::INT8), (&most, Type::INT8), (&limit, Type::INT8)];
    Ok(session.query(FORGET, parameters).await?.len())
}

struct Pruning<'a> {
    session: &'a Session<'a>,
    /// How many rows may still be deleted.
    room: usize,
    deleted: u64,
    /// What ended later is kept in any case.
    recent: DateTime<Utc>,
}

impl Pruning<'_> {
    async fn page(
        &self,
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
        places(&self.session.query(CLOSED, parameters).await?)
    }

    /// Deletes as many of these rows as may still be deleted.
    async fn delete(&mut self, kind: RowKind, rows: &[Place]) -> Result<()> {
        let rows = &rows[..rows.len().min(self.room)];
        if rows.is_empty() {
            return Ok(());
        }
        let incarnations: Vec<i64> = rows.iter().map(|&(_, incarnation, _)| incarnation).collect();
        let kinds = vec![kind_column(kind); rows.len()];
        let numbers: Vec<i64> = rows.iter().map(|&(.., number)| number).collect();
        let parameters: Vec<Parameter<'_>> = vec![
            (&incarnations, Type::INT8_ARRAY),
            (&kinds, Type::INT2_ARRAY),
            (&numbers, Type::INT8_ARRAY),
        ];
        self.session.query(DELETE, parameters).await?;
        self.room -= rows.len();
        self.deleted += rows.len() as u64;
        Ok(())
    }

    /// The rows of these jobs that are not recent: all, or those that are more than so many.
    async fn of_jobs(
        &self,
        jobs: &Vec<i64>,
        kind: RowKind,
        most: Option<u32>,
    ) -> Result<Vec<Place>> {
        let (kind, recent, room) = (kind_column(kind), millis(self.recent), bound(self.room));
        let most = most.map(i64::from);
        let mut parameters: Vec<Parameter<'_>> = vec![
            (jobs, Type::INT8_ARRAY),
            (&kind, Type::INT2),
            (&recent, Type::INT8),
            (&room, Type::INT8),
        ];
        let select = match &most {
            Some(most) => {
                parameters.push((most, Type::INT8));
                TOO_MANY
            }
            None => OF_JOBS,
        };
        places(&self.session.query(select, parameters).await?)
    }

    /// Looks at jobs of which rows have ended since the last time. Returns whether there are more.
    async fn delete_too_many(&mut self, kind: RowKind, most: u32, limit: usize) -> Result<bool> {
        let of_kind = kind_column(kind);
        let looked_to = self.session.query(LOOKED_TO, vec![(&of_kind, Type::INT2)]).await?;
        // One of the future is of a clock that was set back since.
        let looked_to = places(&looked_to)?.first().copied();
        let looked_to = looked_to.filter(|(ended_at, ..)| *ended_at < millis(self.recent));
        let from = looked_to.unwrap_or(BEGINNING);
        let new = self.page(kind, from, self.recent, limit).await?;
        let Some(&(ended_at, last, number)) = new.last() else { return Ok(false) };
        let jobs: BTreeSet<i64> = new.iter().map(|&(_, incarnation, _)| incarnation).collect();
        let rows = self.of_jobs(&jobs.into_iter().collect(), kind, Some(most)).await?;
        self.delete(kind, &rows).await?;
        if self.room == 0 {
            // There may be more of them.
            return Ok(true);
        }
        let parameters: Vec<Parameter<'_>> = vec![
            (&of_kind, Type::INT2),
            (&ended_at, Type::INT8),
            (&last, Type::INT8),
            (&number, Type::INT8),
        ];
        self.session.query(SET_LOOKED_TO, parameters).await?;
        Ok(new.len() == limit)
    }

    /// Deletes of all rows the oldest, if there are too many.
    async fn delete_surplus(&mut self, keep: Keep) -> Result<()> {
        let closed = self.count(keep).await?;
        let most = self.room.min(usize::try_from(keep.surplus(closed)).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(());
        }
        let mut oldest = Vec::new();
        for kind in KINDS {
            let rows = self.page(kind, BEGINNING, self.recent, most).await?;
            oldest.extend(rows.into_iter().map(|row| (row, kind)));
        }
        oldest.sort_unstable();
        oldest.truncate(most);
        for kind in KINDS {
            let rows = oldest.iter().filter(|(_, of)| *of == kind).map(|(row, _)| *row);
            self.delete(kind, &rows.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// The number of closed rows up to the total limit. The number is exact unless it is far from the
    /// limit: rows are deleted by exact numbers only, since statistics do not follow deletions at once.
    async fn count(&self, keep: Keep) -> Result<u64> {
        let few = i64::try_from(keep.total).unwrap_or(i64::MAX).clamp(1000, 20_000);
        let count = self.count_up_to(few).await?;
        if count < few {
            return Ok(count.unsigned_abs());
        }
        let ledger = self.session.named("punctual_ledger").into_owned();
        let rows = self.session.query(ESTIMATE, vec![(&ledger, Type::TEXT)]).await?;
        let estimate = rows.first().map_or(Ok(0), |row| get::<i64>(row, 0))?.unsigned_abs();
        if keep.surplus(estimate) == 0 {
            return Ok(estimate);
        }
        let total = i64::try_from(keep.total).unwrap_or(i64::MAX);
        Ok(self.count_up_to(total).await?.unsigned_abs())
    }

    async fn count_up_to(&self, most: i64) -> Result<i64> {
        let rows = self.session.query(COUNT, vec![(&most, Type::INT8)]).await?;
        rows.first().map_or(Ok(0), |row| get(row, 0))
    }
}

fn places(rows: &[Columns]) -> Result<Vec<Place>> {
    let place = |row: &Columns| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?));
    rows.iter().map(place).collect()
}
