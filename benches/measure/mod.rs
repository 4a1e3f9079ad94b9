//! What is measured and how: once for the bench of each question, and for the report of them all.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod add;
pub(crate) mod cancel;
pub(crate) mod drain;
pub(crate) mod durable;
pub(crate) mod idle;
pub(crate) mod instructions;
pub(crate) mod memory;
pub(crate) mod steady;
pub(crate) mod trigger;
