//! What the tests share: the servers, and tables that go away.

use std::{
    io::Write as _,
    sync::{
        Arc, Once,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use mysql_async::{Conn, Opts, OptsBuilder};
use punctual::store::{
    ClaimCursor, ClaimRequest, Decision, MySqlBuilder, MySqlStore, NodeId, Row, RowKey, RowKind,
    RowState,
};

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

/// The URL with another parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameter}")
}

/// A connection to the server of a URL.
pub(crate) async fn connect(url: &str) -> Conn {
    let options = OptsBuilder::from_opts(Opts::from_url(url).unwrap()).prefer_socket(Some(false));
    Conn::new(options).await.unwrap()
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

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The application's own connection.
    pub(crate) async fn application(&self) -> Conn {
        connect(&self.url).await
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
