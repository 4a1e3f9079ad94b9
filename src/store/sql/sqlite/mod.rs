//! Durable jobs in an SQLite file.

mod actions;
mod claim;
mod columns;
mod error;
mod fates;
mod file;
mod jobs;
mod ledger;
mod nodes;
#[cfg(test)]
mod plans;
mod prune;
mod repair;
mod schema;
mod session;
mod thread;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::stream::BoxStream;

use self::{
    session::{NAMESPACE, Session},
    thread::Thread,
};
use crate::{
    clock::{Clock, SystemClock, tokio_is_paused},
    job::JobId,
    store::{
        ActionCursor, ActionPage, Capabilities, Claim, ClaimRequest, ClaimResult, Durability,
        FateCursor, FateFilter, FatePage, FinishReport, Heartbeat, Incarnation, InsertStatement,
        Keep, NextDueRequest, NodeId, NodeRow, PruneReport, ReapReport, Record, RecordChange,
        RecordCursor, RecordFilter, RecordPage, Release, Row, RowKey, RowOutcome, Store,
        StoreChange, StoreError, Write, WriteResult, sql::document,
    },
};

/// A [`Store`] in an SQLite file, for the processes of one machine.
///
/// Clones share one store. A separate thread owns the connection, so nothing blocks the runtime;
/// the thread ends when the last clone is dropped. Several processes may open one file: they see
/// each other's changes within the [`poll`](SqliteBuilder::poll) interval. The file must be on a
/// local disk, not on a network.
///
/// # The file
///
/// The file may be the application's own database: the store's tables have a prefix, see
/// [`namespace`](SqliteBuilder::namespace). The tables are created and migrated when the store is
/// opened. A new file, and the files that SQLite creates beside it, are readable only by their
/// owner; an existing file keeps its permissions. The views `punctual_jobs_view`,
/// `punctual_ledger_view`, `punctual_nodes_view` and `punctual_actions_view` are for people:
///
/// ```sh
/// sqlite3 jobs.db 'SELECT id, next_fire FROM punctual_jobs_view'
/// ```
///
/// The tables are strict about types. A text that is not UTF-8, invalid JSON, or an instant beyond
/// the year 262,000 is read as the nearest valid value, so it does not prevent reading the rest.
///
/// # Errors
///
/// | cause | error |
/// |---|---|
/// | the file is locked for longer than [`busy_timeout`](SqliteBuilder::busy_timeout), or the disk is full or cannot be read | [`unavailable`](StoreError::is_unavailable): the scheduler retries |
/// | the file or its directory is read-only or does not exist, the file is corrupt or not a database, it has another program's table with the name of a table of this store, or its schema is newer than this crate | [`refused`](StoreError::is_refused) |
///
/// # Examples
///
/// ```
/// use punctual::store::{SqliteStore, Synchronous};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), punctual::store::StoreError> {
/// # let directory = std::env::temp_dir().join(format!("punctual-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// # let path = directory.join("jobs.db");
/// let store = SqliteStore::open(&path).await?;
/// let faster = SqliteStore::builder(&path).synchronous(Synchronous::Normal).open().await?;
/// # drop((store, faster));
/// # let _ = std::fs::remove_dir_all(directory);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    thread: Thread,
    durability: Durability,
    /// Whether the store has a manual clock.
    has_clock: bool,
    max_jobs: Option<u64>,
    /// The statement of [`Store::insert_statement`]; none for a store in memory, which no other
    /// connection can open.
    insert: Option<Arc<str>>,
    /// One per clone of the store.
    clones: Arc<()>,
}

impl SqliteStore {
    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// See the [table](SqliteStore#errors).
    pub async fn open(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        SqliteStore::builder(path).open().await
    }

    /// A store in memory, which ends with the last of its clones: for tests in real time.
    ///
    /// Under Tokio's paused time the clock runs ahead of SQLite's thread: use
    /// [`MemoryStore`](crate::store::MemoryStore) there.
    ///
    /// # Errors
    ///
    /// Only if the system has no memory or threads left.
    pub async fn in_memory() -> Result<SqliteStore, StoreError> {
        SqliteBuilder::new(None).open().await
    }

    /// A store in memory with a clock that a test advances manually.
    ///
    /// # Errors
    ///
    /// See [`in_memory`](SqliteStore::in_memory).
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub async fn in_memory_with_clock(
        clock: crate::clock::ManualClock,
    ) -> Result<SqliteStore, StoreError> {
        SqliteBuilder { clock: Some(clock), ..SqliteBuilder::new(None) }.open().await
    }

    /// Returns a builder with the options for opening a file.
    pub fn builder(path: impl AsRef<Path>) -> SqliteBuilder {
        SqliteBuilder::new(Some(path.as_ref().to_owned()))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// The options for opening a [`SqliteStore`].
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `.open().await`"]
pub struct SqliteBuilder {
    path: Option<PathBuf>,
    namespace: String,
    synchronous: Synchronous,
    busy_timeout: Duration,
    poll: Duration,
    max_jobs: Option<u64>,
    #[cfg(feature = "testing")]
    clock: Option<crate::clock::ManualClock>,
}

/// What a commit waits for; see [`SqliteBuilder::synchronous`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// The disk: a commit survives a power failure.
    Full,
    /// Not the disk: a power failure may undo the latest commits, whose runs then run again. A
    /// crash of the process undoes nothing.
    Normal,
}

impl SqliteBuilder {
    fn new(path: Option<PathBuf>) -> SqliteBuilder {
        SqliteBuilder {
            path,
            namespace: NAMESPACE.into(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(3),
            poll: Duration::from_secs(1),
            max_jobs: None,
            #[cfg(feature = "testing")]
            clock: None,
        }
    }

    /// Sets what a commit waits for. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> SqliteBuilder {
        self.synchronous = synchronous;
        self
    }

    /// Sets how long an operation waits for writes on other connections. Default: 3 s.
    ///
    /// Keep it well below the nodes' lease, since heartbeats wait, too.
    pub fn busy_timeout(mut self, timeout: Duration) -> SqliteBuilder {
        self.busy_timeout = timeout;
        self
    }

    /// Sets how often to poll for changes by other processes, while a scheduler receives changes.
    /// Default: 1 s.
    ///
    /// A poll reads a counter, which takes some microseconds; there is at most one poll per
    /// millisecond. Changes by clones of this store are reported at once.
    pub fn poll(mut self, interval: Duration) -> SqliteBuilder {
        self.poll = interval;
        self
    }

    /// Sets the maximum number of jobs in the file: an add beyond that is refused. Default: no
    /// limit.
    ///
    /// Applies to writes through this store and its clones, not to other processes. Each add then
    /// counts the jobs.
    pub fn max_jobs(mut self, most: u64) -> SqliteBuilder {
        self.max_jobs = Some(most);
        self
    }

    /// Sets the prefix of the names of all tables, indexes and views. Default: `punctual_`.
    ///
    /// Stores with different namespaces share only the file. A namespace consists of letters,
    /// digits and `_`, and does not start with a digit. SQLite ignores its case.
    pub fn namespace(mut self, namespace: impl Into<String>) -> SqliteBuilder {
        self.namespace = namespace.into();
        self
    }

    fn make_clock(&self) -> Clock {
        #[cfg(feature = "testing")]
        if let Some(clock) = &self.clock {
            return Clock::Manual(clock.clone());
        }
        Clock::System(SystemClock::new())
    }

    /// Opens the file, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// See the [table](SqliteStore#errors). Also if the namespace is invalid.
    pub async fn open(self) -> Result<SqliteStore, StoreError> {
        self.validate()?;
        let durability = match (&self.path, self.synchronous) {
            (None, _) => Durability::Process,
            (Some(_), Synchronous::Normal) => Durability::System,
            (Some(_), Synchronous::Full) => Durability::Disk,
        };
        let has_clock = !matches!(self.make_clock(), Clock::System(_));
        let max_jobs = self.max_jobs;
        let insert = || jobs::insert_statement().replace(NAMESPACE, &self.namespace).into();
        let insert = self.path.is_some().then(insert);
        let thread = thread::start(self).await?;
        Ok(SqliteStore { thread, durability, has_clock, max_jobs, insert, clones: Arc::default() })
    }

    fn validate(&self) -> Result<(), StoreError> {
        let path = self.path.as_deref().map(|path| path.to_string_lossy());
        if let Some(path) = path.filter(|path| path.is_empty() || path.starts_with(":memory:")) {
            return Err(StoreError::refused(format!(
                "`{path}` is not a file, and what is in it would not last: name one, or use `SqliteStore::in_memory()`"
            )));
        }
        let path = self.path.as_deref().map(|path| path.to_string_lossy());
        // SQLite treats such a path as a URI even without being told to.
        if let Some(path) = path.filter(|path| path.starts_with("file:")) {
            return Err(StoreError::refused(format!(
                "`{path}` is a URI, which is not understood here: name the file by its path, use `SqliteStore::in_memory()`, or write `./{path}` if the file is named so"
            )));
        }
        let name = &self.namespace;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.len() > 64 || name.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(StoreError::refused(format!(
                "tables can't be named after {name:?}: use up to 64 letters, digits and `_`, \
                 beginning neither with a digit nor with `sqlite_`"
            )));
        }
        Ok(())
    }
}

impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            notifies: true,
            // Tokio's paused clock is not the thread's.
            has_clock: self.has_clock || tokio_is_paused(),
            durability: self.durability,
            max_jobs: self.max_jobs,
            ..Capabilities::default()
        }
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.thread.read(|session| Ok(session.now())).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteResult>, StoreError> {
        let max_jobs = self.max_jobs;
        self.thread.write(move |session| jobs::write(session, writes, max_jobs)).await
    }

    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        let sql = self.insert.as_deref()?;
        Some(InsertStatement::new(sql, document(record)))
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.thread.read(move |session| jobs::get(session, &id)).await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        if limit == 0 {
            return Ok(RecordPage::default());
        }
        let mut next = Some(after.unwrap_or_else(|| RecordCursor::new([])));
        let mut records = Vec::new();
        while records.len() < limit
            && let Some(after) = next.take()
        {
            let (filter, room) = (filter.clone(), limit - records.len());
            let page = move |session: &Session| jobs::page(session, &filter, &after, room);
            let page = self.thread.read(page).await?;
            records.extend(page.records);
            next = page.next;
        }
        Ok(RecordPage { records, next })
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        self.thread.read(move |session| jobs::changed(session, &known)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.thread.write(move |session| claim::claim(session, &request)).await
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        self.thread.write(move |session| claim::release(session, node, &rows)).await
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        self.thread.write(move |session| ledger::finish(session, outcomes)).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        let max_batch = self.capabilities().max_batch;
        self.thread.write(move |session| nodes::heartbeat(session, &heartbeat, max_batch)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.thread.read(nodes::nodes).await
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        let max_batch = self.capabilities().max_batch;
        self.thread.write(move |session| nodes::reap(session, &suspects, max_batch)).await
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        self.thread.read(move |session| claim::claimed_by(session, node, after, limit)).await
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Result<ClaimResult, StoreError> {
        self.thread.read(move |session| claim::claimed(session, node, &rows)).await
    }

    async fn next_due(&self, of: NextDueRequest) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.thread.read(move |session| claim::next_due(session, &of)).await
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        self.thread.changes()
    }

    async fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.thread.read(move |session| ledger::history(session, incarnation, limit)).await
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.thread.read(move |session| ledger::rows(session, after, limit)).await
    }

    async fn close(&self) {
        if Arc::strong_count(&self.clones) > 1 {
            // After an error, the changes are still in the log, so nothing is lost.
            let _ = self.thread.read(Session::checkpoint).await;
            return;
        }
        self.thread.close().await;
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> Result<FatePage, StoreError> {
        self.thread.read(move |session| fates::page(session, &filter, after, limit)).await
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> Result<ActionPage, StoreError> {
        self.thread.read(move |session| actions::page(session, job.as_ref(), after, limit)).await
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.thread.read(move |session| ledger::waiting_of(session, &of, after, limit)).await
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<PruneReport, StoreError> {
        self.thread.write(move |session| prune::prune(session, keep, limit)).await
    }
}
