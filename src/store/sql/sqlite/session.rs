//! A connection, with what its operations need beside it.

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

/// What tables are named after by default, and in all SQL of this store.
pub(super) const NAMESPACE: &str = "punctual_";

thread_local! {
    /// How long the connection of this thread waits for a lock, and since when it has.
    static BUSY_TIMEOUT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static BUSY_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

pub(super) struct Session {
    connection: Connection,
    namespace: String,
    path: String,
    clock: Clock,
    /// What the transaction has changed that others may wait for.
    changes: RefCell<Vec<StoreChange>>,
    /// How many rows of the ledger are too many, once that was counted.
    pub(super) surplus: Cell<Option<Surplus>>,
    /// The last of the jobs with waiting rows of which it is known whether they are there.
    pub(super) repaired_to: Cell<i64>,
    /// None in memory.
    file: Option<Watched>,
    /// When the file is to be looked at again.
    next_look: Cell<Instant>,
}

/// How often the file is looked at while something is asked: a look takes some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Session {
    /// Opens the file, and sees that it has the tables.
    pub(super) fn open(options: &SqliteBuilder) -> std::result::Result<Session, StoreError> {
        let path = options.path.as_ref().map_or("memory".into(), |path| path.display().to_string());
        let deadline = Instant::now() + options.busy_timeout.min(LONGEST_WAIT);
        loop {
            // The switch to the write-ahead log does not wait for a lock: it fails.
            match Session::try_open(options, &path) {
                Err(trouble) if trouble.is_busy() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => return opened.map_err(|trouble| trouble.told(&path)),
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
        // Else SQLite looks at the parameters for a better plan, and prepares a statement anew for
        // each value.
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
        // What a million jobs change in a moment is all over the file: 32 MB, if they are needed.
        connection.pragma_update(None, "cache_size", -32_768)?;
        let (namespace, path) = (options.namespace.clone(), path.to_owned());
        let clock = options.make_clock();
        let file = options.path.as_deref().map(Watched::new);
        let (changes, next_look) = (RefCell::default(), Cell::new(Instant::now()));
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
            next_look,
        };
        session.look()?;
        schema::migrate(&session)?;
        Ok(session)
    }

    /// Sees that the file is still the one that was opened.
    pub(super) fn look(&self) -> Result<()> {
        let now = Instant::now();
        if now < self.next_look.get() {
            return Ok(());
        }
        if let Some(trouble) = self.file.as_ref().and_then(Watched::trouble) {
            return Err(SqliteError::Unavailable(format!(
                "{trouble} while it was open, and what is written now would be lost: put the file back with the files beside it, or start the program anew"
            )));
        }
        self.next_look.set(now + LOOK_EVERY);
        Ok(())
    }

    /// Has all that is in the log beside the file written into it.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.look()?;
        // Others may be at it, or read: then the log stays for them.
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// What time it is, in whole milliseconds.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(3)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// SQL with the tables named as they are here.
    pub(super) fn named(&self, sql: &str) -> String {
        sql.replace(NAMESPACE, &self.namespace)
    }

    /// A statement, prepared once.
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>> {
        Ok(if self.namespace == NAMESPACE {
            self.connection.prepare_cached(sql)?
        } else {
            self.connection.prepare_cached(&self.named(sql))?
        })
    }

    /// A statement that names no tables.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Does all of `work`, or nothing if it fails.
    pub(super) fn transaction<T>(&self, work: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        self.execute("BEGIN IMMEDIATE")?;
        let done = work(self).and_then(|done| self.execute("COMMIT").map(|()| done));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    /// Ends a transaction that has failed, if SQLite has not done so by itself.
    pub(super) fn roll_back(&self) {
        self.changes.borrow_mut().clear();
        if self.is_in_transaction() {
            // What can fail here is a disk that fails to be read; the next BEGIN says so.
            let _ = self.execute("ROLLBACK");
        }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Notifies others of this, once the transaction is committed.
    pub(super) fn notify(&self, changes: impl IntoIterator<Item = StoreChange>) {
        self.changes.borrow_mut().extend(changes);
    }

    /// What others are to be notified of that was committed.
    pub(super) fn take_changes(&self) -> Vec<StoreChange> {
        self.changes.take()
    }

    /// A number that changes with each commit of another connection.
    pub(super) fn data_version(&self) -> Result<i64> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// The error as it is told.
    pub(super) fn explain(&self, trouble: SqliteError) -> StoreError {
        trouble.told(&self.path)
    }
}

/// Has the connection wait for locks. Up to rusqlite 0.40 it need not be `mut` for that.
fn wait_patiently(connection: &mut Connection) -> Result<()> {
    Ok(connection.busy_handler(Some(wait_for_lock))?)
}

/// Called while the file is locked, the first time with 0; says whether to try again.
///
/// SQLite's own handler sleeps for 100 ms at a time after a while, and hardly ever hits the moment
/// between two commits of another process that has much to write: it waited for a second and more.
fn wait_for_lock(tries: i32) -> bool {
    let now = Instant::now();
    let since = BUSY_SINCE.get().filter(|_| tries > 0).unwrap_or(now);
    BUSY_SINCE.set(Some(since));
    let left = BUSY_TIMEOUT.get().saturating_sub(now - since);
    std::thread::sleep(left.min(Duration::from_millis(if tries < 10 { 1 } else { 5 })));
    !left.is_zero()
}
