//! A connection, with the state that its operations need.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use rusqlite::{CachedStatement, Connection, MAIN_DB, OpenFlags, config::DbConfig};

use super::{
    SqliteBuilder, Synchronous,
    error::{Result, SqliteError},
    file::{self, Watched},
    prune::Surplus,
    schema,
};
use crate::{
    clock::{Clock, LONGEST_WAIT},
    store::{StoreChange, StoreError},
};

/// The default prefix of the tables, and their prefix in all SQL of this store.
pub(super) const NAMESPACE: &str = "punctual_";

thread_local! {
    /// How long the connection of this thread waits for a lock; below, since when it has waited.
    static BUSY_TIMEOUT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BUSY_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub(super) struct Session {
    connection: Connection,
    namespace: String,
    path: String,
    clock: Clock,
    /// The changes of the transaction that other nodes are notified of.
    changes: RefCell<Vec<StoreChange>>,
    /// The surplus rows of the ledger, once they were counted.
    pub(super) surplus: Cell<Option<Surplus>>,
    /// The last job with waiting rows that was checked for its record.
    pub(super) repaired_to: Cell<i64>,
    /// `None` in memory.
    file: Option<Watched>,
    /// When the file is checked again.
    next_check: Cell<Instant>,
}

/// How often the file is checked at most: a check takes some microseconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Session {
    /// Opens the file, and ensures that it has the tables.
    pub(super) fn open(options: &SqliteBuilder) -> std::result::Result<Session, StoreError> {
        let path = options.path.as_ref().map_or("memory".into(), |path| path.display().to_string());
        let deadline = Instant::now() + options.busy_timeout.min(LONGEST_WAIT);
        loop {
            // The switch to the write-ahead log fails instead of waiting for a lock.
            match Session::try_open(options, &path) {
                Err(error) if error.is_busy() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => return opened.map_err(|error| error.into_store_error(&path)),
            }
        }
    }

    fn try_open(options: &SqliteBuilder, path: &str) -> Result<Session> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match &options.path {
            Some(path) => {
                file::make(path);
                Connection::open_with_flags(path, flags | file::CREATE)?
            }
            None => Connection::open_in_memory_with_flags(flags)?,
        };
        BUSY_TIMEOUT.set(options.busy_timeout);
        wait_patiently(&mut connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        // Otherwise SQLite plans by the parameters, and prepares a statement again for each value.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if connection.is_readonly(MAIN_DB)? {
            return Err(SqliteError::Refused("the file is read-only: make it writable".into()));
        }
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        let synchronous = match options.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // The changes of a moment with a million jobs are spread over the file. At most 32 MB.
        connection.pragma_update(None, "cache_size", -32_768)?;
        let (namespace, path) = (options.namespace.clone(), path.to_owned());
        let clock = options.make_clock();
        let file = options.path.as_deref().map(Watched::new);
        let (changes, next_check) = (RefCell::default(), Cell::new(Instant::now()));
        let (surplus, repaired_to) = (Cell::new(None), Cell::new(i64::MIN));
        let session = Session {
            connection,
            namespace,
            path,
            clock,
            changes,
            surplus,
            repaired_to,
            file,
            next_check,
        };
        session.check_file()?;
        schema::migrate(&session)?;
        Ok(session)
    }

    /// Checks that the file is still the opened one.
    pub(super) fn check_file(&self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_check.get() {
            return Ok(());
        }
        if let Some(error) = self.file.as_ref().and_then(Watched::problem) {
            return Err(SqliteError::Unavailable(format!(
                "{error} while it was open, and what is written now would be lost: put the file back with the files beside it, or start the program anew"
            )));
        }
        self.next_check.set(now + CHECK_INTERVAL);
        Ok(())
    }

    /// Writes the log beside the file into the file.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.check_file()?;
        // Other processes may be doing that, or reading: then the log stays.
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Returns the time of the clock in whole milliseconds.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(3)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns SQL with the names of this namespace.
    pub(super) fn named(&self, sql: &str) -> String {
        sql.replace(NAMESPACE, &self.namespace)
    }

    /// Prepares a statement once.
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        Ok(if self.namespace == NAMESPACE {
            self.connection.prepare_cached(sql)?
        } else {
            self.connection.prepare_cached(&self.named(sql))?
        })
    }

    /// Executes a statement without table names.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Runs `work` in a transaction, which is rolled back on an error.
    pub(super) fn transaction<T>(&self, work: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        self.execute("BEGIN IMMEDIATE")?;
        let done = work(self).and_then(|done| self.execute("COMMIT").map(|()| done));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// Rolls back a failed transaction, unless SQLite has already.
    pub(super) fn roll_back(&self) {
        self.changes.borrow_mut().clear();
        if self.is_in_transaction() {
            // Only a failing disk can cause an error here, which the next BEGIN returns.
            let _ = self.execute("ROLLBACK");
        }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Queues notifications, to be sent once the transaction is committed.
    pub(super) fn notify(&self, changes: impl IntoIterator<Item = StoreChange>) {
        self.changes.borrow_mut().extend(changes);
    }

    /// Returns the notifications of the committed transaction.
    pub(super) fn take_changes(&self) -> Vec<StoreChange> {
        self.changes.take()
    }

    /// Returns a number that changes with each commit of another connection.
    pub(super) fn data_version(&self) -> Result<i64> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// Converts to a store error about this file.
    pub(super) fn explain(&self, error: SqliteError) -> StoreError {
        error.into_store_error(&self.path)
    }
}

/// Has the connection wait for locks. Up to rusqlite 0.40 this needs no `mut`.
fn wait_patiently(connection: &mut Connection) -> Result<()> {
    Ok(connection.busy_handler(Some(wait_for_lock))?)
}

/// Called while the file is locked, the first time with 0. Returns whether to try again.
///
/// SQLite's own handler sleeps for 100 ms at a time after a while, and hardly ever hits the moment
/// between two commits of another process with many writes: it waited for more than a second.
fn wait_for_lock(tries: i32) -> bool {
    let now = Instant::now();
    let since = BUSY_SINCE.get().filter(|_| tries > 0).unwrap_or(now);
    BUSY_SINCE.set(Some(since));
    let left = BUSY_TIMEOUT.get().saturating_sub(now - since);
    std::thread::sleep(left.min(Duration::from_millis(if tries < 10 { 1 } else { 5 })));
    !left.is_zero()
}
