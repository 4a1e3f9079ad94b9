//! What goes wrong in MySQL and MariaDB, and what that means for a scheduler.

use std::time::Duration;

use deadpool::managed::PoolError;
use mysql_async::{DriverError, Error, IoError, ServerError};

use crate::store::StoreError;

/// What went wrong.
pub(super) enum MySqlError {
    MySql(Error),
    /// A retry will not help: what, why, and what would help.
    Refused(String),
    /// A retry may help.
    Unavailable(String),
    LeaseLost,
    /// Another transaction was faster in a way that no statement can see: to be done again.
    Raced,
    /// A column has a value that it never gets.
    Columns,
}

pub(super) type Result<T> = std::result::Result<T, MySqlError>;

impl From<Error> for MySqlError {
    fn from(error: Error) -> MySqlError {
        MySqlError::MySql(error)
    }
}

impl From<PoolError<MySqlError>> for MySqlError {
    fn from(error: PoolError<MySqlError>) -> MySqlError {
        match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => MySqlError::exhausted(),
            PoolError::Closed => MySqlError::Refused("the pool of connections is closed".into()),
            error => MySqlError::Unavailable(format!("the pool of connections: {error:?}")),
        }
    }
}

impl std::fmt::Debug for MySqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MySqlError")
    }
}

// The codes of the servers.
const DISK_FULL: u16 = 1021;
const TOO_MANY_CONNECTIONS: u16 = 1040;
const NO_SUCH_DATABASE_FOR_USER: u16 = 1044;
const ACCESS_DENIED: u16 = 1045;
const NO_SUCH_DATABASE: u16 = 1049;
const TABLE_EXISTS: u16 = 1050;
const NO_SUCH_COLUMN: u16 = 1054;
const DUPLICATE_KEY: u16 = 1062;
const TABLE_FULL: u16 = 1114;
const TABLE_DENIED: u16 = 1142;
const NO_SUCH_TABLE: u16 = 1146;
const PACKET_TOO_LARGE: u16 = 1153;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;
const PRIVILEGE_DENIED: u16 = 1227;
const MORE_THAN_ONE_ROW: u16 = 1242;
const READ_ONLY_OPTION: u16 = 1290;
const INTERRUPTED: u16 = 1317;
const STATEMENT_BINLOG: u16 = 1665;
const READ_ONLY_TRANSACTION: u16 = 1792;
const READ_ONLY_MODE: u16 = 1836;
const STATEMENT_TIMEOUT: u16 = 1969;
const ROW_CHANGED: u16 = 1020;
const EXECUTION_TIMEOUT: u16 = 3024;

/// The error with which [`ensure`](super::pool::ensure) ends what it guards.
pub(super) const ENSURED: u16 = MORE_THAN_ONE_ROW;

impl MySqlError {
    /// No connection of the pool has become free in time.
    pub(super) fn exhausted() -> MySqlError {
        MySqlError::Unavailable(
            "all connections of the pool are in use: make it larger with `pool_size`, or see to \
             what blocks them"
                .to_owned(),
        )
    }

    /// The server has not answered in time.
    pub(super) fn silent(limit: Duration) -> MySqlError {
        MySqlError::Unavailable(format!(
            "the server has not answered within {limit:?}: see to the server and to the network, or \
             raise `statement_timeout`"
        ))
    }

    fn code(&self) -> Option<u16> {
        match self {
            MySqlError::MySql(Error::Server(error)) => Some(error.code),
            _ => None,
        }
    }

    /// Whether another transaction was in the way, and the same may be done at once.
    pub(super) fn is_raced(&self) -> bool {
        match self {
            MySqlError::Raced => true,
            error => error.code().is_some_and(|code| {
                [DEADLOCK, DUPLICATE_KEY, ROW_CHANGED, ENSURED].contains(&code)
            }),
        }
    }

    /// Whether a row was there that was taken to be absent.
    pub(super) fn is_of_a_key(&self) -> bool {
        self.code().is_some_and(|code| [DUPLICATE_KEY, ENSURED].contains(&code))
    }

    /// Whether the role lacks a right.
    pub(super) fn is_denied(&self) -> bool {
        self.code().is_some_and(|code| {
            [TABLE_DENIED, PRIVILEGE_DENIED, NO_SUCH_DATABASE_FOR_USER].contains(&code)
        })
    }

    /// Whether tables of the same names are other ones.
    pub(super) fn is_of_other_tables(&self) -> bool {
        self.code().is_some_and(|code| [NO_SUCH_COLUMN, TABLE_EXISTS].contains(&code))
    }

    /// Whether the connection may be used again after this error.
    pub(super) fn leaves_the_connection(&self) -> bool {
        match self {
            // Another server may be the right one by now.
            MySqlError::MySql(Error::Server(error)) => {
                !is_read_only(error) && !error.state.starts_with("08") && error.code != INTERRUPTED
            }
            MySqlError::MySql(_) | MySqlError::Unavailable(_) => false,
            MySqlError::Refused(_)
            | MySqlError::LeaseLost
            | MySqlError::Raced
            | MySqlError::Columns => true,
        }
    }

    /// The same as a scheduler sees it.
    pub(super) fn into_store_error(self) -> StoreError {
        let error = match self {
            MySqlError::Refused(text) => return StoreError::refused(text),
            MySqlError::Unavailable(text) => return StoreError::unavailable(text),
            MySqlError::LeaseLost => return StoreError::lease_lost(),
            MySqlError::Raced => {
                return StoreError::unavailable(
                    "MySQL: other transactions were faster again and again: try again later",
                );
            }
            MySqlError::Columns => {
                return StoreError::refused(
                    "MySQL: a column has a value that it never gets: the tables were changed by \
                     somebody else: restore them from a backup",
                );
            }
            MySqlError::MySql(error) => error,
        };
        let (better, remedy) = remedy(&error);
        let text = format!("MySQL: {}: {remedy}", message(&error));
        if better { StoreError::unavailable(text) } else { StoreError::refused(text) }
    }
}

/// What the server or the client says, without what it repeats.
pub(super) fn message(error: &Error) -> String {
    let text = match error {
        Error::Server(error) => error.message.clone(),
        Error::Driver(error) => error.to_string(),
        Error::Io(IoError::Io(error)) => error.to_string(),
        Error::Io(IoError::Tls(error)) => format!("TLS: {error}"),
        Error::Url(error) => error.to_string(),
        error => error.to_string(),
    };
    text.trim_end_matches('.').to_owned()
}

fn is_read_only(error: &ServerError) -> bool {
    [READ_ONLY_OPTION, READ_ONLY_MODE, READ_ONLY_TRANSACTION].contains(&error.code)
}

/// Whether a retry may help, and what would.
fn remedy(error: &Error) -> (bool, &'static str) {
    const TLS: &str = "name the server as its certificate does, add the certificate of its \
        authority with `root_certificates`, or leave out `require_ssl` if it has none";
    match error {
        Error::Url(_) => (false, "write it like `mysql://user:password@host/database`"),
        // A connection that was cut during the handshake has the same kind of error.
        Error::Io(IoError::Tls(tls)) if !is_cut(tls) => (false, TLS),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => (false, TLS),
        Error::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled,
        ) => (false, "give the user a password of another kind"),
        Error::Driver(DriverError::PacketTooLarge) => {
            (false, "raise the server's `max_allowed_packet`, or make the arguments smaller")
        }
        Error::Server(error) => server_remedy(error),
        _ => (true, "see to the server and to the network"),
    }
}

/// Whether the connection was cut, and nothing was wrong with what was sent.
fn is_cut(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            // Certificates that are not accepted come as errors of these two kinds.
            let kind = error.kind();
            return !matches!(kind, std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other);
        }
        cause = error.source();
    }
    false
}

fn server_remedy(error: &ServerError) -> (bool, &'static str) {
    match error.code {
        ACCESS_DENIED | 1698 => (false, "see to the user, the password, and the user's host"),
        NO_SUCH_DATABASE | NO_SUCH_DATABASE_FOR_USER => {
            (false, "create it, name another one, or grant the user the use of it")
        }
        TABLE_DENIED | PRIVILEGE_DENIED | 1143 => {
            (false, "grant the user what it needs, or use another user")
        }
        READ_ONLY_OPTION | READ_ONLY_MODE | READ_ONLY_TRANSACTION => {
            (true, "the server is a read-only replica, or was made one: connect to the primary")
        }
        DISK_FULL | TABLE_FULL | 1030 => (true, "make room on the server's disk"),
        TOO_MANY_CONNECTIONS | 1203 | 1226 => {
            (true, "raise the server's `max_connections`, or make the pools smaller")
        }
        NO_SUCH_TABLE | NO_SUCH_COLUMN => (
            false,
            "the tables were changed by somebody else, or the database is another one: restore \
             them, or open the store anew",
        ),
        LOCK_WAIT_TIMEOUT | INTERRUPTED | STATEMENT_TIMEOUT | EXECUTION_TIMEOUT => {
            (true, "another transaction has blocked it, or the server is busy")
        }
        DEADLOCK | DUPLICATE_KEY | ROW_CHANGED | ENSURED => {
            (true, "other transactions were faster again and again")
        }
        PACKET_TOO_LARGE => {
            (false, "raise the server's `max_allowed_packet`, or make the arguments smaller")
        }
        STATEMENT_BINLOG => (false, "set the server's `binlog_format` to `ROW` or `MIXED`"),
        _ => match error.state.get(..2) {
            // Syntax and rights, data, constraints, and users.
            Some("42" | "22" | "23" | "28" | "21") => (false, "see what the tables hold"),
            _ => (true, "it may work the next time"),
        },
    }
}
