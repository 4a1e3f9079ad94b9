//! What becomes of a trigger when the clock is set or the rules of time zones change.

use std::num::NonZeroU64;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Trigger,
    instant::{before, just_before},
    kinds::{Members, Schedule as _},
    limits::Limits,
    moment::Moment,
};
use crate::error::Error;

impl Trigger {
    /// Whether the fire times are counted from when the job is added, and so are elapsed time.
    pub(crate) fn is_elapsed_time(&self) -> bool {
        if !self.kind.is_grid() {
            return self.kind.is_elapsed_time();
        }
        let open = self.limits().open;
        self.start.is_none() && open.start.or(open.first).is_none_or(Moment::is_delay)
    }

    /// Moves the grid of an anchored trigger of elapsed time, as a step of the wall clock asks. Of a
    /// combination only those members move that are of elapsed time.
    pub(crate) fn shift(&mut self, by: TimeDelta) {
        let shifted = |t: DateTime<Utc>| t.checked_add_signed(by).unwrap_or(t);
        self.kind.shift(by, self.start);
        if !self.moves_as_a_whole() {
            return;
        }
        // The end that the user gave stays: that is an instant.
        self.start = self.start.map(shifted);
        if let Some(limits) = &mut self.limits {
            limits.first = limits.first.map(shifted);
            limits.times_since = limits.times_since.map(shifted);
            limits.elapsed_end = limits.elapsed_end.map(shifted);
            limits.last = limits.last.map(shifted);
        }
    }

    /// Whether a [shift](Trigger::shift) moves all of it, and not some members alone.
    pub(crate) fn moves_as_a_whole(&self) -> bool {
        self.kind.members().is_none_or(Members::all_are_elapsed_time)
    }

    /// Has a trigger go on from `now`, although the fire times before `used_to` are used up; says which is
    /// the first, if it is earlier than that. As many fire times are left as before, if their number is
    /// limited, and the end is as far, if that is elapsed time.
    pub(crate) fn corrected(
        &mut self,
        used_to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let mut corrected = self.clone();
        corrected.correct_members(used_to, now);
        let first = corrected.go_on(self.left(used_to), now)?;
        let Some(first) = first.filter(|&first| first < used_to) else { return Ok(None) };
        if let Some(limits) = &mut corrected.limits
            && let Some(end) = limits.elapsed_end
        {
            let next = self.next_after(before(used_to))?.unwrap_or(used_to);
            limits.elapsed_end = end.checked_add_signed(first - next);
        }
        *self = corrected;
        Ok(Some(first))
    }

    /// Has the members of a combination go on from `now` that have not moved with the clock.
    pub(crate) fn correct_members(&mut self, used_to: DateTime<Utc>, now: DateTime<Utc>) {
        self.kind.change_members(|members| members.correct(used_to, now));
    }

    /// The fire times that are left from an instant on, if their number is limited.
    pub(crate) fn left(&self, from: DateTime<Utc>) -> Option<Left> {
        let last = self.limits().last?;
        let next = self.next_after(before(from)).ok().flatten();
        let count = next.map_or(0, |next| self.count(next, last, u64::MAX));
        Some(Left { count, lasting: last - next.unwrap_or(last) })
    }

    /// Has a trigger go on from an instant with so many fire times; says which is the first.
    pub(crate) fn go_on(
        &mut self,
        left: Option<Left>,
        from: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(left) = left else { return self.first(from) };
        let limits = Limits { times: None, times_since: None, last: None, ..self.limits().clone() };
        let unlimited = self.clone().with_limits(limits.clone());
        let Some(first) = unlimited.first(from)? else { return Ok(None) };
        let limits = match NonZeroU64::new(left.count) {
            None => Limits { last: Some(just_before(from)?), ..limits },
            Some(times) => match unlimited.nth(Some(first), times) {
                Ok(last) => Limits { times: Some(times), times_since: Some(first), last, ..limits },
                // Too many to count.
                Err(_) => Limits { last: first.checked_add_signed(left.lasting), ..limits },
            },
        };
        *self = unlimited.with_limits(limits);
        Ok((left.count > 0).then_some(first))
    }

    /// Counts anew to the last of a number of fire times, since the rules of time zones have changed; says
    /// whether it is another.
    pub(crate) fn recount(&mut self) -> bool {
        if !self.goes_by_wall_clock() {
            return false;
        }
        let mut changed = false;
        self.kind.change_members(|members| changed = members.recount());
        let limits = self.limits();
        if let (Some(times), Some(since)) = (limits.times, limits.times_since) {
            let limits = Limits { last: None, ..limits.clone() };
            let unlimited = self.clone().with_limits(limits.clone());
            let last =
                unlimited.first_when_added(since).and_then(|first| unlimited.nth(first, times));
            if let Ok(last) = last
                && last != self.limits().last
            {
                *self = unlimited.with_limits(Limits { last, ..limits });
                changed = true;
            }
        }
        changed
    }

    /// Whether the fire times depend on the rules of a time zone.
    pub(crate) fn goes_by_wall_clock(&self) -> bool {
        self.names_dates()
            || self.days().is_some()
            || self.kind.members().is_some_and(Members::any_goes_by_wall_clock)
    }
}

/// The fire times that are left of a limited number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    count: u64,
    /// How long from the first of them to the last.
    lasting: TimeDelta,
}

impl Left {
    pub(super) fn is_none(self) -> bool {
        self.count == 0
    }
}
