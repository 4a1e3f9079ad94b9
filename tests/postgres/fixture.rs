//! What the tests share: the server, and tables that go away.

use std::{
    io::Write as _,
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use punctual::store::{
    ClaimCursor, ClaimRequest, Decision, NodeId, PostgresBuilder, PostgresStore, Row, RowKey,
    RowKind, RowState,
};

/// The URL of the server, if there is one.
pub(crate) fn url() -> Option<String> {
    static TOLD: Once = Once::new();
    let url = std::env::var("PUNCTUAL_POSTGRES_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        TOLD.call_once(|| {
            // Not by `eprintln!`, which the test harness keeps to itself.
            let text =
                "PUNCTUAL_POSTGRES_URL names no server: the PostgreSQL store is not tested\n";
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }
    url
}

/// The URL with another parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// The application's own connection.
pub(crate) async fn application() -> tokio_postgres::Client {
    let url = url().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A request for the jobs of the task `greet` that are due, each of which fires for the last time.
pub(crate) fn request(node: u64, number: u64, horizon: DateTime<Utc>) -> ClaimRequest {
    ClaimRequest {
        node: NodeId(node),
        number,
        horizon,
        tasks: Arc::new(["greet".to_owned()].into()),
        except: Arc::default(),
        passed: ClaimCursor::default(),
        looks: 1000,
        limit: 100,
        row_limit: 1000,
        decide: Arc::new(|record, _| {
            let at = record.next_fire.unwrap_or_default();
            let (incarnation, kind) = (record.incarnation, RowKind::Scheduled);
            let key = RowKey { incarnation, kind, number: at.timestamp_millis() };
            let row = Row::new(key, record.id.clone(), at, RowState::Claimed(NodeId(0)));
            Decision::Claim { rows: vec![row], next_fire: None }
        }),
    }
}

/// The tables of a test, which go with it.
pub(crate) struct Tables {
    url: String,
    namespace: String,
}

impl Tables {
    /// Names that no other test uses; `None` without a server.
    pub(crate) fn new() -> Option<Tables> {
        Tables::with("")
    }

    /// The same, with namespaces that end with this.
    pub(crate) fn with(end: &str) -> Option<Tables> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}_{count}_{end}", std::process::id());
        Some(Tables { url: url()?, namespace })
    }

    /// The options for connecting to them.
    pub(crate) fn builder(&self) -> PostgresBuilder {
        PostgresStore::builder().url(&self.url).namespace(&self.namespace)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) async fn connect(&self) -> PostgresStore {
        self.builder().connect().await.unwrap()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let tables = ["jobs", "open", "ledger", "nodes", "actions", "pruned", "meta"];
        let tables = tables.map(|table| format!("punctual_{table}")).join(", ");
        let builder = self.builder().pool_size(1);
        let drop = async move {
            if let Ok(store) = builder.connect().await {
                let _ = store.execute(&format!("DROP TABLE IF EXISTS {tables} CASCADE")).await;
            }
        };
        // A test may end within a runtime, where nothing can be waited for.
        let dropping = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(drop);
        });
        let _ = dropping.join();
    }
}
