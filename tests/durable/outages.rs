//! A store that fails stalls durable jobs, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use punctual::{
    End, EventFilter, EventKind, SchedulerBuilder,
    store::{Fate, MemoryStore, Row, RowState, RunEnd, StoreChange},
    testing::{Fault, FaultyStore, Operation},
    trigger::every,
};
use tokio::time::{sleep, timeout};

use crate::tasks::{Lasting, Notes, RAN, event, fates, on, remember, rows};

const MILLISECOND: Duration = Duration::from_millis(1);

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
    // Each fire time has one fate; those of the outage are coalesced.
    let rows = rows(&store).await;
    let covered: u64 = rows.iter().map(|row| row.count).sum();
    let span = (rows.last().unwrap().last - rows[0].fire_time).num_seconds() + 1;
    assert_eq!(covered, span as u64);
    assert!(!fates(&rows).contains(&Fate::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn requests_with_lost_responses_are_sent_again() {
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
    // One run that was claimed ahead waits for the job to be resumed.
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
            // Changes from before the stream ended arrive as well.
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
async fn closures_with_ids_do_not_wait_for_a_store_that_hangs() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    faulty.set_all(Fault::Hangs);
    let started = tokio::time::Instant::now();
    let jobs: Vec<_> =
        (0..100).map(|n| scheduler.add(every(SECOND), || async {}).id(format!("{n}"))).collect();
    scheduler.add_all(jobs).await.unwrap();
    let took = started.elapsed();
    assert!(took <= SECOND * 2, "adding 100 closures took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn records_that_are_garbled_in_an_answer_stop_no_other_job() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    scheduler.add(every(SECOND), Lasting(10_000)).id("job").await.unwrap();
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
    sleep(SECOND * 3).await;
    faulty.set(Operation::Claim, Fault::Garbled);
    sleep(SECOND * 4).await;
    faulty.heal();
    let before = ticks.load(Ordering::SeqCst);
    sleep(SECOND * 10).await;
    assert!(ticks.load(Ordering::SeqCst) >= before + 9, "closures stopped, too");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_in_part_is_reported_once() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let events = scheduler.events_matching(
        EventFilter::new().kinds([EventKind::StoreFailing, EventKind::StoreWorking]),
    );
    scheduler.add(every(SECOND), remember("x")).await.unwrap();
    sleep(SECOND * 3).await;
    faulty.set(Operation::Claim, Fault::Unavailable);
    sleep(SECOND * 600).await;
    scheduler.shutdown().await;
    let count = events.collect::<Vec<_>>().await.len();
    assert!(count <= 2, "{count} events in ten minutes");
}

/// Runs a job of every second for two minutes while one operation fails. Returns the number of
/// runs, the greatest lateness, and the number of events about outages.
async fn lateness_while(operation: Operation, fault: Fault) -> (usize, Duration, usize) {
    let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let kinds = [EventKind::StoreFailing, EventKind::StoreWorking];
    let events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    let _tick = scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    sleep(SECOND * 5 + SECOND / 3).await;
    store.set(operation, fault);
    notes.clear();
    sleep(SECOND * 120).await;
    let ran = notes.all();
    store.heal();
    scheduler.shutdown().await;
    let worst = ran.iter().map(|ran| ran.late_by).max().unwrap_or_default();
    (ran.len(), worst, events.count().await)
}

#[tokio::test(start_paused = true)]
async fn runs_are_on_time_while_pruning_fails() {
    for fault in [Fault::Refused, Fault::Unavailable, Fault::Panics, Fault::Hangs] {
        let (ran, late, told) = lateness_while(Operation::Prune, fault).await;
        assert!(
            ran >= 115 && late < SECOND / 2 && told <= 2,
            "{fault:?}: {ran} of 120 runs, up to {late:?} late, and {told} events"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_while_changed_fails() {
    for fault in [Fault::Refused, Fault::Unavailable, Fault::Panics, Fault::Hangs] {
        let (ran, late, told) = lateness_while(Operation::Changed, fault).await;
        assert!(ran >= 100, "{fault:?}: {ran} of 120 runs, up to {late:?} late, and {told} events");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_while_next_due_fails() {
    for fault in [Fault::Refused, Fault::Unavailable, Fault::Panics] {
        let (ran, late, told) = lateness_while(Operation::NextDue, fault).await;
        assert!(ran >= 10, "{fault:?}: {ran} of 120 runs, up to {late:?} late, and {told} events");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_are_on_time_while_dead_nodes_can_not_be_expired() {
    for operation in [Operation::Reap, Operation::ClaimedBy] {
        for fault in [Fault::Refused, Fault::Unavailable, Fault::Panics, Fault::Hangs] {
            let (ran, late, told) = lateness_while(operation, fault).await;
            assert!(
                ran >= 115 && late < SECOND / 2 && told <= 2,
                "{operation:?} {fault:?}: {ran} of 120 runs, up to {late:?} late, and {told} events"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_stored_while_releases_fail() {
    for fault in [Fault::Refused, Fault::Unavailable, Fault::Panics] {
        let (memory, notes) = (MemoryStore::new(), Notes::default());
        let store = FaultyStore::new(memory.clone());
        let scheduler = on(&store, &notes).start().await.unwrap();
        scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
        let paused = scheduler.add(every(SECOND), remember("paused")).id("paused").await.unwrap();
        sleep(SECOND * 3 + SECOND * 3 / 4).await;
        store.set(Operation::Release, fault);
        // The pause makes the node release the run that it has claimed ahead.
        paused.pause().await.unwrap();
        sleep(SECOND * 60).await;
        let closed = rows(&memory).await;
        let ran = |row: &&Row| row.state == RowState::Closed(Fate::Ran(RunEnd::Succeeded));
        let closed = closed.iter().filter(|row| row.job == "tick").filter(ran).count();
        let ticks = notes.all().iter().filter(|ran| ran.text == "tick").count();
        assert!(
            closed + 3 >= ticks,
            "{fault:?}: {ticks} runs have ended, and the ledger knows of {closed}"
        );
    }
}

/// A release that fails is dropped with the lease, and does not keep the outage open.
#[tokio::test(start_paused = true)]
async fn the_end_of_an_outage_is_reported_although_the_lease_was_lost() {
    let (memory, notes) = (MemoryStore::new(), Notes::default());
    let store = FaultyStore::new(memory.clone());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let other = on(&memory, &notes).start().await.unwrap();
    let job = scheduler.add(every(MILLISECOND * 100), remember("x")).id("job").await.unwrap();
    sleep(SECOND * 3).await;
    let kinds = [EventKind::StoreFailing, EventKind::StoreWorking, EventKind::LeaseLost];
    let mut events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    let mut next = async || {
        let next = timeout(SECOND * 120, events.next()).await;
        next.expect("nothing is told").unwrap().payload.kind()
    };
    store.set(Operation::Release, Fault::Unavailable);
    job.pause().await.unwrap();
    assert_eq!(next().await, EventKind::StoreFailing);
    store.set(Operation::Heartbeat, Fault::Unavailable);
    sleep(SECOND * 30).await;
    store.heal();
    let told = [next().await, next().await];
    assert!(told.contains(&EventKind::LeaseLost) && told.contains(&EventKind::StoreWorking));
    drop((job, other));
}

#[test]
fn endless_notifications_do_not_hold_up_the_runtime() {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let store = FaultyStore::new(MemoryStore::new());
            store.set_changes(|| stream::repeat(StoreChange::Unknown).boxed());
            let scheduler = on(&store, &Notes::default()).start().await.unwrap();
            scheduler.add(every(SECOND), || async {}).await.unwrap();
            sleep(MILLISECOND * 100).await;
            said.send(()).unwrap();
        });
    });
    let heard = heard.recv_timeout(SECOND * 10);
    assert!(heard.is_ok(), "nothing else has run for ten seconds");
}
