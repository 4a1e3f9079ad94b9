//! Which other nodes are dead: those whose count of heartbeats has not changed for the time that
//! one heartbeat counts.
//!
//! Only local elapsed time decides. A heartbeat was sent before it was seen, so a node that is
//! found dead does not trust its lease any more, whatever the clocks show.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::super::options::delta;
use crate::ledger::{NodeId, NodeRow};

/// The other nodes, as last seen.
#[derive(Default)]
pub(super) struct Watch {
    nodes: BTreeMap<NodeId, Seen>,
    /// When they were seen last.
    updated_at: Option<TimeDelta>,
}

struct Seen {
    heartbeats: u64,
    /// When the node counts as dead, in elapsed time, unless its count changes.
    dies_at: TimeDelta,
}

impl Watch {
    /// Updates the rows of all nodes, which are read once in each period `every`. Returns whether a known
    /// node is gone.
    ///
    /// While the store is unavailable no node can renew its lease, so that time does not count.
    pub(super) fn update(
        &mut self,
        nodes: &[NodeRow],
        own: NodeId,
        every: TimeDelta,
        now: TimeDelta,
    ) -> bool {
        let unseen = self.updated_at.map_or(TimeDelta::zero(), |at| now - at);
        let outage = if unseen > every * 2 { unseen - every } else { TimeDelta::zero() };
        self.updated_at = Some(now);
        let before = std::mem::take(&mut self.nodes);
        for node in nodes.iter().filter(|node| node.id != own) {
            let known = before.get(&node.id).filter(|seen| seen.heartbeats == node.heartbeats);
            let dies_at = known.map_or_else(
                || now.checked_add(&delta(node.ttl)).unwrap_or(TimeDelta::MAX),
                |seen| seen.dies_at.checked_add(&outage).unwrap_or(TimeDelta::MAX),
            );
            self.nodes.insert(node.id, Seen { heartbeats: node.heartbeats, dies_at });
        }
        before.keys().any(|node| !self.nodes.contains_key(node))
    }

    /// Returns the dead nodes, each with its last count of heartbeats.
    pub(super) fn suspects(&self, now: TimeDelta) -> Vec<(NodeId, u64)> {
        let dead = self.nodes.iter().filter(|(_, seen)| seen.dies_at <= now);
        dead.map(|(node, seen)| (*node, seen.heartbeats)).collect()
    }

    /// Returns when the next node counts as dead.
    pub(super) fn next_expiry(&self) -> Option<TimeDelta> {
        self.nodes.values().map(|seen| seen.dies_at).min()
    }

    /// Forgets nodes. Those that still exist are watched anew.
    pub(super) fn forget(&mut self, suspects: &[(NodeId, u64)]) {
        for (node, _) in suspects {
            self.nodes.remove(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::ledger::Heartbeat;

    const OWN: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);
    const EVERY: TimeDelta = TimeDelta::seconds(5);

    fn row(id: NodeId, heartbeats: u64) -> NodeRow {
        let ttl = Duration::from_secs(15);
        let heartbeat = Heartbeat::new(id, "node", true, ttl);
        NodeRow { heartbeats, ..NodeRow::new(&heartbeat, DateTime::UNIX_EPOCH) }
    }

    fn at(seconds: i64) -> TimeDelta {
        TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_node_is_dead_whose_count_has_stayed_the_same_for_its_ttl() {
        let mut watch = Watch::default();
        watch.update(&[row(OWN, 7), row(OTHER, 3)], OWN, EVERY, at(0));
        watch.update(&[row(OWN, 8), row(OTHER, 3)], OWN, EVERY, at(10));
        assert_eq!((watch.suspects(at(14)), watch.next_expiry()), (vec![], Some(at(15))));
        assert_eq!(watch.suspects(at(15)), [(OTHER, 3)]);
        watch.forget(&[(OTHER, 3)]);
        assert_eq!((watch.suspects(at(15)), watch.next_expiry()), (vec![], None));
    }

    #[test]
    fn a_heartbeat_begins_the_watch_anew() {
        let mut watch = Watch::default();
        watch.update(&[row(OTHER, 3)], OWN, EVERY, at(0));
        watch.update(&[row(OTHER, 4)], OWN, EVERY, at(14));
        assert_eq!((watch.suspects(at(28)), watch.suspects(at(29))), (vec![], vec![(OTHER, 4)]));
    }

    #[test]
    fn a_node_that_others_have_expired_is_gone() {
        let mut watch = Watch::default();
        assert!(!watch.update(&[row(OTHER, 3)], OWN, EVERY, at(0)));
        assert!(!watch.update(&[row(OTHER, 4)], OWN, EVERY, at(5)));
        assert!(watch.update(&[], OWN, EVERY, at(10)));
        assert!(!watch.update(&[], OWN, EVERY, at(15)));
    }

    #[test]
    fn the_time_of_an_outage_is_no_evidence_of_death() {
        let mut watch = Watch::default();
        watch.update(&[row(OTHER, 3)], OWN, EVERY, at(0));
        // The store was unavailable for 30 s: 5 s of them count.
        watch.update(&[row(OTHER, 3)], OWN, EVERY, at(30));
        assert_eq!((watch.suspects(at(39)), watch.suspects(at(40))), (vec![], vec![(OTHER, 3)]));
        // A slow reply is no outage.
        let mut watch = Watch::default();
        watch.update(&[row(OTHER, 3)], OWN, EVERY, at(0));
        watch.update(&[row(OTHER, 3)], OWN, EVERY, at(9));
        assert_eq!(watch.suspects(at(15)), [(OTHER, 3)]);
    }
}
