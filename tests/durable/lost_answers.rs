//! An operation acts once, even if its response is lost or other nodes write in between.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use punctual::{
    OnConflict,
    store::{MemoryStore, RowKind, Store as _},
    testing::{Fault, FaultyStore, Operation},
    trigger::every,
};
use tokio::time::sleep;

use crate::tasks::{Notes, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3600);

/// A scheduler with a store whose responses a test loses, and another scheduler on the same store.
async fn two(
    store: &MemoryStore,
    notes: &Notes,
) -> (FaultyStore<MemoryStore>, punctual::Scheduler, punctual::Scheduler) {
    let faulty = FaultyStore::new(store.clone());
    let one = on(&faulty, notes).start().await.unwrap();
    let other = on(store, notes).start().await.unwrap();
    (faulty, one, other)
}

#[tokio::test(start_paused = true)]
async fn a_run_is_requested_once_although_another_changes_the_job_meanwhile() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let (faulty, one, other) = two(&store, &notes).await;
    one.add(every(HOUR), remember("report")).id("report").await.unwrap();
    tokio::time::sleep(SECOND).await;
    faulty.once(Operation::Write, Fault::AnswerLost);
    faulty.after(Operation::Write, async move {
        for number in 0..7 {
            let job = other.job("report");
            job.modify(|job| job.max_instances(2 + number)).await.unwrap();
        }
    });
    one.job("report").run_now().await.unwrap();
    tokio::time::sleep(SECOND * 10).await;
    let asked = rows(&store).await.into_iter().filter(|row| row.key.kind == RowKind::Requested);
    assert_eq!((asked.count(), notes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_removal_leaves_another_job_with_the_id_alone() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let (faulty, one, other) = two(&store, &notes).await;
    one.add(every(HOUR), remember("old")).id("report").await.unwrap();
    let old = store.get("report".into()).await.unwrap().unwrap();
    faulty.once(Operation::Write, Fault::AnswerLost);
    faulty.after(Operation::Write, async move {
        other.add(every(HOUR), remember("new")).id("report").await.unwrap();
    });
    one.job("report").remove().await.unwrap();
    let new = store.get("report".into()).await.unwrap().unwrap();
    assert_ne!(new.incarnation, old.incarnation);
    assert_eq!(new.args, "\"new\"");
}

#[tokio::test(start_paused = true)]
async fn a_verb_leaves_alone_what_has_replaced_the_job_meanwhile() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let (faulty, one, other) = two(&store, &notes).await;
    one.add(every(HOUR), remember("old")).id("report").await.unwrap();
    faulty.after(Operation::Get, async move {
        let new = other.add(every(HOUR), remember("new")).id("report");
        new.on_conflict(OnConflict::Replace).await.unwrap();
    });
    let error = one.job("report").pause().await.unwrap_err();
    assert!(error.is_gone(), "{error}");
    assert!(!store.get("report".into()).await.unwrap().unwrap().paused);
    one.job("report").pause().await.unwrap();
    assert!(store.get("report".into()).await.unwrap().unwrap().paused);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_declarations_that_have_not_changed_are_one_write_that_changes_nothing() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let declared = |store: FaultyStore<MemoryStore>, notes: Notes| async move {
        let scheduler = on(&store, &notes).start().await.unwrap();
        let before = store.calls(Operation::Write);
        let jobs = (0..1000).map(|number| {
            let job = scheduler.add(every(HOUR), remember("report"));
            job.id(format!("report-{number}")).on_conflict(OnConflict::Reconcile)
        });
        scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
        let asked = store.calls(Operation::Write) - before;
        scheduler.shutdown().await;
        asked
    };
    let faulty = FaultyStore::new(store.clone());
    assert_eq!(declared(faulty.clone(), notes.clone()).await, 1);
    let before = store.get("report-7".into()).await.unwrap();
    assert_eq!(declared(faulty.clone(), notes.clone()).await, 1);
    assert_eq!(store.get("report-7".into()).await.unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn of_many_jobs_none_stays_if_one_of_them_is_refused_in_a_later_batch() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(HOUR), remember("there")).id("report-1500").await.unwrap();
    scheduler.add(every(HOUR), remember("there")).id("other").await.unwrap();
    let there = store.get("other".into()).await.unwrap();
    let jobs = (0..=1500).map(|number| {
        scheduler.add(every(HOUR), remember("report")).id(format!("report-{number}"))
    });
    let replacing = scheduler.add(every(SECOND), remember("new")).id("other");
    let replacing = replacing.on_conflict(OnConflict::Replace);
    let error = scheduler.add_all(std::iter::once(replacing).chain(jobs)).await.unwrap_err();
    assert!(error.is_duplicate_id(), "{error}");
    assert_eq!(store.get("other".into()).await.unwrap(), there);
    assert_eq!(scheduler.jobs().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_was_lost_has_been_done() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    faulty.set_changes(|| stream::pending().boxed());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let job =
        scheduler.add(every(Duration::from_millis(100)), remember("x")).id("job").await.unwrap();
    sleep(SECOND * 3).await;
    faulty.once(Operation::Write, Fault::AnswerLost);
    let removed = job.remove().await;
    let before = notes.len();
    sleep(SECOND * 10).await;
    let more = notes.len() - before;
    assert!(removed.is_ok() && more == 0, "{removed:?}, and {more} runs started after it");
}
