//! Writes that share a transaction: an error of one write fails no other.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use punctual::{
    OnConflict,
    store::{ClaimRequest, Decision, Heartbeat, NodeId, RecordFilter, SqliteStore, Store as _},
    trigger::every,
};

use crate::{
    fixture::Folder,
    tasks::{Notes, on, remember},
};

const SECOND: Duration = Duration::from_secs(1);

/// An application keeps its own tables in the file, and a foreign key to the jobs, so a removal can't be
/// committed.
#[tokio::test]
async fn a_commit_that_fails_for_one_write_fails_for_no_other() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND * 3600), remember("x")).id("referred").await.unwrap();
    folder.change(
        "CREATE TABLE orders (job TEXT REFERENCES punctual_jobs (id) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO orders VALUES ('referred');",
    );
    let mut refused = Vec::new();
    for _ in 0..50 {
        let referred = scheduler.job("referred");
        let others = futures::future::join_all((0..8).map(|n| {
            let add = scheduler.add(every(SECOND * 3600), remember("x")).id(format!("{n}"));
            add.on_conflict(OnConflict::Replace).into_future()
        }));
        let (removed, others) = futures::future::join(referred.remove(), others).await;
        refused.extend(others.into_iter().filter_map(|other| other.err()));
        if removed.is_ok() {
            break;
        }
    }
    let first = refused.first().map(|error| error.to_string());
    assert!(refused.is_empty(), "{} others failed, too: {first:?}", refused.len());
}

/// An application's SQL trigger rolls the whole transaction back because of one write.
#[tokio::test]
async fn a_write_that_rolls_all_back_loses_nothing_that_was_answered() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &Notes::default()).paused().start().await.unwrap();
    folder.change(
        "CREATE TRIGGER no BEFORE INSERT ON punctual_jobs WHEN new.id = 'bad'
         BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END",
    );
    for round in 0..20 {
        let adding = (0..20).map(|n| {
            let id = if n == 10 { "bad".into() } else { format!("{round}-{n}") };
            let adding = scheduler.add(every(SECOND * 3600), remember("x")).id(id.clone());
            async move { (id, adding.into_future().await) }
        });
        for (id, added) in futures::future::join_all(adding).await {
            let there = store.get(id.as_str().into()).await.unwrap().is_some();
            assert_eq!(added.is_ok(), there, "{id}: {added:?}");
            assert_eq!(added.is_ok(), id != "bad", "{id}: {added:?}");
        }
    }
}

#[tokio::test]
async fn a_decision_that_panics_among_writes_of_one_transaction_undoes_only_itself() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).paused().start().await.unwrap();
    for n in 0..20 {
        let add = scheduler.add(every(SECOND).immediately(), remember("x"));
        add.id(format!("due {n}")).await.unwrap();
    }
    let node = NodeId(42);
    let ttl = SECOND * 600;
    let heartbeat = Heartbeat::new(node, "panics", true, ttl);
    store.heartbeat(heartbeat).await.unwrap();
    for round in 0..30 {
        let take = ClaimRequest {
            node,
            number: round + 1,
            horizon: Utc::now() + TimeDelta::hours(1),
            tasks: Arc::new(["remember".to_owned()].into()),
            except: Arc::default(),
            passed: Default::default(),
            looks: usize::MAX,
            limit: 10,
            row_limit: usize::MAX,
            decide: Arc::new(move |record, _| {
                // Some claims are written before the panic.
                assert!(!record.id.to_string().ends_with('7'), "made to panic");
                Decision::Claim { rows: Vec::new(), next_fire: None }
            }),
        };
        let taker = store.clone();
        let taking = async move { taker.claim(take).await };
        let (before, after) = (2 * round, 2 * round + 1);
        let add = |n| {
            let add = scheduler.add(every(SECOND * 3600), remember("x")).id(format!("new {n}"));
            tokio::spawn(add.into_future())
        };
        let (one, taken, other) = (add(before), tokio::spawn(taking), add(after));
        assert!(one.await.unwrap().is_ok() && other.await.unwrap().is_ok());
        assert!(taken.await.is_err(), "it did not panic");
    }
    let there = store.list(RecordFilter::default(), None, 1000).await.unwrap().records;
    assert_eq!(there.len(), 20 + 60);
    assert!(there.iter().all(|record| record.fence == 0 && record.next_fire.is_some()));
}

#[tokio::test]
async fn three_hundred_runs_of_one_job_are_requested_at_once() {
    let (folder, notes) = (Folder::new(), Notes::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = scheduler.add(every(SECOND * 3600), remember("x")).id("job");
    let job = add.max_instances(1000).await.unwrap();
    let began = std::time::Instant::now();
    let asked = (0..300).map(|_| {
        let job = job.clone();
        async move { job.run_now().await }
    });
    let asked = futures::future::join_all(asked).await;
    let took = began.elapsed();
    let refused: Vec<_> = asked.iter().filter_map(|run| run.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} refused: {:?}", refused.len(), refused.first());
    assert!(took < SECOND * 5, "three hundred took {took:?}");
}
