//! Cases of [`Store::next_due`] and [`Store::changes`]: when a node claims next.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream::BoxStream};

use super::stage::*;
use crate::store::*;

/// The earliest fire time is that of the jobs that the node may claim.
pub(super) async fn next_due_is_the_earliest_fire_time<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&other, 1).await;
    assert_eq!(other.next_due(node.due()).await.unwrap(), None);
    store.add(job(1, None)).await;
    store.add(Record { paused: true, ..job(2, now - secs(9)) }).await;
    store.add(Record { task: "unknown".into(), ..job(3, now - secs(8)) }).await;
    let unread = store.add(job(4, now - secs(7))).await;
    let except = Arc::new([unread.incarnation].into());
    let due = NextDueRequest { except, ..node.due() };
    assert_eq!(other.next_due(due.clone()).await.unwrap(), None);
    assert_eq!(other.next_due(node.due()).await.unwrap(), Some(now - secs(7)));
    store.add(job(5, now + secs(60))).await;
    store.add(job(6, now + secs(30))).await;
    assert_eq!(other.next_due(due.clone()).await.unwrap(), Some(now + secs(30)));
    let both = NextDueRequest { tasks: tasks([TASK, "unknown"]), ..due };
    assert_eq!(other.next_due(both).await.unwrap(), Some(now - secs(8)));
}

/// Waiting rows that the node may claim are due at the beginning of time.
pub(super) async fn waiting_rows_are_due_at_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&other, 1).await;
    let unknown = Record { task: "unknown".into(), ..job(1, None) };
    store.add_waiting(unknown.clone(), requested(&unknown, 1, now)).await;
    let paused = Record { paused: true, ..job(2, now) };
    store.add_waiting(paused.clone(), scheduled(&paused, now)).await;
    assert_eq!(other.next_due(node.due()).await.unwrap(), None);

    let current = store.record(&paused.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![Row { state: RowState::Waiting, ..requested(&paused, 1, now) }];
    store.done(vec![write]).await;
    let beginning = Some(DateTime::<Utc>::MIN_UTC);
    assert_eq!(other.next_due(node.due()).await.unwrap(), beginning);
    let except = Arc::new([paused.incarnation].into());
    assert_eq!(other.next_due(NextDueRequest { except, ..node.due() }).await.unwrap(), None);
    node.claim_one(now).await;
    assert_eq!(other.next_due(node.due()).await.unwrap(), None);
}

/// A job that another node has claimed is not due for this one, until it is released or closed.
pub(super) async fn jobs_of_other_nodes_are_not_due<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let decide = fire(now, |at| Some(at + secs(5)));
    let (_, row) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(now + secs(5)));

    let rival = Node::join(&other, 2).await;
    assert_eq!(other.next_due(rival.due()).await.unwrap(), None);
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(now + secs(5)));
    store.finish_one(&row, succeeded()).await;
    assert_eq!(other.next_due(rival.due()).await.unwrap(), Some(now + secs(5)));

    store.add(job(2, now + secs(1000))).await;
    node.claim(node.request(now + secs(5))).await;
    node.deregister().await;
    assert_eq!(other.next_due(rival.due()).await.unwrap(), Some(now + secs(1000)));
}

/// A store that notifies names the changes of another node, or reports an unknown change; a store
/// that does not may stay silent.
pub(super) async fn changes_are_notified<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let mut changes = other.changes();
    if !store.capabilities().notifies {
        return;
    }
    let beginning = DateTime::<Utc>::MIN_UTC;
    let record = store.add(Record { recover: true, ..job(1, now) }).await;
    let of = record.incarnation;
    receive_changes(&mut changes, "an add", &[StoreChange::Due(now)]).await;
    store.change(&record.id, |record| record.paused = true).await;
    receive_changes(&mut changes, "a change", &[StoreChange::Job(of, 2)]).await;
    let current = store.change(&record.id, |record| record.paused = false).await;
    let changed = StoreChange::Job(of, 3);
    receive_changes(
        &mut changes,
        "a waiting row of a resumed job",
        &[changed, StoreChange::Due(beginning)],
    )
    .await;
    let row = node.claim_one(now).await;
    // The changes of a claim, if any, are not awaited, and not mistaken for later ones.
    drain_changes(&mut changes).await;
    node.release(&[row.claim()]).await;
    receive_changes(&mut changes, "a release", &[StoreChange::Due(beginning)]).await;
    node.claim_one(now).await;
    drain_changes(&mut changes).await;
    store.expire(&node).await;
    receive_changes(&mut changes, "a row of a dead node", &[StoreChange::Due(beginning)]).await;
    store.done(vec![remove(&store.record(&current.id).await, Fate::Removed)]).await;
    receive_changes(&mut changes, "a removal", &[StoreChange::Gone(of)]).await;
    let asked = job(2, None);
    store.add_waiting(asked.clone(), requested(&asked, 1, now)).await;
    receive_changes(&mut changes, "a requested run", &[StoreChange::Due(beginning)]).await;
}

/// Changes that a slow receiver misses are reported as one unknown change.
pub(super) async fn a_slow_receiver_gets_an_unknown_change<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut changes = other.changes();
    if !store.capabilities().notifies {
        return;
    }
    let batch = store.capabilities().max_batch.min(1000) as u64;
    for first in (0..3000).step_by(batch as usize) {
        let numbers = first..3000.min(first + batch);
        store.done(numbers.map(|number| insert(&job(number, now))).collect()).await;
    }
    let last = job(2999, now).incarnation;
    receive_changes(&mut changes, "the last of many", &[StoreChange::Job(last, 1)]).await;
}

/// Waits until each of these changes, or an unknown change, is received.
async fn receive_changes(
    changes: &mut BoxStream<'static, StoreChange>,
    what: &str,
    all: &[StoreChange],
) {
    let mut left = all.to_vec();
    while !left.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
        match next {
            Ok(Some(StoreChange::Unknown)) => break,
            Ok(Some(change)) => left.retain(|expected| *expected != change),
            _ => panic!("{what} was not received: {left:?}"),
        }
    }
    drain_changes(changes).await;
}

/// Waits until no change has been received for a while, so that earlier changes are consumed.
async fn drain_changes(changes: &mut BoxStream<'static, StoreChange>) {
    let a_while = Duration::from_millis(50);
    while let Ok(Some(_)) = tokio::time::timeout(a_while, changes.next()).await {}
}
