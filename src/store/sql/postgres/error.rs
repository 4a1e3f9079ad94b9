//! What goes wrong in PostgreSQL, and what that means for a scheduler.

use std::{error::Error as _, io, time::Duration};

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// What went wrong.
pub(super) enum PostgresError {
    Postgres(tokio_postgres::Error),
    /// A retry will not help: what, why, and what would help.
    Refused(String),
    /// A retry may help.
    Unavailable(String),
    LeaseLost,
    /// Another transaction was faster in a way that no statement can see: to be done again.
    Raced,
}

pub(super) type Result<T> = std::result::Result<T, PostgresError>;

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> PostgresError {
        PostgresError::Postgres(error)
    }
}

impl From<PoolError> for PostgresError {
    fn from(error: PoolError) -> PostgresError {
        match error {
            PoolError::Backend(error) => PostgresError::Postgres(error),
            PoolError::Timeout(_) => PostgresError::exhausted(),
            PoolError::Closed => PostgresError::Refused("the pool of connections is closed".into()),
            error => PostgresError::Unavailable(error.to_string()),
        }
    }
}

impl PostgresError {
    /// No connection of the pool has become free in time.
    pub(super) fn exhausted() -> PostgresError {
        PostgresError::Unavailable(
            "all connections of the pool are in use: make it larger with `pool_size`, or see to \
             what blocks them"
                .to_owned(),
        )
    }

    /// The server has not answered in time.
    pub(super) fn silent(limit: Duration) -> PostgresError {
        PostgresError::Unavailable(format!(
            "PostgreSQL has not answered within {limit:?}: see to the server and to the network, or \
             raise `statement_timeout`"
        ))
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            PostgresError::Postgres(error) => error.code(),
            _ => None,
        }
    }

    /// Whether another transaction was in the way, and the same may be done at once.
    pub(super) fn is_raced(&self) -> bool {
        match self {
            PostgresError::Raced => true,
            error => [
                SqlState::T_R_DEADLOCK_DETECTED,
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::UNIQUE_VIOLATION,
            ]
            .iter()
            .any(|code| error.code() == Some(code)),
        }
    }

    /// Whether the transaction was over before this error.
    pub(super) fn is_of_a_dead_transaction(&self) -> bool {
        self.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
    }

    /// Whether the connection may be used again after this error.
    pub(super) fn leaves_the_connection(&self) -> bool {
        match self {
            PostgresError::Postgres(error) => error.code().is_some_and(|code| {
                // Another server may be the right one by now.
                // So may another connection, if a pooler has mixed up prepared statements.
                *code != SqlState::READ_ONLY_SQL_TRANSACTION
                    && !["57P", "08", "25P", "26", "42P05"]
                        .iter()
                        .any(|class| code.code().starts_with(class))
            }),
            PostgresError::Unavailable(_) => false,
            PostgresError::Refused(_) | PostgresError::LeaseLost | PostgresError::Raced => true,
        }
    }

    /// The same as a scheduler sees it.
    pub(super) fn into_store_error(self) -> StoreError {
        let error = match self {
            PostgresError::Refused(text) => return StoreError::refused(text),
            PostgresError::Unavailable(text) => return StoreError::unavailable(text),
            PostgresError::LeaseLost => return StoreError::lease_lost(),
            PostgresError::Raced => {
                return StoreError::unavailable(
                    "PostgreSQL: other transactions were faster again and again: try again later",
                );
            }
            PostgresError::Postgres(error) => error,
        };
        let (better, remedy) = remedy(&error);
        let text = format!("PostgreSQL: {}: {remedy}", said(&error));
        if better { StoreError::unavailable(text) } else { StoreError::refused(text) }
    }
}

/// The error without what it repeats, and without SQL.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// Whether the connection was cut, and nothing was wrong with what was sent.
fn is_cut(error: &tokio_postgres::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) else {
        return false;
    };
    // Certificates that are not accepted come as errors of these two kinds.
    !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other)
}

/// Whether a retry may help, and what would.
fn remedy(error: &tokio_postgres::Error) -> (bool, &'static str) {
    let Some(code) = error.code() else {
        let text = error.to_string();
        return match () {
            () if text.contains("invalid configuration") || text.contains("connection string") => {
                (false, "write it like `postgres://user:password@host/database`")
            }
            // A connection that was cut during the handshake has the same kind of error.
            () if text.contains("TLS") && !is_cut(error) => (
                false,
                "name the server as its certificate does, add the certificate of its authority \
                 with `root_certificates`, or set `sslmode=disable` if it has none",
            ),
            () if text.contains("authentication") => (false, "see to the user and the password"),
            () if text.contains("column") || text.contains("deserializ") => {
                (false, "the tables were changed by somebody else: restore them from a backup")
            }
            () => (true, "see to the server and to the network"),
        };
    };
    let known: &[(&[SqlState], bool, &str)] = &[
        (
            &[SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION],
            false,
            "see to the user, the password, and `pg_hba.conf`",
        ),
        (&[SqlState::UNDEFINED_DATABASE], false, "create it, or name another one"),
        (
            &[SqlState::INSUFFICIENT_PRIVILEGE],
            false,
            "grant the role what it needs, or use another role",
        ),
        (
            &[SqlState::READ_ONLY_SQL_TRANSACTION],
            true,
            "the server is a read-only replica, or was made one: connect to the primary, as with \
             `target_session_attrs=read-write` and all hosts in the URL",
        ),
        (&[SqlState::DISK_FULL], true, "make room on the server's disk"),
        (
            &[SqlState::TOO_MANY_CONNECTIONS],
            true,
            "raise the server's `max_connections`, or make the pools smaller",
        ),
        (
            &[SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME],
            false,
            "the tables were changed by somebody else, or the search path is another one: restore \
             them, or open the store anew",
        ),
        (
            &[SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE],
            true,
            "another transaction has blocked it, or the server is busy",
        ),
        (
            &[SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT],
            true,
            "a pooler in between does not keep prepared statements: set `prepared(false)`",
        ),
        (&[SqlState::UNIQUE_VIOLATION], true, "other transactions were faster again and again"),
        (
            &[SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED],
            false,
            "restore the database from a backup",
        ),
    ];
    let found = known.iter().find(|(codes, ..)| codes.contains(code));
    if let Some((_, better, remedy)) = found {
        return (*better, remedy);
    }
    // Connections, transactions that took too long or were rolled back, resources, operators, the system.
    let better = ["08", "25P", "40", "53", "55", "57", "58", "XX000"];
    if better.iter().any(|class| code.code().starts_with(class)) {
        (true, "it may work the next time")
    } else {
        (false, "see what the tables hold")
    }
}
