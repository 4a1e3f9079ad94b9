//! Tables in the database that `PUNCTUAL_POSTGRES_URL` names.

use std::sync::atomic::{AtomicU32, Ordering};

use punctual::store::PostgresStore;

/// The URL of the server, if there is one.
pub(crate) fn url() -> Option<String> {
    std::env::var("PUNCTUAL_POSTGRES_URL").ok().filter(|url| !url.is_empty())
}

/// A store with tables of its own.
pub(crate) struct Database {
    pub(crate) store: PostgresStore,
    pub(crate) namespace: String,
}

impl Database {
    pub(crate) async fn create(url: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("bench{}_{count}_", std::process::id());
        let builder = PostgresStore::builder().url(url).namespace(&namespace);
        let store = builder.connect().await.expect("the server is there");
        Database { store, namespace }
    }

    /// Drops the tables, and others of these names.
    pub(crate) async fn remove(self, others: &[&str]) {
        let tables = ["jobs", "open", "ledger", "nodes", "actions", "pruned", "meta"];
        let tables = tables.iter().chain(others).map(|table| format!("{}{table}", self.namespace));
        let tables = tables.collect::<Vec<_>>().join(", ");
        let dropped = self.store.execute(&format!("DROP TABLE {tables} CASCADE")).await;
        dropped.expect("the tables are there");
    }
}
