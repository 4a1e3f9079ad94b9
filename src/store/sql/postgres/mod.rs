//! Durable jobs in PostgreSQL.

#[macro_use]
mod columns;

mod actions;
mod changes;
mod claim;
mod error;
mod fates;
mod jobs;
mod ledger;
mod nodes;
mod pool;
mod prune;
mod schema;
mod tls;

use std::{
    fmt,
    future::Future,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, SemaphorePermit},
    task::AbortHandle,
};
use tokio_postgres::Config;

use self::{
    error::{PostgresError, Result},
    pool::{Connector, NAMESPACE, Open, Opened, Session, Texts},
    schema::Server,
    tls::Tls,
};
use crate::{
    job::JobId,
    store::{
        ActionCursor, ActionPage, Capabilities, Changes, Claim, ClaimRequest, ClaimResult,
        Durability, Failover, FateCursor, FateFilter, FatePage, FinishReport, Heartbeat,
        Incarnation, InsertStatement, Keep, NextDueRequest, NodeId, NodeRow, PruneReport,
        ReapReport, Record, RecordChange, RecordCursor, RecordFilter, RecordPage, Release, Row,
        RowKey, RowOutcome, Store, StoreChange, StoreError, Write, WriteResult,
        sql::{document, operation::operation},
    },
};

/// A claim of so many jobs, or one that lost some, is followed by claims that lock what they decide.
const LARGE_CLAIM: usize = 8;

/// How many of them follow it: a claim that locks can't tell whether it had to.
const LOCKING_CLAIMS: u32 = 32;

/// A [`Store`] in a PostgreSQL database, for the nodes of any number of machines.
///
/// Clones share one store, with one pool of connections and one connection that listens to the
/// changes of other nodes.
///
/// # The database
///
/// The database may be the application's own: the store's tables have a prefix, see
/// [`namespace`](PostgresBuilder::namespace), and are in the first schema of the search path. They
/// are created and migrated when the store is connected, under a lock. If the application's role may
/// not create tables, run the SQL of [`migrations`](PostgresStore::migrations) with another one. The
/// views `punctual_jobs_view`, `punctual_ledger_view`, `punctual_nodes_view` and
/// `punctual_actions_view` are for people.
///
/// PostgreSQL 12 or later is needed. A pooler in transaction mode may be in between: the store keeps
/// nothing in a session but prepared statements, see [`prepared`](PostgresBuilder::prepared). The
/// connection that listens should reach the server itself: see
/// [`listen_url`](PostgresBuilder::listen_url).
///
/// # TLS
///
/// | `sslmode` in the URL | |
/// |---|---|
/// | `disable` | no TLS |
/// | `prefer`, the default | TLS if the server has it, without a check of its certificate, unless [`root_certificates`](PostgresBuilder::root_certificates) are set |
/// | `require`, `verify-full` | TLS, and the certificate is checked against those that the machine trusts, and [`root_certificates`](PostgresBuilder::root_certificates) |
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
/// use punctual::{Scheduler, store::PostgresStore};
///
/// # async fn example() -> Result<(), punctual::BoxError> {
/// let store = PostgresStore::connect("postgres://app:secret@db.example.com/app").await?;
/// let scheduler = Scheduler::builder().store(store).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresStore(Arc<Inner>);

struct Inner {
    pool: Pool,
    /// How the connections of the pool are made, if this store makes them.
    connector: Option<Connector>,
    namespace: String,
    /// Begins a transaction.
    begin: String,
    prepared: bool,
    texts: Texts,
    timeout: Duration,
    server: Server,
    /// How to connect to listen; `None` if the store neither listens nor notifies.
    listens: Option<(Connector, String)>,
    changes: Changes,
    listener: Mutex<Option<AbortHandle>>,
    /// How many of the next claims lock the jobs that they decide.
    locks: AtomicU32,
    /// For operations that are not urgent: however many of them are slow, a node that sends no
    /// heartbeat would lose all that it has claimed.
    permits: Semaphore,
}

impl PostgresStore {
    /// Connects to a database, and creates the tables if they are missing.
    ///
    /// The URL is that of libpq: `postgres://user:password@host:5432/database?sslmode=require`.
    ///
    /// # Errors
    ///
    /// See the [table](PostgresStore#errors).
    pub async fn connect(url: impl Into<String>) -> std::result::Result<PostgresStore, StoreError> {
        PostgresStore::builder().url(url).connect().await
    }

    /// A store with the connections of an existing pool.
    ///
    /// It does not listen, since a connection of a pool can't: nodes poll for the changes of
    /// others every few seconds. [`PostgresBuilder::pool`] with
    /// [`listen_url`](PostgresBuilder::listen_url) does.
    ///
    /// ```no_run
    /// # async fn example(pool: deadpool_postgres::Pool) -> Result<(), punctual::BoxError> {
    /// let store = punctual::store::PostgresStore::from_pool(pool).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// See the [table](PostgresStore#errors).
    pub async fn from_pool(pool: Pool) -> std::result::Result<PostgresStore, StoreError> {
        PostgresStore::builder().pool(pool).connect().await
    }

    /// Returns a builder with the options for connecting.
    ///
    /// ```no_run
    /// # use punctual::store::PostgresStore;
    /// # async fn example() -> Result<(), punctual::BoxError> {
    /// let store = PostgresStore::builder()
    ///     .url("postgres://app:secret@db.example.com/app?sslmode=require")
    ///     .namespace("jobs_")
    ///     .pool_size(16)
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder {
            url: None,
            listen_url: None,
            pool: None,
            open: None,
            namespace: NAMESPACE.to_owned(),
            pool_size: 8,
            root_certificates: Vec::new(),
            statement_timeout: Duration::from_secs(10),
            notify: true,
            prepared: true,
        }
    }

    /// The SQL that creates the tables, for a migration tool of the application's own.
    ///
    /// A store that finds the tables creates nothing. With another
    /// [`namespace`](PostgresBuilder::namespace), use [`PostgresBuilder::migrations`].
    ///
    /// ```
    /// let sql = punctual::store::PostgresStore::migrations();
    /// assert!(sql.contains("CREATE TABLE punctual_jobs"));
    /// ```
    pub fn migrations() -> String {
        schema::migrations(NAMESPACE, 0)
    }

    /// Executes SQL as another program would, with the tables named as they are here, and returns the
    /// first column as text.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn execute(&self, sql: &str) -> std::result::Result<Vec<String>, StoreError> {
        operation!(self, |session| session.execute(sql))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

/// The options for connecting to a [`PostgresStore`].
#[derive(Clone)]
#[must_use = "nothing is connected before `.connect().await`"]
pub struct PostgresBuilder {
    url: Option<String>,
    listen_url: Option<String>,
    pool: Option<Pool>,
    open: Option<Open>,
    namespace: String,
    pool_size: usize,
    root_certificates: Vec<u8>,
    statement_timeout: Duration,
    notify: bool,
    prepared: bool,
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URLs, which have passwords.
        f.debug_struct("PostgresBuilder")
            .field("namespace", &self.namespace)
            .field("pool_size", &self.pool_size)
            .field("statement_timeout", &self.statement_timeout)
            .field("notify", &self.notify)
            .field("prepared", &self.prepared)
            .finish_non_exhaustive()
    }
}

impl PostgresBuilder {
    /// Sets the URL of the database, as in [`PostgresStore::connect`].
    ///
    /// It may name several hosts, and `target_session_attrs=read-write` finds the primary among
    /// them.
    pub fn url(mut self, url: impl Into<String>) -> PostgresBuilder {
        self.url = Some(url.into());
        self
    }

    /// Sets the URL that the connection that listens uses, if it is not that of the others: behind a
    /// pooler in transaction mode, or with a [`pool`](PostgresBuilder::pool).
    pub fn listen_url(mut self, url: impl Into<String>) -> PostgresBuilder {
        self.listen_url = Some(url.into());
        self
    }

    /// Sets the pool whose connections the store uses, instead of a pool of its own.
    pub fn pool(mut self, pool: Pool) -> PostgresBuilder {
        self.pool = Some(pool);
        self
    }

    /// Sets how a stream to the server is opened, instead of TCP to the host of the URL: through a
    /// tunnel, a proxy or a connector of a cloud. User, password, database and TLS are still those of
    /// the URL.
    ///
    /// ```no_run
    /// # use punctual::store::PostgresStore;
    /// # async fn example() -> Result<(), punctual::BoxError> {
    /// let store = PostgresStore::builder()
    ///     .url("postgres://app:secret@db.internal/app")
    ///     .connect_by(|| tokio::net::TcpStream::connect("tunnel.example.com:15432"))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn connect_by<F, Fut, S>(mut self, open: F) -> PostgresBuilder
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.open = Some(Arc::new(move || {
            let opening = open();
            Box::pin(async move { Ok(Opened(Box::new(opening.await?))) })
        }));
        self
    }

    /// Sets the prefix of the names of all tables, indexes and views. Default: `punctual_`.
    ///
    /// Stores with different namespaces share only the database. A namespace consists of up to 40
    /// letters, digits and `_`, and does not start with a digit. PostgreSQL ignores its case.
    pub fn namespace(mut self, namespace: impl Into<String>) -> PostgresBuilder {
        self.namespace = namespace.into();
        self
    }

    /// Sets how many connections the store's own pool has at most. Default: 8.
    ///
    /// One more listens.
    pub fn pool_size(mut self, connections: usize) -> PostgresBuilder {
        self.pool_size = connections;
        self
    }

    /// Adds certificates, as PEM, to those by which the server's certificate is checked.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> PostgresBuilder {
        self.root_certificates.extend_from_slice(pem.as_ref());
        self.root_certificates.push(b'\n');
        self
    }

    /// Sets how long an operation may take, including the wait for a connection. Default: 10 s.
    ///
    /// Beyond that the store is [unavailable](StoreError::is_unavailable), and the connection is
    /// closed. Keep it below the nodes' lease.
    pub fn statement_timeout(mut self, timeout: Duration) -> PostgresBuilder {
        self.statement_timeout = timeout;
        self
    }

    /// Sets whether the nodes notify each other of changes, by LISTEN and NOTIFY. Default: `true`.
    ///
    /// Without, nodes poll every few seconds. Commits with a notification wait for each other, so
    /// thousands of adds a second are faster without.
    pub fn notify(mut self, notifies: bool) -> PostgresBuilder {
        self.notify = notifies;
        self
    }

    /// Sets whether statements are prepared once per connection. Default: `true`.
    ///
    /// Set `false` behind a pooler in transaction mode that does not keep track of prepared
    /// statements; PgBouncer does from version 1.21 on, with `max_prepared_statements`.
    pub fn prepared(mut self, prepared: bool) -> PostgresBuilder {
        self.prepared = prepared;
        self
    }

    /// The SQL that creates the tables of this namespace: see [`PostgresStore::migrations`].
    pub fn migrations(&self) -> String {
        schema::migrations(&self.namespace, 0)
    }

    /// Connects to the database, and creates the tables if they are missing.
    ///
    /// # Errors
    ///
    /// See the [table](PostgresStore#errors). Also if the namespace is invalid, or neither a URL nor
    /// a pool is set.
    pub async fn connect(self) -> std::result::Result<PostgresStore, StoreError> {
        // A server may accept the connection and say nothing, and a migration may be blocked.
        let limit = self.statement_timeout.saturating_mul(2);
        match tokio::time::timeout(limit, self.open()).await {
            Ok(opened) => opened.map_err(PostgresError::into_store_error),
            Err(_) => Err(PostgresError::silent(limit).into_store_error()),
        }
    }

    async fn open(self) -> Result<PostgresStore> {
        self.validate()?;
        let connector = self.url.as_deref().map(|url| self.connector(url)).transpose()?;
        let connector = connector.filter(|_| self.pool.is_none());
        let listener = match &self.listen_url {
            Some(url) => Some(self.connector(url)?),
            None => connector.clone(),
        };
        let pool = match (self.pool, &connector) {
            (Some(pool), _) => pool,
            (None, Some(connector)) => connector.pool(self.pool_size, self.statement_timeout)?,
            (None, None) => {
                return Err(PostgresError::Refused(
                    "there is no database to connect to: set `url`, or `pool`".to_owned(),
                ));
            }
        };
        let channel = changes::channel(&self.namespace);
        let permits = pool.status().max_size.saturating_sub(1).clamp(1, Semaphore::MAX_PERMITS);
        let mut inner = Inner {
            pool,
            connector,
            namespace: self.namespace,
            begin: pool::begin(self.statement_timeout),
            prepared: self.prepared,
            texts: Texts::default(),
            timeout: self.statement_timeout,
            server: Server { is_durable: true, is_replicated: false },
            listens: listener.filter(|_| self.notify).map(|connector| (connector, channel)),
            changes: Changes::new(),
            listener: Mutex::default(),
            locks: AtomicU32::new(0),
            permits: Semaphore::new(permits),
        };
        let session = inner.session().await?;
        let migrated = schema::migrate(&session).await;
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
        Ok(PostgresStore(Arc::new(inner)))
    }

    fn connector(&self, url: &str) -> Result<Connector> {
        // libpq has more modes than the client; this store checks wherever TLS is required.
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url.parse()?;
        if config.get_application_name().is_none() {
            config.application_name("punctual");
        }
        if config.get_connect_timeout().is_none() {
            // Schedulers wait for an operation for a quarter of their lease: with several hosts, the next one
            // must be reached in that time.
            let most = if config.get_hosts().len() > 1 { 1 } else { 5 };
            config.connect_timeout(Duration::from_secs(most).min(self.statement_timeout));
        }
        let tls = Connector::checks(&config)
            .map(|checks| checks || !self.root_certificates.is_empty())
            .map(|checks| Tls::new(&self.root_certificates, checks))
            .transpose()
            .map_err(PostgresError::Refused)?;
        Ok(Connector { config, tls, open: self.open.clone(), failed: Arc::default() })
    }

    fn validate(&self) -> Result<()> {
        let name = &self.namespace;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.len() > 40 || name.to_ascii_lowercase().starts_with("pg_") {
            return Err(PostgresError::Refused(format!(
                "tables can't be named after {name:?}: use up to 40 letters, digits and `_`, \
                 beginning neither with a digit nor with `pg_`"
            )));
        }
        Ok(())
    }
}

impl Inner {
    async fn session(&self) -> Result<Session<'_>> {
        let object = self.pool.get().await?;
        let (cancels, texts) = (self.connector.as_ref(), self.prepared.then_some(&self.texts));
        Ok(Session::new(object, &self.namespace, &self.begin, cancels, texts))
    }

    /// Waits until an operation that is not urgent may take a connection.
    async fn permit(&self) -> std::result::Result<SemaphorePermit<'_>, StoreError> {
        match tokio::time::timeout(self.timeout, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(PostgresError::exhausted().into_store_error()),
        }
    }

    /// Does an operation within the time that it may take.
    async fn limited<T>(
        &self,
        operation: impl Future<Output = Result<T>>,
    ) -> std::result::Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, operation).await {
            Ok(result) => result.map_err(PostgresError::into_store_error),
            Err(_) => Err(PostgresError::silent(self.timeout).into_store_error()),
        }
    }

    /// Where changes are sent, if they are.
    fn channel(&self) -> Option<&str> {
        self.listens.as_ref().map(|(_, channel)| channel.as_str())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let listener = self.listener.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            listener.abort();
        }
    }
}

type StoreResult<T> = std::result::Result<T, StoreError>;

impl Store for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        let Server { is_durable, is_replicated } = self.0.server;
        Capabilities {
            notifies: self.0.listens.is_some(),
            durability: if is_durable { Durability::Disk } else { Durability::System },
            // An asynchronous replica can't be seen from here.
            failover: if is_replicated { Failover::Complete } else { Failover::Lossy },
            ..Capabilities::default()
        }
    }

    async fn now(&self) -> StoreResult<DateTime<Utc>> {
        operation!(self, |session| jobs::time(&session))
    }

    async fn write(&self, writes: Vec<Write>) -> StoreResult<Vec<WriteResult>> {
        operation!(self, |session| jobs::write(&session, &writes, self.0.channel()))
    }

    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        let sql = jobs::insert_statement(&self.0.namespace, self.0.channel());
        Some(InsertStatement::new(sql, document(record)))
    }

    async fn get(&self, id: JobId) -> StoreResult<Option<Record>> {
        operation!(self, |session| jobs::get_by_id(&session, &id))
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> StoreResult<RecordPage> {
        operation!(self, |session| jobs::list(&session, &filter, after.as_ref(), limit))
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> StoreResult<Vec<RecordChange>> {
        operation!(self, |session| jobs::changed(&session, &known))
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<ClaimResult> {
        let left = self.0.locks.load(Ordering::Relaxed);
        let done = operation!(self, |session| claim::claim(&session, &request, left > 0))?;
        let is_contended = done.lost > 0 || done.result.jobs.len() >= LARGE_CLAIM;
        let left = if is_contended { LOCKING_CLAIMS } else { left.saturating_sub(1) };
        self.0.locks.store(left, Ordering::Relaxed);
        Ok(done.result)
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> StoreResult<()> {
        operation!(self, |session| claim::release(&session, node, &rows, self.0.channel()))
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> StoreResult<FinishReport> {
        let mut report = FinishReport::default();
        operation!(self, |session| ledger::finish(&session, &outcomes, &mut report))?;
        Ok(report)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> StoreResult<DateTime<Utc>> {
        let max_batch = self.capabilities().max_batch;
        operation!(urgent self, |session| {
            nodes::heartbeat(&session, &heartbeat, max_batch, self.0.channel())
        })
    }

    async fn nodes(&self) -> StoreResult<Vec<NodeRow>> {
        operation!(urgent self, |session| nodes::nodes(&session))
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> StoreResult<ReapReport> {
        let (max_batch, channel) = (self.capabilities().max_batch, self.0.channel());
        let mut report = ReapReport::default();
        operation!(urgent self, |session| {
            nodes::reap(&session, &suspects, max_batch, channel, &mut report)
        })?;
        Ok(report)
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreResult<Vec<Claim>> {
        operation!(self, |session| claim::claimed_by(&session, node, after, limit))
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> StoreResult<ClaimResult> {
        operation!(self, |session| claim::claimed(&session, node, &rows))
    }

    async fn next_due(&self, of: NextDueRequest) -> StoreResult<Option<DateTime<Utc>>> {
        operation!(self, |session| claim::next_due(&session, &of))
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        let Some((connector, channel)) = &self.0.listens else {
            return stream::pending().boxed();
        };
        let mut listener = self.0.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.0.changes.stream();
        // A runtime that has shut down has taken the listener along.
        if listener.as_ref().is_none_or(AbortHandle::is_finished) {
            let sender = self.0.changes.clone();
            *listener = Some(changes::listen(connector.clone(), channel.clone(), sender));
        }
        changes
    }

    async fn history(&self, incarnation: Incarnation, limit: usize) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::history(&session, incarnation, limit))
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::rows(&session, after, limit))
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> StoreResult<FatePage> {
        operation!(self, |session| fates::page(&session, &filter, after, limit))
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> StoreResult<ActionPage> {
        operation!(self, |session| actions::page(&session, job.as_ref(), after, limit))
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreResult<Vec<Row>> {
        operation!(self, |session| ledger::waiting(&session, &of, after, limit))
    }

    async fn prune(&self, keep: Keep, limit: usize) -> StoreResult<PruneReport> {
        operation!(self, |session| prune::prune(&session, keep, limit))
    }
}
