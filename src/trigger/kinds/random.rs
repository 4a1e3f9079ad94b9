//! Fire times at random distances between two bounds, without a memory.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{ImmediateMark, KindOption, Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::add_millis,
        period::{duration, in_units},
        quote::one_line,
        search::Budget,
    },
    zone::TimeZone,
};

/// A trigger that fires at random distances, of elapsed time, between two bounds; made by
/// [`every(5).to(10).minutes()`](crate::trigger::Count::to) or `every("5 to 10 minutes")`.
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
    immediate: bool,
    /// Where the grid started, in milliseconds since 1970, if it was moved: the offsets stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
}

impl Random {
    pub(in crate::trigger) fn new(min_ms: i64, max_ms: i64) -> Result<Random, Error> {
        let random = Random { min_ms, max_ms, immediate: false, seed: None };
        random.check()?;
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

    fn check(&self) -> Result<(), Error> {
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
    fn grid_start(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.immediate {
            return Some(now);
        }
        add_millis(now, self.min_ms + self.spread() / 2)
    }

    /// The `step`-th fire time, counted from 0.
    fn at_step(&self, start: DateTime<Utc>, step: i64) -> Option<DateTime<Utc>> {
        let grid = step.checked_mul(self.mean())?;
        // `immediately` means it.
        let offset = if self.immediate && step == 0 {
            0
        } else {
            let seed = self.seed.unwrap_or(start.timestamp_millis());
            let hash = mix(seed.wrapping_add(grid) as u64);
            // The spread is far below 2^63, so taking the rest is fair.
            (hash % (self.spread() as u64 + 1)) as i64
        };
        add_millis(start, grid.checked_add(offset)?)
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

impl Schedule for Random {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let next = search.start.or_else(|| self.grid_start(search.asked)).and_then(|start| {
            let step = self.step(start, search.asked);
            if step < 0 {
                return self.at_step(start, 0);
            }
            let in_step = self.at_step(start, step).filter(|&fire| fire > search.asked);
            in_step.or_else(|| self.at_step(start, step + 1))
        });
        budget.spend(1)?;
        Ok(next)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let last = search.start.and_then(|start| {
            let step = self.step(start, search.from);
            let fire = |step: i64| (step >= 0).then(|| self.at_step(start, step))?;
            fire(step).filter(|&fire| fire <= search.from).or_else(|| fire(step - 1))
        });
        budget.spend(1)?;
        Ok(last)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, unit) = in_units([self.min_ms, self.max_ms].map(i64::unsigned_abs));
        write!(f, "every {} to {}{unit}", n[0], n[1])
    }

    fn description(&self) -> String {
        let bounds = [self.min_ms, self.max_ms].map(i64::unsigned_abs);
        format!("Every {}, at random", duration(bounds))
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, short: bool) -> fmt::Result {
        if self.immediate {
            f.write_str("; immediately")?;
        }
        match self.seed {
            Some(seed) if !short => write!(f, "; seed {seed}"),
            _ => Ok(()),
        }
    }

    fn read_option(&mut self, option: &KindOption<'_>) -> Result<bool, Error> {
        match option.name {
            "immediately" => self.immediate = true,
            "seed" => {
                let seed = option.value.parse().map_err(|_| {
                    Error::invalid_trigger(format!(
                        "`{}`: the seed is not a whole number",
                        one_line(option.clause)
                    ))
                })?;
                self.seed = Some(seed);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn validate(&mut self, _end: Option<DateTime<Utc>>) -> Result<(), Error> {
        self.check()
    }

    fn anchor(
        &mut self,
        start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        _zone: TimeZone,
    ) -> Result<(), Error> {
        if start.is_some() {
            return Ok(());
        }
        let first = self.grid_start(now).ok_or_else(|| {
            Error::invalid_trigger(format!(
                "a period of {} ms reaches past the end of the calendar: use a shorter one",
                self.min_ms
            ))
        })?;
        *start = Some(first);
        Ok(())
    }

    fn shift(&mut self, _by: TimeDelta, start: Option<DateTime<Utc>>) {
        // The offsets stay what they are, although the start moves.
        if let Some(start) = start {
            self.seed.get_or_insert(start.timestamp_millis());
        }
    }

    fn is_grid(&self) -> bool {
        true
    }

    fn is_immediate(&self) -> bool {
        self.immediate
    }

    fn immediate_mark(&mut self) -> Option<ImmediateMark<'_>> {
        // The first fire time has no offset as long as the mark is set.
        Some(ImmediateMark { is_set: &mut self.immediate, stays: true })
    }

    fn nth(&self, start: DateTime<Utc>, first: DateTime<Utc>, steps: i64) -> Option<DateTime<Utc>> {
        self.at_step(start, self.step(start, first).checked_add(steps)?)
    }

    fn count(
        &self,
        start: Option<DateTime<Utc>>,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> Option<u64> {
        let start = start?;
        Some((self.step(start, last) - self.step(start, first)).unsigned_abs() + 1)
    }
}

/// The finalizer of SplitMix64: each bit of what goes in tells on every bit of what comes out.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
