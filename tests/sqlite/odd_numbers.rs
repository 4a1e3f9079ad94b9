//! Invalid numbers in the file do not block other jobs, and cause no panic.

use std::time::Duration;

use punctual::{store::SqliteStore, trigger::every};
use tokio::time::sleep;

use crate::{
    fixture::Folder,
    tasks::{Notes, on, remember},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs a job beside one with this number in this column.
async fn others_run_beside(column: &str, number: i64) {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).paused().start().await.unwrap();
    let fast = || every(MILLISECOND * 100);
    scheduler.add(fast(), remember("odd")).id("odd").await.unwrap();
    scheduler.add(fast(), remember("good")).id("good").await.unwrap();
    folder.change(&format!("UPDATE punctual_jobs SET {column} = {number} WHERE id = 'odd'"));
    scheduler.resume().await.unwrap();
    sleep(SECOND * 2).await;
    let good = notes.count("good");
    assert!(good >= 5, "{column} = {number}: the other job ran {good} times in 2 s");
    scheduler.shutdown().within(SECOND).await;
}

#[tokio::test]
async fn an_invalid_fence_blocks_no_other_job() {
    others_run_beside("fence", -1).await;
}

#[tokio::test]
async fn other_invalid_numbers_block_no_other_job() {
    for column in ["version", "requests", "token", "next_fire", "added_at", "taken_to"] {
        for number in [-1, i64::MIN, i64::MAX] {
            others_run_beside(column, number).await;
        }
    }
}

#[tokio::test]
async fn verbs_do_not_panic_over_numbers_that_make_no_sense() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &Notes::default()).paused().start().await.unwrap();
    let mut panicked = Vec::new();
    for column in ["version", "requests", "fence", "next_fire", "resumed_at", "taken_to"] {
        for number in [-1, i64::MIN, i64::MAX] {
            for verb in 0..6 {
                let id = format!("{column} {number} {verb}");
                let add = scheduler.add(every(SECOND), remember("x")).id(id.as_str());
                add.paused().await.unwrap();
                folder.change(&format!(
                    "UPDATE punctual_jobs SET {column} = {number}, paused = {} WHERE id = '{id}'",
                    i32::from(verb == 1)
                ));
                let job = scheduler.job(id.as_str());
                let asked = tokio::spawn(async move {
                    match verb {
                        0 => job.pause().await,
                        1 => job.resume().await,
                        2 => job.reschedule(every(SECOND)).await,
                        3 => job.modify(|settings| settings.priority(1)).await,
                        4 => job.run_now().await.map(drop),
                        _ => job.remove().await,
                    }
                });
                if asked.await.is_err() {
                    panicked.push(id);
                }
            }
        }
    }
    assert!(panicked.is_empty(), "{panicked:?}");
}
