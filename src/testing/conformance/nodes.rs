//! Cases of [`Store::heartbeat`], [`Store::reap`], [`Store::claimed_by`] and [`Store::claimed`].

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;

use super::stage::*;
use crate::store::*;

/// The nodes are listed with their names and the lengths of their leases.
pub(super) async fn nodes_are_listed<S: Store>(stage: Stage<S>) {
    let Stage { store, other, .. } = stage;
    assert_eq!(store.nodes().await.unwrap(), []);
    let (node, leaving) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    for (first, ttl) in [(true, 90), (false, 30), (false, 600)] {
        let ttl = Duration::from_secs(ttl);
        let before = store.time().await;
        let at = node.heartbeat(first, ttl).await.unwrap();
        let after = store.time().await;
        assert!(before <= at && at <= after, "{at} is not between {before} and {after}");
        let row = other.node_row(node.id).await.unwrap();
        assert_eq!((&*row.name, row.ttl), ("node", ttl));
        let given = row.lease_until - TimeDelta::from_std(ttl).unwrap();
        assert!(before <= given && given <= after, "{given} is not between {before} and {after}");
    }
    for offset in [None, Some(-90_001), Some(7)] {
        let clock_offset = offset.map(TimeDelta::milliseconds);
        let heartbeat =
            Heartbeat { clock_offset, ..Heartbeat::new(node.id, "renamed", false, LONG) };
        store.heartbeat(heartbeat.clone()).await.unwrap();
        let row = other.node_row(node.id).await.unwrap();
        assert_eq!((&row.name, &row.version), (&heartbeat.name, &heartbeat.version));
        assert_eq!(row.clock_offset, clock_offset);
    }
    assert_eq!(store.nodes().await.unwrap().len(), 2);
    leaving.deregister().await;
    store.expire(&node).await;
    assert_eq!(other.nodes().await.unwrap(), []);
}

/// A node's row counts its heartbeats, including the first and retried ones.
pub(super) async fn heartbeats_are_counted<S: Store>(stage: Stage<S>) {
    let Stage { store, other, .. } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let mut before = other.node_row(node.id).await.unwrap().heartbeats;
    for first in [false, true, false] {
        node.heartbeat(first, LONG).await.unwrap();
        let heartbeats = other.node_row(node.id).await.unwrap().heartbeats;
        assert_eq!(heartbeats, before + 1);
        before = heartbeats;
    }
    rival.claim(rival.request(store.time().await)).await;
    node.claim(node.request(store.time().await)).await;
    assert_eq!(
        other.node_row(node.id).await.unwrap().heartbeats,
        before,
        "a claim is no heartbeat"
    );
}

/// A suspect with a heartbeat since it was read does not expire, nor does a node that is no
/// suspect, whatever its lease.
pub(super) async fn a_live_node_does_not_expire<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    let suspects = other.suspects([node.id]).await;
    node.lapse().await;
    for suspects in [Vec::new(), suspects, vec![(NodeId(7), 1)]] {
        let reaped = other.reap(suspects).await.unwrap();
        assert_eq!((reaped.nodes, reaped.abandoned), (vec![], vec![]));
    }
    assert_eq!(other.row(row.key).await, row);
    store.add(job(2, now)).await;
    node.claim_one(now).await;
    node.heartbeat(false, LONG).await.unwrap();
    assert_eq!(other.expire(&node).await.nodes, [node.id]);
}

/// A node without a row whose heartbeat is not its first gets `lease_lost`.
pub(super) async fn only_a_first_heartbeat_inserts_a_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let heartbeat = |first, node| Heartbeat::new(NodeId(node), "node", first, LONG);
    assert!(store.heartbeat(heartbeat(false, 1)).await.unwrap_err().is_lease_lost());
    // The heartbeat inserted no row.
    assert!(store.heartbeat(heartbeat(false, 1)).await.unwrap_err().is_lease_lost());
    store.heartbeat(heartbeat(true, 1)).await.unwrap();
    other.heartbeat(heartbeat(false, 1)).await.unwrap();

    let node = Node::join(&store, 2).await;
    assert_eq!(other.expire(&node).await.nodes, [node.id]);
    assert!(node.heartbeat(false, LONG).await.unwrap_err().is_lease_lost());
    assert!(store.claim(node.request(now)).await.unwrap_err().is_lease_lost());
}

/// A retried first heartbeat keeps the node's row.
pub(super) async fn a_retried_first_heartbeat_changes_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let earlier = node.request(now);
    node.claim(node.request(now)).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    node.heartbeat(true, LONG).await.unwrap();
    assert_eq!(other.row(row.key).await, row);
    assert!(
        other.claim(earlier).await.unwrap_err().is_refused(),
        "the node still has its claim number"
    );
}

/// The claimed rows of a node that deregisters are reclaimed, and the node can't renew its lease.
pub(super) async fn a_deregistered_node_is_reclaimed<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let lost = store.add(job(1, now)).await;
    let lost_row = node.claim_one(now).await;
    store.add(Record { recover: true, ..job(2, now) }).await;
    let kept_row = node.claim_one(now).await;
    node.deregister().await;
    assert!(node.heartbeat(false, LONG).await.unwrap_err().is_lease_lost());
    let row = other.row(lost_row.key).await;
    assert_eq!(row.state, RowState::Closed(Fate::Abandoned));
    assert!(row.ended_at.is_some_and(|at| at >= now));
    assert_eq!(other.end(&lost).await, Some(Fate::Completed));
    let row = rival.claim_one(now).await;
    assert_eq!((row.key, row.attempt), (kept_row.key, 2));
    let reaped = other.expire(&node).await;
    assert_eq!((reaped.nodes, reaped.abandoned), (vec![], vec![]));
}

/// A node may deregister again, or without having joined.
pub(super) async fn deregistering_again_is_no_error<S: Store>(Stage { store, .. }: Stage<S>) {
    let node = Node::join(&store, 1).await;
    node.deregister().await;
    node.deregister().await;
    let never = Heartbeat::new(NodeId(9), "never", false, Duration::ZERO);
    store.heartbeat(never).await.unwrap();
}

/// Of a dead node's rows, those that recover wait again, with the next attempt, and the others are
/// abandoned.
pub(super) async fn a_dead_node_is_reclaimed<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (dead, living) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let lost = store.add(Record { recover: true, ..job(1, now) }).await;
    let recovers = store.add(job(2, now)).await;
    let decide: Decide = Arc::new(move |record, _| {
        // The row decides, not the record.
        let row = Row { recover: !record.recover, ..scheduled(record, now) };
        Decision::Claim { rows: vec![row], next_fire: None }
    });
    let claimed = dead.claim(ClaimRequest { decide, ..dead.request(now) }).await;
    let row_of = |record: &Record| {
        let mut rows = claimed.iter().flat_map(|claimed| &claimed.rows);
        rows.find(|row| row.job == record.id).cloned().unwrap()
    };
    store.add(job(3, now)).await;
    let unharmed = living.claim_one(now).await;

    let reaped = other.expire(&dead).await;
    assert_eq!(reaped.nodes, [dead.id]);
    assert!(!reaped.more);
    assert_eq!(reaped.over, [lost.incarnation]);

    let row = row_of(&recovers);
    let recoveries = row.recoveries - 1;
    let again = Row { state: RowState::Waiting, attempt: row.attempt + 1, recoveries, ..row };
    assert_eq!(store.row(again.key).await, again);
    assert_eq!(reaped.handed_out, [again]);
    assert!(store.is_there(&recovers).await);

    let row = store.row(row_of(&lost).key).await;
    assert!(row.ended_at.is_some_and(|at| at >= now));
    let abandoned = closed(row_of(&lost), Fate::Abandoned, row.ended_at.unwrap());
    assert_eq!(row, abandoned);
    assert_eq!(reaped.abandoned, [row]);
    assert!(!store.is_there(&lost).await);
    assert_eq!(store.end(&lost).await, Some(Fate::Completed));

    assert_eq!(store.row(unharmed.key).await, unharmed);
    let again = living.claim_one(now).await;
    assert!(again.attempt == 2 && again.fence > claimed[0].record.fence, "{again:?}");
}

/// A run that ends one node after another is abandoned after its last recovery.
pub(super) async fn recoveries_are_bounded<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = store.add(Record { recover: true, recoveries: 2, ..job(1, now) }).await;
    let mut key = None;
    for number in 0..3 {
        let node = Node::join(&store, number).await;
        let decide: Decide = Arc::new(move |record, waiting| {
            let Record { recover, recoveries, .. } = *record;
            let new = Row { recover, recoveries, ..scheduled(record, now) };
            let row = waiting
                .first()
                .map_or(new, |row| Row { state: RowState::Claimed(NodeId(0)), ..row.clone() });
            Decision::Claim { rows: vec![row], next_fire: None }
        });
        let (_, row) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
        assert_eq!((row.attempt, row.recoveries), (number as u32 + 1, 2 - number as u32));
        key = Some(row.key);
        let reaped = other.expire(&node).await;
        assert_eq!(reaped.handed_out.len(), usize::from(number < 2));
    }
    let row = other.row(key.unwrap()).await;
    assert_eq!(row.state, RowState::Closed(Fate::RecoveredTooOften));
    assert_eq!(other.end(&record).await, Some(Fate::Completed));
    // The run may have succeeded after all.
    assert_eq!(store.finish_one(&row, succeeded()).await.refused, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// Reaping again finds nothing, also for nodes without claimed rows.
pub(super) async fn a_dead_node_is_reclaimed_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (idle, busy) = (Node::join(&store, 1).await, Node::join(&store, 2).await);
    store.add(Record { recover: true, ..job(1, now) }).await;
    busy.claim_one(now).await;
    let suspects = store.suspects([idle.id, busy.id]).await;
    let mut nodes = other.reap(suspects.clone()).await.unwrap().nodes;
    nodes.sort();
    assert_eq!(nodes, [idle.id, busy.id]);
    let before = store.all_rows().await;
    let again = other.reap(suspects).await.unwrap();
    assert_eq!((again.nodes, again.handed_out, again.abandoned), (vec![], vec![], vec![]));
    assert_eq!((again.over, again.more), (vec![], false));
    assert_eq!(store.all_rows().await, before);
}

/// A job with fire times left or open rows outlives a dead node.
pub(super) async fn a_job_outlives_a_node<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let recurring = store.add(job(1, now)).await;
    let decide = fire(now, |at| Some(at + secs(1)));
    node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
    let waiting = store.add(job(2, now)).await;
    node.claim_one(now).await;
    let current = store.record(&waiting.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![Row { state: RowState::Waiting, ..requested(&waiting, 1, now) }];
    store.done(vec![write]).await;
    let reaped = other.expire(&node).await;
    assert_eq!((reaped.abandoned.len(), reaped.over), (2, vec![]));
    assert!(store.is_there(&recurring).await && store.is_there(&waiting).await);
}

/// A dead node's row of a removed job cannot be claimed again: it is abandoned.
pub(super) async fn a_dead_nodes_row_of_a_removed_job_is_abandoned<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(Record { recover: true, ..job(1, now) }).await.id;
    let row = node.claim_one(now).await;
    other.done(vec![remove(&other.record(&id).await, Fate::Removed)]).await;
    let reaped = other.expire(&node).await;
    assert_eq!((reaped.handed_out, reaped.over), (vec![], vec![]));
    assert_eq!(store.row(row.key).await.state, RowState::Closed(Fate::Abandoned));
}

/// If a dead node had more rows than a batch, later calls reclaim the rest, although its row is
/// gone; until then no other node claims those jobs.
pub(super) async fn reaping_continues_after_a_full_batch<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let batch = store.capabilities().max_batch;
    let jobs = |count: usize| (0..count as u64).map(move |number| insert(&job(number, now)));
    store.done(jobs(batch).collect()).await;
    store.done(jobs(batch + 3).skip(batch).collect()).await;
    for _ in 0..2 {
        let decide = fire(now, move |_| Some(now + secs(1)));
        node.claim(ClaimRequest { limit: batch, decide, ..node.request(now) }).await;
    }
    let mut reclaimed = 0;
    for place in 0.. {
        let reaped = other.expire(&node).await;
        assert!(reaped.abandoned.len() <= batch);
        assert_eq!(reaped.nodes.len(), usize::from(place == 0));
        reclaimed += reaped.abandoned.len();
        assert_eq!(reaped.more, reclaimed < batch + 3);
        let free = Arc::new(Mutex::new(HashSet::new()));
        let decide: Decide = {
            let free = free.clone();
            Arc::new(move |record, _| {
                free.lock().unwrap().insert(record.incarnation);
                Decision::Leave
            })
        };
        rival.claim(ClaimRequest { decide, ..rival.request(now + secs(1)) }).await;
        assert_eq!(free.lock().unwrap().len(), reclaimed);
        if !reaped.more {
            assert!(place > 0);
            break;
        }
    }
    assert_eq!(reclaimed, batch + 3);
    assert!(store.all_rows().await.iter().all(|row| !row.state.is_open()));
}

/// The claimed rows of a node are listed, with their records, up to the limit.
pub(super) async fn claimed_rows_are_listed<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(job(9, now)).await;
    rival.claim_one(now).await;
    for number in 1..=4 {
        store.add(job(number, now)).await;
    }
    let decide: Decide = Arc::new(move |record, _| {
        let missed = closed(scheduled(record, now - secs(1)), Fate::Missed, now);
        let rows = vec![missed, scheduled(record, now), requested(record, 1, now)];
        Decision::Claim { rows, next_fire: Some(now + secs(60)) }
    });
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    let (gone, removed) = (claimed[0].rows[1].clone(), claimed[1].record.clone());
    store.finish_one(&gone, succeeded()).await;
    other.done(vec![remove(&removed, Fate::Removed)]).await;
    let open = claimed
        .iter()
        .flat_map(|claimed| &claimed.rows)
        .filter(|row| row.state.is_open() && row.key != gone.key && row.job != removed.id);
    let mut open: Vec<_> = open.cloned().collect();
    open.sort_by_key(|row| row.key);
    assert_eq!(open.len(), 5);

    let all = other.claimed_by(node.id, None, 100).await.unwrap();
    assert_eq!(all.len(), 7);
    assert!(all.is_sorted());
    for row in &open {
        assert!(all.contains(&row.claim()), "{row:?}");
    }
    for limit in [1, 2, 3] {
        let mut pages: Vec<Claim> = Vec::new();
        loop {
            let after = pages.last().map(|claim| claim.key);
            let page = other.claimed_by(node.id, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            pages.extend(&page);
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(pages, all);
    }
    assert_eq!(other.claimed_by(NodeId(7), None, 100).await.unwrap(), []);

    let mut asked: Vec<_> = all.iter().map(|claim| claim.key).chain([gone.key]).collect();
    asked.sort();
    let ClaimResult { jobs: found, orphans, .. } =
        other.claimed(node.id, asked.clone()).await.unwrap();
    assert!(orphans.iter().all(|row| row.job == removed.id));
    assert_eq!(orphans.len(), 2);
    for ClaimedJob { record, rows } in &found {
        assert_eq!(*record, store.record(&record.id).await);
        assert!(rows.iter().all(|row| row.job == record.id));
    }
    let mut rows: Vec<_> = found.into_iter().flat_map(|claimed| claimed.rows).collect();
    rows.sort_by_key(|row| row.key);
    assert_eq!(rows, open);
    let foreign = other.claimed(NodeId(7), asked).await.unwrap();
    assert!(foreign.jobs.is_empty() && foreign.orphans.is_empty());
}
