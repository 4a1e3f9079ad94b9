//! Connections that are lost, blocked, or all in use.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use punctual::store::{
    Fate, Heartbeat, Incarnation, NodeId, PostgresStore, Record, Row, RowOutcome, RowState, RunEnd,
    Stamp, Store as _, StoreChange, Write, WriteResult,
};

use crate::fixture::{Tables, application, url, with};

async fn add(store: &PostgresStore, number: u64) -> Record {
    let now = store.now().await.unwrap();
    let mut record = Record::new(format!("job-{number}"), Incarnation(number), "greet", now);
    record.next_fire = Some(now);
    store.write(vec![Write::add(record.clone(), number)]).await.unwrap();
    record
}

/// Ends all connections with an application's name; returns how many there were.
async fn terminate(admin: &PostgresStore, name: &str) -> usize {
    let sql = format!(
        "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE application_name = '{name}'"
    );
    admin.execute(&sql).await.unwrap().len()
}

#[tokio::test]
async fn connections_that_the_server_ends_are_made_anew() {
    let Some(tables) = Tables::new() else { return };
    let admin = tables.connect().await;
    let name = format!("{}app", tables.namespace());
    let url = with(&url().unwrap(), &format!("application_name={name}"));
    let store = tables.builder().url(url).connect().await.unwrap();
    let mut changes = store.changes();
    let next = async |changes: &mut futures::stream::BoxStream<'static, StoreChange>| {
        tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap()
    };
    // It listens from here on.
    assert_eq!(next(&mut changes).await, StoreChange::Unknown);
    let record = add(&admin, 1).await;
    assert_eq!(next(&mut changes).await, StoreChange::Job(record.incarnation, 1));
    assert_eq!(next(&mut changes).await, StoreChange::Due(record.next_fire.unwrap()));
    assert!(terminate(&admin, &name).await >= 2, "one for the pool, one that listens");
    // The first operations may find out.
    let begun = Instant::now();
    while let Err(error) = store.get("job-1".into()).await {
        assert!(error.is_unavailable(), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{error:?}");
    }
    assert_eq!(next(&mut changes).await, StoreChange::Unknown);
    let record = add(&admin, 2).await;
    assert_eq!(next(&mut changes).await, StoreChange::Job(record.incarnation, 1));
}

#[tokio::test]
async fn a_transaction_of_somebody_else_blocks_only_its_own_job() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.builder().statement_timeout(Duration::from_millis(300)).connect().await;
    let store = store.unwrap();
    let other = tables.builder().pool_size(1).connect().await.unwrap();
    for number in 1..=5 {
        add(&store, number).await;
    }
    let first = Heartbeat::new(NodeId(7), "n", true, Duration::from_secs(60));
    store.heartbeat(first).await.unwrap();
    let blocking = tokio::spawn(async move {
        let sql = "BEGIN; SELECT 1 FROM punctual_jobs WHERE incarnation = 3 FOR UPDATE; \
             SELECT pg_sleep(2); COMMIT";
        other.execute(sql).await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let claimed =
        store.claim(crate::fixture::request(7, 1, store.now().await.unwrap())).await.unwrap();
    let ids: Vec<String> = claimed.jobs.iter().map(|it| it.record.id.to_string()).collect();
    assert_eq!(ids, ["job-1", "job-2", "job-4", "job-5"]);
    assert!(claimed.more, "the third may be claimed later");
    // A change of the job waits, until the operation takes too long.
    let mut record = store.get("job-3".into()).await.unwrap().unwrap();
    let stamp = record.stamp();
    record.paused = true;
    let error = store.write(vec![Write::change(stamp, record, 9)]).await.unwrap_err();
    let text = error.source().unwrap().to_string();
    // The server gives up, or the client.
    let gives_up = text.contains("another transaction has blocked it") || text.contains("300ms");
    assert!(error.is_unavailable() && gives_up, "{text}");
    store.get("job-1".into()).await.unwrap();
    blocking.await.unwrap();
}

#[tokio::test]
async fn outcomes_and_expiry_wait_for_no_other_job() {
    let Some(tables) = Tables::new() else { return };
    let builder = tables.builder().statement_timeout(Duration::from_millis(300));
    let store = builder.connect().await.unwrap();
    let other = tables.builder().pool_size(1).connect().await.unwrap();
    for number in 1..=4 {
        add(&store, number).await;
    }
    let first = Heartbeat::new(NodeId(7), "n", true, Duration::from_secs(60));
    store.heartbeat(first).await.unwrap();
    let now = store.now().await.unwrap();
    let claimed = store.claim(crate::fixture::request(7, 1, now)).await.unwrap().jobs;
    assert_eq!(claimed.len(), 4);
    let blocking = tokio::spawn(async move {
        let sql = "BEGIN; SELECT 1 FROM punctual_jobs WHERE incarnation = 2 FOR UPDATE; \
             SELECT pg_sleep(3); COMMIT";
        other.execute(sql).await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let outcome = |number: usize| RowOutcome {
        key: claimed[number - 1].rows[0].key,
        fence: claimed[number - 1].rows[0].fence,
        fate: Fate::Ran(RunEnd::Succeeded),
        attempt: 1,
        started_at: Some(now),
        ended_at: now,
        message: None,
        job_end: Fate::Completed,
    };
    let both = vec![outcome(1), outcome(2)];
    assert!(store.finish(both.clone()).await.unwrap_err().is_unavailable());
    assert!(store.get("job-1".into()).await.unwrap().is_none(), "the first has ended");
    let suspects = store.nodes().await.unwrap();
    let suspects = suspects.iter().map(|node| (node.id, node.heartbeats)).collect();
    let reaped = store.reap(suspects).await.unwrap();
    assert_eq!((reaped.abandoned.len(), reaped.over.len(), reaped.more), (2, 2, true));
    assert!(store.reap(Vec::new()).await.unwrap_err().is_unavailable());
    blocking.await.unwrap();
    // What has waited for the lock is done by now, or is done now. An outcome replaces *abandoned*.
    store.reap(Vec::new()).await.unwrap();
    assert_eq!(store.finish(both).await.unwrap().refused, []);
    assert!(store.list(Default::default(), None, 10).await.unwrap().records.is_empty());
    let rows = store.history(Incarnation(2), 10).await.unwrap();
    assert_eq!(rows[1].state, RowState::Closed(Fate::Ran(RunEnd::Succeeded)), "{rows:?}");
}

#[tokio::test]
async fn a_pool_that_is_in_use_is_said_to_be() {
    let Some(tables) = Tables::new() else { return };
    let builder = tables.builder().pool_size(1).statement_timeout(Duration::from_secs(1));
    let store = builder.connect().await.unwrap();
    let blocking = tokio::spawn({
        let store = store.clone();
        async move { store.execute("SELECT pg_sleep(0.7)").await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    // It is free again in time.
    store.now().await.unwrap();
    blocking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_may_be_opened_by_the_application() {
    let Some(tables) = Tables::new() else { return };
    let admin = tables.connect().await;
    let address =
        admin.execute("SELECT host(inet_server_addr()) || ':' || inet_server_port()").await;
    let address = address.unwrap().remove(0);
    let nowhere = with(&url().unwrap(), "host=db.invalid");
    let store = tables
        .builder()
        .url(nowhere)
        .connect_by(move || tokio::net::TcpStream::connect(address.clone()))
        .connect()
        .await
        .unwrap();
    let mut changes = store.changes();
    add(&store, 1).await;
    assert!(changes.next().await.is_some());
    let lost = tables.builder().connect_by(|| async {
        Err::<tokio::net::TcpStream, _>(std::io::Error::other("the tunnel is down"))
    });
    let error = lost.connect().await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}

/// Waits until a statement about these tables waits for a lock.
async fn a_statement_waits(tables: &Tables) {
    let admin = application().await;
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let about = format!("%{}%", tables.namespace());
    while admin.query(waiting, &[&about]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pausing(stamp: Stamp, record: &Record, token: u64) -> Write {
    let mut paused = record.clone();
    paused.paused = true;
    Write::change(stamp, paused, token)
}

fn succeeded(row: &Row) -> RowOutcome {
    let now = row.fire_time;
    RowOutcome {
        key: row.key,
        fence: row.fence,
        fate: Fate::Ran(RunEnd::Succeeded),
        attempt: 1,
        started_at: Some(now),
        ended_at: now,
        message: None,
        job_end: Fate::Completed,
    }
}

#[tokio::test]
async fn a_write_sees_the_job_that_took_the_place_of_its_own_while_it_waited() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    let record = add(&store, 1).await;
    let jobs = format!("{}jobs", tables.namespace());
    let mut application = application().await;
    let transaction = application.transaction().await.unwrap();
    let replace = format!(
        "CREATE TEMPORARY TABLE replaced AS SELECT * FROM {jobs}; \
         UPDATE replaced SET incarnation = 2; \
         DELETE FROM {jobs}; INSERT INTO {jobs} SELECT * FROM replaced"
    );
    transaction.batch_execute(&replace).await.unwrap();
    let stamp = store.get("job-1".into()).await.unwrap().unwrap().stamp();
    let (write, id) = (pausing(stamp, &record, 9), record.id);
    let write = tokio::spawn(async move { store.write(vec![write]).await });
    a_statement_waits(&tables).await;
    transaction.commit().await.unwrap();
    let results = write.await.unwrap().unwrap();
    let [WriteResult::Lost(Some(current))] = &results[..] else { panic!("{results:?}") };
    assert_eq!((&current.id, current.incarnation), (&id, Incarnation(2)));
}

#[tokio::test]
async fn what_ended_before_a_deadlock_is_reported() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    for number in 1..=3 {
        add(&store, number).await;
    }
    let first = Heartbeat::new(NodeId(7), "n", true, Duration::from_secs(60));
    store.heartbeat(first).await.unwrap();
    let request = crate::fixture::request(7, 1, store.now().await.unwrap());
    let claimed = store.claim(request).await.unwrap().jobs;
    let outcomes: Vec<_> = claimed.iter().map(|job| succeeded(&job.rows[0])).collect();
    assert_eq!(outcomes.len(), 3);

    let application = application().await;
    let jobs = format!("{}jobs", tables.namespace());
    let lock = async |incarnation: u64| {
        let select = format!("SELECT FROM {jobs} WHERE incarnation = {incarnation} FOR UPDATE");
        application.batch_execute(&select).await
    };
    // The third job is finished at once; the others are waited for, the first of them first.
    application.batch_execute("BEGIN").await.unwrap();
    lock(2).await.unwrap();
    application.batch_execute("SAVEPOINT second").await.unwrap();
    lock(1).await.unwrap();
    let finish = tokio::spawn({
        let store = store.clone();
        async move { store.finish(outcomes).await }
    });
    a_statement_waits(&tables).await;
    application.batch_execute("ROLLBACK TO second").await.unwrap();
    // Each has now what the other waits for. The server lets one of them fail: the one that has waited
    // for longer, and looks first.
    let _ = lock(1).await;
    application.batch_execute("ROLLBACK").await.unwrap();
    let report = finish.await.unwrap().unwrap();
    let mut over: Vec<u64> = report.over.iter().map(|it| it.0).collect();
    over.sort_unstable();
    assert_eq!((over, report.refused), (vec![1, 2, 3], vec![]));
}

#[tokio::test]
async fn a_statement_whose_future_is_dropped_ends_on_the_server() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    let record = add(&store, 1).await;
    let application = application().await;
    let lock = format!("BEGIN; SELECT FROM {}jobs FOR UPDATE", tables.namespace());
    application.batch_execute(&lock).await.unwrap();
    let write = pausing(record.stamp(), &record, 9);
    let write = tokio::spawn({
        let store = store.clone();
        async move { store.write(vec![write]).await }
    });
    a_statement_waits(&tables).await;
    write.abort();
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1";
    let about = format!("%{}%", tables.namespace());
    let begun = Instant::now();
    while !application.query(waiting, &[&about]).await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it waits for the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    application.batch_execute("ROLLBACK").await.unwrap();
    assert!(!store.get("job-1".into()).await.unwrap().unwrap().paused);
}

#[tokio::test]
async fn slow_operations_leave_a_connection_for_heartbeats() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.builder().pool_size(3).connect().await.unwrap();
    let record = add(&store, 1).await;
    let application = application().await;
    let lock = format!("BEGIN; SELECT FROM {}jobs FOR UPDATE", tables.namespace());
    application.batch_execute(&lock).await.unwrap();
    let slow: Vec<_> = (0..5)
        .map(|token| {
            let (store, write) = (store.clone(), pausing(record.stamp(), &record, token));
            tokio::spawn(async move { store.write(vec![write]).await })
        })
        .collect();
    a_statement_waits(&tables).await;
    let heartbeat = Heartbeat::new(NodeId(7), "n", true, Duration::from_secs(60));
    let heartbeat = tokio::time::timeout(Duration::from_secs(5), store.heartbeat(heartbeat)).await;
    heartbeat.expect("a connection is free").unwrap();
    application.batch_execute("ROLLBACK").await.unwrap();
    for write in slow {
        write.await.unwrap().unwrap();
    }
}
