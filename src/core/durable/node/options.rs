//! How a scheduler uses its store, and the random numbers of a node.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;

use crate::{core::mix, ledger::Keep};

/// How often a store is polled that does not notify of changes, and one that does: notifications may be
/// lost with a connection.
const POLL: Duration = Duration::from_secs(5);
const POLL_NOTIFYING: Duration = Duration::from_secs(20);

/// How a scheduler uses its store.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The name of the node, for people.
    pub(crate) name: Arc<str>,
    /// How long a heartbeat counts.
    pub(crate) lease: Duration,
    /// How far ahead fire times are claimed.
    pub(crate) claim_ahead: Duration,
    /// How often the store is polled for changes without a notification. By default more rarely if the
    /// store notifies.
    pub(crate) poll: Option<Duration>,
    pub(crate) keep: Keep,
    /// The longest step back of the store's clock after which jobs wait until the clock has caught
    /// up.
    pub(crate) correction: TimeDelta,
    /// How many jobs or rows one operation of the store may have.
    pub(crate) max_batch: usize,
    /// How many bytes one operation may commit.
    pub(crate) max_bytes: usize,
    /// Whether the store notifies of changes.
    pub(crate) notifies: bool,
    /// Whether the store has a clock of its own; otherwise the local wall clock is used.
    pub(crate) has_clock: bool,
    /// Makes this node's random numbers unique.
    pub(crate) seed: u64,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions {
            name: "".into(),
            lease: Duration::from_secs(15),
            claim_ahead: Duration::from_secs(1),
            poll: None,
            keep: Keep::default(),
            correction: TimeDelta::hours(3),
            max_batch: 1,
            max_bytes: usize::MAX,
            notifies: false,
            has_clock: false,
            seed: 0,
        }
    }
}

impl NodeOptions {
    /// Returns how much sooner a node stops trusting its lease than other nodes expire it.
    pub(super) fn margin(&self) -> TimeDelta {
        delta(self.lease / 5)
    }

    /// Returns how often the store is polled.
    pub(super) fn poll_every(&self) -> TimeDelta {
        let default = if self.notifies { POLL_NOTIFYING } else { POLL };
        delta(self.poll.unwrap_or(default))
    }

    pub(super) fn heartbeat_every(&self) -> TimeDelta {
        delta(self.lease / 3)
    }

    /// Returns the longest wait of a lane after an error.
    pub(super) fn longest_wait(&self) -> TimeDelta {
        delta(self.lease / 6)
    }
}

/// Random numbers that no other node draws.
pub(super) struct Numbers {
    seed: u64,
    drawn: u64,
}

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers { seed, drawn: seed }
    }

    /// Returns a number of 63 bits.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        mix(mix(self.seed).wrapping_add(self.drawn)) >> 1
    }

    /// Returns a number from 0 to 999.
    pub(super) fn per_mille(&mut self) -> i32 {
        (self.draw() % 1000) as i32
    }
}

pub(super) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
