//! What is wrong with a server, a user or a schema is one sentence that says what to do.

use std::{error::Error as _, time::Duration};

use futures::StreamExt as _;
use punctual::{
    End, Scheduler,
    store::{
        Heartbeat, Incarnation, MySqlBuilder, MySqlStore, NodeId, Record, Store as _, StoreError,
        Write,
    },
    trigger::{after, every},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    fixture::{Tables, urls, with},
    scheduler::{Note, Notes},
};

async fn failed(builder: MySqlBuilder) -> (StoreError, String) {
    let error = builder.connect().await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(!text.contains("secret"), "{text}");
    (error, text)
}

async fn refused(builder: MySqlBuilder, part: &str) -> String {
    let (error, text) = failed(builder).await;
    assert!(error.is_refused() && text.contains(part), "{text}");
    text
}

/// The URL with another user, password and database.
fn another(url: &str, user: &str, database: &str) -> String {
    let (_, host) = url.split_once('@').unwrap();
    let (host, _) = host.split_once('/').unwrap();
    format!("mysql://{user}@{host}/{database}")
}

#[tokio::test]
async fn a_url_that_leads_nowhere_is_said_to() {
    for url in urls() {
        let builder = |url: &str| MySqlStore::builder().url(url);
        refused(builder("mysql//nowhere"), "write it like `mysql://").await;
        refused(builder("postgres://localhost/app"), "write it like `mysql://").await;
        refused(builder(&with(&url, "no_such=1")), "write it like `mysql://").await;
        let missing = another(&url, "root", "there_is_no_such_database");
        refused(builder(&missing), "create it, name another one").await;
        refused(builder(&another(&url, "root", "")), "name one").await;
        let stranger = another(&url, "nobody_we_know:secret", "punctual");
        refused(builder(&stranger), "see to the user").await;
        let (error, text) = failed(builder("mysql://user:secret@127.0.0.1:1/app")).await;
        assert!(error.is_unavailable() && text.contains("see to the server"), "{text}");
        refused(MySqlStore::builder(), "set `url`, `pool` or `connect_by`").await;
        for namespace in ["", "1a", "a-b", "ä", &"x".repeat(41)] {
            refused(builder(&url).namespace(namespace), "tables can't be named after").await;
        }
        let error = builder(&with(&url, "require_ssl=true")).connect().await.unwrap_err();
        let text = error.source().unwrap().to_string();
        assert!(error.is_refused() && text.contains("leave out `require_ssl`"), "{text}");
    }
}

#[tokio::test]
async fn a_user_without_rights_gets_the_sql_to_run() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let user = format!("{}u", tables.namespace());
        let database = format!("{}d", tables.namespace());
        let sql = format!(
            "CREATE DATABASE {database}; CREATE USER {user}@'%' IDENTIFIED BY 'secret'; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}@'%'"
        );
        store.execute(&sql).await.unwrap();
        let url = another(tables.url(), &format!("{user}:secret"), &database);
        let builder = || MySqlStore::builder().url(&url);
        let text = refused(builder(), "grant the user `CREATE").await;
        let (_, sql) = text.split_once(":\n").unwrap();
        assert_eq!(sql, builder().migrations());
        // Somebody who may runs it.
        let admin = another(tables.url(), "root", &database);
        let mut admin = crate::fixture::connect(&admin).await;
        mysql_async::prelude::Queryable::query_drop(&mut admin, sql).await.unwrap();
        let limited = builder().connect().await.unwrap();
        let now = limited.now().await.unwrap();
        let record = Record::new("a", Incarnation(1), "greet", now);
        limited.write(vec![Write::add(record, 1)]).await.unwrap();
        assert!(limited.get("a".into()).await.unwrap().is_some());
        drop(limited);
        let sql = format!("DROP DATABASE {database}; DROP USER {user}@'%'");
        store.execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn somebody_elses_table_is_left_alone() {
    for tables in Tables::on_each() {
        let other = Tables::on_each().remove(0);
        let store = MySqlStore::builder().url(tables.url()).namespace(other.namespace());
        let store = store.connect().await.unwrap();
        let jobs = format!("{}jobs", tables.namespace());
        store.execute(&format!("CREATE TABLE {jobs} (title text)")).await.unwrap();
        refused(tables.builder(), "set another namespace").await;
        assert!(store.execute(&format!("SELECT title FROM {jobs}")).await.unwrap().is_empty());
        store.execute(&format!("DROP TABLE {jobs}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_schema_is_used_while_it_fits() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let beat =
            |first| store.heartbeat(Heartbeat::new(NodeId(1), "n", first, Duration::from_secs(9)));
        beat(true).await.unwrap();
        store.execute("UPDATE punctual_meta SET version = 1000").await.unwrap();
        beat(false).await.unwrap();
        tables.connect().await;
        store.execute("UPDATE punctual_meta SET min_version = 1000").await.unwrap();
        let error = beat(false).await.unwrap_err();
        let text = error.source().unwrap().to_string();
        assert!(error.is_refused() && text.contains("update the program"), "{text}");
        assert_eq!(store.nodes().await.unwrap()[0].heartbeats, 2);
        refused(tables.builder(), "version 1000").await;
        store.execute("UPDATE punctual_meta SET version = 1, min_version = 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_ended_half_way_is_done_again() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let sql =
            "DELETE FROM punctual_meta; DROP TABLE punctual_pruned; DROP VIEW punctual_jobs_view";
        store.execute(sql).await.unwrap();
        let store = tables.connect().await;
        store.prune(Default::default(), 10).await.unwrap();
        store.execute("SELECT id FROM punctual_jobs_view").await.unwrap();
    }
}

#[tokio::test]
async fn tables_that_are_gone_are_missed() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        store.execute("DROP TABLE punctual_open").await.unwrap();
        let error = store.rows(None, 1).await.unwrap_err();
        let text = error.source().unwrap().to_string();
        assert!(error.is_refused() && text.contains("changed by somebody else"), "{text}");
    }
}

#[tokio::test]
async fn what_an_index_has_no_room_for_is_refused() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let (now, long) = (store.now().await.unwrap(), "ü".repeat(513));
        for record in [
            Record::new(long.as_str(), Incarnation(1), "greet", now),
            Record::new("a", Incarnation(1), long.as_str(), now),
        ] {
            let error = store.write(vec![Write::add(record, 1)]).await.unwrap_err();
            let text = error.source().unwrap().to_string();
            assert!(error.is_refused() && text.contains("has 1026 bytes"), "{text}");
        }
        let fits = Record::new("ü".repeat(512), Incarnation(1), "greet", now);
        store.write(vec![Write::add(fits, 1)]).await.unwrap();
    }
}

#[tokio::test]
async fn of_many_that_connect_at_once_one_creates_the_tables() {
    for tables in Tables::on_each() {
        let connecting = (0..8).map(|_| tables.builder().pool_size(1).connect());
        for store in futures::future::join_all(connecting).await {
            store.unwrap().nodes().await.unwrap();
        }
    }
}

/// A server that answers each connection with this error.
async fn failing_server(code: u16, message: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let payload =
                [&[0xff][..], &code.to_le_bytes(), b"#HY000", message.as_bytes()].concat();
            let length = &(payload.len() as u32).to_le_bytes()[..3];
            let _ = client.write_all(&[length, &[0], &payload].concat()).await;
            let _ = client.read(&mut [0; 64]).await;
        }
    });
    format!("mysql://app:secret@127.0.0.1:{port}/app")
}

#[tokio::test]
async fn what_a_server_refuses_at_the_door_is_said() {
    let url = failing_server(1040, "Too many connections").await;
    let (error, text) = failed(MySqlStore::builder().url(url)).await;
    assert!(error.is_unavailable() && text.contains("raise the server's `max_conn"), "{text}");
    let url = failing_server(1045, "Access denied for user 'app'").await;
    refused(MySqlStore::builder().url(url), "see to the user, the password").await;
    let url = failing_server(1053, "Server shutdown in progress").await;
    let (error, text) = failed(MySqlStore::builder().url(url)).await;
    assert!(error.is_unavailable() && text.contains("it may work the next time"), "{text}");
}

/// What stands in the way of an insert, and the words that say what to do about it.
async fn while_an_insert_fails(tables: &Tables, signal: &str, words: &str) {
    let (store, notes) = (tables.connect().await, Notes::default());
    let builder = Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Note>();
    let scheduler = builder.start().await.unwrap();
    let namespace = tables.namespace();
    let fill = format!(
        "CREATE TRIGGER {namespace}full BEFORE INSERT ON punctual_jobs FOR EACH ROW SIGNAL {signal}"
    );
    store.execute(&fill).await.unwrap();
    let write = Write::add(Record::new("x", Incarnation(1), "greet", chrono::Utc::now()), 1);
    let error = store.write(vec![write]).await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(error.is_unavailable() && text.contains(words), "{text}");

    let runs = scheduler.add(every(Duration::from_millis(20)), async || {}).await.unwrap().runs();
    let add = scheduler.add(after(Duration::ZERO), Note("later".into()));
    assert!(add.await.unwrap_err().to_string().contains("not available"));
    assert_eq!(runs.take(5).count().await, 5, "jobs in memory go on");
    store.execute(&format!("DROP TRIGGER {namespace}full")).await.unwrap();
    let end = scheduler.add(after(Duration::ZERO), Note("now".into())).await.unwrap().await;
    assert!(matches!(end, End::Completed), "{end}");
    assert_eq!(notes.all(), ["now"]);
    scheduler.shutdown().await;
}

#[tokio::test]
async fn while_the_disk_is_full_the_store_is_unavailable_and_other_jobs_go_on() {
    for tables in Tables::on_each() {
        let full = "SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'";
        while_an_insert_fails(&tables, full, "make room on the server's disk").await;
    }
}

#[tokio::test]
async fn while_the_server_is_read_only_the_store_is_unavailable() {
    for tables in Tables::on_each() {
        let full =
            "SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'running with --read-only'";
        while_an_insert_fails(&tables, full, "connect to the primary").await;
    }
}
