//! The current time, and the conversion of wall-clock instants to timers.

#[cfg(feature = "testing")]
mod manual;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio::{sync::watch, time::Instant};

#[cfg(feature = "testing")]
pub use self::manual::ManualClock;

/// The maximum wait of a timer: `DelayQueue` panics past 2^36 ms (795 days), and without a step
/// watch a timer checks the clock once a day.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The range over which the longest waits are spread, so that a million distant jobs are not
/// re-armed in the same millisecond.
const SPREAD_MS: u64 = 60 * 60 * 1000;

/// The maximum duration of reading both clocks, for the readings to count as simultaneous.
const TOGETHER: Duration = Duration::from_micros(200);

/// The minimum difference between the wall clock and elapsed time that counts as a step. Slewing
/// (NTP) changes both clocks alike on the systems that Tokio supports.
const STEP: TimeDelta = TimeDelta::milliseconds(1);

/// The source of the scheduler's time.
#[derive(Debug)]
pub(crate) enum Clock {
    System(SystemClock),
    #[cfg(feature = "testing")]
    Manual(ManualClock),
}

/// The readings of both clocks, taken together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) wall: DateTime<Utc>,
    /// Elapsed time, unaffected by steps of the wall clock.
    pub(crate) elapsed: TimeDelta,
    /// Whether both were read closely enough together to distinguish a step from a delay.
    pub(crate) together: bool,
}

/// An instant by the wall clock and by Tokio's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: DateTime<Utc>,
    instant: Instant,
}

impl Clock {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        match self {
            Clock::System(clock) => clock.now(),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.read().wall,
        }
    }

    /// The cheaper form of [`now`](Clock::now): pausing Tokio's clock takes effect at the next full
    /// reading.
    pub(crate) fn now_cached(&self) -> DateTime<Utc> {
        match self {
            Clock::System(clock) => clock.now_cached(),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.read().wall,
        }
    }

    pub(crate) fn read(&self) -> Reading {
        match self {
            Clock::System(clock) => clock.read(),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.read(),
        }
    }

    /// Whether the wall clock can step without a notification, so that it must be polled.
    pub(crate) fn must_be_watched(&self) -> bool {
        match self {
            Clock::System(_) => !tokio_is_paused(),
            #[cfg(feature = "testing")]
            Clock::Manual(_) => false,
        }
    }

    /// When to check something due at `due`: at that instant, or in a day if that is earlier.
    /// `spread` distributes waits of a day or more. `None` for a manual clock that stands still.
    pub(crate) fn deadline(&self, due: DateTime<Utc>, now: Now, spread: u64) -> Option<Instant> {
        #[cfg(feature = "testing")]
        if let Clock::Manual(clock) = self
            && !clock.is_running()
        {
            return None;
        }
        let wait = (due - now.wall).to_std().unwrap_or_default();
        let longest = LONGEST_WAIT - Duration::from_millis(spread.wrapping_mul(7919) % SPREAD_MS);
        // A wait over a day is cut short; an early check costs little, and a late one would make a
        // run late.
        Some(now.instant + if wait > longest { longest } else { wait })
    }

    /// The instant after `wait`, or after a day if that is less. `None` for a manual clock that
    /// stands still.
    pub(crate) fn deadline_in(&self, wait: Duration) -> Option<Instant> {
        #[cfg(feature = "testing")]
        if let Clock::Manual(clock) = self
            && !clock.is_running()
        {
            return None;
        }
        Some(Instant::now() + wait.min(LONGEST_WAIT))
    }

    /// The current time by both clocks, for any number of timers.
    pub(crate) fn now_and_instant(&self) -> Now {
        // A delay between the two readings makes timers early, and an early check does no harm.
        let instant = Instant::now();
        Now { wall: self.now(), instant }
    }

    /// Notifications of a manual clock's changes, if this is one.
    pub(crate) fn moves(&self) -> Moves {
        match self {
            Clock::System(_) => Moves(None),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => Moves(Some(clock.moves())),
        }
    }
}

/// Whether Tokio's clock differs from the system's: Tokio's is read between two readings of the
/// system's, and lies between them unless it was paused.
pub(crate) fn tokio_is_paused() -> bool {
    let before = std::time::Instant::now();
    let tokio = Instant::now().into_std();
    !(before..=std::time::Instant::now()).contains(&tokio)
}

/// The system's wall clock, or Tokio's if it has left real time (`start_paused`, `pause`).
#[derive(Debug)]
pub(crate) struct SystemClock {
    /// Both clocks at the start. The wall clock is in whole milliseconds, so that paused time,
    /// which advances by milliseconds, matches fire times exactly.
    origin: (DateTime<Utc>, Instant),
    /// Whether Tokio's clock has ever differed from the system's.
    was_paused: AtomicBool,
}

impl SystemClock {
    pub(crate) fn new() -> SystemClock {
        let origin = (Utc::now().trunc_subsecs(3), Instant::now());
        let clock = SystemClock { origin, was_paused: AtomicBool::new(false) };
        clock.read();
        clock
    }

    fn now(&self) -> DateTime<Utc> {
        self.read_once().wall
    }

    fn now_cached(&self) -> DateTime<Utc> {
        if self.was_paused.load(Ordering::Relaxed) { self.now() } else { Utc::now() }
    }

    fn read(&self) -> Reading {
        // A thread that is preempted between two readings seems to see a step: try again.
        let mut reading = self.read_once();
        for _ in 0..7 {
            if reading.together {
                break;
            }
            reading = self.read_once();
        }
        reading
    }

    fn read_once(&self) -> Reading {
        let (origin, start) = self.origin;
        let before = std::time::Instant::now();
        let tokio = Instant::now();
        let wall = Utc::now();
        let after = std::time::Instant::now();
        let elapsed = TimeDelta::from_std(tokio - start).unwrap_or(TimeDelta::MAX);
        if (before..=after).contains(&tokio.into_std()) {
            return Reading { wall, elapsed, together: after - before < TOGETHER };
        }
        self.was_paused.store(true, Ordering::Relaxed);
        // The wall-clock time if Tokio's time were real.
        let wall = origin.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Reading { wall, elapsed, together: true }
    }
}

/// Notifications of a manual clock's changes.
#[derive(Debug)]
pub(crate) struct Moves(Option<watch::Receiver<()>>);

impl Moves {
    /// Waits for the next change since the last call. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // A system clock, and a manual clock whose last clone was dropped, never change.
        let moved = match &mut self.0 {
            Some(moves) => moves.changed().await.is_ok(),
            None => false,
        };
        if !moved {
            std::future::pending::<()>().await;
        }
    }
}

/// Detects steps of the wall clock against elapsed time.
#[derive(Debug)]
pub(crate) struct StepWatch {
    offset: DateTime<Utc>,
}

impl StepWatch {
    /// How often a clock that must be polled is read.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(reading: Reading) -> StepWatch {
        StepWatch { offset: offset(reading) }
    }

    /// The step since the last reading, in whole milliseconds, if any.
    pub(crate) fn step(&mut self, reading: Reading) -> Option<TimeDelta> {
        let by = offset(reading) - self.offset;
        if by.abs() < STEP || !reading.together {
            return None;
        }
        // A remainder below a millisecond stays for the next reading.
        let by = TimeDelta::milliseconds(by.num_milliseconds());
        self.offset += by;
        Some(by)
    }
}

/// The wall-clock time at which elapsed time was zero.
fn offset(reading: Reading) -> DateTime<Utc> {
    reading.wall.checked_sub_signed(reading.elapsed).unwrap_or(reading.wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_system_clock_follows_paused_time_to_the_millisecond() {
        let clock = Clock::System(SystemClock::new());
        let start = clock.now();
        assert_eq!(start, start.trunc_subsecs(3));
        assert!(!clock.must_be_watched());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now() - start, TimeDelta::hours(1));
    }

    #[tokio::test]
    async fn the_system_clock_is_the_systems_and_watched_when_time_is_real() {
        let clock = Clock::System(SystemClock::new());
        let before = Utc::now();
        let now = clock.now();
        assert!(before <= now && now <= Utc::now());
        assert!(clock.must_be_watched());
        let mut watch = StepWatch::new(clock.read());
        assert_eq!(watch.step(clock.read()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn far_waits_are_cut_to_a_day_and_spread() {
        let clock = Clock::System(SystemClock::new());
        let far = clock.now() + TimeDelta::days(3650);
        let waits: Vec<_> = (0..3)
            .filter_map(|spread| clock.deadline(far, clock.now_and_instant(), spread))
            .map(|deadline| deadline - Instant::now())
            .collect();
        assert_eq!(waits.len(), 3);
        for wait in &waits {
            assert!(*wait <= LONGEST_WAIT && *wait > LONGEST_WAIT - Duration::from_secs(3600));
        }
        assert!(waits[0] != waits[1] && waits[1] != waits[2]);
    }
}
