//! A clock that a test advances manually.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::watch, time::Instant};

use super::Reading;

/// A clock that a test sets manually. Clones share one clock.
///
/// [`advance`](ManualClock::advance) lets time elapse. [`step`](ManualClock::step) changes only the
/// wall clock, like an administrator, NTP or a suspended laptop.
///
/// ```
/// use std::time::Duration;
/// use punctual::{Scheduler, testing::ManualClock, trigger::every};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
/// let clock = ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
/// let scheduler = Scheduler::builder().clock(clock.clone()).start().await?;
/// let job = scheduler.add(every(Duration::from_secs(60)).times(1), || async {}).await?;
/// clock.advance(Duration::from_secs(60));
/// job.await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Inner>);

struct Inner {
    /// Set if this clock also advances with Tokio's clock.
    running_since: Option<Instant>,
    hands: Mutex<Reading>,
    moved: watch::Sender<()>,
}

impl ManualClock {
    /// A clock that stands at `now` until it is changed.
    pub fn new(now: DateTime<Utc>) -> ManualClock {
        ManualClock::with(now, None)
    }

    /// A clock that starts at `now` and advances with Tokio's clock, and can also be changed.
    pub fn running(now: DateTime<Utc>) -> ManualClock {
        ManualClock::with(now, Some(Instant::now()))
    }

    fn with(now: DateTime<Utc>, running_since: Option<Instant>) -> ManualClock {
        ManualClock(Arc::new(Inner {
            running_since,
            hands: Mutex::new(Reading { wall: now, elapsed: TimeDelta::zero(), together: true }),
            moved: watch::Sender::new(()),
        }))
    }

    /// Returns the current time of the clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.read().wall
    }

    /// Lets time elapse. Jobs that come due in between are due together, as after an outage.
    pub fn advance(&self, by: Duration) {
        let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
        self.turn(by, by);
        self.0.moved.send_replace(());
    }

    /// Steps the wall clock forward or back, without elapsed time.
    pub fn step(&self, by: TimeDelta) {
        self.turn(by, TimeDelta::zero());
        self.0.moved.send_replace(());
    }

    fn turn(&self, wall: TimeDelta, elapsed: TimeDelta) {
        let mut hands = self.0.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let end = if wall < TimeDelta::zero() {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        hands.wall = hands.wall.checked_add_signed(wall).unwrap_or(end);
        hands.elapsed = hands.elapsed.checked_add(&elapsed).unwrap_or(TimeDelta::MAX);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0.running_since.is_some()
    }

    pub(crate) fn read(&self) -> Reading {
        let Reading { wall, elapsed, together } =
            *self.0.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let ran = self.0.running_since.map(|since| since.elapsed()).unwrap_or_default();
        let ran = TimeDelta::from_std(ran).unwrap_or(TimeDelta::MAX);
        Reading {
            wall: wall.checked_add_signed(ran).unwrap_or(DateTime::<Utc>::MAX_UTC),
            elapsed: elapsed.checked_add(&ran).unwrap_or(TimeDelta::MAX),
            together,
        }
    }

    pub(crate) fn moves(&self) -> watch::Receiver<()> {
        self.0.moved.subscribe()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
