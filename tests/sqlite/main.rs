//! The SQLite store: what other connections, processes, disks and files do to it.

mod contract;
mod costs;
mod edits;
mod files;
mod fixture;
mod flood;
mod locks;
mod many;
mod odd_numbers;
mod options;
#[cfg(unix)]
mod processes;
mod store;
mod tasks;
mod transactions;
