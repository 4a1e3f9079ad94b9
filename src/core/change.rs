//! The changes that verbs make to a durable job's record, and their new rows: pure functions, for
//! callers that compare and swap.

use chrono::{DateTime, TimeDelta, Utc};

use super::ahead::{Definition, last_claimed, passed, requested, run_id, still_to_run};
use crate::{
    error::Error,
    job::{OnConflict, RunId, SkipReason},
    ledger::{Fate, Record, Row, Write},
};

/// A changed record, and its new rows.
#[derive(Debug)]
pub(crate) struct Change {
    /// `None` if the record is removed.
    pub(crate) record: Option<Record>,
    pub(crate) rows: Vec<Row>,
}

impl Change {
    pub(crate) fn to(record: Record) -> Change {
        Change { record: Some(record), rows: Vec::new() }
    }
}

/// Whether `now`, which another writer wrote since, is still the job that a verb found. A job that
/// took over the id is another job.
pub(crate) fn is_same_job(found: &Record, now: &Record) -> bool {
    now.incarnation == found.incarnation && now.ended_at.is_none()
}

/// Who runs a verb, and why.
#[derive(Clone, Debug)]
pub(crate) struct Author {
    pub(crate) by: String,
    pub(crate) because: Option<String>,
}

pub(crate) fn pause(record: &Record, author: Option<&Author>) -> Option<Change> {
    let paused = || Record {
        paused: true,
        paused_by: author.map(|author| author.by.clone()),
        paused_because: author.and_then(|author| author.because.clone()),
        ..record.clone()
    };
    (!record.paused).then(|| Change::to(paused()))
}

pub(crate) fn resume(record: &Record, now: DateTime<Utc>) -> Option<Change> {
    let resumed = || Record {
        paused: false,
        resumed_at: Some(now),
        paused_by: None,
        paused_because: None,
        ..record.clone()
    };
    record.paused.then(|| Change::to(resumed()))
}

/// Replaces the trigger; `first` is the first fire time of the new one.
pub(crate) fn reschedule(
    record: &Record,
    trigger: String,
    first: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Change {
    let rows = if record.paused {
        passed(record, SkipReason::Paused, now)
    } else {
        still_to_run(record, now)
    };
    let passed = rows.iter().map(|row| row.last).max();
    let taken_to = record.taken_to.max(last_claimed(record)).max(passed);
    let rescheduled_at = if record.paused { record.rescheduled_at } else { Some(now) };
    let record = Record { trigger, next_fire: first, taken_to, rescheduled_at, ..record.clone() };
    Change { record: Some(record), rows }
}

/// Changes a job in place to its new declaration. The trigger changes only if it is declared
/// differently.
fn reconcile(record: &Record, new: &Record, now: DateTime<Utc>) -> Change {
    let declared = declared_trigger(record);
    let Change { record: changed, rows } =
        match declared.is_some() && declared == declared_trigger(new) {
            true => Change::to(record.clone()),
            false => {
                // Time may have passed since the declaration was read.
                let first = Definition::read(new).and_then(|new| new.trigger.first(now));
                let first = first.unwrap_or(new.next_fire);
                reschedule(record, new.trigger.clone(), first, now)
            }
        };
    let record = changed.map(|record| Record {
        task: new.task.clone(),
        args: new.args.clone(),
        options: new.options.clone(),
        name: new.name.clone(),
        tags: new.tags.clone(),
        declared: new.declared.clone(),
        recover: new.recover,
        recoveries: new.recoveries,
        remember: true,
        ..record
    });
    Change { record, rows }
}

/// Returns the trigger of a declaration, and the zone in which it is read.
pub(super) fn declared_trigger(record: &Record) -> Option<(String, String)> {
    let declared = record.declared.as_deref()?;
    let [_, _, trigger, _, labels]: [String; 5] = serde_json::from_str(declared).ok()?;
    let zone = labels.rsplit(' ').next()?.to_owned();
    Some((trigger, zone))
}

/// Requests a run.
pub(crate) fn run_now(
    record: &Record,
    author: Option<&Author>,
    now: DateTime<Utc>,
) -> (Change, RunId) {
    let requests = record.requests.wrapping_add(1);
    let requested_by = author.map(|author| author.by.clone());
    let row = Row { requested_by, ..requested(record, requests, now) };
    let run = run_id(row.key);
    (Change { record: Some(Record { requests, ..record.clone() }), rows: vec![row] }, run)
}

pub(crate) fn remove(record: &Record, fate: Fate, now: DateTime<Utc>) -> Change {
    let reason = match fate {
        Fate::Replaced => SkipReason::Replaced,
        _ => SkipReason::Removed,
    };
    let mut rows = passed(record, reason, now);
    rows.push(Row::ended(record, fate, now));
    Change { record: None, rows }
}

/// How long after its last declaration the end of a job is remembered anew.
const REMEMBERED_ANEW: TimeDelta = TimeDelta::days(30);

/// Adapts a write that adds the job `new` to `current`, the job that has or had the id. Returns
/// whether the write is still needed.
pub(crate) fn give_way(
    new: &Record,
    write: &mut Write,
    current: Option<&Record>,
    on_conflict: OnConflict,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut write = |current: Option<&Record>, record: Record, rows: Vec<Row>| {
        write.expected = current.map(Record::stamp);
        write.record = Some(record);
        write.rows.retain(|row| row.key.incarnation == new.incarnation);
        write.rows.extend(rows);
        Ok(true)
    };
    let Some(current) = current else {
        // The job that this write would have changed or replaced is gone.
        return write(None, new.clone(), Vec::new());
    };
    if current.incarnation == new.incarnation {
        // The write was done, its response was lost, and the job has been changed since.
        return Ok(false);
    }
    let same = new.declared.is_some() && current.declared == new.declared;
    if let Some(ended_at) = current.ended_at {
        // An ended job stays ended until it is declared differently.
        return match on_conflict {
            OnConflict::Keep | OnConflict::Reconcile if same => {
                if now - ended_at > REMEMBERED_ANEW {
                    write(Some(current), current.clone(), Vec::new())
                } else {
                    Ok(false)
                }
            }
            _ => write(Some(current), new.clone(), Vec::new()),
        };
    }
    match on_conflict {
        OnConflict::Error => Err(Error::duplicate_id(format!(
            "there is a job `{}` already: choose another id, or say `.on_conflict(..)`",
            current.id
        ))),
        OnConflict::Reconcile if !same => {
            let Change { record, rows } = reconcile(current, new, now);
            write(Some(current), record.unwrap_or_else(|| new.clone()), rows)
        }
        OnConflict::Keep | OnConflict::Reconcile if new.remember && !current.remember => {
            write(Some(current), Record { remember: true, ..current.clone() }, Vec::new())
        }
        OnConflict::Keep | OnConflict::Reconcile => Ok(false),
        OnConflict::Replace => {
            let rows = remove(current, Fate::Replaced, now).rows;
            write(Some(current), new.clone(), rows)
        }
    }
}
