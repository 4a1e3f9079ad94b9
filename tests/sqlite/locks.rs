//! Another connection has the lock: operations wait, the runtime does not.

use std::time::{Duration, Instant};

use punctual::{
    store::{SqliteStore, Store as _},
    trigger::every,
};
use tokio::time::sleep;

use crate::{
    fixture::{Folder, add, connect, record},
    tasks::{Notes, on, remember},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "current_thread")]
async fn a_stall_ends_with_the_lock_and_the_runtime_goes_on_meanwhile() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let connection = connect(&folder.file());
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move { add(&store, [record("a", 7, None)]).await }
    });
    // The lock belongs to the system, and so does its duration.
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        longest = longest.max(start.elapsed());
    }
    assert!(!writer.is_finished());
    assert!(longest < Duration::from_millis(250), "the runtime stood still for {longest:?}");
    connection.execute_batch("COMMIT").unwrap();
    writer.await.unwrap();
    assert!(store.get("a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lock_held_for_too_long_is_unavailable_and_the_next_try_works() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).busy_timeout(Duration::from_millis(50));
    let store = builder.open().await.unwrap();
    let connection = connect(&folder.file());
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.reap(Vec::new()).await.unwrap_err();
    assert!(error.is_unavailable());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("jobs.db") && source.contains("busy_timeout"), "{source}");
    // Readers are not blocked: writes go to the log.
    assert_eq!(store.get("a".into()).await.unwrap(), None);
    connection.execute_batch("COMMIT").unwrap();
    add(&store, [record("a", 7, None)]).await;
}

#[tokio::test]
async fn an_abandoned_operation_does_no_harm() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let connection = connect(&folder.file());
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for n in 1..1000 {
        let add = store.write(vec![crate::fixture::adding(record(&format!("{n}"), n, None))]);
        let given_up = tokio::time::timeout(Duration::from_micros(1), add).await;
        assert!(given_up.is_err());
    }
    connection.execute_batch("COMMIT").unwrap();
    // More operations were sent than the queue has room for.
    add(&store, [record("last", 5000, None)]).await;
}

/// Returns the number of commits in the log: the last frame of a commit has the size of the database.
fn commits(folder: &Folder) -> usize {
    let log = std::fs::read(folder.path().join("jobs.db-wal")).unwrap();
    let number = |from: usize| u32::from_be_bytes(log[from..from + 4].try_into().unwrap());
    let (page, salt) = (number(8) as usize, &log[16..24]);
    let frames = log[32..].chunks_exact(24 + page).take_while(|frame| &frame[8..16] == salt);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn writes_that_have_waited_for_the_lock_share_a_commit() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let connection = connect(&folder.file());
    let mut fewest = usize::MAX;
    // A machine that is busy may take its time after the lock, too, but not each time.
    for round in 0..10 {
        let before = commits(&folder);
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let numbers = 20 * round + 1..=20 * round + 20;
        let write = |number: u64| {
            let store = store.clone();
            tokio::spawn(
                async move { add(&store, [record(&number.to_string(), number, None)]).await },
            )
        };
        let writes: Vec<_> = numbers.map(write).collect();
        sleep(MILLISECOND * 50).await;
        connection.execute_batch("COMMIT").unwrap();
        for write in writes {
            write.await.unwrap();
        }
        fewest = fewest.min(commits(&folder) - before);
    }
    assert_eq!(fewest, 1, "commits of 20 writes");
}

/// The drop does not wait for the lock, and another runtime continues with the same store.
#[test]
fn a_runtime_that_is_dropped_while_the_file_is_locked() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(SqliteStore::open(folder.file())).unwrap();
    let scheduler = runtime.block_on(on(&store, &notes).start()).unwrap();
    runtime.block_on(async {
        scheduler
            .add(every(MILLISECOND * 50), remember("x"))
            .id("job")
            .recover(true)
            .await
            .unwrap();
        sleep(SECOND).await;
    });
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    runtime.block_on(async { sleep(SECOND).await });
    let began = std::time::Instant::now();
    drop(runtime);
    let took = began.elapsed();
    assert!(took < SECOND, "dropping the runtime took {took:?}");
    other.execute_batch("ROLLBACK").unwrap();
    notes.clear();
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second.block_on(async {
        let scheduler = on(&store, &notes).start().await.unwrap();
        // Until the first node expires.
        sleep(SECOND * 22).await;
        assert!(notes.len() > 20, "{} runs", notes.len());
        scheduler.shutdown().await;
    });
}
