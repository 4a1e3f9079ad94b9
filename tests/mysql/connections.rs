//! Connections that are lost, blocked, or all in use.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use mysql_async::{Conn, Opts, prelude::Queryable as _};
use punctual::store::{
    Fate, Heartbeat, Incarnation, MySqlStore, NodeId, Record, Row, RowOutcome, RowState, RunEnd,
    Stamp, Store as _, Write, WriteResult,
};

use crate::fixture::{Tables, request};

async fn add(store: &MySqlStore, number: u64) -> Record {
    let now = store.now().await.unwrap();
    let mut record = Record::new(format!("job-{number}"), Incarnation(number), "greet", now);
    record.next_fire = Some(now);
    store.write(vec![Write::add(record.clone(), number)]).await.unwrap();
    record
}

async fn join(store: &MySqlStore, node: u64) {
    let first = Heartbeat::new(NodeId(node), "n", true, Duration::from_secs(60));
    store.heartbeat(first).await.unwrap();
}

/// A transaction of the application that has a job locked.
async fn lock(tables: &Tables, incarnation: u64) -> Conn {
    let mut application = tables.application().await;
    let jobs = format!("{}jobs", tables.namespace());
    let sql = format!("BEGIN; SELECT id FROM {jobs} WHERE incarnation = {incarnation} FOR UPDATE");
    application.query_drop(sql).await.unwrap();
    application
}

/// Waits until a statement about these tables waits for a lock.
async fn a_statement_waits(tables: &Tables) {
    let mut admin = tables.application().await;
    let waiting = format!(
        "SELECT trx_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' \
         AND trx_query LIKE '%{}%'",
        tables.namespace()
    );
    while admin.query::<String, _>(&waiting).await.unwrap().is_empty() {
        // The server makes this table anew when it was not read for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
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
async fn connections_that_the_server_ends_are_made_anew() {
    for tables in Tables::on_each() {
        let (admin, store) = (tables.connect().await, tables.builder().pool_size(2));
        let store = store.connect().await.unwrap();
        add(&store, 1).await;
        let id = store.execute("SELECT CONNECTION_ID()").await.unwrap().remove(0);
        admin.execute(&format!("KILL {id}")).await.unwrap();
        // The first operations may find out.
        let begun = Instant::now();
        while let Err(error) = store.get("job-1".into()).await {
            assert!(error.is_unavailable(), "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{error:?}");
        }
        add(&store, 2).await;
    }
}

#[tokio::test]
async fn a_transaction_of_somebody_else_blocks_only_its_own_job() {
    for tables in Tables::on_each() {
        let builder = tables.builder().statement_timeout(Duration::from_millis(300));
        let store = builder.connect().await.unwrap();
        for number in 1..=5 {
            add(&store, number).await;
        }
        join(&store, 7).await;
        let mut other = lock(&tables, 3).await;
        let now = store.now().await.unwrap();
        let claimed = store.claim(request(7, 1, now)).await.unwrap();
        let ids: Vec<String> = claimed.jobs.iter().map(|it| it.record.id.to_string()).collect();
        assert_eq!(ids, ["job-1", "job-2", "job-4", "job-5"]);
        assert!(claimed.next_due.is_some_and(|due| due <= now), "the third may be claimed later");
        // A change of the job waits, until the operation takes too long.
        let record = store.get("job-3".into()).await.unwrap().unwrap();
        let write = pausing(record.stamp(), &record, 9);
        let error = store.write(vec![write]).await.unwrap_err();
        let text = error.source().unwrap().to_string();
        // The server gives up, or the client.
        let gives_up =
            text.contains("another transaction has blocked it") || text.contains("300ms");
        assert!(error.is_unavailable() && gives_up, "{text}");
        store.get("job-1".into()).await.unwrap();
        other.query_drop("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn outcomes_and_expiry_wait_for_no_other_job() {
    for tables in Tables::on_each() {
        let builder = tables.builder().statement_timeout(Duration::from_millis(300));
        let store = builder.connect().await.unwrap();
        for number in 1..=4 {
            add(&store, number).await;
        }
        join(&store, 7).await;
        let now = store.now().await.unwrap();
        let claimed = store.claim(request(7, 1, now)).await.unwrap().jobs;
        assert_eq!(claimed.len(), 4);
        let mut other = lock(&tables, 2).await;
        let both: Vec<_> = claimed[..2].iter().map(|job| succeeded(&job.rows[0])).collect();
        assert!(store.finish(both.clone()).await.unwrap_err().is_unavailable());
        assert!(store.get("job-1".into()).await.unwrap().is_none(), "the first has ended");
        let suspects = store.nodes().await.unwrap();
        let suspects = suspects.iter().map(|node| (node.id, node.heartbeats)).collect();
        let reaped = store.reap(suspects).await.unwrap();
        assert_eq!((reaped.abandoned.len(), reaped.over.len(), reaped.more), (2, 2, true));
        assert!(store.reap(Vec::new()).await.unwrap_err().is_unavailable());
        other.query_drop("ROLLBACK").await.unwrap();
        // What has waited for the lock is done by now, or is done now. An outcome replaces *abandoned*.
        store.reap(Vec::new()).await.unwrap();
        assert_eq!(store.finish(both).await.unwrap().refused, []);
        assert!(store.list(Default::default(), None, 10).await.unwrap().records.is_empty());
        let rows = store.history(Incarnation(2), 10).await.unwrap();
        assert_eq!(rows[1].state, RowState::Closed(Fate::Ran(RunEnd::Succeeded)), "{rows:?}");
    }
}

/// A client that has stopped while it claims: its transaction is open, and the server ends it.
#[tokio::test]
async fn a_claim_that_stops_half_way_holds_up_no_expiry() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        add(&store, 1).await;
        join(&store, 7).await;
        // What a claim does first.
        let mut stopped = lock(&tables, 1).await;
        let suspects = store.nodes().await.unwrap();
        let suspects = suspects.iter().map(|node| (node.id, node.heartbeats)).collect();
        let reaped = store.reap(suspects).await.unwrap();
        assert_eq!(reaped.nodes, [NodeId(7)]);
        stopped.query_drop("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_pool_that_is_in_use_is_said_to_be() {
    for tables in Tables::on_each() {
        let builder = tables.builder().pool_size(1).statement_timeout(Duration::from_secs(1));
        let store = builder.connect().await.unwrap();
        let blocking = tokio::spawn({
            let store = store.clone();
            async move { store.execute("SELECT SLEEP(0.7)").await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        // It is free again in time.
        store.now().await.unwrap();
        blocking.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn connections_may_be_those_of_the_application() {
    for tables in Tables::on_each() {
        let pool = mysql_async::Pool::from_url(tables.url()).unwrap();
        let builder = MySqlStore::builder().namespace(tables.namespace());
        let store = builder.clone().pool(pool.clone()).connect().await.unwrap();
        add(&store, 1).await;
        let mut connection = pool.get_conn().await.unwrap();
        let level = connection.query_first("SHOW VARIABLES LIKE 't%\\_isolation'").await.unwrap();
        let level: Option<(String, String)> = level;
        assert_eq!(level.unwrap().1, "REPEATABLE-READ", "it is the application's");
        drop((store, connection));
        pool.disconnect().await.unwrap();

        let url = tables.url().to_owned();
        let connect = move || Conn::new(Opts::from_url(&url).unwrap());
        let store = builder.clone().connect_by(connect).connect().await.unwrap();
        assert!(store.get("job-1".into()).await.unwrap().is_some());
        let lost = builder.connect_by(|| async {
            let error = std::io::Error::other("the tunnel is down");
            Err(mysql_async::Error::from(error))
        });
        let error = lost.connect().await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
    }
}

/// Sessions of the application may be in another zone, and have other modes.
#[tokio::test]
async fn the_settings_of_a_session_do_not_matter() {
    for tables in Tables::on_each() {
        let setup = "SET SESSION time_zone = '+05:30', sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', \
                     autocommit = 0";
        let url = tables.url().to_owned();
        let connect = move || {
            let options = mysql_async::OptsBuilder::from_opts(Opts::from_url(&url).unwrap());
            Conn::new(options.setup(vec![setup]))
        };
        let store = tables.builder().connect_by(connect).connect().await.unwrap();
        let other = tables.connect().await;
        let record = add(&store, 1).await;
        join(&store, 7).await;
        let late = other.now().await.unwrap() - other.nodes().await.unwrap()[0].lease_until;
        assert!((-60..-50).contains(&late.num_seconds()), "{late}");
        assert_eq!(other.get("job-1".into()).await.unwrap().unwrap().id, record.id);
    }
}

#[tokio::test]
async fn a_write_sees_the_job_that_took_the_place_of_its_own_while_it_waited() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let record = add(&store, 1).await;
        let stamp = store.get("job-1".into()).await.unwrap().unwrap().stamp();
        let jobs = format!("{}jobs", tables.namespace());
        let mut application = tables.application().await;
        let replace = format!("BEGIN; UPDATE {jobs} SET incarnation = 2");
        application.query_drop(replace).await.unwrap();
        let (write, id) = (pausing(stamp, &record, 9), record.id);
        let write = tokio::spawn(async move { store.write(vec![write]).await });
        a_statement_waits(&tables).await;
        application.query_drop("COMMIT").await.unwrap();
        let results = write.await.unwrap().unwrap();
        let [WriteResult::Lost(Some(current))] = &results[..] else { panic!("{results:?}") };
        assert_eq!((&current.id, current.incarnation), (&id, Incarnation(2)));
    }
}

#[tokio::test]
async fn what_ended_before_a_deadlock_is_reported() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        for number in 1..=3 {
            add(&store, number).await;
        }
        join(&store, 7).await;
        let request = request(7, 1, store.now().await.unwrap());
        let claimed = store.claim(request).await.unwrap().jobs;
        let outcomes: Vec<_> = claimed.iter().map(|job| succeeded(&job.rows[0])).collect();
        assert_eq!(outcomes.len(), 3);

        // The third job is finished at once, and the others are waited for, the first of them first.
        let (mut first, mut second) = (lock(&tables, 1).await, lock(&tables, 2).await);
        let finish = tokio::spawn({
            let store = store.clone();
            async move { store.finish(outcomes).await }
        });
        a_statement_waits(&tables).await;
        first.query_drop("ROLLBACK").await.unwrap();
        let jobs = format!("{}jobs", tables.namespace());
        let lock = format!("SELECT id FROM {jobs} WHERE incarnation = 1 FOR UPDATE");
        // Each has what the other waits for, and the server lets one of them fail.
        let _ = second.query_drop(lock).await;
        second.query_drop("ROLLBACK").await.unwrap();
        let report = finish.await.unwrap().unwrap();
        let mut over: Vec<u64> = report.over.iter().map(|it| it.0).collect();
        over.sort_unstable();
        assert_eq!((over, report.refused), (vec![1, 2, 3], vec![]));
    }
}

#[tokio::test]
async fn slow_operations_leave_a_connection_for_heartbeats() {
    for tables in Tables::on_each() {
        let store = tables.builder().pool_size(3).connect().await.unwrap();
        let record = add(&store, 1).await;
        let mut application = lock(&tables, 1).await;
        let slow: Vec<_> = (0..5)
            .map(|token| {
                let (store, write) = (store.clone(), pausing(record.stamp(), &record, token));
                tokio::spawn(async move { store.write(vec![write]).await })
            })
            .collect();
        a_statement_waits(&tables).await;
        let heartbeat = Heartbeat::new(NodeId(7), "n", true, Duration::from_secs(60));
        let heartbeat = tokio::time::timeout(Duration::from_secs(5), store.heartbeat(heartbeat));
        heartbeat.await.expect("a connection is free").unwrap();
        application.query_drop("ROLLBACK").await.unwrap();
        for write in slow {
            write.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_pool_whose_transactions_do_not_end_by_themselves_is_refused() {
    for tables in Tables::on_each() {
        let options = mysql_async::OptsBuilder::from_opts(Opts::from_url(tables.url()).unwrap());
        let pool = mysql_async::Pool::new(options.setup(vec!["SET SESSION autocommit = 0"]));
        let error = tables.builder().pool(pool.clone()).connect().await.unwrap_err();
        let text = error.source().unwrap().to_string();
        assert!(error.is_refused() && text.contains("`autocommit` off"), "{text}");
        pool.disconnect().await.unwrap();
    }
}
