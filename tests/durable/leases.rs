//! Nodes that have lost their lease, and dead nodes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    EventKind, Retry,
    store::{Heartbeat, MemoryStore, RowState, Store as _},
    testing::{Fault, FaultyStore, ManualClock, Operation},
    trigger::{after, every, now},
};
use tokio::time::sleep;

use crate::tasks::{Fails, Lasting, Notes, Slow, event, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_dead_node_are_reclaimed_within_the_lease() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let lonely = FaultyStore::new(store.clone());
    let lease = SECOND * 9;
    let dying = on(&lonely, &notes).lease(lease).start().await.unwrap();
    let recovers = dying.add(every(SECOND * 2).times(1), Slow(1000)).id("recovers");
    recovers.recover(true).await.unwrap();
    dying.add(every(SECOND * 2).times(1), Slow(1001)).id("abandoned").await.unwrap();
    tokio::time::sleep(SECOND * 2 + SECOND / 2).await;
    // The other nodes see no heartbeats; the runs continue until the node's own lease has lapsed.
    lonely.set_all(Fault::Unavailable);
    let other = on(&store, &notes).lease(lease).start().await.unwrap();
    let mut died = event(&other, EventKind::NodesDied).await;
    let mut abandoned = event(&other, EventKind::Abandoned).await;
    tokio::time::timeout(lease + lease / 3, died.next()).await.unwrap().unwrap();
    assert_eq!(abandoned.next().await.unwrap().payload.job().unwrap(), &"abandoned");
    tokio::time::sleep(SECOND * 2).await;
    let recovered: Vec<_> = notes.all().into_iter().filter(|note| note.attempt == 2).collect();
    assert_eq!(recovered.len(), 1, "{:?}", notes.all());
    // When it is back, the node learns that it has expired, and that its outcomes came too late.
    let mut lost = event(&dying, EventKind::LeaseLost).await;
    lonely.heal();
    tokio::time::timeout(SECOND * 10, lost.next()).await.unwrap().unwrap();
    tokio::time::sleep(SECOND * 20).await;
    assert!(rows(&store).await.iter().all(|row| !row.state.is_open()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_backs_off_during_a_lapse_is_tried_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let scheduler = on(&flaky, &notes).task::<Fails>().start().await.unwrap();
    let mut lapsed = event(&scheduler, EventKind::LeaseLapsed).await;
    let mut retrying = event(&scheduler, EventKind::Retrying).await;
    let retry = Retry::fixed(SECOND * 60).times(1);
    let job = scheduler.add(now(), Fails).retry(retry).await.unwrap();
    retrying.next().await.unwrap();
    flaky.set_all(Fault::Unavailable);
    lapsed.next().await.unwrap();
    flaky.heal();
    tokio::time::timeout(SECOND * 90, job).await.expect("it is tried again");
    assert_eq!(rows(&store).await[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_lost_lease_is_run_again_by_one_other_node() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let one = on(&faulty, &notes).start().await.unwrap();
    one.add(after(SECOND), Lasting(20_000)).id("job").recover(true).await.unwrap();
    sleep(SECOND * 2).await;
    assert_eq!(notes.len(), 1);
    let node = store.nodes().await.unwrap().remove(0);
    let other = on(&store, &notes).start().await.unwrap();
    // Only the other node can claim the run.
    faulty.set(Operation::Claim, Fault::Unavailable);
    // The store ends the lease, which the next heartbeat detects.
    let expired = Heartbeat::new(node.id, node.name, false, Duration::ZERO);
    faulty.before(Operation::Heartbeat, async move {
        store.heartbeat(expired).await.unwrap();
    });
    faulty.once(Operation::Heartbeat, Fault::LeaseLost);
    sleep(SECOND * 120).await;
    let begun: Vec<_> = notes.all().into_iter().filter(|note| note.text == "begin").collect();
    assert_eq!(begun.len(), 2, "{:?}", notes.all());
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_for_longer_than_its_lease_does_not_run_what_was_reclaimed() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    // The failing store stands for a suspended machine: the node sends no heartbeat.
    let one = on(&faulty, &notes).start().await.unwrap();
    one.add(after(SECOND), Lasting(20_000)).id("job").recover(true).await.unwrap();
    sleep(SECOND * 2).await;
    let other = on(&store, &notes).start().await.unwrap();
    faulty.set_all(Fault::Unavailable);
    sleep(SECOND * 20).await;
    faulty.heal();
    sleep(SECOND * 100).await;
    let begun: Vec<_> = notes.all().into_iter().filter(|note| note.text == "begin").collect();
    assert_eq!(begun.len(), 2, "{:?}", notes.all());
    drop((one, other));
}

/// A node dies, and the clock is set back by a day before the next node starts. The next node does
/// not wait for the rest of the lease, a day and some seconds by the clock.
#[tokio::test(start_paused = true)]
async fn the_rows_of_a_dead_node_are_reclaimed_although_the_clock_was_set_back() {
    let start = "2030-01-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let clock = ManualClock::running(start);
    let (memory, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let store = FaultyStore::new(memory.clone());
    let dies = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    dies.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    sleep(SECOND * 5 + SECOND * 3 / 4).await;
    assert!(rows(&memory).await.iter().any(|row| matches!(row.state, RowState::Claimed(_))));
    // The node dies: none of its operations reaches the store.
    for operation in [
        Operation::Heartbeat,
        Operation::Claim,
        Operation::Finish,
        Operation::Release,
        Operation::Reap,
    ] {
        store.set(operation, Fault::Hangs);
    }
    sleep(SECOND * 2).await;
    notes.clear();
    clock.step(TimeDelta::days(-1));
    let _lives = on(&memory, &notes).clock(clock.clone()).start().await.unwrap();
    let job = _lives.job("tick");
    // By the clock, the next fire time is a day away.
    job.reschedule(every(SECOND)).await.unwrap();
    sleep(SECOND * 600).await;
    assert!(notes.len() > 500, "in ten minutes it ran {} times", notes.len());
}

/// A second of real time, since paused time would wait until nothing is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_is_always_behind_keeps_its_lease() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).lease(SECOND).start().await.unwrap();
    let mut lapsed = event(&scheduler, EventKind::LeaseLapsed).await;
    for _ in 0..4000 {
        scheduler.add(every(SECOND / 1000), || async {}).in_memory().await.unwrap();
    }
    let stopped = scheduler.add(every(SECOND), remember("x")).await.unwrap();
    sleep(SECOND * 2).await;
    stopped.cancel_token().cancel();
    tokio::time::timeout(SECOND * 5, stopped).await.expect("a token is noticed");
    let lapsed = futures::FutureExt::now_or_never(lapsed.next()).flatten();
    assert!(lapsed.is_none(), "{lapsed:?}");
    scheduler.shutdown().await;
}
