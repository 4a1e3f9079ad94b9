//! Removing durable jobs.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::{
    End, EventFilter, EventKind, EventPayload, SkipReason,
    store::{Fate, MemoryStore, Row},
    testing::{Fault, FaultyStore, Operation},
    trigger::every,
};
use tokio::time::sleep;

use crate::tasks::{Notes, Slow, event, fates, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn removing_ends_the_job_and_lets_its_run_finish() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let mut started = event(&scheduler, EventKind::Submitted).await;
    let job = scheduler.add(every(SECOND), Slow(5000)).id("slow").await.unwrap();
    started.next().await.unwrap();
    scheduler.job("slow").remove().await.unwrap();
    assert!(scheduler.job("slow").get().await.unwrap_err().is_unknown_job());
    assert!(matches!(job.await, End::Removed));
    assert_eq!(notes.len(), 1);
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(notes.len(), 1);
    let rows = rows(&store).await;
    assert!(rows.iter().all(|row| !row.state.is_open()), "{rows:?}");
    // The id is free, and its next incarnation has no collisions.
    scheduler.add(every(SECOND), remember("tick")).id("slow").await.unwrap();
    tokio::time::sleep(SECOND * 2 + SECOND / 2).await;
    assert_eq!(notes.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn unclaimed_fire_times_have_a_fate_when_all_jobs_are_removed() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    for id in ["one", "other"] {
        scheduler.add(every(SECOND), remember("tick")).id(id).await.unwrap();
    }
    scheduler.pause().await.unwrap();
    tokio::time::sleep(SECOND * 10 + SECOND / 2).await;
    assert_eq!(scheduler.remove_all().await.unwrap(), 2);
    let rows = rows(&store).await;
    let removed = |row: &&Row| fates(&[(*row).clone()]) == [Fate::Skipped(SkipReason::Removed)];
    assert_eq!(rows.iter().filter(removed).map(|row| row.count).sum::<u64>(), 20, "{rows:#?}");
    assert_eq!(scheduler.remove_all().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_once_remove_all_has_answered() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    scheduler.add(every(Duration::from_millis(100)), remember("x")).id("job").await.unwrap();
    sleep(SECOND * 3).await;
    faulty.set(Operation::Changed, Fault::Delayed(SECOND));
    scheduler.remove_all().await.unwrap();
    let before = notes.len();
    sleep(SECOND * 10).await;
    assert_eq!(notes.len(), before, "runs started after `remove_all` had answered");
}

#[tokio::test(start_paused = true)]
async fn remove_all_says_how_many() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let events = scheduler.events_matching(
        EventFilter::new().kinds([EventKind::AllJobsRemoved, EventKind::JobRemoved]),
    );
    for n in 0..3 {
        scheduler.add(every(SECOND * 600), remember("x")).id(format!("{n}")).await.unwrap();
    }
    assert_eq!(scheduler.remove_all().await.unwrap(), 3);
    sleep(SECOND * 10).await;
    scheduler.shutdown().await;
    let events: Vec<_> = events.map(|e| e.payload).collect().await;
    assert!(
        events.iter().any(|what| matches!(what, EventPayload::AllJobsRemoved { count: 3 })),
        "{events:?}"
    );
}
