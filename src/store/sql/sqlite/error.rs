//! What goes wrong in SQLite, and what that means for a scheduler.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// What went wrong, before it is known of which file.
#[derive(Debug)]
pub(super) enum SqliteError {
    Sqlite(rusqlite::Error),
    /// This will not get better by trying: what, why, and what would help.
    Refused(String),
    /// The same of what may get better.
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
    /// Whether somebody else has the lock.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            SqliteError::Sqlite(error) => error.sqlite_error_code(),
            SqliteError::Refused(_) | SqliteError::Unavailable(_) | SqliteError::LeaseLost => None,
        }
    }

    /// The same as it is told, of the file `path`.
    pub(super) fn told(self, path: &str) -> StoreError {
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
            // Without the SQL, which is nothing to whoever reads this.
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            error => error.to_string(),
        };
        let text = format!("`{path}`: {error}: {remedy}");
        if better { StoreError::unavailable(text) } else { StoreError::refused(text) }
    }
}
