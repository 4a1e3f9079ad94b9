//! What of the ledger need not be kept, and is deleted.
//!
//! It knows no database: a store reads places of closed rows, and deletes them.

use std::{collections::BTreeSet, future::Future};

use chrono::{DateTime, Utc};

use super::{latest::Place, millis};
use crate::store::{Keep, PruneReport, RowKind};

const KINDS: [RowKind; 3] = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];

const BEGINNING: Place = (i64::MIN, i64::MIN, i64::MIN);

/// The closed rows of a store.
pub(super) trait ClosedRows: Send + Sized {
    type Error: Send;

    /// Up to `limit` rows of a kind behind a place that ended before, the oldest first.
    fn page(
        &mut self,
        kind: RowKind,
        after: Place,
        before: DateTime<Utc>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Place>, Self::Error>> + Send;

    /// Up to `limit` rows of these jobs and this kind that ended before: all, or those that are more than
    /// so many, the newest left out.
    fn of_jobs(
        &mut self,
        jobs: &[i64],
        kind: RowKind,
        most: Option<u32>,
        before: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Place>, Self::Error>> + Send;

    fn delete(
        &mut self,
        kind: RowKind,
        rows: &[Place],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Up to where the rows of a kind were looked at.
    fn looked_to(
        &mut self,
        kind: RowKind,
    ) -> impl Future<Output = Result<Option<Place>, Self::Error>> + Send;

    fn set_looked_to(
        &mut self,
        kind: RowKind,
        to: Place,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The number of rows, exact up to a maximum.
    fn count(&mut self, most: u64) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// About the number of rows.
    fn estimate(&mut self) -> impl Future<Output = Result<u64, Self::Error>> + Send;
}

/// Deletes up to `limit` rows that are not to be kept.
pub(super) async fn prune<R: ClosedRows>(
    rows: R,
    keep: Keep,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<PruneReport, R::Error> {
    let recent = now - Keep::at_least(RowKind::Scheduled);
    let mut pruning = Pruning { rows, room: limit, deleted: 0, recent };
    for kind in KINDS {
        let oldest = Keep::oldest(keep.age, kind, now);
        let rows = pruning.rows.page(kind, BEGINNING, oldest, pruning.room).await?;
        pruning.delete(kind, &rows).await?;
    }
    let ended = Keep::oldest(keep.ended, RowKind::Ended, now);
    let ends = pruning.rows.page(RowKind::Ended, BEGINNING, ended, pruning.room).await?;
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
    more |= pruning.room == 0;
    Ok(PruneReport { deleted: pruning.deleted, forgotten: 0, more })
}

struct Pruning<R> {
    rows: R,
    /// How many rows may still be deleted.
    room: usize,
    deleted: u64,
    /// What ended later is kept in any case.
    recent: DateTime<Utc>,
}

impl<R: ClosedRows> Pruning<R> {
    /// Deletes as many of these rows as may still be deleted.
    async fn delete(&mut self, kind: RowKind, rows: &[Place]) -> Result<(), R::Error> {
        let rows = &rows[..rows.len().min(self.room)];
        if !rows.is_empty() {
            self.rows.delete(kind, rows).await?;
            self.room -= rows.len();
            self.deleted += rows.len() as u64;
        }
        Ok(())
    }

    async fn of_jobs(
        &mut self,
        jobs: &[i64],
        kind: RowKind,
        most: Option<u32>,
    ) -> Result<Vec<Place>, R::Error> {
        self.rows.of_jobs(jobs, kind, most, millis(self.recent), self.room).await
    }

    /// Looks at jobs of which rows have ended since the last time. Returns whether there are more.
    async fn delete_too_many(
        &mut self,
        kind: RowKind,
        most: u32,
        limit: usize,
    ) -> Result<bool, R::Error> {
        // One of the future is of a clock that was set back since.
        let looked_to = self.rows.looked_to(kind).await?;
        let looked_to = looked_to.filter(|(ended_at, ..)| *ended_at < millis(self.recent));
        let from = looked_to.unwrap_or(BEGINNING);
        let new = self.rows.page(kind, from, self.recent, limit).await?;
        let Some(&last) = new.last() else { return Ok(false) };
        let jobs: BTreeSet<i64> = new.iter().map(|&(_, incarnation, _)| incarnation).collect();
        let jobs: Vec<i64> = jobs.into_iter().collect();
        let rows = self.of_jobs(&jobs, kind, Some(most)).await?;
        self.delete(kind, &rows).await?;
        if self.room == 0 {
            // There may be more of them.
            return Ok(true);
        }
        self.rows.set_looked_to(kind, last).await?;
        Ok(new.len() == limit)
    }

    /// Deletes of all rows the oldest, if there are too many.
    async fn delete_surplus(&mut self, keep: Keep) -> Result<(), R::Error> {
        let closed = self.count(keep).await?;
        let most = self.room.min(usize::try_from(keep.surplus(closed)).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(());
        }
        let mut oldest = Vec::new();
        for kind in KINDS {
            let rows = self.rows.page(kind, BEGINNING, self.recent, most).await?;
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
    async fn count(&mut self, keep: Keep) -> Result<u64, R::Error> {
        let few = keep.total.clamp(1000, 20_000);
        let count = self.rows.count(few).await?;
        if count < few {
            return Ok(count);
        }
        let estimate = self.rows.estimate().await?;
        if keep.surplus(estimate) == 0 {
            return Ok(estimate);
        }
        self.rows.count(keep.total).await
    }
}
