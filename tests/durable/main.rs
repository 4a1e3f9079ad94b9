//! Durable jobs through the public API, on the store in memory: adding, changing, sharing, outages.

mod basics;
mod tasks;
