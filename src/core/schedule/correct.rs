//! What becomes of a durable job when the store's clock was set back, or the rules of its time zone have
//! changed: pure functions of its record.

use chrono::{DateTime, TimeDelta, Utc};

use super::ahead::Definition;
use crate::{
    core::change::declared_trigger,
    error::Error,
    ledger::Record,
    trigger::{Kind, Trigger},
};

/// No fire time is claimed longer before it comes.
const AHEAD: TimeDelta = TimeDelta::seconds(61);

/// The record as it goes on from `now`, if fire times have been claimed that come so much later that the
/// clock must have been wrong: later than `longest`, or for elapsed time than any is claimed ahead.
///
/// That follows from the record alone, so it does not matter which node finds it, how often, and whether
/// one was there when the clock was set back.
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
            // Before the first of them it is when the job was added that tells.
            if claimed.unwrap_or(record.added_at) <= ahead {
                return None;
            }
            // As late as can be, and beside the fire times that the ledger has.
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
            // The ledger has some of them already.
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

/// The record as it goes on by the rules of time zones of today, if its next fire time is none by them, or
/// the last of so many is another.
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
            // The ledger may have some of what comes now, by the rules of before.
            let taken_to = record.taken_to.max(Some(now + AHEAD));
            let record = recounted.unwrap_or_else(|| record.clone());
            Some(Record { next_fire, taken_to, ..record })
        }
    }
}

/// What takes the place of a next fire time, which is later than `now`, if that is none by the rules of
/// time zones of today.
///
/// A fire time that the new rules have moved to before `now` is late, not lost.
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
    // If it is the only one around, it is the same in all but the instant.
    let is_late = moved.is_some_and(|moved| moved <= now) && before == moved;
    let anew = if is_late { moved } else { trigger.next_after(now)? };
    Ok(Some(anew))
}

/// The period of an interval that was declared without a start, which is elapsed time.
fn elapsed_period(record: &Record, trigger: &Trigger) -> Option<TimeDelta> {
    let Kind::Interval(interval) = trigger.kind() else { return None };
    // What it was declared as says nothing about a trigger that it was given since.
    let declared = declared_trigger(record).filter(|_| record.rescheduled_at.is_none())?;
    let declared: Trigger = serde_json::from_str(&declared.0).ok()?;
    let period = TimeDelta::try_milliseconds(interval.period_ms())?;
    declared.is_elapsed_time().then_some(period)
}
