//! Jobs that the application adds in a transaction of its own.

use std::time::Duration;

use punctual::{
    End, OnConflict, Outcome, Run, Scheduler,
    store::{MemoryStore, SqliteStore, Store as _},
    trigger::{after, every},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixture::{Folder, connect},
    tasks::{Notes, on, remember},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_job_exists_when_the_transaction_commits() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::builder(folder.file()).namespace("jobs_").open().await.unwrap();
    let builder = on(&store, &notes).poll_interval(MILLISECOND * 100);
    let scheduler = builder.start().await.unwrap();
    let add = scheduler.add(after(MILLISECOND * 300), remember("invoice")).id("invoice 7");
    let prepared = add.name("an 'invoice'").tag("a \"tag\"").recover(true).prepare().await.unwrap();
    assert_eq!(prepared.id().as_str(), "invoice 7");

    let mut application = connect(&folder.file());
    let transaction = application.transaction().unwrap();
    transaction.execute_batch("CREATE TABLE orders (id INTEGER)").unwrap();
    let added = transaction.execute(prepared.sql(), [prepared.parameter()]).unwrap();
    assert_eq!(added, 1);
    assert_eq!(store.get("invoice 7".into()).await.unwrap(), None);
    // Meanwhile the scheduler checks which of its jobs have changed.
    sleep(MILLISECOND * 700).await;
    transaction.commit().unwrap();

    let record = store.get("invoice 7".into()).await.unwrap().unwrap();
    assert_eq!(record.name.as_deref(), Some("an 'invoice'"));
    assert_eq!((record.version, &record.tags[..]), (1, &["a \"tag\"".to_owned()][..]));
    assert!(record.recover);
    let invoice = prepared.handle();
    let ended = timeout(SECOND * 10, invoice).await.unwrap();
    assert!(matches!(ended, End::Completed), "{ended}");
    assert_eq!(notes.count("invoice"), 1);
    scheduler.shutdown().await;
}

/// The record is the one that `add` writes.
#[tokio::test]
async fn a_prepared_job_is_like_an_added_one() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).paused().start().await.unwrap();
    let job = |id: &str| {
        let add = scheduler.add(every(SECOND * 3600), remember("x")).id(id).jitter(SECOND);
        add.paused().max_instances(3).misfire_grace_time(SECOND * 5).recoveries(7).tag("a").tag("b")
    };
    job("added").await.unwrap();
    let prepared = job("prepared").prepare().await.unwrap();
    connect(&folder.file()).execute(prepared.sql(), [prepared.parameter()]).unwrap();
    let added = store.get("added".into()).await.unwrap().unwrap();
    let mut record = store.get("prepared".into()).await.unwrap().unwrap();
    assert_eq!((record.version, record.tokens.as_slice().len()), (1, 1));
    record.id = added.id.clone();
    record.incarnation = added.incarnation;
    record.tokens = added.tokens;
    record.added_at = added.added_at;
    record.next_fire = added.next_fire;
    // The grid of the interval begins when the job is added.
    record.trigger = added.trigger.clone();
    assert_eq!(record, added);
    let handle = prepared.handle();
    handle.resume().await.unwrap();
    assert!(!store.get("prepared".into()).await.unwrap().unwrap().paused);
}

#[tokio::test]
async fn a_job_never_existed_if_the_transaction_is_rolled_back() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let prepared =
        scheduler.add(after(MILLISECOND), remember("x")).id("x").prepare().await.unwrap();
    let mut application = connect(&folder.file());
    let transaction = application.transaction().unwrap();
    transaction.execute(prepared.sql(), [prepared.parameter()]).unwrap();
    transaction.rollback().unwrap();
    // Its id is reserved for as long as it may be committed.
    let in_memory = scheduler.add(after(SECOND), || async {}).id("x").await;
    assert!(in_memory.unwrap_err().is_duplicate_id());
    drop(prepared);
    scheduler.add(after(MILLISECOND), remember("y")).id("x").await.unwrap().await;
    assert_eq!((notes.count("x"), notes.count("y")), (0, 1));
}

#[tokio::test]
async fn a_handle_of_what_was_rolled_back_says_that_the_job_is_gone() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let prepared = scheduler.add(after(SECOND), remember("x")).prepare().await.unwrap();
    let handle = prepared.handle();
    assert!(handle.pause().await.unwrap_err().is_gone());
    assert!(handle.run_now().await.unwrap_err().is_gone());
}

/// No scheduler that runs has prepared it, and nobody asks for a handle.
#[tokio::test]
async fn a_job_that_is_committed_late_runs_at_once_and_says_how_late() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let first = on(&store, &notes).start().await.unwrap();
    let prepared =
        first.add(after(MILLISECOND), remember("late")).id("late").prepare().await.unwrap();
    let (sql, parameter) = (prepared.sql().to_owned(), prepared.parameter().to_owned());
    drop(prepared);
    first.shutdown().await;

    let second = on(&store, &notes).start().await.unwrap();
    sleep(MILLISECOND * 400).await;
    let mut application = connect(&folder.file());
    let transaction = application.transaction().unwrap();
    transaction.execute(&sql, [&parameter]).unwrap();
    transaction.commit().unwrap();
    timeout(SECOND * 10, async {
        while notes.count("late") == 0 {
            sleep(MILLISECOND * 10).await;
        }
    })
    .await
    .unwrap();
    second.shutdown().await;
    let rows = store.rows(None, 10).await.unwrap();
    let row = rows.iter().find(|row| row.started_at.is_some()).unwrap();
    assert!(row.started_at.unwrap() - row.fire_time >= chrono::TimeDelta::milliseconds(399));
}

/// Its runs reach the handle even if they end before there is one.
#[tokio::test]
async fn a_handle_that_comes_after_the_run_knows_how_the_job_ended() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let prepared = scheduler.add(after(MILLISECOND), remember("x")).prepare().await.unwrap();
    connect(&folder.file()).execute(prepared.sql(), [prepared.parameter()]).unwrap();
    timeout(SECOND * 10, async {
        while notes.count("x") == 0 || store.get(prepared.id().clone()).await.unwrap().is_some() {
            sleep(MILLISECOND * 10).await;
        }
    })
    .await
    .unwrap();
    let mut handle = prepared.handle();
    let ended = timeout(SECOND * 5, &mut handle).await.unwrap();
    assert!(matches!(ended, End::Completed), "{ended}");
    let history = handle.history().await.unwrap();
    assert!(matches!(history[..], [Run { outcome: Outcome::Succeeded, .. }]), "{history:?}");
}

#[tokio::test]
async fn an_id_in_use_fails_the_statement() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let elsewhere = on(&store, &notes).start().await.unwrap();
    let prepared =
        scheduler.add(every(SECOND * 60), remember("x")).id("x").prepare().await.unwrap();
    elsewhere.add(every(SECOND * 60), remember("y")).id("x").await.unwrap();
    let application = connect(&folder.file());
    let error = application.execute(prepared.sql(), [prepared.parameter()]).unwrap_err();
    assert!(error.to_string().contains("UNIQUE constraint failed: punctual_jobs.id"), "{error}");
    assert_eq!(store.get("x".into()).await.unwrap().unwrap().args, "\"y\"");
}

#[tokio::test]
async fn what_no_statement_can_add_is_an_error_that_says_what_can() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let error = |prepared: Result<punctual::PreparedAdd, punctual::Error>| {
        prepared.map(|prepared| format!("{prepared:?}")).unwrap_err().to_string()
    };
    let closure = scheduler.add(after(SECOND), || async {}).prepare().await;
    assert!(error(closure).contains("make the work a `Task`"));
    let in_memory = scheduler.add(after(SECOND), remember("x")).in_memory().prepare().await;
    assert!(error(in_memory).contains("leave out `.in_memory()`"));
    let replaces = scheduler.add(after(SECOND), remember("x")).id("x");
    let replaces = replaces.on_conflict(OnConflict::Replace).prepare().await;
    assert!(error(replaces).contains("leave out `on_conflict`"));
    let without_sql = Scheduler::builder().store(MemoryStore::new()).state(notes.clone());
    let without_sql = without_sql.task::<crate::tasks::Remember>().start().await.unwrap();
    let add = without_sql.add(after(SECOND), remember("x")).prepare().await;
    assert!(error(add).contains("store `default` has no SQL"));
    let in_memory = on(&SqliteStore::in_memory().await.unwrap(), &notes).start().await.unwrap();
    let add = in_memory.add(after(SECOND), remember("x")).prepare().await;
    assert!(error(add).contains("store `default` has no SQL"));
    // Its id is free again.
    in_memory.add(after(SECOND), remember("x")).id("x").await.unwrap();
}
