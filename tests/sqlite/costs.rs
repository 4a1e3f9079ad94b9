//! The cost of an operation does not grow with unrelated jobs and rows.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use punctual::store::{
    ClaimCursor, ClaimRequest, Incarnation, NodeId, RowKey, RowKind, RowState, SqliteStore,
    Store as _, Write,
};

use crate::fixture::{add, adding, claim, heartbeat, now, record, row, taking};

/// The size of the test: `PUNCTUAL_HELD=200000` is for measuring.
fn size(default: u64) -> u64 {
    let size = std::env::var("PUNCTUAL_HELD").ok().map(|text| text.parse());
    size.map_or(default, |size| size.expect("`PUNCTUAL_HELD` is a number"))
}

/// The tolerated factor between two measurements: waking a thread takes several times as long if it
/// is on another core. A cost that grows with the number of rows or jobs grows by hundreds.
const NOISE: u32 = 15;

/// Returns the best times of an operation on a full store and on a nearly empty one. The
/// measurements alternate, so that other load affects both.
async fn at_best(
    mut operation: impl AsyncFnMut(&SqliteStore),
    on: [&SqliteStore; 2],
) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..20 {
        for (store, best) in on.into_iter().zip(&mut best) {
            let start = Instant::now();
            operation(store).await;
            *best = start.elapsed().min(*best);
        }
    }
    best
}

/// A store with this many due jobs, all of them claimed by one node, and another node.
async fn claimed_by_another(size: u64) -> SqliteStore {
    let store = SqliteStore::in_memory().await.unwrap();
    let due = now() - TimeDelta::hours(1);
    for numbers in (1..=size).collect::<Vec<_>>().chunks(1000) {
        add(&store, numbers.iter().map(|&n| record(&n.to_string(), n, Some(due)))).await;
    }
    for node in [1, 2] {
        heartbeat(&store, node, Duration::from_secs(600)).await;
    }
    let (mut number, mut held) = (0, 0);
    while held < size {
        number += 1;
        let claim_result = store.claim(taking(1, number, 1000)).await.unwrap();
        held += claim_result.jobs.len() as u64;
    }
    store
}

#[tokio::test]
async fn claimed_jobs_of_others_cost_nothing() {
    let size = size(5000);
    let (full, empty) = (claimed_by_another(size).await, claimed_by_another(5).await);
    let of = taking(2, 1, 100).next_due(ClaimCursor::default(), &HashSet::new());
    let next_due = async |store: &SqliteStore| {
        assert_eq!(store.next_due(of.clone()).await.unwrap(), None);
    };
    let next_due = at_best(next_due, [&full, &empty]).await;
    let mut number = 0;
    let take = async |store: &SqliteStore| {
        number += 1;
        assert!(claim(store, 2, number).await.unwrap().jobs.is_empty());
    };
    let take = at_best(take, [&full, &empty]).await;
    println!("{size} and 5 held by another: `next_due` {next_due:?}, `take` {take:?}");
    for [full, empty] in [next_due, take] {
        assert!(full < empty * NOISE, "{full:?} beside {size}, {empty:?} beside 5");
    }
}

/// A store with this many paused jobs with a waiting fire time, and a node.
async fn paused(size: u64) -> SqliteStore {
    let store = SqliteStore::in_memory().await.unwrap();
    for numbers in (1..=size).collect::<Vec<_>>().chunks(1000) {
        let writes = numbers.iter().map(|&number| {
            let mut record = record(&number.to_string(), number, None);
            record.paused = true;
            let mut waits = row(&record, now());
            waits.state = RowState::Waiting;
            adding(record).with_rows(vec![waits])
        });
        store.write(writes.collect()).await.unwrap();
    }
    heartbeat(&store, 1, Duration::from_secs(600)).await;
    store
}

#[tokio::test]
async fn paused_jobs_with_waiting_fire_times_cost_nothing() {
    let size = size(1000);
    let (full, empty) = (paused(size).await, paused(1).await);
    let of = taking(1, 1, 100).next_due(ClaimCursor::default(), &HashSet::new());
    let next_due = async |store: &SqliteStore| {
        assert_eq!(store.next_due(of.clone()).await.unwrap(), None);
    };
    let next_due = at_best(next_due, [&full, &empty]).await;
    let mut number = 0;
    let take = async |store: &SqliteStore| {
        number += 1;
        assert!(claim(store, 1, number).await.unwrap().jobs.is_empty());
    };
    let take = at_best(take, [&full, &empty]).await;
    println!("{size} and 1 paused: `next_due` {next_due:?}, `take` {take:?}");
    for [full, empty] in [next_due, take] {
        assert!(full < empty * NOISE, "{full:?} beside {size}, {empty:?} beside 1");
    }
    // A resumed job, and one with a requested run, can be claimed.
    let mut resumed = full.get("7".into()).await.unwrap().unwrap();
    let stamp = resumed.stamp();
    resumed.paused = false;
    full.write(vec![Write::change(stamp, resumed, 5000)]).await.unwrap();
    let current = full.get("8".into()).await.unwrap().unwrap();
    let mut asked_for = row(&current, now());
    asked_for.key.kind = RowKind::Requested;
    asked_for.state = RowState::Waiting;
    let write = Write::change(current.stamp(), current, 5001).with_rows(vec![asked_for]);
    full.write(vec![write]).await.unwrap();
    let claim_result = claim(&full, 1, number + 1).await.unwrap();
    let claimed: HashSet<_> = claim_result.jobs.iter().map(|it| it.record.id.to_string()).collect();
    assert_eq!(claimed, HashSet::from(["7".to_owned(), "8".to_owned()]));
}

/// Requests a run of the only job and claims it. Returns how long that took.
async fn request_and_claim(store: &SqliteStore, number: u64) -> Duration {
    let asked = Instant::now();
    let current = store.get("queue".into()).await.unwrap().unwrap();
    let kind = RowKind::Requested;
    let key = RowKey { incarnation: Incarnation(1), kind, number: number as i64 };
    let mut asked_for = row(&current, now());
    (asked_for.key, asked_for.state) = (key, RowState::Waiting);
    let write = Write::change(current.stamp(), current, 1000 + number);
    store.write(vec![write.with_rows(vec![asked_for])]).await.unwrap();
    let ask = ClaimRequest { horizon: now(), ..taking(1, number, 100) };
    let of = ask.next_due(ClaimCursor::default(), &HashSet::new());
    let only_asked: punctual::store::Decide = std::sync::Arc::new(|record, waiting| {
        let mut rows = waiting.to_vec();
        rows.iter_mut().for_each(|row| row.state = RowState::Claimed(NodeId(0)));
        punctual::store::Decision::Claim { rows, next_fire: record.next_fire }
    });
    let claim_result = store.claim(ClaimRequest { decide: only_asked, ..ask }).await.unwrap();
    assert_eq!(claim_result.jobs.len(), 1);
    store.next_due(of).await.unwrap();
    asked.elapsed()
}

/// A store with one job, and a node.
async fn queue() -> SqliteStore {
    let store = SqliteStore::in_memory().await.unwrap();
    add(&store, [record("queue", 1, Some(now() + TimeDelta::hours(1)))]).await;
    heartbeat(&store, 1, Duration::from_secs(600)).await;
    store
}

#[tokio::test]
async fn a_requested_run_costs_the_same_however_many_there_are() {
    const COUNT: u64 = 3000;
    const SHORT: u64 = 100;
    let long = queue().await;
    for number in 1..=COUNT {
        request_and_claim(&long, number).await;
    }
    let short = queue().await;
    let (mut last, mut first) = (Vec::new(), Vec::new());
    for number in 1..=SHORT {
        first.push(request_and_claim(&short, number).await);
        last.push(request_and_claim(&long, COUNT + number).await);
    }
    let typical = |mut each: Vec<Duration>| {
        each.sort();
        each[each.len() / 2]
    };
    let (first, last) = (typical(first), typical(last));
    println!("a run is asked for: {first:?} at first, {last:?} after {COUNT}");
    assert!(last < first * NOISE, "{first:?} at first, {last:?} after {COUNT}");
}

#[tokio::test]
async fn a_claim_reads_a_part_of_what_waits_and_later_ones_the_rest() {
    const COUNT: i64 = 50_000;
    let store = queue().await;
    let numbers: Vec<i64> = (1..=COUNT).collect();
    for numbers in numbers.chunks(1000) {
        let current = store.get("queue".into()).await.unwrap().unwrap();
        let waits = |&number: &i64| {
            let (kind, incarnation) = (RowKind::Requested, Incarnation(1));
            let mut waits = row(&current, now());
            waits.key = RowKey { incarnation, kind, number };
            waits
        };
        let rows = numbers.iter().map(waits).collect();
        let token = numbers[0] as u64;
        let write = Write::change(current.stamp(), current, token).with_rows(rows);
        store.write(vec![write]).await.unwrap();
    }
    let most = std::sync::Arc::new(AtomicUsize::new(0));
    let mut claimed = Vec::new();
    for number in 1.. {
        let most = most.clone();
        let decide: punctual::store::Decide = std::sync::Arc::new(move |record, waiting| {
            most.fetch_max(waiting.len(), Ordering::Relaxed);
            let mut rows = waiting.to_vec();
            rows.iter_mut().for_each(|row| row.state = RowState::Claimed(NodeId(0)));
            punctual::store::Decision::Claim { rows, next_fire: record.next_fire }
        });
        let claim_result = store.claim(ClaimRequest { decide, ..taking(1, number, 100) }).await;
        let jobs = claim_result.unwrap().jobs;
        let Some(job) = jobs.first() else { break };
        claimed.extend(job.rows.iter().map(|row| row.key.number));
    }
    assert_eq!(claimed, numbers, "in order, and each once");
    assert!(most.load(Ordering::Relaxed) <= 1000, "{most:?} rows were read at once");
}
