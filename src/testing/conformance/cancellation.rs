//! Cases of operations whose futures are dropped, and that are retried.

use std::{pin::pin, time::Duration};

use futures::future::{Either, select};

use super::stage::*;
use crate::store::*;

/// After how long the futures are dropped; with the first, after one poll.
const LIVES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_micros(20),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(3),
];

/// Polls a future for this time, then drops it.
async fn drop_after<T>(future: impl Future<Output = T>, after: Duration) {
    let future = pin!(future);
    // Real time, since real stores are interrupted.
    let end = pin!(async {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
    });
    if let Either::Left(_) = select(future, end).await {}
}

/// A write that was cancelled and retried is done once.
pub(super) async fn a_cancelled_write_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let record = job(number, now);
        let mut write = insert(&record);
        write.rows = vec![closed(scheduled(&record, now), Fate::Missed, now)];
        drop_after(store.write(vec![write.clone()]), life).await;
        store.done(vec![write.clone()]).await;
        let current = other.record(&record.id).await;
        assert_eq!((current.version, current.tokens.as_slice()), (1, &[write.token][..]));

        let change = update(&current, Record { requests: 1, ..current.clone() });
        drop_after(store.write(vec![change.clone()]), life).await;
        store.done(vec![change]).await;
        let current = other.record(&record.id).await;
        assert_eq!((current.version, current.requests), (2, 1));

        // A removal leaves no token: it is done, or its record is already gone.
        let removal = remove(&current, Fate::Removed);
        drop_after(store.write(vec![removal.clone()]), life).await;
        let written = store.write_one(removal).await;
        assert!(matches!(written, WriteResult::Done | WriteResult::Lost(None)), "{written:?}");
        assert!(!other.is_there(&record).await);
        assert_eq!(other.end(&record).await, Some(Fate::Removed));
    }
}

/// A claim that was cancelled and retried has claimed each fire time once, and returns them all.
pub(super) async fn a_cancelled_claim_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        let record = store.add(job(number, now)).await;
        let request = node.request(now);
        drop_after(store.claim(request.clone()), life).await;
        let (_, row) = node.claim_one_of(request).await;
        assert_eq!(row.key, scheduled(&record, now).key);
        assert_eq!(other.row(row.key).await, row);
        assert_eq!(node.claimed_keys().await, [row.key]);
        store.finish_one(&row, succeeded()).await;
    }
}

/// Outcomes that were cancelled and retried are stored once.
pub(super) async fn a_cancelled_finish_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        let record = store.add(job(number, now)).await;
        let row = node.claim_one(now).await;
        let outcome = finished(&row, Fate::Ran(RunEnd::Failed), now);
        drop_after(store.finish(vec![outcome.clone()]), life).await;
        assert_eq!(store.finish(vec![outcome.clone()]).await.unwrap().refused, []);
        assert_eq!(other.row(row.key).await.state, RowState::Closed(outcome.fate));
        assert_eq!(other.end(&record).await, Some(Fate::Completed));
    }
}

/// Rows wait after their release was cancelled and retried.
pub(super) async fn a_cancelled_release_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        store.add(job(number, now)).await;
        let row = node.claim_one(now).await;
        drop_after(store.release(node.id, vec![Release::new(row.key, row.fence, 1)]), life).await;
        node.release(&[row.claim()]).await;
        assert_eq!(other.row(row.key).await, Row { state: RowState::Waiting, ..row.clone() });
        let again = node.claim_one(now).await;
        store.finish_one(&again, succeeded()).await;
    }
}

/// A node joins and deregisters after cancelled and retried heartbeats, and its rows are reclaimed
/// once.
pub(super) async fn a_cancelled_heartbeat_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let heartbeat = |first, ttl| Heartbeat::new(NodeId((1 << 62) + number), "node", first, ttl);
        drop_after(store.heartbeat(heartbeat(true, LONG)), life).await;
        let node = Node::join(&store, number).await;
        let record = store.add(Record { recover: true, ..job(number, now) }).await;
        let row = node.claim_one(now).await;
        drop_after(store.heartbeat(heartbeat(false, Duration::ZERO)), life).await;
        node.deregister().await;
        let left = other.row(row.key).await;
        assert_eq!((left.state, left.attempt), (RowState::Waiting, 2));
        store.done(vec![remove(&store.record(&record.id).await, Fate::Removed)]).await;
    }
}

/// Dead nodes expire once after cancelled and retried calls.
pub(super) async fn a_cancelled_reap_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let node = Node::join(&store, number).await;
        let recovers = store.add(Record { recover: true, ..job(number, now) }).await;
        let lost = store.add(job(number + 1000, now)).await;
        let claimed = node.claim(node.request(now)).await;
        assert_eq!(claimed.len(), 2);
        let suspects = store.suspects([node.id]).await;
        drop_after(store.reap(suspects.clone()), life).await;
        store.reap(suspects).await.unwrap();
        let rows = keys(&claimed);
        let row_of = |record: &Record| {
            *rows.iter().find(|key| key.incarnation == record.incarnation).unwrap()
        };
        let row = other.row(row_of(&recovers)).await;
        assert_eq!((row.state, row.attempt), (RowState::Waiting, 2));
        let row = other.row(row_of(&lost)).await;
        assert_eq!(row.state, RowState::Closed(Fate::Abandoned));
        assert_eq!(other.end(&lost).await, Some(Fate::Completed));
        store.done(vec![remove(&store.record(&recovers.id).await, Fate::Removed)]).await;
    }
}
