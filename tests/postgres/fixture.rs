//! What the tests share: the server, and tables that go away.

use std::{
    io::Write as _,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use punctual::store::{PostgresBuilder, PostgresStore};

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

/// The tables of a test, which go with it.
pub(crate) struct Tables {
    url: String,
    namespace: String,
}

impl Tables {
    /// Names that no other test uses; `None` without a server.
    pub(crate) fn new() -> Option<Tables> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Tables { url: url()?, namespace: format!("t{}_{count}_", std::process::id()) })
    }

    /// The options for connecting to them.
    pub(crate) fn builder(&self) -> PostgresBuilder {
        PostgresStore::builder().url(&self.url).namespace(&self.namespace)
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
