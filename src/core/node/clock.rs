//! The clock of a store, as far as a node knows it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Reading;

/// The store's clock as this node knows it: elapsed time, moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreClock {
    /// What it said when elapsed time was zero.
    pub(super) zero: DateTime<Utc>,
    /// How far off that may be, when it was measured.
    uncertainty: TimeDelta,
    measured_at: TimeDelta,
}

impl StoreClock {
    /// How fast two clocks may part, one second in so many.
    const DRIFT: i32 = 5000;

    pub(super) fn measure(said: DateTime<Utc>, sent: Reading, now: Reading) -> StoreClock {
        // Elapsed time stands still while the machine is suspended.
        let half_way = (now.elapsed - sent.elapsed).max(now.wall - sent.wall) / 2;
        // It leaves out what is less than a millisecond: half of one, on average.
        let left_out = TimeDelta::microseconds(500);
        let zero = said.checked_sub_signed(now.elapsed - half_way - left_out).unwrap_or(said);
        StoreClock { zero, uncertainty: half_way + left_out, measured_at: now.elapsed }
    }

    /// Whether it was measured while the wall clock and elapsed time parted.
    pub(super) fn is_in_doubt(sent: Reading, now: Reading) -> bool {
        let parted = (now.wall - sent.wall) - (now.elapsed - sent.elapsed);
        parted.abs() > TimeDelta::milliseconds(1)
    }

    pub(super) fn now(&self, now: Reading) -> DateTime<Utc> {
        self.zero.checked_add_signed(now.elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// How far it is ahead of one that said this when elapsed time was zero. The two are the same as
    /// long as they can't be told apart: often it is one clock, and then what is in the store runs as
    /// exactly as what is in memory, and never early.
    pub(super) fn ahead_of(&self, zero: DateTime<Utc>) -> TimeDelta {
        let ahead = self.zero - zero;
        if ahead.abs() <= self.uncertainty { TimeDelta::zero() } else { ahead }
    }

    /// Takes another measurement into account, if it is more precise or contradicts this one.
    pub(super) fn refine(&mut self, new: StoreClock) {
        let age = (new.measured_at - self.measured_at) / StoreClock::DRIFT;
        let uncertainty = self.uncertainty + age.max(TimeDelta::zero());
        let moved = new.zero - self.zero;
        if new.uncertainty <= uncertainty || moved.abs() > uncertainty + new.uncertainty {
            // What is less than a millisecond moves nothing.
            let whole = TimeDelta::milliseconds(moved.num_milliseconds());
            let uncertainty = new.uncertainty + (moved - whole).abs();
            *self = StoreClock { zero: self.zero + whole, uncertainty, ..new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the clocks say so many milliseconds after the start.
    fn reading(millis: i64) -> Reading {
        let wall = DateTime::from_timestamp_millis(1_763_640_000_000 + millis).unwrap();
        Reading { wall, elapsed: TimeDelta::milliseconds(millis), together: true }
    }

    fn own_zero() -> DateTime<Utc> {
        reading(0).wall
    }

    #[test]
    fn clocks_that_can_not_be_told_apart_are_taken_for_one() {
        for (sent, said, answered) in
            [(100, 100, 100), (100, 100, 140), (100, 120, 140), (100, 140, 140)]
        {
            // Less than a millisecond before it is the next.
            for left_out in [0, 999] {
                let late = |reading: Reading| Reading {
                    wall: reading.wall + TimeDelta::microseconds(left_out),
                    elapsed: reading.elapsed + TimeDelta::microseconds(left_out),
                    ..reading
                };
                let (sent, answered) = (late(reading(sent)), late(reading(answered)));
                let clock = StoreClock::measure(reading(said).wall, sent, answered);
                assert_eq!(clock.ahead_of(own_zero()), TimeDelta::zero());
            }
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_known_to_half_the_way_to_it_and_back() {
        let ahead = TimeDelta::seconds(30);
        let clock = StoreClock::measure(reading(100).wall + ahead, reading(100), reading(140));
        let off = clock.ahead_of(own_zero()) - ahead;
        assert!(
            off.abs() <= clock.uncertainty && clock.uncertainty < TimeDelta::milliseconds(21),
            "{off}"
        );
    }

    #[test]
    fn a_clock_is_known_no_better_than_a_suspended_machine_can_tell() {
        // The machine sleeps for two seconds before the answer comes, and the store says when it was asked.
        let awake = Reading { elapsed: TimeDelta::milliseconds(140), ..reading(2140) };
        let clock = StoreClock::measure(reading(120).wall, reading(100), awake);
        let off = clock.now(awake) - awake.wall;
        assert!(off.abs() <= clock.uncertainty, "{off} is off by more than {}", clock.uncertainty);
        assert!(StoreClock::is_in_doubt(reading(100), awake));
        assert!(!StoreClock::is_in_doubt(reading(100), reading(140)));
    }

    #[test]
    fn a_measurement_that_is_less_precise_and_agrees_is_left_out() {
        let mut clock = StoreClock::measure(reading(100).wall, reading(100), reading(102));
        let before = clock.zero;
        clock.refine(StoreClock::measure(reading(200).wall, reading(200), reading(240)));
        assert_eq!(clock.zero, before);
        let stepped = reading(300).wall + TimeDelta::seconds(5);
        clock.refine(StoreClock::measure(stepped, reading(300), reading(340)));
        assert!((clock.ahead_of(own_zero()) - TimeDelta::seconds(5)).abs() <= clock.uncertainty);
    }
}
