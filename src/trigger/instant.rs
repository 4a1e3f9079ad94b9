//! Arithmetic on instants: fire times are whole milliseconds.

use std::fmt;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::error::Error;

/// `t` plus so many milliseconds, if the calendar reaches that far.
pub(super) fn add_millis(t: DateTime<Utc>, millis: i64) -> Option<DateTime<Utc>> {
    t.checked_add_signed(TimeDelta::try_milliseconds(millis)?)
}

/// `t`, rounded down to a whole millisecond; a leap second counts as the second after it.
///
/// Every instant that comes in passes here or through [`whole_millis`]. Chrono keeps a leap second
/// as nanoseconds past a whole second, and its arithmetic with such instants is off by as much.
#[inline]
pub(super) fn floor_millis(t: DateTime<Utc>) -> DateTime<Utc> {
    if is_whole_millis(t) { t } else { rounded_down(t) }
}

/// Nearly all of them are whole already, and to see that is quicker than to round.
#[inline]
fn is_whole_millis(t: DateTime<Utc>) -> bool {
    let nanos = t.timestamp_subsec_nanos();
    nanos < SECOND && nanos.is_multiple_of(1_000_000)
}

const SECOND: u32 = 1_000_000_000;

#[cold]
fn rounded_down(t: DateTime<Utc>) -> DateTime<Utc> {
    if t.timestamp_subsec_nanos() < SECOND {
        return t.trunc_subsecs(3);
    }
    let next = t.timestamp().checked_add(1);
    let next = next.and_then(|second| DateTime::from_timestamp(second, 0));
    next.unwrap_or(DateTime::<Utc>::MAX_UTC.trunc_subsecs(3))
}

/// `t`, rounded up to a whole millisecond: a fire time is never earlier than what was asked for. A
/// leap second counts as the second after it.
#[inline]
pub(super) fn whole_millis(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    if is_whole_millis(t) { Ok(t) } else { rounded_up(t) }
}

#[cold]
fn rounded_up(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let floor = floor_millis(t);
    if floor >= t {
        return Ok(floor);
    }
    add_millis(floor, 1).ok_or_else(|| {
        Error::invalid_trigger(format!("{} is past the end of the calendar", rfc3339(t)))
    })
}

/// The last whole millisecond strictly before `t`.
pub(super) fn just_before(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    Ok(add_millis(whole_millis(t)?, -1).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

/// The first whole millisecond strictly later than `t`.
pub(super) fn just_after(t: DateTime<Utc>) -> Option<DateTime<Utc>> {
    add_millis(floor_millis(t), 1)
}

/// The whole millisecond before a whole millisecond.
pub(super) fn before(t: DateTime<Utc>) -> DateTime<Utc> {
    t.checked_sub_signed(TimeDelta::milliseconds(1)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// An instant as texts and errors show it.
pub(crate) fn rfc3339(t: DateTime<Utc>) -> impl fmt::Display {
    t.format("%Y-%m-%dT%H:%M:%S%.fZ")
}
