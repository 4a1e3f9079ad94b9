//! Shutting down a scheduler with durable jobs.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    End, EventKind, EventPayload,
    store::{Fate, MemoryStore, RowState, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::{every, now},
};
use tokio::time::{sleep, timeout};

use crate::tasks::{Lasting, Notes, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);
const MILLISECOND: Duration = Duration::from_millis(1);

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
async fn a_scheduler_is_drained_when_its_store_has_nothing_left_that_can_run_here() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let other = on(&store, &notes).start().await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(TENTH).times(3), remember("tick")).await.unwrap();
    other.add(every(TENTH * 200).times(1), remember("late")).await.unwrap();
    scheduler.drained().await;
    assert_eq!(notes.len(), 4);
    assert!(scheduler.jobs().await.unwrap().is_empty());

    // A job that can only run on another scheduler is not waited for.
    let stranger = scheduler.add(every(TENTH), remember("tick")).id("stranger").await.unwrap();
    let document = scheduler.export().await.unwrap().replace("\"task\": \"", "\"task\": \"un");
    stranger.remove().await.unwrap();
    scheduler.import(&document, punctual::OnConflict::Error).await.unwrap();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 1);
    scheduler.drained().await;
    other.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_restart_abandons_nothing_and_goes_on() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let first = on(&store, &notes).start().await.unwrap();
    first.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    first.add(every(SECOND), Slow(300)).id("slow").await.unwrap();
    tokio::time::sleep(SECOND * 5 + SECOND / 10).await;
    assert!(first.shutdown().await.is_clean());
    assert!(
        rows(&store)
            .await
            .iter()
            .all(|row| row.state != punctual::store::RowState::Closed(Fate::Abandoned))
    );
    // An hour later, the missed fire times are coalesced into one run.
    tokio::time::sleep(SECOND * 3600).await;
    let before = notes.len();
    let second = on(&store, &notes).start().await.unwrap();
    let mut coalesced = event(&second, EventKind::Coalesced).await;
    let event = coalesced.next().await.unwrap();
    assert!(event.to_string().contains("coalesced") || event.payload.job().is_some());
    tokio::time::sleep(SECOND * 5).await;
    let ran = notes.len() - before;
    assert!((10..=14).contains(&ran), "{ran}");
    let rows = rows(&store).await;
    let covered: u64 = rows.iter().filter(|row| row.job == "tick").map(|row| row.count).sum();
    assert!((3609..=3612).contains(&covered), "{covered}");
    assert!(!fates(&rows).contains(&Fate::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn adding_after_shutdown_is_an_error() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.shutdown().await;
    let volatile = scheduler.add(every(SECOND), || async {}).await;
    assert!(volatile.unwrap_err().is_shut_down());
    let added = scheduler.add(every(SECOND), remember("x")).id("late").await;
    let in_store = store.get("late".into()).await.unwrap().is_some();
    if let Ok(job) = &added {
        let end = timeout(SECOND * 3600, job.clone()).await;
        panic!("added: in store: {in_store}, its handle: {end:?}");
    }
    assert!(added.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn the_handle_of_a_job_added_during_shutdown_resolves() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    faulty.set(Operation::Write, Fault::Delayed(SECOND * 2));
    let adding = tokio::spawn(scheduler.add(every(SECOND), remember("x")).into_future());
    sleep(SECOND).await;
    scheduler.shutdown().await;
    match adding.await.unwrap() {
        Ok(job) => {
            let end = timeout(SECOND * 3600, job).await;
            assert!(end.is_ok(), "its handle never resolves");
        }
        Err(error) => assert!(error.is_shut_down(), "{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_store_that_hangs() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Lasting(500)).id("job").await.unwrap();
    sleep(SECOND + SECOND / 4).await;
    faulty.set_all(Fault::Hangs);
    let report = timeout(SECOND * 60, scheduler.shutdown().within(SECOND)).await;
    assert!(report.is_ok(), "{report:?}");
    assert!(matches!(timeout(SECOND, job).await, Ok(End::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_scheduler_lets_its_run_finish() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Lasting(10_000)).id("job").await.unwrap();
    sleep(SECOND * 2).await;
    drop(scheduler);
    let end = timeout(SECOND * 60, job.clone()).await;
    assert!(matches!(end, Ok(End::ShutDown)), "{end:?}");
    assert_eq!(notes.texts(), ["begin", "end"]);
    let states: Vec<_> = rows(&store).await.into_iter().map(|row| row.state).collect();
    assert!(states.iter().all(|state| !matches!(state, RowState::Claimed(_))), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_claim_brings_during_shutdown_is_released() {
    for slow in [100, 1000, 3000] {
        let (memory, notes) = (MemoryStore::new(), Notes::default());
        let store = FaultyStore::new(memory.clone());
        let scheduler = on(&store, &notes).start().await.unwrap();
        scheduler.add(every(SECOND), remember("x")).id("job").await.unwrap();
        sleep(SECOND * 3 + SECOND / 4).await;
        store.set(Operation::Claim, Fault::AnswerDelayed(Duration::from_millis(slow)));
        sleep(SECOND / 2).await;
        scheduler.shutdown().within(SECOND).await;
        sleep(SECOND * 10).await;
        let next = on(&memory, &notes).start().await.unwrap();
        sleep(SECOND * 30).await;
        let states: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
        let lost = |state: &&RowState| **state == RowState::Closed(Fate::Abandoned);
        let abandoned = states.iter().filter(lost).count();
        assert_eq!(abandoned, 0, "{slow} ms: {states:?}");
        drop(next);
    }
}

/// The runtime is dropped while operations hang: verbs that are called on another runtime return.
#[test]
fn verbs_are_answered_after_the_runtime_has_gone() {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = FaultyStore::new(MemoryStore::new());
        let (scheduler, job) = runtime.block_on(async {
            let scheduler = on(&store, &Notes::default()).start().await.unwrap();
            let job = scheduler.add(every(SECOND), remember("x")).id("job").await.unwrap();
            sleep(MILLISECOND * 600).await;
            (scheduler, job)
        });
        store.set(Operation::Claim, Fault::Hangs);
        store.set(Operation::Heartbeat, Fault::Hangs);
        runtime.block_on(async { sleep(SECOND).await });
        drop(runtime);
        let other = tokio::runtime::Runtime::new().unwrap();
        other.block_on(async move {
            let got = scheduler.job("job").get().await;
            let added = scheduler.add(every(SECOND), || async {}).id("y").await;
            let task = scheduler.add(every(SECOND), remember("z")).id("z").await;
            let shutdown = scheduler.shutdown().within(SECOND).await;
            let end = job.await;
            let told = format!(
                "{:?} {:?} {:?} {shutdown:?} {end:?}",
                got.map(drop),
                added.map(drop),
                task.map(drop)
            );
            said.send(told).unwrap();
        });
    });
    let heard = heard.recv_timeout(SECOND * 20);
    assert!(heard.is_ok(), "something has not been answered for 20 seconds");
    println!("{}", heard.unwrap());
}
