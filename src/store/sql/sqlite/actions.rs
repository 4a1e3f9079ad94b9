//! The action log: appended with each write that has an author, read and pruned.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Row as Columns};

use super::{
    columns::{optional_text, text},
    error::Result,
    session::Session,
};
use crate::{
    job::JobId,
    store::{
        Action, ActionCursor, ActionPage, Incarnation, Keep, LoggedAction,
        sql::{instant, millis, millis_from, signed, unsigned},
    },
};

/// How many lines one page scans at most, so that other operations get a turn.
const MAX_SCANNED: usize = 1000;

const PUT: &str = "INSERT OR IGNORE INTO punctual_actions \
     (at, token, job, incarnation, what, by, because) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const LATEST: &str = "SELECT at, token, job, incarnation, what, by, because FROM punctual_actions \
     WHERE (at, token) < (?1, ?2) AND at >= ?3 ORDER BY at DESC, token DESC LIMIT ?4";

/// The latest line beyond the maximum number.
const LATEST_TOO_MANY: &str = "SELECT at, token FROM punctual_actions \
     WHERE at > ?2 ORDER BY at DESC, token DESC LIMIT 1 OFFSET ?1";

const PRUNE: &str = "DELETE FROM punctual_actions WHERE (at, token) IN \
     (SELECT at, token FROM punctual_actions WHERE (at, token) <= (?1, ?2) ORDER BY at, token LIMIT ?3)";

/// Logs the action of the write with this token.
pub(super) fn put(
    session: &Session,
    token: u64,
    job: &JobId,
    of: Incarnation,
    Action { by, what, because }: &Action,
) -> Result<()> {
    let (at, token, of) = (millis(session.now()), signed(token), signed(of.0));
    let job = job.as_str();
    session.prepare(PUT)?.execute((at, token, &*job, of, what, by, because))?;
    Ok(())
}

pub(super) fn page(
    session: &Session,
    job: Option<&JobId>,
    after: Option<ActionCursor>,
    limit: usize,
) -> Result<ActionPage> {
    if limit == 0 {
        return Ok(ActionPage::default());
    }
    // Lines at instants out of range are in no page.
    let end = (millis_from(DateTime::<Utc>::MAX_UTC), i64::MIN);
    let place = |after: ActionCursor| match millis_from(after.at) {
        at if instant(at) == after.at => (at, signed(after.token)),
        // No line is between milliseconds: all earlier lines are behind it.
        at => (at, i64::MIN),
    };
    let (at, token) = after.map_or(end, |after| place(after).min(end));
    let first = millis(DateTime::<Utc>::MIN_UTC);
    let mut statement = session.prepare(LATEST)?;
    let mut rows = statement.query((at, token, first, MAX_SCANNED as i64))?;
    let (mut page, mut scanned) = (ActionPage::default(), 0);
    while let Some(row) = rows.next()? {
        let action = action(row)?;
        let place = action.cursor();
        scanned += 1;
        if job.is_none_or(|job| action.job == *job) {
            page.actions.push(action);
        }
        if page.actions.len() >= limit || scanned == MAX_SCANNED {
            page.next = Some(place);
            break;
        }
    }
    Ok(page)
}

fn action(row: &Columns<'_>) -> rusqlite::Result<LoggedAction> {
    let because = optional_text(row, 6)?;
    let action = Action { because, ..Action::new(text(row, 5)?, text(row, 4)?) };
    let (at, token) = (instant(row.get(0)?), unsigned(row.get(1)?));
    let incarnation = Incarnation(unsigned(row.get(3)?));
    Ok(LoggedAction::new(at, token, text(row, 2)?.into(), incarnation, action))
}

/// Deletes up to `limit` lines that are too old, and lines beyond the maximum number. Returns how many.
pub(super) fn prune(session: &Session, limit: usize) -> Result<usize> {
    let oldest = session.now().checked_sub_signed(Keep::ACTIONS).map_or(i64::MIN, millis);
    let too_many: Option<(i64, i64)> = session
        .prepare(LATEST_TOO_MANY)?
        .query_row((Keep::MOST_ACTIONS as i64, oldest), |row| row.try_into())
        .optional()?;
    let (at, token) = too_many.unwrap_or((oldest, i64::MIN));
    Ok(session.prepare(PRUNE)?.execute((at, token, limit as i64))?)
}

/// All statements, for a check of their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[PUT, LATEST, LATEST_TOO_MANY, PRUNE];
