//! The SQLite store under other connections, processes, disks and files.

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
mod prepared;
#[cfg(unix)]
mod processes;
mod store;
mod tasks;
mod transactions;
