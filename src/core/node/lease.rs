//! How long the word of a node counts.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use chrono::TimeDelta;

use crate::clock::Reading;

/// How long the node's own word counts; for whoever is about to start a run.
#[derive(Debug)]
pub(crate) struct Lease {
    /// In milliseconds since 1970, and of elapsed time.
    wall: AtomicI64,
    elapsed: AtomicI64,
    /// Whether it was seen to have run out: a clock that is set back does not bring it back.
    lapsed: AtomicBool,
    /// How often the store took the node for dead, and how often the node did.
    deaths: AtomicU32,
    lapses: AtomicU32,
    /// How much sooner than the store the node takes itself for dead.
    margin: TimeDelta,
}

/// One of the lives of a node, up to when it does not believe itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    /// Counts how often the store took the node for dead.
    pub(crate) deaths: u32,
    /// Counts how often it did so itself.
    pub(crate) lapses: u32,
}

impl Lease {
    pub(super) fn new(margin: TimeDelta) -> Lease {
        let never = || AtomicI64::new(i64::MIN);
        Lease {
            wall: never(),
            elapsed: never(),
            lapsed: AtomicBool::new(true),
            deaths: AtomicU32::new(0),
            lapses: AtomicU32::new(0),
            margin,
        }
    }

    pub(super) fn set(&self, wall: i64, elapsed: i64) {
        self.wall.store(wall, Ordering::SeqCst);
        self.elapsed.store(elapsed, Ordering::SeqCst);
        self.lapsed.store(false, Ordering::SeqCst);
    }

    pub(super) fn lapse(&self) {
        self.lapsed.store(true, Ordering::SeqCst);
        self.lapses.fetch_add(1, Ordering::SeqCst);
    }

    /// The wall clock stepped by so much. Set forward it may have slept as well, which counts; set back
    /// it must not make the lease longer.
    pub(super) fn stepped(&self, by: TimeDelta) {
        let by = by.num_milliseconds().min(0);
        let wall = self.wall.load(Ordering::SeqCst);
        self.wall.store(wall.saturating_add(by), Ordering::SeqCst);
    }

    /// The store takes the node for dead, which begins another life.
    pub(super) fn lose(&self) {
        self.set(i64::MIN, i64::MIN);
        self.deaths.fetch_add(1, Ordering::SeqCst);
    }

    /// How much longer: the clock that gets there first counts.
    pub(crate) fn left(&self, now: Reading) -> TimeDelta {
        let wall = self.wall.load(Ordering::SeqCst).saturating_sub(now.wall.timestamp_millis());
        let elapsed =
            self.elapsed.load(Ordering::SeqCst).saturating_sub(now.elapsed.num_milliseconds());
        TimeDelta::try_milliseconds(wall.min(elapsed).clamp(-MAX_MS, MAX_MS)).unwrap_or_default()
    }

    pub(crate) fn is_trusted(&self, now: Reading) -> bool {
        !self.lapsed.load(Ordering::SeqCst) && self.left(now) > TimeDelta::zero()
    }

    /// In which of its lives the node is.
    pub(crate) fn life(&self) -> Life {
        let count = |count: &AtomicU32| count.load(Ordering::SeqCst);
        Life { deaths: count(&self.deaths), lapses: count(&self.lapses) }
    }

    /// How long a run that is asked to stop may go on: until a moment before the lease runs out.
    pub(crate) fn grace(&self, now: Reading) -> Duration {
        let left = self.left(now) + self.margin * 3 / 4;
        left.to_std().unwrap_or_default()
    }
}

const MAX_MS: i64 = 1 << 40;
