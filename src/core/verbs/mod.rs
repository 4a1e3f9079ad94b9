//! The operations of the scheduler and of its jobs that the shell calls.

mod add;
mod change;
mod find;
mod scheduler;
