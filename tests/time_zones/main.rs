//! Where the rules of time zones come from, and what becomes of jobs when they change.
//!
//! What depends on the environment of a process runs in processes of its own: this program, started
//! again.

mod child;
mod machine;
mod right_hour;
mod sweep;
