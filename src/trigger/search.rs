//! Searches that are bounded: a budget, the leapfrog among schedules, and grids by arithmetic.

use chrono::{DateTime, Utc};

use crate::error::Error;

/// What a search may still spend. A unit is some 25 ns of work.
///
/// Work is counted, not timed, so the same question always has the same answer.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    /// For one fire time: some 600 µs, and a millisecond at most.
    pub(super) fn for_one() -> Budget {
        Budget(24_000)
    }

    /// For a walk over many fire times.
    pub(super) fn for_many() -> Budget {
        Budget(400_000)
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u32 {
        self.0
    }

    pub(super) fn spend(&mut self, units: u32) -> Result<(), Error> {
        match self.0.checked_sub(units) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(Error::search_exhausted(
                    "the search ran out of its budget: there may be a fire time further off, or none",
                ))
            }
        }
    }

    /// Spends what a search of the calendar costs: it grows with how far the search went, which is
    /// to the last year, or the first, when it was in vain. `factor` tells how much dearer the way is
    /// than one of cron.
    pub(super) fn spend_on_calendar(
        &mut self,
        from: DateTime<Utc>,
        to: Option<DateTime<Utc>>,
        factor: u32,
    ) -> Result<(), Error> {
        const BASE: u32 = 8;
        const DAYS_PER_UNIT: u64 = 100;
        // Half the calendar is what is left from now on, and a bit more.
        const IN_VAIN: u64 = 65_000;
        let days = to.map_or(IN_VAIN, |to| (to - from).num_days().unsigned_abs().min(110_000));
        self.spend(BASE + factor * (days / DAYS_PER_UNIT) as u32)
    }
}

/// Moves an instant on until all of `n` schedules name it.
///
/// `go` moves it as far as one of them says, in one direction and not at all if that one names it.
pub(super) fn leapfrog(
    n: usize,
    mut at: DateTime<Utc>,
    budget: &mut Budget,
    mut go: impl FnMut(usize, DateTime<Utc>, &mut Budget) -> Result<Option<DateTime<Utc>>, Error>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let mut agreed = 0;
    for index in (0..n).cycle() {
        match go(index, at, budget)? {
            None => break,
            Some(same) if same == at => agreed += 1,
            Some(next) => (at, agreed) = (next, 1),
        }
        if agreed == n {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The instants `first + k × period`, in milliseconds since 1970, for all `k` that are not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) first: i64,
    /// None if the second instant is past the end of the calendar.
    pub(super) period: Option<i64>,
}

/// More milliseconds than the calendar has.
const CALENDAR: i128 = 1 << 54;

impl Grid {
    pub(super) fn new(first: DateTime<Utc>, period: i64) -> Grid {
        Grid { first: first.timestamp_millis(), period: Some(period) }
    }

    /// The instants that are on both grids, which are a grid again, by the Chinese remainder
    /// theorem; or none.
    pub(super) fn meet(self, other: Grid) -> Option<Grid> {
        let (p, q) = match (self.period, other.period) {
            (Some(p), Some(q)) => (i128::from(p), i128::from(q)),
            (None, _) => return other.contains(self.first).then_some(self),
            (_, None) => return self.contains(other.first).then_some(other),
        };
        let (a, b) = (i128::from(self.first), i128::from(other.first));
        let (gcd, inverse) = gcd_and_inverse(p, q);
        if (b - a) % gcd != 0 {
            return None;
        }
        // All factors are less than 2^63, and so are the quotients.
        let steps = ((b - a) / gcd % (q / gcd) * inverse).rem_euclid(q / gcd);
        let common = p / gcd * q;
        let any = a + p * steps;
        let from = a.max(b);
        let first = from + (any - from).rem_euclid(common);
        let first = i64::try_from(first).ok().filter(|&first| i128::from(first) < CALENDAR)?;
        Some(Grid { first, period: i64::try_from(common).ok().filter(|_| common < CALENDAR) })
    }

    fn contains(&self, millis: i64) -> bool {
        let steps = millis.checked_sub(self.first).filter(|&steps| steps >= 0);
        steps.is_some_and(|steps| self.period.map_or(steps == 0, |period| steps % period == 0))
    }

    /// The first of its instants that is not earlier than `t`, a whole millisecond.
    pub(super) fn at_or_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let t = t.timestamp_millis();
        if t <= self.first {
            return DateTime::from_timestamp_millis(self.first);
        }
        let period = self.period?;
        let past = (t - self.first) % period;
        let to_go = if past == 0 { 0 } else { period - past };
        DateTime::from_timestamp_millis(t.checked_add(to_go)?)
    }

    /// The last of its instants that is not later than `t`.
    pub(super) fn at_or_before(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let t = t.timestamp_millis();
        if t < self.first {
            return None;
        }
        let past = self.period.map_or(t - self.first, |period| (t - self.first) % period);
        DateTime::from_timestamp_millis(t - past)
    }

    /// How many of its instants lie in `first..=last`, both of which are some.
    pub(super) fn count(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> u64 {
        self.period
            .map_or(1, |period| ((last - first).num_milliseconds() / period).unsigned_abs() + 1)
    }

    /// Whether some of its instants leave a remainder, divided by `cycle`, that `is_match` takes;
    /// `shift` is added to them first. Yes if there are too many remainders to look at.
    pub(super) fn hits(&self, cycle: i64, shift: i64, is_match: impl Fn(i64) -> bool) -> bool {
        const MANY: i64 = 3_000;
        let first = (self.first + shift).rem_euclid(cycle);
        let Some(step) = self.common_divisor(cycle) else { return is_match(first) };
        cycle / step > MANY || (first % step..cycle).step_by(step as usize).any(is_match)
    }

    /// Whether some of its instants are whole seconds.
    pub(super) fn has_whole_seconds(&self) -> bool {
        match self.common_divisor(1000) {
            Some(step) => self.first % step == 0,
            None => self.first % 1000 == 0,
        }
    }

    fn common_divisor(&self, of: i64) -> Option<i64> {
        self.period.map(|period| gcd_and_inverse(i128::from(period), i128::from(of)).0 as i64)
    }
}

/// The greatest common divisor of `p` and `q`, and a number by which `p` is that, modulo `q`.
fn gcd_and_inverse(p: i128, q: i128) -> (i128, i128) {
    let (mut a, mut b) = (p, q);
    let (mut x, mut y) = (1, 0);
    while b != 0 {
        let quotient = a / b;
        (a, b) = (b, a - quotient * b);
        (x, y) = (y, x - quotient * y);
    }
    (a, x)
}
