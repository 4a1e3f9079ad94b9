//! One store: a life of a job, the file that it leaves, and the options.

use std::time::Duration;

use chrono::TimeDelta;
use punctual::store::{Fate, RowKind, RowState, RunEnd, SqliteStore, Store as _, Synchronous};

use crate::fixture::{Folder, add, beat, connect, now, record, succeeded, take};

#[tokio::test]
async fn a_job_is_added_taken_and_finished_and_people_can_read_it() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() - TimeDelta::seconds(1);
    add(&store, [record("a", 7, Some(due))]).await;
    beat(&store, 1, Duration::from_secs(15)).await;
    let takings = take(&store, 1, 1).await.unwrap();
    assert_eq!(takings.jobs.len(), 1);
    assert!(!takings.more);
    assert_eq!(takings.jobs[0].record.next_fire, Some(due + TimeDelta::minutes(1)));
    assert_eq!(takings.jobs[0].record.fence, 1);
    assert_eq!(takings.jobs[0].rows[0].fence, 1);
    let finishes = store.finish(succeeded(&takings.jobs)).await.unwrap();
    assert!(finishes.refused.is_empty() && finishes.over.is_empty());
    let rows = store.history(takings.jobs[0].record.incarnation, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].state, RowState::Closed(Fate::Ran(RunEnd::Succeeded)));
    assert_eq!(rows[0].key.kind, RowKind::Scheduled);

    let connection = connect(&folder.file());
    let shown: (String, String) = connection
        .query_row("SELECT id, next_fire FROM punctual_jobs_view", [], |row| row.try_into())
        .unwrap();
    let next_fire = (due + TimeDelta::minutes(1)).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    assert_eq!(shown, ("a".to_owned(), next_fire));
    let shown: (String, String, String) = connection
        .query_row("SELECT job, kind, state FROM punctual_ledger_view", [], |row| row.try_into())
        .unwrap();
    assert_eq!(shown, ("a".to_owned(), "scheduled".to_owned(), "ran: succeeded".to_owned()));
}
