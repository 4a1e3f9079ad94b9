//! Connections: how they are opened, borrowed from the pool, and returned or closed.

use std::{future::Future, sync::Arc, time::Duration};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult, Timeouts},
};
use futures::future::BoxFuture;
use mysql_async::{Conn, Row as Columns, prelude::Queryable as _};

use super::{
    error::{MySqlError, Result},
    schema::Tables,
};

/// How long a client may keep a transaction open without a statement: one that has stopped must not keep
/// its locks.
const LONGEST_IDLE: u64 = 5;

/// Opens a connection.
pub(super) type Connect =
    Arc<dyn Fn() -> BoxFuture<'static, mysql_async::Result<Conn>> + Send + Sync>;

/// Makes the connections of a pool.
pub(super) struct Connector {
    pub(super) connect: Connect,
    /// Whether the connections are those of a user's pool, to which each goes back after it was used.
    pub(super) borrows: bool,
    pub(super) timeout: Duration,
}

impl Connector {
    /// A pool of up to so many connections.
    pub(super) fn pool(self, size: usize) -> Result<Pool<Connector>> {
        let limit = Some(self.timeout);
        let pool = Pool::builder(self)
            .max_size(size.max(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: limit, create: limit, recycle: limit });
        pool.build().map_err(|error| MySqlError::Refused(error.to_string()))
    }

    /// What a connection is told first.
    fn settings(&self) -> String {
        let seconds = self.timeout.as_secs().clamp(1, 1 << 20);
        // A lock that is waited for outlives the client that waits. The comments are for MariaDB, and for
        // MySQL, which has no limit for idle transactions alone.
        format!(
            "SET SESSION autocommit = 1, innodb_lock_wait_timeout = {lock} \
             /*M!100600 , idle_transaction_timeout = {idle}, max_statement_time = {seconds} */ \
             /*!80000 , wait_timeout = {wait} */",
            lock = seconds.div_ceil(2),
            idle = LONGEST_IDLE.min(seconds),
            wait = 4 * LONGEST_IDLE,
        )
    }
}

impl Manager for Connector {
    type Type = Conn;
    type Error = MySqlError;

    async fn create(&self) -> Result<Conn> {
        let mut connection = (self.connect)().await?;
        if !self.borrows {
            connection.query_drop(self.settings()).await?;
        }
        Ok(connection)
    }

    fn recycle(
        &self,
        connection: &mut Conn,
        metrics: &Metrics,
    ) -> impl Future<Output = RecycleResult<MySqlError>> + Send {
        // MySQL closes a connection that was idle for longer.
        let is_old = metrics.last_used() > Duration::from_secs(3 * LONGEST_IDLE);
        let is_usable = !is_old && !connection.is_disconnected();
        std::future::ready(match is_usable {
            true => Ok(()),
            false => Err(RecycleError::message("the connection is closed")),
        })
    }
}

/// The answers of the statements that have one: their rows.
pub(super) type Answers = Vec<Vec<Columns>>;

/// A borrowed connection.
///
/// A connection that is dropped without [`release`](Session::release), as when the future of an operation
/// is dropped, is closed.
pub(super) struct Session<'a> {
    object: Option<Object<Connector>>,
    tables: &'a Tables,
    borrows: bool,
}

/// Begins a transaction. Whatever the session's level is, this one sees what others have committed before
/// each of its statements, and locks no gaps.
pub(super) const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// A statement that fails unless the condition holds: those behind it are not executed. The servers have
/// no other way outside of a stored procedure.
pub(super) fn ensure(condition: &str) -> String {
    format!("SELECT IF({condition}, 0, (SELECT 1 UNION ALL SELECT 2))")
}

impl<'a> Session<'a> {
    pub(super) fn new(object: Object<Connector>, tables: &'a Tables, borrows: bool) -> Session<'a> {
        Session { object: Some(object), tables, borrows }
    }

    pub(super) fn tables(&self) -> &'a Tables {
        self.tables
    }

    /// Gives the connection back to the pool.
    pub(super) fn release(mut self) {
        if let Some(object) = self.object.take() {
            match self.borrows {
                true => drop(Object::take(object)),
                false => drop(object),
            }
        }
    }

    /// Gives the connection back, if it can still be used after the error.
    pub(super) async fn recover(mut self, error: &MySqlError) {
        if error.leaves_the_connection() && self.run("ROLLBACK").await.is_ok() {
            self.release();
        }
    }

    /// Sends statements, with `;` in between, and returns the rows of each that answers with rows. The
    /// first that fails is the last that is executed.
    pub(super) async fn run(&mut self, sql: &str) -> Result<Answers> {
        let connection = self.object.as_mut().expect("only `release` and `drop` take it");
        let mut result = connection.query_iter(sql).await?;
        let mut answers = Vec::new();
        while !result.is_empty() {
            let has_rows = !result.columns_ref().is_empty();
            let rows: Vec<Columns> = result.collect().await?;
            if has_rows {
                answers.push(rows);
            }
        }
        // An error of a statement behind the first is kept for this.
        result.drop_result().await?;
        Ok(answers)
    }

    /// Executes SQL as another program would, with the tables named as they are here, and returns the
    /// first column as text.
    #[cfg(feature = "testing")]
    pub(super) async fn execute(&mut self, sql: &str) -> Result<Vec<String>> {
        let answers = self.run(&self.tables.named(sql)).await?;
        let text = |row: &Columns| super::columns::optional_text(row, 0);
        let texts = answers.iter().flatten().map(text).collect::<Result<Vec<_>>>()?;
        Ok(texts.into_iter().map(Option::unwrap_or_default).collect())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}
