//! What of the ledger need not be kept, and is deleted.

use chrono::{DateTime, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{
        kind_number,
        latest::Place,
        millis_from,
        prune::{self, ClosedRows},
        unsigned,
    },
    actions,
    columns::{Text, get},
    edit::{delete_jobs, delete_rows},
    error::{MySqlError, Result},
    jobs,
    pool::{BEGIN, Session},
};
use crate::store::{Incarnation, Keep, PruneReport, RowKey, RowKind};

pub(super) async fn prune(
    session: &mut Session<'_>,
    keep: Keep,
    limit: usize,
) -> Result<PruneReport> {
    let now = jobs::time_of(session).await?;
    let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(now);
    let forgotten = forget(session, oldest, limit).await?;
    let actions = actions::prune(session, now, limit).await?;
    let report = prune::prune(Closed(session), keep, limit, now).await?;
    let more = report.more || forgotten == limit || actions == limit;
    Ok(PruneReport { forgotten: forgotten as u64, more, ..report })
}

/// Deletes remembered ends that are too old, or too many. Returns how many.
async fn forget(session: &mut Session<'_>, oldest: DateTime<Utc>, limit: usize) -> Result<usize> {
    let jobs = &session.tables().jobs;
    let oldest = millis_from(oldest);
    let too_many = format!(
        "SELECT ended_at, incarnation FROM {jobs} WHERE ended_at IS NOT NULL \
         ORDER BY ended_at DESC, incarnation DESC LIMIT 1 OFFSET {}",
        Keep::MOST_ENDED
    );
    let answers = session.run(&too_many).await?;
    let too_many = match answers.iter().flatten().next() {
        Some(row) => {
            let (ended_at, incarnation): (i64, i64) = (get(row, 0)?, get(row, 1)?);
            format!(
                " OR ended_at < {ended_at} OR (ended_at = {ended_at} AND incarnation <= {incarnation})"
            )
        }
        None => String::new(),
    };
    // One that is locked is being replaced.
    let sql = format!(
        "{BEGIN}; SELECT incarnation FROM {jobs} WHERE ended_at IS NOT NULL \
         AND (ended_at < {oldest}{too_many}) ORDER BY ended_at, incarnation LIMIT {limit} \
         FOR UPDATE SKIP LOCKED"
    );
    let answers = session.run(&sql).await?;
    let of = |row: &Columns| Ok([Some(get(row, 0)?)]);
    let of: Vec<[Option<i64>; 1]> = answers.iter().flatten().map(of).collect::<Result<_>>()?;
    let sql = match of.is_empty() {
        true => "COMMIT".to_owned(),
        false => format!("{}; COMMIT", delete_jobs(jobs, &of)),
    };
    session.run(&sql).await?;
    Ok(of.len())
}

struct Closed<'a, 's>(&'a mut Session<'s>);

impl Closed<'_, '_> {
    async fn places(&mut self, sql: &str) -> Result<Vec<Place>> {
        let place = |row: &Columns| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?));
        self.0.run(sql).await?.iter().flatten().map(place).collect()
    }

    async fn number(&mut self, sql: &str) -> Result<Option<i64>> {
        let answers = self.0.run(sql).await?;
        Ok(answers.iter().flatten().next().map(|row| get(row, 0)).transpose()?.flatten())
    }
}

impl ClosedRows for Closed<'_, '_> {
    type Error = MySqlError;

    async fn page(
        &mut self,
        kind: RowKind,
        (at, of, number): Place,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let sql = format!(
            "SELECT ended_at, incarnation, number FROM {} WHERE kind = {} AND ended_at < {} \
             AND (ended_at > {at} OR (ended_at = {at} AND incarnation > {of}) \
                OR (ended_at = {at} AND incarnation = {of} AND number > {number})) \
             ORDER BY ended_at, incarnation, number LIMIT {limit}",
            self.0.tables().ledger,
            kind_number(kind),
            millis_from(before)
        );
        self.places(&sql).await
    }

    async fn of_jobs(
        &mut self,
        jobs: &[i64],
        kind: RowKind,
        most: Option<u32>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let (ledger, kind) = (&self.0.tables().ledger, kind_number(kind));
        let mut places = Vec::new();
        // Few of them at once, since most have nothing to delete.
        for jobs in jobs.chunks(100) {
            let newest = |of: &i64| match most {
                Some(most) => format!(
                    " AND number <= (SELECT number FROM {ledger} WHERE incarnation = {of} \
                     AND kind = {kind} ORDER BY number DESC LIMIT 1 OFFSET {most})"
                ),
                None => String::new(),
            };
            let selects: Vec<String> = jobs
                .iter()
                .map(|of| {
                    format!(
                        "(SELECT ended_at, incarnation, number FROM {ledger} \
                         WHERE incarnation = {of} AND kind = {kind} AND ended_at < {before}{} \
                         ORDER BY number LIMIT {limit})",
                        newest(of)
                    )
                })
                .collect();
            let sql = format!("{} LIMIT {limit}", selects.join(" UNION ALL "));
            places.extend(self.places(&sql).await?);
            if places.len() >= limit {
                places.truncate(limit);
                break;
            }
        }
        Ok(places)
    }

    async fn delete(&mut self, kind: RowKind, rows: &[Place]) -> Result<()> {
        let key = |&(_, of, number): &Place| RowKey {
            incarnation: Incarnation(unsigned(of)),
            kind,
            number,
        };
        let rows: Vec<RowKey> = rows.iter().map(key).collect();
        let sql = delete_rows(&self.0.tables().ledger, &rows);
        self.0.run(&sql).await?;
        Ok(())
    }

    async fn looked_to(&mut self, kind: RowKind) -> Result<Option<Place>> {
        let sql = format!(
            "SELECT ended_at, incarnation, number FROM {} WHERE kind = {}",
            self.0.tables().pruned,
            kind_number(kind)
        );
        Ok(self.places(&sql).await?.first().copied())
    }

    async fn set_looked_to(&mut self, kind: RowKind, (at, of, number): Place) -> Result<()> {
        let sql = format!(
            "REPLACE INTO {} (kind, ended_at, incarnation, number) VALUES ({}, {at}, {of}, {number})",
            self.0.tables().pruned,
            kind_number(kind)
        );
        self.0.run(&sql).await?;
        Ok(())
    }

    async fn count(&mut self, most: u64) -> Result<u64> {
        let ledger = &self.0.tables().ledger;
        let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {ledger} LIMIT {most}) AS l");
        Ok(self.number(&sql).await?.unwrap_or(0).unsigned_abs())
    }

    /// At least half of what there is: the servers' statistics are no better.
    async fn estimate(&mut self) -> Result<u64> {
        let sql = format!(
            "SELECT table_rows FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = {}",
            Text(&self.0.tables().ledger)
        );
        let estimate = self.number(&sql).await?.unwrap_or(i64::MAX).unsigned_abs();
        Ok(estimate.saturating_mul(2))
    }
}
