//! The clocks of a simulated machine: a wall clock that can be wrong and can step, and one that
//! counts elapsed time, except while the machine is suspended.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Reading;

/// True time, in microseconds since the simulation began.
pub(super) type Micros = i64;

/// The largest difference between clocks that agree.
pub(super) const AGREEMENT: Micros = 10_000;

/// When the simulation begins, by the store's clock.
pub(super) fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_774_738_800_000).unwrap_or_default()
}

/// Returns the time of an exact clock.
pub(super) fn instant(now: Micros) -> DateTime<Utc> {
    epoch() + TimeDelta::microseconds(now)
}

/// Returns the true time at which an exact clock shows this instant.
pub(super) fn micros(instant: DateTime<Utc>) -> Micros {
    (instant - epoch()).num_microseconds().unwrap_or(Micros::MAX)
}

#[derive(Clone, Debug)]
pub(super) struct Clocks {
    booted: Micros,
    /// How much faster than true time the clocks are, in millionths.
    drift: i64,
    suspended: Micros,
    /// How far the wall clock is ahead of an exact one, including all steps.
    skew: Micros,
}

impl Clocks {
    pub(super) fn new(now: Micros, drift: i64, skew: Micros) -> Clocks {
        Clocks { booted: now, drift, suspended: 0, skew }
    }

    pub(super) fn read(&self, now: Micros) -> Reading {
        let elapsed = self.elapsed(now);
        let wall = self.booted + elapsed + self.suspended + self.skew;
        Reading { wall: instant(wall), elapsed: TimeDelta::microseconds(elapsed), together: true }
    }

    /// Returns how far the wall clock is ahead of an exact one.
    pub(super) fn ahead(&self, now: Micros) -> Micros {
        micros(self.read(now).wall) - now
    }

    pub(super) fn elapsed(&self, now: Micros) -> Micros {
        let awake = now - self.booted - self.suspended;
        awake + awake / 1_000_000 * self.drift
    }

    /// Returns when this much time has elapsed, unless the machine is suspended.
    pub(super) fn reaches(&self, elapsed: Micros) -> Micros {
        // Just before, so that a moment later is enough.
        let awake = elapsed - elapsed / 1_000_000 * self.drift;
        self.booted + self.suspended + awake
    }

    pub(super) fn suspend(&mut self, time: Micros) {
        self.suspended += time;
    }

    pub(super) fn step(&mut self, by: Micros) {
        self.skew += by;
    }

    /// Returns the clocks after a restart of the machine.
    pub(super) fn booted(&self, now: Micros) -> Clocks {
        let wall = self.read(now).wall;
        let skew = micros(wall) - now;
        Clocks { booted: now, drift: self.drift, suspended: 0, skew }
    }
}
