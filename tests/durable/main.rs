//! Durable jobs through the public API, on the store in memory.

mod adding;
mod basics;
mod cancel_safety;
mod capabilities;
mod claims;
mod clock;
mod declared;
mod executors;
mod export;
mod fairness;
mod handles;
mod leases;
mod ledger;
mod lost_answers;
mod outages;
mod pause;
mod records;
mod recovery;
mod removal;
mod shutdown;
mod stores;
mod tasks;
mod time_zones;
mod tokens;
mod verbs;
