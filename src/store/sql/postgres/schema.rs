//! The tables, and how a database comes to have them.

use std::fmt::Write as _;

use tokio_postgres::{error::SqlState, types::Type};

use super::{
    columns::{get, optional_text},
    error::{PostgresError, Result},
    pool::{Session, Step, named},
};

/// What makes each version of the schema of the one before; the first begins with nothing. Those
/// that were released are never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

/// The version of the schema that this crate speaks.
pub(super) const LATEST: i32 = MIGRATIONS.len() as i32;

/// The oldest version whose programs may use a schema of the latest.
const OLDEST_FIT: i32 = 1;

/// The oldest server that has what the statements use.
const OLDEST_SERVER: i32 = 120_000;

const SERVER: &str = "SELECT current_setting('server_version_num')::int, \
     current_setting('server_version'), pg_is_in_recovery(), \
     current_setting('transaction_read_only') = 'on', current_setting('fsync') = 'on', \
     current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '', \
     current_schema()::text, to_regclass($1)::text";

const VERSIONS: &str = "SELECT version, min_version FROM punctual_meta";

/// Of several who open the store at once one migrates; the others wait here for it.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext($1)::bigint + 7310576530000000000)";

/// What a server promises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// Whether a commit is on the disk once it is acknowledged.
    pub(super) is_durable: bool,
    /// Whether a commit is on a standby, too.
    pub(super) is_replicated: bool,
}

/// Brings the schema to the latest version, if it is not there yet.
pub(super) async fn migrate(session: &Session<'_>) -> Result<Server> {
    let meta = session.named("punctual_meta").into_owned();
    let rows = session.query(SERVER, vec![(&meta, Type::TEXT)]).await?;
    let row = &rows[0];
    let (number, name): (i32, String) = (get(row, 0)?, get(row, 1)?);
    if number < OLDEST_SERVER {
        return Err(PostgresError::Refused(format!(
            "PostgreSQL {name} is too old: version {} or later is needed",
            OLDEST_SERVER / 10_000
        )));
    }
    if get(row, 2)? || get(row, 3)? {
        return Err(PostgresError::Refused(
            "the server is a read-only replica, or its transactions are read-only: connect to the \
             primary, as with `target_session_attrs=read-write` and all hosts in the URL"
                .to_owned(),
        ));
    }
    let synchronous: String = get(row, 5)?;
    let waits = synchronous != "off";
    let server = Server {
        is_durable: get::<bool>(row, 4)? && waits,
        is_replicated: get::<bool>(row, 6)? && !["off", "local"].contains(&&*synchronous),
    };
    let schema = optional_text(row, 7)?;
    let is_there = optional_text(row, 8)?.is_some();
    if is_there && version(session).await? >= LATEST {
        return Ok(server);
    }
    let Some(schema) = schema else {
        return Err(PostgresError::Refused(
            "the search path names no schema that is there: create one, or name one with \
             `options=-c search_path=…` in the URL"
                .to_owned(),
        ));
    };
    let migrated = create(session, &meta).await;
    migrated.map_err(|error| match &error {
        PostgresError::Postgres(it) if it.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            PostgresError::Refused(format!(
                "PostgreSQL: the role may not create tables in schema `{schema}`: grant it \
                 `CREATE`, or have somebody who may run this, and grant the role `SELECT, INSERT, \
                 UPDATE, DELETE` on the tables:\n{}",
                migrations(session.namespace(), 0)
            ))
        }
        PostgresError::Postgres(it)
            if [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT]
                .iter()
                .any(|code| it.code() == Some(code)) =>
        {
            let said = it.as_db_error().map_or_else(|| it.to_string(), |it| it.message().into());
            PostgresError::Refused(format!(
                "PostgreSQL: {said}, and is not this store's: set another namespace, as in \
                 `PostgresStore::builder().namespace(\"jobs_\")`"
            ))
        }
        _ => error,
    })?;
    Ok(server)
}

/// The name of a table, if it is there. It is looked for in the catalog, so that a table that another
/// session has just made is seen.
const TABLE: &str = "SELECT relname::text FROM pg_class WHERE oid = to_regclass($1)";

async fn create(session: &Session<'_>, meta: &String) -> Result<()> {
    session.all(vec![session.begin(), Step::Query(LOCK, vec![(meta, Type::TEXT)])]).await?;
    let there = session.query(TABLE, vec![(meta, Type::TEXT)]).await?;
    let from = if there.is_empty() { 0 } else { version(session).await? };
    let sql = migrations(session.namespace(), from);
    session.all(vec![Step::Run(sql.into()), Step::Run("COMMIT".into())]).await?;
    Ok(())
}

/// The SQL that brings a schema of version `from` to the latest.
pub(super) fn migrations(namespace: &str, from: i32) -> String {
    let mut sql = String::new();
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
        // Writing into a string does not fail.
        let _ = writeln!(
            sql,
            "{migration}\nUPDATE punctual_meta SET version = {version}, min_version = {OLDEST_FIT};"
        );
    }
    named(&sql, namespace).into_owned()
}

/// The version of the schema; an error if programs of this version may not use it.
async fn version(session: &Session<'_>) -> Result<i32> {
    let rows = session.query(VERSIONS, Vec::new()).await?;
    let [row] = &rows[..] else {
        let meta = session.named("punctual_meta");
        return Err(PostgresError::Refused(format!(
            "the table `{meta}` does not say its version: restore it from a backup, or set another \
             namespace"
        )));
    };
    let (version, oldest) = (get(row, 0)?, get(row, 1)?);
    fits(version, oldest)?;
    Ok(version)
}

/// Sees that programs of this version may use a schema.
pub(super) fn fits(version: i32, oldest: i32) -> Result<()> {
    if version <= LATEST || oldest <= LATEST {
        return Ok(());
    }
    Err(PostgresError::Refused(format!(
        "the schema of version {version} is newer than {LATEST}, the latest that this program \
         knows, and does not say that it fits older programs: update the program, or give it a \
         namespace of its own"
    )))
}
