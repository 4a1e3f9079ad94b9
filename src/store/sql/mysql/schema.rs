//! The tables, and how a database comes to have them.

use std::fmt::Write as _;

use super::{
    columns::{RECORD, ROW, Text, get, text},
    error::{MySqlError, Result},
    pool::Session,
};

/// What makes each version of the schema of the one before; the first begins with nothing. Those
/// that were released are never changed. Each can be repeated after it ended half way: statements that
/// create tables are no part of a transaction.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// The version of the schema that this crate speaks.
pub(super) const LATEST: i32 = MIGRATIONS.len() as i32;

/// The oldest version whose programs may use a schema of the latest.
const OLDEST_FIT: i32 = 1;

/// The prefix of all names in the SQL of this crate.
pub(super) const NAMESPACE: &str = "punctual_";

/// The most bytes that ids and the names of tasks may have: indexes have no room for more.
pub(super) const LONGEST: usize = 1024;

const SERVER: &str = "SELECT VERSION(), @@read_only, @@innodb_flush_log_at_trx_commit = 1 \
     AND (NOT @@log_bin OR @@sync_binlog = 1), @@max_allowed_packet, DATABASE(), \
     @@autocommit";

/// The names of the tables.
pub(super) struct Tables {
    namespace: String,
    pub(super) meta: String,
    pub(super) jobs: String,
    pub(super) open: String,
    pub(super) ledger: String,
    pub(super) nodes: String,
    pub(super) actions: String,
    pub(super) pruned: String,
}

impl Tables {
    pub(super) fn new(namespace: &str) -> Tables {
        let table = |name: &str| format!("{namespace}{name}");
        Tables {
            namespace: namespace.to_owned(),
            meta: table("meta"),
            jobs: table("jobs"),
            open: table("open"),
            ledger: table("ledger"),
            nodes: table("nodes"),
            actions: table("actions"),
            pruned: table("pruned"),
        }
    }

    /// SQL that has no values in it, with the tables named as they are here.
    pub(super) fn named(&self, sql: &str) -> String {
        sql.replace(NAMESPACE, &self.namespace)
    }
}

/// What a server promises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// Whether a commit is on the disk once it is acknowledged.
    pub(super) is_durable: bool,
    /// The most bytes that may be sent at once.
    pub(super) max_packet: usize,
}

/// Brings the schema to the latest version, if it is not there yet.
pub(super) async fn migrate(session: &mut Session<'_>) -> Result<Server> {
    let answers = session.run(SERVER).await?;
    let row = answers.first().and_then(|rows| rows.first()).ok_or(MySqlError::Columns)?;
    sees_that_it_is_new_enough(&text(row, 0)?)?;
    if get(row, 1)? {
        return Err(MySqlError::Refused(
            "the server is a read-only replica: connect to the primary".to_owned(),
        ));
    }
    let Some(database) = get::<Option<String>>(row, 4)? else {
        return Err(MySqlError::Refused(
            "no database is selected: name one, as in `mysql://user:password@host/database`"
                .to_owned(),
        ));
    };
    if !get::<bool>(row, 5)? {
        return Err(MySqlError::Refused(
            "the connections of the pool begin with `autocommit` off: leave it on, or give the store \
             connections of its own"
                .to_owned(),
        ));
    }
    let max_packet = usize::try_from(get::<i64>(row, 3)?).unwrap_or(1 << 20);
    let server = Server { is_durable: get(row, 2)?, max_packet };
    if version(session).await?.is_some_and(|version| version >= LATEST) {
        return Ok(server);
    }
    create(session, &database).await?;
    Ok(server)
}

/// Sees that the server has what the statements use.
fn sees_that_it_is_new_enough(version: &str) -> Result<()> {
    let numbers: Vec<u32> = version.split(['.', '-']).map_while(|it| it.parse().ok()).collect();
    let (name, oldest) = match version.contains("MariaDB") {
        true => ("MariaDB", [10, 6, 0]),
        false => ("MySQL", [8, 0, 16]),
    };
    if numbers[..] >= oldest[..] {
        return Ok(());
    }
    let [major, minor, patch] = oldest;
    Err(MySqlError::Refused(format!(
        "{name} {version} is too old: version {major}.{minor}.{patch} or later is needed"
    )))
}

async fn create(session: &mut Session<'_>, database: &str) -> Result<()> {
    // Of several who open the store at once one migrates; the others wait here for it.
    let lock = Text(&session.tables().meta).to_string();
    let (take, free) = (format!("SELECT GET_LOCK({lock}, 60)"), format!("DO RELEASE_LOCK({lock})"));
    let taken = session.run(&take).await?;
    let is_taken =
        taken.first().and_then(|rows| rows.first()).map(|row| get(row, 0)).transpose()?;
    if is_taken.flatten() != Some(1_i64) {
        return Err(MySqlError::Unavailable(
            "another program has been migrating the tables for a minute: try again later"
                .to_owned(),
        ));
    }
    let created = create_locked(session).await;
    session.run(&free).await?;
    created.map_err(|error| match &error {
        MySqlError::MySql(it) if error.is_denied() => MySqlError::Refused(format!(
            "MySQL: {}: grant the user `CREATE, CREATE VIEW, DROP` in the database `{database}`, or \
             have somebody who may run this, and grant the user `SELECT, INSERT, UPDATE, DELETE` on \
             the tables:\n{}",
            super::error::message(it),
            migrations(session.tables(), 0)
        )),
        MySqlError::MySql(it) if error.is_of_other_tables() => MySqlError::Refused(format!(
            "MySQL: {}: a table of that name is there, and is not this store's: set another \
             namespace, as in `MySqlStore::builder().namespace(\"jobs_\")`",
            super::error::message(it),
        )),
        _ => error,
    })
}

async fn create_locked(session: &mut Session<'_>) -> Result<()> {
    // Another program may have been faster.
    let from = version(session).await?.unwrap_or(0);
    if from >= LATEST {
        return Ok(());
    }
    session.run(&migrations(session.tables(), from)).await?;
    // Tables that were there, and are somebody else's, have other columns.
    let Tables { jobs, open, ledger, .. } = session.tables();
    let look = format!(
        "SELECT {RECORD}, ready, holder FROM {jobs} LIMIT 0; SELECT {ROW}, claim FROM {open} LIMIT 0; \
         SELECT {ROW}, fate FROM {ledger} LIMIT 0"
    );
    session.run(&look).await?;
    Ok(())
}

/// The SQL that brings a schema of version `from` to the latest.
pub(super) fn migrations(tables: &Tables, from: i32) -> String {
    let mut sql = String::new();
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
        // Writing into a string does not fail.
        let _ = writeln!(
            sql,
            "{migration}\nREPLACE INTO punctual_meta (id, version, min_version) \
             VALUES (1, {version}, {OLDEST_FIT});"
        );
    }
    tables.named(&sql)
}

/// The version of the schema, if there is one; an error if programs of this version may not use it.
async fn version(session: &mut Session<'_>) -> Result<Option<i32>> {
    let meta = &session.tables().meta;
    let is_there = format!(
        "SELECT 1 FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = {}",
        Text(meta)
    );
    let sql = format!("SELECT version, min_version FROM {meta} WHERE id = 1");
    if session.run(&is_there).await?.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let answers = session.run(&sql).await?;
    let Some(row) = answers.first().and_then(|rows| rows.first()) else { return Ok(None) };
    let (version, oldest) = (get(row, 0)?, get(row, 1)?);
    fits(version, oldest)?;
    Ok(Some(version))
}

/// Sees that programs of this version may use a schema.
pub(super) fn fits(version: i32, oldest: i32) -> Result<()> {
    if version <= LATEST || oldest <= LATEST {
        return Ok(());
    }
    Err(MySqlError::Refused(format!(
        "the schema of version {version} is newer than {LATEST}, the latest that this program \
         knows, and does not say that it fits older programs: update the program, or give it a \
         namespace of its own"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_must_be_new_enough() {
        for version in
            ["10.6.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "8.0.16", "8.4.0", "11.4.2-MariaDB"]
        {
            assert!(sees_that_it_is_new_enough(version).is_ok(), "{version}");
        }
        for version in ["10.5.9-MariaDB", "5.7.44-log", "8.0.4-rc", "nothing"] {
            assert!(sees_that_it_is_new_enough(version).is_err(), "{version}");
        }
    }
}
