//! What is wrong with a server, a role or a schema is one sentence that says what to do.

use std::{error::Error as _, time::Duration};

use futures::StreamExt as _;
use punctual::{
    End, Scheduler,
    store::{
        Heartbeat, Incarnation, NodeId, PostgresBuilder, PostgresStore, Record, Store as _,
        StoreError, Write,
    },
    trigger::{after, every},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    fixture::{Tables, url, with},
    scheduler::{Note, Notes},
};

async fn failed(builder: PostgresBuilder) -> (StoreError, String) {
    let error = builder.connect().await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(!text.contains("secret"), "{text}");
    (error, text)
}

async fn refused(builder: PostgresBuilder, part: &str) -> String {
    let (error, text) = failed(builder).await;
    assert!(error.is_refused() && text.contains(part), "{text}");
    text
}

#[tokio::test]
async fn a_url_that_leads_nowhere_is_said_to() {
    let Some(url) = url() else { return };
    let builder = |url: &str| PostgresStore::builder().url(url);
    refused(builder("postgres//nowhere"), "write it like `postgres://").await;
    refused(builder("postgres://localhost/?sslmode=perhaps"), "write it like").await;
    let missing = with(&url, "dbname=there_is_no_such_database");
    refused(builder(&missing), "create it, or name another one").await;
    let stranger = with(&url, "user=nobody_we_know");
    refused(builder(&stranger), "see to the user").await;
    let (error, text) = failed(builder("postgres://user:secret@127.0.0.1:1/app")).await;
    assert!(error.is_unavailable() && text.contains("see to the server"), "{text}");
    refused(PostgresStore::builder(), "set `url`, or `pool`").await;
    for namespace in ["", "1a", "a-b", "pg_jobs", "ä", &"x".repeat(41)] {
        refused(builder(&url).namespace(namespace), "tables can't be named after").await;
    }
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    refused(builder(&url).root_certificates(broken), "give them as PEM").await;
}

#[tokio::test]
async fn a_read_only_server_is_refused() {
    let Some(url) = url() else { return };
    let url = with(&url, "options=-c%20default_transaction_read_only%3Don");
    refused(PostgresStore::builder().url(url), "read-only").await;
}

#[tokio::test]
async fn a_role_without_rights_gets_the_sql_to_run() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    let role = format!("{}role", tables.namespace());
    let schema = format!("{}schema", tables.namespace());
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; CREATE SCHEMA {schema}; \
         GRANT USAGE ON SCHEMA {schema} TO {role}"
    );
    store.execute(&sql).await.unwrap();
    let search = format!("options=-c%20search_path%3D{schema}");
    let url = with(&with(&url().unwrap(), &format!("user={role}")), &search);
    let builder = || tables.builder().url(&url);
    let text = refused(builder(), "may not create tables in schema").await;
    let (_, sql) = text.split_once(":\n").unwrap();
    assert_eq!(sql, builder().migrations());
    // Somebody who may runs it.
    let sql = format!(
        "BEGIN; SET LOCAL search_path = {schema}; {sql}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; COMMIT"
    );
    store.execute(&sql).await.unwrap();
    let limited = builder().connect().await.unwrap();
    let now = limited.now().await.unwrap();
    let record = Record::new("a", Incarnation(1), "greet", now);
    limited.write(vec![Write::add(record, 1)]).await.unwrap();
    assert!(limited.get("a".into()).await.unwrap().is_some());
    drop(limited);
    let sql = format!("DROP SCHEMA {schema} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}");
    store.execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    if store.execute("SHOW ssl").await.unwrap() == ["on"] {
        return;
    }
    for mode in ["require", "verify-full"] {
        let url = with(&url().unwrap(), &format!("sslmode={mode}"));
        refused(PostgresStore::builder().url(url), "sslmode=disable").await;
    }
}

#[tokio::test]
async fn somebody_elses_table_is_left_alone() {
    let Some(tables) = Tables::new() else { return };
    let other = Tables::new().unwrap();
    let store = other.connect().await;
    let jobs = format!("{}jobs", tables.namespace());
    store.execute(&format!("CREATE TABLE {jobs} (title text)")).await.unwrap();
    refused(tables.builder(), "set another namespace").await;
    assert!(store.execute(&format!("SELECT title FROM {jobs}")).await.unwrap().is_empty());
    store.execute(&format!("DROP TABLE {jobs}")).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_used_while_it_fits() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    let beat =
        |first| store.heartbeat(Heartbeat::new(NodeId(1), "n", first, Duration::from_secs(9)));
    beat(true).await.unwrap();
    store.execute("UPDATE punctual_meta SET version = 1000").await.unwrap();
    beat(false).await.unwrap();
    tables.connect().await;
    store.execute("UPDATE punctual_meta SET min_version = 1000").await.unwrap();
    let error = beat(false).await.unwrap_err();
    assert!(
        error.is_refused() && error.source().unwrap().to_string().contains("update the program")
    );
    assert_eq!(store.nodes().await.unwrap()[0].heartbeats, 2);
    refused(tables.builder(), "version 1000").await;
    store.execute("UPDATE punctual_meta SET version = 1, min_version = 1").await.unwrap();
}

#[tokio::test]
async fn tables_that_are_gone_are_missed() {
    let Some(tables) = Tables::new() else { return };
    let store = tables.connect().await;
    store.execute("DROP TABLE punctual_open CASCADE").await.unwrap();
    let error = store.rows(None, 1).await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(error.is_refused() && text.contains("changed by somebody else"), "{text}");
}

#[tokio::test]
async fn of_many_that_connect_at_once_one_creates_the_tables() {
    let Some(tables) = Tables::new() else { return };
    let connecting = (0..8).map(|_| tables.builder().pool_size(1).connect());
    for store in futures::future::join_all(connecting).await {
        store.unwrap().nodes().await.unwrap();
    }
}

/// A server that answers each connection with this error.
async fn failing_server(code: &'static str, message: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
            let length = (fields.len() as u32 + 4).to_be_bytes();
            let error = [b"E", &length[..], fields.as_bytes()].concat();
            let mut startup = [0; 1024];
            let _ = client.read(&mut startup).await;
            let _ = client.write_all(&error).await;
        }
    });
    format!("postgres://app:secret@127.0.0.1:{port}/app?sslmode=disable")
}

#[tokio::test]
async fn what_a_server_refuses_at_the_door_is_said() {
    let wrong = "password authentication failed for user \"app\"";
    let url = failing_server("28P01", wrong).await;
    let text = refused(PostgresStore::builder().url(url), "see to the user, the password").await;
    assert!(text.contains(wrong), "{text}");
    let url = failing_server("53300", "sorry, too many clients already").await;
    let (error, text) = failed(PostgresStore::builder().url(url)).await;
    assert!(error.is_unavailable() && text.contains("raise the server's `max_conn"), "{text}");
    let url = failing_server("57P03", "the database system is starting up").await;
    let (error, text) = failed(PostgresStore::builder().url(url)).await;
    assert!(error.is_unavailable() && text.contains("it may work the next time"), "{text}");
}

#[tokio::test]
async fn while_the_disk_is_full_the_store_is_unavailable_and_other_jobs_go_on() {
    let Some(tables) = Tables::new() else { return };
    let (store, notes) = (tables.connect().await, Notes::default());
    let builder = Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Note>();
    let scheduler = builder.start().await.unwrap();
    let namespace = tables.namespace();
    let fill = format!(
        "CREATE FUNCTION {namespace}full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; \
         END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON punctual_jobs EXECUTE FUNCTION {namespace}full()"
    );
    store.execute(&fill).await.unwrap();
    let write = Write::add(Record::new("x", Incarnation(1), "greet", chrono::Utc::now()), 1);
    let error = store.write(vec![write]).await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(error.is_unavailable() && text.contains("make room on the server's disk"), "{text}");

    let runs = scheduler.add(every(Duration::from_millis(20)), async || {}).await.unwrap().runs();
    let add = scheduler.add(after(Duration::ZERO), Note("later".into()));
    assert!(add.await.unwrap_err().to_string().contains("not available"));
    assert_eq!(runs.take(5).count().await, 5, "jobs in memory go on");
    store.execute(&format!("DROP FUNCTION {namespace}full CASCADE")).await.unwrap();
    let end = scheduler.add(after(Duration::ZERO), Note("now".into())).await.unwrap().await;
    assert!(matches!(end, End::Completed), "{end}");
    assert_eq!(notes.all(), ["now"]);
    scheduler.shutdown().await;
}
