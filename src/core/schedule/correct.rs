//! Corrections of durable jobs after the store's clock was set back or the rules of a time zone
//! changed: pure functions of a record.

use chrono::{DateTime, TimeDelta, Utc};

use super::ahead::Definition;
use crate::{
    core::change::declared_trigger,
    error::Error,
    ledger::Record,
    trigger::{Kind, Trigger},
};

/// No fire time is claimed further ahead.
const AHEAD: TimeDelta = TimeDelta::seconds(61);

/// Returns the record as it continues from `now` if the clock must have been wrong, because a
/// claimed fire time is too far ahead: further than `longest`, or for elapsed time further than any
/// claim reaches.
///
/// The decision depends on the record alone. So it does not matter which node makes it, how often,
/// and whether a node was alive when the clock was set back.
pub(in crate::core) fn corrected(
    record: &Record,
    now: DateTime<Utc>,
    longest: TimeDelta,
) -> Option<Record> {
    let ahead = now.checked_add_signed(AHEAD)?;
    let next = record.next_fire.filter(|&next| next > ahead)?;
    let mut trigger = Definition::read(record).ok()?.trigger;
    let claimed = trigger.last_at_or_before(next - TimeDelta::milliseconds(1)).ok()?;
    let (next_fire, taken_to) = match elapsed_period(record, &trigger) {
        Some(period) => {
            // Before the first claim, the instant of adding the job shows whether the clock was
            // wrong.
            if claimed.unwrap_or(record.added_at) <= ahead {
                return None;
            }
            // As late as possible, and apart from the fire times in the ledger.
            let mut by = now.checked_add_signed(period)? - next;
            if by.num_milliseconds() % period.num_milliseconds() == 0 {
                by += TimeDelta::milliseconds(1);
            }
            trigger.shift(by);
            let just_before = next.checked_add_signed(by - TimeDelta::milliseconds(1))?;
            (trigger.next_after(just_before).ok()??, record.taken_to)
        }
        None => {
            claimed.filter(|&claimed| claimed > now + longest.max(AHEAD))?;
            let first = trigger.corrected(next, now).ok()??;
            // The ledger already has some of these fire times.
            (first, record.taken_to.max(claimed))
        }
    };
    Some(Record {
        trigger: serde_json::to_string(&trigger).ok()?,
        next_fire: Some(next_fire),
        taken_to,
        resumed_at: record.resumed_at.map(|at| at.min(now)),
        rescheduled_at: record.rescheduled_at.map(|at| at.min(now)),
        ..record.clone()
    })
}

/// Returns the record as it continues by the current rules of time zones, if its next fire time is
/// none by these rules, or if the last fire time of a limited number has changed.
pub(in crate::core) fn rezoned_record(record: &Record, now: DateTime<Utc>) -> Option<Record> {
    let next = record.next_fire?;
    let mut trigger = Definition::read(record).ok()?.trigger;
    let recounted = if trigger.recount() {
        Some(Record { trigger: serde_json::to_string(&trigger).ok()?, ..record.clone() })
    } else {
        None
    };
    let is_ahead = next > now + AHEAD;
    match is_ahead.then(|| rezoned(&trigger, next, now).ok().flatten().flatten()).flatten() {
        None => recounted,
        next_fire => {
            // The ledger may have some of the coming fire times, by the old rules.
            let taken_to = record.taken_to.max(Some(now + AHEAD));
            let record = recounted.unwrap_or_else(|| record.clone());
            Some(Record { next_fire, taken_to, ..record })
        }
    }
}

/// Returns the replacement of the next fire time `next`, which is later than `now`, if `next` is no
/// fire time by the current rules of time zones.
///
/// A fire time that the new rules moved to before `now` is late, not lost.
pub(in crate::core) fn rezoned(
    trigger: &Trigger,
    next: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Option<DateTime<Utc>>>, Error> {
    // No change of rules moves a clock further.
    const FARTHEST: TimeDelta = TimeDelta::hours(3);
    if !trigger.goes_by_wall_clock() {
        return Ok(None);
    }
    let before = trigger.last_at_or_before(next)?;
    if before == Some(next) {
        return Ok(None);
    }
    let moved = trigger.next_after(next.checked_sub_signed(FARTHEST).unwrap_or(now))?;
    // If it is the only fire time nearby, it is the same one at another instant.
    let is_late = moved.is_some_and(|moved| moved <= now) && before == moved;
    let anew = if is_late { moved } else { trigger.next_after(now)? };
    Ok(Some(anew))
}

/// Returns the period of an interval that was declared without a start, which is elapsed time.
fn elapsed_period(record: &Record, trigger: &Trigger) -> Option<TimeDelta> {
    let Kind::Interval(interval) = trigger.kind() else { return None };
    // The declaration does not describe a trigger that the job got later.
    let declared = declared_trigger(record).filter(|_| record.rescheduled_at.is_none())?;
    let declared: Trigger = serde_json::from_str(&declared.0).ok()?;
    let period = TimeDelta::try_milliseconds(interval.period_ms())?;
    declared.is_elapsed_time().then_some(period)
}
