//! The sources of the rules of time zones, and the effects of their changes on jobs.
//!
//! Tests that depend on the environment of a process run in processes of their own: this program,
//! started again.

mod child;
mod machine;
mod right_hour;
mod sweep;
