//! The tables, and the migration of a file to them.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    error::{Result, SqliteError},
    session::Session,
};

/// The migrations, each from the version before; the first starts with an empty file. Released
/// migrations are never changed.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema_1.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// Indexes that only older programs use: dropped in a new file, which no older program has opened.
const ONLY_FOR_OLDER: &str = "DROP INDEX punctual_ledger_open; DROP INDEX punctual_ledger_taken; \
     DROP INDEX punctual_jobs_waiting;";

/// The version of the schema of this crate.
const LATEST: usize = MIGRATIONS.len();

/// The oldest version whose programs may use a file of the latest version: they continue beside it,
/// and may return later.
const OLDEST_FIT: usize = 3;

/// Migrates the file's schema to the latest version. A newer schema is left as it is, and used if
/// it allows programs of this version.
pub(super) fn migrate(session: &Session) -> Result<()> {
    if fits(session)? >= LATEST {
        return Ok(());
    }
    // Of several processes that open the file at once, one migrates; the others wait here.
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

/// Checks that programs of this version may still use the file, since another may have changed the
/// schema. Returns the version, or 0 for none.
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

/// Returns the version of the file's schema, or 0 for none.
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

/// Checks that the names of a migration are free, since an existing name belongs to another
/// program.
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
