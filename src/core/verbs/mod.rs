//! What the shell may ask of the scheduler and of its jobs.

mod add;
mod change;
mod find;
mod scheduler;
