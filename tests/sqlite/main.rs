//! The SQLite store: what other connections, processes, disks and files do to it.

mod contract;
mod costs;
mod files;
mod fixture;
mod flood;
mod locks;
mod many;
#[cfg(unix)]
mod processes;
mod store;
