//! People who repair something edit the tables by hand, and know nothing of what the store keeps beside.

use std::time::Duration;

use chrono::TimeDelta;
use punctual::store::{
    Fate, FateFilter, Incarnation, Keep, NodeId, Release, RowState, SqliteStore, Store as _,
};

use crate::fixture::{Folder, add, claim, connect, heartbeat, now, record};

/// A store with a job that has been due for an hour, of which node 1 has a row.
async fn claimed() -> (Folder, SqliteStore) {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    add(&store, [record("job", 1, Some(now() - TimeDelta::hours(1)))]).await;
    for node in [1, 2] {
        heartbeat(&store, node, Duration::from_secs(60)).await;
    }
    assert_eq!(claim(&store, 1, 1).await.unwrap().jobs.len(), 1);
    assert_eq!(claim(&store, 2, 1).await.unwrap().jobs.len(), 0, "another node holds it");
    (folder, store)
}

/// The columns of a row, and of a record, without those that the store keeps by itself.
const ROW: &str = "incarnation, kind, number, job, fire_time, last, count, coalesced, fence, take, \
     attempt, recover";
const RECORD: &str = "incarnation, id, version, fence, requests, token, task, args, trigger, \
     options, tags, added_at, next_fire, paused, recover";

/// The holder of the job, and whether it has waiting rows, and such of runs that were asked for.
fn state(folder: &Folder) -> (Option<i64>, bool, bool) {
    let select = "SELECT holder, waiting, asked FROM punctual_jobs";
    connect(&folder.file()).query_row(select, [], |row| row.try_into()).unwrap()
}

#[tokio::test]
async fn a_job_whose_open_row_somebody_deletes_is_free_for_all() {
    let (folder, store) = claimed().await;
    folder.change("DELETE FROM punctual_ledger; UPDATE punctual_jobs SET next_fire = 0");
    assert_eq!(claim(&store, 2, 2).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn a_row_that_somebody_takes_from_its_node_waits_for_all() {
    let (folder, store) = claimed().await;
    folder.change("UPDATE punctual_ledger SET node = NULL, take = NULL");
    assert_eq!(state(&folder), (None, true, false));
    let claim_result = claim(&store, 2, 2).await.unwrap();
    assert_eq!(claim_result.jobs[0].rows.len(), 2, "what waited, and the next fire time");
}

#[tokio::test]
async fn a_job_whose_open_row_somebody_closes_is_free_for_all() {
    let fate = "node = NULL, take = NULL, fate = 'abandoned', ended_at = 9";
    let closing = [
        format!("UPDATE punctual_ledger SET {fate}"),
        format!(
            "INSERT OR REPLACE INTO punctual_ledger ({ROW}, fate, ended_at) \
             SELECT {ROW}, 'abandoned', 9 FROM punctual_ledger"
        ),
    ];
    for closing in closing {
        let (folder, store) = claimed().await;
        folder.change(&closing);
        assert_eq!(state(&folder), (None, false, false), "{closing}");
        assert_eq!(claim(&store, 2, 2).await.unwrap().jobs.len(), 1, "{closing}");
    }
}

#[tokio::test]
async fn a_row_that_somebody_opens_again_waits() {
    let (folder, store) = claimed().await;
    let row = store.rows(None, 1).await.unwrap().remove(0);
    store.finish(vec![outcome(&row)]).await.unwrap();
    assert_eq!(state(&folder), (None, false, false));
    folder.change("UPDATE punctual_ledger SET fate = NULL, ended_at = NULL");
    assert_eq!(state(&folder), (None, true, false));
    assert_eq!(claim(&store, 2, 2).await.unwrap().jobs[0].rows.len(), 2);
    // And is closed as any other.
    let rows = store.rows(None, 10).await.unwrap();
    store.finish(rows.iter().map(outcome).collect()).await.unwrap();
    assert_eq!(state(&folder), (None, false, false));
}

fn outcome(row: &punctual::store::Row) -> punctual::store::RowOutcome {
    punctual::store::RowOutcome {
        key: row.key,
        fence: row.fence,
        fate: Fate::Ran(punctual::store::RunEnd::Succeeded),
        attempt: row.attempt,
        started_at: Some(now()),
        ended_at: now(),
        message: None,
        job_end: Fate::Completed,
    }
}

/// In the place of itself, and deleted and put back.
#[tokio::test]
async fn a_record_that_somebody_writes_anew_is_held_by_who_held_it() {
    let again = [
        format!(
            "INSERT OR REPLACE INTO punctual_jobs ({RECORD}) SELECT {RECORD} FROM punctual_jobs"
        ),
        format!(
            "CREATE TEMP TABLE kept AS SELECT {RECORD} FROM punctual_jobs; \
             DELETE FROM punctual_jobs; INSERT INTO punctual_jobs ({RECORD}) SELECT * FROM kept"
        ),
    ];
    for again in again {
        let (folder, store) = claimed().await;
        // Of two rows that node 1 has one waits.
        assert_eq!(claim(&store, 1, 2).await.unwrap().jobs.len(), 1);
        let row = store.rows(None, 1).await.unwrap().remove(0);
        store.release(NodeId(1), vec![Release::new(row.key, row.fence, 1)]).await.unwrap();
        assert_eq!(state(&folder), (Some(1), true, false));
        folder.change(&again);
        assert_eq!(state(&folder), (Some(1), true, false), "{again}");
        assert_eq!(claim(&store, 2, 2).await.unwrap().jobs.len(), 0, "{again}");
        let claimed = claim(&store, 1, 3).await.unwrap();
        assert!(claimed.jobs[0].rows.iter().any(|it| it.key == row.key), "{again}");
    }
    // A copy under another id has none of the rows.
    let (folder, store) = claimed().await;
    folder.change(
        "CREATE TEMP TABLE copy AS SELECT * FROM punctual_jobs; \
         UPDATE copy SET incarnation = 2, id = 'copy'; INSERT INTO punctual_jobs SELECT * FROM copy",
    );
    let claimed = claim(&store, 2, 2).await.unwrap();
    let ids: Vec<_> = claimed.jobs.iter().map(|it| it.record.id.to_string()).collect();
    assert_eq!(ids, ["copy"]);
}

#[tokio::test]
async fn what_waits_for_a_record_that_somebody_deletes_is_called_off() {
    let (folder, store) = claimed().await;
    let row = store.rows(None, 1).await.unwrap().remove(0);
    store.release(NodeId(1), vec![Release::new(row.key, row.fence, 1)]).await.unwrap();
    add(&store, [record("other", 2, None)]).await;
    folder.change("DELETE FROM punctual_jobs WHERE id = 'job'");
    store.prune(Keep::default(), 100).await.unwrap();
    let rows = store.history(Incarnation(1), 10).await.unwrap();
    let fate: Fate = "skipped: removed".parse().unwrap();
    assert_eq!(rows[0].state, RowState::Closed(fate));
    assert!(rows[0].ended_at.is_some());
}

#[tokio::test]
async fn a_row_that_somebody_closes_without_an_end_ends_when_the_store_is_pruned() {
    let (folder, store) = claimed().await;
    folder.change("UPDATE punctual_ledger SET node = NULL, fate = 'abandoned'");
    let before = now();
    store.prune(Keep::default(), 100).await.unwrap();
    let rows = store.fates(FateFilter::default(), None, 10).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert!(rows[0].ended_at >= Some(before));
}
