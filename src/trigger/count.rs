//! How many times a trigger fires, and which fire time is the last of a number of them.

use std::num::NonZeroU64;

use chrono::{DateTime, Utc};

use super::{Trigger, kinds::Schedule as _, limits::Limits, search::Budget};
use crate::error::Error;

impl Trigger {
    /// How many fire times lie in `first..=last`, both of which are fire times. The answer is
    /// exact up to `limit`, and a lower bound past it; a search that is too long to go on with
    /// makes it a lower bound, too.
    pub(crate) fn count(&self, first: DateTime<Utc>, last: DateTime<Utc>, limit: u64) -> u64 {
        if self.is_plain()
            && let Some(count) = self.kind.count(self.start, first, last)
        {
            return count;
        }
        let budget = &mut Budget::for_many();
        let (mut count, mut t) = (1, first);
        while t < last && count < limit {
            match self.next_within(t, last, budget) {
                Ok(Some(next)) => (t, count) = (next, count + 1),
                _ => break,
            }
        }
        count
    }

    /// The `times`-th fire time of an anchored trigger from its fire time `first` on, if it has so many.
    pub(super) fn nth(
        &self,
        first: Option<DateTime<Utc>>,
        times: NonZeroU64,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        const WALK: u64 = 10_000;
        let times = times.get();
        if let (Some(first), Some(start), true) = (first, self.start, self.is_plain())
            && self.kind.is_grid()
        {
            let steps = i64::try_from(times - 1).ok();
            return Ok(steps.and_then(|steps| self.kind.nth(start, first, steps)));
        }
        if times > WALK {
            return Err(Error::invalid_trigger(format!(
                "times({times}) is more than a trigger that is no interval can count, which is {WALK}: use `until`"
            )));
        }
        let budget = &mut Budget::for_many();
        let mut fire = first;
        for _ in 1..times {
            let Some(t) = fire else { break };
            fire = self
                .next_within(t, DateTime::<Utc>::MAX_UTC, budget)
                .map_err(|error| self.explained(error, t))?;
        }
        Ok(fire)
    }

    /// The same, but for its first fire time alone.
    pub(crate) fn once(self) -> Trigger {
        if self.kind.fires_once() {
            return self;
        }
        let limits = self.limits().clone();
        let limits = Limits { times: Some(NonZeroU64::MIN), times_since: None, ..limits };
        self.with_limits(limits)
    }
}
