//! The ledger stays within its bounds, whatever leaves rows in it.

use std::time::Duration;

use punctual::{store::MemoryStore, trigger::now};

use crate::tasks::{Notes, on, remember};

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
    // What ended in the last minute, 2400 rows, is kept in any case.
    // A few seconds pass between two prunes.
    assert!((2400..=3200).contains(&longest), "{longest} rows");
}

#[tokio::test(start_paused = true)]
async fn what_the_ended_have_left_is_kept_for_as_long_as_is_said() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let hour = SECOND * 3600;
    let scheduler = on(&store, &notes).keep_ended(hour * 5).start().await.unwrap();
    scheduler.add(now(), remember("once")).await.unwrap().await;
    tokio::time::sleep(hour * 4).await;
    assert_eq!(crate::tasks::count(&store).await, 2);
    tokio::time::sleep(hour + SECOND * 20).await;
    assert_eq!(crate::tasks::count(&store).await, 0);
}
