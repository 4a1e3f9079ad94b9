//! What time it is, and how a wall-clock instant becomes a timer.

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

/// No timer waits longer: `DelayQueue` panics past 2^36 ms (795 days), and a clock that is not
/// watched is looked at once a day.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the longest waits are spread, so that a million far jobs are not re-armed in one
/// millisecond.
const SPREAD_MS: u64 = 60 * 60 * 1000;

/// How long reading both clocks may take, for the readings to count as simultaneous.
const TOGETHER: Duration = Duration::from_micros(200);

/// How much the wall clock may differ from elapsed time before that counts as a step. Slewing (NTP)
/// moves both clocks alike on the systems that Tokio supports.
const STEP: TimeDelta = TimeDelta::milliseconds(1);

/// Where the scheduler's time comes from.
#[derive(Debug)]
pub(crate) enum Clock {
    System(SystemClock),
    #[cfg(feature = "testing")]
    Manual(ManualClock),
}

/// The two clocks, read together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) wall: DateTime<Utc>,
    /// Time that passed, whatever the wall clock did.
    pub(crate) elapsed: TimeDelta,
    /// Whether they were read close enough together to tell a step from a delay.
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

    /// The same, cheaper: that Tokio's clock was paused counts from when this clock was next read.
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

    /// Whether the wall clock can step unannounced, so that somebody must look.
    pub(crate) fn must_be_watched(&self) -> bool {
        match self {
            Clock::System(_) => !tokio_is_paused(),
            #[cfg(feature = "testing")]
            Clock::Manual(_) => false,
        }
    }

    /// When to look at something due at `due`: then, or a day hence if that is earlier. `spread`
    /// tells apart what is a day or more away. `None` if the clock stands still until it is moved.
    pub(crate) fn deadline(&self, due: DateTime<Utc>, now: Now, spread: u64) -> Option<Instant> {
        #[cfg(feature = "testing")]
        if let Clock::Manual(clock) = self
            && !clock.is_running()
        {
            return None;
        }
        let wait = (due - now.wall).to_std().unwrap_or_default();
        let longest = LONGEST_WAIT - Duration::from_millis(spread.wrapping_mul(7919) % SPREAD_MS);
        // A wait of a day is cut short of it; an early look costs little and a late one is late.
        Some(now.instant + if wait > longest { longest } else { wait })
    }

    /// When so much time has passed, or a day if that is less. `None` if the clock stands still until
    /// it is moved.
    pub(crate) fn deadline_in(&self, wait: Duration) -> Option<Instant> {
        #[cfg(feature = "testing")]
        if let Clock::Manual(clock) = self
            && !clock.is_running()
        {
            return None;
        }
        Some(Instant::now() + wait.min(LONGEST_WAIT))
    }

    /// Now, for setting any number of timers.
    pub(crate) fn now_and_instant(&self) -> Now {
        // A delay between the two readings makes timers early, and an early look does no harm.
        let instant = Instant::now();
        Now { wall: self.now(), instant }
    }

    /// Tells when somebody moves the clock by hand, if that can be.
    pub(crate) fn moves(&self) -> Moves {
        match self {
            Clock::System(_) => Moves(None),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => Moves(Some(clock.moves())),
        }
    }
}

/// Whether Tokio's clock is not the system's: it is read between two readings of that, so it lies
/// between them unless it was paused.
pub(crate) fn tokio_is_paused() -> bool {
    let before = std::time::Instant::now();
    let tokio = Instant::now().into_std();
    !(before..=std::time::Instant::now()).contains(&tokio)
}

/// The system's wall clock, or Tokio's where that has left real time (`start_paused`, `pause`).
#[derive(Debug)]
pub(crate) struct SystemClock {
    /// Both clocks at the start, the wall clock in whole milliseconds so that paused time, which
    /// moves by milliseconds, meets fire times exactly.
    origin: (DateTime<Utc>, Instant),
    /// Whether Tokio's clock was ever seen to have left the system's.
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
        match self.was_paused.load(Ordering::Relaxed) {
            true => self.now(),
            false => Utc::now(),
        }
    }

    fn read(&self) -> Reading {
        // A thread that is put aside between two readings sees a step that is none: try again.
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
        // The wall clock is what it would be if Tokio's time were real.
        let wall = origin.checked_add_signed(elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Reading { wall, elapsed, together: true }
    }
}

/// Tells when a clock is moved by hand.
#[derive(Debug)]
pub(crate) struct Moves(Option<watch::Receiver<()>>);

impl Moves {
    /// Waits for the next move since the last call. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // Without a clock that can be moved, and after the last clone of one is gone, there is none.
        let moved = match &mut self.0 {
            Some(moves) => moves.changed().await.is_ok(),
            None => false,
        };
        if !moved {
            std::future::pending::<()>().await;
        }
    }
}

/// Notices when the wall clock leaves elapsed time.
#[derive(Debug)]
pub(crate) struct StepWatch {
    offset: DateTime<Utc>,
}

impl StepWatch {
    /// How often a clock that must be watched is looked at.
    pub(crate) const EVERY: Duration = Duration::from_secs(1);

    pub(crate) fn new(reading: Reading) -> StepWatch {
        StepWatch { offset: offset(reading) }
    }

    /// By how much the clock stepped since the last reading, in whole milliseconds, if it did.
    pub(crate) fn step(&mut self, reading: Reading) -> Option<TimeDelta> {
        let by = offset(reading) - self.offset;
        if by.abs() < STEP || !reading.together {
            return None;
        }
        // What is less than a millisecond is left for the next look.
        let by = TimeDelta::milliseconds(by.num_milliseconds());
        self.offset += by;
        Some(by)
    }
}

/// Where the wall clock would have been when elapsed time was zero.
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
