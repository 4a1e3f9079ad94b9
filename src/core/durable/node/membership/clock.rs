//! The clock of the store, as far as a node knows it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Reading;

/// The local clocks and the store's clock at one moment.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Now {
    pub(in super::super) local: Reading,
    pub(in super::super) store: DateTime<Utc>,
}

impl Now {
    /// Returns the local elapsed time.
    pub(in super::super) fn elapsed(self) -> TimeDelta {
        self.local.elapsed
    }
}

/// The local wall clock and the store's clock.
#[derive(Debug)]
pub(super) struct Clocks {
    /// The measured clock of the store. A store without a clock uses the local wall clock.
    store: Option<StoreClock>,
    /// The time of the local wall clock when elapsed time was zero, adjusted for noticed steps.
    wall_epoch: DateTime<Utc>,
}

/// How a measurement has changed the estimate of the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockChange {
    /// How much further ahead of the local wall clock the store's clock is than estimated before.
    pub(super) moved: TimeDelta,
    /// How much further ahead of elapsed time it is.
    pub(super) by: TimeDelta,
    /// Whether the store's clock is more than a second behind the former estimate.
    pub(super) stepped_back: bool,
}

impl Clocks {
    pub(super) fn new(now: Reading) -> Clocks {
        let wall_epoch = now.wall.checked_sub_signed(now.elapsed).unwrap_or(now.wall);
        Clocks { store: None, wall_epoch }
    }

    pub(super) fn is_measured(&self) -> bool {
        self.store.is_some()
    }

    /// Returns the time of both clocks.
    pub(super) fn read(&self, local: Reading) -> Now {
        Now { local, store: self.store.map_or(local.wall, |clock| clock.now(local)) }
    }

    /// Converts an instant of the store's clock to the local wall clock.
    pub(super) fn to_local(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant.checked_sub_signed(self.ahead()).unwrap_or(instant)
    }

    /// Converts an instant of the local wall clock to the store's clock.
    pub(super) fn to_store(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant.checked_add_signed(self.ahead()).unwrap_or(instant)
    }

    /// Returns how far the store's clock is ahead of the local wall clock, as far as is known.
    pub(super) fn ahead(&self) -> TimeDelta {
        self.store.map_or(TimeDelta::zero(), |clock| clock.ahead_of(self.wall_epoch))
    }

    /// Shifts the local wall clock. Returns how much further ahead of it the store's clock is.
    pub(super) fn wall_stepped(&mut self, by: TimeDelta) -> TimeDelta {
        let before = self.ahead();
        self.wall_epoch = self.wall_epoch.checked_add_signed(by).unwrap_or(self.wall_epoch);
        self.ahead() - before
    }

    /// Refines the estimate by a reply with the time of the store's clock.
    pub(super) fn measure(
        &mut self,
        store_now: DateTime<Utc>,
        sent: Reading,
        now: Reading,
    ) -> ClockChange {
        let (measured, before) = (StoreClock::measure(store_now, sent, now), self.ahead());
        let clock = self.store.get_or_insert(measured);
        let zero = clock.zero;
        clock.refine(measured);
        let by = clock.zero - zero;
        ClockChange { moved: self.ahead() - before, by, stepped_back: -by > TimeDelta::seconds(1) }
    }
}

/// Whether the wall clock and elapsed time diverged between two readings, which puts a measurement
/// of the store's clock in doubt.
pub(super) fn have_parted(sent: Reading, now: Reading) -> bool {
    let parted = (now.wall - sent.wall) - (now.elapsed - sent.elapsed);
    parted.abs() > TimeDelta::milliseconds(1)
}

/// The store's clock as this node knows it: elapsed time plus an offset.
#[derive(Clone, Copy, Debug)]
struct StoreClock {
    /// The time of the store's clock when elapsed time was zero.
    zero: DateTime<Utc>,
    /// The largest error of `zero` at the time of the measurement.
    uncertainty: TimeDelta,
    measured_at: TimeDelta,
}

impl StoreClock {
    /// How fast two clocks may diverge: by one second in this many.
    const DRIFT: i32 = 5000;

    fn measure(store_now: DateTime<Utc>, sent: Reading, now: Reading) -> StoreClock {
        // Elapsed time stands still while the machine is suspended.
        let half_way = (now.elapsed - sent.elapsed).max(now.wall - sent.wall) / 2;
        // The store truncates to milliseconds: half of one is lost on average.
        let left_out = TimeDelta::microseconds(500);
        let zero =
            store_now.checked_sub_signed(now.elapsed - half_way - left_out).unwrap_or(store_now);
        StoreClock { zero, uncertainty: half_way + left_out, measured_at: now.elapsed }
    }

    fn now(&self, now: Reading) -> DateTime<Utc> {
        self.zero.checked_add_signed(now.elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Returns how far this clock is ahead of a clock that showed `zero` when elapsed time was
    /// zero. Two clocks within the uncertainty count as one: often they are one clock, and then
    /// durable jobs are as exact as jobs in memory, and never early.
    fn ahead_of(&self, zero: DateTime<Utc>) -> TimeDelta {
        let ahead = self.zero - zero;
        if ahead.abs() <= self.uncertainty { TimeDelta::zero() } else { ahead }
    }

    /// Adopts another measurement if it is more precise or contradicts this one.
    fn refine(&mut self, new: StoreClock) {
        let age = (new.measured_at - self.measured_at) / StoreClock::DRIFT;
        let uncertainty = self.uncertainty + age.max(TimeDelta::zero());
        let moved = new.zero - self.zero;
        if new.uncertainty <= uncertainty || moved.abs() > uncertainty + new.uncertainty {
            // A difference of less than a millisecond moves nothing.
            let whole = TimeDelta::milliseconds(moved.num_milliseconds());
            let uncertainty = new.uncertainty + (moved - whole).abs();
            *self = StoreClock { zero: self.zero + whole, uncertainty, ..new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the local clocks this many milliseconds after the start.
    fn reading(millis: i64) -> Reading {
        let wall = DateTime::from_timestamp_millis(1_763_640_000_000 + millis).unwrap();
        Reading { wall, elapsed: TimeDelta::milliseconds(millis), together: true }
    }

    fn wall_epoch() -> DateTime<Utc> {
        reading(0).wall
    }

    #[test]
    fn indistinguishable_clocks_count_as_one() {
        for (sent, store, answered) in
            [(100, 100, 100), (100, 100, 140), (100, 120, 140), (100, 140, 140)]
        {
            // Up to just below a millisecond is truncated.
            for left_out in [0, 999] {
                let late = |reading: Reading| Reading {
                    wall: reading.wall + TimeDelta::microseconds(left_out),
                    elapsed: reading.elapsed + TimeDelta::microseconds(left_out),
                    ..reading
                };
                let (sent, answered) = (late(reading(sent)), late(reading(answered)));
                let clock = StoreClock::measure(reading(store).wall, sent, answered);
                assert_eq!(clock.ahead_of(wall_epoch()), TimeDelta::zero());
            }
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_known_to_half_the_way_to_it_and_back() {
        let ahead = TimeDelta::seconds(30);
        let clock = StoreClock::measure(reading(100).wall + ahead, reading(100), reading(140));
        let off = clock.ahead_of(wall_epoch()) - ahead;
        assert!(
            off.abs() <= clock.uncertainty && clock.uncertainty < TimeDelta::milliseconds(21),
            "{off}"
        );
    }

    #[test]
    fn a_clock_is_known_no_better_than_a_suspended_machine_can_tell() {
        // The machine sleeps for two seconds before the reply arrives, which has the time of the
        // request.
        let awake = Reading { elapsed: TimeDelta::milliseconds(140), ..reading(2140) };
        let clock = StoreClock::measure(reading(120).wall, reading(100), awake);
        let off = clock.now(awake) - awake.wall;
        assert!(off.abs() <= clock.uncertainty, "{off} is off by more than {}", clock.uncertainty);
        assert!(have_parted(reading(100), awake));
        assert!(!have_parted(reading(100), reading(140)));
    }

    #[test]
    fn a_measurement_that_is_less_precise_and_agrees_is_left_out() {
        let mut clock = StoreClock::measure(reading(100).wall, reading(100), reading(102));
        let before = clock.zero;
        clock.refine(StoreClock::measure(reading(200).wall, reading(200), reading(240)));
        assert_eq!(clock.zero, before);
        let stepped = reading(300).wall + TimeDelta::seconds(5);
        clock.refine(StoreClock::measure(stepped, reading(300), reading(340)));
        assert!((clock.ahead_of(wall_epoch()) - TimeDelta::seconds(5)).abs() <= clock.uncertainty);
    }
}
