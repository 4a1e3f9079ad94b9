//! Cases of futures that are dropped before they are done: what was asked for is asked for again.

use std::{pin::pin, time::Duration};

use futures::future::{Either, select};

use super::stage::*;
use crate::store::*;

/// How long the futures of these cases live: the first is polled once.
const LIVES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_micros(20),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(3),
];

/// Polls a future for so long, and drops it.
async fn give_up<T>(future: impl Future<Output = T>, after: Duration) {
    let future = pin!(future);
    // Real time, since it is real stores that are interrupted.
    let end = pin!(async {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
    });
    if let Either::Left(_) = select(future, end).await {}
}

/// A write that was given up and is asked for again is done once.
pub(super) async fn a_write_given_up_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let record = job(number, now);
        let mut write = insert(&record);
        write.rows = vec![closed(scheduled(&record, now), Fate::Missed, now)];
        give_up(store.write(vec![write.clone()]), life).await;
        store.done(vec![write.clone()]).await;
        let current = other.record(&record.id).await;
        assert_eq!((current.version, current.tokens.as_slice()), (1, &[write.token][..]));

        let change = update(&current, Record { requests: 1, ..current.clone() });
        give_up(store.write(vec![change.clone()]), life).await;
        store.done(vec![change]).await;
        let current = other.record(&record.id).await;
        assert_eq!((current.version, current.requests), (2, 1));

        // A removal leaves nothing that would say who did it: it is done, or there is nothing left.
        let removal = remove(&current, Fate::Removed);
        give_up(store.write(vec![removal.clone()]), life).await;
        let written = store.write_one(removal).await;
        assert!(matches!(written, WriteResult::Done | WriteResult::Lost(None)), "{written:?}");
        assert!(!other.is_there(&record).await);
        assert_eq!(other.end(&record).await, Some(Fate::Removed));
    }
}

/// A take that was given up and is asked for again has taken each fire time once, and answers with
/// all of them.
pub(super) async fn a_take_given_up_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        let record = store.add(job(number, now)).await;
        let ask = node.ask(now);
        give_up(store.claim(ask.clone()), life).await;
        let (_, row) = node.claim_one_of(ask).await;
        assert_eq!(row.key, scheduled(&record, now).key);
        assert_eq!(other.row(row.key).await, row);
        assert_eq!(node.holds().await, [row.key]);
        store.finish_one(&row, succeeded()).await;
    }
}

/// Outcomes that were given up and are told again are kept once.
pub(super) async fn a_finish_given_up_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        let record = store.add(job(number, now)).await;
        let row = node.take_one(now).await;
        let outcome = finished(&row, Fate::Ran(RunEnd::Failed), now);
        give_up(store.finish(vec![outcome.clone()]), life).await;
        assert_eq!(store.finish(vec![outcome.clone()]).await.unwrap().refused, []);
        assert_eq!(other.row(row.key).await.state, RowState::Closed(outcome.fate));
        assert_eq!(other.end(&record).await, Some(Fate::Completed));
    }
}

/// What was to be released waits when it was asked for again.
pub(super) async fn a_release_given_up_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, life) in (1..).zip(LIVES) {
        store.add(job(number, now)).await;
        let row = node.take_one(now).await;
        give_up(store.release(node.id, vec![Release::new(row.key, row.fence, 1)]), life).await;
        node.release(&[row.claim()]).await;
        assert_eq!(other.row(row.key).await, Row { state: RowState::Waiting, ..row.clone() });
        let again = node.take_one(now).await;
        store.finish_one(&again, succeeded()).await;
    }
}

/// A node that was given up joining or leaving joins or leaves, and its rows are handed out once.
pub(super) async fn a_life_given_up_is_lived_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let heartbeat = |first, ttl| Heartbeat::new(NodeId((1 << 62) + number), "node", first, ttl);
        give_up(store.heartbeat(heartbeat(true, LONG)), life).await;
        let node = Node::join(&store, number).await;
        let record = store.add(Record { recover: true, ..job(number, now) }).await;
        let row = node.take_one(now).await;
        give_up(store.heartbeat(heartbeat(false, Duration::ZERO)), life).await;
        node.leave().await;
        let left = other.row(row.key).await;
        assert_eq!((left.state, left.attempt), (RowState::Waiting, 2));
        store.done(vec![remove(&store.record(&record.id).await, Fate::Removed)]).await;
    }
}

/// The dead are buried once, though who began it gave up.
pub(super) async fn a_burial_given_up_is_done_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, life) in (1..).zip(LIVES) {
        let node = Node::join(&store, number).await;
        let recovers = store.add(Record { recover: true, ..job(number, now) }).await;
        let lost = store.add(job(number + 1000, now)).await;
        let taken = node.claim(node.ask(now)).await;
        assert_eq!(taken.len(), 2);
        let suspects = store.suspects([node.id]).await;
        give_up(store.reap(suspects.clone()), life).await;
        store.reap(suspects).await.unwrap();
        let rows = keys(&taken);
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
