//! What the verbs make of a durable job's record, and which rows that brings: pure functions, for whoever
//! compares and swaps.

use chrono::{DateTime, Utc};

use super::ahead::{ended, passed, requested, run_id};
use crate::{
    job::{RunId, SkipReason},
    store::{Fate, Record, Row},
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
    let rows = passed(record, reason, now).into_iter().collect();
    Change { record: Some(Record { trigger, next_fire: first, ..record.clone() }), rows }
}

/// Asks for a run.
pub(crate) fn run_now(record: &Record, now: DateTime<Utc>) -> (Change, RunId) {
    let requests = record.requests + 1;
    let row = requested(record, requests, now);
    let run = run_id(row.key);
    (Change { record: Some(Record { requests, ..record.clone() }), rows: vec![row] }, run)
}

pub(crate) fn remove(record: &Record, fate: Fate, now: DateTime<Utc>) -> Change {
    let passed = passed(record, SkipReason::Removed, now);
    Change { record: None, rows: passed.into_iter().chain([ended(record, fate, now)]).collect() }
}
