//! The ledger stays within its bounds, whatever the source of its rows.

use std::time::Duration;

use punctual::{
    store::{MemoryStore, Store as _},
    trigger::{every, now},
};
use tokio::time::sleep;

use crate::tasks::{Fails, Notes, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn jobs_that_run_once_leave_no_more_than_is_kept_in_all() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).keep_in_all(3000).start().await.unwrap();
    let mut longest = 0;
    for _ in 0..600 {
        let jobs: Vec<_> = (0..20).map(|_| scheduler.add(now(), remember("once"))).collect();
        scheduler.add_all(jobs).await.unwrap();
        tokio::time::sleep(SECOND).await;
        longest = longest.max(crate::tasks::count(&store).await);
    }
    assert_eq!(notes.len(), 12_000);
    // The rows of the last minute, 2400, are kept in any case.
    // A few seconds pass between two prunes.
    assert!((2400..=3200).contains(&longest), "{longest} rows");
}

#[tokio::test(start_paused = true)]
async fn rows_of_ended_jobs_are_kept_for_the_set_time() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let hour = SECOND * 3600;
    let scheduler = on(&store, &notes).keep_ended(hour * 5).start().await.unwrap();
    scheduler.add(now(), remember("once")).await.unwrap().await;
    tokio::time::sleep(hour * 4).await;
    assert_eq!(crate::tasks::count(&store).await, 2);
    tokio::time::sleep(hour + SECOND * 20).await;
    assert_eq!(crate::tasks::count(&store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_row_keeps_when_it_was_due_and_the_node_that_ran_it() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let jitter = SECOND / 2;
    scheduler.add(every(SECOND).times(9), remember("x")).id("job").jitter(jitter).await.unwrap();
    tokio::time::sleep(SECOND * 20).await;
    let node = store.nodes().await.unwrap().remove(0);
    assert_eq!(&*node.version, env!("CARGO_PKG_VERSION"));
    assert!(node.clock_offset.is_some_and(|offset| offset.num_milliseconds() == 0), "{node:?}");
    let rows = rows(&store).await;
    assert_eq!(rows.len(), 9);
    for row in rows {
        let due = row.due.unwrap();
        assert!((row.fire_time..=row.fire_time + jitter).contains(&due), "{row:?}");
        assert!(row.started_at.unwrap() >= due, "{row:?}");
        assert_eq!(row.node, Some(node.id));
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

/// Five hundred runs a second, of which one row per job is kept.
#[tokio::test(start_paused = true)]
async fn the_ledger_does_not_grow_faster_than_it_is_pruned() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler =
        on(&store, &notes).keep_history(1, Duration::from_secs(60)).start().await.unwrap();
    let jobs = (0..500).map(|n| scheduler.add(every(SECOND), remember("x")).id(format!("{n}")));
    scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    let mut lengths = Vec::new();
    for _ in 0..4 {
        sleep(SECOND * 300).await;
        notes.clear();
        lengths.push(rows(&store).await.len());
    }
    // The rows of the last minute are kept in any case: 30,000 rows.
    assert!(
        lengths[3] < lengths[1] * 5 / 4,
        "after 5, 10, 15 and 20 minutes it has {lengths:?} rows"
    );
}
