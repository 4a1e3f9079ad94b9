//! A store that fails stalls durable jobs, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use punctual::{
    BoxError, Context, End, EventKind, EventPayload, Retry, SchedulerBuilder, Task,
    store::{Fate, MemoryStore, RowKind, RowState, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{every, now},
};
use serde::{Deserialize, Serialize};

use crate::tasks::{Notes, RAN, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn durable_jobs_stall_and_go_on_and_others_do_not_notice() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let scheduler = on(&flaky, &notes).start().await.unwrap();
    let mut failing = event(&scheduler, EventKind::StoreFailing).await;
    let mut working = event(&scheduler, EventKind::StoreWorking).await;
    let mut lapsed = event(&scheduler, EventKind::LeaseLapsed).await;
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    let closure = move || {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::SeqCst);
        }
    };
    scheduler.add(every(SECOND), closure).await.unwrap();
    scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    tokio::time::sleep(SECOND * 3 + SECOND / 2).await;
    flaky.set_all(Fault::Unavailable);
    let started = std::time::Instant::now();
    let refused = scheduler.add(every(SECOND), remember("x")).await;
    assert!(refused.unwrap_err().is_store_unavailable());
    assert!(started.elapsed() < SECOND * 5);
    tokio::time::sleep(SECOND * 60).await;
    failing.next().await.unwrap();
    lapsed.next().await.unwrap();
    assert!(ticks.load(Ordering::SeqCst) >= 62);
    let stalled = notes.len();
    assert!(stalled <= 5, "{stalled}");
    flaky.heal();
    working.next().await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert!(notes.len() >= stalled + 10, "{} {stalled}", notes.len());
    // Each fire time once, the stretch of the outage coalesced.
    let rows = rows(&store).await;
    let covered: u64 = rows.iter().map(|row| row.count).sum();
    let span = (rows.last().unwrap().last - rows[0].fire_time).num_seconds() + 1;
    assert_eq!(covered, span as u64);
    assert!(!fates(&rows).contains(&Fate::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_asked_for_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let scheduler = on(&flaky, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    for _ in 0..20 {
        flaky.set_all(Fault::AnswerLost);
        tokio::time::sleep(SECOND / 5).await;
        flaky.heal();
        tokio::time::sleep(SECOND).await;
    }
    job.pause().await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    let closed = rows(&store).await;
    let taken = closed.iter().filter(|row| row.state.is_open()).count();
    // One that was taken ahead waits for the job to be resumed.
    assert!(taken <= 1, "{closed:?}");
    let ran = fates(&closed).into_iter().filter(|fate| *fate == RAN).count();
    assert_eq!(ran, notes.len());
    assert!(ran >= 20, "{ran}");
    let mut fire_times: Vec<_> = notes.all().iter().map(|note| note.fire_time).collect();
    fire_times.dedup();
    assert_eq!(fire_times.len(), notes.len());
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_changes_that_ends_is_opened_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let often = |builder: SchedulerBuilder| builder.poll_interval(SECOND * 3600);
    let one = often(on(&flaky, &notes)).start().await.unwrap();
    let other = often(on(&store, &notes)).start().await.unwrap();
    for id in ["a", "b", "c"] {
        let job = one.add(every(SECOND * 600), remember("x")).id(id).await.unwrap();
        flaky.end_changes();
        if id == "b" {
            // Also what has changed before it was.
            other.job(id).remove().await.unwrap();
        }
        tokio::time::sleep(SECOND).await;
        if id != "b" {
            other.job(id).remove().await.unwrap();
        }
        let end = tokio::time::timeout(SECOND, job).await.unwrap();
        assert!(matches!(end, End::Removed), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_store_that_is_gone() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let flaky = FaultyStore::new(store.clone());
    let scheduler = on(&flaky, &notes).start().await.unwrap();
    let mut started = event(&scheduler, EventKind::Submitted).await;
    scheduler.add(every(SECOND), Slow(500)).await.unwrap();
    started.next().await.unwrap();
    flaky.set_all(Fault::Unavailable);
    let report = tokio::time::timeout(SECOND * 20, async { scheduler.shutdown().await });
    assert_eq!(report.await.unwrap().finished.len(), 1);
}

/// Fails, and says so with a character that not every store can hold.
#[derive(Serialize, Deserialize)]
struct Fails;

impl Task for Fails {
    const NAME: &'static str = "fails";
    type Output = Result<(), BoxError>;

    async fn run(self, _: Context) -> Result<(), BoxError> {
        Err("a\0b".into())
    }
}

#[tokio::test(start_paused = true)]
async fn messages_go_to_the_store_without_nul() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Fails>().start().await.unwrap();
    scheduler.add(now(), Fails).await.unwrap().await;
    let row = rows(&store).await.remove(0);
    assert_eq!(row.message.as_deref(), Some("a\u{FFFD}b"));
    for error in [
        scheduler.add(every(SECOND), Fails).name("a\0b").await.unwrap_err(),
        scheduler.add(every(SECOND), Fails).tag("a\0b").await.unwrap_err(),
        scheduler.add(every(SECOND), Fails).tag("t".repeat(256)).await.unwrap_err(),
        scheduler.add(every(SECOND), Fails).name("n".repeat(256)).in_memory().await.unwrap_err(),
        on(&store, &notes).node_name("n\0").start().await.unwrap_err(),
    ] {
        assert!(error.is_invalid_option(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_to_be_tried_again_is_when_its_node_believes_itself_again() {
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
async fn an_outcome_that_the_store_refuses_for_good_keeps_no_scheduler_from_shutting_down() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let picky = FaultyStore::new(store.clone());
    let scheduler = on(&picky, &notes).start().await.unwrap();
    let mut refused = event(&scheduler, EventKind::OutcomeRefused).await;
    scheduler.add(now(), remember("once")).id("once").await.unwrap();
    picky.set(Operation::Finish, Fault::Refused);
    let EventPayload::OutcomeRefused { job, .. } = refused.next().await.unwrap().payload else {
        panic!()
    };
    assert_eq!(job.as_str(), "once");
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(notes.len(), 1, "it is not run again");
    assert!(scheduler.shutdown().await.is_clean());
    let fates = fates(&rows(&store).await);
    assert_eq!(fates, [Fate::Abandoned]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_ends_so_however_late_the_store_hears_of_it() {
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
