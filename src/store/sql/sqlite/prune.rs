//! Pruning: rows of the ledger that need not be kept are deleted.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::OptionalExtension as _;

use super::{actions, error::Result, jobs, repair, session::Session};
use crate::store::{
    Keep, PruneReport, RowKind,
    sql::{kind_number, millis, millis_from},
};

/// The next closed rows of a kind that ended before an instant, the oldest first.
pub(super) const CLOSED: &str = "SELECT ended_at, incarnation, number \
     FROM punctual_ledger INDEXED BY punctual_ledger_closed \
     WHERE ended_at IS NOT NULL AND kind = ?1 AND (ended_at, incarnation, number) > (?2, ?3, ?4) \
     AND ended_at < ?5 ORDER BY ended_at, incarnation, number LIMIT ?6";

/// The number of closed rows of a kind.
pub(super) const COUNT: &str = "SELECT count(*) FROM punctual_ledger INDEXED BY punctual_ledger_closed \
     WHERE ended_at IS NOT NULL AND kind = ?1";

/// The newest closed row beyond the maximum number.
const NEWEST_TOO_MANY: &str = "SELECT number FROM punctual_ledger \
     WHERE incarnation = ?1 AND kind = ?2 AND fate IS NOT NULL \
     ORDER BY number DESC LIMIT 1 OFFSET ?3";

/// Closed rows of a job up to a number.
const CLOSED_UP_TO: &str = "SELECT number FROM punctual_ledger \
     WHERE incarnation = ?1 AND kind = ?2 AND number <= ?3 AND fate IS NOT NULL AND ended_at < ?4 \
     ORDER BY number LIMIT ?5";

const DELETE: &str = "DELETE FROM punctual_ledger \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND fate IS NOT NULL";

const SCANNED_TO: &str =
    "SELECT ended_at, incarnation, number FROM punctual_pruned WHERE kind = ?1";

const SET_SCANNED_TO: &str = "INSERT OR REPLACE INTO punctual_pruned \
     (kind, ended_at, incarnation, number) VALUES (?1, ?2, ?3, ?4)";

const KINDS: [RowKind; 3] = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended];

/// When a closed row ended, with its incarnation and number.
type Place = (i64, i64, i64);

const BEGINNING: Place = (i64::MIN, i64::MIN, i64::MIN);

/// How often the rows are counted: that takes as long as there are many.
const COUNT_EVERY: TimeDelta = TimeDelta::seconds(10);

/// How many rows are to be deleted for there being too many, as far as that is known.
#[derive(Clone, Copy)]
pub(super) struct Surplus {
    /// Those of them that have not been deleted since they were counted.
    left: u64,
    /// The limit that they exceed.
    total: u64,
    /// When they were counted, and the [version](Session::data_version) of the file.
    at: DateTime<Utc>,
    version: i64,
}

pub(super) fn prune(session: &Session, keep: Keep, limit: usize) -> Result<PruneReport> {
    let now = session.now();
    let recent = now - Keep::at_least(RowKind::Scheduled);
    let mut pruning = Pruning { session, room: limit, deleted: 0, recent };
    let oldest = now.checked_sub_signed(Keep::ENDED).unwrap_or(now);
    let forgotten = jobs::forget_before(session, oldest, limit)?;
    let actions = actions::prune(session, limit)?;
    let mut more = repair::end(session, limit)?;
    repair::call_off(session)?;
    for kind in KINDS {
        let oldest = Keep::oldest(keep.age, kind, now);
        for (_, incarnation, number) in pruning.closed(kind, BEGINNING, oldest)? {
            pruning.delete(incarnation, kind, number)?;
        }
    }
    let ended = Keep::oldest(keep.ended, RowKind::Ended, now);
    for (_, incarnation, number) in pruning.closed(RowKind::Ended, BEGINNING, ended)? {
        for kind in [RowKind::Scheduled, RowKind::Requested] {
            pruning.delete_up_to(incarnation, kind, i64::MAX)?;
        }
        pruning.delete(incarnation, RowKind::Ended, number)?;
    }
    for kind in [RowKind::Scheduled, RowKind::Requested] {
        more |= pruning.delete_too_many(kind, keep.rows, limit)?;
    }
    pruning.delete_surplus(keep)?;
    more |= pruning.room == 0 || forgotten == limit || actions == limit;
    Ok(PruneReport { deleted: pruning.deleted, forgotten: forgotten as u64, more })
}

struct Pruning<'a> {
    session: &'a Session,
    /// How many rows may still be deleted.
    room: usize,
    deleted: u64,
    /// Rows that ended later are kept in any case.
    recent: DateTime<Utc>,
}

impl Pruning<'_> {
    /// Returns the closed rows, as many as may still be deleted.
    fn closed(&self, kind: RowKind, after: Place, before: DateTime<Utc>) -> Result<Vec<Place>> {
        self.page(kind, after, before, self.room)
    }

    fn page(
        &self,
        kind: RowKind,
        (ended_at, incarnation, number): Place,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Place>> {
        let mut statement = self.session.prepare(CLOSED)?;
        let (kind, before, limit) = (kind_number(kind), millis_from(before), limit as i64);
        let parameters = (kind, ended_at, incarnation, number, before, limit);
        let rows = statement.query_map(parameters, |row| row.try_into())?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn delete(&mut self, incarnation: i64, kind: RowKind, number: i64) -> Result<()> {
        if self.room > 0 {
            let key = (incarnation, kind_number(kind), number);
            let count = self.session.prepare(DELETE)?.execute(key)?;
            self.room -= count;
            self.deleted += count as u64;
        }
        Ok(())
    }

    /// Deletes the closed rows of a job up to a number, unless they are recent.
    fn delete_up_to(&mut self, incarnation: i64, kind: RowKind, newest: i64) -> Result<()> {
        let parameters =
            (incarnation, kind_number(kind), newest, millis(self.recent), self.room as i64);
        let numbers: Vec<i64> = self
            .session
            .prepare(CLOSED_UP_TO)?
            .query_map(parameters, |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        numbers.into_iter().try_for_each(|number| self.delete(incarnation, kind, number))
    }

    /// Prunes the jobs with rows that have ended since the last scan. Returns whether there are
    /// more.
    fn delete_too_many(&mut self, kind: RowKind, rows: u32, limit: usize) -> Result<bool> {
        let of_kind = kind_number(kind);
        let scanned_to: Option<Place> = self
            .session
            .prepare(SCANNED_TO)?
            .query_row([of_kind], |row| row.try_into())
            .optional()?;
        // A position in the future is from a clock that was set back since.
        let scanned_to = scanned_to.filter(|(ended_at, ..)| *ended_at < millis(self.recent));
        let new = self.page(kind, scanned_to.unwrap_or(BEGINNING), self.recent, limit)?;
        let Some(&(ended_at, last, number)) = new.last() else { return Ok(false) };
        let jobs: HashSet<i64> = new.iter().map(|&(_, incarnation, _)| incarnation).collect();
        for incarnation in jobs {
            let newest: Option<i64> = self
                .session
                .prepare(NEWEST_TOO_MANY)?
                .query_row((incarnation, of_kind, rows), |row| row.get(0))
                .optional()?;
            if let Some(newest) = newest {
                self.delete_up_to(incarnation, kind, newest)?;
            }
        }
        if self.room == 0 {
            // There may be more.
            return Ok(true);
        }
        self.session.prepare(SET_SCANNED_TO)?.execute((of_kind, ended_at, last, number))?;
        Ok(new.len() == limit)
    }

    /// Deletes the oldest of all rows beyond the maximum number.
    fn delete_surplus(&mut self, keep: Keep) -> Result<()> {
        let (now, version) = (self.session.now(), self.session.data_version()?);
        let counted = self.session.surplus.get().filter(|surplus| {
            // The deletions of other processes are not known here.
            let is_known = surplus.left == 0 || surplus.version == version;
            is_known && surplus.total == keep.total && (now - surplus.at).abs() < COUNT_EVERY
        });
        let mut surplus = match counted {
            // The other limits have deleted rows, too.
            Some(counted) => Surplus { left: counted.left.saturating_sub(self.deleted), ..counted },
            None => {
                let left = keep.surplus(self.count()?);
                Surplus { left, total: keep.total, at: now, version }
            }
        };
        let before = self.deleted;
        let most = self.room.min(usize::try_from(surplus.left).unwrap_or(usize::MAX));
        if most > 0 {
            let mut oldest = Vec::new();
            for kind in KINDS {
                let rows = self.page(kind, BEGINNING, self.recent, most)?;
                oldest.extend(rows.into_iter().map(|row| (row, kind)));
            }
            oldest.sort_unstable();
            for ((_, incarnation, number), kind) in oldest.into_iter().take(most) {
                self.delete(incarnation, kind, number)?;
            }
        }
        surplus.left -= self.deleted - before;
        self.session.surplus.set(Some(surplus));
        Ok(())
    }

    /// How many closed rows there are.
    fn count(&self) -> Result<u64> {
        let mut closed = 0;
        let mut statement = self.session.prepare(COUNT)?;
        for kind in KINDS {
            let count: i64 = statement.query_row([kind_number(kind)], |row| row.get(0))?;
            closed += count.unsigned_abs();
        }
        Ok(closed)
    }
}

/// All statements, for a check of their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] =
    &[CLOSED, COUNT, NEWEST_TOO_MANY, CLOSED_UP_TO, DELETE, SCANNED_TO, SET_SCANNED_TO];
