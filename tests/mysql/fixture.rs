//! What the tests share: the servers, and tables that go away.

use std::{
    io::Write as _,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use punctual::store::{MySqlBuilder, MySqlStore};

/// The variables that name servers.
const VARIABLES: [&str; 2] = ["PUNCTUAL_MARIADB_URL", "PUNCTUAL_MYSQL_URL"];

/// The URLs of the servers that there are.
pub(crate) fn urls() -> Vec<String> {
    static TOLD: Once = Once::new();
    let url = |variable: &&str| std::env::var(variable).ok().filter(|url| !url.is_empty());
    let urls: Vec<String> = VARIABLES.iter().filter_map(url).collect();
    if urls.is_empty() {
        TOLD.call_once(|| {
            // Not by `eprintln!`, which the test harness keeps to itself.
            let text = "PUNCTUAL_MARIADB_URL and PUNCTUAL_MYSQL_URL name no server: the MySQL store is not \
                        tested\n";
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }
    urls
}

/// The tables of a test, which go with it.
pub(crate) struct Tables {
    url: String,
    namespace: String,
}

impl Tables {
    /// Names that no other test uses, on each server.
    pub(crate) fn on_each() -> Vec<Tables> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tables = |url| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            Tables { url, namespace: format!("t{}_{count}_", std::process::id()) }
        };
        urls().into_iter().map(tables).collect()
    }

    /// The options for connecting to them.
    pub(crate) fn builder(&self) -> MySqlBuilder {
        MySqlStore::builder().url(&self.url).namespace(&self.namespace)
    }

    pub(crate) async fn connect(&self) -> MySqlStore {
        self.builder().connect().await.unwrap()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let tables = ["jobs", "open", "ledger", "nodes", "actions", "pruned", "meta"];
        let tables = tables.map(|table| format!("punctual_{table}")).join(", ");
        let views = ["jobs", "ledger", "nodes", "actions"];
        let views = views.map(|view| format!("punctual_{view}_view")).join(", ");
        let builder = self.builder().pool_size(1);
        let drop = async move {
            if let Ok(store) = builder.connect().await {
                let sql = format!("DROP VIEW IF EXISTS {views}; DROP TABLE IF EXISTS {tables}");
                let _ = store.execute(&sql).await;
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
