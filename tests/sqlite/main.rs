//! The SQLite store: what other connections, processes, disks and files do to it.

mod fixture;
mod store;
