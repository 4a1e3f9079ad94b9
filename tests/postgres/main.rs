//! The PostgreSQL store, on the server that `PUNCTUAL_POSTGRES_URL` names.
//!
//! Without a server nothing is tested, and a line says so. A server that is named must be there.

mod connections;
mod contract;
mod costs;
mod errors;
mod fixture;
mod prepared;
mod scheduler;
