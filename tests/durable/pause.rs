//! Pausing and resuming durable jobs.

use std::time::Duration;

use punctual::{
    End, EventFilter, EventKind, EventPayload, SkipReason,
    store::{Fate, MemoryStore},
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every},
};
use tokio::time::{sleep, timeout};

use crate::tasks::{Notes, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn pausing_is_exact_and_resuming_skips_what_passed() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    tokio::time::sleep(SECOND * 5 + SECOND / 2).await;
    let before = notes.len();
    assert_eq!(before, 5);
    job.pause().await.unwrap();
    job.pause().await.unwrap();
    assert!(job.get().await.unwrap().paused);
    assert_eq!(job.next_fire().await.unwrap(), None);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(notes.len(), before);
    scheduler.job("tick").resume().await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(notes.len(), before + 3);
    let skipped: u64 = rows(&store)
        .await
        .iter()
        .filter(|row| fates(std::slice::from_ref(row)) == [Fate::Skipped(SkipReason::Paused)])
        .map(|row| row.count)
        .sum();
    assert_eq!(skipped, 10);
}

#[tokio::test(start_paused = true)]
async fn a_date_that_passed_while_paused_is_still_due() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let job = scheduler.add(after(SECOND), remember("once")).paused().await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(notes.len(), 0);
    job.resume().await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(notes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_fire_time_after_resuming_is_not_past() {
    for in_memory in [true, false] {
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).start().await.unwrap();
        let mut events =
            scheduler.events_matching(EventFilter::new().kinds([EventKind::JobResumed]));
        let mut add = scheduler.add(every(SECOND * 60), remember("x")).id("job").paused();
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        sleep(SECOND * 3600).await;
        job.resume().await.unwrap();
        let event = events.next().await.unwrap();
        let EventPayload::JobResumed { next_fire, .. } = event.payload.clone() else { panic!() };
        assert!(
            next_fire.unwrap() >= event.at,
            "in memory {in_memory}: resumed at {} and said to fire next at {next_fire:?}",
            event.at
        );
    }
}

/// A claim changes the record. A verb that reads the record slowly must still win a
/// compare-and-swap.
#[tokio::test(start_paused = true)]
async fn a_job_that_fires_all_the_time_can_be_paused() {
    for (period, get) in [(50, 100), (10, 20), (2, 20)] {
        let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
        let builder = on(&store, &notes).claim_ahead(Duration::ZERO);
        let scheduler = builder.start().await.unwrap();
        let add = scheduler.add(every(MILLISECOND * period), remember("x")).id("job");
        let job = add.max_instances(10).await.unwrap();
        sleep(SECOND).await;
        store.set(Operation::Get, Fault::AnswerDelayed(Duration::from_millis(get)));
        let paused = timeout(SECOND * 60, job.pause()).await;
        assert!(
            paused.is_ok(),
            "every {period} ms, a read takes {get} ms: not paused within a minute"
        );
    }
}
