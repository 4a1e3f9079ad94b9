//! Adding a job in a transaction of the application's.

use std::{fmt, sync::Arc};

use super::{Add, JobHandle, add, durable};
use crate::{
    driver::{KnownForNow, Shared},
    error::Error,
    job::{JobId, OnConflict},
    store::InsertStatement,
};

/// A job that an application adds in a transaction of its own, from [`Add::prepare`].
///
/// The application executes [`sql`](PreparedAdd::sql) with [`parameter`](PreparedAdd::parameter)
/// on its own connection to the store's database. The job exists when that transaction commits,
/// and never existed if the transaction is rolled back.
///
/// A job whose first fire time passes before the commit is late: it runs at once, unless its
/// [`misfire_grace_time`](crate::Add::misfire_grace_time) says otherwise, and
/// [`Run::late_by`](crate::Run::late_by) says how late.
///
/// While this value exists, no job of this scheduler outside the store can be added with its id.
#[must_use = "a prepared job is added when its statement is executed"]
pub struct PreparedAdd {
    shared: Arc<Shared>,
    statement: InsertStatement,
    adding: durable::Adding,
    known: KnownForNow,
}

impl Add {
    /// Prepares the SQL statement that adds the job, for a transaction of the application's own: an
    /// order and the job that sends its invoice are then added together, or not at all.
    ///
    /// The statement has one parameter, a text. Any client of the database can execute it:
    ///
    /// | client | call |
    /// |---|---|
    /// | rusqlite | `transaction.execute(prepared.sql(), [prepared.parameter()])?` |
    /// | tokio-postgres | `transaction.execute(prepared.sql(), &[&prepared.parameter()]).await?` |
    /// | mysql_async | `transaction.exec_drop(prepared.sql(), (prepared.parameter(),)).await?` |
    /// | sqlx | `sqlx::query(prepared.sql()).bind(prepared.parameter()).execute(&mut *transaction).await?` |
    ///
    /// # Errors
    ///
    /// If the job has no [task](crate::Task), its store is in memory or has no SQL, or
    /// [`on_conflict`](Add::on_conflict) is set: an existing job can be neither kept nor replaced.
    /// If the id is in use in the store, executing the statement fails, since ids are unique:
    /// on MySQL with error 1242, and otherwise with that of a unique key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::{sync::{Arc, Mutex}, time::Duration};
    /// # use punctual::{Context, Scheduler, Task, trigger::after, store::SqliteStore};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// struct SendInvoice { order: u64 }
    ///
    /// impl Task for SendInvoice {
    ///     const NAME: &'static str = "send-invoice";
    ///     type Output = ();
    ///     async fn run(self, _: Context) {}
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("punctual-prepare-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("shop.db");
    /// let store = SqliteStore::open(&path).await?;
    /// let scheduler = Scheduler::builder().task::<SendInvoice>().store(store).start().await?;
    /// let prepared =
    ///     scheduler.add(after(Duration::from_millis(10)), SendInvoice { order: 7 }).prepare().await?;
    ///
    /// // The application's own connection and transaction.
    /// let mut shop = rusqlite::Connection::open(&path)?;
    /// let transaction = shop.transaction()?;
    /// transaction.execute_batch("CREATE TABLE orders (id INTEGER); INSERT INTO orders VALUES (7)")?;
    /// transaction.execute(prepared.sql(), [prepared.parameter()])?;
    /// transaction.commit()?;
    ///
    /// let invoice = prepared.handle();
    /// println!("{}", invoice.await);
    /// # scheduler.shutdown().await;
    /// # let _ = std::fs::remove_dir_all(directory);
    /// # Ok(()) }
    /// ```
    pub async fn prepare(self) -> Result<PreparedAdd, Error> {
        let (shared, new) = add::for_a_statement(self)?;
        let (statement, adding, known) = shared.within(durable::prepare(&shared, new)).await?;
        Ok(PreparedAdd { shared, statement, adding, known })
    }
}

impl PreparedAdd {
    /// The job's id.
    pub fn id(&self) -> &JobId {
        self.adding.job()
    }

    /// The SQL statement, with one placeholder: `?1` for SQLite, `$1` for PostgreSQL, `?` for
    /// MySQL.
    pub fn sql(&self) -> &str {
        &self.statement.sql
    }

    /// The statement's parameter: a JSON document, as text.
    pub fn parameter(&self) -> &str {
        &self.statement.parameter
    }

    /// Returns the job's handle once the transaction has committed, and has this scheduler look for
    /// the job at once.
    ///
    /// Without this call the job runs as well: each scheduler finds it by the store's notification,
    /// or within its [`poll_interval`](crate::SchedulerBuilder::poll_interval). If the transaction
    /// did not commit, the handle's operations return an error
    /// ([`is_gone`](crate::Error::is_gone)), and awaiting the handle may take forever.
    pub fn handle(self) -> JobHandle {
        let PreparedAdd { shared, adding, known, .. } = self;
        let put = adding.written_elsewhere(&shared);
        drop(known);
        JobHandle::durable(shared, put)
    }
}

/// Checks that a statement can add a job with this setting.
pub(super) fn check_on_conflict(on_conflict: OnConflict) -> Result<(), Error> {
    match on_conflict {
        OnConflict::Error => Ok(()),
        _ => Err(Error::invalid_option(
            "a prepared job is a new one: an existing job can be neither kept nor replaced by the \
             statement, so leave out `on_conflict`, or await `add(..)` instead of `prepare()`",
        )),
    }
}

impl fmt::Debug for PreparedAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parameter contains the task's arguments, which are not for logs.
        f.debug_struct("PreparedAdd")
            .field("id", self.id())
            .field("sql", &self.statement.sql)
            .finish_non_exhaustive()
    }
}
