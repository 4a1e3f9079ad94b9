//! The MySQL store, on the servers that `PUNCTUAL_MARIADB_URL` and `PUNCTUAL_MYSQL_URL` name.
//!
//! Without a server nothing is tested, and a line says so. A server that is named must be there.

mod connections;
mod contract;
mod costs;
mod errors;
mod fixture;
mod prepared;
mod scheduler;
