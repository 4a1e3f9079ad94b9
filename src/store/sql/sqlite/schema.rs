//! The tables, and how a file comes to have them.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    error::{Result, SqliteError},
    session::Session,
};

/// What makes each version of the schema of the one before; the first begins with nothing. Those
/// that were released are never changed.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// What only programs of older versions look for, which have never had a new file open.
const ONLY_FOR_OLDER: &str = "DROP INDEX punctual_ledger_open; DROP INDEX punctual_ledger_taken; \
     DROP INDEX punctual_jobs_waiting;";

/// The version of the schema that this crate speaks.
const LATEST: usize = MIGRATIONS.len();

/// The oldest version whose programs may use a file of the latest: those go on beside it, and may come
/// back after it.
const OLDEST_FIT: usize = 3;

/// Brings the file's schema to the latest version, if it is not there yet. One that is newer is left
/// as it is, and used if it says that programs of this version may.
pub(super) fn migrate(session: &Session) -> Result<()> {
    if fits(session)? >= LATEST {
        return Ok(());
    }
    // Of several who open the file at once one migrates; the others wait here for it.
    session.transaction(|session| {
        let from = fits(session)?;
        let Some(migrations) = MIGRATIONS.get(from..).filter(|left| !left.is_empty()) else {
            return Ok(());
        };
        for migration in migrations {
            check_names(session, migration)?;
            session.connection().execute_batch(&session.named(migration))?;
        }
        if from == 0 {
            session.connection().execute_batch(&session.named(ONLY_FOR_OLDER))?;
        }
        let set = session.named("UPDATE punctual_meta SET version = ?1, min_version = ?2");
        session.connection().execute(&set, [LATEST as i64, OLDEST_FIT as i64])?;
        Ok(())
    })
}

/// Sees that programs of this version may still use the file, whose schema another may have changed.
/// Returns the version that it has, 0 if it has none.
pub(super) fn fits(session: &Session) -> Result<usize> {
    let version = version(session)?;
    if version <= LATEST {
        return Ok(version);
    }
    let select = session.named("SELECT min_version FROM punctual_meta");
    let oldest: rusqlite::Result<i64> =
        session.connection().query_row(&select, [], |row| row.get(0));
    match oldest.map(usize::try_from) {
        Ok(Ok(oldest)) if oldest <= LATEST => Ok(version),
        _ => Err(newer(version)),
    }
}

/// The version of the file's schema, 0 if it has none.
fn version(session: &Session) -> Result<usize> {
    let connection: &Connection = session.connection();
    let exists = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
            [session.named("punctual_meta")],
            |_| Ok(()),
        )
        .optional()?;
    if exists.is_none() {
        return Ok(0);
    }
    let select = session.named("SELECT version FROM punctual_meta");
    let version: rusqlite::Result<i64> = connection.query_row(&select, [], |row| row.get(0));
    match version {
        Ok(version) => Ok(usize::try_from(version).unwrap_or(usize::MAX)),
        Err(
            rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::InvalidColumnType(..),
        ) => Err(somebody_elses("table", &session.named("punctual_meta"))),
        Err(error) => Err(error.into()),
    }
}

/// That what a migration makes is not there yet, so made by somebody else.
fn check_names(session: &Session, migration: &str) -> Result<()> {
    let made = migration.lines().filter_map(|line| {
        let mut words = line.strip_prefix("CREATE ")?.split_whitespace();
        words.find(|word| *word != "UNIQUE")?;
        words.next()
    });
    let replaced = |name: &&str| {
        ["INDEX", "VIEW"].iter().any(|kind| migration.contains(&format!("DROP {kind} {name};")))
    };
    let made = made.filter(|name| !replaced(name));
    let select = "SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    for name in made.map(|name| session.named(name)) {
        let kind = session.connection().query_row(select, [&name], |row| row.get::<_, String>(0));
        if let Some(kind) = kind.optional()? {
            return Err(somebody_elses(&kind, &name));
        }
    }
    Ok(())
}

fn somebody_elses(kind: &str, name: &str) -> SqliteError {
    SqliteError::Refused(format!(
        "the file has a {kind} `{name}` that is not this store's: set another namespace, as in \
         `SqliteStore::builder(path).namespace(\"jobs_\")`, or name another file"
    ))
}

fn newer(version: usize) -> SqliteError {
    SqliteError::Refused(format!(
        "the schema of version {version} is newer than {LATEST}, the latest that this program knows, \
         and does not say that it fits older programs: update the program, or give it a namespace of \
         its own"
    ))
}
