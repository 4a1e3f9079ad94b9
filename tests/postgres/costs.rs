//! How many statements a node sends, as the server counts them.
//!
//! The server must have been started with `shared_preload_libraries=pg_stat_statements`.

use std::time::Duration;

use punctual::{
    End, Scheduler,
    store::PostgresStore,
    trigger::{after, every},
};
use tokio::time::sleep;

use crate::{
    fixture::{application, url, with},
    scheduler::{Note, Notes},
};

const SECOND: Duration = Duration::from_secs(1);

/// A database of its own, in which the server counts the statements.
struct Counted {
    admin: tokio_postgres::Client,
    name: String,
    store: PostgresStore,
}

impl Counted {
    async fn new(name: &str) -> Option<Counted> {
        let url = url()?;
        let (admin, name) = (application().await, format!("t{}_{name}", std::process::id()));
        let libraries = admin.query_one("SHOW shared_preload_libraries", &[]).await.unwrap();
        if !libraries.get::<_, &str>(0).contains("pg_stat_statements") {
            println!("the server has no pg_stat_statements: nothing is counted");
            return None;
        }
        let extension = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
        // Of two who create it at once, one fails.
        while let Err(error) = admin.batch_execute(extension).await {
            assert_eq!(error.code().map(|code| code.code()), Some("23505"), "{error}");
        }
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let counts = format!("dbname={name}&options=-c%20pg_stat_statements.track%3Dtop");
        let store = PostgresStore::connect(with(&url, &counts)).await.unwrap();
        Some(Counted { admin, name, store })
    }

    async fn statements(&self) -> i64 {
        let count = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements AS s \
             JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = $1";
        self.admin.query_one(count, &[&self.name]).await.unwrap().get(0)
    }

    /// The statements that were executed, for a message.
    async fn texts(&self) -> Vec<String> {
        let texts = "SELECT calls || ' ' || left(query, 60) FROM pg_stat_statements AS s \
             JOIN pg_database AS d ON d.oid = s.dbid WHERE d.datname = $1 ORDER BY calls DESC";
        let rows = self.admin.query(texts, &[&self.name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn remove(self) {
        let Counted { admin, name, store } = self;
        drop(store);
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_node_sends_few_statements() {
    let Some(counted) = Counted::new("idle").await else { return };
    let builder = Scheduler::builder().store(counted.store.clone()).state(Notes::default());
    let scheduler = builder.task::<Note>().start().await.unwrap();
    scheduler.add(every(SECOND * 3600), Note("x".into())).await.unwrap();
    // By then it has pruned what others may have left.
    sleep(SECOND * 8).await;
    let before = counted.statements().await;
    sleep(SECOND * 30).await;
    let sent = counted.statements().await - before;
    let (a_minute, texts) = (2 * sent, counted.texts().await);
    println!("{a_minute} statements a minute");
    assert!(sent > 0, "it is counted");
    assert!(a_minute <= 30, "{a_minute} statements a minute: {texts:#?}");
    scheduler.shutdown().await;
    counted.remove().await;
}

#[tokio::test]
async fn one_shots_that_trickle_in_cost_few_statements() {
    const JOBS: i64 = 20;
    let Some(counted) = Counted::new("trickle").await else { return };
    let builder = Scheduler::builder().store(counted.store.clone()).state(Notes::default());
    let scheduler = builder.task::<Note>().start().await.unwrap();
    sleep(SECOND).await;
    let before = counted.statements().await;
    for _ in 0..JOBS {
        let job = scheduler.add(after(SECOND / 20), Note("x".into())).await.unwrap();
        assert!(matches!(job.await, End::Completed));
        sleep(SECOND / 20).await;
    }
    let (sent, texts) = (counted.statements().await - before, counted.texts().await);
    println!("{} statements a one-shot, with its add", sent as f64 / JOBS as f64);
    // One adds it, four claim and finish it; and the node sends its heartbeats.
    assert!(sent <= 5 * JOBS + 10, "{sent} statements for {JOBS} one-shots: {texts:#?}");
    scheduler.shutdown().await;
    counted.remove().await;
}
