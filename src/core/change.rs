//! What the verbs make of a durable job's record, and which rows that brings: pure functions, for whoever
//! compares and swaps.

use chrono::{DateTime, Utc};

use super::ahead::{last_taken, passed, requested, run_id};
use crate::{
    error::Error,
    job::{OnConflict, RunId, SkipReason},
    store::{Fate, Record, Row, Write},
};

/// What becomes of a record, and the rows that this brings.
#[derive(Debug)]
pub(crate) struct Change {
    /// None if it goes.
    pub(crate) record: Option<Record>,
    pub(crate) rows: Vec<Row>,
}

impl Change {
    pub(crate) fn to(record: Record) -> Change {
        Change { record: Some(record), rows: Vec::new() }
    }
}

pub(crate) fn pause(record: &Record) -> Option<Change> {
    (!record.paused).then(|| Change::to(Record { paused: true, ..record.clone() }))
}

pub(crate) fn resume(record: &Record, now: DateTime<Utc>) -> Option<Change> {
    let resumed = || Record { paused: false, resumed_at: Some(now), ..record.clone() };
    record.paused.then(|| Change::to(resumed()))
}

/// Gives it another trigger, of which `first` is the first fire time.
pub(crate) fn reschedule(
    record: &Record,
    trigger: String,
    first: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Change {
    let reason = match record.paused {
        true => SkipReason::Paused,
        false => SkipReason::Superseded,
    };
    let rows = passed(record, reason, now);
    let taken_to = record.taken_to.max(last_taken(record));
    Change { record: Some(Record { trigger, next_fire: first, taken_to, ..record.clone() }), rows }
}

/// Asks for a run.
pub(crate) fn run_now(record: &Record, now: DateTime<Utc>) -> (Change, RunId) {
    let requests = record.requests.wrapping_add(1);
    let row = requested(record, requests, now);
    let run = run_id(row.key);
    (Change { record: Some(Record { requests, ..record.clone() }), rows: vec![row] }, run)
}

pub(crate) fn remove(record: &Record, fate: Fate, now: DateTime<Utc>) -> Change {
    let mut rows = passed(record, SkipReason::Removed, now);
    rows.push(Row::ended(record, fate, now));
    Change { record: None, rows }
}

/// What becomes of a write that adds a job whose id is another's, `current`, or was: says whether it is
/// still to be made.
pub(crate) fn give_way(
    write: &mut Write,
    current: Option<&Record>,
    on_conflict: OnConflict,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let Some(record) = &write.record else { return Ok(false) };
    let incarnation = record.incarnation;
    let Some(current) = current else {
        // The one that it was to replace is gone.
        write.expected = None;
        write.rows.retain(|row| row.key.incarnation == incarnation);
        return Ok(true);
    };
    if current.incarnation == record.incarnation {
        // It was made, the answer was lost, and the job has been changed since.
        return Ok(false);
    }
    match on_conflict {
        OnConflict::Error => Err(Error::duplicate_id(format!(
            "there is a job `{}` already: choose another id, or say `.on_conflict(..)`",
            current.id
        ))),
        OnConflict::Keep => Ok(false),
        OnConflict::Reconcile
            if record.declared.is_some() && current.declared == record.declared =>
        {
            Ok(false)
        }
        OnConflict::Replace | OnConflict::Reconcile => {
            write.expected = Some(current.stamp());
            write.rows.retain(|row| row.key.incarnation == incarnation);
            write.rows.extend(remove(current, Fate::Replaced, now).rows);
            Ok(true)
        }
    }
}
