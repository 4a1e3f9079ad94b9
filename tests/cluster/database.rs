//! Where the jobs of a test are kept: how nodes open it, and what plain SQL reads of it.
//!
//! What is checked at the end is read without the store, which may be wrong about its own tables.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use punctual::{
    Scheduler, SchedulerBuilder,
    store::{
        Fate, Incarnation, MySqlStore, NodeId, PostgresStore, Row, RowKey, RowKind, RowState,
        SqliteStore,
    },
};
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::log::Who;

/// How long a reader waits for a file that nodes have locked.
const PATIENCE: Duration = Duration::from_secs(20);

/// A row of a result. All that is read is text.
type Columns = Vec<Option<String>>;

/// The kind of a database, for which a test makes one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// The path of the file.
    Sqlite(PathBuf),
    Server {
        kind: Kind,
        url: String,
        namespace: String,
    },
}

/// A row that a node had claimed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) job: String,
    pub(crate) fire_time: i64,
    pub(crate) fence: u64,
}

impl Held {
    pub(crate) fn of(who: &Who) -> Held {
        Held { job: who.job.clone(), fire_time: who.fire_time, fence: who.fence }
    }
}

impl Kind {
    /// The URL of the server, if one is named.
    pub(crate) fn url(self) -> Option<String> {
        let name = match self {
            Kind::Sqlite => return None,
            Kind::Postgres => "PUNCTUAL_POSTGRES_URL",
            Kind::MariaDb => "PUNCTUAL_MARIADB_URL",
        };
        std::env::var(name).ok().filter(|url| !url.is_empty())
    }

    /// Whether there is anything to test: SQLite needs no server.
    pub(crate) fn is_there(self) -> bool {
        self == Kind::Sqlite || self.url().is_some()
    }

    /// A new database, whose file, if it is one, is in this folder.
    pub(crate) fn create(self, folder: &Path) -> Database {
        match self {
            Kind::Sqlite => Database::Sqlite(folder.join("jobs.db")),
            Kind::Postgres | Kind::MariaDb => Database::on_server(self.url().unwrap()),
        }
    }
}

impl Database {
    /// Tables of their own on a server.
    pub(crate) fn on_server(url: String) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Database::server(url, format!("c{}_{count}_", std::process::id()))
    }

    fn server(url: String, namespace: String) -> Database {
        let kind = if url.starts_with("mysql:") { Kind::MariaDb } else { Kind::Postgres };
        Database::Server { kind, url, namespace }
    }

    /// The same database by way of another address, as of a proxy.
    pub(crate) fn at(&self, port: u16) -> Database {
        let Database::Server { url, namespace, .. } = self else { panic!("a file has no address") };
        let server = address(url);
        let url = url.replace(&server, &format!("127.0.0.1:{port}"));
        Database::server(url, namespace.clone())
    }

    /// The host and the port of the server.
    pub(crate) fn address(&self) -> String {
        let Database::Server { url, .. } = self else { panic!("a file has no address") };
        address(url)
    }

    /// As an argument of a process.
    pub(crate) fn to_arg(&self) -> String {
        match self {
            Database::Sqlite(path) => path.to_str().unwrap().to_owned(),
            Database::Server { url, namespace, .. } => format!("{url}#{namespace}"),
        }
    }

    pub(crate) fn from_arg(arg: &str) -> Database {
        match arg.split_once('#') {
            Some((url, namespace)) => Database::server(url.to_owned(), namespace.to_owned()),
            None => Database::Sqlite(arg.into()),
        }
    }

    /// The builder of a scheduler with this store.
    pub(crate) async fn builder(&self) -> SchedulerBuilder {
        match self {
            Database::Sqlite(path) => {
                // Rows that other nodes release are detected within this interval.
                let store = SqliteStore::builder(path).poll(Duration::from_millis(200));
                Scheduler::builder().store(store.open().await.unwrap())
            }
            Database::Server { kind: Kind::MariaDb, url, namespace } => {
                let store = MySqlStore::builder().url(url).namespace(namespace).pool_size(4);
                let builder = Scheduler::builder().store(store.connect().await.unwrap());
                // Nobody says that rows were released.
                builder.poll_interval(Duration::from_millis(200))
            }
            Database::Server { url, namespace, .. } => {
                let store = PostgresStore::builder().url(url).namespace(namespace).pool_size(4);
                Scheduler::builder().store(store.connect().await.unwrap())
            }
        }
    }

    /// The first result of a query, in which the tables are named with the prefix `punctual_`.
    fn query(&self, sql: &str) -> Vec<Columns> {
        match self {
            Database::Sqlite(path) => query_file(path, sql),
            Database::Server { kind, url, namespace } => {
                let sql = sql.replace("punctual_", namespace);
                match kind {
                    Kind::MariaDb => query_mariadb(url, &sql),
                    _ => query_postgres(url, &sql),
                }
            }
        }
    }

    /// Executes SQL, in which the tables are named with the prefix `punctual_`.
    pub(crate) fn execute(&self, sql: &str) {
        self.query(sql);
    }

    /// Does something within a transaction that begins with this SQL.
    pub(crate) fn in_transaction(&self, sql: &str, work: impl FnOnce()) {
        let Database::Server { kind, url, namespace } = self else { panic!("only on a server") };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let sql = format!("BEGIN; {}", sql.replace("punctual_", namespace));
        if *kind == Kind::MariaDb {
            let mut client = runtime.block_on(async {
                let mut client = connect_mariadb(url).await;
                client.query_drop(sql).await.unwrap();
                client
            });
            work();
            runtime.block_on(client.query_drop("COMMIT")).unwrap();
            runtime.block_on(client.disconnect()).unwrap();
            return;
        }
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&sql).await.unwrap();
            client
        });
        work();
        runtime.block_on(client.batch_execute("COMMIT")).unwrap();
    }

    /// All rows of the ledger.
    pub(crate) fn rows(&self) -> Vec<Row> {
        const COLUMNS: &str = "incarnation, kind, number, job, fire_time, last, count, fence, \
             attempt, ended_at";
        let sql = match self {
            Database::Sqlite(_) => format!("SELECT {COLUMNS}, node, fate FROM punctual_ledger"),
            Database::Server { .. } => format!(
                "SELECT {COLUMNS}, node, NULL FROM punctual_open UNION ALL \
                 SELECT {COLUMNS}, NULL, fate FROM punctual_ledger"
            ),
        };
        self.query(&sql).iter().map(row).collect()
    }

    /// The rows that a node has claimed.
    pub(crate) fn held_by(&self, node: &str) -> HashSet<Held> {
        let open = match self {
            Database::Sqlite(_) => "punctual_ledger",
            Database::Server { .. } => "punctual_open",
        };
        let sql = format!(
            "SELECT job, number, fence FROM {open} AS r JOIN punctual_nodes AS n ON n.node = r.node \
             WHERE n.name = '{node}'"
        );
        let held = |columns: &Columns| Held {
            job: text(columns, 0),
            fire_time: number(columns, 1).unwrap(),
            fence: number(columns, 2).unwrap().cast_unsigned(),
        };
        self.query(&sql).iter().map(held).collect()
    }

    /// Until when the node with this name has a lease, in milliseconds since 1970; 0 if it has none.
    fn lease_until(&self, node: &str) -> i64 {
        let sql = format!("SELECT max(lease_until) FROM punctual_nodes WHERE name = '{node}'");
        number(&self.query(&sql)[0], 0).unwrap_or(0)
    }

    /// Waits until a node has sent another heartbeat. Returns how long that took.
    pub(crate) fn wait_for_heartbeat(&self, node: &str, most: Duration) -> Duration {
        let (before, since) = (self.lease_until(node), Instant::now());
        while self.lease_until(node) <= before.max(Utc::now().timestamp_millis()) {
            assert!(since.elapsed() < most, "{node} does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
        since.elapsed()
    }

    /// How many jobs have not ended.
    pub(crate) fn jobs(&self) -> i64 {
        let sql = match self {
            // A table of its own has the ends that are remembered.
            Database::Sqlite(_) => "SELECT count(*) FROM punctual_jobs",
            Database::Server { .. } => "SELECT count(*) FROM punctual_jobs WHERE ended_at IS NULL",
        };
        number(&self.query(sql)[0], 0).unwrap()
    }

    /// Removes the tables from the server.
    pub(crate) fn remove(&self) {
        if let Database::Server { .. } = self {
            let tables = ["jobs", "open", "ledger", "nodes", "actions", "pruned", "meta"];
            let tables = tables.map(|table| format!("punctual_{table}")).join(", ");
            let views = ["jobs", "ledger", "nodes", "actions"];
            let views = views.map(|view| format!("punctual_{view}_view")).join(", ");
            let sql = format!("DROP VIEW IF EXISTS {views}; DROP TABLE IF EXISTS {tables} CASCADE");
            self.execute(&sql);
        }
    }
}

fn address(url: &str) -> String {
    if let Ok(options) = mysql_async::Opts::from_url(url) {
        return format!("{}:{}", options.ip_or_hostname(), options.tcp_port());
    }
    let config: tokio_postgres::Config = url.parse().unwrap();
    let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else {
        panic!("{url} names no host")
    };
    format!("{host}:{}", config.get_ports()[0])
}

fn query_file(path: &Path, sql: &str) -> Vec<Columns> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let count = statement.column_count();
    let rows = statement.query_map([], |row| {
        let text = |index| {
            Ok(match row.get_ref(index)? {
                ValueRef::Null => None,
                ValueRef::Integer(number) => Some(number.to_string()),
                ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                other => panic!("column {index} of {sql}: {other:?}"),
            })
        };
        (0..count).map(text).collect()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn query_postgres(url: &str, sql: &str) -> Vec<Columns> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
        }
        _ => None,
    });
    rows.collect()
}

async fn connect_mariadb(url: &str) -> mysql_async::Conn {
    let options = mysql_async::Opts::from_url(url).unwrap();
    let options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(Some(false));
    mysql_async::Conn::new(options).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn query_mariadb(url: &str, sql: &str) -> Vec<Columns> {
    let mut client = connect_mariadb(url).await;
    let rows: Vec<mysql_async::Row> =
        client.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    client.disconnect().await.unwrap();
    let text = |value| mysql_async::from_value::<Option<String>>(value);
    rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
}

fn text(columns: &Columns, index: usize) -> String {
    columns[index].clone().unwrap()
}

fn number(columns: &Columns, index: usize) -> Option<i64> {
    columns[index].as_ref().map(|text| text.parse().unwrap())
}

fn row(columns: &Columns) -> Row {
    let some = |index| number(columns, index).unwrap();
    let instant = |millis| DateTime::from_timestamp_millis(millis).unwrap();
    let kind = [RowKind::Scheduled, RowKind::Requested, RowKind::Ended][some(1) as usize];
    let incarnation = Incarnation(some(0).cast_unsigned());
    let state = match (number(columns, 10), &columns[11]) {
        (None, None) => RowState::Waiting,
        (Some(node), None) => RowState::Claimed(NodeId(node.cast_unsigned())),
        (None, Some(fate)) => RowState::Closed(fate.parse::<Fate>().unwrap()),
        (Some(_), Some(_)) => panic!("claimed, and with a fate: {columns:?}"),
    };
    let key = RowKey { incarnation, kind, number: some(2) };
    let mut row = Row::new(key, text(columns, 3).into(), instant(some(4)), state);
    row.last = instant(some(5));
    row.count = some(6).cast_unsigned();
    row.fence = some(7).cast_unsigned();
    row.attempt = some(8) as u32;
    row.ended_at = number(columns, 9).map(instant);
    row
}
