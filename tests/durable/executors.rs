//! Executors of durable jobs: missing here, added later, removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use punctual::{
    AsyncExecutor, EventKind,
    store::{MemoryStore, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every},
};
use tokio::time::sleep;

use crate::tasks::{Lasting, Notes, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn executors_of_the_builder_exist_before_jobs_are_claimed() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let unreadable = Arc::new(AtomicUsize::new(0));
    for n in 0..300 {
        let count = unreadable.clone();
        let scheduler = on(&store, &notes)
            .add_executor("reports", AsyncExecutor::new())
            .on_event(EventKind::JobUnreadable, move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            })
            .start()
            .await
            .unwrap();
        if n == 0 {
            let job = scheduler.add(every(TENTH / 100), remember("tick"));
            job.executor("reports").await.unwrap();
        }
        tokio::time::sleep(TENTH / 50).await;
        scheduler.shutdown().await;
    }
    assert_eq!(unreadable.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_executor_is_an_error_at_add() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    assert!(scheduler.add(every(SECOND), remember("x")).in_memory().executor("gpu").await.is_err());
    assert!(scheduler.add(every(SECOND), remember("x")).executor("gpu").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn adding_the_missing_executor_makes_the_job_run() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    // Declared by a node with the executor.
    let has = on(&store, &notes).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    has.add(every(SECOND), remember("x")).id("job").executor("gpu").paused().await.unwrap();
    has.job("job").resume().await.unwrap();
    has.shutdown().await;
    let scheduler = on(&store, &notes).start().await.unwrap();
    sleep(SECOND * 5).await;
    let before = notes.len();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 1);
    // `unhandled` says: "which there is not here: add it".
    scheduler.add_executor("gpu", AsyncExecutor::new()).await.unwrap();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 0);
    sleep(SECOND * 600).await;
    assert!(notes.len() > before, "ten minutes later it has not run");
}

#[tokio::test(start_paused = true)]
async fn naming_another_executor_makes_the_job_run() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let has = on(&store, &notes).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    has.add(every(SECOND), remember("x")).id("job").executor("gpu").await.unwrap();
    has.shutdown().await;
    let scheduler = on(&store, &notes).start().await.unwrap();
    sleep(SECOND * 5).await;
    let before = notes.len();
    scheduler.job("job").modify(|settings| settings.executor("default")).await.unwrap();
    sleep(SECOND * 600).await;
    assert!(notes.len() > before, "ten minutes later it has not run");
}

#[tokio::test(start_paused = true)]
async fn modifying_to_an_unknown_executor_is_refused() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Lasting(10_000)).id("job").await.unwrap();
    sleep(SECOND * 2).await;
    let modified = job.modify(|settings| settings.executor("gpu")).await;
    let accepted = modified.is_ok();
    scheduler.add_executor("gpu", AsyncExecutor::new()).await.unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    scheduler
        .add(every(SECOND), move || {
            let c = count.clone();
            async move {
                c.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
        .unwrap();
    scheduler.job("job").remove().await.unwrap();
    sleep(SECOND * 30).await;
    assert!(
        ticks.load(Ordering::SeqCst) >= 29,
        "the scheduler is dead after {} ticks",
        ticks.load(Ordering::SeqCst)
    );
    assert!(!accepted, "an executor that there is not was accepted");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_executor_does_not_block_the_node_that_has_it() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let knows = on(&store, &notes).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    let other = on(&store, &notes).start().await.unwrap();
    knows.add(every(SECOND), remember("gpu")).id("gpu").executor("gpu").await.unwrap();
    sleep(SECOND * 10).await;
    // The verb is called on the node that lacks the executor.
    let asked = other.job("gpu").run_now().await;
    let before = notes.len();
    sleep(SECOND * 60).await;
    assert!(notes.len() >= before + 58, "{} runs, {asked:?}", notes.len() - before);
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_is_removed_during_a_claim_loses_no_fire_time() {
    let (memory, notes) = (MemoryStore::new(), Notes::default());
    let store = FaultyStore::new(memory.clone());
    let builder = on(&store, &notes).add_executor("gpu", AsyncExecutor::new().max_running(1));
    let scheduler = builder.start().await.unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    let tick = move || {
        let count = count.clone();
        async move { _ = count.fetch_add(1, Ordering::SeqCst) }
    };
    scheduler.add(every(SECOND), tick).await.unwrap();
    scheduler.add(after(SECOND * 10), remember("x")).id("job").executor("gpu").await.unwrap();
    sleep(SECOND * 8).await;
    store.set(Operation::Claim, Fault::AnswerDelayed(SECOND * 3));
    sleep(SECOND * 2).await;
    let removed = scheduler.remove_executor("gpu").await;
    sleep(SECOND * 60).await;
    let states: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
    assert!(ticks.load(Ordering::SeqCst) > 65, "closures stopped; {removed:?}");
    // The job is kept until there is such an executor, or it has run.
    let is_there = memory.get("job".into()).await.unwrap().is_some();
    assert!(is_there || notes.len() == 1, "{removed:?}, {states:?}");
}
