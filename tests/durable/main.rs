//! Durable jobs through the public API, on the store in memory: adding, changing, sharing, outages.

mod basics;
mod capabilities;
mod clock;
mod declared;
mod ledger;
mod lost_answers;
mod outages;
mod records;
mod room;
mod sharing;
mod stores;
mod tasks;
mod time_zones;
mod verbs;
