//! Shared helpers of the tests: temporary folders, jobs that fire every minute, and nodes that
//! claim them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual::store::{
    ClaimCursor, ClaimRequest, ClaimResult, ClaimedJob, Decision, Fate, Heartbeat, Incarnation,
    NodeId, Record, Row, RowKey, RowKind, RowOutcome, RowState, RunEnd, SqliteStore, Store,
    StoreError, Write, WriteResult,
};
use rusqlite::Connection;

/// A folder of one test, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "punctual-sqlite-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the file that the tests use.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("jobs.db")
    }

    /// Changes that file like another program.
    pub(crate) fn change(&self, sql: &str) {
        connect(&self.file()).execute_batch(sql).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens another connection to a file, like another program.
pub(crate) fn connect(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

pub(crate) fn now() -> DateTime<Utc> {
    instant(Utc::now().timestamp_millis())
}

pub(crate) fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}

pub(crate) fn record(id: &str, incarnation: u64, next_fire: Option<DateTime<Utc>>) -> Record {
    let mut record = Record::new(id, Incarnation(incarnation), "greet", now());
    record.args = r#"{"name":"world"}"#.into();
    record.trigger = r#"{"every":"1m"}"#.into();
    record.tags = vec!["tag".into()];
    record.next_fire = next_fire;
    record
}

/// The write that adds a record.
pub(crate) fn adding(record: Record) -> Write {
    let token = record.incarnation.0 << 8 | 1;
    Write::add(record, token)
}

pub(crate) async fn add(store: &SqliteStore, records: impl IntoIterator<Item = Record>) {
    let writes = records.into_iter().map(adding).collect();
    let written = store.write(writes).await.unwrap();
    assert!(written.iter().all(|written| *written == WriteResult::Done), "{written:?}");
}

pub(crate) async fn heartbeat(store: &SqliteStore, node: u64, ttl: Duration) {
    let heartbeat = Heartbeat::new(NodeId(node), "test", true, ttl);
    store.heartbeat(heartbeat).await.unwrap();
}

/// Returns a claim of up to `limit` due jobs, each for its next fire time; then they fire in a
/// minute.
pub(crate) fn taking(node: u64, number: u64, limit: usize) -> ClaimRequest {
    ClaimRequest {
        node: NodeId(node),
        number,
        horizon: now(),
        tasks: Arc::new(["greet".to_owned()].into()),
        except: Arc::default(),
        passed: ClaimCursor::default(),
        looks: usize::MAX,
        limit,
        row_limit: usize::MAX,
        decide: Arc::new(|record, waiting| {
            let mut rows = waiting.to_vec();
            rows.extend(record.next_fire.map(|fire_time| row(record, fire_time)));
            for row in &mut rows {
                row.state = RowState::Claimed(NodeId(0));
            }
            let next_fire = record.next_fire.map(|fire_time| fire_time + TimeDelta::minutes(1));
            Decision::Claim { rows, next_fire }
        }),
    }
}

pub(crate) async fn claim(
    store: &SqliteStore,
    node: u64,
    number: u64,
) -> Result<ClaimResult, StoreError> {
    store.claim(taking(node, number, 100)).await
}

pub(crate) fn row(record: &Record, fire_time: DateTime<Utc>) -> Row {
    let (incarnation, number) = (record.incarnation, fire_time.timestamp_millis());
    let key = RowKey { incarnation, kind: RowKind::Scheduled, number };
    let mut row = Row::new(key, record.id.clone(), fire_time, RowState::Waiting);
    row.recover = record.recover;
    row
}

/// Returns the outcomes of successful runs.
pub(crate) fn succeeded<'a>(taken: impl IntoIterator<Item = &'a ClaimedJob>) -> Vec<RowOutcome> {
    let rows = taken.into_iter().flat_map(|taken| &taken.rows);
    rows.map(|row| RowOutcome {
        key: row.key,
        fence: row.fence,
        fate: Fate::Ran(RunEnd::Succeeded),
        attempt: row.attempt,
        started_at: Some(now()),
        ended_at: now(),
        message: None,
        job_end: Fate::Completed,
    })
    .collect()
}

/// Drops the last clone, and waits until its thread has closed the file, which removes the log.
pub(crate) async fn close(store: SqliteStore, folder: &Folder) {
    let log = folder.path().join("jobs.db-wal");
    assert!(log.exists());
    drop(store);
    // The thread ends by itself, on the system's clock.
    for _ in 0..500 {
        if !log.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the thread did not end with the last clone");
}
