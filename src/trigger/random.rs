//! Fire times at random distances between two bounds, without a memory.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Interval, Kind, add_millis};
use crate::error::Error;

/// A trigger that fires at random distances, of elapsed time, between two bounds; made by
/// [`every(5).to(10).minutes()`](super::Count::to) or `every("5 to 10 minutes")`.
///
/// There is a grid of the mean period, and each of its times is moved by an offset that is a hash
/// of it. So the fire times look random, but are the same whenever they are asked for. The offsets
/// span half of what lies between the bounds, which keeps the distance from one fire to the next
/// within them.
///
/// # Serialized form
///
/// `{"type":"random","min_ms":300000,"max_ms":600000}`, with `"immediate":true` if it was asked for,
/// and `"seed"` once a step of the clock has moved the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    min_ms: i64,
    max_ms: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) immediate: bool,
    /// Where the grid started, in milliseconds since 1970, if it was moved: the offsets stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
}

impl Random {
    pub(super) fn new(min: Interval, max: Interval) -> Result<Random, Error> {
        let random = Random {
            min_ms: min.period_ms(),
            max_ms: max.period_ms(),
            immediate: false,
            seed: None,
        };
        random.validate()?;
        Ok(random)
    }

    /// The shortest distance between two fire times.
    pub fn min_ms(&self) -> i64 {
        self.min_ms
    }

    /// The longest distance between two fire times.
    pub fn max_ms(&self) -> i64 {
        self.max_ms
    }

    pub(super) fn seed(&self) -> Option<i64> {
        self.seed
    }

    pub(super) fn with_seed(self, seed: i64) -> Random {
        Random { seed: Some(seed), ..self }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let Random { min_ms, max_ms, .. } = *self;
        if min_ms < 1 {
            return Err(Error::invalid_trigger(format!(
                "a period of {min_ms} ms is too short: the shortest is 1 ms"
            )));
        }
        if max_ms < min_ms {
            return Err(Error::invalid_trigger(format!(
                "a random period from {min_ms} ms to {max_ms} ms ends before it begins: swap them"
            )));
        }
        Ok(())
    }

    /// When the grid starts that is asked for at `now`: so that its first fire time lies around
    /// the mean period, and within the bounds.
    pub(super) fn start(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.immediate {
            return Some(now);
        }
        add_millis(now, self.min_ms + self.spread() / 2)
    }

    /// Makes the offsets stay what they are, although the start will move.
    pub(super) fn keep_offsets(&mut self, start: DateTime<Utc>) {
        self.seed.get_or_insert(start.timestamp_millis());
    }

    pub(super) fn next_after(
        &self,
        start: DateTime<Utc>,
        t: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let step = self.step(start, t);
        if step < 0 {
            return self.nth(start, 0);
        }
        self.nth(start, step).filter(|&fire| fire > t).or_else(|| self.nth(start, step + 1))
    }

    pub(super) fn last_at_or_before(
        &self,
        start: DateTime<Utc>,
        t: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let step = self.step(start, t);
        let fire = |step: i64| (step >= 0).then(|| self.nth(start, step))?;
        fire(step).filter(|&fire| fire <= t).or_else(|| fire(step - 1))
    }

    /// How many fire times lie in `first..=last`, both of which are fire times.
    pub(super) fn count(
        &self,
        start: DateTime<Utc>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> u64 {
        (self.step(start, last) - self.step(start, first)).unsigned_abs() + 1
    }

    /// The `step`-th fire time, counted from 0.
    pub(super) fn nth(&self, start: DateTime<Utc>, step: i64) -> Option<DateTime<Utc>> {
        let grid = step.checked_mul(self.mean())?;
        // `immediately` means it.
        let offset = match self.immediate && step == 0 {
            true => 0,
            false => {
                let seed = self.seed.unwrap_or(start.timestamp_millis());
                let hash = mix(seed.wrapping_add(grid) as u64);
                // The spread is far below 2^63, so taking the rest is fair.
                (hash % (self.spread() as u64 + 1)) as i64
            }
        };
        add_millis(start, grid.checked_add(offset)?)
    }

    /// The fire time so many steps after `first`, which is one.
    pub(super) fn nth_from(
        &self,
        start: DateTime<Utc>,
        first: DateTime<Utc>,
        steps: i64,
    ) -> Option<DateTime<Utc>> {
        self.nth(start, self.step(start, first).checked_add(steps)?)
    }

    /// Which step of the grid `t` lies in; all fire times of a step lie in it.
    fn step(&self, start: DateTime<Utc>, t: DateTime<Utc>) -> i64 {
        (t - start).num_milliseconds().div_euclid(self.mean())
    }

    fn mean(&self) -> i64 {
        self.min_ms + self.spread()
    }

    /// The offsets are `0..=spread`. It is less than the mean, so that no two fire times meet.
    fn spread(&self) -> i64 {
        (self.max_ms - self.min_ms) / 2
    }
}

impl From<Random> for Kind {
    fn from(random: Random) -> Kind {
        Kind::Random(Box::new(random))
    }
}

/// The finalizer of SplitMix64: each bit of what goes in tells on every bit of what comes out.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
