//! The lease of a node, and how long the node may trust it.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use chrono::TimeDelta;

use crate::clock::Reading;

/// How long the node may trust that the store counts it as alive; each run reads this before it
/// starts.
#[derive(Debug)]
pub(crate) struct Lease {
    /// The end of the lease by the wall clock, in milliseconds since 1970.
    wall: AtomicI64,
    /// The end of the lease in milliseconds of elapsed time.
    elapsed: AtomicI64,
    /// Whether the lease was seen to have lapsed: a clock that is set back does not renew it.
    lapsed: AtomicBool,
    /// How often the store has expired the node.
    expiries: AtomicU32,
    /// How often the lease has lapsed.
    lapses: AtomicU32,
    /// How much sooner the node stops trusting the lease than other nodes expire it.
    margin: TimeDelta,
}

/// One stretch of time in which a node trusted its lease. Either counter grows at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeaseEpoch {
    /// Counts how often the store has expired the node.
    pub(crate) expiries: u32,
    /// Counts how often the lease has lapsed.
    pub(crate) lapses: u32,
}

impl Lease {
    pub(super) fn new(margin: TimeDelta) -> Lease {
        let never = || AtomicI64::new(i64::MIN);
        Lease {
            wall: never(),
            elapsed: never(),
            lapsed: AtomicBool::new(true),
            expiries: AtomicU32::new(0),
            lapses: AtomicU32::new(0),
            margin,
        }
    }

    pub(super) fn renew(&self, wall: i64, elapsed: i64) {
        self.wall.store(wall, Ordering::SeqCst);
        self.elapsed.store(elapsed, Ordering::SeqCst);
        self.lapsed.store(false, Ordering::SeqCst);
    }

    pub(super) fn lapse(&self) {
        self.lapsed.store(true, Ordering::SeqCst);
        self.lapses.fetch_add(1, Ordering::SeqCst);
    }

    /// Accounts for a step of the wall clock. A step forward may be a suspend, which counts as
    /// time; a step back must not make the lease longer.
    pub(super) fn stepped(&self, by: TimeDelta) {
        let by = by.num_milliseconds().min(0);
        let wall = self.wall.load(Ordering::SeqCst);
        self.wall.store(wall.saturating_add(by), Ordering::SeqCst);
    }

    /// Ends the lease, since the store has expired the node.
    pub(super) fn lose(&self) {
        self.renew(i64::MIN, i64::MIN);
        self.expiries.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns how much longer the lease counts, by the clock that reaches its end first.
    pub(crate) fn left(&self, now: Reading) -> TimeDelta {
        let wall = self.wall.load(Ordering::SeqCst).saturating_sub(now.wall.timestamp_millis());
        let elapsed =
            self.elapsed.load(Ordering::SeqCst).saturating_sub(now.elapsed.num_milliseconds());
        TimeDelta::try_milliseconds(wall.min(elapsed).clamp(-MAX_MS, MAX_MS)).unwrap_or_default()
    }

    pub(crate) fn is_trusted(&self, now: Reading) -> bool {
        !self.lapsed.load(Ordering::SeqCst) && self.left(now) > TimeDelta::zero()
    }

    /// Returns the current epoch of the lease.
    pub(crate) fn epoch(&self) -> LeaseEpoch {
        let count = |count: &AtomicU32| count.load(Ordering::SeqCst);
        LeaseEpoch { expiries: count(&self.expiries), lapses: count(&self.lapses) }
    }

    /// Returns how long a cancelled run may continue: until shortly before other nodes may expire
    /// this one.
    pub(crate) fn grace(&self, now: Reading) -> Duration {
        let left = self.left(now) + self.margin * 3 / 4;
        left.to_std().unwrap_or_default()
    }
}

const MAX_MS: i64 = 1 << 40;
