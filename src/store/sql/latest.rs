//! Pages of what was latest: fates over all jobs, and the action log.

use chrono::{DateTime, Utc};

use super::{instant, millis_from, signed};
use crate::{
    job::JobId,
    store::{
        ActionCursor, ActionPage, FateCursor, FateFilter, FatePage, LoggedAction, Row, RowKind,
    },
};

/// How many rows or entries that do not pass a filter one page scans.
pub(super) const SCANNED: usize = 1000;

/// When a closed row ended, and its incarnation and number.
pub(super) type Place = (i64, i64, i64);

/// Where a page of fates starts: each kind has an order of its own, and the three are merged.
pub(super) struct FatesAfter {
    /// The rows of each kind that are wanted come after this place, the latest end first.
    pub(super) places: [(RowKind, Place); 3],
    /// Rows that ended before are not wanted.
    pub(super) from: i64,
}

impl FatesAfter {
    pub(super) fn new(filter: &FateFilter, after: Option<FateCursor>) -> FatesAfter {
        // What ended at no instant that can be told is in no page.
        let from = millis_from(filter.from.unwrap_or(DateTime::<Utc>::MIN_UTC));
        let until = millis_from(filter.until.unwrap_or(DateTime::<Utc>::MAX_UTC));
        let until = (until, i64::MIN, i64::MIN);
        let places = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended]
            .map(|kind| (kind, after.map_or(until, |it| place(kind, it).min(until))));
        FatesAfter { places, from }
    }
}

/// Where the rows of a kind continue behind a row of any kind: at the same instant, later kinds come
/// first.
fn place(kind: RowKind, after: FateCursor) -> Place {
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

/// How many rows a store reads for a page.
pub(super) fn fates_to_read(filter: &FateFilter, limit: usize) -> usize {
    let selects = filter.job.is_some() || filter.fate.is_some() || filter.node.is_some();
    if selects { SCANNED } else { SCANNED.min(limit) }
}

/// The page of rows that were read, as many as were asked for or all there are.
pub(super) fn fate_page(rows: Vec<Row>, filter: &FateFilter, limit: usize) -> FatePage {
    let size = fates_to_read(filter, limit);
    let mut page = FatePage::default();
    for (scanned, row) in (1..).zip(rows) {
        let place = FateCursor::at(&row);
        if filter.passes(&row) {
            page.rows.push(row);
        }
        if page.rows.len() >= limit || scanned == size {
            page.next = place;
            break;
        }
    }
    page
}

/// The time and the token after which a page of the action log starts.
pub(super) fn actions_after(after: Option<ActionCursor>) -> (i64, i64) {
    let end = (millis_from(DateTime::<Utc>::MAX_UTC), i64::MIN);
    let place = |after: ActionCursor| match millis_from(after.at) {
        at if instant(at) == after.at => (at, signed(after.token)),
        // Nothing is done between milliseconds: all that was done before is behind it.
        at => (at, i64::MIN),
    };
    after.map_or(end, |after| place(after).min(end))
}

/// How many entries a store reads for a page.
pub(super) fn actions_to_read(job: Option<&JobId>, limit: usize) -> usize {
    if job.is_some() { SCANNED } else { SCANNED.min(limit) }
}

/// The page of entries that were read, as many as were asked for or all there are.
pub(super) fn action_page(
    actions: Vec<LoggedAction>,
    job: Option<&JobId>,
    limit: usize,
) -> ActionPage {
    let size = actions_to_read(job, limit);
    let mut page = ActionPage::default();
    for (scanned, action) in (1..).zip(actions) {
        let place = action.cursor();
        if job.is_none_or(|job| action.job == *job) {
            page.actions.push(action);
        }
        if page.actions.len() >= limit || scanned == size {
            page.next = Some(place);
            break;
        }
    }
    page
}
