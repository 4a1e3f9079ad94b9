//! Adding jobs: many at once, all or none, and their ids.

use std::time::Duration;

use futures::future::join_all;
use punctual::{
    End, OnConflict, Scheduler,
    trigger::{after, every, now},
};

use crate::{SECOND, counter, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sequential_adds_all_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let mut handles = Vec::new();
    for _ in 0..10_000 {
        handles.push(scheduler.add(now(), work.clone()).await.unwrap());
    }
    join_all(handles).await;
    assert_eq!(get(&count), 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_concurrent_adds_all_run() {
    let scheduler = Scheduler::new();
    let (count, work) = counter();
    let adds = (0..5_000).map(|n| {
        let (scheduler, work) = (scheduler.clone(), work.clone());
        tokio::spawn(async move {
            let job = scheduler.add(after(Duration::from_millis(n % 7)), work).await.unwrap();
            assert!(matches!(job.await, End::Completed));
        })
    });
    for add in join_all(adds).await {
        add.unwrap();
    }
    assert_eq!(get(&count), 5_000);
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_id_that_looks_like_one_of_the_schedulers_own_is_an_id_like_any_other() {
    let scheduler = Scheduler::new();
    let made = scheduler.add(every(SECOND), || async {}).await.unwrap().id().to_string();
    for id in ["20261120-3-15", made.as_str()] {
        let add = || scheduler.add(every(SECOND), || async {}).id(id);
        if id != made {
            add().await.unwrap();
        }
        assert!(add().await.unwrap_err().is_duplicate_id(), "{id}");
        assert_eq!(scheduler.job(id).get().await.unwrap().id, *id);
        scheduler.job(id).remove().await.unwrap();
        assert!(scheduler.job(id).get().await.unwrap_err().is_unknown_job());
        add().await.unwrap().remove().await.unwrap();
    }
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn adding_many_is_all_or_none_whatever_their_conflicts() {
    let scheduler = Scheduler::new();
    let add =
        |on_conflict| scheduler.add(every(SECOND), || async {}).id("same").on_conflict(on_conflict);
    for first in [OnConflict::Replace, OnConflict::Keep, OnConflict::Error] {
        let error = scheduler.add_all([add(first), add(OnConflict::Error)]).await.unwrap_err();
        assert!(error.is_duplicate_id());
        assert!(scheduler.is_empty(), "{first:?}");
    }
    let error = scheduler
        .add_once(every(SECOND), async { 1 })
        .on_conflict(OnConflict::Keep)
        .await
        .unwrap_err();
    assert!(error.is_invalid_option(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn add_all_adds_none_if_its_groups_disagree() {
    let scheduler = Scheduler::new();
    let jobs = [
        scheduler.add(every(SECOND), || async {}).group("db", 4),
        scheduler.add(every(SECOND), || async {}).group("db", 5),
    ];
    assert!(scheduler.add_all(jobs).await.is_err());
    assert_eq!(scheduler.len(), 0, "all of them, or none");
}
