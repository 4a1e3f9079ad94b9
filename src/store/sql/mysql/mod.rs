//! Durable jobs in MySQL and MariaDB.

mod actions;
mod claim;
mod columns;
mod edit;
mod error;
mod fates;
mod jobs;
mod ledger;
mod nodes;
mod pool;
mod prune;
mod schema;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use deadpool::managed::Pool;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

use self::{
    error::{MySqlError, Result},
    pool::{Connect, Connector, Session},
    schema::{NAMESPACE, Server, Tables},
};
use crate::{
    job::JobId,
    store::{
        ActionCursor, ActionPage, Capabilities, Claim, ClaimRequest, ClaimResult, Durability,
        Failover, FateCursor, FateFilter, FatePage, FinishReport, Heartbeat, Incarnation,
        InsertStatement, Keep, NextDueRequest, NodeId, NodeRow, PruneReport, ReapReport, Record,
        RecordChange, RecordCursor, RecordFilter, RecordPage, Release, Row, RowKey, RowOutcome,
        Store, StoreError, Write, WriteResult,
        sql::{document, operation::operation},
    },
};

/// A [`Store`] in a MySQL or MariaDB database, for the nodes of any number of machines.
///
/// Clones share one store, with one pool of connections. The servers notify nobody of changes, so nodes
/// poll for those of others: see [`poll_interval`](crate::SchedulerBuilder::poll_interval).
///
/// # The database
///
/// The database may be the application's own: the store's tables have a prefix, see
/// [`namespace`](MySqlBuilder::namespace). They are created and migrated when the store is connected,
/// under a lock. If the application's user may not create tables, run the SQL of
/// [`migrations`](MySqlStore::migrations) with another one. The views `punctual_jobs_view`,
/// `punctual_ledger_view`, `punctual_nodes_view` and `punctual_actions_view` are for people; their times
/// are in UTC.
///
/// MariaDB 10.6 or later, or MySQL 8.0.16 or later, is needed, with tables in InnoDB. A pooler in between
/// must take several statements at once. Each transaction sets its own isolation level, `READ
/// COMMITTED`; with a binary log, its format must be `ROW` or `MIXED`.
///
/// Ids and the names of tasks may have up to 1,024 bytes.
///
/// # TLS
///
/// | parameter in the URL | |
/// |---|---|
/// | none | no TLS |
/// | `require_ssl=true` | TLS, and the certificate is checked against Mozilla's list and [`root_certificates`](MySqlBuilder::root_certificates) |
/// | `require_ssl=true&verify_ca=false` | TLS without a check of the certificate |
/// | `require_ssl=true&verify_identity=false` | TLS without a check of the server's name |
///
/// # Errors
///
/// | cause | error |
/// |---|---|
/// | the server is unreachable, restarts, has no connection or disk space left, or has become a replica; a lock is held for too long | [`unavailable`](StoreError::is_unavailable): the scheduler retries |
/// | wrong password, wrong TLS, no such database, no rights, a read-only replica, a server that is too old, a schema that is newer than this crate | [`refused`](StoreError::is_refused) |
///
/// # Examples
///
/// ```no_run
/// use punctual::{Scheduler, store::MySqlStore};
///
/// # async fn example() -> Result<(), punctual::BoxError> {
/// let store = MySqlStore::connect("mysql://app:secret@db.example.com/app").await?;
/// let scheduler = Scheduler::builder().store(store).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MySqlStore(Arc<Inner>);

struct Inner {
    pool: Pool<Connector>,
    tables: Tables,
    /// Whether each connection goes back to a user's own pool after it was used.
    borrows: bool,
    timeout: Duration,
    server: Server,
    /// For operations that are not urgent: however many of them are slow, a node that sends no
    /// heartbeat would lose all that it has claimed.
    permits: Semaphore,
}

impl MySqlStore {
    /// Connects to a database, and creates the tables if they are missing.
    ///
    /// The URL is `mysql://user:password@host:3306/database`, with the parameters of
    /// [`mysql_async::Opts`].
    ///
    /// # Errors
    ///
    /// See the [table](MySqlStore#errors).
    pub async fn connect(url: impl Into<String>) -> std::result::Result<MySqlStore, StoreError> {
        MySqlStore::builder().url(url).connect().await
    }

    /// A store with the connections of an existing pool.
    ///
    /// ```no_run
    /// # async fn example(pool: mysql_async::Pool) -> Result<(), punctual::BoxError> {
    /// let store = punctual::store::MySqlStore::from_pool(pool).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See the [table](MySqlStore#errors).
    pub async fn from_pool(pool: mysql_async::Pool) -> std::result::Result<MySqlStore, StoreError> {
        MySqlStore::builder().pool(pool).connect().await
    }

    /// Returns a builder with the options for connecting.
    ///
    /// ```no_run
    /// # use punctual::store::MySqlStore;
    /// # async fn example() -> Result<(), punctual::BoxError> {
    /// let store = MySqlStore::builder()
    ///     .url("mysql://app:secret@db.example.com/app?require_ssl=true")
    ///     .namespace("jobs_")
    ///     .pool_size(16)
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> MySqlBuilder {
        MySqlBuilder {
            url: None,
            connect: None,
            borrows: false,
            namespace: NAMESPACE.to_owned(),
            pool_size: 8,
            root_certificates: Vec::new(),
            statement_timeout: Duration::from_secs(10),
        }
    }

    /// The SQL that creates the tables, for a migration tool of the application's own.
    ///
    /// A store that finds the tables creates nothing. With another
    /// [`namespace`](MySqlBuilder::namespace), use [`MySqlBuilder::migrations`].
    ///
    /// ```
    /// let sql = punctual::store::MySqlStore::migrations();
    /// assert!(sql.contains("CREATE TABLE IF NOT EXISTS punctual_jobs"));
    /// ```
    pub fn migrations() -> String {
        schema::migrations(&Tables::new(NAMESPACE), 0)
    }

    /// Executes SQL as another program would, with the tables named as they are here, and returns the
    /// first column as text.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn execute(&self, sql: &str) -> std::result::Result<Vec<String>, StoreError> {
        operation!(self, |session| session.execute(sql))
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").finish_non_exhaustive()
    }
}

/// The options for connecting to a [`MySqlStore`].
#[derive(Clone)]
#[must_use = "nothing is connected before `.connect().await`"]
pub struct MySqlBuilder {
    url: Option<String>,
    connect: Option<Connect>,
    borrows: bool,
    namespace: String,
    pool_size: usize,
    root_certificates: Vec<u8>,
    statement_timeout: Duration,
}

impl fmt::Debug for MySqlBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL, which has a password.
        f.debug_struct("MySqlBuilder")
            .field("namespace", &self.namespace)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

impl MySqlBuilder {
    /// Sets the URL of the database, as in [`MySqlStore::connect`].
    pub fn url(mut self, url: impl Into<String>) -> MySqlBuilder {
        self.url = Some(url.into());
        self
    }

    /// Sets the pool whose connections the store uses, instead of connections of its own. They go back to
    /// it after each operation.
    ///
    /// Sessions keep their settings: a connection that waits for a lock does so for as long as the
    /// server's `innodb_lock_wait_timeout` says.
    pub fn pool(mut self, pool: mysql_async::Pool) -> MySqlBuilder {
        self.connect = Some(Arc::new(move || Box::pin(pool.get_conn())));
        self.borrows = true;
        self
    }

    /// Sets how a connection is made, instead of by the URL: with a password that changes, or through a
    /// proxy.
    ///
    /// ```no_run
    /// # use punctual::store::MySqlStore;
    /// # async fn token() -> String { String::new() }
    /// # async fn example() -> Result<(), punctual::BoxError> {
    /// use mysql_async::{Conn, OptsBuilder};
    ///
    /// let store = MySqlStore::builder()
    ///     .connect_by(|| async {
    ///         let options = OptsBuilder::default().ip_or_hostname("db.internal").db_name(Some("app"));
    ///         Conn::new(options.user(Some("app")).pass(Some(token().await))).await
    ///     })
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn connect_by<F, Fut>(mut self, connect: F) -> MySqlBuilder
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = mysql_async::Result<Conn>> + Send + 'static,
    {
        self.connect = Some(Arc::new(move || Box::pin(connect())));
        self.borrows = false;
        self
    }

    /// Sets the prefix of the names of all tables and views. Default: `punctual_`.
    ///
    /// Stores with different namespaces share only the database. A namespace consists of up to 40
    /// letters, digits and `_`, and does not start with a digit.
    pub fn namespace(mut self, namespace: impl Into<String>) -> MySqlBuilder {
        self.namespace = namespace.into();
        self
    }

    /// Sets how many connections the store has at most. Default: 8.
    pub fn pool_size(mut self, connections: usize) -> MySqlBuilder {
        self.pool_size = connections;
        self
    }

    /// Adds certificates, as PEM, to those by which the server's certificate is checked.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> MySqlBuilder {
        self.root_certificates.extend_from_slice(pem.as_ref());
        self.root_certificates.push(b'\n');
        self
    }

    /// Sets how long an operation may take, including the wait for a connection. Default: 10 s.
    ///
    /// Beyond that the store is [unavailable](StoreError::is_unavailable), and the connection is
    /// closed. Keep it below the nodes' lease.
    pub fn statement_timeout(mut self, timeout: Duration) -> MySqlBuilder {
        self.statement_timeout = timeout;
        self
    }

    /// The SQL that creates the tables of this namespace: see [`MySqlStore::migrations`].
    pub fn migrations(&self) -> String {
        schema::migrations(&Tables::new(&self.namespace), 0)
    }

    /// Connects to the database, and creates the tables if they are missing.
    ///
    /// # Errors
    ///
    /// See the [table](MySqlStore#errors). Also if the namespace is invalid, or neither a URL nor a pool
    /// nor another way to connect is set.
    pub async fn connect(self) -> std::result::Result<MySqlStore, StoreError> {
        // A server may accept the connection and say nothing, and a migration may be blocked.
        let limit = self.statement_timeout.saturating_mul(2);
        match tokio::time::timeout(limit, self.open()).await {
            Ok(opened) => opened.map_err(MySqlError::into_store_error),
            Err(_) => Err(MySqlError::silent(limit).into_store_error()),
        }
    }

    async fn open(self) -> Result<MySqlStore> {
        self.validate()?;
        let connect = match (&self.connect, &self.url) {
            (Some(connect), _) => connect.clone(),
            (None, Some(url)) => self.connect_to(url)?,
            (None, None) => {
                return Err(MySqlError::Refused(
                    "there is no database to connect to: set `url`, `pool` or `connect_by`"
                        .to_owned(),
                ));
            }
        };
        let MySqlBuilder { borrows, pool_size, statement_timeout: timeout, .. } = self;
        let pool = Connector { connect, borrows, timeout }.pool(pool_size)?;
        let permits = pool_size.saturating_sub(1).clamp(1, Semaphore::MAX_PERMITS);
        let mut inner = Inner {
            pool,
            tables: Tables::new(&self.namespace),
            borrows,
            timeout,
            server: Server { is_durable: true, max_packet: usize::MAX },
            permits: Semaphore::new(permits),
        };
        let mut session = inner.session().await?;
        let migrated = schema::migrate(&mut session).await;
        match migrated {
            Ok(server) => {
                session.release();
                inner.server = server;
            }
            Err(error) => {
                session.recover(&error).await;
                return Err(error);
            }
        }
        Ok(MySqlStore(Arc::new(inner)))
    }

    /// How to connect to the server of a URL.
    fn connect_to(&self, url: &str) -> Result<Connect> {
        let opts = Opts::from_url(url).map_err(|error| MySqlError::MySql(error.into()))?;
        // The client would turn to the server's own socket instead of the host that was named.
        let mut options = OptsBuilder::from_opts(opts.clone()).prefer_socket(Some(false));
        if opts.tcp_keepalive().is_none() {
            options = options.tcp_keepalive(Some(Duration::from_secs(30)));
        }
        if let Some(tls) = opts.ssl_opts() {
            let roots = self.root_certificates.clone().into();
            let tls = SslOpts::with_root_certs(tls.clone(), vec![roots]);
            options = options.ssl_opts(Some(tls));
            // The client takes the process's default, and panics where that is ambiguous.
            if CryptoProvider::get_default().is_none() {
                let _ = ring::default_provider().install_default();
            }
        }
        let opts = Opts::from(options);
        Ok(Arc::new(move || Conn::new(opts.clone())))
    }

    fn validate(&self) -> Result<()> {
        let name = &self.namespace;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.len() > 40 {
            return Err(MySqlError::Refused(format!(
                "tables can't be named after {name:?}: use up to 40 letters, digits and `_`, \
                 beginning not with a digit"
            )));
        }
        Ok(())
    }
}

impl Inner {
    async fn session(&self) -> Result<Session<'_>> {
        let object = self.pool.get().await?;
        Ok(Session::new(object, &self.tables, self.borrows))
    }

    /// Waits until an operation that is not urgent may take a connection.
    async fn permit(&self) -> std::result::Result<SemaphorePermit<'_>, StoreError> {
        match tokio::time::timeout(self.timeout, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(MySqlError::exhausted().into_store_error()),
        }
    }

    /// Does an operation within the time that it may take.
    async fn limited<T>(
        &self,
        operation: impl Future<Output = Result<T>>,
    ) -> std::result::Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, operation).await {
            Ok(result) => result.map_err(MySqlError::into_store_error),
            Err(_) => Err(MySqlError::silent(self.timeout).into_store_error()),
        }
    }
}

type StoreResult<T> = std::result::Result<T, StoreError>;

impl Store for MySqlStore {
    fn capabilities(&self) -> Capabilities {
        let Server { is_durable, max_packet } = self.0.server;
        Capabilities {
            durability: if is_durable { Durability::Disk } else { Durability::System },
            // A replica can't be seen from here.
            failover: Failover::Lossy,
            // Texts may be written as hexadecimal digits.
            max_bytes: Some(max_packet / 4),
            ..Capabilities::default()
        }
    }

    async fn now(&self) -> StoreResult<DateTime<Utc>> {
        operation!(self, |session| jobs::time_of(&mut session))
    }

    async fn write(&self, writes: Vec<Write>) -> StoreResult<Vec<WriteResult>> {
        operation!(self, |session| jobs::write(&mut session, &writes))
    }

    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        Some(InsertStatement::new(jobs::insert_statement(&self.0.tables), document(record)))
    }

    async fn get(&self, id: JobId) -> StoreResult<Option<Record>> {
        operation!(self, |session| jobs::get_by_id(&mut session, &id))
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> StoreResult<RecordPage> {
        operation!(self, |session| jobs::list(&mut session, &filter, after.as_ref(), limit))
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> StoreResult<Vec<RecordChange>> {
        operation!(self, |session| jobs::changed(&mut session, &known))
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<ClaimResult> {
        operation!(self, |session| claim::claim(&mut session, &request))
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> StoreResult<()> {
        operation!(self, |session| claim::release(&mut session, node, &rows))
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> StoreResult<FinishReport> {
        let mut report = FinishReport::default();
        operation!(self, |session| ledger::finish(&mut session, &outcomes, &mut report))?;
        Ok(report)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> StoreResult<DateTime<Utc>> {
        let max_batch = self.capabilities().max_batch;
        operation!(urgent self, |session| {
            nodes::heartbeat(&mut session, &heartbeat, max_batch)
        })
    }

    async fn nodes(&self) -> StoreResult<Vec<NodeRow>> {
        operation!(urgent self, |session| nodes::nodes(&mut session))
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> StoreResult<ReapReport> {
        let max_batch = self.capabilities().max_batch;
        let mut report = ReapReport::default();
        operation!(urgent self, |session| {
            nodes::reap(&mut session, &suspects, max_batch, &mut report)
        })?;
        Ok(report)
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreResult<Vec<Claim>> {
        operation!(self, |session| claim::claimed_by(&mut session, node, after, limit))
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> StoreResult<ClaimResult> {
        operation!(self, |session| claim::claimed(&mut session, node, &rows))
    }

    async fn next_due(&self, of: NextDueRequest) -> StoreResult<Option<DateTime<Utc>>> {
        operation!(self, |session| claim::next_due(&mut session, &of))
    }

    async fn history(&self, incarnation: Incarnation, limit: usize) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::history(&mut session, incarnation, limit))
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::rows(&mut session, after, limit))
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> StoreResult<FatePage> {
        operation!(self, |session| fates::page(&mut session, &filter, after, limit))
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> StoreResult<ActionPage> {
        operation!(self, |session| actions::page(&mut session, job.as_ref(), after, limit))
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::waiting(&mut session, &of, after, limit))
    }

    async fn prune(&self, keep: Keep, limit: usize) -> StoreResult<PruneReport> {
        operation!(self, |session| prune::prune(&mut session, keep, limit))
    }
}
