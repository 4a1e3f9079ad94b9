//! Handles of durable jobs: ends, runs, next fire times and histories.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use punctual::{
    End, OnConflict,
    store::MemoryStore,
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every, now},
};
use tokio::time::{sleep, timeout};

use crate::tasks::{Lasting, Notes, RAN, fates, on, remember};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const TENTH: Duration = Duration::from_millis(100);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_run_of_a_durable_job_has_its_handle_and_an_error_explains_running_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Removes>().start().await.unwrap();
    let job = scheduler.add(every(TENTH), Removes).id("removes").await.unwrap();
    assert!(matches!(job.await, punctual::End::Removed));
}

/// Cannot run again, and removes its job.
#[derive(serde::Serialize, serde::Deserialize)]
struct Removes;

impl punctual::Task for Removes {
    const NAME: &'static str = "removes";
    type Output = ();

    async fn run(self, cx: punctual::Context) {
        let error = cx.again_in(TENTH).unwrap_err();
        assert!(error.to_string().contains("cx.scheduler().add(after(delay)"), "{error}");
        cx.job().remove().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_ledger_of_a_job_that_is_over_is_read_by_its_handle() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = || scheduler.add(every(TENTH).times(3), remember("tick")).id("past");
    let mut first = add().await.unwrap();
    (&mut first).await;
    let rows_of_first = first.ledger(5).await.unwrap();
    assert_eq!(fates(&rows_of_first).into_iter().filter(|fate| *fate == RAN).count(), 3);
    // Without a handle, the end must be remembered: the error shows how.
    for error in [
        scheduler.job("past").ledger(5).await.unwrap_err(),
        scheduler.job("past").history().await.unwrap_err(),
    ] {
        assert!(error.is_unknown_job(), "{error}");
        assert!(error.to_string().contains("`on_conflict(OnConflict::Keep)`"), "{error}");
    }
    for on_conflict in [OnConflict::Keep, OnConflict::Reconcile] {
        let _ = scheduler.job("past").remove().await;
        add().on_conflict(on_conflict).await.unwrap().await;
        let rows = scheduler.job("past").ledger(5).await.unwrap();
        assert_eq!(fates(&rows).into_iter().filter(|fate| *fate == RAN).count(), 3);
        assert_eq!(scheduler.job("past").history().await.unwrap().len(), 3);
    }
    // A handle reads the rows of its own job, even if another job has the id by then.
    assert_eq!(first.ledger(5).await.unwrap(), rows_of_first);
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_the_end_that_another_brings() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).start().await.unwrap();
    let two = on(&store, &notes).start().await.unwrap();
    let job = one.add(every(SECOND * 600), remember("x")).id("job").await.unwrap();
    two.job("job").remove().await.unwrap();
    let end = tokio::time::timeout(SECOND * 10, job).await.unwrap();
    assert!(matches!(end, End::Removed), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_an_end_that_comes_before_its_job_was_answered() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let slow = FaultyStore::new(store.clone());
    let adding = on(&slow, &notes).poll_interval(SECOND * 3600).start().await.unwrap();
    let running = on(&store, &notes).start().await.unwrap();
    adding.pause().await.unwrap();
    tokio::time::sleep(SECOND).await;
    slow.after(Operation::Write, tokio::time::sleep(SECOND));
    let job = adding.add(now(), remember("x")).await.unwrap();
    assert_eq!(notes.len(), 1, "it has run already");
    let end = tokio::time::timeout(SECOND * 10, job).await.unwrap();
    assert!(matches!(end, End::Completed), "{end:?}");
    running.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_runs_that_begin_before_the_store_has_answered() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).poll_interval(HOUR).start().await.unwrap();
    tokio::time::sleep(SECOND).await;
    faulty.set(Operation::Write, Fault::AnswerDelayed(Duration::from_millis(500)));
    let job = scheduler.add(every(Duration::from_millis(100)), remember("tick")).await.unwrap();
    assert!(notes.len() > 0, "it ran before the store has answered");
    let run = tokio::time::timeout(SECOND, job.runs().next()).await.unwrap().unwrap();
    assert!(run.outcome.is_success(), "{run:?}");

    let once = scheduler.add(after(Duration::ZERO), remember("once")).await.unwrap();
    tokio::time::timeout(SECOND, once).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_runs_outlives_the_handle() {
    for in_memory in [true, false] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), remember("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let mut runs = add.runs();
        drop(add.await.unwrap());
        let run = timeout(SECOND * 5, runs.next()).await;
        assert!(matches!(run, Ok(Some(_))), "in memory: {in_memory}: {run:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fire_time_that_is_claimed_is_still_the_next_one() {
    for in_memory in [true, false] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).claim_ahead(SECOND * 60).start().await.unwrap();
        let mut add = scheduler.add(after(SECOND * 20), remember("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        sleep(SECOND).await;
        let next = job.next_fire().await.unwrap();
        assert!(
            next.is_some(),
            "in memory: {in_memory}: it runs in 19 s, and says that it does not"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_replaced_during_a_run_ends_as_replaced() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Lasting(60_000)).id("job").await.unwrap();
    sleep(SECOND * 2).await;
    let other = scheduler
        .add(every(SECOND), remember("new"))
        .id("job")
        .on_conflict(OnConflict::Replace)
        .await
        .unwrap();
    let end = timeout(SECOND * 10, job).await;
    assert!(matches!(end, Ok(End::Replaced)), "{end:?}");
    sleep(SECOND * 5).await;
    assert!(notes.texts().iter().filter(|it| *it == "new").count() >= 4);
    drop(other);
}

/// Rows that are claimed ahead must not count towards the length of the history.
#[tokio::test(start_paused = true)]
async fn the_history_has_runs_although_much_is_claimed_ahead() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler
        .add(every(MILLISECOND * 2), remember("x"))
        .id("job")
        .history(10)
        .max_instances(10)
        .await
        .unwrap();
    let mut lengths = Vec::new();
    for _ in 0..10 {
        sleep(MILLISECOND * 730).await;
        lengths.push(job.history().await.unwrap().len());
    }
    assert_eq!(lengths, [10; 10], "{} runs", notes.len());
}

/// Another node ends the job long before this one asks the store.
#[tokio::test(start_paused = true)]
async fn a_handle_says_how_its_job_ended_although_the_ledger_is_short() {
    let (memory, notes) = (MemoryStore::new(), Notes::default());
    let mute = FaultyStore::new(memory.clone());
    mute.set_changes(|| stream::pending().boxed());
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let one = on(&mute, &notes).poll_interval(minutes(20)).start().await.unwrap();
    let other = on(&memory, &notes).keep_history(0, Duration::ZERO).start().await.unwrap();
    let job = one.add(after(minutes(3)), remember("x")).id("job").await.unwrap();
    one.pause().await.unwrap();
    let end = timeout(minutes(60), job).await;
    assert!(matches!(end, Ok(End::Completed)), "{end:?}, and it ran {} times", notes.len());
    drop(other);
}
