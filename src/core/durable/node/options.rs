//! How a scheduler uses its store, and the numbers that tell a node from others.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;

use crate::{core::mix, ledger::Keep};

/// How a scheduler uses its store.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The name of the node, for people.
    pub(crate) name: Arc<str>,
    /// How long a heartbeat counts.
    pub(crate) lease: Duration,
    /// How far ahead fire times are claimed.
    pub(crate) claim_ahead: Duration,
    /// How often the store is polled for changes that it did not notify of.
    pub(crate) poll: Duration,
    pub(crate) keep: Keep,
    /// By how much the store's clock may step back for jobs to wait until it has caught up.
    pub(crate) correction: TimeDelta,
    /// How many jobs or rows one operation of the store may be asked for.
    pub(crate) max_batch: usize,
    /// How many bytes one operation may commit.
    pub(crate) max_bytes: usize,
    /// Whether the store has a clock of its own; otherwise it goes by the wall clock here.
    pub(crate) has_clock: bool,
    /// Tells this node's numbers from those of others.
    pub(crate) seed: u64,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions {
            name: "".into(),
            lease: Duration::from_secs(15),
            claim_ahead: Duration::from_secs(1),
            poll: Duration::from_secs(5),
            keep: Keep::default(),
            correction: TimeDelta::hours(3),
            max_batch: 1,
            max_bytes: usize::MAX,
            has_clock: false,
            seed: 0,
        }
    }
}

impl NodeOptions {
    /// How much sooner a node stops trusting its lease than others expire it.
    pub(super) fn margin(&self) -> TimeDelta {
        delta(self.lease / 5)
    }

    pub(super) fn heartbeat_every(&self) -> TimeDelta {
        delta(self.lease / 3)
    }

    /// How long a lane waits at most after an error.
    pub(super) fn longest_wait(&self) -> TimeDelta {
        delta(self.lease / 6)
    }
}

/// Numbers that no other node draws.
pub(super) struct Numbers {
    seed: u64,
    drawn: u64,
}

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers { seed, drawn: seed }
    }

    /// A number of 63 bits.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        mix(mix(self.seed).wrapping_add(self.drawn)) >> 1
    }

    /// A number from 0 to 999.
    pub(super) fn per_mille(&mut self) -> i32 {
        (self.draw() % 1000) as i32
    }
}

pub(super) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
