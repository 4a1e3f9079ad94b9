//! Errors of SQLite, and their meaning for a scheduler.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// An error without the name of its file.
#[derive(Debug)]
pub(super) enum SqliteError {
    Sqlite(rusqlite::Error),
    /// A retry cannot fix this: what, why, and the remedy.
    Refused(String),
    /// A retry may fix this: what, why, and the remedy.
    Unavailable(String),
    LeaseLost,
}

pub(super) type Result<T> = std::result::Result<T, SqliteError>;

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> SqliteError {
        SqliteError::Sqlite(error)
    }
}

impl SqliteError {
    /// Whether another connection has the lock.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            SqliteError::Sqlite(error) => error.sqlite_error_code(),
            SqliteError::Refused(_) | SqliteError::Unavailable(_) | SqliteError::LeaseLost => None,
        }
    }

    /// Converts to a store error about the file `path`.
    pub(super) fn into_store_error(self, path: &str) -> StoreError {
        let code = self.code();
        let error = match self {
            SqliteError::Refused(text) => return StoreError::refused(format!("`{path}`: {text}")),
            SqliteError::Unavailable(text) => {
                return StoreError::unavailable(format!("`{path}`: {text}"));
            }
            SqliteError::LeaseLost => return StoreError::lease_lost(),
            SqliteError::Sqlite(error) => error,
        };
        if let rusqlite::Error::NulError(_) = error {
            return StoreError::refused(format!("{path:?} can't be a path: it has a zero byte"));
        }
        let (better, remedy) = match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (true, "another connection has been writing for longer than `busy_timeout`")
            }
            Some(ErrorCode::DiskFull) => (true, "make room on the disk"),
            Some(ErrorCode::SystemIoFailure) => (true, "see to the disk, or to its file system"),
            Some(
                ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::FileLockingProtocolFailed,
            ) => (true, "it may work the next time"),
            Some(ErrorCode::CannotOpen) => {
                (false, "it must be a file in a directory that is there, and both must be writable")
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                (false, "the file and its directory must be writable")
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                (false, "restore it from a backup, or save what can be with `sqlite3 .recover`")
            }
            Some(ErrorCode::NotADatabase) => {
                (false, "name an SQLite file, or one that is not there")
            }
            Some(ErrorCode::Unknown) => (
                false,
                "the tables were changed by somebody else: restore them from a backup, or set another namespace",
            ),
            _ => (false, "see what the tables hold"),
        };
        let error = match error {
            // Without the SQL, which does not help a user.
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            error => error.to_string(),
        };
        let text = format!("`{path}`: {error}: {remedy}");
        if better { StoreError::unavailable(text) } else { StoreError::refused(text) }
    }
}
