//! What becomes of a durable job when the store's clock was set back, or the rules of its time zone have
//! changed: pure functions of its record.

use chrono::{DateTime, TimeDelta, Utc};

use super::{ahead::Definition, change::declared_trigger};
use crate::{
    store::Record,
    trigger::{Kind, Trigger},
};

/// No fire time is claimed longer before it comes.
const AHEAD: TimeDelta = TimeDelta::seconds(61);

/// The record as it goes on from `now`, if fire times have been claimed that come so much later that the
/// clock must have been wrong: later than `longest`, or for elapsed time than any is claimed ahead.
///
/// That follows from the record alone, so it does not matter which node finds it, how often, and whether
/// one was there when the clock was set back.
pub(super) fn corrected(record: &Record, now: DateTime<Utc>, longest: TimeDelta) -> Option<Record> {
    let next = record.next_fire.filter(|&next| next > now + AHEAD)?;
    let mut trigger = Definition::read(record).ok()?.trigger;
    let claimed = trigger.last_at_or_before(next - TimeDelta::milliseconds(1)).ok()?;
    let (next_fire, taken_to) = match elapsed_period(record, &trigger) {
        Some(period) => {
            if claimed.map_or(next - period, |claimed| claimed) <= now + AHEAD {
                return None;
            }
            // As late as can be, and beside the fire times that the ledger has.
            let mut by = now + period - next;
            if by.num_milliseconds() % period.num_milliseconds() == 0 {
                by += TimeDelta::milliseconds(1);
            }
            trigger.shift(by);
            (next + by, record.taken_to)
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

/// The record as it goes on by the rules of time zones of today, if its next fire time is none by them.
///
/// A fire time that the new rules have moved to before `now` is late, not lost.
pub(super) fn rezoned(record: &Record, now: DateTime<Utc>) -> Option<Record> {
    // No change of rules moves a clock further.
    const FARTHEST: TimeDelta = TimeDelta::hours(3);
    let next = record.next_fire.filter(|&next| next > now + AHEAD)?;
    let trigger = Definition::read(record).ok()?.trigger;
    let before = trigger.last_at_or_before(next).ok()?;
    if before == Some(next) || !trigger.goes_by_wall_clock() {
        return None;
    }
    let moved = trigger.next_after(next - FARTHEST).ok()?;
    let next_fire = match moved {
        // It is the only one around, so it is the same in all but the instant.
        Some(only) if only <= now && before == moved => only,
        _ => trigger.next_after(now).ok()??,
    };
    // The ledger may have some of what comes now, by the rules of before.
    let taken_to = record.taken_to.max(Some(now + AHEAD));
    Some(Record { next_fire: Some(next_fire), taken_to, ..record.clone() })
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
