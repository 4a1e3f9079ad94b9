//! Cancellation tokens of durable jobs.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    End, EventKind, Retry,
    store::{Fate, MemoryStore, RowKind, RowState, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{every, now},
};
use tokio::time::sleep;

use crate::tasks::{Fails, Lasting, Notes, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_token_cancels_the_job_and_its_run() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut started = event(&scheduler, EventKind::Submitted).await;
    let mut cancelled = event(&scheduler, EventKind::Cancelled).await;
    let job = scheduler.add(every(TENTH), Slow(3_600_000)).id("slow").await.unwrap();
    let token = job.cancel_token();
    started.next().await.unwrap();
    token.cancel();
    cancelled.next().await.unwrap();
    assert!(matches!(job.await, End::Cancelled));
    assert_eq!(store.get("slow".into()).await.unwrap(), None);
    tokio::time::sleep(TENTH).await;
    let fates = fates(&rows(&store).await);
    assert!(fates.contains(&Fate::Ran(punctual::store::RunEnd::Cancelled)), "{fates:?}");
    assert!(rows(&store).await.iter().all(|row| !row.state.is_open()));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_ends_as_cancelled_however_slow_the_store_is() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let slow = FaultyStore::new(store.clone());
    let scheduler = on(&slow, &notes).task::<Fails>().start().await.unwrap();
    slow.set(Operation::Get, Fault::Delayed(SECOND / 10));
    for wait in 0..30 {
        let retry = Retry::fixed(SECOND / 50).times(1000);
        let job = scheduler.add(now(), Fails).retry(retry).await.unwrap();
        let token = job.cancel_token();
        tokio::time::sleep(SECOND / 1000 * wait).await;
        token.cancel();
        let end = job.await;
        assert!(matches!(end, End::Cancelled), "after {wait} ms: {end:?}");
    }
    tokio::time::sleep(SECOND).await;
    let ends = store.rows(None, 1000).await.unwrap();
    let ends: Vec<_> = ends.iter().filter(|row| row.key.kind == RowKind::Ended).collect();
    assert_eq!(ends.len(), 30);
    assert!(ends.iter().all(|row| row.state == RowState::Closed(Fate::Cancelled)), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removal_cancels_the_token_although_the_handle_is_dropped() {
    for in_memory in [true, false] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), remember("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let token = add.await.unwrap().cancel_token();
        sleep(SECOND * 3).await;
        scheduler.job("job").remove().await.unwrap();
        sleep(SECOND * 10).await;
        assert!(token.is_cancelled(), "in memory: {in_memory}");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_of_tokens_end_with_their_jobs() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..200 {
        let job = scheduler.add(now(), remember("x")).await.unwrap();
        drop(job.cancel_token());
        drop(job);
    }
    sleep(SECOND * 60).await;
    assert!(scheduler.jobs().await.unwrap().is_empty());
    let after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(after < before + 20, "{before} tasks before, {after} after all jobs have ended");
}

#[tokio::test(start_paused = true)]
async fn a_token_stops_the_run_although_the_store_is_down() {
    for in_memory in [true, false] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let faulty = FaultyStore::new(store.clone());
        let scheduler = on(&faulty, &notes).lease(SECOND * 600).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), Lasting(100_000)).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        sleep(SECOND * 2).await;
        faulty.set_all(Fault::Unavailable);
        job.cancel_token().cancel();
        sleep(SECOND * 110).await;
        assert_eq!(notes.texts(), ["begin"], "in memory: {in_memory}: it went on to its end");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_after_a_cancel_although_the_store_is_slow() {
    for fault in [Fault::AnswerDelayed(SECOND * 3), Fault::Unavailable] {
        for in_memory in [true, false] {
            let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
            let scheduler = on(&store, &notes).start().await.unwrap();
            let add = scheduler.add(every(MILLISECOND * 100), remember("x")).id("job");
            let add = if in_memory { add.in_memory() } else { add };
            let job = add.await.unwrap();
            let token = job.cancel_token();
            sleep(SECOND * 2).await;
            store.set(Operation::Get, fault);
            token.cancel();
            sleep(MILLISECOND * 150).await;
            let before = notes.len();
            sleep(SECOND * 30).await;
            let more = notes.len() - before;
            assert_eq!(more, 0, "{fault:?}, in memory: {in_memory}: runs started after the cancel");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_the_store_refused_holds_after_a_restart() {
    let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), remember("x")).id("job").await.unwrap();
    let token = job.cancel_token();
    // Between two fire times.
    sleep(MILLISECOND * 1500).await;
    store.set(Operation::Write, Fault::Refused);
    token.cancel();
    sleep(SECOND * 5).await;
    store.heal();
    sleep(SECOND * 60).await;
    assert_eq!(notes.len(), 1);
    let is_there = store.get("job".into()).await.unwrap().is_some();
    scheduler.shutdown().await;
    let _next = on(&store, &notes).start().await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(
        notes.len(),
        1,
        "after a restart it runs on; a minute later it was there: {is_there}"
    );
}
